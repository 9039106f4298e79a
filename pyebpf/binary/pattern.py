# SPDX-License-Identifier: BSD-2-Clause
"""What a user writes for functions: a glob, anchored at both ends, or a regular expression, anchored at its start.

In a glob ``*`` is any text and ``?`` any character; ``[`` and ``]`` stand for themselves, for C++ has ``operator[]``
and Go ``main.Sum[go.shape.int]``. A dot right behind a ``*`` is any character too: that is how bcc's globs work, and
people's command lines with them (``runtime.*.gc*`` finds ``runtime.mallocgc``). Any other dot is a dot, unlike bcc's,
where ``net.*`` finds all of ``net/http``.
"""

from __future__ import annotations

import re

from ..errors import TargetError

_WILD = re.compile(r"[*?]+")
_STAR_DOT = re.compile(r"\*\.")
_MAX_PATTERN = 4096


class Pattern:
    """A pattern, compiled.

    Attributes:
        text: as written.
        literal: it has no wildcard: one name.
        everything: it matches every name.
        open_ended: it matches every name that begins with `beginning`, and no other.
        beginning: text that every name it matches begins with, perhaps "".
        regex: matches the names, with ``match``.
        glob: a glob, its dots plain, that matches every name the pattern matches; no others if the pattern is a glob.
        required: byte strings that are in every name it matches, for UTF-8.
    """

    __slots__ = (
        "_is_regex", "beginning", "everything", "glob", "literal", "open_ended", "regex", "required", "text"
    )  # fmt: skip

    def __init__(self, text: str, regex: bool = False) -> None:
        """Compile ``text``, a glob unless ``regex``.

        Raises:
            TargetError: it is empty, absurdly long, or not a regular expression.
        """
        if not text:
            raise TargetError("the name of the function is empty")
        if len(text) > _MAX_PATTERN or "\0" in text:
            raise TargetError(f"no function has a name like {text[:40]!r}...")
        self.text = text
        self._is_regex = regex
        self.glob = _prefix(text) + "*" if regex else _STAR_DOT.sub("*?", text)
        self.literal = not regex and not _WILD.search(text)
        self.everything = not regex and not text.strip("*")
        try:
            self.regex = re.compile(text if regex else _translate(self.glob), re.S)
        except (re.error, OverflowError, RecursionError) as error:
            raise TargetError(f"{text!r} is not a regular expression: {error}") from None
        self.beginning = _WILD.split(self.glob, 1)[0]
        self.open_ended = not regex and self.glob[-1] == "*" and self.glob.rstrip("*") == self.beginning
        self.required = _encoded(_WILD.split(self.glob))

    def match(self, name: str) -> bool:
        """Does it match ``name``?"""
        return self.regex.match(name) is not None

    def generic(self) -> tuple[re.Pattern[str], tuple[bytes, ...]] | None:
        """For the Go functions that are instances of what the pattern names: (regex for their names without type
        arguments, what the full names contain); None if the pattern isn't about that.

        ``main.Sum`` names all its instances, as does ``main.Sum[...]``, which is what Go's own tracebacks print.
        """
        text = self.glob.replace("[...]", "")
        if self._is_regex or not text or "[" in text:
            return None
        # Type arguments follow an identifier; the identifiers themselves stay whole.
        words = _encoded(re.split(r"[*?.()]+", text))
        return re.compile(_translate(text), re.S), (max(reversed(words), key=len, default=b"["),)


def _encoded(pieces: list[str]) -> tuple[bytes, ...]:
    return tuple(piece.encode("utf-8", "surrogateescape") for piece in pieces if piece)


def _translate(glob: str) -> str:
    """``glob`` as a regular expression that takes linear time, however many ``*`` there are.

    The text between two ``*`` is taken where it first occurs: if the rest doesn't match after that, it doesn't match
    anywhere. A group inside a lookahead isn't tried again, which says so (as Python's own fnmatch does).
    """
    first, *others = (
        "".join("." if character == "?" else re.escape(character) for character in text)
        for text in re.split(r"\*+", glob)
    )
    if not others:
        return first + r"\Z"
    middle = "".join(f"(?=(?P<g{number}>.*?{text}))(?P=g{number})" for number, text in enumerate(others[:-1]))
    return f"{first}{middle}.*{others[-1]}\\Z"


def _prefix(regex: str) -> str:
    """Text that every match of ``regex`` begins with; perhaps "", never too much."""
    if "|" in regex:
        return ""
    prefix = ""
    position = 1 if regex[:1] == "^" else 0
    while position < len(regex):
        character = regex[position]
        if character == "\\" and position + 1 < len(regex) and not regex[position + 1].isalnum():
            position += 1
            character = regex[position]
        elif character in ".^$*+?{}[]\\()":
            # A quantifier makes the character before it optional.
            return prefix[:-1] if character in "*?{" else prefix
        prefix += character
        position += 1
    return prefix
