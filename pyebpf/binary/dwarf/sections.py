# SPDX-License-Identifier: BSD-2-Clause
"""The sections that hold debug information, mapped or unpacked when they are first asked for."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from ...errors import BinaryError
from ..elf import SHF_COMPRESSED, SHT_NOBITS, Elf, most_unpacked

_CHUNK = 4 << 20
_MAX_TEXT = 1 << 12
_MAX_LEB = 19  # bytes: 128 bits and a little padding


class Section:
    """A section's bytes: those of ``data`` from ``start`` up to ``end``. Positions are indexes of ``data``.

    A position, unlike an offset, needs no addition when it is used; the file is never copied, whatever its size.
    """

    __slots__ = ("data", "end", "name", "start")

    def __init__(self, name: str, data: mmap.mmap | bytes, start: int, end: int) -> None:
        self.name, self.data, self.start, self.end = name, data, start, end

    def at(self, offset: int, size: int = 1) -> int:
        """The position of ``offset``, which ``size`` bytes must follow.

        Raises:
            BinaryError: they don't.
        """
        position = self.start + offset
        if offset < 0 or position + size > self.end:
            raise BinaryError(f"the debug information refers to {offset:#x} in {self.name}, which is shorter")
        return position

    def number(self, position: int, size: int) -> int:
        """The unsigned number of ``size`` bytes at ``position``."""
        if position < self.start or position + size > self.end:
            raise BinaryError(f"the debug information runs past the end of {self.name}")
        return int.from_bytes(self.data[position : position + size], "little")

    def text(self, position: int) -> str:
        """The NUL-terminated text at ``position``, cut after 4 KiB."""
        limit = min(self.end, position + _MAX_TEXT)
        end = self.data.find(b"\0", position, limit)
        return self.data[position : end if end >= 0 else limit].decode("utf-8", "backslashreplace")

    def find(self, pattern: bytes, start: int, end: int) -> Iterator[int]:
        """The positions of ``pattern`` in [start, end)."""
        data = self.data
        # mmap's own find compares byte by byte before Python 3.13; bytes' is many times as fast.
        step = _CHUNK if isinstance(data, mmap.mmap) else max(end - start, 1)
        for base in range(start, end, step):
            chunk = data if step != _CHUNK else data[base : min(base + step + len(pattern) - 1, end)]
            shift = base if chunk is not data else 0
            index = chunk.find(pattern, base - shift, min(base + step + len(pattern) - 1, end) - shift)
            while index >= 0:
                yield index + shift
                index = chunk.find(pattern, index + 1, min(base + step + len(pattern) - 1, end) - shift)

    def uleb(self, position: int) -> tuple[int, int]:
        """The unsigned LEB128 number at ``position`` (7.6), and the position after it."""
        data = self.data
        value = data[position]
        if value < 0x80:
            return value, position + 1
        value &= 0x7F
        for shift in range(7, 7 * _MAX_LEB, 7):
            position += 1
            byte = data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position + 1
        raise BinaryError(f"a number in {self.name} is too long")

    def sleb(self, position: int) -> tuple[int, int]:
        """The signed LEB128 number at ``position``, and the position after it."""
        value, end = self.uleb(position)
        bits = 7 * (end - position)
        return (value - (1 << bits) if value >> (bits - 1) else value), end


class Sections:
    """The debug sections of one file, by their name without the dot: ``sections["debug_info"]``."""

    __slots__ = ("_found", "elf")

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        self._found: dict[str, Section] = {}

    def __getitem__(self, name: str) -> Section:
        """The section of that name; an empty one if there is none.

        Raises:
            BinaryError: it is damaged, or packed in a way this Python can't unpack.
        """
        section = self._found.get(name)
        if section is None:
            section = self._found[name] = self._load(name)
        return section

    def _header(self, name: str) -> str | None:
        for spelling in (f".{name}", f".z{name}"):
            header = self.elf.section(spelling)
            if header is not None and header.type != SHT_NOBITS and header.size:
                return spelling
        return None

    def _load(self, name: str) -> Section:
        spelling = self._header(name)
        header = self.elf.section(spelling) if spelling else None
        if spelling is None or header is None:
            return Section(f".{name}", b"", 0, 0)
        if spelling.startswith(".z"):
            data = self._inflate(spelling, bytes(self.elf.contents(header)))
        elif header.flags & SHF_COMPRESSED:
            data = bytes(self.elf.contents(header))
        elif header.offset + header.size > self.elf.size:
            raise BinaryError(f"{self.elf.path}: truncated: section {spelling} lies past the end of the file")
        else:
            return Section(spelling, self.elf.data, header.offset, header.offset + header.size)
        return Section(spelling, data, 0, len(data))

    def _inflate(self, name: str, raw: bytes) -> bytes:
        """Unpack what GNU tools packed before ELF had a way: "ZLIB", the size as 8 bytes big-endian, the data."""
        import zlib

        where = f"{self.elf.path}: compressed section {name}"
        size = int.from_bytes(raw[4:12], "big")
        most = most_unpacked(len(raw))
        if raw[:4] != b"ZLIB" or not 0 < size <= most:
            raise BinaryError(f"{where} has an unknown header, or claims more than {most} bytes")
        try:
            data = zlib.decompressobj().decompress(raw[12:], size)
        except zlib.error as error:
            raise BinaryError(f"{where}: {error}") from None
        if len(data) != size:
            raise BinaryError(f"{where} holds {len(data)} bytes instead of {size}")
        return data
