# SPDX-License-Identifier: BSD-2-Clause
"""The <type> productions of the Itanium C++ ABI's mangling grammar."""

from __future__ import annotations

import re

from .itanium_state import ENDS, MAX_DEPTH, Declarator, Failure, State, Type, flat
from .operators import BUILTINS, D_BUILTINS

_QUALIFIERS = re.compile(r"r?V?K?")
_FLOAT = re.compile(r"([0-9]+)([_xb])")
_QUALIFIER_TEXT = {"K": " const", "V": " volatile", "r": " restrict"}


class Types(State):
    """Parses <type> and what types are made of."""

    __slots__ = ()

    def type(self) -> Type:
        """<type>"""
        text = self.text
        start = self.pos
        c = text[start]
        found = BUILTINS.get(c)
        if found is not None:
            self.pos = start + 1
            return found
        self.depth += 1
        self.productions -= 1
        if self.depth > MAX_DEPTH or self.productions < 0:
            raise Failure
        seen = self.parameters_seen
        result: Type
        if c == "P":
            self.pos = start + 1
            result = self.type()
            result = result + "*" if isinstance(result, str) else result.modified("*")
        elif c == "N":
            result = self.nested_name(False)
        elif c in "0123456789Z":
            result = self.name(False)
        elif c == "R" or c == "O":
            self.pos = start + 1
            result = self._reference("&" if c == "R" else "&&")
        elif c in "KVr":
            result = self._qualified()
        elif c == "S" and text[start + 1] != "t":
            result = self.substitution()
            if text[self.pos] != "I":
                self.depth -= 1
                return result
            result = self.with_arguments(flat(result), False)
        elif c == "T" and text[start + 1] not in "sue":
            result = self._parameter_type(start, seen)
            if text[self.pos - 1] != "E":  # it was pushed as a parameter
                self.depth -= 1
                return result
        elif c == "F":
            result = self._function("")
        elif c == "D":
            builtin = D_BUILTINS.get(text[start + 1])
            if builtin is not None:
                self.pos = start + 2
                self.depth -= 1
                return builtin
            result = self._d_type(text[start + 1])
            if text[start + 1] in "FBU":  # builtin types are no substitution candidates
                self.depth -= 1
                return result
        elif c == "M":
            result = self._member_pointer()
        elif c == "A":
            result = self._array()
        else:
            result = self._rare(c)
        self.depth -= 1
        self.push(result, seen, "type", start)
        return result

    def _reference(self, text: str) -> Type:
        t = self.type()
        left = t if isinstance(t, str) else t.left if t.kind == "P" else ""
        if left[-1:] == "&":  # & of && is &, and so is && of &
            if text == "&" and left[-2:] == "&&":
                return t[:-1] if isinstance(t, str) else t._replace(left=left[:-1])
            return t
        return t + text if isinstance(t, str) else t.modified(text)

    def qualifiers(self) -> str:
        """<CV-qualifiers>, as text"""
        m = _QUALIFIERS.match(self.text, self.pos)
        if m is None or m.end() == self.pos:
            return ""
        self.pos = m.end()
        return "".join([_QUALIFIER_TEXT[q] for q in reversed(m.group())])

    def _qualified(self) -> Type:
        text = self.qualifiers()
        if self.text[self.pos] == "F":
            return self._function(text)
        if self.text[self.pos] == "D" and self.text[self.pos + 1] in "oOwx":
            self.pos += 2
            return self._function_exceptions(self.text[self.pos - 1], text)
        t = self.type()
        if isinstance(t, str):
            return t if t.endswith(text) else t + text
        return t.modified(text)

    def _function(self, qualifiers: str) -> Type:
        """<function-type>"""
        self.pos += 1
        if self.text[self.pos] == "Y":  # extern "C"
            self.pos += 1
        result = self.type()
        parameters = self.parameters()
        if self.text[self.pos] in "RO":
            qualifiers += " &" if self.text[self.pos] == "R" else " &&"
            self.pos += 1
        self.expect("E")
        if isinstance(result, str):
            return Declarator("F", result + " ", parameters + qualifiers, "")
        return Declarator("F", result.left, parameters + qualifiers, result.right + result.tail)

    def parameters(self) -> str:
        """<bare-function-type> without its return type: ``(int, char*)``"""
        text = self.text
        if text[self.pos] == "v" and (text[self.pos + 1] in ENDS or text[self.pos + 1 : self.pos + 3] in ("RE", "OE")):
            self.pos += 1
            return "()"
        shown = []
        while True:
            c = text[self.pos]
            if c in ENDS or (c in "RO" and text[self.pos + 1] == "E"):
                break
            t = self.type()
            shown.append(t if isinstance(t, str) else flat(t))
        return "(" + self.joined(shown) + ")"

    def with_arguments(self, template: str, declares: bool) -> str:
        """``template`` and the <template-args> that stand here."""
        arguments = self.template_arguments(declares)
        return template + " " + arguments if template[-1:] == "<" else template + arguments

    def _parameter_type(self, start: int, seen: int) -> Type:
        """<template-param>, or <template-template-param> <template-args>"""
        result = self.template_parameter()
        self.push(result, seen, "parameter", start)
        if self.text[self.pos] != "I":
            return result
        if not self.conversion:
            return self.with_arguments(flat(result), False)
        # operator T_<args>: the arguments are the operator's, unless more arguments follow them.
        position, known = self.pos, len(self.subs)
        whole = self.with_arguments(flat(result), False)
        if self.text[self.pos] == "I":
            return whole
        self.pos = position
        del self.subs[known:]
        return result

    def _member_pointer(self) -> Type:
        """M <class> <member>"""
        self.pos += 1
        text = " " + flat(self.type()) + "::*"
        member = self.type()
        return member + text if isinstance(member, str) else member.modified(text)

    def _array(self) -> Type:
        """A [<number> | <expression>] _ <element type>"""
        self.pos += 1
        c = self.text[self.pos]
        size = ""
        if c in "0123456789":
            size = str(self.number())
        elif c != "_":
            size = self.expression()[0]
        self.expect("_")
        element = self.type()
        bound = " [" + size + "]"
        if isinstance(element, str):
            return Declarator("A", element, bound, "")
        right = element.right[1:] if element.kind == "A" else element.right
        return Declarator("A", element.left, bound + right, element.tail)

    def _d_type(self, c: str) -> Type:
        """Types that begin with D and aren't one builtin letter."""
        text = self.text
        if c == "p":
            return self.joined([flat(t) for t in self.pack_expansion()])
        self.pos += 2
        if c in "tT":
            shown = self.expression()[0]
            self.expect("E")
            return "decltype (" + shown + ")"
        if c == "v":
            if text[self.pos] == "_":
                self.pos += 1
                size = self.expression()[0]
            else:
                size = str(self.number())
            self.expect("_")
            element = self.type()
            vector = " __vector(" + size + ")"
            return element + vector if isinstance(element, str) else element.modified(vector)
        if c == "F":
            m = _FLOAT.match(text, self.pos)
            if m is None:
                raise Failure
            self.pos = m.end()
            return "std::bfloat16_t" if m.group(2) == "b" else "_Float" + m.group(1) + m.group(2).replace("_", "")
        if c in "BU":
            size = str(self.number()) if text[self.pos] in "0123456789" else self.expression()[0]
            self.expect("_")
            return ("unsigned " if c == "U" else "") + "_BitInt(" + size + ")"
        if c in "oOwx":
            return self._function_exceptions(c, "")
        raise Failure

    def _function_exceptions(self, c: str, qualifiers: str) -> Type:
        """<exception-spec> and transaction-safe functions: D[oOwx] ... <function-type>"""
        if c == "o":
            text = " noexcept"
        elif c == "x":
            text = " transaction_safe"
        elif c == "O":
            text = " noexcept(" + self.expression()[0] + ")"
            self.expect("E")
        else:
            text = " throw" + self.parameters()
            self.expect("E")
        if self.text[self.pos] != "F":
            raise Failure
        return self._function(text + qualifiers)

    def _rare(self, c: str) -> Type:
        """The remaining types: class names at any scope, complex numbers, vendor's types and qualifiers."""
        following = self.text[self.pos + 1]
        if c == "S" or (c == "U" and following in "lt"):
            return self.name(False)
        self.pos += 1
        if c == "T":  # an elaborated type: Ts struct, Tu union, Te enum
            self.pos += 1
            return self.name(False)
        if c == "C" or c == "G":
            return flat(self.type()) + (" _Complex" if c == "C" else " _Imaginary")
        if c == "u":
            name = self.source_name()
            return self.with_arguments(name, False) if self.text[self.pos] == "I" else name
        if c == "U":
            qualifier = " " + self.source_name()
            if self.text[self.pos] == "I":
                qualifier = self.with_arguments(qualifier, False)
            t = self.type()
            return t + qualifier if isinstance(t, str) else t.modified(qualifier)
        raise Failure
