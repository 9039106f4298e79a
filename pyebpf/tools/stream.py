# SPDX-License-Identifier: BSD-2-Clause
"""Reading records as they come: what every session that hands out records has in common."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pyebpf.core.ringbuf import RingBuffer, Run
from pyebpf.errors import StateError

_Record = TypeVar("_Record")
_MOST_AT_ONCE = 64  # records that are decoded though the reader may stop at the first


class Stream(Generic[_Record]):
    """Yields records. Iterate, or use `read`, `drain` and `fileno` in an event loop."""

    _ring: RingBuffer
    _closed: bool

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the session is closed")

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

    def nap(self) -> bool:
        """For a loop that polls `fileno` itself, before it does: True if it should rather `drain` in a millisecond.

        So it is while many records come, as being woken for each would slow the traced program down.
        """
        self._require_open()
        return self._ring.nap()

    def drain(self) -> Iterator[_Record]:
        """Yields what waits; never blocks."""
        self._require_open()
        yield from self._drain()

    def _drain(self) -> Iterator[_Record]:
        for run in self._ring.runs(_MOST_AT_ONCE):
            for index, record in enumerate(self._decoded(run), 1):
                run.take(index)  # what the reader doesn't get to see is there again next time
                yield record
                if self._closed:
                    return

    def read(self, timeout: float | None = None) -> Iterator[_Record]:
        """Yields records for `timeout` seconds; None: until the session is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed:
            yield from self._drain()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._ring.wait(left)

    def __iter__(self) -> Iterator[_Record]:
        return self.read()
