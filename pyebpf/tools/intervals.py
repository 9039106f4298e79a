# SPDX-License-Identifier: BSD-2-Clause
"""Results that are had interval by interval."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from pyebpf.errors import StateError
from pyebpf.tools.lifetime import Lifetime

_Report = TypeVar("_Report")


class Intervals(Lifetime, Generic[_Report]):
    """A session whose result can be had interval by interval; nothing is lost between two.

    To iterate over it is to iterate over ``every(1.0)``.
    """

    def interval(self) -> _Report:
        """What happened since the last call of this method (or since the session began)."""
        raise NotImplementedError

    def every(self, seconds: float, count: int | None = None) -> Iterator[_Report]:
        """Yields a report each interval, `count` times or until the session is closed, by whatever thread.

        Raises:
            ValueError: seconds isn't above 0.
            StateError: the session is closed already.
        """
        if not seconds > 0:
            raise ValueError(f"every({seconds}): an interval is more than 0 seconds")
        self._require_open()
        return self._every(seconds, count)

    def _every(self, seconds: float, count: int | None) -> Iterator[_Report]:
        due = time.monotonic()
        while count is None or count > 0:
            due += seconds
            if self._gone.acquire(timeout=max(0.0, min(due - time.monotonic(), _LONGEST))):
                self._gone.release()
                return
            try:
                report = self.interval()
            except StateError:
                if self._closed:  # just now
                    return
                raise
            yield report
            count = None if count is None else count - 1

    def __iter__(self) -> Iterator[_Report]:
        return self.every(1.0)


_LONGEST = 1e6  # seconds; Python's locks take some more
