# SPDX-License-Identifier: BSD-2-Clause
"""Symbol tables against nm, and symbols that moved to other files."""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import subprocess
from binascii import crc32
from collections.abc import Callable
from pathlib import Path

import pytest

from pyebpf.binary import debugfile, symtab
from pyebpf.binary.elf import SHT_SYMTAB, Elf
from pyebpf.binary.symbols import SymbolTable
from pyebpf.errors import BinaryError

LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
SOURCE = """
#include <stdio.h>
static __attribute__((noinline)) int helper(int x) { return printf("%d", x) * 3; }
int work(int x) { return helper(x) + 1; }
int rework(int x) __attribute__((alias("work")));
extern int reework(int x) __attribute__((weak, alias("work")));
__asm__(".globl raw\\nraw: nop\\nnop\\nnop\\nnop\\nret\\n.type raw,@function\\n");
int main(int argc, char **argv) { printf("%d", work(argc)); return 0; }
"""


def run(*command: str, **options: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload, no-any-return]


def build(directory: Path, *flags: str, name: str = "program", source: str = SOURCE) -> str:
    (directory / "program.c").write_text(source)
    path = str(directory / name)
    run("gcc", "-O1", "-o", path, str(directory / "program.c"), "-Wl,--build-id", *flags)
    return path


def nm(path: str) -> set[tuple[str, int, int]]:
    """(name, address, size) of the functions readelf knows in executable code: nm doesn't say which are functions."""
    rows = re.findall(
        r"^ *\d+: (\w+) +(\w+) (?:FUNC|IFUNC) +\w+ +\w+ +(?:\[.*?\] +)?(\w+) (\S+)",
        run("readelf", "-sW", path),
        re.M,
    )
    return {
        (name.split("@")[0], int(address, 16), int(size, 0))
        for address, size, index, name in rows
        if index != "UND" and int(address, 16)
    }


def table_of(path: str, root: str = "/nonexistent") -> SymbolTable:
    return SymbolTable(Elf.open(path), root)


def names(table: SymbolTable) -> set[str]:
    return {symbol.name for symbol in table.search()}


@pytest.mark.parametrize("path", ["/usr/bin/node", "/bin/bash", LIBC, "/lib64/ld-linux-x86-64.so.2"])
def test_all_functions_of_real_files(path: str) -> None:
    table = table_of(path)
    assert {(s.name, s.address, s.size) for s in table.search()} == nm(path)
    assert table.notes == ()


@pytest.mark.parametrize("flags", [("-static",), ("-no-pie",), ("-pie", "-fPIE"), ("-shared", "-fPIC")])
def test_all_functions_of_every_kind(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = build(tmp_path, *flags)
    found = {(s.name, s.address, s.size) for s in table_of(path).search()}
    # Of two tables with one function we keep one symbol; readelf says both.
    assert found == nm(path)
    assert {"work", "helper", "main"} <= {name for name, _, _ in found}


def test_names_are_found_however_they_are_stored(tmp_path: Path) -> None:
    """The linker stores "work" in the end of "rework", which is in the end of nothing."""
    path = build(tmp_path)
    table = table_of(path)
    for name in ("work", "rework", "reework", "helper", "main"):
        assert [s.name for s in table.named(name)] == [name]
    assert table.named("ork") == table.named("wor") == table.named("") == table.named("a\0b") == []
    assert {s.name for s in table.search(None, (b"work",))} == {"work", "rework", "reework"}
    assert {s.name for s in table.search(re.compile("r.*").match, (b"ework",))} == {"rework", "reework"}
    assert {s.name for s in table.search(None, (b"ew", b"re"))} == {"rework", "reework"}
    assert list(table.search(None, (b"work\0",))) == []


@pytest.mark.parametrize(
    "name", ["malloc", "_ZN2v88internal4Heap14CollectGarbageENS0_15AllocationSpaceENS0_23Gar", "uv_run"]
)
def test_searching_agrees_with_looking_at_each(name: str) -> None:
    table = table_of("/usr/bin/node")
    every = list(table.search())
    assert table.named(name) == [s for s in every if s.name == name]
    assert list(table.search(None, (name.encode(),))) == [s for s in every if name in s.name]


def test_a_fragment_in_most_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a number of places the whole table is walked; the answer is the same."""
    table = table_of(LIBC)
    few = list(table.search(None, (b"_",))), table.named("malloc")
    monkeypatch.setattr(symtab, "_MAX_PLACES", 3)
    assert (list(table.search(None, (b"_",))), table.named("malloc")) == few


def test_versions_are_no_part_of_names(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("V1 { global: f; }; V2 { global: f; };")
    source = """
        __asm__(".symver f1,f@V1"); int f1(void) { return 1; }
        __asm__(".symver f2,f@@V2"); int f2(void) { return 2; }
    """
    path = build(tmp_path, "-shared", "-fPIC", f"-Wl,--version-script={tmp_path}/map", source=source)
    assert "f@V1" in run("nm", path)
    table = table_of(path)
    assert len(table.named("f")) == 2
    assert {s.name for s in table.search(re.compile(r"f.?\Z").match)} >= {"f"}
    assert not any("@" in name for name in names(table))


def test_by_address(tmp_path: Path) -> None:
    path = build(tmp_path, "-no-pie")
    table = table_of(path)
    work, helper, raw = (table.named(name)[0] for name in ("work", "helper", "raw"))
    assert {s.name for s in table.aliases_of(work.address)} == {"work", "rework", "reework"}
    assert [s.name for s in table.aliases_of(work.address)][-1] == "reework"  # the weak one
    assert {s.name for s in table.at_addresses([work.address])[work.address]} == {"work", "rework", "reework"}
    for symbol in (work, helper):
        for address in (symbol.address, symbol.address + symbol.size - 1):
            found = table.at(address)
            assert found is not None and found.address == symbol.address
    assert raw.size == 0
    assert table.at(raw.address + 4) == raw
    assert table.at(0) is None
    assert table.at(1 << 63) is None
    assert table.aliases_of(work.address + 1) == []


def test_node_by_address() -> None:
    """Every function of a large file is found by its last byte, unless another one is nearer."""
    table = table_of("/usr/bin/node")
    for symbol in list(table.search())[::200]:
        if symbol.size:
            found = table.at(symbol.address + symbol.size - 1)
            assert found is not None
            assert symbol.address <= found.address < symbol.address + symbol.size


def test_imported(tmp_path: Path) -> None:
    table = table_of(build(tmp_path))
    assert "printf" in table.imported()
    assert table.named("printf") == []
    assert "main" not in table.imported()


def test_resembling(tmp_path: Path) -> None:
    table = table_of(build(tmp_path))
    for word in ("hepler", "ehlper", "helpre", "helperr", "hilper", "Helper"):
        assert "helper" in table.resembling(word)
    for word in ("Work", "wrok", "wokr", "works", "wor"):
        assert "work" in table.resembling(word)
    assert table.resembling("zzzzzzzzzzzz") == table.resembling("") == []


def test_without_section_headers(tmp_path: Path) -> None:
    for style in ("gnu", "sysv"):
        path = build(tmp_path, "-shared", "-fPIC", f"-Wl,--hash-style={style}", name=f"lib{style}.so")
        run("strip", path)
        expected = nm(path)
        data = bytearray(Path(path).read_bytes())
        data[40:48], data[60:64] = bytes(8), bytes(4)
        table = SymbolTable(Elf(bytes(data), "bare"), "/nonexistent")
        assert {(s.name, s.address, s.size) for s in table.search()} == expected
        assert "work" in names(table) and "helper" not in names(table)
        assert (".dynsym", True) in table.sources


# -- separate debug files


@pytest.fixture
def stripped(tmp_path: Path) -> tuple[str, str]:
    """A stripped program with build ID and debug link, and its debug file beside it."""
    path = build(tmp_path)
    debug = str(tmp_path / "program.debug")
    run("objcopy", "--only-keep-debug", path, debug)
    run("strip", path)
    run("objcopy", "--add-gnu-debuglink", debug, path)
    return path, debug


def build_id_place(root: Path, path: str) -> Path:
    build_id = Elf.open(path).build_id
    assert build_id is not None
    place = root / "usr/lib/debug/.build-id" / build_id[:2] / (build_id[2:] + ".debug")
    place.parent.mkdir(parents=True)
    return place


def test_by_build_id(stripped: tuple[str, str], tmp_path: Path) -> None:
    path, debug = stripped
    expected = nm(debug)
    root = tmp_path / "root"
    place = build_id_place(root, path)
    shutil.move(debug, place)
    table = table_of(path, str(root))
    assert {(s.name, s.address, s.size) for s in table.search()} == expected
    assert table.named("helper")[0].table == str(place)
    assert (str(place), True) in table.sources
    # Without the root, the debug file isn't found.
    bare = table_of(path)
    assert "helper" not in names(bare)
    assert [found for _, found in bare.sources] == [False, True, False, False, False]


def test_build_id_of_another_file(stripped: tuple[str, str], tmp_path: Path) -> None:
    path, debug = stripped
    Path(debug).unlink()
    shutil.copy("/bin/bash", build_id_place(tmp_path, path))
    table = table_of(path, str(tmp_path))
    assert "helper" not in names(table)
    assert any("has build ID" in note for note in table.notes)


@pytest.mark.parametrize("below", ["", ".debug"])
def test_by_debug_link_beside_the_program(stripped: tuple[str, str], tmp_path: Path, below: str) -> None:
    path, debug = stripped
    (tmp_path / below).mkdir(exist_ok=True)
    shutil.move(debug, tmp_path / below / "program.debug")
    table = table_of(path, "/")
    assert table.named("helper")[0].table == str(tmp_path / below / "program.debug")


def test_by_debug_link_through_a_symbolic_link(stripped: tuple[str, str], tmp_path: Path) -> None:
    path, _ = stripped
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(path)
    assert "helper" in names(table_of(str(link), "/"))


def test_debug_link_below_a_root(stripped: tuple[str, str], tmp_path: Path) -> None:
    """The program lies in the root, so its directory counts from there."""
    path, debug = stripped
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "usr/lib/debug/bin").mkdir(parents=True)
    shutil.move(path, root / "bin/program")
    shutil.move(debug, root / "usr/lib/debug/bin/program.debug")
    assert "helper" in names(table_of(str(root / "bin/program"), str(root)))


def test_debug_link_checks_the_crc(stripped: tuple[str, str], tmp_path: Path) -> None:
    path, debug = stripped
    with open(debug, "ab") as file:
        file.write(b"\0")
    table = table_of(path, "/")
    assert "helper" not in names(table)
    assert any("CRC" in note for note in table.notes)
    link = Elf.open(path).debuglink
    assert link == ("program.debug", crc32(Path(debug).read_bytes()[:-1]))


@pytest.mark.parametrize("name", ["../evil.debug", "/etc/passwd"])
def test_debug_link_with_a_path(stripped: tuple[str, str], tmp_path: Path, name: str) -> None:
    path, _ = stripped
    (tmp_path / "link").write_bytes(name.encode().ljust(len(name) + 4 & ~3, b"\0") + struct.pack("<I", 1))
    run("objcopy", "--update-section", f".gnu_debuglink={tmp_path}/link", path)
    elf = Elf.open(path)
    assert elf.debuglink == (name, 1)
    assert all("evil" not in tried and "passwd" not in tried for tried in debugfile.separate(elf).tried)


def test_debug_link_to_itself(tmp_path: Path) -> None:
    path = build(tmp_path, "-s")
    run("objcopy", "--add-gnu-debuglink", path, path, path + "2")
    Path(path + "2").rename(path)
    table = table_of(path, "/")
    assert any("program itself" in note for note in table.notes)


def test_libc_has_its_debug_file() -> None:
    table = table_of(LIBC, "/")
    assert "_int_malloc" in names(table)
    assert table.named("_int_malloc")[0].table.startswith("/usr/lib/debug/.build-id/")


# -- mini debug info


def add_mini_debug_info(path: str, directory: Path, packed: bytes | None = None) -> None:
    """As find-debuginfo does for Fedora: the symbols that .dynsym doesn't have, packed into a section."""
    if packed is None:
        dynamic = {line.split()[-1] for line in run("nm", "-D", "--format=posix", "--defined-only", path).splitlines()}
        functions = [
            line.split()[0]
            for line in run("nm", "--format=posix", "--defined-only", path).splitlines()
            if line.split()[1] in "tTW" and line.split()[0] not in dynamic
        ]
        (directory / "keep").write_text("\n".join(functions))
        mini = str(directory / "mini")
        run("objcopy", "--only-keep-debug", path, mini)
        run("objcopy", "-S", "--remove-section=.comment", f"--keep-symbols={directory}/keep", mini)
        run("xz", "-k", "-f", mini)
        packed = (directory / "mini.xz").read_bytes()
    (directory / "packed").write_bytes(packed)
    run("strip", path)
    run("objcopy", "--add-section", f".gnu_debugdata={directory}/packed", path)


def test_mini_debug_info(tmp_path: Path) -> None:
    path = build(tmp_path)
    expected = {row for row in nm(path) if row[0] in ("helper", "work", "main", "rework", "reework", "raw")}
    add_mini_debug_info(path, tmp_path)
    table = table_of(path)
    assert {(s.name, s.address, s.size) for s in table.search()} >= expected
    assert table.named("helper")[0].table == ".gnu_debugdata"
    assert (".gnu_debugdata", True) in table.sources


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"\xfd7zXZ\0rubbish and more of it", ".gnu_debugdata"),
        (lzma.compress(bytes(100_000))[:60], "is truncated"),
        (lzma.compress(bytes(4096)), "not an ELF file"),
        (lzma.compress(bytes(300 << 20), preset=0), "unpacks to more than"),
    ],
    ids=["rubbish", "truncated", "no ELF", "bomb"],
)
def test_mini_debug_info_that_lies(tmp_path: Path, packed: bytes, message: str) -> None:
    path = build(tmp_path, "-rdynamic")
    add_mini_debug_info(path, tmp_path, packed)
    with pytest.raises(BinaryError, match=message):
        debugfile.embedded(Elf.open(path))
    table = table_of(path)
    assert "work" in names(table) and "helper" not in names(table)
    assert any(".gnu_debugdata" in note for note in table.notes)


# -- tables that lie


def patched(path: str, change: Callable[[bytearray, Elf, int], None]) -> SymbolTable:
    """The symbols of the program at ``path`` after ``change`` of (its bytes, itself, place of .symtab's header)."""
    elf = Elf.open(path)
    data = bytearray(elf.data)
    index = next(i for i, section in enumerate(elf.sections) if section.type == SHT_SYMTAB)
    change(data, elf, int.from_bytes(data[40:48], "little") + 64 * index)
    return SymbolTable(Elf(bytes(data), "patched"), "/nonexistent")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (32, 1_000_000 * 24, "past the end"),  # sh_size
        (32, 1 << 62, "at most"),
        (24, 1 << 63, "past the end"),  # sh_offset
        (40, 5000, "no string table"),  # sh_link
        (40, 0, "no string table"),
        (56, 16, "entries of 16 bytes"),  # sh_entsize
        (56, 0, "entries of 0 bytes"),
    ],
)
def test_table_that_lies(tmp_path: Path, field: int, value: int, message: str) -> None:
    def change(data: bytearray, elf: Elf, header: int) -> None:
        width = 4 if field == 40 else 8
        data[header + field : header + field + width] = value.to_bytes(width, "little")

    table = patched(build(tmp_path, "-rdynamic"), change)
    assert any(message in note for note in table.notes)
    assert "work" in names(table)  # from .dynsym


def test_table_that_is_its_own_strings(tmp_path: Path) -> None:
    def change(data: bytearray, elf: Elf, header: int) -> None:
        index = next(i for i, section in enumerate(elf.sections) if section.type == SHT_SYMTAB)
        data[header + 40 : header + 44] = index.to_bytes(4, "little")

    assert names(patched(build(tmp_path, "-rdynamic"), change)) >= {"work"}


@pytest.mark.parametrize(
    ("field", "width", "value"),
    [(0, 4, 0xFFFFFFFF), (8, 8, 0xFFFFFFFFFFFFFFF0), (8, 8, 0x10)],
    ids=["name past the strings", "address past everything", "address that is no code"],
)
def test_symbols_that_lie(tmp_path: Path, field: int, width: int, value: int) -> None:
    def change(data: bytearray, elf: Elf, header: int) -> None:
        symbols = elf.section(".symtab")
        assert symbols is not None
        for at in range(symbols.offset, symbols.offset + symbols.size, 24):
            if data[at + 4] & 15 == 2 and data[at + 6] | data[at + 7]:
                data[at + field : at + field + width] = value.to_bytes(width, "little")

    table = patched(build(tmp_path), change)
    assert all(symbol.table == ".dynsym" for symbol in table.search())
    assert any("function symbols left out" in note for note in table.notes)
    assert table.at(value) is None


def test_sizes_end_with_the_code(tmp_path: Path) -> None:
    def change(data: bytearray, elf: Elf, header: int) -> None:
        symbols = elf.section(".symtab")
        assert symbols is not None
        for at in range(symbols.offset, symbols.offset + symbols.size, 24):
            data[at + 16 : at + 24] = b"\xff" * 8

    path = build(tmp_path)
    table = patched(path, change)
    ends = {end for _, end in Elf.open(path).executable_ranges()}
    symbol = table.named("helper")[0]
    assert symbol.address + symbol.size in ends
    found = table.at(symbol.address + 1)
    assert found is not None and found.name == "helper"


def test_endless_strings(tmp_path: Path) -> None:
    """A string table without an end: every name is too long, none is copied for ever."""
    count = 20_000
    elf = Elf.open(build(tmp_path))
    text = elf.section(".text")
    assert text is not None
    symbols = b"".join(struct.pack("<IBBHQQ", i, 0x12, 0, 14, text.addr, 1) for i in range(count))
    table = symtab.Table("ours", symbols, b"a" * (8 << 20), 0, 8 << 20, True)
    assert list(table.containing((b"aaaa",))) == list(range(count))
    assert table.name_of(5) == b""
    assert not any(table.name_of(index) for index in table.named(b"aaaa"))


@pytest.mark.parametrize("beginnings", [("re",), ("w", "ree"), ("",), ("zz",), ("work", "rework", "reework", "hel")])
def test_beginnings(tmp_path: Path, beginnings: tuple[str, ...]) -> None:
    """Also of names that are stored in the end of others."""
    table = table_of(build(tmp_path))
    expected = {s.name for s in table.search(None, (b"work",)) if s.name.startswith(beginnings)}
    assert {s.name for s in table.search(None, (b"work",), beginnings)} == expected


def test_outside_of_a_range(tmp_path: Path) -> None:
    table = table_of(build(tmp_path))
    every = list(table.search())
    (work,) = table.named("work")
    for _ in range(2):
        inside = work.address, work.address + 1
        assert list(table.search(outside=inside)) == [s for s in every if s.address != work.address]
        assert list(table.search(outside=(0, 1 << 63))) == []
