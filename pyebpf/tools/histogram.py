# SPDX-License-Identifier: BSD-2-Clause
"""Latency histograms: fine buckets for percentiles, which add up to the rows of a log2 histogram."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

# The layout of bpf/funclatency.h, eight buckets a power of two; a unit test compares them with the object's BTF.
SUB_BITS = 3
_WIDTH = 1 << SUB_BITS
BUCKETS = 62 * _WIDTH


class Row(NamedTuple):
    """One row of a log2 histogram: how many calls lay in ``low..high``, both included."""

    low: int
    high: int
    calls: int

    def as_dict(self) -> dict[str, int]:
        """Plain values."""
        return self._asdict()


def bucket_bounds(index: int) -> tuple[int, int]:
    """The smallest and largest value (ns) of a fine bucket."""
    if index < _WIDTH:
        return index, index
    exponent, part = index // _WIDTH + SUB_BITS - 1, index % _WIDTH
    step = 1 << (exponent - SUB_BITS)
    low = (1 << exponent) + part * step
    return low, low + step - 1


def highest(buckets: Sequence[int]) -> int:
    """The largest value that may lie in the fine buckets: the maximum where it wasn't kept. 0 if they are empty."""
    return next((bucket_bounds(index)[1] for index in range(len(buckets) - 1, -1, -1) if buckets[index]), 0)


def readable(nanoseconds: float) -> str:
    """A time in three digits: ``850 ns``, ``12.3 µs``, ``1.50 s``."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        value = nanoseconds / factor
        if value >= 0.9995:
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{nanoseconds:.0f} ns"


class Histogram:
    """How long calls took. Immutable.

    Attributes:
        buckets: calls by fine bucket (see `bucket_bounds`), `BUCKETS` of them.
        total: ns, exact.
        max: ns, the longest call.
        count: calls.
    """

    __slots__ = ("buckets", "count", "max", "total")

    def __init__(self, buckets: Sequence[int], total: int, maximum: int) -> None:
        self.buckets = tuple(buckets)
        self.count = sum(self.buckets)
        self.total = total
        # Two CPUs racing for the maximum may keep the smaller one; the buckets never do.
        top = next((index for index in range(len(self.buckets) - 1, -1, -1) if self.buckets[index]), None)
        self.max = max(maximum, bucket_bounds(top)[0]) if top is not None else 0

    @property
    def average(self) -> float:
        """ns; 0 for an empty histogram."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The time (ns) that `percent` of the calls did not exceed, to within 1/16 of itself.

        Interpolated inside the bucket; never above `max`. 0 for an empty histogram.

        Raises:
            ValueError: percent isn't within 0..100.
        """
        if not 0 <= percent <= 100:
            raise ValueError("a percentile is a number from 0 to 100")
        rank = percent / 100 * self.count
        seen = 0
        for index, calls in enumerate(self.buckets):
            if calls and seen + calls >= rank:
                low, high = bucket_bounds(index)
                return min(low + (high - low) * max(0.0, rank - seen) / calls, float(self.max))
            seen += calls
        return float(self.max)

    def rows(self, unit: int = 1) -> list[Row]:
        """The log2 histogram, from the first row to the last that isn't empty.

        Args:
            unit: ns a unit: 1, 1000 (microseconds), 1000000 (milliseconds). Bounds are in units.

        The first row holds 0 and 1, row i holds 2^i .. 2^(i+1)-1. A fine bucket that straddles a row's bound (only
        when unit isn't 1) counts where its middle lies.
        """
        rows: list[int] = []
        for index, calls in enumerate(self.buckets):
            if not calls:
                continue
            low, high = bucket_bounds(index)
            value = low if unit == 1 else (low + high) // 2 // unit
            row = max(0, value.bit_length() - 1)
            rows += [0] * (row + 1 - len(rows))
            rows[row] += calls
        return [Row(1 << i if i else 0, (1 << (i + 1)) - 1, calls) for i, calls in enumerate(rows)]

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            [a + b for a, b in zip(self.buckets, other.buckets)], self.total + other.total, max(self.max, other.max)
        )

    def as_dict(self) -> dict[str, object]:
        """Plain values: count, total/average/max/percentiles in ns, and the log2 rows."""
        return {
            "count": self.count,
            "total_ns": self.total,
            "average_ns": round(self.average, 1),
            "p50_ns": round(self.percentile(50)),
            "p90_ns": round(self.percentile(90)),
            "p99_ns": round(self.percentile(99)),
            "max_ns": self.max,
            "buckets": [row._asdict() for row in self.rows()],
        }

    def _repr_html_(self) -> str:
        from .html import table

        rows = self.rows()
        while rows and not rows[0].calls:
            rows.pop(0)
        marks = ", ".join(f"{name} {value}" for name, value in zip(MARKS, marks_of(self)))
        return table(("from", "below", "calls"),
                     [((readable(row.low), readable(row.high + 1), row.calls), row.calls) for row in rows],
                     f"{self.count:,} calls, {marks}")  # fmt: skip

    def __repr__(self) -> str:
        return f"<Histogram count={self.count} average={self.average:.0f}ns max={self.max}ns>"


MARKS = ("average", "p50", "p90", "p99", "max")


def marks_of(histogram: Histogram) -> list[str]:
    """The numbers that `MARKS` names, as a person reads them."""
    percentiles = [histogram.percentile(percent) for percent in (50, 90, 99)]
    return [readable(number) for number in (histogram.average, *percentiles, histogram.max)]


def plain_rows(histogram: Histogram) -> list[dict[str, int]]:
    """The rows of a histogram of something else than calls, as JSON has them."""
    return [{"low": low, "high": high, "count": number} for low, high, number in histogram.rows()]


EMPTY = Histogram((0,) * BUCKETS, 0, 0)


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """Adds histograms up."""
    total = EMPTY
    for histogram in histograms:
        total = total + histogram
    return total
