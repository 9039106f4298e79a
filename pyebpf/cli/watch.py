# SPDX-License-Identifier: BSD-2-Clause
"""Waiting: for a signal, an interval, a traced process to end, or records to read."""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from pyebpf.cli import exits

_GLANCE = 1000  # milliseconds


class Watch:
    """Installs the signal handlers of a traced run and waits.

    The first SIGINT, SIGTERM or SIGHUP asks the run to end and report; a second SIGINT ends the process at once (the
    kernel takes the probes out). Where nobody reads standard output no report can be written: the first takes the
    probes out, and any that comes more than a second later ends the process. (timeout(1) sends two at once.)

    Attributes:
        ended: why the run should end: "signal", "exit" (every traced process is gone), "pipe" (nobody reads standard
            output any more), or None.
        last_words: what standard output is told when a second SIGINT ends the process.
        glance: called now and then while nothing comes, if it is set.
        stuck: takes the probes out; called by the signal's handler, in the midst of a write.
    """

    TIME, READY, ENDED = "time", "ready", "ended"

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self.ended: str | None = None
        self.last_words = b""
        self.stuck: Callable[[], None] = lambda: None
        self.glance: Callable[[], None] | None = None
        self._interrupts, self._asked = 0, math.inf
        self._actions: dict[int, Callable[[], None]] = {}
        self._came: list[int] = []
        self._poll = select.poll()
        self._wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._poll.register(self._wake_read, select.POLLIN)
        self._stdout = sys.stdout.fileno() if sys.stdout else -1
        if self._stdout >= 0:
            self._poll.register(self._stdout, 0)  # only to hear that the other end was closed
        self._data: list[int] = []
        self._pidfds: dict[int, int] = {}
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            except OSError:  # before Linux 5.3: a process that ends is not noticed
                continue
            self._pidfds[pidfd] = pid
            self._poll.register(pidfd, select.POLLIN)
        if pids and not self._pidfds and not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            self.ended = "exit"

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.ended, now = "signal", time.monotonic()
        self._asked = min(self._asked, now)
        self._interrupts += number == signal.SIGINT
        full = self._stdout >= 0 and not select.select([], [self._stdout], [], 0)[1]
        if self._interrupts > 1 or (full and now > self._asked + 1):
            if self.last_words and not full:
                os.write(self._stdout, self.last_words)
            os._exit(exits.INTERRUPTED_TWICE)
        if full:
            self.stuck()

    def on(self, number: int, action: Callable[[], None]) -> None:
        """Has something done whenever a signal has come: not in its handler, but while we wait."""
        self._actions[number] = action
        signal.signal(number, lambda number, _frame: self._came.append(number))

    def also(self, fd: int) -> None:
        """Makes `wait` return READY when a descriptor can be read."""
        self._poll.register(fd, select.POLLIN)
        self._data.append(fd)

    def over(self, until: float | None) -> bool:
        """Would `wait` return at once, for another reason than data?"""
        return self.ended is not None or (until is not None and time.monotonic() >= until)

    def wait(self, until: float | None, rest: float = 0.0) -> str:
        """Waits until a time of CLOCK_MONOTONIC (None: no limit), readable data, or the end of the run.

        Args:
            rest: takes it for granted that there will be data in so many seconds.
        """
        if rest:
            for fd in self._data:
                self._poll.modify(fd, 0)
            state = self._wait(min(until or math.inf, time.monotonic() + rest))
            for fd in self._data:
                self._poll.modify(fd, select.POLLIN)
            return self.READY if state == self.TIME and (until is None or time.monotonic() < until) else state
        return self._wait(until)

    def _wait(self, until: float | None) -> str:
        while True:
            while self._came and not self.ended:
                self._actions[self._came.pop(0)]()
            if self.ended:
                return self.ENDED
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return self.TIME
            milliseconds = _GLANCE if self.glance else None
            if left is not None:
                milliseconds = min(int(left * 1000) + 1, milliseconds or 3_600_000)
            ready = False
            events = self._poll.poll(milliseconds)
            if self.glance and not events:
                self.glance()
            for fd, _ in events:
                if fd == self._stdout:
                    self._poll.unregister(fd)
                    self.ended = "pipe"
                elif fd == self._wake_read:
                    os.read(fd, 64)
                elif fd in self._pidfds:
                    self._poll.unregister(fd)
                    os.close(fd)
                    del self._pidfds[fd]
                    if not self._pidfds:
                        self.ended = "exit"
                else:
                    ready = True
            if ready:
                return self.READY
