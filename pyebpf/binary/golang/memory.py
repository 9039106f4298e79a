# SPDX-License-Identifier: BSD-2-Clause
"""A Go program's data as the dynamic loader lays it out: pointers are right in position-independent files too."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ...errors import BinaryError
from ..elf import PF_W, PT_DYNAMIC, PT_LOAD, SHT_NOBITS, Elf

# <elf.h>: dynamic tags, and the relocation "base address + addend" of x86-64 and arm64.
_DT_NULL, _DT_RELA, _DT_RELASZ = 0, 7, 8
_R_RELATIVE = {"x86-64": 8, "arm64": 1027}
_RELA_SIZE = 24
_MAX_DYNAMIC = 1024
_MAX_TEXT = 1 << 12
_MAX_CANDIDATES = 1024

# Where the linkers put Go's module data, likeliest first.
_DATA_SECTIONS = (".go.module", ".noptrdata", ".data", ".data.rel.ro", ".data.rel.ro.local")


class Memory:
    """Reads words and strings at virtual addresses, relocations of position-independent programs applied."""

    __slots__ = ("_rela", "elf")

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        self._rela = self._find_rela()

    def _find_rela(self) -> bytes:
        """The table of relocations with addends (DT_RELA); b"" when there is none."""
        tags: dict[int, int] = {}
        for segment in self.elf.segments:
            if segment.type != PT_DYNAMIC:
                continue
            size = min(segment.filesz, _MAX_DYNAMIC * 16) & ~15
            for tag, value in struct.iter_unpack("<QQ", self.elf.read(segment.vaddr, size)):
                if tag == _DT_NULL:
                    break
                tags[tag] = value
        if not tags.get(_DT_RELA) or not tags.get(_DT_RELASZ):
            return b""
        return self.elf.read(tags[_DT_RELA], tags[_DT_RELASZ])

    def _find_rela_entry(self, field: bytes, at: int) -> Iterator[int]:
        """Positions of the relocations that have the bytes ``field`` at their byte ``at``."""
        table, position = self._rela, -1
        while True:
            position = table.find(field, position + 1)
            if position < 0:
                return
            start = position - at
            if start >= 0 and start % _RELA_SIZE == 0 and start + _RELA_SIZE <= len(table):
                yield start

    def word(self, vaddr: int) -> int:
        """The 64-bit word at ``vaddr``. Raises BinaryError when the file has none there."""
        if self._rela:
            field = struct.pack("<QQ", vaddr, _R_RELATIVE[self.elf.machine])
            for start in self._find_rela_entry(field, 0):
                return int.from_bytes(self._rela[start + 16 : start + 24], "little")
        return int.from_bytes(self.elf.read(vaddr, 8), "little")

    def relocated(self, start: int, end: int) -> dict[int, int]:
        """The words in [start, end) that relocations set: address -> value."""
        relative = _R_RELATIVE[self.elf.machine]
        whole = len(self._rela) - len(self._rela) % _RELA_SIZE
        return {
            where: addend
            for where, kind, addend in struct.iter_unpack("<QQQ", self._rela[:whole])
            if start <= where < end and kind == relative
        }

    def string(self, vaddr: int) -> str:
        """The Go string (pointer, length) at ``vaddr``; of at most 4 KiB."""
        pointer, length = self.word(vaddr), self.word(vaddr + 8)
        if length > _MAX_TEXT:
            raise BinaryError(f"{self.elf.path}: a string of {length} bytes where a short one is expected")
        return self.elf.read(pointer, length).decode("utf-8", "backslashreplace")

    def find_words(self, first: int, second: int) -> Iterator[int]:
        """Addresses of aligned data where the words ``first`` and ``second`` stand side by side."""
        if first <= 0:
            return
        for start, _ in zip(self._find_rela_entry(struct.pack("<Q", first), 16), range(_MAX_CANDIDATES)):
            vaddr = int.from_bytes(self._rela[start : start + 8], "little")
            if vaddr % 8 == 0 and self.word(vaddr + 8) == second:
                yield vaddr
        data, wanted = self.elf.data, struct.pack("<QQ", first, second)
        for begin, end in self._data_ranges():
            position = data.find(wanted, begin, end)
            while position >= 0:
                found = self.elf.vaddr_of(position)
                if found is not None and found % 8 == 0:
                    yield found
                position = data.find(wanted, position + 1, end)

    def _data_ranges(self) -> Iterator[tuple[int, int]]:
        """File ranges to search, the small and likely ones first."""
        for name in _DATA_SECTIONS:
            section = self.elf.section(name)
            if section is not None and section.type != SHT_NOBITS:
                yield section.offset, section.offset + section.size
        loads = [segment for segment in self.elf.segments if segment.type == PT_LOAD]
        for segment in sorted(loads, key=lambda load: not load.flags & PF_W):
            yield segment.offset, segment.offset + segment.filesz
