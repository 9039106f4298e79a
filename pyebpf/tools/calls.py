# SPDX-License-Identifier: BSD-2-Clause
"""Sessions that hand out one record a call, as calls happen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pyebpf.core.ringbuf import RingBuffer, Run
from pyebpf.target.probe import Resolution
from pyebpf.tools.probes import Probes
from pyebpf.tools.session import Session

_Call = TypeVar("_Call")
_MOST_AT_ONCE = 64  # calls that are decoded though the reader may stop at the first


class CallSession(Session, Generic[_Call]):
    """Yields calls as they happen. Iterate, or use `read`, `drain` and `fileno` in an event loop."""

    def __init__(self, resolution: Resolution, probes: Probes, notes: tuple[str, ...] = ()) -> None:
        """Takes the probes over; their records are in the ring buffer ``calls``."""
        try:
            self._ring = RingBuffer(probes.object.maps["calls"], probes.object.maps.get("awake"))
        except BaseException:
            probes.close()
            raise
        super().__init__(resolution, probes, notes)

    def _decode(self, record: memoryview) -> _Call:
        """What a record says. The record is valid during the call only."""
        raise NotImplementedError

    def _decoded(self, run: Run) -> Iterable[_Call]:
        """What a run of records says, in their order."""
        return map(self._decode, run.records())

    def fileno(self) -> int:
        """A descriptor that is readable when calls wait for `drain`."""
        self._require_open()
        return self._ring.fd

    def nap(self) -> bool:
        """For a loop that polls `fileno` itself, before it does: True if it should rather `drain` in a millisecond.

        So it is while many calls come, as being woken for each would slow the traced program down.
        """
        self._require_open()
        return self._ring.nap()

    def drain(self) -> Iterator[_Call]:
        """Yields the calls that wait; never blocks."""
        self._require_open()
        yield from self._drain()

    def _drain(self) -> Iterator[_Call]:
        for run in self._ring.runs(_MOST_AT_ONCE):
            for index, call in enumerate(self._decoded(run), 1):
                run.take(index)  # what the reader doesn't get to see is there again next time
                yield call
                if self._closed:
                    return

    def read(self, timeout: float | None = None) -> Iterator[_Call]:
        """Yields calls for `timeout` seconds; None: until the session is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed:
            yield from self._drain()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._ring.wait(left)

    def __iter__(self) -> Iterator[_Call]:
        return self.read()

    def close(self) -> None:
        """Detaches; a blocked reader returns."""
        already, self._closed = self._closed, True
        if not already:
            self._ring.close()
        super().close()
