# SPDX-License-Identifier: BSD-2-Clause
"""Pictures as SVG 1.1 text (https://www.w3.org/TR/SVG11/): one file, nothing outside it, light and dark.

Colours are plain rules of a style sheet, with others for ``prefers-color-scheme: dark``; not every program that draws
SVG knows custom properties.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyebpf.output.text import safe

# XML 1.0 has no U+FFFE and U+FFFF; what else it hasn't, `safe` escapes.
_XML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;",
                      "\ufffe": "\\ufffe", "\uffff": "\\uffff"})  # fmt: skip
_LIGHT = ".bg{fill:#fff}text{fill:#1b1f24}.soft{fill:#57606a}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}"
_DARK = ".bg{fill:#11161c}text{fill:#e6edf3}.soft{fill:#9aa7b4}.grid{stroke:#2b333c}.axis{stroke:#6b7683}"


def escaped(text: str | bytes) -> str:
    """Text as XML has it, for elements and attributes; controls and marks that reorder text are shown as escapes."""
    return safe(text).translate(_XML)


def shortened(text: str | bytes, most: int) -> str:
    """At most so many characters, controls escaped; what is cut ends in "…"."""
    shown = safe(text[: most + 1])
    return shown if len(shown) <= most else shown[: max(0, most - 1)] + "…"


def number(value: float) -> str:
    """A coordinate: three decimals, none that say nothing."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


class Svg:
    """A picture that grows from top to bottom.

    Args:
        width: in pixels.
        title: of the document.
        light, dark: rules of the style sheet besides those all pictures have.

    Attributes:
        width: as given.
        parts: elements, as text.
    """

    __slots__ = ("_head", "_style", "parts", "width")

    def __init__(self, width: int, title: str, light: str = "", dark: str = "") -> None:
        self.width = width
        self.parts: list[str] = []
        self._head = escaped(shortened(title, 300))
        self._style = (
            f"text{{font-size:12px;font-family:system-ui,sans-serif}}.mono{{font-family:monospace}}{_LIGHT}{light}"
            f"@media (prefers-color-scheme:dark){{{_DARK}{dark}}}"
        )

    def text(self, x: float, y: float, content: str, look: str = "", anchor: str = "", size: float = 0) -> None:
        """A line of text.

        Args:
            look: classes.
            anchor: "middle" or "end" of it lies at x.
            size: of the font, in pixels.
        """
        more = f' class="{look}"' if look else ""
        more += f' text-anchor="{anchor}"' if anchor else ""
        more += f' style="font-size:{number(size)}px"' if size else ""
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}"{more}>{escaped(content)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, look: str, title: str = "") -> None:
        """A rectangle; `title` is shown where the pointer rests on it."""
        at = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" class="{look}"'
        self.parts.append(f"<rect {at}><title>{escaped(title)}</title></rect>" if title else f"<rect {at}/>")

    def line(self, points: Iterable[tuple[float, float]], look: str) -> None:
        """A line through points."""
        way = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline points="{way}" class="{look}" fill="none"/>')

    def document(self, height: float, more: str = "") -> str:
        """The whole file.

        Args:
            more: elements behind all others.
        """
        size = f'width="{self.width}" height="{number(height)}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {self.width} {number(height)}" role="img">'
            f"<title>{self._head}</title><style>{self._style}</style>"
            f'<rect {size} class="bg"/>\n' + "\n".join(self.parts) + f"\n{more}</svg>\n"
        )
