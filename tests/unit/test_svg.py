# SPDX-License-Identifier: BSD-2-Clause
"""The writer of SVG: well-formed whatever the names are."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyebpf.output.svg import Svg, escaped, number, shortened

HOSTILE = '</text><script>alert(1)</script>"\'&\x1b[31m\x00\u202e\ufffe\uffff\udc80]]>'


def test_hostile_text_is_only_text() -> None:
    svg = Svg(100, HOSTILE)
    svg.text(1, 2, HOSTILE, "soft", "end", 9)
    svg.rect(0, 0, 1, 1, "bg", HOSTILE)
    root = ElementTree.fromstring(svg.document(50).encode())
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags == ["svg", "title", "style", "rect", "text", "rect", "title"]
    text = root.findtext("{http://www.w3.org/2000/svg}text")
    assert text == '</text><script>alert(1)</script>"\'&\\x1b[31m\\x00\\u202e\\ufffe\\uffff\\x80]]>'


@given(st.text(alphabet=st.characters(blacklist_categories=())))
def test_any_text_is_well_formed(text: str) -> None:
    ElementTree.fromstring(f'<a b="{escaped(text)}">{escaped(text)}</a>'.encode())


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("\x1b\x1b", 5, "\\x1b…"), (b"\xff", 9, "\\xff"), ("a" * 10**6, 4, "aaa…")],
)
def test_shortened(text: str | bytes, most: int, shown: str) -> None:
    assert shortened(text, most) == shown


def test_number() -> None:
    assert [number(value) for value in (0, 1.5, 100, 1 / 3, -0.00001)] == ["0", "1.5", "100", "0.333", "-0"]


def test_nothing_from_outside_and_two_colour_schemes() -> None:
    document = Svg(100, "a").document(50)
    assert "prefers-color-scheme:dark" in document
    assert document.count("http") == 1 and 'xmlns="http://www.w3.org/2000/svg"' in document
