# SPDX-License-Identifier: BSD-2-Clause
"""Types of a program's values, as debug information tells them, in one vocabulary for all languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Kinds of types. Go's string, slice, interface, map, chan and func are kinds of their own; so are C++'s std::string,
# Rust's &str, String and Vec, which debug information describes as structures but nobody wants to read so.
VOID = "void"
INT = "int"  # signed
UINT = "uint"
BOOL = "bool"
CHAR = "char"  # one byte that holds a character: C's char, signed or unsigned
RUNE = "rune"  # a Unicode code point in 32 bits (Rust char, C++ char32_t; Go's rune is an int32 to the debugger)
FLOAT = "float"
COMPLEX = "complex"
ENUM = "enum"
POINTER = "pointer"
REFERENCE = "reference"  # C++ & and &&: a pointer that is shown as what it points to
STRUCT = "struct"
UNION = "union"
ARRAY = "array"
FUNCTION = "function"  # what a function pointer points to
STRING = "string"  # Go string, Rust &str: pointer, then length in bytes
SLICE = "slice"  # Go []T: pointer, length, capacity; Rust &[T]: pointer, length
INTERFACE = "interface"  # Go: a pointer to a type or itab, then the data word
MAP = "map"  # Go: a pointer to the runtime's map
CHAN = "chan"  # Go: a pointer to the runtime's channel
FUNC = "func"  # Go: a pointer to a closure
STD_STRING = "std::string"  # C++: see `text`
RUST_STRING = "rust String"  # see `text`
RUST_VEC = "rust Vec"  # see `text` and `target`
VARIANT = "variant"  # Rust enum with data: `members` are common, `variants` the rest
UNKNOWN = "unknown"  # what could not be read; `name` says why


class Member(NamedTuple):
    """A part of a structure, union, or of Go's and Rust's built-in composites.

    Attributes:
        name: "" for a base class, or an anonymous structure or union: its members are found as if they were here.
        offset: bytes from the beginning of the whole.
        type: its type.
        bit_offset: of a bit field: bits from the lowest bit of the (little-endian) bytes at `offset`, else 0.
        bit_size: of a bit field, else 0.
        embedded: the name is the type's (a Go embedded field, a C++ base class): members are also found through it.
    """

    name: str
    offset: int
    type: Type
    bit_offset: int = 0
    bit_size: int = 0
    embedded: bool = False


class Variant(NamedTuple):
    """One alternative of a Rust enum: the discriminant's value (None: every other), and its only member."""

    value: int | None
    member: Member


class Text(NamedTuple):
    """Where a string or vector type keeps its bytes: offsets of two words from the value's beginning.

    Attributes:
        pointer: of the word that points to the data.
        length: of the word that holds the number of elements; -1: the data ends with a NUL.
    """

    pointer: int
    length: int


class Type:
    """A type. Its parts are read from the debug information when they are asked for, as types refer to one another.

    Attributes:
        kind: one of the constants above.
        name: as the language writes it, qualified: "main.Args", "*http.Request", "std::string", "unsigned int".
        size: in bytes; 0 if unknown or empty.
        align: in bytes, by the language's rules; 1 if unknown.
        count: of an array: how many elements; -1: unknown.
        enumerators: of an enum: names by value.
        text: of a string, slice or vector: where its words are.
        runtime_type: Go: offset of the type's description from moduledata.types (DW_AT_go_runtime_type), else None.
        by_reference: C++: passed and returned by address, as copying it takes code (DW_CC_pass_by_reference).
    """

    __slots__ = (
        "_members", "_target", "_variants", "align", "by_reference", "count", "enumerators", "kind", "name",
        "runtime_type", "size", "text",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        name: str,
        size: int,
        *,
        align: int = 1,
        target: Type | Callable[[], Type] | None = None,
        members: Sequence[Member] | Callable[[], Sequence[Member]] = (),
        variants: Sequence[Variant] | Callable[[], Sequence[Variant]] = (),
        count: int = -1,
        enumerators: dict[int, str] | None = None,
        text: Text | None = None,
        runtime_type: int | None = None,
        by_reference: bool = False,
    ) -> None:
        self.kind, self.name, self.size, self.align = kind, name, size, align
        self._target, self._members, self._variants = target, members, variants
        self.count = count
        self.enumerators = enumerators or {}
        self.text = text
        self.runtime_type = runtime_type
        self.by_reference = by_reference

    @property
    def target(self) -> Type | None:
        """What a pointer or reference points to; an array's, slice's, vector's or channel's element; a map's value."""
        if callable(self._target):
            self._target = self._target()
        return self._target

    @property
    def members(self) -> Sequence[Member]:
        """Members of a structure or union, in order of declaration."""
        if callable(self._members):
            self._members = self._members()
        return self._members

    @property
    def variants(self) -> Sequence[Variant]:
        """Alternatives of a VARIANT; its first member, if any, is the discriminant."""
        if callable(self._variants):
            self._variants = self._variants()
        return self._variants

    def __repr__(self) -> str:
        return f"<Type {self.kind} {self.name!r} {self.size}>"
