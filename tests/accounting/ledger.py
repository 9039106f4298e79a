# SPDX-License-Identifier: BSD-2-Clause
"""Equalities: what a program, or the kernel's own counter, says it made = what a tool showed + what it says it lost.

A case is a function that yields entries::

    @case("trace")
    def as_fast_as_it_can(scale: float) -> Iterator[Entry]:
        ...
        yield Entry("trace", "nobody reads", made=10007, delivered=997, lost={"ring": 9010})
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

KINDS = {
    "ring": "the ring buffer was full",
    "map": "a table was full",
    "skipped": "the kernel skipped a run of the program",
    "evicted": "files that a table had to forget before somebody deleted them, whoever made them",
    "unread": "what decides or is counted could not be read",
    "unfired": "the kernel ran no program for it, nobody's (tests/firing.py)",
    "left": "left without returning: panic, exception, longjmp",
}

UP_TO = ("skipped", "evicted")  # so many or fewer: nobody knows which of them would have been shown


class Entry(NamedTuple):
    """One equality.

    Attributes:
        tool: whose.
        situation: what makes it hard.
        made: by the program's own count, or the kernel's.
        delivered: shown, or counted.
        lost: by one of KINDS.
        note: what else there is to say.
    """

    tool: str
    situation: str
    made: int
    delivered: int
    lost: Mapping[str, int] = {}
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is one; of UP_TO that many may be missing, and no more."""
        return 0 <= self.made - self.delivered - self._known() <= self._unknown()

    def _known(self) -> int:
        return sum(number for kind, number in self.lost.items() if kind not in UP_TO)

    def _unknown(self) -> int:
        return sum(self.lost.get(kind, 0) for kind in UP_TO)

    def equation(self) -> str:
        """Spelled out: "997 + 9,010 = 10,007"."""
        parts = [self.delivered, *(number for kind, number in self.lost.items() if number and kind not in UP_TO)]
        text = " + ".join(f"{part:,}" for part in parts) + (f" + (0 to {self._unknown():,})" if self._unknown() else "")
        return f"{text} {'=' if self.holds else '≠'} {self.made:,}"


Make = Callable[[float], Iterator[Entry]]


class Case(NamedTuple):
    """A function that makes entries.

    Attributes:
        tool: whose they are.
        name: the function's.
        make: it. Its argument: how much is made, 1 for the whole run.
    """

    tool: str
    name: str
    make: Make


CASES: list[Case] = []


def case(tool: str) -> Callable[[Make], Make]:
    """Registers a case."""

    def register(make: Make) -> Make:
        CASES.append(Case(tool, make.__name__, make))
        return make

    return register


def load() -> list[Case]:
    """All cases."""
    for module in ("records", "embedded", "counts"):
        importlib.import_module(f"accounting.{module}")
    return CASES


def lost(losses: Any) -> dict[str, int]:
    """What a session says it lost, by kind; of a command the "losses" of its last line."""
    found = losses if isinstance(losses, dict) else losses._asdict()
    return by_kind(
        ring=found["dropped"],
        map=sum(found.get(name, 0) for name in ("untracked", "evicted", "refused", "uncounted")),
        skipped=found.get("missed", 0),
        unread=sum(found.get(name, 0) for name in ("unreadable", "undecided", "failed")),
        left=found.get("abandoned", 0),
    )


def by_kind(**numbers: int) -> dict[str, int]:
    """Those that aren't 0."""
    assert set(numbers) <= set(KINDS)
    return {kind: number for kind, number in numbers.items() if number}


def number(scale: float, whole: int, least: int = 97) -> int:
    """How many to make."""
    return max(least, int(whole * scale))
