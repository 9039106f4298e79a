# SPDX-License-Identifier: BSD-2-Clause
"""What a torture case is, and how one is run so that nothing it does is missed.

Use::

    from torture.case import Outcome, case

    @case("C++ exceptions", group="native")
    def exceptions(scale: float) -> Outcome:
        with targets.run(targets.compiled("throws.cpp"), "-n", str(int(10007 * scale))) as target:
            with pyebpf.count(f"{target.path}:thrower") as counts:
                truth = target.go()
                seen = counts.snapshot()["thrower"]
        return Outcome(truth["throws"], "throws", {"thrower": (seen, truth["calls"]["thrower"])})

    @case("stack growth", group="Go", variants=toolchains.VERSIONS)
    def growth(scale: float, version: str) -> Outcome: ...

A file of this folder that registers cases is found by its being there (`load`). `examine` runs a case in a process of
its own: one that crashes or hangs is a row of the table, not the end of it. Around each it is checked that

* no eBPF program, map or link is left that wasn't there before and that no other process of the machine holds,
* tracefs knows no uprobe more than before,
* the case has no file descriptor, thread or process more than it had, nor any below it, also those that were orphaned.

What a case compiles (`targets.compiled`, `targets.go_program`) is kept for the cases after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import targets

HERE = Path(__file__).resolve().parent
DEADLINE = 300  # seconds a case; on a machine that nothing else uses the longest takes a tenth of it
SETTLE = 30  # seconds; the kernel frees what was closed a little later
UPROBE_EVENTS = Path("/sys/kernel/tracing/uprobe_events")


class Outcome(NamedTuple):
    """What came of a case.

    Attributes:
        survived: how many of what the case is about the target survived.
        what: what they are: "throws", "forks", "kills".
        checks: name -> (what was seen, the truth by the program's own word): a pair that differs is a failure.
        note: what else a reader of the table should know.
    """

    survived: int
    what: str
    checks: dict[str, tuple[int, int]]
    note: str = ""


class Case(NamedTuple):
    """A registered function.

    Attributes:
        variants: a row each; ("",) of a case that has none.
        short: those of them that the short run has.
        deadline: seconds, for one variant.
    """

    name: str
    group: str
    function: Callable[..., Outcome]
    variants: tuple[str, ...]
    short: tuple[str, ...]
    deadline: float


class Row(NamedTuple):
    """A case that was run.

    Attributes:
        left: what it left behind.
        why: the failure; empty if there was none. `trace` is the whole of it.
    """

    case: Case
    variant: str
    outcome: Optional[Outcome]
    left: list[str]
    why: str
    trace: str
    seconds: float

    @property
    def wrong(self) -> list[str]:
        """What did not go as it should, in words, besides what was left."""
        wrong = [self.why] if self.why else []
        if self.outcome:
            wrong += [f"{name} {seen} ≠ {true}" for name, (seen, true) in self.outcome.checks.items() if seen != true]
            wrong += [] if self.outcome.survived > 0 else [f"no {self.outcome.what}"]
        return wrong

    @property
    def failures(self) -> list[str]:
        """Everything; a case without any has passed."""
        return self.wrong + [f"left: {thing}" for thing in self.left]


CASES: dict[str, Case] = {}


def case(
    name: str,
    *,
    group: str,
    variants: Sequence[str] = ("",),
    short: Optional[Sequence[str]] = None,
    deadline: float = DEADLINE,
) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """Registers ``function(scale)``, or with variants ``function(scale, variant)``.

    Scale 1 is the full run of 30 s at most, 0.05 the short one of a second or two.

    Args:
        group: the heading in the table.
        short: the variants of the short run; the first and the last when not given.
    """

    def register(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
        assert name not in CASES, f"two cases {name}"
        some = dict.fromkeys((variants[0], variants[-1]) if short is None else short)
        CASES[name] = Case(name, group, function, tuple(variants), tuple(some), deadline)
        return function

    return register


def load() -> dict[str, Case]:
    """Imports every file of cases; returns all cases by name."""
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in ("case", "run") and not path.stem.startswith("test_"):
            importlib.import_module(f"torture.{path.stem}")
    return CASES


def examine(which: Case, variant: str, scale: float) -> Row:
    """Runs a case in a process of its own, and looks at what it left."""
    before, probes, start = targets.bpf_ids(), _uprobes(), time.monotonic()
    why = ""
    with tempfile.TemporaryDirectory(prefix="pyebpf-torture-") as scratch:
        told, error = Path(scratch) / "answer", Path(scratch) / "error"
        with open(error, "wb") as stderr:
            child = subprocess.Popen(
                [sys.executable, str(HERE / "run.py"), "--answer", str(told), f"--scale={scale}",
                 f"--variant={variant}", which.name],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True, cwd=scratch,
                env={**os.environ, "PYEBPF_TEST_PROGRAMS": str(targets.folder())},
            )  # fmt: skip
        try:
            child.wait(which.deadline)
        except subprocess.TimeoutExpired:
            why = f"not done after {which.deadline:.0f} s"
        finally:  # also of a KeyboardInterrupt
            _kill([*descendants(child.pid), child.pid])
            child.wait()
        if not why and (child.returncode or not told.exists()):
            why = f"ended by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else "ended early"
        answer: dict[str, Any] = json.loads(told.read_text()) if told.exists() else {}
        trace = (answer.get("trace", "") + error.read_text(errors="replace")).strip()
    outcome = None
    if answer.get("outcome"):
        survived, what, checks, note = answer["outcome"]
        outcome = Outcome(survived, what, {name: (pair[0], pair[1]) for name, pair in checks.items()}, note)
    left = [*answer.get("left", []), *_bpf_left(before), *sorted(_uprobes() - probes)]
    return Row(which, variant, outcome, left, why or answer.get("why", ""), trace, time.monotonic() - start)


def be_the_child(which: Case, variant: str, scale: float, told: Path) -> None:
    """Runs the case in this process and tells what came of it: the other half of `examine`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us, where they are seen
    targets.bpf_ids()  # loads libbpf, whose files stay open
    before = _fds()
    answer: dict[str, Any] = {"left": []}
    try:
        answer["outcome"] = which.function(scale, variant) if variant else which.function(scale)
    except BaseException as error:  # also KeyboardInterrupt: it is the case's, this process has no terminal
        answer["why"] = f"{type(error).__name__}: {error}".strip().splitlines()[0][:400]
        answer["trace"] = traceback.format_exc()
    gc.collect()
    answer["left"] += [f"process {_command(pid)}" for pid in descendants(os.getpid())]
    answer["left"] += [f"thread {thread.name}" for thread in threading.enumerate()[1:]]
    answer["left"] += [f"descriptor {name}" for fd, name in _fds().items() if before.get(fd) != name]
    told.write_text(json.dumps(answer))


def descendants(pid: int) -> list[int]:
    """The processes below one, the deepest last. What has ended and was not waited for is among them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_bytes()
                children.setdefault(int(stat.rpartition(b")")[2].split()[1]), []).append(int(entry))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]


def altered(pid: int, path: Path) -> int:
    """How many bytes of a file's code a process has otherwise than the file: breakpoints left behind, for one."""
    count = 0
    with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(path, "rb") as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, access, offset, _, _, *name = line.split(None, 5)
            if "x" in access and name == [str(path)]:
                begin, end = (int(part, 16) for part in span.split("-"))
                memory.seek(begin)
                file.seek(int(offset, 16))
                ours = memory.read(end - begin)
                its = file.read(end - begin)
                if ours[: len(its)] != its:
                    count += sum(a != b for a, b in zip(ours, its))
    return count


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}"
    return str(pid)


def _fds() -> dict[int, str]:
    """This process's file descriptors and what they are."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def _uprobes() -> set[str]:
    """The uprobes that were made through tracefs, where it is mounted."""
    try:
        return {f"uprobe {line}" for line in UPROBE_EVENTS.read_text().splitlines()}
    except OSError:
        return set()


def _bpf_left(before: dict[str, set[int]]) -> list[str]:
    """What has been in the kernel since the case, in no process that runs: other tracers of the machine come and go."""
    left, end = None, time.monotonic() + SETTLE
    while left is None or (left and time.monotonic() < end):
        new = {(kind, number) for kind, ids in targets.bpf_ids().items() for number in ids - before[kind]}
        if new:
            new.difference_update(_held())
        left = new if left is None else left & new
        threading.Event().wait(0.02)
    return [f"eBPF {kind[:-1]} {number}" for kind, number in sorted(left)]


def _held() -> Iterator[tuple[str, int]]:
    """The eBPF programs, maps and links that processes hold by a file descriptor."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for kind, ids in targets.held_bpf(pid).items():
            yield from ((kind, number) for number in ids)
