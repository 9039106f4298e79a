# SPDX-License-Identifier: BSD-2-Clause
"""Signatures of C, C++ and Rust functions.

At a function's first instruction its debug information is believed where it names registers, constants or the caller's
stack. Where it names the function's own frame, as it does for all of unoptimised code, nothing has been written there
yet: then the calling convention tells where the value comes in, provided that it agrees with all the registers that
are named and with what the first instructions store there, and that the compiler wasn't free to make up a convention of
its own.
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
from .convention import Convention, convention_of
from .incoming import incoming
from .stores import stored

if TYPE_CHECKING:
    from ..dwarf import Formal, Location, Subprogram
    from ..image import Function, Image

_WORD = 8
# What compilers append to the names of functions whose parameters or results they changed.
_SPECIALISED = re.compile(
    r"\.(?:isra|constprop|part|cold|split|localalias|specialized|argprom|resume|destroy|cleanup|outlined)(?:\.|$)"
)
_LLVM = re.compile(r"rustc version 1\.(\d{1,4})|clang version (\d{1,4})")
_LATE = 32  # bytes of code
_FRAME_REGISTERS = ("bp", "sp", "x29")
_SAVED = 2 * _WORD  # a frame pointer on x86-64 points so far below the caller's stack: at its saved self


class _Frame(NamedTuple):
    """How the canonical frame address is found at the probe: a register (None: unknown) and what to add to it."""

    register: str | None
    offset: int


def native_signature(
    image: Image, function: Function, address: int, subprogram: Subprogram | None, reason: str
) -> Signature:
    """The signature of a C, C++ or Rust function; see `pyebpf.binary.signatures.signature_of`."""
    machine = image.elf.machine
    convention = convention_of(machine)
    at_entry = address == function.address
    frame = _Frame("sp", convention.stack) if at_entry else _frame(image, machine, address)
    depth = frame.offset - convention.stack if frame.register == "sp" else None
    common = (convention.words, convention.result_words, convention.stack, depth)
    if subprogram is None:
        return Signature((), (), *common, "", reason)
    formals = subprogram.formals
    types = [formal.type for formal in formals]
    if at_entry:
        places, assignment, agreed = _at_entry(image, convention, function, subprogram, types)
    else:
        assignment = _assign(machine, function, subprogram, types)
        places = _displaced(image, function, address, formals, types, frame)
        agreed = False  # there is no return to the middle of a function
    parameters = tuple(Parameter(formal.name, type, place) for formal, type, place in zip(formals, types, places))
    results: tuple[Parameter, ...] = ()
    result = subprogram.result
    if result is not None:
        returned = assignment.result if agreed else None
        results = (Parameter("", result, returned or absent(result)),)
    return Signature(parameters, results, *common, subprogram.path, "")


def _changed(function: Function, subprogram: Subprogram) -> bool:
    """Did the compiler change what the function takes or returns?"""
    return _SPECIALISED.search(function.raw) is not None or not subprogram.standard


def _may_drop_results(subprogram: Subprogram, locations: Sequence[Location]) -> bool:
    """Could a result that nobody uses have been taken away without a trace?

    When it optimises LLVM does that to functions that only their own file calls; it says so since LLVM 16
    (340b0ca90095, "[DebugInfo] Add DW_CC_nocall to function DIEs"), which is in rustc since 1.70. Where all parameters
    live in the frame nothing was optimised.
    """
    compiler = _LLVM.search(subprogram.producer)
    if compiler is None or subprogram.external or (locations and all(map(_in_own_frame, locations))):
        return False
    rust, clang = compiler.groups()
    return int(rust) < 70 if rust else int(clang) < 16


def _frame(image: Image, machine: str, address: int) -> _Frame:
    """Where the unwind table says the frame is at an instruction in the middle of a function."""
    rule = image.unwind.rule_at(address) if image.unwind is not None else None
    if rule is None:
        return _Frame(None, 0)
    names = {"x86-64": {7: "sp", 6: "bp"}, "arm64": {31: "sp", 29: "x29"}}[machine]
    register = names.get(rule[0])
    return _Frame(register, rule[1] if register is not None else 0)


def _assign(
    machine: str, function: Function, subprogram: Subprogram, types: Sequence[Type], hidden: int = 0
) -> Assignment:
    """The places by the calling convention, of Rust functions after so many words that debug information hides."""
    ours = systemv.assign if machine == "x86-64" else aapcs64.assign
    result = subprogram.result
    if subprogram.language != "rust":
        return ours(types, result)
    rusts = rust.assign(machine, types, result, hidden)
    if function.raw.startswith(("_ZN", "_R")):
        return rusts
    # A function whose name isn't mangled is C's to call, or not: nothing says so.
    foreign = ours(types, result)
    return Assignment(
        tuple(one if one == other else None for one, other in zip(rusts.parameters, foreign.parameters)),
        rusts.result if rusts.result == foreign.result else None,
    )


def _at_entry(
    image: Image, convention: Convention, function: Function, subprogram: Subprogram, types: Sequence[Type]
) -> tuple[list[Place], Assignment, bool]:
    """Places at the first instruction; the convention; does the function keep to it, as far as is known?"""
    address, formals = function.address, subprogram.formals
    locations = [formal.location(address) for formal in formals]
    told = [_told(convention, location, type) for location, type in zip(locations, types)]
    seen = _seen(image, subprogram, types, told)
    evidence = [first or second for first, second in zip(told, seen)]
    assignment = _assign(image.elf.machine, function, subprogram, types)
    agreed = guess = not _changed(function, subprogram)
    if _hides_environment(subprogram, types):
        # Whatever a closure captured comes in before its parameters: a word, mostly its address.
        shifted = [_assign(image.elf.machine, function, subprogram, types, hidden) for hidden in (1, 2, 0)]
        assignment = next((one for one in shifted if _agree(evidence, one)), shifted[0])
        pieces = [piece for place in evidence if place is not None for piece in place.pieces]
        guess = guess and any(piece.kind in (REGISTER, STACK) for piece in pieces)
    for index, (formal, expected) in enumerate(zip(formals, assignment.parameters)):
        place = told[index]
        if formal.everywhere and place is not None and (expected is None or not _consistent(place, expected)):
            # gcc tells so of an __int128: the registers it is moved to, not those it comes in.
            told[index] = expected if guess and subprogram.language != "rust" else None
    # All lives in the frame: nothing was optimised, and the first to be stored in a parameter's slot is what came in.
    plain = all(map(_in_own_frame, locations))
    for index, expected in enumerate(assignment.parameters):
        witness = seen[index]
        if expected is not None and all(piece.kind == ABSENT for piece in expected.pieces):
            told[index] = expected  # it is empty, whatever compilers say of it
        elif told[index] is not None:
            continue
        elif witness is not None and (expected is None or not _consistent(witness, expected)):
            # Optimised code may store only parts, and slots have many uses. No standard rules Rust's convention.
            if subprogram.language == "rust":
                guess = False
                if plain and sum(piece.size for piece in witness.pieces) == types[index].size:
                    told[index] = witness
            elif expected is not None and _comes_late(formals[index], address, expected):
                told[index] = expected
        elif expected is not None and (witness is not None or _comes_late(formals[index], address, expected)):
            told[index] = expected
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
    return places, assignment, agreed and not _may_drop_results(subprogram, locations)


def _hides_environment(subprogram: Subprogram, types: Sequence[Type]) -> bool:
    """Is it a Rust closure or coroutine with captured variables? rustc describes these, and not what holds them.

    Source: `hide closure environments` in rustc's compiler/rustc_codegen_ssa/src/mir/debuginfo.rs.
    """
    if subprogram.language != "rust" or not subprogram.name.startswith("{"):
        return False
    return not types or not ("_env#" in types[0].name or "closure-" in types[0].name)


def _seen(
    image: Image, subprogram: Subprogram, types: Sequence[Type], told: Sequence[Place | None]
) -> list[Place | None]:
    """Where those parameters that debug information doesn't tell yet come in, by what the first instructions do."""
    found: list[Place | None] = [None] * len(types)
    pending = {
        index: formal for index, formal in enumerate(subprogram.formals) if told[index] is None and formal.has_location
    }
    if not pending:
        return found
    for address, state in incoming(image.elf, subprogram.low_pc, subprogram.high_pc):
        for index, formal in [*pending.items()]:
            location = formal.location(address)
            pieces = _fit(location.pieces, types[index], location.indirect)
            found[index] = state.place(pieces, location.indirect) if pieces is not None else None
            if found[index] is not None:
                del pending[index]
    return found


def _agree(evidence: Sequence[Place | None], assignment: Assignment) -> bool:
    return all(
        place is None or (expected is not None and _consistent(place, expected))
        for place, expected in zip(evidence, assignment.parameters)
    )


def _told(convention: Convention, location: Location, type: Type) -> Place | None:
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


def _comes_late(formal: Formal, address: int, expected: Place) -> bool:
    """Does debug information begin to tell of a parameter a few instructions late, and then as the convention has it?

    clang does so for a bool, gcc for a structure in registers of both kinds, rustc for what is passed by address.
    """
    if not formal.has_location or any(piece.kind != ABSENT for piece in formal.location(address).pieces):
        return False
    for later in range(address + 1, address + _LATE):
        location = formal.location(later)
        if any(piece.kind != ABSENT for piece in location.pieces):
            pieces = _fit(location.pieces, formal.type, location.indirect) or ()
            # Parts that were saved to the frame by then had to come from somewhere; the others tell from where.
            left = tuple(piece for piece in pieces if not _is_own_frame(piece))
            return bool(left) and _consistent(Place(left, location.indirect), expected)
    return False


def _in_own_frame(location: Location) -> bool:
    """Does the location lie in memory that the function is yet to set up?"""
    return bool(location.pieces) and all(map(_is_own_frame, location.pieces))


def _is_own_frame(piece: Piece) -> bool:
    return piece.kind == "cfa" or (piece.kind == MEMORY and piece.register in _FRAME_REGISTERS)


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
    if place.indirect != expected.indirect and place.pieces[0].kind != MEMORY:
        return False
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
