# SPDX-License-Identifier: BSD-2-Clause
"""Markdown of what was measured."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Optional


def heading(contestants: Sequence[str]) -> None:
    """When, where and who."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "?")
    print(f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
          f"Python {platform.python_version()} (of the benchmark).")  # fmt: skip
    print(f"Contestants: {', '.join(contestants)}. Load average at the beginning: {load()}.")


def load() -> str:
    """Of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratio(ours: Sequence[float], theirs: Optional[Sequence[float]]) -> str:
    """The median of the ratios of the rounds: the two of a round met the same load."""
    if theirs is None or ours is theirs or len(ours) != len(theirs):
        return "" if theirs is None or ours is not theirs else "1"
    return f"{statistics.median(a / b for a, b in zip(ours, theirs)):.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints it as Markdown."""
    print(f"\n| {' | '.join(header)} |")
    print("|" + "---|" * len(header))
    for row in rows:
        print(f"| {' | '.join(row)} |")
