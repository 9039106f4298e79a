# SPDX-License-Identifier: BSD-2-Clause
"""What the readers of all languages' types share: basic types, members, alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .. import types as t
from ..types import Member, Type
from . import constants as c
from .unit import Entry

_MAX_MEMBERS = 1 << 13
_MAX_SIZE = 1 << 40
_MAX_ALIGNMENT = 1 << 16
_OP_PLUS_UCONST = 0x23


class Reader(Protocol):
    """What reads types; see typereader.py."""

    def of(self, entry: Entry) -> Type:
        """The type that ``entry`` describes."""

    def referred(self, entry: Entry, attribute: int = c.AT_TYPE) -> Type:
        """The type that ``attribute`` of ``entry`` refers to; void if it isn't there."""

    def later(self, entry: Entry, attribute: int = c.AT_TYPE) -> Callable[[], Type]:
        """The same when it is asked for."""


def renamed(base: Type, name: str, runtime_type: int | None = None) -> Type:
    """``base`` under the name a typedef gives it."""
    if base.kind == t.UNKNOWN:
        return base
    return Type(
        base.kind, name, base.size, align=base.align, target=base._target, members=base._members,
        variants=base._variants, count=base.count, enumerators=base.enumerators, text=base.text,
        runtime_type=base.runtime_type if runtime_type is None else runtime_type, by_reference=base.by_reference,
    )  # fmt: skip


def size_of(entry: Entry) -> int:
    """The size of a type in bytes; 0 if it isn't told, or is absurd."""
    size = entry.number(c.AT_BYTE_SIZE) or 0
    return size if 0 < size < _MAX_SIZE else 0


def declared_alignment(entry: Entry) -> int:
    """The alignment that an entry tells; 0 if it doesn't."""
    align = entry.number(c.AT_ALIGNMENT) or 0
    return align if 0 < align <= _MAX_ALIGNMENT and not align & (align - 1) else 0


def base_type(entry: Entry, name: str, size: int) -> Type:
    """A basic type, by its encoding (5.1)."""
    encoding = entry.number(c.AT_ENCODING)
    kind = t.UINT
    align = size if size in (1, 2, 4, 8, 16) else 1
    if encoding == c.ATE_BOOLEAN:
        kind = t.BOOL
    elif encoding == c.ATE_FLOAT:
        kind = t.FLOAT
    elif encoding == c.ATE_COMPLEX_FLOAT:
        kind, align = t.COMPLEX, max(align // 2, 1) if size < 32 else 16
    elif encoding == c.ATE_UTF:
        kind = {1: t.CHAR, 4: t.RUNE}.get(size, t.UINT)
    elif encoding in (c.ATE_SIGNED_CHAR, c.ATE_UNSIGNED_CHAR) and name == "char":
        kind = t.CHAR
    elif encoding in (c.ATE_SIGNED, c.ATE_SIGNED_CHAR):
        kind = t.INT
    elif not size:
        kind = t.VOID  # Rust's () and Ada's empty types
    return Type(kind, name, size, align=declared_alignment(entry) or align)


def members_of(reader: Reader, entry: Entry) -> tuple[Member, ...]:
    """The members and base classes of a structure or union, in order (5.7)."""
    members: list[Member] = []
    for child in entry.children():
        if child.tag == c.TAG_INHERITANCE:
            offset = member_offset(child)
            if offset is not None:  # a virtual base is wherever the object says
                members.append(Member("", offset, reader.referred(child), embedded=True))
        elif child.tag == c.TAG_MEMBER and not child.flag(c.AT_DECLARATION):
            member = _member(reader, child)
            if member is not None:
                members.append(member)
        if len(members) >= _MAX_MEMBERS:
            break
    return tuple(members)


def _member(reader: Reader, entry: Entry) -> Member | None:
    name, offset, bits = entry.text(c.AT_NAME), member_offset(entry), entry.number(c.AT_BIT_SIZE) or 0
    if offset is None:
        return None
    kind = reader.referred(entry)
    if not bits:
        return Member(name, offset, kind, embedded=entry.flag(c.AT_GO_EMBEDDED_FIELD))
    position = entry.number(c.AT_DATA_BIT_OFFSET)
    if position is None:
        # DWARF 2 and 3 count from the highest bit of a storage unit.
        position = (entry.number(c.AT_BYTE_SIZE) or kind.size) * 8 - (entry.signed(c.AT_BIT_OFFSET) or 0) - bits
    position += offset * 8
    return (
        Member(name, position // 8, kind, position % 8, bits) if 0 <= position < _MAX_SIZE and 0 < bits <= 128 else None
    )


def member_offset(entry: Entry) -> int | None:
    """Where a member is in the whole; None if that takes a computation."""
    value = entry.values.get(c.AT_MEMBER_LOCATION)
    if value is None:
        return 0  # in a union, or a bit field's
    if isinstance(value[1], int):
        return value[1] if 0 <= value[1] < _MAX_SIZE else None
    # DWARF 2 has an expression that adds to the address of the whole.
    if value[1][:1] == bytes([_OP_PLUS_UCONST]) and 2 <= len(value[1]) <= 6 and value[1][-1] < 0x80:
        return sum((byte & 0x7F) << 7 * index for index, byte in enumerate(value[1][1:]))
    return None


def alignment_of(members: Sequence[Member], size: int) -> int:
    """The alignment of a structure of ``members``: the largest of theirs, unless it is packed."""
    align = 1
    for member in members:
        if not member.bit_size:
            if member.offset % member.type.align:
                return 1
            align = max(align, member.type.align)
        elif member.type.align > align and not size % member.type.align:
            align = member.type.align
    return align if not size % align else 1
