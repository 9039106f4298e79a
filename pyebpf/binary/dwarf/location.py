# SPDX-License-Identifier: BSD-2-Clause
"""Where a value is: location expressions (2.5, 2.6) and lists (2.6.2), as far as probes can use them.

Register numbers: System V ABI for x86-64, figure 3.36; DWARF for the Arm 64-bit architecture, section 4.1.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import BinaryError
from ..signature import ABSENT, CONSTANT, FLOAT_REGISTER, MEMORY, REGISTER, Piece
from . import constants as c
from .ranges import ADDRESSES
from .sections import Section
from .unit import Entry, Unit

CFA = "cfa"  # a kind of Piece besides those of signature.py: `offset` bytes from the canonical frame address (6.4)

_GONE = "optimised away"
_COMPUTED = "the debug information computes it in a way that a probe can't"

_MAX_EXPRESSION = 1 << 12
_MAX_PIECES = 64
_MAX_LIST = 1 << 14

_X86 = (
    "ax", "dx", "cx", "bx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip

# Operations (table 7.9).
_ADDR, _DEREF, _CONST1U, _CONSTU, _CONSTS, _MINUS, _PLUS, _PLUS_UCONST = 0x03, 0x06, 0x08, 0x10, 0x11, 0x1C, 0x22, 0x23
_LIT0, _REG0, _BREG0, _REGX, _FBREG, _BREGX, _PIECE = 0x30, 0x50, 0x70, 0x90, 0x91, 0x92, 0x93
_NOP, _CALL_FRAME_CFA, _IMPLICIT_VALUE, _STACK_VALUE = 0x96, 0x9C, 0x9E, 0x9F
_ENTRY_VALUE, _GNU_ENTRY_VALUE, _GNU_UNINIT = 0xA3, 0xF3, 0xF0
_CONST_SIZES = {0x08: 1, 0x0A: 2, 0x0C: 4, 0x0E: 8}  # unsigned; each plus 1 is the signed one

# Kinds of entries in a location list (table 7.10).
_END, _BASE_X, _STARTX_ENDX, _STARTX_LENGTH, _OFFSET_PAIR, _DEFAULT, _BASE, _START_END, _START_LENGTH, _VIEW = range(10)


class Location(NamedTuple):
    """Where a value is when an instruction at one address is about to run.

    Attributes:
        pieces: in order, `at` counted from 0 without gaps: Go's compiler leaves out padding, so `at` needn't be the
            offset in the type. Kinds are REGISTER, FLOAT_REGISTER, CFA, MEMORY (relative to a register), CONSTANT and
            ABSENT; never STACK, as only unwind tables know the distance of the CFA from the stack pointer. `size` is
            the value's own size if the expression has no DW_OP_piece (0 if that isn't known).
        indirect: the (only) piece holds the address of the value.
        reason: why a piece is ABSENT: "optimised away", or an expression that no probe can evaluate.
    """

    pieces: tuple[Piece, ...]
    indirect: bool = False
    reason: str = ""


class _Unknown(Exception):
    """An expression that can't be evaluated."""


def absent(size: int, reason: str = _GONE) -> Location:
    """A value that is nowhere."""
    return Location((Piece(ABSENT, size),), False, reason)


def register_name(machine: str, number: int) -> tuple[str, str]:
    """The kind and name of a register: as Piece has them. Raises _Unknown for others."""
    if machine == "x86-64":
        if number < 16:
            return REGISTER, _X86[number]
        if 17 <= number <= 32:
            return FLOAT_REGISTER, f"xmm{number - 17}"
        if 33 <= number <= 40:
            return FLOAT_REGISTER, f"st{number - 33}"
        if 67 <= number <= 82:
            return FLOAT_REGISTER, f"xmm{number - 51}"
    elif number < 31:
        return REGISTER, f"x{number}"
    elif number == 31:
        return REGISTER, "sp"
    elif 64 <= number <= 95:
        return FLOAT_REGISTER, f"v{number - 64}"
    raise _Unknown


def locate(entry: Entry, address: int, size: int, frame: Entry, low_pc: int) -> Location:
    """Where the parameter that ``entry`` describes is at ``address``.

    Args:
        size: of its type, in bytes.
        frame: the entry of its function, which has the frame base.
        low_pc: the function's first instruction.

    Raises:
        BinaryError: what says so is damaged.
    """
    constant = entry.values.get(c.AT_CONST_VALUE)
    if constant is not None:
        return _constant(entry, constant[1], size)
    if c.AT_LOCATION not in entry:
        return absent(size)
    expression = _expression(entry, c.AT_LOCATION, address, low_pc)
    if not expression:
        return absent(size)
    try:
        return _Evaluation(entry.unit, address, frame, low_pc).run(expression, size)
    except _Unknown:
        return absent(size, _COMPUTED)


def _constant(entry: Entry, value: int | bytes, size: int) -> Location:
    if isinstance(value, bytes):
        value = int.from_bytes(value[:64], "little")
    elif entry.values[c.AT_CONST_VALUE][0] not in (c.FORM_DATA16, c.FORM_UDATA):
        value = entry.signed(c.AT_CONST_VALUE) or 0
    return Location((Piece(CONSTANT, size, value=value & ((1 << 8 * min(size or 8, 64)) - 1)),))


def _expression(entry: Entry, attribute: int, address: int, low_pc: int) -> bytes:
    """The expression that holds at ``address`` of the function at ``low_pc``; b"" if there is none."""
    form, value = entry.values[attribute]
    if isinstance(value, bytes):
        return value[:_MAX_EXPRESSION]
    unit = entry.unit
    if form not in (c.FORM_SEC_OFFSET, c.FORM_LOCLISTX, c.FORM_DATA4, c.FORM_DATA8):
        return b""
    section = unit.info.sections["debug_loc" if unit.version < 5 else "debug_loclists"]
    if unit.version >= 5 and form == c.FORM_LOCLISTX:
        first = unit.base(c.AT_LOCLISTS_BASE)
        slot = section.at(first + value * unit.offset_size, unit.offset_size)
        value = first + section.number(slot, unit.offset_size)
    views = entry.number(c.AT_GNU_LOCVIEWS) if attribute == c.AT_LOCATION and address == low_pc else None
    wanted = _Wanted(section, address, low_pc, None if views is None else section.at(views))
    return _old_list(unit, value, wanted) if unit.version < 5 else _list(unit, value, wanted)


class _Wanted:
    """The address whose expression is looked for in a location list.

    GNU: of several entries that begin there one may be empty. It is for the first of several statements that the one
    instruction belongs to; its view numbers say which (2.6.2 of DWARF 6; `DW_AT_GNU_locviews` of GCC). A parameter has
    its caller's value in view 0 of the function's first instruction.
    """

    __slots__ = ("_address", "_at_entry", "_section", "_views")

    def __init__(self, section: Section, address: int, low_pc: int, views: int | None) -> None:
        """``views``: where the pairs of view numbers of this list are, one for each of its entries."""
        self._section, self._address, self._at_entry, self._views = section, address, address == low_pc, views

    def within(self, start: int, end: int) -> bool:
        """Does the next entry of the list, from ``start`` to ``end``, tell of the address?"""
        view = 0
        if self._views is not None:
            view, self._views = self._section.uleb(self._views)
            _, self._views = self._section.uleb(self._views)
        if self._at_entry and start == self._address:
            return not view
        return start <= self._address < end


def _old_list(unit: Unit, where: int, wanted: _Wanted) -> bytes:
    """The expression in the list at ``where`` of .debug_loc (DWARF 4, 2.6.2)."""
    section = unit.info.sections["debug_loc"]
    at, base = section.at(where), unit.top.address(c.AT_LOW_PC) or 0
    for _ in range(_MAX_LIST):
        start, end = section.number(at, 8), section.number(at + 8, 8)
        at += 16
        if start == ADDRESSES:
            base = end
            continue
        if not start and not end:
            return b""
        size = section.number(at, 2)
        if wanted.within(base + start & ADDRESSES, base + end & ADDRESSES):
            return _block(section, at + 2, size)
        at += 2 + size
    raise BinaryError("a location list of the debug information has no end")


def _list(unit: Unit, where: int, wanted: _Wanted) -> bytes:
    """The expression in the list at ``where`` of .debug_loclists (7.7.3)."""
    section = unit.info.sections["debug_loclists"]
    at, base = section.at(where), unit.top.address(c.AT_LOW_PC) or 0
    default = b""
    for _ in range(_MAX_LIST):
        kind = section.number(at, 1)
        at += 1
        start = end = 0
        if kind == _END:
            return default
        if kind == _BASE:
            base, at = section.number(at, 8), at + 8
            continue
        if kind == _START_END:
            start, end, at = section.number(at, 8), section.number(at + 8, 8), at + 16
        elif kind == _START_LENGTH:
            start, at = section.number(at, 8), at + 8
            size, at = section.uleb(at)
            end = start + size
        elif kind != _DEFAULT:
            first, at = section.uleb(at)
            if kind == _BASE_X:
                base = unit.indexed_address(first)
                continue
            second, at = section.uleb(at)
            if kind == _VIEW:  # of assemblers that don't know DW_AT_GNU_locviews
                continue
            if kind == _OFFSET_PAIR:
                start, end = base + first & ADDRESSES, base + second & ADDRESSES  # it may wrap: see ranges.py
            elif kind == _STARTX_ENDX:
                start, end = unit.indexed_address(first), unit.indexed_address(second)
            elif kind == _STARTX_LENGTH:
                start = unit.indexed_address(first)
                end = start + second
            else:
                raise BinaryError(f"a location list of the debug information has an entry of unknown kind {kind}")
        size, at = section.uleb(at)
        if kind == _DEFAULT:
            default = _block(section, at, size)
        elif wanted.within(start, end):
            return _block(section, at, size)
        at += size
    raise BinaryError("a location list of the debug information has no end")


def _block(section: Section, at: int, size: int) -> bytes:
    if size > _MAX_EXPRESSION or at + size > section.end:
        raise BinaryError("a location in the debug information is too long")
    return section.data[at : at + size]


class _Term(NamedTuple):
    """A value on the expression's stack: a number added to what `base` names: "" (nothing), CFA, or a register.

    `loaded`: it is the word in memory at that address.
    """

    base: str
    number: int
    loaded: bool = False


class _Evaluation:
    """Evaluates one expression symbolically: a register plus a number, and one load, are all that probes know."""

    __slots__ = ("_address", "_data", "_frame", "_low_pc", "_machine", "_unit")

    def __init__(self, unit: Unit, address: int, frame: Entry | None, low_pc: int) -> None:
        """``frame`` None: within the frame base itself, which can't refer to it."""
        self._unit, self._address, self._frame, self._low_pc = unit, address, frame, low_pc
        self._machine = unit.info.sections.elf.machine
        self._data = Section("a location", b"", 0, 0)

    def run(self, expression: bytes, size: int) -> Location:
        """The location that ``expression`` describes, of a value of ``size`` bytes."""
        self._data = Section("a location", expression, 0, len(expression))
        position, total, reason = 0, 0, ""
        pieces: list[Piece] = []
        while position < len(expression):
            piece, indirect, position = self._simple(position)
            if position >= len(expression):
                if pieces:  # what follows the last DW_OP_piece describes nothing
                    break
                if piece is None:
                    return absent(size)
                # DW_OP_entry_value and registers of a struct of 3 bytes are given the value's size.
                return Location((piece._replace(size=8 if indirect else size),), indirect)
            position += 1
            count, position = self._data.uleb(position)
            if indirect or count > 1 << 32 or len(pieces) >= _MAX_PIECES:
                raise _Unknown
            if piece is None:
                piece, reason = Piece(ABSENT, 0), _GONE
            pieces.append(piece._replace(size=count, at=total))
            total += count
        return Location(tuple(pieces), False, reason) if pieces else absent(size)

    def frame_base(self) -> _Term:
        """What DW_OP_fbreg adds to."""
        frame = self._frame
        if frame is None or c.AT_FRAME_BASE not in frame:
            raise _Unknown
        expression = _expression(frame, c.AT_FRAME_BASE, self._address, self._low_pc)
        inner = _Evaluation(self._unit, self._address, None, self._low_pc)
        inner._data = Section("a location", expression, 0, len(expression))
        piece, indirect, end = inner._simple(0)
        if piece is None or indirect or end < len(expression):
            raise _Unknown
        if piece.kind == REGISTER:  # clang's way to say so: 3.3.5 has it as an address in that register
            return _Term(piece.register, 0)
        if piece.kind == CFA:
            return _Term(CFA, piece.offset)
        if piece.kind == MEMORY:
            return _Term(piece.register, piece.offset)
        raise _Unknown

    def _simple(self, position: int) -> tuple[Piece | None, bool, int]:
        """One location: the piece, is it of the address, the position of the DW_OP_piece after it or of the end."""
        data = self._data
        code = data.data
        stack: list[_Term] = []
        while position < data.end:
            op = code[position]
            if op == _PIECE:
                break
            position += 1
            if _REG0 <= op < _BREG0 or op == _REGX:
                number, position = (op - _REG0, position) if op != _REGX else data.uleb(position)
                kind, name = register_name(self._machine, number)
                return Piece(kind, 0, register=name), False, self._ends(position)
            if op == _STACK_VALUE:
                return self._value(self._pop(stack)), False, self._ends(position)
            if op == _IMPLICIT_VALUE:
                size, position = data.uleb(position)
                if size > 64 or position + size > data.end:
                    raise _Unknown
                value = int.from_bytes(code[position : position + size], "little")
                return Piece(CONSTANT, 0, value=value), False, self._ends(position + size)
            position = self._push(op, position, stack)
        if not stack:
            return None, False, position
        term = self._pop(stack)
        if term.loaded:
            return self._memory(_Term(term.base, term.number)), True, position
        return self._memory(term), False, position

    def _ends(self, position: int) -> int:
        """Check that a location is complete at ``position``."""
        data = self._data
        while position < data.end and data.data[position] in (_NOP, _GNU_UNINIT):
            position += 1
        if position < data.end and data.data[position] != _PIECE:
            raise _Unknown
        return position

    def _push(self, op: int, position: int, stack: list[_Term]) -> int:
        """Carry out one operation that isn't the last of a location."""
        data = self._data
        if op == _FBREG:
            base = self.frame_base()
            offset, position = data.sleb(position)
            stack.append(_Term(base.base, base.number + offset))
        elif _BREG0 <= op < _REGX or op == _BREGX:
            number, position = (op - _BREG0, position) if op != _BREGX else data.uleb(position)
            offset, position = data.sleb(position)
            stack.append(_Term(self._integer_register(number), offset))
        elif op == _CALL_FRAME_CFA:
            stack.append(_Term(CFA, 0))
        elif _LIT0 <= op < _REG0:
            stack.append(_Term("", op - _LIT0))
        elif op & ~1 in _CONST_SIZES and op < _CONSTU:
            size = _CONST_SIZES[op & ~1]
            value, position = data.number(position, size), position + size
            stack.append(_Term("", value - (1 << 8 * size) if op & 1 and value >> (8 * size - 1) else value))
        elif op in (_CONSTU, _CONSTS):
            value, position = data.uleb(position) if op == _CONSTU else data.sleb(position)
            stack.append(_Term("", value))
        elif op == _PLUS_UCONST:
            value, position = data.uleb(position)
            stack.append(self._add(self._pop(stack), _Term("", value)))
        elif op in (_PLUS, _MINUS):
            right, left = self._pop(stack), self._pop(stack)
            if op == _MINUS:
                if right.base or right.loaded:
                    raise _Unknown
                right = _Term("", -right.number)
            stack.append(self._add(left, right))
        elif op == _DEREF:
            term = self._pop(stack)
            if term.loaded:
                raise _Unknown
            stack.append(term._replace(loaded=True))
        elif op in (_ENTRY_VALUE, _GNU_ENTRY_VALUE):
            size, position = data.uleb(position)
            stack.append(self._entry_value(data.data[position : position + size]))
            position += size
        elif op not in (_NOP, _GNU_UNINIT):
            raise _Unknown
        return position

    def _entry_value(self, expression: bytes) -> _Term:
        """The value a register had at the function's first instruction: it still has it there, and nowhere else."""
        if self._address != self._low_pc or not expression or not _REG0 <= expression[0] < _BREG0:
            raise _Unknown
        return _Term(self._integer_register(expression[0] - _REG0), 0)

    def _integer_register(self, number: int) -> str:
        kind, name = register_name(self._machine, number)
        if kind != REGISTER:
            raise _Unknown
        return name

    def _pop(self, stack: list[_Term]) -> _Term:
        if not stack:
            raise _Unknown
        return stack.pop()

    def _add(self, left: _Term, right: _Term) -> _Term:
        if left.loaded or right.loaded or (left.base and right.base):
            raise _Unknown
        return _Term(left.base or right.base, left.number + right.number)

    def _value(self, term: _Term) -> Piece:
        """DW_OP_stack_value: the term is the value itself."""
        if term.loaded:
            return self._memory(_Term(term.base, term.number))
        if not term.base:
            return Piece(CONSTANT, 0, value=term.number & ADDRESSES)
        if term.base == CFA or term.number:
            raise _Unknown  # the sum of a register and a number: no piece can say that
        return Piece(REGISTER, 0, register=term.base)

    def _memory(self, term: _Term) -> Piece:
        """The term is the value's address."""
        if not term.base:
            raise _Unknown  # a variable at a fixed address is no parameter
        if not -(1 << 31) <= term.number < 1 << 31:
            raise _Unknown
        if term.base == CFA:
            return Piece(CFA, 0, offset=term.number)
        return Piece(MEMORY, 0, register=term.base, offset=term.number)
