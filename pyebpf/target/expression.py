# SPDX-License-Identifier: BSD-2-Clause
"""What a user writes to ask for values, and to choose calls.

Values, each with `label=` in front if it is to be called so:

    args.A   p->x   req.URL.Path     parameters and results by name, fields; pointers are followed
    items[0].ID   *p                 elements, what a pointer points to
    len(x)   cap(x)                  of strings, slices, vectors, maps, channels
    ret(reply.C)                     as it is when the function returns, as all of --ret is
    arg0   sarg0   ret0   retval     words by position: argument register, stack slot, result register
    arg0:gostr   buf:bytes(16)       the same, read as a type
    reg("r14")   *(u64)(arg2+8)      a register, memory
    latency pid tid goid uid cpu comm

Where a function has a parameter called like one of the words above, it is meant; `$pid` is always the other.

Conditions join comparisons (`== != < <= > >=`) and `startswith(text, "x")` by `&& || !` (or `and or not`) and
parentheses. What a value is compared with is a number (`-1`, `0x1f`, `'c'`, `10ms`), a text, true, false, nil, or the
name of one of its enum's values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn, Union

from ..errors import TargetError

MAX_LENGTH = 1000  # of an expression, in characters
MAX_DEPTH = 16  # of paths, parentheses and negations, one in another
MAX_COMPARISONS = 32
MAX_TEXT = 63  # bytes of a text in a condition
_MAX_INDEX = 1 << 24

FIELDS = ("latency", "pid", "tid", "goid", "uid", "cpu", "comm")

# Compiled where there is an expression: together they take a millisecond.
_TOKEN = r"""(?x)\s*(?:
    (?P<number>0[xX][0-9a-fA-F]+\b|[0-9]+(?:(?:\.[0-9]+)?(?:ns|us|µs|μs|ms|s)\b)?)
    |(?P<name>[$~]?[^\W\d]\w*(?:::~?[^\W\d]\w*)*)
    |(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<char>'(?:[^'\\]|\\.)+')
    |(?P<sign>->|==|!=|<=|>=|&&|\|\||[][().*:!<>,+\-&])
    )"""
_LABEL = r"\s*([^\W\d][\w.\-]*)\s*=(?!=)"
_WORD = r"(arg|sarg|ret)([0-9]{1,3})\Z"
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"', "'": "'"}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_NOTHING = ("nil", "null", "NULL", "nullptr")


class Name(NamedTuple):
    """A parameter, a result, or one of FIELDS; "retval"."""

    name: str


class Word(NamedTuple):
    """A word by position. `bank`: "arg", "sarg" or "ret"."""

    bank: str
    number: int


class Register(NamedTuple):
    name: str


class Field(NamedTuple):
    """One of FIELDS."""

    name: str


class Returned(NamedTuple):
    """`retval`: all that the function returns."""


class Member(NamedTuple):
    base: Value
    name: str


class Index(NamedTuple):
    base: Value
    number: int


class Deref(NamedTuple):
    base: Value


class Length(NamedTuple):
    """`len(base)`, or `cap(base)`."""

    base: Value
    capacity: bool


class AtReturn(NamedTuple):
    """`ret(base)`: as it is when the function returns."""

    base: Value


class TypeName(NamedTuple):
    """A type as the user wrote it: its name, the number and the type in its parentheses."""

    name: str
    number: int = 0
    element: str = ""


class Cast(NamedTuple):
    base: Value
    type: TypeName


class Memory(NamedTuple):
    """What lies `offset` bytes from the address in `base`."""

    base: Value
    offset: int
    type: TypeName


class Literal(NamedTuple):
    """`value`: int, str, bool, or None for nil."""

    value: int | str | bool | None


class Compare(NamedTuple):
    operator: str
    left: Value
    right: Value


class Prefix(NamedTuple):
    value: Value
    text: str


class Truth(NamedTuple):
    """A value that is true if it isn't zero."""

    value: Value


class Not(NamedTuple):
    part: Condition


class And(NamedTuple):
    parts: tuple[Condition, ...]


class Or(NamedTuple):
    parts: tuple[Condition, ...]


Value = Union[Name, Word, Register, Field, Returned, Member, Index, Deref, Length, AtReturn, Cast, Memory, Literal]
Condition = Union[Compare, Prefix, Truth, Not, And, Or]
_CONDITIONS = (Compare, Prefix, Truth, Not, And, Or)


class Labelled(NamedTuple):
    label: str
    value: Value


def parse_value(text: str) -> Labelled:
    """Parses a value.

    Raises:
        TargetError: it is malformed, too long or too deep.
    """
    match = re.match(_LABEL, text)
    label, rest = (match[1], text[match.end() :]) if match else (text.strip(), text)
    parser = _Parser(rest)
    value = parser.whole(lambda: parser.condition(0))
    if isinstance(value, _CONDITIONS):
        raise TargetError(f"{text.strip()!r} is a condition, not a value", hint="conditions go into the filter")
    if isinstance(value, Literal):
        raise TargetError(f"{text.strip()!r} is a constant, not a value of the traced program")
    return Labelled(label, value)


def parse_condition(text: str) -> Condition:
    """Parses a condition.

    Raises:
        TargetError: it is malformed, too long or too deep, or has too many comparisons.
    """
    parser = _Parser(text)
    return as_condition(parser.whole(lambda: parser.condition(0)), text)


def as_condition(part: Value | Condition, text: str) -> Condition:
    if isinstance(part, _CONDITIONS):
        return part
    if isinstance(part, Literal):
        raise TargetError(f"a constant stands alone in {text.strip()!r}", hint="compare it with a value: pid == 1")
    return Truth(part)


class _Parser:
    """A recursive-descent parser of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > MAX_LENGTH:
            raise TargetError(f"an expression of {len(text)} characters; at most {MAX_LENGTH} are allowed")
        self._tokens: list[tuple[str, str]] = []
        token, position, end = re.compile(_TOKEN), 0, len(text.rstrip())
        while position < end:
            match = token.match(text, position)
            if match is None:
                rest = text[position:].strip()
                raise TargetError(f"{text.strip()!r}: {rest[:20]!r} is not understood here")
            assert match.lastgroup is not None
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self._tokens.append(("end", ""))
        self._at = 0
        self._comparisons = 0

    def whole(self, rule: Callable[[], Value | Condition]) -> Value | Condition:
        parsed = rule()
        if self._kind != "end":
            self._fail("the end")
        return parsed

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _token(self) -> str:
        return self._tokens[self._at][1]

    def _next(self) -> str:
        token = self._token
        self._at += self._kind != "end"
        return token

    def _sign(self, *signs: str) -> bool:
        """Takes the next token if it is one of these."""
        if self._kind == "sign" and self._token in signs:
            self._at += 1
            return True
        return False

    def _keyword(self, word: str) -> bool:
        if self._kind == "name" and self._token == word:
            self._at += 1
            return True
        return False

    def _expect(self, sign: str) -> None:
        if not self._sign(sign):
            self._fail(repr(sign))

    def _fail(self, expected: str) -> NoReturn:
        found = repr(self._token) if self._kind != "end" else "its end"
        raise TargetError(f"{self._text.strip()!r}: expected {expected}, found {found}")

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TargetError(f"{self._text.strip()[:60]!r} is nested too deeply: more than {MAX_DEPTH} levels")

    # Conditions, from the loosest operator to the tightest.

    def condition(self, depth: int) -> Value | Condition:
        self._check(depth)
        first = self._all(depth)
        parts = [first]
        while self._sign("||") or self._keyword("or"):
            parts.append(self._all(depth))
        return first if len(parts) == 1 else Or(tuple([as_condition(part, self._text) for part in parts]))

    def _all(self, depth: int) -> Value | Condition:
        first = self._not(depth)
        parts = [first]
        while self._sign("&&") or self._keyword("and"):
            parts.append(self._not(depth))
        return first if len(parts) == 1 else And(tuple([as_condition(part, self._text) for part in parts]))

    def _not(self, depth: int) -> Value | Condition:
        self._check(depth)
        if self._sign("!") or self._keyword("not"):
            return Not(as_condition(self._not(depth + 1), self._text))
        return self._comparison(depth)

    def _comparison(self, depth: int) -> Value | Condition:
        left = self._operand(depth)
        if self._kind != "sign" or self._token not in _COMPARISONS:
            return left
        operator = self._next()
        right = self._operand(depth)
        if isinstance(left, _CONDITIONS) or isinstance(right, _CONDITIONS):
            raise TargetError(f"{self._text.strip()!r}: {operator!r} compares values, not conditions")
        self._count()
        return Compare(operator, left, right)

    def _count(self) -> None:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise TargetError(f"more than {MAX_COMPARISONS} comparisons in a condition")

    # Values.

    def _operand(self, depth: int) -> Value | Condition:
        self._check(depth)
        if self._sign("-"):
            if self._kind != "number":
                self._fail("a number")
            return Literal(-self._number(self._next()))
        if self._sign("*"):
            return self._indirection(depth)
        return self._postfix(depth)

    def _value(self, depth: int) -> Value:
        parsed = self._operand(depth)
        if isinstance(parsed, _CONDITIONS):
            raise TargetError(f"{self._text.strip()!r}: a condition stands where a value is expected")
        return parsed

    def _indirection(self, depth: int) -> Value:
        """What follows a `*`: a pointer, or ``(TYPE)ADDRESS``."""
        start = self._at
        if self._sign("(") and self._kind == "name":
            name = self._type()
            if self._sign(")") and (self._kind == "name" or (self._kind == "sign" and self._token in ("(", "*"))):
                base, offset = self._address(depth + 1)
                return Memory(base, offset, name)
        self._at = start
        return Deref(self._value(depth + 1))

    def _address(self, depth: int) -> tuple[Value, int]:
        if not self._sign("("):
            return self._value(depth), 0
        base, offset = self._value(depth), 0
        while self._kind == "sign" and self._token in ("+", "-"):
            sign = 1 if self._next() == "+" else -1
            if self._kind != "number":
                self._fail("a number of bytes")
            offset += sign * self._number(self._next())
        self._expect(")")
        if abs(offset) >= 1 << 31:
            raise TargetError(f"{self._text.strip()!r}: an offset of 2 GiB or more")
        return base, offset

    def _postfix(self, depth: int) -> Value | Condition:
        parsed = self._primary(depth)
        while self._kind == "sign" and self._token in (".", "->", "[", ":"):
            if isinstance(parsed, (Literal, *_CONDITIONS)):
                self._fail("an operator")
            depth += 1
            self._check(depth)
            if self._sign(".", "->"):
                if self._kind not in ("name", "number"):
                    self._fail("a field's name")
                parsed = Member(parsed, self._next())
            elif self._sign("["):
                parsed = Index(parsed, self._index())
                self._expect("]")
            else:
                self._at += 1
                parsed = Cast(parsed, self._type())
        return parsed

    def _index(self) -> int:
        if self._kind != "number":
            self._fail("a number: only constants can be indices")
        index = self._number(self._next())
        if index > _MAX_INDEX:
            raise TargetError(f"{self._text.strip()!r}: the index {index} is too large")
        return index

    def _primary(self, depth: int) -> Value | Condition:
        kind, token = self._tokens[self._at]
        if self._sign("("):
            inside = self.condition(depth + 1)
            self._expect(")")
            return inside
        if kind not in ("number", "text", "char", "name"):
            self._fail("a value")
        self._at += 1
        if kind == "number":
            return Literal(self._number(token))
        if kind == "text":
            return Literal(self._string(token))
        if kind == "char":
            return Literal(self._character(token))
        if self._kind == "sign" and self._token == "(":
            return self._call(token, depth)
        if token in ("true", "false"):
            return Literal(token == "true")
        if token in _NOTHING:
            return Literal(None)
        if token.startswith("$"):
            special = as_special(token[1:])
            if special is None:
                names = ", $".join((*FIELDS, "arg0", "ret0", "retval"))
                raise TargetError(f"{token!r} is unknown", hint=f"there are ${names}")
            return special
        return Name(token)

    def _call(self, function: str, depth: int) -> Value | Condition:
        self._check(depth + 1)
        self._expect("(")
        result: Value | Condition
        if function in ("len", "cap"):
            result = Length(self._value(depth + 1), function == "cap")
        elif function == "ret":
            result = AtReturn(self._value(depth + 1))
        elif function == "startswith":
            value = self._value(depth + 1)
            self._expect(",")
            if self._kind != "text":
                self._fail('a text in "quotes"')
            result = Prefix(value, self._string(self._next()))
            self._count()
        elif function in ("reg", "$reg"):
            if self._kind not in ("text", "name"):
                self._fail("a register's name")
            result = Register(self._next().strip('"'))
        else:
            raise TargetError(
                f"{self._text.strip()!r}: there is no function {function!r}",
                hint='there are len(x), cap(x), startswith(x, "text") and reg("name")',
            )
        self._expect(")")
        return result

    def _type(self) -> TypeName:
        if self._kind != "name":
            self._fail("a type")
        name = self._next()
        if not self._sign("("):
            return TypeName(name)
        if self._kind == "number":
            parsed = TypeName(name, self._number(self._next()))
        elif self._kind == "name":
            parsed = TypeName(name, 0, self._next())
        else:
            self._fail("a number or a type")
        self._expect(")")
        return parsed

    # Constants.

    def _number(self, token: str) -> int:
        """An integer; a duration in nanoseconds."""
        if len(token) > 24:
            raise TargetError(f"the number {token[:24]}… is too large")
        if token[:2] in ("0x", "0X"):
            number = int(token, 16)
        elif token.isdigit():
            number = int(token)
        else:
            digits = token.rstrip("nuµμms")
            whole, _, fraction = digits.partition(".")
            unit = _UNITS[token[len(digits) :]]
            number = int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        if number >= 1 << 64:
            raise TargetError(f"the number {token} has more than 64 bits")
        return number

    def _string(self, token: str) -> str:
        text = self._unescaped(token)
        if len(text.encode("utf-8", "surrogateescape")) > MAX_TEXT:
            raise TargetError(f"a text of more than {MAX_TEXT} bytes in a condition: {text[:20]!r}…")
        if "\0" in text:
            raise TargetError("a text with a NUL in a condition")
        return text

    def _character(self, token: str) -> int:
        character = self._unescaped(token)
        if len(character) != 1:
            raise TargetError(f"{token} is not one character", hint='a text is written in "quotes"')
        return ord(character)

    def _unescaped(self, token: str) -> str:
        def replace(match: re.Match[str]) -> str:
            if match[1]:
                byte = int(match[1], 16)
                return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
            if match[2] not in _ESCAPES:
                raise TargetError(f"the escape \\{match[2]} is unknown in {token}")
            return _ESCAPES[match[2]]

        return re.sub(r"\\(?:x([0-9a-fA-F]{2})|(.))", replace, token[1:-1])


def as_special(name: str) -> Word | Field | Returned | None:
    """What a name means where no parameter or result is called so."""
    if name in FIELDS:
        return Field(name)
    if name == "retval":
        return Returned()
    match = re.match(_WORD, name)
    return Word(match[1], int(match[2])) if match else None
