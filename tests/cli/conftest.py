# SPDX-License-Identifier: BSD-2-Clause
"""The command as a user runs it: argv in, standard output, standard error and an exit code out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYEBPF_")}


@pytest.fixture
def pyebpf() -> Callable[..., Ran]:
    """Runs ``pyebpf ARGUMENTS`` to its end."""

    def run(*arguments: str, **options: object) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "pyebpf", *arguments],
            capture_output=True, text=True, timeout=120, env=environment(), stdin=subprocess.DEVNULL, **options,
        )  # fmt: skip  # type: ignore[call-overload]
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


class Started:
    """A running ``pyebpf``, attached: it has said so through --ready-fd."""

    def __init__(self, arguments: tuple[str, ...], **options: object) -> None:
        ready_read, ready_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyebpf", arguments[0], "--ready-fd", str(ready_write), *arguments[1:]],
            stdin=subprocess.DEVNULL, text=True, env=environment(), pass_fds=[ready_write],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )  # fmt: skip  # type: ignore[call-overload]
        os.close(ready_write)
        with os.fdopen(ready_read, "rb") as ready:
            self.ready = ready.read(1) == b"\n"

    def end(self, signal_number: int | None = None) -> Ran:
        if signal_number is not None:
            self.process.send_signal(signal_number)
        out, err = self.process.communicate(timeout=120)
        return Ran(self.process.returncode, out, err)


@pytest.fixture
def attached() -> Callable[..., Started]:
    """Starts ``pyebpf ARGUMENTS`` and waits until its probes are in place."""
    started: list[Started] = []

    def start(*arguments: str, **options: object) -> Started:
        one = Started(arguments, **options)
        started.append(one)
        return one

    yield start  # type: ignore[misc]
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
