# SPDX-License-Identifier: BSD-2-Clause
"""Whether a process's first thread, its thread group's leader, is still there.

The kernel places a perf event's probe in the memory of one thread: the leader, if it is given a process. When that
thread ends while others go on, or another one executes a program and takes its place, the probe is in nobody's memory
any more (uprobe_perf_filter(), kernel/trace/trace_uprobe.c), and nothing says so.
"""

from __future__ import annotations

import mmap
import os
import select

from pyebpf.core import bpf


class Leader:
    """Watches a leader by a perf event of its own, which counts nothing.

    The kernel hangs an event up when its thread ends (perf_poll(), kernel/events/core.c). Where an event has no buffer
    poll says that always, so a page is mapped. Where we may not have such an event, nothing is known.
    """

    def __init__(self, pid: int) -> None:
        self._page: mmap.mmap | None = None
        self._fd = bpf.open_idle_event(pid)
        if self._fd < 0:
            return
        try:
            self._page = mmap.mmap(self._fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        except OSError:  # too many pages are locked, or files open
            self.close()

    def ended(self) -> bool:
        """If it has: for sure, unless it is unknown (False)."""
        if self._page is None:
            return False
        poll = select.poll()
        poll.register(self._fd, 0)  # a hangup is told unasked
        return bool(poll.poll(0))

    def close(self) -> None:
        """Safe to call twice."""
        if self._page is not None:
            bpf.unmap(self._page)
            self._page = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
