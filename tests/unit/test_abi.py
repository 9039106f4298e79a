# SPDX-License-Identifier: BSD-2-Clause
"""The calling conventions of C, C++ and Rust, by types alone."""

from __future__ import annotations

import pytest

from pyebpf.binary import types
from pyebpf.binary.abi import Assignment, aapcs64, rust, systemv
from pyebpf.binary.signatures import describe
from pyebpf.binary.types import Member, Text, Type, Variant

INT = Type(types.INT, "int", 4, align=4)
LONG = Type(types.INT, "long", 8, align=8)
CHAR = Type(types.CHAR, "char", 1, align=1)
WIDE = Type(types.INT, "__int128", 16, align=16)
POINTER = Type(types.POINTER, "char *", 8, align=8)
FLOAT = Type(types.FLOAT, "float", 4, align=4)
DOUBLE = Type(types.FLOAT, "double", 8, align=8)
EXTENDED = Type(types.FLOAT, "long double", 16, align=16)
COMPLEX = Type(types.COMPLEX, "complex float", 8, align=4)
EMPTY = Type(types.STRUCT, "Empty", 1)
STRING = Type(types.STD_STRING, "std::string", 32, align=8, text=Text(0, 8))
VIEW = Type(types.STD_STRING, "std::string_view", 16, align=8, text=Text(8, 0))
VECTOR = Type(types.ARRAY, "__m128", 16, align=16, target=FLOAT, count=4)
STR = Type(types.STRING, "&str", 16, align=8, text=Text(0, 8))
VEC = Type(types.RUST_VEC, "Vec<u8>", 24, align=8, text=Text(8, 16))
UNKNOWN = Type(types.UNKNOWN, "damaged", 0)
UNIT = Type(types.STRUCT, "()", 0)


def array(element: Type, count: int) -> Type:
    return Type(types.ARRAY, "array", element.size * count, align=element.align, target=element, count=count)


def struct(*fields: Type, by_reference: bool = False) -> Type:
    at, align, members = 0, 1, []
    for index, field in enumerate(fields):
        at = -(-at // field.align) * field.align
        members.append(Member(f"f{index}", at, field))
        at, align = at + field.size, max(align, field.align)
    size = -(-at // align) * align
    return Type(types.STRUCT, "S", size, align=align, members=members, by_reference=by_reference)


def union(*fields: Type) -> Type:
    members = [Member(f"f{index}", 0, field) for index, field in enumerate(fields)]
    return Type(types.UNION, "U", max(f.size for f in fields), align=max(f.align for f in fields), members=members)


def option(payload: Type, *, tag: Type | None) -> Type:
    """Option<payload>: with a tag in front, or (None) in the payload's first word."""
    some = struct(payload) if tag is None else struct(tag, payload)
    if tag is not None:
        some = Type(types.STRUCT, "Some", some.size, align=some.align, members=some.members[1:])
    discriminant = Member("", 0, tag or LONG)
    variants = (
        Variant(0, Member("None", 0, Type(types.STRUCT, "None", some.size, align=some.align))),
        Variant(None, Member("Some", 0, some)),
    )
    return Type(types.VARIANT, "Option", some.size, align=some.align, members=[discriminant], variants=variants)


def text(found: Assignment) -> str:
    parameters = ", ".join(describe(place) if place else "?" for place in found.parameters)
    return f"{parameters} -> {describe(found.result) if found.result else '?'}"


PACKED = Type(types.STRUCT, "Packed", 9, members=[Member("a", 0, CHAR), Member("b", 1, LONG)])
BITS = Type(types.STRUCT, "Bits", 8, align=8, members=[Member("a", 0, LONG, 0, 3), Member("b", 0, LONG, 3, 40)])


@pytest.mark.parametrize(
    ("parameters", "result", "expected"),
    [
        ([INT] * 8, INT, "di, si, dx, cx, r8, r9, [sp+8], [sp+16] -> ax"),
        ([DOUBLE, INT, FLOAT, EXTENDED, INT], DOUBLE, "xmm0, di, xmm1, [sp+8], si -> xmm0"),
        ([struct(INT, CHAR), struct(LONG, LONG), struct(LONG, LONG, LONG)], struct(LONG, LONG),
         "di, si dx, [sp+8] -> ax dx"),
        ([struct(LONG, DOUBLE), struct(FLOAT, FLOAT, FLOAT), struct(INT, FLOAT)], struct(LONG, DOUBLE),
         "di xmm0, xmm1 xmm2, si -> ax xmm0"),
        # A result in memory takes the first register, and comes back.
        ([INT], struct(LONG, LONG, LONG), "si -> *ax"),
        ([struct(INT, by_reference=True), STRING, VIEW], STRING, "*si, *dx, cx r8 -> *ax"),
        ([LONG] * 5 + [struct(LONG, LONG), LONG], WIDE, "di, si, dx, cx, r8, [sp+8], r9 -> ax dx"),
        ([PACKED, BITS, union(INT, DOUBLE), union(FLOAT, DOUBLE)], BITS, "[sp+8], di, si, xmm0 -> ax"),
        ([EMPTY, INT, array(FLOAT, 4), COMPLEX], EXTENDED, "optimised away, di, xmm0, xmm1 -> st0"),
        ([struct(array(CHAR, 12)), struct(array(FLOAT, 2)), VECTOR], VECTOR, "di si, xmm0, xmm1 -> xmm0"),
        # What could be either is nowhere, and so is all that follows.
        ([struct(VECTOR), INT], INT, "?, ? -> ax"),
        ([INT, UNKNOWN, INT], INT, "di, ?, ? -> ax"),
        ([INT], UNKNOWN, "? -> ?"),
        ([LONG] * 5 + [WIDE, LONG], None, "di, si, dx, cx, r8, ?, ? -> ?"),
        ([INT, EXTENDED, WIDE], None, "di, [sp+8], si dx -> ?"),
        ([LONG] * 6 + [INT, WIDE], None, "di, si, dx, cx, r8, r9, [sp+8], [sp+24] -> ?"),
    ],
)  # fmt: skip
def test_system_v(parameters: list[Type], result: Type | None, expected: str) -> None:
    assert text(systemv.assign(parameters, result)) == expected


@pytest.mark.parametrize(
    ("parameters", "result", "expected"),
    [
        ([INT] * 9, INT, "x0, x1, x2, x3, x4, x5, x6, x7, [sp] -> x0"),
        ([DOUBLE, INT, EXTENDED, COMPLEX], COMPLEX, "v0, x0, v1, v2 v3 -> v0 v1"),
        ([struct(LONG, LONG), struct(LONG, LONG, LONG)], struct(INT, CHAR), "x0 x1, *x2 -> x0"),
        ([struct(FLOAT, FLOAT, FLOAT), struct(DOUBLE, array(DOUBLE, 3)), struct(INT, FLOAT)],
         struct(FLOAT, FLOAT), "v0 v1 v2, v3 v4 v5 v6, x0 -> v0 v1"),
        # No register is left over once something didn't fit.
        ([struct(*[DOUBLE] * 4), struct(*[DOUBLE] * 3), struct(DOUBLE, DOUBLE), FLOAT], None,
         "v0 v1 v2 v3, v4 v5 v6, [sp], [sp+16] -> ?"),
        ([LONG] * 7 + [struct(LONG, LONG), INT], None, "x0, x1, x2, x3, x4, x5, x6, [sp], [sp+16] -> ?"),
        ([INT, WIDE, INT], WIDE, "x0, x2 x3, x4 -> x0 x1"),
        # What is returned in memory is at an address that was in x8.
        ([STRING, INT], STRING, "*x0, x1 -> optimised away"),
        ([EMPTY, INT], None, "x0, x1 -> ?"),
        ([UNKNOWN, INT], INT, "?, ? -> x0"),
    ],
)  # fmt: skip
def test_aapcs64(parameters: list[Type], result: Type | None, expected: str) -> None:
    assert text(aapcs64.assign(parameters, result)) == expected


@pytest.mark.parametrize(
    ("parameters", "result", "expected"),
    [
        ([LONG, STR, STR, STR, LONG], STR, "di, si dx, cx r8, r9 [sp+8], [sp+16] -> ax dx"),
        ([struct(INT, LONG), struct(CHAR, CHAR, CHAR), struct(LONG)], struct(INT, LONG), "di si, dx, cx -> ax dx"),
        ([struct(LONG, LONG, LONG), struct(LONG, DOUBLE)], VEC, "*si, dx xmm0 -> *ax"),
        ([struct(INT, INT, LONG), array(CHAR, 4), array(LONG, 2)], array(LONG, 2), "*si, dx, *cx -> *ax"),
        ([option(LONG, tag=LONG), option(INT, tag=INT), option(STR, tag=None)], option(LONG, tag=LONG),
         "di si, dx cx, r8 r9 -> ax dx"),
        ([option(VEC, tag=None), UNIT, LONG], UNIT, "*di, optimised away, si -> ?"),
        ([FLOAT, DOUBLE, WIDE], WIDE, "xmm0, xmm1, di si -> ax dx"),
        # #[repr(C)] or not? Only then is it an integer to the compiler.
        ([LONG, struct(DOUBLE), LONG], LONG, "di, ?, ? -> ax"),
    ],
)  # fmt: skip
def test_rust(parameters: list[Type], result: Type | None, expected: str) -> None:
    assert text(rust.assign("x86-64", parameters, result)) == expected


def test_rust_on_arm64() -> None:
    found = rust.assign("arm64", [STR, struct(LONG, LONG, LONG)], VEC)
    assert text(found) == "x0 x1, *x2 -> ?"


def test_types_without_end() -> None:
    loop = Type(types.STRUCT, "loop", 8, align=8, members=lambda: (Member("next", 0, loop),))
    deep = Type(types.STRUCT, "wide", 8, align=8, members=[Member("", 0, CHAR)] * 100_000)
    for type in (loop, deep):
        for found in (systemv.assign([type], type), aapcs64.assign([type], None), rust.assign("arm64", [type], type)):
            assert text(found).startswith(("? -> ", "x0 -> "))
