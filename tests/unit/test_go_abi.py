# SPDX-License-Identifier: BSD-2-Clause
"""Go's calling conventions by types alone, what tracebacks know of arguments, and names of types at run time."""

from __future__ import annotations

import random

import pytest
import toolchains

from pyebpf.binary import golang, types
from pyebpf.binary.elf import Elf
from pyebpf.binary.golang import abi, arginfo, rtype
from pyebpf.binary.signatures import describe
from pyebpf.binary.types import Member, Type
from pyebpf.errors import BinaryError

INT = Type(types.INT, "int", 8, align=8)
INT8 = Type(types.INT, "int8", 1, align=1)
FLOAT = Type(types.FLOAT, "float64", 8, align=8)
FLOAT32 = Type(types.FLOAT, "float32", 4, align=4)
COMPLEX = Type(types.COMPLEX, "complex128", 16, align=8)
STRING = Type(types.STRING, "string", 16, align=8)
SLICE = Type(types.SLICE, "[]int", 24, align=8)
ERROR = Type(types.INTERFACE, "error", 16, align=8)
EMPTY = Type(types.STRUCT, "struct {}", 0, align=1)
UNKNOWN = Type(types.UNKNOWN, "damaged", 0)


def array(element: Type, count: int) -> Type:
    return Type(types.ARRAY, f"[{count}]", element.size * count, align=element.align, target=element, count=count)


def struct(*fields: Type) -> Type:
    at, align, members = 0, 1, []
    for index, field in enumerate(fields):
        at = -(-at // field.align) * field.align
        members.append(Member(f"f{index}", at, field))
        at, align = at + field.size, max(align, field.align)
    return Type(types.STRUCT, "main.S", -(-at // align) * align, align=align, members=members)


def places(machine: str, parameters: list[Type], results: list[Type], registers: bool = True) -> tuple[str, str]:
    found = abi.assign(machine, parameters, results, registers)
    texts = [describe(one.place) if one.place else "?" for one in found.parameters]
    return ", ".join(texts), ", ".join(describe(place) if place else "?" for place in found.results)


@pytest.mark.parametrize(
    ("parameters", "results", "expected"),
    [
        ([INT, STRING, SLICE, ERROR], [INT, ERROR], ("ax, bx cx, di si r8, r9 r10", "ax, bx cx")),
        # What doesn't fit goes to the stack as a whole, and leaves the registers to what follows.
        ([STRING] * 7 + [INT], [STRING], ("ax bx, cx di, si r8, r9 r10, [sp+8], [sp+24], [sp+40], r11", "ax bx")),
        ([INT8, FLOAT, INT, FLOAT32], [FLOAT, INT8], ("ax, xmm0, bx, xmm1", "xmm0, ax")),
        ([COMPLEX, INT], [COMPLEX], ("xmm0 xmm1, ax", "xmm0 xmm1")),
        ([struct(INT8, STRING), struct(FLOAT, INT, FLOAT32)], [], ("ax bx cx, xmm0 di xmm1", "")),
        ([array(INT, 2), INT], [array(INT, 1)], ("[sp+8], ax", "ax")),
        ([struct(array(INT8, 2)), INT8, array(INT8, 0), EMPTY], [], ("[sp+8], ax, [sp+10], [sp+10]", "")),
        ([INT] * 10, [INT] * 10, ("ax, bx, cx, di, si, r8, r9, r10, r11, [sp+8]",
                                  "ax, bx, cx, di, si, r8, r9, r10, r11, [sp+16]")),
        ([struct(*[INT] * 10), INT], [struct(*[INT] * 10)], ("[sp+8], ax", "[sp+88]")),
        ([INT, UNKNOWN, INT], [INT], ("ax, ?, ?", "ax")),
        ([UNKNOWN], [array(INT, 2)], ("?", "?")),
    ],
)  # fmt: skip
def test_registers_of_x86_64(parameters: list[Type], results: list[Type], expected: tuple[str, str]) -> None:
    assert places("x86-64", parameters, results) == expected


def test_registers_of_arm64() -> None:
    assert places("arm64", [INT] * 17 + [FLOAT], [STRING])[0].endswith("x14, x15, [sp+8], v0")


def test_the_stack_abi_aligns_parameters_and_results() -> None:
    expected = "[sp+8], [sp+16], [sp+32], [sp+36]", "[sp+40], [sp+48]"
    assert places("x86-64", [INT8, STRING, INT8, FLOAT32], [INT8, INT], registers=False) == expected


def test_slots_follow_stack_results() -> None:
    found = abi.assign("x86-64", [INT8, STRING, array(INT, 2)], [struct(*[INT] * 10)], True)
    assert [parameter.slot for parameter in found.parameters] == [96, 104, 0]
    assert found.size == 96


def test_a_type_without_end_is_no_place() -> None:
    loop = Type(types.STRUCT, "loop", 8, align=8, members=lambda: (Member("next", 0, loop),))
    wide = struct(*[EMPTY] * 5000, INT)
    assert places("x86-64", [loop], [wide]) == ("?", "?")


def test_what_tracebacks_know() -> None:
    stream = arginfo.stream_of([(INT, 0), (struct(INT8, STRING), 8), (EMPTY, 32)])
    assert stream == bytes.fromhex("0008 fe 0801 fe 1008 1808 fd fd fe fd")
    found, whole = arginfo.elements(stream)
    assert whole
    assert found == (
        arginfo.Element(0, ((0, 8),), False),
        arginfo.Element(8, ((0, 1), (8, 8), (16, 8)), True),
        arginfo.Element(None, (), True),
    )
    assert not arginfo.elements(arginfo.stream_of([(struct(*[INT] * 12), 0), (INT, 96)]))[1]
    assert arginfo.alike(stream, arginfo.stream_of([(EMPTY, 0), (INT, 0), (struct(INT8, STRING), 8)]))
    assert not arginfo.alike(stream, arginfo.stream_of([(INT, 8), (struct(INT8, STRING), 16)]))
    for seed in range(300):
        arginfo.elements(random.Random(seed).randbytes(40))  # whatever it says, it ends


@pytest.mark.parametrize("version", ("1.15", "1.19", "1.21", "1.24", "1.27"))
@pytest.mark.parametrize("flags", [(), ("-buildmode=pie", "-ldflags=-s -w")], ids=("plain", "pie-stripped"))
def test_names_of_types_at_run_time(version: str, flags: tuple[str, ...]) -> None:
    source = """package main

import ("errors"; "fmt"; "os"; "io/ioutil"; "strconv")

type Kind int
type pair struct { a, b Kind }

func main() {
	_, err := ioutil.ReadFile("/nonexistent")
	_, other := strconv.Atoi("x")
	fmt.Println(errors.New("x"), err, other, pair{}, Kind(len(os.Args)), map[string][]Kind{}, "s")
}
"""
    program = toolchains.go(version).compile({"main.go": source}, flags=flags)
    with Elf.open(str(program)) as elf:
        found = golang.find(elf)
        assert found is not None
        bounds = found.types
        assert bounds is not None
        described = [rtype.runtime_type(found, vaddr) for vaddr in range(bounds[0], bounds[1], 8)]
        kinds = {one.name: (one.kind, one.size) for one in described if one is not None}
        assert kinds["main.pair"] == (rtype.STRUCT, 16)
        assert kinds["main.Kind"] == (rtype.INT, 8)
        assert kinds["*errors.errorString"] == (rtype.POINTER, 8)
        assert kinds["*strconv.NumError"] == (rtype.POINTER, 8)
        assert kinds["string"] == (rtype.STRING, 16)
        assert kinds["map[string][]main.Kind"] == (rtype.MAP, 8)
        assert rtype.type_name(found, bounds[1] + 8) is None
        assert rtype.type_name(found, bounds[0] + 1) is None


def test_argument_streams_that_lie() -> None:
    program = toolchains.go("1.27").compile({"main.go": "package main\n\nfunc main() { println(1) }\n"})
    with Elf.open(str(program)) as elf:
        with pytest.raises(BinaryError):
            arginfo.read(elf, 0)
        with pytest.raises(BinaryError):
            arginfo.read(elf, elf.entry & ~0xFFF)
