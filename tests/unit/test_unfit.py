# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that no probe may be placed on; those of arm64 as an assembler writes them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import cast

import pytest

from pyebpf.binary.elf import Elf
from pyebpf.binary.unfit import is_long_nop, plainly_fit, unfit
from pyebpf.binary.unfit_arm64 import is_exclusive, why_not
from pyebpf.errors import BinaryError

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


class Bytes:
    """Code that is a whole file, loaded at address 0."""

    machine = "x86-64"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, address: int, size: int) -> bytes:
        if address + size > len(self.data):
            raise BinaryError("the file ends sooner")
        return self.data[address : address + size]


def test_what_is_plainly_fit_is_fit() -> None:
    tails = (b"", b"\x90", b"\x40\x00\x90", b"\x44\x00\x90\xcc", b"\x1e\xfa", b"\x90\x78\xeb\xff" * 3)
    plain = 0
    for first in range(256):
        for second in (b"", *(bytes((one,)) for one in b"\x00\x0f\x1e\x1f\x66\x8f\x90\x91\xe2\xf8\xff")):
            for tail in tails:
                elf = cast(Elf, Bytes(bytes((first,)) + second + tail))
                if plainly_fit(elf, 0):
                    plain += 1
                    assert unfit(elf, 0) is None, elf.data
                    assert not is_long_nop(elf, 0), elf.data
    assert plain > 10_000


def test_what_functions_begin_with_is_plainly_fit() -> None:
    for code in (b"\xf3\x0f\x1e\xfa", b"\x55\x48\x89\xe5", b"\x41\x57", b"\x49\x3b\x66\x10", b"\xc3"):
        assert plainly_fit(cast(Elf, Bytes(code)), 0)
    for code in (b"", b"\x49\x90", b"\xcc\xc3", b"\xc4\xe2\x7d\x78\xc0", b"\x0f\x1f\x44\0\0"):
        assert not plainly_fit(cast(Elf, Bytes(code)), 0)
