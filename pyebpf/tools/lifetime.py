# SPDX-License-Identifier: BSD-2-Clause
"""What every session has, whatever it traces: it is attached from its making to its closing, by any thread."""

from __future__ import annotations

import os
import time
from _thread import RLock, allocate_lock
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, cast

from pyebpf.core.unique import not_copied
from pyebpf.errors import StateError

if TYPE_CHECKING:
    from typing import TypeVar

    from pyebpf.target.probe import Skipped

    _Self = TypeVar("_Self", bound="Lifetime")  # to make it calls `compile`, whose first call takes a millisecond
    _Method = TypeVar("_Method", bound=Callable[..., Any])


class Lifetime:
    """Use as a context manager, or call `close`.

    What `close` ends is the process's own: in a child made by fork every use is a StateError, and closing does nothing.

    Attributes:
        targets: what was asked for. Function tools: the targets as given. Tools of the kernel's events: whose events,
            "pid=1234", "uid=0"; empty: everybody's.
        skipped: what matched but isn't traced, each with its reason.
        started: when the last program was attached, seconds of CLOCK_MONOTONIC.
    """

    def __init__(self, targets: Sequence[str] = (), skipped: Sequence[Skipped] = ()) -> None:
        self.targets = tuple(targets)
        self.skipped = tuple(skipped)
        self._process = os.getpid()
        self._closed = False
        self._lock = RLock()  # held while what the kernel counts is read: `close` waits for that
        self._inside = 0
        self._gone = allocate_lock()  # released when it is closed: for whoever waits for that
        self._gone.acquire()
        self._woken = False
        self._at_end: list[Callable[[], None]] = []
        self.started = time.monotonic()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def close(self) -> None:
        """Detaches and lets go of everything; whoever waits for records or for an interval returns.

        Safe to call twice, from any thread and from signal handlers. Waits for a method that another thread is in.
        """
        self._closed = True
        if os.getpid() != self._process:
            return
        with self._lock:
            if not self._woken:
                self._woken = True
                self._gone.release()
                self._wake()
            if not self._inside and not self._interrupted():
                self._inside += 1  # a signal handler that closes must not do it once more in the midst of this
                try:
                    self._let_go()
                finally:
                    self._inside -= 1

    def _wake(self) -> None:
        """Makes a reader in another thread notice."""

    def _interrupted(self) -> bool:
        """`close` was called by a signal handler in the midst of a wait, which closes when it is over."""
        return False

    def _let_go(self) -> None:
        """Frees what it holds. May be called twice."""
        while self._at_end:
            self._at_end.pop()()

    def _require_open(self) -> None:
        if self._closed or os.getpid() != self._process:
            self._refuse()

    def _refuse(self) -> NoReturn:
        if os.getpid() != self._process:
            raise StateError(
                f"the session belongs to process {self._process}, which opened it",
                hint="open one of its own in the child",
            )
        raise StateError(
            "the session is closed",
            hint="read results, losses and notes before it closes; to go on tracing, open another",
        )

    def __enter__(self: _Self) -> _Self:
        self._require_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    __reduce__ = not_copied


def while_open(method: _Method) -> _Method:
    """For a session's methods: StateError unless it is open; `close` in another thread waits for them."""

    @wraps(method)
    def guarded(self: Lifetime, *arguments: Any, **keywords: Any) -> Any:
        if os.getpid() != self._process:  # where a thread that isn't there may hold the lock for ever
            self._refuse()
        with self._lock:
            if self._closed:
                self._refuse()
            self._inside += 1
            try:
                return method(self, *arguments, **keywords)
            finally:
                self._inside -= 1
                if self._closed:  # by a signal handler, which could not let go
                    self.close()

    return cast("_Method", guarded)
