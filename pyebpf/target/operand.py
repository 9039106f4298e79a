# SPDX-License-Identifier: BSD-2-Clause
"""A value that an expression names: its type, where its bytes are, and the steps that read them.

As at the return, a parameter's own bytes are still those of the entry, as its register has long been used for something
else: they are kept at the entry and taken from there. What a pointer points to is read at the return.
"""

from __future__ import annotations

from typing import NamedTuple

from ..binary import signature as places
from ..binary import types
from ..binary.signature import Piece, Place
from ..binary.types import Text, Type
from ..errors import TargetError
from . import shape
from .members import find, names_of
from .spelled import INTEGER, Spelled
from .steps import Address, Side, Step, Steps

_MAX_POINTERS = 4  # followed for one field
_MAX_NAMED = 24
NUMBERS = frozenset(
    (types.INT, types.UINT, types.BOOL, types.CHAR, types.RUNE, types.FLOAT, types.ENUM, types.POINTER,
     types.REFERENCE, types.FUNC, types.FUNCTION, types.MAP, types.CHAN)
)  # fmt: skip
TEXTS = frozenset((types.STRING, types.STD_STRING, types.RUST_STRING))
VECTORS = frozenset((types.SLICE, types.RUST_VEC))
_NO_TEXT = ("unsigned", "signed", "u", "gu")  # in front of "char": a small number
_FLOATING = "a floating-point value in register {}, which a probe can't read"


class Missing(TargetError):
    """A value isn't there to be read.

    Attributes:
        floating: it is in a register that probes can't read.
    """

    def __init__(self, message: str, *, floating: bool = False) -> None:
        super().__init__(message)
        self.floating = floating


class Scalar(NamedTuple):
    """Steps that make word a number, and what number it is.

    Attributes:
        code: for `struct`, of the 8 bytes that are kept; of the low ones for floating-point numbers.
        style: see `shape`.
    """

    steps: Steps
    code: str
    style: str


class Operand(NamedTuple):
    """See above. Exactly one of `place`, `address` and `steps` says where it is.

    Attributes:
        text: as a user would write it.
        place: of the parameter, result or word that it is part of.
        at: where in that, in bytes.
        address: of it in memory.
        steps: they make word its value.
        result: `place` holds at the return, not at the entry.
        on_return: it is read at the return.
        bit_offset, bit_size: of a bit field; see `types.Member`.
    """

    type: Type
    text: str
    on_return: bool
    place: Place | None = None
    at: int = 0
    address: Address | None = None
    steps: Steps | None = None
    result: bool = False
    bit_offset: int = 0
    bit_size: int = 0


class Reader:
    """Makes steps for one function.

    Args:
        entry, on_return: the two sides; what is needed at the return is kept at the entry.
        depth: how far the stack pointer is below its value at the first instruction, None: unknown.
    """

    __slots__ = ("_depth", "entry", "on_return")

    def __init__(self, entry: Side, on_return: Side, depth: int | None) -> None:
        self.entry = entry
        self.on_return = on_return
        self._depth = depth

    def side(self, operand: Operand) -> Side:
        """Where it is read."""
        return self.on_return if operand.on_return else self.entry

    def settled(self, operand: Operand) -> Operand:
        """The same operand, in memory if all of it lies in one piece of memory that can be read where it is needed."""
        if operand.place is None or (operand.on_return and not operand.result):
            return operand
        try:
            address = self.address_of_own(operand)
        except Missing:  # as whoever reads it will find
            return operand
        return operand if address is None else operand._replace(place=None, at=0, address=address)

    def shared(self, operand: Operand) -> Operand:
        """A parameter that is passed by address, as it is at the return: only where it is, was kept at the entry."""
        assert operand.place is not None
        steps = self._own(operand.place._replace(indirect=False), 0, 0, 64, False, operand)
        return operand._replace(place=None, address=Address.by(self.saved(steps)))

    def address_of_own(self, operand: Operand) -> Address | None:
        """The address of a part of a parameter (at the entry) or result (at the return) that lies in memory."""
        place = operand.place
        assert place is not None
        if place.indirect:
            steps = self._own(place._replace(indirect=False), 0, 0, 64, False, operand)
            return Address.by(steps, operand.at)
        if len(place.pieces) != 1:
            return None
        piece = place.pieces[0]
        if piece.kind == places.STACK:
            return Address.by((Step("REGISTER", name="sp"),), self._stack(piece, operand) + operand.at - piece.at)
        if piece.kind == places.MEMORY:
            return Address.by((Step("REGISTER", name=piece.register),), piece.offset + operand.at - piece.at)
        return None

    # Words.

    def word(self, operand: Operand, offset: int = 0, size: int = 8) -> Steps:
        """Steps that make word the `size` bytes at an offset, zero-extended.

        Raises:
            Missing: they aren't there.
        """
        return self.bits(operand, offset, 0, size * 8, False)

    def bits(self, operand: Operand, offset: int, first: int, count: int, signed: bool) -> Steps:
        """Steps that make word `count` bits from bit `first` of the bytes at an offset.

        Raises:
            Missing: they aren't there.
        """
        if operand.steps is not None:
            return operand.steps
        if operand.address is not None:
            return _loaded(operand.address.checked, operand.address.offset + offset, first, count, signed)
        assert operand.place is not None
        steps = self._own(operand.place, operand.at + offset, first, count, signed, operand)
        return self.saved(steps) if operand.on_return and not operand.result else steps

    def saved(self, steps: Steps) -> Steps:
        """Keeps a word at the entry; steps that take it from there at the return."""
        offset, slot = self.entry.word(steps)
        return (Step("SAVED", target=offset, slot=slot),)

    def pointed(self, operand: Operand, offset: int = 0) -> Address:
        """What the pointer at an offset points to."""
        if operand.address is not None:
            return operand.address.follow(offset)
        return Address.by(self.word(operand, offset))

    def _own(self, place: Place, at: int, first: int, count: int, signed: bool, operand: Operand) -> Steps:
        """The same for a part of a parameter, at the entry, or of a result, at the return."""
        if place.indirect:
            base = self._own(place._replace(indirect=False), 0, 0, 64, False, operand)
            return _loaded(base, at, first, count, signed)
        size = -(-(first + count) // 8)
        for piece in place.pieces:
            if piece.at <= at and at + size <= piece.at + piece.size:
                return self._piece(piece, at - piece.at, first, count, signed, operand)
        for piece in place.pieces:
            overlaps = len(place.pieces) == 1 or (piece.at < at + size and at < piece.at + piece.size)
            if overlaps and piece.kind in (places.ABSENT, places.FLOAT_REGISTER):
                return self._piece(piece, 0, 0, 64, False, operand)
        raise Missing(f"{operand.text} lies in pieces that can't be put together here")

    def _piece(self, piece: Piece, at: int, first: int, count: int, signed: bool, operand: Operand) -> Steps:
        if piece.kind == places.REGISTER:
            shift = at * 8 + first
            register = Step("REGISTER", name=piece.register)
            return (register,) if count == 64 else (register, Step("TRIM", int(signed), count, shift))
        if piece.kind == places.STACK:
            offset = self._stack(piece, operand) + at
            return _loaded((Step("REGISTER", name="sp"),), offset, first, count, signed)
        if piece.kind == places.MEMORY:
            return _loaded((Step("REGISTER", name=piece.register),), piece.offset + at, first, count, signed)
        if piece.kind == places.CONSTANT:
            value = piece.value >> (at * 8 + first) & ((1 << count) - 1)
            return (Step("CONSTANT", value - (1 << count) if signed and value >> (count - 1) else value),)
        if piece.kind == places.FLOAT_REGISTER:
            raise Missing(_FLOATING.format(piece.register), floating=True)
        raise Missing("optimised away here")

    def _stack(self, piece: Piece, operand: Operand) -> int:
        if operand.result:
            return piece.offset  # at a return the stack pointer is where it was at the first instruction
        if self._depth is None:
            raise Missing("on the stack, at a distance from the stack pointer that isn't known here")
        return piece.offset + self._depth

    # Numbers.

    def scalar(self, operand: Operand) -> Scalar:
        """A number, pointer or other single word.

        Raises:
            Missing: it isn't there.
            TargetError: it isn't a single word.
        """
        kind = operand.type
        signed = kind.kind == types.INT or (kind.kind == types.ENUM and is_signed_enum(kind))
        style = style_of(kind)
        size = 8 if operand.steps is not None else kind.size
        if kind.kind not in NUMBERS or size not in (1, 2, 4, 8):
            raise TargetError(f"{operand.text} is {a(kind)}: no single number")
        if operand.steps is not None:
            return Scalar(operand.steps, "q" if signed else "Q", style)
        if kind.kind == types.FLOAT:
            self._refuse_register(operand)
            return Scalar(self.word(operand, 0, size), "f" if size == 4 else "d", style)
        count = operand.bit_size or size * 8
        if not 0 < operand.bit_offset + count <= 64:
            raise Missing("a bit field of more than 8 bytes")
        return Scalar(
            self.bits(operand, 0, operand.bit_offset, count, signed), "q" if signed else "Q", style
        )

    def _refuse_register(self, operand: Operand) -> None:
        """A number that the user calls floating-point, but that is in an integer register: he means another one."""
        if isinstance(operand.type, Spelled) and operand.place is not None:
            pieces = operand.place.pieces
            if not operand.place.indirect and pieces[0].kind == places.REGISTER:
                raise TargetError(
                    f"{operand.text}: {pieces[0].register} is an integer register, it holds no floating-point number",
                    hint="those are in registers no probe can read; in memory they can be: *(f64)(ADDRESS)",
                )

    # Ways through values.

    def deref(self, operand: Operand) -> Operand:
        """What it points to.

        Raises:
            Missing: it isn't there.
            TargetError: it is no pointer, or to nothing known.
        """
        kind, target = operand.type, operand.type.target
        if kind.kind not in (types.POINTER, types.REFERENCE):
            raise TargetError(f"{operand.text} is {a(kind)}, not a pointer")
        if target is None or target.kind in (types.VOID, types.UNKNOWN, types.FUNCTION):
            raise TargetError(
                f"what {operand.text} points to isn't known",
                hint=f"say what it is: {operand.text}:str, {operand.text}:bytes(16) or *(u64)({operand.text}+8)",
            )
        return Operand(target, f"*{operand.text}", operand.on_return, address=self.pointed(operand))

    def followed(self, operand: Operand) -> Operand:
        """It, or what it points to if it is a pointer."""
        text = operand.text
        for _ in range(_MAX_POINTERS):
            if operand.type.kind not in (types.POINTER, types.REFERENCE):
                break
            operand = self.deref(operand)._replace(text=text)
        return operand

    def part(self, operand: Operand, kind: Type, offset: int, text: str) -> Operand:
        """A part of it, by type and offset."""
        if operand.address is not None:
            operand = operand._replace(address=operand.address.plus(offset))
        return operand._replace(type=kind, text=text, at=operand.at + offset, bit_offset=0, bit_size=0)

    def index(self, operand: Operand, index: int) -> Operand:
        """One element.

        Raises:
            Missing: it isn't there.
            TargetError: it has no elements, or not so many.
        """
        text = f"{operand.text}[{index}]"
        kind = operand.type
        inner = kind.target
        if kind.kind == types.REFERENCE or (
            kind.kind == types.POINTER and inner is not None and inner.kind in (types.ARRAY, *VECTORS)
        ):
            return self.index(self.deref(operand)._replace(text=operand.text), index)
        if kind.kind not in (types.ARRAY, types.POINTER, *VECTORS):
            why = "it is a map, whose elements can't be looked up" if kind.kind == types.MAP else f"it is {a(kind)}"
            raise TargetError(f"{operand.text} can't be indexed: {why}")
        if inner is None or inner.size <= 0:
            raise TargetError(f"{operand.text} can't be indexed: the size of its elements isn't known")
        if kind.kind == types.ARRAY:
            if kind.count >= 0 and index >= kind.count:
                raise TargetError(f"{text}: it has only {kind.count} elements")
            return self.part(operand, inner, index * inner.size, text)
        if kind.kind == types.POINTER:
            target = self.deref(operand)
            return self.part(target, inner, index * inner.size, text)
        where = words_of(kind)
        bound = Step("BOUND", index)
        if operand.address is not None:
            pointer = operand.address.follow(where.pointer).plain
            plain = pointer
        else:
            plain = pointer = self.word(operand, where.pointer)
        checked = (*self.word(operand, where.length), Step("LENGTH"), *pointer, bound)
        return Operand(inner, text, operand.on_return, address=Address(checked, plain, index * inner.size))

    def length(self, operand: Operand, capacity: bool) -> Operand:
        """How many elements or bytes it has, or has room for.

        Raises:
            Missing: it isn't there.
            TargetError: that can't be known.
        """
        text = f"{'cap' if capacity else 'len'}({operand.text})"
        operand = self.followed(operand)
        kind = operand.type
        if kind.kind == types.ARRAY and kind.count >= 0:
            return Operand(INTEGER, text, operand.on_return, steps=(Step("CONSTANT", kind.count),))
        if kind.kind in (types.MAP, types.CHAN) and not (capacity and kind.kind == types.MAP):
            # Go: runtime.hmap.count, internal/runtime/maps.Map.used; runtime.hchan.qcount, dataqsiz.
            place = self.pointed(operand)
            return Operand(INTEGER, text, operand.on_return, steps=_unless_nil(place, 8 if capacity else 0))
        if kind.kind == types.SLICE and capacity and kind.size >= 24:
            return Operand(INTEGER, text, operand.on_return, steps=self.word(operand, 16))
        if (kind.kind in TEXTS or kind.kind in VECTORS) and not capacity and words_of(kind).length >= 0:
            return Operand(INTEGER, text, operand.on_return, steps=self.word(operand, words_of(kind).length))
        what = "capacity" if capacity else "length"
        raise TargetError(f"{text}: {a(kind)} has no {what} that is kept with it")

    def member(self, operand: Operand, name: str) -> Operand:
        """A field.

        Raises:
            Missing: it isn't there.
            TargetError: it has no such field.
        """
        text = f"{operand.text}.{name}"
        operand = self.followed(operand)
        kind = operand.type
        if kind.kind == types.INTERFACE:
            raise TargetError(
                f"{text}: {operand.text} is an interface ({kind.name}), what it holds is known only at run time",
                hint=f"ask for {operand.text} itself, or probe a method of the concrete type",
            )
        if kind.kind == types.VARIANT:
            raise TargetError(f"{text}: {operand.text} is {a(kind)}, whose fields vary: ask for it whole")
        if kind.kind not in (types.STRUCT, types.UNION):
            raise TargetError(f"{text}: {operand.text} is {a(kind)}, which has no fields")
        path = find(kind, name)
        if path is None:
            named = names_of(kind)
            more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
            fields = f"its fields are {', '.join(named[:_MAX_NAMED])}{more}" if named else "it has no fields"
            raise TargetError(f"{operand.text} ({kind.name}) has no field {name!r}", hint=fields)
        for member in path:
            operand = self.part(self.followed(operand), member.type, member.offset, text)
            operand = operand._replace(bit_offset=member.bit_offset, bit_size=member.bit_size)
        return operand


def _unless_nil(place: Address, offset: int) -> Steps:
    """A number inside of what a pointer points to; 0 if that is nil."""
    begin = len(place.checked)
    return (
        *place.checked,
        Step("TEST", 0, target=begin + 3, name="COMPARE_NE"),
        Step("LOAD", place.offset + offset, 8),
        Step("JUMP", target=begin + 4),
        Step("CONSTANT", 0),
    )


def _loaded(base: Steps, offset: int, first: int, count: int, signed: bool) -> Steps:
    """Bits from memory: as few bytes as hold them."""
    offset, first = offset + first // 8, first % 8
    size = next((size for size in (1, 2, 4, 8) if size * 8 >= first + count), 0)
    if not size:
        raise Missing("a bit field over nine bytes")
    load = (*base, Step("LOAD", offset, size))
    if first == 0 and count == size * 8 and (not signed or size == 8):
        return load
    return (*load, Step("TRIM", int(signed), count, first))


def words_of(kind: Type) -> Text:
    """Where a string or vector has its pointer and length."""
    return kind.text or Text(0, 8)


def is_signed_enum(kind: Type) -> bool:
    """An enum has no sign of its own: it is signed if one of its values is."""
    return any(value < 0 for value in kind.enumerators)


def is_character(kind: Type) -> bool:
    """A character, rather than a small number: C's char, but not unsigned char or uint8_t."""
    name = kind.name.lower()
    name = name[6:] if name.startswith("const ") else name
    return kind.kind == types.CHAR and name.endswith("char") and not name[:-4].strip().endswith(_NO_TEXT)


def style_of(kind: Type) -> str:
    """How a number is shown."""
    if isinstance(kind, Spelled) and kind.style:
        return kind.style
    if kind.kind in (types.BOOL, types.RUNE, types.FLOAT, types.ENUM):
        return kind.kind
    if kind.kind == types.CHAR:
        return shape.CHAR if is_character(kind) else shape.DECIMAL
    if kind.kind in (types.INT, types.UINT):
        return shape.NANOSECONDS if kind.name == "time.Duration" else shape.DECIMAL
    return shape.POINTER


def a(kind: Type) -> str:
    """What a type is, for a message."""
    words = {
        types.STRUCT: "a structure", types.INT: "an integer", types.UINT: "an integer", types.ENUM: "an enum",
        types.VARIANT: "an enum", types.INTERFACE: "an interface", types.ARRAY: "an array", types.UNION: "a union",
        types.FUNC: "a function", types.VOID: "nothing",
    }  # fmt: skip
    word = words.get(kind.kind, f"a {kind.kind}")
    return f"{word} ({kind.name})" if kind.name and kind.name != kind.kind else word
