# SPDX-License-Identifier: BSD-2-Clause
"""Go's module data: where the function text begins and ends, and where descriptions of types are.

From Go 1.18 on the function table counts from ``runtime.text``, and only the module data say where that is: the table's
header says 0 since Go 1.26, and section .text begins earlier in programs with cgo.

Source of the layout: ``type moduledata struct`` in Go's src/runtime/symtab.go. As words of 8 bytes: 0 pcHeader,
1-3 funcnametab, 4-6 cutab, 7-9 filetab, 10-12 pctab, 13-15 pclntable, 16-18 ftab, 19 findfunctab, 20 minpc, 21 maxpc,
22 text, 23 etext; unchanged from Go 1.16 to 1.27. Go 1.15 and older have 0-2 pclntable, 3-5 ftab, 12 text, 13 etext.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import BinaryError
from .memory import Memory
from .pclntab import PclnTable
from .version import NEWEST, GoVersion

_FTAB, _TEXT, _ETEXT = 16, 22, 23
_OLD_FTAB, _OLD_TEXT, _OLD_ETEXT = 3, 12, 13
# Which words are types and etypes, by the first release in which they are.
_TYPES = (((1, 27), 37, 39), ((1, 20), 37, 38), ((1, 16), 35, 36), ((1, 15), 25, 26))
_MAX_CANDIDATES = 16


class ModuleData(NamedTuple):
    """The module data at ``vaddr``: the function text is [text, etext)."""

    vaddr: int
    text: int
    etext: int


def module_data_of(memory: Memory, table: PclnTable) -> ModuleData:
    """The module data that belong to ``table``.

    Raises:
        BinaryError: there are none that agree with it.
    """
    elf = memory.elf
    old = table.oldest_release < (1, 16)
    ftab, text, etext = (_OLD_FTAB, _OLD_TEXT, _OLD_ETEXT) if old else (_FTAB, _TEXT, _ETEXT)
    if old:
        words, before = (table.functab_vaddr, table.count + 1), 8 * ftab
    else:
        words, before = (table.vaddr, table.names_vaddr), 0
    for place, _ in zip(memory.find_words(*words), range(_MAX_CANDIDATES)):
        vaddr = place - before
        try:
            found = ModuleData(vaddr, memory.word(vaddr + 8 * text), memory.word(vaddr + 8 * etext))
            functab = memory.word(vaddr + 8 * ftab)
            count = memory.word(vaddr + 8 * (ftab + 1))
        except BinaryError:
            continue
        sound = found.text < found.etext and elf.is_executable(found.text) and elf.is_executable(found.etext - 1)
        if sound and functab == table.functab_vaddr and count == table.count + 1:
            return found
    raise BinaryError(f"{elf.path}: a Go program whose module data can't be found")


def types_of(memory: Memory, module: ModuleData, version: GoVersion) -> tuple[int, int] | None:
    """The addresses [start, end) of the descriptions of types; None where the layout isn't known."""
    release = version[:2]
    words = next((words for first, *words in _TYPES if first <= release <= NEWEST), None)
    if words is None:
        return None
    start_word, end_word = words
    start, end = memory.word(module.vaddr + 8 * start_word), memory.word(module.vaddr + 8 * end_word)
    if version.inferred and release >= (1, 20) and end < start:  # then it is a length, and this is 1.27
        end = memory.word(module.vaddr + 8 * (end_word + 1))
    return (start, end) if start < end else None
