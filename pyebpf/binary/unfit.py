# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that no probe may be placed on."""

from __future__ import annotations

import struct

from ..errors import BinaryError
from .elf import Elf

_MAX_INSTRUCTION = 15
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x67"  # segments, address size: those that VEX allows
# Conditional jumps, nop, far calls and jumps, popf, returns, calls, jumps, indirect ones.
_MISREAD = frozenset(
    (*range(0x70, 0x80), 0x90, 0x9A, 0x9D, 0xC2, 0xC3, 0xCA, 0xCB, 0xCF, 0xE8, 0xE9, 0xEA, 0xEB, 0xFF)
)
_TRAPS = b"\xcc\xcd\xf1\xf4"  # int3, int, int1, hlt
# First bytes on which all that is asked about here depends: with any other an instruction is none of these.
_TELLING = frozenset((*_TRAPS, *_PREFIXES, *b"\x66\x0f\xf0\xf2\xf3\x62\x8f\xc4\xc5", *range(0x41, 0x50, 2)))
_ENDBR = b"\xf3\x0f\x1e\xfa"  # what a function begins with that may be called indirectly
LONG_NOP = 5  # bytes of a nop that the kernel makes a call of


def plainly_fit(elf: Elf, offset: int) -> bool:
    """Do the first bytes, at file offset `offset`, say alone that `unfit` and `is_long_nop` have nothing against it?

    They do for most functions. It is ten times as fast as to ask these.
    """
    first = elf.data[offset : offset + 4]
    if elf.machine != "x86-64" or not first:
        return False
    if first[0] not in _TELLING or first == _ENDBR:
        return True
    # With REX it can't be AVX, nor a long nop; it must not be the exchange that looks like a nop.
    return first[0] & 0xF1 == 0x41 and first[1:2] not in (b"\x90", b"")


def unfit(elf: Elf, address: int) -> str | None:
    """Why no probe may be placed on the instruction at `address`, or None."""
    if _is_trap(elf, address):
        return "begins with a trap instruction"
    if elf.machine == "arm64":
        return _unfit_arm64(elf, address)
    if elf.machine != "x86-64":
        return None
    code = _instruction(elf, address)
    if _begins_with_long_nop(code):
        return "is a five-byte nop, of which Linux makes a call that forked children crash in"
    if _is_misread_by_the_kernel(code):
        return "begins with an AVX instruction that Linux takes for another: a probe would break it"
    if _is_exchange_taken_for_nop(code):
        return "begins with an exchange of registers that Linux takes for a nop: a probe would break it"
    return None


def is_long_nop(elf: Elf, address: int) -> bool:
    """Is the instruction at `address` a nop of five bytes, as x86-64 has them?"""
    try:
        return elf.machine == "x86-64" and _begins_with_long_nop(_instruction(elf, address))
    except BinaryError:  # the file ends before it
        return False


def _begins_with_long_nop(code: bytes) -> bool:
    """Is it a nop of five bytes?

    From Linux 6.18 on such a nop under a probe becomes a call to a page that the kernel adds to the process
    (arch/x86/kernel/uprobes.c, arch_uprobe_optimize). Measured, whoever places the probe: a child made by fork has the
    call but not the page, and dies of SIGSEGV; a leaf function that keeps values below its stack pointer gets them
    overwritten by the call.
    """
    prefixed = code[:1] == b"\x66"
    if len(code) < LONG_NOP or code[prefixed : prefixed + 2] != b"\x0f\x1f":
        return False
    mode = code[prefixed + 2] & 0xC7  # what follows: one byte of displacement, and a SIB byte before it if it ends in 4
    return 0x40 <= mode <= 0x47 and (mode == 0x44) != prefixed


def _is_misread_by_the_kernel(code: bytes) -> bool:
    """Is it a VEX, EVEX or XOP instruction whose opcode means something else in the one-byte map?

    arch/x86/kernel/uprobes.c looks at the opcode alone: branch_setup_xol_ops emulates a jump, call or nop, and
    arch_uprobe_analyze_insn takes others for returns or far calls and leaves the instruction pointer wrong. A probe on
    vpbroadcastb (0x78, js) skips it, one on vpor (0xeb, jmp) jumps: measured on Linux 6.18.
    """
    code = code.lstrip(_PREFIXES)
    if code[:1] == b"\x8f":
        return len(code) > 1 and code[1] & 0x1F >= 8  # XOP; else pop
    opcode = {0xC5: 2, 0xC4: 3, 0x62: 4}.get(code[0] if code else 0)
    return opcode is not None and len(code) > opcode and code[opcode] in _MISREAD


def _is_exchange_taken_for_nop(code: bytes) -> bool:
    """Is it xchg of r8 and rax (or their lower halves), which is nop's opcode behind a REX prefix with B?

    branch_setup_xol_ops (arch/x86/kernel/uprobes.c, until Linux 6.19 at least) emulates every 0x90 as a nop. Go 1.15
    and 1.19 have runtime.gcWriteBarrierR8 begin with 49 90; a probe there corrupts the heap: measured on Linux 6.18.
    """
    code = code.lstrip(_PREFIXES + b"\x66\xf0\xf2\xf3")
    return len(code) > 1 and code[0] & 0xF1 == 0x41 and code[1] == 0x90


def _instruction(elf: Elf, address: int) -> bytes:
    """The bytes that the instruction begins with: all it can have, or those up to the end of what is loaded."""
    for size in range(_MAX_INSTRUCTION, 1, -1):
        try:
            return elf.read(address, size)
        except BinaryError:  # the file ends sooner
            pass
    return elf.read(address, 1)


def _is_trap(elf: Elf, address: int) -> bool:
    """Is the instruction at `address` one that stops the program? The kernel refuses to probe most of them.

    arch/x86/kernel/uprobes.c, good_insns_64. Go's runtime.abort begins with int $3.
    """
    code = elf.read(address, 4 if elf.machine == "arm64" else 1)
    if elf.machine == "arm64":
        word = int.from_bytes(code, "little")
        return word & 0xFFE0001F == 0xD4200000 or word >> 16 == 0  # brk, udf
    return code in _TRAPS


def _unfit_arm64(elf: Elf, address: int) -> str | None:
    from .unfit_arm64 import REACH, is_exclusive, why_not

    why = why_not(_words(elf.read(address, 4))[0])
    if why is not None:
        return f"begins with an instruction {why}"
    first = address
    while address - first < 4 * REACH and elf.is_executable(first - 4):
        first -= 4
    if is_exclusive(_words(elf.read(first, address - first))):
        return "lies between an exclusive load and its store: with a probe there, the store would never succeed"
    return None


def _words(code: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(code) // 4}I", code)
