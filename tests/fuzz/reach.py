# SPDX-License-Identifier: BSD-2-Clause
"""Which lines of a reader's modules inputs reach, and which follow each other, by sys.settrace."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterable, Sequence
from types import CodeType, FrameType
from typing import Any, Callable, NamedTuple

from fuzz.reader import Reader, attempt, modules_of

Arc = int
"""A line and the one executed before it in the same call (0: none): file << 40 | before << 20 | line."""


class Covered(NamedTuple):
    """Lines of functions that were executed, of how many there are; and pairs of lines that followed each other."""

    lines: int
    of: int
    arcs: int


def _functions(code: CodeType) -> Iterable[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)


class Tracer:
    """Notes what is executed in a reader's modules while it is entered.

    Attributes:
        arcs: all so far.
    """

    def __init__(self, one: Reader) -> None:
        self._files = {module.__file__: number << 40 for number, module in enumerate(modules_of(one))}
        self.arcs: set[Arc] = set()
        self._fresh = False

    def __enter__(self) -> Tracer:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def new(self) -> bool:
        """Was anything executed that was not before the last call?"""
        fresh, self._fresh = self._fresh, False
        return fresh

    def _call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        number = self._files.get(frame.f_code.co_filename)
        if number is None:
            return None
        arcs = self.arcs
        last = 0

        def line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal last
            if event == "line":
                arc = number | last << 20 | frame.f_lineno
                last = frame.f_lineno
                if arc not in arcs:
                    arcs.add(arc)
                    self._fresh = True
            return line

        return line


def lines_of(one: Reader) -> set[tuple[int, int]]:
    """All lines in functions of a reader's modules that hold code: (number of the module, line)."""
    found = set()
    for number, module in enumerate(modules_of(one)):
        with open(str(module.__file__), "rb") as file:
            whole = compile(file.read(), str(module.__file__), "exec", dont_inherit=True)
        for code in _functions(whole):
            if code.co_flags & inspect.CO_NEWLOCALS:  # the bodies of classes have not
                found |= {
                    (number, line) for _, line in dis.findlinestarts(code) if line and line != code.co_firstlineno
                }
    return found


def measure(one: Reader, inputs: Sequence[bytes]) -> tuple[Covered, list[set[Arc]]]:
    """What inputs cover together, and each of them."""
    each: list[set[Arc]] = []
    every: set[Arc] = set()
    for data in inputs:
        with Tracer(one) as tracer:
            attempt(one, data, 15.0)
        each.append(tracer.arcs)
        every |= tracer.arcs
    wanted = lines_of(one)
    lines = {(arc >> 40, arc & 0xFFFFF) for arc in every} & wanted
    return Covered(len(lines), len(wanted), len(every)), each


def fewest(each: Sequence[set[Arc]], sizes: Sequence[int]) -> list[int]:
    """Indices of inputs that cover together what all do: the small ones, and few of them."""
    left: set[Arc] = set().union(*each) if each else set()
    chosen = []
    while left:
        best = max(range(len(each)), key=lambda index: (len(each[index] & left) / (sizes[index] + 64), -sizes[index]))
        if not each[best] & left:
            break
        chosen.append(best)
        left -= each[best]
    return chosen
