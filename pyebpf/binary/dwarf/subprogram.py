# SPDX-License-Identifier: BSD-2-Clause
"""A function as debug information describes it (3.3)."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import BinaryError
from ..types import Type
from . import constants as c
from .location import Location, absent, locate
from .ranges import ranges_of
from .typereader import DAMAGE, Types
from .unit import Entry, origins

_MAX_FORMALS = 1 << 8
_MAX_CAPTURES = 1 << 8


class Capture(NamedTuple):
    """A variable that a Go closure captured (Go >= 1.23): `offset` bytes into the closure that DX or R26 points to."""

    name: str  # "&name" if the closure holds its address
    type: Type
    offset: int


class Formal:
    """A formal parameter; Go's results are such too.

    Attributes:
        name: "" if it has none.
        artificial: the compiler made it: `this`, and the like (DW_AT_artificial).
        is_result: a result of a Go function (DW_AT_variable_parameter).
        has_location: there is an attribute that says where it is; that needn't cover the address asked for.
        is_told: and it says somewhere at least; Go's says nothing at all of what it optimised away.
        everywhere: that is one place for the whole function, though compilers mean: once it has got there.
    """

    __slots__ = (
        "_entry", "_frame", "_low_pc", "_typed", "_types", "artificial", "everywhere", "has_location", "is_result",
        "is_told", "name",
    )  # fmt: skip

    def __init__(self, chain: list[Entry], types: Types, frame: Entry, low_pc: int) -> None:
        """``chain``: the entry, and those it refers to as its origin; ``frame``: the function's entry."""
        self._entry = chain[0]
        self._typed = _having(chain, c.AT_TYPE) or chain[0]
        self._types, self._frame, self._low_pc = types, frame, low_pc
        self.name = _text(chain, c.AT_NAME)
        self.artificial = any(entry.flag(c.AT_ARTIFICIAL) for entry in chain)
        self.is_result = any(entry.flag(c.AT_VARIABLE_PARAMETER) for entry in chain)
        self.has_location = c.AT_LOCATION in chain[0] or c.AT_CONST_VALUE in chain[0]
        self.is_told = c.AT_LOCATION in chain[0] and chain[0].values[c.AT_LOCATION][1] != b""
        self.everywhere = c.AT_LOCATION in chain[0] and isinstance(chain[0].values[c.AT_LOCATION][1], bytes)

    @property
    def type(self) -> Type:
        """Its type; of kind UNKNOWN if that can't be read."""
        return self._types.referred(self._typed)

    def location(self, address: int) -> Location:
        """Where it is when the instruction at ``address`` (as in the ELF file) is about to run. Never raises."""
        size = self.type.size
        try:
            return locate(self._entry, address, size, self._frame, self._low_pc)
        except DAMAGE as error:
            return absent(size, f"its debug information is damaged: {error}")

    def __repr__(self) -> str:
        return f"<Formal {self.name!r}>"


class Subprogram:
    """An out-of-line function: its concrete instance merged with its abstract origin and its declaration.

    Attributes:
        name: as in the source, unqualified in C++ and Rust ("Mul"), qualified in Go ("main.(*Arith).Mul").
        linkage_name: the symbol's name, "" if it isn't given.
        language: of its unit: "c", "c++", "go", "rust", or "" for others.
        producer: the compiler and its options, as it wrote them.
        low_pc: address of its first instruction.
        high_pc: the first address after it (after its hot part, if the compiler moved parts away).
        frame_base: the expression its DW_OP_fbreg refer to (3.3.5), b"" if there is none or it is a list.
        formals: its parameters in order; in Go its results follow.
        variadic: it takes more arguments than the formals (`...` in C).
        standard: it is called as the calling convention has it (no DW_CC_nocall, 3.3.1.1): LLVM says so of functions
            whose unused parameters or results it took away.
        external: it can be called from other files.
        path: the file that says so.
    """

    __slots__ = (
        "_chain", "_types", "external", "formals", "frame_base", "high_pc", "language", "linkage_name", "low_pc",
        "name", "path", "producer", "standard", "variadic",
    )  # fmt: skip

    def __init__(self, entry: Entry, types: Types, path: str) -> None:
        """Use Dwarf.subprogram.

        Raises:
            BinaryError: the debug information is damaged.
        """
        chain = origins(entry)
        unit = entry.unit
        self._chain, self._types, self.path = chain, types, path
        self.language = unit.language
        self.producer = unit.top.text(c.AT_PRODUCER)
        self.name = _text(chain, c.AT_NAME)
        self.linkage_name = _text(chain, c.AT_LINKAGE_NAME) or _text(chain, c.AT_MIPS_LINKAGE_NAME)
        self.low_pc, self.high_pc = next(ranges_of(entry), (0, 0))
        base = entry.values.get(c.AT_FRAME_BASE)
        self.frame_base = base[1] if base is not None and isinstance(base[1], bytes) else b""
        self.standard = all(one.number(c.AT_CALLING_CONVENTION) != c.CC_NOCALL for one in chain)
        self.external = any(one.flag(c.AT_EXTERNAL) for one in chain)
        self.variadic = False
        self.formals = self._read_formals()

    def _read_formals(self) -> tuple[Formal, ...]:
        entry = self._chain[0]
        concrete: list[list[Entry]] = []
        for child in entry.children():
            if child.tag == c.TAG_FORMAL and len(concrete) < _MAX_FORMALS:
                concrete.append(origins(child))
            elif child.tag == c.TAG_UNSPECIFIED_PARAMETERS:
                self.variadic = True
        # A concrete instance may leave out parameters that are nowhere any more: the origin has all, in order.
        chains = concrete
        for origin in self._chain[1:]:
            listed = [child for child in origin.children() if child.tag in (c.TAG_FORMAL, c.TAG_UNSPECIFIED_PARAMETERS)]
            self.variadic = self.variadic or any(child.tag != c.TAG_FORMAL for child in listed)
            formals = [child for child in listed if child.tag == c.TAG_FORMAL][:_MAX_FORMALS]
            if origin.flag(c.AT_DECLARATION) and chains:
                chains = _completed(formals, chains)
            else:
                chains = _merged(formals, chains)
        return tuple(Formal(chain, self._types, entry, self.low_pc) for chain in chains)

    @property
    def result(self) -> Type | None:
        """What it returns; None for nothing, and in Go, where results are formals."""
        typed = _having(self._chain, c.AT_TYPE)
        return self._types.referred(typed) if typed is not None else None

    @property
    def captures(self) -> tuple[Capture, ...]:
        """The variables a Go closure captured; none before Go 1.23.

        Raises:
            BinaryError: the debug information is damaged.
        """
        found: list[Capture] = []
        try:
            for child in self._chain[0].children():
                if child.tag == c.TAG_VARIABLE and len(found) < _MAX_CAPTURES:
                    chain = origins(child)
                    holder = _having(chain, c.AT_GO_CLOSURE_OFFSET)
                    offset = holder.number(c.AT_GO_CLOSURE_OFFSET) if holder is not None else None
                    if offset is not None:
                        typed = _having(chain, c.AT_TYPE) or child
                        found.append(Capture(_text(chain, c.AT_NAME), self._types.referred(typed), offset))
        except BinaryError:
            raise
        except DAMAGE as error:
            raise BinaryError(f"{self.path}: its debug information is damaged") from error
        return tuple(found)

    def __repr__(self) -> str:
        return f"<Subprogram {self.name!r} at {self.low_pc:#x}>"


def _merged(abstract: list[Entry], concrete: list[list[Entry]]) -> list[list[Entry]]:
    """The ``abstract`` formals in order, each as its concrete instance where there is one; then concrete ones alone."""
    result: list[list[Entry]] = []
    instances = {(id(entry.unit.section), entry.position): chain for chain in reversed(concrete) for entry in chain[1:]}
    used: set[int] = set()
    for entry in abstract:
        chain = instances.get((id(entry.unit.section), entry.position))
        if chain is not None:
            used.add(chain[0].position)
        result.append(chain if chain is not None else [entry])
    result += [chain for chain in concrete if chain[0].position not in used]
    return result


def _completed(declared: list[Entry], chains: list[list[Entry]]) -> list[list[Entry]]:
    """``chains``, with those of the ``declared`` parameters between them that the definition lacks.

    clang leaves out unused parameters that are passed by address. What a definition refers to a declaration by is the
    function, not each parameter: only types tell which are which.
    """
    if len(declared) <= len(chains):
        return chains
    result: list[list[Entry]] = []
    left = list(chains)
    for index, entry in enumerate(declared):
        if left and (len(declared) - index <= len(left) or _same_type(entry, left[0])):
            result.append(left.pop(0))
        else:
            result.append([entry])
    return result


def _same_type(declared: Entry, chain: list[Entry]) -> bool:
    first, typed = declared.refer(c.AT_TYPE), _having(chain, c.AT_TYPE)
    second = typed.refer(c.AT_TYPE) if typed is not None else None
    # `this` is a constant pointer in the definition only.
    if second is not None and second.tag == c.TAG_CONST and (first is None or first.tag != c.TAG_CONST):
        second = second.refer(c.AT_TYPE)
    return first is not None and second is not None and first.position == second.position


def _having(chain: list[Entry], attribute: int) -> Entry | None:
    return next((entry for entry in chain if attribute in entry), None)


def _text(chain: list[Entry], attribute: int) -> str:
    entry = _having(chain, attribute)
    return entry.text(attribute) if entry is not None else ""
