# SPDX-License-Identifier: BSD-2-Clause
"""The grammar of expressions."""

from __future__ import annotations

import random
import string

import pytest

from pyebpf.errors import TargetError
from pyebpf.target.expression import (
    And,
    AtReturn,
    Cast,
    Compare,
    Deref,
    Field,
    Index,
    Labelled,
    Length,
    Literal,
    Member,
    Memory,
    Name,
    Not,
    Or,
    Prefix,
    Register,
    Truth,
    TypeName,
    Value,
    Word,
    parse_condition,
    parse_value,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", Name("x")),
        ("~r0", Name("~r0")),
        ("args.A", Member(Name("args"), "A")),
        ("p->x.y", Member(Member(Name("p"), "x"), "y")),
        ("t.0.1", Member(Member(Name("t"), "0"), "1")),
        ("items[3].ID", Member(Index(Name("items"), 3), "ID")),
        ("*p", Deref(Name("p"))),
        ("*p.x", Deref(Member(Name("p"), "x"))),
        ("(*p).x", Member(Deref(Name("p")), "x")),
        ("**p", Deref(Deref(Name("p")))),
        ("*(p)", Deref(Name("p"))),
        ("len(a.b)", Length(Member(Name("a"), "b"), False)),
        ("cap(x)", Length(Name("x"), True)),
        ("arg0:gostr", Cast(Name("arg0"), TypeName("gostr"))),
        ("arg3 : bytes ( 16 )", Cast(Name("arg3"), TypeName("bytes", 16))),
        ("arg0:goslice(u64)", Cast(Name("arg0"), TypeName("goslice", 0, "u64"))),
        ('reg("r14"):x64', Cast(Register("r14"), TypeName("x64"))),
        ("reg(r14)", Register("r14")),
        ("$pid", Field("pid")),
        ("$arg12", Word("arg", 12)),
        ("*(u64)(arg2+8)", Memory(Name("arg2"), 8, TypeName("u64"))),
        ("*(u64)(arg2 + 0x10 - 4)", Memory(Name("arg2"), 12, TypeName("u64"))),
        ("*(u32)arg2", Memory(Name("arg2"), 0, TypeName("u32"))),
        ("*(u64)(*(u64)(arg0)+16)", Memory(Memory(Name("arg0"), 0, TypeName("u64")), 16, TypeName("u64"))),
        ("ns::x", Name("ns::x")),
        ("größe", Name("größe")),
    ],
)
def test_values(text: str, value: Value) -> None:
    assert parse_value(text) == Labelled(text, value)
    assert parse_value(f" my-label = {text} ") == Labelled("my-label", value)


A, B, C = (Compare("==", Name(name), Literal(1)) for name in "abc")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a == 1", A),
        ("a == 1 && b == 1 || c == 1", Or((And((A, B)), C))),
        ("a == 1 and (b == 1 or c == 1)", And((A, Or((B, C))))),
        ("!(a == 1)", Not(A)),
        ("not a == 1", Not(A)),
        ("!a", Not(Truth(Name("a")))),
        ("a", Truth(Name("a"))),
        ('startswith(x.y, "GET ")', Prefix(Member(Name("x"), "y"), "GET ")),
        ('x == "a\\n\\x41\\""', Compare("==", Name("x"), Literal('a\nA"'))),
        ("x >= -0x10", Compare(">=", Name("x"), Literal(-16))),
        ("x != 'a'", Compare("!=", Name("x"), Literal(97))),
        ("x != '\\n'", Compare("!=", Name("x"), Literal(10))),
        ("latency > 1.5ms", Compare(">", Name("latency"), Literal(1_500_000))),
        ("latency > 10us", Compare(">", Name("latency"), Literal(10_000))),
        ("latency > 2s", Compare(">", Name("latency"), Literal(2_000_000_000))),
        ("x == nil", Compare("==", Name("x"), Literal(None))),
        ("x == true", Compare("==", Name("x"), Literal(True))),
        ("c == Colour::RED", Compare("==", Name("c"), Name("Colour::RED"))),
    ],
)
def test_conditions(text: str, condition: object) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a value, found its end"),
        ("a.", "expected a field's name, found its end"),
        ("a[", "expected a number"),
        ("a[b]", "only constants can be indices"),
        ("a[1", r"expected '\]'"),
        ("a b", "expected the end, found 'b'"),
        ("a ? b", "is not understood"),
        ("(a", r"expected '\)'"),
        ("foo(a)", "no function 'foo'"),
        ("$nope", r"'\$nope' is unknown"),
        ("5", "is a constant"),
        ("a == 1", "is a condition, not a value"),
        ("a:", "expected a type"),
        ("*(u64)(arg0+x)", "a number of bytes"),
        ("x" * 1001, "1001 characters; at most 1000"),
        ("a" + ".b" * 17, "more than 16 levels"),
        ("*" * 17 + "a", "more than 16 levels"),
        ("(" * 17 + "a" + ")" * 17, "more than 16 levels"),
        ("a[99999999]", "too large"),
        ("*(u64)(a+4294967296)", "2 GiB"),
    ],
)
def test_bad_values(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_value(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "a constant stands alone"),
        ("a == 1 &&", "found its end"),
        ("a == (b == 1)", "compares values, not conditions"),
        (" || ".join(["a == 1"] * 33), "more than 32 comparisons"),
        ("!" * 17 + "a", "more than 16 levels"),
        (f'a == "{"x" * 64}"', "more than 63 bytes"),
        ("a == 'ab'", "not one character"),
        ("a == 99999999999999999999", "more than 64 bits"),
        ("a == 99999999999999999999999999", "too large"),
        ('a == "\\q"', "escape"),
        ('a == "\\0"', "NUL"),
        ("startswith(a, b)", "a text in"),
        ("a = 1", "not understood"),
    ],
)
def test_bad_conditions(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_condition(text)


def test_anything_is_parsed_or_refused() -> None:
    chance = random.Random(3)
    pieces = ["a", "arg0", ".", "->", "[", "]", "(", ")", "*", ":", "u64", "1", "0x", "10ms", '"x"', "'c'", "==", "&&",
              "!", "not", "len", "startswith", ",", "$", "-", " ", "\\", "\0", "é", *string.punctuation]  # fmt: skip
    for _ in range(5000):
        text = "".join(chance.choices(pieces, k=chance.randrange(1, 40)))
        for parse in (parse_value, parse_condition):
            try:
                parse(text)
            except TargetError:
                pass


def test_as_at_the_return() -> None:
    value = parse_value("ret(reply.C)").value
    assert value == AtReturn(Member(Name("reply"), "C")) and isinstance(value, AtReturn)
    assert parse_value("ret0").value == parse_value(" ret0 ").value
    with pytest.raises(TargetError, match="expected"):
        parse_value("ret(reply")
