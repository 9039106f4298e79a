# SPDX-License-Identifier: BSD-2-Clause
"""Debug information of Go programs, of versions that differ: DWARF 4 and 5, stack and register ABI, ways to pack."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import toolchains

from pyebpf.binary import signature as s
from pyebpf.binary import types as t
from pyebpf.binary.dwarf import CFA, Dwarf
from pyebpf.binary.elf import Elf

SOURCE = """package main
import ("fmt"; "os"; "time")
type Inner struct { A uint8; B string }
type Outer struct { Inner; next *Outer }
//go:noinline
func All(a int, s string, b []byte, m map[string]int, c chan int, e error, i interface{}, f func(int) int,
	t time.Duration, z complex128, x Outer, p *Outer, arr [3]int32) (int, error) {
	fmt.Sprint(i, t, z, p)
	return a + len(s) + len(b) + len(m) + len(c) + f(1) + int(x.A) + int(arr[1]), e
}
//go:noinline
func Make(n int, s string) func() int { return func() int { n++; return n + len(s) } }
func main() {
	n, _ := All(len(os.Args), "x", []byte("y"), nil, nil, nil, 1, func(i int) int { return i }, time.Second, 1,
		Outer{}, &Outer{}, [3]int32{})
	fmt.Println(n, Make(n, "a")())
}
"""


def program(version: str) -> Path:
    return toolchains.go(version).compile({"main.go": SOURCE})


def functions(path: Path) -> dict[str, int]:
    lines = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {p[2]: int(p[0], 16) for p in (line.split(None, 2) for line in lines) if len(p) == 3 and p[1] in "tT"}


@pytest.mark.parametrize("version", toolchains.VERSIONS)
def test_types_and_places(version: str) -> None:
    path = program(version)
    dwarf = Dwarf.of(Elf.open(str(path)))
    assert isinstance(dwarf, Dwarf)
    address = functions(path)["main.All"]
    found = dwarf.subprogram(address, ("main.All",))
    assert found is not None
    assert (found.name, found.language, found.low_pc, found.result) == ("main.All", "go", address, None)
    assert ("regabi" in found.producer) == (version != "1.15")
    parameters = [formal for formal in found.formals if not formal.is_result]
    assert [formal.type.kind for formal in found.formals if formal.is_result] == [t.INT, t.INTERFACE]
    described = [(f.name, f.type.kind, f.type.name, f.type.size, f.type.align) for f in parameters]
    assert described == [
        ("a", t.INT, "int", 8, 8),
        ("s", t.STRING, "string", 16, 8),
        ("b", t.SLICE, "[]uint8", 24, 8),
        ("m", t.MAP, "map[string]int", 8, 8),
        ("c", t.CHAN, "chan int", 8, 8),
        ("e", t.INTERFACE, "error", 16, 8),
        ("i", t.INTERFACE, "interface {}", 16, 8),
        ("f", t.FUNC, "func(int) int", 8, 8),
        ("t", t.INT, "time.Duration", 8, 8),
        ("z", t.COMPLEX, "complex128", 16, 8),
        ("x", t.STRUCT, "main.Outer", 32, 8),
        ("p", t.POINTER, "*main.Outer", 8, 8),
        ("arr", t.ARRAY, "[3]int32", 12, 4),
    ]
    types = {formal.name: formal.type for formal in parameters}
    outer = types["p"].target
    assert outer is not None
    assert [(m.name, m.offset, m.embedded, m.type.name) for m in outer.members] == [
        ("Inner", 0, True, "main.Inner"), ("next", 24, False, "*main.Outer"),
    ]  # fmt: skip
    assert [(m.name, m.offset) for m in outer.members[0].type.members] == [("A", 0), ("B", 8)]
    assert types["arr"].count == 3
    assert types["b"].target is not None and types["b"].target.name == "uint8" and types["b"].text == t.Text(0, 8)
    assert [types[name].members[0].name for name in ("e", "i")] == ["tab", "_type"]
    assert outer.runtime_type is not None and outer.members[0].type.runtime_type is not None
    a, text = (formal.location(address).pieces for formal in parameters[:2])
    if version == "1.15":
        assert a == (s.Piece(CFA, 8),)  # that of the string is where its length is: a fault of this compiler's
    else:
        assert a == (s.Piece(s.REGISTER, 8, register="ax"),)
        assert text == (s.Piece(s.REGISTER, 8, register="bx"), s.Piece(s.REGISTER, 8, 8, register="cx"))


@pytest.mark.parametrize("version", toolchains.VERSIONS)
def test_captures(version: str) -> None:
    path = program(version)
    dwarf = Dwarf.of(Elf.open(str(path)))
    assert isinstance(dwarf, Dwarf)
    found = dwarf.subprogram(functions(path)["main.Make.func1"])
    assert found is not None
    captures = [(capture.name, capture.type.name, capture.offset) for capture in found.captures]
    expected = [("&n", "*int", 8), ("s", "string", 16)]
    assert captures == ([] if version in ("1.15", "1.19", "1.21", "1.22") else expected)


@pytest.mark.parametrize("version", toolchains.VERSIONS)
def test_every_function(version: str) -> None:
    """All that the compiler made is found, and nothing of it is of an unknown type."""
    path = program(version)
    dwarf = Dwarf.of(Elf.open(str(path)))
    assert isinstance(dwarf, Dwarf)
    missing, compared = [], 0
    for name, address in functions(path).items():
        found = dwarf.subprogram(address)
        if found is None:
            missing.append(name)
            continue
        compared += 1
        for formal in found.formals:
            assert formal.type.kind != t.UNKNOWN, (name, formal.name, formal.type.name)
            formal.location(address)
    # Marks of the linker's, no functions.
    assert set(missing) <= {"runtime.etext", "go:textfipsstart", "go:textfipsend"}
    assert compared > 1400
