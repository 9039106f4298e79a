# SPDX-License-Identifier: BSD-2-Clause
"""funclatency: how long calls take, as histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyebpf.core.object import Object
from pyebpf.target.command import Command
from pyebpf.target.probe import Resolution
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.histogram import BUCKETS, EMPTY, MARKS, Histogram, marks_of, merge
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.probes import Probes
from pyebpf.tools.session import IntervalSession, TracedFunction, resolve_for
from pyebpf.tools.stripes import Stripes

_TOTAL, _MAX, _BUCKETS = 0, 1, 2  # words of struct latency, bpf/funclatency.h


class Histograms(dict[TracedFunction, Histogram]):
    """Histograms by function; functions that did not return are left out.

    A name as key adds up the functions of that name.

    Args:
        traced: all functions that are traced.
    """

    def __init__(self, traced: Sequence[TracedFunction] = ()) -> None:
        super().__init__()
        self._traced = traced

    def __getitem__(self, key: TracedFunction | str) -> Histogram:
        """The histogram of a function, or of all functions of a name; an empty one if it did not return.

        Raises:
            KeyError: it isn't traced.
        """
        if isinstance(key, str):
            named = [histogram for function, histogram in self.items() if function.name == key]
            return merge(named) if named else self.__missing__(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or any(function.name == key for function in self)

    def get(self, key: TracedFunction | str, default: Any = None) -> Any:
        """As ``[]``; the default for what did not return."""
        return self[key] if key in self else default  # noqa: SIM401

    def __missing__(self, key: TracedFunction | str) -> Histogram:
        if any(key in (function, function.name) for function in self._traced):
            return EMPTY
        raise KeyError(key)

    def total(self) -> Histogram:
        """All functions together."""
        return merge(self.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        found = [{"function": one.name, "path": one.path, **histogram.as_dict()} for one, histogram in self.items()]
        return {"histograms": found}

    def _repr_html_(self) -> str:
        from pyebpf.tools.html import table

        rows = []
        for function, one in sorted(self.items(), key=lambda item: -item[1].total):
            cells: list[str | int] = [function.label, one.count, *marks_of(one)]
            rows.append((cells, one.total))
        return table(("function", "calls", *MARKS), rows, "Bars show the time that calls took together.")


class LatencySession(IntervalSession[Histograms]):
    """Times calls while it is open. Histograms live in the kernel and are never reset, so no call is lost."""

    def __init__(self, resolution: Resolution, pids: Sequence[int]) -> None:
        probes = Probes("funclatency", resolution, self._configure, pids=pids, returns=True)
        super().__init__(resolution, probes)
        self._before: dict[int, tuple[int, list[int]]] = {}

    def _configure(self, obj: Object, functions: int) -> None:
        self._stripes = Stripes(obj, obj.maps["latencies"], functions)

    def _row(self, words: memoryview, row: int, reset_max: bool) -> tuple[int, int, list[int]] | None:
        """Total, maximum and buckets of a function; None if it never returned."""
        total, longest, buckets = 0, 0, None
        for at in self._stripes.positions(row):
            if not words[at + _TOTAL] and not words[at + _MAX] and not words[at + _BUCKETS]:
                continue
            total += words[at + _TOTAL]
            longest = max(longest, words[at + _MAX])
            part = words[at + _BUCKETS : at + _BUCKETS + BUCKETS].tolist()
            buckets = part if buckets is None else [a + b for a, b in zip(buckets, part)]
            if reset_max:
                words[at + _MAX] = 0
        return None if buckets is None else (total, longest, buckets)

    @while_open
    def snapshot(self) -> Histograms:
        """Calls that returned since the session began."""
        words = self._stripes.words()
        result = Histograms(self.functions)
        for index, function in enumerate(self._by_index):
            row = self._row(words, index, reset_max=False)
            if row is not None:
                result[function] = Histogram(row[2], row[0], row[1])
        return result

    @while_open
    def interval(self) -> Histograms:
        """Calls that returned since the last call of this method (or since the session began).

        The maximum is the interval's own; after the first call `snapshot`'s is since the last interval.
        """
        words = self._stripes.words()
        result = Histograms(self.functions)
        for index, function in enumerate(self._by_index):
            row = self._row(words, index, reset_max=True)
            if row is None:
                continue
            total, longest, buckets = row
            total_before, buckets_before = self._before.get(index, (0, [0] * BUCKETS))
            self._before[index] = total, buckets
            now = Histogram([a - b for a, b in zip(buckets, buckets_before)], total - total_before, longest)
            if now.count or now.total:  # a call being recorded just now may have its time in one interval, its count
                result[function] = now  # in the next; nothing is lost in the sum
        return result


def latency(
    *targets: str,
    pid: int | Sequence[int] | None = None,
    command: Command | None = None,
    regex: bool = False,
    max_probes: int = DEFAULT_MAX_PROBES,
    allow_uretprobe: bool = False,
) -> LatencySession:
    """Measures how long calls take, from entry to return.

    Args:
        targets, pid, command, regex, max_probes: as for `count`.
        allow_uretprobe: use the kernel's return probe for native code: cheaper, but an exception that passes through
            ends the traced program, and returns from more than 64 nested calls are missed. Never applies to Go.

    Raises:
        Error: as `count`.
    """
    resolution, pids = resolve_for(
        targets, pid, command, regex=regex, returns=True, max_probes=max_probes, allow_uretprobe=allow_uretprobe
    )
    return LatencySession(resolution, pids)
