# SPDX-License-Identifier: BSD-2-Clause
"""What reaches a terminal or a pipe: escapes, JSON, folded stacks."""

from __future__ import annotations

import json

import pytest

from pyebpf.output import folded, jsonl
from pyebpf.output.text import safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("main.(*Arith).Mul", "main.(*Arith).Mul"),
        ("naïve·函数", "naïve·函数"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        ("\x9b31m", "\\x9b31m"),
        ("evil\u202etxt", "evil\\u202etxt"),
        (b"bytes \xff\xfe", "bytes \\xff\\xfe"),
        (b"\xe5\x87\xbd", "函"),
        ("un\u00adseen", "un\\xadseen"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("a\u3164b", "a\\u3164b"),
        ("\u06dd \U0001f600", "\u06dd \U0001f600"),
    ],
)
def test_safe(text: str | bytes, shown: str) -> None:
    assert safe(text) == shown


def test_json_lines_are_one_line_of_ascii() -> None:
    line = jsonl.line("call", function="函\n\x1b", comm=b"a\xffb", n=3)
    assert line.isascii() and "\n" not in line and "\x1b" not in line
    assert json.loads(line) == {"type": "call", "function": "函\n\x1b", "comm": "a\\xffb", "n": 3}
    with pytest.raises(TypeError):
        jsonl.line("call", what=object())


def test_folded() -> None:
    assert folded.line(b"sh;op", ["inner", "a;b", "main"], 23) == "sh:op;main;a:b;inner 23"
