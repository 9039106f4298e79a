# SPDX-License-Identifier: BSD-2-Clause
"""What a type is called, as its language writes it."""

from __future__ import annotations

from itertools import islice

from . import constants as c
from .unit import Entry

_MAX_NAME = 1 << 10
_MAX_NESTING = 32
_MAX_PARAMETERS = 16
_MAX_DIMENSIONS = 16

_KEYWORDS = {
    c.TAG_STRUCTURE: "struct", c.TAG_CLASS: "class", c.TAG_UNION: "union", c.TAG_ENUMERATION: "enum",
    c.TAG_INTERFACE: "struct",
}  # fmt: skip
QUALIFIERS = (c.TAG_CONST, c.TAG_VOLATILE, c.TAG_RESTRICT, c.TAG_ATOMIC, c.TAG_IMMUTABLE)
_MARKS = {c.TAG_POINTER: "*", c.TAG_REFERENCE: "&", c.TAG_RVALUE_REFERENCE: "&&"}

# Inline namespaces that tell versions of a library apart; people don't write them.
_VERSIONS = ("__cxx11", "__1")


def type_name(entry: Entry | None, language: str) -> str:
    """The name of a type, qualified, without const and volatile; of void if ``entry`` is None.

    Args:
        language: of the program, for entries that don't tell (those which several units share).

    Raises:
        BinaryError: the debug information is damaged.
    """
    return _name(entry, language, _MAX_NESTING)[:_MAX_NAME]


def _name(entry: Entry | None, language: str, depth: int) -> str:
    while entry is not None and entry.tag in QUALIFIERS and depth:
        entry, depth = entry.refer(c.AT_TYPE), depth - 1
    if entry is None:
        return "void"
    if not depth:
        return "..."
    tag, language = entry.tag, entry.unit.language or language
    if c.AT_SPECIFICATION in entry:  # it is defined elsewhere than where it belongs
        return _name(entry.refer(c.AT_SPECIFICATION), language, depth - 1)
    name = entry.text(c.AT_NAME)
    if name:
        if language == "c":
            return f"{_KEYWORDS[tag]} {name}" if tag in _KEYWORDS else name
        return qualified(entry, name) if language in ("c++", "rust") and tag not in _MARKS else name
    if c.AT_SIGNATURE in entry:
        return _name(entry.refer(c.AT_SIGNATURE), language, depth - 1)
    if tag in _KEYWORDS:
        return f"{_KEYWORDS[tag]} {{...}}"
    if tag in _MARKS:
        return _pointer(entry.refer(c.AT_TYPE), _MARKS[tag], language, depth)
    if tag == c.TAG_ARRAY:
        return f"{_name(entry.refer(c.AT_TYPE), language, depth - 1)} {_dimensions(entry)}"
    if tag == c.TAG_SUBROUTINE:
        return _function(entry, "", language, depth)
    return "..."


def _pointer(target: Entry | None, mark: str, language: str, depth: int) -> str:
    plain = target
    while plain is not None and plain.tag in QUALIFIERS and depth:
        plain, depth = plain.refer(c.AT_TYPE), depth - 1
    if plain is not None and plain.tag == c.TAG_SUBROUTINE and depth:
        return _function(plain, mark, language, depth)
    if plain is not None and plain.tag == c.TAG_ARRAY and depth and not plain.text(c.AT_NAME):
        return f"{_name(plain.refer(c.AT_TYPE), language, depth - 1)} ({mark}) {_dimensions(plain)}"
    name = _name(plain, language, max(depth - 1, 0))
    return f"{name[:_MAX_NAME]}{'' if name.endswith('*') else ' '}{mark}"


def _function(entry: Entry, mark: str, language: str, depth: int) -> str:
    result = _name(entry.refer(c.AT_TYPE), language, depth - 1)
    parameters: list[str] = []
    for child in entry.children():
        if len(parameters) == _MAX_PARAMETERS:
            parameters.append("...")
            break
        if child.tag == c.TAG_FORMAL:
            # An eighth of the nesting for each level: names of functions of functions grow with its power.
            parameters.append(_name(child.refer(c.AT_TYPE), language, depth // 8)[:_MAX_NAME])
        elif child.tag == c.TAG_UNSPECIFIED_PARAMETERS:
            parameters.append("...")
    return f"{result} ({mark})({', '.join(parameters)})" if mark else f"{result} ({', '.join(parameters)})"


def _dimensions(entry: Entry) -> str:
    return "".join(f"[{count if count >= 0 else ''}]" for count in dimensions(entry)) or "[]"


def dimensions(entry: Entry) -> list[int]:
    """How many elements each dimension of an array has; -1 for those that aren't fixed."""
    ranges = (child for child in entry.children() if child.tag == c.TAG_SUBRANGE)
    return [_count(child) for child in islice(ranges, _MAX_DIMENSIONS)]


def _count(subrange: Entry) -> int:
    count = subrange.number(c.AT_COUNT)
    if count is None:
        last = subrange.signed(c.AT_UPPER_BOUND)
        # A flexible array's bound is absent, or, with clang, a count of all ones.
        count = -1 if last is None else last + 1
    return count if 0 <= count < 1 << 48 else -1


def qualified(entry: Entry, name: str) -> str:
    """``name`` after the names of the namespaces and classes that ``entry`` is in."""
    parts = []
    for scope in entry.unit.scope(entry.position):
        part = scope.text(c.AT_NAME)
        if not part and scope.tag == c.TAG_NAMESPACE:
            part = "(anonymous namespace)"
        if part and part not in _VERSIONS:
            parts.append(part)
    return "::".join([*parts, name])
