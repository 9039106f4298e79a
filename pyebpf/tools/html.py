# SPDX-License-Identifier: BSD-2-Clause
"""Results as HTML tables, for notebooks: in the colours of the page, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_ROWS = 100

_MOST_NAME = 400
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
# Letters and marks without a shape that count as printable; not the variation selectors that emoji have.
_SHAPELESS = set("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_SHAPELESS.update(map(chr, range(0xE0100, 0xE01F0)))
_BAR = '<div style="width:{:.1f}%;height:.9em;background:currentColor;opacity:.4"></div>'


def escaped(text: str | bytes) -> str:
    """Text for an element or an attribute; what can't be seen (controls, marks that reorder text) as escapes."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if not text.isascii() or not text.isprintable():
        text = "".join([one if one.isprintable() and one not in _SHAPELESS else ascii(one)[1:-1] for one in text])
    return text.translate(_ESCAPES)


def table(heads: Sequence[str], rows: Iterable[tuple[Sequence[str | int], float]], foot: str = "") -> str:
    """A table whose rows end in a bar.

    Args:
        heads: of the columns; texts are at the left, numbers at the right.
        rows: cells, and a size that the bar shows in proportion to the largest. `MOST_ROWS` are shown.
        foot: a line below.
    """
    listed = list(rows)
    most = max((size for _, size in listed), default=0) or 1
    text = "".join(f'<th style="text-align:left">{escaped(head)}</th>' for head in heads)
    lines = [f"<table><thead><tr>{text}<th></th></tr></thead><tbody>"]
    for cells, size in listed[:MOST_ROWS]:
        line = "".join(_cell(cell) for cell in cells)
        lines.append(f'<tr>{line}<td style="min-width:12em">{_BAR.format(100 * size / most)}</td></tr>')
    lines.append("</tbody></table>")
    if len(listed) > MOST_ROWS:
        foot = f"{foot + '; ' if foot else ''}{len(listed) - MOST_ROWS:,} more rows"
    return "".join(lines) + (f"<small>{escaped(foot)}</small>" if foot else "")


def _cell(value: str | int) -> str:
    if isinstance(value, int):
        return f'<td style="text-align:right">{value:,}</td>'
    shown = value if len(value) <= _MOST_NAME else value[: _MOST_NAME - 1] + "…"
    return f'<td style="text-align:left">{escaped(shown)}</td>'
