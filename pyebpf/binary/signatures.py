# SPDX-License-Identifier: BSD-2-Clause
"""From a function to its signature: names and types by debug information, places also by the calling convention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import BinaryError, Error
from . import debugfile
from .signature import CONSTANT, FLOAT_REGISTER, MEMORY, REGISTER, STACK, Place, Signature

if TYPE_CHECKING:
    from .dwarf import Dwarf, Subprogram
    from .elf import Elf
    from .image import Function, Image


class DebugInfo:
    """The debug information of the files a session looks at, each opened once.

    Attributes:
        debug_root: where the system that the files belong to has its root directory.
    """

    __slots__ = ("_files", "debug_root")

    def __init__(self, debug_root: str = "/") -> None:
        self.debug_root = debug_root
        # By the identity of the object; the object is kept so that no other can get its identity.
        self._files: dict[int, tuple[Elf, Dwarf | str]] = {}

    def of(self, elf: Elf) -> Dwarf | str:
        """The debug information of ``elf``, which must stay open; or a sentence why there is none."""
        known = self._files.get(id(elf))
        if known is None:
            found: Dwarf | str
            try:
                holder = debugfile.holder(elf, self.debug_root)
                if isinstance(holder, str):
                    found = holder
                else:
                    from .dwarf import Dwarf

                    found = Dwarf.of(elf, self.debug_root, holder)
            except Error as error:
                found = f"debug information not used: {error}"
            known = self._files[id(elf)] = (elf, found)
        return known[1]

    def subprogram(self, elf: Elf, address: int, names: Iterable[str]) -> tuple[Subprogram | None, str]:
        """What is known of the function at ``address``; if nothing, why."""
        dwarf = self.of(elf)
        if isinstance(dwarf, str):
            return None, dwarf
        try:
            found = dwarf.subprogram(address, tuple(names))
        except BinaryError as error:
            return None, f"debug information not used: {error}"
        if found is None:
            return None, f"the debug information in {dwarf.path} doesn't describe this function"
        return found, ""

    def close(self) -> None:
        """Close the separate files that were opened."""
        for _, found in self._files.values():
            if not isinstance(found, str):
                found.close()
        self._files.clear()

    def __enter__(self) -> DebugInfo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def signature_of(image: Image, function: Function, address: int, *, debug: DebugInfo) -> Signature:
    """What a probe can be asked for at ``address``, an address of ``function`` as in the file.

    In a Go function, also the address after its stack check counts as its beginning. Missing or broken debug
    information is no error: then there are no parameters, and a reason.
    """
    subprogram, reason = debug.subprogram(image.elf, function.address, (function.raw, function.name))
    if function.language == "go":
        from .golang.signatures import go_signature as build
    elif subprogram is None and address == function.address:
        from .abi.convention import unknown_signature  # at once: the rest is a lot of code to import

        return unknown_signature(image.elf.machine, reason)
    else:
        from .abi.native import native_signature as build
    try:
        return build(image, function, address, subprogram, reason)
    except BinaryError as error:
        return build(image, function, address, None, f"debug information not used: {error}")


def describe(place: Place) -> str:
    """A place for people: "ax", "bx cx", "[sp+8]", "[di+16]", "xmm0", "5", "optimised away"; "*" if it's an address."""
    texts: list[str] = []
    for piece in place.pieces:
        if piece.kind in (REGISTER, FLOAT_REGISTER):
            text = piece.register
        elif piece.kind in (STACK, MEMORY):
            base = "sp" if piece.kind == STACK else piece.register
            text = f"[{base}{piece.offset:+}]" if piece.offset else f"[{base}]"
        elif piece.kind == CONSTANT:
            text = str(piece.value)
        else:
            text = "optimised away"
        texts.append(f"*{text}" if place.indirect else text)
    return " ".join(texts) or "empty"
