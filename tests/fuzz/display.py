# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for names on their way to people: terminals, JSON, folded stacks, HTML, SVG, metrics."""

from __future__ import annotations

import json
import unicodedata
import xml.parsers.expat
from collections.abc import Iterator
from html.parser import HTMLParser

from pyebpf.export import metrics
from pyebpf.output import flamegraph, folded, jsonl, live
from pyebpf.output.svg import Svg, escaped, shortened
from pyebpf.output.text import safe
from pyebpf.output.values import quoted
from pyebpf.target.stacks import Frame
from pyebpf.tools import html
from pyebpf.tools.session import TracedFunction
from pyebpf.tools.stackcount import CallPath

from .reader import packed, reader, unpacked

# Format characters that are seen: Arabic, Syriac and Kaithi number signs.
_SEEN = frozenset((*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))
_HIDDEN = frozenset((0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0))


def visible(text: str) -> bool:
    """Does a text hold nothing that a terminal obeys, that reorders it, or that isn't seen?"""
    for one in text:
        if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and ord(one) not in _SEEN:
            return False
        if ord(one) in _HIDDEN:
            return False
    return True


_NAMES = ("main.main", "\x1b]0;title\x07", "\x9b31m", "a\u202eb", "<script>alert(1)</script>", '"&\'', "\ud800",
          "\ufffe",
          "ns::f(int) const", "名前" * 40, "e\u0301" * 60, "a;b c", "\u00ad\u200b", "\U000e0041", "\U0001f600" * 9,
          "%s%d{}",
          "main.(*T[go.shape.int]).Run", "\r\n", "]]>", "\x00")  # fmt: skip
_WORDS = (*(name.encode("utf-8", "surrogatepass") for name in _NAMES),
    b"\xff",
    b"\xc2\x9b",
    b"\xed\xa0\x80",
    b"\\",
)


def _seeds() -> Iterator[bytes]:
    for number, name in enumerate(_NAMES):
        yield packed(name.encode("utf-8", "surrogatepass"), _WORDS[-number - 1], bytes([20 + number, number]))


def _texts(one: bytes, other: bytes) -> list[str]:
    decoded = [raw.decode("utf-8", how) for raw in (one, other) for how in ("surrogateescape", "backslashreplace")]
    return [*decoded, one.decode("utf-16-le", "surrogatepass" if len(one) % 2 == 0 else "ignore")]


@reader("output.text output.jsonl output.folded", _seeds, pieces=3, words=_WORDS,
        megabytes=64,
        longest=16 << 10)  # fmt: skip
def terminal(data: bytes) -> None:
    """Names on a terminal, in JSON and in folded stacks: no control character, no reordering, whole characters."""
    one, other, numbers = unpacked(data, 3)
    columns, length = (numbers + b"\x14\0")[:2]
    assert visible(safe(one)) and visible(safe(other)), "bytes that a terminal must not see"
    for text in _texts(one, other):
        shown = safe(text)
        assert visible(shown), "a text that a terminal must not see"
        assert safe(shown) == shown
        assert live.cells(live.fitted(shown, columns)) <= max(columns, 1), "a name is wider than its column"
        stack = folded.line(one, [text, "main"], 3)
        assert visible(stack) and stack.count(";") == 2, "a name adds a frame to a stack"
        line = jsonl.line("event", name=text, raw=one)
        assert line.isascii() and line.isprintable()
        assert json.loads(line)["name"] == text or any(0xD800 <= ord(letter) < 0xE000 for letter in text)
    for size in (len(one), len(one) + 1, -1, length):
        assert visible(quoted(one, size)), "a captured text that a terminal must not see"


class _Page(HTMLParser):
    """The elements of a page, and their texts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def _elements(document: str) -> list[str]:
    found: list[str] = []
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append(name)
    parser.Parse(document.encode(), True)
    return found


@reader("output.svg output.flamegraph tools.html", _seeds, pieces=3, words=_WORDS, longest=16 << 10)
def markup(data: bytes) -> None:
    """Names in HTML tables and SVG pictures: well-formed, and no element or attribute that isn't ours."""
    one, other, numbers = unpacked(data, 3)
    most = (numbers or b"\x14")[0]
    for text in _texts(one, other):
        assert len(shortened(text, most)) <= max(most, 1), "a cut text is too long"
        assert visible(escaped(text))
        svg = Svg(100, text)
        svg.text(1, 2, text, "mono")
        svg.rect(1, 2, 3, 4, "bg", text)
        plain = Svg(100, "a")
        plain.text(1, 2, "a", "mono")
        plain.rect(1, 2, 3, 4, "bg", "a")
        expected = _elements(plain.document(50))
        try:
            assert _elements(svg.document(50)) == expected or not text, "a name adds elements to a picture"
        except xml.parsers.expat.ExpatError as error:
            raise AssertionError(f"a picture that is no XML: {str(error).partition(':')[0]}") from None
        page, usual = _Page(), _Page()
        page.feed(html.table([text], [([text, 3], 1.0)], text))
        usual.feed(html.table(["a"], [(["a", 3], 1.0)], "a"))
        assert page.elements == usual.elements or not text, "a name adds elements to a page"
        assert visible(page.text), "a page with hidden characters"
    frames = [Frame(16 * number, name, 0, "file") for number, name in enumerate(_texts(one, other))]
    function = TracedFunction(frames[0].name, "file", 16, 16, "c", (), frames[0].name)
    path = CallPath(function, 3, 7, one, tuple(frames), tuple(frames[:1]))
    try:
        _elements(flamegraph.svg([path], _texts(one, other)[0], "about", ["note"]))
    except xml.parsers.expat.ExpatError as error:
        raise AssertionError(f"a flame graph that is no XML: {str(error).partition(':')[0]}") from None


@reader("export.metrics", _seeds, pieces=3, words=_WORDS, megabytes=64, longest=16 << 10)
def labels(data: bytes) -> None:
    """Names as labels of metrics: bounded, printable, and of the characters that OpenMetrics has."""
    one, other, numbers = unpacked(data, 3)
    for text in _texts(one, other):
        value = metrics.label_value(text)
        assert visible(value) and len(value) <= 1 << 10, "a label that is too long or can't be shown"
        for name in (metrics.metric_name(text), metrics.label_name(text)):
            assert name.isascii() and name.replace("_", "a").replace(":", "a").isalnum() and not name[0].isdigit()
    metrics.label_pairs({"a": one, "b": other, "c": numbers, "__d": None})
    counter = metrics.EventCounter("tcplife", (), 4)
    assert counter.families()
