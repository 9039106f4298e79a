# SPDX-License-Identifier: BSD-2-Clause
"""What is asked of calls, turned into steps for the eBPF programs and columns for whoever reads what they captured."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..binary.signature import Signature
from ..errors import TargetError
from .condition import Conditions, Filters, NeedsReturn
from .expand import Expander
from .expression import Condition, Labelled, Value, parse_condition, parse_value
from .names import Names
from .operand import Missing, Operand, Reader
from .shape import Fields, Gone, Shape
from .steps import PlanLayout, Side, Step, Steps, encode, relocated

__all__ = ["Column", "Plan", "PlanLayout", "Question", "compile"]

_PLAN = struct.Struct("<4I")  # struct plan
_TEXT_TAIL = struct.Struct("<II")  # struct plan_text behind its bytes
_CONTEXT = "context.Context"
_END = Step("END")


class Question(NamedTuple):
    """What to capture of each call.

    Attributes:
        values: expressions as at the entry; one that needs the return (a result, latency) is answered there.
        results: expressions as at the return.
        condition: which calls are wanted, "" for all.
        all_arguments: every parameter, before `values`.
        strsize: most bytes of a text to capture.
        brief: what is captured is to be a key: leave out what only few values have.
    """

    values: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    condition: str = ""
    all_arguments: bool = False
    strsize: int = 80
    brief: bool = False


class Column(NamedTuple):
    """One captured value.

    Attributes:
        label: what the user wrote, or the label he gave it.
        on_return: it was asked for as at the return (its bytes may all the same be the entry's: see `shape`).
        shape: what to decode, by `tools.values.Decoder`.
    """

    label: str
    on_return: bool
    shape: Shape


class Plan(NamedTuple):
    """What to write into the maps and constants of an object, and how to read what comes back.

    Attributes:
        steps: the rows of the map `steps`.
        plans: a row of the map `plans` for each signature; all zeros if it was skipped.
        texts: the rows of the map `texts`; none if no condition has one.
        entry_size, return_size: bytes captured at the entry and at the return, multiples of 8.
        read_room: the most bytes one step keeps.
        longest: how many steps the longest side or filter has, with its end.
        filters_entry, filters_return: some function has a filter there.
        returns: the return must be seen.
        columns: for each signature, in the order they were asked for.
        skipped: signatures that have not what was asked for, by index, with the reason.
    """

    steps: bytes
    plans: bytes
    texts: bytes
    entry_size: int
    return_size: int
    read_room: int
    longest: int
    filters_entry: bool
    filters_return: bool
    returns: bool
    columns: tuple[tuple[Column, ...], ...]
    skipped: Mapping[int, TargetError]


def compile(question: Question, signatures: Sequence[Signature], layout: PlanLayout) -> Plan:
    """Turns a question into a plan.

    Args:
        signatures: of the functions, by the index in their sites' cookies.
        layout: the object's numbers.

    Raises:
        TargetError: an expression is malformed, or none of the functions has what it asks for.
    """
    limits = layout.limits
    parsed = _Parsed(
        [parse_value(text) for text in question.values],
        [parse_value(text) for text in question.results],
        parse_condition(question.condition) if question.condition.strip() else None,
    )
    for group in (parsed.values, parsed.results):
        labels = [labelled.label for labelled in group]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise TargetError(f"two values are called {twice!r}", hint="give one of them another name: NAME=EXPR")
    if not 0 < question.strsize <= limits["PLAN_MAX_READ"] - 16:
        raise TargetError(f"a text can have 1 to {limits['PLAN_MAX_READ'] - 16} bytes, not {question.strsize}")
    texts: dict[bytes, int] = {}
    functions: list[_Function | None] = []
    skipped: dict[int, TargetError] = {}
    for index, signature in enumerate(signatures):
        try:
            functions.append(_Function(question, parsed, signature, layout, texts))
        except TargetError as error:
            functions.append(None)
            skipped[index] = error
    if skipped and len(skipped) == len(functions):
        raise skipped[0]
    return _assembled(functions, skipped, texts, layout)


class _Parsed(NamedTuple):
    values: list[Labelled]
    results: list[Labelled]
    condition: Condition | None


class _Function:
    """One function's part of a plan."""

    __slots__ = ("_expander", "_names", "columns", "entry", "filters", "on_return")

    def __init__(
        self, question: Question, parsed: _Parsed, signature: Signature, layout: PlanLayout, texts: dict[bytes, int]
    ) -> None:
        self.entry, self.on_return = Side(layout.limits, False), Side(layout.limits, True)
        reader = Reader(self.entry, self.on_return, signature.depth)
        self._names = Names(signature, reader, layout.registers)
        self._expander = Expander(reader, question.strsize, question.brief)
        self.columns: list[Column] = []
        if question.all_arguments:
            self._all_arguments(signature)
        for labelled in parsed.values:
            self.columns.append(self._column(labelled, False))
        for labelled in parsed.results:
            self.columns.append(self._column(labelled, True))
        self.filters = Filters((), ())
        if parsed.condition is not None:
            self.filters = Conditions(reader, self._in_condition(parsed), texts).filters(parsed.condition)

    def _in_condition(self, parsed: _Parsed) -> Callable[[Value, bool], Operand]:
        """What a value means in the condition: what it does among the results, if it is only there."""
        late = [one.value for one in parsed.results if all(one.value != other.value for other in parsed.values)]

        def resolve(value: Value, on_return: bool) -> Operand:
            if not on_return and value in late:
                raise NeedsReturn("it is asked for as it is at the return")
            return self._names.resolve(value, on_return)

        return resolve

    @property
    def needs_return(self) -> bool:
        return bool(self.filters.on_return) or any(column.on_return for column in self.columns)

    def _all_arguments(self, signature: Signature) -> None:
        if signature.reason:
            raise self._names.unnamed()
        for index, parameter in enumerate(signature.parameters):
            if parameter.hidden or parameter.captured or parameter.type.name == _CONTEXT:
                continue
            label = parameter.name or f"#{index}"
            operand = self._names.root(parameter, label, on_return=False, result=False)
            self.columns.append(Column(label, False, self._shown(operand)))

    def _column(self, labelled: Labelled, on_return: bool) -> Column:
        try:
            operands = self._names.operands(labelled.value, on_return)
        except NeedsReturn:
            on_return = True
            operands = self._names.operands(labelled.value, on_return)
        if len(operands) == 1:
            return Column(labelled.label, on_return, self._asked(operands[0]))
        fields = [(operand.text, self._shown(operand)) for operand in operands]
        return Column(labelled.label, on_return, Fields("", tuple(fields), True))

    def _asked(self, operand: Operand) -> Shape:
        """A value that the user asked for: one that the compiler removed is an error."""
        try:
            return self._expander.keep(operand)
        except Missing as error:
            if error.floating:
                return Gone(str(error))
            hint = error.hint
            if operand.result and not hint:
                hint = "the compiler changed how it returns; ret0 shows the first result register, whatever is in it"
            raise TargetError(f"{operand.text} can't be read: {error}", hint=hint) from None

    def _shown(self, operand: Operand) -> Shape:
        """A value among others: what isn't there doesn't prevent the others."""
        try:
            return self._expander.keep(operand)
        except Missing as error:
            return Gone(str(error))


def _assembled(
    functions: Sequence[_Function | None], skipped: Mapping[int, TargetError], texts: dict[bytes, int],
    layout: PlanLayout,
) -> Plan:  # fmt: skip
    rows: list[Step] = [_END]
    placed: dict[Steps, int] = {(): 0}
    longest = 1

    def place(steps: Steps) -> int:
        nonlocal longest
        first = placed.get(steps)
        if first is None:
            first = placed[steps] = len(rows)
            rows.extend(relocated(steps, first))
            rows.append(_END)
            longest = max(longest, len(steps) + 1)
        return first

    plans = []
    made = [function for function in functions if function is not None]
    for function in functions:
        if function is None:
            plans.append(_PLAN.pack(0, 0, 0, 0))
            continue
        entry, on_return = function.filters
        plans.append(
            _PLAN.pack(place(entry), place(tuple(function.entry.steps)),
                       place(on_return), place(tuple(function.on_return.steps)))
        )  # fmt: skip
    if longest > layout.limits["PLAN_STEPS"]:
        raise TargetError(f"the condition takes {longest} steps; at most {layout.limits['PLAN_STEPS']} are possible")
    room = layout.limits["PLAN_TEXT"]
    return Plan(
        steps=encode(rows, layout),
        plans=b"".join(plans),
        texts=b"".join([text.ljust(room, b"\0") + _TEXT_TAIL.pack(len(text), 0) for text in texts]),
        entry_size=max([function.entry.size for function in made], default=0),
        return_size=max([function.on_return.size for function in made], default=0),
        read_room=max([max(function.entry.room, function.on_return.room) for function in made], default=8),
        longest=longest,
        filters_entry=any(function.filters.entry for function in made),
        filters_return=any(function.filters.on_return for function in made),
        returns=any(function.needs_return for function in made),
        columns=tuple([() if function is None else tuple(function.columns) for function in functions]),
        skipped=skipped,
    )
