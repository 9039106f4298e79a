# SPDX-License-Identifier: BSD-2-Clause
"""Where the symbols of a stripped file went: separate debug files and mini debug info.

The places and their order are GDB's (manual, "Debugging Information in Separate Files" and "MiniDebugInfo"), below a
root of the caller's choice: a container's programs have their debug files in the container.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..errors import BinaryError, Error
from .elf import SHT_NOBITS, Elf, most_unpacked

DEBUG_DIRECTORY = "usr/lib/debug"

_MAX_UNPACKER = 96 << 20  # bytes; xz -9 takes 65 MB
_CRC_CHUNK = 1 << 20
_MAX_CRC_BYTES = 4 << 30


class Search(NamedTuple):
    """What came of looking for a separate debug file: the file or None, the paths tried, what was wrong with some."""

    elf: Elf | None
    tried: tuple[str, ...]
    notes: tuple[str, ...]


def holder(elf: Elf, debug_root: str = "/") -> Elf | str:
    """The file that holds the debug information of ``elf``: itself, or a separate one, which is the caller's to close.

    Returns:
        A sentence if there is none: where it was looked for.
    """
    if _has_debug_info(elf):
        return elf
    search = separate(elf, debug_root)
    if search.elf is None:
        reason = f"no debug information in {elf.path}"
        if search.tried:
            reason += f"; looked for a debug file at {', '.join(search.tried)}"
        return "; ".join([reason, *search.notes])
    if not _has_debug_info(search.elf):
        search.elf.close()
        return f"no debug information in {elf.path}, nor in its debug file {search.elf.path}"
    return search.elf


def _has_debug_info(elf: Elf) -> bool:
    headers = [elf.section(name) for name in (".debug_info", ".zdebug_info")]
    return any(header is not None and header.type != SHT_NOBITS and header.size for header in headers)


def separate(elf: Elf, debug_root: str = "/") -> Search:
    """Find the separate debug file of ``elf`` below ``debug_root``, by build ID, then by debug link."""
    tried: list[str] = []
    notes: list[str] = []
    found: Elf | None = None
    for path, crc in _candidates(elf, debug_root):
        tried.append(path)
        if not os.path.lexists(path):
            continue
        try:
            found = _open(elf, path, crc)
        except Error as error:
            notes.append(f"debug file not used: {error}")
            continue
        break
    return Search(found, tuple(tried), tuple(notes))


def _candidates(elf: Elf, debug_root: str) -> list[tuple[str, int | None]]:
    """The paths to try, each with the CRC it must have (None: its build ID must be the file's)."""
    result: list[tuple[str, int | None]] = []
    debug_directory = os.path.join(debug_root, DEBUG_DIRECTORY)
    build_id = elf.build_id
    if build_id is not None and len(build_id) > 2:
        result.append((os.path.join(debug_directory, ".build-id", build_id[:2], build_id[2:] + ".debug"), None))
    link = elf.debuglink
    # A debug link is a bare file name; one with a path in it is somebody's attempt to lead us elsewhere.
    if link is not None and "/" not in link[0] and link[0] not in (".", ".."):
        name, crc = link
        for directory in _directories(elf, debug_root):
            inside = os.path.join(debug_root, directory)
            result += [
                (os.path.join(inside, name), crc),
                (os.path.join(inside, ".debug", name), crc),
                (os.path.join(debug_directory, directory, name), crc),
            ]
    return result


def _directories(elf: Elf, debug_root: str) -> list[str]:
    """The directory of ``elf``, with symbolic links followed and as given, relative to ``debug_root``."""
    result: list[str] = []
    for path in (_real_path(elf.path), os.path.abspath(elf.path)):
        directory = os.path.dirname(path)
        for root in (_real_path(debug_root), os.path.abspath(debug_root)):
            if directory == root or directory.startswith(root.rstrip("/") + "/"):
                directory = directory[len(root.rstrip("/")) :]
                break
        directory = directory.lstrip("/")
        if directory not in result:
            result.append(directory)
    return result


def _real_path(path: str) -> str:
    """`path` with symbolic links followed; as it is if it leads into a process that ends just now."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path


def _open(elf: Elf, path: str, crc: int | None) -> Elf:
    """Open the debug file at ``path`` if it belongs to ``elf``.

    Raises:
        Error: it can't be read, or belongs to another file.
    """
    debug = Elf.open(path, symbols_only=True)
    try:
        if debug.identity == elf.identity:
            raise BinaryError(f"{path}: is the program itself")
        if debug.machine != elf.machine:
            raise BinaryError(f"{path}: made for {debug.machine}, the program for {elf.machine}")
        if crc is None and debug.build_id != elf.build_id:
            raise BinaryError(f"{path}: has build ID {debug.build_id}, the program {elf.build_id}")
        if crc is not None and _crc32(debug) != crc:
            raise BinaryError(f"{path}: its CRC isn't {crc:#010x}, which the program asks for")
    except BaseException:
        debug.close()
        raise
    return debug


def _crc32(elf: Elf) -> int:
    """The CRC-32 of the whole file, a piece at a time."""
    from binascii import crc32

    if elf.size > _MAX_CRC_BYTES:
        raise BinaryError(f"{elf.path}: larger than {_MAX_CRC_BYTES} bytes; its CRC isn't checked")
    value = 0
    for start in range(0, elf.size, _CRC_CHUNK):
        value = crc32(elf.data[start : start + _CRC_CHUNK], value)
    return value


def embedded(elf: Elf) -> Elf | None:
    """The ELF file of symbols packed with xz into ``.gnu_debugdata`` ("mini debug info", as Fedora's), or None.

    Raises:
        BinaryError: it is there but broken, or unpacks to more than `most_unpacked` bytes.
    """
    section = elf.section(".gnu_debugdata")
    if section is None or section.type == SHT_NOBITS or not section.size:
        return None
    where = f"{elf.path}: .gnu_debugdata"
    packed = elf.contents(section)
    try:
        import lzma
    except ImportError:  # a Python built without liblzma
        raise BinaryError(f"{where}: this Python has no lzma module to unpack it with") from None
    try:
        most = most_unpacked(len(packed))
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MAX_UNPACKER)
        data = unpacker.decompress(packed, max_length=most)
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise BinaryError(f"{where}: {error or 'too large to unpack'}") from None
    if not unpacker.eof:
        reason = f"unpacks to more than {most} bytes" if len(data) == most else "is truncated"
        raise BinaryError(f"{where} {reason}")
    return Elf(data, where, symbols_only=True)
