# SPDX-License-Identifier: BSD-2-Clause
"""How a C type lies in memory: bytes into Python values, and back (`pyebpf.core.encode`)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyebpf.errors import BadValue

if TYPE_CHECKING:
    from pyebpf.core.btf import Btf

_NUMBERS = frozenset("BbHhIiQq")  # codes for `struct` that check an int themselves


class Shape:
    """How a type is unpacked.

    Attributes:
        code: for `struct`.
        items: that this makes.
        expression: Python for the value, of the tuple ``v`` of items, from an index on. No word of it is the type's.
            One expression for a whole record takes half the time of a call for each part.
        plain: an array of it is a slice of the items.
        names: that expressions use.
    """

    __slots__ = ("code", "expression", "items", "names", "plain")

    def __init__(
        self, code: str, items: int, expression: Callable[[int], str], plain: bool, names: dict[str, Any]
    ) -> None:
        self.code, self.items, self.expression, self.plain, self.names = code, items, expression, plain, names

    def builder(self) -> Callable[[tuple[Any, ...]], Any]:
        """What makes the value of the items."""
        if self.plain:
            return _first
        build: Callable[[tuple[Any, ...]], Any] = eval(f"lambda v: {self.expression(0)}", self.names)
        return build


def _first(items: tuple[Any, ...]) -> Any:
    return items[0]


def scalar(code: str) -> Shape:
    """The shape of one item."""
    return Shape(code, 1, lambda at: f"v[{at}]", True, {})


class Layout:
    """How a C type lies in memory, and how to turn bytes into Python values and back.

    Integers, bit fields and enums become int, ``bool`` bool, ``char[N]`` the bytes before the first NUL, ``__u8[N]``
    bytes, other arrays tuples, structures named tuples. A union becomes its bytes, with an attribute for each member;
    what an unnamed structure or union holds is an attribute of the structure around it, too.

    Attributes:
        name: the C type's name ("slow_call"), "" for unnamed types.
        size: in bytes.
    """

    __slots__ = ("_btf", "_build", "_shape", "_struct", "_type_id", "name", "size")

    def __init__(self, name: str, shape: Shape, btf: Btf | None = None, type_id: int = 0) -> None:
        self.name = name
        self._struct = struct.Struct("<" + shape.code)
        self.size = self._struct.size
        self._shape = shape
        self._btf, self._type_id = btf, type_id
        self._build: Callable[[tuple[Any, ...]], Any] | None = None  # made when it is needed

    def unpack(self, buffer: Any, offset: int = 0) -> Any:
        """Decodes the value at an offset of a bytes-like object."""
        if self._build is None:
            self._build = self._shape.builder()
        return self._build(self._struct.unpack_from(buffer, offset))

    def pack(self, value: Any, what: str = "") -> bytes:
        """Encodes a value.

        Args:
            value: an int, bool or float; an enum's int or name; bytes or a text for ``char[N]``; a sequence for an
                array; for a structure a named tuple, a dict (what it leaves out is zero) or a sequence in the order of
                the C declaration; for a union a dict of one member; for these two also their bytes.
            what: is packed, for errors.

        Raises:
            BadValue: it doesn't fit the type.
        """
        if (type(value) is int and self._shape.code in _NUMBERS) or (type(value) is bool and self._shape.code == "?"):
            try:
                return self._struct.pack(value)
            except struct.error:
                pass
        from pyebpf.core import encode

        if self._btf is not None:
            return encode.pack(self._btf, self._type_id, value, what or self.name)
        if isinstance(value, (bytes, bytearray, memoryview)) and len(value) == self.size:
            return bytes(value)
        raise BadValue(f"{what}: it declares no C type: {self.size} bytes are wanted, got {encode.shown(value)}")


def raw_layout(size: int) -> Layout:
    """The layout of so many bytes, as bytes."""
    return Layout("", scalar(f"{size}s"))


WORD = Layout("__u32", scalar("I"))  # the key of every array
