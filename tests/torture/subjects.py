# SPDX-License-Identifier: BSD-2-Clause
"""What the tracer's cases trace, and by what: programs that check themselves, and tools that look at them.

Use::

    with Subjects() as subjects:
        for attempt in range(10):
            tracer = Tracer(TOOLS["trace"](subjects))
            tracer.process.kill()
            tracer.end()
            subjects.check()          # alive, and its code is that of its files
    return Outcome(10, "kills", subjects.checks)

`Subjects.checks`, when they have ended: their checksums, and what sessions that come after all that count of a new
program's calls and openings.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import targets
import toolchains
from torture.case import altered, descendants

import pyebpf

GO = toolchains.VERSIONS[-1]
STEPS = 512  # functions of steady.c
BUSY = 5000  # of their calls a second
_CONFIG = """
listen = "127.0.0.1:0"
[[trace]]
name = "text"
tool = "latency"
targets = ["{native.path}:text"]
[[trace]]
name = "mix"
tool = "count"
targets = ["{golang.path}:main.mix"]
[[trace]]
name = "starts"
tool = "execsnoop"
labels = ["comm"]
"""


class Subjects:
    """Programs that work at a bounded rate until the manager ends, and check what they do.

    Attributes:
        native: tests/programs/torture/steady.c.
        golang: tests/programs/go/steady.
        folder: for files; the configuration of the agent is there.
        checks: see above.
    """

    def __init__(self, rate: int = BUSY) -> None:
        self.checks: dict[str, tuple[int, int]] = {}
        self._rate = rate
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Subjects:
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyebpf-torture-")))
            self.native = stack.enter_context(targets.run(native(), "-r", str(self._rate)))
            self.golang = stack.enter_context(targets.run(targets.go_program("steady", GO)))
            self.config = self.folder / "agent.toml"
            self.config.write_text(_CONFIG.format(native=self.native, golang=self.golang))
            self.native.begin()
            self.golang.begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                self.check()
                for name, target in (("C", self.native), ("Go", self.golang)):
                    truth = target.go()
                    self.checks[f"{name}: checksum"] = (truth["checksum"], truth["expected"])
                    self.checks[f"wrong in {name}"] = (truth["wrong"], 0)
                self.checks.update(counted_right())

    def check(self) -> None:
        """They run, and their code is as it was."""
        for target in (self.native, self.golang):
            assert target.alive(), f"{target.path.name} has ended"
            deadline = time.monotonic() + targets.DEADLINE
            while left := altered(target.pid, target.path):
                assert time.monotonic() < deadline, f"{left} breakpoints are left in {target.path.name}"
                time.sleep(0.01)


def native() -> Path:
    """steady.c, compiled."""
    return targets.compiled("torture/steady.c")


def counted_right(least: int = 997) -> dict[str, tuple[int, int]]:
    """What new sessions count of a new program, of so many calls at least: nothing of earlier ones is in the way."""
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(targets.run(native()))
        steps = stack.enter_context(pyebpf.count(":step_*", pid=target.pid))
        texts = stack.enter_context(pyebpf.trace(":text", args=["arg1"], pid=target.pid))
        opens = stack.enter_context(pyebpf.opensnoop(pid=target.pid))
        target.begin()
        targets.until(lambda: sum(steps.snapshot().values()) >= least, "its calls aren't seen")
        truth = target.go()
        steps.detach()
        return {
            "steps": (sum(steps.snapshot().values()), truth["calls"]["step"]),
            "texts": (sum(1 for _ in texts.drain()) + texts.losses.dropped, truth["calls"]["text"]),
            "files": (
                sum(event.path == b"/etc/hostname" for event in opens.drain()) + opens.losses.dropped, truth["opened"],
            ),
        }  # fmt: skip


# The tools that are killed, starved and shut up. Each works for a moment (DURATION) and ends, the agent at a signal

DURATION = ("-d", "0.05")
TOOLS: dict[str, Callable[[Subjects], tuple[str, ...]]] = {
    "funccount": lambda s: ("funccount", *DURATION, "-p", str(s.native.pid), ":step_*"),
    "funclatency": lambda s: ("funclatency", *DURATION, "-p", str(s.golang.pid), ":main.mix"),
    "trace": lambda s: ("trace", *DURATION, "-p", str(s.native.pid), ":text", "name:str", "arg1"),
    "opensnoop": lambda s: ("opensnoop", *DURATION),
    "tcplife": lambda s: ("tcplife", *DURATION),
    "export": lambda s: ("export", str(s.config)),
}


def endless(words: Sequence[str]) -> tuple[str, ...]:
    """The same tool, until it is told to end."""
    if DURATION[0] not in words:
        return tuple(words)
    at = list(words).index(DURATION[0])
    return (*words[:at], *words[at + 2 :])


class Ended(NamedTuple):
    """Of a tracer: its exit code (-N: signal N), and what it printed."""

    code: int
    out: str
    error: str

    def says(self) -> str:
        """Empty if it did its work or said why not, as it should; otherwise what it did."""
        if "Traceback" in self.error or "Exception ignored" in self.error:
            return f"exit code {self.code}: {self.error[-600:]}"
        if self.code == 0 or (0 < self.code < 6 and self.error.strip()):
            return ""
        return f"exit code {self.code}, said {self.error[-300:]!r}"


class Tracer:
    """A `pyebpf` of its own.

    Args:
        words: its arguments.
        prefix: a command that starts it.
        ready: whether it has a --ready-fd, for `wait_ready`.
        popen: of subprocess.Popen.
    """

    def __init__(self, words: Sequence[str], *, prefix: Sequence[str] = (), ready: bool = True, **popen: Any) -> None:
        self._ready, write = os.pipe() if ready else (-1, -1)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        self._error = tempfile.TemporaryFile()  # noqa: SIM115
        more = ["--ready-fd", str(write)] if ready else []
        self.began = time.monotonic()
        try:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "pyebpf", words[0], *more, *words[1:]],
                **{"stdin": subprocess.DEVNULL, "stdout": self._output, "stderr": self._error,
                   "pass_fds": [write] if ready else [], **popen},
            )  # fmt: skip
        finally:
            if ready:
                os.close(write)
        # Of a signal that kills it no core file is wanted
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.process.pid, resource.RLIMIT_CORE, (0, 0))

    def wait_ready(self) -> bool:
        """Waits until it traces (True) or has ended."""
        if self._ready < 0:
            return False
        is_ready = os.read(self._ready, 1) == b"\n"
        os.close(self._ready)
        self._ready = -1
        return is_ready

    def is_ready(self) -> bool:
        return self._ready < 0 or bool(select.select([self._ready], [], [], 0)[0])

    def phase(self) -> str:
        """What it is at, by what it holds."""
        folder = f"/proc/{self.process.pid}"
        held = set()
        try:
            for fd in os.listdir(f"{folder}/fd"):
                with contextlib.suppress(OSError):
                    held.add(os.readlink(f"{folder}/fd/{fd}").partition(":")[2])
            if not held:
                return "after"
            if held & {"bpf_link", "bpf-link", "[perf_event]"}:
                return "tracing" if self.is_ready() else "attaching"
            if held & {"bpf-prog", "bpf-map"}:
                return "loading"
            maps = Path(f"{folder}/maps").read_text()
        except OSError:
            return "after"
        return "reading" if "_libbpf" in maps else "starting"

    def end(self, number: int = 0) -> Ended:
        """Waits for its end, after a signal if one is given."""
        if number:
            self.process.send_signal(number)
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1
        try:
            code = self.process.wait(targets.DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.process.args} doesn't end: {self._text(self._error)[-500:]}") from None
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        targets.until(lambda: not orphans(), "a child of the tracer is left")
        return Ended(code, self._text(self._output), self._text(self._error))

    @staticmethod
    def _text(file: Any) -> str:
        with file:
            file.seek(0)
            return str(file.read().decode(errors="replace"))


def orphans() -> list[int]:
    """What dead tracers' children have become: ours, as the case is their subreaper. Those that ended are buried."""
    found = []
    for pid in descendants(os.getpid()):
        stat = Path(f"/proc/{pid}/stat")
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if fields[0] == "Z" and int(fields[1]) == os.getpid():
                os.waitpid(pid, os.WNOHANG)
            elif b"-m\0pyebpf" in command or b"pyebpf.export" in command or not command:  # none: it is about to end
                found.append(pid)
    return found


def seeded() -> tuple[random.Random, str]:
    """Random numbers, and a note that tells how to have the same again."""
    seed = int(os.environ.get("PYEBPF_TORTURE_SEED", random.SystemRandom().randrange(10**6)))
    return random.Random(seed), f"seed {seed}"


def times(scale: float, full: int, least: int = 1) -> int:
    """How often at this scale."""
    return max(least, round(full * scale))


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
