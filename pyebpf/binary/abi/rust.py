# SPDX-License-Identifier: BSD-2-Clause
"""How Rust passes values to Rust functions. It promises nothing; this is what its compilers have done since 1.30.

A type is to the compiler one scalar, a pair of scalars, or memory. Scalars are passed like C's; the two of a pair like
two parameters; memory of at most a register's size as an integer, larger memory by address. A result is one or two
registers, or memory at an address that the caller passes.

Source: rustc's compiler/rustc_abi/src/layout.rs (univariant, layout_of_enum) and
compiler/rustc_target/src/callconv/mod.rs (adjust_for_rust_abi).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...errors import BinaryError
from .. import types
from ..signature import FLOAT_REGISTER, REGISTER, STACK, Piece, Place
from ..types import Type, Variant
from . import MAX_DEPTH, SCALARS, Assignment, aapcs64, absent, systemv

_WORD = 8
_MAX_RESULT = 16
_MAX_VARIANTS = 4096
# By machine: registers of integers, for parameters and for results; what the names of the others begin with; what lies
# below stack arguments; whether the address of a result in memory takes a parameter's register, and comes back.
_ABIS = {
    "x86-64": (systemv.INTEGERS, systemv.RESULTS, "xmm", systemv.FIRST_ARGUMENT, True),
    "arm64": (aapcs64.INTEGERS, aapcs64.RESULTS, "v", aapcs64.FIRST_ARGUMENT, False),
}
_FLOATS = 8


class Scalar(NamedTuple):
    """A part of a value that is passed by itself: ``size`` bytes at offset ``at``."""

    at: int
    size: int
    floating: bool


def assign(machine: str, parameters: Sequence[Type], result: Type | None, hidden: int = 0) -> Assignment:
    """Where parameters and the result of these types lie in a function with Rust's own convention.

    Args:
        hidden: so many words come before the parameters: what a closure captured, or its address.
    """
    integers, results, floats, first, hidden_parameter = _ABIS[machine]
    used = 0
    place = None
    if result is not None and result.kind != types.VOID and result.size:
        try:
            scalars = scalars_of(result)
        except BinaryError:
            return Assignment((None,) * len(parameters), None)
        if scalars is None and result.size <= _WORD:
            scalars = (Scalar(0, result.size, False),)
        if scalars is None or result.size > _MAX_RESULT:
            used = int(hidden_parameter)
            place = Place((Piece(REGISTER, _WORD, register=results[0]),), indirect=True) if used else None
        else:
            place = _Registers(results, floats, 0, 0).take(scalars)
    registers = _Registers(integers, floats, used + hidden, first)
    return Assignment(tuple(_parameter(type, registers) for type in parameters), place)


def _parameter(type: Type, registers: _Registers) -> Place | None:
    """The place of the next parameter; None from the first one on that isn't certain."""
    if not registers.certain:
        return None
    if not type.size:
        return absent(type)
    try:
        scalars = scalars_of(type)
    except BinaryError:
        registers.certain = False
        return None
    if scalars is None and type.size > _WORD:
        place = registers.take((Scalar(0, _WORD, False),))
        return None if place is None else Place(place.pieces, indirect=True)
    return registers.take(scalars or (Scalar(0, type.size, False),))


class _Registers:
    """Which registers and how much of the stack is taken so far."""

    __slots__ = ("certain", "first", "floats", "integers", "stack", "used_floats", "used_integers")

    def __init__(self, integers: Sequence[str], floats: str, used: int, first: int) -> None:
        self.integers, self.floats, self.first = integers, floats, first
        self.used_integers, self.used_floats, self.stack = used, 0, 0
        self.certain = True

    def take(self, scalars: Sequence[Scalar]) -> Place | None:
        """A place for these scalars, each for itself; None if it isn't certain."""
        pieces: list[Piece] = []
        for at, size, floating in scalars:
            words = -(-size // _WORD)
            if floating:
                if self.used_floats < _FLOATS:
                    pieces.append(Piece(FLOAT_REGISTER, size, at, f"{self.floats}{self.used_floats}"))
                    self.used_floats += 1
                    continue
            elif self.used_integers + words <= len(self.integers):
                for word in range(words):
                    register = self.integers[self.used_integers]
                    pieces.append(Piece(REGISTER, min(size, _WORD), at + _WORD * word, register))
                    self.used_integers += 1
                continue
            if words > 1:  # versions of LLVM differ in how they align it
                self.certain = False
                return None
            pieces.append(Piece(STACK, size, at, offset=self.first + self.stack))
            self.stack += _WORD
        return Place(tuple(pieces))


def scalars_of(type: Type, depth: int = 0) -> tuple[Scalar, ...] | None:
    """The one or two scalars that ``type`` is to the compiler, by offset; None: it is memory.

    Raises:
        BinaryError: that can't be told from its parts.
    """
    if depth > MAX_DEPTH:
        raise BinaryError(f"the type {type.name} has too many parts")
    kind, size = type.kind, type.size
    if kind in SCALARS:
        if size not in (1, 2, 4, 8, 16) or (kind in (types.POINTER, types.REFERENCE) and size != _WORD):
            raise BinaryError(f"the type {type.name} has {size} bytes")
        return (Scalar(0, size, False),)
    if kind == types.FLOAT:
        if size not in (4, 8):
            raise BinaryError(f"a number with a fraction of {size} bytes")
        return (Scalar(0, size, True),)
    if kind in (types.STRING, types.SLICE) and size == 2 * _WORD:
        return Scalar(0, _WORD, False), Scalar(_WORD, _WORD, False)
    if kind in (types.RUST_STRING, types.RUST_VEC, types.ARRAY):
        return None
    if kind == types.STRUCT:
        return _of_structure(type, depth)
    if kind == types.VARIANT:
        return _of_variants(type, depth)
    raise BinaryError(f"the type {type.name} isn't known to Rust")


def _of_structure(type: Type, depth: int) -> tuple[Scalar, ...] | None:
    """Structures, tuples and closures: by the one or two fields that aren't empty."""
    fields = [member for member in type.members if member.type.size]
    if len(fields) == 1 and not fields[0].offset and fields[0].type.size == type.size:
        inner = scalars_of(fields[0].type, depth + 1)
        if inner is not None and len(inner) == 1 and inner[0].floating:
            raise BinaryError(f"{type.name} is passed like an integer if it is #[repr(C)], else like its field")
        return inner
    if len(fields) != 2:
        return None
    parts = []
    for member in sorted(fields, key=lambda member: member.offset):
        inner = scalars_of(member.type, depth + 1)
        if inner is None or len(inner) != 1:
            return None
        parts.append(Scalar(member.offset, inner[0].size, inner[0].floating))
    return _pair(parts[0], parts[1], type.size)


def _pair(first: Scalar, second: Scalar, size: int) -> tuple[Scalar, ...] | None:
    """The two as a pair, if nothing but alignment stands between and behind them."""
    alignment = max(first.size, second.size)
    behind = -(-first.size // second.size) * second.size
    whole = -(-(behind + second.size) // alignment) * alignment
    return (first, second) if (first.at, second.at, size) == (0, behind, whole) else None


def _of_variants(type: Type, depth: int) -> tuple[Scalar, ...] | None:
    """Enums with data: one variant's scalars if all others are empty, or the tag and what the variants share."""
    full = [(variant, _fields(variant)) for variant in type.variants[:_MAX_VARIANTS]]
    full = [(variant, fields) for variant, fields in full if fields]
    if not type.members and len(full) == 1:  # there can be no values of the others: Result<Infallible, E>
        member = full[0][0].member
        return scalars_of(member.type, depth + 1) if member.type.size == type.size and not member.offset else None
    if not type.members or len(type.variants) > _MAX_VARIANTS:
        raise BinaryError(f"the type {type.name} has no discriminant, or too many variants")
    tag = type.members[0]
    if any(
        at < tag.offset + tag.type.size and tag.offset < at + part.size for _, fields in full for at, part in fields
    ):
        # The tag is in a niche of a variant.
        member = full[0][0].member
        whole = len(full) == 1 and member.type.size == type.size and not member.offset
        return scalars_of(member.type, depth + 1) if whole else None
    if tag.type.size == type.size:
        return scalars_of(tag.type, depth + 1)
    common: Scalar | None = None
    for _, fields in full:
        if len(fields) != 1:
            return None
        at, part = fields[0]
        inner = scalars_of(part, depth + 1)
        if inner is None or len(inner) != 1:
            return None
        scalar = Scalar(at, inner[0].size, inner[0].floating)
        if common is not None and common != scalar:
            return None
        if (part.kind == types.POINTER) != (full[0][1][0][1].kind == types.POINTER):
            raise BinaryError(f"compilers differ in how they pass {type.name}")
        common = scalar
    if common is None or tag.offset or tag.type.kind not in SCALARS:
        return None
    return _pair(Scalar(0, tag.type.size, False), common, type.size)


def _fields(variant: Variant) -> list[tuple[int, Type]]:
    """The fields of a variant that aren't empty, with their offsets in the whole."""
    member = variant.member
    return [(member.offset + field.offset, field.type) for field in member.type.members if field.type.size]
