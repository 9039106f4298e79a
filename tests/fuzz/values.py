# SPDX-License-Identifier: BSD-2-Clause
"""Harness for what was captured of a traced program: any bytes, in any shape that a plan can have."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from pyebpf.output import jsonl
from pyebpf.output.values import line_of, text_of
from pyebpf.target import shape as shapes
from pyebpf.target.capture import Column
from pyebpf.target.shape import (
    Chars,
    Choice,
    Counted,
    Dynamic,
    Fields,
    Gone,
    Items,
    Number,
    Run,
    Shape,
    TextBytes,
)
from pyebpf.tools.decoder import Decoder
from pyebpf.tools.interfaces import NETWORK_ADDRESSES, GoType
from pyebpf.tools.text import text_behind
from pyebpf.tools.values import as_json

from .display import visible
from .reader import packed, reader, unpacked

_STYLES = (shapes.WORD, shapes.DECIMAL, shapes.HEX, shapes.BOOL, shapes.CHAR, shapes.RUNE, shapes.POINTER,
           shapes.NANOSECONDS, shapes.ENUM, shapes.FLOAT)  # fmt: skip
_CODES = "bBhHiIqQ"
_GO = ("", "int", "string", "*errors.errorString", "*fs.PathError", "*url.Error", "*net.OpError", "*errors.joinError",
       "time.Duration", "syscall.Errno", "bool", "float64", "*fmt.wrapError", *NETWORK_ADDRESSES)  # fmt: skip
_ROOM = 512


class _Maker:
    """Makes shapes of bytes: each byte is a decision."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self.left = data, 0, 60

    def next(self, below: int) -> int:
        byte = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return byte % below

    def number(self, style: str | None = None) -> Number:
        offset, slot = 8 * self.next(24), self.next(64)
        how = style or _STYLES[self.next(len(_STYLES))]
        if how == shapes.FLOAT:
            return Number(offset, slot, "fd"[self.next(2)], how)
        code = _CODES[self.next(len(_CODES))]
        if how == shapes.DECIMAL and self.next(4) == 0:
            return Number(offset, slot, ("16s", "16S")[self.next(2)], how)
        size = 8 * struct.calcsize("<" + code)
        bits = self.next(size) if self.next(3) == 0 else 0
        names = {0: "ZERO", 1: "O\x1b[31mNE"} if how == shapes.ENUM else {}
        return Number(offset, slot, code, how, self.next(size) if bits else 0, bits, names, "type")

    def text(self) -> TextBytes:
        return TextBytes(8 * self.next(24), self.next(64), 8 * self.next(12), self.next(3) == 0)

    def shape(self, depth: int = 0) -> Shape:
        self.left -= 1
        what = self.next(12) if depth < 4 and self.left > 0 else self.next(4)
        if what < 2:
            return self.number()
        if what == 2:
            return self.text()
        if what == 3:
            return Chars(8 * self.next(24), self.next(64), self.next(100), self.next(2) == 0)
        if what == 4:
            names = ("a", "", "b\x1b[2J", "\u202e")
            fields = tuple((names[self.next(4)], self.shape(depth + 1)) for _ in range(self.next(5)))
            return Fields("T\x07", fields, self.next(2) == 0)
        if what == 5:
            length: Number | int = self.number(shapes.DECIMAL) if self.next(2) else self.next(10)
            return Items("[]T", length, tuple(self.shape(depth + 1) for _ in range(self.next(5))))
        if what == 6:
            size = 1 << self.next(4)
            code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
            at, slot = 8 * self.next(20), self.next(64)
            return Run("[]byte", at, slot, size, Number(at + 8, slot, code, shapes.DECIMAL))
        if what == 7:
            alternatives = {key: (f"A{key}", self.shape(depth + 1)) for key in (0, 1, None)[: self.next(4)]}
            return Choice("E", self.number() if self.next(4) else None, alternatives)
        if what == 8:
            return Counted("map[int]int", self.number(shapes.POINTER), self.number(shapes.DECIMAL))
        if what == 9:
            return Gone(("", "optimised away\x1b")[self.next(2)])
        return self.dynamic(depth)

    def dynamic(self, depth: int) -> Dynamic:
        word = shapes.POINTER
        inner = {at: self.dynamic(depth + 1) for at in (0, 16, 32)[: self.next(4)]} if depth < 2 else {}
        texts = {at: self.text() for at in (0, 16, 32)[: self.next(4)]}
        items = tuple(self.dynamic(depth + 1) for _ in range(self.next(3))) if depth < 2 else ()
        return Dynamic(
            "error", self.number(word) if self.next(3) else None, self.number(word), self.number(word),
            self.number(word),
            texts, inner, items, self.number(shapes.DECIMAL) if self.next(2) else None,
        )  # fmt: skip


def _seeds() -> Iterator[bytes]:
    text = struct.pack("<II", 5, 300) + b"ab\xffcd\x1b[31m\xe2\x80\xae" + bytes(range(200))
    for number in range(14):
        for column in range(3):
            yield packed(bytes([number, 3 * column, 1, 2, 7, number, 4, 1, 0, 3] * 6), text * 2, bytes([number]))


@reader("tools.decoder tools.values tools.interfaces tools.text output.values", _seeds, pieces=3, megabytes=64,
        words=(struct.pack("<II", 4, 4), struct.pack("<II", 80, 0x7FFFFFFF), b"\x1b[2J", "\u202e".encode(),
               b"\xff" * 8))  # fmt: skip
def decode(data: bytes) -> None:
    """Captured bytes to values, to text, to JSON: nothing in them reaches the terminal as it is."""
    decisions, capture, masks = unpacked(data, 3)
    maker = _Maker(decisions)
    columns = [Column(f"v{number}", False, maker.shape()) for number in range(1 + maker.next(4))]
    whole = memoryview(capture[:_ROOM].ljust(_ROOM, b"\0"))
    decoder = Decoder(columns, _ROOM, 0, lambda pid, address: GoType(_GO[address % len(_GO)], _GO[address // 16 % 3]))
    failed = int.from_bytes(masks[:16], "little")
    for value in decoder.values(whole, failed, 7):
        shown = text_of(value)
        assert visible(shown), "a control character in a value"
        line = jsonl.line("call", value=as_json(value))
        assert line.isascii() and line.isprintable(), "JSON that isn't ASCII"
        json.loads(line)
    plain = decoder.plain
    if plain is not None:
        try:
            items = struct.unpack_from("<" + plain.format, whole)
        except struct.error:
            return
        plain.values(items)
        made = line_of(plain, [column.label for column in columns])
        rows = [[item, item] for item in items]
        for one in zip(*[column(rows) for column in made.values]):
            assert visible(made.template % one), "a control character in a line"
        list(plain.many(rows))
    for size in (-14, 0, 1, 8, len(whole)):
        text_behind(whole, 8, size)
