# SPDX-License-Identifier: BSD-2-Clause
"""Go programs: functions, probe sites and runtime offsets, from what survives stripping.

The modules behind `find` are loaded when there is a Go program, which keeps tracing other programs quick to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..elf import Elf
    from .program import GoFunction, GoProgram
    from .sites import GoSites
    from .version import GoVersion

__all__ = ["GoFunction", "GoProgram", "GoSites", "GoVersion", "find"]

TABLE_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
# Any of these says that the Go linker had a hand in the file. An external linker merges the function table into
# .data.rel.ro in position-independent programs up to Go 1.24, but it keeps the other two.
GO_SECTIONS = (*TABLE_SECTIONS, ".go.buildinfo", ".note.go.buildid")


def find(elf: Elf) -> GoProgram | None:
    """The Go code in ``elf``; None when there is none.

    A file without section headers is searched for Go's function table; one with them must have a section of Go's.

    Raises:
        BinaryError: there is Go code, but its tables are damaged, or of a kind pyebpf doesn't know.
    """
    if elf.sections and not any(elf.section(name) for name in GO_SECTIONS):
        return None
    from .program import find as find_program

    return find_program(elf)


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import program

        return getattr(program, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
