# SPDX-License-Identifier: BSD-2-Clause
"""Signatures of Go functions.

When a function begins, the places follow from the calling convention and the types; debug information gives only these
and the names. What it says of places then is wrong in known ways: for parameters that are never used, whose address is
taken or that are called `_` it names stack slots nobody has written yet, and of results it says nothing at all.

The convention needs to know all parameters, though, and debug information leaves some out. Two witnesses tell:
registers that it names for the others, and what tracebacks print (arginfo.py). Where they can't be reconciled, no place
is told.

In the middle of a function, debug information is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...errors import BinaryError
from .. import types
from ..abi.stores import stored
from ..signature import ABSENT, MEMORY, STACK, Parameter, Piece, Place, Signature
from ..types import Member, Type
from . import abi, arginfo
from .claims import agree, filled, place_of

if TYPE_CHECKING:
    from ..dwarf import Formal, Subprogram
    from ..image import Function, Image
    from .program import GoFunction, GoProgram

_WORD = 8
# From the canonical frame address to where the stack pointer was at the first instruction: the return address.
_CFA = {"x86-64": 8, "arm64": 0}
_DICTIONARY = ".dict"
_UNNAMED = re.compile(r"~[bp]\d+|_")
_SHAPED = re.compile(r"\[go\.shape\.")
_CLOSURE = re.compile(r"\.(?:func\d+|gowrap\d+|deferwrap\d+|\d+)(?:[.-]|\Z)|-range\d+|-fm\Z")
_METHOD = re.compile(r"\(\*(\w+)\)\.\w+\Z")
_RECEIVER_FIRST = (1, 20)  # before, the dictionary of a generic method came before its receiver
# Bounds for parameters that debug information left out.
_MAX_LEFT_OUT = 4
_MAX_GUESSES = 256
_MAX_SHIFTED = 64


class _Guess(NamedTuple):
    """What a function may truly take: for each type, which formal it is; None: one that debug information left out."""

    types: tuple[Type, ...]
    formals: tuple[int | None, ...]


def go_signature(
    image: Image, function: Function, address: int, subprogram: Subprogram | None, reason: str
) -> Signature:
    """The signature of a Go function; see `pyebpf.binary.signatures.signature_of`."""
    machine, program = image.elf.machine, image.go
    found = program.at(function.address) if program is not None else None
    if program is None or found is None:
        return Signature((), (), (), (), abi.FIRST_ARGUMENT, None, "", "not a Go function")
    entry, registers = _entry(program, found, machine)
    at_entry = found.address <= address <= entry
    try:
        depth = 0 if at_entry else program.depth_at(found, address)
    except BinaryError:
        depth = None
    words = abi.INTEGERS[machine] if registers else ()
    common = (words, words, abi.FIRST_ARGUMENT, depth)
    if subprogram is None:
        return Signature((), (), *common, "", reason)
    if program.is_assembly(found):
        why = f"{function.name} is written in assembly: nothing describes its parameters"
        return Signature((), (), *common, subprogram.path, why)
    inputs = [formal for formal in subprogram.formals if not formal.is_result]
    outputs = _without_repetitions([formal for formal in subprogram.formals if formal.is_result])
    view = _View(machine, program, found, registers, subprogram)
    parameters, results = view.at_entry(inputs, outputs)
    if not at_entry:
        parameters = view.elsewhere(inputs, address, depth)
    captured = _captured(machine, subprogram, at_entry)
    return Signature((*parameters, *captured), results, *common, subprogram.path, "")


def _entry(program: GoProgram, function: GoFunction, machine: str) -> tuple[int, bool]:
    """The address after the stack check, and whether arguments are in registers."""
    try:
        sites = program.sites(function, returns=False)
        assembly = program.is_assembly(function)
    except BinaryError:
        return function.address, False
    registers = program.version[:2] >= abi.FIRST_REGISTER_ABI[machine] and not assembly and not sites.stack_abi
    return sites.entry, registers


def _without_repetitions(formals: Sequence[Formal]) -> list[Formal]:
    """Some releases describe some results twice."""
    seen: set[str] = set()
    result = []
    for formal in formals:
        if formal.name in ("", "_") or formal.name not in seen:
            result.append(formal)
        seen.add(formal.name)
    return result


def _captured(machine: str, subprogram: Subprogram, at_entry: bool) -> Iterator[Parameter]:
    """The variables a closure captured: behind the address in the context register, which is there at the beginning."""
    for name, type, offset in subprogram.captures:
        by_address = name.startswith("&") and type.target is not None
        kind = MEMORY if at_entry else ABSENT
        size = _WORD if by_address else type.size
        piece = Piece(kind, size, register=abi.CONTEXT[machine], offset=offset) if at_entry else Piece(ABSENT, size)
        if by_address and type.target is not None:
            type = type.target
        yield Parameter(name.lstrip("&"), type, Place((piece,), by_address and at_entry), captured=True)


class _View:
    """One function's formals, and the witnesses for where they are."""

    __slots__ = ("_function", "_machine", "_program", "_registers", "_subprogram")

    def __init__(
        self, machine: str, program: GoProgram, function: GoFunction, registers: bool, subprogram: Subprogram
    ) -> None:
        self._machine, self._program, self._function = machine, program, function
        self._registers, self._subprogram = registers, subprogram

    # -- when the function begins

    def at_entry(
        self, inputs: Sequence[Formal], outputs: Sequence[Formal]
    ) -> tuple[list[Parameter], tuple[Parameter, ...]]:
        """Parameters and results, with places that hold when it begins and when it returns."""
        output_types = [_type_of(formal) for formal in outputs]
        places, result_places = self._reconciled(inputs, output_types)
        parameters = [_parameter(formal, place) for formal, place in zip(inputs, places)]
        if not self._registers:
            result_places = self._stack_results(output_types)
        results = []
        for formal, type, place in zip(outputs, output_types, result_places):
            if place is None and not self._registers and _is_word(type):
                place = self._told(formal, type)
            results.append(Parameter(_name_of(formal), type, place or _absent(type)))
        return parameters, tuple(results)

    def _stack_results(self, output_types: Sequence[Type]) -> list[Place | None]:
        """The places of results on the stack: they end where the function's share of the caller's frame ends."""
        alone = abi.assign(self._machine, (), output_types, False)
        start = self._argument_size() - alone.size
        if start < 0 or start % _WORD or alone.size < 0:
            return [None] * len(output_types)
        return [
            Place(tuple(piece._replace(offset=piece.offset + start) for piece in place.pieces)) if place else None
            for place in alone.results
        ]

    def _argument_size(self) -> int:
        try:
            return self._program.argument_size(self._function)
        except BinaryError:
            return -1

    def _told(self, formal: Formal, type: Type) -> Place | None:
        """What debug information says of a place at the first instruction, if that can be true there: registers, or a
        place on the caller's stack."""
        place = place_of(formal.location(self._function.address), type, _CFA[self._machine])
        if place is None or any(piece.kind == STACK and piece.offset < abi.FIRST_ARGUMENT for piece in place.pieces):
            return None
        return place

    def _reconciled(
        self, inputs: Sequence[Formal], output_types: Sequence[Type]
    ) -> tuple[list[Place | None], list[Place | None]]:
        """The places of parameters and results on which all guesses agree that no witness contradicts."""
        # What is empty takes no room, and may be listed in the wrong order.
        solid = [index for index, formal in enumerate(inputs) if formal.type.size]
        input_types = [inputs[index].type for index in solid]
        told = [self._told(inputs[index], type) for index, type in zip(solid, input_types)]
        if not self._registers:
            # Of a string of which only the length is used, Go 1.15 tells the place of the length as if it were its own.
            told = [place if _is_word(type) else _in_one(place, type) for place, type in zip(told, input_types)]
        stream = self._stream()
        skips = self._skips(len(solid) < len(inputs))
        guesses: list[tuple[_Guess, abi.Assignment]] = []
        known = self._known([inputs[index] for index in solid], input_types, told)
        for candidates in (known, self._with_left_out(known[0], stream)):
            for guess in candidates:
                assigned = abi.assign(self._machine, guess.types, output_types, self._registers)
                if not self._contradicted(guess, assigned, stream, skips, told):
                    guesses.append((guess, assigned))
            if guesses:
                break
        if not guesses and len(known) == 1 and stream is not None:
            # If tracebacks confirm all that is described, debug information is wrong where it disagrees.
            assigned = abi.assign(self._machine, known[0].types, output_types, self._registers)
            if not self._contradicted(known[0], assigned, stream, skips, ()):
                guesses.append((known[0], assigned))
        places: list[Place | None] = [
            Place((Piece(STACK, 0, offset=abi.FIRST_ARGUMENT),)) if not formal.type.size else None for formal in inputs
        ]
        for number, index in enumerate(solid):
            found = {assigned.parameters[guess.formals.index(number)].place for guess, assigned in guesses}
            places[index] = found.pop() if len(found) == 1 else None
            if not self._registers:
                places[index] = places[index] or told[number]  # arguments on the stack stay there
        results: list[Place | None] = []
        for index in range(len(output_types)):
            ends = {assigned.results[index] for _, assigned in guesses}
            results.append(ends.pop() if len(ends) == 1 else None)
        return places, results

    def _skips(self, empty: bool) -> tuple[int, ...]:
        """How many parameters tracebacks leave out: the first one of generic code, which may be an empty one."""
        if "[" not in self._subprogram.name:
            return (0,)
        return (1, 0) if empty else (1,)

    def _contradicted(
        self,
        guess: _Guess,
        assigned: abi.Assignment,
        stream: bytes | None,
        skips: Sequence[int],
        told: Sequence[Place | None],
    ) -> bool:
        """Does a witness speak against ``guess``?"""
        slots = [(type, parameter.slot) for type, parameter in zip(guess.types, assigned.parameters)]
        try:
            if stream is not None and not any(
                arginfo.alike(arginfo.stream_of(slots[skipped:]), stream) for skipped in skips
            ):
                return True
        except BinaryError:
            return True
        if not self._registers and assigned.size != self._argument_size():
            return True
        for index, parameter in zip(guess.formals, assigned.parameters):
            claim = told[index] if index is not None and told else None
            if claim and parameter.place and not agree(claim, parameter.place, self._registers):
                return True
        return False

    def _stream(self) -> bytes | None:
        if not self._registers:
            return None
        try:
            return self._program.argument_stream(self._function)
        except BinaryError:
            return None

    def _known(
        self, inputs: Sequence[Formal], input_types: Sequence[Type], told: Sequence[Place | None]
    ) -> list[_Guess]:
        """The orders in which the function may take what is described, the likeliest first.

        Of a function that can be inlined, Go lists the dictionary of generic code and parameters called `_` last. With
        the stack ABI of arm64 it lists those whose place it tells too late (`_before_their_turn`).
        """
        indexes = [index for index, formal in enumerate(inputs) if formal.name != _DICTIONARY]
        blank = [index for index in indexes if _UNNAMED.fullmatch(inputs[index].name)]
        orders = [indexes]
        if blank:
            orders += _orders([index for index in indexes if index not in blank], blank)
        if not self._registers and self._machine == "arm64":
            orders[1:1] = _before_their_turn(input_types, [formal.is_told for formal in inputs], told)
        place = self._dictionary_place()
        dictionary = next((index for index, formal in enumerate(inputs) if formal.name == _DICTIONARY), None)
        result: dict[_Guess, None] = {}
        for order in orders[:_MAX_GUESSES]:
            guess = _Guess(tuple(input_types[index] for index in order), tuple(order))
            if place is None and dictionary is None:
                result[guess] = None
            for at in (place or 0, 1 - (place or 0)) if order else (0,):
                if dictionary is not None:
                    result[_insert(guess, at, input_types[dictionary], dictionary)] = None
                elif place is not None:
                    result[_insert(guess, at, Type(types.POINTER, _DICTIONARY, _WORD, align=_WORD))] = None
        return list(result)

    def _dictionary_place(self) -> int | None:
        """Where the hidden dictionary of generic code stands among the parameters; None if there is none."""
        name = self._subprogram.name
        if not _SHAPED.search(name) or name.startswith(("type:", "type.")):  # the latter compare or hash a type
            return None
        plain = re.sub(r"\[.*\]", "[]", name)
        after = plain[plain.rindex("]") + 1 :]
        if _CLOSURE.search(after):
            return None  # closures capture it
        return 1 if after and self._program.version[:2] >= _RECEIVER_FIRST else 0

    def _with_left_out(self, known: _Guess, stream: bytes | None) -> Iterator[_Guess]:
        """``known`` with parameters put in between that debug information left out, as tracebacks tell of them."""
        if not self._registers:
            yield from self._with_receiver(known)
        if stream is None:
            return
        elements, whole = arginfo.elements(stream)
        elements = tuple(element for element in elements if element.parts)
        skipped = int("[" in self._subprogram.name)
        missing = len(elements) + skipped - len(known.types)
        if not whole or not 0 < missing <= _MAX_LEFT_OUT:
            return
        budget = _MAX_GUESSES
        bases = [(known, missing)]
        if skipped:  # what tracebacks leave out may be what debug information leaves out, too
            bases.append((_insert(known, 0, Type(types.POINTER, "", _WORD, align=_WORD)), missing - 1))
        for base, count in bases:
            for guess in _aligned(base, elements, skipped, count):
                budget -= 1
                if budget < 0:
                    return
                yield guess

    def _with_receiver(self, known: _Guess) -> Iterator[_Guess]:
        """``known`` with the receiver, if debug information left it out because it has no name, as in the methods that
        the compiler makes for embedded fields.

        Other parameters without a name may be missing too. How much room all of them take together is known; where
        small ones could hide in what is lost to alignment, the guesses with them speak against the others.
        """
        method = _METHOD.search(self._subprogram.name)
        if method is None or (known.types and known.types[0].name.rpartition(".")[2].lstrip("*") == method[1]):
            return
        guess = _insert(known, 0, Type(types.POINTER, "", _WORD, align=_WORD))
        yield guess
        for position in range(1, min(len(guess.types), _MAX_SHIFTED) + 1):
            for size in (1, 2, 4):
                yield _insert(guess, position, Type(types.UINT, "", size, align=size))

    # -- in the middle

    def _depth(self, address: int) -> int | None:
        try:
            return self._program.depth_at(self._function, address)
        except BinaryError:
            return None

    def elsewhere(self, inputs: Sequence[Formal], address: int, depth: int | None) -> list[Parameter]:
        """The parameters with the places that debug information tells for ``address``."""
        first_stores = stored(self._program.elf, self._function.address, address)
        slots = first_stores.slots if self._depth(first_stores.end) == depth else frozenset()
        parameters = []
        for formal in inputs:
            place = place_of(formal.location(address), formal.type, _CFA[self._machine])
            if place is not None and any(piece.kind == STACK for piece in place.pieces):
                first = formal.location(self._function.address)
                own = any(piece.kind == STACK and piece.offset < abi.FIRST_ARGUMENT for piece in place.pieces)
                # A slot that is named from the first instruction on, and isn't the caller's, is filled later, or never.
                unsure = first == formal.location(address) and (self._registers or own)
                if depth is None or (unsure and not filled(place, slots, depth)):
                    place = None
            parameters.append(_parameter(formal, place))
        return parameters


def _in_one(place: Place | None, type: Type) -> Place | None:
    """A value on the stack of which all parts are told, each where it should be beside the others; else None."""
    if place is None or len(place.pieces) < 2:
        return None
    start = place.pieces[0].offset - place.pieces[0].at
    if any(piece.kind != STACK or piece.offset != start + piece.at for piece in place.pieces):
        return None
    return Place((Piece(STACK, type.size, offset=start),))


def _parameter(formal: Formal, place: Place | None) -> Parameter:
    """A parameter at the place of what is passed. "&name" is the address of a variable of the caller's: of a function
    literal that is called where it stands."""
    type = _type_of(formal)
    place = Place(place.pieces, indirect=True) if place is not None and formal.name.startswith("&") else place
    return Parameter(_name_of(formal), type, place or _absent(type), hidden=formal.name == _DICTIONARY)


def _type_of(formal: Formal) -> Type:
    """The type of a variable; "&name" is described as a pointer to it."""
    type = formal.type
    return type.target if formal.name.startswith("&") and type.target is not None else type


def _name_of(formal: Formal) -> str:
    return "" if _UNNAMED.fullmatch(formal.name) else formal.name.lstrip("&")


def _absent(type: Type) -> Place:
    return Place((Piece(ABSENT, type.size),))


def _is_word(type: Type) -> bool:
    """Is it passed as one part? Then what debug information tells of it can't be the place of only a part."""
    try:
        return len(abi.leaves(type) or ()) == 1
    except BinaryError:
        return False


def _insert(guess: _Guess, at: int, type: Type, formal: int | None = None) -> _Guess:
    return _Guess(
        (*guess.types[:at], type, *guess.types[at:]),
        (*guess.formals[:at], formal, *guess.formals[at:]),
    )


def _before_their_turn(types: Sequence[Type], is_told: Sequence[bool], told: Sequence[Place | None]) -> list[list[int]]:
    """The orders of parameters that Go 1.16 and older would list as they are listed, on arm64.

    It lists parameters by their place, to which it adds the room for the link register only if it tells the place
    (stackOffset and createDwarfVars in cmd/compile/internal/gc/pgen.go, sorted in scope.go, stably: those first).

    Args:
        told: at the first instruction; None: that isn't known.
    """
    unplaced = [index for index, is_one in enumerate(is_told) if not is_one]
    placed = [index for index, is_one in enumerate(is_told) if is_one]
    claims = {index: place.pieces[0].offset - abi.FIRST_ARGUMENT for index, place in enumerate(told) if place}
    found: list[list[int]] = []
    pending: list[list[tuple[int, int]]] = [[]]  # numbers and offsets, as far as laid out
    for _ in range(_MAX_GUESSES * 4 if unplaced and placed else 0):
        if not pending:
            break
        laid = pending.pop()
        if len(laid) == len(types):
            at = dict(laid)
            keys = [(at[index] + abi.FIRST_ARGUMENT * is_one, not is_one) for index, is_one in enumerate(is_told)]
            if keys == sorted(keys):
                found.append([index for index, _ in laid])
            continue
        taken = {index for index, _ in laid}
        end = laid[-1][1] + types[laid[-1][0]].size if laid else 0
        for group in (unplaced, placed):
            index = next((index for index in group if index not in taken), None)
            if index is not None:
                offset = -(-end // max(types[index].align, 1)) * max(types[index].align, 1)
                if claims.get(index, offset) == offset:
                    pending.append([*laid, (index, offset)])
    return found


def _orders(fixed: Sequence[int], loose: Sequence[int]) -> list[list[int]]:
    """Every way to put the ``loose`` between the ``fixed``, neither changing their own order."""
    if not loose:
        return [list(fixed)]
    if len(loose) > _MAX_LEFT_OUT:
        return []
    return [[*fixed[:at], loose[0], *rest] for at in range(len(fixed) + 1) for rest in _orders(fixed[at:], loose[1:])][
        : 4 * _MAX_GUESSES
    ]


def _aligned(
    known: _Guess, elements: Sequence[arginfo.Element], skipped: int, missing: int, at: int = 0
) -> Iterator[_Guess]:
    """Every way to put ``missing`` of ``elements`` between the known parameters, from the ``at``-th on."""
    if not missing:
        yield known
        return
    for position in range(max(at, skipped), len(known.types) + 1):
        element = elements[position - skipped]
        for type in _types_like(element):
            yield from _aligned(_insert(known, position, type), elements, skipped, missing - 1, position + 1)


def _types_like(element: arginfo.Element) -> list[Type]:
    """Types that tracebacks print like ``element``: of integers, and of numbers with a fraction if it could be that."""
    result = []
    for kind in (types.UINT, types.FLOAT):
        if kind == types.FLOAT and not any(size in (4, 8) for _, size in element.parts):
            continue
        parts = [
            Member("", at, Type(kind if size in (4, 8) else types.UINT, "", size, align=max(min(size, _WORD), 1)))
            for at, size in element.parts
        ]
        if not element.aggregate:
            result.append(parts[0].type)
            continue
        alignment = max((part.type.align for part in parts), default=1)
        end = parts[-1].offset + parts[-1].type.size if parts else 0
        size = -(-end // alignment) * alignment
        result.append(Type(types.STRUCT, "", size, align=alignment, members=parts))
    return result
