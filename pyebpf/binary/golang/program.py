# SPDX-License-Identifier: BSD-2-Clause
"""A Go program: its functions, where each can be probed, and where the runtime keeps what probes need."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...errors import BinaryError
from ..elf import Elf
from .inline import InlineTrees
from .memory import Memory
from .moduledata import ModuleData, module_data_of, types_of
from .pclntab import FLAG_ASSEMBLY, FLAG_SP_WRITE, NO_DATA, FunctionRecord, PclnTable, find_table
from .sites import GoSites, Surroundings, sites_of
from .version import GoVersion, gofunc_word, goid_offset, version_of

_MORESTACK = ("runtime.morestack", "runtime.morestack_noctxt", "runtime.morestackc")
_FIRST_REGISTER_ABI = (1, 17)  # on x86-64
_FIRST_ARGUMENT_INFO = (1, 17)
_DEFAULT_TLS_OFFSET = -8
# mov reg, fs:disp32; and, in position-independent code, mov reg, imm32; mov reg, fs:[reg]
_TLS_LOAD = re.compile(rb"\x64[\x48\x4c]\x8b[\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x25(..\xff\xff)", re.DOTALL)
_TLS_LOAD_BY_REGISTER = re.compile(rb"\x48\xc7[\xc0-\xc7](..\xff\xff)\x64[\x48\x4c]\x8b[\x00-\x3f]", re.DOTALL)
_TLS_SEARCH = 4 << 20


class GoFunction(NamedTuple):
    """A function of a Go program.

    Attributes:
        name: as the function table has it: "main.(*T).Method", "main.Sum[go.shape.int]" ("main.Sum[...]" in Go 1.18
            and 1.19). A function in assembly and the wrapper through which Go code calls it have the same name.
        address: of its first instruction.
        size: up to the next function, padding included.
        row: its place in the function table.
    """

    name: str
    address: int
    size: int
    row: int


class GoProgram:
    """The Go code of an ELF file.

    Attributes:
        elf: the file.
        version: the Go release that built it.
        text: the virtual addresses [start, end) that hold Go code; C code of the same file lies outside.
        goid_offset: where in the runtime's g the goroutine's number is; None if that isn't known for this release.
    """

    __slots__ = (
        "_gofunc",
        "_memory",
        "_module",
        "_surroundings",
        "_table",
        "_tls_offset",
        "_trees",
        "_types",
        "elf",
        "goid_offset",
        "text",
        "version",
    )

    def __init__(self, memory: Memory, table: PclnTable) -> None:
        self.elf: Elf = memory.elf
        self._memory, self._table = memory, table
        release = table.oldest_release
        inferred = GoVersion(*release, f"go{release[0]}.{release[1]} or later", inferred=True)
        self.version = version_of(self.elf, memory) or inferred
        if not release <= self.version[:2]:
            self.version = inferred
        self.goid_offset = goid_offset(self.version)
        self._trees: InlineTrees | None = None
        self._surroundings: Surroundings | None = None
        self._tls_offset: int | None = None
        self._module: ModuleData | None = None
        self._types: tuple[tuple[int, int] | None] | None = None
        self._gofunc = gofunc = 0
        if release >= (1, 18):
            self._module = module = module_data_of(memory, table)
            table.text = module.text
            self.text = (module.text, module.etext)
            word = gofunc_word(self.version)
            if word is not None:
                self._gofunc = gofunc = memory.word(module.vaddr + 8 * word)
        else:
            entries = table.entries()
            self.text = (entries[0], entries[-1])
        if gofunc or release < (1, 18):
            self._trees = InlineTrees(memory, table, gofunc)
        first, last = self.text[0], self.text[1] - 1
        if not (first <= last and self.elf.is_executable(first) and self.elf.is_executable(last)):
            raise BinaryError(f"{self.elf.path}: its Go function table describes functions that aren't code")

    def __repr__(self) -> str:
        return f"<GoProgram {self.elf.path} {self.version.text}>"

    # -- functions

    def functions(self) -> list[GoFunction]:
        """All functions, by address. Raises BinaryError when the function table lies."""
        return self._functions(range(self._table.count))

    def _functions(self, indexes: Sequence[int]) -> list[GoFunction]:
        entries = self._table.entries()
        return [
            GoFunction(name, entries[i], entries[i + 1] - entries[i], i)
            for i, name in zip(indexes, self._table.names(indexes))
        ]

    def at(self, address: int) -> GoFunction | None:
        """The function whose code includes ``address``. Raises BinaryError when the function table lies."""
        row = self._row(address)
        return None if row is None else self._functions((row,))[0]

    def _row(self, address: int) -> int | None:
        """Which function's code includes ``address``."""
        row = bisect_right(self._table.entries(), address) - 1
        return row if 0 <= row < self._table.count else None

    def search(self, regex: re.Pattern[str], required: tuple[bytes, ...] = ()) -> list[GoFunction]:
        """The functions whose name ``regex`` matches from its start (re.match), by address.

        Args:
            required: what each such name contains, in UTF-8; makes the search several times faster.

        Raises:
            BinaryError: the function table lies.
        """
        table = self._table
        match = regex.match
        fragment = max(required, key=len, default=b"")
        if not fragment:
            return [function for function in self.functions() if match(function.name)]
        wanted = {offset for offset in table.names_containing(fragment) if match(table.name_at(offset))}
        return self._functions([i for i, offset in enumerate(table.name_offsets()) if offset in wanted])

    def named(self, name: str) -> list[GoFunction]:
        """The functions of exactly that name: none, one, or an assembly function and its wrapper."""
        wanted = self._table.find_name(name)
        if not wanted:
            return []
        return self._functions([i for i, offset in enumerate(self._table.name_offsets()) if offset in wanted])

    def without_body(self, regex: re.Pattern[str], required: tuple[bytes, ...]) -> list[str]:
        """The names that match, sorted, of functions that aren't there: the compiler inlined every call of them.

        Arguments and errors as for `search`; [] without ``required``.
        """
        fragment = max(required, key=len, default=b"")
        if not fragment:
            return []
        offsets = self._table.names_containing(fragment).difference(self._table.name_offsets())
        bodies = set(self._table.names(range(self._table.count)))
        return sorted({name for name in map(self._table.name_at, offsets) if regex.match(name)} - bodies)

    def is_assembly(self, function: GoFunction) -> bool:
        """Is it written in assembly? Those follow no rules: arguments on the stack, g not in its register."""
        return self._is_assembly(self._table.record(function.row))

    def _is_assembly(self, record: FunctionRecord) -> bool:
        if self._table.oldest_release >= (1, 18):
            return record.flags & FLAG_ASSEMBLY != 0
        return self._table.source_file(record).endswith(".s")

    # -- probing

    def sites(self, function: GoFunction, returns: bool = True) -> GoSites:
        """Where to probe ``function``.

        Args:
            returns: on its returns, too; without them it is many times faster.

        Raises:
            BinaryError: the function table lies, or the code isn't in the file.
        """
        return self._sites(function.row, function.size, returns)

    def sites_at(self, address: int, returns: bool = True) -> GoSites | None:
        """As `sites`, for the function whose code includes ``address``; None: there is none."""
        row = self._row(address)
        if row is None:
            return None
        entries = self._table.entries()
        return self._sites(row, entries[row + 1] - entries[row], returns)

    def _sites(self, row: int, size: int, returns: bool) -> GoSites:
        if self._surroundings is None:
            morestack = frozenset(found.address for name in _MORESTACK for found in self.named(name))
            self._surroundings = Surroundings(morestack, self._uses_stack_abi())
        record = self._table.record(row)
        assembly = self._is_assembly(record)
        sites, leaves_to = sites_of(self.elf, self._table, record, size, assembly, self._surroundings, returns)
        if leaves_to is None:
            return sites
        target = self.at(leaves_to)
        name = target.name if target else f"{leaves_to:#x}"
        return sites._replace(reason=f"{sites.reason} to {name}")

    def _uses_stack_abi(self) -> bool:
        return self.elf.machine == "x86-64" and self.version[:2] < _FIRST_REGISTER_ABI

    @property
    def tls_offset(self) -> int:
        """On x86-64: where thread-local storage holds g, relative to the FS base. -8 unless the code says otherwise."""
        if self._tls_offset is None:
            self._tls_offset = self._find_tls_offset() if self.elf.machine == "x86-64" else _DEFAULT_TLS_OFFSET
        return self._tls_offset

    def _find_tls_offset(self) -> int:
        start, end = self.text
        code = self.elf.read(start, min(end - start, _TLS_SEARCH))
        for pattern in (_TLS_LOAD, _TLS_LOAD_BY_REGISTER):
            found = pattern.search(code)
            if found:
                offset: int = struct.unpack("<i", found[1])[0]
                if offset % 8 == 0:
                    return offset
        return _DEFAULT_TLS_OFFSET

    def depth_at(self, function: GoFunction, address: int) -> int | None:
        """How far the stack pointer is below where it was when ``function`` began, in bytes.

        None: the table doesn't say. Raises BinaryError when it lies.
        """
        record = self._table.record(function.row)
        if record.flags & FLAG_SP_WRITE:
            return None
        depth = None
        for start, stop, value in self._table.values(record.stack, record.entry, address + 1):
            depth = value if start <= address < stop else None
        return depth

    # -- arguments and types

    def argument_size(self, function: GoFunction) -> int:
        """How many bytes parameters and results take on the stack; in assembly it says nothing."""
        return self._table.record(function.row).arguments

    def argument_stream(self, function: GoFunction) -> bytes | None:
        """What tracebacks know of the parameters of ``function``, see arginfo.py; None if there is nothing.

        Raises:
            BinaryError: the function table lies.
        """
        from . import arginfo

        funcdata = self._table.record(function.row).funcdata
        if self.version[:2] < _FIRST_ARGUMENT_INFO or len(funcdata) <= arginfo.FUNCDATA:
            return None
        if self._table.oldest_release >= (1, 18):
            missing, base = NO_DATA, self._gofunc
            if not base:
                return None
        else:
            missing, base = 0, 0
        offset = funcdata[arginfo.FUNCDATA]
        return arginfo.read(self.elf, base + offset) if offset != missing else None

    @property
    def types(self) -> tuple[int, int] | None:
        """The addresses [start, end) of the descriptions of types, see rtype.py; None where they aren't known."""
        if self._types is None:
            try:
                module = self._module or module_data_of(self._memory, self._table)
                self._types = (types_of(self._memory, module, self.version),)
            except BinaryError:
                self._types = (None,)
        return self._types[0]

    # -- inlining

    def inlined_into(self, names: Iterable[str]) -> dict[str, list[str]]:
        """For each of ``names`` that was inlined somewhere: the names of the functions it was inlined into, sorted.

        Empty where the layout isn't known (see version.gofunc_word).

        Raises:
            BinaryError: the function table lies.
        """
        result: dict[str, list[str]] = {}
        if self._trees is None:
            return result
        for name in names:
            callers: set[int] = set()
            for offset in self._table.find_name(name):
                callers |= self._trees.callers(offset)
            if callers:
                result[name] = sorted(set(self._table.names(sorted(callers))))
        return result

    def frames_at(self, pc: int) -> list[str]:
        """The names of the functions being executed at ``pc``, inlined ones first, innermost first; [] outside Go code.

        For a return address pass ``pc - 1``, which lies in the call.

        Raises:
            BinaryError: the function table lies.
        """
        function = self.at(pc)
        if function is None:
            return []
        inlined = self._trees.frames(function.row, pc) if self._trees else []
        return [*inlined, function.name]


def find(elf: Elf) -> GoProgram | None:
    """See `pyebpf.binary.golang.find`, which calls this for files that may hold Go code."""
    memory = Memory(elf)
    table = find_table(memory)
    return GoProgram(memory, table) if table is not None else None
