# SPDX-License-Identifier: BSD-2-Clause
"""From targets to probes, on programs compiled here and on running ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toolchains

from pyebpf.errors import BinaryError, TargetError, TargetNotFound, UnsafeProbe
from pyebpf.target.command import Command
from pyebpf.target.resolve import Probe, Resolution, resolve

C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone, used))
volatile long sink;
KEEP long plain(long x) { sink += x; return x * 3; }
KEEP long other(long x) { sink -= x; if (x > 5) return 1; sink *= x; return plain(x) + 1; }
KEEP static long hidden(long x) { sink ^= x; return x + 9; }
KEEP long (*pick(long x))(long) { sink = x; return x ? plain : other; }
KEEP long tail_known(long x) { sink += 7; return plain(x + 1); }
KEEP long tail_pointer(long (*f)(long)) { sink += 8; return f(4); }
KEEP void endless(void) { for (;;) sink++; }
KEEP long waits(long x) { for (;;) sink += x; }
KEEP long tail_or_not(long x) { sink += 11; if (x > 5) return waits(x + 1); return x * 5; }
KEEP long tail_forever(long x) { sink += 12; return waits(x + 2); }
KEEP void leaves(void) { sink++; _exit(0); }
long alias(long x) __attribute__((alias("plain")));
long chosen(long x) __attribute__((ifunc("choose")));
static void *choose(void) { return plain; }
__asm__(".text\n.globl trap\n.type trap,@function\ntrap: int3\nret\n.size trap,.-trap\n");
#define ASSEMBLY(name, code) \
    __asm__(".text\n.globl " #name "\n.type " #name ",@function\n" #name ": " code "\nret\n" \
            ".size " #name ",.-" #name "\n")
ASSEMBLY(vex_or, "vpor %xmm1, %xmm0, %xmm0");
ASSEMBLY(vex_high, "vpor %xmm9, %xmm0, %xmm0");
ASSEMBLY(vex_gather, "vpgatherdd %ymm2, (%rdi,%ymm1,4), %ymm0");
ASSEMBLY(evex_broadcast, "vpbroadcastb %esi, %ymm17");
ASSEMBLY(vex_load, "vmovdqu (%rdi), %ymm0");
ASSEMBLY(legacy, "por %xmm1, %xmm0");
ASSEMBLY(exchange_r8, "xchg %rax, %r8; xchg %rax, %r8");
ASSEMBLY(exchange_half, "xchg %eax, %r8d; xchg %eax, %r8d");
ASSEMBLY(exchange_r9, "xchg %rax, %r9; xchg %rax, %r9");
ASSEMBLY(short_nop, "nop");
ASSEMBLY(nops, ".byte 0x0f,0x1f,0x44,0,0, 0x66,0x0f,0x1f,0x40,0, 0x0f,0x1f,0x40,0, 0x66,0x0f,0x1f,0x44,0,0");
ASSEMBLY(nops_again, ".byte 0x0f,0x1f,0x44,0,0; 1: dec %edi; jne 1b");
extern void trap(void);
int main(int argc, char **argv) {
    if (argc > 1) { puts("up"); fflush(stdout); pause(); }
    if (argc > 9) { endless(); leaves(); trap(); tail_or_not(argc); tail_forever(2); }
    return other(hidden(2)) + pick(1)(1) + tail_known(1) + tail_pointer(plain) + chosen(1) + alias(1) == 0;
}
"""

CPP = r"""
#include <stdio.h>
#include <unistd.h>
#include <stdexcept>
#define KEEP __attribute__((noinline, noclone, used))
volatile long sink;
extern "C" int work(int);
namespace shop {
struct Cart {
    KEEP long add(long x) { sink += x; return sink; }
    KEEP long add(double x) { sink += (long)x; return sink; }
    KEEP long run(long (*f)(long)) { sink++; return f(3); }
};
}
KEEP long thrower(long x) { sink++; if (x > 100) throw std::runtime_error("x"); return x; }
int main(int argc, char **) {
    if (argc > 1) { puts("up"); fflush(stdout); pause(); }
    shop::Cart cart;
    return cart.add(1L) + cart.add(1.0) + cart.run(thrower) + work(1) == 0;
}
"""

GO = """
package main

import (
	"fmt"
	"os"
	"time"
)

type Arith struct{ n int }

//go:noinline
func (a *Arith) Mul(x, y int) int {
	if x > 10 {
		return x
	}
	a.n += x
	return x * y * a.n
}

//go:noinline
func (a Arith) Sum(x ...int) (s int) {
	for _, v := range x {
		s += v
	}
	return s
}

func small(x int) int {
	if x > 7 {
		return x % 7
	}
	return x * 5
}

func both(x int) int { return x ^ 3 }

//go:noinline
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

//go:noinline
func caller(x int, f func(int) int) int { return small(x) + both(x) + f(x) }

func main() {
	a := &Arith{1}
	f := both
	if len(os.Args) > 1 {
		fmt.Println("up")
		forever()
	}
	fmt.Println(a.Mul(2, 3), a.Sum(1, 2), caller(len(os.Args), f))
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prog (C), cpp (C++), lib.so and user (which is linked to it)."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "prog.c").write_text(C)
    (folder / "cpp.cpp").write_text(CPP)
    (folder / "lib.c").write_text("int work(int x) { return x + 1; }\nint through(int (*f)(int)) { return f(1); }\n")
    (folder / "user.c").write_text(
        "#include <stdio.h>\n#include <unistd.h>\nint work(int);\n"
        'int main(void) { puts("up"); fflush(stdout); pause(); return work(1); }\n'
    )
    for line in (
        "gcc -O2 -o prog prog.c",
        "gcc -O2 -shared -fPIC -o libpyebpftest.so.2 lib.c",
        "g++ -O2 -o cpp cpp.cpp libpyebpftest.so.2 -Wl,-rpath,$ORIGIN",
        "gcc -O2 -o user user.c libpyebpftest.so.2 -Wl,-rpath,$ORIGIN",
    ):
        subprocess.run(line.split(), cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def server() -> Path:
    return toolchains.go("local").compile({"main.go": GO})


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Starts a program that prints a line when it is up; gives its process ID."""
    running = []

    def begin(*argv: object) -> int:
        child = subprocess.Popen([str(argument) for argument in argv], stdout=subprocess.PIPE)
        running.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        return child.pid

    yield begin
    for child in running:
        with child:
            child.kill()


def nm(path: Path) -> dict[str, int]:
    lines = subprocess.run(["nm", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {fields[2]: int(fields[0], 16) for fields in map(str.split, lines) if len(fields) == 3}


def objdump(path: Path, function: str) -> list[tuple[int, str]]:
    """(address, mnemonic) of the instructions of a function."""
    sizes = subprocess.run(["nm", "-S", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
    fields = next(line.split() for line in sizes.splitlines() if line.endswith(f" {function}"))
    start, size = int(fields[0], 16), int(fields[1], 16)
    limits = [f"--start-address={start}", f"--stop-address={start + size}"]
    command = ["objdump", "-d", "--no-show-raw-insn", *limits, str(path)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.findall(r"^\s*([0-9a-f]+):\t(?:bnd |repz )?(\S+)", text, re.MULTILINE)
    return [(int(address, 16), mnemonic) for address, mnemonic in found]


def names(resolution: Resolution) -> list[str]:
    return sorted(probe.function.name for probe in resolution.probes)


def only(resolution: Resolution) -> Probe:
    [probe] = resolution.probes
    return probe


def identity(path: object) -> tuple[int, int]:
    status = os.stat(str(path))
    return status.st_dev, status.st_ino


# -- which file


def test_path(folder: Path) -> None:
    resolution = resolve([f"{folder}/prog:plain"], returns=False)
    probe = only(resolution)
    assert probe.path == probe.shown == f"{folder}/prog"
    assert probe.image_id == identity(folder / "prog")
    assert list(resolution.images) == [probe.image_id]
    assert probe.function.address == nm(folder / "prog")["plain"]
    assert (
        probe.entry == probe.function.offset == resolution.images[probe.image_id].elf.offset_of(probe.function.address)
    )
    assert (probe.returns, probe.uretprobe, probe.tail, probe.go, probe.pids) == ((), False, False, None, ())
    assert (resolution.skipped, resolution.notes) == ((), ())


def test_relative_path_and_bcc_prefix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names(resolve(["p:./prog:pl?in"], returns=False)) == ["plain"]
    with pytest.raises(TargetNotFound) as caught:
        resolve(["prog:plain"], returns=False)
    assert caught.value.hint is not None
    assert "./prog:" in caught.value.hint


def test_library_by_name() -> None:
    probe = only(resolve(["c:malloc"], returns=False))
    loaded = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line]
    assert probe.image_id == identity(loaded[0])
    assert only(resolve(["libc.so.6:malloc"], returns=False)).entry == probe.entry


def test_program_through_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    assert only(resolve(["prog:plain"], returns=False)).path == f"{folder}/prog"
    shutil.copy(folder / "prog", folder / "c")
    resolution = resolve(["c:malloc"], returns=False)
    assert "libc.so.6" in only(resolution).path
    assert any(f"not the program {folder}/c" in note for note in resolution.notes)


def test_unknown_names_have_suggestions() -> None:
    with pytest.raises(TargetNotFound, match="no library and no program") as caught:
        resolve(["libstdc+:f"], returns=False)
    assert "stdc++" in caught.value.close_matches
    with pytest.raises(TargetNotFound, match="no such file"):
        resolve(["/no/such/file:f"], returns=False)
    with pytest.raises(TargetError, match="no process is given"):
        resolve([":main"], returns=False)
    with pytest.raises(TargetError, match="no target"):
        resolve([], returns=False)


def test_not_a_program(folder: Path) -> None:
    with pytest.raises(BinaryError, match="directory"):
        resolve([f"{folder}/:f"], returns=False)
    with pytest.raises(BinaryError, match="not an ELF file"):
        resolve([f"{folder}/prog.c:f"], returns=False)
    script = folder / "script"
    script.write_text("#!/usr/bin/env python3\n")
    with pytest.raises(BinaryError) as caught:
        resolve([f"{script}:f"], returns=False)
    assert "/usr/bin/env python3" in str(caught.value.hint)


def test_command_to_be_started(folder: Path) -> None:
    with Command([str(folder / "prog")]) as command:
        resolution = resolve([":plain", "c:malloc"], pids=[command.pid], executable=command.executable, returns=False)
    assert resolution.probes[0].shown == f"{folder}/prog"
    assert {probe.pids for probe in resolution.probes} == {()}


# -- of a process


def test_executable_of_a_process(folder: Path, start: Callable[..., int]) -> None:
    pid = start(folder / "prog", "x")
    for target in (":plain", f"{folder}/prog:plain", "prog:plain", f"p:{folder}/./prog:plain"):
        probe = only(resolve([target], pids=[pid], returns=False))
        assert probe.image_id == identity(folder / "prog")
        assert identity(probe.path) == probe.image_id
        assert probe.pids == (pid,)
        assert resolve([target], pids=[pid], returns=False).notes == ()


def test_nothing_is_read_that_is_not_needed(
    folder: Path, start: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start(folder / "prog", "x")
    monkeypatch.setattr("pyebpf.target.process.read_maps", lambda *_: pytest.fail("read its maps"))
    monkeypatch.setattr("pyebpf.target.libraries.read_cache", lambda *_: pytest.fail("read ld.so's cache"))
    for target in (":plain", f"{folder}/prog:plain"):
        resolve([target], pids=[pid], returns=False)
    resolve([f"{folder}/prog:plain", f"{folder}/cpp:shop::Cart::add"], returns=True)


def test_library_of_a_process(folder: Path, start: Callable[..., int]) -> None:
    pid = start(folder / "user")
    for target in ("pyebpftest:work", "libpyebpftest.so.2:work", f"{folder}/libpyebpftest.so.2:work"):
        probe = only(resolve([target], pids=[pid], returns=False))
        assert probe.path == f"{folder}/libpyebpftest.so.2"
        assert probe.image_id == identity(probe.path)
    # Without the process nobody knows that library.
    with pytest.raises(TargetNotFound):
        resolve(["pyebpftest:work"], returns=False)


def test_relative_path_is_ours_first_and_then_the_process_s(
    folder: Path, start: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    pid = start("./prog", "x")
    assert only(resolve(["./prog:plain"], pids=[pid], returns=False)).path == "./prog"
    monkeypatch.chdir(tmp_path)
    assert only(resolve(["./prog:plain"], pids=[pid], returns=False)).image_id == identity(folder / "prog")
    # Another program of that name here: still the process's.
    shutil.copy("/bin/true", tmp_path / "prog")
    assert only(resolve(["./prog:plain"], pids=[pid], returns=False)).image_id == identity(folder / "prog")
    with pytest.raises(TargetNotFound, match="no such file"):
        resolve(["./prig:plain"], pids=[pid], returns=False)


def test_symbolic_link(folder: Path, start: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder / "prog")
    pid = start(tmp_path / "link", "x")
    assert only(resolve([f"{tmp_path}/link:plain"], pids=[pid], returns=False)).image_id == identity(folder / "prog")


def test_program_replaced_while_it_runs(folder: Path, start: Callable[..., int], tmp_path: Path) -> None:
    program = tmp_path / "prog"
    shutil.copy(folder / "prog", program)
    pid = start(program, "x")
    old = identity(program)
    program.unlink()
    shutil.copy(folder / "cpp", program)
    resolution = resolve([f"{program}:plain"], pids=[pid], returns=False)
    probe = only(resolution)
    assert probe.image_id == identity(probe.path) == old != identity(program)
    assert any("was replaced" in note for note in resolution.notes)
    program.unlink()
    for target in (f"{program}:plain", ":plain", "prog:plain"):
        assert only(resolve([target], pids=[pid], returns=False)).image_id == old
    # The new file, without the process, has no such function.
    shutil.copy(folder / "cpp", program)
    with pytest.raises(TargetNotFound):
        resolve([f"{program}:plain"], returns=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="/proc/PID/map_files is for root")
def test_library_replaced_while_it_is_used(folder: Path, start: Callable[..., int], tmp_path: Path) -> None:
    for name in ("user", "libpyebpftest.so.2"):
        shutil.copy(folder / name, tmp_path)
    library = tmp_path / "libpyebpftest.so.2"
    pid = start(tmp_path / "user")
    old = identity(library)
    library.unlink()
    shutil.copy(folder / "cpp", library)
    for target in ("pyebpftest:work", f"{library}:work"):
        probe = only(resolve([target], pids=[pid], returns=False))
        assert identity(probe.path) == probe.image_id == old


def test_file_that_the_process_does_not_map(folder: Path, start: Callable[..., int]) -> None:
    pid = start(folder / "prog", "x")
    for target in (f"{folder}/cpp:main", "pyebpftest:work", "gcc:main"):
        with pytest.raises(TargetError, match=f"process {pid}") as caught:
            resolve([target], pids=[pid], returns=False)
        assert f"{folder}/prog" in str(caught.value.hint)


def test_several_processes(folder: Path, start: Callable[..., int]) -> None:
    first, second, other = start(folder / "prog", "x"), start(folder / "prog", "x"), start(folder / "user")
    resolution = resolve([f"{folder}/prog:plain", "c:malloc"], pids=[first, second, first, other], returns=False)
    scopes = {probe.function.name: probe.pids for probe in resolution.probes}
    assert scopes["plain"] == (first, second)
    assert scopes[max(scopes, key=lambda name: "malloc" in name)] == (first, second, other)
    assert any(str(other) in note for note in resolution.notes)
    # Each process's own program: two files.
    resolution = resolve([":main"], pids=[first, other], returns=False)
    assert {probe.image_id for probe in resolution.probes} == {identity(folder / "prog"), identity(folder / "user")}
    assert {probe.pids for probe in resolution.probes} == {(first,), (other,)}


def test_process_that_is_gone(folder: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(TargetNotFound, match=f"ID {child.pid}"):
        resolve([f"{folder}/prog:plain"], pids=[child.pid], returns=False)


# -- which functions


def test_overlapping_targets_give_one_probe_each(folder: Path) -> None:
    prog = f"{folder}/prog"
    (folder / "again").unlink(missing_ok=True)
    os.link(prog, folder / "again")
    resolution = resolve([f"{prog}:pl*", f"{prog}:*ain", f"{folder}/again:plain", f"{prog}:alias"], returns=False)
    assert names(resolution) == ["main", "plain"]
    plain = next(probe for probe in resolution.probes if probe.function.name == "plain")
    assert plain.function.aliases == ("alias",)


def test_regular_expression(folder: Path) -> None:
    assert names(resolve([f"{folder}/prog:(plain|hidden)$"], regex=True, returns=False)) == ["hidden", "plain"]
    with pytest.raises(TargetError, match="regular expression"):
        resolve([f"{folder}/prog:("], regex=True, returns=False)


def test_too_many(folder: Path) -> None:
    count = len(resolve([f"{folder}/prog:*"], returns=False).probes)
    assert count > 10
    with pytest.raises(TargetError, match=r"more than 10 functions match .*; at most 10 are") as caught:
        resolve([f"{folder}/prog:plain", f"{folder}/prog:*"], max_probes=10, returns=False)
    assert "--max-probes" in str(caught.value.hint)
    whole = resolve([f"{folder}/prog:*"], max_probes=count + 23, returns=False)  # those that are skipped match too
    assert len(whole.probes) == count


def test_nothing_matches(folder: Path) -> None:
    with pytest.raises(TargetNotFound) as caught:
        resolve([f"{folder}/prog:plian"], returns=False)
    assert "plian" in str(caught.value)
    assert ".symtab" in str(caught.value)
    assert "plain" in caught.value.close_matches
    with pytest.raises(TargetNotFound) as caught:
        resolve([f"{folder}/user:work"], returns=False)
    assert "LIB:work" in str(caught.value.hint)


def test_cpp_names(folder: Path) -> None:
    cpp = f"{folder}/cpp"
    found = names(resolve([f"{cpp}:shop::Cart::*"], returns=False))
    assert found == ["shop::Cart::add(double)", "shop::Cart::add(long)", "shop::Cart::run(long (*)(long))"]
    assert names(resolve([f"{cpp}:shop::Cart::add"], returns=False)) == found[:2]
    assert names(resolve([f"{cpp}:shop::Cart::add(long)"], returns=False)) == found[1:2]
    assert names(resolve([f"{cpp}:_ZN4shop4Cart3addEl"], returns=False)) == found[1:2]


def test_what_the_kernel_takes_for_a_jump_is_skipped(folder: Path) -> None:
    """Linux tells a jump by its opcode alone, and in AVX instructions the same byte means something else."""
    names = ["vex_or", "vex_high", "vex_gather", "evex_broadcast", "vex_load", "legacy"]
    resolution = resolve([f"{folder}/prog:{name}" for name in names], returns=False)
    assert [probe.function.name for probe in resolution.probes] == ["vex_load", "legacy"]
    assert {name for name, reason in resolution.skipped if "AVX" in reason} == set(names[:4])


def test_what_the_kernel_takes_for_a_nop_is_skipped(folder: Path) -> None:
    """xchg %rax, %r8 is nop's opcode behind a REX prefix: emulated as a nop, it leaves both as they were."""
    names = ["exchange_r8", "exchange_half", "exchange_r9", "short_nop"]
    resolution = resolve([f"{folder}/prog:{name}" for name in names], returns=False)
    assert [probe.function.name for probe in resolution.probes] == names[2:]
    assert {name for name, reason in resolution.skipped if "exchange" in reason} == set(names[:2])


def test_nops_that_the_kernel_makes_calls_of(folder: Path) -> None:
    """Of five bytes: from Linux 6.18 on forked children crash in the call, and leaf functions lose variables to it."""
    prog = folder / "prog"
    probe = only(resolve([f"{prog}:nops"], returns=False))
    assert probe.entry == probe.function.offset + 10 and not probe.displacement
    for offset in (10, 14):  # of four and six bytes
        assert only(resolve([f"{prog}:nops+{offset}"], returns=False)).displacement == offset
    for target in ("nops+0", "nops+5", "nops_again"):  # nor behind it, where the function comes back to
        with pytest.raises(TargetError, match="five-byte nop"):
            resolve([f"{prog}:{target}"], returns=False)


def test_indirect_and_trap_first_are_skipped(folder: Path) -> None:
    resolution = resolve([f"{folder}/prog:{name}" for name in ("chosen", "trap", "plain")], returns=False)
    reasons = dict(resolution.skipped)
    assert "indirect function" in reasons["chosen"]
    assert "trap" in reasons["trap"]
    assert names(resolution) == ["plain"]
    with pytest.raises(TargetError, match="nothing that matches can be traced: trap: begins with a trap"):
        resolve([f"{folder}/prog:trap"], returns=False)


# -- instructions


def test_offset_and_address(folder: Path) -> None:
    prog = folder / "prog"
    instructions = objdump(prog, "other")
    start = instructions[0][0]
    for address, _ in instructions:
        for target in (f"{prog}:other+{address - start}", f"{prog}:other+{address - start:#x}", f"{prog}:{address:#x}"):
            probe = only(resolve([target], returns=False))
            assert probe.displacement == address - start
            assert probe.entry == probe.function.offset + address - start
            assert probe.function.address == start
            assert probe.function.name == (f"other+{address - start:#x}" if address > start else "other")


def test_offset_inside_an_instruction(folder: Path) -> None:
    prog = folder / "prog"
    instructions = [address for address, _ in objdump(prog, "other")]
    start = instructions[0]
    index = next(i for i, address in enumerate(instructions) if instructions[i + 1] - address > 1)
    bad, after = instructions[index] + 1, instructions[index + 1]
    with pytest.raises(UnsafeProbe) as caught:
        resolve([f"{prog}:other+{bad - start}"], returns=False)
    assert f"+{instructions[index] - start} and +{after - start}" in str(caught.value.hint)
    with pytest.raises(UnsafeProbe) as caught:
        resolve([f"{prog}:{bad:#x}"], returns=False)
    assert f"{instructions[index]:#x} and {after:#x}" in str(caught.value.hint)
    with pytest.raises(UnsafeProbe, match="lies behind it"):
        resolve([f"{prog}:other+5000"], returns=False)
    with pytest.raises(UnsafeProbe, match="no function is known"):
        resolve([f"{prog}:0x10"], returns=False)


def test_offset_has_no_return(folder: Path) -> None:
    for target in ("other+0", f"{nm(folder / 'prog')['other']:#x}"):
        with pytest.raises(TargetError, match="has no return"):
            resolve([f"{folder}/prog:{target}"], returns=True)


def test_offset_with_several_functions(folder: Path) -> None:
    resolution = resolve([f"{folder}/prog:*+1"], returns=False)
    for probe in resolution.probes:
        addresses = [address for address, _ in objdump(folder / "prog", probe.function.raw)]
        assert probe.function.address + 1 in addresses
    assert all("not the first byte" in reason or "lies behind" in reason for _, reason in resolution.skipped)


# -- returns


def rets(path: Path, function: str) -> list[int]:
    return [address for address, mnemonic in objdump(path, function) if mnemonic.startswith("ret")]


def test_native_returns(folder: Path) -> None:
    prog = folder / "prog"
    resolution = resolve([f"{prog}:plain", f"{prog}:other", f"{prog}:hidden"], returns=True)
    elf = resolution.images[identity(prog)].elf
    for probe in resolution.probes:
        assert list(probe.returns) == [elf.offset_of(address) for address in rets(prog, probe.function.raw)]
        assert probe.returns
        assert not probe.uretprobe
        assert not probe.tail


def test_tail_call_returns_where_the_other_function_does(folder: Path) -> None:
    prog = folder / "prog"
    assert not rets(prog, "tail_known")
    resolution = resolve([f"{prog}:tail_known"], returns=True)
    elf = resolution.images[identity(prog)].elf
    assert list(only(resolution).returns) == [elf.offset_of(address) for address in rets(prog, "plain")]
    assert only(resolution).tail
    assert not only(resolution).uretprobe


def test_unproven_returns_in_c(folder: Path, start: Callable[..., int]) -> None:
    """No kernel's return probe unasked: a program with coroutines dies of it, and nothing tells whether it has any."""
    for target, pids in ((f"{folder}/prog:tail_pointer", ()), (":tail_pointer", (start(folder / "prog", "x"),))):
        with pytest.raises(TargetError, match="or a stack changed"):
            resolve([target], pids=pids, returns=True)
        probe = only(resolve([target], pids=pids, returns=True, allow_uretprobe=True))
        assert probe.uretprobe and probe.returns == ()


def test_never_returns(folder: Path) -> None:
    resolution = resolve([f"{folder}/prog:*"], returns=True)
    assert dict(resolution.skipped)["endless"] == "never returns"


def test_unproven_returns_where_exceptions_pass(folder: Path, start: Callable[..., int]) -> None:
    target = f"{folder}/cpp:shop::Cart::run"
    with pytest.raises(TargetError, match="if an exception passed"):
        resolve([target], returns=True)
    assert only(resolve([target], returns=True, allow_uretprobe=True)).uretprobe
    every = resolve([f"{folder}/cpp:shop::*"], returns=True, allow_uretprobe=True)
    assert all(probe.uretprobe for probe in every.probes)
    resolution = resolve([f"{folder}/cpp:shop::Cart::*"], returns=True)
    assert len(resolution.probes) == 2
    assert all(probe.returns and not probe.uretprobe for probe in resolution.probes)
    assert [skipped.name for skipped in resolution.skipped] == ["shop::Cart::run(long (*)(long))"]


def test_unproven_returns_in_a_library(folder: Path, start: Callable[..., int]) -> None:
    target = f"{folder}/libpyebpftest.so.2:through"
    in_c, in_cpp = start(folder / "user"), start(folder / "cpp", "x")
    for pids, executable in (([in_c], None), ([in_cpp], None), ([], str(folder / "user")), ([], None)):
        with pytest.raises(TargetError, match="if an exception passed"):
            resolve([target], pids=pids, executable=executable, returns=True)
        assert only(resolve([target], pids=pids, executable=executable, returns=True, allow_uretprobe=True)).uretprobe


# -- Go


def test_go_function(server: Path) -> None:
    resolution = resolve([f"{server}:main.(*Arith).Mul"], returns=True)
    probe = only(resolution)
    image = resolution.images[probe.image_id]
    assert probe.function.language == "go"
    assert image.go is not None
    assert probe.go is not None
    assert probe.go == (False, image.go.tls_offset, image.go.goid_offset)
    assert not probe.uretprobe
    addresses = rets(server, "main.(*Arith).Mul")
    assert list(probe.returns) == [image.elf.offset_of(address) for address in addresses]
    starts = {address for address, _ in objdump(server, "main.(*Arith).Mul")}
    assert image.elf.vaddr_of(probe.entry) in starts
    assert names(resolve([f"{server}:main.*.Mul"], returns=True)) == ["main.(*Arith).Mul"]
    assert only(resolve([f"{server}:main.(*Arith).Mul+0"], returns=False)).entry == probe.function.offset


def test_go_function_that_never_returns(server: Path) -> None:
    resolution = resolve([f"{server}:main.*"], returns=True)
    assert "never returns" in dict(resolution.skipped)["main.forever"]
    assert all(probe.returns and not probe.uretprobe for probe in resolution.probes)
    with pytest.raises(TargetError, match="never returns"):
        resolve([f"{server}:main.forever"], returns=True, allow_uretprobe=True)


def test_return_probe_is_never_used_in_a_go_program(folder: Path, server: Path) -> None:
    target = f"{folder}/libpyebpftest.so.2:through"
    with pytest.raises(TargetError, match="never used in a Go program"):
        resolve([target], executable=str(server), returns=True, allow_uretprobe=True)


def test_go_entry_named_twice(server: Path) -> None:
    probe = only(resolve([f"{server}:main.caller"], returns=False))
    inside = probe.entry - probe.function.offset
    assert inside > 0
    assert only(resolve([f"{server}:main.caller", f"{server}:main.call*+{inside}"], returns=False)) == probe


def test_go_inlining(server: Path) -> None:
    with pytest.raises(
        TargetNotFound, match=r"main\.small: no out-of-line body .*\(inlined into .*main\.caller"
    ) as caught:
        resolve([f"{server}:main.small"], returns=False)
    assert "go:noinline" in str(caught.value.hint)
    resolution = resolve([f"{server}:main.both"], returns=True)
    [note] = resolution.unseen()
    assert re.match(r"main\.both: also inlined at 1 place \(main\.caller\); those calls are not seen", note)
    assert resolve([f"{server}:main.caller"], returns=True).unseen() == ()
    [note] = resolve([f"{server}:runtime.m*"], returns=False).unseen()
    assert "not seen" in note


def test_go_wrappers_are_left_out(server: Path) -> None:
    everything = resolve([f"{server}:*"], returns=False)
    image = everything.images[identity(server)]
    assert image.go is not None
    by_name: dict[str, list[int]] = {}
    for function in image.go.functions():
        by_name.setdefault(function.name, []).append(function.address)
    twice = {name: set(addresses) for name, addresses in by_name.items() if len(addresses) > 1}
    assert twice
    symbols = nm(server)
    for name, addresses in twice.items():
        chosen = {probe.function.address for probe in everything.probes if probe.function.name == name}
        assert len(chosen) == 1, name
        # The one that isn't chosen calls the one that is.
        other = symbols[name] if symbols[name] not in chosen else symbols[f"{name}.abi0"]
        assert {other} == addresses - chosen
    assert dict(everything.skipped)["runtime.abort"] == "begins with a trap instruction"


def test_go_process_replaced(server: Path, start: Callable[..., int], tmp_path: Path) -> None:
    program = tmp_path / "server"
    shutil.copy(server, program)
    pid = start(program, "x")
    program.unlink()
    probe = only(resolve([f"{program}:main.*.Mul"], pids=[pid], returns=True))
    assert probe.path == f"/proc/{pid}/exe"
    assert probe.returns


def test_tail_call_of_what_never_returns(folder: Path) -> None:
    prog = folder / "prog"
    probe = only(resolve([f"{prog}:tail_or_not"], returns=True))
    elf = resolve([f"{prog}:tail_or_not"], returns=True).images[identity(prog)].elf
    assert list(probe.returns) == [elf.offset_of(address) for address in rets(prog, "tail_or_not")]
    assert probe.returns and not probe.uretprobe
    resolution = resolve([f"{prog}:*"], returns=True)
    assert dict(resolution.skipped)["tail_forever"] == "never returns"


def test_wildcard_for_inlined_functions(server: Path) -> None:
    with pytest.raises(
        TargetNotFound, match=r"main\.small: no out-of-line body .*\(inlined into .*main\.caller"
    ) as caught:
        resolve([f"{server}:main.sm*"], returns=False)
    assert "go:noinline" in str(caught.value.hint)
    with pytest.raises(TargetNotFound, match=r"main\.small: no out-of-line body"):
        resolve([f"{server}:main\\.sm.ll"], returns=False, regex=True)


def test_copies_for_some_callers(tmp_path: Path) -> None:
    """gcc calls a copy with the constant in it; who traces the function alone doesn't see these calls."""
    source = tmp_path / "copies.c"
    source.write_text(
        "volatile int sink;\n"
        "__attribute__((noinline)) int work(int a, int b, int c)\n"
        "{ for (int i = 0; i < a; i++) { if (b == 3) sink += c; else sink -= b; } return sink; }\n"
        "int main(int argc, char **argv)\n"
        "{ for (int i = 0; i < 1000; i++) work(i, 3, argc), work(i + 1, 3, argc); return 0; }\n"
    )
    program = tmp_path / "copies"
    subprocess.run(["gcc", "-O3", "-o", program, source], check=True)
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    assert "work.constprop.0" in symbols
    [note] = resolve([f"{program}:work"], returns=False).unseen()
    assert "work.constprop.0" in note
    assert resolve([f"{program}:work*"], returns=False).unseen() == ()
