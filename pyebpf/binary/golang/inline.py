# SPDX-License-Identifier: BSD-2-Clause
"""Which calls the Go compiler replaced by the function's body: probes can't see those.

Source: FUNCDATA_InlTree and PCDATA_InlTreeIndex in Go's src/internal/abi/symtab.go; ``inlinedCall`` in
src/runtime/symtabinl.go (Go 1.20 and later) and src/runtime/symtab.go (before).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

from ...errors import BinaryError
from ..elf import PT_LOAD
from .memory import Memory
from .pclntab import NO_DATA, FunctionRecord, PclnTable

_PCDATA_INL_TREE_INDEX = 2
_MAX_DEPTH = 64
_MAX_SITES = 1 << 20


class InlineTrees:
    """The inlined calls of a program.

    Args:
        gofunc: the address function data count from, 0 before Go 1.18.
    """

    __slots__ = ("_entry_size", "_gofunc", "_memory", "_name_at", "_owners", "_parent_at", "_table", "_which")

    def __init__(self, memory: Memory, table: PclnTable, gofunc: int) -> None:
        self._memory, self._table, self._gofunc = memory, table, gofunc
        if table.oldest_release >= (1, 20):  # funcID u8, 3 bytes, nameOff, parentPc, startLine
            self._entry_size, self._name_at, self._parent_at = 16, 4, 8
        else:  # parent i16, funcID u8, 1 byte, file, line, func_ (a name offset), parentPc
            self._entry_size, self._name_at, self._parent_at = 20, 12, 16
        self._which = 3 if table.oldest_release >= (1, 16) else 4  # FUNCDATA_InlTree
        self._owners: dict[int, list[int]] | None = None

    def _tree_of(self, record: FunctionRecord) -> int | None:
        """The address of a function's tree."""
        if len(record.funcdata) <= self._which or len(record.pcdata) <= _PCDATA_INL_TREE_INDEX:
            return None
        where = record.funcdata[self._which]
        if where == (NO_DATA if self._gofunc else 0) or not record.pcdata[_PCDATA_INL_TREE_INDEX]:
            return None
        return self._gofunc + where

    def _trees(self) -> dict[int, list[int]]:
        """Tree -> the functions that have it."""
        if self._owners is None:
            owners: dict[int, list[int]] = {}
            for index in range(self._table.count):
                tree = self._tree_of(self._table.record(index))
                if tree is not None:
                    owners.setdefault(tree, []).append(index)
            self._owners = owners
        return self._owners

    def callers(self, name_offset: int) -> set[int]:
        """The functions into which calls of the function named at ``name_offset`` were inlined.

        Raises:
            BinaryError: the function table lies.
        """
        owners = self._trees()
        if not owners:
            return set()
        starts = sorted(owners)
        lowest: dict[int, int] = {}  # tree -> the first of its entries with this name
        for vaddr in self._occurrences(name_offset, starts[0]):
            tree = starts[max(0, bisect_right(starts, vaddr) - 1)]
            number, rest = divmod(vaddr - tree - self._name_at, self._entry_size)
            if number >= 0 and not rest:
                lowest.setdefault(tree, number)
        entries = self._table.entries()
        found: set[int] = set()
        for tree, number in lowest.items():
            for index in owners[tree]:
                record = self._table.record(index)
                stream = record.pcdata[_PCDATA_INL_TREE_INDEX]
                # Only numbers that code refers to are in the tree; what lies behind is something else's data.
                if any(v >= number for _, _, v in self._table.values(stream, record.entry, entries[index + 1])):
                    found.add(index)
        return found

    def _occurrences(self, name_offset: int, lowest: int) -> Iterator[int]:
        """Addresses from ``lowest`` on where ``name_offset`` stands as an aligned 32-bit number."""
        elf = self._memory.elf
        wanted = struct.pack("<I", name_offset)
        budget = _MAX_SITES
        for segment in elf.segments:
            if segment.type != PT_LOAD or lowest >= segment.vaddr + segment.filesz:
                continue
            begin = segment.offset + max(0, lowest - segment.vaddr)
            end = segment.offset + segment.filesz
            position = elf.data.find(wanted, begin, end)
            while position >= 0 and budget:
                budget -= 1
                vaddr = position - segment.offset + segment.vaddr
                if vaddr % 4 == 0:
                    yield vaddr
                position = elf.data.find(wanted, position + 1, end)

    def frames(self, index: int, pc: int) -> list[str]:
        """The functions inlined at ``pc`` of function ``index``, innermost first, without that function itself.

        Raises:
            BinaryError: the tables lie.
        """
        record = self._table.record(index)
        tree = self._tree_of(record)
        names: list[str] = []
        while tree is not None and len(names) < _MAX_DEPTH:
            number = -1
            ranges = self._table.values(record.pcdata[_PCDATA_INL_TREE_INDEX], record.entry, pc + 1)
            for _, _, value in ranges:
                number = value
            if number < 0:
                break
            raw = self._memory.elf.read(tree + number * self._entry_size, self._entry_size)
            names.append(self._table.name_at(struct.unpack_from("<I", raw, self._name_at)[0]))
            pc = record.entry + struct.unpack_from("<I", raw, self._parent_at)[0]
            if pc >= self._table.entries()[index + 1]:
                raise BinaryError(f"{self._memory.elf.path}: an inlined call outside its caller")
        return names
