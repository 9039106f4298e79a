# SPDX-License-Identifier: BSD-2-Clause
"""Whole paths: where a relative path begins, as bpf/include/path.bpf.h tells it."""

from __future__ import annotations

from pyebpf.core.btf import Btf
from pyebpf.tools.text import text_behind

_CUT = "…/".encode()


class Places:
    """Decodes the text and the directory behind a record's fixed part.

    Args:
        btf: of the object, which has path.bpf.h's numbers.
        head: size of the fixed part.
    """

    __slots__ = ("_cut", "_head", "_long", "_short")

    def __init__(self, btf: Btf, head: int) -> None:
        texts, places = btf.enumerators("text_sizes"), btf.enumerators("place_sizes")
        self._head = head
        self._short = texts["TEXT_SHORT"]
        self._long = texts["TEXT_LONG"]
        self._cut = places["PLACE_CUT"]

    def paths(self, record: memoryview, size: int, used: int) -> tuple[bytes | None, bytes | None]:
        """A path as the process gave it, and as it is from the process's root directory.

        Args:
            size: of the text, as reserve_with_text() counts it.
            used: of the names.

        Returns:
            None for what could not be read. The second begins with "…/" if the directory lies too deep.
        """
        room = self._head + (self._long if len(record) >= self._head + self._long else self._short)
        path = text_behind(record[:room], self._head, size)
        if path is None or (path.startswith(b"/") and not used):
            return path, path
        names = bytes(record[room : room + (used & ~self._cut)]).split(b"\0")[-2::-1]
        directory = (_CUT if used & self._cut else b"/") + b"".join(name + b"/" for name in names)
        return path, type(path)(directory + path.lstrip(b"/")) if path else directory.rstrip(b"/") or b"/"
