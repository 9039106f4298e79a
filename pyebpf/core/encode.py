# SPDX-License-Identifier: BSD-2-Clause
"""Python values into C types, checked: what doesn't fit is an error that names the place, the type and what came."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NoReturn

from pyebpf.errors import BadValue

if TYPE_CHECKING:
    from pyebpf.core.btf import Btf

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FLOAT, _ENUM64 = 1, 2, 3, 4, 5, 6, 16, 19  # BTF_KIND_…, linux/btf.h
_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h", (4, False): "I", (4, True): "i",
          (8, False): "Q", (8, True): "q"}  # fmt: skip


def pack(btf: Btf, type_id: int, value: Any, what: str) -> bytes:
    """A value as the C type lies in memory.

    Args:
        what: it is for, for the error ("map counts: key").

    Raises:
        BadValue: it doesn't fit.
    """
    buffer = bytearray(btf.layout_of(type_id).size)
    _put(btf, type_id, value, buffer, 0, what)
    return bytes(buffer)


def shown(value: Any) -> str:
    """A value for an error message, with its type."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _refuse(btf: Btf, type_id: int, value: Any, what: str, wanted: str) -> NoReturn:
    raise BadValue(f"{what}: {btf.spelled(type_id)} takes {wanted}, got {shown(value)}")


def _put(btf: Btf, type_id: int, value: Any, buffer: bytearray, at: int, what: str) -> None:
    kind = btf.resolve(type_id)
    size = kind.size_or_type
    if kind.kind in (_INT, _ENUM, _ENUM64, _PTR):
        size = 8 if kind.kind == _PTR else size
        bits = size * 8
        buffer[at : at + size] = _integer(btf, type_id, value, bits, what).to_bytes(size, "little")
    elif kind.kind == _FLOAT:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse(btf, type_id, value, what, "a number")
        try:
            struct.pack_into("<f" if size == 4 else "<d", buffer, at, value)
        except OverflowError:
            _refuse(btf, type_id, value, what, "a number in its range")
    elif kind.kind == _ARRAY:
        _array(btf, type_id, value, buffer, at, what)
    elif kind.kind in (_STRUCT, _UNION):
        if isinstance(value, (bytes, bytearray, memoryview)):
            if len(value) != size:
                _refuse(btf, type_id, value, what, f"{size} bytes")
            buffer[at : at + size] = value
        elif kind.kind == _UNION:
            _union(btf, type_id, value, buffer, at, what)
        else:
            _structure(btf, type_id, value, buffer, at, what)
    else:
        raise BadValue(f"{what}: {btf.spelled(type_id)} can't be written")


def _integer(btf: Btf, type_id: int, value: Any, bits: int, what: str) -> int:
    """A value as the unsigned number of so many bits that stands for it."""
    kind = btf.resolve(type_id)
    if kind.kind in (_ENUM, _ENUM64) and isinstance(value, str):
        members = btf.enumerators_of(kind)
        if value not in members:
            _refuse(btf, type_id, value, what, f"one of {', '.join(list(members)[:12])} or a number")
        value = members[value]
    if btf.is_bool(kind):
        if value not in (0, 1) or not hasattr(value, "__index__"):
            _refuse(btf, type_id, value, what, "True or False")
        return int(value)
    if not hasattr(value, "__index__"):
        _refuse(btf, type_id, value, what, "an integer")
    number: int = value.__index__()
    signed = btf.signed(kind)
    # An enum's constants are unsigned or signed as they need it: either is right.
    low = -(1 << bits - 1) if signed else 0
    high = (1 << bits) - 1 if not signed or kind.kind == _ENUM else (1 << bits - 1) - 1
    if not low <= number <= high:
        _refuse(btf, type_id, value, what, f"{low} to {high}" + f" ({bits} bits)" * bool(bits % 8))
    return number & (1 << bits) - 1


def _array(btf: Btf, type_id: int, value: Any, buffer: bytearray, at: int, what: str) -> None:
    element, count = btf.array(btf.resolve(type_id))
    one = btf.resolve(element)
    if one.kind == _INT and one.size_or_type == 1 and isinstance(value, (str, bytes, bytearray, memoryview)):
        text = one.name == "char"
        if isinstance(value, str) and not text:
            _refuse(btf, type_id, value, what, f"{count} bytes")
        data = value.encode() if isinstance(value, str) else bytes(value)
        if len(data) > count or (len(data) < count and not text):
            _refuse(btf, type_id, value, what, f"{'at most ' * text}{count} bytes")
        buffer[at : at + count] = data.ljust(count, b"\0")
        return
    try:
        length = -1 if isinstance(value, (str, dict, set, frozenset)) else len(value)
    except TypeError:
        length = -1
    if length != count:
        _refuse(btf, type_id, value, what, f"a sequence of {count}")
    step = btf.layout_of(element).size
    code = _CODES.get((step, btf.signed(one))) if one.kind == _INT and not btf.is_bool(one) else None
    if code is not None:
        try:
            struct.pack_into(f"<{count}{code}", buffer, at, *value)
            return
        except struct.error:  # whose message doesn't say which
            pass
    for index, item in enumerate(value):
        _put(btf, element, item, buffer, at + index * step, f"{what}[{index}]")


def _structure(btf: Btf, type_id: int, value: Any, buffer: bytearray, at: int, what: str) -> None:
    rows = btf.fields(btf.resolve(type_id))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        names = [row[0] for row in rows]
        fields = getattr(value, "_fields", ())
        if len(fields) != len(names) or any(name and name != field for name, field in zip(names, fields)
                                            if not field.startswith("_")):  # fmt: skip
            value = dict(zip(fields, value))  # somebody else's: by name
    if isinstance(value, dict):
        for name, item in value.items():
            _by_name(btf, type_id, name, item, buffer, at, what)
        return
    try:
        length = -1 if isinstance(value, (str, set, frozenset)) else len(value)
    except TypeError:
        length = -1
    if length != len(rows):
        names_of = ", ".join(row[0] or "(unnamed)" for row in rows[:12]) + ", ..." * (len(rows) > 12)
        _refuse(btf, type_id, value, what, f"a dict, or a sequence of {len(rows)} ({names_of})")
    for row, item in zip(rows, value):
        _field(btf, row, item, buffer, at, f"{what}.{row[0]}")


def _union(btf: Btf, type_id: int, value: Any, buffer: bytearray, at: int, what: str) -> None:
    if not isinstance(value, dict) or len(value) != 1:
        _refuse(btf, type_id, value, what, "a dict of one member, or its bytes")
    for name, item in value.items():
        _by_name(btf, type_id, name, item, buffer, at, what)


def _by_name(btf: Btf, type_id: int, name: Any, item: Any, buffer: bytearray, at: int, what: str) -> None:
    rows = btf.fields(btf.resolve(type_id))
    for row in rows:
        if row[0] == name and name:
            _field(btf, row, item, buffer, at, f"{what}.{name}")
            return
    for row in rows:  # within an unnamed member
        if not row[0] and name in btf.names_in(row[1]):
            _by_name(btf, row[1], name, item, buffer, at + row[2] // 8, what)
            return
    names = ", ".join(row[0] for row in rows[:12] if row[0])
    raise BadValue(f"{what}: {btf.spelled(type_id)} has no member {name!r}; it has {names}")


def _field(btf: Btf, row: tuple[str, int, int, int], item: Any, buffer: bytearray, at: int, what: str) -> None:
    _, type_id, bits, width = row
    if not width:
        _put(btf, type_id, item, buffer, at + bits // 8, what)
        return
    first, end = at + bits // 8, at + -(-(bits + width) // 8)
    shift = bits % 8
    there = int.from_bytes(buffer[first:end], "little") & ~(((1 << width) - 1) << shift)
    there |= _integer(btf, type_id, item, width, what) << shift
    buffer[first:end] = there.to_bytes(end - first, "little")
