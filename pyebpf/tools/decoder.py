# SPDX-License-Identifier: BSD-2-Clause
"""From captured bytes to values."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

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
from .interfaces import NETWORK_ADDRESSES, PORT, GoType, TypeName, as_text, cause_of, held_in, network_address
from .values import (
    Absent,
    Array,
    Char,
    Choices,
    Container,
    Duration,
    EnumValue,
    Hex,
    Interface,
    Pointer,
    Record,
    Rune,
    Text,
    Unreadable,
    Value,
    Word,
)

TEXT_CUT = 0x7FFFFFFF  # enum text_length in bpf/include/plan.h: how long the text is isn't known
_MAX_ERRNO = 4095  # include/linux/err.h

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
            stored = min(stored, len(capture) - at - _HEADER.size)
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
                return cause_of(cause) if isinstance(cause, Interface) else None

            counted = number(capture, failed, shift, pid) if number is not None else None
            if name in NETWORK_ADDRESSES:
                octets = texts[PORT](capture, failed, shift, pid) if PORT in texts else None
                where = network_address(octets, counted)
                return Interface(name, held if where is None else as_text(where))
            if name == "*errors.joinError" and isinstance(counted, int):
                causes = [cause_of(item) for item in (part(capture, failed, shift, pid) for part in items[:counted])
                          if isinstance(item, Interface)]  # fmt: skip
                if causes and None not in causes:
                    joined = "\n".join([str(cause) for cause in causes]) + ("\n…" if counted > len(causes) else "")
                    return Interface(name, as_text(joined))
            content = word(capture, failed, shift, pid) if word is not None else None
            return Interface(name, held_in(name, basic, held, content, text_at, cause_at))

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
    if -_MAX_ERRNO <= word < 0:
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
