# SPDX-License-Identifier: BSD-2-Clause
"""Unwind tables, against readelf's reading of the same files."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from pyebpf.binary.elf import Elf
from pyebpf.binary.unwind import UnwindTable
from pyebpf.errors import BinaryError

REGISTERS = {"rsp": 7, "rbp": 6, "r10": 10, "rbx": 3, "rdi": 5, "rdx": 1}
LIBC = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libc.so.6" in line)


def build(folder: Path, source: str, *options: str, name: str = "a.so", suffix: str = ".S") -> str:
    path = folder / f"source{suffix}"
    path.write_text(source)
    out = folder / name
    subprocess.run(
        ["g++" if suffix == ".cc" else "gcc", "-shared", "-fPIC", "-nostdlib", *options, str(path), "-o", str(out)],
        check=True,
    )
    return str(out)


def symbols(path: str) -> dict[str, int]:
    lines = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout.splitlines()
    return {fields[-1]: int(fields[0], 16) for fields in map(str.split, lines) if len(fields) == 3}


def rows(path: str) -> list[tuple[int, int, list[tuple[int, str, str]]]]:
    """(start, end, [(address, CFA, return address)]) of each FDE, as readelf prints them."""
    # Not checked: it says 1 for libc, because of something else in there.
    text = subprocess.run(["readelf", "-wF", path], check=False, capture_output=True, text=True).stdout
    found: list[tuple[int, int, list[tuple[int, str, str]]]] = []
    for block in text.split("\n\n"):
        head = re.search(r"FDE cie=\w+ pc=(\w+)\.\.(\w+)", block)
        if head:
            lines = [line.split() for line in block.splitlines() if re.match(r"[0-9a-f]{16} (?!\w{16})\S+ ", line)]
            columns = next((line.split() for line in block.splitlines() if line.split()[:1] == ["LOC"]), [])
            ra = columns.index("ra") if "ra" in columns else -1
            table = [(int(line[0], 16), line[1], line[ra] if "(" not in " ".join(line) else "?") for line in lines]
            found.append((int(head[1], 16), int(head[2], 16), table))
    return found


@pytest.mark.parametrize("path", [LIBC, "/bin/bash", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6"])
def test_agrees_with_readelf(path: str) -> None:
    with Elf.open(path) as elf:
        table = UnwindTable.of(elf)
        assert table is not None
        compared = 0
        for start, end, expected in rows(path):
            if start == end:
                continue
            fde = table.fde_at(start)
            assert fde is not None and (fde.start, fde.end) == (start, end)
            assert table.fde_at(end - 1) == fde
            for address, cfa, ra in expected:
                register, _, offset = cfa.partition("+")
                rule = table.rule_at(address)
                if register == "exp":
                    assert rule is None
                elif ra == "c-8":
                    assert rule == (REGISTERS[register], int(offset)), hex(address)
                    assert table.stack_offset(address) == (int(offset) if register == "rsp" else None)
                    compared += 1
        assert compared > 5000


def test_addresses_without_a_record() -> None:
    with Elf.open(LIBC) as elf:
        table = UnwindTable.of(elf)
        assert table is not None
        for address in (0, 1, elf.section(".rodata").addr, 1 << 40, 1 << 63, (1 << 64) - 1):  # type: ignore[union-attr]
            assert table.fde_at(address) is None
            assert table.rule_at(address) is None
            assert table.stack_offset(address) is None


def test_same_without_header(tmp_path: Path) -> None:
    """Linked without .eh_frame_hdr, the table is found by reading it from its beginning."""
    source = "extern int g(int); int f(int a) { return g(a) + 1; } int h(int a) { return g(f(a)) * 2; }"
    path = build(tmp_path, source, "-O2", "-Wl,--no-eh-frame-hdr", suffix=".c")
    with Elf.open(path) as elf:
        assert elf.section(".eh_frame_hdr") is None
        table = UnwindTable.of(elf)
        assert table is not None
        for start, end, expected in rows(path):
            fde = table.fde_at(start)
            assert fde is not None and (fde.start, fde.end) == (start, end)
            for address, cfa, _ in expected:
                if cfa.startswith("rsp+"):
                    assert table.stack_offset(address) == int(cfa[4:])


def test_no_table(tmp_path: Path) -> None:
    path = build(tmp_path, "int f(int a) { return a + 1; }", "-fno-asynchronous-unwind-tables", suffix=".c")
    with Elf.open(path) as elf:
        assert UnwindTable.of(elf) is None


# Each instruction is one byte long, so f+n is the n-th.
ASSEMBLY = r"""
.text
.macro function name
.globl \name
.type \name, @function
\name:
.cfi_startproc
.endm
.macro end name
ret
.cfi_endproc
.size \name, .-\name
.endm

function remembers
nop
.cfi_remember_state
.cfi_def_cfa_offset 64
nop
.cfi_remember_state
.cfi_def_cfa rbp, 16
nop
.cfi_restore_state
nop
.cfi_restore_state
nop
end remembers

function registers
nop
.cfi_offset rbx, -24
.cfi_offset xmm9, -32
nop
.cfi_def_cfa_register rbp
.cfi_undefined rbx
.cfi_same_value r12
.cfi_register rbx, r13
nop
.cfi_restore rbx
.cfi_def_cfa_register rsp
.cfi_adjust_cfa_offset 8
.cfi_escape 0x2e, 0x10
.cfi_window_save
.cfi_val_offset r14, 16
nop
.cfi_escape 0x13, 0x7c
nop
end registers

function expressions
nop
.cfi_escape 0x10, 3, 2, 0x77, 0x10
.cfi_escape 0x16, 6, 2, 0x77, 0x10
nop
.cfi_escape 0x0f, 3, 0x77, 0x08, 0x06
nop
.cfi_def_cfa rsp, 32
nop
end expressions

function moves_return_address
nop
.cfi_register rip, rdi
nop
.cfi_offset rip, -8
nop
.cfi_undefined rip
nop
.cfi_restore rip
nop
.cfi_offset rip, -16
nop
end moves_return_address

.globl signal
.type signal, @function
signal:
.cfi_startproc
.cfi_signal_frame
nop
end signal

function unknown_opcode
nop
.cfi_escape 0x3f
end unknown_opcode

function unbalanced
nop
.cfi_escape 0x0b
end unbalanced

function leaves
nop
.cfi_escape 0x04, 0, 0, 0, 0x7f
end leaves

function long
nop
.skip 300, 0x90
.cfi_def_cfa_offset 24
nop
.skip 70000, 0x90
.cfi_def_cfa_offset 40
nop
end long
"""


def test_instructions(tmp_path: Path) -> None:
    path = build(tmp_path, ASSEMBLY)
    at = symbols(path)
    with Elf.open(path) as elf:
        table = UnwindTable.of(elf)
        assert table is not None

        def rules(name: str, count: int) -> list[tuple[int, int] | None]:
            return [table.rule_at(at[name] + n) for n in range(count)]

        sp = (7, 8)
        assert rules("remembers", 6) == [sp, (7, 64), (6, 16), (7, 64), sp, sp]
        assert rules("registers", 6) == [sp, sp, (6, 8), (7, 16), (7, 32), (7, 32)]
        assert rules("expressions", 5) == [sp, sp, None, (7, 32), (7, 32)]
        assert rules("moves_return_address", 7) == [sp, None, sp, None, sp, None, None]
        assert rules("signal", 2) == [None, None]
        for name in ("unknown_opcode", "unbalanced", "leaves"):
            assert rules(name, 2) == [None, None], name
            fde = table.fde_at(at[name])
            assert fde is not None and fde.start == at[name] and table.landmarks(fde) == []
        assert table.stack_offset(at["long"] + 300) == 8
        assert table.stack_offset(at["long"] + 301) == 24
        assert table.stack_offset(at["long"] + 70301) == 24
        assert table.stack_offset(at["long"] + 70302) == 40
        fde = table.fde_at(at["long"])
        assert fde is not None and table.landmarks(fde)[-1] == at["long"] + 70302


CATCHES = """
void callee(int);
extern "C" int catches(int a) {
    try { callee(a); } catch (int e) { return e; }
    try { callee(a + 1); } catch (long e) { return (int)e; }
    return 7;
}
extern "C" int plain(int a) { return a + 1; }
"""


@pytest.mark.parametrize("options", [("-O0",), ("-O2",), ("-O2", "-mcmodel=large")])
def test_landing_pads(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = build(tmp_path, CATCHES, *options, suffix=".cc")
    at = symbols(path)
    with Elf.open(path) as elf:
        table = UnwindTable.of(elf)
        assert table is not None
        fde = table.fde_at(at["catches"])
        assert fde is not None
        pads = table.landing_pads(fde)
        parts = [fde] + [moved for moved in [table.fde_at(at.get("catches.cold", 0))] if moved is not None]
        assert len(pads) >= 2
        for pad in pads:
            assert fde.start <= pad.start < pad.end <= fde.end
            assert any(part.start <= pad.address < part.end for part in parts)
        plain = table.fde_at(at["plain"])
        assert plain is not None and table.landing_pads(plain) == []


def survive(table: UnwindTable, addresses: list[int]) -> None:
    """Everything answers; only landing_pads may say that it can't."""
    for address in addresses:
        table.stack_offset(address)
        fde = table.fde_at(address)
        if fde is not None:
            assert fde.start <= address < fde.end
            table.landmarks(fde)
            try:
                table.landing_pads(fde)
            except BinaryError:
                pass


@pytest.mark.parametrize("seed", range(4))
def test_hostile_tables(tmp_path: Path, seed: int) -> None:
    path = build(tmp_path, CATCHES, "-O2", suffix=".cc")
    with Elf.open(path) as elf:
        original = bytes(elf.data)
        names = (".eh_frame_hdr", ".eh_frame", ".gcc_except_table")
        sections = [section for section in map(elf.section, names) if section is not None]
        addresses = [start + n for start, end, _ in rows(path) for n in (0, 1, (end - start) // 2, end - start)]
    assert len(sections) == 3
    dice = random.Random(seed)
    for round_ in range(300):
        data = bytearray(original)
        section = sections[round_ % 3]
        for _ in range(dice.randrange(1, 8)):
            where = section.offset + dice.randrange(section.size)
            data[where] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        if round_ % 7 == 0:
            data[section.offset + dice.randrange(section.size) : section.offset + section.size] = b"\xff" * 8
        broken = tmp_path / "broken.so"
        broken.write_bytes(data)
        try:
            with Elf.open(str(broken)) as elf:
                table = UnwindTable.of(elf)
                if table is not None:
                    survive(table, addresses)
        except BinaryError:
            pass  # the ELF reader's to say


def test_hostile_header_sizes(tmp_path: Path) -> None:
    """Counts and lengths that lead past the file, and records that are longer than anything."""
    path = build(tmp_path, CATCHES, "-O2", suffix=".cc")
    with Elf.open(path) as elf:
        original = bytes(elf.data)
        header, frame = elf.section(".eh_frame_hdr"), elf.section(".eh_frame")
        assert header is not None and frame is not None
        addresses = [start for start, _, _ in rows(path)]
    for offset, value in (
        (header.offset + 8, 0xFFFFFFFF),
        (header.offset + 8, 0x10000000),
        (header.offset + 8, 0),
        (header.offset, 0xFFFFFFFF),
        (frame.offset, 0xFFFFFFFF),
        (frame.offset, 0x7FFFFFFF),
        (frame.offset, 0),
        (frame.offset + 4, 0xFFFFFFFF),
    ):
        data = bytearray(original)
        data[offset : offset + 4] = value.to_bytes(4, "little")
        broken = tmp_path / "broken.so"
        broken.write_bytes(data)
        with Elf.open(str(broken)) as elf:
            table = UnwindTable.of(elf)
            if table is not None:
                survive(table, addresses)
