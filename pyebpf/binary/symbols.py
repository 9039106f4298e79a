# SPDX-License-Identifier: BSD-2-Clause
"""The functions in a file's symbol tables: by name, by part of a name, by address.

All tables of the file and its debug files are one to the caller. Only what matched becomes a ``Symbol``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from ..errors import BinaryError
from . import debugfile
from .elf import SHT_DYNSYM, SHT_SYMTAB, Elf
from .symtab import (
    SHN_UNDEF,
    STB_GLOBAL,
    STB_WEAK,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_NOTYPE,
    Table,
    dynamic_table,
    section_table,
)

# A bound on hostile files; Chromium's names are 150 MB.
_MAX_NAME_BYTES = 512 << 20
# Starts of functions to look back at for one that is long enough to hold an address.
_LOOK_BACK = 16
# Names to consider for each part of a misspelt one.
MAX_RESEMBLING = 300
_SHORT_WORD = 6
# What GCC appends to the name of a copy, gcc/cgraphclones.cc and its callers.
_COPY = r"(?:\.(?:constprop|isra|part)(?:\.\d+)*)+"


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
        self._tables: list[Table] = []
        self._debug_files: list[Elf] = []
        self._dropped: set[tuple[str, int]] = set()
        self._notes: list[str] = list(elf.notes)
        self._cold: dict[str, list[tuple[int, int]]] | None = None
        self.sources: list[tuple[str, bool]] = []
        stripped = not self._add(elf, SHT_SYMTAB, ".symtab")
        self._add(elf, SHT_DYNSYM, ".dynsym")
        # A file that kept its .symtab wasn't stripped; its debug file would say the same once more.
        if stripped:
            self._add_debug_files(debug_root)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was wrong and passed over, so far: symbols are looked at only when they match something."""
        if not self._dropped:
            return tuple(self._notes)
        dropped = f"{len(self._dropped)} function symbols left out: nameless, or not in executable code"
        return (*self._notes, f"{self._elf.path}: {dropped}")

    def trim(self) -> None:
        """As `Elf.trim`, of the debug files."""
        for debug in self._debug_files:
            debug.trim()

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
            # The places a debug link is looked for are many; its name says as much.
            places = (
                path if "/.build-id/" in path else f"debug link {path.rpartition('/')[2]}" for path in search.tried
            )
            self.sources += [(place, False) for place in dict.fromkeys(places)]
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
        try:
            if kind == SHT_DYNSYM and not elf.sections:
                table = dynamic_table(elf, label)
            else:
                table = section_table(elf, kind, label)
        except BinaryError as error:
            self._notes.append(f"symbols not used: {error}")
            table = None
        self.sources.append((label, table is not None))
        if table is not None:
            self._tables.append(table)
        return table is not None

    # -- symbols

    def _symbol(self, table: Table, index: int, name: str | None = None) -> Symbol | None:
        """The function at ``index``, or None if it isn't a defined function in executable code."""
        _, info, _, section, address, size = table.entry(index)
        kind = info & 15
        if (kind != STT_FUNC and kind != STT_GNU_IFUNC) or section == SHN_UNDEF or not address:
            return None
        if name is None:
            name = table.text_of(index)
        end = self._code_end(address)
        if not name or not end:
            self._dropped.add((table.label, index))
            return None
        return Symbol(name, address, min(size, end - address), kind, info >> 4, table.label)

    def _code_end(self, address: int) -> int:
        """The end of the executable range ``address`` is in, 0 if in none."""
        at = bisect_right(self._starts, address) - 1
        return self._ranges[at][1] if at >= 0 and address < self._ranges[at][1] else 0

    def named(self, name: str) -> list[Symbol]:
        """The functions with exactly that linkage name, of every table."""
        raw = name.encode("utf-8", "surrogateescape")
        found = ((table, index) for table in self._tables for index in table.named(raw))
        symbols = (self._symbol(table, index) for table, index in found if table.name_of(index) == raw)
        return list(_distinct(symbols))

    def search(
        self,
        matches: Callable[[str], object] | None = None,
        required: tuple[bytes, ...] = (),
        beginnings: tuple[str, ...] = ("",),
        outside: tuple[int, int] | None = None,
    ) -> Iterator[Symbol]:
        """The functions whose linkage names contain all of ``required`` and which ``matches`` says yes to, one by one.

        Args:
            required: what makes a search fast: the rest of the table isn't looked at.
            beginnings: the name has one of these; makes it still faster.
            outside: a range of addresses without interest.

        Raises:
            BinaryError: the names are impossibly large together.
        """
        return _distinct(self._search(matches, required, beginnings, outside))

    def _search(
        self,
        matches: Callable[[str], object] | None,
        required: tuple[bytes, ...],
        beginnings: tuple[str, ...],
        outside: tuple[int, int] | None,
    ) -> Iterator[Symbol | None]:
        budget = _MAX_NAME_BYTES
        raw_beginnings = tuple(beginning.encode("utf-8", "surrogateescape") for beginning in beginnings)
        for table in self._tables:
            found = table.containing(required, raw_beginnings) if outside is None else table.outside(*outside)
            for index in found:
                name = table.name_of(index)
                budget -= len(name)
                if budget < 0:
                    raise BinaryError(f"{self._elf.path}: its symbol names add up to more than {_MAX_NAME_BYTES} bytes")
                for fragment in required:
                    if fragment not in name:
                        break
                else:
                    text = table.text_of(index, name)
                    if text.startswith(beginnings) and (matches is None or matches(text)):
                        yield self._symbol(table, index, text)

    def at_addresses(self, addresses: Iterable[int]) -> dict[int, list[Symbol]]:
        """All functions that begin at each of ``addresses``."""
        wanted = set(addresses)
        result: dict[int, list[Symbol]] = {}
        found = ((table, index) for table in self._tables for index in table.at(wanted)) if wanted else ()
        for symbol in _distinct(self._symbol(table, index) for table, index in found):
            result.setdefault(symbol.address, []).append(symbol)
        return result

    def shared(self, addresses: Container[int]) -> set[int]:
        """Those of ``addresses`` at which more than one entry of the tables has a function begin."""
        seen: set[int] = set()
        shared: set[int] = set()
        for table in self._tables:
            for address in table.functions_at(addresses):
                (shared if address in seen else seen).add(address)
        return shared

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

    def copies_of(self, name: str) -> list[Symbol]:
        """The copies of a function that GCC made for some of its callers: "NAME.constprop.0", "NAME.isra.0.part.0"."""
        copy = re.compile(_COPY)
        found = self.search(required=(name.encode("utf-8", "surrogateescape") + b".",))
        return [one for one in found if one.name.startswith(f"{name}.") and copy.fullmatch(one.name, len(name))]

    def mentions(self, pattern: bytes) -> bool:
        """Does a regular expression match anywhere in the string tables: a function, a variable, or an import?"""
        return any(table.has(re.compile(pattern)) for table in self._tables)

    def imported(self) -> list[str]:
        """The linkage names of the functions (and what may be functions) the file takes from shared libraries."""
        names: set[bytes] = set()
        for table in self._tables:
            if table.label == ".dynsym":
                for index in range(table.count):
                    _, info, _, section, _, _ = table.entry(index)
                    if section == SHN_UNDEF and info & 15 in (STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC):
                        names.add(table.name_of(index))
        return sorted(name.decode("utf-8", "backslashreplace") for name in names if name)

    def resembling(self, word: str) -> list[str]:
        """Linkage names with ``word`` in them, else with a part of it, or of about its length; not all of these."""
        candidates: dict[str, None] = {}
        for part in parts_of(word):
            _add_nearest(candidates, list(self.search(required=(part,))), len(word))
            if candidates and part == word.encode("utf-8", "surrogateescape"):
                return list(candidates)
        if len(word) < _SHORT_WORD:
            lengths = re.compile(f".{{{max(len(word) - 1, 1)},{len(word) + 1}}}\\Z", re.S)
            _add_nearest(candidates, list(self.search(lengths.match)), len(word))
        return list(candidates)


def _add_nearest(candidates: dict[str, None], symbols: list[Symbol], length: int) -> None:
    symbols.sort(key=lambda symbol: abs(len(symbol.name) - length))
    candidates.update((symbol.name, None) for symbol in symbols[:MAX_RESEMBLING])


def parts_of(word: str) -> list[bytes]:
    """``word`` and, if it isn't short, its thirds: one mistake, even two letters swapped, leaves one as it was."""
    third = len(word) // 3
    parts = [word]
    if len(word) >= _SHORT_WORD:
        parts += (word[at : at + third] for at in range(0, len(word), third))
    return [part.encode("utf-8", "surrogateescape") for part in parts if len(part) > 1]


def preference(symbol: Symbol) -> tuple[bool, int, int, int, str]:
    """Sort key for names of one function: sized, then global before weak before local, then the plainest."""
    bind = {STB_GLOBAL: 0, STB_WEAK: 1}.get(symbol.bind, 2)
    underscores = len(symbol.name) - len(symbol.name.lstrip("_"))
    return not symbol.size, bind, underscores, len(symbol.name), symbol.name


def _distinct(symbols: Iterable[Symbol | None]) -> Iterator[Symbol]:
    """The symbols in order, those that say the same in a second table left out."""
    seen: set[tuple[str, int]] = set()
    for symbol in symbols:
        if symbol is not None:
            key = symbol[:2]
            if key not in seen:
                seen.add(key)
                yield symbol
