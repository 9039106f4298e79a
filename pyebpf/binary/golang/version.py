# SPDX-License-Identifier: BSD-2-Clause
"""Which Go release built a program, and what of the runtime's layout follows from it.

Source of the build information's layout: Go's src/debug/buildinfo/buildinfo.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import BinaryError
from ..elf import SHT_NOBITS, Elf
from .memory import Memory

_MAGIC = b"\xff Go buildinf:"
_HEADER_SIZE = 32
_ALIGN = 16
_FLAG_BIG_ENDIAN, _FLAG_INLINE = 1, 2
_MAX_CANDIDATES = 64
_MAX_VERSION = 200
_NUMBER = re.compile(r"go(\d{1,3})\.(\d{1,3})")

NEWEST = (1, 27)  # what this package was measured against; nothing is assumed about later releases


class GoVersion(NamedTuple):
    """A Go release.

    ``text`` is what the program says of itself ("go1.21.13"). ``inferred``: it says nothing, and this is the oldest
    release that writes function tables like its own.
    """

    major: int
    minor: int
    text: str
    inferred: bool = False


def version_of(elf: Elf, memory: Memory) -> GoVersion | None:
    """The release named in the program's build information; None if there is none, or no number in it."""
    for offset in _candidates(elf):
        try:
            text = _read(elf, memory, offset)
        except BinaryError:
            continue
        number = _NUMBER.search(text)
        if number:
            return GoVersion(int(number[1]), int(number[2]), text)
    return None


def _candidates(elf: Elf) -> Iterator[int]:
    """File offsets of what may be build information: the section, or else every place with the magic."""
    section = elf.section(".go.buildinfo")
    if section is not None and section.type != SHT_NOBITS and section.offset + section.size <= elf.size:
        yield section.offset
        return
    position = -1
    for _ in range(_MAX_CANDIDATES):
        position = elf.data.find(_MAGIC, position + 1)
        if position < 0:
            return
        if position % _ALIGN == 0:
            yield position


def _read(elf: Elf, memory: Memory, offset: int) -> str:
    header = elf.data[offset : offset + _HEADER_SIZE]
    if len(header) != _HEADER_SIZE or not header.startswith(_MAGIC):
        raise BinaryError(f"{elf.path}: no build information at {offset:#x}")
    pointer_size, flags = header[14], header[15]
    if flags & _FLAG_INLINE:  # Go 1.18 and later: length and text follow the header
        start = offset + _HEADER_SIZE
        if start + 2 > elf.size:
            raise BinaryError(f"{elf.path}: build information that ends with the file")
        length = elf.data[start]
        if length & 0x80 and elf.data[start + 1] < 2:  # a second byte of the variable-length number
            length = length & 0x7F | elf.data[start + 1] << 7
            start += 1
        if length > _MAX_VERSION:
            raise BinaryError(f"{elf.path}: a Go version of {length} bytes")
        return elf.data[start + 1 : start + 1 + length].decode("utf-8", "backslashreplace")
    if pointer_size != 8 or flags & _FLAG_BIG_ENDIAN:
        raise BinaryError(f"{elf.path}: build information for another kind of machine")
    vaddr = elf.vaddr_of(offset)
    if vaddr is None:
        raise BinaryError(f"{elf.path}: build information that isn't loaded")
    return memory.string(memory.word(vaddr + 16))


def goid_offset(version: GoVersion) -> int | None:
    """The byte offset of ``goid`` in the runtime's ``g``, on x86-64 and arm64 alike; None where it isn't known.

    Source: ``type g struct`` in Go's src/runtime/runtime2.go; 1.23 added a word (``syscallbp``), 1.25 removed one
    (``gobuf.ret``).
    """
    release = version[:2]
    if not (1, 15) <= release <= NEWEST or (version.inferred and release >= (1, 20)):
        return None
    return 160 if release in ((1, 23), (1, 24)) else 152


def gofunc_word(version: GoVersion) -> int | None:
    """Which word of the module data holds ``gofunc``, the base of function data offsets; None where it isn't known.

    Source: ``type moduledata struct`` in Go's src/runtime/symtab.go. Before 1.18 function data are pointers.
    """
    release = version[:2]
    if not (1, 18) <= release <= NEWEST or (version.inferred and release >= (1, 20)):
        return None
    if release < (1, 20):
        return 38
    return 40 if release < (1, 27) else 43
