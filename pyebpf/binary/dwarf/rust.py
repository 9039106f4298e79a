# SPDX-License-Identifier: BSD-2-Clause
"""Rust's types, as rustc describes them: ``compiler/rustc_codegen_llvm/src/debuginfo/metadata``.

rustc orders members as it likes, so the words of a String or Vec are where the debug information says, not where the
source has them.
"""

from __future__ import annotations

import re

from .. import types as t
from ..types import Member, Text, Type, Variant
from . import constants as c
from .members import Reader, alignment_of, declared_alignment, member_offset, members_of
from .unit import Entry

_MAX_VARIANTS = 1 << 12
_MAX_DEPTH = 8
_TUPLE_MEMBER = re.compile(r"__(\d+)")


def rust_type(reader: Reader, entry: Entry, name: str, size: int) -> Type | None:
    """A Rust structure, tuple, enum with data, string or vector; None if it is to be read like C's."""
    if entry.tag == c.TAG_UNION:
        return None
    part = next((child for child in entry.children() if child.tag == c.TAG_VARIANT_PART), None)
    if part is not None:
        return _variant(reader, entry, part, name, size)
    members = tuple(
        member._replace(name=_TUPLE_MEMBER.sub(r"\1", member.name)) if member.name.startswith("__") else member
        for member in members_of(reader, entry)
    )
    align = declared_alignment(entry) or alignment_of(members, size)
    kind, target = t.STRUCT, None
    text = None
    if name in ("&str", "&mut str") or name.startswith(("&[", "&mut [")):
        text = _words(members, "data_ptr", "length")
        kind = t.STRING if name.endswith("str") else t.SLICE
        target = next((member.type.target for member in members if member.name == "data_ptr"), None)
    elif name == "alloc::string::String":
        kind, text = t.RUST_STRING, _string(members)
    elif name.startswith("alloc::vec::Vec<"):
        kind, text = t.RUST_VEC, _words(members, "buf", "len")
        argument = next((child for child in entry.children() if child.tag == c.TAG_TEMPLATE_TYPE), None)
        target = reader.referred(argument) if argument is not None else None
    if text is None:
        kind, target = t.STRUCT, None
    return Type(kind, name, size, align=align, members=members, text=text, target=target)


def _words(members: tuple[Member, ...], data: str, length: str) -> Text | None:
    """Where the pointer in the member ``data`` and the number ``length`` are."""
    pointer = next((_pointer(member, _MAX_DEPTH) for member in members if member.name == data), None)
    count = next((member.offset for member in members if member.name == length and member.type.size == 8), None)
    return Text(pointer, count) if pointer is not None and count is not None else None


def _pointer(member: Member, depth: int) -> int | None:
    """The offset of the first pointer in ``member``, from where ``member`` is counted; None if there is none."""
    if member.type.kind in (t.POINTER, t.REFERENCE):
        return member.offset
    if depth and member.type.kind == t.STRUCT:
        for inner in member.type.members:
            found = _pointer(inner, depth - 1)
            if found is not None:
                return member.offset + found
    return None


def _string(members: tuple[Member, ...]) -> Text | None:
    """A String is a Vec of bytes."""
    for member in members:
        if member.type.kind == t.RUST_VEC and member.type.text is not None:
            words = member.type.text
            return Text(member.offset + words.pointer, member.offset + words.length)
    return None


def _variant(reader: Reader, entry: Entry, part: Entry, name: str, size: int) -> Type:
    """An enum with data (5.7.10). What tells its variants apart may lie in the unused values of one's member."""
    discriminant: list[Member] = []
    tag = part.refer(c.AT_DISCR) if c.AT_DISCR in part else None
    width = 0
    if tag is not None:
        offset, kind = member_offset(tag), reader.referred(tag)
        if offset is not None:
            discriminant = [Member("", offset, kind)]
            width = kind.size * 8
    variants: list[Variant] = []
    for child in part.children():
        if child.tag != c.TAG_VARIANT or len(variants) >= _MAX_VARIANTS:
            continue
        value = child.number(c.AT_DISCR_VALUE)
        member = next(iter(members_of(reader, child)), None)
        if member is not None:
            variants.append(Variant(value & ((1 << width) - 1) if value is not None and width else value, member))
    common = members_of(reader, entry)
    align = declared_alignment(entry)
    if not align:
        inner = [variant.member for variant in variants]
        align = alignment_of([*discriminant, *inner], size)
    return Type(t.VARIANT, name, size, align=align, members=(*discriminant, *common), variants=variants)
