# SPDX-License-Identifier: BSD-2-Clause
"""ELF headers, segments and sections: against readelf on real files, and against damaged ones."""

from __future__ import annotations

import contextlib
import os
import random
import re
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from pyebpf.binary.elf import ET_DYN, ET_EXEC, PF_X, PT_LOAD, SHF_COMPRESSED, Elf
from pyebpf.binary.symbols import SymbolTable
from pyebpf.errors import BinaryError, Error, PermissionDenied, TargetNotFound

LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
REAL = ["/usr/bin/node", "/bin/bash", LIBC, "/usr/local/go/bin/go", "/lib64/ld-linux-x86-64.so.2"]
SOURCE = """
#include <stdio.h>
static int helper(int x) { return x * 3; }
int work(int x) { return helper(x) + 1; }
int main(int argc, char **argv) { printf("%d\\n", work(argc)); return 0; }
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(directory: Path, name: str, *flags: str, compiler: str = "gcc") -> str:
    source = directory / "program.c"
    source.write_text(SOURCE)
    path = str(directory / name)
    run(compiler, "-O1", "-o", path, str(source), *flags)
    return path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf")


@pytest.fixture(scope="module")
def pie(programs: Path) -> str:
    return build(programs, "pie", "-pie", "-fPIE", "-Wl,--build-id")


@pytest.mark.parametrize("path", REAL)
def test_headers_agree_with_readelf(path: str) -> None:
    with Elf.open(path) as elf:
        assert elf.machine == "x86-64"
        assert elf.notes == []
        loads = re.findall(r"^  LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) 0x(\w+) (...)", run("readelf", "-lW", path), re.M)
        expected = [(*(int(field, 16) for field in load[:4]), "E" in load[4]) for load in loads]
        ours = [(s.offset, s.vaddr, s.filesz, s.memsz, bool(s.flags & PF_X)) for s in elf.segments if s.type == PT_LOAD]
        assert ours == expected
        rows = re.findall(r"^  \[ *\d+\] (\S*) +[A-Z_0-9]+ +(\w{16}) (\w+) (\w+) ", run("readelf", "-SW", path), re.M)
        assert len(rows) == len(elf.sections)
        for section, (name, address, offset, size) in zip(elf.sections, rows):
            assert (section.addr, section.offset, section.size) == (int(address, 16), int(offset, 16), int(size, 16))
            assert section.name == name
        identifier = re.search(r"Build ID: (\w+)", run("readelf", "-nW", path))
        assert elf.build_id == (identifier and identifier[1])


def test_kinds_of_program(programs: Path, pie: str) -> None:
    static = build(programs, "static", "-static")
    fixed = build(programs, "fixed", "-no-pie")
    shared = build(programs, "shared.so", "-shared", "-fPIC")
    expected = {static: (ET_EXEC, False), fixed: (ET_EXEC, True), pie: (ET_DYN, True), shared: (ET_DYN, False)}
    for path, (kind, interpreted) in expected.items():
        with Elf.open(path) as elf:
            assert elf.type == kind
            assert (elf.interpreter == "/lib64/ld-linux-x86-64.so.2") is interpreted
            assert elf.interpreter is None or interpreted


def test_arm64(programs: Path) -> None:
    """No such file is at hand: a header of ours with one segment."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 183, 1, 0x400000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", PT_LOAD, PF_X, 0, 0x400000, 0x400000, 120, 120, 0x10000)
    elf = Elf(header + segment, "ours")
    assert elf.machine == "arm64"
    assert elf.offset_of(0x400010) == 16
    assert elf.is_executable(0x400077)
    assert not elf.is_executable(0x400078)


def test_addresses_and_offsets(programs: Path) -> None:
    with Elf.open(build(programs, "addresses", "-no-pie")) as elf:
        for segment in elf.segments:
            if segment.type == PT_LOAD:
                for at in (0, segment.filesz - 1):
                    assert elf.offset_of(segment.vaddr + at) == segment.offset + at
                    assert elf.is_executable(segment.vaddr + at) == bool(segment.flags & PF_X)
        text = elf.section(".text")
        assert text is not None
        assert elf.vaddr_of(text.offset) == text.addr
        assert elf.read(text.addr, text.size) == bytes(elf.contents(text))
        bss = elf.section(".bss")
        assert bss is not None and bytes(elf.contents(bss)) == b""
        last = max(s.vaddr + s.filesz for s in elf.segments if s.type == PT_LOAD)
        for address in (0, last, 1 << 63, -1):
            with pytest.raises(BinaryError, match="loaded part"):
                elf.offset_of(address)
        for address, size in ((last - 4, 5), (text.addr, -1), (text.addr, 1 << 62)):
            with pytest.raises(BinaryError, match="loaded part"):
                elf.read(address, size)
        assert elf.vaddr_of(elf.size + 1) is None
        assert elf.vaddr_of(elf.size - 1) is None


def test_executable_mapping_preferred() -> None:
    """One page of the file is often loaded twice: as the end of the code and as the beginning of the data."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    data = struct.pack("<IIQQQQQQ", PT_LOAD, 4, 0, 0x1000, 0, 176, 176, 0x1000)
    code = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0x9000, 0, 176, 176, 0x1000)
    assert Elf(header + data + code, "ours").vaddr_of(5) == 0x9005


def test_compressed_section(programs: Path, pie: str) -> None:
    plain, packed = str(programs / "plain"), str(programs / "packed")
    build(programs, "plain", "-g")
    run("objcopy", "--compress-debug-sections=zlib-gabi", plain, packed)
    with Elf.open(plain) as one, Elf.open(packed) as other:
        a, b = one.section(".debug_info"), other.section(".debug_info")
        assert a is not None and b is not None and b.flags & SHF_COMPRESSED
        assert bytes(one.contents(a)) == bytes(other.contents(b))


@pytest.mark.parametrize(
    ("method", "size", "payload", "message"),
    [
        (1, 1 << 40, zlib.compress(bytes(1 << 20)), "at most"),
        (1, 100, zlib.compress(bytes(50)), "holds 50 bytes instead of 100"),
        (1, 100, b"rubbish", "compressed section"),
        (2, 100, b"", "only zlib"),
    ],
)
def test_compressed_section_that_lies(pie: str, method: int, size: int, payload: bytes, message: str) -> None:
    with Elf.open(pie) as elf:
        data = elf.data[:] + struct.pack("<IIQQ", method, 0, size, 1) + payload
        section = elf.sections[1]._replace(offset=elf.size, size=24 + len(payload), flags=SHF_COMPRESSED)
    with pytest.raises(BinaryError, match=message):
        Elf(data, "lies").contents(section)
    with pytest.raises(BinaryError, match="truncated"):
        Elf(data, "lies").contents(section._replace(size=10))


def test_compression_bomb_is_not_inflated(pie: str) -> None:
    """What unpacks to more than it says is cut there."""
    with Elf.open(pie) as elf:
        data = elf.data[:] + struct.pack("<IIQQ", 1, 0, 16, 1) + zlib.compress(bytes(10 << 20))
        section = elf.sections[1]._replace(offset=elf.size, size=len(data) - elf.size, flags=SHF_COMPRESSED)
    assert bytes(Elf(data, "bomb").contents(section)) == bytes(16)


def test_identity_changes_with_the_file(programs: Path) -> None:
    path = build(programs, "identity")
    with Elf.open(path) as one, Elf.open(path) as two:
        assert one.identity == two.identity
    os.utime(path, ns=(1, 1))
    with Elf.open(path) as three:
        assert three.identity != one.identity
        assert three.identity[:2] == (os.stat(path).st_dev, os.stat(path).st_ino)


def test_close_with_views_held(pie: str) -> None:
    elf = Elf.open(pie)
    view = elf.contents(elf.sections[1])
    elf.close()
    elf.close()
    assert bytes(view).startswith(b"/lib64/ld-linux")


def test_files_that_are_not_programs(programs: Path, tmp_path: Path) -> None:
    object_file = str(tmp_path / "o.o")
    run("gcc", "-c", "-o", object_file, "-xc", "/dev/null")
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    empty = tmp_path / "empty"
    empty.touch()
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n" * 50)
    cases = {
        object_file: "isn't linked yet",
        fifo: "not a regular file",
        str(empty): "empty",
        str(text): "not an ELF file",
        str(tmp_path): "is a directory",
        "/dev/null": "not a regular file",
        "/proc/self/maps": "empty",
        "a\0b": "can't be opened",
        "/" + "x" * 5000: "can't be opened",
    }
    for path, message in cases.items():
        with pytest.raises(BinaryError, match=message):
            Elf.open(path)
    for path in (str(tmp_path / "none"), str(text) + "/none"):
        with pytest.raises(TargetNotFound, match="no such file"):
            Elf.open(path)


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionDenied, match="may not be read"):
        Elf.open("/bin/bash")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, b"\1", "32-bit"),
        (5, b"\2", "big-endian"),
        (18, b"\x28\0", "program for arm;"),
        (18, b"\xff\xff", "program for machine 65535"),
        (16, b"\4\0", "core dump"),
        (16, b"\x09\xfe", "type 65033"),
        (54, b"\x20\0", "program headers of 32 bytes"),
        (56, b"\xff\xff", "65535 program headers"),
        (56, b"\0\0", "nothing in it is loaded"),
        (32, b"\xff" * 8, "truncated"),
    ],
)
def test_header_says(pie: str, at: int, value: bytes, message: str) -> None:
    data = bytearray(Path(pie).read_bytes())
    data[at : at + len(value)] = value
    with pytest.raises(BinaryError, match=message):
        Elf(bytes(data), "changed")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (40, b"\xff" * 8, "past the end"),
        (58, b"\x20\0", "unknown size"),
        (60, b"\xff\xfe", "doesn't fit"),
        (62, b"\x70\0", "names are missing"),
    ],
)
def test_broken_section_table_is_passed_over(pie: str, at: int, value: bytes, message: str) -> None:
    data = bytearray(Path(pie).read_bytes())
    data[at : at + len(value)] = value
    elf = Elf(bytes(data), "changed")
    assert elf.sections == ()
    assert len(elf.notes) == 1 and message in elf.notes[0]
    assert elf.build_id is not None  # from the PT_NOTE segment


def test_overlapping_segments() -> None:
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0x1000, 0, 176, 176, 0x1000)
    with pytest.raises(BinaryError, match="overlap"):
        Elf(header + segment + segment, "ours")
    backwards = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0xFFFFFFFFFFFFFFF0, 0, 176, 176, 0x1000)
    with pytest.raises(BinaryError, match="impossible size"):
        Elf(header + segment + backwards, "ours")


def exercise(data: bytes) -> None:
    """Ask a file everything; nothing but pyebpf's own errors may come of it."""
    try:
        elf = Elf(data, "damaged")
    except Error:
        return
    for ask in (
        lambda: elf.build_id,
        lambda: elf.interpreter,
        lambda: elf.debuglink,
        lambda: elf.offset_of(elf.entry),
        lambda: elf.vaddr_of(0x1000),
        lambda: elf.read(elf.entry, 64),
        lambda: [elf.contents(section) for section in elf.sections],
        lambda: exercise_symbols(elf),
    ):
        with contextlib.suppress(Error):
            ask()


def exercise_symbols(elf: Elf) -> None:
    symbols = SymbolTable(elf, "/nonexistent")
    found = list(symbols.search())
    list(symbols.search(re.compile("w").match, (b"wor",), ("w", "")))
    symbols.named("main")
    symbols.at(elf.entry)
    symbols.at_addresses({elf.entry})
    symbols.cold_parts(["main"])
    symbols.resembling("wrok")
    symbols.imported()
    assert all(elf.is_executable(symbol.address) for symbol in found)
    assert symbols.notes is not None


def test_truncated_anywhere(pie: str) -> None:
    data = Path(pie).read_bytes()
    for length in [*range(0, 1024, 16), *range(1024, len(data), 61)]:
        exercise(data[:length])


def headers_of(path: str) -> list[int]:
    """Positions of the bytes that say where things are: headers, dynamic section, notes, symbols, hash table."""
    with Elf.open(path) as elf:
        table = int.from_bytes(elf.data[40:48], "little")
        places = list(range(64 + 56 * len(elf.segments)))
        places += range(table, table + 64 * len(elf.sections))
        for name in (".dynamic", ".dynsym", ".symtab", ".gnu.hash", ".note.gnu.build-id", ".gnu_debugdata"):
            section = elf.section(name)
            if section is not None:
                places += range(section.offset, section.offset + section.size)
    return places


@pytest.mark.parametrize("sections", [True, False])
def test_damaged_anywhere(pie: str, sections: bool) -> None:
    rng = random.Random(20240607)
    original = bytearray(Path(pie).read_bytes())
    places = headers_of(pie)
    if not sections:
        original[40:48] = bytes(8)
        original[60:62] = bytes(2)
    for _ in range(1000):
        data = original[:]
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.choice(places)
            if rng.random() < 0.5:
                data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, data[place] ^ 1 << rng.randrange(8)))
            else:
                place &= ~7
                data[place : place + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(data))))
        exercise(bytes(data))
