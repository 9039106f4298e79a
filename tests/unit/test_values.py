# SPDX-License-Identifier: BSD-2-Clause
"""Values as text and as JSON, and the quick way to decode them."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from pyebpf.output.values import Line, line_of, quoted, text_of
from pyebpf.target import shape
from pyebpf.target.capture import Column
from pyebpf.target.shape import Chars, Gone, Number, TextBytes
from pyebpf.tools.decoder import TEXT_CUT, Decoder
from pyebpf.tools.values import (
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
    as_json,
)


@pytest.mark.parametrize(
    ("value", "text", "plain"),
    [
        (None, "nil", None),
        (True, "true", True),
        (-5, "-5", -5),
        (1.5, "1.5", 1.5),
        (float("nan"), "nan", "nan"),
        (Pointer(0), "nil", 0),
        (Pointer(0xC000), "0xc000", 0xC000),
        (Word(10), "10", 10),
        (Word(0xC000012345), "0xc000012345", 0xC000012345),
        (Hex(255), "0xff", 255),
        (Char(65), "'A'", 65),
        (Char(0), "'\\0'", 0),
        (Char(0xFF), "'\\xff'", 0xFF),
        (Rune(0x1F600), "'😀'", "😀"),
        (Rune(0x7FFFFFFF), "2147483647", 0x7FFFFFFF),
        (Duration(18_600), "18.6us", 18_600),
        (Duration(-1_500_000_000), "-1.5s", -1_500_000_000),
        (Duration(7), "7ns", 7),
        (Text(b"abc", 3), '"abc"', "abc"),
        (Text(b"abc", 300), '"abc…" (300 bytes)', {"text": "abc", "length": 300}),
        (Text(b"abc", -1), '"abc…"', {"text": "abc", "length": None}),
        (Text(b'a"\\\n\x1b\xff', 6), '"a\\"\\\\\\n\\x1b\\xff"', 'a"\\\n\x1b\\xff'),
        (Text("a\u202eb".encode(), 5), '"a\\u202eb"', "a\u202eb"),
        (EnumValue("RED", 1), "RED", "RED"),
        (EnumValue("", 7), "7", 7),
        (Record("A", (("x", 1), ("", Absent("")))), "{x: 1, …}", {"x": 1, "…": {"absent": "left out"}}),
        (Record("", (("n", 1), ("err", None)), True), "(1, nil)", [1, None]),
        (Array("[]int", 2, (1, 2)), "[1, 2]", [1, 2]),
        (Array("[]int", 9, (1, 2)), "[1, 2, …] (9 items)", {"items": [1, 2], "length": 9}),
        (Array("[]int", 0, ()), "[]", []),
        (Container("map[string]int", 4), "map[string]int (4 items)", {"type": "map[string]int", "len": 4}),
        (Choices("Option", "None", None), "None", "None"),
        (Choices("Option", "Some", Record("", (("0", 5),), True)), "Some(5)", {"Some": [5]}),
        (Interface("int", 5), "int(5)", {"type": "int", "value": 5}),
        (Interface("", Pointer(16)), "interface(0x10)", {"type": "", "value": 16}),
        (Unreadable("bad address", 8), "<unreadable: bad address 0x8>", {"unreadable": "bad address", "address": 8}),
        (Unreadable("bad address"), "<unreadable: bad address>", {"unreadable": "bad address"}),
        (Absent("optimised away here"), "<optimised away here>", {"absent": "optimised away here"}),
    ],
    ids=repr,
)
def test_as_text_and_json(value: Value, text: str, plain: object) -> None:
    assert text_of(value) == text
    assert as_json(value) == plain
    json.dumps(as_json(value), allow_nan=False)


def test_a_character_cut_in_two_is_left_out() -> None:
    assert quoted("aé".encode()[:2], 3) == '"a…" (3 bytes)'
    assert quoted(b"\xc3", 1) == '"\\xc3"'


def kept(stored: bytes, length: int, size: int) -> bytes:
    return struct.pack("<II", len(stored), length) + stored.ljust(size, b"?")


COLUMNS = (
    Column("n%", False, Number(0, 0, "q", shape.DECIMAL)),
    Column("s", False, TextBytes(8, 1, 8)),
    Column("p", False, Number(24, 2, "Q", shape.POINTER)),
    Column("r", True, Number(0, 64, "q", shape.DECIMAL)),
    Column("again", True, Number(0, 0, "q", shape.DECIMAL)),
)


def lines(line: Line, rows: list[tuple[Any, ...]]) -> list[str]:
    columns = list(zip(*rows))
    return [line.template % values for values in zip(*[column(columns) for column in line.values])]


def test_the_quick_way_says_the_same() -> None:
    decoder = Decoder(COLUMNS, 32, 8)
    assert decoder.plain is not None
    assert struct.calcsize("<" + decoder.plain.format) == 40
    line = line_of(decoder.plain, [column.label for column in COLUMNS])
    for text, length, shown in (
        (b"abc", 3, '"abc"'),
        (b"a b\n", 4, '"a b\\n"'),
        (b"abcdefgh", 100, '"abcdefgh…" (100 bytes)'),
        (b"abcdefgh", TEXT_CUT, '"abcdefgh…"'),
    ):
        capture = struct.pack("<q", -5) + kept(text, length, 8) + struct.pack("<Q", 0x10) + struct.pack("<q", 7)
        items = struct.unpack("<" + decoder.plain.format, capture)
        values = decoder.values(memoryview(capture), 0)
        assert decoder.plain.values(items) == values
        assert lines(line, [items]) == [f"n%=-5 s={shown} p=0x10 r=7 again=-5"]
        assert lines(line, [items]) == [
            " ".join([f"{column.label}={text_of(value)}" for column, value in zip(COLUMNS, values)])
        ]


def test_numbers_alone_need_one_template() -> None:
    decoder = Decoder((COLUMNS[0], COLUMNS[3]), 32, 8)
    assert decoder.plain is not None
    capture = struct.pack("<q24xq", 10, 20)
    items = struct.unpack("<" + decoder.plain.format, capture)
    assert lines(line_of(decoder.plain, ["a", "b"]), [items, items]) == ["a=10 b=20", "a=10 b=20"]


@pytest.mark.parametrize("style", [shape.WORD, shape.HEX, shape.BOOL, shape.CHAR, shape.RUNE, shape.POINTER,
                                   shape.NANOSECONDS, shape.DECIMAL, shape.ENUM])  # fmt: skip
def test_many_numbers_are_shown_as_one_is(style: str) -> None:
    decoder = Decoder((Column("a", False, Number(0, 0, "Q", style, names={1: "one"})),), 8, 0)
    assert decoder.plain is not None
    numbers = [0, 1, 65, 1 << 32, (1 << 64) - 1]
    values = [decoder.values(memoryview(struct.pack("<Q", number)), 0)[0] for number in numbers]
    rows = [struct.unpack("<" + decoder.plain.format, struct.pack("<Q", number)) for number in numbers]
    assert list(decoder.plain.many(list(zip(*rows)))) == [(value,) for value in values]
    assert lines(line_of(decoder.plain, ["a"]), rows) == [f"a={text_of(value)}" for value in values]


TEXTS = [(b"GET", 3), (b"", 0), (b"a b", 3), (b'say "x"', 7), (b"back\\", 5), (b"two\nlines", 9), (b"\xc3\xa9", 2),
         (b"\xff", 1), (b"\x1b[m", 3), (b"12345678", 20), (b"12345678", TEXT_CUT), (b"%s", 2)]  # fmt: skip


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:3], *[[(b"GET", 3), text, (b"x", 1)] for text in TEXTS]])
def test_many_texts_are_shown_as_one_is(texts: list[tuple[bytes, int]]) -> None:
    decoder = Decoder((Column("s", False, TextBytes(0, 0, 16)),), 24, 0)
    assert decoder.plain is not None
    captures = [kept(text, length, 16) for text, length in texts]
    rows = [struct.unpack("<" + decoder.plain.format, capture) for capture in captures]
    values = [decoder.values(memoryview(capture), 0)[0] for capture in captures]
    assert list(decoder.plain.many(list(zip(*rows)))) == [(value,) for value in values]
    assert lines(line_of(decoder.plain, ["s"]), rows) == [f"s={text_of(value)}" for value in values]


def test_a_failed_slot_is_unreadable() -> None:
    decoder = Decoder(COLUMNS, 32, 8)
    for word, expected in ((-14, Unreadable("bad address")), (-34, Unreadable("out of range")),
                           (0x10, Unreadable("bad address", 0x10))):  # fmt: skip
        capture = struct.pack("<qqqqq", 0, word, 0, 0, word)
        values = decoder.values(memoryview(capture), 1 << 1 | 1 << 64)
        assert (values[1], values[3], values[0]) == (expected, expected, 0)


def test_what_can_t_be_read_quickly() -> None:
    for part in (Gone("x"), Chars(0, 0, 8)):
        assert Decoder((Column("c", False, part),), 8, 0).plain is None


def test_a_type_is_named_once() -> None:
    asked = []
    kind = Number(8, 1, "Q", shape.POINTER)
    dynamic = shape.Dynamic("any", Number(0, 0, "Q", shape.POINTER), kind, Number(16, 2, "Q", shape.POINTER))
    decoder = Decoder((Column("v", False, dynamic),), 24, 0, lambda pid, address: asked.append((pid, address)))
    capture = memoryview(struct.pack("<QQQ", 1, 0x100, 0x200))
    assert decoder.values(capture, 0, 7) == decoder.values(capture, 0, 7) == [Interface("", Pointer(0x200))]
    assert asked == [(7, 0x100)]
