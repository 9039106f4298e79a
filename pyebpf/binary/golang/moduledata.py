# SPDX-License-Identifier: BSD-2-Clause
"""Go's module data: where the function text begins and ends.

From Go 1.18 on the function table counts from ``runtime.text``, and only the module data say where that is: the table's
header says 0 since Go 1.26, and section .text begins earlier in programs with cgo.

Source of the layout: ``type moduledata struct`` in Go's src/runtime/symtab.go. As words of 8 bytes: 0 pcHeader,
1-3 funcnametab, 4-6 cutab, 7-9 filetab, 10-12 pctab, 13-15 pclntable, 16-18 ftab, 19 findfunctab, 20 minpc, 21 maxpc,
22 text, 23 etext; unchanged from Go 1.16 to 1.27.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import BinaryError
from .memory import Memory
from .pclntab import PclnTable

_FTAB, _TEXT, _ETEXT = 16, 22, 23
_MAX_CANDIDATES = 16


class ModuleData(NamedTuple):
    """The module data at ``vaddr``: the function text is [text, etext)."""

    vaddr: int
    text: int
    etext: int


def module_data_of(memory: Memory, table: PclnTable) -> ModuleData:
    """The module data that belong to ``table``, of Go 1.18 or later.

    Raises:
        BinaryError: there are none that agree with it.
    """
    elf = memory.elf
    candidates = memory.find_words(table.vaddr, table.names_vaddr)
    for vaddr, _ in zip(candidates, range(_MAX_CANDIDATES)):
        try:
            found = ModuleData(vaddr, memory.word(vaddr + 8 * _TEXT), memory.word(vaddr + 8 * _ETEXT))
            functab = memory.word(vaddr + 8 * _FTAB)
            count = memory.word(vaddr + 8 * (_FTAB + 1))
        except BinaryError:
            continue
        sound = found.text < found.etext and elf.is_executable(found.text) and elf.is_executable(found.etext - 1)
        if sound and functab == table.functab_vaddr and count == table.count + 1:
            return found
    raise BinaryError(f"{elf.path}: a Go program whose module data can't be found")
