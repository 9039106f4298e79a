# SPDX-License-Identifier: BSD-2-Clause
"""The command: `pyebpf TOOL …`. Turns errors into one line, a hint and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pyebpf.cli import exits

USAGE = """\
usage: pyebpf TOOL [options] TARGET...

Trace the functions of running programs. Nothing to compile, nothing to restart.

tools:
  funccount     count calls
  funclatency   show how long calls take, as a histogram
  funcslower    show each call that is slower than a threshold
  trace         show calls with their arguments and results, a line each
  argdist       count or draw the values of arguments and results
  stackcount    count calls by the stacks that lead to them
  list          show what a target matches
  doctor        show what works on this host, and why not

pyebpf TOOL -h explains a tool. Exit codes: 0 traced, 1 run-time error, 2 usage,
3 nothing matched, 4 permission, 5 not supported here.
"""


def _tool(name: str) -> Callable[[Sequence[str]], int] | None:
    """Imports only the tool that runs: start-up time counts."""
    if name == "funccount":
        from pyebpf.cli.funccount import main
    elif name == "funclatency":
        from pyebpf.cli.funclatency import main
    elif name == "funcslower":
        from pyebpf.cli.funcslower import main
    elif name == "trace":
        from pyebpf.cli.trace import main
    elif name == "argdist":
        from pyebpf.cli.argdist import main
    elif name == "stackcount":
        from pyebpf.cli.stackcount import main
    elif name == "list":
        from pyebpf.cli.listing import main
    elif name == "doctor":
        from pyebpf.cli.doctor import main
    else:
        return None
    return main


def main(argv: Sequence[str]) -> int:
    """Runs a command line (without the program's name); returns the exit code. Prints errors."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if argv else sys.stderr)
        return exits.TRACED if argv else exits.USAGE
    if argv[0] in ("-V", "--version"):
        from pyebpf import __version__

        print(f"pyebpf {__version__}")
        return exits.TRACED
    tool = _tool(argv[0])
    if tool is None:
        print(f"pyebpf: no tool {argv[0]!r}; pyebpf -h lists them", file=sys.stderr)
        return exits.USAGE

    from pyebpf import errors

    try:
        return tool(argv[1:])
    except errors.Error as error:
        if os.environ.get("PYEBPF_DEBUG"):
            raise
        return _report(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED_TWICE


def _report(error: Exception) -> int:
    """Prints an error and what to do about it; returns its exit code."""
    from pyebpf import errors
    from pyebpf.output.text import safe

    print(f"pyebpf: {safe(str(error))}", file=sys.stderr)
    matches = getattr(error, "close_matches", ())
    if matches:
        print(f"  did you mean: {', '.join(safe(match) for match in matches)}", file=sys.stderr)
    hint = getattr(error, "hint", None)
    if hint:
        print(f"  hint: {safe(hint)}", file=sys.stderr)
    log = getattr(error, "verifier_log", "")
    if log:
        print(f"  the verifier's log has {len(log.splitlines())} lines; PYEBPF_DEBUG=1 shows it", file=sys.stderr)
    for kind, code in (
        (errors.TargetNotFound, exits.NOTHING_MATCHED),
        (errors.PermissionDenied, exits.PERMISSION),
        (errors.Unsupported, exits.UNSUPPORTED),
        (errors.LibbpfMissing, exits.UNSUPPORTED),
        (errors.TargetError, exits.USAGE),
    ):
        if isinstance(error, kind):
            return code
    return exits.RUN_TIME_ERROR


def entry() -> NoReturn:
    """The console script."""
    try:
        code = main(sys.argv[1:])
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more: end quietly
        code = exits.TRACED
        _forget_output()
    except OSError as error:  # a full disk
        code = exits.RUN_TIME_ERROR
        print(f"pyebpf: can't write the output: {error.strerror}", file=sys.stderr)
        _forget_output()
    sys.exit(code)


def _forget_output() -> None:
    """Lets the interpreter end without another attempt to write what is buffered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
