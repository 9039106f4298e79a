# SPDX-License-Identifier: BSD-2-Clause
"""The command line of every tool that shows the kernel's events, made from the tool's description of itself."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from pyebpf.cli import options
from pyebpf.cli.tracing import Tracing, counted, say, write
from pyebpf.cli.watch import Watch
from pyebpf.output.text import safe
from pyebpf.target.command import Command
from pyebpf.tools.events import EventLosses, EventSession
from pyebpf.tools.scope import Tree
from pyebpf.tools.text import Cut
from pyebpf.tools.tool import Column, Option, Tool, clock, elapsed, elapsed_ms

_MAX_TEXTS, _LONG_TEXT = 512, 4096  # kept as they are shown, and bytes of one that isn't kept

# The common options: long flag, bcc's usual letter, argparse's keywords.
_SCOPE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pid": ("--pid", "-p", {"type": options.positive_count, "action": "append", "default": [], "metavar": "PID",
                            "help": "only this process, all its threads (repeatable)"}),
    "tid": ("--tid", "", {"type": options.positive_count, "metavar": "TID", "help": "only this thread"}),
    "uid": ("--uid", "-u", {"type": options.user, "metavar": "UID",
                            "help": "only this user's processes: a number or a name"}),
    "name": ("--name", "-n", {"metavar": "TEXT", "help": "only processes with TEXT in their name"}),
    "cgroup": ("--cgroup", "", {"metavar": "DIR", "help": "only processes in this cgroup2 directory or below it"}),
    "netns": ("--netns", "", {"metavar": "NETNS", "help": "only connections in this network namespace: a file such as "
                              "/proc/PID/ns/net, a name of `ip netns`, or an inode number"}),
    "local_ports": ("--local-port", "-L", {"type": options.ports, "default": (), "metavar": "PORT[,PORT]",
                                           "help": "only connections with these local ports"}),
    "remote_ports": ("--remote-port", "-D", {"type": options.ports, "default": (), "metavar": "PORT[,PORT]",
                                             "help": "only connections with these remote ports"}),
    "command": ("--command", "-c", {"metavar": "CMD", "help": "start CMD, show it and what it starts from its first "
                                    "instruction, and end with it"}),
}  # fmt: skip
_KINDS: dict[str, dict[str, Any]] = {
    "flag": {"action": "store_true"},
    "count": {"type": options.positive_count},
    "number": {"type": options.whole_number},
    "seconds": {"type": options.positive_seconds},
    "milliseconds": {"type": options.milliseconds},
    "text": {},
    "ports": {"type": options.ports},
    "choice": {},
}


def parser_for(tool: Tool) -> argparse.ArgumentParser:
    """The parser of a tool's command line."""
    epilog = "examples:\n" + "\n".join(f"  {example}" for example in tool.examples) if tool.examples else None
    parser = options.Parser(
        prog=f"pyebpf {tool.name}", description=tool.description, epilog=epilog, formatter_class=options.Formatter
    )
    own = parser.add_argument_group("what is shown")
    taken = {flag for option in tool.options for flag in option.flags}

    def flags(name: str, long: str, letter: str) -> list[str]:
        letter = tool.letters.get(name, letter)
        return [letter, long] if letter and letter not in taken else [long]

    for option in tool.options:
        _add_option(own, option)
    for name in tool.scope:
        if name == "family":
            only = own.add_mutually_exclusive_group()
            only.add_argument("-4", "--ipv4", action="store_const", const=4, dest="family", help="only IPv4")
            only.add_argument("-6", "--ipv6", action="store_const", const=6, dest="family", help="only IPv6")
            continue
        long, letter, keywords = _SCOPE[name]
        own.add_argument(*flags(name, long, letter), dest=name, **keywords)
        if name == "pid" and not tool.probes:
            own.add_argument("--children", action="store_true", help="with -p: also the processes it starts")
    how = parser.add_argument_group("output")
    lines = bool(tool.columns)  # not reports
    if lines and not any(column.value in (clock, elapsed, elapsed_ms) and not column.when for column in tool.columns):
        how.add_argument(*flags("time", "--time", "-T"), action="store_true", help="show the time of day")
        how.add_argument(*flags("timestamp", "--timestamp", "-t"), action="store_true",
                         help="show seconds since the first event")  # fmt: skip
    how.add_argument(*flags("json", "--json", ""), action="store_true", help="JSON lines on standard output")
    how.add_argument("--ready-fd", type=int, metavar="FD", help="write a newline to FD once tracing has begun")
    if lines:
        options.add_buffer(how)
    when = parser.add_argument_group("when")
    when.add_argument(*flags("duration", "--duration", "-d"), type=options.positive_seconds, metavar="SEC",
                      help="trace for SEC seconds")  # fmt: skip
    if lines:
        letter = "" if "name" in tool.scope else "-n"
        when.add_argument(*flags("max_events", "--max-events", letter), type=options.positive_count, metavar="N",
                          help="end after N events")  # fmt: skip
    return parser


def _add_option(group: argparse._ArgumentGroup, option: Option) -> None:
    keywords = dict(_KINDS[option.kind])
    if option.kind != "flag":
        keywords.update(metavar=option.metavar or None, default=option.default)
        if option.choices:
            keywords["choices"] = option.choices
        if option.repeat:
            keywords.update(action="append", default=list(option.default or ()))
    positional = not option.flags[0].startswith("-")
    if positional:
        group.add_argument(option.name, nargs="?", help=option.help, **keywords)
    else:
        group.add_argument(*option.flags, dest=_destination(option), help=option.help, **keywords)


def _destination(option: Option) -> str:
    return option.name or option.flags[-1].lstrip("-").replace("-", "_")


def begin(tool: Tool, arguments: argparse.Namespace) -> Callable[[Command | None], Any]:
    """What makes the session, for `Tracing`."""
    keywords = {option.name: getattr(arguments, option.name) for option in tool.options if option.name}
    names = [name for name in tool.scope if name not in ("command", "name", "pid")]
    keywords.update((name, getattr(arguments, name)) for name in names)

    def start(command: Command | None) -> Any:
        if tool.probes:
            given = {"command": command} if "command" in tool.scope else {}
            return tool.verb(pid=arguments.pid or None, **given, **keywords)
        pids = [Tree(command.pid)] if command else arguments.pid if "pid" in tool.scope else []
        if pids and arguments.children:
            pids = [Tree(pid) for pid in pids]
        return tool.verb(**({"pid": pids or None} if "pid" in tool.scope else {}), **keywords)

    return start


class EventRun(Tracing[Any]):
    """One run of a tool of the kernel's events.

    Attributes:
        untracked: what it says of events that a full table could not remember.
    """

    untracked = "lost: {} whose beginning the kernel had no room to remember"

    def start(self, tool: Tool) -> None:
        """Announces the run and lets the command go."""
        if tool.warning:
            say(tool.warning)
        self._begin(tool.headline)
        if self.json:
            pids = [self.command.pid] if self.command else list(getattr(self.arguments, "pid", ()))
            self.emit("attached", tool=tool.name, pids=pids, notes=list(self.session.notes))

    def lost(self, losses: EventLosses) -> list[str]:
        told = (
            (losses.dropped, "lost: {} not shown, as the buffer was full"),
            (losses.untracked, self.untracked),
            (losses.missed, "lost: perhaps {}, as the kernel skipped a program that was at work already"),
            (losses.unread, "incomplete: {} with text that could not be read from the process's memory"),
        )
        return [text.format(counted(number, "event")) for number, text in told if number]


def main(tool: Tool, argv: Sequence[str]) -> int:
    """Runs a tool; returns the exit code."""
    parser = parser_for(tool)
    arguments = parser.parse_args(argv)
    options.check(arguments, parser)
    run = EventRun(arguments, tool.name, begin(tool, arguments))
    run.start(tool)
    session: EventSession[Any] = run.session
    show = _as_json(tool.kind) if run.json else Lines(tool, arguments).line
    name = os.fsencode(getattr(arguments, "name", None) or "")
    left, deadline = arguments.max_events, run.deadline()
    run.watch.also(session.fileno())
    while left is None or left > 0:
        state = run.watch.wait(deadline, session.rest())
        if state != Watch.READY:
            session.detach()
        lines = []
        for event in session.drain():
            if name and name not in event.comm:
                continue
            lines.append(show(event))
            if len(lines) == left:
                break
            if len(lines) >= 512:  # a flood must not keep what was seen from being shown
                left = None if left is None else left - len(lines)
                write("".join(lines))
                lines.clear()
        if lines:
            left = None if left is None else left - len(lines)
            write("".join(lines))
        if state != Watch.READY:
            break
    return run.finish("events" if left == 0 else "duration")


def _as_json(kind: str) -> Callable[[Any], str]:
    from pyebpf.output import jsonl

    return lambda event: jsonl.line(kind, **event.as_dict()) + "\n"


class Lines:
    """Prints events in columns; the heading when it is made."""

    def __init__(self, tool: Tool, arguments: argparse.Namespace) -> None:
        columns = [column for column in tool.columns if _is_shown(column, arguments)]
        if getattr(arguments, "timestamp", False):
            columns.insert(0, Column("TIME(s)", 9, elapsed))
        if getattr(arguments, "time", False):
            columns.insert(0, Column("TIME", 8, clock))
        self._values = [self._value_of(column) for column in columns]
        csv = getattr(arguments, "csv", False)
        self._format = ",".join(["%s"] * len(columns)) if csv else " ".join(_cell(column) for column in columns)
        self._format += "\n"
        self._shown = _quoted if csv else _shown
        self._texts = _Texts(self._shown)
        given = [follow for name, follow in tool.follow_with.items() if getattr(arguments, name.replace("-", "_"))]
        self._follow = given[0] if given else tool.follow
        # What an event's time says of the time of day, and of the first event.
        self._offset = time.time() - time.monotonic()
        self._first: int | None = None
        self._second, self._clock = -1, ""
        write((self._format % tuple(column.title for column in columns)).rstrip() + "\n")

    def _value_of(self, column: Column) -> Callable[[Any], Any]:
        if column.value is clock:
            return self._time_of_day
        if column.value is elapsed_ms:
            return lambda event: f"{self._since_first(event) / 1e6:.0f}"
        return self._elapsed if column.value is elapsed else column.value

    def _time_of_day(self, event: Any) -> str:
        second = int(event.time / 1e9 + self._offset)
        if second != self._second:
            self._second, self._clock = second, time.strftime("%H:%M:%S", time.localtime(second))
        return self._clock

    def _since_first(self, event: Any) -> int:
        if self._first is None:
            self._first = event.time
        return int(event.time - self._first)

    def _elapsed(self, event: Any) -> str:
        return f"{self._since_first(event) / 1e9:.6f}"

    def line(self, event: Any) -> str:
        """One event, with the newline."""
        shown, texts, plain, cells = self._shown, self._texts, self._shown is _shown, []
        for value in self._values:
            cell = value(event)
            kind = type(cell)
            if kind is bytes:
                cell = texts[cell]
            elif kind is not int and not (kind is str and plain and cell.isascii() and cell.isprintable()):
                cell = shown(cell)
            cells.append(cell)
        text = self._format % tuple(cells)
        if self._follow is None:
            return text
        return text + "".join(f"{safe(line)}\n" for line in self._follow(event))


class _Texts(dict[bytes, Any]):
    """Names and paths as they are shown: most come again and again."""

    def __init__(self, shown: Callable[[Any], Any]) -> None:
        super().__init__()
        self._shown = shown

    def __missing__(self, text: bytes) -> Any:
        shown = self._shown(text)
        if len(self) >= _MAX_TEXTS:
            self.clear()
        if len(text) <= _LONG_TEXT:  # what TLS carries doesn't come again
            self[text] = shown
        return shown


def _is_shown(column: Column, arguments: argparse.Namespace) -> bool:
    wanted = column.when.lstrip("!").replace("-", "_")
    given = not wanted or any(getattr(arguments, name) for name in wanted.split("|"))
    return given != column.when.startswith("!")


def _cell(column: Column) -> str:
    if not column.width:
        return "%s"
    return f"%{'' if column.right else '-'}{column.width}s"


def _shown(value: Any) -> Any:
    if isinstance(value, (bytes, str)):
        return safe(value) + "…" if isinstance(value, Cut) else safe(value)
    return "-" if value is None else value


def _quoted(value: Any) -> Any:
    """A value among comma-separated ones (RFC 4180); what isn't known is empty."""
    if value is None:
        return ""
    text = str(_shown(value))
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text
