# SPDX-License-Identifier: BSD-2-Clause
"""Unwind tables: where the stack stands at each instruction, as the compiler promised it in ``.eh_frame``.

Formats: Linux Standard Base Core 5.0, chapter 10.6 (".eh_frame", ".eh_frame_hdr"); DWARF 5, section 6.4 (call frame
instructions); System V ABI for x86-64, section 4.2.4; DWARF for the Arm 64-bit architecture (register numbers,
``DW_CFA_AARCH64_negate_ra_state``). The language-specific data (landing pads) has no standard but GCC's
``libgcc/unwind-c.c``.

Nothing is read before it is asked for: one function costs a binary search and one or two records, whatever the file's
size. Whoever wrote the file can lie in it. What can't be understood is None: nothing is concluded from it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..errors import BinaryError
from .elf import Elf

Rule = tuple[int, int]
"""CFA = the register of that DWARF number + that many bytes."""

_PT_GNU_EH_FRAME = 0x6474E550
_STACK_POINTER = {"x86-64": 7, "arm64": 31}

# Bounds. The largest record met in practice has some 3 KB, Chromium's whole table 20 MB.
_MAX_RECORD = 1 << 20
_MAX_TABLE = 128 << 20
_MAX_REMEMBERED = 64
_MAX_CACHED = 512

# DW_EH_PE_*: pointer encodings. The size is in the low half, what the value is relative to in bits 4-6.
_OMITTED = 0xFF
_ABSOLUTE, _PC_RELATIVE = 0x00, 0x10
_INDIRECT = 0x80
_FIXED = {0x0: "<Q", 0x2: "<H", 0x3: "<I", 0x4: "<Q", 0xA: "<h", 0xB: "<i", 0xC: "<q"}
_ULEB, _SLEB = 0x1, 0x9
# The header as every linker writes it: pointer to .eh_frame pcrel|sdata4, count udata4, table datarel|sdata4.
_HEADER = struct.Struct("<BBBBiI")
_HEADER_ENCODINGS = (1, 0x1B, 0x03, 0x3B)


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


class Fde(NamedTuple):
    """The record for one range of code: [start, end) in virtual addresses.

    Compilers write one for each function, and one more for each part that they moved away (GCC's ``.cold``).

    Attributes:
        lsda: address of the function's exception table, or None.
        program: the call frame instructions.
    """

    start: int
    end: int
    lsda: int | None
    cie: Cie
    program: bytes


class LandingPad(NamedTuple):
    """An exception thrown by a call in [start, end) may go on at ``address``."""

    start: int
    end: int
    address: int


class UnwindTable:
    """The ``.eh_frame`` of one file. Lookups never raise; `landing_pads` does."""

    __slots__ = ("_base", "_cies", "_elf", "_records", "_rows", "_starts")

    def __init__(self, elf: Elf, base: int, starts: Sequence[int], records: Sequence[int]) -> None:
        """Use `of`. ``starts`` (sorted) and ``records`` are addresses of functions and of their FDEs, less ``base``."""
        self._elf = elf
        self._base = base
        self._starts = starts
        self._records = records
        self._cies: dict[int, Cie] = {}
        self._rows: dict[int, tuple[list[int], list[Rule | None]] | None] = {}

    @classmethod
    def of(cls, elf: Elf) -> UnwindTable | None:
        """The table of ``elf``, or None if it has none that can be read."""
        try:
            return cls._from_header(elf) or cls._from_scan(elf)
        except BinaryError:
            return None

    @classmethod
    def _from_header(cls, elf: Elf) -> UnwindTable | None:
        """By ``.eh_frame_hdr``, the linker's sorted table, which the C++ runtime itself uses to find an FDE."""
        segment = next((segment for segment in elf.segments if segment.type == _PT_GNU_EH_FRAME), None)
        if segment is None:
            return None
        header = segment.vaddr
        version, frame, count_as, table, _, count = _HEADER.unpack(elf.read(header, _HEADER.size))
        if (version, frame, count_as, table) != _HEADER_ENCODINGS or not count:
            return None
        size = count * 8
        offset = elf.offset_of(header + _HEADER.size)
        if elf.offset_of(header + _HEADER.size + size - 1) != offset + size - 1:
            return None  # it isn't all in one segment
        # Both machines are little-endian, like whoever traces them. A view, not a copy: node's table has 600 KB.
        pairs = memoryview(elf.data)[offset : offset + size].cast("i")
        return cls(elf, header, pairs[::2], pairs[1::2])

    @classmethod
    def _from_scan(cls, elf: Elf) -> UnwindTable | None:
        """By reading the whole ``.eh_frame``: for what was linked without ``--eh-frame-hdr``."""
        section = elf.section(".eh_frame")
        if section is None or not 0 < section.size <= _MAX_TABLE:
            return None
        table = cls(elf, 0, (), ())
        found: list[tuple[int, int]] = []
        at, end = section.addr, section.addr + section.size
        while at + 4 <= end:
            (length,) = struct.unpack("<I", elf.read(at, 4))
            if not 0 < length <= _MAX_RECORD:  # 0 ends the table; 64-bit lengths aren't met in .eh_frame
                break
            fde = table._read_fde(at)
            if fde is not None:
                found.append((fde.start, at))
            at += 4 + length
        found.sort()
        return cls(elf, 0, [start for start, _ in found], [record for _, record in found]) if found else None

    def fde_at(self, vaddr: int) -> Fde | None:
        """The record whose range holds ``vaddr``, or None."""
        index = bisect_right(self._starts, vaddr - self._base) - 1
        if index < 0:
            return None
        fde = self._read_fde(self._base + self._records[index])
        return fde if fde is not None and fde.start <= vaddr < fde.end else None

    def rule_at(self, vaddr: int) -> Rule | None:
        """How to compute the CFA (the stack pointer before the call that entered the function) at that instruction.

        None if there is no record, if the rule is an expression, in signal handlers' frames, and on x86-64 also where
        the return address isn't directly below the CFA.
        """
        fde = self.fde_at(vaddr)
        return self.rule_in(fde, vaddr) if fde is not None else None

    def rule_in(self, fde: Fde, vaddr: int) -> Rule | None:
        """Like `rule_at`, for an address within ``fde``."""
        rows = self._rows_of(fde)
        if rows is None or not fde.start <= vaddr < fde.end:
            return None
        return rows[1][bisect_right(rows[0], vaddr) - 1]

    def landmarks(self, fde: Fde) -> list[int]:
        """Addresses within ``fde`` at which, so the assembler says, an instruction begins; none if it can't be read."""
        rows = self._rows_of(fde)
        return rows[0] if rows is not None else []

    def stack_offset(self, vaddr: int) -> int | None:
        """n if the CFA is the stack pointer + n at that instruction, else None."""
        rule = self.rule_at(vaddr)
        return rule[1] if rule is not None and rule[0] == _STACK_POINTER[self._elf.machine] else None

    def landing_pads(self, fde: Fde) -> list[LandingPad]:
        """Where exceptions that pass through ``fde`` are caught or clean up.

        Raises:
            BinaryError: its exception table is damaged or not of GCC's format.
        """
        if fde.lsda is None:
            return []
        offset = self._elf.offset_of(fde.lsda)
        cursor = _Cursor(self._elf.data[offset : offset + _LSDA_HEADER], fde.lsda)
        encoding = cursor.byte()
        base = fde.start if encoding == _OMITTED else cursor.pointer(encoding)
        if cursor.byte() != _OMITTED:
            cursor.uleb()
        encoding = cursor.byte() & 0x0F
        size = cursor.uleb()
        if base is None or size > _MAX_RECORD:
            raise BinaryError(f"the exception table at {fde.lsda:#x} is damaged")
        offset += cursor.at
        cursor = _Cursor(self._elf.data[offset : offset + size], 0)
        pads = []
        while cursor.at < size:
            start, length, pad = (cursor.value(encoding) for _ in range(3))
            cursor.uleb()
            if pad:
                pads.append(LandingPad(fde.start + start, fde.start + start + length, base + pad))
        return pads

    # -- records

    def _record(self, vaddr: int) -> _Cursor:
        """A record's bytes from its CIE pointer on."""
        (length,) = struct.unpack("<I", self._elf.read(vaddr, 4))
        if not 4 <= length <= _MAX_RECORD:
            raise BinaryError(f"the unwind record at {vaddr:#x} has an impossible size")
        return _Cursor(self._elf.read(vaddr + 4, length), vaddr + 4)

    def _read_fde(self, vaddr: int) -> Fde | None:
        try:
            cursor = self._record(vaddr)
            distance = cursor.fixed("<I")
            if not distance:
                return None  # a CIE
            cie = self._cie(vaddr + 4 - distance)
            start = cursor.pointer(cie.pointer_encoding)
            size = cursor.value(cie.pointer_encoding & 0x0F)
            lsda = None
            if cie.augmented:
                length = cursor.uleb()
                after = cursor.at + length
                if cie.lsda_encoding != _OMITTED:
                    lsda = cursor.pointer(cie.lsda_encoding)
                cursor.at = after
            if start is None or size <= 0 or start + size > 1 << 64:
                return None
            return Fde(start, start + size, lsda, cie, cursor.rest())
        except BinaryError:
            return None

    def _cie(self, vaddr: int) -> Cie:
        cie = self._cies.get(vaddr)
        if cie is None:
            if len(self._cies) >= _MAX_CACHED:
                self._cies.clear()
            cie = self._cies[vaddr] = self._read_cie(vaddr)
        return cie

    def _read_cie(self, vaddr: int) -> Cie:
        cursor = self._record(vaddr)
        if cursor.fixed("<I") or cursor.byte() not in (1, 3):
            raise BinaryError(f"no CIE at {vaddr:#x}")
        augmentation = cursor.text()
        code_align, data_align, return_register = cursor.uleb(), cursor.sleb(), cursor.uleb()
        pointers, lsda, signal = _ABSOLUTE, _OMITTED, False
        augmented = augmentation.startswith(b"z")
        if augmented:
            after = cursor.uleb() + cursor.at
            for letter in augmentation[1:].decode("latin-1"):
                if letter == "R":
                    pointers = cursor.byte()
                elif letter == "L":
                    lsda = cursor.byte()
                elif letter == "P":
                    cursor.value(cursor.byte() & 0x0F)  # the personality routine: only to be skipped
                elif letter == "S":
                    signal = True
                elif letter not in "BG":  # arm64: return addresses signed with key B; memory tagging
                    raise BinaryError(f"the CIE at {vaddr:#x} has an unknown augmentation")
            cursor.at = after
        elif augmentation:
            raise BinaryError(f"the CIE at {vaddr:#x} has an unknown augmentation")
        if pointers & 0xF0 not in (_ABSOLUTE, _PC_RELATIVE):
            raise BinaryError(f"the CIE at {vaddr:#x} has an unknown pointer encoding")
        common = (code_align, data_align, return_register, augmented, pointers, lsda, signal)
        state = _execute(Cie(*common, None, False), cursor.rest(), 0, 1)
        return Cie(*common, *state[2:])

    def _rows_of(self, fde: Fde) -> tuple[list[int], list[Rule | None]] | None:
        key = fde.start
        if key not in self._rows:
            if len(self._rows) >= _MAX_CACHED:
                self._rows.clear()
            self._rows[key] = self._run(fde)
        return self._rows[key]

    def _run(self, fde: Fde) -> tuple[list[int], list[Rule | None]] | None:
        if fde.cie.signal_frame:
            return None
        try:
            addresses, rules, _, _ = _execute(fde.cie, fde.program, fde.start, fde.end, self._elf.machine == "x86-64")
        except BinaryError:
            return None
        return addresses, rules


# DW_CFA_*: what follows the opcodes that don't touch the CFA. r: register, u: ULEB, s: SLEB, b: block.
_OPERANDS = {0x05: "ru", 0x06: "r", 0x07: "r", 0x08: "r", 0x09: "ru", 0x10: "rb", 0x11: "rs", 0x14: "ru", 0x15: "rs",
             0x16: "rb", 0x2C: "", 0x2D: "", 0x2E: "u", 0x2F: "ru"}  # fmt: skip
_ADVANCE = {0x02: "<B", 0x03: "<H", 0x04: "<I"}

_State = tuple[Optional[Rule], bool]


def _execute(
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
    cursor = _Cursor(program, 0)
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


_LSDA_HEADER = 64


class _Cursor:
    """Reads bytes one value after the other; BinaryError at the end of them. ``base``: address of the first."""

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
        self.at += struct.calcsize(layout)
        return int(value)

    def uleb(self) -> int:
        value = shift = 0
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
        if encoding & 0x70 == _PC_RELATIVE:
            value += where
        elif encoding & 0x70 != _ABSOLUTE:
            raise BinaryError(f"unknown pointer encoding {encoding:#x}")
        if encoding & _INDIRECT:
            raise BinaryError("an indirect pointer")
        return value % (1 << 64)
