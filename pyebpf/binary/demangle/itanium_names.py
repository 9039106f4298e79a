# SPDX-License-Identifier: BSD-2-Clause
"""The <name> and <template-args> productions of the Itanium C++ ABI's mangling grammar."""

from __future__ import annotations

import re

from .itanium_expressions import Expressions
from .itanium_state import Argument, Failure, flat
from .operators import OPERATORS

_DIGITS = "0123456789"
_DISCRIMINATOR = re.compile(r"_(?:[0-9]|_[0-9]+_)")
_ANONYMOUS = re.compile(r"_GLOBAL_[._$]N")


class Names(Expressions):
    """Parses names: nested, local, unnamed, operators', with their template arguments."""

    __slots__ = ("qualifiers_after", "special", "template")

    def __init__(self, text: str) -> None:
        super().__init__(text)
        # Of the name parsed last: does it end in template arguments, is it a constructor, destructor or conversion
        # (those have no return type), what qualifies its `this`.
        self.template = False
        self.special = False
        self.qualifiers_after = ""

    def name(self, declares: bool) -> str:
        """<name>; ``declares``: its template arguments are what T_ means from here on"""
        text = self.text
        start = self.pos
        c = text[start]
        if c == "N":
            return self.nested_name(declares)
        if c == "Z":
            return self.local_name(declares)
        seen = self.parameters_seen
        known = False
        if c == "S" and text[start + 1] == "t":
            self.pos += 2
            name = "std::" + self.unqualified_name()
        elif c == "S":
            name = flat(self.substitution())
            self.special = False
            known = True
        else:
            name = self.unqualified_name()
        special = self.special
        template = text[self.pos] == "I"
        if template:
            if not known:
                self.push(name, seen, "type", start)
            name = self.with_arguments(name, declares)
        self.template = template
        self.special = special
        self.qualifiers_after = ""
        return name

    def nested_name(self, declares: bool, stop: int = -1) -> str:
        """<nested-name>; up to ``stop`` when a prefix of it is parsed again"""
        text = self.text
        start = self.pos
        seen = self.parameters_seen
        self.pos = start + 1
        after = ""
        if text[start + 1] in "KVrRO":
            after = self.qualifiers()
            if text[self.pos] in "RO":
                after += " &" if text[self.pos] == "R" else " &&"
                self.pos += 1
        name = ""
        template = special = False
        while True:
            position = self.pos
            c = text[position]
            if c in _DIGITS:
                part = self.source_name()
                template = special = False
            elif c == "I":
                if not name:
                    raise Failure
                name = self.with_arguments(name, declares)
                template = True
                part = ""
            elif c == "E":
                if not name:
                    raise Failure
                self.pos = position + 1
                break
            elif c == "S":
                part = self._prefix_substitution()
            elif c == "T":
                part = flat(self.template_parameter())
            elif c == "D" and text[position + 1] in "tT":
                part = flat(self.type())
            elif c == "M":  # the variable whose initializer the lambda stands in
                self.pos = position + 1
                continue
            elif c == "c" and text[position + 1] == "v":
                name, template = self._conversion(name, declares)
                special = True
                part = ""
            else:
                part = self.unqualified_name()
                template = False
                special = self.special
            if part:
                name = name + "::" + part if name else part
            following = text[self.pos]
            if following != "E" and c != "S" and following != "M":
                self.push(name, seen, "prefix", start)
            if self.pos == stop:
                break
        self.template = template
        self.special = special
        self.qualifiers_after = after
        return name

    def _prefix_substitution(self) -> str:
        if self.text[self.pos + 1] == "t":
            self.pos += 2
            return "std"
        return flat(self.substitution())

    def _conversion(self, name: str, declares: bool) -> tuple[str, bool]:
        """cv <type> [<template-args>]: the type may name parameters whose arguments follow"""
        self.pos += 2
        start, known, seen = self.pos, len(self.subs), self.parameters_seen
        conversion, self.conversion = self.conversion, True
        typename = self.tagged(flat(self.type()))
        self.conversion = conversion
        scope = name + "::" if name else ""
        if self.text[self.pos] != "I":
            return scope + "operator " + typename, False
        self.push(scope + "operator " + typename, self.parameters_seen, "prefix", start)
        if self.parameters_seen == seen or not declares:
            return self.with_arguments(scope + "operator " + typename, declares), True
        last = self.last
        arguments = self.template_arguments(True)
        after, end = self.pos, len(self.subs)
        self.pos = start
        self.conversion = True
        typename = self.tagged(flat(self.type()))
        self.conversion = conversion
        self.subs[known : known + len(self.subs) - end] = self.subs[end:]
        del self.subs[end:]
        self.pos, self.last = after, last
        return scope + "operator " + typename + arguments, True

    def local_name(self, declares: bool) -> str:
        """Z <encoding> E <name>: what is declared in a function"""
        text = self.text
        outer = self.arguments
        self._enter()
        self.pos += 1
        before, function, after = self.encoding_parts()
        scope = function + (after if not before else _without_result(after)) + "::"
        self.expect("E")
        if text[self.pos] == "s":
            self.pos += 1
            name = "string literal"
            self.template = self.special = False
            self.qualifiers_after = ""
        else:
            if text[self.pos] == "d":
                self.pos += 1
                scope += "{default arg#" + str(self.compact_number() + 1) + "}::"
            name = self.name(declares)
        if text[self.pos] == "_":
            m = _DISCRIMINATOR.match(text, self.pos)
            if m is not None:
                self.pos = m.end()
        if not declares:
            self.arguments = outer
        self.depth -= 1
        return scope + name

    def source_name(self) -> str:
        """<source-name>: its length and its text, with ABI tags"""
        name = self.identifier()
        if name[0] == "_" and _ANONYMOUS.match(name):
            name = "(anonymous namespace)"
        self.last = name
        return self.tagged(name) if self.text[self.pos] == "B" else name

    def unqualified_name(self) -> str:
        """<unqualified-name>"""
        text = self.text
        c = text[self.pos]
        following = text[self.pos + 1]
        self.special = False
        if c in _DIGITS:
            return self.source_name()
        if c == "L":  # internal linkage
            self.pos += 1
            name = self.source_name() if text[self.pos] in _DIGITS else self.unqualified_name()
            m = _DISCRIMINATOR.match(text, self.pos)
            if m is not None:
                self.pos = m.end()
            return name
        if c == "C" or (c == "D" and following != "C"):
            name = self._constructor(c, following)
        elif c == "D":
            name = self._structured_binding()
        elif c == "U":
            return self._unnamed(following)
        elif c == "W":
            module = self._module("")
            return self.unqualified_name() + "@" + module
        elif c == "F":  # a friend declared in the class
            self.pos += 1
            return self.unqualified_name()
        else:
            name = self._operator(c, following)
        return self.tagged(name)

    def _constructor(self, c: str, following: str) -> str:
        """<ctor-dtor-name>"""
        if not self.last:
            raise Failure
        self.special = True
        self.pos += 2
        if c == "C":
            if following == "I":  # inherited from a base
                self.pos += 1
                self.type()
            elif following not in "12345":
                raise Failure
            return self.last
        if following not in "01245":
            raise Failure
        return "~" + self.last

    def _structured_binding(self) -> str:
        """DC <source-name>+ E"""
        self.pos += 2
        names = []
        while self.text[self.pos] != "E":
            names.append(self.source_name())
        self.pos += 1
        return "[" + ", ".join(names) + "]"

    def _unnamed(self, following: str) -> str:
        """Ut [<number>] _ | Ul <parameter>+ E [<number>] _"""
        self.pos += 2
        if following == "t":
            return "{unnamed type#" + str(self.compact_number() + 1) + "}"
        if following != "l":
            raise Failure
        self.lambdas += 1
        seen = self.parameters_seen
        while self.text[self.pos] == "T" and self.text[self.pos + 1] in "ynp":
            self._template_head()
        parameters = self.parameters()
        self.parameters_seen = seen  # T_ in it is `auto`, wherever it is used
        self.lambdas -= 1
        self.expect("E")
        return "{lambda" + parameters + "#" + str(self.compact_number() + 1) + "}"

    def _template_head(self) -> None:
        """<template-param-decl> of a lambda: Ty | Tn <type> | Tp <template-param-decl>"""
        c = self.text[self.pos + 1]
        self.pos += 2
        if c == "n":
            self.type()
        elif c == "p":
            if self.text[self.pos] != "T" or self.text[self.pos + 1] not in "yn":
                raise Failure
            self._template_head()

    def _module(self, name: str) -> str:
        """<module-name>: (W [P] <source-name>)+"""
        text = self.text
        while text[self.pos] == "W":
            self.pos += 1
            separator = "." if name else ""
            if text[self.pos] == "P":
                self.pos += 1
                separator = ":"
            name += separator + self.identifier()
        if not name:
            raise Failure
        return name

    def _operator(self, c: str, following: str) -> str:
        """<operator-name> that declares an operator"""
        self.pos += 2
        code = c + following
        if code == "cv":
            self.special = True
            return "operator " + flat(self.type())
        if code == "li":
            return 'operator"" ' + self.source_name()
        if c == "v" and following in _DIGITS:
            return "operator " + self.source_name()
        found = OPERATORS.get(code)
        if found is None:
            raise Failure
        text = found[0].rstrip()
        return "operator " + text if "a" <= text[0] <= "z" else "operator" + text

    # Template arguments.

    def template_arguments(self, declares: bool) -> str:
        """<template-args>: ``<int, char*>``"""
        last = self.last
        values: list[Argument] = []
        if declares:
            self.arguments = values
        shown: list[str] = []
        self.pos += 1
        while self.text[self.pos] != "E":
            shown.append(self.template_argument(values))
        self.pos += 1
        self.last = last
        count = len(shown)
        inner = self.joined(shown)
        spaced = inner[-1:] == ">" and count == len(shown)  # c++filt forgets the space after an empty pack
        return "<" + inner + " >" if spaced else "<" + inner + ">"

    def template_argument(self, values: list[Argument]) -> str:
        """<template-arg>: adds it to ``values``; as text, which is empty for an empty pack"""
        text = self.text
        c = text[self.pos]
        if c == "L":
            shown = self.literal()
            values.append(shown)
        elif c == "X":
            self.pos += 1
            shown = self.expression()[0]
            self.expect("E")
            values.append(shown)
        elif c == "J" or c == "I":
            self._enter()
            self.pos += 1
            pack: list[Argument] = []
            elements = []
            while text[self.pos] != "E":
                elements.append(self.template_argument(pack))
            self.pos += 1
            self.depth -= 1
            values.append(pack)
            shown = self.joined(elements)
        elif c == "D" and text[self.pos + 1] == "p":
            start, seen = self.pos, self.parameters_seen
            expansion = self.pack_expansion()
            values.extend(expansion)
            shown = self.joined([flat(t) for t in expansion])
            self.push(shown, seen, "type", start)
        else:
            t = self.type()
            values.append(t)
            shown = t if isinstance(t, str) else flat(t)
        return shown


def _without_result(after: str) -> str:
    """The parameters and qualifiers of a function, without the rest of its return type."""
    depth = 0
    for i, c in enumerate(after):
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth < 0:
                return after[:i]
    return after
