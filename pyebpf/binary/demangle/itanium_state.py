# SPDX-License-Identifier: BSD-2-Clause
"""What the parser of the Itanium C++ ABI's mangling grammar knows while it parses: substitutions, packs, budgets.

One pass over the mangled text builds the demangled text directly: there is no syntax tree. Two things in the grammar
depend on what stands elsewhere, and both are met by parsing a piece of the text again in its new surroundings:

* a pack expansion shows its pattern once for each element of the pack;
* a substitution (``S1_``) may stand for text with template parameters in it, which mean the arguments of the template
  they are *used* in. What was parsed in other surroundings is a `Deferred` entry.

The text is hostile. `Failure` ends the parse; the state carries three budgets: nesting, productions parsed (a pack of
packs grows exponentially) and characters produced (so do substitutions of substitutions).
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from .operators import STD_SUBSTITUTIONS

MAX_DEPTH = 128
MAX_PRODUCTIONS = 20_000
MAX_CHARACTERS = 8 << 20

# Two NULs follow the text, so that looking at the next two characters needs no test.
SENTINEL = "\0\0"
# What may follow the last parameter of a function: E of an enclosing production, a clone suffix, the end.
ENDS = "E.\0"

_SEQUENCE = re.compile(r"([0-9A-Z]*)_")
_NUMBER = re.compile(r"n?[0-9]+")


class Failure(Exception):
    """The text isn't a mangled name, or is beyond a budget."""


class Declarator(NamedTuple):
    """A type written around the name it declares: ``left`` name ``right`` ``tail``.

    Attributes:
        kind: "F" a function type, "A" an array type: the next modifier opens a parenthesis; "P" it is open already.
        right: what follows; for a function its parameters, after which its qualifiers go.
        tail: what follows a function's qualifiers: the rest of its return type.
    """

    kind: str
    left: str
    right: str
    tail: str

    def modified(self, text: str) -> Declarator:
        """With ``*``, ``&``, ``&&``, `` const`` or `` Class::*`` applied to it."""
        kind, left, right, tail = self
        if kind == "P":
            return Declarator("P", left + text, right, tail)
        if kind == "A":
            if text[0] == " " and text[-1] != "*":  # a const array is an array of const
                return Declarator("A", left + text, right, tail)
            return Declarator("P", left + " (" + text.lstrip(), ")" + right, tail)
        if text[0] == " " and text[-1] != "*":  # a const function: const is its `this`
            return Declarator("F", left, right + text, tail)
        space = "" if left[-1] == " " or (text[0] != " " and left[-1] in "(*") else " "
        return Declarator("P", left + space + "(" + text.lstrip(), ")" + right + tail, "")


Type = Union[str, Declarator]
# A template argument: a pack is a list.
Argument = Union[Type, "list[Argument]"]


def flat(t: Type) -> str:
    """The type as text, declaring no name."""
    return t if isinstance(t, str) else t.left + t.right + t.tail


class Deferred:
    """A substitution whose text holds template parameters: where it stands, and what it was in its surroundings."""

    __slots__ = ("arguments", "end", "pack", "production", "scope", "start", "value")

    def __init__(
        self,
        value: Type,
        production: str,
        start: int,
        end: int,
        scope: tuple[int, bool, int],
        arguments: list[Argument],
        pack: list[Argument] | None,
    ) -> None:
        self.value = value
        self.production = production
        self.start = start
        self.end = end
        self.scope = scope
        self.arguments = arguments  # kept, so that the identity in `scope` isn't given to another list
        self.pack = pack


class State:
    """Where the parser is, what it has seen, and the productions that need no others."""

    __slots__ = (
        "arguments",
        "characters",
        "conversion",
        "depth",
        "lambdas",
        "last",
        "pack",
        "pack_index",
        "parameters_seen",
        "pos",
        "productions",
        "subs",
        "text",
    )

    def __init__(self, text: str) -> None:
        self.text = text + SENTINEL
        self.pos = 0
        self.subs: list[Type | Deferred] = []
        # What T_ means here: the arguments of the innermost template that is being declared.
        self.arguments: list[Argument] = []
        # The first pack met by the expansion in progress, and which of its elements is meant (-1: none in progress).
        self.pack: list[Argument] | None = None
        self.pack_index = -1
        # How many template parameters were met so far: tells whether a piece of text depends on them.
        self.parameters_seen = 0
        # Inside a lambda's parameter list T_ is `auto`; inside a conversion operator's type it may come later.
        self.lambdas = 0
        self.conversion = False
        # The last simple name, which a constructor repeats.
        self.last = ""
        self.depth = 0
        self.productions = MAX_PRODUCTIONS
        self.characters = MAX_CHARACTERS

    # Added by subclasses, one file each.

    def type(self) -> Type:
        raise NotImplementedError

    def name(self, declares: bool) -> str:
        raise NotImplementedError

    def nested_name(self, declares: bool, stop: int = -1) -> str:
        raise NotImplementedError

    def source_name(self) -> str:
        raise NotImplementedError

    def template_arguments(self, declares: bool) -> str:
        raise NotImplementedError

    def expression(self) -> tuple[str, bool]:
        raise NotImplementedError

    # Small pieces.

    def expect(self, character: str) -> None:
        if self.text[self.pos] != character:
            raise Failure
        self.pos += 1

    def number(self) -> int:
        """<number>"""
        m = _NUMBER.match(self.text, self.pos)
        if m is None or m.end() - m.start() > 10:
            raise Failure
        self.pos = m.end()
        digits = m.group()
        return -int(digits[1:]) if digits[0] == "n" else int(digits)

    def compact_number(self) -> int:
        """[<number>] _ : 0 for ``_``, 1 for ``0_``"""
        value = 0 if self.text[self.pos] == "_" else self.number() + 1
        self.expect("_")
        return value

    def charge(self, text: str) -> str:
        """Takes the length of a piece of text off the budget."""
        self.characters -= len(text)
        if self.characters < 0:
            raise Failure
        return text

    def joined(self, shown: list[str]) -> str:
        """A list with commas, as c++filt has it: empty items (empty packs) vanish at the end only."""
        self.characters -= sum(map(len, shown)) + len(shown)
        if self.characters < 0:
            raise Failure
        while shown and not shown[-1]:
            shown.pop()
        return ", ".join(shown)

    # Substitutions.

    def push(self, value: Type, seen: int, production: str, start: int) -> None:
        """Adds a substitution candidate, parsed from ``start``, where `parameters_seen` was ``seen``, to here."""
        self.characters -= len(value) if isinstance(value, str) else len(value.left) + len(value.right)
        if self.characters < 0:
            raise Failure
        if self.parameters_seen == seen:
            self.subs.append(value)
        else:
            self.subs.append(Deferred(value, production, start, self.pos, self._scope(), self.arguments, self.pack))

    def _scope(self) -> tuple[int, bool, int]:
        return id(self.arguments), self.lambdas > 0, self.pack_index

    def substitution(self) -> Type:
        """<substitution> other than ``St``, which is no complete name."""
        m = _SEQUENCE.match(self.text, self.pos + 1)
        if m is None:
            found = STD_SUBSTITUTIONS.get(self.text[self.pos + 1])
            if found is None:
                raise Failure
            self.pos += 2
            name, self.last = found
            return self.tagged(name)
        self.pos = m.end()
        digits = m.group(1)
        if len(digits) > 6:
            raise Failure
        entry = self.subs[int(digits, 36) + 1 if digits else 0]
        return self._reparsed(entry) if isinstance(entry, Deferred) else entry

    def _reparsed(self, entry: Deferred) -> Type:
        self.parameters_seen += 1
        if entry.scope == self._scope():
            if self.pack is None:
                self.pack = entry.pack
            return entry.value
        self._enter()
        after, known, last = self.pos, len(self.subs), self.last
        self.pos = entry.start
        value: Type
        if entry.production == "prefix":
            value = self.nested_name(False, entry.end)
        elif entry.production == "parameter":
            value = self.template_parameter()
        else:
            value = self.type()
        if self.pos != entry.end:
            raise Failure
        del self.subs[known:]
        self.pos, self.last = after, last
        self.depth -= 1
        return value

    def _enter(self) -> None:
        self.depth += 1
        self.productions -= 1
        if self.depth > MAX_DEPTH or self.productions < 0:
            raise Failure

    def identifier(self) -> str:
        """The length of a name and its text"""
        text = self.text
        start = self.pos
        end = start + 1
        while text[end] in "0123456789":
            end += 1
        after = end + int(text[start:end])
        if end == after or after > len(text) - len(SENTINEL):
            raise Failure
        self.pos = after
        return text[end:after]

    def tagged(self, name: str) -> str:
        """``name`` with the ABI tags that follow it: (B <source-name>)*"""
        while self.text[self.pos] == "B":
            self.pos += 1
            name += "[abi:" + self.identifier() + "]"
        return name

    # Template parameters and packs.

    def template_parameter(self) -> Type:
        """<template-param>: what it stands for here"""
        self.parameters_seen += 1
        self.pos += 1
        if self.text[self.pos] == "L":  # a parameter of an outer template: TL <level> __ <index> _
            self.pos += 1
            self.compact_number()
            self.expect("_")
        index = self.compact_number()
        if index < 0:
            raise Failure
        if self.lambdas:
            return "auto:" + str(index + 1)
        if self.conversion and index >= len(self.arguments):
            return "auto"  # the arguments follow; the operator's type is parsed again when they are known
        value = self.arguments[index]
        if isinstance(value, list):
            if self.pack is None:
                self.pack = value
            if self.pack_index < 0:
                return self.joined(self.flatten(value))
            element = value[self.pack_index] if value else ""
            return self.joined(self.flatten(element)) if isinstance(element, list) else element
        return value

    def flatten(self, pack: list[Argument]) -> list[str]:
        """A pack's elements as text; packs in it are opened, empty ones vanish."""
        shown: list[str] = []
        for value in pack:
            if isinstance(value, list):
                shown.extend(self.flatten(value))
            else:
                shown.append(flat(value))
        return shown

    def pack_expansion(self) -> list[Type]:
        """Dp <type>: the elements"""
        self.pos += 2
        if self.lambdas:
            return [self._ellipsis()]
        outer = self.pack, self.pack_index
        self.pack, self.pack_index = None, 0
        start = self.pos
        elements = [self.type()]
        pack = self.pack
        if pack is None:
            elements = ["(" + flat(elements[0]) + ")..."]
        elif not pack:
            elements = []
        else:
            after, known = self.pos, len(self.subs)
            for self.pack_index in range(1, len(pack)):
                self.pos = start
                elements.append(self.type())
                del self.subs[known:]
            self.pos = after
        self.pack, self.pack_index = outer
        return elements

    def _ellipsis(self) -> str:
        simple = self.text[self.pos] in "0123456789NZ"
        pattern = flat(self.type())
        return pattern + "..." if simple else "(" + pattern + ")..."
