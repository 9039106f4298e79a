# SPDX-License-Identifier: BSD-2-Clause
"""Functions by pattern and by address, in C, C++, Rust and Go."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pyebpf.binary import demangle as package
from pyebpf.binary.elf import Elf
from pyebpf.binary.image import Function, Image, TooManyFunctions
from pyebpf.binary.pattern import Pattern
from pyebpf.errors import BinaryError, TargetError, TargetNotFound

LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
C = r"""
#include <stdio.h>
#include <stdlib.h>
int work(int x) { return x + 1; }
int rework(int x) __attribute__((alias("work")));
static int chosen_here(int x) { return x; }
static void *choose(void) { return (void *)chosen_here; }
int chosen(int x) __attribute__((ifunc("choose")));
__attribute__((cold, noinline)) void complain(int x) { printf("%d is too much", x); }
int with_cold(int x) { if (x > 100) { complain(x); complain(x + 1); complain(x + 2); } return x * work(x); }
__attribute__((noinline)) static int cloned(int x, int y) { return printf("%d %d", x, y); }
int main(int argc, char **argv) { return work(argc) + chosen(2) + with_cold(argc) + cloned(argc, 7) + cloned(3, 7); }
"""
CXX = r"""
#include <cstdio>
#include <string>
#include <vector>
namespace shop {
struct Cart {
    std::vector<int> items;
    explicit Cart(int n);
    ~Cart();
    void add(int price);
    void add(const std::string &name, int price);
    int total() const;
    int operator[](int i) const;
    Cart &operator+=(int price);
};
Cart::Cart(int n) { items.reserve(n); }
Cart::~Cart() { items.clear(); }
void Cart::add(int price) { items.push_back(price); }
void Cart::add(const std::string &name, int price) { std::puts(name.c_str()); add(price); }
int Cart::total() const { int sum = 0; for (int i : items) sum += i; return sum; }
int Cart::operator[](int i) const { return items[i]; }
Cart &Cart::operator+=(int price) { add(price); return *this; }
template <typename T> T __attribute__((noinline)) largest(T a, T b) { return a > b ? a : b; }
template int largest<int>(int, int);
template double largest<double>(double, double);
}
extern "C" int plain(int x) { return x; }
int main() { shop::Cart cart(3); cart.add(3); cart.add("x", 4); cart += 5; return cart.total() + cart[1] + plain(1); }
"""
RUST = r"""
mod shop {
    pub struct Cart { pub items: Vec<i64> }
    impl Cart {
        #[inline(never)] pub fn total(&self) -> i64 { self.items.iter().sum() }
    }
    pub trait Named { fn name(&self) -> String; }
    impl Named for Cart { #[inline(never)] fn name(&self) -> String { format!("{}", self.items.len()) } }
}
use shop::Named;
fn main() { let cart = shop::Cart { items: vec![1, 2] }; println!("{} {}", cart.total(), cart.name()); }
"""
GO = r"""
package main

import "fmt"

type Arith struct{ sum int }

//go:noinline
func (a *Arith) Mul(x, y int) int { a.sum += x * y; return x * y }

//go:noinline
func Sum[T int | float64](values []T) T {
	var sum T
	for _, value := range values { sum += value }
	return sum
}

type List[T any] struct{ items []T }

//go:noinline
func (l *List[T]) Push(item T) { l.items = append(l.items, item) }

func main() {
	a := &Arith{}
	l := &List[string]{}
	l.Push("x")
	fmt.Println(a.Mul(2, 3), Sum([]int{1}), Sum([]float64{1}), l.items)
}
"""


def compile_with(directory: Path, suffix: str, source: str, *command: str) -> str:
    path = directory / f"source{suffix}"
    path.write_text(source)
    subprocess.run([*command, path.name], cwd=directory, check=True, capture_output=True)
    return str(directory / "program")


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("c")
    return compile_with(directory, ".c", C, "gcc", "-O2", "-no-pie", "-o", "program")


@pytest.fixture(scope="module")
def cxx_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("cxx")
    return compile_with(directory, ".cc", CXX, "g++", "-O1", "-fno-inline", "-o", "program")


@pytest.fixture(scope="module")
def rust_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("rust")
    return compile_with(directory, ".rs", RUST, "rustc", "-C", "opt-level=1", "-o", "program")


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("go")
    return compile_with(directory, ".go", GO, "go", "build", "-o", "program")


def names(functions: list[Function]) -> list[str]:
    return [function.name for function in functions]


# -- patterns


@pytest.mark.parametrize(
    ("glob", "matches", "doesnt"),
    [
        ("work", ["work"], ["rework", "works"]),
        ("*work", ["work", "rework"], ["works"]),
        ("w?rk", ["work"], ["wrk", "woork"]),
        ("a[b]*", ["a[b]", "a[b]c"], ["ab"]),
        ("main.(*Arith).Mul", ["main.(*Arith).Mul"], ["main.Arith.Mul"]),
        ("****", ["", "a", "a\nb"], []),
        ("runtime.*.gc*", ["runtime.mallocgc", "runtime.(*gcWork).get", "runtime.a.gcB"], ["runtime.gcStart"]),
        ("net.*", ["net.Dial"], ["net/http.Get", "netpoll"]),
        ("a*.b.c", ["ax.b.c", "axyb.c"], ["axybxc"]),
    ],
)
def test_globs(glob: str, matches: list[str], doesnt: list[str]) -> None:
    pattern = Pattern(glob)
    assert all(pattern.match(name) for name in matches)
    assert not any(pattern.match(name) for name in doesnt)


def test_globs_take_no_time_to_fail() -> None:
    assert not Pattern("a*" * 12 + "b").match("a" * 60)


@pytest.mark.parametrize(
    ("regex", "glob"),
    [
        ("work", "work*"),
        ("^v8::internal::", "v8::internal::*"),
        (r"main\.(\(\*Arith\)|x)", "*"),
        (r"main\.Sum$", "main.Sum*"),
        ("works?", "work*"),
        ("work{2}", "wor*"),
        ("a+b", "a*"),
        (r"\w+", "*"),
        ("a|b", "*"),
        ("(?i)abc", "*"),
    ],
)
def test_what_a_regex_requires(regex: str, glob: str) -> None:
    assert Pattern(regex, regex=True).glob == glob


@pytest.mark.parametrize(
    ("text", "regex"), [("", False), ("", True), ("(", True), ("a" * 5000, False), ("a\0b", False)]
)
def test_patterns_refused(text: str, regex: bool) -> None:
    with pytest.raises(TargetError):
        Pattern(text, regex)


# -- C


def test_c_by_name(c_program: str) -> None:
    with Image.open(c_program) as image:
        (work,) = image.search("work")
        assert (work.name, work.raw, work.language, work.aliases) == ("work", "work", "c", ("rework",))
        assert work.size > 0 and not work.indirect and work.table == ".symtab"
        with Elf.open(c_program) as elf:
            assert elf.vaddr_of(work.offset) == work.address
        assert image.search("rework")[0].aliases == ("work",)
        # One function, though both its names match.
        assert names(image.search("*work")) == ["work"]
        assert image.search("nothing*") == []
        assert names(image.search("mai?")) == ["main"]


def test_sorted_by_address(c_program: str) -> None:
    with Image.open(c_program) as image:
        addresses = [function.address for function in image.search("*")]
        assert addresses == sorted(set(addresses)) and len(addresses) > 5


def test_all_that_begin_with_a_text(tmp_path: Path) -> None:
    """So many that the whole table is walked, and one that is at the same place as another."""
    text = "".join(f"void many_{n}(void) {{ volatile int a = {n}; (void)a; }}\n" for n in range(300))
    text += "void other_one(void) __attribute__((alias(\"many_7\"))); void amany_1(void) { volatile int a = -1; }\n"
    path = compile_with(tmp_path, ".c", text + "int main(void) { return 0; }", "gcc", "-O1", "-o", "program")
    with Image.open(path) as image:
        found = image.search("many_*")
        assert {function.name for function in found} == {f"many_{n}" for n in range(300)}
        assert [function.aliases for function in found if function.name == "many_7"] == [("other_one",)]
        assert {"many_0", "amany_1", "main"} < {function.name for function in image.search("*")}


def test_c_regex(c_program: str) -> None:
    with Image.open(c_program) as image:
        assert names(image.search("w.rk$", regex=True)) == ["work"]
        assert set(names(image.search("work|main", regex=True))) == {"work", "main"}
        with pytest.raises(TargetError, match="not a regular expression"):
            image.search("w(", regex=True)


def test_indirect_function(c_program: str) -> None:
    with Image.open(c_program) as image:
        (chosen,) = image.search("chosen")
        assert chosen.indirect
        (choose,) = image.search("choose")
        assert choose.address == chosen.address and not choose.indirect
        assert not image.search("choose*")[0].indirect


def test_parts_and_clones(c_program: str) -> None:
    with Image.open(c_program) as image:
        assert names(image.search("with_cold*")) == ["with_cold"]
        (cold,) = image.search("with_cold.cold")
        (function,) = image.search("with_cold")
        assert image.cold_parts(function) == ((cold.address, cold.size),)
        assert image.cold_parts(image.search("main")[0]) == ()
        assert names(image.search("cloned*")) == ["cloned.constprop.0"]


def test_close_matches(c_program: str) -> None:
    with Image.open(c_program) as image:
        assert image.close_matches("wrok")[0] == "work"
        assert image.close_matches("with_clod") == ("with_cold",)  # and not its .cold part
        assert image.close_matches("*") == ()
        assert image.close_matches("qqqqqqqqqq") == ()


def test_imports(c_program: str) -> None:
    with Image.open(c_program) as image:
        assert image.search("printf") == []
        assert image.imports("print?") == ["printf"]
        assert image.imports("work") == []


def test_what_was_searched(c_program: str) -> None:
    with Image.open(c_program) as image:
        assert image.what_was_searched() == ".symtab, .dynsym"
    with Image.open("/bin/bash") as image:
        text = image.what_was_searched()
        assert text.startswith(".symtab (none), .dynsym, /usr/lib/debug/.build-id/")
        assert "debug link" in text and ".gnu_debugdata (none)" in text


def test_by_address(c_program: str) -> None:
    with Image.open(c_program) as image:
        (work,) = image.search("work")
        assert image.function_at(work.address + work.size - 1) == work
        assert image.function_at(0) is None
        assert not image.is_go_text(work.address)


def test_boundaries(c_program: str) -> None:
    """As objdump sees them."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", c_program], check=True, capture_output=True, text=True
    ).stdout
    starts = {int(line.split(":")[0], 16) for line in listing.splitlines() if line.startswith("  4") and "\t" in line}
    with Image.open(c_program) as image:
        (main,) = image.search("main")
        for address in range(main.address, main.address + main.size):
            assert image.boundary(address) == (address in starts)
        assert not image.boundary(0)
        assert not image.boundary(1 << 63)


def test_no_such_file_and_no_program(tmp_path: Path) -> None:
    with pytest.raises(TargetNotFound):
        Image.open(str(tmp_path / "none"))
    with pytest.raises(BinaryError):
        Image.open("/etc/passwd")


# -- C++


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("shop::Cart::total", ["shop::Cart::total() const"]),
        ("shop::Cart::total() const", ["shop::Cart::total() const"]),
        ("_ZNK4shop4Cart5totalEv", ["shop::Cart::total() const"]),
        ("shop::Cart::tot*", ["shop::Cart::total() const"]),
        ("*Cart::total", ["shop::Cart::total() const"]),
        ("shop::Cart::add(int)", ["shop::Cart::add(int)"]),
        ("shop::Cart::operator[]", ["shop::Cart::operator[](int) const"]),
        ("shop::Cart::operator+=", ["shop::Cart::operator+=(int)"]),
        ("plain", ["plain"]),
        ("total", []),
    ],
)
def test_cxx_by_name(cxx_program: str, pattern: str, expected: list[str]) -> None:
    with Image.open(cxx_program) as image:
        assert names(image.search(pattern)) == expected


def test_cxx_overloads_and_constructors(cxx_program: str) -> None:
    with Image.open(cxx_program) as image:
        assert len(image.search("shop::Cart::add")) == 2
        constructors = image.search("shop::Cart::Cart")
        assert len(constructors) == 1  # C1 and C2 are one function with one readable name
        assert constructors[0].aliases == ()
        assert constructors[0].language == "c++"
        assert len(image.search("*shop::largest<*")) == 2
        assert len(image.search("shop::*")) >= 8
        assert image.search("shop::Cart::.*", regex=True) == image.search("shop::Cart::*")


def test_cxx_close_matches(cxx_program: str) -> None:
    with Image.open(cxx_program) as image:
        assert "shop::Cart::total" in image.close_matches("shop::Cart::totla")


def test_node() -> None:
    """Looking for what can match finds what looking at everything does."""
    with Image.open("/usr/bin/node") as image:
        found = image.search("v8::internal::Heap::*")
        by_eye = subprocess.run(
            'readelf -sW /usr/bin/node | awk \'$4 == "FUNC" && $7 != "UND" {print $2, $8}\' | sort -u | c++filt',
            shell=True,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows = [line.split(" ", 1) for line in by_eye.splitlines()]
        # An instance of a template has its return type before its name.
        wanted = re.compile(r"([^(<]* )?v8::internal::Heap::")
        expected = {int(address, 16) for address, name in rows if wanted.match(name) and ".cold" not in name}
        assert {function.address for function in found} == expected
        (garbage,) = image.search("v8::internal::Heap::CollectGarbage")
        assert garbage.offset == image.elf.offset_of(garbage.address)


# -- Rust


def test_rust(rust_program: str) -> None:
    with Image.open(rust_program) as image:
        (total,) = image.search("*::shop::Cart::total")
        assert total.name.endswith("::shop::Cart::total") and total.language == "rust"
        assert image.search(total.name) == [total]
        assert len(image.search("*shop::Cart as *shop::Named>::name")) == 1


# -- Go


def test_go_by_name(go_program: str) -> None:
    with Image.open(go_program) as image:
        (mul,) = image.search("main.(*Arith).Mul")
        assert (mul.name, mul.language, mul.table) == ("main.(*Arith).Mul", "go", ".gopclntab")
        assert image.search("main.*.Mul") == [mul]
        assert image.search(r"main\.\(\*Arith\)", regex=True) == [mul]
        assert image.function_at(mul.address + 5) == mul
        assert image.is_go_text(mul.address)
        assert image.boundary(mul.address)
        assert image.what_was_searched().startswith(".gopclntab, ")
        assert image.close_matches("main.(*Arith).Mull")[0] == "main.(*Arith).Mul"


@pytest.mark.parametrize(
    "pattern", ["main.Sum", "main.Sum[...]", "main.Su?", "main.(*List).Push", "main.(*List[...]).Push"]
)
def test_go_generics(go_program: str, pattern: str) -> None:
    with Image.open(go_program) as image:
        found = names(image.search(pattern))
        assert len(found) == (2 if "Sum" in pattern or "Su?" in pattern else 1)
        assert all("[go.shape." in name for name in found)
        assert names(image.search(found[0])) == [found[0]]


def test_go_symbols_are_not_found_twice(go_program: str) -> None:
    with Image.open(go_program) as image:
        found = image.search("main.main")
        assert [(function.name, function.table) for function in found] == [("main.main", ".gopclntab")]
        everything = image.search("*")
        assert len({function.address for function in everything}) == len(everything)


def test_go_stripped(go_program: str, tmp_path: Path) -> None:
    stripped = str(tmp_path / "stripped")
    subprocess.run(["strip", "-o", stripped, go_program], check=True)
    with Image.open(stripped) as image, Image.open(go_program) as original:
        assert image.search("main.*") == original.search("main.*")


def test_too_many_functions(c_program: str) -> None:
    with Image.open(c_program) as image:
        every = image.search("*")
        assert image.search("*", limit=len(every)) == every
        with pytest.raises(TooManyFunctions):
            image.search("*", limit=len(every) - 1)


@pytest.mark.parametrize("pattern", ["*", "v8::*", "*Heap*"])
def test_too_many_functions_are_not_demangled(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    demangled: list[str] = []
    demangle = package.forms

    def forms(raw: str) -> tuple[str, str] | None:
        demangled.append(raw)
        return demangle(raw)

    monkeypatch.setattr("pyebpf.binary.demangle.forms", forms)
    with Image.open("/usr/bin/node") as image, pytest.raises(TooManyFunctions):
        image.search(pattern, limit=100)
    assert len(demangled) < 10_000  # of 77,000


def test_indirect_functions_are_known_by_any_of_their_names() -> None:
    """With libc's debug symbols a resolver also has names of plain functions, and a pattern may find those first."""
    path = next(path for path in ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6") if os.path.exists(path))
    with Image.open(path) as image:
        found = [f for f in image.search("*strlen*") if "strlen" in (f.name, f.raw, *f.aliases)]
    assert found and all(function.indirect for function in found)


def test_bounds_of_go_code_are_no_functions(go_program: str) -> None:
    with Image.open(go_program) as image:
        names = {function.name for function in image.search("runtime.*")}
    assert "runtime.mallocgc" in names and not names & {"runtime.text", "runtime.etext"}


def test_trimmed_image_reads_again(tmp_path: Path) -> None:
    path = compile_with(tmp_path, ".c", C, "gcc", "-O1", "-o", "program")

    def resident() -> int:
        """KB of the file that count as this process's memory."""
        smaps = Path("/proc/self/smaps").read_text()
        found = re.findall(rf"^\S+ \S+ \S+ \S+ \S+ +{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", smaps, re.M)
        return sum(map(int, found))

    with Image.open(str(path)) as image:
        before = image.search("work")
        assert resident() > 0
        image.trim()
        assert resident() == 0
        assert image.search("work") == before != []
