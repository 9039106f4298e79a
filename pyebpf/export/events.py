# SPDX-License-Identifier: BSD-2-Clause
"""Traces of the kernel's events: each is counted by some of its fields."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pyebpf.errors import Error, TargetNotFound
from pyebpf.export.attachment import file_of, map_memory
from pyebpf.export.config import TraceConfig
from pyebpf.export.eventtools import tool_of
from pyebpf.export.log import Log
from pyebpf.export.metrics import EventCounter, Family, families
from pyebpf.export.overhead import EMULATED, Costs
from pyebpf.export.processes import Processes, cgroup_of_unit, facts_of
from pyebpf.export.trace import Job, Retry, Trace, reason_of

_BUDGET = 0.05  # seconds that one trace's events are read for, before others get their turn


class EventTrace(Trace):
    """Counts events of one tool.

    Attributes:
        session: what is attached, or None.
    """

    def __init__(self, config: TraceConfig, log: Log, costs: Costs) -> None:
        super().__init__(config, log, costs)
        self.session: Any = None
        self._tool = tool_of(config.tool)
        self._counter = EventCounter(config.tool, config.labels, config.max_series)
        self._counted = self._before = 0
        self._reading = 0.0  # seconds that counting took since the last tick
        self._reason = "being attached"
        self._retry = Retry()
        self._busy = False
        self._scope: tuple[object, ...] | None = None  # what was attached to, as it was then
        self._probed: list[tuple[str, object]] = []
        self._memory = 0

    def _named(self) -> tuple[dict[str, Any], tuple[object, ...]]:
        """The verb's keywords for whose events count, and what tells whether they still mean the same."""
        selection = self.config.selection
        keywords: dict[str, Any] = {}
        which: list[object] = []
        cgroup = selection.cgroup
        if selection.unit:
            found = cgroup_of_unit(selection.unit)
            if found is None:
                raise TargetNotFound(f"unit {selection.unit} has no cgroup: it isn't running")
            cgroup = found
        if cgroup:
            keywords["cgroup"] = cgroup
            which.append(file_of(cgroup)[:2])
        if selection.pids:
            facts = [facts_of(pid) for pid in selection.pids]
            here = [one.running for one in facts if one]
            if not here:
                raise TargetNotFound(f"no process {', '.join(map(str, selection.pids))}")
            keywords["pid"] = [one.pid for one in here]
            which += [one[:2] for one in here]
        return keywords, tuple(which)

    def _look(self, processes: Processes) -> list[Job]:
        try:
            scope = self._named()[1]
        except (Error, OSError) as error:
            if self.session is not None:
                self._release()
                self.log("info", "detached: what it was about is gone")
            self._reason = reason_of(error)
            self._tell(self._reason)
            return []
        if self._busy or not self._retry.due() or (self.session is not None and scope == self._scope and self._same()):
            return []
        self._busy = True
        return [self._attach]

    def _attach(self) -> None:
        """In the worker's thread."""
        session: Any = None
        reason = ""
        scope: tuple[object, ...] = ()
        files: list[tuple[str, object]] = []
        try:
            keywords, scope = self._named()
            session = self._tool.verb(**keywords, **dict(self.config.options))
            files = _files(session)
        except Exception as error:
            reason = reason_of(error)
        with self.lock:
            self._busy = False
            if session is None:
                self._reason = reason
                self._tell(reason)
                self._retry.failed()
                return
            if self.closed or self.paused():
                session.close()
                return
            self._release()  # another libc, a new cgroup
            self.session, self._scope, self._reason = session, scope, ""
            self._probed = files
            self._retry = Retry()
            self._memory = map_memory(session._events.object)
            self._before = self._counted
            self._attached(notes=session.notes)

    def _same(self) -> bool:
        """Whether the files that were probed are still those of their paths."""
        try:
            return all(file_of(path) == file for path, file in self._probed)
        except OSError:
            return False

    def fileno(self) -> int | None:
        """What is readable when events wait."""
        with self.lock:
            return None if self.session is None else int(self.session.fileno())

    def rest(self) -> float:
        """In how many seconds events should be read; 0.0: they are to be waited for."""
        with self.lock:
            return 0.0 if self.session is None else float(self.session.rest())

    def drain(self) -> None:
        """Counts what waits, for a bounded time."""
        with self.lock:
            if self.session is None:
                return
            begun = time.thread_time()
            self._count(self.session, _BUDGET)
            self._reading += time.thread_time() - begun

    def _count(self, session: Any, seconds: float) -> None:
        until = time.monotonic() + seconds
        for index, event in enumerate(session.drain(), 1):
            self._counter.add(event)
            self._counted += 1
            if not index % 256 and time.monotonic() > until:
                return

    def _check(self) -> None:
        pass

    def _new_hits(self) -> tuple[int, float]:
        if self.session is None:
            return 0, 0.0
        losses = self.session.losses
        seen = self._counted + losses.dropped + losses.missed
        new, self._before = max(0, seen - self._before), seen
        reading, self._reading = self._reading, 0.0
        return new, new * EMULATED + reading

    def _release(self) -> None:
        session, self.session, self._scope = self.session, None, None
        if session is None:
            return
        try:
            session.detach()
            self._count(session, 20 * _BUDGET)
            self._totals.keep(families(session, self._labels, self.config.tool))
        finally:
            session.close()
            self._before, self._reading = self._counted, 0.0

    def memory(self) -> int:
        with self.lock:
            return self._memory if self.session is not None else 0

    def _state(self) -> tuple[str, str]:
        return ("waiting", self._reason) if self.session is None else ("attached", "")

    def _details(self) -> dict[str, object]:
        return {"events": self._counted}

    def _families(self) -> Iterable[Family]:
        held = [] if self.session is None else families(self.session, self._labels, self.config.tool)
        return [*self._totals.plus(held), *self._counter.families(self._labels)]


def _files(session: Any) -> list[tuple[str, object]]:
    """What a tool has probed that looks into programs (sslsniff: libssl)."""
    probes = getattr(session._events, "_probes", None)
    paths = {probe.path for probe in probes.resolution.probes} if probes is not None else ()
    return [(path, file_of(path)) for path in paths if not path.startswith("/proc/")]
