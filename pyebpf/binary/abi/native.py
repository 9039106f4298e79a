# SPDX-License-Identifier: BSD-2-Clause
"""Signatures of C, C++ and Rust functions.

At a function's first instruction its debug information is believed where it names registers, constants or the caller's
stack. Where it names the function's own frame, as it does for all of unoptimised code, nothing has been written there
yet: then the calling convention tells where the value comes in, provided that it agrees with all the registers that
are named, and that the compiler wasn't free to make up a convention of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..signature import (
    ABSENT,
    CONSTANT,
    MEMORY,
    REGISTER,
    STACK,
    Parameter,
    Piece,
    Place,
    Signature,
)
from ..types import Type
from . import Assignment, aapcs64, absent, rust, systemv
from .stores import stored

if TYPE_CHECKING:
    from ..dwarf import Formal, Location, Subprogram
    from ..image import Function, Image

_WORD = 8
# What compilers append to the names of functions whose parameters or results they changed.
_SPECIALISED = re.compile(
    r"\.(?:isra|constprop|part|cold|split|localalias|specialized|argprom|resume|destroy|cleanup|outlined)(?:\.|$)"
)
_FRAME_REGISTERS = ("bp", "sp", "x29")
_SAVED = 2 * _WORD  # a frame pointer on x86-64 points so far below the caller's stack: at its saved self


class _Convention(NamedTuple):
    """A machine's: registers of parameters and results, and where stack arguments begin above the stack pointer."""

    words: tuple[str, ...]
    result_words: tuple[str, ...]
    stack: int


_CONVENTIONS = {
    "x86-64": _Convention(systemv.INTEGERS, systemv.RESULTS, systemv.FIRST_ARGUMENT),
    "arm64": _Convention(aapcs64.INTEGERS, aapcs64.RESULTS, aapcs64.FIRST_ARGUMENT),
}


class _Frame(NamedTuple):
    """How the canonical frame address is found at the probe: a register (None: unknown) and what to add to it."""

    register: str | None
    offset: int


def native_signature(
    image: Image, function: Function, address: int, subprogram: Subprogram | None, reason: str
) -> Signature:
    """The signature of a C, C++ or Rust function; see `pyebpf.binary.signatures.signature_of`."""
    machine = image.elf.machine
    convention = _CONVENTIONS[machine]
    at_entry = address == function.address
    frame = _Frame("sp", convention.stack) if at_entry else _frame(image, machine, address)
    depth = frame.offset - convention.stack if frame.register == "sp" else None
    common = (convention.words, convention.result_words, convention.stack, depth)
    if subprogram is None:
        return Signature((), (), *common, "", reason)
    formals = subprogram.formals
    types = [formal.type for formal in formals]
    assignment = _assign(machine, function, subprogram, types)
    if at_entry:
        locations = [formal.location(address) for formal in formals]
        places, agreed = _at_entry(convention, formals, types, locations, assignment, bool(_changed(function)))
    else:
        places = _displaced(image, function, address, formals, types, frame)
        agreed = not _changed(function)
    parameters = tuple(Parameter(formal.name, type, place) for formal, type, place in zip(formals, types, places))
    results: tuple[Parameter, ...] = ()
    result = subprogram.result
    if result is not None:
        returned = assignment.result if agreed else None
        results = (Parameter("", result, returned or absent(result)),)
    return Signature(parameters, results, *common, subprogram.path, "")


def _changed(function: Function) -> bool:
    """Did the compiler change what the function takes or returns?"""
    return _SPECIALISED.search(function.raw) is not None


def _frame(image: Image, machine: str, address: int) -> _Frame:
    """Where the unwind table says the frame is at an instruction in the middle of a function."""
    rule = image.unwind.rule_at(address) if image.unwind is not None else None
    if rule is None:
        return _Frame(None, 0)
    names = {"x86-64": {7: "sp", 6: "bp"}, "arm64": {31: "sp", 29: "x29"}}[machine]
    register = names.get(rule[0])
    return _Frame(register, rule[1] if register is not None else 0)


def _assign(machine: str, function: Function, subprogram: Subprogram, types: Sequence[Type]) -> Assignment:
    """The places by the calling convention."""
    ours = systemv.assign if machine == "x86-64" else aapcs64.assign
    result = subprogram.result
    if subprogram.language != "rust":
        return ours(types, result)
    rusts = rust.assign(machine, types, result)
    if function.raw.startswith(("_ZN", "_R")):
        return rusts
    # A function whose name isn't mangled is C's to call, or not: nothing says so.
    foreign = ours(types, result)
    return Assignment(
        tuple(one if one == other else None for one, other in zip(rusts.parameters, foreign.parameters)),
        rusts.result if rusts.result == foreign.result else None,
    )


def _at_entry(
    convention: _Convention,
    formals: Sequence[Formal],
    types: Sequence[Type],
    locations: Sequence[Location],
    assignment: Assignment,
    changed: bool,
) -> tuple[list[Place], bool]:
    """Places at the first instruction; and does the function keep to the calling convention, as far as is known?"""
    told = [_told(convention, location, type) for location, type in zip(locations, types)]
    for index, expected in enumerate(assignment.parameters):
        if expected is not None and all(piece.kind == ABSENT for piece in expected.pieces):
            told[index] = expected  # it is empty, whatever compilers say of it
    agreed = not changed
    guess = agreed
    for formal, place, expected, location in zip(formals, told, assignment.parameters, locations):
        if place is not None:
            if not _consistent(place, expected):
                agreed = guess = False
        elif not formal.has_location or not location.pieces or location.pieces[0].kind == ABSENT:
            guess = False  # a parameter that was removed may have left its register to the next
    places = []
    for place, expected, location, type in zip(told, assignment.parameters, locations, types):
        if place is None:
            own = guess and expected is not None and _in_own_frame(location)
            if own and _incoming(location) not in (None, expected):
                own = False
            place = expected if own else None
        places.append(place or absent(type))
    return places, agreed


def _told(convention: _Convention, location: Location, type: Type) -> Place | None:
    """The place that debug information tells, if what it says is true already at the first instruction."""
    pieces = _fit(location.pieces, type, location.indirect)
    if pieces is None or all(piece.kind == ABSENT for piece in pieces):
        return None
    result = []
    for piece in pieces:
        if piece.kind == "cfa":
            if piece.offset < 0:
                return None
            piece = piece._replace(kind=STACK, offset=piece.offset + convention.stack)
        elif piece.kind == MEMORY and piece.register in _FRAME_REGISTERS:
            return None
        result.append(piece)
    return Place(tuple(result), location.indirect)


def _in_own_frame(location: Location) -> bool:
    """Does the location lie in memory that the function is yet to set up?"""
    return bool(location.pieces) and all(
        piece.kind == "cfa" or (piece.kind == MEMORY and piece.register in _FRAME_REGISTERS)
        for piece in location.pieces
    )


def _incoming(location: Location) -> Place | None:
    """The caller's stack if the location is above a frame pointer of x86-64; None: it isn't."""
    if len(location.pieces) != 1 or location.indirect:
        return None
    piece = location.pieces[0]
    if piece.kind != MEMORY or piece.register != "bp" or piece.offset < _SAVED:
        return None
    return Place((piece._replace(kind=STACK, register="", offset=piece.offset - _WORD),))


def _consistent(place: Place, expected: Place | None) -> bool:
    """Does what debug information tells agree with the convention? Constants and missing parts don't contradict it."""
    if expected is None or place == expected:
        return True
    by_address = all(piece.kind == MEMORY for piece in place.pieces) and expected.indirect
    if by_address:
        return place.pieces[0].register == expected.pieces[0].register and not place.pieces[0].offset
    known = {piece.at: (piece.kind, piece.register, piece.offset) for piece in expected.pieces}
    return all(
        piece.kind in (CONSTANT, ABSENT) or known.get(piece.at) == (piece.kind, piece.register, piece.offset)
        for piece in place.pieces
    )


def _fit(pieces: Sequence[Piece], type: Type, indirect: bool) -> tuple[Piece, ...] | None:
    """The pieces with a value's true sizes; None if they can't be those of the type."""
    size = _WORD if indirect else type.size
    result = []
    for piece in pieces:
        if len(pieces) == 1:
            piece = piece._replace(size=size)
        if piece.kind == REGISTER and piece.size > _WORD:
            return None
        if piece.at >= size or not piece.size:
            continue
        result.append(piece._replace(size=min(piece.size, size - piece.at)))
    return tuple(result) or None


def _displaced(
    image: Image, function: Function, address: int, formals: Sequence[Formal], types: Sequence[Type], frame: _Frame
) -> list[Place]:
    """Places in the middle of the function."""
    filled = stored(image.elf, function.address, address)
    settled = frame == _frame(image, image.elf.machine, filled.end)
    places = []
    for formal, type in zip(formals, types):
        location = formal.location(address)
        place = _elsewhere(location, type, frame)
        # A slot that is named from the first instruction on is filled by one of those that follow.
        if _in_own_frame(location) and location == formal.location(function.address):
            certain = all(
                _caller_s(piece, frame) or (settled and _filled(place, filled.slots)) for piece in location.pieces
            )
            place = place if certain else absent(type)
        places.append(place)
    return places


def _caller_s(piece: Piece, frame: _Frame) -> bool:
    """Is it a stack argument, which the caller wrote?"""
    if piece.kind == "cfa":
        return piece.offset >= 0
    return piece.register == "bp" == frame.register and piece.offset >= _SAVED


def _filled(place: Place, slots: frozenset[tuple[str, int]]) -> bool:
    """Is all of ``place``, memory of the function's frame, among ``slots``?"""
    for piece in place.pieces:
        end = piece.offset + piece.size
        for part in range(piece.offset, end, _WORD):
            if not any((piece.register, slot) in slots for slot in range(part, min(part + _WORD, end))):
                return False
    return True


def _elsewhere(location: Location, type: Type, frame: _Frame) -> Place:
    """The place that debug information tells of an instruction in the middle of the function."""
    pieces = _fit(location.pieces, type, location.indirect)
    if pieces is None:
        return absent(type)
    result = []
    for piece in pieces:
        if piece.kind == "cfa":
            if frame.register is None:
                piece = Piece(ABSENT, piece.size, piece.at)
            else:
                piece = piece._replace(kind=MEMORY, register=frame.register, offset=piece.offset + frame.offset)
        result.append(piece)
    if all(piece.kind == ABSENT for piece in result):
        return absent(type)
    return Place(tuple(result), location.indirect)
