# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for debug information and the signatures made of it."""

from __future__ import annotations

from collections.abc import Iterator

from pyebpf.binary.dwarf import Dwarf
from pyebpf.binary.dwarf.sections import Sections
from pyebpf.binary.elf import Elf
from pyebpf.binary.image import Image
from pyebpf.binary.signatures import DebugInfo, signature_of
from pyebpf.binary.types import Type
from pyebpf.errors import BinaryError, TargetError
from pyebpf.output.signatures import as_json, text_of

from . import made
from .reader import packed, reader, unpacked

_SECTIONS = ("info", "abbrev", "str", "line_str", "str_offsets", "addr", "loclists", "loc", "rnglists", "ranges",
             "aranges", "types")  # fmt: skip
_HOW = ("gcc -g -gdwarf-4", "gcc -g -gdwarf-5", "clang -g -gdwarf-5", "gcc -g -gdwarf-3 -gno-strict-dwarf",
        "gcc -g -gdwarf-5 -gdwarf64", "gcc -g -gdwarf-4 -fdebug-types-section", "aarch64-linux-gnu-gcc -g")  # fmt: skip
_CPP_HOW = ("g++ -g -gdwarf-5", "clang++ -g -gdwarf-4", "g++ -g -gdwarf-4 -fdebug-types-section",
            "clang++ -g -gdwarf-5 -gsplit-dwarf")  # fmt: skip
_TEXT = made.BASE + 0x1000
_SIZE = 4096


def _pieces(program: bytes, how: int) -> bytes:
    sections = made.sections_of(program)
    head = bytes([how])
    symbols = sections.get(".symtab", b"")
    first = next((address for name, address, _, _ in made.headers_of(program) if name == ".text"), 0)
    return packed(
        head + first.to_bytes(8, "little") + symbols[: 24 * 40],
        sections.get(".strtab", b"")[:2048],
        sections.get(".text", b"")[:2048],
        *(sections.get(f".debug_{name}", b"") for name in _SECTIONS),
    )


def _seeds() -> Iterator[bytes]:
    flags = "-nostdlib -ffreestanding -static -fno-asynchronous-unwind-tables -o OUT IN"
    for number, how in enumerate(_HOW):
        for level in ("-O2", "-O0") if number < 3 else ("-O1",):
            program = made.built(made.C, f"{how} {level} {flags}")
            if program:
                yield _pieces(program, 2 if "aarch64" in how else 0)
    for how in _CPP_HOW:
        program = made.built(made.CPP, f"{how} -O1 -shared -fPIC -nostdlib -o OUT IN", ".cpp")
        if program:
            yield _pieces(program, 0)
    for level in (1, 3):
        rust = f"rustc -g -C opt-level={level} -C panic=abort -C link-arg=-nostdlib -o OUT IN"
        program = made.built(made.RUST, rust, ".rs")
        if program:
            yield _pieces(program, 0)
    info, abbreviations = go_types("main.work", _TEXT)
    symbol = (
        bytes(24) + (1).to_bytes(4, "little") + b"\x12\0\1\0" + _TEXT.to_bytes(8, "little") + (64).to_bytes(8, "little")
    )
    yield packed(b"\0" + _TEXT.to_bytes(8, "little") + symbol, b"\0main.work\0", b"\x90" * 63 + b"\xc3", info,
                 abbreviations, *([b""] * 10))  # fmt: skip


def go_types(name: str, start: int) -> tuple[bytes, bytes]:
    """``.debug_info`` and ``.debug_abbrev`` as Go's linker writes them (attributes 0x2900 and up), for one function."""

    def text(value: str) -> bytes:
        return value.encode() + b"\0"

    def number(value: int) -> bytes:
        return value.to_bytes(4, "little")

    kind, key, element = b"\x80\x52", b"\x81\x52", b"\x82\x52"
    abbreviations = bytes([1, 0x11, 1, 0x13, 0x0B, 0x11, 1, 0x12, 6, 0, 0]) + bytes([2, 0x2E, 1, 3, 8, 0x11, 1, 0x12, 6,
        0x40, 0x18, 0, 0]) + bytes([3, 5, 0, 3, 8, 0x49, 0x13, 2, 0x18, 0, 0]) + b"".join([
            bytes([4, 0x13, 1, 3, 8, 0x0B, 0x0B]) + kind + b"\x0b" + element + b"\x13\0\0",
            bytes([5, 0x0D, 0, 3, 8, 0x49, 0x13, 0x38, 0x0B, 0, 0]),
            bytes([6, 0x24, 0, 3, 8, 0x0B, 0x0B, 0x3E, 0x0B]) + kind + b"\x0b\0\0",
            bytes([7, 0x0F, 0, 3, 8, 0x49, 0x13]) + kind + b"\x0b\0\0",
            bytes([8, 0x16, 0, 3, 8, 0x49, 0x13]) + kind + b"\x0b" + key + b"\x13" + element + b"\x13\0\0",
            b"\0",
        ])  # fmt: skip
    head = 11
    body = b"\1\x16" + start.to_bytes(8, "little") + number(0x1000)
    function = b"\2" + text(name) + start.to_bytes(8, "little") + number(64) + b"\1\x9c"
    parameters = [("s", 0), ("n", 1), ("p", 2), ("m", 3)]
    size = head + len(body) + len(function) + sum(len(one) + 1 + 5 + 3 for one, _ in parameters) + 1
    basic = b"\6" + text("int") + b"\x08\x05\x02"
    where_int = size
    structure_at = where_int + len(basic)
    structure = b"\4" + text("[]int") + b"\x18\x17" + number(where_int)
    pointer_at = structure_at + len(structure) + 3 * (len("array") + 1 + 1 + 4 + 1) + 1 - 0
    members = b"".join(b"\5" + text(one) + number(where_int) + bytes([at])
                       for one, at in (("array", 0), ("lenth", 8), ("capxx", 16))) + b"\0"  # fmt: skip
    pointer = b"\7" + text("*int") + number(where_int) + b"\x16"
    alias = b"\x08" + text("map[int]int") + number(pointer_at) + b"\x15" + number(where_int) + number(where_int)
    places = (structure_at, where_int, pointer_at, pointer_at + len(pointer))
    formals = b"".join(b"\3" + text(one) + number(places[which]) + b"\2\x91" + bytes([8 * which])
                       for one, which in parameters)  # fmt: skip
    unit = body + function + formals + b"\0" + basic + structure + members + pointer + alias + b"\0"
    info = number(len(unit) + 7) + b"\4\0" + bytes(4) + b"\x08" + unit
    return info, abbreviations


def _file(data: bytes) -> tuple[bytes, list[int]]:
    """An ELF file, its code where the symbols say it is, and the addresses of functions."""
    head, names, code, *sections = unpacked(data, 15)
    how, first, symbols = (head or b"\0")[0], int.from_bytes(head[1:9], "little"), head[9:]
    symbols = symbols[: len(symbols) // 24 * 24]
    parts = [(".text", 1, 6, code), (".symtab", 2, 0, symbols), (".strtab", 3, 0, names)]
    parts += [(f".debug_{name}", 1, 0, one) for name, one in zip(_SECTIONS, sections) if one]
    image = bytearray(made.elf(parts, made.ARM if how & 2 else made.X86, links={".symtab": (3, 24)}))
    place = made.headers_of(bytes(image))[1][2]
    # One segment: the code, at the address it was linked to.
    image[64 + 8 : 64 + 48] = b"".join(
        value.to_bytes(8, "little") for value in (place, first, first, len(code), len(code))
    )
    rows = [symbols[at : at + 24] for at in range(0, len(symbols), 24)]
    addresses = [int.from_bytes(row[8:16], "little") for row in rows if row[4] & 15 == 2]
    return bytes(image), list(dict.fromkeys([*addresses, first]))[:16]


def _explore(types: list[Type]) -> None:
    for _ in range(200):
        if not types:
            return
        one = types.pop()
        assert one.size >= 0, "a type of negative size"
        assert one.align >= 1 and isinstance(one.name, str)
        if one.target is not None:
            types.append(one.target)
        types += [member.type for member in one.members]
        types += [variant.member.type for variant in one.variants]


_WORDS = (b"\x11\x01", b"\x12\x06", b"\x49\x13", b"\x02\x18", b"\x38\x0b", b"\x31\x13", b"\x9c", b"\x91\x00",
          b"\xa3\x01\x55",
          b"\x93\x08", b"\x9f", b"\x1f", b"\x21\x05", b"\x80\x52", b"\x88\x01", b"\xff\xff\xff\xff")  # fmt: skip


@reader("binary.dwarf", _seeds, pieces=15, words=_WORDS, seconds=2, longest=40 << 10)
def dwarf(data: bytes) -> None:
    """Abbreviations, entries, types, locations, ranges and lists, of DWARF 2 to 5: all that can be asked."""
    image, addresses = _file(data)
    try:
        elf = Elf(image, "fuzzed")
        found = Dwarf.of(elf, "/nonexistent")
    except BinaryError:
        return
    if isinstance(found, str):
        return
    for address in addresses:
        try:
            one = found.subprogram(address, ("work", "main.work"))
            if one is None:
                continue
            results = [one.result] if one.result else []
            one.captures  # noqa: B018
        except BinaryError:
            continue
        for formal in one.formals[:64]:
            for pc in (address, address + 4):
                assert formal.location(pc).pieces
        _explore([*(formal.type for formal in one.formals[:64]), *results])
    found.close()


@reader("binary.signatures binary.abi output.signatures",
        _seeds, pieces=15, words=_WORDS, seconds=2, longest=40 << 10)  # fmt: skip
def signatures(data: bytes) -> None:
    """Signatures of functions: debug information and the calling convention, on any code."""
    image, _ = _file(data)
    try:
        elf = Elf(image, "fuzzed")
    except BinaryError:
        return
    with Image(elf, "/nonexistent") as whole, DebugInfo("/nonexistent") as debug:
        try:
            functions = whole.search("*", limit=1000)
        except TargetError:
            return
        for function in functions[:12]:
            for address in (function.address, function.address + 4):
                signature = signature_of(whole, function, address, debug=debug)
                text_of(function, signature)
                as_json(signature)


@reader("binary.dwarf.sections binary.dwarf.file", lambda: [packed(b"ZLIB" + bytes(8), b"a\0x"), packed(b"",
        b"../x\0id")],
        pieces=2, words=(b"ZLIB", b"../", b"\0"))  # fmt: skip
def packeddebug(data: bytes) -> None:
    """Sections packed the old way, and the names of files that debug information is shared with."""
    old, link = unpacked(data, 2)
    for name in (".gnu_debugaltlink", ".debug_sup"):
        image = made.elf([(".text", 1, 6, bytes(16)), (".zdebug_info", 1, 0, old), (name, 1, 0, link)])
        elf = Elf(image, "fuzzed")
        for section in ("debug_info", "debug_abbrev"):
            try:
                Sections(elf)[section]
            except BinaryError:
                pass
        try:
            Dwarf.of(elf, "/nonexistent", elf)
        except BinaryError:
            pass
