# SPDX-License-Identifier: BSD-2-Clause
"""Frames of a live view: lines for a window of so many columns and rows. Their third line is the heading."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyebpf.output.text import FOLDERS, safe
from pyebpf.tools.histogram import EMPTY, Histogram, bucket_bounds, readable

if TYPE_CHECKING:
    from pyebpf.tools.session import TracedFunction
    from pyebpf.tools.tcp.tcptop import Traffic

# What stands for what an encoding hasn't.
ASCII = {ord(a): b for a, b in (("▁", "."), ("▂", "."), ("▃", ":"), ("▄", "-"), ("▅", "="), ("▆", "+"), ("▇", "*"),
                                ("█", "#"), ("▏", "."), ("▎", "."), ("▍", "."), ("▌", "-"),
                                ("▋", "-"), ("▊", "="), ("▉", "="), ("µ", "u"), ("…", "~"), ("·", "-"))}  # fmt: skip
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = " ▁▂▃▄▅▆▇█"


def cells(text: str) -> int:
    """How many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def fitted(text: str, columns: int) -> str:
    """A name in so many columns: what is too long is cut in its middle, what is short is padded."""
    if len(text) > columns:
        text = re.sub(FOLDERS, "", text)
    if len(text) > columns:
        half = (columns - 1) // 3
        text = f"{text[:half]}…{text[len(text) - (columns - 1 - half) :]}"
    text = _cut(text, columns)
    return text + " " * (columns - cells(text))


def _cut(text: str, columns: int) -> str:
    text = text[: 2 * columns]  # with marks that take no column
    while cells(text) > columns:
        text = text[:-1]
    return text


def counts(
    size: tuple[int, int],
    title: str,
    now: Mapping[TracedFunction, int],
    total: Mapping[TracedFunction, int],
    seconds: float,
    foot: str,
) -> list[str]:
    """Calls by function, most first.

    Args:
        size: columns and rows of the window.
        title: what is traced; its end, the time, stays visible.
        now: calls in the last interval.
        total: since the beginning.
        seconds: how long the interval was.
        foot: losses.
    """
    columns, rows = size
    bar = max(min(columns // 5, 30), 4)
    name = max(columns - bar - 28, 8)
    ranked = sorted(total.items(), key=lambda item: (-now.get(item[0], 0), -item[1], item[0].label))
    most = max(now.values(), default=0)
    lines = []
    for function, calls in ranked[: max(rows, 1)]:
        recent = now.get(function, 0)
        lines.append(f"{fitted(safe(function.label), name)} {_rate(recent / seconds):>12} {calls:>13,} "
                     + _bar(recent * bar * 8 // most if most else 0))  # fmt: skip
    heading = f"{'FUNC':<{name}} {'CALLS/S':>12} {'TOTAL':>13}"
    summed = f"{_rate(sum(now.values()) / seconds)} calls/s · {sum(total.values()):,} calls"
    return _frame(size, title, heading, lines, len(ranked), f"{_counted(len(ranked), 'function')} · {summed}", foot)


def latencies(
    size: tuple[int, int],
    title: str,
    now: Mapping[TracedFunction, Histogram],
    total: Mapping[TracedFunction, Histogram],
    seconds: float,
    foot: str,
) -> list[str]:
    """Rates, percentiles and a sketch of the distribution by function, those that take most time first.

    Args:
        as for `counts`, with histograms.
    """
    columns, rows = size
    sketch = max(min(columns // 5, 32) - 2, 4)
    name = max(columns - sketch - 42, 8)
    ranked = sorted(total, key=lambda one: (-now.get(one, EMPTY).total, -total[one].total, one.label))
    shown = [(function, now.get(function, EMPTY)) for function in ranked[: max(rows, 1)]]
    used = [index for _, one in shown for index, calls in enumerate(one.buckets) if calls]
    low, group = min(used, default=0), 1
    while max(used, default=0) // group - low // group >= sketch:
        group += 1
    first = low // group
    lines = []
    for function, one in shown:
        marks = [one.percentile(50), one.percentile(90), one.percentile(99), float(one.max)]
        times = " ".join(f"{readable(mark) if one.count else '-':>7}" for mark in marks)
        lines.append(f"{fitted(safe(function.label), name)} {_rate(one.count / seconds):>8} {times} "
                     + _sketch(one, first, group, sketch))  # fmt: skip
    axis = ""
    if used:
        begin, end = bucket_bounds(first * group)[0], bucket_bounds((first + sketch) * group - 1)[1]
        axis = f"{readable(begin).replace(' ', '')} {readable(end).replace(' ', ''):>{max(sketch - 7, 1)}}"
    heading = f"{'FUNC':<{name}} {'CALLS/S':>8} {'P50':>7} {'P90':>7} {'P99':>7} {'MAX':>7} {axis}"
    calls = sum(one.count for one in now.values())
    summed = f"{_rate(calls / seconds)} calls/s · {sum(one.count for one in total.values()):,} calls"
    return _frame(size, title, heading, lines, len(ranked), f"{_counted(len(ranked), 'function')} · {summed}", foot)


def traffic(size: tuple[int, int], title: str, now: Sequence[Traffic], seconds: float, foot: str) -> list[str]:
    """Connections, those that carried most first.

    Args:
        size, title, seconds, foot: as for `counts`.
        now: what was carried in the last interval, most first.
    """
    columns, rows = size
    address = max((columns - 37) // 2, 12)
    lines = [
        f"{one.pid:<7} {fitted(safe(one.comm), 12)} {_address(one.laddr, one.lport, address)} "
        f"{_address(one.raddr, one.rport, address)} {one.rx_bytes // 1024:>6} {one.tx_bytes // 1024:>6}"
        for one in now[: max(rows, 1)]
    ]
    heading = f"{'PID':<7} {'COMM':<12} {'LADDR':<{address}} {'RADDR':<{address}} {'RX_KB':>6} {'TX_KB':>6}"
    received, sent = sum(one.rx_bytes for one in now), sum(one.tx_bytes for one in now)
    summed = f"received {received / seconds / 1024:,.0f} KB/s · sent {sent / seconds / 1024:,.0f} KB/s"
    return _frame(size, title, heading, lines, len(now), f"{_counted(len(now), 'connection')} · {summed}", foot)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _frame(
    size: tuple[int, int], title: str, heading: str, lines: Sequence[str], of: int, summed: str, foot: str
) -> list[str]:
    columns, rows = size
    room = max(rows - 7, 1)  # one stays for what comes behind the last frame
    if of > room:
        summed = f"{room} of {summed}"
    frame = [fitted(title, columns), "", heading, *lines[:room], "", summed, foot]
    return [_cut(line, columns).rstrip() for line in frame]


def _bar(eighths: int) -> str:
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8 : eighths % 8 + 1].strip()


def _rate(value: float) -> str:
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"


def _sketch(histogram: Histogram, first: int, group: int, columns: int) -> str:
    """The shape of a distribution, by square roots so that the rare shows."""
    sums = [sum(histogram.buckets[(first + at) * group : (first + at + 1) * group]) for at in range(columns)]
    most = max(sums) or 1
    return "".join([_LEVELS[math.ceil(8 * math.sqrt(calls / most))] for calls in sums])


def _address(address: str, port: int, columns: int) -> str:
    room = columns - len(f":{port}")
    return fitted(f"{address if len(address) <= room else fitted(address, room)}:{port}", columns)
