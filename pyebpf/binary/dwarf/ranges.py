# SPDX-License-Identifier: BSD-2-Clause
"""Which unit describes the code at an address: range lists (2.17.3, 7.25, 7.28) and .debug_aranges (6.1.2)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

from ...errors import BinaryError
from . import constants as c
from .unit import Entry, Info, Unit

_MAX_RANGES = 1 << 18  # of one entry
_MAX_INDEX = 1 << 21
_LOOK_BACK = 16

# Kinds of entries in a range list (table 7.30).
_END, _BASE_X, _STARTX_ENDX, _STARTX_LENGTH, _OFFSET_PAIR, _BASE, _START_END, _START_LENGTH = range(8)

ADDRESSES = (1 << 64) - 1
_PAIR = struct.Struct("<QQ")


def ranges_of(entry: Entry) -> Iterator[tuple[int, int]]:
    """The [start, end) of code that ``entry`` is about; a function begins where the first does."""
    value = entry.values.get(c.AT_RANGES)
    low = entry.address(c.AT_LOW_PC)
    if value is not None and isinstance(value[1], int):
        yield from _list(entry.unit, value[0], value[1])
    elif low is not None:
        high = entry.values.get(c.AT_HIGH_PC)
        end = None
        if high is not None and isinstance(high[1], int):
            end = entry.address(c.AT_HIGH_PC)
            end = low + high[1] if end is None else end
        yield low, max(end or 0, low)


def _list(unit: Unit, form: int, where: int) -> Iterator[tuple[int, int]]:
    base = unit.top.address(c.AT_LOW_PC) or 0
    if unit.version < 5:
        section = unit.info.sections["debug_ranges"]
        at = section.at(where)
        for _ in range(_MAX_RANGES):
            unit.info.visit(1)
            start, end = section.number(at, 8), section.number(at + 8, 8)
            at += 16
            if start == ADDRESSES:
                base = end
            elif start or end:
                if start < end:
                    yield base + start & ADDRESSES, base + end & ADDRESSES
            else:
                return
        raise BinaryError("a range list of the debug information has no end")
    section = unit.info.sections["debug_rnglists"]
    if form == c.FORM_RNGLISTX:
        first = unit.base(c.AT_RNGLISTS_BASE)
        slot = section.at(first + where * unit.offset_size, unit.offset_size)
        where = first + section.number(slot, unit.offset_size)
    at = section.at(where)
    for _ in range(_MAX_RANGES):
        unit.info.visit(1)
        kind = section.number(at, 1)
        at += 1
        if kind == _END:
            return
        if kind == _BASE:
            base, at = section.number(at, 8), at + 8
            continue
        if kind == _START_END:
            start, end, at = section.number(at, 8), section.number(at + 8, 8), at + 16
        elif kind == _START_LENGTH:
            start, at = section.number(at, 8), at + 8
            size, at = section.uleb(at)
            end = start + size
        else:
            first, at = section.uleb(at)
            if kind == _BASE_X:
                base = unit.indexed_address(first)
                continue
            second, at = section.uleb(at)
            if kind == _OFFSET_PAIR:
                # Go's linker has offsets that are meant to wrap around: parts of a package lie below its base.
                start, end = base + first & ADDRESSES, base + second & ADDRESSES
            elif kind == _STARTX_ENDX:
                start, end = unit.indexed_address(first), unit.indexed_address(second)
            elif kind == _STARTX_LENGTH:
                start = unit.indexed_address(first)
                end = start + second
            else:
                raise BinaryError(f"a range list of the debug information has an entry of unknown kind {kind}")
        if start < end:
            yield start, end
    raise BinaryError("a range list of the debug information has no end")


class Ranges:
    """The units of one file by the code they describe."""

    __slots__ = ("_info", "_listed", "_rest")

    def __init__(self, info: Info) -> None:
        self._info = info
        self._listed: tuple[list[tuple[int, int, int]], set[int]] | None = None
        self._rest: list[tuple[int, int, int]] | None = None

    def units(self, address: int) -> Iterator[Unit]:
        """The units that describe the code at ``address``: one, in most files."""
        # GCC lists what each unit covers in one table, which can be had at once; clang, rustc and Go don't.
        if self._listed is None:
            self._listed = self._read_aranges()
        found = False
        for unit in self._search(self._listed[0], address):
            found = True
            yield unit
        if not found:
            if self._rest is None:
                self._rest = self._read_units(self._listed[1])
            yield from self._search(self._rest, address)

    def _search(self, index: list[tuple[int, int, int]], address: int) -> Iterator[Unit]:
        last = bisect_right(index, (address, 1 << 65, 0)) - 1
        for start, end, position in index[max(last - _LOOK_BACK, 0) : last + 1][::-1]:
            if start <= address < end:
                yield self._info.unit_at(position)

    def _read_aranges(self) -> tuple[list[tuple[int, int, int]], set[int]]:
        """What .debug_aranges lists: start, end, position in .debug_info; and the positions of the units it is about.

        A table that can't be used is passed over: nothing needs it.
        """
        index: list[tuple[int, int, int]] = []
        listed: set[int] = set()
        try:
            section = self._info.sections["debug_aranges"]
            origin = self._info.sections["debug_info"].start
            units = {unit.position: unit.first for unit in self._info.units()}
            at = section.start
            while at + 12 < section.end and len(index) < _MAX_INDEX:
                size, start, width = section.number(at, 4), at + 4, 4
                if size == 0xFFFFFFFF:
                    size, start, width = section.number(at + 4, 8), at + 12, 8
                end = start + size
                version, offset = section.number(start, 2), section.number(start + 2, width)
                address_size, segment_size = section.number(start + 2 + width, 1), section.number(start + 3 + width, 1)
                first = at + (start + 4 + width - at + 15 & ~15)  # the tuples are aligned to their size
                unit = units.get(origin + offset)
                if end > section.end or first > end:
                    break
                if version == 2 and address_size == 8 and not segment_size and unit is not None:
                    listed.add(origin + offset)
                    raw = section.data[first : end - (end - first) % 16]
                    # What linkers drop, as other units have it too, is at 0: nearly all, where templates abound.
                    index += [(low, low + length, unit) for low, length in _PAIR.iter_unpack(raw) if low and length]
                at = end
        except BinaryError:
            pass
        index.sort()
        return index, listed

    def _read_units(self, listed: set[int]) -> list[tuple[int, int, int]]:
        """The same from the units' first entries, for those that are not ``listed``."""
        index: list[tuple[int, int, int]] = []
        for unit in self._info.units():
            if unit.position in listed or unit.kind in (c.UT_TYPE, c.UT_SPLIT_TYPE):
                continue
            try:
                index.extend((start, end, unit.first) for start, end in ranges_of(unit.top))
            except BinaryError:
                continue
            if len(index) > _MAX_INDEX:
                break
        index.sort()
        return index
