# SPDX-License-Identifier: BSD-2-Clause
"""From an expression to a value: plans compiled for made-up signatures, carried out by a second machine."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import pytest
from plan_machine import Machine

from pyebpf.binary import signature as places
from pyebpf.binary import types
from pyebpf.binary.signature import Parameter, Piece, Place, Signature
from pyebpf.binary.types import Member, Text, Type, Variant
from pyebpf.core.object import open_bundled
from pyebpf.errors import TargetError
from pyebpf.output.values import text_of
from pyebpf.target.capture import Plan, PlanLayout, Question, compile
from pyebpf.tools.decoder import Decoder
from pyebpf.tools.interfaces import GoType


def _layout() -> PlanLayout:
    with open_bundled("trace") as obj:
        return PlanLayout.of(obj.btf)


LAYOUT = _layout()

INT = Type(types.INT, "int", 8)
INT32 = Type(types.INT, "int32", 4)
INT8 = Type(types.INT, "int8", 1)
UINT8 = Type(types.UINT, "uint8", 1)
UINT16 = Type(types.UINT, "uint16", 2)
UINT32 = Type(types.UINT, "uint32", 4)
BOOL = Type(types.BOOL, "bool", 1)
CHAR = Type(types.CHAR, "char", 1)
DOUBLE = Type(types.FLOAT, "float64", 8)
STRING = Type(types.STRING, "string", 16)
COLOUR = Type(types.ENUM, "Colour", 4, enumerators={0: "RED", 1: "GREEN", -1: "NONE"})
ERROR = Type(
    types.INTERFACE, "error", 16, members=(Member("tab", 0, INT), Member("data", 8, INT))
)  # fmt: skip
ANY = Type(types.INTERFACE, "interface {}", 16, members=(Member("_type", 0, INT), Member("data", 8, INT)))
HOLDER = Type(types.STRUCT, "holder", 16, members=(Member("Err", 0, ERROR),))
ARGS = Type(types.STRUCT, "main.Args", 16, members=(Member("A", 0, INT), Member("B", 8, INT)))
REPLY = Type(types.STRUCT, "main.Reply", 8, members=(Member("C", 0, INT),))
INNER = Type(types.STRUCT, "Inner", 24, members=(Member("Name", 0, STRING), Member("N", 16, UINT16)))
OUTER = Type(
    types.STRUCT, "Outer", 56,
    members=(
        Member("Inner", 0, INNER, embedded=True), Member("Next", 24, Type(types.POINTER, "*Inner", 8, target=INNER)),
        Member("Flag", 32, BOOL), Member("Small", 33, INT8), Member("Ratio", 40, DOUBLE), Member("Colour", 48, COLOUR),
    ),
)  # fmt: skip


def pointer(target: Type) -> Type:
    return Type(types.POINTER, "*" + target.name, 8, target=target)


def go_slice(target: Type) -> Type:
    return Type(types.SLICE, "[]" + target.name, 24, target=target)


def register(name: str, size: int = 8, at: int = 0) -> Piece:
    return Piece(places.REGISTER, size, at, name)


def at(*pieces: Piece, indirect: bool = False) -> Place:
    return Place(pieces, indirect)


def function(*parameters: Parameter, results: tuple[Parameter, ...] = (), **changes: object) -> Signature:
    words = ("ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11")
    made = Signature(parameters, results, words, words, 8, 0, "prog", "")
    return made._replace(**changes)  # type: ignore[arg-type]


def plan_of(signature: Signature, *values: str, **changes: object) -> Plan:
    return compile(Question(values=values, **changes), [signature], LAYOUT)  # type: ignore[arg-type]


def decoded(plan: Plan, machine: Machine, names: Mapping[int, str] | None = None) -> dict[str, str]:
    known = names or {}
    decoder = Decoder(
        plan.columns[0], plan.entry_size, plan.return_size,
        lambda pid, address: GoType(known[address]) if address in known else None,
    )  # fmt: skip
    values = decoder.values(machine.captured(), machine.failed, 1)
    if decoder.plain is not None and not machine.failed:
        items = struct.unpack("<" + decoder.plain.format, machine.captured())
        assert decoder.plain.values(items) == values
    return {column.label: text_of(value) for column, value in zip(plan.columns[0], values)}


def shown(
    signature: Signature, *values: str, registers: Mapping[str, int] | None = None,
    memory: Mapping[int, bytes] | None = None, names: Mapping[int, str] | None = None, **changes: object,
) -> list[str]:  # fmt: skip
    """What is shown of values at the entry."""
    plan = plan_of(signature, *values, **changes)
    machine = Machine(plan, LAYOUT, registers={"sp": 0x7000, **(registers or {})}, memory=memory)
    assert machine.enter() == "accepted"
    return list(decoded(plan, machine, names).values())


def words(*values: int) -> bytes:
    return b"".join([struct.pack("<Q", value & (1 << 64) - 1) for value in values])


MUL = function(
    Parameter("t", pointer(ARGS), at(register("ax"))),
    Parameter("args", ARGS, at(register("di"), register("si", at=8))),
    Parameter("reply", pointer(REPLY), at(register("r8"))),
    results=(Parameter("~r0", ERROR, at(register("ax"), register("bx", at=8))),),
)


def test_the_report_s_line() -> None:
    plan = compile(Question(("args.A", "args.B"), ("reply.C",)), [MUL], LAYOUT)
    assert plan.returns
    machine = Machine(plan, LAYOUT, registers={"di": 10, "si": 20, "r8": 0x5000}, memory={0x5000: words(0)})
    machine.enter()
    machine.leave({"di": 0, "si": 0, "r8": 0}, {0x5000: words(200)})
    assert decoded(plan, machine) == {"args.A": "10", "args.B": "20", "reply.C": "200"}
    assert [column.on_return for column in plan.columns[0]] == [False, False, True]


@pytest.mark.parametrize(
    ("kind", "word", "expected"),
    [
        (INT, -5, "-5"),
        (INT32, 0xDEADBEEF_FFFFFFFE, "-2"),
        (INT8, 0xFFFFFFFF_FFFFFF80, "-128"),
        (UINT8, 0xFFFFFFFF_FFFFFFFF, "255"),
        (UINT16, 0x123456789ABC0102, "258"),
        (BOOL, 0xABCDEF01, "true"),
        (BOOL, 0xABCDEF00, "false"),
        (CHAR, 0xFF41, "'A'"),
        (Type(types.CHAR, "unsigned char", 1), 0xFF41, "65"),
        (Type(types.RUNE, "char", 4), 0xFFFFFFFF_0001F600, "'😀'"),
        (COLOUR, 0x55555555_00000001, "GREEN"),
        (COLOUR, 0x55555555_FFFFFFFF, "NONE"),
        (COLOUR, 7, "7"),
        (pointer(ARGS), 0xC000012345, "0xc000012345"),
        (pointer(ARGS), 0, "nil"),
        (Type(types.INT, "time.Duration", 8), 1_500_000, "1.5ms"),
    ],
    ids=str,
)
def test_numbers_in_registers(kind: Type, word: int, expected: str) -> None:
    signature = function(Parameter("x", kind, at(register("ax", kind.size))))
    assert shown(signature, "x", registers={"ax": word & (1 << 64) - 1}) == [expected]


def test_small_numbers_share_a_register() -> None:
    pair = Type(types.STRUCT, "pair", 8, members=(Member("a", 0, INT32), Member("b", 4, UINT16), Member("c", 6, INT8)))
    signature = function(Parameter("p", pair, at(register("di"))))
    values = {"di": 0xAAFE_1234_FFFFFFFF}
    assert shown(signature, "p", "p.c", registers=values) == ["{a: -1, b: 4660, c: -2}", "-2"]


def test_a_structure_in_several_registers() -> None:
    place = at(register("ax"), register("bx", at=8), register("cx", 2, 16))
    signature = function(Parameter("s", INNER, place))
    memory = {0x9000: b"gopher"}
    assert shown(signature, "s", "s.N", registers={"ax": 0x9000, "bx": 6, "cx": 0xFFFF0007}, memory=memory) == [
        '{Name: "gopher", N: 7}',
        "7",
    ]


OUTER_BYTES = words(0x9000, 4, 0xABCD0003, 0, 0xFE01) + struct.pack("<d", 1.5) + words(0x12345678_00000001)
MEMORY = {0x8000: OUTER_BYTES, 0x9000: b"rest of it"}


@pytest.mark.parametrize(
    "place",
    [
        at(Piece(places.STACK, 56, offset=8)),
        at(Piece(places.MEMORY, 56, register="bp", offset=-0x10)),
        at(register("ax"), indirect=True),
    ],
    ids=["stack", "memory", "indirect"],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_structure_in_memory(place: Place, late: bool) -> None:
    signature = function(Parameter("o", OUTER, place), Parameter("p", pointer(OUTER), at(register("ax"))), depth=0x18)
    registers = {"sp": 0x8000 - 0x20, "bp": 0x8010, "ax": 0x8000}
    whole = '{Inner: {Name: "rest", N: 3}, Next: nil, Flag: true, Small: -2, Ratio: 1.5, Colour: GREEN}'
    asked = ("o", "o.Name", "o.Inner.N", "o.Small", "o.Ratio", "o.Colour", "*p", "p.Small", "p->N", "len(p.Name)")
    expected = [whole, '"rest"', "3", "-2", "1.5", "GREEN", whole, "-2", "3", "4"]
    plan = compile(Question((), asked) if late else Question(asked), [signature], LAYOUT)
    machine = Machine(plan, LAYOUT, registers=registers, memory=MEMORY)
    machine.enter()
    if late:
        machine.leave({"sp": 0, "bp": 0, "ax": 0})
    assert list(decoded(plan, machine).values()) == expected


def test_bit_fields() -> None:
    flags = Type(
        types.STRUCT, "flags", 8,
        members=(Member("a", 0, UINT32, 0, 3), Member("b", 0, INT32, 3, 5), Member("c", 0, UINT32, 8, 24)),
    )  # fmt: skip
    raw = 0b101 | (0b11110 << 3) | (0x123456 << 8)
    own = function(Parameter("f", flags, at(register("di"))), Parameter("p", pointer(flags), at(register("si"))))
    for name in ("f", "*p"):
        result = shown(own, name, registers={"di": raw, "si": 0x8000}, memory={0x8000: words(raw)})
        assert result == ["{a: 5, b: -2, c: 1193046}"]
    assert shown(own, "f.b", "p.b", "p.c", registers={"di": raw, "si": 0x8000}, memory={0x8000: words(raw)}) == [
        "-2", "-2", "1193046",
    ]  # fmt: skip


def test_texts() -> None:
    std = Type(types.STD_STRING, "std::string", 32, text=Text(0, 8))
    signature = function(
        Parameter("s", STRING, at(register("ax"), register("bx", at=8))),
        Parameter("c", pointer(CHAR), at(register("cx"))),
        Parameter("d", Type(types.REFERENCE, "std::string&", 8, target=std), at(register("di"))),
        Parameter("e", std, at(register("di"), indirect=True)),
        Parameter("f", pointer(STRING), at(register("di"))),
    )
    registers = {"ax": 0x9000, "bx": 300, "cx": 0x9100, "di": 0x9200}
    memory = {0x9000: b"abcdefgh" * 30, 0x9100: b"hello \x1b\xff\n\0", 0x9200: words(0x9000, 3)}
    assert shown(signature, "s", "c", "d", "e", "f", registers=registers, memory=memory, strsize=8) == [
        '"abcdefgh…" (300 bytes)', '"hello \\x1b\\xff…"', '"abc"', '"abc"', '"abc"',
    ]  # fmt: skip
    assert shown(signature, "c", "len(s)", "len(d)", registers=registers, memory=memory) == [
        '"hello \\x1b\\xff\\n"', "300", "3",
    ]  # fmt: skip


def test_unreadable_memory_says_so_and_the_rest_is_right() -> None:
    assert shown(MUL, "t.A", "args.A", "*t", registers={"ax": 8, "di": 1, "si": 2}) == [
        "<unreadable: bad address 0x8>", "1", "<unreadable: bad address 0x8>",
    ]  # fmt: skip


def test_the_length_of_a_text_is_read_or_the_text_isn_t() -> None:
    signature = function(
        Parameter("a", pointer(STRING), at(register("ax"))), Parameter("b", INNER, at(register("bx"), indirect=True))
    )
    memory = {0x8FF8: words(0x9100), 0x9100: b"something"}
    values = shown(signature, "b.Name", "*a", registers={"ax": 0x8FF8, "bx": 0x8FF8}, memory=memory)
    assert values == ["<unreadable: bad address 0x9000>"] * 2


def test_slices() -> None:
    signature = function(
        Parameter("n", go_slice(INT32), at(register("ax"), register("bx", at=8), register("cx", at=16))),
        Parameter("b", go_slice(UINT8), at(register("ax"), register("bx", at=8), register("cx", at=16))),
        Parameter("s", go_slice(INNER), at(register("di"), register("si", at=8), register("r8", at=16))),
        Parameter("p", pointer(go_slice(INNER)), at(register("r9"))),
    )
    items = words(0x9000, 3, 7) + words(0x9003, 2, 8)
    registers = {"ax": 0x9800, "bx": 3, "cx": 10, "di": 0xA000, "si": 2, "r8": 5, "r9": 0xB000}
    memory = {
        0x9000: b"onetwo", 0x9800: struct.pack("<3i", 1, -2, 3), 0xA000: items, 0xB000: words(0xA000, 2, 5),
    }  # fmt: skip
    assert shown(signature, "n", "b", "s", "*p", registers=registers, memory=memory) == [
        "[1, -2, 3]", '"\\x01\\x00\\x00"'.replace("\\x00", "\\0"),
        '[{Name: "one", N: 7}, {Name: "tw", N: 8}]', '[{Name: "one", N: 7}, {Name: "tw", N: 8}]',
    ]  # fmt: skip
    asked = ("s[1].Name", "p[1].Name", "p[1].N", "s[2].N", "p[2].Name", "len(p)", "cap(p)", "cap(n)", "n[1]")
    assert shown(signature, *asked, registers=registers, memory=memory) == [
        '"tw"', '"tw"', "8", "<unreadable: out of range>", "<unreadable: out of range>", "2", "5", "10", "-2",
    ]  # fmt: skip


def test_arrays_maps_and_channels() -> None:
    array = Type(types.ARRAY, "[3]uint16", 6, target=UINT16, count=3)
    name = Type(types.ARRAY, "char[8]", 8, target=CHAR, count=8)
    both = Type(types.STRUCT, "both", 16, members=(Member("a", 0, array), Member("name", 8, name)))
    signature = function(
        Parameter("p", pointer(both), at(register("ax"))),
        Parameter("m", Type(types.MAP, "map[string]int", 8), at(register("bx"))),
        Parameter("c", Type(types.CHAN, "chan int", 8), at(register("cx"))),
        Parameter("z", Type(types.MAP, "map[string]int", 8), at(register("di"))),
    )
    memory = {0x8000: struct.pack("<3H2x8s", 1, 2, 3, b"tool"), 0x9000: words(4), 0x9100: words(1, 16)}
    registers = {"ax": 0x8000, "bx": 0x9000, "cx": 0x9100, "di": 0}
    asked = ("*p", "p.a[2]", "p.name", "m", "len(m)", "len(c)", "cap(c)", "z", "len(p.a)")
    assert shown(signature, *asked, registers=registers, memory=memory) == [
        '{a: [1, 2, 3], name: "tool"}', "3", '"tool"', "map[string]int (4 items)", "4", "1", "16", "nil", "3",
    ]  # fmt: skip
    with pytest.raises(TargetError, match="only 3 elements"):
        plan_of(signature, "p.a[3]")


def test_rust_enums() -> None:
    some = Type(types.STRUCT, "Some", 16, members=(Member("__0", 8, INT),))
    option = Type(
        types.VARIANT, "Option<i64>", 16, members=(Member("", 0, Type(types.UINT, "u64", 8)),),
        variants=(Variant(0, Member("None", 0, Type(types.STRUCT, "None", 16))), Variant(1, Member("Some", 0, some))),
    )  # fmt: skip
    signature = function(
        Parameter("o", option, at(register("di"), register("si", at=8))),
        Parameter("p", pointer(option), at(register("dx"))),
    )
    registers = {"di": 1, "si": 42, "dx": 0x8000}
    assert shown(signature, "o", "*p", registers=registers, memory={0x8000: words(0, 42)}) == ["Some(42)", "None"]


def test_interfaces() -> None:
    signature = function(
        Parameter("e", ERROR, at(register("ax"), register("bx", at=8))),
        Parameter("v", ANY, at(register("cx"), register("di", at=8))),
        Parameter("p", pointer(HOLDER), at(register("si"))),
    )
    names = {0x100: "*errors.errorString", 0x200: "int", 0x300: "*fs.PathError", 0x400: "syscall.Errno"}
    path_error = words(0x9000, 4, 0x9010, 2, 0x5040, 0x9100)
    memory = {
        0x5000: words(0, 0x100), 0x5020: words(0, 0x300), 0x5040: words(0, 0x400), 0x8000: words(0x9000, 7) + bytes(16),
        0x8100: words(-3), 0x9000: b"open it", 0x9010: b"/x", 0x9100: words(2), 0x9200: path_error,
        0xA000: words(0x5020, 0x9200), 0xA100: words(0, 0),
    }  # fmt: skip
    registers = {"ax": 0x5000, "bx": 0x8000, "cx": 0x200, "di": 0x8100, "si": 0xA000}
    asked = ("e", "v", "p.Err", "*p")
    message = '*fs.PathError("open /x: no such file or directory")'
    assert shown(signature, *asked, registers=registers, memory=memory, names=names) == [
        '*errors.errorString("open it")', "int(-3)", message, f"{{Err: {message}}}",
    ]  # fmt: skip
    none = {"ax": 0, "bx": 0, "cx": 0, "di": 0, "si": 0xA100}
    assert shown(signature, *asked, registers=none, memory=memory) == ["nil", "nil", "nil", "{Err: nil}"]
    none["si"] = 0
    assert shown(signature, "p.Err", "e", registers=none) == ["<unreadable: bad address 0x0>", "nil"]


def test_results() -> None:
    signature = function(
        results=(
            Parameter("n", INT32, at(register("ax", 4))),
            Parameter("err", ERROR, at(register("bx"), register("cx", at=8))),
        )
    )
    plan = compile(Question(("n", "ret0", "latency"), ("retval", "ret1:error", "err")), [signature], LAYOUT)
    machine = Machine(plan, LAYOUT, fields={"FIELD_LATENCY": 18_600}, registers={"ax": 0, "bx": 0, "cx": 0})
    machine.enter()
    machine.leave({"ax": 0xF_FFFFFFFF})
    assert decoded(plan, machine) == {
        "n": "-1", "ret0": "0xfffffffff", "latency": "18.6us", "retval": "(-1, nil)", "ret1:error": "nil", "err": "nil",
    }  # fmt: skip
    assert all(column.on_return for column in plan.columns[0])


BARE = function(reason="no debug information in prog; looked in /usr/lib/debug")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("arg0", "36864"),
        ("arg0:x64", "0x9000"),
        ("arg2", "0xffffffffffffffff"),
        ("arg2:s8", "-1"),
        ("arg2:u16", "65535"),
        ("arg0:str", '"text"'),
        ("arg0:gostr", '"te"'),
        ("arg0:bytes(6)", '"text\\0\\x01"'),
        ("arg3:stdstring", '"tex"'),
        ("arg0:goslice(u8)", '"te"'),
        ("arg3:goslice(u64)", "[36864, 3]"),
        ("arg3:rustvec(u8)", '"tex"'),
        ("arg3:ptr", "0x9100"),
        ("sarg0", "77"),
        ("sarg1:str", '"text"'),
        ("sarg2:f64", "2.5"),
        ('reg("r11")', "5"),
        ("*(u64)(arg3+8)", "3"),
        ("*(u16)(*(u64)(arg3)+1)", str(int.from_bytes(b"ex", "little"))),
        ("*(f64)(reg(\"sp\")+24)", "2.5"),
        ("name=arg4:bool", "true"),
    ],
)
def test_positions(expression: str, expected: str) -> None:
    registers = {"sp": 0x7000, "ax": 0x9000, "bx": 2, "cx": (1 << 64) - 1, "di": 0x9100, "si": 2, "r11": 5}
    memory = {
        0x7008: words(77, 0x9000) + struct.pack("<d", 2.5), 0x9000: b"text\0\x01",
        0x9100: words(0x9000, 3) if "vec" not in expression else words(16, 0x9000, 3),
    }  # fmt: skip
    if expression.startswith("name="):
        registers["si"] = 1
    assert shown(BARE, expression, registers=registers, memory=memory) == [expected]


def test_the_function_s_own_names_come_first() -> None:
    signature = function(Parameter("pid", INT, at(register("bx"))), Parameter("arg0", INT, at(register("cx"))))
    plan = plan_of(signature, "pid", "$pid", "arg0", "$arg0")
    machine = Machine(plan, LAYOUT, registers={"ax": 1, "bx": 2, "cx": 3}, fields={"FIELD_PID": 4})
    machine.enter()
    assert decoded(plan, machine) == {"pid": "2", "$pid": "4", "arg0": "3", "$arg0": "1"}


def test_what_is_gone() -> None:
    signature = function(
        Parameter("x", DOUBLE, at(Piece(places.FLOAT_REGISTER, 8, register="xmm0"))),
        Parameter("y", INT, at(Piece(places.ABSENT, 8))),
        Parameter("z", ARGS, at(Piece(places.ABSENT, 8), Piece(places.CONSTANT, 8, 8, value=7))),
        Parameter("s", INT, at(Piece(places.STACK, 8, offset=8))),
        depth=None,
    )
    assert shown(signature, "x", "z", "z.B", registers={}) == [
        "<a floating-point value in register xmm0, which a probe can't read>", "{A: <optimised away here>, B: 7}", "7",
    ]  # fmt: skip
    assert len(shown(signature, all_arguments=True)) == 4
    for expression, message in (("y", "y can't be read: optimised away here"), ("z.A", "optimised"), ("s", "stack")):
        with pytest.raises(TargetError, match=message):
            plan_of(signature, expression)


def test_all_arguments() -> None:
    context = Type(types.INTERFACE, "context.Context", 16)
    signature = function(
        Parameter("ctx", context, at(register("ax"), register("bx", at=8))),
        Parameter(".dict", INT, at(register("cx")), hidden=True),
        Parameter("n", INT, at(register("di"))),
        Parameter("captured", INT, at(register("si")), captured=True),
    )
    plan = plan_of(signature, all_arguments=True)
    assert [column.label for column in plan.columns[0]] == ["n"]
    with pytest.raises(TargetError, match="no debug information in prog") as error:
        plan_of(BARE, all_arguments=True)
    assert "arg0 to arg8" in str(error.value.hint)


@pytest.mark.parametrize(
    ("signature", "expression", "message", "hint"),
    [
        (MUL, "nope", "no argument 'nope'", "arguments: t, args, reply; results: ~r0"),
        (MUL, "args.X", "main.Args.* has no field 'X'", "A, B"),
        (MUL, "args.A.B", "an integer", ""),
        (MUL, "~r0.x", "an interface", "itself"),
        (MUL, "*args", "not a pointer", ""),
        (MUL, "args[0]", "can't be indexed", ""),
        (MUL, "len(args)", "has no length", ""),
        (MUL, "arg9", "arg0 to arg8", "sarg0"),
        (MUL, "arg8:gostr", "there is no arg9", "sarg0"),
        (MUL, "arg0:f64", "integer register", r"\(f64\)"),
        (MUL, "arg0:nope", "no type 'nope'", "goslice"),
        (MUL, "arg0:bytes(0)", "from 1 to 4000", ""),
        (MUL, "arg0:goslice", "takes the type", ""),
        (MUL, 'reg("zz")', "no register 'zz'", "r15"),
        (MUL, "args:gostr.x", "no fields", ""),
        (MUL, "comm:u32", "thread's name and takes no type", ""),
        (MUL, "args.A:gostr", "can't be read as string", ""),
        (BARE, "name", "looked in /usr/lib/debug", "by position"),
        (function(), "retval", "returns nothing", ""),
        (function(words=(), result_words=(), reason="none"), "ret0", "on the stack", "sarg2"),
    ],
)
def test_errors_name_what_there_is(signature: Signature, expression: str, message: str, hint: str) -> None:
    with pytest.raises(TargetError, match=message) as error:
        plan_of(signature, expression)
    assert re.search(hint, error.value.hint or "")


def test_functions_without_what_is_asked_for_are_skipped() -> None:
    other = function(Parameter("x", INT, at(register("ax"))))
    plan = compile(Question(("args.A",)), [other, MUL], LAYOUT)
    assert list(plan.skipped) == [0] and plan.columns[0] == ()
    assert plan.plans[:16] == bytes(16) and plan.plans[16:] != bytes(16)
    with pytest.raises(TargetError, match="no argument 'args'"):
        compile(Question(("args.A",)), [other, other], LAYOUT)


def test_functions_with_the_same_plan_share_it() -> None:
    one, many = (len(compile(Question(("args",)), [MUL] * count, LAYOUT).steps) for count in (1, 100))
    assert one == many


def test_bounds() -> None:
    with pytest.raises(TargetError, match="more than 64 values"):
        compile(Question(tuple(f"*(u64)(arg0+{8 * index})" for index in range(65))), [MUL], LAYOUT)
    with pytest.raises(TargetError, match="bytes at one probe"):
        compile(Question(tuple(f"arg{index}:bytes(4000)" for index in range(5))), [MUL], LAYOUT)
    with pytest.raises(TargetError, match="4080 bytes"):
        compile(Question(("arg0:str",), strsize=4081), [MUL], LAYOUT)


def test_a_structure_of_many_texts_is_cut_short() -> None:
    members = tuple([Member(f"m{index}", 16 * index, STRING) for index in range(200)])
    huge = Type(types.STRUCT, "huge", 3200, members=members)
    signature = function(Parameter("p", pointer(huge), at(register("ax"))))
    plan = plan_of(signature, "*p", strsize=8)
    assert plan.longest <= LAYOUT.limits["PLAN_STEPS"]
    recursive = Type(types.STRUCT, "loop", 8, members=lambda: (Member("x", 0, recursive), Member("y", 0, recursive)))
    assert shown(function(Parameter("r", recursive, at(register("ax")))), "r", registers={"ax": 0})


# Filters.

FILTERED = function(
    Parameter("args", ARGS, at(register("di"), register("si", at=8))),
    Parameter("name", STRING, at(register("ax"), register("bx", at=8))),
    Parameter("text", pointer(CHAR), at(register("cx"))),
    Parameter("colour", COLOUR, at(register("r8", 4))),
    Parameter("small", UINT8, at(register("r9", 1))),
    Parameter("ok", BOOL, at(register("r10", 1))),
    Parameter("err", ERROR, at(register("r11"), register("dx", at=8))),
    Parameter("p", pointer(INNER), at(register("r12"))),
    Parameter("x", DOUBLE, at(Piece(places.FLOAT_REGISTER, 8, register="xmm0"))),
    results=(Parameter("", INT32, at(register("ax", 4))),),
)
STATE = {
    "di": 10, "si": (1 << 64) - 3, "ax": 0x9000, "bx": 3, "cx": 0x9000, "r8": 0xF00000001, "r9": 0xFFC8, "r10": 0xFF00,
    "r11": 0, "dx": 0, "r12": 0x8000, "sp": 0x7000,
}  # fmt: skip
WORLD = {0x9000: b"GET /x\0", 0x8000: words(0x9000, 6, 9)}


def verdicts(condition: str, result: int = 0, latency: int = 0, state: Mapping[str, int] = STATE) -> list[str]:
    plan = compile(Question(("args.A",), condition=condition), [FILTERED], LAYOUT)
    fields = {"FIELD_PID": 42, "FIELD_LATENCY": latency}
    machine = Machine(plan, LAYOUT, registers=state, memory=WORLD, fields=fields, comm=b"worker")
    found = [machine.enter()]
    if found == ["accepted"] and plan.returns:
        found.append(machine.leave({**dict.fromkeys(STATE, 0), "ax": result & 0xFFFFFFFF}))
    return found


def test_the_name_of_the_thread() -> None:
    plan = compile(Question(("args.A", "comm"), ("again=comm",)), [FILTERED], LAYOUT)
    name = [int.from_bytes(part, "little") for part in (b"a longer", b" name")]
    fields = dict(zip(("FIELD_COMM", "FIELD_COMM_REST"), name))
    machine = Machine(plan, LAYOUT, registers=STATE, memory=WORLD, fields=fields)
    machine.enter()
    machine.leave()
    assert [*decoded(plan, machine).values()] == ["10", '"a longer name"', '"a longer name"']


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("args.A > 5", True),
        ("5 < args.A", True),
        ("args.A > 10", False),
        ("args.B < 0 && args.B == -3", True),
        ("args.B >= -3 and not args.A == 11", True),
        ('name == "GET"', True),
        ('name == "GE"', False),
        ('name != "GET /x"', True),
        ('text == "GET /x"', True),
        ('text == "GET"', False),
        ('startswith(text, "GET ") && startswith(name, "G")', True),
        ('!startswith(text, "PUT")', True),
        ("colour == GREEN", True),
        ("colour != Colour::RED", True),
        ("small == 200 && small > 199", True),
        ("small > 200", False),
        ("ok", False),
        ("!ok && ok == false", True),
        ("err == nil && p != nil", True),
        ("p.Name == \"GET /x\" && p.N == 9", True),
        ("(args.A == 1 || args.A == 10) && !(args.B == 0 || name == \"x\")", True),
        ("(args.A == 1 || args.A == 2) || pid == 42", True),
        ("pid == 41", False),
        ('comm == "worker"', True),
        ('comm != "worker"', False),
        ('startswith(comm, "work")', True),
        ("small == 'c' || args.A == 0xa", True),
        ("len(name) == 3", True),
    ],
)
def test_filters_at_the_entry(condition: str, wanted: bool) -> None:
    assert verdicts(condition) == ["accepted" if wanted else "rejected"]


@pytest.mark.parametrize(
    ("condition", "result", "latency", "expected"),
    [
        ("retval < 0", -1, 0, ["accepted", "accepted"]),
        ("retval < 0", 1, 0, ["accepted", "rejected"]),
        ("latency >= 10ms", 0, 10_000_000, ["accepted", "accepted"]),
        ("latency >= 10ms", 0, 9_999_999, ["accepted", "rejected"]),
        ("args.A == 10 && retval == 1", 1, 0, ["accepted", "accepted"]),
        ("args.A == 11 && retval == 1", 1, 0, ["rejected"]),
        ('(name == "GET" && args.A == 10) || retval == 1', 0, 0, ["accepted", "accepted"]),
        ('name == "PUT" || retval == 1', 1, 0, ["accepted", "accepted"]),
        ('name == "PUT" || retval == 1', 0, 0, ["accepted", "rejected"]),
        ('!(name == "GET" || retval == 1)', 0, 0, ["accepted", "rejected"]),
        ('!(name == "PUT" || retval == 1)', 0, 0, ["accepted", "accepted"]),
        ('p.Name == "GET /x" && (text == "x" || latency > 1us)', 0, 1001, ["accepted", "accepted"]),
    ],
)
def test_filters_at_the_return(condition: str, result: int, latency: int, expected: list[str]) -> None:
    assert verdicts(condition, result, latency) == expected


def test_a_filter_that_meets_bad_memory_is_undecided() -> None:
    broken = {**STATE, "r12": 8}
    assert verdicts("p.N == 9", state=broken) == ["undecided"]
    assert verdicts('p.Name == "x"', state=broken) == ["undecided"]
    assert verdicts("args.A == 10 || p.N == 9", state=broken) == ["accepted"]
    assert verdicts('p.Name == "x" || retval == 0', state=broken) == ["accepted", "undecided"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("x > 1", "xmm0"),
        ("args == 1", "no single number"),
        ('args.A == "x"', "not a text"),
        ("name == 5", "no single number"),
        ("name > \"x\"", "texts can't be compared"),
        ("small == -1", "unsigned"),
        ("colour == PINK", "no value 'PINK'"),
        ("args.A == true", "true or false"),
        ("args.A == nil", "can't be nil"),
        ("err == 5", "only be compared with nil"),
        ("args.A == args.B", "isn't a constant"),
        ("nope == 1", "no argument 'nope'"),
        ("1 == 1", "two constants"),
        ('comm == "abcdefghijklmnop"', "15 bytes"),
        ("args", "true or false"),
    ],
)
def test_errors_in_filters(condition: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        verdicts(condition)


def test_stack_arguments_of_old_go() -> None:
    signature = function(
        Parameter("a", INT, at(Piece(places.STACK, 8, offset=8))),
        results=(Parameter("~r1", INT, at(Piece(places.STACK, 8, offset=16))),),
        words=(), result_words=(), depth=0x20,
    )  # fmt: skip
    plan = compile(Question(("a", "sarg0", "arg0"), ("~r1", "ret0", "sarg1")), [signature], LAYOUT)
    machine = Machine(plan, LAYOUT, registers={"sp": 0x7000}, memory={0x7028: words(5, 0)})
    machine.enter()
    machine.leave({"sp": 0x7020}, {0x7028: words(5, 6)})
    assert list(decoded(plan, machine).values()) == ["5", "5", "5", "6", "6", "6"]
