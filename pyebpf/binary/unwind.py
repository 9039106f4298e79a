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
from typing import NamedTuple

from ..errors import BinaryError
from .cfi import ABSOLUTE, OMITTED, PC_RELATIVE, Cie, Cursor, Rule, execute
from .elf import Elf

_PT_GNU_EH_FRAME = 0x6474E550
_STACK_POINTER = {"x86-64": 7, "arm64": 31}

# Bounds: node's largest record has 3 KB, its whole table 2.7 MB.
_MAX_RECORD = 64 << 10
_MAX_TABLE = 32 << 20
_MAX_CACHED = 512
_LSDA_HEADER = 64

# The header as every linker writes it: pointer to .eh_frame pcrel|sdata4, count udata4, table datarel|sdata4.
_HEADER = struct.Struct("<BBBBiI")
_HEADER_ENCODINGS = (1, 0x1B, 0x03, 0x3B)


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

    __slots__ = ("_base", "_cies", "_elf", "_fdes", "_records", "_rows", "_starts")

    def __init__(self, elf: Elf, base: int, starts: Sequence[int], records: Sequence[int]) -> None:
        """Use `of`. ``starts`` (sorted) and ``records`` are addresses of functions and of their FDEs, less ``base``."""
        self._elf = elf
        self._base = base
        self._starts = starts
        self._records = records
        self._cies: dict[int, Cie] = {}
        self._fdes: dict[int, Fde | None] = {}
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
        fde = self._fde(self._base + self._records[index])
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
        cursor = Cursor(self._elf.data[offset : offset + _LSDA_HEADER], fde.lsda)
        encoding = cursor.byte()
        base = fde.start if encoding == OMITTED else cursor.pointer(encoding)
        if cursor.byte() != OMITTED:
            cursor.uleb()
        encoding = cursor.byte() & 0x0F
        size = cursor.uleb()
        if base is None or size > _MAX_RECORD:
            raise BinaryError(f"the exception table at {fde.lsda:#x} is damaged")
        offset += cursor.at
        cursor = Cursor(self._elf.data[offset : offset + size], 0)
        pads = []
        while cursor.at < size:
            start, length, pad = (cursor.value(encoding) for _ in range(3))
            cursor.uleb()
            if pad:
                pads.append(LandingPad(fde.start + start, fde.start + start + length, base + pad))
        return pads

    # -- records

    def _record(self, vaddr: int) -> Cursor:
        """A record's bytes from its CIE pointer on."""
        (length,) = struct.unpack("<I", self._elf.read(vaddr, 4))
        if not 4 <= length <= _MAX_RECORD:
            raise BinaryError(f"the unwind record at {vaddr:#x} has an impossible size")
        return Cursor(self._elf.read(vaddr + 4, length), vaddr + 4)

    def _fde(self, vaddr: int) -> Fde | None:
        if vaddr not in self._fdes:
            if len(self._fdes) >= _MAX_CACHED:
                self._fdes.clear()
            self._fdes[vaddr] = self._read_fde(vaddr)
        return self._fdes[vaddr]

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
                if cie.lsda_encoding != OMITTED:
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
        pointers, lsda, signal = ABSOLUTE, OMITTED, False
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
        if pointers & 0xF0 not in (ABSOLUTE, PC_RELATIVE):
            raise BinaryError(f"the CIE at {vaddr:#x} has an unknown pointer encoding")
        common = (code_align, data_align, return_register, augmented, pointers, lsda, signal)
        state = execute(Cie(*common, None, False), cursor.rest(), 0, 1)
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
            addresses, rules, _, _ = execute(fde.cie, fde.program, fde.start, fde.end, self._elf.machine == "x86-64")
        except BinaryError:
            return None
        return addresses, rules
