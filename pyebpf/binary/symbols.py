# SPDX-License-Identifier: BSD-2-Clause
"""The functions in a file's symbol tables: by name, by part of a name, by address.

Node.js has 110,000 symbols and a tracer wants a handful of them, so no table is turned into Python objects: a name is
found by searching the string table as it lies in the file, and only what matched becomes a ``Symbol``.

Symbol layout and constants: System V ABI, "Symbol Table"; ``Elf64_Sym`` in ``include/uapi/linux/elf.h``.
"""

from __future__ import annotations

import mmap
import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

from ..errors import BinaryError
from . import debugfile
from .elf import PT_DYNAMIC, SHF_COMPRESSED, SHT_DYNSYM, SHT_NOBITS, SHT_SYMTAB, Elf, Section

STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC = 0, 2, 10
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2

_ENTRY = struct.Struct("<IBBHQQ")
_FUNCTION_TYPES = bytes(info & 15 in (STT_FUNC, STT_GNU_IFUNC) for info in range(256))
_SHN_UNDEF = 0
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5

# Bounds on hostile files, well above what is seen (Chromium: 1.5 million symbols, 150 MB of names).
_MAX_SYMBOLS = 4 << 20
_MAX_STRINGS = 512 << 20
_MAX_NAME = 64 << 10
_MAX_NAME_BYTES = 512 << 20
_MAX_DYNAMIC = 4096
# Above this many places to look for, walking the whole table is cheaper.
_MAX_PLACES = 100_000
# Starts of functions to look back at for one that is long enough to hold an address.
_LOOK_BACK = 16


class Symbol(NamedTuple):
    """A function symbol.

    ``name`` is the linkage name without its version, ``size`` is in bytes and 0 when the table doesn't say (functions
    written in assembly), ``type`` is STT_FUNC or STT_GNU_IFUNC, ``bind`` STB_LOCAL, STB_GLOBAL or STB_WEAK, and
    ``table`` says where it was found: ".symtab", ".dynsym", ".gnu_debugdata" or the path of a debug file.
    """

    name: str
    address: int
    size: int
    type: int
    bind: int
    table: str


class _Table:
    """One table of symbols and its strings, as they lie in the file."""

    __slots__ = ("_end", "_names", "_order", "_start", "_strings", "_values", "count", "entries", "label", "versioned")

    def __init__(
        self, label: str, entries: memoryview | bytes, strings: mmap.mmap | bytes, start: int, end: int, versioned: bool
    ) -> None:
        """``entries`` are Elf64_Sym, names in ``strings[start:end]``; ``versioned`` ones may end in "@VERSION"."""
        self.label = label
        self.count = len(entries) // _ENTRY.size
        self.entries = memoryview(entries)[: self.count * _ENTRY.size]
        self.versioned = versioned
        self._strings = strings
        self._start = start
        self._end = end
        # Columns of the table: every sixth 32-bit word is a st_name, every third 64-bit word from 1 a st_value.
        self._names = self.entries.cast("I")[0::6]
        self._values = self.entries.cast("Q")[1::3]
        self._order: tuple[array[int], array[int]] | None = None

    def entry(self, index: int) -> tuple[int, int, int, int, int, int]:
        """st_name, st_info, st_other, st_shndx, st_value, st_size."""
        name, info, other, section, value, size = _ENTRY.unpack_from(self.entries, index * _ENTRY.size)
        return name, info, other, section, value, size

    def name_of(self, index: int) -> bytes:
        """The name of entry ``index``, without its version; b"" if there is none or it is absurdly long."""
        start = self._start + self._names[index]
        end = self._strings.find(b"\0", start, min(self._end, start + _MAX_NAME))
        if end < 0:
            return b""
        name = self._strings[start:end]
        if self.versioned:
            at = name.find(b"@")
            if at > 0:
                return name[:at]
        return name

    def named(self, name: bytes) -> Iterable[int]:
        """Indices of the entries called ``name``, perhaps with a version, and of some others."""
        places: set[int] = set()
        for text in (name + b"\0", name + b"@") if self.versioned else (name + b"\0",):
            position = self._strings.find(text, self._start, self._end)
            while position >= 0:
                places.add(position - self._start)
                if len(places) > _MAX_PLACES:
                    return self.functions()
                position = self._strings.find(text, position + 1, self._end)
        return self._with_names(places)

    def containing(self, required: tuple[bytes, ...]) -> Iterable[int]:
        """Indices of the entries whose names contain every one of ``required``, and of some others."""
        if not required:
            return self.functions()
        longest = max(required, key=len)
        others = [fragment for fragment in required if fragment != longest]
        find, rfind = self._strings.find, self._strings.rfind
        places: set[int] = set()
        strings = 0
        position = find(longest, self._start, self._end)
        while position >= 0:
            strings += 1
            start = max(rfind(b"\0", max(self._start, position - _MAX_NAME), position) + 1, self._start)
            end = find(b"\0", position, min(self._end, position + _MAX_NAME))
            if end < 0:
                end = min(self._end, position + _MAX_NAME)
            if all(find(fragment, start, end) >= 0 for fragment in others):
                # Linkers store a name that ends another one inside it, so each byte up to the fragment may begin one.
                last = rfind(longest, start, end)
                places.update(range(start - self._start, last + 1 - self._start))
            if max(len(places), strings) > _MAX_PLACES:
                return self.functions()
            position = find(longest, end, self._end)
        return self._with_names(places)

    def at(self, addresses: set[int]) -> Iterable[int]:
        """Indices of the entries whose value is in ``addresses``."""
        return compress(range(self.count), map(addresses.__contains__, self._values))

    def has(self, pattern: re.Pattern[bytes]) -> bool:
        """Does ``pattern`` occur in the strings?"""
        return pattern.search(self._strings, self._start, self._end) is not None

    def functions(self) -> Iterable[int]:
        """Indices of the entries whose type is a function's."""
        # One byte an entry: st_info, mapped to 1 for the types that are functions.
        return compress(range(self.count), bytes(self.entries[4 :: _ENTRY.size]).translate(_FUNCTION_TYPES))

    def by_address(self) -> tuple[array[int], array[int]]:
        """(addresses, indices) of the functions, sorted by address; made at the first call."""
        if self._order is None:
            indices = list(self.functions())
            indices.sort(key=self._values.__getitem__)
            self._order = (array("Q", map(self._values.__getitem__, indices)), array("I", indices))
        return self._order

    def _with_names(self, places: set[int]) -> Iterable[int]:
        return compress(range(self.count), map(places.__contains__, self._names)) if places else ()


class SymbolTable:
    """The functions defined in an ELF file, from all tables it and its debug files have.

    Attributes:
        sources: for each place looked at, (its name, was there a table?).
        notes: sentences about what was wrong and passed over.
    """

    __slots__ = ("_cold", "_debug_files", "_dropped", "_elf", "_notes", "_ranges", "_starts", "_tables", "sources")

    def __init__(self, elf: Elf, debug_root: str = "/") -> None:
        """Find the tables. A table that is broken is passed over with a note.

        Args:
            elf: the file.
            debug_root: the directory in which the system that ``elf`` belongs to has its /usr/lib/debug.
        """
        self._elf = elf
        self._ranges = elf.executable_ranges()
        self._starts = [start for start, _ in self._ranges]
        self._tables: list[_Table] = []
        self._debug_files: list[Elf] = []
        self._dropped: set[tuple[str, int]] = set()
        self._notes: list[str] = list(elf.notes)
        self._cold: dict[str, list[tuple[int, int]]] | None = None
        self.sources: list[tuple[str, bool]] = []
        stripped = not self._add(elf, SHT_SYMTAB, ".symtab")
        if not elf.sections and self._add_dynamic():
            pass
        else:
            self._add(elf, SHT_DYNSYM, ".dynsym")
        # A file that kept its .symtab wasn't stripped; its debug file would say the same once more.
        if stripped:
            self._add_debug_files(debug_root)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was wrong and passed over, so far: symbols are looked at only when they match something."""
        if not self._dropped:
            return tuple(self._notes)
        count = len(self._dropped)
        return (*self._notes, f"{self._elf.path}: {count} function symbols that don't lie in executable code left out")

    def close(self) -> None:
        """Close the debug files (not the ELF file itself, which is the caller's)."""
        self._tables = []
        for debug in self._debug_files:
            debug.close()
        self._debug_files = []

    # -- finding tables

    def _add_debug_files(self, debug_root: str) -> None:
        search = debugfile.separate(self._elf, debug_root)
        self._notes += search.notes
        if search.elf is not None:
            self._debug_files.append(search.elf)
            if self._add(search.elf, SHT_SYMTAB, search.elf.path):
                return
        else:
            self.sources += [(path, False) for path in search.tried]
        try:
            mini = debugfile.embedded(self._elf)
        except BinaryError as error:
            self._notes.append(str(error))
            mini = None
        if mini is None:
            self.sources.append((".gnu_debugdata", False))
        else:
            self._debug_files.append(mini)
            self._add(mini, SHT_SYMTAB, ".gnu_debugdata")

    def _add(self, elf: Elf, kind: int, label: str) -> bool:
        """Take the table of type ``kind`` in ``elf``, if there is one."""
        section = next((section for section in elf.sections if section.type == kind), None)
        table = None
        if section is not None and section.size:
            try:
                table = self._table(elf, section, label)
            except BinaryError as error:
                self._notes.append(f"{error}; its symbols are not used")
        self.sources.append((label, table is not None))
        if table is not None:
            self._tables.append(table)
        return table is not None

    def _table(self, elf: Elf, section: Section, label: str) -> _Table:
        if section.entsize != _ENTRY.size:
            raise BinaryError(f"{elf.path}: {section.name} has entries of {section.entsize} bytes")
        if not 0 < section.link < len(elf.sections):
            raise BinaryError(f"{elf.path}: {section.name} has no string table")
        names = elf.sections[section.link]
        strings: mmap.mmap | bytes
        if names.flags & SHF_COMPRESSED:
            strings = bytes(elf.contents(names))
            start, end = 0, len(strings)
        else:
            if names.type == SHT_NOBITS or names.offset + names.size > elf.size:
                raise BinaryError(f"{elf.path}: {section.name}: its string table lies past the end of the file")
            strings, start, end = elf.data, names.offset, names.offset + names.size
        entries = elf.contents(section)
        if len(entries) > _MAX_SYMBOLS * _ENTRY.size:
            self._notes.append(f"{elf.path}: only the first {_MAX_SYMBOLS} symbols of {section.name} are used")
            entries = entries[: _MAX_SYMBOLS * _ENTRY.size]
        return _Table(label, entries, strings, start, min(end, start + _MAX_STRINGS), section.type == SHT_SYMTAB)

    def _add_dynamic(self) -> bool:
        """The dynamic symbols of a file without section headers, found as the dynamic loader finds them."""
        try:
            table = self._dynamic_table()
        except (BinaryError, struct.error) as error:
            self._notes.append(f"{self._elf.path}: dynamic symbols not used: {error}")
            return False
        if table is None:
            return False
        self._tables.append(table)
        self.sources.append((".dynsym", True))
        return True

    def _dynamic_table(self) -> _Table | None:
        elf = self._elf
        segment = next((segment for segment in elf.segments if segment.type == PT_DYNAMIC), None)
        if segment is None:
            return None
        raw = elf.data[segment.offset : segment.offset + min(segment.filesz, 16 * _MAX_DYNAMIC)]
        tags = dict(struct.iter_unpack("<qQ", raw[: len(raw) & ~15]))
        if not {_DT_SYMTAB, _DT_STRTAB, _DT_STRSZ} <= tags.keys():
            return None
        if _DT_HASH in tags:
            count = int.from_bytes(elf.read(tags[_DT_HASH] + 4, 4), "little")
        elif _DT_GNU_HASH in tags:
            count = self._gnu_hash_count(tags[_DT_GNU_HASH])
        else:
            return None
        start = elf.offset_of(tags[_DT_SYMTAB])
        names = elf.offset_of(tags[_DT_STRTAB])
        end = start + min(count, _MAX_SYMBOLS) * _ENTRY.size
        names_end = names + min(tags[_DT_STRSZ], _MAX_STRINGS)
        if end > elf.size or names_end > elf.size:
            raise BinaryError("they lie past the end of the file")
        return _Table(".dynsym", memoryview(elf.data)[start:end], elf.data, names, names_end, False)

    def _gnu_hash_count(self, vaddr: int) -> int:
        """How many symbols a DT_GNU_HASH table covers: the chain that begins last ends at the last symbol.

        Layout: glibc's elf/dl-lookup.c and elf/dl-setup_hash.c.
        """
        elf = self._elf
        buckets, first, bloom, _ = struct.unpack("<4I", elf.read(vaddr, 16))
        table = vaddr + 16 + 8 * bloom
        last = max(memoryview(elf.read(table, 4 * buckets)).cast("I"), default=0)
        if last < first:
            return int(first)
        chains = elf.offset_of(table + 4 * buckets)
        for index in range(last, _MAX_SYMBOLS):
            where = chains + 4 * (index - first)
            if where + 4 > elf.size:
                raise BinaryError("their hash table has no end")
            if elf.data[where] & 1:
                return index + 1
        raise BinaryError("their hash table has no end")

    # -- symbols

    def _symbol(self, table: _Table, index: int, name: str | None = None) -> Symbol | None:
        """The function at ``index``, or None if it isn't a defined function in executable code."""
        entry = table.entry(index)
        if not _is_function(entry):
            return None
        if name is None:
            name = table.name_of(index).decode("utf-8", "backslashreplace")
        address, size = entry[4], entry[5]
        end = self._code_end(address)
        if not name or not end:
            self._dropped.add((table.label, index))
            return None
        return Symbol(name, address, min(size, end - address), entry[1] & 15, entry[1] >> 4, table.label)

    def _code_end(self, address: int) -> int:
        """The end of the executable range ``address`` is in, 0 if in none."""
        at = bisect_right(self._starts, address) - 1
        return self._ranges[at][1] if at >= 0 and address < self._ranges[at][1] else 0

    def named(self, name: str) -> list[Symbol]:
        """The functions with exactly that linkage name, of every table."""
        raw = name.encode("utf-8", "surrogateescape")
        if not raw or b"\0" in raw:
            return []
        found = ((table, index) for table in self._tables for index in table.named(raw))
        symbols = (self._symbol(table, index) for table, index in found if table.name_of(index) == raw)
        return _distinct(symbols)

    def search(self, pattern: re.Pattern[str] | None = None, required: tuple[bytes, ...] = ()) -> list[Symbol]:
        """The functions whose linkage names contain all of ``required`` and match ``pattern`` from the start.

        ``required`` is what makes a search fast: the rest of the table isn't looked at.

        Raises:
            BinaryError: the names are impossibly large together.
        """
        return _distinct(self._search(pattern, required))

    def _search(self, pattern: re.Pattern[str] | None, required: tuple[bytes, ...]) -> Iterator[Symbol | None]:
        budget = _MAX_NAME_BYTES
        matches = re.compile("").match if pattern is None else pattern.match
        for table in self._tables:
            for index in table.containing(required):
                name = table.name_of(index)
                budget -= len(name)
                if budget < 0:
                    raise BinaryError(f"{self._elf.path}: its symbol names add up to more than {_MAX_NAME_BYTES} bytes")
                for fragment in required:
                    if fragment not in name:
                        break
                else:
                    text = name.decode("utf-8", "backslashreplace")
                    if matches(text):
                        yield self._symbol(table, index, text)

    def at_addresses(self, addresses: Iterable[int]) -> dict[int, list[Symbol]]:
        """All functions that begin at each of ``addresses``."""
        wanted = set(addresses)
        result: dict[int, list[Symbol]] = {}
        found = ((table, index) for table in self._tables for index in table.at(wanted)) if wanted else ()
        for symbol in _distinct(self._symbol(table, index) for table, index in found):
            result.setdefault(symbol.address, []).append(symbol)
        return result

    def aliases_of(self, address: int) -> list[Symbol]:
        """All functions that begin at ``address``, the most telling name first."""
        found = (
            (table, index)
            for table in self._tables
            for addresses, indices in (table.by_address(),)
            for index in indices[bisect_right(addresses, address - 1) : bisect_right(addresses, address)]
        )
        return sorted(_distinct(self._symbol(table, index) for table, index in found), key=preference)

    def at(self, address: int) -> Symbol | None:
        """The function that holds ``address``; one without a size reaches to the next function."""
        code_end = next_start = self._code_end(address)
        if not code_end:
            return None
        starts: list[int] = []
        for table in self._tables:
            addresses, _ = table.by_address()
            position = bisect_right(addresses, address)
            starts += addresses[max(position - _LOOK_BACK, 0) : position]
            if position < len(addresses):
                next_start = min(next_start, addresses[position])
        for start in sorted(set(starts), reverse=True)[:_LOOK_BACK]:
            if self._code_end(start) != code_end:
                return None
            for symbol in self.aliases_of(start):
                if address < start + symbol.size:
                    return symbol
                if not symbol.size and start == max(starts) and address < next_start:
                    return symbol
        return None

    def cold_parts(self, names: Iterable[str]) -> tuple[tuple[int, int], ...]:
        """(address, size) of "NAME.cold", "NAME.cold.1"...: parts moved out of the functions of those linkage names.

        Static functions of different files may share a name: then some of the parts belong to another one.
        """
        if self._cold is None:
            self._cold = {}
            for symbol in self.search(required=(b".cold",)):
                base, part, number = symbol.name.rpartition(".cold")
                if part and (not number or (number[0] == "." and number[1:].isdigit())):
                    self._cold.setdefault(base, []).append((symbol.address, symbol.size))
        return tuple(sorted({part for name in names for part in self._cold.get(name, ())}))

    def mentions(self, pattern: re.Pattern[bytes]) -> bool:
        """Does ``pattern`` occur anywhere in the string tables: as a function, a variable, or what is imported?"""
        return any(table.has(pattern) for table in self._tables)

    def imported(self) -> list[str]:
        """The linkage names of the functions (and what may be functions) the file takes from shared libraries."""
        names: set[bytes] = set()
        for table in self._tables:
            if table.label == ".dynsym":
                for index in range(table.count):
                    _, info, _, section, _, _ = table.entry(index)
                    if section == _SHN_UNDEF and info & 15 in (STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC):
                        names.add(table.name_of(index))
        return sorted(name.decode("utf-8", "backslashreplace") for name in names if name)

    def names_near(self, name: str, n: int = 3) -> list[str]:
        """Up to ``n`` linkage names spelled much like ``name``, the closest first.

        Names are compared that hold one half of ``name`` unchanged, or all of it: one mistake leaves one half alone.
        """
        from difflib import get_close_matches

        raw = name.encode("utf-8", "surrogateescape")
        half = len(raw) // 2
        candidates: dict[str, None] = {}
        for part in (raw, raw[:half], raw[half:]) if half > 1 else (raw,):
            if part and b"\0" not in part:
                near = (s.name for s in self.search(required=(part,)) if abs(len(s.name) - len(name)) <= max(4, half))
                candidates.update(dict.fromkeys(sorted(near, key=len)[:500]))
        return get_close_matches(name, list(candidates), n)


def preference(symbol: Symbol) -> tuple[bool, int, int, int, str]:
    """Sort key for names of one function: sized, then global before weak before local, then the plainest."""
    bind = {STB_GLOBAL: 0, STB_WEAK: 1}.get(symbol.bind, 2)
    underscores = len(symbol.name) - len(symbol.name.lstrip("_"))
    return not symbol.size, bind, underscores, len(symbol.name), symbol.name


def _is_function(entry: tuple[int, int, int, int, int, int]) -> bool:
    _, info, _, section, value, _ = entry
    return info & 15 in (STT_FUNC, STT_GNU_IFUNC) and section != _SHN_UNDEF and value != 0


def _distinct(symbols: Iterable[Symbol | None]) -> list[Symbol]:
    """The symbols in order, those that say the same in a second table left out."""
    seen: dict[tuple[str, int], Symbol] = {}
    for symbol in symbols:
        if symbol is not None:
            seen.setdefault((symbol.name, symbol.address), symbol)
    return list(seen.values())
