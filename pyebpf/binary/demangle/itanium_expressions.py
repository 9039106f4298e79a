# SPDX-License-Identifier: BSD-2-Clause
"""The <expression> productions of the Itanium C++ ABI's mangling grammar: decltype, array bounds, template arguments.

An expression is its text and whether it is simple: one that isn't gets parentheses when it becomes an operand.
"""

from __future__ import annotations

from .itanium_state import Argument, Failure, flat
from .itanium_types import Types
from .operators import LITERAL_SUFFIXES, OPERATORS

_DIGITS = "0123456789"
_NAMED_CASTS = ("cc", "dc", "rc", "sc")


class Expressions(Types):
    """Parses <expression>, <expr-primary> and <unresolved-name>."""

    __slots__ = ()

    # Added by the subclass.

    def unqualified_name(self) -> str:
        raise NotImplementedError

    def encoding_parts(self) -> tuple[str, str, str]:
        raise NotImplementedError

    def template_argument(self, values: list[Argument]) -> str:
        raise NotImplementedError

    def expression(self) -> tuple[str, bool]:
        """<expression>"""
        text = self.text
        start = self.pos
        c = text[start]
        code = text[start : start + 2]
        self._enter()
        if c == "L":
            shown = self.literal()
            result = shown, text[start + 1] in "_Z" and shown[-1] not in ")>"
        elif c == "T":
            result = flat(self.template_parameter()), False
        elif c in _DIGITS or code == "on":
            result = self._plain_name()
        elif code == "sr":
            result = self._scoped_name()
        elif code == "fp" or (code == "fL" and text[start + 2] in _DIGITS):
            result = self._function_parameter(), True
        elif code in ("il", "tl"):
            self.pos += 2
            typename = flat(self.type()) if c == "t" else ""
            result = typename + "{" + self._list("E") + "}", True
        elif code == "sp":
            self.pos += 2
            result = self._expansion(), False
        elif code == "cv":
            result = self._cast(), False
        elif code == "dn":
            self.pos += 2
            result = "~" + (self._plain_name()[0] if text[self.pos] in _DIGITS else flat(self.type())), True
        else:
            result = self._operation(code), False
        self.depth -= 1
        return self.charge(result[0]), result[1]

    def _operand(self) -> str:
        shown, simple = self.expression()
        return shown if simple else "(" + shown + ")"

    def _list(self, end: str) -> str:
        """Expressions up to ``end``, which is consumed: ``a, b``"""
        shown = []
        while self.text[self.pos] != end:
            shown.append(self.expression()[0])
        self.pos += 1
        return self.joined(shown)

    def literal(self) -> str:
        """<expr-primary>: L <type> <value> E, or L <mangled name> E"""
        text = self.text
        self.pos += 1
        if text[self.pos] in "_Z":
            return "".join(self._literal_name())
        code = text[self.pos]
        typename = flat(self.type())
        end = text.find("E", self.pos)
        if end < 0:
            raise Failure
        value = text[self.pos : end]
        self.pos = end + 1
        if not value:
            return typename
        if value[0] == "n":
            value = "-" + value[1:]
        if code in LITERAL_SUFFIXES:
            return value + LITERAL_SUFFIXES[code]
        if code == "b" and value in ("0", "1"):
            return "true" if value == "1" else "false"
        if code in "fdeg":
            value = "[" + value + "]"
        return "(" + typename + ")" + value

    def _literal_name(self) -> tuple[str, str, str]:
        """[_] Z <encoding> E, after L"""
        if self.text[self.pos] == "_":
            self.pos += 1
        self.expect("Z")
        outer = self.arguments
        parts = self.encoding_parts()
        self.arguments = outer
        self.expect("E")
        return parts

    def _plain_name(self) -> tuple[str, bool]:
        """<source-name> or ``on`` <operator-name>, perhaps with template arguments"""
        operator = self.text[self.pos] == "o"
        if operator:
            self.pos += 2
        name = self.unqualified_name()
        if self.text[self.pos] == "I":
            return self.with_arguments(name, False), False
        return name, not operator

    def _scoped_name(self) -> tuple[str, bool]:
        """sr <type> <name> | sr <name>+ E <name>; old compilers leave out the E"""
        self.pos += 2
        if self.text[self.pos] not in _DIGITS:
            return flat(self.type()) + "::" + self._level(), True
        shown, simple = self._plain_name()
        while self.text[self.pos] in _DIGITS:
            name, simple = self._plain_name()
            shown += "::" + name
        following = self.text[self.pos + 1 : self.pos + 3]
        if self.text[self.pos] == "E" and (following[0] in _DIGITS or following in ("on", "dn")):
            self.pos += 1
            name = self._level()
            return shown + "::" + name, name[-1] != ">"
        return shown, simple

    def _level(self) -> str:
        code = self.text[self.pos : self.pos + 2]
        if code == "dn":
            return self.expression()[0]
        if code != "on" and code[0] not in _DIGITS:
            raise Failure
        return self._plain_name()[0]

    def _function_parameter(self) -> str:
        """fp [<qualifiers>] [<number>] _, fL <level> p ..., fpT"""
        self.pos += 2
        if self.text[self.pos] == "T":
            self.pos += 1
            return "this"
        if self.text[self.pos - 1] == "L":
            self.number()
            self.expect("p")
        self.qualifiers()
        return "{parm#" + str(self.compact_number() + 1) + "}"

    def _expansion(self) -> str:
        """sp <expression>: the pattern for each element of the pack in it"""
        outer = self.pack, self.pack_index
        self.pack, self.pack_index = None, 0
        start = self.pos
        first, simple = self.expression()
        pack = self.pack
        if pack is None:
            shown = [first + "..." if simple else "(" + first + ")..."]
        elif not pack:
            shown = []
        else:
            shown = [first]
            after, known = self.pos, len(self.subs)
            for self.pack_index in range(1, len(pack)):
                self.pos = start
                shown.append(self.expression()[0])
                del self.subs[known:]
            self.pos = after
        self.pack, self.pack_index = outer
        return ", ".join(shown)

    def _cast(self) -> str:
        """cv <type> <expression>, cv <type> _ <expression>* E"""
        self.pos += 2
        typename = flat(self.type())
        if self.text[self.pos] == "_":
            self.pos += 1
            return "(" + typename + ")(" + self._list("E") + ")"
        return "(" + typename + ")" + self._operand()

    def _operation(self, code: str) -> str:
        found = OPERATORS.get(code)
        if found is None:
            raise Failure
        operator, operands = found
        self.pos += 2
        if operands == 0:
            return operator
        if operands == 1:
            return self._unary(code, operator)
        if code in _NAMED_CASTS:
            typename = flat(self.type())
            return operator + "<" + typename + ">(" + self.expression()[0] + ")"
        if code[0] == "f":
            return self._fold(code)
        if code in ("di", "dx", "dX"):
            return self._designated(code)
        if code == "cl":
            return self._call()
        if code in ("dt", "pt"):
            return self._operand() + operator + self._member()
        if code == "ix":
            return self._operand() + "[" + self.expression()[0] + "]"
        if code == "qu":
            return self._operand() + "?" + self._operand() + " : " + self._operand()
        if operands == 3:
            return self._new()
        shown = self._operand() + operator + self._operand()
        return "(" + shown + ")" if operator == ">" else shown

    def _unary(self, code: str, operator: str) -> str:
        text = self.text
        if code in ("st", "at", "ti"):
            return operator + "(" + flat(self.type()) + ")"
        if code in ("nx", "te"):
            return operator + "(" + self.expression()[0] + ")"
        if code == "gs":
            return operator + self.expression()[0]
        if code == "sP":
            values: list[Argument] = []
            while text[self.pos] != "E":
                self.template_argument(values)
            self.pos += 1
            return str(len(values))
        if code == "sZ":
            outer, self.pack = self.pack, None
            shown = self._operand()
            pack, self.pack = self.pack, outer
            return "sizeof..." + shown if pack is None else str(len(pack))
        if code == "ad" and text[self.pos] == "L" and text[self.pos + 1] in "_Z":
            return self._address()
        if code in ("pp", "mm"):
            if text[self.pos] != "_":
                return self._operand() + operator
            self.pos += 1
        return operator + self._operand()

    def _address(self) -> str:
        """& of a function or an object: of a plain name without parameters and parentheses"""
        self.pos += 1
        before, name, after = self._literal_name()
        if name[-1] != ">" and (not after or ("::" in name and after[-1] == ")")):
            return "&" + name
        return "&(" + before + name + after + ")"

    def _call(self) -> str:
        """cl <function> <argument>* E; a function given by its full encoding shows no parameter types"""
        text = self.text
        if text[self.pos] == "L" and text[self.pos + 1] in "_Z":
            self.pos += 1
            function = self._literal_name()[1]
        else:
            function = self._operand()
        return function + "(" + self._list("E") + ")"

    def _member(self) -> str:
        if self.text[self.pos : self.pos + 2] in ("gs", "sr"):
            return self._operand()
        name, simple = self._plain_name()
        return name if simple else "(" + name + ")"

    def _fold(self, code: str) -> str:
        found = OPERATORS.get(self.text[self.pos : self.pos + 2])
        if found is None:
            raise Failure
        self.pos += 2
        outer, self.pack_index = self.pack_index, -1
        first = self._operand()
        if code == "fl":
            shown = "(..." + found[0] + first + ")"
        elif code == "fr":
            shown = "(" + first + found[0] + "...)"
        else:
            shown = "(" + first + found[0] + "..." + found[0] + self._operand() + ")"
        self.pack_index = outer
        return shown

    def _designated(self, code: str) -> str:
        """di <field> <value>, dx <index> <value>, dX <first> <last> <value>, the value perhaps designated again"""
        if code == "di":
            shown = "." + self.unqualified_name()
        elif code == "dx":
            shown = "[" + self.expression()[0] + "]"
        else:
            first = self.expression()[0]
            shown = "[" + first + " ... " + self.expression()[0] + "]"
        again = self.text[self.pos : self.pos + 2] in ("di", "dx", "dX")
        return shown + self.expression()[0] if again else shown + "=" + self._operand()

    def _new(self) -> str:
        """nw|na <placement>* _ <type> (E | pi <argument>* E | il ...)"""
        placement = self._list("_")
        shown = "new " + ("(" + placement + ") " if placement else "") + flat(self.type())
        following = self.text[self.pos : self.pos + 2]
        if following == "pi":
            self.pos += 2
            return shown + "(" + self._list("E") + ")"
        if following == "il":
            return shown + self.expression()[0]
        self.expect("E")
        return shown
