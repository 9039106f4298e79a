# SPDX-License-Identifier: BSD-2-Clause
"""An object's own BTF: the types of its maps, records and constants, turned into decoders.

The C structure in ``bpf/`` is the only definition of a record; everything Python knows of it comes from here.
Format: ``Documentation/bpf/btf.rst`` and ``include/uapi/linux/btf.h``.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

from pyebpf.core.layout import Layout, Shape, scalar
from pyebpf.errors import BinaryError, NoSuchName

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

_MOST_NAME = 4096  # the kernel's own have less than 512
_MOST_WORDS = 1 << 24  # bytes of an array of integers
_INTEGER_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h", (4, False): "I", (4, True): "i",
                  (8, False): "Q", (8, True): "q"}  # fmt: skip


# Plain classes: to make a named tuple costs every start a fifth of a millisecond.
class _Type:
    __slots__ = ("flag", "kind", "name", "position", "size_or_type", "vlen")

    def __init__(self, kind: int, name: str, size_or_type: int, vlen: int, position: int, flag: bool) -> None:
        self.kind, self.name, self.size_or_type, self.vlen = kind, name, size_or_type, vlen
        self.position = position  # of what follows the header
        self.flag = flag  # kind_flag: of a structure, that it has bit fields


class Variable:
    """A variable of a data section (``.rodata``, ``.bss``)."""

    __slots__ = ("name", "offset", "type_id")

    def __init__(self, name: str, offset: int, type_id: int) -> None:
        self.name, self.offset, self.type_id = name, offset, type_id


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
            name_end = strings.find(b"\0", offset, offset + _MOST_NAME)
            if name_end < 0:
                raise BinaryError("malformed BTF: a name without an end")
            return strings[offset:name_end].decode(errors="replace")

        self._types = [_Type(0, "void", 0, 0, 0, False)]
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
            self._types.append(_Type(kind, name, size_or_type, vlen, position + 12, bool(info >> 31)))
            position += 12 + fixed + each * vlen
            if position > min(end, len(raw)):
                raise BinaryError("malformed BTF: a type lies past the end")
        self._name_at = name_at

    def kind_and_name(self, type_id: int) -> tuple[int, str]:
        """A type's kind (``BTF_KIND_…``) and its name, "" without one."""
        found = self._type(type_id)
        return found.kind, found.name

    def _type(self, type_id: int) -> _Type:
        if not 0 <= type_id < len(self._types):
            raise BinaryError(f"malformed BTF: there is no type {type_id}")
        return self._types[type_id]

    def layout(self, name: str) -> Layout:
        """The layout of a structure or typedef by name.

        Raises:
            NoSuchName: the object has no such type.
        """
        return self.layout_of(self.number(name))

    def number(self, name: str) -> int:
        """The BTF id of a structure, union, enum or typedef by name. Raises NoSuchName."""
        if name not in self._by_name:
            raise NoSuchName(
                f"the object has no type {name!r}",
                hint=f"clang drops a type that nothing refers to; this keeps it: "
                f"const struct {name} *unused_{name} __attribute__((unused));",
            )
        return self._by_name[name]

    def layout_of(self, type_id: int) -> Layout:
        """The layout of a type by BTF id."""
        known = self._layouts.get(type_id)
        if known is None:
            try:
                shape = self._compile(type_id, 0, {"new": tuple.__new__})
            except (struct.error, IndexError, KeyError, ValueError) as error:
                raise BinaryError(f"malformed BTF: type {type_id}: {error}") from None
            known = self._layouts[type_id] = Layout(self._types[type_id].name, shape, self, type_id)
        return known

    def enumerators(self, name: str) -> dict[str, int]:
        """The members of an enum by its name, or a typedef's. Raises NoSuchName."""
        return self.enumerators_of(self.resolve(self.number(name)))

    def enumerators_of(self, kind: _Type) -> dict[str, int]:
        """The members of an enum. Raises BinaryError if it is none."""
        if kind.kind not in (ENUM, ENUM64):
            raise BinaryError(f"BTF type {kind.name!r} is no enum")
        step, code = (8, "<Ii") if kind.kind == ENUM else (12, "<IQ")
        members = {}
        for index in range(kind.vlen):
            name_offset, value = struct.unpack_from(code, self._raw, kind.position + index * step)
            members[self._name_at(name_offset)] = value
        return members

    def members(self, name: str) -> dict[str, int]:
        """Byte offsets of a structure's members by name. Raises NoSuchName."""
        return {row[0]: row[2] // 8 for row in self.fields(self.resolve(self.number(name)))}

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
        for member, type_id, bits, _ in self.fields(kind):
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
            variable = self._type(type_id)
            if variable.kind == _VAR:
                found.append(Variable(variable.name, offset, variable.size_or_type))
        return found

    def anchored(self) -> dict[str, str]:
        """The structures that global pointers point to, by the pointers' names: the records, by the custom that keeps
        clang from dropping them."""
        found = {}
        for variable in self._types:
            if variable.kind == _VAR:
                pointer = self.resolve(variable.size_or_type)
                target = self.resolve(pointer.size_or_type) if pointer.kind == PTR else pointer
                if pointer.kind == PTR and target.kind == STRUCT and target.name:
                    found[variable.name] = target.name
        return found

    def fields(self, kind: _Type) -> list[tuple[str, int, int, int]]:
        """Of a structure's or union's members: name, type, offset in bits, and of a bit field the width (or 0).

        Raises:
            BinaryError: it is neither.
        """
        if kind.kind not in (STRUCT, UNION):
            raise BinaryError(f"BTF type {kind.name!r} has no members")
        rows = struct.iter_unpack("<III", self._raw[kind.position : kind.position + 12 * kind.vlen])
        if kind.flag:
            return [(self._name_at(name), type_id, bits & 0xFFFFFF, bits >> 24) for name, type_id, bits in rows]
        return [(self._name_at(name), type_id, bits, 0) for name, type_id, bits in rows]

    def array(self, kind: _Type) -> tuple[int, int]:
        """Element type and count of an array."""
        element, _index, count = struct.unpack_from("<III", self._raw, kind.position)
        return element, count

    def signed(self, kind: _Type) -> bool:
        """Of an integer or enum."""
        if kind.kind == _INT:
            return bool(struct.unpack_from("<I", self._raw, kind.position)[0] >> 24 & 1)
        return kind.kind == ENUM

    def is_bool(self, kind: _Type) -> bool:
        """Is it C's bool, of a byte?"""
        if kind.kind != _INT or kind.size_or_type != 1:
            return False
        return bool(struct.unpack_from("<I", self._raw, kind.position)[0] >> 24 & 4)

    def spelled(self, type_id: int) -> str:
        """A type as C spells it, nearly: "struct event", "__u32[4]"."""
        suffix = ""
        for _ in range(32):
            kind = self._type(type_id)
            if kind.kind == ARRAY:
                type_id, count = self.array(kind)
                suffix += f"[{count}]"
            elif kind.kind in MODIFIERS and kind.kind != _TYPEDEF:
                type_id = kind.size_or_type
            elif kind.kind == PTR:
                return f"a pointer{suffix}"
            else:
                word = {STRUCT: "struct ", UNION: "union ", ENUM: "enum ", ENUM64: "enum "}.get(kind.kind, "")
                return f"{word}{kind.name or '(unnamed)'}{suffix}"
        return "?"

    def resolve(self, type_id: int) -> _Type:
        for _ in range(32):
            kind = self._type(type_id)
            if kind.kind not in MODIFIERS:
                return kind
            type_id = kind.size_or_type
        raise BinaryError("malformed BTF: a type refers to itself")

    def _compile(self, type_id: int, depth: int, names: dict[str, Any]) -> Shape:
        """How a type is unpacked.

        Args:
            names: of the whole expression; the type's own are added.
        """
        if depth > 16:
            raise BinaryError("malformed BTF: types are nested too deeply")
        kind = self.resolve(type_id)
        if kind.kind == _INT:
            if self.is_bool(kind):
                return scalar("?")
            signed = self.signed(kind)
            if kind.size_or_type == 16:
                return Shape("16s", 1, lambda at: f'int.from_bytes(v[{at}], "little", signed={signed})', False, names)
            code = _INTEGER_CODES.get((kind.size_or_type, signed))
            return scalar(code or f"{kind.size_or_type}s")
        if kind.kind in (ENUM, ENUM64):
            return scalar(_INTEGER_CODES[(kind.size_or_type, kind.kind == ENUM)])
        if kind.kind == PTR:
            return scalar("Q")
        if kind.kind == _FLOAT:
            return scalar({4: "f", 8: "d"}[kind.size_or_type])
        if kind.kind == ARRAY:
            return self._compile_array(kind, depth, names)
        if kind.kind == STRUCT:
            return self._compile_struct(kind, depth, names)
        if kind.kind == UNION:
            union = f"union{len(names)}"
            names[union] = self._union(kind)
            return Shape(f"{kind.size_or_type}s", 1, lambda at: f"{union}(v[{at}])", False, names)
        raise BinaryError(f"BTF type {kind.name!r} has no layout")

    def _compile_array(self, kind: _Type, depth: int, names: dict[str, Any]) -> Shape:
        element, count = self.array(kind)
        resolved = self.resolve(element)
        if resolved.kind == _INT and resolved.size_or_type == 1 and resolved.name == "char":
            return Shape(f"{count}s", 1, lambda at: f'v[{at}].partition(b"\\0")[0]', False, names)
        if resolved.kind == _INT and resolved.size_or_type == 1 and resolved.name == "unsigned char":
            return scalar(f"{count}s")
        one = self._compile(element, depth + 1, names)
        simple, size = one.plain and len(one.code) == 1, struct.calcsize("<" + one.code)
        if not size:  # arrays of arrays of nothing could have any number of elements
            raise BinaryError(f"a BTF array of {count} elements that have no size")
        if count * size > (_MOST_WORDS if simple else 1 << 20):
            raise BinaryError(f"a BTF array of {count} elements is too large")
        code, items, step = f"{count}{one.code}" if simple else one.code * count, one.items * count, one.items
        if one.plain:
            return Shape(code, items, lambda at: f"v[{at}:{at + items}]", False, names)
        build = f"build{len(names)}"
        names[build] = one.builder()
        each = f"{build}(v[i:i + {step}])"
        return Shape(
            code, items, lambda at: f"tuple([{each} for i in range({at}, {at + items}, {step})])", False, names
        )

    def _compile_struct(self, kind: _Type, depth: int, names: dict[str, Any]) -> Shape:
        code, position, items = "", 0, 0
        rows = self.fields(kind)
        parts: list[tuple[int, Callable[[int], str]]] = []
        inner: dict[str, Any] = {}  # of unnamed members
        index = 0
        while index < len(rows):
            name, type_id, bits, width = rows[index]
            run = 1
            if width:
                while index + run < len(rows) and rows[index + run][3]:
                    run += 1
                start, member, fields = self._bit_fields(rows[index : index + run])
                parts += [(items, field) for field in fields]
            else:
                if bits & 7:
                    raise BinaryError(f"malformed BTF: struct {kind.name}: {name} is not at a byte")
                start, member = bits // 8, self._compile(type_id, depth + 1, names)
                parts.append((items, member.expression))
                if not name:
                    inner.update((one, _through(index, one)) for one in self.names_in(type_id))
            code += f"{start - position}x" * (start > position) + member.code
            position = start + struct.calcsize("<" + member.code)
            items += member.items
            index += run
        if kind.size_or_type < position:
            raise BinaryError(f"malformed BTF: struct {kind.name} is smaller than its members")
        code += f"{kind.size_or_type - position}x" * (kind.size_or_type > position)
        record = f"record{len(names)}"
        title = kind.name if kind.name.isidentifier() else "record"
        made: Any = namedtuple(title, [row[0] for row in rows], rename=True)  # type: ignore[misc]
        names[record] = type(title, (made,), {"__slots__": (), **inner}) if inner else made

        def expression(at: int) -> str:
            return f"new({record}, ({''.join([f'{part(at + first)}, ' for first, part in parts])}))"

        return Shape(code, items, expression, False, names)

    def _bit_fields(
        self, rows: list[tuple[str, int, int, int]]
    ) -> tuple[int, Shape, list[Callable[[int], str]]]:
        """Of bit fields that lie side by side: their first byte, what is unpacked, and the expression of each."""
        start = rows[0][2] // 8
        size = -(-max(bits + width for _, _, bits, width in rows) // 8) - start
        fields = []
        for _, type_id, bits, width in rows:
            kind = self.resolve(type_id)
            if bits < start * 8:
                raise BinaryError("malformed BTF: a bit field before the one before it")
            boolean = self.is_bool(kind)
            fields.append(_bits(bits - start * 8, width, self.signed(kind) and not boolean, boolean))
        return start, scalar(f"{size}s"), fields

    def names_in(self, type_id: int, depth: int = 0) -> list[str]:
        """The members of an unnamed structure or union, and of such in it."""
        kind = self.resolve(type_id)
        if depth > 16 or kind.kind not in (STRUCT, UNION):
            return []
        return [one for row in self.fields(kind) for one in ([row[0]] if row[0] else self.names_in(row[1], depth + 1))]

    def _union(self, kind: _Type) -> type:
        """A kind of bytes with an attribute for each member."""
        members: dict[str, Any] = {"__slots__": ()}
        for name, type_id, _, width in self.fields(kind):
            if not width:
                members.update((one, self._member(type_id, "" if name else one)) for one in
                               ([name] if name else self.names_in(type_id)))  # fmt: skip
        return type(kind.name if kind.name.isidentifier() else "union", (bytes,), members)

    def _member(self, type_id: int, inner: str) -> property:
        def read(raw: bytes) -> Any:
            value = self.layout_of(type_id).unpack(raw)
            return getattr(value, inner) if inner else value

        return property(read)


def _through(index: int, name: str) -> property:
    return property(lambda record: getattr(record[index], name))


def _bits(shift: int, width: int, signed: bool, is_bool: bool) -> Callable[[int], str]:
    """Of a bit field: its value's expression."""
    mask, sign = (1 << width) - 1, 1 << (width - 1)

    def expression(at: int) -> str:
        value = f'(int.from_bytes(v[{at}], "little") >> {shift} & {mask})'
        return f"bool{value}" if is_bool else f"(({value} ^ {sign}) - {sign})" if signed else value

    return expression
