# SPDX-License-Identifier: BSD-2-Clause
"""Names as rustc mangles them: ``_ZN...17h<hash>E`` ("legacy") and ``_R...`` ("v0", Rust RFC 2603).

Shown without what only tells builds apart: the hash, the crates' disambiguators, the types of constants. Source of the
legacy escapes: rustc's compiler/rustc_symbol_mangling/src/legacy.rs.
"""

from __future__ import annotations

import re
from typing import Callable

MAX_OUTPUT = 64 << 10
MAX_DEPTH = 128
MAX_PRODUCTIONS = 20_000
MAX_CHARACTERS = 4 << 20

# The last element of a legacy name is a hash; the compiler or the linker may append suffixes.
_HASH = re.compile(r"17h([0-9a-f]{16})E((?:\.[A-Za-z0-9_@]+)*)")
_LENGTH = re.compile(r"0|[1-9][0-9]*")
_ESCAPE = re.compile(r"\$([A-Za-z0-9]+)\$|\.\.|\.")
_ESCAPES = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_SUFFIX = re.compile(r"(?:\.[A-Za-z0-9_@]+)+")
# What link-time optimization appends when it makes a local name unique.
_RENAMED = re.compile(r"\.llvm\.[0-9A-F@]+|\.[0-9]+(?![^.])")

_BASE62 = re.compile(r"([0-9a-zA-Z]*)_")
_BASE62_DIGITS = {c: i for i, c in enumerate("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")}
_HEX = re.compile(r"(n?)([0-9a-f]*)_")
_BASIC = {
    "a": "i8",
    "b": "bool",
    "c": "char",
    "d": "f64",
    "e": "str",
    "f": "f32",
    "h": "u8",
    "i": "isize",
    "j": "usize",
    "l": "i32",
    "m": "u32",
    "n": "i128",
    "o": "u128",
    "p": "_",
    "s": "i16",
    "t": "u16",
    "u": "()",
    "v": "...",
    "x": "i64",
    "y": "u64",
    "z": "!",
}


class _Failure(Exception):
    """The text isn't a mangled name, or is beyond a budget."""


def is_legacy(name: str) -> bool:
    """Does a ``_ZN`` name end in a Rust hash?"""
    return name.startswith("_ZN") and _hash(name) is not None


def _hash(name: str) -> re.Match[str] | None:
    """The hash and the suffixes at the end of a name; a hash has at least five different digits."""
    at = name.rfind("17h")
    m = _HASH.fullmatch(name, at) if at > 3 else None
    return m if m is not None and len(set(m.group(1))) >= 5 else None


def demangle(name: str) -> str | None:
    """The text of a Rust name, or None: not one, or beyond the parser's budgets."""
    if name.startswith("_ZN"):
        return _legacy(name)
    if not name.startswith("_R") or not name.isascii():
        return None
    end = name.find(".")
    suffix = "" if end < 0 else name[end:]
    try:
        shown = _V0(name[2:] if end < 0 else name[2:end]).symbol()
    except (_Failure, IndexError, ValueError, OverflowError, RecursionError):
        return None
    if suffix and not _SUFFIX.fullmatch(suffix):
        return None
    shown += _clone(suffix)
    return shown if len(shown) <= MAX_OUTPUT else None


def _clone(suffix: str) -> str:
    suffix = _RENAMED.sub("", suffix)
    return " [clone " + suffix + "]" if suffix else ""


def _legacy(name: str) -> str | None:
    m = _hash(name)
    if m is None:
        return None
    elements = name[3 : m.start()]
    shown = []
    at = 0
    while at < len(elements):
        length = _LENGTH.match(elements, at)
        if length is None or len(length.group()) > 5:
            return None
        at = length.end() + int(length.group())
        element = elements[length.end() : at]
        if not element or at > len(elements):
            return None
        shown.append(_ESCAPE.sub(_unescaped, element[1:] if element.startswith("_$") else element))
    return "::".join(shown) + _clone(m.group(2))


def _unescaped(m: re.Match[str]) -> str:
    code = m.group(1)
    if code is None:
        return "::" if m.group() == ".." else "."
    if code in _ESCAPES:
        return _ESCAPES[code]
    try:
        point = int(code[1:], 16) if code[0] == "u" else 0
    except ValueError:
        point = 0
    if point >= 0x110000 or not chr(point).isprintable() or (point < 128 and (chr(point).isalnum() or point == 95)):
        return m.group()  # the compiler escapes neither
    return chr(point)


class _V0:
    """One pass over a v0 name; a back reference parses an earlier piece again."""

    __slots__ = ("bound", "characters", "depth", "pos", "productions", "text")

    def __init__(self, text: str) -> None:
        self.text = text + "\0"
        self.pos = 0
        self.bound = 0  # lifetimes bound by the `for<...>` around this place
        self.depth = 0
        self.productions = MAX_PRODUCTIONS
        self.characters = MAX_CHARACTERS

    def symbol(self) -> str:
        if self.text[0] in "0123456789":  # a future version of the mangling
            raise _Failure
        shown = self.path(True)
        if self.text[self.pos] != "\0":
            self.path(False)  # the crate that instantiated it
        if self.pos != len(self.text) - 1:
            raise _Failure
        return shown

    # Small pieces.

    def _enter(self) -> str:
        """Begins a production: its tag."""
        self.depth += 1
        self.productions -= 1
        if self.depth > MAX_DEPTH or self.productions < 0:
            raise _Failure
        tag = self.text[self.pos]
        self.pos += 1
        return tag

    def _leave(self, shown: str) -> str:
        self.depth -= 1
        self.characters -= len(shown)
        if self.characters < 0:
            raise _Failure
        return shown

    def _taken(self, character: str) -> bool:
        if self.text[self.pos] == character:
            self.pos += 1
            return True
        return False

    def _base62(self) -> int:
        m = _BASE62.match(self.text, self.pos)
        if m is None or len(m.group(1)) > 12:
            raise _Failure
        self.pos = m.end()
        digits = m.group(1)
        if not digits:
            return 0
        value = 0
        for c in digits:
            value = value * 62 + _BASE62_DIGITS[c]
        return value + 1

    def _disambiguator(self) -> int:
        return self._base62() + 1 if self._taken("s") else 0

    def _identifier(self) -> str:
        """<undisambiguated-identifier>: [u] <decimal> [_] <bytes>"""
        punycode = self._taken("u")
        m = _LENGTH.match(self.text, self.pos)
        if m is None or len(m.group()) > 5:
            raise _Failure
        self.pos = m.end()
        self._taken("_")
        end = self.pos + int(m.group())
        name = self.text[self.pos : end]
        if end > len(self.text) - 1:
            raise _Failure
        self.pos = end
        if not punycode:
            return name
        self.characters -= 64 * len(name)  # decoding is slow
        if self.characters < 0 or len(name) > 1024:
            raise _Failure
        plain, separator, encoded = name.rpartition("_")
        decoded = (plain + "-" + encoded if separator else encoded).encode("ascii").decode("punycode")
        if not decoded.isprintable():
            raise _Failure
        return decoded

    def _again(self, production: Callable[[], str]) -> str:
        """B <base-62-number>: what stands at an earlier place"""
        start = self.pos - 1
        target = self._base62()
        if target >= start:
            raise _Failure
        after, self.pos = self.pos, target
        shown = production()
        self.pos = after
        return shown

    # Paths.

    def path(self, value: bool) -> str:
        """<path>; generic arguments of a value are written ``::<T>``"""
        tag = self._enter()
        if tag == "C":
            self._disambiguator()
            shown = self._identifier()
        elif tag == "N":
            shown = self._nested(value)
        elif tag in "MX":
            self._disambiguator()
            self.path(False)  # where the impl stands
            shown = "<" + self.type() + (" as " + self.path(False) + ">" if tag == "X" else ">")
        elif tag == "Y":
            shown = "<" + self.type() + " as " + self.path(False) + ">"
        elif tag == "I":
            shown = self.path(value) + ("::<" if value else "<") + ", ".join(self._arguments()) + ">"
        elif tag == "B":
            shown = self._again(lambda: self.path(value))
        else:
            raise _Failure
        return self._leave(shown)

    def _nested(self, value: bool) -> str:
        namespace = self.text[self.pos]
        self.pos += 1
        if not namespace.isalpha():
            raise _Failure
        shown = self.path(value)
        number = self._disambiguator()
        name = self._identifier()
        if namespace >= "a":
            return shown + "::" + name if name else shown
        kind = {"C": "closure", "S": "shim"}.get(namespace, namespace)
        return shown + "::{" + kind + (":" + name if name else "") + "#" + str(number) + "}"

    def _arguments(self) -> list[str]:
        shown = []
        while not self._taken("E"):
            if self._taken("L"):
                shown.append(self._lifetime(self._base62()))
            elif self._taken("K"):
                shown.append(self._constant())
            else:
                shown.append(self.type())
        return shown

    def _lifetime(self, index: int) -> str:
        if index == 0:
            return "'_"
        depth = self.bound - index
        if depth < 0:
            raise _Failure
        return "'" + chr(ord("a") + depth) if depth < 26 else "'_" + str(depth)

    def _binder(self) -> str:
        """[G <base-62-number>]: the lifetimes are bound until the caller restores `bound`"""
        if not self._taken("G"):
            return ""
        count = self._base62() + 1
        if count > 100:
            raise _Failure
        self.bound += count
        return "for<" + ", ".join([self._lifetime(i) for i in range(count, 0, -1)]) + "> "

    # Types.

    def type(self) -> str:
        """<type>"""
        basic = _BASIC.get(self.text[self.pos])
        if basic is not None:
            self.pos += 1
            return basic
        tag = self._enter()
        if tag in "RQ":
            lifetime = self._lifetime(self._base62()) if self._taken("L") else "'_"
            shown = "&" + (lifetime + " " if lifetime != "'_" else "") + ("mut " if tag == "Q" else "") + self.type()
        elif tag in "PO":
            shown = ("*const " if tag == "P" else "*mut ") + self.type()
        elif tag == "S":
            shown = "[" + self.type() + "]"
        elif tag == "A":
            shown = "[" + self.type() + "; " + self._constant() + "]"
        elif tag == "T":
            shown = self._tuple(self._list(self.type))
        elif tag == "F":
            shown = self._function()
        elif tag == "D":
            shown = self._trait_object()
        elif tag == "B":
            shown = self._again(self.type)
        else:
            self.pos -= 1
            shown = self.path(False)
        return self._leave(shown)

    def _list(self, production: Callable[[], str]) -> list[str]:
        shown = []
        while not self._taken("E"):
            shown.append(production())
        return shown

    def _tuple(self, shown: list[str]) -> str:
        return "(" + ", ".join(shown) + (",)" if len(shown) == 1 else ")")

    def _function(self) -> str:
        """<fn-sig>"""
        outer = self.bound
        shown = self._binder()
        if self._taken("U"):
            shown += "unsafe "
        if self._taken("K"):
            shown += 'extern "' + ("C" if self._taken("C") else self._identifier().replace("_", "-")) + '" '
        shown += "fn(" + ", ".join(self._list(self.type)) + ")"
        result = self.type()
        self.bound = outer
        return shown if result == "()" else shown + " -> " + result

    def _trait_object(self) -> str:
        """<dyn-bounds> <lifetime>"""
        outer = self.bound
        shown = "dyn " + self._binder() + " + ".join(self._list(self._dyn_trait))
        self.bound = outer
        if not self._taken("L"):
            raise _Failure
        index = self._base62()
        return shown + " + " + self._lifetime(index) if index else shown

    def _dyn_trait(self) -> str:
        shown = self.path(False)
        bindings = []
        while self._taken("p"):
            name = self._identifier()
            bindings.append(name + " = " + self.type())
        if not bindings:
            return shown
        if shown.endswith(">"):
            return shown[:-1] + ", " + ", ".join(bindings) + ">"
        return shown + "<" + ", ".join(bindings) + ">"

    # Constants.

    def _constant(self) -> str:
        """<const>"""
        tag = self._enter()
        if tag == "p":
            shown = "_"
        elif tag in "hmtyoj" or tag in "alsxni":
            negative, digits = self._hexadecimal()
            if len(digits) > 32:
                raise _Failure
            shown = ("-" if negative else "") + str(int(digits, 16))
        elif tag == "b":
            shown = ("false", "true")[int(self._hexadecimal()[1], 16)]
        elif tag == "c":
            shown = "'" + _character(int(self._hexadecimal()[1], 16)) + "'"
        elif tag == "e":
            shown = "*" + self._string()
        elif tag in "RQ":
            if tag == "R" and self._taken("e"):
                shown = self._string()
            else:
                shown = ("&" if tag == "R" else "&mut ") + self._constant()
        elif tag == "A":
            shown = "[" + ", ".join(self._list(self._constant)) + "]"
        elif tag == "T":
            shown = self._tuple(self._list(self._constant))
        elif tag == "V":
            shown = self._structure()
        elif tag == "B":
            shown = self._again(self._constant)
        else:
            raise _Failure
        return self._leave(shown)

    def _hexadecimal(self) -> tuple[bool, str]:
        m = _HEX.match(self.text, self.pos)
        if m is None:
            raise _Failure
        self.pos = m.end()
        return m.group(1) == "n", m.group(2).lstrip("0") or "0"

    def _string(self) -> str:
        self._hexadecimal()
        return '"..."'

    def _structure(self) -> str:
        kind = self.text[self.pos]
        self.pos += 1
        name = self.path(True)
        if kind == "U":
            return name
        if kind == "T":
            return name + "(" + ", ".join(self._list(self._constant)) + ")"
        if kind == "S":
            return name + " { " + ", ".join(self._list(self._field)) + " }"
        raise _Failure

    def _field(self) -> str:
        self._disambiguator()
        name = self._identifier()
        return name + ": " + self._constant()


def _character(point: int) -> str:
    c = chr(point)
    return "\\" + c if c in "\\'" else c if c.isprintable() else "\\u" + str(point)
