# SPDX-License-Identifier: BSD-2-Clause
"""An executable or shared object as a tracer sees it: its functions, whatever language they are written in."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from ..errors import BinaryError, TargetError
from .elf import Elf
from .pattern import Pattern
from .symbols import MAX_RESEMBLING, Symbol, SymbolTable, parts_of, preference
from .symtab import STT_GNU_IFUNC

if TYPE_CHECKING:
    from .golang import GoFunction, GoProgram
    from .unwind import UnwindTable

# Regular expressions as text: compiled when first used, for a search in a C program needs none of them.
# The beginnings of names mangled by the Itanium C++ ABI (also old Rust) and by Rust's v0 scheme (RFC 2603).
_MANGLED = r"_Z|_R[0-9]*[CMXYNIB]"
_COLD = r"(?s).+\.cold(?:\.\d+)?\Z"
_WORD = r"[A-Za-z0-9_]+"

_address_of = attrgetter("address")

# Go's linker marks the bounds of its code with these: no functions, and what lies at the second may be padding.
_GO_BOUNDS = frozenset(("runtime.text", "runtime.etext"))
# Names remembered in readable form; demangling one takes about 50 µs.
_MAX_READABLE = 50_000
# Inlined functions to look for; one takes some 10 ms.
_MAX_INLINED = 10
# A function longer than this isn't decoded to find where its instructions begin.
_MAX_DECODED = 4 << 20


class TooManyFunctions(TargetError):
    """A pattern matches more functions than the caller wants."""


class Function(NamedTuple):
    """A function that can be probed.

    Attributes:
        name: for people: demangled, or as Go writes it.
        raw: linkage name.
        address: virtual address in the file.
        offset: of its first byte in the file.
        size: in bytes; 0 when the symbol table doesn't say.
        language: "c", "c++", "rust" or "go".
        aliases: the other names of the same code, for people.
        table: where it was found.
        indirect: not the function but the resolver that chooses it (STT_GNU_IFUNC).
    """

    name: str
    raw: str
    address: int
    offset: int
    size: int
    language: str
    aliases: tuple[str, ...]
    table: str
    indirect: bool


class Image:
    """An ELF file and its functions.

    Attributes:
        elf: the file.
        debug_root: where the system it belongs to has its root directory.
    """

    __slots__ = ("_go", "_readable", "_symbols", "_unwind", "debug_root", "elf")

    def __init__(self, elf: Elf, debug_root: str = "/") -> None:
        self.elf = elf
        self.debug_root = debug_root
        self._symbols: SymbolTable | None = None
        # A tuple of one when it was looked for: None is an answer.
        self._go: tuple[GoProgram | None] | None = None
        self._unwind: tuple[UnwindTable | None] | None = None
        self._readable: dict[str, tuple[str, str]] = {}

    @classmethod
    def open(cls, path: str, debug_root: str = "/") -> Image:
        """Open the file at ``path``; its separate debug files are looked for below ``debug_root``.

        Raises:
            TargetNotFound: there is no such file.
            PermissionDenied: it may not be read.
            BinaryError: it isn't an ELF file pyebpf can read.
        """
        return cls(Elf.open(path), debug_root)

    def trim(self) -> None:
        """As `Elf.trim`, of the file and its debug files."""
        if self._symbols is not None:
            self._symbols.trim()
        self.elf.trim()

    def close(self) -> None:
        """Close the file and its debug files."""
        if self._symbols is not None:
            self._symbols.close()
        self._symbols = self._go = self._unwind = None
        self.elf.close()

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Image {self.elf.path}>"

    # -- its parts, each read when it is first asked for

    @property
    def symbols(self) -> SymbolTable:
        """The ELF symbols."""
        if self._symbols is None:
            self._symbols = SymbolTable(self.elf, self.debug_root)
        return self._symbols

    @property
    def go(self) -> GoProgram | None:
        """The Go part of the file, None if there is none.

        Raises:
            BinaryError: there is one but it can't be read; taking it for C would be dangerous.
        """
        if self._go is None:
            from . import golang

            self._go = (golang.find(self.elf),)
        return self._go[0]

    @property
    def unwind(self) -> UnwindTable | None:
        """The unwind table, None if there is none or it is broken."""
        if self._unwind is None:
            from .unwind import UnwindTable

            try:
                self._unwind = (UnwindTable.of(self.elf),)
            except BinaryError as error:
                self.elf.notes.append(f"unwind table not used: {error}")
                self._unwind = (None,)
        return self._unwind[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was wrong with the file and passed over, so far."""
        own = self.symbols.notes
        return (*own, *(note for note in self.elf.notes if note not in own))

    # -- by name

    def search(self, pattern: str, regex: bool = False, limit: int | None = None) -> list[Function]:
        """The functions that ``pattern`` matches, by address.

        A pattern is matched against the readable name, the readable name without parameters, and the linkage name. If
        it is exactly one of these for some function, only such functions are found, whatever wildcards it contains.

        Args:
            pattern: a glob, see pattern.py.
            regex: it is a regular expression instead, which must match from the beginning of the name.
            limit: give up as soon as there are more.

        Raises:
            TooManyFunctions: there are more than ``limit``.
            TargetError: the pattern is malformed.
            BinaryError: the file is too broken to search.
        """
        wanted = Pattern(pattern, regex)
        go = [self._go_function(function) for function in self._search_go(wanted)]
        native = self._functions(self._search_symbols(wanted, len(go), limit))
        found = sorted(go + native, key=_address_of)
        if regex or wanted.literal or wanted.everything:
            return found
        exact = [
            function
            for function in found
            if pattern == function.raw
            or pattern in function.aliases
            # The name without parameters is a part of the one with them; to demangle all names again is dear.
            or (pattern in function.name and pattern in (function.name, *self._forms(function.raw)))
        ]
        return exact or found

    def _search_symbols(self, wanted: Pattern, count: int, limit: int | None) -> list[Symbol]:
        """The symbols outside Go's code that match; ``count`` functions are there already, see `search`."""
        found: list[Symbol] = []
        addresses: set[int] = set()
        most = sys.maxsize if limit is None else limit - count
        bounds, (start, end) = (_GO_BOUNDS, self.go.text) if self.go is not None else ((), (0, 0))
        for symbol in self._matching(wanted):
            name, address = symbol[:2]
            # What GCC and LLVM moved out of a function isn't called and doesn't return.
            if not wanted.literal and ".cold" in name and re.match(_COLD, name):
                continue
            if start <= address < end or name in bounds:
                continue
            found.append(symbol)
            addresses.add(address)
            if len(addresses) > most:
                raise TooManyFunctions(f"more than {limit} functions of {self.elf.path} match {wanted.text!r}")
        return found

    def _matching(self, wanted: Pattern) -> Iterator[Symbol]:
        if wanted.literal:
            yield from self.symbols.named(wanted.text)
        # No linkage name has "::", and a literal one was looked up.
        raw = not wanted.literal and "::" not in wanted.glob
        mangled = not wanted.everything and self.symbols.mentions(_MANGLED.encode())
        if not raw and not mangled:
            return
        beginnings, required = (wanted.beginning,) if raw else (), wanted.required
        readable = self._readable_matcher(wanted) if mangled else None
        if mangled:
            from .demangle import required_fragments

            beginnings = (*beginnings, "_Z", "_R")
            fragments = required_fragments(wanted.glob)
            required = tuple(fragment for fragment in fragments if not raw or fragment in required)

        def either(name: str) -> object:
            if raw and wanted.regex.match(name):
                return True
            return readable is not None and name.startswith(("_Z", "_R")) and readable(name)

        matches = either if mangled else None if wanted.open_ended else wanted.regex.match
        outside = self.go.text if self.go is not None else None
        yield from self.symbols.search(matches, required, beginnings, outside)

    def _readable_matcher(self, wanted: Pattern) -> Callable[[str], bool]:
        """Tells of a mangled name whether it matches when demangled; doesn't demangle what plainly can't."""
        from .demangle.plain import beginning

        start = wanted.beginning
        # A name that starts with an underscore could also be one that can't be demangled.
        selective = start != "" and start[0] != "_"
        known: dict[str, bool] = {}  # most names are in two tables

        def matches(raw: str) -> bool:
            if raw not in known:
                plain = beginning(raw) if selective else None
                possible = plain is None or plain.startswith(start) or start.startswith(plain)
                known[raw] = possible and any(map(wanted.match, self._forms(raw)))
            return known[raw]

        return matches

    def _functions(self, symbols: list[Symbol]) -> list[Function]:
        """One function for each address; its name is the best of those that matched.

        Where one that matched is indirect the code is a resolver, which also has a name of its own (in libc's debug
        symbols): only who asks for that one name means the resolver.
        """
        chosen: dict[int, Symbol] = {}
        for symbol in symbols:
            other = chosen.setdefault(symbol.address, symbol)
            if other is not symbol and _rank(symbol) < _rank(other):
                chosen[symbol.address] = symbol
        names = self.symbols.at_addresses(self.symbols.shared(chosen))
        return [self._function(symbol, names.get(address, ())) for address, symbol in chosen.items()]

    def _function(self, symbol: Symbol, same_address: Sequence[Symbol]) -> Function:
        raw, address, size, kind, _, table = symbol
        name = self._forms(raw)[0]
        aliases: tuple[str, ...] = ()
        if same_address:
            names = {self._forms(other.name)[0]: None for other in sorted(same_address, key=preference)}
            names.pop(name, None)
            aliases = tuple(names)
            size = size or max(other.size for other in same_address)
        offset = self.elf.offset_of(address)
        return Function(name, raw, address, offset, size, _language(raw), aliases, table, kind == STT_GNU_IFUNC)

    def _forms(self, raw: str) -> tuple[str, str]:
        """``raw`` for people, and the same without parameters; itself if it isn't a mangled name."""
        if not raw.startswith(("_Z", "_R")):
            return raw, raw
        found = self._readable.get(raw)
        if found is None:
            from .demangle import forms

            if len(self._readable) >= _MAX_READABLE:
                self._readable.clear()
            found = self._readable[raw] = forms(raw) or (raw, raw)
        return found

    def _search_go(self, wanted: Pattern) -> list[GoFunction]:
        if self.go is None:
            return []
        found = self.go.named(wanted.text) if wanted.literal else self.go.search(wanted.regex, wanted.required)
        generic = wanted.generic()
        if generic is not None:
            regex, required = generic
            known = {function.address for function in found}
            for function in self.go.search(re.compile(""), required):
                if "[" in function.name and function.address not in known and regex.match(_plain(function.name)):
                    found.append(function)
        return found

    def _go_function(self, function: GoFunction) -> Function:
        name, address = function.name, function.address
        return Function(name, name, address, self.elf.offset_of(address), function.size, "go", (), ".gopclntab", False)

    def imports(self, pattern: str, regex: bool = False) -> list[str]:
        """The readable names of functions that match but are another library's: the file only calls them.

        Raises:
            TargetError: the pattern is malformed.
        """
        wanted = Pattern(pattern, regex)
        result = []
        for raw in self.symbols.imported():
            names = self._forms(raw)
            if any(map(wanted.match, (raw, *names))):
                result.append(names[0])
        return result

    def inlined(self, pattern: str, regex: bool = False) -> dict[str, list[str]]:
        """The Go functions that match and have no body of their own; for each the functions it was inlined into.

        Not all of them if there are many.

        Raises:
            TargetError: the pattern is malformed.
            BinaryError: Go's function table lies.
        """
        if self.go is None:
            return {}
        wanted = Pattern(pattern, regex)
        names = [pattern] if wanted.literal else self.go.without_body(wanted.regex, wanted.required)
        return self.go.inlined_into(names[:_MAX_INLINED])

    def close_matches(self, pattern: str, n: int = 3) -> tuple[str, ...]:
        """Up to ``n`` names of functions spelled much like ``pattern``, the closest first; for when a search failed."""
        from difflib import get_close_matches

        *scopes, word = re.findall(_WORD, pattern) or [""]
        scope = max(scopes, key=len, default="")
        raws = self.symbols.resembling(word) + self.symbols.resembling(scope)
        names = [self._forms(raw)[1] for raw in raws if not re.match(_COLD, raw)]
        if self.go is not None:
            for part in (*parts_of(word), *parts_of(scope)):
                there = [function.name for function in self.go.search(re.compile(""), (part,))]
                names += sorted(there, key=lambda name: abs(len(name) - len(pattern)))[:MAX_RESEMBLING]
        return tuple(get_close_matches(pattern, list(dict.fromkeys(names)), n))

    def what_was_searched(self) -> str:
        """The tables functions were looked for in, for a message that none were found."""
        places = [label if found else f"{label} (none)" for label, found in self.symbols.sources]
        if self.go is not None:
            places.insert(0, ".gopclntab")
        return ", ".join(places)

    def cold_parts(self, function: Function) -> tuple[tuple[int, int], ...]:
        """(address, size) of code the compiler moved out of ``function``, perhaps with some of a namesake's."""
        names = [function.raw]
        if function.aliases:
            names += [symbol.name for symbol in self.symbols.aliases_of(function.address)]
        return self.symbols.cold_parts(names)

    # -- by address

    def function_at(self, vaddr: int) -> Function | None:
        """The function that holds the address ``vaddr``, None if unknown."""
        if self.is_go_text(vaddr):
            function = self.go.at(vaddr) if self.go is not None else None
            return None if function is None else self._go_function(function)
        symbol = self.symbols.at(vaddr)
        return None if symbol is None else self._function(symbol, self.symbols.aliases_of(symbol.address))

    def is_go_text(self, vaddr: int) -> bool:
        """Is the code at ``vaddr`` Go's?"""
        if self.go is None:
            return False
        start, end = self.go.text
        return start <= vaddr < end

    def boundary(self, vaddr: int) -> bool:
        """Does an instruction begin at ``vaddr``? False also when that can't be known."""
        start = self.function_start(vaddr)
        if start is None or not self.elf.is_executable(vaddr) or vaddr - start >= _MAX_DECODED:
            return False
        from .disasm import is_boundary

        return is_boundary(self.elf.machine, self.elf.read(start, vaddr - start + 1), start, vaddr)

    def function_start(self, vaddr: int) -> int | None:
        """Where the function that holds the address ``vaddr`` begins, also if only its unwinding is known; or None."""
        if self.is_go_text(vaddr):
            function = self.go.at(vaddr) if self.go is not None else None
            return None if function is None else function.address
        symbol = self.symbols.at(vaddr)
        if symbol is not None:
            return symbol.address
        fde = self.unwind.fde_at(vaddr) if self.unwind is not None else None
        return None if fde is None else fde.start


def _rank(symbol: Symbol) -> tuple[object, ...]:
    """Sort key for symbols of one address: resolvers first, then by preference."""
    return symbol.type != STT_GNU_IFUNC, *preference(symbol)


def _plain(name: str) -> str:
    """A Go name without its type arguments: "main.(*List[go.shape.int]).Push" is "main.(*List).Push"."""
    plain = []
    depth = 0
    for piece in re.split(r"([\[\]])", name):
        if piece == "[":
            depth += 1
        elif piece == "]":
            depth -= 1
        elif depth <= 0:
            plain.append(piece)
    return "".join(plain)


def _language(raw: str) -> str:
    if not raw.startswith(("_Z", "_R")):
        return "c"
    from .demangle import language_of

    return language_of(raw)
