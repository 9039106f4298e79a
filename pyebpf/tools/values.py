# SPDX-License-Identifier: BSD-2-Clause
"""Values of a traced program: what captured bytes say."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, Union

from ..target import shape as shapes
from ..target.capture import Column
from ..target.shape import (
    Chars,
    Choice,
    Counted,
    Dynamic,
    Fields,
    Items,
    Number,
    Run,
    Shape,
    TextBytes,
)

TEXT_CUT = 0x7FFFFFFF  # enum text_length in bpf/include/plan.h: how long the text is isn't known
_ERROR_LIMIT = 4096  # the kernel's MAX_ERRNO, and a little


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


class GoType(NamedTuple):
    """A type of a running Go program: its name, and that of the predeclared type it is made of ("" if of another)."""

    name: str
    basic: str = ""


TypeName = Callable[[int, int], Union[GoType, None]]  # (pid, address of a Go type's description)
# Of a capture: its bytes, the mask of failures, how far behind its shape the value lies, the process.
_Read = Callable[[memoryview, int, int, int], "Value"]

_NUMBERS: dict[str, Callable[[int], Any] | None] = {
    shapes.WORD: Word, shapes.HEX: Hex, shapes.BOOL: bool, shapes.CHAR: lambda value: Char(value & 0xFF),
    shapes.RUNE: Rune, shapes.POINTER: Pointer, shapes.NANOSECONDS: Duration, shapes.DECIMAL: None, shapes.FLOAT: None,
}  # fmt: skip
_TEXT_ITEMS = 3


class PlainField(NamedTuple):
    """One column of a `Plain`.

    Attributes:
        first: index of its first item among those unpacked. A number is one item; a text three: the bytes stored, its
            length or TEXT_CUT, and the bytes, of which only those stored count.
        shape: a Number or TextBytes.
    """

    first: int
    shape: Number | TextBytes


class Plain(NamedTuple):
    """The quick way to read a capture that has only numbers and texts, when nothing failed.

    Attributes:
        format: `struct` codes for all of the capture, entry and return, without the byte order.
        fields: the columns.
    """

    format: str
    fields: tuple[PlainField, ...]

    def values(self, items: Sequence[Any]) -> list[Value]:
        """The columns' values, from what `format` unpacks."""
        values: list[Value] = []
        for index, shape in self.fields:
            if isinstance(shape, TextBytes):
                values.append(_text(items[index + 2][: items[index]], items[index + 1], shape.binary))
            else:
                values.append(_styled(items[index], shape))
        return values


    def many(self, columns: Sequence[Sequence[Any]]) -> Iterator[tuple[Value, ...]]:
        """The values of many captures, from sequences of the items that `format` unpacks of each."""
        if not self.fields:
            return repeat(())
        return zip(*[_column(columns, first, shape) for first, shape in self.fields])


class Decoder:
    """Reads the captures of one function.

    Args:
        columns: of the plan.
        entry_size, return_size: of the plan.
        type_name: names Go's types; it is called once for each process and type.

    Attributes:
        plain: the quick way, if there is one.
    """

    __slots__ = ("_names", "_reads", "_return_at", "_type_name", "plain")

    def __init__(
        self, columns: Sequence[Column], entry_size: int, return_size: int, type_name: TypeName | None = None
    ) -> None:
        self._return_at = entry_size
        self._type_name = type_name
        self._names: dict[tuple[int, int], GoType] = {}
        self._reads = [self._reader(column.shape) for column in columns]
        self.plain = self._plain([column.shape for column in columns], entry_size + return_size)

    def values(self, capture: memoryview, failed: int, pid: int = 0) -> list[Value]:
        """The columns' values.

        Args:
            capture: the entry's bytes, then the return's.
            failed: the masks of failures: the entry's, and from bit 64 the return's.
            pid: of the process, to name types by.
        """
        return [read(capture, failed, 0, pid) for read in self._reads]

    def _at(self, offset: int, slot: int) -> int:
        return offset + (self._return_at if slot >= shapes.RETURN_SLOTS else 0)

    def _plain(self, columns: list[Shape], size: int) -> Plain | None:
        pieces: dict[int, tuple[str, int, int]] = {}  # by offset: codes, bytes, items
        for column in columns:
            if isinstance(column, Number) and not column.bits and len(column.code) == 1:
                piece = column.code, struct.calcsize(column.code), 1
            elif isinstance(column, TextBytes):
                piece = f"II{column.size}s", 8 + column.size, _TEXT_ITEMS
            else:
                return None
            if pieces.setdefault(self._at(column.offset, column.slot), piece) != piece:
                return None  # the same word, read as two types
        position, index, codes, indices = 0, 0, [], {}
        for at in sorted(pieces):
            code, length, items = pieces[at]
            codes.append(f"{at - position}x{code}")
            indices[at] = index
            position, index = at + length, index + items
        codes.append(f"{size - position}x")
        fields = [
            PlainField(indices[self._at(column.offset, column.slot)], column)
            for column in columns
            if isinstance(column, (Number, TextBytes))
        ]
        return Plain("".join(codes), tuple(fields))

    # A function that reads a shape.

    def _reader(self, shape: Shape) -> _Read:
        if isinstance(shape, Number):
            return self._number(shape)
        if isinstance(shape, TextBytes):
            return self._text_bytes(shape)
        if isinstance(shape, Chars):
            return self._chars(shape)
        if isinstance(shape, Fields):
            return self._fields(shape)
        if isinstance(shape, Items):
            return self._items(shape)
        if isinstance(shape, Run):
            return self._run(shape)
        if isinstance(shape, Choice):
            return self._choice(shape)
        if isinstance(shape, Dynamic):
            return self._dynamic(shape)
        if isinstance(shape, Counted):
            return self._counted(shape)
        absent = Absent(shape.reason)
        return lambda capture, failed, shift, pid: absent

    def _number(self, shape: Number) -> _Read:
        at, slot = self._at(shape.offset, shape.slot), shape.slot
        wide = shape.code.startswith("16")
        unpack = struct.Struct("<16s" if wide else "<" + shape.code).unpack_from

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            if failed >> slot & 1:
                return _failure(capture, at)
            number = unpack(capture, at + shift)[0]
            if wide:
                number = int.from_bytes(number, "little", signed=shape.code == "16S")
            elif shape.bits:
                number = number >> shape.shift & ((1 << shape.bits) - 1)
                if shape.code.islower() and number >> (shape.bits - 1):
                    number -= 1 << shape.bits
            return _styled(number, shape)

        return read

    def _text_bytes(self, shape: TextBytes) -> _Read:
        at, slot, size, binary = self._at(shape.offset, shape.slot), shape.slot, shape.size, shape.binary

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            if failed >> slot & 1:
                return _failure(capture, at)
            stored, length = _HEADER.unpack_from(capture, at + shift)
            begin = at + shift + 8
            return _text(bytes(capture[begin : begin + min(stored, size)]), length, binary)

        return read

    def _chars(self, shape: Chars) -> _Read:
        at, slot, size, binary = self._at(shape.offset, shape.slot), shape.slot, shape.size, shape.binary

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            if failed >> slot & 1:
                return _failure(capture, at)
            data = bytes(capture[at + shift : at + shift + size])
            data = data if binary else data.split(b"\0", 1)[0]
            return Text(data, len(data), binary)

        return read

    def _fields(self, shape: Fields) -> _Read:
        parts = [(name, self._reader(part)) for name, part in shape.fields]

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            fields = [(name, part(capture, failed, shift, pid)) for name, part in parts]
            return _failed_whole(fields) or Record(shape.type, tuple(fields), shape.tuple)

        return read

    def _items(self, shape: Items) -> _Read:
        length, items = shape.length, [self._reader(item) for item in shape.items]
        count = self._number(length) if isinstance(length, Number) else None

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            total = length if isinstance(length, int) else None
            if count is not None:
                counted = count(capture, failed, shift, pid)
                if not isinstance(counted, int):
                    return counted
                total = counted
            assert total is not None
            values = [item(capture, failed, shift, pid) for item in items[: max(0, total)]]
            return Array(shape.type, total, tuple(values))

        return read

    def _run(self, shape: Run) -> _Read:
        at, slot, size, item = self._at(shape.offset, shape.slot), shape.slot, shape.size, self._reader(shape.item)

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            if failed >> slot & 1:
                return _failure(capture, at)
            stored, length = _HEADER.unpack_from(capture, at)
            values = [item(capture, failed, index * size, pid) for index in range(stored // size)]
            return Array(shape.type, length // size, tuple(values))

        return read

    def _choice(self, shape: Choice) -> _Read:
        chosen = self._number(shape.discriminant) if shape.discriminant is not None else None
        alternatives = {value: (name, self._reader(part)) for value, (name, part) in shape.alternatives.items()}

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            value = chosen(capture, failed, shift, pid) if chosen is not None else None
            if isinstance(value, Unreadable):
                return value
            number = int(value) if isinstance(value, int) else value.value if isinstance(value, EnumValue) else None
            name, part = alternatives.get(number) or alternatives.get(None) or ("", None)
            held = part(capture, failed, shift, pid) if part is not None else None
            if isinstance(held, Record) and not held.fields:
                held = None
            return Choices(shape.type, name or str(number), held)

        return read

    def _counted(self, shape: Counted) -> _Read:
        address, length = self._number(shape.address), self._number(shape.length)

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            where = address(capture, failed, shift, pid)
            if where == 0:
                return Pointer(0)
            count = length(capture, failed, shift, pid)
            return Container(shape.type, count) if isinstance(count, int) else count

        return read

    def _dynamic(self, shape: Dynamic) -> _Read:
        table = None if shape.table is None else self._number(shape.table)
        kind = self._number(shape.dynamic)
        data = None if shape.data is None else self._number(shape.data)
        word = None if shape.word is None else self._number(shape.word)
        texts = {offset: self._text_bytes(text) for offset, text in shape.texts.items()}
        inner = {offset: self._dynamic(part) for offset, part in shape.inner.items()}
        items = [self._dynamic(part) for part in shape.items]
        number = None if shape.number is None else self._number(shape.number)

        def read(capture: memoryview, failed: int, shift: int, pid: int) -> Value:
            first = table(capture, failed, shift, pid) if table is not None else None
            if first == 0:
                return None
            if isinstance(first, Unreadable):
                return first
            described = kind(capture, failed, shift, pid)
            if not isinstance(described, int):
                return None if table is None else described
            name, basic = self._name(pid, described)
            held = data(capture, failed, shift, pid) if data is not None else None

            def text_at(offset: int) -> str | None:
                value = texts[offset](capture, failed, shift, pid) if offset in texts else None
                if not isinstance(value, Text):
                    return None
                return str(value) + ("…" if value.length != len(value.data) else "")

            def cause_at(offset: int) -> str | None:
                cause = inner[offset](capture, failed, shift, pid) if offset in inner else None
                return _cause(cause) if isinstance(cause, Interface) else None

            counted = number(capture, failed, shift, pid) if number is not None else None
            if name in _NETWORK_ADDRESSES:
                octets = texts[_PORT](capture, failed, shift, pid) if _PORT in texts else None
                where = _network_address(octets, counted)
                return Interface(name, held if where is None else _as_text(where))
            if name == "*errors.joinError" and isinstance(counted, int):
                causes = [_cause(item) for item in (part(capture, failed, shift, pid) for part in items[:counted])
                          if isinstance(item, Interface)]  # fmt: skip
                if causes and None not in causes:
                    joined = "\n".join([str(cause) for cause in causes]) + ("\n…" if counted > len(causes) else "")
                    return Interface(name, _as_text(joined))
            content = word(capture, failed, shift, pid) if word is not None else None
            return Interface(name, _held(name, basic, held, content, text_at, cause_at))

        return read

    def _name(self, pid: int, address: int) -> GoType:
        if self._type_name is None:
            return GoType("")
        name = self._names.get((pid, address))
        if name is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            name = self._names[pid, address] = self._type_name(pid, address) or GoType("")
        return name


_HEADER = struct.Struct("<II")  # struct kept_text
_WORD_BYTES = struct.Struct("<q")
_MAX_NAMES = 65536


def _styled(number: Any, shape: Number) -> Value:
    if shape.style == shapes.ENUM:
        return EnumValue(shape.names.get(number, ""), number)
    style = _NUMBERS[shape.style]
    value: Value = number if style is None else style(number)
    return value


def _column(columns: Sequence[Sequence[Any]], first: int, shape: Number | TextBytes) -> Iterable[Value]:
    if isinstance(shape, TextBytes):
        binary = shape.binary
        return [
            _text(data[:stored], length, binary) for stored, length, data in zip(*columns[first : first + _TEXT_ITEMS])
        ]
    if shape.style != shapes.ENUM and _NUMBERS[shape.style] is None:
        return columns[first]
    return [_styled(number, shape) for number in columns[first]]


def _text(data: bytes, length: int, binary: bool) -> Text:
    return Text(data, -1 if length == TEXT_CUT else length, binary)


def _failure(capture: memoryview, at: int) -> Value:
    """What a failed slot holds: -errno, or the address that could not be read."""
    word = _WORD_BYTES.unpack_from(capture, at)[0]
    if -_ERROR_LIMIT < word < 0:
        return Unreadable("out of range" if word == -errno.ERANGE else "bad address")
    return Unreadable("bad address", word & 0xFFFFFFFFFFFFFFFF)


def _failed_whole(fields: list[tuple[str, Value]]) -> Unreadable | None:
    """A structure none of whose bytes could be read is unreadable itself."""
    values = [value for _, value in fields]
    if values and all(isinstance(value, Unreadable) for value in values):
        first = values[0]
        assert isinstance(first, Unreadable)
        return first
    return None


# What Go's interfaces hold.

_NETWORK_ADDRESSES = ("*net.TCPAddr", "*net.UDPAddr")
_PORT = 24  # where expand.py keeps the address's bytes, and the port with them
_MESSAGE_FIRST = frozenset(
    ("*errors.errorString", "*fmt.wrapError", "*fmt.wrapErrors", "*errors.fundamental", "string", "runtime.errorString",
     "runtime.plainError", "errors.errorString", "*http.httpError", "*poll.errNetClosing")
)  # fmt: skip
_INTEGERS = {
    "int": 64, "int64": 64, "int32": 32, "int16": 16, "int8": 8,
    "uint": -64, "uint64": -64, "uint32": -32, "uint16": -16, "uint8": -8, "uintptr": -64,
    "time.Duration": 64,
}  # fmt: skip


def _held(
    name: str,
    basic: str,
    data: Value,
    word: Value,
    text_at: Callable[[int], str | None],
    cause_at: Callable[[int], str | None],
) -> Value:
    """The value in an interface, as far as its type is known: an error's message, a boxed number or string."""
    message = text_at(0) if name in _MESSAGE_FIRST or basic == "string" else _message(name, text_at, cause_at)
    if message is not None:
        return _as_text(message)
    if isinstance(word, int) and name == "syscall.Errno":
        return EnumValue(os.strerror(word) if word < _ERROR_LIMIT else "", int(word))
    basic = basic or name
    if isinstance(word, int) and basic in _INTEGERS:
        bits = _INTEGERS[basic]
        number = word & ((1 << abs(bits)) - 1)
        number = number - (1 << bits) if bits > 0 and number >> (bits - 1) else number
        return Duration(number) if name == "time.Duration" else number
    if isinstance(word, int) and basic == "bool":
        return bool(word & 1)
    if isinstance(word, int) and basic in ("float64", "float32"):
        code, size = ("<d", 8) if basic == "float64" else ("<f", 4)
        value: float = struct.unpack(code, (word & ((1 << size * 8) - 1)).to_bytes(size, "little"))[0]
        return value
    return data


def _as_text(message: str) -> Text:
    raw = message.encode("utf-8", "surrogateescape")
    return Text(raw, len(raw))


def _network_address(octets: Value, port: Value) -> str | None:
    """An address as net.TCPAddr's String makes it."""
    if not isinstance(octets, Text) or not isinstance(port, int):
        return None
    raw = octets.data
    if len(raw) == 16 and raw[:12] == bytes(10) + b"\xff\xff":
        raw = raw[12:]
    if octets.length not in (4, 16) or len(raw) not in (4, 16):
        return f":{port}" if not octets.length else None
    if len(raw) == 4:
        return f"{'.'.join(map(str, raw))}:{port}"
    import socket

    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]:{port}"


def _message(
    name: str, text_at: Callable[[int], str | None], cause_at: Callable[[int], str | None]
) -> str | None:
    """The message of an error type of Go's library, as its Error method makes it; None if it is another type."""
    if name in ("*fs.PathError", "*os.PathError"):
        parts = text_at(0), text_at(16), cause_at(32)
        return None if parts[0] is None else f"{parts[0]} {parts[1]}: {parts[2] or '…'}"
    if name == "*url.Error":
        parts = text_at(0), text_at(16), cause_at(32)
        return None if parts[0] is None else f'{parts[0]} "{parts[1]}": {parts[2] or "…"}'
    if name == "*strconv.NumError":
        parts = text_at(0), text_at(16), cause_at(32)
        return None if parts[0] is None else f'strconv.{parts[0]}: parsing "{parts[1]}": {parts[2] or "…"}'
    if name in ("*os.SyscallError", "*exec.Error"):
        first, cause = text_at(0), cause_at(16)
        return None if first is None else f"{first}: {cause or '…'}"
    if name == "*net.OpError":
        first, source, address = text_at(0), cause_at(32), cause_at(48)
        if first is None:
            return None
        network = f" {text_at(16)}" if text_at(16) else ""
        ends = f" {source}" if source else ""
        ends += f"{'->' if source else ' '}{address}" if address else ""
        return f"{first}{network}{ends}: {cause_at(64) or '…'}"
    if name == "*net.DNSError":
        first = text_at(0)
        return None if first is None else f"lookup {text_at(16)}: {first}"
    return None


def _cause(interface: Interface) -> str | None:
    value = interface.value
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, EnumValue):
        # The text of syscall.Errno in Go begins with a small letter.
        return value.name[:1].lower() + value.name[1:] if value.name else f"errno {value.value}"
    return interface.type or None


def as_json(value: Value) -> Any:
    """A value as JSON has it: numbers, texts, lists and objects; what could not be read is {"unreadable": reason}."""
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, Rune):
        return chr(value) if value < 0x110000 else int(value)
    if isinstance(value, EnumValue):
        return value.name or value.value
    if isinstance(value, Record):
        if value.tuple:
            return [as_json(field) for _, field in value.fields]
        return {name or "…": as_json(field) for name, field in value.fields}
    if isinstance(value, Array):
        return [as_json(item) for item in value.items]
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
