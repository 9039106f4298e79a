# SPDX-License-Identifier: BSD-2-Clause
"""Values of every type, kept in a capture: numbers, texts, and structures down to their leaves."""

from __future__ import annotations

from typing import NamedTuple

from ..binary import types
from ..binary.types import Member, Type
from ..errors import TargetError
from . import shape
from .members import shown
from .operand import NUMBERS, TEXTS, VECTORS, Missing, Operand, Reader, is_character, is_signed_enum, style_of, words_of
from .shape import (
    Chars,
    Choice,
    Counted,
    Dynamic,
    Fields,
    Gone,
    Items,
    Number,
    Run,
    Shape,
    TextBytes,
)
from .spelled import COMM, is_block
from .steps import Address, Full, Side, Step, Steps

_MAX_DEPTH = 3  # of structures in one another
_MAX_LEAVES = 64
_MAX_COPY = 1024  # bytes of a structure
_MAX_ITEMS = 32  # numbers of an array shown
_MAX_VALUES = 3  # elements shown that aren't plain numbers
_MAX_VISITED = 1024
_HEADER = 8  # struct kept_text
_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h", (4, False): "I", (4, True): "i",
          (8, False): "Q", (8, True): "q", (16, False): "16s", (16, True): "16S"}  # fmt: skip
_LEFT_OUT = Gone("")
_CONTEXT = "context.Context"
# Where Go's error types keep a cause: io/fs.PathError, strconv.NumError, net/url.Error; os.SyscallError, os/exec.Error.
_CAUSES = (32, 16)
# net.OpError: Op, Net, Source, Addr, Err; net.TCPAddr and net.UDPAddr: IP, Port. errors.joinError: errs.
_ADDRESSES = (32, 48)
_PORT = 24
_IP = 16  # bytes
_OPERATION_CAUSE, _CALL_CAUSE = 64, 16
_JOINED = 2
_FEW = 24  # values; where there are more, there is no room for what only some errors have


class _Image(NamedTuple):
    """Bytes of a value that were kept as they are: `size` of them at an offset of the capture."""

    offset: int
    slot: int
    size: int


class Expander:
    """Keeps values.

    Args:
        strsize: most bytes of a text.
        brief: leave out what only few values have: what is kept is a key, and keys are small.
    """

    __slots__ = ("_brief", "_leaves", "_reader", "_strsize")

    def __init__(self, reader: Reader, strsize: int, brief: bool) -> None:
        self._reader = reader
        self._strsize = strsize
        self._brief = brief
        self._leaves = 0

    def keep(self, operand: Operand) -> Shape:
        """Keeps a value and tells what its bytes are.

        Raises:
            Full: there is no room for it.
            Missing: it isn't there.
            TargetError: it can't be shown.
        """
        self._leaves = 0
        kind = operand.type
        if kind is COMM:
            offset, slot = self._reader.side(operand).thread_name()
            return Chars(offset, slot, kind.size)
        if kind.kind == types.REFERENCE:
            return self.keep(self._reader.deref(operand)._replace(text=operand.text))
        target = kind.target if kind.kind == types.POINTER else None
        if target is not None and (target.kind in TEXTS or is_block(target)):
            return self.keep(self._reader.deref(operand))
        if kind.kind in (types.VOID, types.UNKNOWN):
            raise Missing(f"{operand.text} is of a type that isn't known ({kind.name})")
        if is_block(kind) and operand.address is not None:
            offset, slot = self._reader.side(operand).copy(operand.address, kind.size)
            return Chars(offset, slot, kind.size, binary=True)
        return self._value(self._reader.settled(operand), 0)

    def _value(self, operand: Operand, depth: int) -> Shape:
        """A value outside of any image."""
        kind = operand.type
        if _is_text(kind):
            return self._text(operand)
        if kind.kind in VECTORS:
            return self._vector(operand, depth)
        if kind.kind == types.INTERFACE:
            return self._interface(operand, depth)
        if kind.kind in (types.MAP, types.CHAN):
            return self._counted(operand)
        if kind.kind in NUMBERS and kind.size <= 8:
            return self._number(operand)
        return self._aggregate(operand, depth)

    # What is one word, or behind one.

    def _kept(self, operand: Operand, steps: Steps) -> tuple[int, int]:
        """Keeps a word; one that is already kept at the entry isn't kept again."""
        if len(steps) == 1 and steps[0].action == "SAVED":
            return steps[0].target, steps[0].slot
        return self._reader.side(operand).word(steps)

    def _word(self, operand: Operand, steps: Steps, code: str = "Q", style: str = shape.POINTER) -> Number:
        return Number(*self._kept(operand, steps), code, style)

    def _number(self, operand: Operand) -> Number:
        scalar = self._reader.scalar(operand)
        kind = operand.type
        number = self._word(operand, scalar.steps, scalar.code, scalar.style)
        return number._replace(names=kind.enumerators, type=kind.name)

    def _text(self, operand: Operand) -> Shape:
        side = self._reader.side(operand)
        if operand.type.kind == types.POINTER:
            return TextBytes(*side.terminated(self._reader.pointed(operand), self._strsize + 1), self._strsize)
        where = words_of(operand.type)
        data = self._reader.pointed(operand, where.pointer)
        if where.length < 0:
            return TextBytes(*side.terminated(data, self._strsize + 1), self._strsize)
        length = self._reader.word(operand, where.length)
        return TextBytes(*side.counted(length, data, self._strsize), self._strsize)

    def _counted(self, operand: Operand) -> Shape:
        address = self._word(operand, self._reader.word(operand))
        inside = self._reader.length(operand, False)
        return Counted(operand.type.name, address, self._number(inside))

    def _vector(self, operand: Operand, depth: int) -> Shape:
        kind = operand.type
        where = words_of(kind)
        side = self._reader.side(operand)
        length = self._reader.word(operand, where.length)
        element = kind.target
        if element is None or not 0 < element.size <= _MAX_COPY or depth >= _MAX_DEPTH:
            return Items(kind.name, self._word(operand, length, "q", shape.DECIMAL), ())
        if not _is_flat(element):
            count = self._word(operand, length, "q", shape.DECIMAL)
            return Items(kind.name, count, self._elements(operand, _MAX_VALUES, depth))
        most = max(1, self._strsize // element.size) * element.size
        if element.size > 1:
            length = (*length, Step("SCALE", element.size))
        offset, slot = side.counted(length, self._reader.pointed(operand, where.pointer), most)
        if (element.kind == types.UINT and element.size == 1) or is_character(element):
            return TextBytes(offset, slot, most, binary=True)
        inside = Operand(element, f"{operand.text}[0]", operand.on_return)
        item = self._leaf(inside, _Image(offset + _HEADER, slot, element.size), 0, depth + 1)
        return Run(kind.name, offset, slot, element.size, item)

    def _elements(self, operand: Operand, count: int, depth: int) -> tuple[Shape, ...]:
        items: list[Shape] = []
        for index in range(count):
            try:
                items.append(self._extra(self._reader.index(operand, index), depth + 1))
            except (Full, Missing):
                break
            if items[-1] == _LEFT_OUT:
                items.pop()
                break
        return tuple(items)

    def _extra(self, operand: Operand, depth: int) -> Shape:
        """A value that is part of another: it is left out if there is no room."""
        try:
            return self._value(operand, depth)
        except Full:
            return _LEFT_OUT
        except Missing as error:
            return Gone(str(error))

    # Interfaces.

    def _interface(self, operand: Operand, depth: int) -> Shape:
        kind, side = operand.type, self._reader.side(operand)
        table = self._reader.word(operand)
        # The table's steps check indices. Behind them the plain address must do: a text sets a length of its own.
        place = operand.address
        again = operand if place is None else operand._replace(address=Address.by(place.plain, place.offset))
        data = self._reader.word(again, 8)
        begun = side.optional(table)
        members = kind.members
        empty = members[0].name == "_type" if members else kind.name in ("any", "interface {}", "interface{}")
        dynamic = data_word = word = None
        texts: dict[int, TextBytes] = {}
        inner: dict[int, Dynamic] = {}
        items: list[Dynamic] = []
        count = None
        try:
            # runtime.itab: inter, _type; runtime.eface begins with the type itself.
            dynamic = self._raw(side, table if empty else (*table, Step("LOAD", 8, 8)))
            data_word = self._raw(side, data)
            if kind.name != _CONTEXT:
                word = self._raw(side, (*data, Step("LOAD", 0, 8)))
                texts[0] = self._held_text(side, data, 0)
            if kind.name == "error" and depth <= 1:
                texts[16] = self._held_text(side, data, 16)
                few = side.values < _FEW and not self._brief
                for offset in _CAUSES:
                    inner[offset] = self._cause(side, data, offset)
                if few:
                    cause = self._cause(side, data, _OPERATION_CAUSE)
                    called = (*data, Step("LOAD", _OPERATION_CAUSE + 8, 8))
                    inner[_OPERATION_CAUSE] = cause._replace(
                        inner={_CALL_CAUSE: self._cause(side, called, _CALL_CAUSE)}
                    )
                    for offset in _ADDRESSES:
                        inner[offset] = self._network_address(side, data, offset, inner.get(offset))
                    count = self._raw(side, (*data, Step("LOAD", 8, 8)))
                    for index in range(_JOINED):
                        items.append(self._cause(side, (*data, Step("LOAD", 0, 8)), 16 * index))
        except Full:
            if dynamic is None:
                raise
        finally:
            side.end_optional(begun)
            # See `Side.optional`. Saved words are read again: the skipped steps may be all that kept them.
            first = side.word(table)
        assert dynamic is not None
        table_word = Number(*first, "Q", shape.POINTER)
        return Dynamic(kind.name, table_word, dynamic, data_word, word, texts, inner, tuple(items), count)

    def _raw(self, side: Side, steps: Steps) -> Number:
        return Number(*side.word(steps), "Q", shape.POINTER)

    def _held_text(self, side: Side, data: Steps, offset: int) -> TextBytes:
        """What is a string if the dynamic type has one there."""
        length = (*data, Step("LOAD", offset + 8, 8))
        return TextBytes(*side.counted(length, Address.by(data).follow(offset), self._strsize), self._strsize)

    def _cause(self, side: Side, data: Steps, offset: int) -> Dynamic:
        table = (*data, Step("LOAD", offset, 8))
        held = (*data, Step("LOAD", offset + 8, 8))
        dynamic = self._raw(side, (*table, Step("LOAD", 8, 8)))
        word = self._raw(side, (*held, Step("LOAD", 0, 8)))
        return Dynamic("error", None, dynamic, None, word, {0: self._held_text(side, held, 0)})

    def _network_address(self, side: Side, data: Steps, offset: int, known: Dynamic | None) -> Dynamic:
        """What may be the address of a connection, besides what is known of the interface there."""
        held = (*data, Step("LOAD", offset + 8, 8))
        if known is None:
            known = Dynamic("net.Addr", None, self._raw(side, (*data, Step("LOAD", offset, 8), Step("LOAD", 8, 8))))
        length = (*held, Step("LOAD", 8, 8))
        address = TextBytes(*side.counted(length, Address.by(held).follow(), _IP), _IP, binary=True)
        port = self._raw(side, (*held, Step("LOAD", _PORT, 8)))
        return known._replace(texts={**known.texts, _PORT: address}, number=port)

    # Structures.

    def _aggregate(self, operand: Operand, depth: int) -> Shape:
        """A structure, array and the like: its bytes are kept as they are if they lie in memory."""
        side, address = self._reader.side(operand), operand.address
        if address is None and operand.place is not None:  # a parameter, asked for at the return
            address, side = self._reader.address_of_own(operand), self._reader.entry
        if address is None or operand.type.size == 0:
            return self._leaf(operand, None, 0, depth)
        size = min(operand.type.size, _MAX_COPY, 4096)
        image = _Image(*side.copy(address, size), size)
        return self._leaf(operand, image, 0, depth)

    def _leaf(self, operand: Operand, image: _Image | None, at: int, depth: int) -> Shape:
        """A value, `at` bytes from the beginning of the image."""
        kind = operand.type
        self._leaves += 1
        if self._leaves > _MAX_LEAVES:
            return _LEFT_OUT
        if kind.kind in (types.STRUCT, types.UNION):
            return self._fields(operand, image, at, depth)
        if kind.kind == types.VARIANT:
            return self._choice(operand, image, at, depth)
        if kind.kind == types.ARRAY:
            return self._array(operand, image, at, depth)
        if kind.kind == types.COMPLEX:
            half = Type(types.FLOAT, "float", kind.size // 2)
            parts = [
                (name, self._leaf(self._reader.part(operand, half, offset, operand.text), image, at + offset, depth))
                for name, offset in (("real", 0), ("imag", kind.size // 2))
            ]
            return Fields(kind.name, tuple(parts), True)
        if kind.kind in (types.VOID, types.UNKNOWN):
            return Gone(f"a type that isn't known: {kind.name}")
        if kind.kind in NUMBERS and kind.kind not in (types.MAP, types.CHAN) and not _is_text(kind):
            return self._number_in(operand, image, at)
        return self._extra(operand, depth)

    def _number_in(self, operand: Operand, image: _Image | None, at: int) -> Shape:
        kind = operand.type
        if image is None:
            try:
                return self._number(operand)
            except Full:
                return _LEFT_OUT
            except Missing as error:
                return Gone(str(error))
            except TargetError:
                return Gone(f"{kind.name}, {kind.size} bytes long")
        size = kind.size
        if operand.bit_size:
            at, first = at + operand.bit_offset // 8, operand.bit_offset % 8
            size = next((size for size in (1, 2, 4, 8) if size * 8 >= first + operand.bit_size), 0)
        signed = kind.kind == types.INT or (kind.kind == types.ENUM and is_signed_enum(kind))
        code = {4: "f", 8: "d"}.get(size) if kind.kind == types.FLOAT else _CODES.get((size, signed))
        if code is None:
            return Gone(f"{kind.name}, {kind.size} bytes long")
        if at + size > image.size:
            return _LEFT_OUT
        number = Number(image.offset + at, image.slot, code, style_of(kind), names=kind.enumerators, type=kind.name)
        return number._replace(shift=first, bits=operand.bit_size) if operand.bit_size else number

    def _part(self, operand: Operand, member: Member) -> Operand:
        part = self._reader.part(operand, member.type, member.offset, f"{operand.text}.{shown(member.name)}")
        return part._replace(bit_offset=member.bit_offset, bit_size=member.bit_size)

    def _fields(self, operand: Operand, image: _Image | None, at: int, depth: int) -> Shape:
        kind = operand.type
        if depth >= _MAX_DEPTH:
            return _LEFT_OUT
        fields: list[tuple[str, Shape]] = []
        members = kind.members
        for member in members:
            if self._leaves > _MAX_LEAVES:
                fields.append(("", _LEFT_OUT))
                break
            part = self._leaf(self._part(operand, member), image, at + member.offset, depth + bool(member.name))
            if not member.name and isinstance(part, Fields):
                fields += part.fields
            else:
                fields.append((shown(member.name), part))
        numbered = bool(members) and all(shown(member.name).isdigit() for member in members)
        return Fields(kind.name, tuple(fields), numbered)

    def _choice(self, operand: Operand, image: _Image | None, at: int, depth: int) -> Shape:
        kind = operand.type
        if depth >= _MAX_DEPTH:
            return _LEFT_OUT
        discriminant = None
        if kind.members:
            found = self._leaf(self._part(operand, kind.members[0]), image, at + kind.members[0].offset, depth)
            if not isinstance(found, Number):
                return found
            discriminant = found
        alternatives: dict[int | None, tuple[str, Shape]] = {}
        for value, member in kind.variants:
            if self._leaves > _MAX_LEAVES:
                break
            inside = self._leaf(self._part(operand, member), image, at + member.offset, depth + 1)
            alternatives[value] = member.name, inside
        return Choice(kind.name, discriminant, alternatives)

    def _array(self, operand: Operand, image: _Image | None, at: int, depth: int) -> Shape:
        kind, element = operand.type, operand.type.target
        if element is None or element.size <= 0 or kind.count < 0:
            return Gone(f"an array of a size that isn't known: {kind.name}")
        size = kind.count * element.size
        if is_character(element) and image is not None:
            return Chars(image.offset + at, image.slot, min(size, image.size - at)) if at < image.size else _LEFT_OUT
        plain = element.kind in NUMBERS and not _is_text(element)
        items: list[Shape] = []
        for index in range(min(kind.count, _MAX_ITEMS if plain else _MAX_VALUES)):
            part = self._reader.part(operand, element, index * element.size, f"{operand.text}[{index}]")
            items.append(self._leaf(part, image, at + index * element.size, depth + 1))
            if items[-1] == _LEFT_OUT:
                items.pop()
                break
        return Items(kind.name, kind.count, tuple(items))


def _is_text(kind: Type) -> bool:
    if kind.kind == types.POINTER:
        return kind.target is not None and is_character(kind.target)
    return kind.kind in TEXTS


def _is_flat(kind: Type) -> bool:
    """All of it can be decoded from its own bytes."""
    waiting = [(kind, 0)]
    for _ in range(_MAX_VISITED):
        if not waiting:
            return True
        part, depth = waiting.pop()
        if depth > _MAX_DEPTH or part.kind == types.COMPLEX:
            continue  # what is too deep is left out
        if part.kind in (types.STRUCT, types.UNION):
            waiting += [(member.type, depth + 1) for member in part.members[:_MAX_VISITED]]
        elif part.kind == types.ARRAY and part.target is not None:
            waiting.append((part.target, depth + 1))
        elif part.kind not in NUMBERS or part.kind in (types.MAP, types.CHAN) or _is_text(part):
            return False
    return False
