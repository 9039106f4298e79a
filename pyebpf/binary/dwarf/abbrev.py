# SPDX-License-Identifier: BSD-2-Clause
"""Abbreviations (7.5.3): which attributes, in which forms, an entry of debug information has.

Most entries are only passed over, millions of them in a large file. So each abbreviation knows how: what can be added
to the position at once, and what must be looked at.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

from ...errors import BinaryError
from . import constants as c
from .sections import Section

_COST = 100  # of reading one, in entries passed over
_MAX_ATTRIBUTES = 512

# What an abbreviation's `steps` say besides how many bytes to add.
STRING, LEB, BLOCK1, BLOCK2, BLOCK4, BLOCK, INDIRECT = -1, -2, -3, -4, -5, -6, -7

_FIXED = {
    c.FORM_ADDR: 8, c.FORM_DATA1: 1, c.FORM_DATA2: 2, c.FORM_DATA4: 4, c.FORM_DATA8: 8, c.FORM_DATA16: 16,
    c.FORM_FLAG: 1, c.FORM_FLAG_PRESENT: 0, c.FORM_IMPLICIT_CONST: 0,
    c.FORM_REF1: 1, c.FORM_REF2: 2, c.FORM_REF4: 4, c.FORM_REF8: 8, c.FORM_REF_SIG8: 8,
    c.FORM_REF_SUP4: 4, c.FORM_REF_SUP8: 8,
    c.FORM_STRX1: 1, c.FORM_STRX2: 2, c.FORM_STRX3: 3, c.FORM_STRX4: 4,
    c.FORM_ADDRX1: 1, c.FORM_ADDRX2: 2, c.FORM_ADDRX3: 3, c.FORM_ADDRX4: 4,
}  # fmt: skip
_OFFSETS = (
    c.FORM_STRP, c.FORM_LINE_STRP, c.FORM_SEC_OFFSET, c.FORM_STRP_SUP, c.FORM_GNU_REF_ALT, c.FORM_GNU_STRP_ALT,
)  # fmt: skip
_VARIABLE = {
    c.FORM_STRING: STRING, c.FORM_BLOCK1: BLOCK1, c.FORM_BLOCK2: BLOCK2, c.FORM_BLOCK4: BLOCK4,
    c.FORM_BLOCK: BLOCK, c.FORM_EXPRLOC: BLOCK, c.FORM_INDIRECT: INDIRECT,
    c.FORM_UDATA: LEB, c.FORM_SDATA: LEB, c.FORM_REF_UDATA: LEB, c.FORM_STRX: LEB, c.FORM_ADDRX: LEB,
    c.FORM_LOCLISTX: LEB, c.FORM_RNGLISTX: LEB, c.FORM_GNU_ADDR_INDEX: LEB, c.FORM_GNU_STR_INDEX: LEB,
}  # fmt: skip


def fixed_sizes(version: int, offset_size: int) -> dict[int, int]:
    """The sizes of the forms that have one, in units of that version with offsets of that size."""
    sizes = dict(_FIXED)
    sizes.update((form, offset_size) for form in _OFFSETS)
    sizes[c.FORM_REF_ADDR] = 8 if version == 2 else offset_size  # DWARF 2 had it as large as an address
    return sizes


class Abbreviation:
    """What entries with one code look like.

    Attributes:
        tag: what they are.
        children: other entries follow that belong to them, then a zero.
        attributes: attribute, form, and the value of an FORM_IMPLICIT_CONST.
        steps: how to pass over the attributes; see `skip`.
        sibling: how to pass over those before AT_SIBLING; None if there is none, or no children to be passed over.
    """

    __slots__ = ("attributes", "children", "code", "sibling", "steps", "tag")

    def __init__(
        self, code: int, tag: int, children: bool, attributes: tuple[tuple[int, int, int], ...], sizes: dict[int, int]
    ) -> None:
        self.code, self.tag, self.children, self.attributes = code, tag, children, attributes
        self.steps = _steps(attributes, sizes)
        self.sibling: tuple[int, ...] | None = None
        for index, (attribute, form, _) in enumerate(attributes):
            if attribute == c.AT_SIBLING and form == c.FORM_REF4 and children:
                self.sibling = _steps(attributes[:index], sizes)

    def first(self, attribute: int) -> int | None:
        """The form of ``attribute``, or None."""
        return next((form for name, form, _ in self.attributes if name == attribute), None)


def _steps(attributes: tuple[tuple[int, int, int], ...], sizes: dict[int, int]) -> tuple[int, ...]:
    steps: list[int] = []
    for _, form, _ in attributes:
        size = sizes.get(form)
        if size is None:
            steps.append(_VARIABLE[form])
        elif steps and steps[-1] >= 0:
            steps[-1] += size
        elif size:
            steps.append(size)
    return tuple(steps)


def steps_before(abbreviation: Abbreviation, attribute: int, sizes: dict[int, int]) -> tuple[int, ...]:
    """How to pass over the attributes before ``attribute``."""
    attributes = abbreviation.attributes
    index = next(index for index, (name, _, _) in enumerate(attributes) if name == attribute)
    return _steps(attributes[:index], sizes)


def skip(data: mmap.mmap | bytes, position: int, steps: tuple[int, ...], sizes: dict[int, int]) -> int:
    """The position after what ``steps`` describe."""
    for step in steps:
        if step >= 0:
            position += step
        elif step == STRING:
            position = data.find(b"\0", position) + 1
            if not position:
                raise BinaryError("a text in the debug information has no end")
        elif step == LEB:
            while data[position] & 0x80:
                position += 1
            position += 1
        elif step == BLOCK1:
            position += 1 + data[position]
        elif step == BLOCK:
            size = shift = 0
            while True:
                byte = data[position]
                position += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
                if shift > 63:
                    raise BinaryError("a block in the debug information is too long")
            position += size
        elif step == INDIRECT:
            form = data[position]
            if form == c.FORM_INDIRECT or (form not in sizes and form not in _VARIABLE) or form & 0x80:
                raise BinaryError(f"the debug information uses the unknown form {form:#x} indirectly")
            size = sizes.get(form, -1)
            position = skip(data, position + 1, (size if size >= 0 else _VARIABLE[form],), sizes)
        else:
            width = 2 if step == BLOCK2 else 4
            position += width + int.from_bytes(data[position : position + width], "little")
    return position


class Abbreviations(dict[int, Abbreviation]):
    """One table, by code. It is read only as far as codes have been asked for: a unit's first entry uses the first.

    Looking up a code that isn't there raises BinaryError.
    """

    __slots__ = ("_position", "_section", "_visit", "sizes")

    def __init__(self, section: Section, offset: int, sizes: dict[int, int], visit: Callable[[int], None]) -> None:
        """``visit`` accounts for the work."""
        super().__init__()
        self._visit = visit
        self._section = section
        self._position: int | None = section.at(offset)
        self.sizes = sizes

    def __missing__(self, code: int) -> Abbreviation:
        while self._position is not None:
            found = self._read_next(self._position)
            if found == code:
                return self[code]
        raise BinaryError(f"the debug information uses abbreviation {code}, which doesn't exist")

    def _read_next(self, position: int) -> int:
        """Read one more abbreviation; 0 at the end."""
        section = self._section
        self._position = None
        if position >= section.end:
            return 0
        code, position = section.uleb(position)
        if not code:
            return 0
        self._visit(_COST)
        tag, position = section.uleb(position)
        children = bool(section.data[position])
        position += 1
        attributes: list[tuple[int, int, int]] = []
        while position < section.end:
            attribute, position = section.uleb(position)
            form, position = section.uleb(position)
            if not attribute and not form:
                break
            value = 0
            if form == c.FORM_IMPLICIT_CONST:
                value, position = section.sleb(position)
            if form not in self.sizes and form not in _VARIABLE:
                raise BinaryError(f"the debug information uses the unknown form {form:#x}")
            attributes.append((attribute, form, value))
            if len(attributes) > _MAX_ATTRIBUTES:
                raise BinaryError("an abbreviation of the debug information has too many attributes")
        self.setdefault(code, Abbreviation(code, tag, children, tuple(attributes), self.sizes))
        self._position = position
        return code
