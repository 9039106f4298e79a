# SPDX-License-Identifier: BSD-2-Clause
"""The procedure call standard of arm64: how C and C++ pass values on Linux.

Source: Procedure Call Standard for the Arm 64-bit Architecture, 2024Q3 (github.com/ARM-software/abi-aa), section 6.8;
the numbers of its rules (B.4, C.12, ...) are in the comments. For C++ also the Itanium C++ ABI, chapter 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BinaryError
from .. import types
from ..signature import FLOAT_REGISTER, REGISTER, STACK, Piece, Place
from ..types import Type
from . import AGGREGATES, MAX_DEPTH, MAX_VISITED, SCALARS, Assignment, absent, by_address

INTEGERS = tuple(f"x{number}" for number in range(8))
RESULTS = ("x0", "x1")
FIRST_ARGUMENT = 0  # above the stack pointer at the first instruction: the return address is in a register

_FLOATS = tuple(f"v{number}" for number in range(8))
_WORD = 8
_MAX_IN_REGISTERS = 16
_MAX_HOMOGENEOUS = 4


def assign(parameters: Sequence[Type], result: Type | None) -> Assignment:
    """Where parameters and the result of these types lie; see systemv.py."""
    state = _State()
    return Assignment(tuple(state.take(type) for type in parameters), _result(result))


def _result(type: Type | None) -> Place | None:
    """A result's place. What is returned in memory is at an address that was in x8, which is lost by then."""
    if type is None or type.kind == types.VOID:
        return None
    place = _State().take(type)
    if place is None:
        return None
    if place.indirect or place.pieces[0].kind == STACK:
        return absent(type)
    return place


class _State:
    """NGRN, NSRN and NSAA of the standard: which registers and how much of the stack parameters have taken so far."""

    __slots__ = ("certain", "floats", "integers", "stack")

    def __init__(self) -> None:
        self.integers = self.floats = self.stack = 0
        self.certain = True

    def take(self, type: Type) -> Place | None:
        """The place of the next parameter; None from the first one on whose type isn't known."""
        if not self.certain:
            return None
        try:
            return self._take(type)
        except BinaryError:
            self.certain = False
            return None

    def _take(self, type: Type) -> Place:
        if by_address(type):
            return self._address()
        floats = _floats_of(type)
        if floats is not None:  # C.1 to C.5
            return self._in_floats(type, floats)
        if type.kind in AGGREGATES:
            if type.size > _MAX_IN_REGISTERS:  # B.4
                return self._address()
            if not type.size:
                return absent(type)
        elif type.kind not in SCALARS or type.size not in (1, 2, 4, 8, 16):
            raise BinaryError(f"the type {type.name} isn't known to C")
        return self._in_integers(type)

    def _address(self) -> Place:
        return Place(self._in_integers(Type(types.POINTER, "", _WORD, align=_WORD)).pieces, indirect=True)

    def _in_floats(self, type: Type, parts: tuple[tuple[int, int], ...]) -> Place:
        if self.floats + len(parts) <= len(_FLOATS):
            pieces = []
            for at, size in parts:
                pieces.append(Piece(FLOAT_REGISTER, size, at, _FLOATS[self.floats]))
                self.floats += 1
            return Place(tuple(pieces))
        self.floats = len(_FLOATS)  # C.3
        return self._on_stack(type)

    def _in_integers(self, type: Type) -> Place:
        count = -(-type.size // _WORD)
        if _natural(type) == 16:  # C.8
            self.integers += self.integers % 2
        if self.integers + count <= len(INTEGERS):  # C.9 to C.12
            first = self.integers
            self.integers += count
            return Place(
                tuple(
                    Piece(REGISTER, min(_WORD, type.size - _WORD * i), _WORD * i, INTEGERS[first + i])
                    for i in range(count)
                )
            )
        self.integers = len(INTEGERS)  # C.13
        return self._on_stack(type)

    def _on_stack(self, type: Type) -> Place:
        alignment = 16 if _natural(type) >= 16 else _WORD  # C.4, C.14
        offset = -(-self.stack // alignment) * alignment
        self.stack = offset + -(-type.size // _WORD) * _WORD
        return Place((Piece(STACK, type.size, offset=FIRST_ARGUMENT + offset),))


def _natural(type: Type, depth: int = 0) -> int:
    """The alignment that the type's parts need."""
    if depth > MAX_DEPTH:
        raise BinaryError(f"the type {type.name} has too many parts")
    if type.kind in (types.STRUCT, types.UNION) and type.members:
        return max(_natural(member.type, depth + 1) for member in type.members[:MAX_VISITED])
    if type.kind == types.ARRAY and type.target is not None:
        return _natural(type.target, depth + 1)
    return type.size if type.kind in SCALARS or type.kind == types.FLOAT else type.align


def _floats_of(type: Type) -> tuple[tuple[int, int], ...] | None:
    """(offset, size) of the parts of ``type`` if it is a number with a fraction, a vector, or an aggregate of one to
    four of the same of these (section 5.9.5, "Homogeneous Aggregates"); None if it isn't."""
    if type.kind == types.ARRAY:
        if type.size not in (8, 16):
            raise BinaryError(f"the type {type.name} is an array passed by value")
        return ((0, type.size),)  # a short vector: C arrays aren't passed by value
    found: list[tuple[int, int]] = []
    homogeneous = _collect(type, 0, found, [MAX_VISITED], 0)
    places = sorted(set(found))
    if not homogeneous or not 0 < len(places) <= _MAX_HOMOGENEOUS or len({size for _, size in places}) != 1:
        return None
    size = places[0][1]
    if [at for at, _ in places] != [size * index for index in range(len(places))] or type.size != size * len(places):
        return None
    return tuple(places)


def _collect(type: Type, at: int, found: list[tuple[int, int]], budget: list[int], depth: int) -> bool:
    """Append the numbers that ``type`` is made of; False as soon as one is an integer, or there are too many."""
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise BinaryError(f"the type {type.name} has too many parts")
    kind, size = type.kind, type.size
    if kind == types.UNKNOWN:
        raise BinaryError(f"the type {type.name} isn't known")
    if kind == types.FLOAT:
        found.append((at, size))
    elif kind == types.COMPLEX:
        found.extend(((at, size // 2), (at + size // 2, size // 2)))
    elif kind in (types.STRUCT, types.UNION):
        return all(
            not member.bit_size and _collect(member.type, at + member.offset, found, budget, depth + 1)
            for member in type.members
        )
    elif kind == types.ARRAY:
        element = type.target
        if element is None or type.count < 0:
            return not type.size  # a flexible array member
        if type.align > element.align:
            raise BinaryError(f"the type {type.name} may be a vector")
        if not element.size or type.count > 2 * _MAX_HOMOGENEOUS:
            return not type.size
        return all(
            _collect(element, at + element.size * index, found, budget, depth + 1) for index in range(type.count)
        )
    else:
        return False
    return True
