# SPDX-License-Identifier: BSD-2-Clause
"""Results that are had interval by interval."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

_Report = TypeVar("_Report")


class Intervals(Generic[_Report]):
    """A session whose result can be had interval by interval; nothing is lost between two."""

    _closed: bool

    def interval(self) -> _Report:
        """What happened since the last call of this method (or since the session began)."""
        raise NotImplementedError

    def every(self, seconds: float, count: int | None = None) -> Iterator[_Report]:
        """Yields a report each interval, `count` times or until the session is closed."""
        due = time.monotonic()
        while count is None or count > 0:
            due += seconds
            time.sleep(max(0.0, due - time.monotonic()))
            if self._closed:
                return
            yield self.interval()
            count = None if count is None else count - 1
