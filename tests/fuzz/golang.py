# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for what Go's linker leaves in a file: function tables, build information, types."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from pyebpf.binary.elf import Elf
from pyebpf.binary.golang import arginfo
from pyebpf.binary.golang.memory import Memory
from pyebpf.binary.golang.pclntab import PclnTable, find_table
from pyebpf.binary.golang.program import GoFunction, GoProgram
from pyebpf.binary.golang.program import find as find_program
from pyebpf.binary.golang.rtype import runtime_type
from pyebpf.binary.golang.version import version_of
from pyebpf.binary.image import Image
from pyebpf.binary.signatures import DebugInfo, signature_of
from pyebpf.errors import BinaryError, TargetError
from pyebpf.output.signatures import as_json, text_of

from . import made
from .dwarf import go_types
from .reader import packed, reader, unpacked

_MAGICS = {"1.2": 0xFFFFFFFB, "1.16": 0xFFFFFFFA, "1.18": 0xFFFFFFF0, "1.20": 0xFFFFFFF1}
_CODE = bytes.fromhex("493b661076064883ec084883c408c3e800000000ebe9") + b"\xcc" * 10
_TEXT = made.BASE + 0x80
_NAMES = b"\0main.main\0main.(*T).Run\0main.Sum[...]\0runtime.morestack_noctxt\0inlined.Here\0"


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _stream(*pairs: tuple[int, int]) -> bytes:
    """A value stream: (value, bytes of code)."""
    out, before = bytearray(), -1
    for value, length in pairs:
        change = value - before
        out += _uvarint((change << 1) ^ (change >> 63) if change >= 0 else (-change << 1) - 1) + _uvarint(length)
        before = value
    return bytes(out) + b"\0"


def table(release: str, text: int, arm: bool = False) -> bytes:
    """A small function table in the layout of a release: three functions."""
    wide = release in ("1.2", "1.16")
    quantum = 4 if arm else 1
    streams = b"\0" + _stream((0, 4), (8, 8), (0, 20 // quantum))
    unsafe = len(streams)
    streams += _stream((-2, 8), (-1, 24 // quantum))
    size = len(_CODE)
    starts = [text + size * number for number in range(4)]
    names = [at + 1 for at in range(len(_NAMES) - 1) if not _NAMES[at]]
    head = struct.pack("<IBBBB", _MAGICS[release], 0, 0, quantum, 8)

    def record(number: int, name: int, stream: int) -> bytes:
        start = struct.pack("<Q", starts[number]) if wide else struct.pack("<I", starts[number] - text)
        fields = struct.pack("<iiIIIII", name, 16, 0, stream, 0, 0, 3)
        if release != "1.2":
            fields += struct.pack("<I", 0)
        if release == "1.20":
            fields += struct.pack("<I", 7)
        pcdata = struct.pack("<3I", stream + unsafe - 1, 0, 0)
        return start + fields + struct.pack("<BBBB", 0, 0, 0, 4) + pcdata + bytes(4 * 8)

    def functab(places: list[int]) -> bytes:
        rows = b""
        for start, place in zip(starts, [*places, None]):
            value = start if wide else start - text
            form = "Q" if wide else "I"
            rows += struct.pack(f"<{form}", value) + (b"" if place is None else struct.pack(f"<{form}", place))
        return rows + bytes(8)

    length = len(record(0, 0, 1))
    if release == "1.2":
        tab_size = len(functab([0, 0, 0]))
        at = 16 + tab_size
        places = [at + length * number for number in range(3)]
        base = at + 3 * length
        records = b"".join(record(number, base + names[number], base + len(_NAMES) + 1) for number in range(3))
        return head + struct.pack("<Q", 3) + functab(places) + records + _NAMES + streams
    tab_size = len(functab([0, 0, 0]))
    places = [tab_size + length * number for number in range(3)]
    places = [place + -place % 4 for place in places]
    records = b"".join(record(number, names[number], 1) for number in range(3))
    count = 7 if wide else 8
    parts = 8 + 8 * count
    names_at, units_at = parts, parts + len(_NAMES) + -len(_NAMES) % 8
    files_at = units_at + 8
    streams_at = files_at + 8
    tab_at = streams_at + len(streams) + -len(streams) % 8
    words = [3, 1, *([] if wide else [text]), names_at, units_at, files_at, streams_at, tab_at]
    out = head + struct.pack(f"<{count}Q", *words)
    out = out.ljust(names_at, b"\0") + _NAMES
    out = out.ljust(units_at, b"\0") + bytes(8) + b"a.go\0".ljust(8, b"\0") + streams
    return out.ljust(tab_at, b"\0") + functab(places) + records + bytes(64)


def many_of_one_name(count: int, length: int) -> bytes:
    """A function table of Go 1.20 whose functions have one record, and one name, together."""
    names = b"\0" + b"m" * length + b"\0"
    names_at = 72
    units_at = names_at + len(names) + -len(names) % 8
    functab_at = units_at + 32
    head = struct.pack("<IBBBB", _MAGICS["1.20"], 0, 0, 1, 8)
    head += struct.pack("<8Q", count, 1, _TEXT, names_at, units_at, units_at + 8, units_at + 16, functab_at)
    rows = b"".join(struct.pack("<II", number // 100, 8 * count + 8) for number in range(count))
    record = struct.pack("<IiiIIIIIII4B", 0, 1, 16, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0)
    return (head + names).ljust(functab_at, b"\0") + rows + struct.pack("<II", count, 0) + record + bytes(60)


def program_of(data: bytes, names: bytes) -> GoProgram:
    """The Go program of a file as the harness makes it, with a function table of any size."""
    _, _, rest, code, info = unpacked(data, 5)
    found = find_program(Elf(_image(b"\0\0\0", names, rest, code, info), "made"))
    assert found is not None
    return found


def _file(data: bytes, more: Sequence[tuple[str, int, int, bytes]] = ()) -> bytes:
    """An ELF file of: machine and shape, function table, module data after its first words, code, build information."""
    return _image(*unpacked(data, 5), more)


def _image(
    how: bytes, names: bytes, rest: bytes, code: bytes, info: bytes, more: Sequence[tuple[str, int, int, bytes]] = ()
) -> bytes:
    old = names[:1] == b"\xfb"
    arm, sections, stripped = (how.ljust(3, b"\0")[index] & 1 for index in range(3))
    described = (".gopclntab" if not sections else ".data.rel.ro.gopclntab", 1, 2, names)
    # The module data's first words are the table's address and that of its names; the rest is as it comes.
    machine = made.ARM if arm else made.X86
    module = bytes(16) + rest
    built = [(".text", 1, 6, code), described, (".noptrdata", 1, 3, module), (".go.buildinfo", 1, 3, info)]
    image = made.elf(built, machine)
    at = made.address_of(image, described[0])
    words = names.ljust(72, b"\0")
    # What must agree with the table, where an input doesn't say otherwise: pointers to it, and where the code is.
    names_at = int.from_bytes(words[24 if names[:1] == b"\xfa" else 32 :][:4], "little")
    start, end = made.address_of(image, ".text"), made.address_of(image, ".text") + len(code)
    functab_at = int.from_bytes(words[56 if names[:1] == b"\xfa" else 64 :][:4], "little")
    count = int.from_bytes(words[8:12], "little") + 1
    fixed = {0: at, 1: at + names_at, 16: at + functab_at, 17: count, 22: start, 23: end}
    if old:
        fixed = {3: at + 16, 4: count, 12: start, 13: end}
    module = bytearray(bytes(16) + rest)
    for word, value in fixed.items():
        if len(module) >= 8 * word + 8 and not any(module[8 * word : 8 * word + 8]):
            module[8 * word : 8 * word + 8] = struct.pack("<Q", value & (1 << 64) - 1)
    built[2] = (".noptrdata", 1, 3, bytes(module))
    image = made.elf([*built, *more], machine)
    if stripped:
        image = image[:40] + bytes(8) + image[48:60] + bytes(4) + image[64:]
    return image


def _seeds() -> Iterator[bytes]:
    info = b"\xff Go buildinf:\x08\x02".ljust(32, b"\0")
    rest = bytearray(8 * 48)
    for index, (release, version) in enumerate((("1.2", "go1.15"), ("1.16", "go1.17"), ("1.18", "go1.19.2"),
                                                ("1.20", "go1.21.13"), ("1.20", "go1.27"))):  # fmt: skip
        told = info + bytes([len(version)]) + version.encode()
        start = made.address_of(_file(packed(b"\0\0\0", bytes(200), bytes(rest), _CODE * 3, told)), ".text")
        for how in (b"\0\0\0", b"\1\0\1"):
            yield packed(how, table(release, start, arm=how[0] == 1), bytes(rest), _CODE * 3, told)
        for word, value in (
            (35 - 2, start),
            (36 - 2, start + 60),
            (37 - 2, start),
            (38 - 2, start + 60),
            (40 - 2, start),
        ):
            full = bytearray(rest)
            struct.pack_into("<Q", full, 8 * word, value)
            if index >= 2:
                yield packed(b"\0\0\0", table(release, start), bytes(full), _CODE * 3, told)


_WORDS = (
    *(struct.pack("<I", magic) + b"\0\0\1\x08" for magic in _MAGICS.values()),
    b"main.main\0", b"runtime.morestack_noctxt\0", b"\xff Go buildinf:", b"go1.27", b"go1.18",
)  # fmt: skip


def _ask(program: GoProgram) -> None:
    def functions() -> list[GoFunction]:
        found = program.functions()
        assert all(one.size >= 0 and isinstance(one.name, str) for one in found)
        return found

    for ask in (
        functions,
        lambda: program.search(re.compile("main"), (b"main",)),
        lambda: program.named("main.main"),
        lambda: program.without_body(re.compile(""), (b"a",)),
        lambda: program.inlined_into(["inlined.Here", "main.main"]),
        lambda: program.tls_offset,
        lambda: program.types,
        lambda: program.frames_at(program.text[0] + 5),
        lambda: program.at(program.text[0] + 1),
    ):
        try:
            ask()
        except BinaryError:
            pass
    try:
        first = program.functions()[:8]
    except BinaryError:
        return
    for function in first:
        for asked in (program.sites, program.is_assembly, program.argument_size, program.argument_stream):
            try:
                asked(function)
            except BinaryError:
                pass
        for address in (function.address, function.address + 9):
            for told in (lambda at: program.depth_at(function, at), program.frames_at):  # noqa: B023
                try:
                    told(address)
                except BinaryError:
                    pass


@reader("binary.golang.pclntab binary.golang.program binary.golang.sites binary.golang.inline binary.golang.moduledata "
        "binary.golang.memory", _seeds, pieces=5, words=_WORDS)  # fmt: skip
def pclntab(data: bytes) -> None:
    """Function tables of all layouts: names, sizes, sites, inlining, depths of stacks."""
    elf = Elf(_file(data), "fuzzed")
    try:
        program = find_program(elf)
    except BinaryError:
        pass
    else:
        if program is not None:
            _ask(program)
    try:
        found = find_table(Memory(elf))
        if isinstance(found, PclnTable):
            found.text = _TEXT
            found.entries()
            for index in range(min(found.count, 50)):
                record = found.record(index)
                list(zip(range(1000), found.values(record.stack, record.entry, record.entry + 1000)))
                found.source_file(record)
            found.names(range(found.count))
            found.names_containing(b"main")
    except BinaryError:
        pass


def _described_seeds() -> Iterator[bytes]:
    for seed in _seeds():
        yield packed(*unpacked(seed, 5), *reversed(go_types("main.main", _TEXT)))


@reader("binary.golang.signatures binary.golang.claims binary.golang.abi binary.golang.arginfo binary.dwarf.golang",
        _described_seeds, pieces=7, words=_WORDS)  # fmt: skip
def gosignatures(data: bytes) -> None:
    """Signatures of Go functions: what debug information, the ABI's rules and tables for tracebacks say together."""
    *parts, abbreviations, info = unpacked(data, 7)
    more = [(".debug_abbrev", 1, 0, abbreviations), (".debug_info", 1, 0, info)]
    elf = Elf(_file(packed(*parts), more), "fuzzed")
    with Image(elf, "/nonexistent") as whole, DebugInfo("/nonexistent") as debug:
        try:
            functions = whole.search("main.*", limit=1000)
        except TargetError:
            return
        for function in functions[:8]:
            for address in (function.address, function.address + 10):
                try:
                    signature = signature_of(whole, function, address, debug=debug)
                except BinaryError:  # of Go's tables
                    continue
                text_of(function, signature)
                as_json(signature)


def _infos() -> Iterator[bytes]:
    magic = b"\xff Go buildinf:\x08"
    yield packed(magic + b"\2".ljust(17, b"\0") + b"\x08go1.21.1" + b"\x05path\n", b"")
    yield packed(magic + b"\2".ljust(17, b"\0") + b"\x80\x01go1.21.1", b"")
    yield packed(magic + b"\0" + struct.pack("<Q", made.BASE + 0xA0) + bytes(40), b"go1.17.2")
    yield packed(
        magic + b"\0" + struct.pack("<Q", made.BASE + 0xA0), struct.pack("<QQ", made.BASE + 0xB8, 6) + b"go1.16"
    )


@reader(
    "binary.golang.version binary.golang.memory", _infos, pieces=2, words=(b"\xff Go buildinf:", b"go1.", b"\x80\x01")
)
def buildinfo(data: bytes) -> None:
    """Build information, by its section and by its magic; text inline and behind pointers."""
    info, more = unpacked(data, 2)
    image = made.elf([(".data", 1, 3, more), (".go.buildinfo", 1, 3, info)])
    end = made.headers_of(image)[2]
    stripped = image[:40] + bytes(8) + image[48:60] + bytes(4) + image[64:]
    pointed = made.elf([(".data", 1, 3, more), (".dynamic", 6, 2, info)], headers=[(2, ".dynamic")])
    last = bytearray(stripped[: end[2] + end[3]])  # the file ends with it, and so does what is loaded
    last[64 + 32 : 64 + 48] = struct.pack("<QQ", len(last), len(last))
    for one in (image, stripped, bytes(last), pointed):
        try:
            elf = Elf(one, "fuzzed")
            found = version_of(elf, Memory(elf))
            assert found is None or (0 <= found.major < 1000 and 0 <= found.minor < 1000)
        except BinaryError:
            pass


class _Program:
    """What `runtime_type` asks of a program."""

    def __init__(self, elf: Elf, types: tuple[int, int], version: tuple[int, int]) -> None:
        self.elf, self.types, self.version = elf, types, version


def _described() -> Iterator[bytes]:
    for release in (15, 17, 27):
        name = b"\1\x09*main.Foo" if release >= 17 else b"\1\0\x09*main.Foo"
        header = struct.pack("<QQIBBBBQQiI", 8, 8, 7, 2, 8, 8, 22, 0, 0, 48, 0)
        yield packed(bytes([release]), header + name + bytes(16), b"\0\1\xfe\0\x08\xfd\xff")


@reader("binary.golang.rtype binary.golang.arginfo", _described, pieces=3)
def gotypes(data: bytes) -> None:
    """The runtime's descriptions of types, and what tracebacks know of parameters."""
    release, types, stream = unpacked(data, 3)
    elf = Elf(made.elf([(".rodata", 1, 2, types + bytes(1)), (".args", 1, 2, stream + bytes(1))]), "fuzzed")
    start = elf.section(".rodata")
    args = elf.section(".args")
    assert start is not None and args is not None
    program = _Program(elf, (start.addr, start.addr + start.size), (1, (release or b"\0")[0]))
    for at in range(start.addr, start.addr + min(start.size, 512), 8):
        found = runtime_type(program, at)  # type: ignore[arg-type]
        if found is not None:
            assert found.name.isprintable() and isinstance(found.basic, str)
    try:
        arginfo.elements(arginfo.read(elf, args.addr))
    except BinaryError:
        pass
    try:
        arginfo.elements(stream)
    except BinaryError:
        pass
    arginfo.alike(stream, stream[::-1])
