# SPDX-License-Identifier: BSD-2-Clause
"""One symbol table of an ELF file, searched as it lies in the file.

Node.js has 110,000 symbols and a tracer wants a handful of them. So entries stay bytes and are told by their index; the
columns that are searched (names, addresses) are strided views of the bytes; names are found by searching the strings.

Layout and constants: System V ABI, "Symbol Table"; ``Elf64_Sym`` in ``include/uapi/linux/elf.h``.
"""

from __future__ import annotations

import mmap
import re
import struct
from array import array
from collections.abc import Container, Iterable
from itertools import compress

from ..errors import BinaryError
from .elf import PT_DYNAMIC, SHF_COMPRESSED, SHT_NOBITS, SHT_SYMTAB, Elf

STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC = 0, 2, 10
STB_GLOBAL, STB_WEAK = 1, 2
SHN_UNDEF = 0

_ENTRY = struct.Struct("<IBBHQQ")
_FUNCTION_TYPES = bytes(info & 15 in (STT_FUNC, STT_GNU_IFUNC) for info in range(256))
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5

# Bounds on hostile files, well above what is seen (Chromium: 1.5 million symbols, 150 MB of names).
_MAX_SYMBOLS = 4 << 20
_MAX_STRINGS = 512 << 20
_MAX_NAME = 64 << 10
# Linkers store a name that ends another one inside it. Longer ones begin where a string begins, or else thousands of
# symbols could each have another end of one long string: names many times as large as the file.
_MAX_ENDING = 1024
_MAX_DYNAMIC = 4096
# Pieces of the strings, and bytes in each, by which to tell what is rare.
_SAMPLES = 8
_SAMPLE = 32 << 10
# Above this many places to look for, walking the whole table is cheaper.
_MAX_PLACES = 100_000
# So it is above that many strings with the text in it, and an eighth of the symbols.
_FEW_STRINGS = 100


class Table:
    """Symbols and their strings.

    Attributes:
        label: what to call the table in messages.
        count: how many entries it has.
    """

    __slots__ = (
        "_end",
        "_entries",
        "_long",
        "_names",
        "_order",
        "_outside",
        "_start",
        "_strings",
        "_values",
        "_versioned",
        "count",
        "label",
    )

    def __init__(
        self, label: str, entries: memoryview | bytes, strings: mmap.mmap | bytes, start: int, end: int, versioned: bool
    ) -> None:
        """``entries`` are Elf64_Sym, names in ``strings[start:end]``; ``versioned`` ones may end in "@VERSION"."""
        self.label = label
        self.count = len(entries) // _ENTRY.size
        self._entries = memoryview(entries)[: self.count * _ENTRY.size]
        self._versioned = versioned
        self._strings = strings
        self._start = start
        self._end = end
        # Columns of the table: every sixth 32-bit word is a st_name, every third 64-bit word from 1 a st_value.
        self._names = self._entries.cast("I")[0::6]
        self._values = self._entries.cast("Q")[1::3]
        self._order: tuple[array[int], array[int]] | None = None
        self._long: dict[int, str] = {}
        self._outside: tuple[int, int, list[int]] = (0, 0, [])

    def entry(self, index: int) -> tuple[int, ...]:
        """st_name, st_info, st_other, st_shndx, st_value, st_size."""
        return _ENTRY.unpack_from(self._entries, index * _ENTRY.size)

    def name_of(self, index: int) -> bytes:
        """The name of entry ``index``, without its version; b"" if there is none or it is absurdly long."""
        start = self._start + self._names[index]
        end = self._strings.find(b"\0", start, min(self._end, start + _MAX_NAME))
        if end < 0 or (end - start > _MAX_ENDING and start > self._start and self._strings[start - 1]):
            return b""
        name = self._strings[start:end]
        if self._versioned and b"@" in name:
            at = name.find(b"@")
            if at > 0:
                return name[:at]
        return name

    def text_of(self, index: int, name: bytes | None = None) -> str:
        """The name of entry ``index`` as text; one for all entries that share a long name.

        Args:
            name: what `name_of` says, if that is known already.
        """
        if name is None:
            name = self.name_of(index)
        if len(name) <= _MAX_ENDING:
            return name.decode("utf-8", "backslashreplace")
        at = self._names[index]
        text = self._long.get(at)
        if text is None:
            text = self._long[at] = name.decode("utf-8", "backslashreplace")
        return text

    def named(self, name: bytes) -> Iterable[int]:
        """Indices of the entries called ``name``, perhaps with a version, and of some others."""
        find = self._strings.find
        ends = (b"\0", b"@") if self._versioned else (b"\0",)
        places: set[int] = set()
        seen = 0
        position = find(name, self._start, self._end) if name and b"\0" not in name else -1
        while position >= 0:
            after = position + len(name)
            if self._strings[after : after + 1] in ends:
                places.add(position - self._start)
            seen += 1
            if seen > _MAX_PLACES:
                return self.functions()
            position = find(name, position + 1, self._end)
        return self._with_names(places)

    def containing(self, required: tuple[bytes, ...], beginnings: tuple[bytes, ...] = (b"",)) -> Iterable[int]:
        """Indices of the entries whose names contain every one of ``required``, and of some others.

        Of those names only the ones with one of ``beginnings``, again with some others.
        """
        if not required:
            return self.functions()
        if any(b"\0" in fragment for fragment in required):
            return ()
        rarest = self._rarest(required)
        others = [fragment for fragment in required if fragment != rarest]
        find, rfind = self._strings.find, self._strings.rfind
        places: set[int] = set()
        most = _FEW_STRINGS + self.count // 8
        end = 0
        # A regular expression finds a text in a mapped file a third faster than find() does.
        for strings, match in enumerate(re.compile(re.escape(rarest)).finditer(self._strings, self._start, self._end)):
            position = match.start()
            if position < end:
                continue  # in the same string as the one before
            start = max(rfind(b"\0", max(self._start, position - _MAX_NAME), position) + 1, self._start)
            end = find(b"\0", position, min(self._end, position + _MAX_NAME))
            if end < 0:
                end = min(self._end, position + _MAX_NAME)
            if all(find(fragment, start, end) >= 0 for fragment in others):
                # Linkers store a name that ends another one inside it, so each byte up to the fragment may begin one.
                last = rfind(rarest, start, end)
                for beginning in beginnings:
                    if not beginning:
                        places.update(range(start - self._start, last + 1 - self._start))
                    place = find(beginning, start, last + len(beginning)) if beginning else -1
                    while place >= 0:
                        places.add(place - self._start)
                        place = find(beginning, place + 1, last + len(beginning))
            if len(places) > _MAX_PLACES or strings > min(_MAX_PLACES, most):
                return self.functions()
        return self._with_names(places)

    def at(self, addresses: set[int]) -> Iterable[int]:
        """Indices of the entries whose value is in ``addresses``."""
        return compress(range(self.count), map(addresses.__contains__, self._values.tolist()))

    def functions_at(self, addresses: Container[int]) -> Iterable[int]:
        """The addresses among ``addresses`` where functions begin, each as often as one does."""
        return filter(addresses.__contains__, compress(self._values.tolist(), self._are_functions()))

    def has(self, pattern: re.Pattern[bytes]) -> bool:
        """Does ``pattern`` occur in the strings?"""
        return pattern.search(self._strings, self._start, self._end) is not None

    def functions(self) -> Iterable[int]:
        """Indices of the entries whose type is a function's."""
        return compress(range(self.count), self._are_functions())

    def _are_functions(self) -> bytes:
        """One byte an entry: st_info, mapped to 1 for the types that are functions."""
        return bytes(self._entries[4 :: _ENTRY.size]).translate(_FUNCTION_TYPES)

    def outside(self, start: int, end: int) -> list[int]:
        """Indices of the functions whose value isn't in [start, end)."""
        if self._outside[:2] != (start, end):
            values = self._values.tolist()
            found = [index for index in self.functions() if not start <= values[index] < end]
            self._outside = (start, end, found)
        return self._outside[2]

    def by_address(self) -> tuple[array[int], array[int]]:
        """(addresses, indices) of the functions, sorted by address; made at the first call."""
        if self._order is None:
            indices = list(self.functions())
            values = self._values.tolist()  # of a view that isn't contiguous each look is slow
            indices.sort(key=values.__getitem__)
            self._order = (array("Q", map(values.__getitem__, indices)), array("I", indices))
        return self._order

    def _rarest(self, fragments: tuple[bytes, ...]) -> bytes:
        """The fragment that the fewest names have, going by samples of the strings; of several the longest."""
        if len(fragments) == 1:
            return fragments[0]
        step = max((self._end - self._start) // _SAMPLES, _SAMPLE)
        samples = [self._strings[at : at + _SAMPLE] for at in range(self._start, self._end, step)]
        return min(fragments, key=lambda fragment: (sum(text.count(fragment) for text in samples), -len(fragment)))

    def _with_names(self, places: set[int]) -> Iterable[int]:
        return compress(range(self.count), map(places.__contains__, self._names.tolist())) if places else ()


def section_table(elf: Elf, kind: int, label: str) -> Table | None:
    """The table of type ``kind`` (SHT_SYMTAB, SHT_DYNSYM) in ``elf``; None if there is none or it is empty.

    Raises:
        BinaryError: it is broken or larger than any table known.
    """
    section = next((section for section in elf.sections if section.type == kind), None)
    if section is None or not section.size:
        return None
    where = f"{elf.path}: {section.name}"
    if section.entsize != _ENTRY.size:
        raise BinaryError(f"{where} has entries of {section.entsize} bytes instead of {_ENTRY.size}")
    if section.size > _MAX_SYMBOLS * _ENTRY.size:
        raise BinaryError(f"{where} claims {section.size // _ENTRY.size} symbols; at most {_MAX_SYMBOLS} are read")
    if not 0 < section.link < len(elf.sections):
        raise BinaryError(f"{where} has no string table")
    names = elf.sections[section.link]
    strings: mmap.mmap | bytes
    if names.flags & SHF_COMPRESSED:
        strings = bytes(elf.contents(names))
        start, end = 0, len(strings)
    else:
        strings, start, end = elf.data, names.offset, names.offset + names.size
        if names.type == SHT_NOBITS or end > elf.size:
            raise BinaryError(f"{where}: its string table lies past the end of the file")
    return Table(label, elf.contents(section), strings, start, min(end, start + _MAX_STRINGS), kind == SHT_SYMTAB)


def dynamic_table(elf: Elf, label: str) -> Table | None:
    """The dynamic symbols, found as the dynamic loader finds them, without section headers; None if there are none.

    Raises:
        BinaryError: they are broken.
    """
    segment = next((segment for segment in elf.segments if segment.type == PT_DYNAMIC), None)
    if segment is None:
        return None
    raw = elf.data[segment.offset : segment.offset + min(segment.filesz, 16 * _MAX_DYNAMIC)]
    tags = dict(struct.iter_unpack("<qQ", raw[: len(raw) & ~15]))
    if not {_DT_SYMTAB, _DT_STRTAB, _DT_STRSZ} <= tags.keys():
        return None
    if _DT_HASH in tags:
        # nbucket, nchain: there is one chain entry a symbol.
        count = int.from_bytes(elf.read(tags[_DT_HASH] + 4, 4), "little")
    elif _DT_GNU_HASH in tags:
        count = _gnu_hash_count(elf, tags[_DT_GNU_HASH])
    else:
        return None
    start = elf.offset_of(tags[_DT_SYMTAB])
    names = elf.offset_of(tags[_DT_STRTAB])
    end = start + count * _ENTRY.size
    names_end = names + min(tags[_DT_STRSZ], _MAX_STRINGS)
    if count > _MAX_SYMBOLS or end > elf.size or names_end > elf.size:
        raise BinaryError(f"{elf.path}: its dynamic symbols lie past the end of the file")
    return Table(label, memoryview(elf.data)[start:end], elf.data, names, names_end, False)


def _gnu_hash_count(elf: Elf, vaddr: int) -> int:
    """How many symbols a DT_GNU_HASH table covers: the chain that begins last ends at the last symbol.

    Layout: ``elf/dl-setup_hash.c`` in glibc. Header: buckets, first symbol with a hash, words in the Bloom filter.
    """
    buckets, first, bloom, _ = struct.unpack("<4I", elf.read(vaddr, 16))
    table = vaddr + 16 + 8 * bloom
    last = max(memoryview(elf.read(table, 4 * buckets)).cast("I"), default=0)
    if last < first:
        return int(first)
    chains = elf.offset_of(table + 4 * buckets)
    for index in range(last, _MAX_SYMBOLS):
        where = chains + 4 * (index - first)
        if where >= elf.size:
            break
        if elf.data[where] & 1:
            return index + 1
    raise BinaryError(f"{elf.path}: the hash table of its dynamic symbols has no end")
