# SPDX-License-Identifier: BSD-2-Clause
"""From a short name to a file: libraries as ld.so finds them, programs as the shell finds them.

Format of /etc/ld.so.cache: glibc, sysdeps/generic/dl-cache.h (struct cache_file_new; before glibc 2.32 it follows a
struct cache_file of the old format in the same file).
"""

from __future__ import annotations

import os
import re
import struct
from typing import NamedTuple

_CACHE = "/etc/ld.so.cache"
_MAX_CACHE = 64 << 20
_MAX_ENTRIES = 1_000_000
_MAX_TEXT = 4096
_DEFAULT_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib64", "/usr/local/lib")

_OLD_MAGIC = b"ld.so-1.7.0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_HEADER = struct.Struct("<12sI")
_OLD_ENTRY = 12
_NEW_HEADER = struct.Struct("<20sIIB3xI12x")
_NEW_ENTRY = struct.Struct("<iIIIQ")

# FLAG_ELF_LIBC6 with FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64, glibc sysdeps/generic/ldconfig.h.
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}

_VERSION = r"(?:-[0-9][^/]*)?\.so(?:\.[^/]*)?\Z"  # compiled when first used


class Library(NamedTuple):
    """A library ld.so knows: the name programs ask for, and the file."""

    soname: str
    path: str


def is_library(file: str, name: str) -> bool:
    """Is `file`, a name without directories, the library a user calls `name`?

    `name` is what the linker's -l takes ("c": libc.so.6, libc-2.31.so), with or without "lib", or the whole file name.
    musl's C library is its loader.
    """
    if file == name:
        return True
    for prefix in ("lib" + name, name):
        if file.startswith(prefix) and prefix.startswith("lib") and re.match(_VERSION, file[len(prefix) :]):
            return True
    return name in ("c", "libc") and file.startswith(("ld-musl-", "libc.musl-"))


def find_libraries(name: str) -> list[Library]:
    """The libraries called `name` of this machine's architecture, from ld.so's cache or else the usual directories.

    ld.so's order: the newest version comes first. One soname can come several times, built for different processors.
    """
    found = [library for library in read_cache() if is_library(library.soname, name)]
    if found:
        return [library for library in found if os.path.exists(library.path)]
    machine = os.uname().machine
    directories = tuple(f"{top}/{machine}-linux-gnu" for top in ("/lib", "/usr/lib", "/usr/local/lib"))
    return [
        Library(file, f"{directory}/{file}")
        for directory in directories + _DEFAULT_DIRECTORIES
        for file in sorted(_names(directory), reverse=True)
        if is_library(file, name)
    ]


def find_program(name: str) -> str | None:
    """The path of the program a shell would run for `name`, or None."""
    if "/" in name:
        return name if _is_program(name) else None
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory, name)
        if directory and name and _is_program(path):
            return path
    return None


def read_cache(path: str = _CACHE) -> list[Library]:
    """The entries of an ld.so cache for this machine's architecture; none if it is missing or no cache."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_CACHE + 1)
    except OSError:
        return []
    return parse_cache(data, os.uname().machine) if len(data) <= _MAX_CACHE else []


def parse_cache(data: bytes, machine: str) -> list[Library]:
    """The entries of the cache `data` for `machine` (as uname(2) names it); whatever lies outside is passed over."""
    base = _new_cache(data)
    if base is None or machine not in _FLAGS:
        return []
    _, count, _, _, _ = _NEW_HEADER.unpack_from(data, base)
    first = base + _NEW_HEADER.size
    if count > _MAX_ENTRIES or first + count * _NEW_ENTRY.size > len(data):
        return []
    wanted = _FLAGS[machine]
    return [
        Library(_text(data, base + key), _text(data, base + value))
        for flags, key, value, _, _ in _NEW_ENTRY.iter_unpack(data[first : first + count * _NEW_ENTRY.size])
        if flags == wanted
    ]


def _new_cache(data: bytes) -> int | None:
    """Where the new format's header begins: offsets in the cache count from there."""
    start = 0
    if data.startswith(_OLD_MAGIC) and len(data) >= _OLD_HEADER.size:
        start = _OLD_HEADER.size + _OLD_HEADER.unpack_from(data)[1] * _OLD_ENTRY
        start += -start % 8
    fits = start + _NEW_HEADER.size <= len(data)
    return start if fits and data[start : start + len(_NEW_MAGIC)] == _NEW_MAGIC else None


def _text(data: bytes, start: int) -> str:
    end = data.find(b"\0", start, start + _MAX_TEXT)
    return os.fsdecode(data[start:end]) if end >= 0 else ""


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_program(path: str) -> bool:
    try:
        return os.path.isfile(path) and os.access(path, os.X_OK)
    except ValueError:
        return False
