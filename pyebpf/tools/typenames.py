# SPDX-License-Identifier: BSD-2-Clause
"""Names of Go's run-time types, by where a running process has their descriptions."""

from __future__ import annotations

from collections.abc import Mapping

from pyebpf.binary.elf import ET_EXEC, PT_LOAD, Elf
from pyebpf.binary.image import Image
from pyebpf.errors import BinaryError, Error
from pyebpf.target.process import Mapping as Mapped
from pyebpf.target.process import Process, identity
from pyebpf.tools.interfaces import GoType

_MAX_PROCESSES = 1024
_PAGE_MASK = ~0xFFF


class TypeNames:
    """Answers what type a Go program's interface holds.

    Args:
        images: the files that are traced, as in `Resolution.images`.
    """

    def __init__(self, images: Mapping[tuple[int, int], Image]) -> None:
        self._images = {key: image for key, image in images.items() if image.go is not None}
        self._biases: dict[int, list[tuple[Image, int]]] = {}

    def __call__(self, pid: int, address: int) -> GoType | None:
        """The type described at an address of a process; None if there is none, or the process is gone."""
        from pyebpf.binary.golang.rtype import runtime_type

        for image, bias in self._where(pid):
            program = image.go
            found = None
            try:
                found = runtime_type(program, address - bias) if program is not None else None
            except BinaryError:
                continue
            if found is not None:
                return GoType(found.name, found.basic)
        return None

    def _where(self, pid: int) -> list[tuple[Image, int]]:
        """The Go files that a process maps, and how far from the addresses in the file."""
        if pid not in self._biases:
            if len(self._biases) >= _MAX_PROCESSES:
                self._biases.clear()
            self._biases[pid] = self._look(pid)
        return self._biases[pid]

    def _look(self, pid: int) -> list[tuple[Image, int]]:
        fixed = [(image, 0) for image in self._images.values() if image.elf.type == ET_EXEC]
        if len(fixed) == len(self._images):
            return fixed
        try:
            process = Process(pid)
            maps = process.maps()
            program = identity(process.exe)
        except Error:
            return fixed
        found = []
        for key, image in self._images.items():
            if image.elf.type == ET_EXEC:
                continue
            # The kernel may show another device than stat does (overlayfs), so only inodes are compared.
            bias = load_bias(image.elf, [mapping for mapping in maps if mapping.inode == key[1]])
            if bias is not None:
                found.append((image, bias))
                if key == program:
                    found.insert(0, found.pop())
        return fixed + found


def load_bias(elf: Elf, mappings: list[Mapped]) -> int | None:
    """What the loader added to the addresses of a file, from where it is mapped; None if its beginning isn't."""
    first = next((segment for segment in elf.segments if segment.type == PT_LOAD), None)
    if first is None:
        return None
    for mapping in mappings:
        if mapping.offset == first.offset & _PAGE_MASK:
            return mapping.start - (first.vaddr & _PAGE_MASK)
    return None
