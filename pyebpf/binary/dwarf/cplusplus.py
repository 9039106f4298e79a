# SPDX-License-Identifier: BSD-2-Clause
"""What is special about C++ classes: how they are passed, and the standard library's strings."""

from __future__ import annotations

from collections.abc import Sequence

from .. import types as t
from ..types import Member, Text
from . import constants as c
from .unit import Entry

_MAX_METHODS = 1 << 10


def standard_text(entry: Entry, name: str, size: int) -> tuple[str, int, Text] | None:
    """The name, size and words of libstdc++'s strings (<bits/basic_string.h>, <string_view>); None for others."""
    if name.startswith("std::basic_string_view<char,"):
        return ("std::string_view", 16, Text(8, 0)) if size == 16 else None
    if not name.startswith("std::basic_string<char,"):
        return None
    if not size and any(scope.text(c.AT_NAME) == "__cxx11" for scope in entry.unit.scope(entry.position)):
        size = 32  # clang leaves the definition to the library's own debug information
    if size == 32:
        return "std::string", 32, Text(0, 8)
    # Of before C++11: only a pointer; the length lies in front of the text.
    return ("std::string", 8, Text(0, -1)) if size == 8 else None


def by_reference(entry: Entry, members: Sequence[Member]) -> bool:
    """Is a class passed by address, as copying or destroying it takes code (Itanium C++ ABI, section 3.1.1)?

    clang says so. GCC doesn't; but it describes the functions that make it so.
    """
    convention = entry.number(c.AT_CALLING_CONVENTION)
    if convention is not None:
        return convention == c.CC_PASS_BY_REFERENCE
    for member in members:
        kind = member.type
        for _ in range(8):
            if kind.kind != t.ARRAY or kind.target is None:
                break
            kind = kind.target
        if kind.by_reference or (member.name.startswith("_vptr.") and not member.offset):
            return True
    name = entry.text(c.AT_NAME).partition("<")[0]
    methods = 0
    for child in entry.children():
        if child.tag != c.TAG_SUBPROGRAM:
            continue
        methods += 1
        if methods > _MAX_METHODS:
            break
        called = child.text(c.AT_NAME)
        trivial = child.number(c.AT_DEFAULTED) == c.DEFAULTED_IN_CLASS or child.flag(c.AT_DELETED)
        if not trivial and (called.startswith("~") or (called == name and _copies(child, entry))):
            return True
    return False


def _copies(constructor: Entry, whole: Entry) -> bool:
    """Does a constructor take (besides the object) nothing but a reference to an object of the same class?"""
    formals = [child for child in constructor.children() if child.tag == c.TAG_FORMAL][:3]
    if len(formals) != 2:
        return False
    target = formals[1].refer(c.AT_TYPE)
    if target is None or target.tag not in (c.TAG_REFERENCE, c.TAG_RVALUE_REFERENCE):
        return False
    for _ in range(3):  # const, volatile
        target = target.refer(c.AT_TYPE)
        if target is None:
            return False
        if target.position == whole.position:
            return True
    return False
