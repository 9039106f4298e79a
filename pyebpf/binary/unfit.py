# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that no probe may be placed on."""

from __future__ import annotations

from ..errors import BinaryError
from .elf import Elf

_MAX_INSTRUCTION = 15
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x67"  # segments, address size: those that VEX allows
# Conditional jumps, nop, far calls and jumps, popf, returns, calls, jumps, indirect ones.
_MISREAD = frozenset(
    (*range(0x70, 0x80), 0x90, 0x9A, 0x9D, 0xC2, 0xC3, 0xCA, 0xCB, 0xCF, 0xE8, 0xE9, 0xEA, 0xEB, 0xFF)
)


def unfit(elf: Elf, address: int) -> str | None:
    """Why no probe may be placed on the instruction at `address`, or None."""
    if _is_trap(elf, address):
        return "begins with a trap instruction"
    if _is_misread_by_the_kernel(elf, address):
        return "begins with an AVX instruction that Linux takes for another: a probe would break it"
    return None


def _is_misread_by_the_kernel(elf: Elf, address: int) -> bool:
    """Is it a VEX, EVEX or XOP instruction whose opcode means something else in the one-byte map?

    arch/x86/kernel/uprobes.c looks at the opcode alone: branch_setup_xol_ops emulates a jump, call or nop, and
    arch_uprobe_analyze_insn takes others for returns or far calls and leaves the instruction pointer wrong. A probe on
    vpbroadcastb (0x78, js) skips it, one on vpor (0xeb, jmp) jumps: measured on Linux 6.18.
    """
    if elf.machine != "x86-64":
        return False
    try:
        code = elf.read(address, _MAX_INSTRUCTION)
    except BinaryError:  # the file ends sooner
        code = elf.read(address, 1)
    code = code.lstrip(_PREFIXES)
    if code[:1] == b"\x8f":
        return len(code) > 1 and code[1] & 0x1F >= 8  # XOP; else pop
    opcode = {0xC5: 2, 0xC4: 3, 0x62: 4}.get(code[0] if code else 0)
    return opcode is not None and len(code) > opcode and code[opcode] in _MISREAD


def _is_trap(elf: Elf, address: int) -> bool:
    """Is the instruction at `address` one that stops the program? The kernel refuses to probe most of them.

    arch/x86/kernel/uprobes.c, good_insns_64. Go's runtime.abort begins with int $3.
    """
    code = elf.read(address, 4 if elf.machine == "arm64" else 1)
    if elf.machine == "arm64":
        word = int.from_bytes(code, "little")
        return word & 0xFFE0001F == 0xD4200000 or word >> 16 == 0  # brk, udf
    return code in (b"\xcc", b"\xcd", b"\xf1", b"\xf4")  # int3, int, int1, hlt
