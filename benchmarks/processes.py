# SPDX-License-Identifier: BSD-2-Clause
"""Running the programs of a benchmark and taking their times."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from typing import NamedTuple

_SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "workloads")
_FLAGS = ("-O2", "-Wall", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer")


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
    output: str


class Programs:
    """The compiled C programs, in a directory of their own."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pyebpf-benchmark-")
        os.chmod(self._directory.name, 0o755)
        self.directory = self._directory.name
        self.target = self.compile("target")
        self.launch = self.compile("launch")

    def compile(self, name: str, *flags: str) -> str:
        """The path of the program that workloads/NAME.c makes."""
        path = os.path.join(self.directory, name)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, *_FLAGS, *flags, "-o", path, os.path.join(_SOURCES, f"{name}.c")], check=True)
        return path

    def run(self, command: list[str], limit: int = 60) -> Outcome:
        """Runs a command to its end, or for `limit` seconds."""
        with self.start(command, limit) as running:
            return running.finish()

    def start(self, command: list[str], limit: int = 60) -> Running:
        return Running(self.launch, command, limit)


class Running:
    """A command that runs under workloads/launch.c."""

    def __init__(self, launch: str, command: list[str], limit: int) -> None:
        self._command = command
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._report, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [launch, str(write_end), str(limit), *command],
                stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, pass_fds=(write_end,),
            )  # fmt: skip
        finally:
            os.close(write_end)

    def finish(self) -> Outcome:
        """Waits for the end. Exits the benchmark when the command failed."""
        with os.fdopen(self._report) as report:
            fields = report.read().split()
        self._process.wait()
        self._output.seek(0)
        output = self._output.read()
        start, end, memory, cpu, status, killed = map(int, fields)
        if status and not killed:
            sys.exit(f"{' '.join(self._command)}\n{output}\nexit status {status}")
        return Outcome(start / 1e9, end / 1e9, memory / 1024, cpu / 1e6, bool(killed), output)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._output.close()


class Target:
    """A running workloads/target.c."""

    function = "traced"

    def __init__(self, programs: Programs) -> None:
        self.path = programs.target
        self._process = subprocess.Popen(
            [self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._read()

    def ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def answer(self) -> float:
        """Seconds: a time or a duration, as was asked for. Exits the benchmark when there is none in a minute."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], 60)[0]:
            sys.exit("the target was never probed, or not released")
        return int(self._read()) / 1e9

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Background:
    """A tool that runs until it is left, as with Ctrl-C."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
