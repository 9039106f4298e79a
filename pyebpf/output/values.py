# SPDX-License-Identifier: BSD-2-Clause
"""Values of a traced program as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ..target import shape as shapes
from ..target.shape import Number, TextBytes
from ..tools.decoder import TEXT_CUT, Plain, PlainField
from ..tools.values import (
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
from .text import safe

_SMALL = 1 << 32  # words below that are shown in decimal
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
_ESCAPED = str.maketrans(_ESCAPES)
_PLAIN = bytes([code for code in range(0x20, 0x7F) if chr(code) not in _ESCAPES])
_UNITS = (("s", 10**9), ("ms", 10**6), ("us", 10**3))


_Column = Callable[[Sequence[Sequence[Any]]], Iterable[Any]]
# By a number's style: what formats it as it was unpacked, and what makes a text of it.
_DIRECT = {shapes.DECIMAL: "%d", shapes.HEX: "%#x"}
_SIMPLE: dict[str, Callable[[int], str]] = {
    shapes.WORD: lambda word: str(word) if word < _SMALL else f"{word:#x}",
    shapes.POINTER: lambda address: f"{address:#x}" if address else "nil",
    shapes.BOOL: lambda number: "true" if number else "false",
}


def text_of(value: Value) -> str:
    """A value as a person reads it: ``10``, ``0xc000012345``, ``"abc…" (300 bytes)``, ``{A: 10, B: 20}``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer(value)
    if value is None:
        return "nil"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Text):
        return quoted(value.data, value.length)
    if isinstance(value, EnumValue):
        return safe(value.name) if value.name else str(value.value)
    if isinstance(value, Unreadable):
        where = "" if value.address is None else f" {value.address:#x}"
        return f"<unreadable: {value.reason}{where}>"
    if isinstance(value, Absent):
        return f"<{safe(value.reason)}>" if value.reason else "…"
    return _composite(value)


def _composite(value: Record | Array | Container | Choices | Interface) -> str:
    if isinstance(value, Record):
        if value.tuple:
            return f"({', '.join([text_of(field) for _, field in value.fields])})"
        fields = [f"{safe(name)}: {text_of(field)}" if name else text_of(field) for name, field in value.fields]
        return f"{{{', '.join(fields)}}}"
    if isinstance(value, Array):
        items = [text_of(item) for item in value.items]
        more = value.length - len(items)
        if more > 0:
            items.append("…")
        return f"[{', '.join(items)}]" + (f" ({value.length} items)" if more > 0 else "")
    if isinstance(value, Container):
        return f"{safe(value.type)} ({value.length} items)"
    if isinstance(value, Choices):
        if value.value is None:
            return safe(value.name)
        held = text_of(value.value)
        return f"{safe(value.name)}{held}" if held[:1] in "({" else f"{safe(value.name)}({held})"
    held = text_of(value.value)
    return f"{safe(value.type)}({held})" if value.type else f"interface({held})"


def _integer(value: int) -> str:
    if isinstance(value, Pointer):
        return f"{value:#x}" if value else "nil"
    if isinstance(value, Word):
        return str(int(value)) if value < _SMALL else f"{value:#x}"
    if isinstance(value, Hex):
        return f"{value:#x}"
    if isinstance(value, (Char, Rune)):
        return _character(value)
    if isinstance(value, Duration):
        return duration(value)
    return str(value)


def _character(value: int) -> str:
    if not 0 <= value < (0x80 if isinstance(value, Char) else 0x110000):
        return f"'\\x{value:02x}'" if isinstance(value, Char) else str(int(value))
    return "'\\''" if value == 0x27 else f"'{safe(chr(value).translate(_ESCAPED))}'" if value != 0x22 else "'\"'"


def duration(nanoseconds: int) -> str:
    """A time as a person reads it: ``18.6us``, ``1.5ms``."""
    sign, size = ("-" if nanoseconds < 0 else ""), abs(int(nanoseconds))
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{sign}{size / factor:.4g}{unit}" if size < 1000 * factor else f"{sign}{size // factor}{unit}"
    return f"{sign}{size}ns"


def quoted(data: bytes, length: int) -> str:
    """A text in quotes, with what a terminal must not see escaped; if it was cut, with ``…`` and its length."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if length != len(data) and error.reason == "unexpected end of data":  # a character was cut in two
            data = data[: error.start]
        text = data.decode("utf-8", "surrogateescape")
    if not (text.isalnum() and text.isascii()):
        text = safe(text.translate(_ESCAPED))
    if length == len(data) or 0 <= length < len(data):
        return f'"{text}"'
    return f'"{text}…" ({length} bytes)' if length >= 0 else f'"{text}…"'


class Line(NamedTuple):
    """How to make ``label=value label=value`` of many calls at once.

    Attributes:
        template: for ``%``.
        values: for each of its places what makes the values, one a call, of the columns of items that `Plain.format`
            unpacks.
    """

    template: str
    values: tuple[_Column, ...]


def line_of(plain: Plain, labels: Sequence[str]) -> Line:
    """The line that shows a capture, for calls of which nothing failed."""
    parts = [_part(first, shape) for first, shape in plain.fields]
    places = [f"{safe(label)}=".replace("%", "%%") + code for label, (code, _) in zip(labels, parts)]
    return Line(" ".join(places), tuple([values for _, values in parts]))


def _part(first: int, shape: Number | TextBytes) -> tuple[str, _Column]:
    """A conversion for ``%``, and what makes its values."""
    if isinstance(shape, TextBytes):
        return "%s", lambda columns: _quoted_all(*columns[first : first + 3])
    if shape.style in _DIRECT:
        return _DIRECT[shape.style], lambda columns: columns[first]
    if shape.style in _SIMPLE:
        simple = _SIMPLE[shape.style]
        return "%s", lambda columns: map(simple, columns[first])
    single = Plain("", (PlainField(0, shape),))
    return "%s", lambda columns: [text_of(single.values((item,))[0]) for item in columns[first]]


def _quoted_all(stored: Sequence[int], lengths: Sequence[int], data: Sequence[bytes]) -> Sequence[str]:
    """`quoted` for texts as they were unpacked."""
    texts = [text[:size] for text, size in zip(data, stored)]
    if stored == lengths:
        lines = b'"%s"' % b'"\n"'.join(texts)
        if len(lines.translate(None, _PLAIN)) == 3 * len(texts) - 1:  # nothing but the quotes and line ends put in
            return lines.decode().split("\n")
    return [quoted(text, -1 if length == TEXT_CUT else length) for text, length in zip(texts, lengths)]
