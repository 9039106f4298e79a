# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that no probe may be placed on: those of arm64, as an assembler writes them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from pyebpf.binary.unfit_arm64 import is_exclusive, why_not

GOOD = """
    nop
    bti c
    bti jc
    paciasp
    xpaclri
    stp x29, x30, [sp, #-16]!
    ldr x16, [x28, #16]
    ldr q0, [x1]
    sub sp, sp, #32
    adrp x0, .
    adr x0, .
    b .
    bl .
    b.eq .
    cbz x0, .
    tbnz x0, #3, .
    br x1
    blr x1
    ret
    mrs x1, tpidr_el0
    dmb ish
    ldadd x0, x1, [x2]
    fmov d0, x1
    ldar x0, [x1]
"""
BAD = """
    autiasp
    ldr x0, .
    ldr w0, .
    ldrsw x0, .
    prfm pldl1keep, .
    ldr s0, .
    ldr d0, .
    ldr q0, .
    ldxr x0, [x1]
    ldaxrb w0, [x1]
    stxr w0, x1, [x2]
    stlxp w0, x1, x2, [x3]
    svc #0
    brk #1
    msr tpidr_el0, x0
    msr DAIFSet, #2
    eret
    retaa
    retab
    braaz x0
    blraa x0, x1
    yield
    wfe
    csdb
    bc.eq .
    cpyfp [x0]!, [x1]!, x2!
    setp [x0]!, x1!, x2
"""


def assembled(folder: Path, lines: str) -> list[int]:
    source, built, code = folder / "source.s", folder / "built.o", folder / "code"
    source.write_text(lines)
    subprocess.run(
        ["clang", "--target=aarch64-linux-gnu", "-march=armv8.8-a+hbc+mops", "-c", source, "-o", built], check=True
    )
    subprocess.run(["llvm-objcopy", "-O", "binary", "--only-section=.text", built, code], check=True)
    return [word for (word,) in struct.iter_unpack("<I", code.read_bytes())]


@pytest.mark.parametrize(("lines", "good"), [(GOOD, True), (BAD, False)])
def test_each(tmp_path: Path, lines: str, good: bool) -> None:
    names = [line.strip() for line in lines.splitlines() if line.strip()]
    words = assembled(tmp_path, lines)
    assert len(words) == len(names)
    assert [name for name, word in zip(names, words) if (why_not(word) is None) != good] == []


@pytest.mark.parametrize(
    ("lines", "inside"),
    [
        ("ldxr x0, [x1]\nadd x0, x0, #1\n", True),
        ("ldaxp x0, x1, [x2]\n", True),
        ("ldxr x0, [x1]\nstxr w2, x0, [x1]\n", False),
        ("ldxr x0, [x1]\nclrex\n", False),
        ("ldxr x0, [x1]\nret\n", False),
        ("ldar x0, [x1]\n", False),
        ("ldxr x0, [x1]\n" + "nop\n" * 16, False),
        ("", False),
    ],
)
def test_between_an_exclusive_load_and_its_store(tmp_path: Path, lines: str, inside: bool) -> None:
    assert is_exclusive(assembled(tmp_path, lines)) == inside
