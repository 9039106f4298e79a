# SPDX-License-Identifier: BSD-2-Clause
"""An object's own BTF: the types of its maps, records and constants, turned into decoders.

The C structure in ``bpf/`` is the only definition of a record; everything Python knows of it comes from here.
Format: ``Documentation/bpf/btf.rst`` and ``include/uapi/linux/btf.h``.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pyebpf.errors import BinaryError

_MAGIC = 0xEB9F

_INT, PTR, ARRAY, STRUCT, UNION, ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, ENUM64 = range(9, 20)

MODIFIERS = frozenset((_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG))
# What follows the 12-byte header of a type, in bytes: fixed, and for each of its vlen entries.
TRAILER = {
    _INT: (4, 0), PTR: (0, 0), ARRAY: (12, 0), STRUCT: (0, 12), UNION: (0, 12), ENUM: (0, 8), _FWD: (0, 0),
    _TYPEDEF: (0, 0), _VOLATILE: (0, 0), _CONST: (0, 0), _RESTRICT: (0, 0), FUNC: (0, 0), _FUNC_PROTO: (0, 8),
    _VAR: (4, 0), _DATASEC: (0, 12), _FLOAT: (0, 0), _DECL_TAG: (4, 0), _TYPE_TAG: (0, 0), ENUM64: (0, 12),
}  # fmt: skip

_INTEGER_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h", (4, False): "I", (4, True): "i",
                  (8, False): "Q", (8, True): "q"}  # fmt: skip


class _Type(NamedTuple):
    kind: int
    name: str
    size_or_type: int
    vlen: int
    position: int  # of what follows the header


class Variable(NamedTuple):
    """A variable of a data section (``.rodata``, ``.bss``)."""

    name: str
    offset: int
    layout: Layout


class _Shape(NamedTuple):
    """How a type is unpacked.

    Attributes:
        code: for `struct`.
        items: that this makes.
        expression: Python for the value, of the tuple ``v`` of items, from an index on. No word of it is the type's.
            One expression for a whole record takes half the time of a call for each part.
        plain: an array of it is a slice of the items.
        names: that expressions use.
    """

    code: str
    items: int
    expression: Callable[[int], str]
    plain: bool
    names: dict[str, Any]

    def builder(self) -> Callable[[tuple[Any, ...]], Any]:
        """What makes the value of the items."""
        if self.plain:
            return _first
        build: Callable[[tuple[Any, ...]], Any] = eval(f"lambda v: {self.expression(0)}", self.names)
        return build


def _first(items: tuple[Any, ...]) -> Any:
    return items[0]


def _scalar(code: str) -> _Shape:
    return _Shape(code, 1, lambda at: f"v[{at}]", True, {})


class Layout:
    """How a C type lies in memory, and how to turn bytes into Python values and back.

    Integers and enums become int, ``bool`` bool, ``char[N]`` the bytes before the first NUL, ``__u8[N]`` bytes, other
    arrays tuples, structures named tuples.

    Attributes:
        name: the C type's name ("slow_call"), "" for unnamed types.
        size: in bytes.
    """

    __slots__ = ("_build", "_shape", "_struct", "name", "size")

    def __init__(self, name: str, shape: _Shape) -> None:
        self.name = name
        self._struct = struct.Struct("<" + shape.code)
        self.size = self._struct.size
        self._shape = shape
        self._build: Callable[[tuple[Any, ...]], Any] | None = None  # made when it is needed

    def unpack(self, buffer: Any, offset: int = 0) -> Any:
        """Decodes the value at an offset of a bytes-like object."""
        if self._build is None:
            self._build = self._shape.builder()
        return self._build(self._struct.unpack_from(buffer, offset))

    def pack(self, value: Any) -> bytes:
        """Encodes a value: an int or bool, or (nested) sequences in the order of the C declaration."""
        return self._struct.pack(*_flatten(value))


def raw_layout(size: int) -> Layout:
    """The layout of so many bytes, as bytes."""
    return Layout("", _scalar(f"{size}s"))


def _flatten(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _flatten(item)]
    return [value]


class Btf:
    """The types of one object.

    Args:
        raw: the contents of a ``.BTF`` section.

    Raises:
        BinaryError: the data is malformed.
    """

    def __init__(self, raw: bytes) -> None:
        try:
            self._parse(raw)
        except (struct.error, IndexError, ValueError) as error:
            raise BinaryError(f"malformed BTF: {error}") from None
        self._layouts: dict[int, Layout] = {}

    def _parse(self, raw: bytes) -> None:
        magic, _version, _flags, header, types_at, types_size, strings_at, strings_size = struct.unpack_from(
            "<HBBIIIII", raw
        )
        if magic != _MAGIC:
            raise BinaryError("malformed BTF: wrong magic number")
        self._raw = raw
        strings = raw[header + strings_at : header + strings_at + strings_size]

        def name_at(offset: int) -> str:
            return strings[offset : strings.index(b"\0", offset)].decode(errors="replace")

        self._types = [_Type(0, "void", 0, 0, 0)]
        self._by_name: dict[str, int] = {}
        position, end = header + types_at, header + types_at + types_size
        while position < end:
            name_offset, info, size_or_type = struct.unpack_from("<III", raw, position)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            if kind not in TRAILER:
                raise BinaryError(f"malformed BTF: unknown kind {kind}")
            fixed, each = TRAILER[kind]
            name = name_at(name_offset)
            if kind in (STRUCT, UNION, ENUM, ENUM64, _DATASEC, _TYPEDEF) and name:
                self._by_name.setdefault(name, len(self._types))
            self._types.append(_Type(kind, name, size_or_type, vlen, position + 12))
            position += 12 + fixed + each * vlen
        self._name_at = name_at

    def kind_and_name(self, type_id: int) -> tuple[int, str]:
        """A type's kind (``BTF_KIND_…``) and its name, "" without one."""
        found = self._types[type_id]
        return found.kind, found.name

    def layout(self, name: str) -> Layout:
        """The layout of a structure or typedef by name.

        Raises:
            LookupError: the object has no such type.
        """
        if name not in self._by_name:
            raise LookupError(f"the object has no type {name!r}")
        return self.layout_of(self._by_name[name])

    def layout_of(self, type_id: int) -> Layout:
        """The layout of a type by BTF id."""
        known = self._layouts.get(type_id)
        if known is None:
            try:
                shape = self._compile(type_id, 0, {"new": tuple.__new__})
            except (struct.error, IndexError, KeyError, ValueError) as error:
                raise BinaryError(f"malformed BTF: type {type_id}: {error}") from None
            known = self._layouts[type_id] = Layout(self._types[type_id].name, shape)
        return known

    def enumerators(self, name: str) -> dict[str, int]:
        """The members of an enum by its name."""
        kind = self._types[self._by_name[name]]
        step, code = (8, "<Ii") if kind.kind == ENUM else (12, "<IQ")
        members = {}
        for index in range(kind.vlen):
            name_offset, value = struct.unpack_from(code, self._raw, kind.position + index * step)
            members[self._name_at(name_offset)] = value
        return members

    def members(self, name: str) -> dict[str, int]:
        """Byte offsets of a structure's members by name."""
        return {member: bits // 8 for member, _, bits in self._members(self._types[self._by_name[name]])}

    def flat(self, name: str, wanted: Sequence[str]) -> str:
        """Codes for `struct`, without the byte order, that unpack some members of a structure at once.

        Args:
            wanted: the members, in their order in C; each becomes one item.

        Raises:
            LookupError: there are no such members, in this order.
            BinaryError: one of them is an array (of other than characters), a structure or a union.
        """
        kind = self._types[self._by_name[name]]
        codes, position, left = [], 0, list(wanted)
        for member, type_id, bits in self._members(kind):
            if left and member == left[0]:
                code = self._compile(type_id, 0, {}).code
                codes.append(f"{bits // 8 - position}x{code}")
                position = bits // 8 + struct.calcsize("<" + code)
                del left[0]
        if left:
            raise LookupError(f"struct {name} has no member {left[0]} behind the others")
        code = "".join([*codes, f"{kind.size_or_type - position}x"])
        if len(struct.unpack("<" + code, bytes(kind.size_or_type))) != len(wanted):
            raise BinaryError(f"struct {name} has members that aren't plain")
        return code

    def variables(self, section: str) -> list[Variable]:
        """The variables of a data section; an empty list if there is no such section."""
        if section not in self._by_name:
            return []
        datasec = self._types[self._by_name[section]]
        found = []
        for index in range(datasec.vlen):
            type_id, offset, _size = struct.unpack_from("<III", self._raw, datasec.position + index * 12)
            variable = self._types[type_id]
            if variable.kind == _VAR:
                found.append(Variable(variable.name, offset, self.layout_of(variable.size_or_type)))
        return found

    def _members(self, kind: _Type) -> list[tuple[str, int, int]]:
        rows = struct.iter_unpack("<III", self._raw[kind.position : kind.position + 12 * kind.vlen])
        return [(self._name_at(name), type_id, bits) for name, type_id, bits in rows]

    def _resolve(self, type_id: int) -> _Type:
        for _ in range(32):
            kind = self._types[type_id]
            if kind.kind not in MODIFIERS:
                return kind
            type_id = kind.size_or_type
        raise BinaryError("malformed BTF: a type refers to itself")

    def _compile(self, type_id: int, depth: int, names: dict[str, Any]) -> _Shape:
        """How a type is unpacked.

        Args:
            names: of the whole expression; the type's own are added.
        """
        if depth > 16:
            raise BinaryError("malformed BTF: types are nested too deeply")
        kind = self._resolve(type_id)
        if kind.kind == _INT:
            encoding = struct.unpack_from("<I", self._raw, kind.position)[0] >> 24
            if encoding & 4:  # BTF_INT_BOOL
                return _scalar("?")
            code = _INTEGER_CODES.get((kind.size_or_type, bool(encoding & 1)))
            return _scalar(code or f"{kind.size_or_type}s")
        if kind.kind in (ENUM, ENUM64):
            return _scalar(_INTEGER_CODES[(kind.size_or_type, kind.kind == ENUM)])
        if kind.kind == PTR:
            return _scalar("Q")
        if kind.kind == _FLOAT:
            return _scalar({4: "f", 8: "d"}[kind.size_or_type])
        if kind.kind == ARRAY:
            return self._compile_array(kind, depth, names)
        if kind.kind == STRUCT:
            return self._compile_struct(kind, depth, names)
        if kind.kind == UNION:
            return _scalar(f"{kind.size_or_type}s")
        raise BinaryError(f"BTF type {kind.name!r} has no layout")

    def _compile_array(self, kind: _Type, depth: int, names: dict[str, Any]) -> _Shape:
        element, _index, count = struct.unpack_from("<III", self._raw, kind.position)
        resolved = self._resolve(element)
        if resolved.kind == _INT and resolved.size_or_type == 1 and resolved.name == "char":
            return _Shape(f"{count}s", 1, lambda at: f'v[{at}].partition(b"\\0")[0]', False, names)
        if resolved.kind == _INT and resolved.size_or_type == 1 and resolved.name == "unsigned char":
            return _scalar(f"{count}s")
        one = self._compile(element, depth + 1, names)
        if count * max(1, struct.calcsize("<" + one.code)) > 1 << 20:
            raise BinaryError("a BTF array larger than 1 MiB")
        code, items, step = one.code * count, one.items * count, one.items
        if one.plain:
            return _Shape(code, items, lambda at: f"v[{at}:{at + items}]", False, names)
        build = f"build{len(names)}"
        names[build] = one.builder()
        each = f"{build}(v[i:i + {step}])"
        return _Shape(
            code, items, lambda at: f"tuple([{each} for i in range({at}, {at + items}, {step})])", False, names
        )

    def _compile_struct(self, kind: _Type, depth: int, names: dict[str, Any]) -> _Shape:
        code, position, items = "", 0, 0
        fields = []
        shapes: list[tuple[int, _Shape]] = []
        for name, type_id, bits in self._members(kind):
            if bits & 7 or bits >> 24:
                raise BinaryError(f"struct {kind.name}: bit fields are not supported")
            member = self._compile(type_id, depth + 1, names)
            offset = bits // 8
            code += f"{offset - position}x" * (offset > position) + member.code
            position = offset + struct.calcsize("<" + member.code)
            fields.append(name)
            shapes.append((items, member))
            items += member.items
        if kind.size_or_type < position:
            raise BinaryError(f"malformed BTF: struct {kind.name} is smaller than its members")
        code += f"{kind.size_or_type - position}x" * (kind.size_or_type > position)
        record = f"record{len(names)}"
        names[record] = namedtuple(kind.name if kind.name.isidentifier() else "record", fields, rename=True)

        def expression(at: int) -> str:
            return f"new({record}, ({''.join([f'{member.expression(at + first)}, ' for first, member in shapes])}))"

        return _Shape(code, items, expression, False, names)
