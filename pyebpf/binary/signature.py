# SPDX-License-Identifier: BSD-2-Clause
"""A function's parameters and results: names, types, and where each lies when a probe sees it."""

from __future__ import annotations

from typing import NamedTuple

from .types import Type

REGISTER = "register"
FLOAT_REGISTER = "float register"
STACK = "stack"
MEMORY = "memory"
CONSTANT = "constant"
ABSENT = "absent"


class Piece(NamedTuple):
    """Where some bytes of a value are.

    Attributes:
        kind: one of
            REGISTER: in the integer register `register`, from its lowest byte.
            FLOAT_REGISTER: in the vector register `register` ("xmm0", "v0"), which no uprobe can read.
            STACK: `offset` bytes above the stack pointer as it was at the function's first instruction.
            MEMORY: `offset` bytes from the address in integer register `register`.
            CONSTANT: nowhere; it is `value`, little-endian.
            ABSENT: the compiler optimised it away here.
        offset: see above.
        size: in bytes.
        at: which bytes of the value: its offset in the whole.
        register: the name the kernel's `struct pt_regs` gives it: "ax", "di", "r14" on x86-64, "x0" on arm64, "sp".
        value: of a CONSTANT.
    """

    kind: str
    size: int
    at: int = 0
    register: str = ""
    offset: int = 0
    value: int = 0


class Place(NamedTuple):
    """Where a value is: its pieces, in order of `at`. Padding belongs to no piece.

    Attributes:
        pieces: see Piece; one, for most values.
        indirect: the pieces hold the value's address (8 bytes) instead of the value.
    """

    pieces: tuple[Piece, ...]
    indirect: bool = False


class Parameter(NamedTuple):
    """A parameter or result.

    Attributes:
        name: "" if it has none.
        type: its type.
        place: where it is; when all of it is gone, a single ABSENT piece.
        hidden: the compiler's own (a generic function's dictionary): never shown unless asked for.
        captured: Go: a variable that a closure captured; not a parameter, but asked for in the same way.
    """

    name: str
    type: Type
    place: Place
    hidden: bool = False
    captured: bool = False


class Signature(NamedTuple):
    """What a probe at one address of a function can be asked for.

    Attributes:
        parameters: in order.
        results: in order: one or none in C, C++ and Rust. Their places hold at the RET instructions (and at a
            kernel return probe).
        words: the integer registers that arguments are passed in, in order, as `Piece.register` names them; () where
            they are passed on the stack (Go's stack ABI).
        result_words: the same for results.
        stack_words: where stack argument 0 is: bytes above the stack pointer at the first instruction.
        depth: how far below its value at the function's first instruction the stack pointer is at the probe, in
            bytes; None: unknown, so nothing on the stack can be read there.
        source: the file whose debug information was used; "" if there is none.
        reason: why there are no names ("no debug information in ...; looked in ..."), "" if there are.
    """

    parameters: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    words: tuple[str, ...]
    result_words: tuple[str, ...]
    stack_words: int
    depth: int | None
    source: str
    reason: str
