# SPDX-License-Identifier: BSD-2-Clause
"""What the first instructions of a function move where: which register or slot of the frame holds what came in where.

Debug information of unoptimised code names the slots that parameters are stored to, and of moved ones the register they
are in a few instructions later. Followed back to the first instruction, that is a second witness of where they come in.
Only x86-64, only up to the first jump or call, and only up to the first instruction whose effect isn't known here.

Source of the encodings: Intel SDM volume 2, chapter 2 and appendix A.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...errors import BinaryError
from ..disasm import OTHER, walk
from ..elf import Elf
from ..signature import ABSENT, CONSTANT, FLOAT_REGISTER, MEMORY, REGISTER, STACK, Piece, Place
from .systemv import INTEGERS

_MAX_CODE = 512
_MAX_INSTRUCTIONS = 96
_WORD = 8
_REGISTERS = (
    "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
_SP, _BP = 4, 5
_SUB, _ADD, _AND, _CMP = 5, 0, 4, 7  # what the middle of a ModRM byte makes of opcodes 80, 81, 83


class _Origin(NamedTuple):
    """Where the lowest ``size`` bytes of something came in."""

    kind: str
    register: str
    offset: int
    size: int


class _Unknown(Exception):
    """An instruction whose effect isn't known."""


class _Operand(NamedTuple):
    """A register's number, or a place in memory: bytes from the stack pointer at the entry, None for elsewhere."""

    register: int | None
    slot: int | None
    size: int  # of the ModRM byte and what belongs to it
    apart: bool = True  # memory elsewhere can't be in the frame


class Incoming:
    """Registers and the frame's slots at one instruction."""

    __slots__ = ("_base", "_depth", "_registers", "_slots", "_vectors")

    def __init__(self) -> None:
        self._registers: dict[int, _Origin] = {
            number: _Origin(REGISTER, name, 0, _WORD) for number, name in enumerate(_REGISTERS) if name in INTEGERS
        }
        self._vectors = {number: _Origin(FLOAT_REGISTER, f"xmm{number}", 0, _WORD) for number in range(8)}
        self._slots: dict[int, _Origin] = {}  # by bytes from the stack pointer at the entry
        self._depth = 0  # the stack pointer, from the same
        self._base: int | None = None  # RBP, from the same

    def place(self, pieces: Sequence[Piece], indirect: bool) -> Place | None:
        """Where the value came in that is in ``pieces`` here, ``cfa`` ones included; None if that isn't known."""
        if len(pieces) == 1 and pieces[0].kind == MEMORY and not indirect:
            (piece,) = pieces
            slot = self._slot(piece)
            if slot is None:  # it is in the caller's memory
                register = _REGISTERS.index(piece.register) if piece.register in _REGISTERS else -1
                origin = self._registers.get(register)
                if origin is None or piece.offset or origin.size < _WORD:
                    return None
                return Place((Piece(origin.kind, _WORD, 0, origin.register, origin.offset),), indirect=True)
        found: list[Piece] = []
        for piece in pieces:
            if piece.kind in (ABSENT, CONSTANT):
                return None
            slot = self._slot(piece)
            parts: list[Piece] | None
            if slot is not None:
                parts = self._stored(slot, piece)
            elif piece.kind == REGISTER:
                origin = self._registers.get(_REGISTERS.index(piece.register))
                if origin is None or origin.size < piece.size:
                    return None
                parts = [piece._replace(kind=origin.kind, register=origin.register, offset=origin.offset)]
            else:
                return None
            if parts is None:
                return None
            found += parts
        return Place(tuple(found), indirect) if found else None

    def _slot(self, piece: Piece) -> int | None:
        if piece.kind == "cfa":
            return piece.offset + _WORD
        if piece.kind == MEMORY and piece.register == "sp":
            return self._depth + piece.offset
        if piece.kind == MEMORY and piece.register == "bp" and self._base is not None:
            return self._base + piece.offset
        return None

    def _stored(self, slot: int, piece: Piece) -> list[Piece] | None:
        """Where the parts of what lies in the frame came in."""
        parts: list[Piece] = []
        at = 0
        while at < piece.size:
            origin = self._slots.get(slot + at)
            if origin is None:
                return None
            size = min(origin.size, piece.size - at)
            parts.append(Piece(origin.kind, size, piece.at + at, origin.register, origin.offset))
            at += size
            while at < piece.size and slot + at not in self._slots and at % _WORD:  # padding
                at += 1
        return parts

    # -- Instructions

    def run(self, code: bytes) -> None:
        """Carries out one instruction. Raises _Unknown."""
        at, prefix, extension = 0, 0, 0
        while at < len(code) and code[at] in (0x66, 0xF2, 0xF3):
            prefix = code[at]
            at += 1
        if code[at : at + 1] and 0x40 <= code[at] < 0x50:
            extension = code[at]
            at += 1
        opcode, rest = code[at], code[at + 1 :]
        width = 8 if extension & 8 else 2 if prefix == 0x66 else 4
        if opcode == 0x0F:
            self._two_bytes(rest, prefix, extension)
        elif 0x50 <= opcode < 0x58:  # PUSH, of whatever register, is also used to make room
            self._depth -= _WORD
            self._store(self._depth, None, _WORD)
        elif opcode in (0x88, 0x89):
            self._move_from(rest, extension, 1 if opcode == 0x88 else width)
        elif opcode in (0x8A, 0x8B, 0x63):
            size = {0x8A: 1, 0x63: 4}.get(opcode, width)
            self._move_to(rest, extension, size, opcode == 0x8A)
        elif opcode == 0x8D:
            self._set(rest[0] >> 3 & 7 | (extension & 4) << 1, None)
        elif opcode in (0xC6, 0xC7):
            self._write(self._operand(rest, extension, opcode == 0xC6), 1 if opcode == 0xC6 else width)
        elif 0xB0 <= opcode < 0xC0:
            if opcode < 0xB4 or opcode >= 0xB8 or extension:
                self._set(opcode & 7 | (extension & 1) << 3, None)
            else:
                raise _Unknown
        elif opcode in (0x80, 0x81, 0x83):
            self._with_number(opcode, rest, extension, width)
        elif opcode == 0x24 and rest == b"\x01":  # and al, 1: all that is in a bool
            self._narrow(0)
        elif opcode < 0x40 and opcode & 7 < 4:
            self._calculate(opcode, rest, extension, width)
        elif opcode < 0x38 and opcode & 7 < 6:  # the same of AL or EAX and a number
            self._set(0, None)
        elif opcode not in (0x84, 0x85, 0xA8, 0xA9, 0x90, 0x3C, 0x3D):
            raise _Unknown

    def _two_bytes(self, rest: bytes, prefix: int, extension: int) -> None:
        opcode, rest = rest[0], rest[1:]
        number = rest[0] >> 3 & 7 | (extension & 4) << 1 if rest else 0
        if opcode in (0xB6, 0xB7, 0xBE, 0xBF):
            self._move_to(rest, extension, 1 if opcode & 1 == 0 else 2, opcode & 1 == 0)
        elif opcode in (0x11, 0x29, 0x7F) or (opcode == 0xD6 and prefix == 0x66):
            size = {0xF3: 4, 0xF2: 8}.get(prefix, 16) if opcode == 0x11 else 8 if opcode == 0xD6 else 16
            operand = self._operand(rest, extension)
            if operand.register is not None:
                self._vectors.pop(operand.register, None)
                return
            self._write(operand, size)
            origin = self._vectors.get(number)
            if operand.slot is not None and origin is not None and size <= _WORD:
                self._slots[operand.slot] = origin._replace(size=size)
        elif opcode in (0x10, 0x28, 0x57, 0xEF, 0x6F):
            operand = self._operand(rest, extension)
            copied = opcode == 0x28 and operand.register is not None
            origin = self._vectors.get(operand.register) if copied and operand.register is not None else None
            self._vectors.pop(number, None)
            if origin is not None:
                self._vectors[number] = origin
        elif opcode >> 4 == 4:  # CMOVcc
            self._set(number, None)
        elif opcode >> 4 == 9:  # SETcc
            self._write(self._operand(rest, extension, True), 1)
        elif opcode not in (0x1E, 0x1F):
            raise _Unknown

    def _operand(self, data: bytes, extension: int, byte: bool = False) -> _Operand:
        """The register or memory that the ModRM byte, the first of ``data``, tells."""
        mode, base = data[0] >> 6, data[0] & 7
        if mode == 3:
            if byte and not extension and base >= 4:
                raise _Unknown  # AH and its like
            return _Operand(base | (extension & 1) << 3, None, 1)
        at, indexed = 1, False
        if base == 4:
            indexed = data[1] >> 3 & 7 != 4 or bool(extension & 2)
            at = 2
        if mode == 0 and data[at - 1] & 7 == 5:
            return _Operand(None, None, at + 4)  # at a fixed address
        size = (0, 1, 4)[mode]
        offset = int.from_bytes(data[at : at + size], "little", signed=True)
        at += size
        if base == 4:
            base = data[1] & 7
        base |= (extension & 1) << 3
        start = self._depth if base == _SP else self._base if base == _BP else None
        if start is None:
            # What came in as an address is no address of this frame.
            return _Operand(None, None, at, base in self._registers and not indexed)
        if indexed:
            raise _Unknown
        return _Operand(None, start + offset, at)

    def _write(self, operand: _Operand, size: int) -> None:
        """Something unknown is written to ``operand``."""
        if operand.register is not None:
            self._set(operand.register, None)
        elif operand.slot is not None:
            self._store(operand.slot, None, size)
        elif not operand.apart:
            raise _Unknown

    def _store(self, slot: int, origin: _Origin | None, size: int) -> None:
        for other in range(slot - _WORD + 1, slot + size):
            known = self._slots.get(other)
            if known is not None and other + known.size > slot:
                del self._slots[other]
        if origin is not None:
            self._slots[slot] = origin._replace(size=min(size, origin.size))

    def _set(self, number: int, origin: _Origin | None) -> None:
        if number == _SP:
            raise _Unknown
        if number == _BP:
            self._base = None
        if origin is None:
            self._registers.pop(number, None)
        else:
            self._registers[number] = origin

    def _narrow(self, number: int) -> None:
        origin = self._registers.get(number)
        self._set(number, origin._replace(size=1) if origin is not None else None)

    def _move_from(self, data: bytes, extension: int, size: int) -> None:
        """MOV of a register to a register or memory."""
        number = data[0] >> 3 & 7 | (extension & 4) << 1
        if size == 1 and not extension and number >= 4:
            raise _Unknown
        operand = self._operand(data, extension, size == 1)
        if operand.register == _BP and number == _SP:
            self._base = self._depth
            return
        origin = self._registers.get(number)
        if operand.register is not None:
            self._set(operand.register, origin._replace(size=min(size, origin.size)) if origin is not None else None)
        elif operand.slot is not None:
            self._store(operand.slot, origin, size)
        elif not operand.apart:
            raise _Unknown

    def _move_to(self, data: bytes, extension: int, size: int, byte: bool) -> None:
        """MOV of a register or memory to a register, with any extension."""
        number = data[0] >> 3 & 7 | (extension & 4) << 1
        if byte and not extension and number >= 4:
            raise _Unknown
        operand = self._operand(data, extension, byte)
        origin = None
        if operand.register is not None:
            origin = self._registers.get(operand.register)
        elif operand.slot is not None and operand.slot >= _WORD:  # the caller's
            origin = _Origin(STACK, "", operand.slot, size)
        elif operand.slot is not None:
            origin = self._slots.get(operand.slot)
        self._set(number, origin._replace(size=min(size, origin.size)) if origin is not None else None)

    def _with_number(self, opcode: int, data: bytes, extension: int, width: int) -> None:
        operation = data[0] >> 3 & 7
        operand = self._operand(data, extension, opcode == 0x80)
        number = int.from_bytes(data[operand.size :], "little", signed=True)
        if operation == _CMP:
            return
        if operand.register == _SP and operation in (_SUB, _ADD):
            self._depth += number if operation == _ADD else -number
        elif operand.register is not None and operation == _AND and number == 1:
            self._narrow(operand.register)
        else:
            self._write(operand, 1 if opcode == 0x80 else width)

    def _calculate(self, opcode: int, data: bytes, extension: int, width: int) -> None:
        """ADD, OR, ADC, SBB, AND, SUB, XOR and CMP of two operands."""
        if opcode >> 3 == _CMP:
            return
        size = width if opcode & 1 else 1
        if opcode & 2:
            number = data[0] >> 3 & 7 | (extension & 4) << 1
            if size == 1 and not extension and number >= 4:
                raise _Unknown
            self._set(number, None)
        else:
            self._write(self._operand(data, extension, size == 1), size)


def incoming(elf: Elf, start: int, end: int) -> Iterator[tuple[int, Incoming]]:
    """What is known at each of the first instructions of the function from ``start`` to ``end``, with its address.

    It is the same object each time, brought up to date.
    """
    if elf.machine != "x86-64" or end <= start:
        return
    starts: list[int] = []
    try:
        code = elf.read(start, min(end - start, _MAX_CODE))
    except BinaryError:
        return
    first = start + len(code)
    try:
        first = next((flow.address for flow in walk(elf.machine, code, start, starts) if flow.kind != OTHER), first)
    except BinaryError:  # one that reaches beyond the code, perhaps
        first = starts[-1] if starts else start
    state = Incoming()
    for address, following in zip(starts[:_MAX_INSTRUCTIONS], starts[1:]):
        if address >= first:
            return
        try:
            state.run(code[address - start : following - start])
        except (_Unknown, IndexError):
            return
        yield following, state
