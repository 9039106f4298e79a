# SPDX-License-Identifier: BSD-2-Clause
"""Where functions return, against objdump's reading of the same files, and the reasons for saying nothing."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyebpf.binary.elf import Elf
from pyebpf.binary.exits import MAX_SIZE, Exits, exits_of
from pyebpf.binary.unwind import UnwindTable
from pyebpf.errors import BinaryError

LIBC = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libc.so.6" in line)
NO_FRAME = "the unwind table doesn't show an empty frame at "
INDIRECT = "may end in an indirect tail call at 0x"
RETURN = re.compile(r"((repz|bnd|cs|data16) )*ret(aa|ab)?\b")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(folder: Path, source: str, *options: str, cc: str = "gcc", suffix: str = ".c") -> str:
    path = folder / f"source{suffix}"
    path.write_text(source)
    out = folder / f"{cc}.so"
    run(cc, "-shared", "-fPIC", "-nostdlib", *options, str(path), "-o", str(out))
    return str(out)


def build_arm64(folder: Path, source: str, *options: str, suffix: str = ".c") -> str:
    path = folder / f"source{suffix}"
    path.write_text(source)
    built, out = folder / "arm64.o", folder / "arm64.so"
    run("clang", "--target=aarch64-linux-gnu", "-fPIC", "-c", *options, str(path), "-o", str(built))
    linker = shutil.which("ld.lld") or next(
        str(path) for path in Path(run("rustc", "--print", "sysroot").strip()).glob("lib/rustlib/*/bin/rust-lld")
    )
    flavor = ("-flavor", "gnu") if linker.endswith("rust-lld") else ()
    run(linker, *flavor, "-shared", "--eh-frame-hdr", "-z", "undefs", str(built), "-o", str(out))
    return str(out)


class Functions:
    """The functions of a file by name, as its symbols tell."""

    def __init__(self, elf: Elf, with_cold_parts: bool = True) -> None:
        self.elf = elf
        self.table = UnwindTable.of(elf)
        self.sizes: dict[str, tuple[int, int]] = {}
        self.cold: dict[str, list[tuple[int, int]]] = {}
        for line in run("readelf", "-sW", elf.path).splitlines():
            fields = line.split()
            if len(fields) >= 8 and fields[3] in ("FUNC", "IFUNC") and fields[6].isdigit():
                address, size, name = int(fields[1], 16), int(fields[2], 0), fields[7].partition("@")[0]
                stem, dot, _ = name.partition(".cold")
                if not dot:
                    self.sizes[name] = (address, size)
                elif with_cold_parts:
                    self.cold.setdefault(stem, []).append((address, size))

    def exits(self, name: str) -> Exits:
        address, size = self.sizes[name]
        return exits_of(self.elf, self.table, address, size, self.cold.get(name, ()))

    def returns(self, name: str) -> int:
        """How many returns are proven."""
        found = self.exits(name)
        assert found.reason is None and not found.tail_targets, (name, found)
        assert list(found.returns) == sorted(set(found.returns))
        return len(found.returns)

    def reason(self, name: str) -> str:
        found = self.exits(name)
        assert found.reason is not None and (not found.returns or found.tail_targets), (name, found)
        return re.sub("0x[0-9a-f]+", "0x", found.reason)


@contextmanager
def functions(path: str, with_cold_parts: bool = True) -> Iterator[Functions]:
    with Elf.open(path) as elf:
        yield Functions(elf, with_cold_parts)


def returns_by_objdump(elf: Elf) -> list[int]:
    tool = "objdump" if elf.machine == "x86-64" else "llvm-objdump-14"
    lines = (
        re.match(r"\s*([0-9a-f]+):\s+(.*)", line)
        for line in run(tool, "-d", "--no-show-raw-insn", elf.path).split("\n")
    )
    return sorted(int(line[1], 16) for line in lines if line and RETURN.match(line[2]))


def compare_with_objdump(functions: Functions) -> dict[str | None, int]:
    """Every function: what is called its returns are those objdump shows in it. How many functions for each reason."""
    expected = returns_by_objdump(functions.elf)
    all_returns = set(expected)
    count: dict[str | None, int] = {}
    for name, (address, size) in functions.sizes.items():
        found = functions.exits(name)
        reason = found.reason and re.sub("(0x[0-9a-f]+).*", "0x", found.reason)
        count[reason] = count.get(reason, 0) + 1
        assert all_returns.issuperset(found.returns), name
        if found.reason is None or found.tail_targets:
            inside = expected[bisect_left(expected, address) : bisect_left(expected, address + size)]
            assert set(inside) == {site for site in found.returns if address <= site < address + size}, name
    return count


@pytest.mark.parametrize(
    ("path", "share"), [(LIBC, 0.7), ("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 0.6), ("/bin/bash", 0.6)]
)
def test_agrees_with_objdump(path: str, share: float) -> None:
    with functions(path) as known:
        count = compare_with_objdump(known)
        assert count[None] > share * sum(count.values()), count
        assert set(count) <= {
            None,
            "size unknown",
            "never returns",
            "ends in a tail call to 0x",
            "may end in an indirect tail call at 0x",
            "jumps out of the function at 0x",
            "the unwind table doesn't show an empty frame at the return at 0x",
            "the unwind table doesn't show an empty frame at its first instruction",
        }


SOURCE = r"""
#define PART __attribute__((noinline))
int callee(int);
int elsewhere(int *);
void fatal(int) __attribute__((noreturn));
void unlikely(int) __attribute__((cold));
static volatile int v;
PART int plain(int a) { return a * 3 + 1; }
PART int calls(int a) { return callee(a) + callee(a + 1); }
PART int two_returns(int a) { if (a > 100) { v = a; return callee(a) + 1; } return 5; }
PART int cases(int a) {
    switch (a) {
    case 0: return callee(3) + 1; case 1: return callee(9) * 3; case 2: return 99; case 3: return 1234;
    case 4: return callee(a + 3) + 1; case 5: return 3333; case 7: return callee(1) + callee(2);
    }
    return 0;
}
PART int leaf_cases(int a, int *b) {
    switch (a) {
    case 0: *b = 3; b[1] = 3; break; case 1: *b = 7; b[1] += 3; break; case 2: *b ^= 99; break;
    case 3: *b -= 1234; b[1] -= 3; break; case 5: b[2] = 3333; break; case 6: b[1] -= 33; break;
    case 7: b[1] = b[2] * 2; break; case 8: b[4] = 1; b[2]++; break; case 9: *b *= 3; break;
    }
    return 0;
}
PART int tail_direct(int a) { return plain(a + 1); }
PART int tail_imported(int a) { return callee(a + 1); }
PART int tail_or_return(int a) { if (a > 7) return two_returns(a - 7); return a; }
PART int tail_indirect(int (*f)(int), int a) { return f(a + 1); }
PART int tail_by_table(int (**f)(int), unsigned a) { return f[a & 7](a + 1); }
static int (*const handlers[])(int) = {plain, calls, two_returns, tail_direct};
PART int tail_by_own_table(unsigned a) { return handlers[a & 3](a); }
PART int moved(int a) {
    int room[10];
    room[a % 10] = callee(a);
    if (__builtin_expect(room[1] == 77, 0)) { unlikely(room[3]); return room[2] + callee(room[4]); }
    elsewhere(room);
    return room[3];
}
PART int dies(int a) { if (a == 3) fatal(1); v = a; return callee(a) + 1; }
PART void never(int a) { v = a; fatal(a); }
PART int buffer(int n) { char *b = __builtin_alloca(n + 1); elsewhere((int *)b); return b[n]; }
PART long recursion(int n) { return n < 2 ? 1 : recursion(n - 1) + recursion(n - 2); }
PART int loop(int n, int sum) { return n ? loop(n - 1, sum + v) : sum; }
PART void endless(void) { for (;;) v++; }
PART int (*goto_table(int n))(int) {
    static void *labels[] = {&&one, &&two, &&three};
    int sum = callee(n);
next:
    goto *labels[callee(n) & 3];
one: sum += callee(sum); goto next;
two: sum -= callee(1); goto next;
three: v = sum;
    return handlers[sum & 3];
}
"""
RETURNING = (
    "plain",
    "leaf_cases",
    "loop",
    "calls",
    "two_returns",
    "cases",
    "moved",
    "dies",
    "buffer",
    "recursion",
    "goto_table",
)


def check_fixture(known: Functions, optimised: bool, but: tuple[str, ...] = ()) -> None:
    compare_with_objdump(known)
    for name in RETURNING:
        if name not in but:
            assert known.returns(name) >= 1, name
    for name in but:
        assert known.reason(name) == NO_FRAME + "the return at 0x", name
    assert known.reason("never") == known.reason("endless") == "never returns"
    if not optimised:
        for name in ("tail_direct", "tail_imported", "tail_or_return", "tail_indirect", "tail_by_table"):
            assert known.returns(name) >= 1
        return
    for name in ("tail_indirect", "tail_by_table", "tail_by_own_table"):
        assert known.reason(name) == "may end in an indirect tail call at 0x", name
    assert known.reason("tail_imported") == "ends in a tail call to 0x"
    assert known.exits("tail_imported") == Exits((), known.exits("tail_imported").reason)
    plain, two_returns = known.sizes["plain"][0], known.sizes["two_returns"][0]
    assert known.exits("tail_direct") == Exits((), f"ends in a tail call to {plain:#x}", (plain,))
    found = known.exits("tail_or_return")
    assert found.reason == f"ends in a tail call to {two_returns:#x}" and found.tail_targets == (two_returns,)
    assert len(found.returns) == 1


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("option", ["-g0", "-fno-omit-frame-pointer", "-fcf-protection=full"])
def test_compiled(tmp_path: Path, cc: str, level: str, option: str) -> None:
    path = build(
        tmp_path, SOURCE, level, option, "-Wl,-Bsymbolic", "-fno-semantic-interposition", "-fvisibility=hidden", cc=cc
    )
    with functions(path) as known:
        check_fixture(known, level not in ("-O0", "-O1"))
    with functions(path, with_cold_parts=False) as stripped, functions(path) as known:
        for name in RETURNING:
            assert stripped.exits(name) == known.exits(name), name


OTHERS = r"""
PART int callee(int a) { return v + a; }
PART int elsewhere(int *a) { return *a; }
PART void fatal(int a) { for (;;) v = a; }
void unlikely(int a) { v = a; }
int main(void) { return 0; }
"""


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_compiled_for_a_fixed_address(tmp_path: Path, cc: str) -> None:
    """Jump tables then hold addresses, and the jump reads them itself."""
    path, out = tmp_path / "source.c", tmp_path / "program"
    path.write_text(SOURCE + OTHERS)
    run(cc, "-O2", "-fno-pic", "-no-pie", str(path), "-o", str(out))
    with functions(str(out)) as known:
        compare_with_objdump(known)
        assert known.returns("cases") >= 1
        assert known.returns("leaf_cases") >= 1
        assert known.reason("tail_by_own_table") == "may end in an indirect tail call at 0x"


CATCHES = """
struct Guard { ~Guard(); };
void callee(int);
void unlikely(int) __attribute__((cold, noreturn));
extern "C" int catches(int a) {
    Guard guard;
    try { callee(a); } catch (int e) { return e; }
    try { callee(a + 1); if (a == 77) unlikely(a); } catch (long e) { callee((int)e); return (int)e; }
    return 7;
}
extern "C" int throws(int a) { if (a > 3) throw a; callee(a); return a; }
extern "C" void rethrows(int a) { try { callee(a); } catch (...) { callee(a); throw; } }
"""


@pytest.mark.parametrize("cc", ["g++", "clang++"])
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("with_cold_parts", [True, False])
def test_exceptions(tmp_path: Path, cc: str, level: str, with_cold_parts: bool) -> None:
    path = build(tmp_path, CATCHES, level, cc=cc, suffix=".cc")
    with functions(path, with_cold_parts) as known:
        compare_with_objdump(known)
        every = returns_by_objdump(known.elf)
        for name in ("catches", "throws", "rethrows"):
            assert known.returns(name) >= 1
        assert set(every) == {site for name in known.sizes for site in known.exits(name).returns}


MACROS = r"""
.macro function name
.globl \name
.type \name, %function
\name:
.cfi_startproc
.endm
.macro end name
.cfi_endproc
.size \name, .-\name
.endm
.text
function fine
nop
ret
end fine
.skip 64, 0xcc
"""

ASSEMBLY = (
    MACROS.replace("%function", "@function")
    + r"""
function data_inside
jmp 1f
.byte 0x06, 0x07, 0xea
1: ret
end data_inside

function table_inside
lea 1f(%rip), %rax
movslq (%rax,%rdi,4), %rdi
add %rdi, %rax
jmp *%rax
1: .long 0x06060606
ret
end table_inside

function cut_off
ret
.byte 0x48
end cut_off

function padded
ret
nopw 0(%rax,%rax,1)
.byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
xchg %ax, %ax
int3
end padded

function runs_on
mov $1, %eax
end runs_on

function falls_off
test %edi, %edi
jne fine
end falls_off

function only_padding
nop
nop
end only_padding

function into_the_middle
test %edi, %edi
je 1f + 1
1: mov $0xc3c3c3, %eax
ret
end into_the_middle

function over_a_lock
je 1f + 1
1: lock cmpxchg %edi, (%rsi)
ret
end over_a_lock

function calls_itself
call calls_itself
ret
end calls_itself

function calls_its_middle
call 1f
1: add $8, %rsp
ret
end calls_its_middle

function frame_at_return
push %rbx
.cfi_adjust_cfa_offset 8
ret
end frame_at_return

function frame_told
push %rbx
.cfi_adjust_cfa_offset 8
test %edi, %edi
je 1f
.cfi_remember_state
pop %rbx
.cfi_adjust_cfa_offset -8
ret
.cfi_restore_state
1: pop %rbx
.cfi_adjust_cfa_offset -8
repz ret
end frame_told

function jumps_out_with_a_frame
push %rbx
.cfi_adjust_cfa_offset 8
test %edi, %edi
je fine + 1
pop %rbx
.cfi_adjust_cfa_offset -8
ret
end jumps_out_with_a_frame

function row_in_an_instruction
.byte 0xb8, 0xc3
.cfi_remember_state
.byte 0xc3, 0xc3, 0xc3
ret
end row_in_an_instruction

function not_at_entry
.cfi_def_cfa_offset 16
add $8, %rsp
.cfi_def_cfa_offset 8
ret
end not_at_entry

function teardown_not_told
push %rbx
.cfi_adjust_cfa_offset 8
test %edi, %edi
je 1f
pop %rbx
jmp *%rsi
1: pop %rbx
.cfi_adjust_cfa_offset -8
ret
end teardown_not_told

function far_return
test %edi, %edi
je 1f
lretq
1: ret
end far_return

function sum_of_nothing
lea 1f(%rip), %rdx
test %edi, %edi
je 1f
add %rdx, %rax
jmp *%rax
1: ret
end sum_of_nothing

function table_of_functions
test %edi, %edi
je 1f
lea functions(%rip), %rdx
movslq (%rdx,%rdi,4), %rax
add %rdx, %rax
jmp *%rax
1: ret
end table_of_functions

function table_of_labels
test %edi, %edi
je 1f
lea labels(%rip), %r9
movslq (%r9,%rdi,4), %r11
add %r9, %r11
notrack jmp *%r11
1: ret
.Llabel: mov $1, %eax
ret
end table_of_labels

function table_of_labels_swapped
lea labels_swapped(%rip), %r13
test %edi, %edi
je 1f
movslq 0(%r13,%rdi,4), %rcx
add %rcx, %r13
jmp *%r13
1: ret
.Lswapped: mov $1, %eax
ret
end table_of_labels_swapped

.globl without_record
.type without_record, @function
without_record:
ret
.size without_record, .-without_record

.globl without_size
.type without_size, @function
without_size:
ret

function moved_without_name
sub $8, %rsp
.cfi_adjust_cfa_offset 8
test %edi, %edi
je its_part
add $8, %rsp
.cfi_adjust_cfa_offset -8
1: ret
end moved_without_name
its_part:
.cfi_startproc
.cfi_def_cfa_offset 16
nop
add $8, %rsp
.cfi_adjust_cfa_offset -8
test %esi, %esi
je 1b
ret
.cfi_endproc

function moved_without_name_or_frame
test %edi, %edi
je its_other_part
1: ret
end moved_without_name_or_frame
its_other_part:
.cfi_startproc
nop
test %esi, %esi
je 1b
ret
.cfi_endproc

function jumps_to_what_never_returns
test %edi, %edi
je endless
ret
end jumps_to_what_never_returns
function endless
1: jmp 1b
end endless

.section .rodata
functions: .long fine - functions, fine - functions
labels: .long .Llabel - labels
labels_swapped: .long .Lswapped - labels_swapped
"""
)


def test_written_by_hand(tmp_path: Path) -> None:
    path = build(tmp_path, ASSEMBLY, "-Wl,-Bsymbolic", suffix=".S")
    with functions(path) as known:
        address = known.sizes["fine"][0]
        assert known.exits("fine") == Exits((address + 1,), None)
        for name, count in {
            "padded": 1,
            "over_a_lock": 1,
            "calls_itself": 1,
            "frame_told": 2,
            "table_of_labels": 2,
            "table_of_labels_swapped": 2,
            "moved_without_name": 2,
            "moved_without_name_or_frame": 2,
            "jumps_to_what_never_returns": 1,
        }.items():
            assert known.returns(name) == count, name
        for name, reason in {
            "data_inside": "code can't be decoded at 0x",
            "table_inside": "code can't be decoded at 0x",
            "cut_off": "code can't be decoded at 0x",
            "runs_on": "runs on into the code at 0x",
            "falls_off": "runs on into the code at 0x",
            "only_padding": "runs on into the code at 0x",
            "into_the_middle": "jumps into the middle of an instruction at 0x",
            "calls_its_middle": "calls into its own middle at 0x",
            "frame_at_return": NO_FRAME + "the return at 0x",
            "jumps_out_with_a_frame": "jumps out of the function at 0x",
            "row_in_an_instruction": "code and unwind table disagree on what begins at 0x",
            "not_at_entry": NO_FRAME + "its first instruction",
            "teardown_not_told": INDIRECT,
            "far_return": "jumps in an unusual way at 0x",
            "sum_of_nothing": INDIRECT,
            "table_of_functions": INDIRECT,
            "without_record": "the unwind table says nothing about 0x",
            "without_size": "size unknown",
            "endless": "never returns",
        }.items():
            found = known.reason(name)
            assert found == reason or ("decoded" in reason and found.startswith(reason)), (name, found)
            assert not known.exits(name).returns


def test_limits(tmp_path: Path) -> None:
    with functions(build(tmp_path, ASSEMBLY, "-Wl,-Bsymbolic", suffix=".S")) as known:
        address, size = known.sizes["fine"]
        elf, table = known.elf, known.table
        assert exits_of(elf, None, address, size).reason == "no unwind table"
        assert exits_of(elf, table, address, 0).reason == "size unknown"
        assert exits_of(elf, table, address, -1).reason == "size unknown"
        assert exits_of(elf, table, address, MAX_SIZE + 1).reason == f"too large: {MAX_SIZE + 1} bytes"
        for wrong in (0, 1, 1 << 40, (1 << 64) - 1, -5):
            assert exits_of(elf, table, wrong, 4).returns == ()
            assert exits_of(elf, table, address, size, ((wrong, 4),)).reason is None
        assert exits_of(elf, table, address, MAX_SIZE).returns == ()
        # Half a function, or one and a half.
        assert exits_of(elf, table, address, size - 1).returns == ()
        first, second = known.sizes["calls_itself"], known.sizes["frame_told"]
        assert exits_of(elf, table, first[0], second[0] + second[1] - first[0]).returns == ()


def test_cold_parts_of_somebody_else(tmp_path: Path) -> None:
    """Static functions may share a name, and then their cold parts do."""
    path = build(tmp_path, SOURCE, "-O2", cc="gcc")
    with functions(path) as known:
        foreign = [part for parts in known.cold.values() for part in parts]
        assert foreign
        for name in ("plain", "calls", "cases", "recursion"):
            address, size = known.sizes[name]
            assert exits_of(known.elf, known.table, address, size, foreign).returns == known.exits(name).returns


def test_rust(tmp_path: Path) -> None:
    source, out = tmp_path / "main.rs", tmp_path / "main"
    source.write_text(
        "use std::collections::HashMap;"
        'fn main() { let m: HashMap<_, _> = std::env::args().map(|a| (a, 1)).collect(); println!("{m:?}"); }'
    )
    run("rustc", "-O", str(source), "-o", str(out))
    with functions(str(out)) as known:
        count = compare_with_objdump(known)
        assert count[None] > 0.5 * sum(count.values()), count


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-Os"])
def test_arm64_compiled(tmp_path: Path, level: str) -> None:
    """By a compiler that describes prologues, but not epilogues: a return that comes after a frame, but not on that
    path, has the wrong rule."""
    path = build_arm64(tmp_path, SOURCE, level, "-fasynchronous-unwind-tables", "-fvisibility=hidden")
    with functions(path) as known:
        check_fixture(known, level not in ("-O0", "-O1"), but=("two_returns",) if level != "-O0" else ())


ASSEMBLY_ARM64 = (
    MACROS.replace("0xcc", "0")
    + r"""
function frame
stp x29, x30, [sp, #-16]!
.cfi_def_cfa_offset 16
.cfi_offset x29, -16
.cfi_offset x30, -8
bl fine
ldp x29, x30, [sp], #16
.cfi_def_cfa_offset 0
.cfi_restore x29
.cfi_restore x30
ret
end frame

function signed
.inst 0xd503233f
.cfi_window_save
stp x29, x30, [sp, #-16]!
.cfi_def_cfa_offset 16
ldp x29, x30, [sp], #16
.cfi_def_cfa_offset 0
.inst 0xd65f0bff
end signed

function through_another_register
mov x5, x30
ret x5
end through_another_register

function frame_at_return
sub sp, sp, #16
.cfi_def_cfa_offset 16
cbz x0, 1f
ret
1: ret
end frame_at_return

function labels_nearby
cmp w0, #3
b.hi 3f
adrp x1, offsets
add x1, x1, :lo12:offsets
ldrb w1, [x1, w0, uxtw]
adr x2, 2f
add x1, x2, w1, sxtb #2
br x1
2: mov w0, #1
ret
3: ret
end labels_nearby

function labels_by_table
cmp w0, #3
b.hi 3f
adrp x8, table
add x8, x8, :lo12:table
ldrsw x9, [x8, w0, uxtw #2]
add x9, x9, x8
br x9
.Llabel: mov w0, #1
ret
3: ret
end labels_by_table

function by_pointer
cbz x0, 1f
br x0
1: ret
end by_pointer

function teardown_not_told
stp x29, x30, [sp, #-16]!
.cfi_def_cfa_offset 16
ldp x29, x30, [sp], #16
br x1
end teardown_not_told

function data_inside
b 1f
.inst 0
.inst 0xd65f03c0
1: ret
end data_inside

.section .rodata
offsets: .byte 0, 1, 2, 3
.balign 4
table: .word .Llabel - table
"""
)


def test_arm64_written_by_hand(tmp_path: Path) -> None:
    path = build_arm64(tmp_path, ASSEMBLY_ARM64, suffix=".S")
    with functions(path) as known:
        for name, count in {"fine": 1, "frame": 1, "labels_nearby": 2, "labels_by_table": 2}.items():
            assert known.returns(name) == count, name
        for name, reason in {
            "through_another_register": "returns in an unusual way at 0x",
            "signed": "Linux can't probe the return at 0x",  # retaa
            "frame_at_return": NO_FRAME + "the return at 0x",
            "by_pointer": INDIRECT,
            "teardown_not_told": INDIRECT,
        }.items():
            assert known.reason(name) == reason, name


@pytest.mark.parametrize("seed", range(4))
def test_hostile_files(tmp_path: Path, seed: int) -> None:
    """Whatever is broken, the answer is a reason, or returns that objdump sees in the same bytes too."""
    path = build(tmp_path, CATCHES, "-O2", cc="g++", suffix=".cc")
    with functions(path) as known:
        original = bytes(known.elf.data)
        names = (".eh_frame_hdr", ".eh_frame", ".gcc_except_table", ".text")
        sections = [section for section in map(known.elf.section, names) if section is not None]
        sizes, cold = known.sizes, known.cold
    assert len(sections) == 4
    dice = random.Random(seed)
    for round_ in range(300):
        data = bytearray(original)
        section = sections[round_ % 4]
        for _ in range(dice.randrange(1, 6)):
            data[section.offset + dice.randrange(section.size)] = dice.choice(
                (0, 0x7F, 0xC3, 0xE9, 0xEB, 0xFF, dice.randrange(256))
            )
        broken = tmp_path / "broken.so"
        broken.write_bytes(data)
        try:
            elf = Elf.open(str(broken))
        except BinaryError:
            continue
        with elf:
            table = UnwindTable.of(elf)
            for name, (address, size) in sizes.items():
                found = exits_of(elf, table, address, size, cold.get(name, ()))
                assert (found.reason is None) == bool(found.returns) or found.tail_targets
                for site in found.returns:
                    code = elf.read(site, 2)
                    assert (
                        code[:1] in b"\xc3\xc2"
                        or code[1:] in b"\xc3\xc2"
                        or code[:1] in b"\x66\x2e\x3e\x26\x36\x64\x65\xf2\xf3"
                    )
