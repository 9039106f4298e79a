# SPDX-License-Identifier: BSD-2-Clause
"""Latencies as pictures: a histogram for each function, or a heat map over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pyebpf.output.svg import Svg, number, shortened
from pyebpf.tools.histogram import BUCKETS, EMPTY, Histogram, bucket_bounds, merge, readable
from pyebpf.tools.session import TracedFunction

MOST_PANELS = 12  # functions with a panel of their own

_WIDTH, _LEFT, _RIGHT = 960, 64, 936
_LABEL = 84  # width of the longest label of a percentile
_BARS, _MAP = 120, 240  # heights
_MARKS = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0))
_MOST_COLUMNS = 240
_MOST_CELLS = 20_000  # a file of about 3 MB
_MOST_FOLLOWED = 64  # functions whose intervals are kept
# From few calls to many, on white and on black: ColorBrewer's YlGnBu, which nobody's eyes confuse.
_SHADES = ("#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58")
_DARK_SHADES = ("#2a3f82", "#225ea8", "#1d91c0", "#41b6c4", "#7fcdbb", "#c7e9b4", "#ffffd9")
_LIGHT = (
    ".bar{fill:#2f6fb0}.mark{stroke:#c2410c;stroke-width:1.25}.p{fill:#a83808}.p50,.p99{stroke:#c2410c;stroke-width:1.5}"
    ".p99{stroke-dasharray:4 3}.halo{stroke:#fff;stroke-width:3.5;stroke-opacity:.75}"
    + "".join(f".h{level}{{fill:{colour};shape-rendering:crispEdges}}" for level, colour in enumerate(_SHADES))
)
_DARK = (
    ".bar{fill:#5aa2e6}.mark{stroke:#ff9d57}.p{fill:#ffb27d}.p50,.p99{stroke:#ff9d57}.halo{stroke:#11161c}"
    + "".join(f".h{level}{{fill:{colour}}}" for level, colour in enumerate(_DARK_SHADES))
)


def histograms(
    found: Mapping[TracedFunction, Histogram], title: str = "", about: str = "", notes: Sequence[str] = ()
) -> str:
    """A histogram of latencies for each function, the one that took most time first, all on one axis.

    Args:
        found: of a session: `snapshot` or `interval`. Beyond `MOST_PANELS` functions the rest is drawn as one.
        title: what was traced.
        about: a second line: where, when, how long.
        notes: lines below, for example what was lost.

    Returns:
        an SVG document.
    """
    named: dict[str, Histogram] = {}
    for function, one in found.items():  # static functions of several sources can have one name
        named[function.label] = named.get(function.label, EMPTY) + one
    panels, more = _panels(named)
    svg, y = _begin(title, about, sum(one.count for _, one in panels))
    if panels:
        axis = _Axis([one for _, one in panels], _LEFT, _RIGHT - _LABEL, 7)
        for name, histogram in panels:
            y = _panel(svg, y, name, histogram, axis)
        more = f"A bar's area is its share of the calls. {more}".strip()
    return _end(svg, y, [more, *notes] if more else notes)


class Timeline:
    """Latencies interval by interval, for a heat map. However long it lasts, what is kept is bounded: intervals are
    joined by twos where they become too many, and functions beyond the first 64 are added up.

    Args:
        per_function: a map for each function.
    """

    __slots__ = ("_columns", "_joined", "_per_function", "_times")

    def __init__(self, per_function: bool = False) -> None:
        self._per_function = per_function
        self._columns: dict[str, list[dict[int, int]]] = {}  # calls by fine bucket, of each interval
        self._joined: dict[str, Histogram] = {}
        self._times: list[tuple[float, float]] = []

    def add(self, found: Mapping[TracedFunction, Histogram], begin: float, end: float) -> None:
        """An interval's histograms.

        Args:
            begin, end: seconds since the session began.
        """
        self._times.append((begin, end))
        for columns in self._columns.values():
            columns.append({})
        for function, histogram in found.items():
            name = function.label if self._per_function else "all functions"
            if name not in self._columns and len(self._columns) >= _MOST_FOLLOWED:
                name = "other functions"
            columns = self._columns.setdefault(name, [{} for _ in self._times])
            for index, calls in enumerate(histogram.buckets):
                if calls:
                    columns[-1][index] = columns[-1].get(index, 0) + calls
            self._joined[name] = self._joined.get(name, EMPTY) + histogram
        if len(self._times) > _MOST_COLUMNS:
            self._times, self._columns = _halved(self._times, self._columns)

    def svg(self, title: str = "", about: str = "", notes: Sequence[str] = ()) -> str:
        """The heat map: time from left to right, latency upwards, the darker (on black: the brighter) the more calls.

        Args:
            title, about, notes: as for `histograms`.
        """
        panels, more = _panels(self._joined)
        svg, y = _begin(title, about, sum(one.count for _, one in panels))
        lines = [more] if more else []
        if panels:
            axis = _Axis([one for _, one in panels], 0, -_MAP, 4.5)
            times, own = self._times, {name: self._columns[name] for name, _ in panels if name in self._columns}
            rest = [columns for name, columns in self._columns.items() if name not in dict(panels)]
            own.update((name, _summed(rest)) for name, _ in panels if name not in own)
            while sum(len(column) for columns in own.values() for column in columns) > _MOST_CELLS and len(times) > 8:
                times, own = _halved(times, own)
            most = max(calls for columns in own.values() for column in columns for calls in axis.cells(column).values())
            for name, histogram in panels:
                y = _map(svg, y, name, histogram, times, own[name], axis, most)
            y = _legend(svg, y, most)
            width = sorted(end - begin for begin, end in times)[len(times) // 2]
            lines.append(f"A column is {width:.3g} s. Solid line: median (p50); dashed: p99.")
        return _end(svg, y, [*lines, *notes])


class _Axis:
    """Latencies on a logarithmic axis.

    Args:
        all_: what it must have room for.
        begin, end: coordinates of its ends.
        least: pixels a bucket should have at least.
    """

    __slots__ = ("_begin", "_group", "_low", "_scale", "end", "high")

    def __init__(self, all_: Sequence[Histogram], begin: float, end: float, least: float) -> None:
        used = [index for one in all_ for index in _ends(one)]
        low, high = min(used) // 8 * 8, min(max(used) // 8 * 8 + 7, BUCKETS - 1)
        self._low, self.high = _logarithm(bucket_bounds(low)[0]), _logarithm(bucket_bounds(high)[1] + 1)
        self._begin, self.end = begin, end
        self._scale = (end - begin) / (self.high - self._low)
        # Fine buckets, eight a power of two, are joined where they were thinner than can be seen.
        self._group = next((size for size in (1, 2, 4) if abs(self._scale) / 8 * size >= least), 8)

    def at(self, nanoseconds: float) -> float:
        """Where a latency lies."""
        place = min(max(_logarithm(nanoseconds), self._low), self.high)
        return self._begin + (place - self._low) * self._scale

    def cells(self, buckets: Mapping[int, int], group: int = 0) -> dict[int, int]:
        """Calls by the first of the fine buckets that are drawn as one."""
        group = group or self._group
        cells: dict[int, int] = {}
        for index, calls in buckets.items():
            first = index // group * group
            cells[first] = cells.get(first, 0) + calls
        return cells

    def bounds(self, first: int, group: int = 0) -> tuple[int, int]:
        """The smallest and the largest latency (ns) of a cell."""
        last = min(first + (group or self._group), BUCKETS) - 1
        return bucket_bounds(first)[0], bucket_bounds(last)[1]

    def bars(self, buckets: Mapping[int, int]) -> tuple[dict[int, int], int]:
        """Cells for bars, and how many buckets each has: few calls in fine buckets would show chance, not shape."""
        for group in (1, 2, 4, 8):
            cells = self.cells(buckets, max(group, self._group))
            if sum(cells.values()) >= 6 * len(cells):
                break
        return cells, max(group, self._group)

    def ticks(self) -> list[tuple[float, str]]:
        """Round latencies and how they are written."""
        low, high = 2**self._low, 2**self.high
        decades = range(math.floor(math.log10(max(low, 1))), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if math.log10(high / max(low, 0.5)) < 3.2 else (1,)
        values = [step * 10**decade for decade in decades for step in steps]
        return [(self.at(value), _round(value)) for value in values if low <= value <= high]


def _logarithm(nanoseconds: float) -> float:
    return math.log2(max(nanoseconds, 0.5))


def _round(nanoseconds: int) -> str:
    for unit, factor in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanoseconds >= factor:
            return f"{nanoseconds // factor:,} {unit}"
    return f"{nanoseconds} ns"


def _ends(histogram: Histogram) -> tuple[int, int]:
    used = [index for index, calls in enumerate(histogram.buckets) if calls]
    return used[0], used[-1]


def _panels(found: Mapping[str, Histogram]) -> tuple[list[tuple[str, Histogram]], str]:
    """What is drawn, by the time it took, and what to say of the rest."""
    ranked = sorted(((name, one) for name, one in found.items() if one.count), key=lambda item: -item[1].total)
    if len(ranked) <= MOST_PANELS:
        return ranked, ""
    rest = ranked[MOST_PANELS:]
    name = f"{len(rest)} other functions"
    return [*ranked[:MOST_PANELS], (name, merge(one for _, one in rest))], (
        f"{MOST_PANELS} of {len(ranked)} functions have a panel of their own: those that took the most time."
    )


def _begin(title: str, about: str, calls: int) -> tuple[Svg, float]:
    svg = Svg(_WIDTH, title, _LIGHT, _DARK)
    svg.text(24, 34, shortened(title, 96), size=18)
    about = f"{about} · {calls:,} calls" if about else f"{calls:,} calls"
    svg.text(24, 55, shortened(about, 150), "soft")
    if not calls:
        svg.text(24, 90, "No calls returned.", size=14)
    return svg, 68.0 if calls else 100.0


def _end(svg: Svg, y: float, notes: Sequence[str]) -> str:
    for note in notes[:20]:
        y += 17
        svg.text(24, y, shortened(note, 150), "soft")
    return svg.document(y + 18)


def _heading(svg: Svg, y: float, name: str, histogram: Histogram) -> None:
    svg.text(_LEFT, y + 22, shortened(name, 100), "mono", size=13)
    svg.text(_LEFT, y + 39, f"{histogram.count:,} calls · average {readable(histogram.average)} · "
             f"{readable(histogram.total)} in total", "soft", size=11)  # fmt: skip


def _panel(svg: Svg, y: float, name: str, histogram: Histogram, axis: _Axis) -> float:
    """One function's histogram; returns where the next begins."""
    _heading(svg, y, name, histogram)
    cells, group = axis.bars({index: calls for index, calls in enumerate(histogram.buckets) if calls})
    marks, rows = _marks(histogram, axis)
    top = y + 52 + 14 * rows
    base = top + _BARS
    bars = []
    for first, calls in sorted(cells.items()):
        low, high = axis.bounds(first, group)
        left, right = axis.at(low), axis.at(high + 1)
        bars.append((calls / (right - left), left, right, calls, f"{readable(low)} to {readable(high)}"))
    most = max(bars)[0]
    for density, left, right, calls, span in bars:
        height = max(density / most * _BARS, 1.5)  # a single call shows
        svg.rect(left, base - height, max(right - left - 0.75, 0.75), height, "bar",
                 f"{span}: {calls:,} calls ({calls / histogram.count:.2%})")  # fmt: skip
    for x, row, label in marks:
        text_y = y + 52 + 14 * row + 10
        svg.line([(x, text_y - 9), (x, base)], "mark")
        svg.text(x + 4, text_y, label, "p", size=11)
    _time_axis(svg, base, axis.ticks())
    return base + 28


def _time_axis(svg: Svg, base: float, ticks: Sequence[tuple[float, str]]) -> None:
    svg.line([(_LEFT, base), (_RIGHT, base)], "axis")
    for x, label in ticks:
        svg.line([(x, base), (x, base + 4)], "axis")
        svg.text(x, base + 17, label, "soft", "middle", 11)


def _marks(histogram: Histogram, axis: _Axis) -> tuple[list[tuple[float, int, str]], int]:
    """Of each percentile the place, the row of its label and the label, and how many rows: a label lies right of its
    line, below those it would touch, so that no line crosses one."""
    marks: list[tuple[float, int, str]] = []
    ends: list[float] = []  # of the labels
    for which, percent in _MARKS:
        value = histogram.max if percent == 100 else histogram.percentile(percent)
        x, label = axis.at(value), f"{which} {readable(value)}"
        row = 1 + max([mark[1] for mark, end in zip(marks, ends) if end > x], default=-1)
        marks.append((x, row, label))
        ends.append(x + 10 + 6.3 * len(label))
    return marks, 1 + max(row for _, row, _ in marks)


def _map(
    svg: Svg,
    y: float,
    name: str,
    histogram: Histogram,
    times: Sequence[tuple[float, float]],
    columns: Sequence[Mapping[int, int]],
    axis: _Axis,
    most: int,
) -> float:
    """One heat map; returns where the next begins."""
    _heading(svg, y, name, histogram)
    top = y + 50
    base = top + _MAP
    scale = (_RIGHT - _LEFT) / max(times[-1][1], 1e-9)
    for place, label in axis.ticks():
        svg.line([(_LEFT, base + place), (_RIGHT, base + place)], "grid")
        svg.text(_LEFT - 7, base + place + 4, label, "soft", "end", 10.5)
    lines: dict[str, list[tuple[float, float]]] = {"p50": [], "p99": []}
    for (begin, end), column in zip(times, columns):
        left, width = _LEFT + begin * scale, max((end - begin) * scale, 0.1)
        for first, calls in sorted(axis.cells(column).items()):
            low, high = axis.bounds(first)
            upper = base + axis.at(high + 1)
            svg.rect(left, upper, width, base + axis.at(low) - upper, f"h{_level(calls, most)}",
                     f"{begin:.4g} to {end:.4g} s, {readable(low)} to {readable(high)}: {calls:,} calls")  # fmt: skip
        if column:
            whole = Histogram([column.get(index, 0) for index in range(BUCKETS)], 0, 0)
            for which, percent in (("p50", 50), ("p99", 99)):
                lines[which].append((left + width / 2, base + axis.at(whole.percentile(percent))))
    for which, points in lines.items():
        if len(points) > 1:
            svg.line(points, "halo")
            svg.line(points, which)
    _time_axis(svg, base, [(_LEFT + seconds * scale, label) for seconds, label in _seconds(times[-1][1])])
    return base + 28


def _level(calls: int, most: int) -> int:
    return min(int(math.log(calls) / math.log(most + 1) * len(_SHADES)), len(_SHADES) - 1)


def _legend(svg: Svg, y: float, most: int) -> float:
    svg.text(_LEFT, y + 25, "calls in a cell", "soft", size=11)
    x = _LEFT + 92
    lows = [math.ceil((most + 1) ** (level / len(_SHADES)) - 1e-9) for level in range(len(_SHADES))]
    for level, low in enumerate(lows):
        if level + 1 < len(lows) and low >= lows[level + 1]:
            continue  # no count has this shade
        label = f"{low:,}+" if level else "1+"
        svg.rect(x, y + 14, 22, 14, f"h{level}")
        svg.text(x + 27, y + 25, label, "soft", size=11)
        x += 40 + 7 * len(label)
    return y + 32


def _seconds(duration: float) -> list[tuple[float, str]]:
    """Round moments on the axis of time, about eight."""
    steps = [size * 10.0**power for power in range(-3, 1) for size in (1, 2, 5)] + [10, 20]
    steps += [30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400]
    step = next((step for step in steps if duration / step <= 10), math.ceil(duration / 10 / 86400) * 86400)
    unit, size = ("h", 3600) if step >= 3600 else ("min", 60) if step >= 60 else ("s", 1)
    return [(count * step, f"{number(count * step / size)} {unit}") for count in range(int(duration / step + 1e-6) + 1)]


def _summed(many: Sequence[Sequence[Mapping[int, int]]]) -> list[dict[int, int]]:
    """Columns of several functions as those of one."""
    result = []
    for together in zip(*many):
        column: dict[int, int] = {}
        for one in together:
            for index, calls in one.items():
                column[index] = column.get(index, 0) + calls
        result.append(column)
    return result


def _halved(
    times: Sequence[tuple[float, float]], all_: Mapping[str, Sequence[dict[int, int]]]
) -> tuple[list[tuple[float, float]], dict[str, list[dict[int, int]]]]:
    """Intervals joined by twos."""
    joined = [(times[at][0], times[min(at + 1, len(times) - 1)][1]) for at in range(0, len(times), 2)]
    return joined, {
        name: [_summed([[column] for column in columns[at : at + 2]])[0] for at in range(0, len(columns), 2)]
        for name, columns in all_.items()
    }
