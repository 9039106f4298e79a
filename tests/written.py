# SPDX-License-Identifier: BSD-2-Clause
"""Pages that a script writes from what it found: what it was found on, and tables."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """Its model; where the kernel doesn't say (arm64), the architecture."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory() -> int:
    """Bytes that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def made_on(*more: str) -> str:
    """Machine, kernel, versions and the date, in one line; `more` besides."""
    return "; ".join((
        f"{os.cpu_count()} CPUs ({processor()}), {memory() / 2**30:.1f} GB",
        f"Linux {platform.release()} {platform.machine()}",
        ", ".join((f"Python {platform.python_version()}", f"pyebpf {version('pyebpf-toolkit')}", *more)),
        f"{datetime.date.today():%Y-%m-%d}",
    ))  # fmt: skip


def versions(*tools: tuple[str, str]) -> Iterator[str]:
    """"gdb 13.1" for each ("gdb", "--version") that is here."""
    for tool, option in tools:
        if shutil.which(tool):
            said = subprocess.run([tool, option], capture_output=True, text=True, check=False).stdout.split("\n")[0]
            yield f"{tool} {said.split()[-1].lstrip('v') if said else '?'}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, align: bool = False) -> Iterator[str]:
    """Lines of Markdown. A column whose name ends in ":" has numbers.

    Args:
        align: readable on a terminal too.
    """
    lines = [[name.rstrip(":") for name in columns], *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(map(len, column)) if align else 0 for column in zip(*lines)]
    marks = ["--:" if name.endswith(":") else "---" for name in columns]
    yield f"| {' | '.join(map(str.ljust, lines[0], widths))} |"
    yield f"|{'|'.join(mark.rjust(width + 2, '-') for mark, width in zip(marks, widths))}|"
    for line in lines[1:]:
        yield f"| {' | '.join(map(str.ljust, line, widths))} |"
