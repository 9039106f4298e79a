# SPDX-License-Identifier: BSD-2-Clause
"""What captured bytes are: a description that `tools/values.py` turns into decoders.

Offsets are from the beginning of a side's capture. Slots 0 to 63 are the entry's, 64 to 127 the return's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Union

RETURN_SLOTS = 64  # the first slot of the return

# How a number is shown; the machine's words have no type.
WORD = "word"  # of a type nobody named: decimal if it is small, else hexadecimal
DECIMAL = "decimal"
HEX = "hex"
BOOL = "bool"
CHAR = "char"
RUNE = "rune"
FLOAT = "float"
POINTER = "pointer"
NANOSECONDS = "ns"
ENUM = "enum"


class Number(NamedTuple):
    """A number.

    Attributes:
        offset: of its bytes.
        slot: whose failure is its failure.
        code: for `struct`: one of bBhHiIqQfd, or 16s and 16S: integers of 16 bytes, unsigned and signed.
        style: see above.
        shift, bits: of a bit field: its lowest bit and how many they are; 0 bits: all.
        names: of an ENUM: names by value.
        type: the type's name.
    """

    offset: int
    slot: int
    code: str
    style: str
    shift: int = 0
    bits: int = 0
    names: Mapping[int, str] = {}
    type: str = ""


class TextBytes(NamedTuple):
    """A text behind its header (`struct kept_text`); at most `size` bytes follow it. `binary`: bytes, not text."""

    offset: int
    slot: int
    size: int
    binary: bool = False


class Chars(NamedTuple):
    """A text in an array of `size` characters, up to its first NUL; all of them if it is `binary`."""

    offset: int
    slot: int
    size: int
    binary: bool = False


class Fields(NamedTuple):
    """A structure. `tuple`: its fields have no names worth showing."""

    type: str
    fields: tuple[tuple[str, Shape], ...]
    tuple: bool = False


class Items(NamedTuple):
    """An array, slice or vector, item by item; the first that is out of range ends it.

    Attributes:
        type: its name.
        length: where the number of items there are was kept, or that number.
        items: those that were kept.
    """

    type: str
    length: Number | int
    items: tuple[Shape, ...]


class Run(NamedTuple):
    """Items in a row, behind a `struct kept_text`.

    Attributes:
        type: of all of it, by name.
        size: of one, in bytes.
        item: the first; the others follow it.
    """

    type: str
    offset: int
    slot: int
    size: int
    item: Shape


class Choice(NamedTuple):
    """A Rust enum: which alternative, by its discriminant; None: every other value."""

    type: str
    discriminant: Number | None
    alternatives: Mapping[int | None, tuple[str, Shape]]


class Dynamic(NamedTuple):
    """A Go interface.

    Attributes:
        type: the interface's.
        table: its first word; 0 is nil, and nothing else was kept then. None: it is nil if `dynamic` failed.
        dynamic: the address of the dynamic type's description.
        data: its second word.
        word: 8 bytes at the data.
        texts: what may be strings in the data, by their offset in it.
        inner: what may be interfaces in the data, by their offset in it.
        items: what may be errors in a slice at the beginning of the data, in order.
        number: of that slice's elements; of a network address: its port.
    """

    type: str
    table: Number | None
    dynamic: Number
    data: Number | None = None
    word: Number | None = None
    texts: Mapping[int, TextBytes] = {}
    inner: Mapping[int, Dynamic] = {}
    items: tuple[Dynamic, ...] = ()
    number: Number | None = None


class Counted(NamedTuple):
    """A Go map or channel: its address, and how many elements it has."""

    type: str
    address: Number
    length: Number


class Gone(NamedTuple):
    """Not captured. `reason`: why; "" is what was left out for being too much."""

    reason: str


Shape = Union[Number, TextBytes, Chars, Fields, Items, Run, Choice, Dynamic, Counted, Gone]
