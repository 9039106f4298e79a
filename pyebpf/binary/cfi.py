# SPDX-License-Identifier: BSD-2-Clause
"""Call frame information: the encodings of unwind records, and what their instructions say about the stack.

Formats: DWARF 5, sections 6.4.2 (call frame instructions) and 7.6 (LEB128); Linux Standard Base Core 5.0, 10.5.1
(``DW_EH_PE`` pointer encodings) and 10.5.2 (GNU's additional instructions); DWARF for the Arm 64-bit architecture
(``DW_CFA_AARCH64_negate_ra_state``).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from ..errors import BinaryError

Rule = tuple[int, int]
"""CFA = the register of that DWARF number + that many bytes."""

_MAX_REMEMBERED = 64

# DW_EH_PE_*: pointer encodings. The size is in the low half, what the value is relative to in bits 4-6.
OMITTED = 0xFF
ABSOLUTE, PC_RELATIVE = 0x00, 0x10
_INDIRECT = 0x80
_FIXED = {0x0: "<Q", 0x2: "<H", 0x3: "<I", 0x4: "<Q", 0xA: "<h", 0xB: "<i", 0xC: "<q"}
_ULEB, _SLEB = 0x1, 0x9
_SIZES = {"<B": 1, "<H": 2, "<I": 4, "<Q": 8, "<h": 2, "<i": 4, "<q": 8}


class Cie(NamedTuple):
    """What the records of many functions have in common. ``rule`` and ``plain_return`` hold at their first byte."""

    code_align: int
    data_align: int
    return_register: int
    augmented: bool
    pointer_encoding: int
    lsda_encoding: int
    signal_frame: bool
    rule: Rule | None
    plain_return: bool


# DW_CFA_*: what follows the opcodes that don't touch the CFA. r: register, u: ULEB, s: SLEB, b: block.
_OPERANDS = {0x05: "ru", 0x06: "r", 0x07: "r", 0x08: "r", 0x09: "ru", 0x10: "rb", 0x11: "rs", 0x14: "ru", 0x15: "rs",
             0x16: "rb", 0x2C: "", 0x2D: "", 0x2E: "u", 0x2F: "ru"}  # fmt: skip
_ADVANCE = {0x02: "<B", 0x03: "<H", 0x04: "<I"}

_State = tuple[Optional[Rule], bool]


def execute(
    cie: Cie, program: bytes, start: int, end: int, watch_return: bool = False
) -> tuple[list[int], list[Rule | None], Rule | None, bool]:
    """Run call frame instructions: the address of each row, its rule, and the rule and return rule at the end.

    ``watch_return``: rows at which the return address isn't at CFA - 8 have the rule None (x86-64, where it is there
    from the first instruction to the last; arm64 has it in a register).
    """
    addresses: list[int] = []
    rules: list[Rule | None] = []
    rule, plain = cie.rule, cie.plain_return
    remembered: list[_State] = []
    location = start
    cursor = Cursor(program, 0)
    size = len(program)
    while cursor.at < size:
        opcode = cursor.byte()
        high = opcode & 0xC0
        if high == 0x40 or opcode in _ADVANCE:
            delta = opcode & 0x3F if high else cursor.fixed(_ADVANCE[opcode])
            addresses.append(location)
            rules.append(rule if plain or not watch_return else None)
            location += delta * cie.code_align
            if not start <= location < end:
                raise BinaryError("the unwind record leaves its function")
        elif high == 0x80:  # DW_CFA_offset
            offset = cursor.uleb() * cie.data_align
            if opcode & 0x3F == cie.return_register:
                plain = offset == -8
        elif high == 0xC0:  # DW_CFA_restore
            if opcode & 0x3F == cie.return_register:
                plain = cie.plain_return
        elif opcode == 0x00:  # DW_CFA_nop
            pass
        elif opcode == 0x0A:  # DW_CFA_remember_state
            if len(remembered) >= _MAX_REMEMBERED:
                raise BinaryError("the unwind record remembers too many states")
            remembered.append((rule, plain))
        elif opcode == 0x0B:  # DW_CFA_restore_state
            if not remembered:
                raise BinaryError("the unwind record restores a state that it didn't remember")
            rule, plain = remembered.pop()
        elif opcode == 0x0C:  # DW_CFA_def_cfa
            register = cursor.uleb()
            rule = register, cursor.uleb()
        elif opcode == 0x12:  # DW_CFA_def_cfa_sf
            register = cursor.uleb()
            rule = register, cursor.sleb() * cie.data_align
        elif opcode == 0x0D:  # DW_CFA_def_cfa_register
            register = cursor.uleb()
            rule = (register, rule[1]) if rule is not None else None
        elif opcode == 0x0E or opcode == 0x13:  # DW_CFA_def_cfa_offset, .._sf
            offset = cursor.uleb() if opcode == 0x0E else cursor.sleb() * cie.data_align
            rule = (rule[0], offset) if rule is not None else None
        elif opcode == 0x0F:  # DW_CFA_def_cfa_expression
            cursor.skip(cursor.uleb())
            rule = None
        elif opcode in _OPERANDS:
            for operand in _OPERANDS[opcode]:
                if operand == "r":
                    if cursor.uleb() == cie.return_register:
                        plain = cie.plain_return and opcode == 0x06  # DW_CFA_restore_extended
                elif operand == "b":
                    cursor.skip(cursor.uleb())
                else:
                    cursor.uleb()  # an SLEB has the same length
        else:
            raise BinaryError(f"unknown call frame instruction {opcode:#x}")
    addresses.append(location)
    rules.append(rule if plain or not watch_return else None)
    return addresses, rules, rule, plain


class Cursor:
    """Reads bytes one value after the other; BinaryError where they end. ``base``: the address of the first."""

    __slots__ = ("at", "base", "data")

    def __init__(self, data: bytes, base: int) -> None:
        self.data = data
        self.base = base
        self.at = 0

    def byte(self) -> int:
        at = self.at
        if not 0 <= at < len(self.data):
            raise BinaryError("a table ends in the middle of a record")
        self.at = at + 1
        return self.data[at]

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise BinaryError("a table ends in the middle of a record")
        self.at += size

    def fixed(self, layout: str) -> int:
        try:
            (value,) = struct.unpack_from(layout, self.data, self.at)
        except struct.error:
            raise BinaryError("a table ends in the middle of a record") from None
        self.at += _SIZES[layout]
        return int(value)

    def uleb(self) -> int:
        value = self.byte()
        if value < 0x80:
            return value
        value &= 0x7F
        shift = 7
        while shift < 70:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
        raise BinaryError("a number of more than 64 bits")

    def sleb(self) -> int:
        before = self.at
        value = self.uleb()
        bits = 7 * (self.at - before)
        return value - (1 << bits) if value >> bits - 1 else value

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise BinaryError("a table ends in the middle of a record")
        text = self.data[self.at : end]
        self.at = end + 1
        return text

    def rest(self) -> bytes:
        if not 0 <= self.at <= len(self.data):
            raise BinaryError("a table ends in the middle of a record")
        return self.data[self.at :]

    def value(self, encoding: int) -> int:
        """A number in one of the formats that DW_EH_PE knows."""
        if encoding == _ULEB:
            return self.uleb()
        if encoding == _SLEB:
            return self.sleb()
        layout = _FIXED.get(encoding)
        if layout is None:
            raise BinaryError(f"unknown pointer encoding {encoding:#x}")
        return self.fixed(layout)

    def pointer(self, encoding: int) -> int | None:
        """An address; None for a null pointer."""
        where = self.base + self.at
        value = self.value(encoding & 0x0F)
        if not value:
            return None
        if encoding & 0x70 == PC_RELATIVE:
            value += where
        elif encoding & 0x70 != ABSOLUTE:
            raise BinaryError(f"unknown pointer encoding {encoding:#x}")
        if encoding & _INDIRECT:
            raise BinaryError("an indirect pointer")
        return value % (1 << 64)
