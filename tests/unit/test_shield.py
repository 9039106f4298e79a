# SPDX-License-Identifier: BSD-2-Clause
"""Nobody is kept by a child in which the kernel's work has no end: here it waits for a pipe."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pyebpf.core import shield

DEADLINE = 60


class Hanging:
    """Stands for the opening of a link.

    Attributes:
        end: closing it ends the hang.
    """

    def __init__(self) -> None:
        self._wait, self.end = os.pipe()
        self._began, self._begin = os.pipe()

    def open(self) -> int:
        """In the child."""
        os.close(self.end)
        os.write(self._begin, b"!")
        os.read(self._wait, 1)
        return -1

    def begun(self) -> None:
        """Waits until a child hangs."""
        assert os.read(self._began, 1) == b"!"

    def close(self) -> None:
        for fd in (self._wait, self._began, self._begin):
            os.close(fd)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(shield, "wanted", True)
    made = Hanging()
    yield made
    made.close()


def test_closing_does_not_wait_for_it(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shield, "_PATIENCE", 0.01)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(shield.opened(hanging.open)))
    thread.start()
    hanging.begun()
    held, other = os.pipe()
    shield.close([held])
    with pytest.raises(OSError):
        os.fstat(held)
    assert thread.is_alive() and not results
    os.close(hanging.end)
    thread.join(DEADLINE)
    assert results == [-1]
    shield.close([other])  # as ever, by a child
    with pytest.raises(OSError):
        os.fstat(other)


def test_a_signals_exception_ends_the_wait(hanging: Hanging) -> None:
    """And what comes next is not kept by it either. The child ends when it finds nobody."""

    def interrupt() -> None:
        hanging.begun()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            shield.opened(hanging.open)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join(DEADLINE)
    assert shield.opened(lambda: -5) == -5
    os.close(hanging.end)
    os.wait()  # its child's end
