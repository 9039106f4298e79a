# SPDX-License-Identifier: BSD-2-Clause
"""Go's types, as its linker describes them: ``cmd/link/internal/ld/dwarf.go``, ``cmd/internal/dwarf/dwarf.go``."""

from __future__ import annotations

from .. import types as t
from ..types import Text, Type
from . import constants as c
from .members import Reader, alignment_of, base_type, members_of, renamed, size_of
from .unit import Entry

# abi.Kind (``internal/abi/type.go``); the bits above are flags.
_KIND_MASK = 31
_ARRAY, _CHAN, _FUNC, _INTERFACE, _MAP, _POINTER, _SLICE, _STRING, _STRUCT = 17, 18, 19, 20, 21, 22, 23, 24, 25


def go_type(reader: Reader, entry: Entry) -> Type | None:
    """A Go type; None if ``entry`` is to be read like C's."""
    name, tag = entry.text(c.AT_NAME), entry.tag
    size = size_of(entry)
    kind = (entry.number(c.AT_GO_KIND) or 0) & _KIND_MASK
    described = entry.number(c.AT_GO_RUNTIME_TYPE) or None
    if tag == c.TAG_BASE:
        base = base_type(entry, name, size)
        return Type(base.kind, name, size, align=base.align, runtime_type=described)
    if tag == c.TAG_POINTER:
        return Type(t.POINTER, name, 8, align=8, target=reader.later(entry), runtime_type=described)
    element = reader.later(entry, c.AT_GO_ELEM)
    if kind == _MAP:
        return Type(t.MAP, name, 8, align=8, target=element, runtime_type=described)
    if kind == _CHAN:
        return Type(t.CHAN, name, 8, align=8, target=element, runtime_type=described)
    if kind == _FUNC or tag == c.TAG_SUBROUTINE:
        return Type(t.FUNC, name, 8, align=8, runtime_type=described)
    if kind == _INTERFACE:
        # Its members' names tell the two kinds apart: runtime.iface has a `tab`, runtime.eface a `_type`.
        return Type(
            t.INTERFACE, name, 16, align=8, members=lambda: reader.referred(entry).members, runtime_type=described
        )
    if tag == c.TAG_TYPEDEF:
        if name.startswith(".param"):  # generic code's, with an index into its dictionary for a name
            return reader.referred(entry)
        return renamed(reader.referred(entry), name, described)
    if tag == c.TAG_ARRAY:
        return _array(reader, entry, name, size, described)
    if tag != c.TAG_STRUCTURE:
        return None
    members = members_of(reader, entry)
    align = alignment_of(members, size)
    if kind == _STRING:
        return Type(t.STRING, name, size, align=8, members=members, text=Text(0, 8), runtime_type=described)
    if kind == _SLICE:
        return Type(
            t.SLICE, name, size, align=8, members=members, target=element, text=Text(0, 8), runtime_type=described
        )
    return Type(t.STRUCT, name, size, align=align, members=members, runtime_type=described)


def _array(reader: Reader, entry: Entry, name: str, size: int, described: int | None) -> Type:
    count = next((child.number(c.AT_COUNT) for child in entry.children() if child.tag == c.TAG_SUBRANGE), None)
    element = reader.referred(entry)
    if count is None:
        count = size // element.size if element.size else -1
    return Type(t.ARRAY, name, size, align=element.align, target=element, count=count, runtime_type=described)
