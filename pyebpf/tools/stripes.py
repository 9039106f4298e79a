# SPDX-License-Identifier: BSD-2-Clause
"""Rows of an mmapable array, repeated so that CPUs don't share cache lines."""

from __future__ import annotations

from pyebpf.core.map import Map, possible_cpus
from pyebpf.core.object import Object

_CACHE_LINE = 64


class Stripes:
    """The cells of one map: `rows` values, once for each stripe. CPU n of the kernel side uses stripe n & mask.

    Sets the constants ``stripe_mask`` and ``stripe_length`` and the map's size, so it is made before the object loads.

    Args:
        rows: how many values a stripe has.
        budget: bytes of kernel memory to stay within; at least one stripe there is.
    """

    def __init__(self, obj: Object, cells: Map, rows: int, budget: int = 4 << 20) -> None:
        assert cells.value is not None and obj.rodata is not None
        self._map = cells
        self._words = cells.value.size // 8
        line_rows = max(1, _CACHE_LINE // cells.value.size)
        self.rows = rows
        self._length = -(-rows // line_rows) * line_rows
        self._count = 1
        while self._count < possible_cpus() and self._count * 2 * self._length * cells.value.size <= budget:
            self._count *= 2
        obj.rodata["stripe_mask"] = self._count - 1
        obj.rodata["stripe_length"] = self._length
        cells.max_entries = self._count * self._length

    def words(self) -> memoryview:
        """The live memory as 64-bit words."""
        return memoryview(self._map.memory()).cast("Q")

    def positions(self, row: int) -> list[int]:
        """Where a row's copies begin in `words`."""
        return [(stripe * self._length + row) * self._words for stripe in range(self._count)]

    def column(self, words: memoryview) -> list[int]:
        """Sums of a map whose rows are single words: one total a row."""
        columns = [words[s * self._length : s * self._length + self.rows].tolist() for s in range(self._count)]
        return columns[0] if len(columns) == 1 else [sum(cells) for cells in zip(*columns)]
