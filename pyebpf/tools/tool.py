# SPDX-License-Identifier: BSD-2-Clause
"""How a tool of the kernel's events describes itself: its options and columns, as data.

The command, its help, JSON, and the documentation are made of it; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pyebpf.tools.events import Need


class Option(NamedTuple):
    """One option of a tool.

    Attributes:
        name: the verb's keyword ("failed"); "" for an option that only concerns columns.
        flags: as typed ("-x", "--failed"); the last gives the option its name among columns' conditions.
        help: what it does.
        kind: "flag", "count" (a whole number above 0), "number" (a whole number), "seconds", "milliseconds", "text",
            "ports" (80,443), "choice" (of `choices`).
        metavar: what stands for the value.
        default: the value without the option.
        choices: for "choice".
        repeat: it may be given several times; the value is a list.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    kind: str = "flag"
    metavar: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    repeat: bool = False


class Column(NamedTuple):
    """One column of a tool's lines.

    Attributes:
        title: its heading.
        width: in characters; a longer value pushes the rest to the right. 0: as wide as it is (the last column).
        value: of an event; bytes are escaped for the terminal, a `pyebpf.tools.text.Cut` gets an ellipsis, None is "-".
        when: shown only with this option (an `Option`'s name or long flag without dashes, "wide"), or one of several
            ("wide|csv"); with "!" in front, only without it. "": always.
        right: aligned to the right.
    """

    title: str
    width: int
    value: Callable[[Any], Any]
    when: str = ""
    right: bool = False


class Tool(NamedTuple):
    """A tool.

    Attributes:
        name: "opensnoop".
        description: what it shows, for its help.
        verb: the function of the public API that begins a session. It takes the options' names as keywords, besides
            those of `scope`.
        needs: what it wants to see (`pyebpf.tools.events.Need`), with all its options; empty for one that `probes`.
        kind: the "type" of its JSON records.
        columns: of its lines.
        options: its own, besides those every tool has.
        examples: command lines with a comment.
        scope: which of the common filters it has: "pid", "tid", "uid", "cgroup", "netns", "family", "local_ports",
            "remote_ports", "command".
        headline: what it says when it begins, without the dots.
        letters: short flags of common options that differ: {"max_events": ""} takes -n away from it.
        follow: lines behind an event's line, such as a stack.
        follow_with: by option (as in `Column.when`), lines that are there instead of `follow`'s when it is given.
        warning: said before anything else, such as that secrets will be shown.
        probes: it probes functions of programs, and doesn't follow processes to their children; the verb takes the
            command that is started (keyword ``command``), not just its process number.
    """

    name: str
    description: str
    verb: Callable[..., Any]
    kind: str
    columns: tuple[Column, ...]
    needs: tuple[Need, ...] = ()
    options: tuple[Option, ...] = ()
    examples: tuple[str, ...] = ()
    scope: tuple[str, ...] = ("pid", "uid", "cgroup", "command")
    headline: str = ""
    letters: dict[str, str] = {}  # noqa: RUF012 - never changed
    follow: Callable[[Any], list[str]] | None = None
    follow_with: dict[str, Callable[[Any], list[str]]] = {}  # noqa: RUF012 - never changed
    warning: str = ""
    probes: bool = False


# Values of columns that need the moment tracing began: the command knows it.
def clock(event: Any) -> Any:
    """The time of day of an event, HH:MM:SS."""
    return event.time


def elapsed(event: Any) -> Any:
    """Seconds from the first event to this one."""
    return event.time


def elapsed_ms(event: Any) -> Any:
    """Milliseconds from the first event to this one."""
    return event.time


PRINT_UID = Option("", ("-U", "--print-uid"), "show the user ID")
UID = Column("UID", 6, lambda event: event.uid, "print-uid")
PID = Column("PID", 7, lambda event: event.pid)
TIME = Column("TIME", 9, clock)  # always shown
SECONDS = Column("TIME(s)", 10, elapsed)
