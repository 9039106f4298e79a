# SPDX-License-Identifier: BSD-2-Clause
"""A latency histogram as bcc draws it."""

from __future__ import annotations

from collections.abc import Sequence

from pyebpf.tools.histogram import Histogram, Row

_STARS = 40
UNITS = {1: "nsecs", 1000: "usecs", 1_000_000: "msecs"}


def lines(histogram: Histogram, unit: int = 1) -> list[str]:
    """The rows of a log2 histogram, with a header. Rows are drawn up to the last that isn't empty.

    Args:
        unit: ns a unit; a key of `UNITS`.
    """
    return bars(histogram.rows(unit), UNITS[unit])


def bars(rows: Sequence[Row], label: str) -> list[str]:
    """Rows as bars below a header.

    Args:
        label: what is counted.
    """
    wide = any(not -(1 << 31) < bound < 1 << 32 for row in rows for bound in (row.low, row.high))
    number, stars = (20, _STARS // 2) if wide else (10, _STARS)
    # bcc's widths: the label's column is that of "LOW -> HIGH".
    result = [f"     {label:<{2 * number - 1}} : count     distribution"]
    most = max((row.calls for row in rows), default=0)
    for row in rows:
        bar = "*" * (row.calls * stars // most if most else 0)
        result.append(f"{row.low:>{number}} -> {row.high:<{number}} : {row.calls:<8} |{bar:<{stars}}|")
    return result


def summary(histogram: Histogram, unit: int = 1) -> list[str]:
    """bcc's line of average, total and count, and below it percentiles and the maximum."""
    name = UNITS[unit]
    average, total = int(histogram.average) // unit, histogram.total // unit
    return [
        f"avg = {average} {name}, total: {total} {name}, count: {histogram.count}",
        f"{percentiles(histogram, unit, name)}, max = {_scaled(histogram.max, unit)} {name}",
    ]


def percentiles(histogram: Histogram, unit: int, name: str) -> str:
    """A line of percentiles.

    Args:
        unit: what the histogram's values are divided by.
        name: of the unit.
    """
    return ", ".join(f"p{which} = {_scaled(histogram.percentile(which), unit)} {name}" for which in (50, 90, 99))


def _scaled(number: float, unit: int) -> str:
    value = number / unit
    return f"{value:.1f}" if unit > 1 and value < 100 else f"{value:.0f}"
