# SPDX-License-Identifier: BSD-2-Clause
"""Values of a traced program as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..target import shape as shapes
from ..target.shape import Number, TextBytes
from ..tools.values import (
    TEXT_CUT,
    Absent,
    Array,
    Char,
    Choices,
    Container,
    Duration,
    EnumValue,
    Hex,
    Interface,
    Plain,
    PlainField,
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
_UNITS = (("s", 10**9), ("ms", 10**6), ("us", 10**3))


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
    if value >= (0x80 if isinstance(value, Char) else 0x110000):
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


def line_of(plain: Plain, labels: Sequence[str]) -> Callable[[Sequence[Any]], str]:
    """What turns the items unpacked by `plain.format` into ``label=value label=value``."""
    directs = [_direct(shape) for _, shape in plain.fields]
    template = " ".join(
        [f"{label}=".replace("%", "%%") + (code or "%s") for label, code in zip(map(safe, labels), directs)]
    )
    indices = [first for first, _ in plain.fields]
    if all(directs) and indices == list(range(len(indices))):
        return lambda items: template % tuple(items)
    parts = [_part(first, shape) if code is None else None for (first, shape), code in zip(plain.fields, directs)]

    def line(items: Sequence[Any]) -> str:
        return template % tuple(
            [items[first] if part is None else part(items) for first, part in zip(indices, parts)]
        )

    return line


def _direct(shape: Number | TextBytes) -> str | None:
    """What formats a number as it was unpacked."""
    if isinstance(shape, TextBytes):
        return None
    return {shapes.DECIMAL: "%d", shapes.HEX: "0x%x"}.get(shape.style)


def _part(first: int, shape: Number | TextBytes) -> Callable[[Sequence[Any]], str]:
    if isinstance(shape, TextBytes):
        return lambda items: quoted_plain(items[first], items[first + 1], items[first + 2])
    single = Plain("", (PlainField(0, shape),))
    return lambda items: text_of(single.values(items[first : first + 1])[0])


def quoted_plain(stored: int, length: int, data: bytes) -> str:
    """`quoted` for a text as it was unpacked."""
    text = data[:stored]
    if stored == length and text.isalnum() and text.isascii():
        return f'"{text.decode()}"'
    return quoted(text, -1 if length == TEXT_CUT else length)
