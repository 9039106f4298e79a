# SPDX-License-Identifier: BSD-2-Clause
"""One file's debug information, and where it is."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...errors import BinaryError, Error
from .. import debugfile
from ..debugfile import DEBUG_DIRECTORY
from ..elf import SHT_NOBITS, Elf
from . import constants as c
from .functions import Functions
from .sections import Sections
from .subprogram import Subprogram
from .typereader import DAMAGE, Types
from .unit import Entry, Info

_MAX_TRIED = 16
_MAX_LINK = 8192


class Dwarf:
    """The debug information of one program or library.

    Attributes:
        path: the file that holds it: the program, or its separate debug file.
    """

    __slots__ = ("_functions", "_info", "_opened", "_types", "path")

    def __init__(self, elf: Elf, opened: list[Elf], supplement: Info | str) -> None:
        """Use `of`. ``opened``: what to close in the end."""
        self.path = elf.path
        self._opened = opened
        self._info = Info(Sections(elf), supplement)
        self._functions = Functions(self._info)
        self._types = Types()

    @staticmethod
    def of(elf: Elf, debug_root: str = "/", holder: Elf | None = None) -> Dwarf | str:
        """The debug information of ``elf``, in it or in a separate file below ``debug_root``.

        Args:
            holder: what `debugfile.holder` found, if it was asked already; it is taken over.

        Returns:
            A sentence if there is none that can be read: why, and where it was looked for. ``elf`` must stay open as
            long as the result is used.
        """
        found_in = debugfile.holder(elf, debug_root) if holder is None else holder
        if isinstance(found_in, str):
            return found_in
        holder = found_in
        opened = [holder] if holder is not elf else []
        supplement = _supplement(holder, opened, debug_root)
        found = Dwarf(holder, opened, Info(Sections(supplement), "") if isinstance(supplement, Elf) else supplement)
        try:
            trouble = found._check()
        except DAMAGE as error:
            trouble = f"the debug information of {holder.path} can't be read: {_sentence(error)}"
        if trouble:
            found.close()
            return trouble
        return found

    def close(self) -> None:
        """Unmap the separate files it opened."""
        for elf in self._opened:
            elf.close()

    def subprogram(self, address: int, names: Sequence[str] = ()) -> Subprogram | None:
        """The function whose first instruction is at ``address`` (as in the ELF file), or None if none is described.

        Args:
            names: what it is called: linkers put functions with the same code at one address.

        Raises:
            BinaryError: the debug information is damaged, or of a kind that isn't read; the message says which.
        """
        self._info.begin()
        try:
            entry = self._functions.find(address, names)
            return Subprogram(entry, self._types, self.path) if entry is not None else None
        except DAMAGE as error:
            raise BinaryError(f"the debug information of {self.path} can't be read: {_sentence(error)}") from error

    def _check(self) -> str:
        """Why it is of no use, or ""."""
        units = [unit for unit in self._info.units() if unit.kind != c.UT_TYPE]
        if not units:
            return f"the debug information of {self.path} is empty"
        if all(_is_elsewhere(unit.top) for unit in units[:_MAX_TRIED]):
            return f"the debug information of {self.path} is in split files (.dwo), which aren't read"
        return ""


def _is_elsewhere(top: Entry) -> bool:
    return top.tag == c.TAG_SKELETON_UNIT or c.AT_DWO_NAME in top or c.AT_GNU_DWO_NAME in top


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, BinaryError) else "it is damaged"


def _supplement(elf: Elf, opened: list[Elf], debug_root: str) -> Elf | str:
    """The file that ``elf`` shares debug information with others in, as dwz writes it; or why there is none.

    .gnu_debugaltlink: a path, NUL, the build ID of the file (GDB manual, "Separate Debug Files"). .debug_sup: version,
    a flag, a path, NUL, the build ID's size and itself (7.3.6).
    """
    raw = _small(elf, ".gnu_debugaltlink")
    name, _, identity = raw.partition(b"\0")
    if not raw:
        name, identity = _standard_link(elf)
    if not name or not identity:
        return f"the debug information of {elf.path} refers to a shared file that it doesn't name"
    build_id = identity.hex()
    link = os.fsdecode(name)
    directory = os.path.join(debug_root, DEBUG_DIRECTORY)
    candidates = [os.path.join(directory, ".build-id", build_id[:2], build_id[2:] + ".debug")]
    # The path is absolute, or relative to the file; either way it stays below the directory of debug files.
    beside = os.path.join(os.path.dirname(os.path.realpath(elf.path)), link)
    for path in (beside, os.path.join(debug_root, link.lstrip("/"))):
        path = os.path.normpath(path)
        if path.startswith(os.path.realpath(directory) + os.sep) and path not in candidates:
            candidates.append(path)
    for path in candidates:
        try:
            found = Elf.open(path, symbols_only=True)
        except Error:
            continue
        if found.build_id == build_id or _standard_link(found)[1] == identity:
            opened.append(found)
            return found
        found.close()
    return f"debug information shared with other files is missing; looked for it at {', '.join(candidates)}"


def _standard_link(elf: Elf) -> tuple[bytes, bytes]:
    """The path and identity in .debug_sup; in the file that others share, only the identity."""
    name, _, identity = _small(elf, ".debug_sup")[3:].partition(b"\0")
    return name, identity[1:]


def _small(elf: Elf, name: str) -> bytes:
    """The contents of a small section; b"" if there is none."""
    section = elf.section(name)
    if section is None or section.type == SHT_NOBITS or section.size > _MAX_LINK:
        return b""
    try:
        return bytes(elf.contents(section))
    except BinaryError:
        return b""
