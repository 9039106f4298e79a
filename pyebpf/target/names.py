# SPDX-License-Identifier: BSD-2-Clause
"""What the names and positions in an expression mean in one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..binary import signature as places
from ..binary import types
from ..binary.signature import Parameter, Piece, Place, Signature
from ..binary.types import Type
from ..errors import TargetError
from .condition import NeedsReturn
from .expression import (
    AtReturn,
    Cast,
    Deref,
    Field,
    Index,
    Length,
    Literal,
    Member,
    Memory,
    Name,
    Register,
    Returned,
    TypeName,
    Value,
    Word,
    as_special,
)
from .operand import NUMBERS, Operand, Reader, a
from .spelled import COMM, DURATION, NUMBER, WORD, Spelled, spelled
from .steps import Address, Step

_MAX_NAMED = 32
_MAX_STACK_WORDS = 64
_POSITIONS = {"arg": "argument", "ret": "result"}


class Names:
    """Finds operands.

    Args:
        registers: the names of all registers.
    """

    __slots__ = ("_reader", "_registers", "_signature")

    def __init__(self, signature: Signature, reader: Reader, registers: Mapping[str, int]) -> None:
        self._signature = signature
        self._reader = reader
        self._registers = registers

    def operands(self, value: Value, on_return: bool) -> list[Operand]:
        """What a value is: one operand, or each of a function's several results.

        Raises:
            NeedsReturn: it is only there at the return.
            Missing: it isn't there.
            TargetError: there is no such thing.
        """
        results = self._signature.results
        if isinstance(value, Returned) or (isinstance(value, Name) and self._special(value.name) == Returned()):
            if not on_return:
                raise NeedsReturn("the result is only there at the return")
            if len(results) > 1:
                return [self.root(result, result.name or f"ret{i}", True, True) for i, result in enumerate(results)]
        return [self.resolve(value, on_return)]

    def resolve(self, value: Value, on_return: bool) -> Operand:
        """What a value is; as `operands`."""
        if isinstance(value, Name):
            return self._named(value.name, on_return)
        if isinstance(value, Member):
            return self._reader.member(self.resolve(value.base, on_return), value.name)
        if isinstance(value, Index):
            return self._reader.index(self.resolve(value.base, on_return), value.number)
        if isinstance(value, Deref):
            return self._reader.deref(self.resolve(value.base, on_return))
        if isinstance(value, AtReturn):
            if not on_return:
                raise NeedsReturn("what is asked for is as it is at the return")
            return self.resolve(value.base, True)
        if isinstance(value, Length):
            return self._reader.length(self.resolve(value.base, on_return), value.capacity)
        if isinstance(value, Cast):
            return self._cast(value, on_return)
        if isinstance(value, Memory):
            return self._memory(value, on_return)
        if isinstance(value, Literal):
            raise TargetError("a constant stands where a value is expected")
        return self._word(value, WORD, on_return)

    def root(self, parameter: Parameter, text: str, on_return: bool, result: bool) -> Operand:
        """A parameter or result."""
        operand = Operand(parameter.type, text, on_return, place=parameter.place, result=result)
        if on_return and parameter.captured and parameter.place.indirect:
            return self._reader.shared(operand)  # the closure shares the variable with the function around it
        return self._reader.settled(operand)

    def unnamed(self) -> TargetError:
        """No names are known: why, and what can be asked for all the same."""
        reason = self._signature.reason
        return TargetError(f"the names of the arguments aren't known: {reason}", hint=self._positional())

    def _named(self, name: str, on_return: bool) -> Operand:
        for parameter in self._signature.parameters:
            if parameter.name == name:
                return self.root(parameter, name, on_return, False)
        for result in self._signature.results:
            if result.name == name and name:
                if not on_return:
                    raise NeedsReturn(f"{name} is a result: it is only there at the return")
                return self.root(result, name, True, True)
        special = as_special(name)
        if special is not None:
            return self._word(special, WORD, on_return)
        if self._signature.reason:
            raise self.unnamed()
        raise TargetError(f"there is no argument {name!r}", hint=self._available())

    def _special(self, name: str) -> Value | None:
        """What a name means if nothing in the function is called so."""
        known = [parameter.name for parameter in (*self._signature.parameters, *self._signature.results)]
        return None if name in known else as_special(name)

    def _available(self) -> str:
        groups = [
            ("arguments", [item.name for item in self._signature.parameters if not item.hidden and not item.captured]),
            ("captured variables", [item.name for item in self._signature.parameters if item.captured]),
            ("results", [item.name for item in self._signature.results]),
        ]
        parts = [f"{what}: {_listed(names)}" for what, names in groups if any(names)]
        return f"there are {'; '.join(parts)}" if parts else f"it has no named arguments; {self._positional()}"

    def _positional(self) -> str:
        words, results = self._signature.words, self._signature.result_words
        registers = f"arg0 to arg{len(words) - 1}" if words else "arg0, arg1…"
        returned = "retval, ret0" if len(results) < 2 else f"ret0 to ret{len(results) - 1}"
        return f"by position there are {registers}, sarg0… (stack), {returned}; with a type: arg0:str, arg1:u32"

    # Words.

    def _word(self, value: Word | Register | Field | Returned, kind: Type, on_return: bool) -> Operand:
        """Words by position, read as a type; a type of several words takes that many."""
        if isinstance(value, Field):
            return self._field(value.name, on_return)
        if isinstance(value, Returned):
            return self._returned(kind, on_return)
        if isinstance(value, Register):
            return self._register(value.name, kind, on_return)
        count = max(1, -(-kind.size // 8))
        bank, number = value.bank, value.number
        text = f"{bank}{number}" + (f":{kind.name}" if kind is not WORD else "")
        if bank == "ret":
            if not on_return:
                raise NeedsReturn(f"{text} is only there at the return")
            return self._of_results(kind, text, number, count)
        names = self._signature.words
        if bank == "arg" and names:
            pieces = _in_registers(names, number, count, "arg", "the others are on the stack: sarg0, sarg1…")
            return self._reader.settled(Operand(kind, text, on_return, place=Place(pieces)))
        if number + count > _MAX_STACK_WORDS:
            raise TargetError(f"{text}: at most {_MAX_STACK_WORDS} words of the stack can be asked for")
        # At the return that is where Go before 1.17 has left its results.
        result = on_return and bank == "sarg"
        pieces = (Piece(places.STACK, count * 8, offset=self._signature.stack_words + 8 * number),)
        return self._reader.settled(Operand(kind, text, on_return, place=Place(pieces), result=result))

    def _of_results(self, kind: Type, text: str, number: int, count: int) -> Operand:
        names = self._signature.result_words
        if names:
            place = Place(_in_registers(names, number, count, "ret", "the others are in memory"))
        else:
            place, size = self._on_stack(text, number, count)
            if kind is WORD and size < 8:
                kind = Type(types.UINT, kind.name, size)
        return self._reader.settled(Operand(kind, text, True, place=place, result=True))

    def _on_stack(self, text: str, number: int, count: int) -> tuple[Place, int]:
        """Results in Go's stack ABI, counted as they would be in registers; and the size of the first one."""
        from ..binary.golang.abi import leaves

        spots: list[tuple[int, int]] = []
        for result in self._signature.results:
            parts = leaves(result.type)
            if parts is None or result.place.pieces[0].kind != places.STACK:
                break
            spots += [(result.place.pieces[0].offset + part.at, part.size) for part in parts]
        if number + count > len(spots):
            raise TargetError(
                f"{text}: results are on the stack here, behind the arguments",
                hint="at the return they are words of the stack: --ret sarg2 for the third word",
            )
        offset, size = spots[number]
        return Place((Piece(places.STACK, count * 8, offset=offset),)), size

    def _returned(self, kind: Type, on_return: bool) -> Operand:
        if not on_return:
            raise NeedsReturn("the result is only there at the return")
        results = self._signature.results
        if len(results) > 1:
            names = [result.name or f"ret{index}" for index, result in enumerate(results)]
            raise TargetError("retval is several results here", hint=f"they are called {_listed(names)}")
        if results and kind is WORD:
            return self.root(results[0], "retval", True, True)
        if not results and not self._signature.reason:
            raise TargetError("the function returns nothing", hint="to see its returns and their times ask for latency")
        return self._of_results(kind, "retval", 0, max(1, -(-kind.size // 8)))

    def _register(self, name: str, kind: Type, on_return: bool) -> Operand:
        if name not in self._registers:
            raise TargetError(f"there is no register {name!r}", hint=f"there are {', '.join(self._registers)}")
        if kind.size > 8:
            raise TargetError(f"one register can't be read as {kind.name}, which takes several words")
        place = Place((Piece(places.REGISTER, 8, register=name),))
        return Operand(kind, f'reg("{name}")', on_return, place=place, result=on_return)

    def _field(self, name: str, on_return: bool) -> Operand:
        if name == "latency" and not on_return:
            raise NeedsReturn("latency is only known at the return")
        step = Step("FIELD", name=f"FIELD_{name.upper()}")
        if name == "comm":
            return Operand(COMM, name, on_return, steps=(step,))
        return Operand(DURATION if name == "latency" else NUMBER, name, on_return, steps=(step,))

    # Types that the user gives.

    def _cast(self, value: Cast, on_return: bool) -> Operand:
        kind = spelled(value.type)
        base = value.base
        special = self._special(base.name) if isinstance(base, Name) else base
        if isinstance(special, Field):
            what = "the thread's name" if special.name == "comm" else "a number"
            raise TargetError(f"{special.name} is {what} and takes no type")
        if isinstance(special, (Word, Register, Returned)):
            return self._word(special, kind, on_return)
        operand = self.resolve(base, on_return)
        text = f"{operand.text}:{value.type.name}"
        if operand.type.kind == types.REFERENCE:
            operand = self._reader.deref(operand)
        has = 8 if operand.steps is not None else operand.type.size
        if operand.bit_size or kind.size > has or (kind.size > 8 and operand.type.kind in NUMBERS):
            raise TargetError(f"{operand.text} is {a(operand.type)} of {has} bytes: it can't be read as {kind.name}")
        return operand._replace(type=kind, text=text)

    def _memory(self, value: Memory, on_return: bool) -> Operand:
        base = self.resolve(value.base, on_return)
        scalar = self._reader.scalar(base)
        if scalar.style == "float":
            raise TargetError(f"{base.text} is a floating-point number, not an address")
        kind = _in_memory(value.type)
        offset = f"{value.offset:+d}" if value.offset else ""
        text = f"*({value.type.name})({base.text}{offset})"
        return Operand(kind, text, on_return, address=Address.by(scalar.steps, value.offset))


def _in_memory(name: TypeName) -> Type:
    """What a type means as memory: bytes, a std::string or a Vec lie there themselves, not a pointer to them."""
    kind = spelled(name)
    if kind.target is not None and (kind.kind == types.REFERENCE or isinstance(kind.target, Spelled)):
        return kind.target
    return kind


def _in_registers(names: Sequence[str], number: int, count: int, bank: str, others: str) -> tuple[Piece, ...]:
    if number + count > len(names):
        last = f"{bank}{number + count - 1}"
        raise TargetError(
            f"there is no {last}: {bank}0 to {bank}{len(names) - 1} are the {_POSITIONS[bank]} registers",
            hint=others,
        )
    return tuple([Piece(places.REGISTER, 8, index * 8, names[number + index]) for index in range(count)])


def _listed(names: Sequence[str]) -> str:
    known = [name for name in names if name]
    more = f" and {len(known) - _MAX_NAMED} more" if len(known) > _MAX_NAMED else ""
    return ", ".join(known[:_MAX_NAMED]) + more
