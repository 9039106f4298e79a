# SPDX-License-Identifier: BSD-2-Clause
"""Go programs of every supported format: functions, probe sites, offsets, inlining; and files that lie."""

from __future__ import annotations

import functools
import random
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import iced_x86 as iced
import pytest
import toolchains

from pyebpf.binary import disasm, golang
from pyebpf.binary.elf import Elf
from pyebpf.binary.golang import GoFunction, GoProgram
from pyebpf.errors import BinaryError, Error

VERSIONS = ("1.15", "1.19", "1.21", "1.24", "1.27", "local")
ARM64_VERSIONS = ("1.15", "1.21", "1.27")
KINDS = ("plain", "s-w", "stripped", "no-sections", "pie", "pie-no-sections")
CGO_KINDS = ("cgo", "cgo-stripped", "cgo-pie", "cgo-pie-no-sections")

MAIN = """package main

import (
	"fmt"
	"os"
)

type Square struct{ side int }

//go:noinline
func (s *Square) Area() int { return s.side * s.side }

type Embeds struct{ *Square }

type Shape interface{ Area() int }

//go:noinline
func Rec(n int) int {
	if n == 0 {
		return 0
	}
	return Rec(n-1) + 1
}

//go:noinline
func BigFrame(n int) int {
	var b [2000]byte
	for i := range b {
		b[i] = byte(i * n)
	}
	return int(b[n%2000]) + Rec(n)
}

//go:noinline
func HugeFrame(n int) int {
	var b [60000]byte
	for i := range b {
		b[i] = byte(i * n)
	}
	return int(b[n%60000]) + Rec(n)
}

//go:noinline
func Leaf(a, b int) int { return a ^ b }

func inl(n int) int { return n*3 + len(os.Args) }

//go:noinline
func Calls(n int) int { return inl(n) + inl(n+1) }

//go:noinline
func Many(n int) string {
	switch n {
	case 1:
		return "one"
	case 2:
		return fmt.Sprint(n)
	case 3:
		return "three"
	case 4:
		return fmt.Sprint(n, n)
	case 5:
		return "five"
	case 6:
		return "six"
	case 7:
		return "seven"
	case 8:
		return "eight"
	}
	return ""
}

//go:noinline
func adder(n int) func(int) int { return func(m int) int { return Rec(m) + n } }

//go:noinline
func Forever(c chan int) {
	for {
		c <- 1
	}
}

//go:noinline
func Panics() { panic("always") }

func main() {
	var shape Shape = Embeds{&Square{len(os.Args)}}
	fmt.Println(shape.Area(), Rec(3), BigFrame(4), HugeFrame(5), Leaf(6, 7), Calls(8), Many(9), adder(10)(11), more())
	if len(os.Args) > 1 {
		go Forever(make(chan int))
		Panics()
	}
}
"""
GENERIC = """package main

type Stack[T any] struct{ items []T }

//go:noinline
func (s *Stack[T]) Push(item T) { s.items = append(s.items, item) }

//go:noinline
func Sum[T int | float64](items ...T) (sum T) {
	for _, item := range items {
		sum += item
	}
	return sum
}

func more() int {
	var s Stack[int]
	s.Push(1)
	return Sum(s.items...) + int(Sum(1.5, 2.5))
}
"""
PLAIN = "package main\n\nfunc more() int { return 0 }\n"
CGO = """package main

// int outside(int a);
import "C"

func init() { C.outside(1) }
"""
C = "int outside(int a) { return a + 1; }\n"


def sources(version: str, cgo: bool) -> dict[str, str]:
    generics = toolchains.go(version).number >= (1, 18)
    files = {"main.go": MAIN, "more.go": GENERIC if generics else PLAIN}
    if generics:
        files["go.mod"] = "module main\n\ngo 1.18\n"
    return {**files, "cgo.go": CGO, "outside.c": C} if cgo else files


def without_sections(data: bytes) -> bytes:
    """The file with no section headers: e_shoff, e_shnum and e_shstrndx are 0."""
    changed = bytearray(data)
    struct.pack_into("<Q", changed, 40, 0)
    struct.pack_into("<HH", changed, 60, 0, 0)
    return bytes(changed)


@functools.cache
def build(version: str, kind: str) -> tuple[bytes, Path]:
    """The program, and its sibling that has symbols and the same code."""
    flags: tuple[str, ...] = ("-buildmode=pie",) if "pie" in kind else ()
    cgo = kind.startswith("cgo")
    env = {"CGO_ENABLED": "1"} if cgo else {"GOARCH": "arm64"} if kind == "arm64" else {}
    compile = toolchains.go(version).compile
    files = sources(version, cgo)
    sibling = compile(files, flags, env)
    data = sibling.read_bytes()
    if kind == "s-w":
        data = compile(files, ("-ldflags=-s -w",), env).read_bytes()
    if kind.endswith("stripped"):
        with tempfile.TemporaryDirectory() as folder:  # strip replaces what it is told to write to: never a device
            stripped = Path(folder) / "stripped"
            subprocess.run(["strip", "-o", stripped, sibling], check=True)
            data = stripped.read_bytes()
    return without_sections(data) if kind.endswith("no-sections") else data, sibling


@functools.cache
def program(version: str, kind: str) -> GoProgram:
    data, _ = build(version, kind)
    found = golang.find(Elf(data, f"{kind}-{version}"))
    assert found is not None
    return found


@functools.cache
def symbols(path: Path) -> dict[int, set[str]]:
    """The function symbols of .symtab, by address."""
    result: dict[int, set[str]] = {}
    with Elf.open(str(path)) as elf:
        table, names = elf.section(".symtab"), elf.section(".strtab")
        assert table is not None and names is not None
        text = bytes(elf.contents(names))
        for name, info, _, where, value, _ in struct.iter_unpack("<IBBHQQ", elf.contents(table)):
            if info & 15 == 2 and where:
                result.setdefault(value, set()).add(text[name : text.index(b"\0", name)].decode())
    return result


def one(found: GoProgram, name: str) -> GoFunction:
    (function,) = found.named(name)
    return function


def code_of(found: GoProgram, function: GoFunction) -> bytes:
    return found.elf.read(function.address, function.size)


matrix = pytest.mark.parametrize("kind", KINDS + CGO_KINDS)
versions = pytest.mark.parametrize("version", VERSIONS)


# --- functions


@versions
@matrix
def test_functions_are_those_of_the_symbol_table(version: str, kind: str) -> None:
    found = program(version, kind)
    start, end = found.text
    named: dict[int, set[str]] = {}
    for address, names in symbols(build(version, kind)[1]).items():
        names = {re.sub(r"\.abi0$|\.abiinternal$", "", name) for name in names} - {"runtime.text", "runtime.etext"}
        if start <= address < end and names:
            named[address] = names
    functions = found.functions()
    assert [f.address for f in functions] == sorted(named)
    for f in functions:
        name = f.name.replace("\u00b7", ".")  # of types declared in functions: the linker writes a dot for the symbol
        assert name in named[f.address] or re.sub(r"\[.*\]", "[...]", min(named[f.address])) == name
        assert f == found.functions()[f.row] if f.row % 500 == 0 else f.size > 0
    assert 0 <= end - (functions[-1].address + functions[-1].size) < 64  # padding


@versions
@matrix
def test_version_and_runtime_offsets(version: str, kind: str) -> None:
    found = program(version, kind)
    major, minor = toolchains.go(version).number
    assert found.version[:2] == (major, minor)
    assert found.version.text.startswith(f"go{major}.{minor}") and not found.version.inferred
    assert found.goid_offset == (160 if minor in (23, 24) else 152)
    assert found.tls_offset == -8


@versions
@pytest.mark.parametrize("kind", ["cgo", "cgo-stripped", "cgo-pie", "cgo-pie-no-sections"])
def test_c_code_is_not_in_the_text_range(version: str, kind: str) -> None:
    found = program(version, kind)
    addresses = {name: address for address, names in symbols(build(version, kind)[1]).items() for name in names}
    start, end = found.text
    for name in ("outside", "_start", "x_cgo_thread_start"):
        assert not start <= addresses[name] < end, name
        assert found.at(addresses[name]) is None
    assert start <= addresses["main.main"] < end
    assert start <= addresses["runtime.main"] < end


@versions
def test_looking_up(version: str) -> None:
    found = program(version, "stripped")
    functions = found.functions()
    rec = one(found, "main.Rec")
    assert found.at(rec.address) == found.at(rec.address + rec.size - 1) == rec
    assert found.at(rec.address + rec.size) == functions[rec.row + 1]
    assert found.at(found.text[0] - 1) is None and found.at(found.text[1]) is None
    assert found.named("main.NoSuchThing") == found.named("main.Re") == found.named("ain.Rec") == []
    for pattern, required in ((r"main\..*Area$", b"Area"), (r"runtime\.", b"runtime."), (r"main\.\(\*", b"main.(*")):
        expected = [f for f in functions if re.match(pattern, f.name)]
        assert expected
        assert found.search(re.compile(pattern)) == expected
        assert found.search(re.compile(pattern), (b"", required)) == expected


@pytest.mark.parametrize("version", [v for v in VERSIONS if v != "1.15"])
def test_generics(version: str) -> None:
    names = {f.name for f in program(version, "stripped").functions()}
    if toolchains.go(version).number < (1, 20):
        assert {"main.Sum[...]", "main.(*Stack[...]).Push"} <= names
    else:
        assert {"main.Sum[go.shape.int]", "main.Sum[go.shape.float64]", "main.(*Stack[go.shape.int]).Push"} <= names


@versions
def test_closures_and_wrappers(version: str) -> None:
    found = program(version, "stripped")
    assert found.sites(one(found, "main.adder.func1")).returns
    reasons = {f.name: str(found.sites(f).reason) for f in found.functions() if not found.is_assembly(f)}
    targets = [
        reason[len("ends in a jump to ") :] for reason in reasons.values() if reason.startswith("ends in a jump")
    ]
    assert len(targets) > 5 and all(found.named(target) for target in targets)
    if version == "1.15":
        assert reasons["main.(*Embeds).Area"] == "ends in a jump to main.(*Square).Area"


@versions
def test_an_assembly_function_and_its_wrapper_are_told_apart(version: str) -> None:
    found = program(version, "stripped")
    by_name: dict[str, list[GoFunction]] = {}
    for function in found.functions():
        by_name.setdefault(function.name, []).append(function)
    assert found.is_assembly(one(found, "runtime.goexit"))
    assert not found.is_assembly(one(found, "main.Rec"))
    twice = [pair for name, pair in by_name.items() if len(pair) == 2 and "[...]" not in name]
    if toolchains.go(version).number >= (1, 17):
        assert len(twice) > 5
        assert any(found.is_assembly(a) != found.is_assembly(b) for a, b in twice)
    assert all(sorted(found.named(name)) == sorted(found_twice) for name, found_twice in list(by_name.items())[::50])


# --- sites


@versions
@matrix
def test_returns_are_every_ret_instruction(version: str, kind: str) -> None:
    found = program(version, kind)
    proven = checked = 0
    for function in found.functions()[:: 1 if kind == "plain" else 9]:
        sites = found.sites(function)
        assert (sites.reason is None) == bool(sites.returns)
        checked += 1
        if sites.returns:
            decoder = iced.Decoder(64, code_of(found, function), ip=function.address)
            assert list(sites.returns) == [i.ip for i in decoder if i.flow_control == iced.FlowControl.RETURN]
            proven += 1
        elif not found.is_assembly(function):
            assert re.match(r"never returns|ends in a jump to |may end in an indirect jump", str(sites.reason))
    assert proven > checked * 0.75


@versions
@matrix
def test_returns_of_known_functions(version: str, kind: str) -> None:
    found = program(version, kind)
    for name, least in (("Rec", 2), ("BigFrame", 1), ("HugeFrame", 1), ("Leaf", 1), ("Many", 4), ("main", 1)):
        assert len(found.sites(one(found, f"main.{name}")).returns) >= least, name
    for name in ("main.Forever", "main.Panics"):
        assert found.sites(one(found, name))[1:3] == ((), "never returns")


MORESTACK = {f"runtime.morestack{suffix}" for suffix in ("", "_noctxt", "c", ".abi0", "_noctxt.abi0", "c.abi0")}
CHECK = re.compile(
    rb"(?:\x4c\x8d\x64\x24.|\x4c\x8d\xa4\x24....|\x49\x89\xe4\x49\x81\xec....(?:\x72.|\x0f\x82....))?"
    rb"[\x49\x4d]\x3b\x66[\x10\x18](?:\x76.|\x0f\x86....)",
    re.DOTALL,
)
# Programs up to Go 1.16, and assembly.
CHECK_OF_ABI0 = re.compile(
    rb"(?:\x64\x48\x8b\x0c\x25....|\x48\xc7\xc1....\x64\x48\x8b\x09)"
    rb"(?:\x48\x3b\x61[\x10\x18]|\x48\x8d(?:\x44\x24.|\x84\x24....)\x48\x3b\x41[\x10\x18])(?:\x76.|\x0f\x86....)",
    re.DOTALL,
)


@versions
@matrix
def test_the_entry_lies_after_the_stack_check(version: str, kind: str) -> None:
    """Two more witnesses than the code under test uses: the check's bytes, and the symbol table's runtime.morestack."""
    found = program(version, kind)
    morestack = {a for a, names in symbols(build(version, kind)[1]).items() if names & MORESTACK}
    matched = unmatched = 0
    for function in found.functions()[:: 2 if kind == "plain" else 9]:
        code = code_of(found, function)
        entry = found.sites(function).entry
        flow = disasm.control_flow("x86-64", code, function.address)
        grows = any(i.kind == disasm.CALL and i.target in morestack for i in flow)
        assert (entry != function.address) == grows, function
        if not grows:
            continue
        (check,) = [i for i in flow if i.address + i.length == entry]
        assert check.kind == disasm.BRANCH
        found_check = CHECK.match(code) or CHECK_OF_ABI0.match(code)
        if found_check:
            assert entry == function.address + found_check.end(), function
            matched += 1
        else:
            unmatched += 1
    assert matched > 20 * unmatched


@versions
@matrix
def test_where_g_is(version: str, kind: str) -> None:
    found = program(version, kind)
    old = toolchains.go(version).number < (1, 17)
    assert found.sites(one(found, "main.Rec")).stack_abi == old
    assert found.sites(one(found, "runtime.mallocgc")).stack_abi == old
    assert found.sites(one(found, "runtime.goexit")).stack_abi
    main = [f for f in found.functions() if f.name.startswith("main.") and not f.name.startswith("main._C")]
    assert {found.sites(f).stack_abi for f in main} == {old}


def test_the_wrapper_for_calls_from_assembly_has_no_g_in_its_register() -> None:
    found = program("1.27", "stripped")
    wrappers = [f for f in found.named("runtime.asyncPreempt2") if found.sites(f).reason]
    assert wrappers and all(found.sites(f).stack_abi for f in wrappers)


@versions
def test_assembly_that_leaves_by_a_jump_has_no_returns(version: str) -> None:
    found = program(version, "plain")
    (memequal,) = [f for f in found.named("runtime.memequal") if found.is_assembly(f)]
    reason = found.sites(memequal).reason
    assert reason and re.match(r"(may end|ends) in a jump to (runtime\.)?memeqbody", reason)


def test_data_in_code_is_no_code() -> None:
    """A jump over bytes that aren't instructions: their 0xC3 is no return."""
    go = shutil.which("go")
    assert go
    with Elf.open(go) as elf:
        found = golang.find(elf)
        assert found
        sites = [found.sites(f) for f in found.named("crypto/internal/boring/sig.StandardCrypto")]
        for site in sites:
            assert all(elf.read(address, 1) == b"\xc3" for address in site.returns)


# --- arm64


@pytest.mark.parametrize("version", ARM64_VERSIONS)
def test_arm64(version: str) -> None:
    found = program(version, "arm64")
    reference = symbols(build(version, "arm64")[1])
    assert found.elf.machine == "arm64"
    start, end = found.text
    named = {a for a, names in reference.items() if start <= a < end and names != {"runtime.text"}}
    assert {f.address for f in found.functions()} <= named
    assert named - {f.address for f in found.functions()} <= {a for a in named if "runtime.text" in reference[a]}
    morestack = {a for a, names in reference.items() if names & MORESTACK}
    proven = grown = restarting = 0
    for function in found.functions():
        sites = found.sites(function)
        assert not sites.stack_abi
        first = sites.entry  # of those that are one to the compiler: all but the last set R27, a scratch register
        while first > function.address and found.elf.read(first - 4, 1)[0] & 0x1F == 27:
            first -= 4
        restarting += first != sites.entry
        if sites.returns:
            proven += 1
            words = struct.unpack(f"<{function.size // 4}I", code_of(found, function))
            rets = [function.address + 4 * i for i, word in enumerate(words) if word & 0xFFFFFC1F == 0xD65F0000]
            assert list(sites.returns) == rets
        if function.size % 4:
            continue  # a marker, not code
        flow = disasm.control_flow("arm64", code_of(found, function), function.address)
        grows = any(i.kind == disasm.CALL and i.target in morestack for i in flow)
        assert (first != function.address) == grows, function
        if grows:
            grown += 1
            (word,) = struct.unpack("<I", found.elf.read(first - 4, 4))
            assert word & 0xFF00001F == 0x54000009  # b.ls
    assert proven > 1000 and grown > 800 and restarting > 5
    assert found.goid_offset == 152


# --- inlining


@versions
@pytest.mark.parametrize("kind", ["plain", "stripped", "no-sections", "pie-no-sections", "cgo-pie"])
def test_inlined_calls(version: str, kind: str) -> None:
    found = program(version, kind)
    inlined = found.inlined_into(["main.inl", "main.Rec", "main.NoSuchThing", "fmt.Println"])
    assert inlined["main.inl"] == ["main.Calls"]
    assert inlined["fmt.Println"] == ["main.main"]
    assert set(inlined) == {"main.inl", "fmt.Println"}
    calls = one(found, "main.Calls")
    frames = {tuple(found.frames_at(pc)) for pc in range(calls.address, calls.address + calls.size)}
    assert frames == {("main.Calls",), ("main.inl", "main.Calls")}
    assert found.frames_at(found.text[0] - 1) == []


def test_inlined_calls_agree_with_the_frames() -> None:
    found = program("1.27", "stripped")
    name = "sync.(*Mutex).Lock"
    callers = found.inlined_into([name])[name]
    assert callers

    def has_it(function: GoFunction) -> bool:
        pcs = range(function.address, function.address + min(function.size, 3000), 4)
        return any(name in found.frames_at(pc)[:-1] for pc in pcs)

    assert all(has_it(one(found, caller)) for caller in callers)
    others = [f for f in found.functions()[::60] if f.name not in callers]
    assert not any(map(has_it, others))


# --- a big program


def test_the_go_command() -> None:
    go = shutil.which("go")
    assert go
    with Elf.open(go) as elf:
        found = golang.find(elf)
        assert found
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout.split()[2]
        assert found.version.text.split()[0] == said
        functions = found.functions()
        assert len(functions) > 10_000
        reasons = [str(found.sites(f).reason) for f in functions if not found.is_assembly(f)]
        assert sum(r == "None" for r in reasons) > 0.95 * len(reasons)
        known = r"None|never returns|ends in a jump to |may end in an indirect jump"
        assert [r for r in reasons if not re.match(known, r)] == []
        assert len(found.inlined_into(["sync.(*Mutex).Lock"])["sync.(*Mutex).Lock"]) > 50


# --- files that are no Go programs, and files that lie


@pytest.mark.parametrize("path", ["/bin/sh", "/bin/true"])
def test_other_programs_have_no_go_code(path: str) -> None:
    with Elf.open(path) as elf:
        assert golang.find(elf) is None
    assert golang.find(Elf(without_sections(Path(path).read_bytes()), path)) is None


def test_a_magic_by_accident_is_no_function_table() -> None:
    data = bytearray(without_sections(Path("/bin/sh").read_bytes()))
    elf = Elf(bytes(data), "sh")
    text = next(s for s in elf.segments if s.type == 1 and s.flags & 1)
    for i, magic in enumerate((0xFFFFFFF1, 0xFFFFFFF0, 0xFFFFFFFA, 0xFFFFFFFB)):
        at = text.offset + 64 + 512 * i
        words = (5, 1, 0, 64, 80, 96, 112, 128) if magic >= 0xFFFFFFF0 else ()
        struct.pack_into(f"<IHBB{len(words)}Q", data, at, magic, 0, 1, 8, *words)
    assert golang.find(Elf(bytes(data), "sh")) is None


def test_a_go_program_with_a_spoilt_table_is_refused() -> None:
    data, sibling = build("1.27", "plain")
    with Elf.open(str(sibling)) as elf:
        section = elf.section(".gopclntab")
    assert section
    spoilt = bytearray(data)
    spoilt[section.offset] ^= 0xFF
    with pytest.raises(BinaryError, match="function table"):
        golang.find(Elf(bytes(spoilt), "spoilt"))


def test_an_unknown_release_has_no_goid() -> None:
    data, _ = build("1.27", "plain")
    newer = data.replace(b"go1.27", b"go1.99")
    found = golang.find(Elf(newer, "newer"))
    assert found and found.version[:2] == (1, 99)
    assert found.goid_offset is None and found.inlined_into(["main.inl"]) == {}
    assert found.sites(one(found, "main.Rec")).returns
    silent = data.replace(b"\xff Go buildinf:", b"\xff No buildinf:")
    found = golang.find(Elf(silent, "silent"))
    assert found and found.version.inferred and found.version[:2] == (1, 20) and found.goid_offset is None


def use(data: bytes, rng: random.Random) -> None:
    """What a resolver would do with the file."""
    elf = Elf(data, "hostile")
    found = golang.find(elf)
    if found is None:
        return
    functions = found.functions()
    assert found.tls_offset % 8 == 0
    for function in rng.sample(functions, min(40, len(functions))):
        found.sites(function)
        found.frames_at(function.address + function.size // 2)
    found.search(re.compile("main"), (b"main",))
    found.inlined_into(["main.inl", "fmt.Println"])


def places(elf: Elf) -> Iterator[tuple[int, int]]:
    """Where lies are worth telling: (offset, size)."""
    table = elf.section(".gopclntab")
    assert table
    yield table.offset, 72
    count = struct.unpack_from("<Q", elf.data, table.offset + 8)[0]
    start = struct.unpack_from("<Q", elf.data, table.offset + 64)[0]
    yield (table.offset + (start if start < table.size else 16)), 16 * count
    yield table.offset, table.size
    for name in (".go.module", ".noptrdata", ".go.buildinfo", ".rodata"):
        section = elf.section(name)
        if section and section.size:
            yield section.offset, section.size
    yield 0, 64 + 56 * 8


@pytest.mark.parametrize("version", ["1.15", "1.19", "1.27"])
def test_lies_are_found_out_or_harmless(version: str) -> None:
    data, sibling = build(version, "plain")
    with Elf.open(str(sibling)) as elf:
        where = list(places(elf))
    rng = random.Random(f"lies {version}")
    interesting = (0, 1, 0x7F, 0x80, 0xFF)
    refused = 0
    for _ in range(110):
        lie = bytearray(data)
        offset, size = rng.choice(where)
        for _ in range(rng.choice((1, 3, 40))):
            width = rng.choice((1, 1, 4, 8))
            at = offset + rng.randrange(max(1, size - width))
            lie[at : at + width] = bytes([rng.choice((*interesting, rng.randrange(256)))]) * width
        try:
            use(bytes(lie), rng)
        except Error:
            refused += 1
    assert 10 < refused < 110


@pytest.mark.parametrize("version", ["1.15", "1.27"])
def test_truncated_files(version: str) -> None:
    data, _ = build(version, "no-sections")
    rng = random.Random(f"cut {version}")
    for _ in range(30):
        cut = bytearray(data[: rng.randrange(64, len(data))])
        for header in range(64, 64 + 56 * struct.unpack_from("<H", data, 56)[0], 56):
            if header + 56 > len(cut):
                break
            kind, _, offset, vaddr, paddr, filesz = struct.unpack_from("<IIQQQQ", cut, header)
            if kind == 1 and offset + filesz > len(cut):  # make the segments fit, so that the tables are what is cut
                struct.pack_into("<IIQQQQ", cut, header, kind, 4, offset, vaddr, paddr, max(0, len(cut) - offset))
        try:
            use(bytes(cut), rng)
        except Error:
            continue


@versions
@pytest.mark.parametrize("kind", ["plain", "stripped", "cgo-pie"])
def test_entries_can_be_had_without_returns(version: str, kind: str) -> None:
    found = program(version, kind)
    for function in found.functions()[::5]:
        both, entry = found.sites(function), found.sites(function, returns=False)
        assert (entry.returns, entry.stack_abi) == ((), both.stack_abi)
        assert entry.entry == both.entry
        assert entry.reason is None or not function.size


def test_functions_without_a_body() -> None:
    found = program("local", "plain")
    inlined = found.without_body(re.compile("main\\..*"), (b"main.",))
    assert inlined
    assert not {function.name for function in found.functions()} & set(inlined)
    assert all(found.inlined_into([name]) for name in inlined[:3])
    assert found.without_body(re.compile(""), ()) == []
