# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for machine code and unwind tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pyebpf.binary import disasm, switches
from pyebpf.binary.elf import Elf
from pyebpf.binary.exits import exits_of
from pyebpf.binary.unwind import UnwindTable
from pyebpf.errors import BinaryError

from . import made
from .reader import packed, reader, unpacked

_MACHINES = ("x86-64", "arm64")


def _codes() -> Iterator[bytes]:
    for index, compiler in enumerate(("gcc", "aarch64-linux-gnu-gcc")):
        for flags in ("-O2", "-O0", "-O3 -mavx2" if not index else "-O3"):
            program = made.built(made.C, f"{compiler} -nostdlib -ffreestanding {flags} -static -o OUT IN")
            if program:
                yield packed(bytes([index]), made.sections_of(program)[".text"])
    # Prefixes, VEX, EVEX, XOP, three-byte opcodes, jumps
    samples = ["f30f1efac3", "666690c3", "62f17c4810c8c3", "c5f877c3", "c4e2f9f7c0c3", "0f3800c10f3a0fc108c3", "f2c3",
               "e800000000eb00750074fe0f8400000000c20800", "ff2425000000003effe0", "64488b0425f8ffffffc3",
               "f04883042400",
               "8f e9 78 12 c0".replace(" ", ""), "d5 00 b8 01 00 00 00".replace(" ", "")]  # fmt: skip
    for sample in samples:
        yield packed(b"\0", bytes.fromhex(sample))


@reader("binary.disasm binary.switches", _codes, pieces=2,
        words=(b"\xc3", b"\x0f\x38", b"\x0f\x3a", b"\x62", b"\xc4", b"\xc5", b"\x66", b"\xf2", b"\xf3", b"\x48",
               b"\x67",
               b"\xc0\x03\x5f\xd6", b"\xff\x0f\x5f\xd6"))  # fmt: skip
def disasm_(data: bytes) -> None:
    """Machine code: where instructions begin, which return, jump or call, and what jump tables say."""
    which, code = unpacked(data, 2)
    machine = _MACHINES[(which or b"\0")[0] & 1]
    start = made.BASE
    begins: list[int] = []
    flow = []
    try:
        for instruction in disasm.walk(machine, code, start, begins):
            flow.append(instruction)
        whole = disasm.decode(machine, code, start)
        assert sum(one.length for one in whole) == len(code), "instructions leave gaps"
        assert all(0 < one.length <= 15 for one in whole)
        assert disasm.returns(machine, code, start) == [one.address for one in flow if one.kind == disasm.RET]
        assert [one.address for one in whole] == begins
        assert [one for one in whole if one.kind != disasm.OTHER] == flow
    except disasm.DecodeError:
        pass
    for at in (0, 1, len(code) // 2, len(code)):
        disasm.is_boundary(machine, code, start, start + at)
    switches.constants(machine, code, start)
    for instruction in flow[:50]:
        raw = code[instruction.address - start :][: instruction.length]
        for ask in (switches.is_nop, switches.is_plain_return, switches.is_plain_jump):
            ask(machine, raw)
        switches.releases_frame(machine, [raw])


def _tables() -> Iterator[bytes]:
    for compiler in ("g++", "aarch64-linux-gnu-g++"):
        for flags in ("-O2", "-O0 -g"):
            program = made.built(made.CPP, f"{compiler} -shared -fPIC -nostdlib {flags} -o OUT IN", ".cpp")
            if program:
                sections = made.sections_of(program)
                index = int(compiler != "g++")
                yield packed(bytes([index]), sections.get(".eh_frame", b""), sections.get(".gcc_except_table", b""),
                             sections[".text"][:4096], b"\0")  # fmt: skip
    cie = struct.pack("<II", 20, 0) + b"\1zPLR\0\1\x78\x10\7\0" + bytes(9)
    yield packed(b"\0", cie, b"\xff\xff\1\4\0\4\1\0", b"\xc3" * 64, b"\1")


def _file(data: bytes) -> tuple[Elf, int, bytes]:
    which, frames, pads, code, how = unpacked(data, 5)
    with_header = how[:1] == b"\1"
    sections = [(".text", 1, 6, code), (".eh_frame", 1, 2, frames), (".gcc_except_table", 1, 2, pads)]
    headers = []
    if with_header:  # the rest of the piece is the header's table
        count = len(how[1:]) // 8
        sections.append((".eh_frame_hdr", 1, 2, struct.pack("<BBBBiI", 1, 0x1B, 3, 0x3B, 0, count) + how[1:]))
        headers.append((0x6474E550, ".eh_frame_hdr"))
    image = made.elf(sections, machine=made.ARM if (which or b"\0")[0] & 1 else made.X86, headers=headers)
    return Elf(image, "fuzzed"), made.address_of(image, ".text"), code


@reader("binary.unwind binary.cfi", _tables, pieces=5)
def unwind(data: bytes) -> None:
    """``.eh_frame``, its header, call frame instructions, and C++'s exception tables."""
    one, start, code = _file(data)
    table = UnwindTable.of(one)
    if table is None:
        return
    for address in (start, start + 1, start + len(code) // 2, start + max(len(code) - 1, 0), 0, (1 << 64) - 1):
        fde = table.fde_at(address)
        table.rule_at(address)
        table.stack_offset(address)
        if fde is not None:
            assert fde.start <= address < fde.end
            table.landmarks(fde)
            try:
                table.landing_pads(fde)
            except BinaryError:
                pass


def _proofs() -> Iterator[bytes]:
    yield from _tables()
    for index, compiler in enumerate(("gcc", "aarch64-linux-gnu-gcc")):
        for flags in ("-O2 -fno-jump-tables", "-O1", "-Os", "-O2 -fPIC"):
            program = made.built(made.C, f"{compiler} -nostdlib -ffreestanding -static {flags} -o OUT IN")
            if program:
                sections = made.sections_of(program)
                yield packed(bytes([index]), sections[".eh_frame"], b"", sections[".text"], b"\0")


@reader("binary.exits binary.switches binary.unwind", _proofs, pieces=5)
def exits(data: bytes) -> None:
    """The proof where a function returns, on any code with any unwind table."""
    one, start, code = _file(data)
    table = UnwindTable.of(one)
    half = len(code) // 2
    places = [(start, len(code)), (start + half, len(code) - half)]
    if table is not None:
        at = start
        for _ in range(8):
            fde = table.fde_at(at)
            if fde is None or fde.end <= at:
                break
            places.append((fde.start, fde.end - fde.start))
            at = fde.end
    for address, size in places:
        found = exits_of(one, table, address, size, ((start + half, 16), (start + 1, 0)))
        assert found.reason is None or found.returns == () or found.tail_targets
        assert list(found.returns) == sorted(found.returns)
