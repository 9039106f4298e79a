# SPDX-License-Identifier: BSD-2-Clause
"""Debug information that is damaged, or made to harm: reading it ends, soon, with an answer or a BinaryError."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyebpf.binary import types as t
from pyebpf.binary.dwarf import Dwarf
from pyebpf.binary.elf import Elf
from pyebpf.errors import BinaryError

SOURCE = r"""
#include <string>
#include <vector>
struct Node { int a : 3; union { int i; float f; }; Node *next; std::string name; short rows[2][3]; };
enum class Mode { Off, On };
__attribute__((noinline)) int work(int n, Node &node, Mode m, std::vector<int> v, double d)
{ return n + node.a + (int)m + (int)v.size() + (int)d; }
int main(int argc, char **) { Node node{}; return work(argc, node, Mode::On, {1}, 2.0); }
"""


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5", "clang"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "a.cpp").write_text(SOURCE)
    flags = ["clang++", "-gdwarf-5"] if request.param == "clang" else ["g++", request.param]
    subprocess.run([*flags, "-O2", "-std=c++17", "-o", "a", "a.cpp"], check=True, cwd=folder)
    lines = subprocess.run(["nm", folder / "a"], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = [int(line.split()[0], 16) for line in lines if line.split()[-2] in "tTW" and len(line.split()) == 3]
    return (folder / "a").read_bytes(), addresses


def exercise(data: bytes, addresses: Sequence[int]) -> int:
    """Asks everything there is to ask; returns the number of functions described."""
    try:
        dwarf = Dwarf.of(Elf(data, "damaged"), "/nonexistent")
    except BinaryError:
        return 0
    if isinstance(dwarf, str):
        return 0
    described = 0
    for address in addresses:
        try:
            found = dwarf.subprogram(address)
            if found is None:
                continue
            described += 1
            results = [found.result] if found.result else []
            assert found.captures == () or found.captures
        except BinaryError:
            continue
        for formal in found.formals:
            for pc in (address, address + 4):
                assert formal.location(pc).pieces
        explore([*(formal.type for formal in found.formals), *results])
    return described


def explore(types: list[t.Type]) -> None:
    for _ in range(200):
        if not types:
            return
        one = types.pop()
        assert one.size >= 0 and one.align >= 1 and isinstance(one.name, str)
        if one.target is not None:
            types.append(one.target)
        types += [member.type for member in one.members]
        types += [variant.member.type for variant in one.variants]


def test_damage(program: tuple[bytes, list[int]]) -> None:
    whole, addresses = program
    assert exercise(whole, addresses) >= 2
    sections = [
        section for section in Elf(whole, "whole").sections if section.name.startswith(".debug") and section.size
    ]
    assert len(sections) >= 5
    chance = random.Random(20)
    for section in sections:
        for round_ in range(30):
            data = bytearray(whole)
            for _ in range(chance.choice((1, 4, 40, 400))):
                position = section.offset + chance.randrange(section.size)
                data[position] = chance.choice((0, 0x7F, 0x80, 0xFF, data[position] ^ 1 << chance.randrange(8)))
            if round_ % 6 == 0:
                start = chance.randrange(section.size)
                data[section.offset + start : section.offset + section.size] = bytes(
                    [chance.choice((0, 0x80, 0xFF))]
                ) * (section.size - start)
            exercise(bytes(data), addresses)


def test_truncation(program: tuple[bytes, list[int]]) -> None:
    """A section that ends too early: its header says so, as those of a truncated file may not be found at all."""
    whole, addresses = program
    elf = Elf(whole, "whole")
    shoff = int.from_bytes(whole[0x28:0x30], "little")
    for index, section in enumerate(elf.sections):
        if section.name.startswith(".debug"):
            for size in (1, 7, section.size // 3, section.size - 1):
                data = bytearray(whole)
                struct.pack_into("<Q", data, shoff + index * 64 + 32, size)
                exercise(bytes(data), addresses)
    for size in range(64, len(whole), len(whole) // 20):
        try:
            exercise(whole[:size], addresses)
        except BinaryError:
            pass


# -- made by hand

CODE = 0x1000
ABBREVIATIONS = bytes([
    1, 0x11, 1, 0x13, 0x0B, 0x11, 0x01, 0x12, 0x06, 0, 0,  # unit: language, low_pc, high_pc
    2, 0x2E, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0x40, 0x18, 0, 0,  # function: name, low_pc, high_pc, frame_base
    3, 0x05, 0, 0x03, 0x08, 0x49, 0x13, 0x02, 0x18, 0, 0,  # parameter: name, type, location
    4, 0x13, 1, 0x03, 0x08, 0x0B, 0x0B, 0, 0,  # structure: name, size
    5, 0x0D, 0, 0x03, 0x08, 0x49, 0x13, 0x38, 0x0B, 0, 0,  # member: name, type, offset
    6, 0x16, 0, 0x03, 0x08, 0x49, 0x13, 0, 0,  # typedef: name, type
    7, 0x0F, 0, 0x49, 0x13, 0, 0,  # pointer: type
    8, 0x2E, 0, 0x31, 0x13, 0x11, 0x01, 0x12, 0x06, 0, 0,  # instance: origin, low_pc, high_pc
    9, 0x2E, 1, 0x01, 0x13, 0x11, 0x01, 0x12, 0x06, 0, 0,  # function: sibling, low_pc, high_pc
    10, 0x15, 1, 0x49, 0x13, 0, 0,  # type of functions: type
    11, 0x05, 0, 0x49, 0x13, 0, 0,  # parameter: type
    0,
])  # fmt: skip
HEADER = 11  # bytes of a unit's header
FIRST = HEADER + 14  # where its second entry is


def made(entries: bytes, version: int = 4) -> Dwarf | str:
    """Debug information of one unit with ``entries``."""
    top = bytes([1, 0x0C]) + struct.pack("<QI", CODE, 0x1000)
    body = struct.pack("<HIB", version, 0, 8) + top + entries + b"\0"
    info = struct.pack("<I", len(body)) + body
    names = b"\0.debug_info\0.debug_abbrev\0.shstrtab\0"
    contents = [b"", info, ABBREVIATIONS, names]
    offset, places = 64, []
    for content in contents:
        places.append(offset)
        offset += len(content)
    headers = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, place, len(content), 0, 0, 1, 0)
        for name, kind, place, content in zip((0, 1, 13, 27), (0, 1, 1, 3), places, contents)
    )
    elf = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 0, offset, 0, 64, 56, 0, 64, 4, 3)
    return Dwarf.of(Elf(elf + b"".join(contents) + headers, "made", symbols_only=True), "/nonexistent")


def function(parameter_type: int, location: bytes = b"\x55", frame_base: bytes = b"\x9c") -> bytes:
    head = b"\2f\0" + struct.pack("<QI", CODE, 16) + bytes([len(frame_base)]) + frame_base
    size = bytes([len(location) & 0x7F | 0x80, len(location) >> 7])
    return head + b"\3p\0" + struct.pack("<I", parameter_type) + size + location + b"\0"


def parameter(dwarf: Dwarf | str) -> t.Type:
    assert isinstance(dwarf, Dwarf), dwarf
    found = dwarf.subprogram(CODE)
    assert found is not None
    return found.formals[0].type


SIZE = len(function(0))


def test_structure_that_contains_itself() -> None:
    where = FIRST + SIZE
    kind = parameter(made(function(where) + b"\4S\0\x08" + b"\5m\0" + struct.pack("<I", where) + b"\0" + b"\0"))
    assert (kind.kind, kind.name) == (t.STRUCT, "struct S")
    assert [member.type.kind for member in kind.members] == [t.UNKNOWN]


def test_typedef_of_itself() -> None:
    where = FIRST + SIZE
    assert parameter(made(function(where) + b"\6T\0" + struct.pack("<I", where))).kind == t.UNKNOWN


def test_pointer_to_itself() -> None:
    where = FIRST + SIZE
    kind = parameter(made(function(where) + b"\7" + struct.pack("<I", where)))
    assert kind.kind == t.POINTER and kind.target is not None and kind.target.kind == t.POINTER
    assert kind.name.startswith("...") and len(kind.name) < 100


def test_function_type_of_itself() -> None:
    """Its name would be endless, and twice as long with each level."""
    where = FIRST + SIZE
    reference = struct.pack("<I", where)
    entries = b"\x0a" + reference + (b"\x0b" + reference) * 40 + b"\0"
    assert parameter(made(function(where) + entries)).kind == t.FUNCTION


def test_deep_nesting() -> None:
    """A thousand structures, each in the next."""
    start, entries = FIRST + SIZE, b""
    for index in range(1000):
        size = 4 + 8 + 1
        entries += b"\4S\0\x08" + b"\5m\0" + struct.pack("<I", start + (index + 1) * size) + b"\0" + b"\0"
    kind = parameter(made(function(start) + entries))
    depth = 0
    while kind.members:
        kind, depth = kind.members[0].type, depth + 1
    assert kind.kind == t.UNKNOWN and 10 < depth < 100


def test_origin_of_itself() -> None:
    dwarf = made(b"\x08" + struct.pack("<IQI", FIRST, CODE, 16))
    assert isinstance(dwarf, Dwarf)
    found = dwarf.subprogram(CODE)
    assert found is not None and found.name == "" and found.formals == ()


def test_sibling_backwards() -> None:
    dwarf = made(b"\x09" + struct.pack("<IQI", FIRST, CODE, 16) + b"\0")
    assert isinstance(dwarf, Dwarf)
    with pytest.raises(BinaryError, match="backwards"):
        dwarf.subprogram(CODE)


@pytest.mark.parametrize("version", [1, 6, 77])
def test_unknown_version(version: int) -> None:
    reason = made(function(FIRST), version)
    assert isinstance(reason, str) and f"DWARF version {version}" in reason


@pytest.mark.parametrize("location", [
    b"", b"\x22", b"\x06\x06\x06", b"\x93\x08" * 100, b"\x55" * 50, b"\x91", b"\x91" + b"\x80" * 80,
    b"\x9e\xff\xff\xff\x7f", b"\xa3\x20", b"\x10" + b"\xff" * 40, b"\x9f", b"\x31\x1c", b"\x08", b"\xe0",
    b"\x2f\xfd\xff", b"\x30" * 100, b"\x92\xff\xff\xff\xff\x0f\x00", b"\x90\x70", b"\x96" * 100,
])  # fmt: skip
def test_odd_locations(location: bytes) -> None:
    dwarf = made(function(FIRST + SIZE, location) + b"\7" + struct.pack("<I", FIRST))
    assert isinstance(dwarf, Dwarf)
    found = dwarf.subprogram(CODE)
    assert found is not None
    pieces = found.formals[0].location(CODE).pieces
    assert 1 <= len(pieces) <= 64 and found.formals[0].location(CODE).reason


@pytest.mark.parametrize("frame_base", [b"", b"\x91\x00", b"\x9c\x06", b"\x22", b"\x61"], ids=bytes.hex)
def test_odd_frame_bases(frame_base: bytes) -> None:
    """One that refers to itself, to memory, to nothing, to a vector register."""
    dwarf = made(function(FIRST + 100, b"\x91\x10", frame_base))
    assert isinstance(dwarf, Dwarf)
    found = dwarf.subprogram(CODE)
    assert found is not None
    assert found.formals[0].location(CODE).pieces[0].kind == "absent"


def test_shared_file_outside(tmp_path: Path) -> None:
    """What a file asks for as shared debug information stays below the directory of debug files."""
    source, secret = tmp_path / "a.c", tmp_path / "secret"
    source.write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-g", "-o", "a", "a.c"], check=True, cwd=tmp_path)
    secret.write_bytes(b"../../../../secret\0" + bytes(20))
    link = f"--add-section=.gnu_debugaltlink={secret}"
    subprocess.run(["objcopy", link, "a", "b"], check=True, cwd=tmp_path)
    dwarf = Dwarf.of(Elf.open(str(tmp_path / "b")), str(tmp_path))
    assert isinstance(dwarf, Dwarf)
    with pytest.raises(BinaryError, match=r"looked for it at \S+00.debug$"):
        dwarf._info.supplement()
