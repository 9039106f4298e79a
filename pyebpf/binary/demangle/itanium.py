# SPDX-License-Identifier: BSD-2-Clause
"""Names as C++ compilers mangle them: the Itanium C++ ABI, chapter 5.1, with what GCC and Clang add to it.

The text is what binutils' c++filt prints.
"""

from __future__ import annotations

import re

from .itanium_names import Names
from .itanium_state import ENDS, Failure, flat
from .operators import SPECIAL_NAMES, SPECIAL_TYPES

MAX_OUTPUT = 64 << 10

_CLONE = re.compile(r"(?:\.[a-z0-9_]+)(?:\.[0-9]+)*")
_GLOBAL = re.compile(r"_GLOBAL_[._$]([DI])_")


class Encodings(Names):
    """Parses <encoding> and <special-name>."""

    __slots__ = ()

    def encoding_parts(self) -> tuple[str, str, str]:
        """<encoding>: the return type, the name, what follows the name"""
        if self.text[self.pos] in "TG":
            return self._special_name()
        name = self.name(True)
        after = self.qualifiers_after
        if self.text[self.pos] in ENDS:
            return "", name, after
        if not self.template or self.special:
            return "", name, self.parameters() + after
        result = self.type()
        if isinstance(result, str):
            return result + " ", name, self.parameters() + after
        return result.left, name, self.parameters() + after + result.right + result.tail

    def _special_name(self) -> tuple[str, str, str]:
        """<special-name>"""
        first, c = self.text[self.pos], self.text[self.pos + 1]
        self.pos += 2
        if first == "G":
            return self._made_object(c)
        if c in SPECIAL_TYPES:
            shown = SPECIAL_TYPES[c] + flat(self.type())
        elif c in SPECIAL_NAMES:
            shown = SPECIAL_NAMES[c] + self.name(True)
        elif c == "A":
            shown = "template parameter object for " + self.template_argument([])
        elif c == "C":
            derived = flat(self.type())
            self.number()
            self.expect("_")
            shown = "construction vtable for " + flat(self.type()) + "-in-" + derived
        elif c == "c":
            self._call_offset()
            self._call_offset()
            return self._of_function("covariant return thunk to ")
        else:
            self.pos -= 1
            self._call_offset()
            return self._of_function("non-virtual thunk to " if c == "h" else "virtual thunk to ")
        return "", shown, ""

    def _of_function(self, text: str) -> tuple[str, str, str]:
        before, name, after = self.encoding_parts()
        return "", text + before + name, after

    def _call_offset(self) -> None:
        """h <number> _ | v <number> _ <number> _"""
        c = self.text[self.pos]
        self.pos += 1
        if c not in "hv":
            raise Failure
        self.number()
        self.expect("_")
        if c == "v":
            self.number()
            self.expect("_")

    def _made_object(self, c: str) -> tuple[str, str, str]:
        """G and a letter: objects and functions the compiler made for others"""
        if c == "A":
            return self._of_function("hidden alias for ")
        if c == "T":
            kind = self.text[self.pos]
            self.pos += 1
            return self._of_function("non-transaction clone for " if kind == "n" else "transaction clone for ")
        if c == "V":
            shown = "guard variable for " + self.name(True)
        elif c == "R":
            name = self.name(True)
            shown = "reference temporary #" + str(self._sequence()) + " for " + name
        elif c == "I":
            shown = "initializer for module " + self._module("")
        else:
            raise Failure
        return "", shown, ""

    def _sequence(self) -> int:
        """[<seq-id>] _"""
        end = self.text.find("_", self.pos)
        digits = self.text[self.pos : end] if end >= 0 else ""
        if end < 0:
            if self.text[self.pos] in ENDS:
                return 0
            raise Failure
        self.pos = end + 1
        return int(digits, 36) + 1 if digits else 0


def forms(name: str) -> tuple[str, str] | None:
    """The text of a ``_Z`` name, with and without what isn't its name: return type, parameters, qualifiers, clones.

    None: not a mangled name, or beyond the parser's budgets.
    """
    keyed = _GLOBAL.match(name)
    if keyed:
        rest = name[keyed.end() :]
        inner = forms(rest)
        kind = "global constructors keyed to " if keyed.group(1) == "I" else "global destructors keyed to "
        return (kind + inner[0], kind + inner[1]) if inner else (kind + rest, kind + rest)
    if not name.startswith("_Z"):
        return None
    parser = Encodings(name)
    parser.pos = 2
    try:
        before, bare, after = parser.encoding_parts()
        end = len(name)
        while parser.pos < end:
            m = _CLONE.match(name, parser.pos)
            if m is None:
                return None
            after += " [clone " + m.group() + "]"
            parser.pos = m.end()
    except (Failure, IndexError, ValueError, RecursionError):
        return None
    full = before + bare + after
    return (full, bare) if len(full) <= MAX_OUTPUT else None
