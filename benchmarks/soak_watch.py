# SPDX-License-Identifier: BSD-2-Clause
"""Whether a process's memory, descriptors and threads stay what they are: sampling, and the rule that judges."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Of the time is not judged, and at least so many seconds, but half of it: pages are touched, tables and caches fill
SETTLING, LEAST_SETTLING = 0.1, 20.0


class Sample(NamedTuple):
    """A process at a moment.

    Attributes:
        at: seconds of CLOCK_MONOTONIC.
        rss, pss, private: KiB of its memory: resident; its part of what is shared; what nobody else has.
        maps: KiB of kernel memory that its eBPF maps take (memlock of their fdinfo).
        descriptors, threads: how many.
        cpu: seconds so far, also its ended children's.
    """

    at: float
    rss: int
    pss: int
    private: int
    maps: int
    descriptors: int
    threads: int
    cpu: float


class Verdict(NamedTuple):
    """Of one quantity.

    Attributes:
        first, last: the medians of the first and the last quarter of what is judged.
        growth: what the regression line rises by from the beginning to the end.
        flat: whether neither `growth` nor the difference of the quarters is more than `bound`.
    """

    first: float
    last: float
    growth: float
    bound: float
    flat: bool


class Watched:
    """A process, looked at from outside.

    Attributes:
        samples: so far.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples: list[Sample] = []

    def sample(self) -> None:
        """Takes one. Raises OSError if the process is gone."""
        folder = Path(f"/proc/{self.pid}")
        status = _fields(folder / "status")
        memory = _fields(folder / "smaps_rollup")
        stat = (folder / "stat").read_text().rpartition(")")[2].split()
        self.samples.append(Sample(
            time.monotonic(), memory["Rss"], memory["Pss"], memory["Private_Clean"] + memory["Private_Dirty"],
            self._maps() // 1024, len(os.listdir(folder / "fd")), status["Threads"],
            sum(int(stat[at]) for at in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK"),
        ))  # fmt: skip

    def _maps(self) -> int:
        """Bytes. A map that two descriptors are of counts once."""
        sizes: dict[str, int] = {}
        for info in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            try:
                text = info.read_text()
            except OSError:  # closed since
                continue
            if found := re.search(r"^memlock:\s*(\d+)\nmap_id:\s*(\d+)", text, re.MULTILINE):
                sizes[found[2]] = int(found[1])
        return sum(sizes.values())

    def judged(self) -> dict[str, Verdict]:
        """Memory may grow by a MiB or a twentieth, that of maps by 256 KiB, descriptors and threads not at all."""
        first, last = self.samples[0].at, self.samples[-1].at
        settled = first + min(max((last - first) * SETTLING, LEAST_SETTLING), (last - first) / 2)
        used = [sample for sample in self.samples if sample.at >= settled]
        at = [sample.at for sample in used]
        columns = {name: [float(getattr(sample, name)) for sample in used] for name in Sample._fields}
        found = {}
        for name, least, share in (
            ("rss", 1024, 0.05), ("pss", 1024, 0.05), ("private", 1024, 0.05), ("maps", 256, 0.0),
            ("descriptors", 0.5, 0.0), ("threads", 0.5, 0.0),
        ):  # fmt: skip
            found[name] = verdict(at, columns[name], least, share)
        return found

    def cpu(self) -> float:
        """The share of a CPU it took."""
        first, last = self.samples[0], self.samples[-1]
        return (last.cpu - first.cpu) / max(last.at - first.at, 1e-9)


def verdict(at: Sequence[float], values: Sequence[float], least: float, share: float) -> Verdict:
    """Judges one quantity, of which `least` or this share of the first quarter's median may be added."""
    quarter = max(1, len(values) // 4)
    first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    middle, level = statistics.fmean(at), statistics.fmean(values)
    spread = sum((x - middle) ** 2 for x in at)
    slope = sum((x - middle) * (y - level) for x, y in zip(at, values)) / spread if spread else 0.0
    growth = slope * (at[-1] - at[0])
    bound = max(least, share * first)
    return Verdict(first, last, growth, bound, last - first <= bound and growth <= bound)


def kernel_memory() -> dict[str, int]:
    """KiB that the whole kernel takes, whoever for: slabs, what can't be given back of them, per CPU, vmalloc."""
    fields = _fields(Path("/proc/meminfo"))
    return {name: fields[name] for name in ("Slab", "SUnreclaim", "Percpu", "VmallocUsed") if name in fields}


def _fields(path: Path) -> dict[str, int]:
    """Of a file of lines "Name: 123 kB"; those that aren't numbers are left out."""
    found = re.findall(r"^(\w+):\s+(\d+)(?: kB)?$", path.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}
