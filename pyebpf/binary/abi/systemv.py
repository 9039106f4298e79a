# SPDX-License-Identifier: BSD-2-Clause
"""The System V ABI of x86-64: how C and C++ pass values on Linux.

Source: System V Application Binary Interface, AMD64 Architecture Processor Supplement, version 1.0, section 3.2.3, and
for C++ the Itanium C++ ABI, chapter 3.1 (what isn't trivial to copy is passed by address).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BinaryError
from .. import types
from ..signature import FLOAT_REGISTER, REGISTER, STACK, Piece, Place
from ..types import Type
from . import MAX_DEPTH, MAX_VISITED, SCALARS, Assignment, absent, by_address

INTEGERS = ("di", "si", "dx", "cx", "r8", "r9")
RESULTS = ("ax", "dx")
FIRST_ARGUMENT = 8  # above the stack pointer at the first instruction: the return address lies between

_FLOATS = tuple(f"xmm{number}" for number in range(8))
_EIGHTBYTE = 8
_MAX_IN_REGISTERS = 16  # bytes; vectors aside

# Classes of an eightbyte (3.2.3 "Classification").
_NONE, _INTEGER, _SSE, _X87, _MEMORY = range(5)
# The types of 16 bytes in one vector register, whose second half is of the class SSEUP.
_QUADS = ("__float128", "_Float128")


def assign(parameters: Sequence[Type], result: Type | None) -> Assignment:
    """Where parameters and the result of these types lie.

    Args:
        parameters: with `this`, and other parameters of the compiler's, where it told of them.
        result: None for none.
    """
    state = _State()
    place = None
    if result is not None:
        place, hidden = _result(result)
        if hidden is None:
            return Assignment((None,) * len(parameters), None)
        state.integers += hidden
    return Assignment(tuple(state.take(type) for type in parameters), place)


def _result(type: Type) -> tuple[Place | None, int | None]:
    """A result's place, and how many integer registers it takes from the parameters; None: not known."""
    if type.kind == types.VOID:
        return None, 0
    if by_address(type):
        return _result_in_memory()
    try:
        classes = classify(type)
    except BinaryError:
        return None, None
    if type.kind == types.COMPLEX and type.size == 32:  # class COMPLEX_X87
        return Place((Piece(FLOAT_REGISTER, type.size, register="st0"),)), 0
    if _MEMORY in classes:
        return _result_in_memory()
    if _X87 in classes:
        return Place((Piece(FLOAT_REGISTER, type.size, register="st0"),)), 0
    return _in_registers(type, classes, list(RESULTS), list(_FLOATS)), 0


def _result_in_memory() -> tuple[Place, int]:
    """The caller passes an address in front of all parameters; the function returns it."""
    return Place((Piece(REGISTER, 8, register=RESULTS[0]),), indirect=True), 1


def _in_registers(type: Type, classes: Sequence[int], integers: list[str], floats: list[str]) -> Place:
    """The place of a value whose eightbytes take the next of these registers."""
    pieces = []
    for number, kind in enumerate(classes):
        at = _EIGHTBYTE * number
        if kind == _INTEGER:
            pieces.append(Piece(REGISTER, min(_EIGHTBYTE, type.size - at), at, integers.pop(0)))
        elif kind == _SSE:
            # A vector or a __float128 is wholly in one register.
            size = type.size if len(classes) == 1 else _EIGHTBYTE
            pieces.append(Piece(FLOAT_REGISTER, min(size, type.size - at), at, floats.pop(0)))
    return Place(tuple(pieces)) if pieces else absent(type)


class _State:
    """Which registers and how much of the stack parameters have taken so far."""

    __slots__ = ("certain", "floats", "integers", "stack")

    def __init__(self) -> None:
        self.integers = self.floats = self.stack = 0
        self.certain = True

    def take(self, type: Type) -> Place | None:
        """The place of the next parameter; None from the first one on whose type isn't known."""
        if not self.certain:
            return None
        if by_address(type):
            pointer = self._place(Type(types.POINTER, "", 8, align=8), (_INTEGER,))
            return Place(pointer.pieces, indirect=True)
        try:
            classes = classify(type)
        except BinaryError:
            self.certain = False
            return None
        if type.kind in SCALARS and type.size == 16 and self.integers == len(INTEGERS) - 1:
            self.certain = False  # on the stack; but LLVM before 18 puts one half into the last register
            return None
        return self._place(type, classes)

    def _place(self, type: Type, classes: Sequence[int]) -> Place:
        integers, floats = classes.count(_INTEGER), classes.count(_SSE)
        fits = self.integers + integers <= len(INTEGERS) and self.floats + floats <= len(_FLOATS)
        if _MEMORY in classes or _X87 in classes or not fits:
            alignment = max(_EIGHTBYTE, type.align)
            offset = -(-self.stack // alignment) * alignment
            self.stack = offset + -(-type.size // _EIGHTBYTE) * _EIGHTBYTE
            return Place((Piece(STACK, type.size, offset=FIRST_ARGUMENT + offset),))
        place = _in_registers(type, classes, list(INTEGERS[self.integers :]), list(_FLOATS[self.floats :]))
        self.integers += integers
        self.floats += floats
        return place


def classify(type: Type) -> tuple[int, ...]:
    """The classes of the eightbytes of ``type``; of a vector or a __float128 only the first is told.

    Raises:
        BinaryError: its parts aren't known.
    """
    if type.kind == types.ARRAY:  # by value that's only a vector (__m128 and its like)
        if type.size not in (8, 16, 32, 64):
            raise BinaryError(f"the type {type.name} is an array passed by value")
        return (_SSE,)
    if type.kind == types.FLOAT and type.size == 16 and type.name in _QUADS:
        return (_SSE,)
    if type.size > _MAX_IN_REGISTERS:
        if _may_be_vector(type, 0):
            raise BinaryError(f"the type {type.name} may be a vector")
        return (_MEMORY,)
    classes = [_NONE] * -(-type.size // _EIGHTBYTE)
    if not _merge(type, 0, classes, [MAX_VISITED], 0):
        return (_MEMORY,)
    if _X87 in classes and classes != [_X87, _X87]:
        return (_MEMORY,)
    return (_MEMORY,) if _MEMORY in classes else tuple(classes)


def _may_be_vector(type: Type, depth: int) -> bool:
    """Is it a structure with nothing in it but one array, which could also be a vector of 32 or 64 bytes?"""
    while type.kind == types.STRUCT and type.size in (32, 64) and depth < MAX_DEPTH:
        members = [member for member in type.members if member.type.size]
        if len(members) != 1 or members[0].type.size != type.size:
            return False
        type, depth = members[0].type, depth + 1
    element = type.target
    return depth > 0 and type.kind == types.ARRAY and element is not None and type.align > element.align


def _merge(type: Type, at: int, classes: list[int], budget: list[int], depth: int) -> bool:
    """Put the classes of ``type``, which lies at ``at``, into ``classes``; False: it is passed in memory."""
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise BinaryError(f"the type {type.name} has too many parts")
    kind, size = type.kind, type.size
    if kind in SCALARS or kind in (types.FLOAT, types.COMPLEX):
        return _merge_scalar(type, at, classes)
    if by_address(type):
        return False
    if kind == types.STD_STRING:  # a string_view
        _mark(at * 8, size * 8, _INTEGER, classes)
        return True
    if kind in (types.STRUCT, types.UNION):
        for member in type.members:
            if member.bit_size:
                _mark(at * 8 + member.offset * 8 + member.bit_offset, member.bit_size, _INTEGER, classes)
            elif not _merge(member.type, at + member.offset, classes, budget, depth + 1):
                return False
        return True
    if kind == types.ARRAY:
        element = type.target
        if element is None or type.count < 0:
            # A flexible array member has no size.
            if size or type.count > 0:
                raise BinaryError(f"the array {type.name} has an unknown size")
            return True
        if type.align > element.align:
            raise BinaryError(f"the type {type.name} may be a vector")
        if not element.size:
            return True
        return all(
            _merge(element, at + element.size * index, classes, budget, depth + 1)
            for index in range(min(type.count, _MAX_IN_REGISTERS + 1))
        )
    raise BinaryError(f"the type {type.name} isn't known to C")


def _merge_scalar(type: Type, at: int, classes: list[int]) -> bool:
    size = type.size
    if type.kind == types.COMPLEX:
        part = size // 2
        if part not in (2, 4, 8):
            return False
        alignment, kind = part, _SSE
    elif type.kind == types.FLOAT:
        if size == 16 and type.name in _QUADS:
            raise BinaryError(f"a {type.name} in a structure")
        alignment, kind = size, _X87 if size == 16 else _SSE
    else:
        alignment, kind = size, _INTEGER
    if size not in (1, 2, 4, 8, 16):
        raise BinaryError(f"the type {type.name} has {size} bytes")
    if at % alignment:
        return False
    _mark(at * 8, size * 8, kind, classes)
    return True


def _mark(first: int, count: int, kind: int, classes: list[int]) -> None:
    """Merge ``kind`` into the eightbytes of the bits [first, first + count): INTEGER wins over SSE, all over NONE."""
    for number in range(first // 64, min(-(-(first + count) // 64), len(classes))):
        old = classes[number]
        if old in (_NONE, kind):
            classes[number] = kind
        elif _X87 in (old, kind):
            classes[number] = _MEMORY
        else:
            classes[number] = _INTEGER
