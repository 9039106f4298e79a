# SPDX-License-Identifier: BSD-2-Clause
"""Debug information of programs compiled here, in each form that compilers and tools give it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyebpf.binary import signature as s
from pyebpf.binary import types as t
from pyebpf.binary.dwarf import CFA, Dwarf, Formal, Subprogram
from pyebpf.binary.elf import Elf

C_SOURCE = r"""
#include <stdint.h>
typedef enum { RED, GREEN = 5, BLUE = -1 } color_t;
struct node { int x : 3; unsigned y : 5; union { int k; float f; }; struct node *next; uint8_t bytes[2][3]; };
typedef struct { long a, b, c; } big_t;
typedef struct __attribute__((packed)) { char tag; uint64_t value; } packed_t;
volatile long sink;
__attribute__((noinline)) long all(int i, const char *text, uint32_t u, struct node *n, color_t c, big_t big,
                                   double d, void (*call)(int, char *), _Bool yes, packed_t packed)
{ sink += i + text[0] + u + n->x + c + big.a + (long)d + yes + (long)packed.value; if (call) call(1, 0); return sink; }
__attribute__((noinline)) int many(int format, ...) { sink++; return format; }
__attribute__((noinline)) static int special(int used, int unused) { sink += used; return used * 3; }
int main(int argc, char **argv)
{
    struct node n = {1, 2, {3}, &n, {{0}}};
    return (int)all(argc, argv[0], 1, &n, GREEN, (big_t){1, 2, 3}, 2.0, 0, 1, (packed_t){1, 2}) + many(1, 2)
        + special(argc, 7);
}
"""

CPP_SOURCE = r"""
#include <memory>
#include <string>
#include <string_view>
#include <vector>
namespace ns {
struct Base { virtual ~Base() {} long id; };
struct Plain { int a, b; };
enum class Mode : short { Off = -1, On = 3 };
struct Foo : Base {
    int factor; std::string name; Plain plain;
    explicit Foo(int q) : factor(q) {}
    __attribute__((noinline)) int mul(int x, const std::string &n);
    static int counter;
};
int Foo::counter;
int Foo::mul(int x, const std::string &n) { counter++; return factor * x + (int)n.size(); }
namespace { struct Hidden { int h; }; }
__attribute__((noinline)) Mode flip(Mode m, Plain p, Foo f, std::vector<int> v, std::unique_ptr<Foo> u,
                                    std::string_view view, Hidden *h)
{
    Foo::counter += p.a + f.factor + (int)v.size() + (u ? 1 : 0) + (int)view.size() + h->h;
    return m == Mode::Off ? Mode::On : Mode::Off;
}
}
int main(int argc, char **)
{
    ns::Foo foo(argc);
    ns::Hidden h{1};
    auto m = ns::flip(ns::Mode::Off, {1, 2}, foo, {1, 2}, nullptr, "view", &h);
    return foo.mul(3, "abc") + (int)m;
}
"""

RUST_SOURCE = r"""
#[derive(Clone)] pub struct Point { pub tag: u8, pub name: String, pub values: Vec<u32> }
#[derive(Clone, Copy)] pub enum Color { Red, Blue = 7 }
pub enum Shape { Empty, Circle(u32), Named { x: u64, s: String } }
#[inline(never)]
pub fn take(s: &str, owned: String, v: Vec<u16>, slice: &[u32], p: &Point, c: Color, d: Shape, o: Option<u64>,
            boxed: Option<Box<Point>>, ch: char, t: (u8, u32), b: bool) -> Result<u32, String> {
    let extra = match d {
        Shape::Empty => 0, Shape::Circle(r) => r, Shape::Named { x, s } => (x + s.len() as u64) as u32
    };
    if b { return Err(format!("{}", extra)); }
    Ok(s.len() as u32 + owned.len() as u32 + v.len() as u32 + slice.len() as u32 + p.values.len() as u32 + c as u32
       + o.unwrap_or(1) as u32 + boxed.is_some() as u32 + ch as u32 + t.1 + p.tag as u32)
}
impl Point { #[inline(never)] pub fn grow(&mut self, by: i32) -> usize { self.tag = by as u8; self.values.len() } }
fn main() {
    let n = std::env::args().count();
    let mut p = Point { tag: 1, name: "n".into(), values: vec![1] };
    let color = if n > 1 { Color::Red } else { Color::Blue };
    let shape = if n > 2 { Shape::Empty } else if n == 2 { Shape::Circle(1) }
        else { Shape::Named { x: 1, s: "s".into() } };
    let r = take("abc", "d".into(), vec![1], &[1, 2], &p, color, shape, Some(n as u64), None, 'x', (1, 2), n == 9);
    println!("{:?} {} {}", r, p.grow(n as i32), p.name);
}
"""

COMPILERS = {".c": ["gcc"], ".cpp": ["g++", "-std=c++17"], ".rs": ["rustc", "--edition", "2021", "-g"]}
CLANG = {".c": ["clang"], ".cpp": ["clang++", "-std=c++17"]}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A function that compiles a source with flags, once."""
    folder = tmp_path_factory.mktemp("dwarf")

    @functools.cache
    def compiled(suffix: str, *flags: str, clang: bool = False) -> Path:
        source = {".c": C_SOURCE, ".cpp": CPP_SOURCE, ".rs": RUST_SOURCE}[suffix]
        name = re.sub(r"[^\w.-]", "_", "_".join([suffix[1:], *flags, "clang" if clang else ""]))
        path = folder / f"{name}{suffix}"
        path.write_text(source)
        command = (CLANG if clang else COMPILERS)[suffix]
        output = folder / name
        subprocess.run([*command, *flags, "-o", output.name, path.name], check=True, cwd=folder)
        return output

    return compiled


def symbols(path: Path) -> dict[str, int]:
    lines = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {p[2]: int(p[0], 16) for p in (line.split(None, 2) for line in lines) if len(p) == 3 and p[1] in "tTW"}


def dwarf_of(path: Path, root: str = "/") -> Dwarf:
    found = Dwarf.of(Elf.open(str(path)), root)
    assert isinstance(found, Dwarf), found
    return found


def function(path: Path, part: str) -> tuple[Subprogram, int]:
    """The function with a symbol that has ``part`` in it, and its address."""
    (address,) = {address for name, address in symbols(path).items() if part in name and ".cold" not in name}
    found = dwarf_of(path).subprogram(address)
    assert found is not None
    assert found.low_pc == address
    return found, address


def formals(subprogram: Subprogram) -> dict[str, Formal]:
    return {formal.name: formal for formal in subprogram.formals}


FORMS = [
    *[(f"-gdwarf-{version}", f"-O{level}") for version in (2, 3, 4, 5) for level in (0, 2)],
    ("-gdwarf-5", "-O2", "-gz"), ("-gdwarf-4", "-O2", "-gz=zlib-gnu"), ("-gdwarf-5", "-gdwarf64", "-O2"),
    ("-gdwarf-5", "-O2", "-fdebug-types-section"), ("-gdwarf-4", "-O2", "-fdebug-types-section"),
]  # fmt: skip
CLANG_FORMS = [(f"-gdwarf-{version}", f"-O{level}") for version in (4, 5) for level in (0, 2)]
ALL_FORMS = [(flags, False) for flags in FORMS] + [(flags, True) for flags in CLANG_FORMS]


@pytest.mark.parametrize(("flags", "clang"), ALL_FORMS, ids=str)
def test_c(build, flags: tuple[str, ...], clang: bool) -> None:
    found, address = function(build(".c", *flags, clang=clang), "all")
    assert (found.name, found.language, found.variadic) == ("all", "c", False)
    assert ("clang" if clang else "GNU C") in found.producer
    assert list(formals(found)) == ["i", "text", "u", "n", "c", "big", "d", "call", "yes", "packed"]
    kinds = {name: (f.type.kind, f.type.name, f.type.size, f.type.align) for name, f in formals(found).items()}
    assert kinds == {
        "i": (t.INT, "int", 4, 4),
        "text": (t.POINTER, "char *", 8, 8),
        "u": (t.UINT, "uint32_t", 4, 4),
        "n": (t.POINTER, "struct node *", 8, 8),
        "c": (t.ENUM, "color_t", 4, 4),
        "big": (t.STRUCT, "big_t", 24, 8),
        "d": (t.FLOAT, "double", 8, 8),
        "call": (t.POINTER, "void (*)(int, char *)", 8, 8),
        "yes": (t.BOOL, "_Bool", 1, 1),
        "packed": (t.STRUCT, "packed_t", 9, 1),
    }
    assert found.result is not None and found.result.kind == t.INT and found.result.size == 8
    assert formals(found)["c"].type.enumerators == {0: "RED", 5: "GREEN", -1: "BLUE"}
    node = formals(found)["n"].type.target
    assert node is not None
    bits = [(m.name, m.offset, m.bit_offset, m.bit_size, m.type.kind) for m in node.members]
    assert bits == [
        ("x", 0, 0, 3, t.INT), ("y", 0, 3, 5, t.UINT), ("", 4, 0, 0, t.UNION), ("next", 8, 0, 0, t.POINTER),
        ("bytes", 16, 0, 0, t.ARRAY),
    ]  # fmt: skip
    assert node.members[3].type.target is not None and node.members[3].type.target.name == "struct node"
    rows = node.members[4].type
    assert rows.count == 2 and rows.target is not None and rows.target.count == 3 and rows.size == 6
    if "-gdwarf-2" in flags:
        return  # it has no DW_OP_call_frame_cfa: places are relative to the stack pointer, where it stands
    places = {name: formal.location(address) for name, formal in formals(found).items()}
    if not clang:
        assert places["big"].pieces == (s.Piece(CFA, 24),)
    if "-O2" in flags:
        registers = {name: place.pieces[0].register for name, place in places.items() if name in ("i", "text", "u")}
        assert registers == {"i": "di", "text": "si", "u": "dx"}
        assert places["d"].pieces[0][:1] == (s.FLOAT_REGISTER,) and places["d"].pieces[0].register == "xmm0"
    else:
        kind = s.MEMORY if clang else CFA
        assert places["i"].pieces[0].kind == kind and places["i"].pieces[0].offset < 0


def test_variadic_and_specialised(build) -> None:
    path = build(".c", "-gdwarf-5", "-O2")
    many, _ = function(path, "many")
    assert many.variadic and [formal.name for formal in many.formals] == ["format"]
    special, address = function(path, "special")
    assert {"used", "unused"} == set(formals(special))
    assert formals(special)["unused"].location(address).pieces[0].kind in (s.ABSENT, s.CONSTANT)


@pytest.mark.parametrize(("flags", "clang"), [f for f in ALL_FORMS if "-gdwarf-2" not in f[0]], ids=str)
def test_cpp(build, flags: tuple[str, ...], clang: bool) -> None:
    path = build(".cpp", *flags, clang=clang)
    mul, address = function(path, "3Foo3mul")
    assert (mul.name, mul.language) == ("mul", "c++")
    assert mul.linkage_name.startswith("_ZN2ns3Foo3mulEiRKNSt7__cxx1112basic_string")
    assert [(formal.name, formal.artificial) for formal in mul.formals] == [("this", True), ("x", False), ("n", False)]
    this, _, name = (formal.type for formal in mul.formals)
    assert (this.kind, this.name) == (t.POINTER, "ns::Foo *")
    assert (name.kind, name.name) == (t.REFERENCE, "std::string &")
    assert name.target is not None
    assert (name.target.kind, name.target.size, name.target.text) == (t.STD_STRING, 32, t.Text(0, 8))
    foo = this.target
    assert foo is not None and foo.by_reference
    members = [(m.name, m.embedded, m.type.name) for m in foo.members]
    assert members[0][1:] == (True, "ns::Base")
    assert members[1:] == [("factor", False, "int"), ("name", False, "std::string"), ("plain", False, "ns::Plain")]
    if "-O2" in flags:
        assert [f.location(address).pieces[0].register for f in mul.formals] == ["di", "si", "dx"]
    flip, address = function(path, "ns4flip")
    found = formals(flip)
    assert list(found) == ["m", "p", "f", "v", "u", "view", "h"]
    assert found["m"].type.enumerators == {-1: "Off", 3: "On"} and found["m"].type.name == "ns::Mode"
    passed = {name: formal.type.by_reference for name, formal in found.items()}
    assert [name for name, by_reference in passed.items() if by_reference] == ["f", "v", "u"]
    assert (found["view"].type.kind, found["view"].type.text) == (t.STD_STRING, t.Text(8, 0))
    assert found["h"].type.name == "ns::(anonymous namespace)::Hidden *"
    place = found["f"].location(address)
    if "-O2" in flags:
        assert place.pieces[0].kind in (s.MEMORY, s.ABSENT)
    elif not clang:  # whose locations begin after the function's prologue
        assert place.indirect


def test_constructor(build) -> None:
    """A constructor's instance refers to an abstract one, and that to the declaration in its class."""
    found, _ = function(build(".cpp", "-gdwarf-5", "-O0"), "N2ns3FooC2Ei")
    assert found.name == "Foo"
    assert [(formal.name, formal.type.name) for formal in found.formals] == [("this", "ns::Foo *"), ("q", "int")]


@pytest.mark.parametrize("level", ["0", "2"])
def test_rust(build, level: str) -> None:
    path = build(".rs", "-C", f"opt-level={level}")
    found, address = function(path, "4take17h")
    assert (found.name, found.language) == ("take", "rust")
    kinds = {formal.name: (formal.type.kind, formal.type.name) for formal in found.formals}
    assert kinds["s"] == (t.STRING, "&str")
    assert kinds["owned"] == (t.RUST_STRING, "alloc::string::String")
    assert kinds["v"] == (t.RUST_VEC, "alloc::vec::Vec<u16, alloc::alloc::Global>")
    assert kinds["slice"] == (t.SLICE, "&[u32]")
    assert kinds["p"][0] == t.REFERENCE and kinds["p"][1].endswith("::Point")
    assert kinds["c"][0] == t.ENUM and kinds["ch"] == (t.RUNE, "char") and kinds["b"] == (t.BOOL, "bool")
    types = {formal.name: formal.type for formal in found.formals}
    for name in ("owned", "v"):
        text = types[name].text
        assert text is not None and {text.pointer, text.length} < {0, 8, 16}
    assert types["v"].target is not None and types["v"].target.name == "u16"
    assert [member.name for member in types["t"].members] == ["0", "1"]
    shape = types["d"]
    assert shape.kind == t.VARIANT
    assert [variant.member.name for variant in shape.variants] == ["Empty", "Circle", "Named"]
    option = types["o"]
    assert [(v.value, v.member.name) for v in option.variants] == [(0, "None"), (1, "Some")]
    assert [m.name for m in option.variants[1].member.type.members] == ["0"]
    boxed = types["boxed"]
    assert boxed.size == 8 and [(v.value, v.member.name) for v in boxed.variants] == [(0, "None"), (None, "Some")]
    assert found.result is not None and found.result.kind == t.VARIANT
    grow, address = function(path, "4grow17h")
    assert [formal.name for formal in grow.formals] == ["self", "by"]
    if level == "2":
        assert [f.location(address).pieces[0].register for f in grow.formals] == ["di", "si"]


@pytest.mark.parametrize(("suffix", "flags", "clang"), [
    (".c", ("-gdwarf-4", "-O2"), False), (".c", ("-gdwarf-5", "-O0"), True), (".cpp", ("-gdwarf-5", "-O2"), False),
    (".cpp", ("-gdwarf-5", "-O0"), False), (".cpp", ("-gdwarf-4", "-O2"), True), (".rs", ("-C", "opt-level=2"), False),
])  # fmt: skip
def test_agrees_with_llvm(build, suffix: str, flags: tuple[str, ...], clang: bool) -> None:
    """Every function that another reader finds is found here, with the same name and number of parameters."""
    path = build(suffix, *flags, clang=clang)
    text = subprocess.run(["llvm-dwarfdump", "--debug-info", path], capture_output=True, text=True, check=True).stdout
    dwarf, compared = dwarf_of(path), 0
    for entry in re.split(r"\n\n(?=0x)", text):
        if "DW_TAG_subprogram" not in entry.splitlines()[0]:
            continue
        low = re.search(r"DW_AT_low_pc\s+\((0x[0-9a-f]+)\)", entry)
        if low is None or not int(low[1], 16):
            continue
        found = dwarf.subprogram(int(low[1], 16))
        assert found is not None, entry
        name = re.search(r'DW_AT_name\s+\("(.*)"\)', entry)
        high = re.search(r"DW_AT_high_pc\s+\((0x[0-9a-f]+)\)", entry)
        assert name is None or found.name == name[1] or suffix == ".rs"  # rustc folds functions with the same code
        assert high is not None and found.high_pc == int(high[1], 16)
        compared += 1
    assert compared >= 4


def test_stripped_with_a_debug_file(build, tmp_path: Path) -> None:
    path = build(".cpp", "-gdwarf-5", "-O2")
    debug = tmp_path / "usr/lib/debug/program.debug"
    debug.parent.mkdir(parents=True)
    stripped = tmp_path / "program"
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", path, stripped], check=True)
    reason = Dwarf.of(Elf.open(str(stripped)), "/nonexistent")
    assert isinstance(reason, str) and str(stripped) in reason and "looked for a debug file at" in reason
    dwarf = dwarf_of(stripped, str(tmp_path))
    assert dwarf.path == str(debug)
    (address,) = (address for name, address in symbols(path).items() if "ns4flip" in name and ".cold" not in name)
    found = dwarf.subprogram(address)
    assert found is not None and found.path == str(debug) and len(found.formals) == 7
    dwarf.close()


def test_no_debug_information(build) -> None:
    reason = Dwarf.of(Elf.open(str(build(".c", "-O2"))))
    assert isinstance(reason, str) and reason.startswith("no debug information in ")


def test_split(build) -> None:
    for version in ("-gdwarf-4", "-gdwarf-5"):
        reason = Dwarf.of(Elf.open(str(build(".c", version, "-gsplit-dwarf", "-O2"))))
        assert isinstance(reason, str) and ".dwo" in reason


@pytest.mark.parametrize("standard", [False, True], ids=["gnu", "dwarf5"])
def test_shared_between_files(build, tmp_path: Path, standard: bool) -> None:
    """Debian's debug files refer to one that holds what the programs of a package have in common."""
    whole = [build(".cpp", "-gdwarf-5", "-O2"), build(".cpp", "-gdwarf-5", "-O0")]
    shrunk = [Path(shutil.copy(path, tmp_path / path.name)) for path in whole]
    shared = tmp_path / "usr/lib/debug/.dwz/shared.debug"
    shared.parent.mkdir(parents=True)
    form = ["-5"] if standard else []
    link = ["-m", shared, "-M", "/usr/lib/debug/.dwz/shared.debug"]
    subprocess.run(["dwz", *form, *link, *shrunk], check=True)
    assert shared.stat().st_size > 1000
    for before, after in zip(whole, shrunk):
        expected, found = dwarf_of(before), dwarf_of(after, str(tmp_path))
        compared = 0
        for address in symbols(before).values():
            one, other = expected.subprogram(address), found.subprogram(address)
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                compared += 1
                assert one.name == other.name
                assert [(f.name, f.type.name, f.type.size) for f in one.formals] == [
                    (f.name, f.type.name, f.type.size) for f in other.formals
                ]
                assert [f.location(address) for f in one.formals] == [f.location(address) for f in other.formals]
        assert compared > 5
        found.close()


@pytest.mark.parametrize(("suffix", "flags", "clang"), [
    (".c", ("-gdwarf-4", "-O2"), False), (".c", ("-gdwarf-5", "-O2"), True), (".cpp", ("-gdwarf-5", "-O2"), False),
    (".cpp", ("-gdwarf-4", "-O2"), True), (".c", ("-gdwarf-5", "-O0"), True),
])  # fmt: skip
def test_places_agree_with_gdb(build, suffix: str, flags: tuple[str, ...], clang: bool) -> None:
    path = build(suffix, *flags, clang=clang)
    addresses = {
        name: address for name, address in symbols(path).items() if re.fullmatch(r"(_ZN2ns)?[a-z0-9]\w+", name)
    }
    commands = [word for name in addresses for word in ("-ex", f"info scope {name}")]
    text = subprocess.run(["gdb", "-batch", "-nx", *commands, path], capture_output=True, text=True, check=True).stdout
    dwarf, compared = dwarf_of(path), 0
    for name, described in re.findall(r"^Scope for (\S+):\n(.*?)(?=^Scope for|\Z)", text, re.MULTILINE | re.DOTALL):
        found = dwarf.subprogram(addresses[name])
        assert found is not None
        for symbol in re.split(r"^Symbol ", described, flags=re.MULTILINE)[1:]:
            formal = formals(found).get(symbol.split()[0])
            if formal is None:
                continue
            place = formal.location(addresses[name]).pieces[0]
            start = re.search(rf"Range {addresses[name]:#x}-\S+: (.*)", symbol)
            text = start[1] if start else symbol
            register = re.match(r"(?:\S+ is )?a variable in \$(\w+)", text)
            if register and ("multi-location" not in symbol or start):
                assert place.kind in (s.REGISTER, s.FLOAT_REGISTER)
                assert place.register == re.sub(r"^[re](?=[a-z])", "", register[1])
                compared += 1
            offset = re.match(r"\S+ is a variable at frame base reg \$rbp offset (\S+),", text)
            if offset:
                assert (place.kind, place.register, place.offset) == (
                    s.MEMORY,
                    "bp",
                    sum(map(int, offset[1].split("+"))),
                )
                compared += 1
    assert compared >= 4


def test_an_empty_range_at_the_first_instruction(tmp_path: Path) -> None:
    """gcc ends an unused parameter's range where it begins: at the first of several statements of an instruction."""
    source = tmp_path / "views.c"
    source.write_text(
        "#include <string.h>\n"
        "unsigned long unused(const char *s, int n) { (void)n; return strlen(s); }\n"
        "int replaced(int n, int m) { n = 5; m += n; return m; }\n"
    )
    for version in ("4", "5"):
        output = tmp_path / f"views{version}.o"
        command = ["gcc", "-O2", f"-gdwarf-{version}", "-shared", "-fPIC", str(source), "-o", str(output)]
        subprocess.run(command, check=True)
        with Elf.open(str(output)) as elf:
            dwarf = Dwarf.of(elf)
            assert isinstance(dwarf, Dwarf)
            symbols = subprocess.run(["nm", str(output)], check=True, capture_output=True, text=True).stdout.split("\n")
            where = {line.split()[2]: int(line.split()[0], 16) for line in symbols if len(line.split()) == 3}
            found = {}
            for name in ("unused", "replaced"):
                subprogram = dwarf.subprogram(where[name])
                assert subprogram is not None
                for formal in subprogram.formals:
                    (piece,) = formal.location(where[name]).pieces
                    found[f"{name} {formal.name}"] = (piece.kind, piece.register)
        assert found == {
            "unused s": ("register", "di"), "unused n": ("register", "si"),
            "replaced n": ("register", "di"), "replaced m": ("register", "si"),
        }  # fmt: skip
