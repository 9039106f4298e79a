# SPDX-License-Identifier: BSD-2-Clause
"""What debug information claims of where a Go value is, in the terms of signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import BinaryError
from ..signature import ABSENT, FLOAT_REGISTER, REGISTER, STACK, Piece, Place
from ..types import Type
from . import abi

if TYPE_CHECKING:
    from ..dwarf import Location

_WORD = 8


def filled(place: Place, slots: frozenset[tuple[str, int]], depth: int) -> bool:
    """Is every word of ``place``, on the stack, among the slots that were ``slots``?"""
    return all(
        piece.kind != STACK or all(("sp", depth + piece.offset + at) in slots for at in range(0, piece.size, _WORD))
        for piece in place.pieces
    )


def agree(claim: Place, place: Place, registers: bool) -> bool:
    """Does what debug information claims fit ``place``? Missing parts do; in the register ABI also stack slots."""
    if registers and any(piece.kind == STACK for piece in (*claim.pieces, *place.pieces)):
        # For a value in registers the slot where it will be saved; for one on the stack the truth, or a local copy.
        claims_stack = all(piece.kind == STACK for piece in claim.pieces)
        return claims_stack and (place.pieces[0].kind != STACK or claim.pieces[0].offset == place.pieces[0].offset)
    if place.pieces[0].kind == STACK:
        start = place.pieces[0].offset
        return all(
            piece.kind == ABSENT or (piece.kind == STACK and piece.offset == start + piece.at) for piece in claim.pieces
        )
    known = {(piece.at, piece.size): (piece.kind, piece.register, piece.offset) for piece in place.pieces}
    return all(
        piece.kind == ABSENT or known.get((piece.at, piece.size)) == (piece.kind, piece.register, piece.offset)
        for piece in claim.pieces
    )


def place_of(location: Location, type: Type, cfa: int) -> Place | None:
    """``location`` as a place: stack offsets from the first instruction's stack pointer. None if it tells nothing.

    Pieces leave padding out, and up to Go 1.21 some are there twice.
    """
    pieces = [piece for piece in location.pieces if piece.size or len(location.pieces) == 1]
    if location.indirect or not pieces:
        return None
    if len(pieces) == 1:
        spots = [(0, type.size)]
    else:
        try:
            leaves = abi.leaves(type)
        except BinaryError:
            return None
        if leaves is None:
            return None
        spots = [(leaf.at, leaf.size) for leaf in leaves]
    while len(pieces) > len(spots):
        twice = next((i for i in range(1, len(pieces)) if _same(pieces[i - 1], pieces[i])), None)
        if twice is None:
            return None
        del pieces[twice]
    if len(pieces) != len(spots) or (len(pieces) > 1 and [p.size for p in pieces] != [size for _, size in spots]):
        return None
    result = []
    for piece, (at, size) in zip(pieces, spots):
        if piece.kind in (REGISTER, FLOAT_REGISTER) and size > _WORD:
            return None
        if piece.kind == "cfa":
            piece = piece._replace(kind=STACK, offset=piece.offset + cfa)
        result.append(piece._replace(at=at, size=size))
    if all(piece.kind == ABSENT for piece in result):
        return None
    return Place(tuple(result))


def _same(one: Piece, other: Piece) -> bool:
    return one._replace(at=0) == other._replace(at=0)
