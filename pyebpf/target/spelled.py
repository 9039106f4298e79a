# SPDX-License-Identifier: BSD-2-Clause
"""Types as a user spells them behind a colon: ``u32``, ``str``, ``bytes(16)``, ``gostr``, ``goslice(u64)``."""

from __future__ import annotations

import re

from ..binary import types
from ..binary.types import Member, Text, Type
from ..errors import TargetError
from . import shape
from .expression import TypeName

MAX_BYTES = 4000  # of bytes(N); with its header, less than what one step reads
_INTEGER = re.compile(r"([usix])(8|16|32|64)\Z")
_WITH_ELEMENT = ("goslice", "rustvec")
_HINT = (
    "types are u8 to u64, s8 to s64, x8 to x64 (hex), ptr, bool, char, f32, f64 (in memory), str, bytes(N), gostr, "
    "goslice(TYPE), goany, error, stdstring, ruststr, rustvec(TYPE)"
)


class Spelled(Type):
    """A type that no debug information describes. `style`: how its value is shown (see `shape`), "" as usual."""

    __slots__ = ("style",)

    def __init__(self, kind: str, name: str, size: int, style: str = "", target: Type | None = None) -> None:
        super().__init__(kind, name, size, align=size, target=target)
        self.style = style


WORD = Spelled(types.UINT, "word", 8, shape.WORD)
NUMBER = Spelled(types.UINT, "number", 8)
DURATION = Spelled(types.UINT, "nanoseconds", 8, shape.NANOSECONDS)
INTEGER = Spelled(types.INT, "int", 8)
_CHAR = Type(types.CHAR, "char", 1)
COMM = Type(types.ARRAY, "thread's name", 16, target=_CHAR, count=16)
_BYTE = Type(types.UINT, "uint8", 1)
_INTERFACE_MEMBERS = {"any": "_type", "error": "tab"}


def is_block(type: Type) -> bool:
    """It is bytes(N): what its pointer points to is shown byte by byte."""
    return isinstance(type, Spelled) and type.kind == types.ARRAY


def spelled(name: TypeName) -> Type:
    """The type of a name. One that takes several words, as Go's strings do, takes consecutive ones.

    Raises:
        TargetError: there is none.
    """
    text = name.name
    if text in _WITH_ELEMENT:
        return _vector(name)
    if text == "bytes":
        return _block(name.number)
    if name.number or name.element:
        raise TargetError(f"the type {text!r} takes nothing in parentheses", hint=_HINT)
    match = _INTEGER.match("x64" if text == "hex" else text)
    if match:
        kind = types.INT if match[1] in "si" else types.UINT
        return Spelled(kind, text, int(match[2]) // 8, shape.HEX if match[1] == "x" else "")
    if text in ("f32", "f64"):
        return Spelled(types.FLOAT, text, int(text[1:]) // 8)
    if text in ("gostr", "ruststr"):
        return Type(types.STRING, "string" if text == "gostr" else "&str", 16, align=8, text=Text(0, 8))
    if text in ("goany", "error"):
        shown = "any" if text == "goany" else "error"
        first = Member(_INTERFACE_MEMBERS[shown], 0, WORD)
        return Type(types.INTERFACE, shown, 16, align=8, members=(first, Member("data", 8, WORD)))
    simple = {
        "ptr": Type(types.POINTER, "pointer", 8, target=Type(types.VOID, "void", 0)),
        "bool": Type(types.BOOL, "bool", 1),
        "char": _CHAR,
        "str": Type(types.POINTER, "char *", 8, target=_CHAR),
        # libstdc++'s std::__cxx11::basic_string: pointer, length, buffer or capacity.
        "stdstring": _reference(Type(types.STD_STRING, "std::string", 32, align=8, text=Text(0, 8))),
    }.get(text)
    if simple is None:
        raise TargetError(f"there is no type {text!r}", hint=_HINT)
    return simple


def _reference(target: Type) -> Type:
    return Type(types.REFERENCE, f"{target.name}&", 8, align=8, target=target)


def _block(size: int) -> Type:
    if not 1 <= size <= MAX_BYTES:
        raise TargetError(f"bytes(N) takes a number of bytes from 1 to {MAX_BYTES}", hint="for example arg1:bytes(16)")
    block = Spelled(types.ARRAY, "bytes", size, target=_BYTE)
    block.count = size
    return Type(types.POINTER, "bytes", 8, align=8, target=block)


def _vector(name: TypeName) -> Type:
    if not name.element:
        raise TargetError(f"{name.name} takes the type of its elements", hint=f"for example arg0:{name.name}(u64)")
    if name.element in (*_WITH_ELEMENT, "bytes"):
        raise TargetError(f"{name.name}({name.element}) is nested too deeply", hint=_HINT)
    element = spelled(TypeName(name.element))
    if name.name == "goslice":
        return Type(types.SLICE, f"[]{element.name}", 24, align=8, target=element, text=Text(0, 8))
    # What rustc has laid out since 1.67: capacity, pointer, length. Without debug information nobody can tell.
    vector = Type(types.RUST_VEC, f"Vec<{element.name}>", 24, align=8, target=element, text=Text(8, 16))
    return _reference(vector)
