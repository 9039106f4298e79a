# SPDX-License-Identifier: BSD-2-Clause
"""Reading records as they come: what every session that hands out records has in common."""

from __future__ import annotations

import os
import time
from _thread import get_ident
from _weakref import ref
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from pyebpf.core.ringbuf import RingBuffer, Run
from pyebpf.errors import StateError
from pyebpf.tools.lifetime import Lifetime, while_open

_Record = TypeVar("_Record")
_MOST_AT_ONCE = 64  # records that are decoded though the reader may stop at the first


class Reader:
    """Whoever iterates over a stream: the iterator, and the thread that last began with it."""

    __slots__ = ("iterator", "thread")

    def __init__(self) -> None:
        self.iterator: ref[Any] | None = None  # a generator
        self.thread = 0

    def is_in_the_way(self) -> bool:
        """Another may not read: an iterator of this very thread that was left may be taken over from."""
        iterator = self.iterator() if self.iterator is not None else None
        return iterator is not None and bool(iterator.gi_running or self.thread != get_ident())


class Stream(Lifetime, Generic[_Record]):
    """Yields records. Iterate, or use `read`, `drain` and `fileno` in an event loop.

    One reader at a time: while one thread iterates, StateError is what another gets. A record is handed out once; one
    that a reader didn't get to see, as it stopped before, is there for the next.
    """

    _ring: RingBuffer
    _reader: Reader | None = None
    _waiting = 0  # the thread that waits for records

    def _decode(self, record: memoryview) -> _Record:
        """What a record says. The record is valid during the call only."""
        raise NotImplementedError

    def _decoded(self, run: Run) -> Iterable[_Record]:
        """What a run of records says, in their order."""
        return map(self._decode, run.records())

    def fileno(self) -> int:
        """A descriptor that is readable when records wait for `drain`."""
        self._require_open()
        return self._ring.fd

    @while_open
    def rest(self) -> float:
        """For a loop that polls `fileno` itself, before it does: after how many seconds to `drain`; 0.0: it is to poll.

        It rests while records come close together, as being woken for each would slow the traced program down: until
        the next `drain` the descriptor doesn't tell of any.
        """
        return self._ring.rest()

    def drain(self) -> Iterator[_Record]:
        """Yields what waits; never blocks.

        Raises:
            StateError: the session is closed, or (at the first record) another thread is reading.
        """
        return self._begin(0.0)

    def read(self, timeout: float | None = None) -> Iterator[_Record]:
        """Yields records for `timeout` seconds; None: until the session is closed, by whatever thread.

        Raises:
            StateError: as `drain`.
        """
        return self._begin(None if timeout is None else time.monotonic() + timeout)

    def __iter__(self) -> Iterator[_Record]:
        return self.read()

    def _begin(self, deadline: float | None) -> Iterator[_Record]:
        self._require_open()
        reader = Reader()
        iterator = self._read(reader, deadline)
        reader.iterator = ref(iterator)
        return iterator

    def _read(self, reader: Reader, deadline: float | None) -> Generator[_Record, None, None]:
        try:
            while not self._closed:
                if os.getpid() != self._process:  # a child goes on with what its parent began
                    self._refuse()
                if self._reader is not reader:  # at the beginning, and after this thread has begun anew and come back
                    self._claim(reader)
                yield from self._drain(reader)
                if self._reader is not reader:
                    continue
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._waiting = get_ident()
                try:
                    self._ring.wait(left)
                finally:
                    self._waiting = 0
                    if self._closed:  # perhaps by a signal handler, which could not let go
                        self.close()
        finally:
            if self._reader is reader:
                self._reader = None

    def _claim(self, reader: Reader) -> None:
        with self._lock:
            if self._closed:
                return
            if self._reader is not None and self._reader.is_in_the_way():
                raise StateError(
                    "one reader at a time: another thread iterates over this session",
                    hint="hand its records on from there, e.g. by a queue.Queue, or open a session a thread",
                )
            self._reader, reader.thread = reader, get_ident()

    def _drain(self, reader: Reader) -> Iterator[_Record]:
        try:
            for run in self._ring.runs(_MOST_AT_ONCE):
                for index, record in enumerate(self._decoded(run), 1):
                    run.take(index)  # what the reader doesn't get to see is there again next time
                    yield record
                    if self._reader is not reader:  # closed, or this thread reads elsewhere now
                        return
        except Exception:
            if not self._closed:  # else what it looked at was taken away
                raise

    def _wake(self) -> None:
        self._reader = None
        self._ring.wake()
        super()._wake()

    def _interrupted(self) -> bool:
        return self._waiting == get_ident()

    def _let_go(self) -> None:
        self._ring.close()
        super()._let_go()
