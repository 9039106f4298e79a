# SPDX-License-Identifier: BSD-2-Clause
"""From the entry of a type (chapter 5) to a Type."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ...errors import BinaryError
from .. import types as t
from ..types import Member, Type
from . import constants as c
from .cplusplus import by_reference, standard_text
from .golang import go_type
from .members import alignment_of, base_type, declared_alignment, members_of, renamed, size_of
from .names import QUALIFIERS, dimensions, type_name
from .rust import rust_type
from .unit import Entry

_MAX_NESTING = 40
_MAX_CACHED = 1 << 16
_MAX_ENUMERATORS = 1 << 14

_STRUCTURES = (c.TAG_STRUCTURE, c.TAG_CLASS, c.TAG_INTERFACE, c.TAG_UNION)

# What reading damaged bytes may end in; everything else has been checked before.
DAMAGE = (BinaryError, IndexError, struct.error, OverflowError, ValueError)


class Types:
    """The types of one program. Nothing here raises: what can't be read is a type of kind UNKNOWN."""

    __slots__ = ("_cache", "_depth", "_language")

    def __init__(self) -> None:
        self._cache: dict[tuple[int, int], Type] = {}
        self._depth = 0
        self._language = ""

    def referred(self, entry: Entry, attribute: int = c.AT_TYPE) -> Type:
        """The type that ``attribute`` of ``entry`` refers to; void if it isn't there."""
        if not self._depth:
            entry.unit.info.begin()
        self._language = entry.unit.language or self._language
        try:
            target = entry.refer(attribute)
        except DAMAGE as error:
            return _unknown(error)
        return self.of(target) if target is not None else Type(t.VOID, "void", 0)

    def later(self, entry: Entry, attribute: int = c.AT_TYPE) -> Callable[[], Type]:
        """The same when it is asked for."""
        return lambda: self.referred(entry, attribute)

    def of(self, entry: Entry) -> Type:
        """The type that ``entry`` describes."""
        key = id(entry.unit.section), entry.position
        found = self._cache.get(key)
        if found is not None:
            return found
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        if self._depth >= _MAX_NESTING:
            return Type(t.UNKNOWN, "nested too deeply", 0)
        # Whoever asks for it while it is being read gets this: it contains itself.
        self._cache[key] = Type(t.UNKNOWN, "contains itself", 0)
        self._depth += 1
        try:
            result = self._read(entry)
        except DAMAGE as error:
            result = _unknown(error)
        finally:
            self._depth -= 1
        self._cache[key] = result
        return result

    def _read(self, entry: Entry) -> Type:
        tag, language = entry.tag, entry.unit.language or self._language
        if language == "go":
            found = go_type(self, entry)
            if found is not None:
                return found
        if tag in QUALIFIERS:
            return self.referred(entry)
        if c.AT_SIGNATURE in entry:
            return self.referred(entry, c.AT_SIGNATURE)
        name, size = type_name(entry, language), size_of(entry)
        if tag in (c.TAG_TYPEDEF, c.TAG_TEMPLATE_ALIAS):
            return renamed(self.referred(entry), name)
        if tag == c.TAG_BASE:
            return base_type(entry, name, size)
        if tag == c.TAG_POINTER:
            # Rust calls its references so.
            kind = t.REFERENCE if name.startswith("&") else t.POINTER
            return Type(kind, name, 8, align=8, target=self.later(entry))
        if tag in (c.TAG_REFERENCE, c.TAG_RVALUE_REFERENCE):
            return Type(t.REFERENCE, name, 8, align=8, target=self.later(entry))
        if tag in _STRUCTURES:
            return self._structure(entry, name, size, language)
        if tag == c.TAG_ENUMERATION:
            return self._enumeration(entry, name, size)
        if tag == c.TAG_ARRAY:
            return self._array(entry, name)
        if tag == c.TAG_SUBROUTINE:
            return Type(t.FUNCTION, name, 0)
        if tag == c.TAG_UNSPECIFIED_TYPE:
            return Type(t.POINTER, "std::nullptr_t", 8, align=8) if "nullptr" in name else Type(t.VOID, name, 0)
        if tag == c.TAG_POINTER_TO_MEMBER:
            return self._pointer_to_member(entry)
        return Type(t.UNKNOWN, f"a type of an unknown kind ({tag:#x})", size)

    def _structure(self, entry: Entry, name: str, size: int, language: str) -> Type:
        if language == "rust":
            found = rust_type(self, entry, name, size)
            if found is not None:
                return found
        members = members_of(self, entry)
        kind, text, passed = t.UNION if entry.tag == c.TAG_UNION else t.STRUCT, None, False
        if language == "c++":
            passed = by_reference(entry, members)
            standard = standard_text(entry, name, size)
            if standard is not None:
                kind, (name, size, text) = t.STD_STRING, standard
                passed = passed or size == 32
        return Type(
            kind, name, size,
            align=declared_alignment(entry) or (8 if text is not None else alignment_of(members, size)),
            members=members, text=text, by_reference=passed,
        )  # fmt: skip

    def _enumeration(self, entry: Entry, name: str, size: int) -> Type:
        names: dict[int, str] = {}
        for child in entry.children():
            if child.tag == c.TAG_ENUMERATOR and len(names) < _MAX_ENUMERATORS:
                # Compilers write negative ones as signed LEB128, others as they are.
                value = child.number(c.AT_CONST_VALUE)
                if value is not None:
                    names.setdefault(value, child.text(c.AT_NAME))
        if not size:
            size = self.referred(entry).size if c.AT_TYPE in entry else 4
        return Type(t.ENUM, name, size, align=max(min(size, 8), 1), enumerators=names)

    def _array(self, entry: Entry, name: str) -> Type:
        element = self.referred(entry)
        counts = dimensions(entry) or [-1]
        for index, count in enumerate(reversed(counts)):
            last = index == len(counts) - 1
            size = max(count, 0) * element.size
            if last:
                size = size_of(entry) or size
            inner = name if last else f"{element.name} [{count if count >= 0 else ''}]"
            element = Type(t.ARRAY, inner, size, align=element.align, target=element, count=count)
        return element

    def _pointer_to_member(self, entry: Entry) -> Type:
        """A C++ pointer to a member: an offset; to a member function: Itanium C++ ABI, section 2.3."""
        word = Type(t.INT, "long", 8, align=8)
        target = entry.refer(c.AT_TYPE)
        if target is None or target.tag != c.TAG_SUBROUTINE:
            return Type(t.INT, "pointer to member", 8, align=8)
        members = Member("ptr", 0, word), Member("adj", 8, word)
        return Type(t.STRUCT, "pointer to member function", 16, align=8, members=members)


def _unknown(error: Exception) -> Type:
    return Type(t.UNKNOWN, str(error) if isinstance(error, BinaryError) else "its debug information is damaged", 0)
