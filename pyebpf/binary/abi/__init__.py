# SPDX-License-Identifier: BSD-2-Clause
"""Calling conventions of C, C++ and Rust: where parameters and results lie, by their types alone."""

from __future__ import annotations

from typing import NamedTuple

from .. import types
from ..signature import ABSENT, Piece, Place
from ..types import Type

# Types that are one integer to every calling convention.
SCALARS = frozenset(
    (types.INT, types.UINT, types.BOOL, types.CHAR, types.RUNE, types.ENUM, types.POINTER, types.REFERENCE)
)
AGGREGATES = frozenset(
    (types.STRUCT, types.UNION, types.ARRAY, types.VARIANT, types.STRING, types.SLICE, types.STD_STRING,
     types.RUST_STRING, types.RUST_VEC)
)  # fmt: skip

_STRING_VIEW = 16  # bytes: length and pointer; no other standard string has that many

# Bounds for what is found in a type.
MAX_DEPTH = 32
MAX_VISITED = 4096


class Assignment(NamedTuple):
    """Where a function's values are.

    Attributes:
        parameters: when it begins; None: unknown, as its own type or that of one before it is.
        result: when it returns; None if there is none, or it isn't known where.
    """

    parameters: tuple[Place | None, ...]
    result: Place | None


def by_address(type: Type) -> bool:
    """Does C++ pass ``type`` by address, as copying it takes code? Of its strings only string_view isn't such."""
    return type.by_reference or (type.kind == types.STD_STRING and type.size != _STRING_VIEW)


def absent(type: Type) -> Place:
    """The place of a value that is nowhere."""
    return Place((Piece(ABSENT, type.size),))
