# SPDX-License-Identifier: BSD-2-Clause
"""Conditions turned into tests and jumps.

What a condition says of arguments is decided at the entry, where they are; what it says of the result or the latency at
the return. A part that is about the entry but can't be decided alone is kept at the entry as 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..binary import types
from ..binary.types import Type
from ..errors import TargetError
from .expression import And, Compare, Condition, Field, Literal, Name, Not, Or, Prefix, Truth, Value
from .operand import NUMBERS, TEXTS, VECTORS, Missing, Operand, Reader, a, is_character, words_of
from .spelled import COMM
from .steps import Address, Step, Steps, relocated

_OPERATORS = {"==": "EQ", "!=": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}
_UNSIGNED = {"LT": "BELOW", "LE": "BELOW_EQ", "GT": "ABOVE", "GE": "ABOVE_EQ"}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE = {"EQ": "NE", "NE": "EQ", "LT": "GE", "GE": "LT", "GT": "LE", "LE": "GT"}

_COMPARE_IT = "compare a value with a constant: args.A > 5"

# An operand of an expression, as at the return or the entry; raises NeedsReturn if it is only there at the return.
Resolve = Callable[[Value, bool], Operand]


class NeedsReturn(TargetError):
    """A value is only there when the function returns."""


class Filters(NamedTuple):
    """Steps that accept or reject a call; () where there is nothing to decide."""

    entry: Steps
    on_return: Steps


class _Label:
    """A place to jump to; `jumps` are the steps that do."""

    __slots__ = ("jumps",)

    def __init__(self) -> None:
        self.jumps: list[int] = []


class Conditions:
    """Compiles the condition of one function.

    Args:
        texts: rows of the map `texts`, shared by all functions: each text's row, by its bytes.
    """

    __slots__ = ("_code", "_reader", "_resolve", "_texts")

    def __init__(self, reader: Reader, resolve: Resolve, texts: dict[bytes, int]) -> None:
        self._reader = reader
        self._resolve = resolve
        self._texts = texts
        self._code: list[Step] = []

    def filters(self, condition: Condition) -> Filters:
        """The filters of both sides.

        Raises:
            TargetError: the condition asks for what isn't there, or compares what can't be compared.
        """
        parts = condition.parts if isinstance(condition, And) else (condition,)
        entry = [part for part in parts if not self._is_late(part)]
        late = [part for part in parts if self._is_late(part)]
        return Filters(self._filter(entry, False), self._filter(late, True))

    def _is_late(self, condition: Condition) -> bool:
        """It can't be decided at the entry."""
        if isinstance(condition, Not):
            return self._is_late(condition.part)
        if isinstance(condition, (And, Or)):
            return any(self._is_late(part) for part in condition.parts)
        if isinstance(condition, Compare):
            return self._is_late_value(condition.left) or self._is_late_value(condition.right)
        return self._is_late_value(condition.value)

    def _is_late_value(self, value: Value) -> bool:
        if isinstance(value, Literal) or value == Field("comm") or value == Name("comm"):
            return False
        try:
            self._resolve(value, False)
        except NeedsReturn:
            return True
        except TargetError:
            pass  # an enum's value, or an error to report when it is compiled
        return False

    def _filter(self, parts: list[Condition], on_return: bool) -> Steps:
        if not parts:
            return ()
        self._code = []
        rejected = _Label()
        for part in parts:
            accepted = _Label()
            self._jump(part, accepted, rejected, on_return)
            self._bind(accepted)
        self._code.append(Step("ACCEPT"))
        self._bind(rejected)
        self._code.append(Step("REJECT"))
        return tuple(self._code)

    def _kept(self, condition: Condition) -> Steps:
        """Decides at the entry, and keeps 1 or 0 for the return: steps that make word that."""
        outer, self._code = self._code, []
        true, false, end = _Label(), _Label(), _Label()
        self._jump(condition, true, false, False)
        self._bind(true)
        self._code.append(Step("CONSTANT", 1))
        self._to(end, Step("JUMP"))
        self._bind(false)
        self._code.append(Step("CONSTANT", 0))
        self._bind(end)
        code, self._code = tuple(self._code), outer
        return self._reader.saved(code)

    # Jumping code: falls through if it is true.

    def _to(self, label: _Label, step: Step) -> None:
        label.jumps.append(len(self._code))
        self._code.append(step)

    def _bind(self, label: _Label) -> None:
        for index in label.jumps:
            self._code[index] = self._code[index]._replace(target=len(self._code))

    def _jump(self, condition: Condition, true: _Label, false: _Label, on_return: bool) -> None:
        """Code that goes to `false`, or else falls through or goes to `true`, which is bound right behind it."""
        if on_return and not self._is_late(condition):
            self._code += self._kept(condition)
            self._to(false, Step("TEST", 0, name="COMPARE_NE"))
        elif isinstance(condition, Not):
            self._unless(condition.part, true, false, on_return)
        elif isinstance(condition, And):
            for part in condition.parts:
                behind = _Label()
                self._jump(part, behind, false, on_return)
                self._bind(behind)
        elif isinstance(condition, Or):
            for part in condition.parts[:-1]:
                other = _Label()
                self._jump(part, true, other, on_return)
                self._to(true, Step("JUMP"))
                self._bind(other)
            self._jump(condition.parts[-1], true, false, on_return)
        else:
            self._test(condition, false, on_return)

    def _unless(self, condition: Condition, true: _Label, false: _Label, on_return: bool) -> None:
        """The same for the opposite of a condition."""
        if isinstance(condition, (And, Or)):
            parts = tuple([Not(part) for part in condition.parts])
            self._jump(Or(parts) if isinstance(condition, And) else And(parts), true, false, on_return)
        elif isinstance(condition, Not):
            self._jump(condition.part, true, false, on_return)
        else:
            self._test(condition, false, on_return, negated=True)

    # Single comparisons.

    def _test(
        self, condition: Compare | Prefix | Truth, false: _Label, on_return: bool, negated: bool = False
    ) -> None:
        if isinstance(condition, Prefix):
            self._match(condition.value, condition.text, "MATCH_PREFIX", false, on_return, negated)
            return
        if isinstance(condition, Truth):
            operand = self._resolve(condition.value, on_return)
            if operand.type.kind not in NUMBERS or operand.type.kind == types.FLOAT:
                raise TargetError(f"{operand.text} is {a(operand.type)}: it can't be true or false", hint=_COMPARE_IT)
            self._compare(operand, "EQ" if negated else "NE", 0, false)
            return
        left, right, operator = condition.left, condition.right, condition.operator
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right, operator = right, left, _FLIPPED.get(operator, operator)
        if isinstance(left, Literal):
            raise TargetError("two constants are compared", hint=_COMPARE_IT)
        compare = _OPERATORS[operator]
        if isinstance(right, Literal) and isinstance(right.value, str):
            if operator not in ("==", "!="):
                raise TargetError(f"texts can't be compared with {operator}", hint='only ==, != and startswith(x, "…")')
            self._match(left, right.value, "", false, on_return, negated != (operator == "!="))
            return
        operand = self._resolve(left, on_return)
        number = self._constant(operand, right, operator)
        self._compare(operand, _OPPOSITE[compare] if negated else compare, number, false)

    def _constant(self, operand: Operand, right: Value, operator: str) -> int:
        if isinstance(right, Literal):
            value = right.value
            assert not isinstance(value, str)
            if isinstance(value, bool) and operand.type.kind != types.BOOL:
                raise TargetError(f"{operand.text} is {a(operand.type)}: it can't be compared with true or false")
            if value is None and not _is_nillable(operand.type):
                raise TargetError(f"{operand.text} is {a(operand.type)}: it can't be nil")
            return value or 0
        if isinstance(right, Name):
            last = right.name.split("::")[-1]
            for number, name in operand.type.enumerators.items():
                if name == right.name or name.split("::")[-1].split(".")[-1] == last:
                    return number
            if operand.type.kind == types.ENUM:
                names = ", ".join(list(operand.type.enumerators.values())[:24])
                raise TargetError(f"{operand.type.name} has no value {right.name!r}", hint=f"its values are {names}")
        raise TargetError(f"{operand.text} is compared with what isn't a constant", hint=_COMPARE_IT)

    def _compare(self, operand: Operand, compare: str, number: int, false: _Label) -> None:
        kind = operand.type
        if _is_nillable(kind) and kind.kind not in NUMBERS:
            if number or compare not in ("EQ", "NE"):
                raise TargetError(f"{operand.text} is {a(kind)}: it can only be compared with nil")
            steps, signed = self._reader.word(operand, words_of(kind).pointer if kind.kind in VECTORS else 0), False
        else:
            if kind.kind == types.FLOAT:
                self._refuse_float(operand)
            scalar = self._reader.scalar(operand)
            # A word that nobody gave a type may hold a negative number as well.
            steps, signed = scalar.steps, scalar.code == "q" or scalar.style == "word"
        if number < 0 and not signed:
            raise TargetError(
                f"{operand.text} is {a(kind)}, unsigned: it is never negative",
                hint=f"to read it signed: {operand.text}:s64",
            )
        if not signed:
            compare = _UNSIGNED.get(compare, compare)
        elif number >= 1 << 63 and compare not in ("EQ", "NE"):
            raise TargetError(f"{number} has more bits than {operand.text}, a signed number")
        self._code += relocated(steps, len(self._code))
        self._to(false, Step("TEST", number, name="COMPARE_" + compare))

    def _refuse_float(self, operand: Operand) -> None:
        try:
            self._reader.scalar(operand)
        except Missing as error:
            raise TargetError(f"{operand.text}: {error}") from None
        raise TargetError(f"{operand.text} is a floating-point number, which a filter can't compare")

    def _match(self, value: Value, text: str, how: str, false: _Label, on_return: bool, negated: bool) -> None:
        flags = [how] if how else []
        raw = text.encode("utf-8", "surrogateescape")
        if value in (Field("comm"), Name("comm")) and self._is_comm(value):
            if len(raw) > 15 and not how:
                raise TargetError(f"a thread's name has at most 15 bytes, it is never {text!r}")
            flags.append("MATCH_COMM")
            self._code.append(Step("CONSTANT", 0))
        else:
            operand = self._reader.settled(self._resolve(value, on_return))
            if operand.type.kind == types.REFERENCE or _points_to_text(operand.type):
                operand = self._reader.settled(self._reader.deref(operand)._replace(text=operand.text))
            length, address = self._text(operand)
            if length is not None:
                flags.append("MATCH_COUNTED")
                self._code += (*length, Step("LENGTH"), *address.plain)
            else:
                self._code += address.checked
            if address.offset:
                self._code.append(Step("ADD", address.offset))
        if negated:
            flags.append("MATCH_NOT")
        row = self._texts.setdefault(raw, len(self._texts))
        self._to(false, Step("MATCH", row, name="|".join(flags)))

    def _is_comm(self, value: Value) -> bool:
        try:
            return self._resolve(value, False).type is COMM
        except TargetError:
            return True

    def _text(self, operand: Operand) -> tuple[Steps | None, Address]:
        """Where a text is: steps for its length, None if it ends with a NUL; its address."""
        kind = operand.type
        if kind.kind in TEXTS or (kind.kind in VECTORS and _is_bytes(kind.target)):
            where = words_of(kind)
            length = self._reader.word(operand, where.length) if where.length >= 0 else None
            return length, self._reader.pointed(operand, where.pointer)
        if kind.kind == types.POINTER and _is_bytes(kind.target):
            return None, self._reader.pointed(operand)
        if kind.kind == types.ARRAY and _is_bytes(kind.target):
            if operand.address is None:
                raise TargetError(f"{operand.text} is in registers, where a filter can't compare texts")
            return None, operand.address
        raise TargetError(f"{operand.text} is {a(kind)}, not a text", hint=f"to read it as one: {operand.text}:str")


def _is_bytes(kind: Type | None) -> bool:
    return kind is not None and kind.size == 1 and (kind.kind in (types.CHAR, types.UINT) or is_character(kind))


def _points_to_text(kind: Type) -> bool:
    return kind.kind == types.POINTER and kind.target is not None and kind.target.kind in TEXTS


def _is_nillable(kind: Type) -> bool:
    return kind.kind in (
        types.POINTER, types.INTERFACE, types.MAP, types.CHAN, types.FUNC, types.SLICE, types.FUNCTION,
    )  # fmt: skip
