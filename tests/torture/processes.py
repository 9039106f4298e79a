# SPDX-License-Identifier: BSD-2-Clause
"""Processes that come, go, become others and are kept short; files that are loaded, unloaded and replaced."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import targets
from torture.case import Outcome, case
from torture.native import FENTRY, watched
from torture.watch import Watch

import pyebpf

GROUP = "Processes and files"
# From Linux 6.18 on a probe on the nop at the entry would become a call, which makes a system call of the kernel's own.
KINDS = {"plain": (), "fentry nops": FENTRY}


def spawns(variant: str = "plain") -> Path:
    return targets.compiled("torture/spawns.c", *KINDS[variant])


def some(scale: float, number: int, least: int = 23) -> int:
    return max(least, int(number * scale))


# -- children


def children(rounds: int, kind: str, variant: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """Everybody who runs the program is traced by path, the parent alone by -p as well."""
    program = spawns(variant)
    with targets.run(program, "-n", str(rounds), kind) as target, Watch(f"{program}:works", results=True) as everyone:
        with pyebpf.count(":works", pid=target.pid) as own, pyebpf.latency(":works", pid=target.pid) as times:
            truth = target.go()
            checks = everyone.checks(truth)
            checks["count -p"] = own.snapshot()["works"], rounds
            checks["latency -p"] = times.snapshot()["works"].count, rounds
    return truth["survived"], checks


@case("fork without exec", group=GROUP, variants=tuple(KINDS), short=("fentry nops",))
def forks(scale: float, variant: str) -> Outcome:
    """Children and their children inherit the breakpoints; they are counted by path, not by -p of their parent."""
    survived, checks = children(some(scale, 2999), "forks", variant)
    return Outcome(survived, "forks", checks)


@case("vfork", group=GROUP, variants=tuple(KINDS), short=())
def vforks(scale: float, variant: str) -> Outcome:
    """A child that shares its parent's memory is a process of its own all the same."""
    survived, checks = children(some(scale, 4999), "vforks", variant)
    return Outcome(survived, "vforks", checks)


@case("short processes", group=GROUP)
def short_processes(scale: float) -> Outcome:
    program, rounds = spawns(), some(scale, 19997)
    with targets.run(program, "-n", str(rounds), "-t", "4", "brief") as target:
        with Watch(f"{program}:works", results=True) as watch:
            begun = time.monotonic()
            truth = target.go()
            rate = truth["survived"] / (time.monotonic() - begun)
            return Outcome(truth["survived"], "processes", watch.checks(truth), f"{rate:,.0f} a second")


@case("exec while traced", group=GROUP, variants=("by path", "by -p", "of another thread"), short=("by -p",))
def execs(scale: float, variant: str) -> Outcome:
    """A process executes itself, with and without a thread beside. (The probes of -p don't follow an exec by another
    thread than the first: KNOWN_ISSUES.md.)"""
    kind = "thread-execs" if variant == "of another thread" else "execs"
    return watched(spawns(), "-n", str(some(scale, 997)), kind, functions="works", what="execs",
                   everyone=variant != "by -p", results=True)  # fmt: skip


@case("threads at once", group=GROUP)
def crowd(scale: float) -> Outcome:
    """All of them inside a traced function at the same moment, and each one's calls counted."""
    program, number = spawns(), some(scale, 10_000, least=500)
    with targets.run(program, "-n", "3", "-t", str(number), "crowd") as target:
        names = (f"{program}:works", f"{program}:waits")
        with pyebpf.count(*names, pid=target.pid) as counts, pyebpf.latency(*names, pid=target.pid) as times:
            truth = target.go()
            seen, timed, losses = counts.snapshot(), times.snapshot(), times.losses
    made = sum(truth["calls"].values())
    checks = {
        "checksum": (truth["checksum"], truth["expected"]),
        "count": (sum(seen.values()), made),
        "latency, evicted": (sum(one.count for one in timed.values()) + losses.evicted, made),
    }
    return Outcome(truth["survived"], "threads", checks, f"evicted {losses.evicted}")


# -- what becomes of them


@case("exiting while attached to", group=GROUP)
def exiting(scale: float) -> Outcome:
    """Killed at a random moment of attaching: our error, or a session without calls."""
    program, rounds = spawns(), some(scale, 61, least=4)
    chance = random.Random(6)
    begun = time.monotonic()
    with targets.run(program, "lingers") as target, Watch(f"{program}:works", pid=target.pid):
        duration = 2 * (time.monotonic() - begun)
    gone = attached = 0
    for _ in range(rounds):
        with targets.run(program, "-n", "10000000", "hot") as target:
            target.begin()
            killer = threading.Timer(chance.random() * duration, os.kill, (target.pid, signal.SIGKILL))
            killer.start()
            try:
                with Watch(":works", pid=target.pid):
                    killer.join()
                    attached += 1
            except (pyebpf.TargetNotFound, pyebpf.TargetError) as error:  # the latter of a zombie
                assert str(target.pid) in str(error), error
                gone += 1
            finally:
                killer.join()
    checks = {"said to be gone, or attached": (gone + attached, rounds)}
    return Outcome(rounds, "exits", checks, f"{gone} were gone before everything was attached")


REUSE = """
import json, sys
from pathlib import Path
import pyebpf, targets

program, rounds, survived, seen, fresh = Path(sys.argv[1]), int(sys.argv[2]), 0, 0, 0
while survived < rounds:
    with targets.run(program, "-n", "23", "hot") as old:
        with pyebpf.count(":works", pid=old.pid) as counts, pyebpf.latency(":works", pid=old.pid) as times:
            old.go()
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(old.pid - 1))
            with targets.run(program, "-n", "997", "hot") as new:
                if new.pid != old.pid:  # somebody else was quicker
                    continue
                with pyebpf.count(":works", pid=new.pid) as anew:
                    new.go()
                    fresh += anew.snapshot()["works"]
                seen += counts.snapshot()["works"] + times.snapshot()["works"].count
                survived += 1
print(json.dumps([survived, seen, fresh]))
"""


@case("process numbers used again", group=GROUP)
def reuse(scale: float) -> Outcome:
    """Another process of the same program and number is not the one that was traced."""
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REUSE, str(spawns()),
         str(some(scale, 31, least=3))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=targets.DEADLINE, check=True,
    )  # fmt: skip
    survived, seen, fresh = json.loads(done.stdout)
    checks = {"the old ones": (seen, 46 * survived), "the new ones": (fresh, 997 * survived)}
    return Outcome(survived, "numbers used again", checks)


@case("SIGSTOP and SIGCONT", group=GROUP, short=())
def stops(scale: float) -> Outcome:
    program = targets.compiled("torture/texts.c")
    chance = random.Random(6)
    stopped = 0
    with targets.run(program, "-n", str(some(scale, 9973)), "hot") as target:
        with Watch(f"{program}:works", results=True, pid=target.pid) as watch:
            target.begin()
            while True:
                os.kill(target.pid, signal.SIGSTOP)
                what = os.waitid(os.P_PID, target.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if what is None or what.si_code != os.CLD_STOPPED:
                    break
                os.waitid(os.P_PID, target.pid, os.WSTOPPED)
                stopped += 1
                os.kill(target.pid, signal.SIGCONT)
                time.sleep(chance.random() * 0.002)  # a moment to strike at, not to wait for anything
            truth = target.truth()
            return Outcome(stopped, "stops", watch.checks(truth))


# -- short of everything


@case("seccomp", group=GROUP, variants=("strict", "filter", "strict, fentry nops", "filter, fentry nops"),
      short=("filter, fentry nops",))  # fmt: skip
def seccomp(scale: float, variant: str) -> Outcome:
    """Killed for any system call but a few: our probes on returns make none, unlike the kernel's return probe."""
    mode, _, nops = variant.partition(", ")
    kind = {"strict": "strict", "filter": "filters"}[mode]
    rounds = str(some(scale, 9973))
    return watched(spawns(nops or "plain"), "-n", rounds, kind, functions="works", what="calls", everyone=True,
                   results=True)  # fmt: skip


@case("no_new_privs, not dumpable", group=GROUP, short=())
def hardened(scale: float) -> Outcome:
    return watched(spawns(), "-n", str(some(scale, 9973)), "hardens", functions="works", what="calls", results=True)


@contextlib.contextmanager
def little_memory(pid: int, limit: int) -> Iterator[Path]:
    """Limits a process that ends within; the folder of its control group (v1 or v2)."""
    v1 = Path("/sys/fs/cgroup/memory")
    folder = Path(tempfile.mkdtemp(prefix="pyebpf-", dir=v1 if v1.is_dir() else "/sys/fs/cgroup"))
    try:
        if not v1.is_dir():
            (folder.parent / "cgroup.subtree_control").write_text("+memory")
        (folder / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(limit))
        (folder / "cgroup.procs").write_text(str(pid))
        yield folder
    finally:
        deadline = time.monotonic() + targets.DEADLINE
        while True:  # it is busy for a moment after its last process has ended
            try:
                folder.rmdir()
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@case("memory pressure", group=GROUP, short=())
def pressure(scale: float) -> Outcome:
    """16 MB, half of which are taken and given back each time, while a file is read through what is left."""
    program = spawns()
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.truncate(32 << 20)
        with targets.run(program, "-n", str(some(scale, 97, least=3)), "-l", file.name, "eats") as target:
            watch = Watch(f"{program}:works", results=True, pid=target.pid)
            with little_memory(target.pid, 16 << 20) as group, watch:
                truth = target.go()
                checks = watch.checks(truth)
                failures = group / "memory.failcnt"  # v1
                note = f"{int(failures.read_text()):,} times at the limit" if failures.exists() else ""
    return Outcome(truth["survived"], "rounds", checks, note)


# -- files


def library(folder: Path) -> Path:
    made = targets.compiled("libwork.c", "-fPIC", "-shared", "-Wl,-soname,libwork.so")
    return Path(shutil.copy2(made, folder / "libwork.so"))


@case("dlopen and dlclose", group=GROUP, variants=("by path", "by -p"), short=("by path",))
def loads(scale: float, variant: str) -> Outcome:
    """A traced library comes and goes in four threads; with -p it must be there at the beginning."""
    with tempfile.TemporaryDirectory() as folder:
        path = library(Path(folder))
        by_pid = variant == "by -p"
        env = {"SPAWNS_EARLY": str(path)} if by_pid else {}
        with targets.run(spawns(), "-n", str(some(scale, 2999)), "-l", str(path), "loads", env=env) as target:
            with Watch(f"{path}:work", results=True, pid=target.pid if by_pid else None) as watch:
                truth = as_library(target.go())
                return Outcome(truth["survived"], "loads", watch.checks(truth))


def as_library(truth: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The program's own calls were the library's."""
    return {**truth, **{kind: {"work": truth[kind]["works"]} for kind in ("calls", "returns")}}


@case("replaced by rename", group=GROUP, short=())
def renamed(scale: float) -> Outcome:
    """A session goes on with the file it was begun with, a new one takes the new file."""
    rounds = some(scale, 31, least=3)
    seen = {"the old file": 0, "the new file": 0}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "spawns"
        for _ in range(rounds):
            shutil.copy2(spawns(), program)
            with targets.run(program, "-n", "23", "hot") as old, pyebpf.count(f"{program}:works") as before:
                os.replace(shutil.copy2(spawns(), program.with_suffix(".new")), program)
                with targets.run(program, "-n", "997", "hot") as new, pyebpf.count(f"{program}:works") as after:
                    old.go()
                    new.go()
                    seen["the old file"] += before.snapshot()["works"]
                    seen["the new file"] += after.snapshot()["works"]
            program.unlink()
    return Outcome(rounds, "renames", {"the old file": (seen["the old file"], 23 * rounds),
                                       "the new file": (seen["the new file"], 997 * rounds)})  # fmt: skip


@case("rewritten in place", group=GROUP, short=())
def rewritten(scale: float) -> Outcome:
    """A library that is written over with the same code, again and again, while it is loaded and unloaded. (Other code
    gets breakpoints where the old one's instructions began: KNOWN_ISSUES.md.)"""
    rewrites = 0
    with tempfile.TemporaryDirectory() as folder:
        path = library(Path(folder))
        code = path.read_bytes()
        with targets.run(spawns(), "-n", str(some(scale, 2999)), "-l", str(path), "loads") as target:
            with Watch(f"{path}:work", results=True) as watch:
                target.begin()
                with open(path, "r+b", 0) as file:
                    while target.alive():
                        file.seek(0)
                        file.write(code)
                        rewrites += 1
                truth = as_library(target.truth())
                checks = watch.checks(truth)
    return Outcome(rewrites, "rewrites", checks)
