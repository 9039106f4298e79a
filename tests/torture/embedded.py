# SPDX-License-Identifier: BSD-2-Clause
"""Sessions inside of somebody's program: many at once, in threads; the program forks, and becomes another one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import targets
from torture.case import Outcome, altered, case
from torture.subjects import native, times

import pyebpf

THREADS = 8
SESSIONS = 200

KINDS: dict[str, Callable[[int], Any]] = {
    "count": lambda pid: pyebpf.count(":step_*", pid=pid),
    "latency": lambda pid: pyebpf.latency(":step_7*", ":text", pid=pid),
    "slower": lambda pid: pyebpf.slower(":text", min_us=0, pid=pid),
    "trace": lambda pid: pyebpf.trace(":text", args=["arg0:str", "arg1"], pid=pid),
    "argdist": lambda pid: pyebpf.argdist(":text", counts=["arg1"], pid=pid),
    "stacks": lambda pid: pyebpf.stacks(":text", pid=pid),
    "opensnoop": lambda pid: pyebpf.opensnoop(pid=pid),
    "tcplife": lambda pid: pyebpf.tcplife(pid=pid),
}


@case("sessions in threads", group="Tracer")
def threads(scale: float) -> Outcome:
    """Two hundred short ones by eight threads, of all kinds, while one counts from the first call to the last."""
    left = list(range(times(scale, SESSIONS, THREADS)))
    done: Counter[str] = Counter()
    faults: list[BaseException] = []
    kinds = list(KINDS)

    def work() -> None:
        while left and not faults:
            try:
                number = left.pop()
            except IndexError:  # another thread took the last one
                return
            kind = kinds[number % len(kinds)]
            try:
                with KINDS[kind](target.pid) as session:
                    read = getattr(session, "snapshot", None) or (lambda: list(session.drain()))
                    read()
                done[kind] += 1  # counted under the interpreter's lock
            except BaseException as error:
                faults.append(error)

    with targets.run(native()) as target, pyebpf.count(":step_*", pid=target.pid) as counts:
        target.begin()
        workers = [threading.Thread(target=work) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if faults:
            raise faults[0]
        targets.until(lambda: altered(target.pid, target.path) <= 2 * 512, "breakpoints are left")
        truth = target.go()
        seen = sum(counts.snapshot().values())
    checks = {"calls": (seen, truth["calls"]["step"]), "checksum": (truth["checksum"], truth["expected"])}
    return Outcome(sum(done.values()), "sessions", checks, ", ".join(f"{n} {kind}" for kind, n in sorted(done.items())))


_FORKS = """
    import os, sys
    import pyebpf
    pid, rounds = int(sys.argv[1]), int(sys.argv[2])
    with pyebpf.count(":step_*", pid=pid) as counts, pyebpf.trace(":text", args=["arg1"], pid=pid) as texts:
        print("ready", flush=True)
        refused = 0
        for number in range(rounds):
            child = os.fork()
            if child == 0:
                try:
                    counts.snapshot()
                except pyebpf.StateError:
                    code = 7
                if number % 3 == 0:
                    counts.close()
                elif number % 3 == 1:
                    del counts, texts
                    os._exit(code)
                sys.exit(code)  # all that ends with an interpreter
            refused += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        print(refused, flush=True)
        sys.stdin.readline()
        counts.detach()
        print(sum(counts.snapshot().values()), sum(1 for _ in texts.drain()) + texts.losses.dropped, flush=True)
"""
_BECOMES = """
    import os, sys
    import pyebpf
    pid = int(sys.argv[1])
    functions = [pyebpf.count(":step_*", pid=pid), pyebpf.latency(":text", pid=pid)]
    events = [pyebpf.opensnoop(), pyebpf.tcplife()]
    print("ready", flush=True)
    sys.stdin.readline()
    os.execv("/bin/cat", ["cat"])
"""


def _script(text: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts Python code that can import what we can."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@case("fork with sessions open", group="Tracer")
def forks(scale: float) -> Outcome:
    """The children may not use them and end in every way; the parent's go on and count every call."""
    rounds = times(scale, 200, 6)
    with targets.run(native()) as target:
        embedder = _script(_FORKS, str(target.pid), str(rounds))
        assert embedder.stdin is not None and embedder.stdout is not None
        with embedder:
            assert embedder.stdout.readline() == "ready\n"
            target.begin()
            refused = int(embedder.stdout.readline())
            truth = target.go()
            print(file=embedder.stdin, flush=True)
            steps, texts = map(int, embedder.stdout.readline().split())
    checks = {
        "refused in children": (refused, rounds),
        "calls": (steps, truth["calls"]["step"]),
        "texts": (texts, truth["calls"]["text"]),
        "checksum": (truth["checksum"], truth["expected"]),
    }
    return Outcome(rounds, "forks", checks)


@case("exec with sessions open", group="Tracer")
def becomes(scale: float) -> Outcome:
    """The embedder becomes another program, which holds nothing of them: no probe stays."""
    rounds, held = times(scale, 10), 0
    with targets.run(native()) as target:
        target.begin()
        for _ in range(rounds):
            embedder = _script(_BECOMES, str(target.pid))
            assert embedder.stdin is not None and embedder.stdout is not None
            with embedder:
                assert embedder.stdout.readline() == "ready\n"
                assert altered(target.pid, target.path)
                print("\n", end="", file=embedder.stdin, flush=True)
                targets.until(lambda: Path(f"/proc/{embedder.pid}/comm").read_text() == "cat\n", "no exec")  # noqa: B023
                for fd in os.listdir(f"/proc/{embedder.pid}/fd"):
                    with contextlib.suppress(OSError):
                        held += os.readlink(f"/proc/{embedder.pid}/fd/{fd}").startswith("anon_inode:")
                targets.until(lambda: altered(target.pid, target.path) == 0, "breakpoints are left")
                embedder.stdin.close()
        truth = target.go()
    checks = {"descriptors held": (held, 0), "checksum": (truth["checksum"], truth["expected"])}
    return Outcome(rounds, "execs", checks)
