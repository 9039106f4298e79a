# SPDX-License-Identifier: BSD-2-Clause
"""The part of the kernel's type information that an object needs, kept for the next run.

libbpf would read all of it, 5 MB and 130,000 types, and go through it for each structure: 25 ms of a start. An excerpt
has the types that the object's relocations begin at, and what lies in them. Pointers lead nowhere in it, as libbpf only
looks at that they are pointers. Excerpts are kept in /run/pyebpf, which is root's, until the kernel boots again;
``PYEBPF_CACHE=0`` keeps none.

Formats: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pyebpf.core import libbpf
from pyebpf.core.btf import ARRAY, ENUM, ENUM64, FUNC, MODIFIERS, PTR, STRUCT, TRAILER, UNION, Btf
from pyebpf.errors import LoadError

FOLDER = "/run/pyebpf"
_MOST = 4 << 20


class Excerpt(NamedTuple):
    """What an object needs to know of the kernel's types.

    Attributes:
        types: type information (BTF) that libbpf can relocate the object by.
        functions: numbers of functions in the kernel's own type information, by name.
    """

    types: bytes
    functions: dict[str, int]


def excerpt_for(name: str, image: bytes, btf: Btf, functions: Sequence[str], folder: str = FOLDER) -> Excerpt:
    """What was kept, or else what the kernel says.

    Args:
        name: the object's.
        image: the object file.
        btf: its types.
        functions: of the kernel, whose numbers are wanted; those it doesn't have are left out.

    Raises:
        LoadError: the kernel's type information can't be read.
    """
    custom = os.environ.get("PYEBPF_BTF")
    key = b"" if custom or os.environ.get("PYEBPF_CACHE") == "0" else _key(image)
    path = os.path.join(folder, f"{name}.types")
    found = _kept(path, key) if key else None
    if found is None:
        found = _made(name, image, btf, functions, custom)
        if key:
            _keep(path, key, found)
    return found


def _key(image: bytes) -> bytes:
    """A line that tells apart boots and objects; b"": this system doesn't number its boots."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read().strip()
    except OSError:
        return b""
    return b"pyebpf %s %08x %d" % (boot, zlib.crc32(image), len(image))


def _is_roots(status: os.stat_result) -> bool:
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _kept(path: str, key: bytes) -> Excerpt | None:
    """None: nothing that can be used."""
    try:
        if not _is_roots(os.lstat(os.path.dirname(path))):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _is_roots(status):
                return None
            found, _, rest = file.read(_MOST).partition(b"\n")
    except OSError:
        return None
    checked, _, rest = rest.partition(b"\n")
    if found != key or checked != b"%08x" % zlib.crc32(rest):
        return None
    functions, _, types = rest.partition(b"\n")
    pairs = [pair.split(b"=") for pair in functions.split()]
    return Excerpt(types, {name.decode(): int(number) for name, number in pairs})


def _keep(path: str, key: bytes, excerpt: Excerpt) -> None:
    """Writes an excerpt, where that can be done; where it can't, each run takes a little longer."""
    if os.geteuid():
        return
    pairs = [f"{name}={number}" for name, number in excerpt.functions.items()]
    rest = " ".join(pairs).encode() + b"\n" + excerpt.types
    new = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if not _is_roots(os.lstat(os.path.dirname(path))):
            return
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
            file.write(b"%s\n%08x\n" % (key, zlib.crc32(rest)) + rest)
        os.rename(new, path)
    except OSError:  # a read-only system, or a full one
        return


def _made(name: str, image: bytes, btf: Btf, functions: Sequence[str], custom: str | None) -> Excerpt:
    library, ffi = libbpf.lib(), libbpf.ffi
    kernel = library.btf__parse(os.fsencode(custom), ffi.NULL) if custom else library.btf__load_vmlinux_btf()
    if kernel == ffi.NULL:
        raise LoadError(
            f"{name}: the kernel's type information can't be read: {os.strerror(ffi.errno)}", errno=ffi.errno
        )
    try:
        copy = _Copy(kernel)
        for kind, type_name in sorted({btf.kind_and_name(root) for root in _roots(image)}):
            for same in (ENUM, ENUM64) if kind in (ENUM, ENUM64) else (kind,):
                # What follows ___ tells variants of a structure apart in the object.
                number = library.btf__find_by_name_kind(kernel, type_name.partition("___")[0].encode(), same)
                if number > 0:
                    copy.add(number)
        numbers = {one: library.btf__find_by_name_kind(kernel, one.encode(), FUNC) for one in functions}
        return Excerpt(copy.file(), {one: number for one, number in numbers.items() if number > 0})
    finally:
        library.btf__free(kernel)


def _roots(image: bytes) -> set[int]:
    """The types that an object's relocations begin at. Raises LoadError: it is no object."""
    try:
        return _read_roots(_section(image, b".BTF.ext"))
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise LoadError(f"malformed object: {error}") from None


def _read_roots(extension: bytes) -> set[int]:
    header = struct.unpack_from("<I", extension, 4)[0]
    at, size = struct.unpack_from("<II", extension, 24) if header >= 32 else (0, 0)
    at += header
    end = at + size
    each = struct.unpack_from("<I", extension, at)[0] if size else 0
    if size and each < 16:
        raise ValueError(f"relocations of {each} bytes")
    at += 4
    roots = set()
    while at < end:
        count = struct.unpack_from("<I", extension, at + 4)[0]
        at += 8
        for _ in range(count):  # struct bpf_core_relo: instruction, type, access, kind
            roots.add(struct.unpack_from("<4xI", extension, at)[0])
            at += each
    return roots


def _section(image: bytes, name: bytes) -> bytes:
    """The contents of a section of one of our own objects (64-bit, little-endian)."""
    headers_at, size, count, names = struct.unpack_from("<Q", image, 40) + struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<I20xQQ", image, headers_at + size * index) for index in range(count)]
    for name_at, at, length in headers:
        start = headers[names][1] + name_at
        if image[start : image.index(b"\0", start)] == name:
            return image[at : at + length]
    raise LoadError(f"an object without a section {name.decode()}")


class _Copy:
    """Some types of others, with new numbers.

    Args:
        source: libbpf's struct btf.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._numbers = {0: 0}  # by their old ones
        self._types: list[bytes] = []
        self._strings = bytearray(b"\0")
        self._offsets = {0: 0}  # of names, by their old ones
        self._pointer = 0

    def add(self, old: int) -> int:
        """Copies a type and what lies in it; returns its number."""
        if old in self._numbers:
            return self._numbers[old]
        ffi = libbpf.ffi
        info = libbpf.lib().btf__type_by_id(self._source, old)
        kind, entries = info.info >> 24 & 0x1F, info.info & 0xFFFF
        if kind == PTR:
            if not self._pointer:
                self._types.append(struct.pack("<III", 0, PTR << 24, 0))
                self._pointer = len(self._types)
            self._numbers[old] = self._pointer
            return self._pointer
        self._types.append(b"")
        number = self._numbers[old] = len(self._types)
        fixed, each = TRAILER[kind]
        data = bytearray(ffi.buffer(ffi.cast("char *", info), 12 + fixed + each * entries))
        self._move(data, 0)
        if kind in MODIFIERS:
            self._renumber(data, 8)
        elif kind == ARRAY:
            self._renumber(data, 12)
            self._renumber(data, 16)
        elif kind in (STRUCT, UNION, ENUM, ENUM64):
            for at in range(12, len(data), each):
                self._move(data, at)
                if kind in (STRUCT, UNION):
                    self._renumber(data, at + 4)
        self._types[number - 1] = bytes(data)
        return number

    def _renumber(self, data: bytearray, at: int) -> None:
        struct.pack_into("<I", data, at, self.add(struct.unpack_from("<I", data, at)[0]))

    def _move(self, data: bytearray, at: int) -> None:
        """Gives a name its new place."""
        old = struct.unpack_from("<I", data, at)[0]
        if old not in self._offsets:
            self._offsets[old] = len(self._strings)
            name = libbpf.lib().btf__name_by_offset(self._source, old)
            self._strings += libbpf.ffi.string(name) + b"\0"
        struct.pack_into("<I", data, at, self._offsets[old])

    def file(self) -> bytes:
        """The types as a file of type information."""
        return file_of(b"".join(self._types), bytes(self._strings))


def file_of(types: bytes = b"", strings: bytes = b"\0") -> bytes:
    """Types and their names as a file of type information."""
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings
