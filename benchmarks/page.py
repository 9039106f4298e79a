# SPDX-License-Identifier: BSD-2-Clause
"""The page of results, made from the kept values."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import written
from explanations import explained
from results import Metric, Row, Table

_FIRST, _LEVEL, _BEHIND = "first", "level", "behind"
_HEAD = """\
# Results

Made by `make bench` (`benchmarks/run.py`), which writes this page and [its values](results.json).
Nothing here is typed.

A cell is the median of the rounds, and their range. The contestants take turns within a round, each other round
backwards, so that a busy minute hits them all. **÷** is the median of the rounds' ratios, pyebpf ÷ the other, or the
other ÷ pyebpf where more is better: **below 1 pyebpf is the better.** In pyebpf's own line it is the one against the
best of the others, and a word: *first*; *level* (behind in the median, but not in every round); or a number, which
leads to the explanation below the table. Peers that are missing in a table have no such tool, or it doesn't run here
(then it is said below the table).
"""


class Page:
    """Collects the text, and how often pyebpf was first."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept
        self._tables = {
            f"{name}.{number}" if number else name: Table.of_plain(plain)
            for name, section in kept["sections"].items()
            for number, plain in enumerate(section["tables"])
        }
        self._standing: dict[str, dict[str, int]] = {}
        self._notes: list[str] = []

    def text(self) -> str:
        body = [line for name, section in self._kept["sections"].items() for line in self._section(name, section)]
        facts = [f"* {key}: {value}" for key, value in self._kept["machine"].items()]
        facts.append(f"* contestants: {', '.join(self._kept['contestants'])}")
        facts += [f"* missing: {name}: {why}" for name, why in self._kept["missing"].items()]
        return "\n".join([_HEAD, *facts, "", *self._summary(), *body]) + "\n"

    def _summary(self) -> Iterator[str]:
        columns = (_FIRST, _LEVEL, _BEHIND, "of them unexplained")
        lines = []
        for name, section in self._kept["sections"].items():
            counts = self._standing[name]
            cells = [str(counts.get(column, 0)) for column in columns]
            total = sum(counts.get(column, 0) for column in columns[:3])
            lines.append((f"[{section['title']}](#{_anchor(section['title'])})", str(total), *cells))
        yield from written.table(("section", "compared", *columns), lines)

    def _section(self, name: str, section: Mapping[str, Any]) -> Iterator[str]:
        self._standing[name] = {}
        yield f"\n## {section['title']}\n"
        yield f"{section['began']} to {section['ended']}, {section['rounds']} rounds."
        for key, table in self._tables.items():
            if key.split(".")[0] == name:
                yield from self._table(name, key, table)

    def _table(self, section: str, key: str, table: Table) -> Iterator[str]:
        self._notes = []
        yield f"\n### {table.title}\n"
        if table.note:
            yield f"{table.note}\n"
        compared = [not metric.plain for metric in table.metrics]
        header = ["", ""]
        for metric, ratio in zip(table.metrics, compared):
            header += [metric.name, "÷"] if ratio else [metric.name]
        lines = []
        for what in table.things():
            rows = table.of(what)
            ours = next((who for who, row in rows.items() if who.startswith("pyebpf") and row.values), "")
            for who, row in rows.items():
                if not row.values:
                    continue
                cells = [what, who]
                for metric in table.metrics:
                    cells.append(_spread(row, metric))
                    if not metric.plain:
                        cells.append(self._ratio(section, key, table, what, who, ours, metric))
                lines.append(cells)
        yield from written.table(header, lines)
        refused = [(what, who, row.said) for (what, who), row in table.rows.items() if row.said]
        for number, note in enumerate(self._notes, 1):
            yield f"\n<a id=\"{_anchor(key)}-{number}\"></a>[{number}] {note}"
        if refused:
            yield "\nNot measured:\n"
            yield from (f"* {who}, {what}: {said}" for what, who, said in refused)

    def _ratio(self, section: str, key: str, table: Table, what: str, who: str, ours: str, metric: Metric) -> str:
        rows = table.of(what)
        others = [one for one, row in rows.items() if not one.startswith("pyebpf") and metric.name in row.values]
        mine = table.rows.get((what, who))
        if not ours or mine is None or metric.name not in mine.values:
            return ""
        if not who.startswith("pyebpf"):
            return _number(table.ratios(what, ours, who, metric)) if ours else ""
        found = {one: table.ratios(what, who, one, metric) for one in others}
        found = {one: ratios for one, ratios in found.items() if ratios}
        if not found:
            return ""
        best = max(found, key=lambda one: statistics.median(found[one]))
        ratios = found[best]
        middle = statistics.median(ratios)
        if middle <= 1:
            standing, word = _FIRST, "first"
        elif min(ratios) <= 1 or _same(table, what, who, best, metric):
            standing, word = _LEVEL, "level"
        else:
            standing, word = _BEHIND, self._explain(section, key, what, metric)
        if who == ours:
            counts = self._standing[section]
            counts[standing] = counts.get(standing, 0) + 1
        return f"**{_number(ratios)}** {word}"

    def _explain(self, section: str, key: str, what: str, metric: Metric) -> str:
        text = explained(key, what, metric.name)
        if text is None:
            counts = self._standing[section]
            counts["of them unexplained"] = counts.get("of them unexplained", 0) + 1
            return "(no explanation yet)"
        text = re.sub(r"\{([^/{}]+)/([^/{}]+)/([^/{}]+)/([^/{}]+)\}", lambda match: self._look(*match.groups()), text)
        if text not in self._notes:
            self._notes.append(text)
        number = self._notes.index(text) + 1
        return f"[[{number}]](#{_anchor(key)}-{number})"

    def _look(self, key: str, what: str, who: str, metric: str) -> str:
        """A value of this run, by the beginnings of names."""
        table = self._tables.get(key)
        for (thing, name) in table.rows if table else ():
            for one in table.metrics if table else ():
                if thing == what and name.startswith(who) and one.name.startswith(metric):
                    value = table.value(thing, name, one) if table else None
                    return "(not measured)" if value is None else f"{value:,.{one.digits}f}"
        return "(not measured)"


def _same(table: Table, what: str, ours: str, theirs: str, metric: Metric) -> bool:
    """They are the same in the digits that are shown."""
    one, two = table.value(what, ours, metric), table.value(what, theirs, metric)
    return one is not None and two is not None and round(one, metric.digits) == round(two, metric.digits)


def _spread(row: Row, metric: Metric) -> str:
    values = row.values.get(metric.name)
    if not values:
        return ""
    digits = metric.digits
    if metric.peak:
        return f"{max(values):,.{digits}f}"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f}" + (f" ({low:,.{digits}f} to {high:,.{digits}f})" if low != high else "")


def _number(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    middle = statistics.median(ratios)
    return "∞" if middle == float("inf") else f"{middle:.2f}" if middle < 10 else f"{middle:.0f}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
