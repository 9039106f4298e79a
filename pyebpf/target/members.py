# SPDX-License-Identifier: BSD-2-Clause
"""Fields of structures by name, also those of embedded, base and anonymous ones."""

from __future__ import annotations

from ..binary import types
from ..binary.types import Member, Type

_MAX_DEPTH = 8
_MAX_VISITED = 4096


def shown(name: str) -> str:
    """A field's name as it is written: Rust's tuples call theirs __0, the language 0."""
    return name[2:] if name[:2] == "__" and name[2:].isdigit() else name


def names_of(kind: Type) -> list[str]:
    """The fields that can be asked for by name, without those found through embedded ones."""
    names: list[str] = []
    _collect(kind, names, 0)
    return names


def _collect(kind: Type, names: list[str], depth: int) -> None:
    for member in kind.members:
        if len(names) >= _MAX_VISITED:
            return
        if member.name:
            names.append(shown(member.name))
        elif depth < _MAX_DEPTH:
            _collect(member.type, names, depth + 1)


def find(kind: Type, name: str) -> tuple[Member, ...] | None:
    """The members to go through to a field: the shallowest one of that name; None if there is none."""
    level: list[tuple[tuple[Member, ...], Type]] = [((), kind)]
    visited = 0
    for _ in range(_MAX_DEPTH):
        deeper = []
        for path, struct in level:
            for member in struct.members:
                visited += 1
                if visited > _MAX_VISITED:
                    return None
                if member.name and shown(member.name) == name:
                    return (*path, member)
                if member.embedded or not member.name:
                    inner = member.type.target if member.type.kind == types.POINTER else member.type
                    if inner is not None and inner.kind in (types.STRUCT, types.UNION):
                        deeper.append(((*path, member), inner))
        level = deeper
    return None
