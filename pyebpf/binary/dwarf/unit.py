# SPDX-License-Identifier: BSD-2-Clause
"""Units (7.5.1) and the entries in them (7.5.2)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from ...errors import BinaryError
from . import constants as c
from .abbrev import Abbreviation, Abbreviations, fixed_sizes, skip
from .sections import Section, Sections

# Bounds. Chromium, the largest program around, has some 35000 units; an entry takes a third of a microsecond to pass.
_MAX_UNITS = 1 << 19
_MAX_VISITS = 30_000_000
_MAX_CHILDREN = 1 << 17
_COST = 20  # of reading an entry, in entries passed over
_MAX_DEPTH = 1 << 10
_MAX_SCOPES = 1 << 18
_MAX_ORIGINS = 4

_REFERENCES = (c.FORM_REF1, c.FORM_REF2, c.FORM_REF4, c.FORM_REF8, c.FORM_REF_UDATA)
_ALTERNATE_REFERENCES = (c.FORM_GNU_REF_ALT, c.FORM_REF_SUP4, c.FORM_REF_SUP8)
_INDEXED_STRINGS = (c.FORM_STRX, c.FORM_STRX1, c.FORM_STRX2, c.FORM_STRX3, c.FORM_STRX4, c.FORM_GNU_STR_INDEX)
_INDEXED_ADDRESSES = (c.FORM_ADDRX, c.FORM_ADDRX1, c.FORM_ADDRX2, c.FORM_ADDRX3, c.FORM_ADDRX4, c.FORM_GNU_ADDR_INDEX)
_ULEBS = (
    c.FORM_UDATA, c.FORM_REF_UDATA, c.FORM_STRX, c.FORM_ADDRX, c.FORM_LOCLISTX, c.FORM_RNGLISTX,
    c.FORM_GNU_ADDR_INDEX, c.FORM_GNU_STR_INDEX,
)  # fmt: skip
_SIGNED_WIDTHS = {c.FORM_DATA1: 8, c.FORM_DATA2: 16, c.FORM_DATA4: 32, c.FORM_DATA8: 64}
_SCOPES = (c.TAG_NAMESPACE, c.TAG_STRUCTURE, c.TAG_CLASS, c.TAG_UNION, c.TAG_ENUMERATION, c.TAG_INTERFACE)

Value = tuple[int, "int | bytes"]


class Entry:
    """A debugging information entry.

    Attributes:
        unit: the unit it is in.
        position: where it begins.
        abbreviation: what it looks like.
        values: form and value by attribute; strings, references and indexed values as they are encoded.
        next: the position after its attributes.
    """

    __slots__ = ("abbreviation", "next", "position", "unit", "values")

    def __init__(self, unit: Unit, position: int) -> None:
        self.unit, self.position = unit, position
        code, at = unit.section.uleb(position)
        if not code:
            raise BinaryError("the debug information refers to an entry that is none")
        self.abbreviation: Abbreviation = unit.abbreviations[code]
        self.values: dict[int, Value] = {}
        section, sizes, values = unit.section, unit.abbreviations.sizes, self.values
        for attribute, form, constant in self.abbreviation.attributes:
            value, at = _read(section, at, form, sizes) if form != c.FORM_IMPLICIT_CONST else ((form, constant), at)
            values.setdefault(attribute, value)
        if at > unit.end:
            raise BinaryError("the debug information runs past the end of a unit")
        self.next = at

    @property
    def tag(self) -> int:
        return self.abbreviation.tag

    def __contains__(self, attribute: int) -> bool:
        return attribute in self.values

    def flag(self, attribute: int) -> bool:
        """Is it there, and true?"""
        value = self.values.get(attribute)
        return value is not None and bool(value[1])

    def number(self, attribute: int) -> int | None:
        """An unsigned number; None if it isn't there or isn't a number."""
        value = self.values.get(attribute)
        return value[1] if value is not None and isinstance(value[1], int) else None

    def signed(self, attribute: int) -> int | None:
        """A number in two's complement of its form's width."""
        value = self.values.get(attribute)
        if value is None or not isinstance(value[1], int):
            return None
        width = _SIGNED_WIDTHS.get(value[0])
        return value[1] - (1 << width) if width is not None and value[1] >> (width - 1) else value[1]

    def text(self, attribute: int) -> str:
        """A text; "" if it isn't there."""
        value = self.values.get(attribute)
        return self.unit.text(value) if value is not None else ""

    def address(self, attribute: int) -> int | None:
        """An address; None if it isn't there or isn't one."""
        value = self.values.get(attribute)
        if value is None or not isinstance(value[1], int):
            return None
        if value[0] == c.FORM_ADDR:
            return value[1]
        return self.unit.indexed_address(value[1]) if value[0] in _INDEXED_ADDRESSES else None

    def refer(self, attribute: int) -> Entry | None:
        """The entry that ``attribute`` refers to; None if it isn't there."""
        value = self.values.get(attribute)
        return self.unit.referred(value) if value is not None else None

    def children(self) -> Iterator[Entry]:
        """The entries directly below it."""
        if not self.abbreviation.children:
            return
        unit, position = self.unit, self.next
        for _ in range(_MAX_CHILDREN):
            if position >= unit.end or not unit.section.data[position]:
                return
            unit.info.visit(_COST)
            child = Entry(unit, position)
            yield child
            position = unit.after(child)
        raise BinaryError("an entry of the debug information has too many parts")


def _read(section: Section, at: int, form: int, sizes: dict[int, int]) -> tuple[Value, int]:
    """The value in ``form`` at ``at``, and the position after it."""
    data = section.data
    size = sizes.get(form)
    if size is not None:
        value = 1 if form == c.FORM_FLAG_PRESENT else int.from_bytes(data[at : at + size], "little")
        return (form, value), at + size
    if form == c.FORM_STRING:
        end = data.find(b"\0", at, section.end)
        if end < 0:
            raise BinaryError("a text in the debug information has no end")
        return (form, at), end + 1
    if form in _ULEBS:
        value, at = section.uleb(at)
        return (form, value), at
    if form == c.FORM_SDATA:
        value, at = section.sleb(at)
        return (form, value), at
    if form == c.FORM_INDIRECT:
        form, at = section.uleb(at)
        if form in (c.FORM_INDIRECT, c.FORM_IMPLICIT_CONST):
            raise BinaryError("the debug information nests forms")
        return _read(section, at, form, sizes)
    width = {c.FORM_BLOCK1: 1, c.FORM_BLOCK2: 2, c.FORM_BLOCK4: 4}.get(form)
    if width is not None:
        size, at = int.from_bytes(data[at : at + width], "little"), at + width
    elif form in (c.FORM_BLOCK, c.FORM_EXPRLOC):
        size, at = section.uleb(at)
    else:
        raise BinaryError(f"the debug information uses the unknown form {form:#x}")
    if at + size > section.end:
        raise BinaryError("a block in the debug information is too long")
    return (form, data[at : at + size]), at + size


def origins(entry: Entry) -> list[Entry]:
    """``entry``, and what it is an instance or the definition of: 3.3.8.2, 2.13.2."""
    chain = [entry]
    while len(chain) < _MAX_ORIGINS:
        last = chain[-1]
        following = last.refer(c.AT_ABSTRACT_ORIGIN) or last.refer(c.AT_SPECIFICATION)
        if following is None:
            break
        chain.append(following)
    return chain


class Unit:
    """A unit: what came of compiling one source file, or a package.

    Attributes:
        info: what it is part of.
        section: .debug_info or .debug_types.
        position: where its header begins.
        first: where its first entry is.
        end: the position after it.
        version: of DWARF, 2 to 5.
        offset_size: 4 or 8.
        kind: the unit type of DWARF 5; 0 before.
        signature: of a type unit, with the position of its type; (0, 0) otherwise.
    """

    __slots__ = (
        "_abbreviations", "_abbreviations_at", "_bases", "_scopes", "_top", "end", "first", "info", "kind",
        "offset_size", "position", "section", "signature", "version",
    )  # fmt: skip

    def __init__(self, info: Info, section: Section, position: int) -> None:
        self.info, self.section, self.position = info, section, position
        size, at = section.number(position, 4), position + 4
        self.offset_size = 4
        if size == 0xFFFFFFFF:
            size, at = section.number(at, 8), at + 8
            self.offset_size = 8
        self.end = at + size
        if size < 7 or self.end > section.end:
            raise BinaryError(f"{info.path}: a unit in {section.name} runs past the section's end")
        self.version, at = section.number(at, 2), at + 2
        if not 2 <= self.version <= 5:
            raise BinaryError(f"{info.path}: debug information in DWARF version {self.version}; 2 to 5 are supported")
        self.kind = 0
        if self.version == 5:
            self.kind, address_size, at = section.number(at, 1), section.number(at + 1, 1), at + 2
            self._abbreviations_at, at = section.number(at, self.offset_size), at + self.offset_size
        else:
            self._abbreviations_at, at = section.number(at, self.offset_size), at + self.offset_size
            address_size, at = section.number(at, 1), at + 1
            self.kind = c.UT_TYPE if section.name.endswith("debug_types") else 0
        if address_size != 8:
            raise BinaryError(f"{info.path}: debug information with addresses of {address_size} bytes")
        self.signature = (0, 0)
        if self.kind in (c.UT_TYPE, c.UT_SPLIT_TYPE):
            self.signature = section.number(at, 8), position + section.number(at + 8, self.offset_size)
            at += 8 + self.offset_size
        elif self.kind in (c.UT_SKELETON, c.UT_SPLIT_COMPILE):
            at += 8
        self.first = at
        self._abbreviations: Abbreviations | None = None
        self._top: Entry | None = None
        self._bases: dict[int, int] = {}
        self._scopes: tuple[list[int], list[tuple[int, int]]] | None = None

    @property
    def abbreviations(self) -> Abbreviations:
        """What its entries look like."""
        if self._abbreviations is None:
            self._abbreviations = self.info.abbreviations(self._abbreviations_at, self.version, self.offset_size)
        return self._abbreviations

    @property
    def top(self) -> Entry:
        """Its first entry, which all others are below."""
        if self._top is None:
            self._top = Entry(self, self.first)
        return self._top

    @property
    def language(self) -> str:
        """In which it was written: "c", "c++", "go", "rust", or "" for others."""
        return c.LANGUAGES.get(self.top.number(c.AT_LANGUAGE) or 0, "")

    def base(self, attribute: int) -> int:
        """The offset that AT_STR_OFFSETS_BASE, AT_ADDR_BASE and the like give, or the first after the section's header.

        A unit without the attribute uses the only contribution to the section, whose header has 8 (16) bytes, and
        that of lists 12 (20): 7.26 to 7.29.
        """
        found = self._bases.get(attribute)
        if found is None:
            # AT_ADDR_BASE itself may be needed to read the entry's other attributes, but not to read this one.
            value = self.top.number(attribute)
            if value is None:
                header = 8 if attribute in (c.AT_STR_OFFSETS_BASE, c.AT_ADDR_BASE) else 12
                value = header + (self.offset_size == 8) * 8
            found = self._bases[attribute] = value
        return found

    def indexed_address(self, index: int) -> int:
        """Address number ``index`` of .debug_addr."""
        section = self.info.sections["debug_addr"]
        return section.number(section.at(self.base(c.AT_ADDR_BASE) + index * 8, 8), 8)

    def text(self, value: Value) -> str:
        """The text an attribute's value stands for."""
        form, where = value
        if isinstance(where, bytes):
            return where.decode("utf-8", "backslashreplace")
        if form == c.FORM_STRING:
            return self.section.text(where)
        sections = self.info.sections
        if form in _INDEXED_STRINGS:
            table = sections["debug_str_offsets"]
            at = table.at(self.base(c.AT_STR_OFFSETS_BASE) + where * self.offset_size, self.offset_size)
            where, form = table.number(at, self.offset_size), c.FORM_STRP
        if form in (c.FORM_GNU_STRP_ALT, c.FORM_STRP_SUP):
            strings = self.info.supplement().sections["debug_str"]
        elif form == c.FORM_STRP:
            strings = sections["debug_str"]
        elif form == c.FORM_LINE_STRP:
            strings = sections["debug_line_str"]
        else:
            return ""
        return strings.text(strings.at(where))

    def referred(self, value: Value) -> Entry:
        """The entry an attribute's value refers to."""
        form, where = value
        if not isinstance(where, int):
            raise BinaryError("a reference in the debug information is none")
        if form in _REFERENCES:
            position = self.position + where
            if not self.first <= position < self.end:
                raise BinaryError("a reference in the debug information leads out of its unit")
            return Entry(self, position)
        if form == c.FORM_REF_ADDR:
            return self.info.entry(where)
        if form in _ALTERNATE_REFERENCES:
            return self.info.supplement().entry(where)
        if form == c.FORM_REF_SIG8:
            return self.info.type_entry(where)
        raise BinaryError(f"a reference in the debug information has the form {form:#x}")

    def after(self, entry: Entry) -> int:
        """The position after ``entry`` and all that is below it."""
        if not entry.abbreviation.children:
            return entry.next
        sibling = entry.values.get(c.AT_SIBLING)
        if sibling is not None and sibling[0] in _REFERENCES and isinstance(sibling[1], int):
            position = self.position + sibling[1]
            if entry.next < position <= self.end:
                return position
        return self.pass_over(entry.next)

    def pass_over(self, position: int) -> int:
        """The position after the entries at ``position``, and the zero that ends them."""
        data, end, table = self.section.data, self.end, self.abbreviations
        sizes, origin = table.sizes, self.position
        depth, visits = 1, 0
        while position < end:
            code = data[position]
            position += 1
            if not code:
                depth -= 1
                if not depth:
                    break
                continue
            if code >= 0x80:
                code, position = self.section.uleb(position - 1)
            abbreviation = table[code]
            visits += 1
            if abbreviation.sibling is not None:
                at = skip(data, position, abbreviation.sibling, sizes)
                target = origin + int.from_bytes(data[at : at + 4], "little")
                if not at < target <= end:
                    raise BinaryError("the debug information runs backwards")
                position = target
                continue
            steps = abbreviation.steps
            # Most entries are of fixed size: worth a special case.
            if len(steps) == 1 and steps[0] >= 0:
                position += steps[0]
            elif steps:
                position = skip(data, position, steps, sizes)
            depth += abbreviation.children
        self.info.visit(visits)
        return position

    def scope(self, position: int) -> list[Entry]:
        """The namespaces and classes that the entry at ``position`` is in, outermost first."""
        if self._scopes is None:
            self._scopes = self._find_scopes()
        starts, rest = self._scopes
        result: list[Entry] = []
        index = bisect_right(starts, position - 1) - 1
        while index >= 0 and len(result) < _MAX_DEPTH:
            end, parent = rest[index]
            if position < end:
                result.append(Entry(self, starts[index]))
            index = parent
        result.reverse()
        return result

    def _find_scopes(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Where each namespace and class begins; where it ends, and the index of the one that begins before it.

        The index is that of the scope around it, or of one that ended before: both ways lead outwards.
        """
        starts: list[int] = []
        rest: list[tuple[int, int]] = []
        data, end, table, sizes = self.section.data, self.end, self.abbreviations, self.abbreviations.sizes
        origin, position, visits = self.position, self.top.next, 0
        open_scopes: list[int] = [-1]  # for each level: index of the scope, -1 if the level's entry is none
        inner = -1
        while position < end and open_scopes:
            start = position
            code = data[position]
            position += 1
            if not code:
                index = open_scopes.pop()
                if index >= 0:
                    rest[index] = position, rest[index][1]
                    inner = rest[index][1]
                continue
            if code >= 0x80:
                code, position = self.section.uleb(start)
            abbreviation = table[code]
            visits += 1
            scope = abbreviation.children and abbreviation.tag in _SCOPES
            if abbreviation.sibling is not None and not scope:
                at = skip(data, position, abbreviation.sibling, sizes)
                position = origin + int.from_bytes(data[at : at + 4], "little")
                if not at < position <= end:
                    raise BinaryError("the debug information runs backwards")
                continue
            position = skip(data, position, abbreviation.steps, sizes)
            if abbreviation.children:
                open_scopes.append(len(starts) if scope else -1)
                if scope:
                    starts.append(start)
                    rest.append((end, inner))
                    inner = len(starts) - 1
                if len(open_scopes) > _MAX_DEPTH or len(starts) > _MAX_SCOPES:
                    raise BinaryError("the debug information is nested too deeply")
        self.info.visit(visits)
        return starts, rest


class Info:
    """All units of one file.

    Attributes:
        path: the file.
        sections: its debug sections.
    """

    __slots__ = (
        "_abbreviations", "_budget", "_positions", "_signatures", "_supplement", "_units", "path", "sections",
    )  # fmt: skip

    def __init__(self, sections: Sections, supplement: Info | str) -> None:
        """``supplement``: the file that holds what several files share (7.3.6), or why there is none."""
        self.path = sections.elf.path
        self.sections = sections
        self._supplement = supplement
        self._units: list[Unit] | None = None
        self._positions: list[int] = []
        self._signatures: dict[int, tuple[Unit, int]] | None = None
        self._abbreviations: dict[tuple[int, bool, int], Abbreviations] = {}
        self._budget = _MAX_VISITS

    def begin(self) -> None:
        """Somebody asks something: he may have the whole budget."""
        self._budget = _MAX_VISITS

    def visit(self, entries: int) -> None:
        """Account for having passed over ``entries``. Raises BinaryError when a question cost too many."""
        self._budget -= entries
        if self._budget < 0:
            raise BinaryError(f"{self.path}: gave up after {_MAX_VISITS} entries of debug information")

    def supplement(self) -> Info:
        """The file of what several files share. Raises BinaryError if there is none."""
        if isinstance(self._supplement, str):
            raise BinaryError(self._supplement)
        return self._supplement

    def abbreviations(self, offset: int, version: int, offset_size: int) -> Abbreviations:
        """The table at ``offset`` of .debug_abbrev; units of one kind share it."""
        key = offset, version == 2, offset_size
        table = self._abbreviations.get(key)
        if table is None:
            if len(self._abbreviations) > 4096:
                self._abbreviations.clear()
            sizes = fixed_sizes(version, offset_size)
            table = self._abbreviations[key] = Abbreviations(self.sections["debug_abbrev"], offset, sizes, self.visit)
        return table

    def units(self) -> list[Unit]:
        """The units in .debug_info, in order; those that can't be read are left out.

        Raises:
            BinaryError: none can; the message is about the first.
        """
        if self._units is None:
            self._units = self._read_units(self.sections["debug_info"])
            self._positions = [unit.position for unit in self._units]
        return self._units

    def _read_units(self, section: Section) -> list[Unit]:
        units: list[Unit] = []
        position, trouble = section.start, None
        while position + 11 <= section.end and len(units) < _MAX_UNITS:
            size, header = section.number(position, 4), 4
            if size == 0xFFFFFFFF:
                size, header = section.number(position + 4, 8), 12
            try:
                units.append(Unit(self, section, position))
            except BinaryError as error:
                trouble = trouble or error
            position += header + size
        if trouble is not None and not units:
            raise trouble
        return units

    def unit_at(self, position: int) -> Unit:
        """The unit that holds ``position`` of .debug_info."""
        units = self.units()
        index = bisect_right(self._positions, position) - 1
        if index < 0 or not units[index].first <= position < units[index].end:
            raise BinaryError("a reference in the debug information leads nowhere")
        return units[index]

    def entry(self, offset: int) -> Entry:
        """The entry at ``offset`` of .debug_info."""
        position = self.sections["debug_info"].at(offset)
        return Entry(self.unit_at(position), position)

    def type_entry(self, signature: int) -> Entry:
        """The type of that signature (7.32)."""
        if self._signatures is None:
            units = [unit for unit in self.units() if unit.kind == c.UT_TYPE]
            units += self._read_units(self.sections["debug_types"])
            self._signatures = {unit.signature[0]: (unit, unit.signature[1]) for unit in units}
        found = self._signatures.get(signature)
        if found is None:
            raise BinaryError("a type of the debug information is in another file")
        unit, position = found
        if not unit.first <= position < unit.end:
            raise BinaryError("a reference in the debug information leads out of its unit")
        return Entry(unit, position)
