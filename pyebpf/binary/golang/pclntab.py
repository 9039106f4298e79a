# SPDX-License-Identifier: BSD-2-Clause
"""Go's function table (.gopclntab), Go 1.2 to 1.27: it is needed at run time, so no stripping removes it.

Source of the layouts: Go's src/internal/abi/symtab.go, src/runtime/symtab.go (``pcHeader``, ``_func``, ``pcvalue``)
and src/debug/gosym/pclntab.go. "u32 off" below are offsets from the start of the function text.

    magic     Go          functab entry            _func begins with   then
    fffffffb  1.2-1.15    address, offset (u64)    u64 address
    fffffffa  1.16-1.17   address, offset (u64)    u64 address         cuOffset
    fffffff0  1.18-1.19   text off, offset (u32)   u32 text off        cuOffset; funcdata are u32
    fffffff1  1.20-1.27   text off, offset (u32)   u32 text off        cuOffset, startLine; funcdata are u32
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...errors import BinaryError
from ..elf import PT_LOAD, SHT_NOBITS
from . import TABLE_SECTIONS
from .memory import Memory

_OLDEST_RELEASE = {0xFFFFFFFB: (1, 2), 0xFFFFFFFA: (1, 16), 0xFFFFFFF0: (1, 18), 0xFFFFFFF1: (1, 20)}
_INSTRUCTION_QUANTUM = {"x86-64": 1, "arm64": 4}
_MAGIC = re.compile(rb"[\xf0\xf1\xfa\xfb]\xff\xff\xff\0\0[\x01\x04]\x08", re.DOTALL)

_MAX_FUNCTIONS = 1 << 22
_MAX_CANDIDATES = 1 << 12
_MAX_NAME = 1 << 16
_MAX_SHARED = 256  # bytes of names, a function, that may be other names' ends: Go's linker doesn't store names so
_MAX_PCDATA = 64
_MAX_FILE_NAME = 1 << 12

FLAG_SP_WRITE, FLAG_ASSEMBLY = 2, 4
NO_DATA = 0xFFFFFFFF


class FunctionRecord(NamedTuple):
    """What the table says of one function: a ``_func`` of Go's runtime.

    ``arguments`` is how many bytes parameters and results take on the stack, negative or meaningless in assembly.
    ``stack``, ``file`` and the members of ``pcdata`` are offsets of value streams for `PclnTable.values`, 0 for none.
    ``funcdata`` are offsets from gofunc (NO_DATA: none), or addresses in Go before 1.18 (0: none).
    """

    entry: int
    stack: int
    file: int
    cu_offset: int
    flags: int
    arguments: int
    pcdata: tuple[int, ...]
    funcdata: tuple[int, ...]


class PclnTable:
    """A function table, its header checked.

    Attributes:
        vaddr: its address.
        oldest_release: the first Go release with this format.
        text: what the functions' offsets count from; set by whoever knows (see moduledata), 0 before Go 1.18.
    """

    __slots__ = (
        "_data",
        "_entries",
        "_functab",
        "_header_text",
        "_memory",
        "_name_offsets",
        "_names",
        "_names_end",
        "_offsets",
        "_records",
        "_values",
        "_wide",
        "count",
        "elf",
        "oldest_release",
        "quantum",
        "text",
        "vaddr",
    )

    def __init__(self, memory: Memory, offset: int, size: int) -> None:
        """Check the table at file offset ``offset``; ``size`` is how far it reaches at most.

        Raises:
            BinaryError: it isn't one.
        """
        self._memory, self.elf = memory, memory.elf
        vaddr = self.elf.vaddr_of(offset)
        if vaddr is None or size < 128:
            raise self._lie("isn't loaded or is too short")
        self.vaddr = vaddr
        self._data = data = memoryview(self.elf.data)[offset : offset + size]
        magic, pad, quantum, pointer_size, count = struct.unpack_from("<IHBBQ", data)
        if magic not in _OLDEST_RELEASE or pad or pointer_size != 8:
            raise self._lie("has an unknown header")
        if quantum != _INSTRUCTION_QUANTUM[self.elf.machine]:
            raise self._lie("is for another machine")
        self.quantum: int = quantum
        self.oldest_release = _OLDEST_RELEASE[magic]
        self.count: int = count
        self._wide = self.oldest_release < (1, 18)  # functab has pointers
        if self.oldest_release == (1, 2):
            self._names = self._values = self._records = 0
            self._functab, self._names_end, self._header_text = 16, len(data), 0
        else:
            words = struct.unpack_from("<7Q" if self._wide else "<8Q", data, 8)
            self._header_text = 0 if self._wide else words[2]
            self._names, units, _, self._values, self._functab = words[-5:]
            self._records = self._functab
            self._names_end = units
            if not 0 < self._names < units <= self._values < self._functab < len(data) or self._functab % 4:
                raise self._lie("has parts out of order")
        entry_size = 16 if self._wide else 8
        if not 0 < count <= _MAX_FUNCTIONS or self._functab + (count + 1) * entry_size > len(data):
            raise self._lie(f"claims {count} functions")
        self.text = 0
        self._entries: list[int] | None = None
        self._offsets: list[int] = []
        self._name_offsets: list[int] | None = None
        self._check_first()

    def _lie(self, what: str) -> BinaryError:
        return BinaryError(f"{self.elf.path}: its Go function table {what}")

    def _check_first(self) -> None:
        """The first function must be described where and as the table says: a magic met by accident never gets here."""
        form = "<QQ" if self._wide else "<II"
        entry, offset = struct.unpack_from(form, self._data, self._functab)
        place = self._records + offset
        if place + 44 > len(self._data):
            raise self._lie("describes its first function past its end")
        described = struct.unpack_from("<Q" if self._wide else "<I", self._data, place)[0]
        if described != entry:
            raise self._lie("contradicts itself about its first function")
        self.name_at(struct.unpack_from("<i", self._data, place + (8 if self._wide else 4))[0])

    # -- functions

    @property
    def names_vaddr(self) -> int:
        """The address of the names."""
        return self.vaddr + self._names

    @property
    def functab_vaddr(self) -> int:
        """The address of the list of functions."""
        return self.vaddr + self._functab

    @property
    def header_text(self) -> int:
        """Start of the function text by the header: 0 before Go 1.18, since Go 1.26, and in some other files."""
        return int(self._header_text)

    def entries(self) -> list[int]:
        """The functions' addresses and the end of the last, ascending: ``count`` + 1 numbers.

        Raises:
            BinaryError: they aren't ascending, or a function is described past the table's end.
        """
        if self._entries is None:
            entries, offsets = self._read_functab()
            if entries != sorted(entries):
                raise self._lie("isn't sorted")
            if max(offsets) + self._records + 44 > len(self._data):
                raise self._lie("describes a function past its end")
            self._entries, self._offsets = entries, offsets
        return self._entries

    def _read_functab(self) -> tuple[list[int], list[int]]:
        start = self._functab
        if not self._wide:
            numbers = struct.unpack_from(f"<{2 * self.count + 1}I", self._data, start)
            text = self.text
            return [text + offset for offset in numbers[0::2]], list(numbers[1::2])
        numbers = struct.unpack_from(f"<{2 * self.count + 1}Q", self._data, start)
        entries = list(numbers[0::2])
        if not entries[-1]:  # position-independent, with the addresses in relocations
            relocated = self._memory.relocated(self.functab_vaddr, self.functab_vaddr + 16 * self.count + 8)
            entries = [relocated.get(self.functab_vaddr + 16 * i, entry) for i, entry in enumerate(entries)]
        return entries, list(numbers[1::2])

    def name_offsets(self) -> list[int]:
        """Each function's place in the table of names: names that are the same may or may not have the same place."""
        if self._name_offsets is None:
            self.entries()
            base = self._records + (8 if self._wide else 4)
            if all(offset % 4 == 0 for offset in self._offsets) and base % 4 == 0:
                words = self._data[: len(self._data) & ~3].cast("I")
                self._name_offsets = [words[base + offset >> 2] for offset in self._offsets]
            else:
                unpack = struct.Struct("<I").unpack_from
                self._name_offsets = [unpack(self._data, base + offset)[0] for offset in self._offsets]
        return self._name_offsets

    def names(self, indexes: Sequence[int]) -> list[str]:
        """The names of the functions ``indexes``.

        Raises:
            BinaryError: a name lies past the table's end or is longer than 64 KiB.
        """
        offsets = self.name_offsets()
        if len(indexes) < 100:
            return [self.name_at(offsets[index]) for index in indexes]
        table = bytes(self._data[self._names : self._names_end])
        find = table.find
        result = []
        long: dict[int, str] = {}  # functions share a name only where they lie, and then it isn't kept for each
        for index in indexes:
            start = offsets[index]
            name = long.get(start)
            if name is None:
                end = find(b"\0", start, start + _MAX_NAME)
                if end < 0:
                    raise self._lie("has a name without end")
                name = table[start:end].decode("utf-8", "backslashreplace")
                if end - start > _MAX_SHARED:
                    if start and table[start - 1]:
                        raise self._lie("has a name inside another one")
                    long[start] = name
            result.append(name)
        return result

    def name_at(self, offset: int) -> str:
        """The name at ``offset`` in the table of names. Raises BinaryError when there is none."""
        return self._raw_name(offset).decode("utf-8", "backslashreplace")

    def _raw_name(self, offset: int) -> bytes:
        start, end = self._names + offset, self._names_end
        for size in (256, _MAX_NAME):  # nearly all are short
            raw = bytes(self._data[start : min(start + size, end)]) if offset >= 0 else b""
            length = raw.find(b"\0")
            if length >= 0:
                return raw[:length]
        raise self._lie("has a name without end")

    def find_name(self, name: str) -> set[int]:
        """Offsets in the table of names where ``name`` stands; some may be the end of a longer one."""
        wanted = name.encode("utf-8", "surrogateescape") + b"\0"
        data, (start, end) = self.elf.data, self._names_range()
        found = set()
        position = data.find(wanted, start, end)
        while position >= 0:
            found.add(position - start)
            position = data.find(wanted, position + 1, end)
        return found

    def names_containing(self, fragment: bytes) -> set[int]:
        """The offsets of the names that contain ``fragment``, which isn't empty."""
        data, (start, end) = self.elf.data, self._names_range()
        if self.oldest_release == (1, 2):  # other things stand between the names
            offsets = set(self.name_offsets())
            return {offset for offset in offsets if fragment in self._raw_name(offset)}
        found = set()
        position = data.find(fragment, start, end)
        while position >= 0:
            begin = data.rfind(b"\0", max(start, position - _MAX_NAME), position) + 1
            found.add(max(begin, start) - start)
            position = data.find(b"\0", position, end)  # the rest of this name adds nothing
            if position >= 0:
                position = data.find(fragment, position, end)
        return found

    def _names_range(self) -> tuple[int, int]:
        """Where the names are in the file."""
        origin = self.elf.offset_of(self.vaddr)
        return origin + self._names, origin + self._names_end

    # -- one function

    def record(self, index: int) -> FunctionRecord:
        """The description of function ``index``. Raises BinaryError when it runs past the table's end."""
        entry = self.entries()[index]
        data = self._data
        at = self._records + self._offsets[index] + (8 if self._wide else 4)
        try:
            _, arguments, _, stack, file, _, npcdata = struct.unpack_from("<iiIIIII", data, at)
            at += 28
            cu_offset = 0
            if self.oldest_release >= (1, 16):
                cu_offset = struct.unpack_from("<I", data, at)[0]
                at += 8 if self.oldest_release >= (1, 20) else 4
            _, flags, _, nfuncdata = struct.unpack_from("<BBBB", data, at)
            at += 4
            if npcdata > _MAX_PCDATA:
                raise self._lie(f"claims {npcdata} tables for one function")
            pcdata = struct.unpack_from(f"<{npcdata}I", data, at)
            at += 4 * npcdata
            if self._wide:
                at += -(self.vaddr + at) % 8
                funcdata = struct.unpack_from(f"<{nfuncdata}Q", data, at)
            else:
                funcdata = struct.unpack_from(f"<{nfuncdata}I", data, at)
        except struct.error:
            raise self._lie("describes a function past its end") from None
        return FunctionRecord(entry, stack, file, cu_offset, flags, arguments, pcdata, funcdata)

    def values(self, stream: int, entry: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The ranges (start, end, value) of a value stream of the function at [entry, end); none for stream 0.

        The stream: zigzag variable-length difference of the value (begins at -1), variable-length difference of the
        address in quanta; a difference of 0 that isn't the first ends it.

        Raises:
            BinaryError: the stream runs past the table's end, or stands still.
        """
        if not stream:
            return
        at = self._values + stream
        value, start, first = -1, entry, True
        while start < end:
            change, at = self._uvarint(at)
            if not change and not first:
                return
            first = False
            value += -(change >> 1) - 1 if change & 1 else change >> 1
            distance, at = self._uvarint(at)
            if not distance:
                raise self._lie("has a value stream that stands still")
            yield start, start + distance * self.quantum, value
            start += distance * self.quantum

    def _uvarint(self, at: int) -> tuple[int, int]:
        if at < len(self._data) and self._data[at] < 0x80:  # nearly all are one byte
            return self._data[at], at + 1
        result = 0
        for shift in range(0, 35, 7):
            if at >= len(self._data):
                break
            byte = self._data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, at
        raise self._lie("has a number without end")

    def source_file(self, record: FunctionRecord) -> str:
        """The file the function begins in, "" if the table doesn't say. Raises BinaryError when it lies."""
        for _, _, value in self.values(record.file, record.entry, record.entry + 1):
            return self._file_name(record, value)
        return ""

    def _file_name(self, record: FunctionRecord, number: int) -> str:
        data = self._data
        try:
            if self.oldest_release == (1, 2):
                # After functab: the offset of a table of offsets of names, all from the table's start.
                after = self._functab + 16 * self.count + 8
                files = struct.unpack_from("<I", data, after)[0]
                start = struct.unpack_from("<I", data, files + 4 * number)[0]
            else:
                units, files = struct.unpack_from("<QQ", data, 8 + 8 * (3 if self._wide else 4))
                start = files + struct.unpack_from("<I", data, units + 4 * (record.cu_offset + number))[0]
        except struct.error:
            raise self._lie("names a source file past its end") from None
        return bytes(data[start : start + _MAX_FILE_NAME]).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def find_table(memory: Memory) -> PclnTable | None:
    """The program's function table; None when a file without section headers has none.

    Raises:
        BinaryError: the file has section headers, which say it is Go's work, but no sound function table.
    """
    elf = memory.elf
    for name in TABLE_SECTIONS:
        section = elf.section(name)
        if section is not None and section.type != SHT_NOBITS and section.size:
            if section.offset + section.size > elf.size:
                raise BinaryError(f"{elf.path}: truncated: section {name} lies past the end of the file")
            return PclnTable(memory, section.offset, section.size)
    candidates = 0
    for segment in elf.segments:
        if segment.type != PT_LOAD:
            continue
        end = segment.offset + segment.filesz
        for match in _MAGIC.finditer(elf.data, segment.offset, end):
            candidates += 1
            if candidates > _MAX_CANDIDATES:
                raise BinaryError(f"{elf.path}: too many places look like a Go function table")
            try:
                return PclnTable(memory, match.start(), end - match.start())
            except BinaryError:
                continue
    if elf.sections:  # and some of them are Go's
        raise BinaryError(
            f"{elf.path}: a Go program without a function table pyebpf knows",
            hint="Programs built by an obfuscator, or by a Go release that isn't out yet, can't be traced.",
        )
    return None
