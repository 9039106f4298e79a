# SPDX-License-Identifier: BSD-2-Clause
"""The command: `pyebpf TOOL …`. Turns errors into one line, a hint and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pyebpf.cli import exits

# Each tool's name, what it is for, and the module it is in: of those below pyebpf.cli `main`, of others `TOOL`.
_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "functions of programs",
        (
            ("funccount", "count calls", "cli.funccount"),
            ("funclatency", "show how long calls take, as a histogram", "cli.funclatency"),
            ("funcslower", "show each call that is slower than a threshold", "cli.funcslower"),
            ("trace", "show calls with their arguments and results, a line each", "cli.trace"),
            ("argdist", "count or draw the values of arguments and results", "cli.argdist"),
            ("stackcount", "count calls by the stacks that lead to them", "cli.stackcount"),
        ),
    ),
    (
        "TCP",
        (
            ("tcpaccept", "show passive connections, as they are accepted", "tools.tcp.tcpaccept"),
            ("tcpcong", "show the time connections spend in each congestion state", "cli.tcpcong"),
            ("tcpconnect", "show active connections, and those that fail", "cli.tcpconnect"),
            ("tcpconnlat", "show how long connecting takes", "tools.tcp.tcpconnlat"),
            ("tcpdrop", "show packets the kernel drops, with reason and stack", "tools.tcp.tcpdrop"),
            ("tcplife", "show ended connections: how long they lived, what they carried", "tools.tcp.tcplife"),
            ("tcpretrans", "show segments that are sent again", "cli.tcpretrans"),
            ("tcprtt", "show round-trip times as a histogram", "cli.tcprtt"),
            ("tcpstates", "show connections changing state, and how long each lasted", "tools.tcp.tcpstates"),
            ("tcpsubnet", "count the bytes sent to subnets", "cli.tcpsubnet"),
            ("tcpsynbl", "show how full accept queues are, as a histogram", "cli.tcpsynbl"),
            ("tcptop", "show who sends and receives most", "cli.tcptop"),
            ("tcptracer", "show connections as they are made, accepted and closed", "tools.tcp.tcptracer"),
        ),
    ),
    (
        "system",
        (
            ("bashreadline", "show commands typed into bash", "tools.snoop.bashreadline"),
            ("bindsnoop", "show sockets that are bound to addresses", "cli.bindsnoop"),
            ("capable", "show which capabilities are checked, and of whom", "tools.snoop.capable"),
            ("drsnoop", "show processes that had to free memory to get some", "tools.snoop.drsnoop"),
            ("execsnoop", "show programs that are started, with their arguments", "tools.snoop.execsnoop"),
            ("exitsnoop", "show processes that end, why, and how old they were", "tools.snoop.exitsnoop"),
            ("filelife", "show files that are deleted soon after they were made", "tools.snoop.filelife"),
            ("gethostlatency", "show how long looking up host names takes", "tools.snoop.gethostlatency"),
            ("killsnoop", "show signals that are sent", "tools.snoop.killsnoop"),
            ("mountsnoop", "show file systems that are mounted and unmounted", "tools.snoop.mountsnoop"),
            ("opensnoop", "show files that are opened", "tools.snoop.opensnoop"),
            ("shmsnoop", "show uses of System V shared memory", "tools.snoop.shmsnoop"),
            ("sslsniff", "show what programs send and receive through TLS libraries", "tools.snoop.sslsniff"),
            ("statsnoop", "show files whose metadata is asked for", "tools.snoop.statsnoop"),
            ("syncsnoop", "show requests to write data to disk", "tools.snoop.syncsnoop"),
            ("threadsnoop", "show threads that are started, and with which function", "tools.snoop.threadsnoop"),
        ),
    ),
    (
        "more",
        (
            ("list", "show what a target matches", "cli.listing"),
            ("doctor", "show what works on this host, and why not", "cli.doctor"),
            ("export", "serve what a configuration file lists as metrics, for Prometheus or OTLP", "cli.export"),
            ("build", "compile an eBPF program of one's own, to load it from Python", "cli.build"),
            ("completion", "print completions for a shell", "cli.completion"),
        ),
    ),
)


def usage() -> str:
    """What `pyebpf -h` prints."""
    text = """\
usage: pyebpf TOOL [options] [TARGET...]

Trace running programs and what the kernel does for them. Nothing to compile, nothing to restart.
"""
    for group, tools in _GROUPS:
        text += f"\n{group}:\n" + "".join(f"  {name:<15} {purpose}\n" for name, purpose, _ in tools)
    return text + """
pyebpf TOOL -h explains a tool. Exit codes: 0 traced, 1 run-time error, 2 usage,
3 nothing matched, 4 permission, 5 not supported here.
"""


def event_tools() -> list[str]:
    """The modules of the tools that describe themselves, each with a `TOOL`."""
    folders = {"TCP": "tcp", "system": "snoop"}
    return [
        f"pyebpf.tools.{folders[group]}.{name}" for group, tools in _GROUPS if group in folders for name, _, _ in tools
    ]


def _tool(name: str) -> Callable[[Sequence[str]], int] | None:
    """Imports only the tool that runs: start-up time counts."""
    module = next((module for _, tools in _GROUPS for tool, _, module in tools if tool == name), None)
    if module is None:
        return None
    from importlib import import_module

    found = import_module(f"pyebpf.{module}")
    if module.startswith("cli."):
        run: Callable[[Sequence[str]], int] = found.main
        return run
    from pyebpf.cli import events

    return lambda argv: events.main(found.TOOL, argv)


def main(argv: Sequence[str]) -> int:
    """Runs a command line (without the program's name); returns the exit code. Prints errors."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="", file=sys.stdout if argv else sys.stderr)
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
    import signal

    # What is imported lives as long as the process: to look for garbage in it takes 4 ms. What runs on enables that.
    gc.disable()
    gc.set_threshold(50_000)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and sys.argv[1:2] != ["build"]:
        # Until a tool listens Ctrl-C just ends the process: an exception can get lost in an import, and what there is
        # the kernel cleans up. `build` has files to remove.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = main(sys.argv[1:])
        if sys.stdout:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = exits.INTERRUPTED_TWICE
    except BrokenPipeError:  # nobody reads any more: end quietly
        code = exits.TRACED
        _forget_output()
    except OSError as error:
        code = exits.RUN_TIME_ERROR
        what = str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):  # a full disk; a terminal that is gone
            what = f"can't write the output: {error.strerror}"
            _forget_output()
        print(f"pyebpf: {what}", file=sys.stderr)
    except MemoryError:
        code = exits.RUN_TIME_ERROR
        print("pyebpf: out of memory", file=sys.stderr)
    except ImportError as error:  # of a shared object: no descriptor, or no memory, to open it with
        code = exits.RUN_TIME_ERROR
        print(f"pyebpf: {error}", file=sys.stderr)
    # All is said, and what was traced is let go of. Python would take itself apart for 5 ms, with a signal meanwhile
    # changing the exit code
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, it takes no more, or it is closed
            pass
    os._exit(code)


def _forget_output() -> None:
    """Lets the interpreter end without another attempt to write what is buffered."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
