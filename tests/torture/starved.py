# SPDX-License-Identifier: BSD-2-Clause
"""The tracer starved: of descriptors, memory, threads and processes, file systems. It works or says what failed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import targets
from torture.case import Outcome, case
from torture.subjects import DURATION, TOOLS, Ended, Subjects, Tracer, seeded, times

MIB = 1 << 20


@contextlib.contextmanager
def cgroup(controller: str, v1: str, v2: str, value: str) -> Iterator[tuple[str, ...]]:
    """A prefix that starts a command in a control group (v1 or v2) of its own with that limit."""
    top = Path("/sys/fs/cgroup")
    old = (top / controller).is_dir()
    folder = Path(tempfile.mkdtemp(prefix="pyebpf-", dir=top / controller if old else top))
    try:
        if not old:
            (top / "cgroup.subtree_control").write_text(f"+{controller}")
        (folder / (v1 if old else v2)).write_text(value)
        yield ("sh", "-c", f'echo $$ >{folder}/cgroup.procs && exec "$@"', "sh")
    finally:
        targets.until(lambda: _removed(folder), "its control group is in use")


def _removed(folder: Path) -> bool:
    """It can't be as long as what was in it is being taken apart."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _run(words: Sequence[str], prefix: Sequence[str] = ()) -> Ended:
    """Until it ends, the agent when it has said that it is ready: on its standard output, as another descriptor may not
    fit under its limit."""
    if words[0] != "export":
        return Tracer(words, prefix=prefix, ready=False).end()
    read, write = os.pipe()
    tracer = Tracer([words[0], "--ready-fd", "1", *words[1:]], prefix=prefix, ready=False, stdout=write)
    os.close(write)
    with open(read, "rb") as pipe:
        is_ready = pipe.read(1) == b"\n"
    return tracer.end(signal.SIGTERM if is_ready else 0)


class Tally:
    """How a case's runs ended.

    Attributes:
        ends: how many, by how.
        faults: what neither worked nor said why.
    """

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []

    def add(self, where: str, ended: Ended, may_die: Sequence[int] = ()) -> bool:
        """Notes how one ended; returns whether it worked."""
        if ended.code in may_die:
            self.ends["killed by the kernel"] += 1
        elif "pyebpf/" not in ended.error and ended.code > 0 and ended.error.strip():
            self.ends["Python didn't start" if "pyebpf:" not in ended.error else "said why not"] += 1
        elif fault := ended.says():
            self.faults.append(f"{where}: {fault}")
        else:
            self.ends["worked" if ended.code == 0 else "said why not"] += 1
        return ended.code == 0

    def outcome(self, what: str, subjects: Subjects, *notes: str) -> Outcome:
        runs = sum(self.ends.values())
        assert not self.faults, "\n".join([f"{len(self.faults)} of {runs + len(self.faults)}", *self.faults, *notes])
        note = ", ".join([*(f"{number} {end}" for end, number in self.ends.items()), *notes])
        return Outcome(runs, what, subjects.checks, note)


@case("out of descriptors", group="Tracer", variants=tuple(TOOLS), short=("opensnoop",))
def descriptors(scale: float, tool: str) -> Outcome:
    """RLIMIT_NOFILE of every value from 3 to the third with which it works."""
    tally, worked, limit, step = Tally(), 0, 3, 1 if scale >= 0.5 else 9
    with Subjects() as subjects:
        words = TOOLS[tool](subjects)
        while worked < (3 if step == 1 else 1):
            prefix = ("prlimit", f"--nofile={limit}", "--")
            worked += tally.add(f"{limit} descriptors", _run(words, prefix))
            subjects.check()
            limit += step
            assert limit < 200
    return tally.outcome("limits", subjects, f"{limit - 1} are enough")


@case("out of descriptors, one a probe", group="Tracer", variants=("cookie", "copy"), short=())
def descriptors_each(scale: float, rung: str) -> Outcome:
    """The same on the lower rungs of attaching, where each of 64 functions takes a descriptor or two."""
    rng, seed = seeded()
    tally = Tally()
    with Subjects() as subjects:
        words = ("funccount", *DURATION, "-p", str(subjects.native.pid), ":step_00*")
        for _ in range(times(scale, 12)):
            limit = rng.randrange(3, 200)
            prefix = ("env", f"PYEBPF_ATTACH={rung}", "prlimit", f"--nofile={limit}", "--")
            tally.add(f"{limit} descriptors", _run(words, prefix))
            subjects.check()
    return tally.outcome("limits", subjects, seed)


@case("out of memory", group="Tracer", variants=tuple(TOOLS), short=("trace",))
def memory(scale: float, tool: str) -> Outcome:
    """A control group's limit: the kernel kills the tracer, or refuses it a map."""
    sizes = [*range(2, 33, 2), 40, 48, 64, 96] if scale >= 0.5 else [12, 64]
    tally = Tally()
    with Subjects() as subjects:
        words = TOOLS[tool](subjects)
        for size in sizes:
            limit = cgroup("memory", "memory.limit_in_bytes", "memory.max", str(size * MIB))
            with limit as prefix:
                tally.add(f"{size} MiB", _run(words, prefix), (-signal.SIGKILL, 137))
            subjects.check()
    return tally.outcome("limits", subjects)


@case("out of address space", group="Tracer", variants=tuple(TOOLS), short=())
def address_space(scale: float, tool: str) -> Outcome:
    """RLIMIT_AS: what the tracer, libbpf and Python ask for fails anywhere."""
    rng, seed = seeded()
    tally = Tally()
    with Subjects() as subjects:
        words = TOOLS[tool](subjects)
        for _ in range(times(scale, 30, 2)):
            size = rng.randrange(16 * MIB, 160 * MIB, 4096)
            # SIGABRT, SIGSEGV: the dynamic linker and Python before its first line
            tally.add(f"{size} bytes", _run(words, ("prlimit", f"--as={size}", "--")), (-signal.SIGABRT,))
            subjects.check()
    return tally.outcome("limits", subjects, seed)


@case("no more processes", group="Tracer", variants=tuple(TOOLS), short=("export",))
def processes(scale: float, tool: str) -> Outcome:
    """A control group that lets it have so many threads and processes, down to itself alone."""
    tally = Tally()
    with Subjects() as subjects:
        words = TOOLS[tool](subjects)
        for most in range(1, 1 + times(scale, 8)):
            with cgroup("pids", "pids.max", "pids.max", str(most)) as prefix:
                tally.add(f"{most} processes", _run(words, prefix))
            subjects.check()
    return tally.outcome("limits", subjects)


@case("little else", group="Tracer", variants=tuple(TOOLS), short=("opensnoop",))
def little(scale: float, tool: str) -> Outcome:
    """No locked memory, a small stack, no file systems to write to, no environment, no working directory."""

    def mounted(*commands: str) -> tuple[str, ...]:
        script = [*(f"{command} 2>/dev/null" for command in commands), 'exec "$@"']
        return ("unshare", "--mount", "sh", "-c", "; ".join(script), "sh")

    hardships: dict[str, tuple[str, ...]] = {
        "no locked memory": ("prlimit", "--memlock=0", "--"),
        "a small stack": ("prlimit", "--stack=131072", "--"),
        "no environment": ("env", "-i", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"),
        "a full /run": mounted("mount -t tmpfs -o size=4k n /run", "cat /dev/zero >/run/full 2>/dev/null"),
        "nobody's /run": mounted("mount -t tmpfs -o mode=0 n /run"),
        "all read-only": mounted("mount -t tmpfs -o ro n /run", "mount -o remount,ro,bind /"),
        "no tracefs": mounted("umount /sys/kernel/tracing", "umount /sys/kernel/debug/tracing"),
        "no bpf file system": mounted("umount /sys/fs/bpf"),
        "a directory that is gone": ("sh", "-c", 'd=$(mktemp -d); cd $d; rmdir $d; exec "$@"', "sh"),
    }  # fmt: skip
    tally = Tally()
    with Subjects() as subjects:
        words = TOOLS[tool](subjects)
        for what, prefix in list(hardships.items())[: times(scale, len(hardships), 3)]:
            ended = _run(words, prefix)
            assert tally.add(what, ended), (what, ended)
            subjects.check()
    return tally.outcome("hardships", subjects)
