# SPDX-License-Identifier: BSD-2-Clause
"""The runtime's descriptions of types: what the first word of an interface points to.

Source of the layout: ``type Type struct`` and ``type Name struct`` in Go's src/internal/abi/type.go (before 1.20: rtype
and name in src/reflect/type.go); the same from Go 1.14 on but for how a name's length is written.
"""

from __future__ import annotations

import struct

from ...errors import BinaryError
from .program import GoProgram

# size, ptrdata, hash, tflag, align, fieldAlign, kind, equal, gcdata, str, ptrToThis
_HEADER = struct.Struct("<QQIBBBBQQiI")
_EXTRA_STAR = 2  # in tflag: the name was written with a "*" in front, which another type shares
_KIND_MASK = 31
_MAX_NAME = 4 << 10
_VARINT_NAMES = (1, 17)  # the first release to write lengths so; before, two bytes, big-endian

# Kinds. Source: ``type Kind uint8`` in src/internal/abi/type.go.
BOOL, INT, INT8, INT16, INT32, INT64, UINT, UINT8, UINT16, UINT32, UINT64, UINTPTR = range(1, 13)
FLOAT32, FLOAT64, COMPLEX64, COMPLEX128, ARRAY, CHAN, FUNC, INTERFACE, MAP, POINTER = range(13, 23)
SLICE, STRING, STRUCT, UNSAFE_POINTER = range(23, 27)


_BASIC = {
    BOOL: "bool", INT: "int", INT8: "int8", INT16: "int16", INT32: "int32", INT64: "int64", UINT: "uint",
    UINT8: "uint8", UINT16: "uint16", UINT32: "uint32", UINT64: "uint64", UINTPTR: "uintptr", FLOAT32: "float32",
    FLOAT64: "float64", STRING: "string",
}  # fmt: skip


class RuntimeType:
    """A type as the running program knows it.

    Attributes:
        name: as the program prints it, with the last part of the package's path: "*fs.PathError".
        kind: one of the constants above.
        size: in bytes.
    """

    __slots__ = ("kind", "name", "size")

    def __init__(self, name: str, kind: int, size: int) -> None:
        self.name, self.kind, self.size = name, kind, size

    @property
    def basic(self) -> str:
        """The predeclared type that it is made of: "int" for ``type level int``; "" if it is something else."""
        return _BASIC.get(self.kind, "")

    def __repr__(self) -> str:
        return f"<RuntimeType {self.name}>"


def runtime_type(program: GoProgram, vaddr: int) -> RuntimeType | None:
    """The type described at ``vaddr`` (an address as in the file: without what a loader adds).

    None: there is no description there, as of types that the program made while it ran.
    """
    types = program.types
    if types is None or not types[0] <= vaddr < types[1] or vaddr % 8:
        return None
    try:
        raw = program.elf.read(vaddr, _HEADER.size)
        size, _, _, flags, align, _, kind, _, _, name_offset, _ = _HEADER.unpack(raw)
        kind &= _KIND_MASK
        if not BOOL <= kind <= UNSAFE_POINTER or align not in (1, 2, 4, 8) or size % align:
            return None
        name = _name(program, types[0] + name_offset)
    except BinaryError:
        return None
    if flags & _EXTRA_STAR:
        if not name.startswith("*"):
            return None
        name = name[1:]
    return RuntimeType(name, kind, size) if name.isprintable() and name else None


def type_name(program: GoProgram, vaddr: int) -> str | None:
    """The name of the type described at ``vaddr``; see `runtime_type`."""
    found = runtime_type(program, vaddr)
    return found.name if found is not None else None


def _name(program: GoProgram, vaddr: int) -> str:
    """The name at ``vaddr``: a byte of flags, its length, its bytes."""
    elf = program.elf
    _, first, second = elf.read(vaddr, 3)
    if program.version[:2] >= _VARINT_NAMES:
        length, start = (first, 2) if first < 0x80 else (first & 0x7F | second << 7, 3)
    else:
        length, start = first << 8 | second, 3
    if length > _MAX_NAME:
        raise BinaryError(f"{elf.path}: a type whose name has {length} bytes")
    try:
        return elf.read(vaddr + start, length).decode()
    except UnicodeDecodeError:
        raise BinaryError(f"{elf.path}: a type whose name isn't text") from None
