# SPDX-License-Identifier: BSD-2-Clause
"""Something for every tool to show, at bounded rates, without an end.

What can come fast is made by programs of `workloads/` (functions, files, signals, programs, connections, messages); the
rest by the actors of the tests, each in a thread that pauses between two acts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import causes
import privileges
import targets
import traffic

TOP = Path(__file__).resolve().parents[1]

CALLS = 5_000  # a second, of a function that all function tools look at
# Microseconds between two: 2000 files, statuses, signals and messages a second, 25 programs, 200 connections
PACES = {"open": 500, "stat": 500, "signal": 500, "message": 500, "exec": 40_000, "connect": 5_000}
PAUSE = 0.02  # seconds between two acts of an actor: at most fifty a second
LONG_PAUSE = 1.0  # where an act makes namespaces, certificates or much memory

# What each tool is started with. {work} is the function
TOOLS: dict[str, tuple[str, ...]] = {
    "funccount": ("-i", "1", "{work}"),
    "funclatency": ("-i", "1", "{work}"),
    "funcslower": ("-u", "0", "{work}"),
    "trace": ("{work}", "arg0", "--ret", "retval"),
    "argdist": ("-i", "1", "{work}", "-H", "arg0", "-C", "arg0"),
    "stackcount": ("-i", "1", "{work}"),
    **{name: case.arguments for name, case in privileges.CASES.items() if name.startswith("tcp")},
    "tcprtt": ("-i", "1"),
    "tcpsubnet": ("127.0.0.0/8",),
    **{name: case.arguments for name, case in privileges.CASES.items() if name.endswith(("snoop", "sniff"))},
    **dict.fromkeys(("bashreadline", "capable", "filelife", "gethostlatency"), ()),
}


class Load:
    """All of it, from the manager's beginning to its end.

    Attributes:
        caller: the program whose `work` is called.
        acts: how often each act of an actor was done.
        faults: what ended an actor's thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.caller = folder / "caller"
        self.acts: dict[str, int] = {}
        self.faults: list[str] = []
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Load:
        with contextlib.ExitStack() as stack:
            workloads = TOP / "benchmarks" / "workloads"
            events, nothing = self.folder / "events", self.folder / "nothing"
            for output, flags in ((self.caller, ()), (events, ()), (nothing, ("-static",))):
                source = str(workloads / f"{output.name}.c")
                subprocess.run(["gcc", "-O2", "-g", "-D_GNU_SOURCE", *flags, "-o", str(output), source], check=True)
            self._start(stack, [str(self.caller), str(CALLS)])
            for number, (loop, microseconds) in enumerate(PACES.items()):
                cpu = sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]
                process = self._start(stack, [str(events), loop, str(self.folder), str(cpu)], subprocess.PIPE)
                assert process.stdin is not None
                process.stdin.write(f"mark\npace {microseconds}\n".encode())
                process.stdin.flush()
            stage = stack.enter_context(privileges.stage())
            self._actors(stack, stage)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(
        self, stack: contextlib.ExitStack, command: list[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        process = stack.enter_context(
            subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        stack.callback(process.kill)
        return process

    def _end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _actors(self, stack: contextlib.ExitStack, stage: privileges.Stage) -> None:
        """Starts what they do, in a thread each. An actor does one thing at a time, so there is one a thread."""

        def own(act: Callable[[traffic.Actor], object]) -> Callable[[], object]:
            actor = stack.enter_context(causes.actor("soak"))
            return lambda: act(actor)

        mounter = stack.enter_context(causes.actor("soak"))
        causes.own_mounts(mounter)
        short = str(self.folder / "short")
        for name, act in {
            "binds": own(lambda actor: causes.binds(actor, "127.0.0.1", 0)),
            "capabilities": own(lambda actor: causes.names(actor, "chroot", "/")),
            "short files": own(lambda actor: causes.lives(actor, short)),
            "lookups": own(lambda actor: causes.resolves(actor, "localhost")),
            "segments": own(causes.segments),
            "syncs": own(lambda actor: causes.syncs(actor, "fsync")),
            "threads": own(lambda actor: causes.threads(actor, 3)),
            "mounts": lambda: causes.unmounts(mounter, "/nowhere/at/all"),
            "refused": lambda: privileges._refused(stage),
            "data": lambda: privileges.CASES["tcptop"].cause(stage),
        }.items():
            self._repeat(name, PAUSE, act)
        reclaimer = stack.enter_context(causes.actor("soak"))

        def reclaims() -> None:
            with causes.little_memory(reclaimer):
                causes.reclaims(reclaimer)

        certificate = self._certificate()
        self._repeat("reclaims", LONG_PAUSE, reclaims)
        self._repeat("typed", LONG_PAUSE, lambda: privileges._typed(stage))
        self._repeat("retransmissions", LONG_PAUSE, lambda: privileges._retransmitted(stage))
        self._repeat("encrypted", LONG_PAUSE, lambda: self._encrypted(certificate))

    def _repeat(self, name: str, pause: float, act: Callable[[], object]) -> None:
        def run() -> None:
            try:
                while not self._ended.wait(pause):
                    act()
                    self.acts[name] = self.acts.get(name, 0) + 1
            except Exception as error:
                self.faults.append(f"{name}: {type(error).__name__}: {error}")

        self._threads.append(threading.Thread(target=run, name=name))
        self._threads[-1].start()

    def _certificate(self) -> Path:
        both, key = self.folder / "both.pem", self.folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
             "-keyout", str(key), "-out", str(both)], check=True, capture_output=True,
        )  # fmt: skip
        with both.open("ab") as file, key.open("rb") as more:
            shutil.copyfileobj(more, file)
        return both

    def _encrypted(self, certificate: Path) -> None:
        """A hundred messages there and back."""
        command = [sys.executable, str(targets.PROGRAMS / "tls.py"), str(certificate), "100"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            process.communicate(b"\n", timeout=targets.DEADLINE)


def arguments_of(tool: str, load: Load) -> list[str]:
    """Of a tool's command line."""
    return [word.format(work=f"{load.caller}:work") for word in TOOLS[tool]]


def settle() -> None:
    """A moment for the load to be what it will be."""
    time.sleep(1)
