# SPDX-License-Identifier: BSD-2-Clause
"""ELF64 files: headers, segments, sections, notes, and the way from a virtual address to a file offset.

Layouts and numbers are those of the System V ABI, https://gabi.xinuos.com/, and of ``include/uapi/linux/elf.h``.
The file is mapped, never copied. Whoever can write to it can lie about everything in it: each size is checked against
the file before it is used.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from bisect import bisect_right
from typing import NamedTuple

from ..errors import BinaryError, PermissionDenied, TargetNotFound

ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PF_X, PF_W, PF_R = 1, 2, 4
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 2, 3, 7, 8, 11
SHF_COMPRESSED = 0x800

_SHN_XINDEX = 0xFFFF
_ELFCOMPRESS_ZLIB = 1
_NT_GNU_BUILD_ID = 3

_MACHINES = {62: "x86-64", 183: "arm64"}
_OTHER_MACHINES = {3: "x86", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 243: "riscv", 258: "loongarch"}
_OTHER_TYPES = {ET_REL: "an object file that isn't linked yet", 4: "a core dump"}

# load_elf_phdrs() in the kernel's fs/binfmt_elf.c refuses a program header table of more than 64 KiB.
_MAX_SEGMENTS = 65536 // 56
_MAX_SECTIONS = 65536
_MAX_SECTION_NAME = 256
_MAX_NOTES = 1000
_MAX_BUILD_ID = 64
# What a file unpacks to. Debug sections are packed to a third or a tenth; one of 64 KiB that claims to hold 64 MiB was
# made to harm, and a file has a dozen of them.
_MAX_UNPACKED = 256 << 20
_UNPACKED_ANYHOW = 16 << 20
_MAX_RATIO = 64

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_COMPRESSION_HEADER = struct.Struct("<IIQQ")
_NOTE_HEADER = struct.Struct("<III")


def most_unpacked(packed: int) -> int:
    """How many bytes may come out of ``packed`` bytes, at most."""
    return min(_MAX_UNPACKED, max(_UNPACKED_ANYHOW, _MAX_RATIO * packed))


class Segment(NamedTuple):
    """A program header: ``filesz`` bytes at ``offset`` of the file, ``memsz`` bytes at ``vaddr`` in memory."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


class Section(NamedTuple):
    """A section header, with its name looked up."""

    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    entsize: int


class Elf:
    """A 64-bit little-endian ELF executable or shared object for x86-64 or arm64.

    Attributes:
        path: the path it was opened by, for messages.
        data: the whole file.
        size: bytes in the file.
        machine: "x86-64" or "arm64".
        type: ET_EXEC or ET_DYN; of separate debug files also ET_REL.
        entry: virtual address where execution starts, 0 for most libraries.
        segments: the program headers, in the order of the file.
        sections: the section headers; empty when there are none or their table is broken.
        notes: sentences about what was wrong and passed over.
        identity: (device, inode, size, mtime in ns): two files with the same identity are the same file.
    """

    __slots__ = (
        "_build_id",
        "_by_name",
        "_load_starts",
        "_loads",
        "data",
        "entry",
        "identity",
        "machine",
        "notes",
        "path",
        "sections",
        "segments",
        "size",
        "type",
    )

    def __init__(
        self,
        data: mmap.mmap | bytes,
        path: str,
        identity: tuple[int, int, int, int] = (0, 0, 0, 0),
        *,
        symbols_only: bool = False,
    ) -> None:
        """Parse the headers of ``data``.

        Args:
            data: the file's bytes.
            path: what to call it in messages.
            identity: see the class.
            symbols_only: the file is a separate debug file: its segments describe another file's bytes, so they are
                not checked against this one and give no offsets.

        Raises:
            BinaryError: not such a file, or truncated, or inconsistent.
        """
        self.data = data
        self.path = path
        self.size = len(data)
        self.identity = identity
        self.notes: list[str] = []
        self._build_id: str | None = None
        if self.size < _HEADER.size or data[:4] != b"\x7fELF":
            raise BinaryError(f"{path}: not an ELF file")
        ident, kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = (
            _HEADER.unpack_from(data)
        )
        if ident[4] != 2:
            raise BinaryError(f"{path}: a 32-bit program; only 64-bit ones are supported")
        if ident[5] != 1:
            raise BinaryError(f"{path}: a big-endian program; only little-endian ones are supported")
        if machine not in _MACHINES:
            name = _OTHER_MACHINES.get(machine, f"machine {machine}")
            raise BinaryError(f"{path}: a program for {name}; only x86-64 and arm64 are supported")
        # dwz writes what several debug files share as an object file.
        if kind not in (ET_EXEC, ET_DYN) and not (kind == ET_REL and symbols_only):
            what = _OTHER_TYPES.get(kind, f"an ELF file of type {kind}")
            raise BinaryError(f"{path}: {what}, neither an executable nor a shared object")
        self.machine = _MACHINES[machine]
        self.type = int(kind)
        self.entry = int(entry)
        self.segments = self._read_segments(phoff, phentsize, phnum)
        self._loads: list[Segment] = [] if symbols_only else self._check_loads()
        self._load_starts = [segment.vaddr for segment in self._loads]
        self.sections = self._read_sections(shoff, shentsize, shnum, shstrndx)
        self._by_name = {section.name: section for section in reversed(self.sections)}

    @classmethod
    def open(cls, path: str, *, symbols_only: bool = False) -> Elf:
        """Map the file at ``path``; see the constructor for ``symbols_only``.

        Raises:
            TargetNotFound: there is no such file.
            PermissionDenied: it may not be read.
            BinaryError: it isn't an ELF file pyebpf can read; the message says why.
        """
        # O_NONBLOCK: a FIFO put in the program's place must not hang us.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = os.open(path, flags)
        except (FileNotFoundError, NotADirectoryError):
            raise TargetNotFound(f"{path}: no such file") from None
        except PermissionError as error:
            raise PermissionDenied(f"{path}: may not be read: {error.strerror}", errno=error.errno) from None
        except (OSError, ValueError) as error:
            raise BinaryError(f"{path!r}: can't be opened: {getattr(error, 'strerror', error)}") from None
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise BinaryError(f"{path}: is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise BinaryError(f"{path}: not a regular file")
            if status.st_size == 0:
                raise BinaryError(f"{path}: not an ELF file (it is empty)")
            data = mmap.mmap(fd, status.st_size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            if isinstance(error, BinaryError):
                raise
            raise BinaryError(f"{path}: can't be mapped: {error}") from None
        finally:
            os.close(fd)
        try:
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            return cls(data, path, identity, symbols_only=symbols_only)
        except BaseException:
            data.close()
            raise

    def trim(self) -> None:
        """Give back the memory of the file's pages; what is asked for later is read again."""
        if not isinstance(self.data, bytes):
            self.data.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Unmap the file; views of it still held elsewhere keep the mapping until they are gone."""
        if not isinstance(self.data, bytes):
            try:
                self.data.close()
            except BufferError:
                self.data = b""

    def __enter__(self) -> Elf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Elf {self.path} {self.machine}>"

    # -- headers

    def _read_segments(self, offset: int, entsize: int, count: int) -> tuple[Segment, ...]:
        if not count:
            return ()
        if entsize != _PROGRAM_HEADER.size:
            raise BinaryError(f"{self.path}: program headers of {entsize} bytes instead of {_PROGRAM_HEADER.size}")
        if count > _MAX_SEGMENTS:
            raise BinaryError(f"{self.path}: {count} program headers; Linux loads at most {_MAX_SEGMENTS}")
        if offset + count * entsize > self.size:
            raise BinaryError(f"{self.path}: truncated: its program headers lie past the end of the file")
        raw = self.data[offset : offset + count * entsize]
        return tuple(
            Segment(kind, flags, start, vaddr, filesz, memsz, align)
            for kind, flags, start, vaddr, _, filesz, memsz, align in _PROGRAM_HEADER.iter_unpack(raw)
        )

    def _check_loads(self) -> list[Segment]:
        """The PT_LOAD segments with bytes in the file, by address, none overlapping."""
        loads = [segment for segment in self.segments if segment.type == PT_LOAD]
        if not loads:
            raise BinaryError(f"{self.path}: nothing in it is loaded into memory (no PT_LOAD segment)")
        for segment in loads:
            if segment.offset + segment.filesz > self.size:
                raise BinaryError(
                    f"{self.path}: truncated: a segment ends at byte {segment.offset + segment.filesz:#x}, "
                    f"the file at {self.size:#x}"
                )
            if segment.memsz < segment.filesz or segment.vaddr + segment.memsz > 1 << 64:
                raise BinaryError(f"{self.path}: the segment at {segment.vaddr:#x} has an impossible size")
        loads = sorted((segment for segment in loads if segment.filesz), key=lambda segment: segment.vaddr)
        for before, after in zip(loads, loads[1:]):
            if before.vaddr + before.filesz > after.vaddr:
                raise BinaryError(f"{self.path}: the segments at {before.vaddr:#x} and {after.vaddr:#x} overlap")
        return loads

    def _read_sections(self, offset: int, entsize: int, count: int, names: int) -> tuple[Section, ...]:
        """The section headers; nothing at run time needs them, so a broken table only costs what it would have said."""
        if not offset:
            return ()
        size = _SECTION_HEADER.size
        if entsize != size or offset + size > self.size:
            return self._without_sections("its section headers lie past the end of the file or are of an unknown size")
        first = _SECTION_HEADER.unpack_from(self.data, offset)
        # Counts that don't fit 16 bits are in the first header: gABI, "ELF Header", e_shnum and e_shstrndx.
        count = count or first[5]
        names = first[6] if names == _SHN_XINDEX else names
        if count > _MAX_SECTIONS or offset + count * size > self.size:
            return self._without_sections(f"a table of {count} section headers doesn't fit")
        headers = list(_SECTION_HEADER.iter_unpack(self.data[offset : offset + count * size]))
        if names >= count:
            return self._without_sections("the section names are missing")
        table = headers[names]
        start, end = table[4], table[4] + table[5]
        if table[1] == SHT_NOBITS or end > self.size:
            return self._without_sections("the section names lie past the end of the file")
        sections = []
        for name, kind, flags, addr, where, length, link, info, _, each in headers:
            text = self._text(start + name, min(end, start + name + _MAX_SECTION_NAME)) if start + name < end else ""
            sections.append(Section(text, kind, flags, addr, where, length, link, info, each))
        return tuple(sections)

    def _without_sections(self, reason: str) -> tuple[Section, ...]:
        self.notes.append(f"{self.path}: section headers not used: {reason}")
        return ()

    def _text(self, start: int, limit: int) -> str:
        """The NUL-terminated text at ``start``; one that runs into ``limit`` ends there."""
        end = self.data.find(b"\0", start, limit)
        return self.data[start : end if end >= 0 else limit].decode("utf-8", "backslashreplace")

    # -- sections

    def section(self, name: str) -> Section | None:
        """The first section of that name, or None."""
        return self._by_name.get(name)

    def contents(self, section: Section) -> memoryview | bytes:
        """The bytes of ``section``, decompressed if need be; none for SHT_NOBITS.

        Raises:
            BinaryError: it lies past the end of the file, or is compressed in an unknown way, or holds more than
                `most_unpacked` bytes.
        """
        if section.type == SHT_NOBITS:
            return b""
        if section.offset + section.size > self.size:
            raise BinaryError(f"{self.path}: truncated: section {section.name} lies past the end of the file")
        raw = memoryview(self.data)[section.offset : section.offset + section.size]
        return self._inflate(section, raw) if section.flags & SHF_COMPRESSED else raw

    def _inflate(self, section: Section, raw: memoryview) -> bytes:
        import zlib

        where = f"{self.path}: compressed section {section.name}"
        if len(raw) < _COMPRESSION_HEADER.size:
            raise BinaryError(f"{where} is truncated")
        method, _, size, _ = _COMPRESSION_HEADER.unpack_from(raw)
        if method != _ELFCOMPRESS_ZLIB:
            raise BinaryError(f"{where} uses method {method}; only zlib is supported")
        most = most_unpacked(len(raw))
        if size > most:
            raise BinaryError(f"{where} claims {size} bytes; at most {most} are read")
        if not size:
            return b""
        try:
            data = zlib.decompressobj().decompress(raw[_COMPRESSION_HEADER.size :], size)
        except zlib.error as error:
            raise BinaryError(f"{where}: {error}") from None
        if len(data) != size:
            raise BinaryError(f"{where} holds {len(data)} bytes instead of {size}")
        return data

    # -- addresses

    def _load_at(self, vaddr: int) -> Segment | None:
        index = bisect_right(self._load_starts, vaddr) - 1
        if index < 0:
            return None
        segment = self._loads[index]
        return segment if vaddr < segment.vaddr + segment.filesz else None

    def offset_of(self, vaddr: int) -> int:
        """The file offset of the byte loaded at ``vaddr``.

        Raises:
            BinaryError: no byte of the file is loaded there.
        """
        segment = self._load_at(vaddr)
        if segment is None:
            raise BinaryError(f"{self.path}: address {vaddr:#x} isn't in any loaded part of the file")
        return vaddr - segment.vaddr + segment.offset

    def vaddr_of(self, offset: int) -> int | None:
        """Where the byte at file offset ``offset`` is loaded, or None; as code if it is loaded more than once."""
        found = None
        for segment in self._loads:
            if segment.offset <= offset < segment.offset + segment.filesz:
                vaddr = offset - segment.offset + segment.vaddr
                if segment.flags & PF_X:
                    return vaddr
                if found is None:
                    found = vaddr
        return found

    def is_executable(self, vaddr: int) -> bool:
        """Is the byte at ``vaddr`` loaded from the file as code?"""
        segment = self._load_at(vaddr)
        return segment is not None and bool(segment.flags & PF_X)

    def executable_ranges(self) -> list[tuple[int, int]]:
        """The (start, end) virtual addresses loaded from the file as code, in order."""
        return [(load.vaddr, load.vaddr + load.filesz) for load in self._loads if load.flags & PF_X]

    def read(self, vaddr: int, size: int) -> bytes:
        """``size`` bytes of the file as loaded at ``vaddr``.

        Raises:
            BinaryError: not all of them come from one segment's bytes in the file.
        """
        segment = self._load_at(vaddr)
        if segment is None or size < 0 or vaddr + size > segment.vaddr + segment.filesz:
            raise BinaryError(f"{self.path}: {size} bytes at address {vaddr:#x} aren't in any loaded part of the file")
        start = vaddr - segment.vaddr + segment.offset
        return self.data[start : start + size]

    # -- what the file says about itself

    @property
    def build_id(self) -> str | None:
        """The build ID in hexadecimal, or None."""
        if self._build_id is None:
            self._build_id = self._find_build_id()
        return self._build_id or None

    def _find_build_id(self) -> str:
        regions = [
            (section.offset, section.size, 4)
            for section in (self.section(".note.gnu.build-id"),)
            if section is not None and section.type == SHT_NOTE
        ]
        regions += [(load.offset, load.filesz, load.align) for load in self.segments if load.type == PT_NOTE]
        budget = _MAX_NOTES
        for position, size, align in regions:
            # Notes are padded to 8 bytes in segments aligned to 8 (the ABI's .note.gnu.property), else to 4.
            pad = 7 if align == 8 else 3
            end = min(position + size, self.size)
            while position + _NOTE_HEADER.size <= end and budget:
                budget -= 1
                namesz, descsz, kind = _NOTE_HEADER.unpack_from(self.data, position)
                name = position + _NOTE_HEADER.size
                desc = name + (namesz + pad & ~pad)
                position = desc + (descsz + pad & ~pad)
                if kind != _NT_GNU_BUILD_ID or namesz != 4 or self.data[name : name + 4] != b"GNU\0":
                    continue
                if 0 < descsz <= _MAX_BUILD_ID and desc + descsz <= end:
                    return self.data[desc : desc + descsz].hex()
        return ""

    @property
    def interpreter(self) -> str | None:
        """The dynamic loader the program asks for, or None: static programs and most libraries have none."""
        for segment in self.segments:
            if segment.type == PT_INTERP and segment.offset + segment.filesz <= self.size:
                return self._text(segment.offset, segment.offset + min(segment.filesz, 4096)) or None
        return None

    @property
    def debuglink(self) -> tuple[str, int] | None:
        """File name and CRC-32 of the separate debug file it asks for, or None: GDB manual, "Separate Debug Files"."""
        section = self.section(".gnu_debuglink")
        if section is None or section.type == SHT_NOBITS or not 8 <= section.size <= 4096:
            return None
        raw = bytes(self.contents(section))
        end = raw.find(b"\0")
        crc = (end + 4) & ~3
        if end <= 0 or crc + 4 > len(raw):
            return None
        return os.fsdecode(raw[:end]), int.from_bytes(raw[crc : crc + 4], "little")
