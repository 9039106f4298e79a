# SPDX-License-Identifier: BSD-2-Clause
"""Sessions that hand out one record a call, as calls happen."""

from __future__ import annotations

from typing import TypeVar

from pyebpf.core.ringbuf import RingBuffer
from pyebpf.target.probe import Resolution
from pyebpf.tools.probes import Probes
from pyebpf.tools.session import Session
from pyebpf.tools.stream import Stream

_Call = TypeVar("_Call")


class CallSession(Stream[_Call], Session):
    """Yields calls as they happen. Iterate, or use `read`, `drain` and `fileno` in an event loop."""

    def __init__(self, resolution: Resolution, probes: Probes, notes: tuple[str, ...] = ()) -> None:
        """Takes the probes over; their records are in the ring buffer ``calls``."""
        try:
            self._ring = RingBuffer(probes.object.maps["calls"], probes.object.maps.get("awake"))
        except BaseException:
            probes.close()
            raise
        super().__init__(resolution, probes, notes)
