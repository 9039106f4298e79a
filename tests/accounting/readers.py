# SPDX-License-Identifier: BSD-2-Clause
"""Who reads a session, and how badly."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import targets

TINY = 4096  # bytes: the smallest ring buffer there is


@contextmanager
def buffer(size: int | None) -> Iterator[None]:
    """Sessions begun in the block, in this process or a command, have so large a ring buffer."""
    if size is not None:
        os.environ["PYEBPF_BUFFER"] = str(size)
    try:
        yield
    finally:
        os.environ.pop("PYEBPF_BUFFER", None)


class Reading:
    """A thread that reads a session until `end`, which gives how many records were read.

    Args:
        pause: seconds it takes for each record.
    """

    def __init__(self, session: Any, wanted: Callable[[Any], bool], pause: float = 0.0) -> None:
        self._session, self._wanted, self._pause = session, wanted, pause
        self._over = threading.Event()
        self._count = 0
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                for record in self._session.read(0.02):
                    self._count += self._wanted(record)
                    if self._pause and not self._over.is_set():
                        time.sleep(self._pause)
            self._count += sum(1 for record in self._session.drain() if self._wanted(record))
        except BaseException as error:
            self._failed = error

    def end(self) -> int:
        self._session.detach()
        self._over.set()
        self._thread.join(targets.DEADLINE)
        if self._failed:
            raise self._failed
        return self._count


class Command:
    """``pyebpf TOOL --json``, whose output is read when it is asked for; `stop` and `go_on` are signals to it."""

    def __init__(self, tool: str, *arguments: str) -> None:
        ready, told = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyebpf", tool, "--json", "--ready-fd", str(told), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[told],
        )  # fmt: skip
        os.close(told)
        with os.fdopen(ready, "rb") as file:
            if file.read(1) != b"\n":
                raise AssertionError(self.process.communicate(timeout=targets.DEADLINE)[1].decode())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, chunk: int = 1 << 20, pause: float = 0.0) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Interrupts it; returns its records, and what it says was lost.

        Args:
            chunk, pause: so many bytes of its output are taken at a time, and then nothing for so many seconds.
        """
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None and self.process.stderr is not None
        out, until = bytearray(), time.monotonic() + targets.DEADLINE
        files = {self.process.stdout.fileno(), self.process.stderr.fileno()}
        said = b""
        while files:
            assert time.monotonic() < until, "it doesn't end"
            for fd in select.select(list(files), [], [], 1)[0]:
                data = os.read(fd, chunk)
                if not data:
                    files.discard(fd)
                elif fd == self.process.stdout.fileno():
                    out += data
                    time.sleep(pause)
                else:
                    said += data
        self.process.stdout.close()
        self.process.stderr.close()
        assert self.process.wait(targets.DEADLINE) in (0, 130), said.decode()
        lines = [json.loads(line) for line in out.splitlines()]
        return [line for line in lines if line["type"] not in ("attached", "end")], lines[-1]["losses"]
