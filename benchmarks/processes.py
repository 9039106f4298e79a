# SPDX-License-Identifier: BSD-2-Clause
"""Running the programs of a benchmark and taking their times."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import time
from typing import NamedTuple

_SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "workloads")
_FLAGS = ("-O2", "-Wall", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-pthread", "-D_GNU_SOURCE")
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Failed(Exception):
    """A tool that doesn't run here, or not to its end; the message is what it said last."""


class Outcome(NamedTuple):
    """One run of a command.

    Attributes:
        start, end: seconds of CLOCK_MONOTONIC; from before the fork until the process was gone.
        memory: peak, MB.
        cpu: seconds, user and system.
        killed: it took too long.
        output: standard output and error.
    """

    start: float
    end: float
    memory: float
    cpu: float
    killed: bool
    output: bytes


class Programs:
    """The compiled C programs, in a directory of their own, which is gone with it."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pyebpf-benchmark-")
        os.chmod(self._directory.name, 0o755)
        self.directory = self._directory.name
        self.target = self.compile("target")
        self.launch = self.compile("launch")

    def compile(self, name: str, *flags: str, source: str | None = None) -> str:
        """The path of the program that workloads/NAME.c makes, or a C source's text."""
        path = os.path.join(self.directory, name)
        file = os.path.join(_SOURCES, f"{name}.c")
        if source is not None:
            file = f"{path}.c"
            with open(file, "w", encoding="utf-8") as output:
                output.write(source)
        subprocess.run([os.environ.get("CC", "cc"), *_FLAGS, *flags, "-o", path, file], check=True)
        return path

    def run(self, command: list[str], limit: int = 60) -> Outcome:
        """Runs a command to its end, or for `limit` seconds. Raises Failed."""
        with Tool(self, command, limit=limit) as tool:
            return tool.finish()


class Tool:
    """A command that runs until it ends, the block ends, or it is told to end.

    With a terminal its lines come at once; without it they go to a file in memory.
    """

    def __init__(self, programs: Programs, command: list[str], *, terminal: bool = False, limit: int = 60) -> None:
        self._command, self._terminal, self._text = command, terminal, b""
        if terminal:
            self._output, child = pty.openpty()
        else:
            self._output, path = tempfile.mkstemp(dir=_MEMORY)
            os.unlink(path)
            child = os.dup(self._output)
        self._report, write_end = os.pipe()
        self._process = subprocess.Popen(
            [programs.launch, str(write_end), str(limit), *command],
            stdin=subprocess.DEVNULL, stdout=child, stderr=child, pass_fds=(write_end,), start_new_session=True,
        )  # fmt: skip
        os.close(child)
        os.close(write_end)

    def text(self, timeout: float = 0) -> bytes:
        """What it has shown; waits for more for `timeout` seconds, if it has a terminal."""
        if not self._terminal:
            return os.pread(self._output, 1 << 30, 0)
        if select.select([self._output], [], [], timeout)[0]:
            try:
                self._text += os.read(self._output, 1 << 16)
            except OSError:  # nobody has the terminal open any more
                pass
        return self._text

    def size(self) -> int:
        """Bytes that it has written, without a terminal."""
        return os.fstat(self._output).st_size

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def processes(self) -> list[int]:
        """The command's, which are in the launcher's session."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getsid(int(name)) == self._process.pid != int(name):
                    found.append(int(name))
            except OSError:  # it has ended
                pass
        return found

    def last_words(self) -> str:
        """The last line of an error, or else the last line, without colours."""
        plain = re.sub(r"\x1b\[[\d;]*m", "", self.text().decode(errors="replace"))
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        errors = [line for line in lines if re.search("error|exception|failed", line, re.IGNORECASE)] or lines
        return (errors or ["(nothing)"])[-1][:200].replace("|", "\\|")

    def look(self, since: float, limit: float) -> None:
        """Raises Failed when it has ended, or when it began its work `limit` seconds ago."""
        if not self.running:
            raise Failed(self.last_words())
        if time.monotonic() - since > limit:
            raise Failed(f"showed nothing of it in {limit:.0f} s")

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> Outcome:
        """Tells it to end, once, and waits for that. Raises Failed when it has to be killed for taking too long.

        bpftrace 0.17 forgets a Ctrl-C that finds it elsewhere than in its wait for events: only the next one ends it.
        """
        self.interrupt()
        outcome = self._outcome()[0]
        if outcome.killed:
            raise Failed("one Ctrl-C did not end it")
        return outcome

    def finish(self) -> Outcome:
        """Waits for its end. Raises Failed when it says that it failed."""
        outcome, status = self._outcome()
        if status and not outcome.killed:
            raise Failed(f"{self.last_words()} (exit code {status})")
        return outcome

    def _outcome(self) -> tuple[Outcome, int]:
        while self._terminal and self.running:
            self.text(0.05)
        with os.fdopen(os.dup(self._report)) as report:
            start, end, memory, cpu, status, killed = map(int, report.read().split())
        self._process.wait()
        return Outcome(start / 1e9, end / 1e9, memory / 1024, cpu / 1e6, bool(killed), self.text()), status

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._output)
        os.close(self._report)


class Target:
    """A running workloads/target.c, or another program that answers lines.

    Args:
        path: the program.
    """

    function = "traced"

    def __init__(self, path: str) -> None:
        self.path = path
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self._process.pid
        self._read()

    def ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def answer(self, tool: Tool | None = None, limit: float = 60) -> float:
        """Seconds: a time or a duration, as was asked for.

        Raises:
            Failed: there is none in `limit` seconds, or the tool it depends on has ended.
        """
        assert self._process.stdout is not None
        since = time.monotonic()
        while not select.select([self._process.stdout], [], [], 0.1)[0]:
            if tool is not None and not tool.running and not select.select([self._process.stdout], [], [], 0.1)[0]:
                raise Failed(tool.last_words())
            if time.monotonic() - since > limit:
                raise Failed(f"not probed, or not released, in {limit:.0f} s")
        return int(self._read()) / 1e9

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
