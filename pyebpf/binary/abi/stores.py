# SPDX-License-Identifier: BSD-2-Clause
"""Which slots of its frame a function has filled with its parameters at some instruction: by decoding its first ones.

Debug information of unoptimised code names a parameter's slot from the first instruction on, but the slot is filled by
one of those that follow. Source of the encodings: Intel SDM volume 2, chapter 2 and MOV, MOVSS, MOVSD, MOVAPS, MOVUPS.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import BinaryError
from ..disasm import OTHER, walk
from ..elf import Elf

_MAX_CODE = 4096
_PREFIXES = frozenset((0x66, 0xF2, 0xF3))
# Opcodes that store a register: MOV of 8 bits and of more; after 0F: MOVUPS and its like, MOVAPS.
_MOVES = frozenset((0x88, 0x89))
_VECTOR_MOVES = frozenset((0x11, 0x29))


class Stored(NamedTuple):
    """The slots that hold registers: "bp" or "sp" and the offset, from what these are at the address ``end``."""

    slots: frozenset[tuple[str, int]]
    end: int


def stored(elf: Elf, start: int, until: int) -> Stored:
    """Where the function at ``start`` has stored registers when it reaches ``until``.

    Only what comes before its first jump or call is told, as that is carried out for certain. Nothing for arm64.
    """
    if elf.machine != "x86-64" or not start < until <= start + _MAX_CODE:
        return Stored(frozenset(), start)
    starts: list[int] = []
    found: set[tuple[str, int]] = set()
    try:
        code = elf.read(start, until - start)
        first = next((flow.address for flow in walk(elf.machine, code, start, starts) if flow.kind != OTHER), until)
    except BinaryError:
        return Stored(frozenset(), start)
    end = start
    for address, following in zip(starts, [*starts[1:], until]):
        if address >= first:
            break
        slot = _slot(code[address - start : following - start])
        if slot is not None:
            found.add(slot)
            end = following
    return Stored(frozenset(found), end)


def _slot(instruction: bytes) -> tuple[str, int] | None:
    """Where ``instruction`` stores a register, if it does so relative to RBP or RSP."""
    at = 0
    while at < len(instruction) and instruction[at] in _PREFIXES:
        at += 1
    extension = 0
    if at < len(instruction) and 0x40 <= instruction[at] < 0x50:  # REX
        extension = instruction[at]
        at += 1
    opcodes = _MOVES
    if at < len(instruction) and instruction[at] == 0x0F:
        opcodes = _VECTOR_MOVES
        at += 1
    if at + 1 >= len(instruction) or instruction[at] not in opcodes or extension & 3:  # 3: of another base or an index
        return None
    mode, base = instruction[at + 1] >> 6, instruction[at + 1] & 7
    at += 2
    if base == 4 and mode < 3:
        if at >= len(instruction) or instruction[at] & 0x3F != 0x24:  # a SIB byte with RSP and no index
            return None
        at += 1
    elif base != 5 or mode in (0, 3):
        return None
    size = (0, 1, 4)[mode]
    displacement = instruction[at : at + size]
    if len(displacement) != size:
        return None
    return "sp" if base == 4 else "bp", int.from_bytes(displacement, "little", signed=True)
