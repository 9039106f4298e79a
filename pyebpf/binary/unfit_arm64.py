# SPDX-License-Identifier: BSD-2-Clause
"""Instructions of arm64 that Linux refuses to probe, or carries out wrongly under a probe.

What it says yes to (arch/arm64/kernel/probes/decode-insn.c) it copies to another page and steps there; jumps, ``adr``
and ``adrp`` it emulates. It says no only where the file is mapped already, and otherwise leaves it out in silence.

Tried by probes on words of every kind: Debian's 6.1 and 6.12 refuse what is said to be refused here, and loads of
literals to general registers, and take all else. A load of a literal to a vector register then ended the program;
``bc.cond`` went the wrong way on 6.1, and the right one on 6.12. ``cb.cond`` and ``retaasppc``, which the emulated
processor doesn't have, are judged by the manual.
"""

from __future__ import annotations

from collections.abc import Sequence

_REFUSED = "that Linux doesn't probe on arm64"
_BROKEN = "that Linux would carry out wrongly under a probe on arm64"
# Mask, value, why. Numbers: Arm ARM DDI 0487, C4.1.
_KINDS = (
    (0x3F800000, 0x08000000, _REFUSED),  # exclusive loads and stores, compare and swap of pairs
    (0xFF000000, 0xD4000000, _REFUSED),  # exceptions: svc, hvc, smc, brk, hlt
    (0xFFF00000, 0xD5100000, _REFUSED),  # msr, from a register
    (0xFFF8F01F, 0xD500401F, _REFUSED),  # msr, an immediate
    (0xFE000800, 0xD6000800, _REFUSED),  # br, blr, ret and eret with pointer authentication
    (0xFFE00000, 0xD6800000, _REFUSED),  # eret
    (0x3B200C00, 0x19000400, _REFUSED),  # memory copy and set, whose three instructions stay together (since 6.5)
    (0xBF000000, 0x18000000, _BROKEN),  # ldr of a literal: before they were refused, the kernel itself read it
    (0xFF000000, 0x98000000, _REFUSED),  # ldrsw of a literal
    (0xFF000000, 0xD8000000, _REFUSED),  # prfm of a literal
    (0x3F000000, 0x1C000000, _BROKEN),  # ldr of a literal to a vector register: from the other page's surroundings
    (0xFF000010, 0x54000010, _BROKEN),  # bc.cond: jumps from the other page
    (0xFFC0001F, 0x5500001F, _BROKEN),  # retaasppc, retabsppc: authenticated by their own address
    (0x7E000000, 0x74000000, _BROKEN),  # cb.cond: jumps from the other page
)
_HINT, _IS_HINT = 0xFFFFF01F, 0xD503201F
# nop; xpaclri; pacia1716, pacib1716; paciaz, paciasp, pacibz, pacibsp; bti, bti c, bti j, bti jc. Authentication may
# fault: no probe there.
_HINTS = frozenset((0, 7, 8, 10, *range(24, 28), 32, 34, 36, 38))
_ENDS = ((0xFC000000, 0x14000000), (0xFE000000, 0xD6000000), (0xFFFFF0FF, 0xD503305F))  # b; br, ret; clrex
REACH = 16  # instructions; the architecture lets a load and a store wait for each other no longer


def why_not(word: int) -> str | None:
    """Why an instruction takes no probe, or None."""
    if word & _HINT == _IS_HINT:
        return None if word >> 5 & 127 in _HINTS else _REFUSED
    return next((why for mask, value, why in _KINDS if word & mask == value), None)


def is_exclusive(before: Sequence[int]) -> bool:
    """Do the instructions before one begin an exclusive access that isn't ended? A trap there makes it fail each time.

    Args:
        before: in their order; the last is right before.
    """
    for word in reversed(before[-REACH:]):
        if word & 0xBFC00000 == 0x88000000 or word & 0x3FE00000 == 0x08000000:  # stxp; stxr
            return False
        if word & 0xBFC00000 == 0x88400000 or word & 0x3FE00000 == 0x08400000:  # ldxp; ldxr
            return True
        if any(word & mask == value for mask, value in _ENDS):
            return False
    return False
