# SPDX-License-Identifier: BSD-2-Clause
"""What Go's tracebacks know of a function's parameters: their sizes and where their bytes would be on the stack.

Every compiled function since Go 1.17 has it, stripped or not. It names nothing, but counts also the parameters that
debug information leaves out, so it is a second witness for where the others are.

A stream of bytes: offset and size of each part, and operators. Source: TraceArgsEndSeq and its like in Go's
src/internal/abi/symtab.go, EmitArgInfo in src/cmd/compile/internal/ssagen/ssa.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...errors import BinaryError
from .. import types
from ..elf import Elf
from ..types import Type

FUNCDATA = 5  # FUNCDATA_ArgInfo
_END, _START_AGGREGATE, _END_AGGREGATE, _MORE, _TOO_FAR = 0xFF, 0xFE, 0xFD, 0xFC, 0xFB
_SPECIAL = 0xF0  # from here on they are operators
_LIMIT, _MAX_DEPTH = 10, 5  # parts told, and aggregates within aggregates
_MAX_LENGTH = (_MAX_DEPTH * 3 + 2) * _LIMIT + 1

_WORDS = {types.STRING: 2, types.INTERFACE: 2, types.SLICE: 3}


class Element(NamedTuple):
    """One parameter as the stream tells it.

    Attributes:
        slot: the stack offset of its first part, from stack argument 0; None if it has none or is too far away.
        parts: (offset from ``slot``, size) of what is told of it.
        aggregate: it isn't a number or pointer.
    """

    slot: int | None
    parts: tuple[tuple[int, int], ...]
    aggregate: bool


def read(elf: Elf, vaddr: int) -> bytes:
    """The stream at ``vaddr``, without its end mark.

    Raises:
        BinaryError: there is none.
    """
    size = _MAX_LENGTH
    while size:
        try:
            raw = elf.read(vaddr, size)
        except BinaryError:  # it may lie at the very end of what is loaded
            size //= 2
            continue
        at = 0
        while at < size:
            if raw[at] == _END:
                return raw[:at]
            at += 1 if raw[at] >= _SPECIAL else 2
        break
    raise BinaryError(f"{elf.path}: a description of arguments without end at {vaddr:#x}")


def elements(stream: bytes) -> tuple[tuple[Element, ...], bool]:
    """The parameters that ``stream`` tells, and whether that is all of them and all of each."""
    found: list[Element] = []
    parts: list[tuple[int, int]] = []
    depth = at = 0
    whole = True
    while at < len(stream):
        byte = stream[at]
        at += 1
        if byte == _START_AGGREGATE:
            depth += 1
        elif byte == _END_AGGREGATE:
            depth -= 1
        elif byte in (_MORE, _TOO_FAR):
            whole = False
        elif at < len(stream):
            parts.append((byte, stream[at]))
            at += 1
        if depth <= 0 and byte != _MORE:
            slot = parts[0][0] if parts else None
            shape = tuple((offset - parts[0][0], size) for offset, size in parts)
            found.append(Element(slot, shape, byte == _END_AGGREGATE))
            parts = []
    return tuple(found), whole


def alike(one: bytes, other: bytes) -> bool:
    """Do two streams tell of the same parts, as far as both tell? Empty parameters are passed over."""
    (first, first_whole), (second, second_whole) = elements(one), elements(other)
    parts = [
        [(element.slot + at, size) for element in found if element.slot is not None for at, size in element.parts]
        for found in (first, second)
    ]
    common = min(map(len, parts))
    if first_whole and second_whole and len(parts[0]) != len(parts[1]):
        return False
    return parts[0][:common] == parts[1][:common] and (common > 0 or parts[0] == parts[1])


def stream_of(parameters: Sequence[tuple[Type, int]]) -> bytes:
    """The stream the compiler would write for parameters of these types at these slots.

    Raises:
        BinaryError: it can't be foretold, as one of the types or slots isn't known.
    """
    writer = _Writer()
    for type, slot in parameters:
        if slot < 0:
            raise BinaryError(f"it isn't known where a parameter of the type {type.name} is")
        if not writer.visit(type, slot, 0):
            break
    return bytes(writer.written)


class _Writer:
    """EmitArgInfo's state: the bytes written and the parts counted."""

    __slots__ = ("count", "written")

    def __init__(self) -> None:
        self.written = bytearray()
        self.count = 0

    def visit(self, type: Type | int, slot: int, depth: int) -> bool:
        """Write ``type`` (of a plain word: its size) at ``slot``; False when the limit was reached before it."""
        if self.count >= _LIMIT:
            self.written.append(_MORE)
            return False
        parts = None if isinstance(type, int) else _parts(type)
        if parts is None:
            size = type if isinstance(type, int) else type.size
            self.written += bytes((_TOO_FAR,) if slot >= _SPECIAL else (slot, size & 0xFF))
            self.count += 1
            return True
        self.written.append(_START_AGGREGATE)
        if depth + 1 >= _MAX_DEPTH:
            self.written.append(_MORE)
            self.count += 1
        else:
            self.count += not parts
            for part, offset in parts:
                if not self.visit(part, slot + offset, depth + 1):
                    break
        self.written.append(_END_AGGREGATE)
        return True


def _parts(type: Type) -> list[tuple[Type | int, int]] | None:
    """The types and offsets of what the aggregate ``type`` is made of (no more than can be told); None: it is none."""
    if type.kind in _WORDS:
        return [(8, 8 * word) for word in range(_WORDS[type.kind])]
    if type.kind == types.COMPLEX:
        return [(type.size // 2, 0), (type.size // 2, type.size // 2)]
    if type.kind == types.ARRAY:
        element = type.target
        if type.count < 0 or element is None:
            raise BinaryError(f"the array {type.name} has an unknown size")
        return [(element, element.size * index) for index in range(min(type.count, _LIMIT + 1))]
    if type.kind == types.STRUCT:
        return [(member.type, member.offset) for member in type.members[: _LIMIT + 1]]
    if type.kind == types.UNKNOWN:
        raise BinaryError(f"the type {type.name} isn't known")
    return None
