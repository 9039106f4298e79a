# SPDX-License-Identifier: BSD-2-Clause
"""Go's calling conventions: where each parameter and result lies, by its type alone.

Source: Go's src/cmd/compile/abi-internal.md and src/cmd/compile/internal/abi/abiutils.go (assignParam, tryAllocRegs),
for types also internal/types/size.go. Code written in assembly, and all of Go before 1.17 (arm64: 1.18), passes
everything on the stack ("ABI0"): the same rules with no registers.

A value is passed in registers as a whole or not at all; one that doesn't fit leaves the registers to those after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...errors import BinaryError
from .. import types
from ..signature import FLOAT_REGISTER, REGISTER, STACK, Piece, Place
from ..types import Type

# By machine: registers of integers and pointers, in order, as the kernel's struct pt_regs names them; of numbers with
# a fraction; and the one that points to the closure when one is called. Parameters and results use the same sequence.
INTEGERS = {
    "x86-64": ("ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11"),
    "arm64": tuple(f"x{number}" for number in range(16)),
}
FLOATS = {
    "x86-64": tuple(f"xmm{number}" for number in range(15)),
    "arm64": tuple(f"v{number}" for number in range(16)),
}
CONTEXT = {"x86-64": "dx", "arm64": "x26"}
FIRST_REGISTER_ABI = {"x86-64": (1, 17), "arm64": (1, 18)}
# Stack arguments begin so many bytes above the stack pointer at the first instruction: above the return address, or
# above where a function on arm64 saves it.
FIRST_ARGUMENT = 8

_WORD = 8
_MAX_LEAVES = 32  # more than any machine has registers
_MAX_VISITED = 4096
_MAX_DEPTH = 32
_SCALARS = frozenset(
    (
        types.INT, types.UINT, types.BOOL, types.CHAR, types.RUNE, types.ENUM, types.POINTER, types.REFERENCE,
        types.MAP, types.CHAN, types.FUNC,
    )
)  # fmt: skip
_WORDS = {types.STRING: 2, types.INTERFACE: 2, types.SLICE: 3}


class Leaf(NamedTuple):
    """A part of a value that takes a register of its own: ``size`` bytes at offset ``at``."""

    at: int
    size: int
    floating: bool


class Assigned(NamedTuple):
    """A parameter's place.

    Attributes:
        place: None: unknown, as the type of this one or one before it is.
        slot: where its bytes are on the stack, or would be saved: bytes from stack argument 0; -1 if that isn't known.
    """

    place: Place | None
    slot: int


class Assignment(NamedTuple):
    """The places of a function's parameters, and of its results (None: unknown).

    ``size``: the bytes that parameters and results take on the stack, -1 if that isn't known.
    """

    parameters: tuple[Assigned, ...]
    results: tuple[Place | None, ...]
    size: int


def leaves(type: Type) -> tuple[Leaf, ...] | None:
    """What ``type`` is made of; None if it is never passed in registers.

    Raises:
        BinaryError: its parts aren't known.
    """
    found: list[Leaf] = []
    budget = [_MAX_VISITED]
    if not _collect(type, 0, found, budget, 0) or len(found) > _MAX_LEAVES:
        return None
    return tuple(found)


def _collect(type: Type, at: int, found: list[Leaf], budget: list[int], depth: int) -> bool:
    """Append the leaves of ``type``; False if it is never passed in registers."""
    budget[0] -= 1
    if budget[0] < 0 or depth > _MAX_DEPTH:
        raise BinaryError(f"the type {type.name} has too many parts")
    kind, size = type.kind, type.size
    if kind in _SCALARS:
        if size not in (1, 2, 4, 8):
            raise BinaryError(f"the type {type.name} has {size} bytes")
        found.append(Leaf(at, size, False))
    elif kind in _WORDS:
        found.extend(Leaf(at + _WORD * word, _WORD, False) for word in range(_WORDS[kind]))
    elif kind == types.FLOAT:
        found.append(Leaf(at, size, True))
    elif kind == types.COMPLEX:
        found.extend((Leaf(at, size // 2, True), Leaf(at + size // 2, size // 2, True)))
    elif kind == types.ARRAY:
        if type.count > 1:
            return False
        if type.count < 0 or (type.count and type.target is None):
            raise BinaryError(f"the array {type.name} has an unknown size")
        if type.count and type.target is not None:
            return _collect(type.target, at, found, budget, depth + 1)
    elif kind == types.STRUCT:
        for member in type.members:
            if len(found) > _MAX_LEAVES or not _collect(member.type, at + member.offset, found, budget, depth + 1):
                return False
    else:
        raise BinaryError(f"the type {type.name} isn't known to Go")
    return True


def assign(machine: str, parameters: Sequence[Type], results: Sequence[Type], registers: bool) -> Assignment:
    """Where a function's parameters are when it begins, and its results when it returns.

    Args:
        machine: "x86-64" or "arm64".
        parameters: types of the receiver, if it has one, and of the parameters.
        results: types of the results.
        registers: it has the register ABI.
    """
    stack = _Stack()
    inputs = _places(machine, parameters, registers, stack)
    stack.align(_WORD)
    outputs = _places(machine, results, registers, stack)
    stack.align(_WORD)
    size = stack.offset if stack.known else -1
    # Registers are saved above the stack results, in order of the parameters.
    saved = _Stack(stack.offset if stack.known else None)
    assigned = []
    for type, place in zip(parameters, inputs):
        if place is None or place.pieces[0].kind != STACK:
            slot = saved.take(type) if place is not None else saved.forget()
        else:
            slot = place.pieces[0].offset - FIRST_ARGUMENT
        assigned.append(Assigned(place, slot))
    return Assignment(tuple(assigned), tuple(outputs), size)


class _Stack:
    """Hands out room on the stack; once something of unknown size lies there, none of it is known."""

    __slots__ = ("known", "offset")

    def __init__(self, offset: int | None = 0) -> None:
        self.offset = offset or 0
        self.known = offset is not None

    def align(self, alignment: int) -> None:
        self.offset = -(-self.offset // alignment) * alignment

    def take(self, type: Type) -> int:
        """Room for ``type``: its offset, or -1."""
        self.align(max(type.align, 1))
        found = self.offset
        self.offset += type.size
        return found if self.known else -1

    def forget(self) -> int:
        self.known = False
        return -1


def _places(machine: str, values: Sequence[Type], registers: bool, stack: _Stack) -> list[Place | None]:
    """The places of parameters or of results, as far as they are certain."""
    integers = INTEGERS[machine] if registers else ()
    floats = FLOATS[machine] if registers else ()
    used_integers = used_floats = 0
    certain = True
    result: list[Place | None] = []
    for type in values:
        place: Place | None = None
        try:
            parts = leaves(type) if certain else None
        except BinaryError:
            certain = False
        if not certain:
            stack.forget()
            result.append(None)
            continue
        floating = sum(part.floating for part in parts or ())
        whole = len(parts or ()) - floating
        if (
            parts and type.size
            and used_integers + whole <= len(integers)
            and used_floats + floating <= len(floats)
        ):  # fmt: skip
            pieces = []
            for part in parts:
                if part.floating:
                    pieces.append(Piece(FLOAT_REGISTER, part.size, part.at, floats[used_floats]))
                    used_floats += 1
                else:
                    pieces.append(Piece(REGISTER, part.size, part.at, integers[used_integers]))
                    used_integers += 1
            place = Place(tuple(pieces))
        else:
            offset = stack.take(type)
            if offset >= 0:
                place = Place((Piece(STACK, type.size, 0, offset=FIRST_ARGUMENT + offset),))
        result.append(place)
    return result
