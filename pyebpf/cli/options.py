# SPDX-License-Identifier: BSD-2-Clause
"""Options that every function tool has, and what is checked about them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from pyebpf.output.text import safe

TARGET_HELP = """\
targets:
  PATH:PATTERN        functions of a program or library: './server:main.*.Mul'
  LIB:PATTERN         a library by its short name: 'c:malloc', 'ssl:SSL_*'
  PROGRAM:PATTERN     a program found through $PATH: 'node:v8::internal::Heap::*'
  :PATTERN            with -p or -c: the process's own executable
PATTERN is a glob (* and ?) on the demangled name, with or without parameters, or
on the raw symbol; with -r it is a regular expression. Entry-only tools also take
FUNC+OFFSET, and 0xADDRESS as nm and objdump print it."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps examples as they are written. Told its width, argparse doesn't import shutil and five compressors to ask
    for the terminal's each time an option is added."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 80
        super().__init__(prog, width=max(60, min(columns, 100)) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        import textwrap

        lines: list[str] = []
        for line in text.splitlines():
            lines += [line] if len(line) <= width or line.startswith(" ") else textwrap.wrap(line, width)
        return "\n".join(indent + line for line in lines)


class Asked(Exception):
    """What a tool's `main` raises when its arguments are `PARSER`: its only argument is the parser."""


PARSER: Sequence[str] = ("\0parser",)  # no command line can hold it


class Parser(argparse.ArgumentParser):
    """Its errors quote arguments, which may come from anywhere: with control characters escaped."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is PARSER:
            raise Asked(self)
        return super().parse_args(args, namespace)

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is PARSER:
            raise Asked(self)
        return super().parse_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(safe(message))


def positive_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return value


def positive_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not a whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not a whole number")
    return int(text)


def user(text: str) -> int:
    if text.isascii() and text.isdigit():
        return whole_number(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None


def size(text: str) -> int:
    from pyebpf.tools import room

    try:
        return room.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def ports(text: str) -> tuple[int, ...]:
    numbers = [int(part) if part.isascii() and part.isdigit() and len(part) < 6 else 0 for part in text.split(",")]
    if not all(0 < number < 65536 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of ports, such as 80,443")
    return tuple(numbers)


def parser(
    tool: str, description: str, examples: Sequence[str], *, targets: str | int = "+", more: str = ""
) -> argparse.ArgumentParser:
    """A parser with the options every function tool shares.

    Args:
        targets: how many there are, as argparse's nargs.
        more: an explanation besides that of targets.
    """
    from pyebpf.tools.funccount import DEFAULT_MAX_PROBES  # with all that resolves functions: 12 ms others don't need

    explained = TARGET_HELP + (f"\n\n{more}" if more else "")
    epilog = explained + "\n\nexamples:\n" + "\n".join(f"  {example}" for example in examples)
    result = Parser(
        prog=f"pyebpf {tool}",
        description=description,
        epilog=epilog,
        formatter_class=Formatter,
    )
    result.add_argument("targets", metavar="TARGET", nargs=targets,
                        help="functions to trace, e.g. './server:main.*'")  # fmt: skip
    which = result.add_argument_group("what is traced")
    which.add_argument("-p", "--pid", type=positive_count, action="append", default=[], metavar="PID",
                       help="only this process, all its threads (repeatable)")  # fmt: skip
    which.add_argument("-c", "--command", metavar="CMD",
                       help="start CMD, trace it from its first instruction, and end with it")  # fmt: skip
    which.add_argument("-r", "--regex", action="store_true", help="patterns are regular expressions")
    which.add_argument("--max-probes", type=positive_count, default=DEFAULT_MAX_PROBES, metavar="N",
                       help="refuse to trace more than N functions (default %(default)s)")  # fmt: skip
    which.add_argument("-l", "--list", action="store_true", help="show what would be traced, and trace nothing")
    how = result.add_argument_group("output")
    how.add_argument("--json", action="store_true", help="JSON lines on standard output")
    how.add_argument("--ready-fd", type=int, metavar="FD", help="write a newline to FD once probes are attached")
    when = result.add_argument_group("when")
    when.add_argument("-d", "--duration", type=positive_seconds, metavar="SEC", help="trace for SEC seconds")
    return result


def add_interval(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("-i", "--interval", type=positive_seconds, metavar="SEC", help="report every SEC seconds")
    arguments.add_argument("-T", "--timestamp", action="store_true", help="print the time with each report")


def add_buffer(arguments: argparse._ActionsContainer) -> None:
    arguments.add_argument("--buffer", type=size, metavar="SIZE",
                           help="memory for records that wait to be shown, such as 16M")  # fmt: skip


def add_uretprobe(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument(
        "--allow-uretprobe",
        action="store_true",
        help="use the kernel's return probe for native code: cheaper, and for functions whose returns can't be "
        "probed one by one, but a C++ exception or Rust panic that passes through aborts the program, and returns "
        "from more than 64 nested calls are missed; never used in Go programs",
    )


def add_question(arguments: argparse.ArgumentParser, strsize: int) -> None:
    arguments.add_argument("--filter", metavar="COND", default="",
                           help="only calls for which it holds: 'args.A > 5 && name == \"x\"'; there are "
                           "== != < <= > >=, and, or, not, and startswith(name, \"x\")")  # fmt: skip
    arguments.add_argument("-Z", "--strsize", type=positive_count, default=strsize, metavar="BYTES",
                           help="read at most so much of a text (default %(default)s)")  # fmt: skip


def add_max_keys(arguments: argparse.ArgumentParser, what: str, memory: str) -> None:
    from pyebpf.tools.keys import DEFAULT_MAX_KEYS, MOST_KEYS

    arguments.add_argument("--max-keys", type=positive_count, default=DEFAULT_MAX_KEYS, metavar="N",
                           help=f"count N different {what} at most (default %(default)s, up to {MOST_KEYS}); {memory} "
                           "of the kernel's memory for each, from the start")  # fmt: skip


def check(arguments: argparse.Namespace, parser_: argparse.ArgumentParser) -> None:
    """Refuses combinations that make no sense (exit code 2)."""
    command = getattr(arguments, "command", None)
    if command is not None and not command.strip():
        parser_.error("-c: the command is empty")
    if command and arguments.pid:
        parser_.error("-p and -c can't be used together")
    if arguments.ready_fd is not None:
        try:
            os.fstat(arguments.ready_fd)
        except OSError:
            parser_.error(f"--ready-fd {arguments.ready_fd}: no such file descriptor")
