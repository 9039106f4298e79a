# SPDX-License-Identifier: BSD-2-Clause
"""C, C++ and Rust: frames that are left in every way, code that is built and mapped in every way."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import targets
from torture.case import Outcome, altered, case
from torture.watch import TOOLS, Watch

import pyebpf

GROUP = "C, C++ and Rust"
FENTRY = ("-pg", "-mfentry", "-mnop-mcount", "-fno-pie", "-no-pie")  # functions begin with a nop of five bytes
HUGE = ("-DHUGE_TEXT", "-Wl,-z,max-page-size=0x200000", "-Wl,-z,common-page-size=0x200000", "-Wl,-z,noseparate-code")


def watched(
    program: Path, *arguments: str, functions: str, what: str, tools: Sequence[str] = TOOLS, everyone: bool = False,
    results: bool = False, note: str = "",
) -> Outcome:  # fmt: skip
    """Runs a program under all tools; compares what they saw with what it tells.

    Args:
        functions: their names, a space between two.
        everyone: trace all processes that run the program, not only the one that is started.
        results: the program's checksum is the sum of what these functions return.
    """
    names = [f"{program}:{name}" for name in functions.split()]
    with targets.run(program, *arguments) as target:
        pid = None if everyone else target.pid
        with Watch(*names, tools=tools, results=results, pid=pid) as watch:
            truth = target.go()
            return Outcome(truth["survived"], what, watch.checks(truth), note)


def leaves(scale: float, rounds: int, kind: str, functions: str, what: str, **more: Any) -> Outcome:
    """A kind of leaves.c."""
    program = targets.compiled("torture/leaves.c", *more.pop("flags", ()))
    return watched(program, "-n", str(max(23, int(rounds * scale))), kind, functions=functions, what=what, **more)


# -- frames that are left


HELL = (
    "hell::thrower(int) hell::passer(int) hell::nested(int) hell::again(int) hell::swallows(int) hell::calm(int) "
    "hell::Member::Member(int) hell::carries(int) hell::lands(void*) hell::steps(int) hell::resumes(void*)"
)
UNWINDS = {
    "g++": ("g++", ()),
    "clang++": ("clang++", ()),
    "-O0": ("g++", ("-O0",)),
    "-O3 -static": ("g++", ("-O3", "-static")),
    "-fcf-protection": ("g++", ("-fcf-protection",)),
}


@case("C++ exceptions", group=GROUP, variants=tuple(UNWINDS), short=("g++",))
def exceptions(scale: float, variant: str) -> Outcome:
    """Nested, thrown on, in destructors, through noexcept, across threads, out of and into coroutines."""
    compiler, flags = UNWINDS[variant]
    program = targets.compiled("torture/unwinds.cpp", "-std=c++20", *flags, compiler=compiler)
    rounds = max(23, int(997 * scale))
    return watched(program, "-n", str(rounds), functions=HELL, what="throws and resumes")


@case("Rust panics", group=GROUP, variants=("legacy", "v0"), short=("v0",))
def panics(scale: float, variant: str) -> Outcome:
    """Caught, resumed, in a drop while another unwinds, in a thread that dies of it."""
    program = targets.compiled("torture/panics.rs", *(("-C", "symbol-mangling-version=v0") if variant == "v0" else ()))
    names = "panics::thrower panics::passes panics::swallows panics::again panics::lands"
    return watched(program, str(max(23, int(9973 * scale))), functions=names, what="panics")


@case("longjmp", group=GROUP)
def longjmp(scale: float) -> Outcome:
    """Nine frames at once, in four threads."""
    return leaves(scale, 2999, "jumps", "dive", "jumps")


@case("tail calls", group=GROUP)
def tail_calls(scale: float) -> Outcome:
    """Direct, mutual, and to one of several siblings."""
    functions = "direct finish even odd dispatch one two three"
    return leaves(scale, 997, "tails", functions, "jumps instead of calls", note="a chain of jumps returns once")


@case("alloca, VLAs and large frames", group=GROUP, short=())
def frames(scale: float) -> Outcome:
    return leaves(scale, 9973, "frames", "grows pages", "frames")


@case("signal handlers on alternate stacks", group=GROUP)
def signals(scale: float) -> Outcome:
    """Raised inside traced functions, left by siglongjmp, and by a timer wherever it strikes."""
    return leaves(scale, 9973, "signals", "raises handled ticks", "signals")


@case("stack overflow, caught", group=GROUP)
def overflow(scale: float) -> Outcome:
    return leaves(scale, 397, "overflow", "falls", "overflows")


@case("coroutines", group=GROUP)
def coroutines(scale: float) -> Outcome:
    """swapcontext inside traced functions, on two threads in turn; calls that are never finished. The kernel's return
    probe kills such a program at once."""
    return leaves(scale, 997, "contexts", "steps jumps_away", "switches")


@case("threads cancelled and exiting inside", group=GROUP, short=())
def cancels(scale: float) -> Outcome:
    return leaves(scale, 9973, "cancels", "waits ends ends_by_jump", "threads")


@case("functions that never return", group=GROUP, short=())
def never_return(scale: float) -> Outcome:
    return leaves(scale, 9973, "noreturn", "exits", "exits", everyone=True)


# -- code that is built in every way


ENTRIES: dict[str, tuple[str, ...]] = {
    "endbr64": ("-fcf-protection",),
    "fentry nop": FENTRY,
    "five patchable bytes": ("-fpatchable-function-entry=5",),
    "sixteen before, two inside": ("-fpatchable-function-entry=18,16",),
    "mcount": ("-pg", "-fno-pie", "-no-pie"),
    "static-pie": ("-static-pie",),
    "static": ("-static",),
    "LTO": ("-flto",),
    "-O0": ("-O0",),
    "-Os, stack protector": ("-Os", "-fstack-protector-all"),
    "stack clash protection": ("-fstack-clash-protection", "-fno-omit-frame-pointer"),
}


@case("entries", group=GROUP, variants=tuple(ENTRIES), short=("fentry nop",))
def entries(scale: float, variant: str) -> Outcome:
    """However functions begin, in four threads."""
    program = targets.compiled("torture/texts.c", *ENTRIES[variant])
    rounds = max(23, int(4999 * scale))
    with tempfile.TemporaryDirectory() as folder:  # gprof's output goes to where the program runs
        os.environ["GMON_OUT_PREFIX"] = f"{folder}/gmon"
        try:
            return watched(program, "-n", str(rounds), "hot", functions="works", what="calls", results=True)
        finally:
            del os.environ["GMON_OUT_PREFIX"]


@case("identical code folding", group=GROUP, variants=("apart", "folded"), short=())
def folded(scale: float, variant: str) -> Outcome:
    """Two names of one address: calls by either are calls of both, and are counted once."""
    flags = ("-fuse-ld=gold", "-Wl,--icf=all") if variant == "folded" else ()
    program = targets.compiled("torture/texts.c", *flags)
    rounds = max(23, int(9973 * scale))
    with targets.run(program, "-n", str(rounds), "folded") as target:
        with pyebpf.count(f"{program}:same_?", pid=target.pid) as counts:
            truth = target.go()
            seen = counts.snapshot()
            functions = len(counts.functions)
    checks = {
        "checksum": (truth["checksum"], truth["expected"]),
        "functions": (functions, 1 if variant == "folded" else 2),
        "count": (sum(seen.values()), sum(truth["calls"].values())),
    }
    return Outcome(truth["survived"], "pairs of calls", checks)


@case("nops that the kernel makes calls of", group=GROUP)
def nops(scale: float) -> Outcome:
    """A probe on a five-byte nop of a leaf function would overwrite its variables on Linux 6.18: it is refused. All
    others can be probed."""
    program = targets.compiled("torture/texts.c")
    with pyebpf.count(f"{program}:leaf") as counts:
        [function] = counts.functions
    survived = right = refused = 0
    for offset in range(function.size):
        with targets.run(program, "-n", str(max(23, int(997 * scale))), "leaf") as target:
            try:
                with pyebpf.count(f"{program}:leaf+{offset}", pid=target.pid) as counts:
                    truth = target.go()
                    seen = sum(counts.snapshot().values())
            except pyebpf.UnsafeProbe:  # inside an instruction
                continue
            except pyebpf.TargetError:
                refused += 1
                continue
        survived += 1
        right += truth["checksum"] == truth["expected"] and seen == truth["calls"]["leaf"]
    checks = {"right": (right, survived), "nops refused": (refused, int(os.uname().machine == "x86_64"))}
    return Outcome(survived, "instructions probed", checks)


# -- code that is mapped in every way


def texts(scale: float, rounds: int, kind: str, functions: str, what: str, *flags: str, **more: Any) -> Outcome:
    """A kind of texts.c."""
    program = targets.compiled("torture/texts.c", *flags)
    return watched(program, "-n", str(max(23, int(rounds * scale))), kind, functions=functions, what=what, **more)


@case("mprotect of text", group=GROUP, short=())
def mprotect(scale: float) -> Outcome:
    return texts(scale, 9973, "protects", "works", "changes", results=True)


@case("mremap of text", group=GROUP)
def mremap(scale: float) -> Outcome:
    return texts(scale, 4999, "moves", "leaf", "moves")


@case("text written to: private pages", group=GROUP, short=())
def private_pages(scale: float) -> Outcome:
    """The page with the probes becomes the process's own."""
    return texts(scale, 4999, "copies", "works", "copies", results=True)


@case("text thrown away", group=GROUP, short=())
def thrown_away(scale: float) -> Outcome:
    """madvise(MADV_DONTNEED) of code takes the kernel's breakpoints along: calls are not seen from then on."""
    return texts(scale, 4999, "drops", "works", "pages", note="calls up to the first page thrown away")


@case("JIT beside traced functions", group=GROUP, short=())
def jit(scale: float) -> Outcome:
    return texts(scale, 9973, "jit", "works", "rewrites")


@contextmanager
def huge_tmpfs() -> Iterator[Path]:
    """A file system whose files may lie on huge pages."""
    folder = Path(tempfile.mkdtemp(prefix="pyebpf-huge-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@case("text on huge pages", group=GROUP)
def huge_pages(scale: float) -> Outcome:
    """A probe splits the huge page; the kernel is asked for one again and again meanwhile, and makes one when the
    probes are gone."""
    rounds = max(23, int(9973 * scale))
    with huge_tmpfs() as folder:
        program = Path(shutil.copy2(targets.compiled("torture/texts.c", *HUGE), folder / "texts"))
        with targets.run(program, "-n", str(rounds), "-w", "huge") as target:
            with Watch(f"{program}:works", results=True, pid=target.pid) as watch:
                target.begin()
                truth = target.first_line()
                checks = watch.checks(truth)
            changed = altered(target.pid, program)
            after = target.truth()
    checks["kB on huge pages before"] = truth["huge"], 2048
    checks["bytes of code changed"] = changed, 0
    return Outcome(truth["survived"], "calls", checks, f"{after['huge_after']} kB on huge pages again afterwards")
