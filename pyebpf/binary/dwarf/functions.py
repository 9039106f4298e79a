# SPDX-License-Identifier: BSD-2-Clause
"""From the address of a function to the entry that describes it."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BinaryError
from . import constants as c
from .abbrev import Abbreviation, skip, steps_before
from .ranges import Ranges, ranges_of
from .unit import Entry, Info, Unit, origins

_MAX_FUNCTIONS = 1 << 20  # of one unit


class Functions:
    """The out-of-line functions of one file, read a unit at a time."""

    __slots__ = ("_info", "_ranges", "_units")

    def __init__(self, info: Info) -> None:
        self._info = info
        self._ranges = Ranges(info)
        self._units: dict[int, tuple[dict[int, int], bool]] = {}

    def find(self, address: int, names: Sequence[str]) -> Entry | None:
        """The entry of the function that begins at ``address``, or None; see Dwarf.subprogram."""
        first: Entry | None = None
        for unit in self._ranges.units(address):
            position = self._position(unit, address)
            if position is not None:
                entry = Entry(unit, position)
                first = first or entry
                if not names or _is_called(entry, names):
                    return entry
        return first

    def _position(self, unit: Unit, address: int) -> int | None:
        known = self._units.get(unit.position)
        if known is None:
            known = self._units[unit.position] = _functions(unit, False), False
        functions, everything = known
        if address not in functions and not everything:
            functions = _functions(unit, True)
            self._units[unit.position] = functions, True
        return functions.get(address)


def _is_called(entry: Entry, names: Sequence[str]) -> bool:
    return any(part.text(which) in names for part in origins(entry) for which in (c.AT_LINKAGE_NAME, c.AT_NAME))


def _functions(unit: Unit, everything: bool) -> dict[int, int]:
    """The positions of the functions in ``unit``, by address.

    Args:
        everything: look also into functions and classes: methods of classes in functions are there, and GCC's nested
            functions.
    """
    found: dict[int, int] = {}
    section, end, table = unit.section, unit.end, unit.abbreviations
    data, sizes, origin = section.data, table.sizes, unit.position
    # What to do with an entry of each code: None: pass over it; else how to reach its address.
    interesting: dict[int, tuple[tuple[int, ...], int] | None] = {}
    position, visits = unit.first, 0
    while position < end:
        start = position
        code = data[position]
        position += 1
        if not code:
            continue
        if code >= 0x80:
            code, position = section.uleb(start)
        abbreviation = table[code]
        visits += 1
        if code not in interesting:
            interesting[code] = _way(abbreviation, sizes)
        way = interesting[code]
        if way is not None:
            steps, form = way
            if form == c.FORM_ADDR:
                at = skip(data, position, steps, sizes) if steps else position
                address = int.from_bytes(data[at : at + 8], "little")
            else:
                address = _address(Entry(unit, start))
            if address and len(found) < _MAX_FUNCTIONS:
                found.setdefault(address, start)
        if abbreviation.sibling is not None and not everything and abbreviation.tag != c.TAG_NAMESPACE:
            at = skip(data, position, abbreviation.sibling, sizes)
            position = origin + int.from_bytes(data[at : at + 4], "little")
            if not at < position <= end:
                raise BinaryError("the debug information runs backwards")
            continue
        steps = abbreviation.steps
        if len(steps) == 1 and steps[0] >= 0:
            position += steps[0]
        elif steps:
            position = skip(data, position, steps, sizes)
    unit.info.visit(visits)
    return found


def _way(abbreviation: Abbreviation, sizes: dict[int, int]) -> tuple[tuple[int, ...], int] | None:
    """How to find the address of an entry: what to pass over, and the form; None if it isn't a function's."""
    if abbreviation.tag != c.TAG_SUBPROGRAM:
        return None
    form = abbreviation.first(c.AT_LOW_PC)
    if form is not None:
        return steps_before(abbreviation, c.AT_LOW_PC, sizes), form
    return ((), 0) if abbreviation.first(c.AT_RANGES) is not None else None


def _address(entry: Entry) -> int:
    """Where a function begins, 0 if that can't be read: functions that the linker dropped are at 0 too."""
    try:
        start = entry.address(c.AT_LOW_PC)
        if start is None:
            start = next((low for low, _ in ranges_of(entry)), 0)
        return start
    except BinaryError:
        return 0
