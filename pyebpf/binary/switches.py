# SPDX-License-Identifier: BSD-2-Clause
"""What a few instructions next to a return or an indirect jump do: padding, frames released, jump tables.

`pyebpf.binary.disasm` says where instructions begin. This reads the operands of the handful of forms in which compilers
write a ``switch`` or the end of a function, and knows nothing else: an unknown form is never taken for a known one.
Encodings: Intel SDM volume 2; Arm ARM DDI 0487, C4.1.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ..errors import BinaryError
from .elf import Elf

WINDOW = 32
"""How many instructions before a jump are worth looking at."""

Constants = dict[int, list[tuple[int, int]]]
"""For each register number: where in the code (address, sorted) it is loaded with which address."""

_X86_NOP = re.compile(rb"[\x66\x2e]*(?:\x90|\x0f\x1f.*)|\xf3\x0f\x1e\xfa", re.DOTALL)
_X86_JUMP = re.compile(rb"[\x3e\xf2\x66\x2e]?[\x40-\x4f]?\xff[\x20-\x27\x60-\x67\xa0-\xa7\xe0-\xe7].*", re.DOTALL)
_X86_JUMP_REGISTER = re.compile(rb"[\x3e\xf2]?(\x41?)\xff([\xe0-\xe7])")
# jmp *table(,%index,8) and mov table(,%index,8),%register
_X86_JUMP_TABLE = re.compile(rb"[\x3e\xf2]?\x42?\xff\x24[\xc5\xcd\xd5\xdd\xe5\xed\xf5\xfd](....)", re.DOTALL)
_X86_LOAD_TABLE = re.compile(
    rb"([\x48\x4a\x4c\x4e])\x8b([\x04\x0c\x14\x1c\x24\x2c\x34\x3c])[\xc5\xcd\xd5\xdd\xe5\xed\xf5\xfd](....)", re.DOTALL
)
# lea table(%rip),%register; movslq (%table,%index,4),%register; add %register,%register
_X86_LEA = re.compile(rb"(?=([\x48\x4c])\x8d([\x05\x0d\x15\x1d\x25\x2d\x35\x3d])(....))", re.DOTALL)
_X86_LOAD_OFFSET = re.compile(rb"([\x48-\x4f])\x63([\x04-\x7c])([\x80-\xbf])\x00?")
_X86_ADD = re.compile(rb"([\x48\x49\x4c\x4d])([\x01\x03])([\xc0-\xff])")
# pop; leave; add $n,%rsp; lea n(%rbp),%rsp; mov %rbp,%rsp
_X86_RELEASE = re.compile(
    rb"\x41?[\x58-\x5f]|\xc9|\x48\x83\xc4.|\x48\x81\xc4....|\x48\x8d\x65.|\x48\x8d\xa5....|\x48\x89\xec|\x48\x8b\xe5",
    re.DOTALL,
)
_ARM64_NOP = 0xD503201F
_ARM64_RETURNS = (0xD65F03C0, 0xD65F0BFF, 0xD65F0FFF)  # ret, retaa, retab


def is_nop(machine: str, code: bytes) -> bool:
    """Is that instruction padding?"""
    if machine == "x86-64":
        return _X86_NOP.fullmatch(code) is not None
    return _word(code) == _ARM64_NOP


def is_plain_return(machine: str, code: bytes) -> bool:
    """Is that instruction, of kind RET, a return as compilers write it? arm64's ``ret x5`` isn't."""
    return machine == "x86-64" or _word(code) in _ARM64_RETURNS


def is_plain_jump(machine: str, code: bytes) -> bool:
    """Is that instruction, of kind INDIRECT_JUMP, a near jump through a register or memory?"""
    if machine == "x86-64":
        return _X86_JUMP.fullmatch(code) is not None
    return _word(code) & 0xFFFFFC1F == 0xD61F0000 or _word(code) & 0xFEFFF800 == 0xD61F0800  # br; braa, brab, ...


def releases_frame(machine: str, before: Sequence[bytes]) -> bool:
    """Does one of these instructions raise the stack pointer, as the end of a function does?"""
    if machine == "x86-64":
        return any(_X86_RELEASE.fullmatch(code) for code in before)
    return any(_arm64_releases(_word(code)) for code in before)


def _arm64_releases(word: int) -> bool:
    return (
        word & 0xFF8003FF == 0x910003FF  # add sp, sp, #n
        or word & 0x7FC003E0 == 0x28C003E0  # ldp w, w, [sp], #n; bit 31: x, x
        or word & 0x3FC003E0 == 0x2CC003E0  # ldp of s, d or q registers
        or word & 0xFFE00FE0 == 0xF84007E0  # ldr x, [sp], #n
        or word & 0xFFE00FE0 == 0xFC4007E0  # ldr d, [sp], #n
    )


def constants(machine: str, code: bytes, start: int) -> Constants:
    """The addresses that ``code``, from the virtual address ``start`` on, computes relative to itself.

    On x86-64 every byte is taken for a possible beginning; who uses an entry checks that an instruction begins there.
    """
    found: Constants = {}
    if machine == "x86-64":
        for match in _X86_LEA.finditer(code):
            rex, mod_rm, distance = match.groups()
            register = mod_rm[0] >> 3 | (8 if rex == b"\x4c" else 0)
            at = start + match.start()
            found.setdefault(register, []).append((at, at + 7 + _signed(distance)))
        return found
    pages: dict[int, int] = {}
    for index, word in enumerate(struct.unpack(f"<{len(code) // 4}I", code[: len(code) & ~3])):
        at = start + index * 4
        register = word & 31
        value = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
        value -= value >> 20 << 21
        if word & 0x9F000000 == 0x10000000:  # adr
            found.setdefault(register, []).append((at, at + value))
        elif word & 0x9F000000 == 0x90000000:  # adrp
            pages[register] = (at & ~0xFFF) + (value << 12)
        elif word & 0xFFC00000 == 0x91000000 and word >> 5 & 31 in pages:  # add register, page, #n
            found.setdefault(register, []).append((at, pages[word >> 5 & 31] + (word >> 10 & 0xFFF)))
    return found


def first_targets(elf: Elf, at: int, jump: bytes, before: Sequence[bytes], known: Constants) -> Iterator[int]:
    """Where the indirect jump at ``at`` goes if it is a ``switch`` and takes its table's first entry.

    Guesses, usually one or none; the caller believes those that lead back into the function.

    Args:
        before: the instructions of the same block before the jump.
        known: the `constants` of the code around it.
    """
    if elf.machine == "x86-64":
        return _x86_targets(elf, at, jump, before, known)
    return _arm64_targets(elf, at, jump, before, known)


def _x86_targets(elf: Elf, at: int, jump: bytes, before: Sequence[bytes], known: Constants) -> Iterator[int]:
    match = _X86_JUMP_TABLE.fullmatch(jump)
    if match:
        yield from _entry(elf, _signed(match[1]), "<Q")
        return
    match = _X86_JUMP_REGISTER.fullmatch(jump)
    if not match:
        return
    register = match[2][0] & 7 | (8 if match[1] else 0)
    match = _X86_LOAD_TABLE.fullmatch(before[-1]) if before else None
    if match:
        if match[2][0] >> 3 | (8 if match[1][0] & 4 else 0) == register:
            yield from _entry(elf, _signed(match[3]), "<Q")
        return
    # The sum of the table's address and an offset loaded from it: which register holds which differs.
    operands: set[int] = set()
    for code in reversed(before):
        match = _X86_ADD.fullmatch(code)
        if match and not operands:
            rex, mod_rm = match[1][0], match[3][0]
            reg, rm = mod_rm >> 3 & 7 | rex << 1 & 8, mod_rm & 7 | rex << 3 & 8
            if register != (rm if match[2] == b"\x01" else reg):
                return
            operands = {reg, rm}
            continue
        match = _X86_LOAD_OFFSET.fullmatch(code)
        if match and operands:
            rex, mod_rm, sib = match[1][0], match[2][0], match[3][0]
            offset, base = mod_rm >> 3 & 7 | rex << 1 & 8, sib & 7 | rex << 3 & 8
            if mod_rm & 0x87 == 4 and {offset, base} == operands:
                yield from _relative(elf, at, base, known)
            return


def _arm64_targets(elf: Elf, at: int, jump: bytes, before: Sequence[bytes], known: Constants) -> Iterator[int]:
    register = _word(jump) >> 5 & 31
    for code in reversed(before):
        word = _word(code)
        # add of a shifted or extended register: a label or the table's address, and an offset loaded from the table
        if word & 31 == register and (word & 0xFF200000 == 0x8B000000 or word & 0xFFE00000 == 0x8B200000):
            for operand in (word >> 5 & 31, word >> 16 & 31):
                label = _latest(known, operand, at)
                if label is not None:
                    yield label
                yield from _relative(elf, at, operand, known)
            return


def _latest(known: Constants, register: int, at: int) -> int | None:
    loads = known.get(register, [])
    index = bisect_left(loads, (at,)) - 1
    return loads[index][1] if index >= 0 else None


def _relative(elf: Elf, at: int, register: int, known: Constants) -> Iterator[int]:
    """The first entry of a table of 32-bit offsets from its own address, which ``register`` holds."""
    table = _latest(known, register, at)
    if table is not None:
        for offset in _entry(elf, table, "<i"):
            yield table + offset


def _entry(elf: Elf, vaddr: int, layout: str) -> Iterator[int]:
    try:
        yield struct.unpack(layout, elf.read(vaddr, struct.calcsize(layout)))[0]
    except BinaryError:
        return


def _signed(four: bytes) -> int:
    return int.from_bytes(four, "little", signed=True)


def _word(code: bytes) -> int:
    return int.from_bytes(code, "little")
