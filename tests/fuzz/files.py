# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for ELF files, symbol tables, mini debug info, and all of a file as one."""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from collections.abc import Iterator

from pyebpf.binary import debugfile
from pyebpf.binary.elf import SHT_DYNSYM, SHT_SYMTAB, Elf
from pyebpf.binary.image import Image, TooManyFunctions
from pyebpf.binary.symbols import SymbolTable
from pyebpf.binary.symtab import dynamic_table, section_table
from pyebpf.errors import BinaryError, Error, TargetError

from . import made
from .reader import packed, reader, unpacked

_TYPES = (1, 2, 3, 4, 7, 8, 11)
_ADDRESSES = (0, made.BASE, made.BASE + 0x100, (1 << 64) - 8)


def _programs() -> Iterator[bytes]:
    """Small programs by real compilers and linkers."""
    tiny = "-nostdlib -ffreestanding -fno-builtin -Os -Wl,-z,noseparate-code,--build-id"
    source = "int data = 7; int work(int n) { return n * data; } void _start(void) { for (;;) work(3); }"
    yield made.built(source, f"gcc {tiny} -s -static -o OUT IN")
    yield made.built(source, f"gcc {tiny} -shared -fPIC -Wl,--hash-style=both -o OUT IN")
    yield made.built(source, f"aarch64-linux-gnu-gcc {tiny} -static -Wl,-z,max-page-size=4096 -o OUT IN")
    yield made.built(source, f"gcc {tiny} -g -gz=zlib -static -o OUT IN")


def _elves() -> Iterator[bytes]:
    yield from filter(None, _programs())
    note = struct.pack("<III4s20s", 4, 20, 3, b"GNU\0", b"identity" * 2 + b"four")
    packed_text = struct.pack("<IIQQ", 1, 0, 600, 1) + zlib.compress(b"text " * 120)
    link = b"a.debug\0" + struct.pack("<I", 0x12345678)
    yield made.elf(
        [(".note.gnu.build-id", 7, 2, note), (".gnu_debuglink", 1, 0, link), (".debug_str", 1, 0x800, packed_text),
         (".interp", 1, 2, b"/lib64/ld.so\0"), (".text", 1, 6, b"\xc3" * 16)],
        headers=[(4, ".note.gnu.build-id"), (3, ".interp")],
    )  # fmt: skip


@reader("binary.elf", _elves, words=(b"\x7fELF", b"GNU\0", b".note.gnu.build-id", b".gnu_debuglink", b"ZLIB"))
def elf(data: bytes) -> None:
    """Headers, segments, sections (packed ones too), notes, and what is read at addresses."""
    for symbols_only in (False, True):
        try:
            one = Elf(data, "fuzzed", symbols_only=symbols_only)
        except BinaryError:
            continue
        one.executable_ranges()
        assert one.build_id is None or len(one.build_id) <= 128
        assert one.interpreter is None or len(one.interpreter) <= 4096
        try:
            one.debuglink  # noqa: B018
        except BinaryError:
            pass
        for section in one.sections[:64]:
            assert isinstance(section.name, str)
            try:
                one.contents(section)
            except BinaryError:
                pass
        starts = [segment.vaddr for segment in one.segments[:16]] + [one.entry, *_ADDRESSES]
        for address in starts:
            for size in (0, 1, 8, 4096):
                try:
                    assert len(one.read(address, size)) == size
                except BinaryError:
                    pass
            one.is_executable(address)
            one.vaddr_of(address & 0xFFFF)
            try:
                one.offset_of(address)
            except BinaryError:
                pass


def _mini() -> Iterator[bytes]:
    symbols = made.elf([(".symtab", 2, 0, _symbol(1, made.BASE)), (".strtab", 3, 0, b"\0work\0")],
                       links={".symtab": (2, 24)})  # fmt: skip
    link = b"fuzzed.debug\0\0\0\0" + struct.pack("<I", zlib.crc32(symbols))
    note = struct.pack("<III4s20s", 4, 20, 3, b"GNU\0", b"identity" * 2 + b"four")
    yield packed(b"\1", link, note, symbols)
    yield packed(b"\0", link, note, lzma.compress(symbols, lzma.FORMAT_XZ))
    yield packed(b"\0", b"../a\0" * 4, note, lzma.compress(symbols, lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=0))
    yield packed(b"\0", link, note, lzma.compress(bytes(20 << 20), lzma.FORMAT_XZ))  # a bomb: 3 KB


@reader("binary.debugfile", _mini, pieces=4)
def minidebug(data: bytes) -> None:
    """Separate debug files by build ID and link; mini debug info, packed by us (checksums are right), or as it is."""
    how, link, note, contents = unpacked(data, 4)
    if how[:1] == b"\1":
        contents = lzma.compress(contents, lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=0)
    image = made.elf([
        (".gnu_debugdata", 1, 0, contents), (".text", 1, 6, b"\xc3" * 64), (".gnu_debuglink", 1, 0, link),
        (".note.gnu.build-id", 7, 2, note),
    ])  # fmt: skip
    one = Elf(image, "/nonexistent/bin/fuzzed")
    for path in debugfile.separate(one, "/nonexistent").tried:
        assert os.path.normpath(path).startswith("/nonexistent/"), "a debug link leads elsewhere"
    try:
        found = debugfile.embedded(one)
        assert found is not None or not contents
    except BinaryError:
        pass
    SymbolTable(one, "/nonexistent").at(made.BASE + 200)


def _symbol(name: int, address: int, size: int = 16, info: int = 0x12, section: int = 1) -> bytes:
    return struct.pack("<IBBHQQ", name, info, 0, section, address, size)


_NAMES = b"\0work\0malloc@@GLIBC_2.2.5\0_ZN3foo3barEv\0work.cold\0work.constprop.0\0_RNvC1a4main\0"


def _tables() -> Iterator[bytes]:
    place = made.BASE + 0x200
    rows = b"".join(
        _symbol(at, place + 16 * number, 16 if number else 0)
        for number, at in enumerate(at + 1 for at, byte in enumerate(_NAMES[:-1]) if not byte)
    )
    hashes = struct.pack("<IIII", 1, 8, 1, 0) + bytes(28)
    gnu = struct.pack("<IIIIQI", 1, 1, 1, 0, (1 << 64) - 1, 1) + struct.pack("<5I", 2, 4, 6, 8, 9)
    for query in (b"work", b"*", b"foo::bar*", b"wrk"):
        yield packed(_symbol(0, 0, 0, 0, 0) + rows, _NAMES, hashes, query, b"\0\0")
    yield packed(_symbol(0, 0, 0, 0, 0) + rows, _NAMES, gnu, b"w*k", b"\1\0")


@reader(
    "binary.symbols binary.symtab binary.image binary.pattern", _tables, pieces=5, seconds=2,
    words=(b"@", b"@@V1", b".cold", b".constprop.0", b"_Z", b"_R", b"*", b"?", b"::", b"17h0123456789abcdefE"),
)  # fmt: skip
def symbols(data: bytes) -> None:
    """Symbol tables by section and as the dynamic loader finds them; searches by name, part, pattern and address."""
    rows, names, hashes, query, how = unpacked(data, 5)
    dynamic, gnu = how[:1] == b"\1", how[1:2] != b"\1"
    code = [(".text", 1, 6, b"\xc3" * 1024)]
    kind = 11 if dynamic else 2
    table = [(".symtab", kind, 2, rows), (".strtab", 3, 2, names)]
    image = made.elf([*code, *table], links={".symtab": (3, 24)})
    if dynamic:
        where = [made.address_of(image, name) for name in (".symtab", ".strtab")]
        size = 16 * 6
        tail = made.elf([*code, *table, (".hash", 5, 2, hashes), (".dynamic", 6, 2, bytes(size))],
                        headers=[(2, ".dynamic")])  # fmt: skip
        where = [made.address_of(tail, name) for name in (".symtab", ".strtab", ".hash")]
        tags = struct.pack("<10Q", 6, where[0], 5, where[1], 10, len(names), 0x6FFFFEF5 if gnu else 4, where[2], 0, 0)
        image = made.elf([*code, *table, (".hash", 5, 2, hashes), (".dynamic", 6, 2, tags.ljust(size, b"\0"))],
                         headers=[(2, ".dynamic")])  # fmt: skip
        image = image[:40] + bytes(8) + image[48:60] + bytes(4) + image[64:]  # no sections
    one = Elf(image, "fuzzed")
    for find in (lambda: section_table(one, SHT_SYMTAB, "s"), lambda: section_table(one, SHT_DYNSYM, "d"),
                 lambda: dynamic_table(one, "y")):  # fmt: skip
        try:
            find()
        except BinaryError:
            pass
    text = query[:200].decode("utf-8", "surrogateescape")
    with Image(one, "/nonexistent") as whole:
        for ask in (
            lambda: whole.search(text, limit=10000),
            lambda: whole.imports(text),
            lambda: whole.close_matches(text),
            lambda: whole.symbols.copies_of(text),
            lambda: whole.symbols.cold_parts([text]),
            lambda: whole.symbols.resembling(text),
        ):
            try:
                ask()
            except TargetError:
                pass
        for address in (0, made.BASE + 0x208, made.BASE + 0x200, made.BASE + 0x3FF, (1 << 64) - 1):
            whole.function_at(address)
            whole.boundary(address)
            whole.symbols.aliases_of(address)
        assert isinstance(whole.what_was_searched(), str) and isinstance(whole.notes, tuple)


@reader(
    "binary.image binary.elf binary.symbols binary.symtab binary.unwind binary.exits", _elves, seconds=2,
    words=(b".symtab", b".dynsym", b".eh_frame", b".gopclntab", b".go.buildinfo", b".gnu_debugdata", b".debug_info"),
)  # fmt: skip
def image(data: bytes) -> None:
    """All of a file as a tool takes it: its functions, their instructions, exits and what debug information says."""
    from pyebpf.binary.exits import exits_of
    from pyebpf.binary.signatures import DebugInfo, signature_of

    try:
        one = Elf(data, "fuzzed")
    except BinaryError:
        return
    with Image(one, "/nonexistent") as whole, DebugInfo("/nonexistent") as debug:
        try:
            found = whole.search("*", limit=1000)
        except (TooManyFunctions, Error):
            found = []
        for function in found[:20]:
            try:
                if not whole.is_go_text(function.address):
                    exits_of(one, whole.unwind, function.address, function.size, whole.cold_parts(function))
                whole.boundary(function.address + 3)
                signature_of(whole, function, function.address, debug=debug)
            except BinaryError:
                pass
        for address in (one.entry, made.BASE):
            try:
                whole.function_at(address)
                whole.function_start(address)
            except BinaryError:
                pass
