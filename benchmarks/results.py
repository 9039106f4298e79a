# SPDX-License-Identifier: BSD-2-Clause
"""What was measured: tables of values, one a round, kept as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import written
from processes import Failed


class Metric(NamedTuple):
    """A column.

    Attributes:
        name: with its unit.
        digits: behind the point.
        more: more is better.
        peak: the highest of the rounds counts, not the median.
        plain: it isn't compared.
    """

    name: str
    digits: int = 0
    more: bool = False
    peak: bool = False
    plain: bool = False


class Row(NamedTuple):
    """What one contestant did of one thing.

    Attributes:
        values: by metric, a value a round.
        said: why there are none.
    """

    values: dict[str, list[float]]
    said: str = ""


class Table:
    """Rows by (what, who). `note` is printed above it."""

    def __init__(self, title: str, metrics: Sequence[Metric], note: str = "") -> None:
        self.title, self.metrics, self.note = title, list(metrics), note
        self.rows: dict[tuple[str, str], Row] = {}

    def add(self, what: str, who: str, *values: float | None) -> None:
        """A round's values, one a metric; None: it doesn't have this one."""
        row = self.rows.setdefault((what, who), Row({}))
        for metric, value in zip(self.metrics, values):
            if value is not None:
                row.values.setdefault(metric.name, []).append(value)

    def refuse(self, what: str, who: str, why: str) -> None:
        old = self.rows.get((what, who))
        self.rows[what, who] = Row(old.values if old else {}, why)

    def things(self) -> list[str]:
        """What was measured, in the order of its beginning."""
        return list(dict.fromkeys(what for what, _ in self.rows))

    def of(self, what: str) -> dict[str, Row]:
        """Who did it."""
        return {who: row for (one, who), row in self.rows.items() if one == what}

    def value(self, what: str, who: str, metric: Metric) -> float | None:
        row = self.rows.get((what, who))
        values = row.values.get(metric.name) if row else None
        return None if not values else max(values) if metric.peak else statistics.median(values)

    def ratios(self, what: str, ours: str, theirs: str, metric: Metric) -> list[float]:
        """Ours to theirs, a ratio a round, as the two of a round met the same load: below 1, ours is the better."""
        mine, other = (self.rows[what, who].values.get(metric.name, []) for who in (ours, theirs))
        if metric.peak or len(mine) != len(other):
            one, two = self.value(what, ours, metric), self.value(what, theirs, metric)
            mine, other = ([] if one is None else [one]), ([] if two is None else [two])
        if metric.more:
            mine, other = other, mine
        # What is below zero is noise: the loop was slower without the tool
        pairs = [(a, b) for a, b in zip(mine, other) if a >= 0 and b >= 0]
        return [1.0 if a == b else a / b if b else float("inf") for a, b in pairs]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        rows = [{"what": what, "who": who, "values": row.values, "said": row.said}
                for (what, who), row in self.rows.items()]  # fmt: skip
        return {"title": self.title, "note": self.note, "metrics": [list(one) for one in self.metrics], "rows": rows}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Table:
        table = cls(plain["title"], [Metric(*one) for one in plain["metrics"]], plain["note"])
        for row in plain["rows"]:
            table.rows[row["what"], row["who"]] = Row(row["values"], row["said"])
        return table


class Turn(NamedTuple):
    """One contestant's part of a round: `measure` returns the values of a row."""

    what: str
    who: str
    measure: Callable[[], Sequence[float | None]]


def take_turns(table: Table, turns: Sequence[Turn], rounds: int, warm: bool = False) -> None:
    """All turns, round by round, so that a busy minute hits them all. Who fails once is left out from then on.

    Each other round goes backwards, so that nobody always comes behind the same.

    Args:
        warm: a round before the first, which fills caches and isn't counted.
    """
    for number in range(-1 if warm else 0, rounds):
        print(f"{table.title}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for turn in turns if number % 2 == 0 else reversed(turns):
            row = table.rows.get((turn.what, turn.who))
            if row and row.said:
                continue
            try:
                values = turn.measure()
            except Failed as failed:
                table.refuse(turn.what, turn.who, str(failed))
                continue
            if number >= 0:
                table.add(turn.what, turn.who, *values)


def machine() -> dict[str, str]:
    """What the results depend on besides the tools."""
    return {
        "processor": f"{written.processor()}, {os.cpu_count()} CPUs",
        "memory": f"{written.memory() >> 20:,} MB",
        "kernel": f"Linux {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def moment() -> str:
    """Now, and the load average of the last minute."""
    return f"{time.strftime('%Y-%m-%d %H:%M %Z')} (load {os.getloadavg()[0]:.1f})"
