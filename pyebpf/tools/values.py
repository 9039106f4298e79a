# SPDX-License-Identifier: BSD-2-Clause
"""Values of a traced program."""

from __future__ import annotations

from typing import Any, NamedTuple, Union


class Text(NamedTuple):
    """A string, or bytes if `binary`. `length`: bytes there were; -1: more than `data`, nobody knows how many."""

    data: bytes
    length: int
    binary: bool = False

    def __str__(self) -> str:
        return self.data.decode("utf-8", "backslashreplace")


class Pointer(int):
    """An address; 0 is nil."""


class Word(int):
    """A machine word whose type nobody told."""


class Hex(int):
    """A number to be shown in hexadecimal."""


class Char(int):
    """A character of one byte."""


class Rune(int):
    """A Unicode code point."""


class Duration(int):
    """Nanoseconds."""


class EnumValue(NamedTuple):
    """`name` is "" for a number that is none of the enum's values."""

    name: str
    value: int


class Record(NamedTuple):
    """A structure. `tuple`: its fields have no names of their own."""

    type: str
    fields: tuple[tuple[str, Value], ...]
    tuple: bool = False


class Array(NamedTuple):
    """`length`: how many items there are; `items` are the first of them."""

    type: str
    length: int
    items: tuple[Value, ...]


class Container(NamedTuple):
    """A Go map or channel, by how many elements it has."""

    type: str
    length: int


class Choices(NamedTuple):
    """A Rust enum: its alternative, and what that holds (None: nothing)."""

    type: str
    name: str
    value: Value


class Interface(NamedTuple):
    """A Go interface that isn't nil: its dynamic type's name ("" if that isn't known), what it holds."""

    type: str
    value: Value


class Unreadable(NamedTuple):
    """Memory that could not be read. `address`: where, if that is known."""

    reason: str
    address: int | None = None


class Absent(NamedTuple):
    """Not captured, and why; "" for what was left out for being too much."""

    reason: str


Value = Union[
    None, bool, int, float, Text, EnumValue, Record, Array, Container, Choices, Interface, Unreadable, Absent
]  # fmt: skip


def as_json(value: Value) -> Any:
    """A value as JSON has it: numbers, texts, lists and objects.

    What was cut is {"text": …, "length": bytes or null} or {"items": […], "length": items}; what could not be read is
    {"unreadable": reason}; what isn't there is {"absent": reason}.
    """
    if isinstance(value, int) and not isinstance(value, Rune):  # most are
        return value
    if isinstance(value, Text):
        if value.length == len(value.data):
            return str(value)
        return {"text": str(value), "length": value.length if value.length >= 0 else None}
    if isinstance(value, Rune):
        return chr(value) if 0 <= value < 0x110000 else int(value)
    if isinstance(value, EnumValue):
        return value.name or value.value
    if isinstance(value, Record):
        if value.tuple:
            return [as_json(field) for _, field in value.fields]
        return {name or "…": as_json(field) for name, field in value.fields}
    if isinstance(value, Array):
        items = [as_json(item) for item in value.items]
        return items if len(items) == value.length else {"items": items, "length": value.length}
    if isinstance(value, Container):
        return {"type": value.type, "len": value.length}
    if isinstance(value, Choices):
        return value.name if value.value is None else {value.name: as_json(value.value)}
    if isinstance(value, Interface):
        return {"type": value.type, "value": as_json(value.value)}
    if isinstance(value, Unreadable):
        return {"unreadable": value.reason, **({} if value.address is None else {"address": value.address})}
    if isinstance(value, Absent):
        return {"absent": value.reason or "left out"}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
