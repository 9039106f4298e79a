# SPDX-License-Identifier: BSD-2-Clause
"""One trace of the configuration: waits for what it names, attaches, lets go, and keeps its numbers meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pyebpf.errors import Error
from pyebpf.export.config import TraceConfig
from pyebpf.export.log import Log
from pyebpf.export.metrics import Family, Limit, Source, Totals
from pyebpf.export.overhead import Costs
from pyebpf.export.processes import Processes

STATES = ("attached", "partial", "waiting", "detached")
_LONGEST_PAUSE = 3600.0
_RETRY = (1.0, 60.0)  # seconds until what failed is tried again: at first, at most
_MOST_TOLD = 20

Job = Callable[[], None]


class Retry:
    """When to try again what failed: soon at first, then less and less often."""

    def __init__(self) -> None:
        self._pause = _RETRY[0]
        self._due = 0.0

    def failed(self) -> None:
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _RETRY[1])

    def due(self) -> bool:
        return time.monotonic() >= self._due


class Trace:
    """What traces of functions and of events have in common.

    The supervisor's thread calls `look`, `tick` and `close`, its worker runs jobs, scrapers call `source.families`.

    Attributes:
        config: what is configured.
        source: the numbers.
        lock: held while what is attached changes or is read.
        detached: how often it was detached, by reason.
        attachments: how often something was attached.
        overhead: about what share of a CPU the last hits took from the traced programs.
    """

    def __init__(self, config: TraceConfig, log: Log, costs: Costs) -> None:
        self.config = config
        self._log, self._costs = log, costs
        self.lock = threading.RLock()
        self.detached: dict[str, int] = {}
        self.attachments = 0
        self.overhead = 0.0
        self._spent: list[tuple[float, float]] = []
        self.closed = False
        self._labels = {"trace": config.name}
        self._totals = Totals()
        self._limit = Limit(config.max_series, ("trace", "tool"))
        self.source = Source(self._bounded, max_series=None)
        self._told: set[str] = set()  # reasons that were logged
        self._paused_until = 0.0
        self._pause_reason = ""
        self._strikes = 0
        self._resumed: float | None = None  # since when it has been attached
        self._ticked = time.monotonic()

    def log(self, level: str, message: str, **fields: object) -> None:
        self._log(level, message, trace=self.config.name, **fields)

    def update(self, config: TraceConfig) -> None:
        """Takes limits over that can change while it stays attached."""
        with self.lock:
            self.config = config

    def look(self, processes: Processes) -> list[Job]:
        """Looks at what it names; what takes long is handed back as jobs for the worker."""
        with self.lock:
            if self.closed or self.paused():
                return []
            return self._look(processes)

    def glance(self) -> list[Job]:
        """The part of `look` that costs next to nothing, for each tick."""
        return []

    def tick(self) -> None:
        """Looks at what must not wait: files that are rewritten, and the rate of hits."""
        with self.lock:
            self._check()
            now = time.monotonic()
            passed, self._ticked = now - self._ticked, now
            hits, spent = self._new_hits()
            rate = hits / max(passed, 0.05)
            self._spent = [*self._spent[-4:], (passed, spent)]  # the last second: a short burst does no harm
            self.overhead = sum(spent for _, spent in self._spent) / max(1.0, sum(passed for passed, _ in self._spent))
            if rate > self.config.max_rate:
                self.pause("max_rate", f"{rate:.0f} hits a second are more than max_rate = {self.config.max_rate}")
            elif self.overhead > self.config.max_overhead:
                took = f"hits took {self.overhead:.1%} of a CPU in the last second ({rate:.0f} a second now)"
                self.pause("max_overhead", f"{took}, more than max_overhead = {self.config.max_overhead:g}")

    def pause(self, reason: str, why: str) -> None:
        """Detaches at once, for the cooldown; twice as long each time it didn't help."""
        with self.lock:
            now = time.monotonic()
            if self._resumed is not None and now - self._resumed > 4 * self.config.cooldown:
                self._strikes = 0
            pause = min(self.config.cooldown * 2 ** min(self._strikes, 12), max(_LONGEST_PAUSE, self.config.cooldown))
            self._strikes += 1
            self._paused_until, self._pause_reason = now + pause, why
            self.detached[reason] = self.detached.get(reason, 0) + 1
            self._release()
            self.overhead, self._spent = 0.0, []
            self.log("warning", f"detached: {why}", reason=reason, retry_s=round(pause, 1))

    def paused(self) -> bool:
        """Whether it is detached as it went over a limit; ends the pause when it is over."""
        if self._paused_until and time.monotonic() >= self._paused_until:
            self._paused_until, self._pause_reason = 0.0, ""
            self._resumed, self._ticked = None, time.monotonic()
        return bool(self._paused_until)

    def close(self) -> None:
        """Detaches for good."""
        with self.lock:
            self.closed = True
            self._release()

    def status(self) -> dict[str, object]:
        """Its state, and why."""
        with self.lock:
            state, reason = ("detached", self._pause_reason) if self._paused_until else self._state()
            left = max(0.0, self._paused_until - time.monotonic())
            return {
                "state": state,
                "reason": reason,
                "tool": self.config.tool,
                **({"retry_s": round(left, 1)} if self._paused_until else {}),
                **self._details(),
            }

    def _attached(self, **fields: object) -> None:
        """Something was attached."""
        self.attachments += 1
        self._told.clear()
        if self._resumed is None:
            self._resumed = time.monotonic()
        self.log("info", "attached", **fields)

    def _tell(self, reason: str) -> None:
        """Logs why it waits, each reason once until something is attached."""
        if reason and reason not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(reason)
            self.log("warning", f"waiting: {reason}")

    def _bounded(self) -> list[Family]:
        """The numbers. What ended and what goes on have the same limit: who got a series in one has it in the other."""
        with self.lock:
            return self._limit(self._families())

    def followed(self) -> Iterable[int]:
        """Processes that it must not lose sight of."""
        return ()

    # -- what the kinds differ in

    def memory(self) -> int:
        """Bytes of kernel memory for maps."""
        raise NotImplementedError

    def _look(self, processes: Processes) -> list[Job]:
        raise NotImplementedError

    def _check(self) -> None:
        raise NotImplementedError

    def _new_hits(self) -> tuple[int, float]:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError

    def _state(self) -> tuple[str, str]:
        raise NotImplementedError

    def _details(self) -> dict[str, object]:
        raise NotImplementedError

    def _families(self) -> Iterable[Family]:
        raise NotImplementedError


def reason_of(error: Exception) -> str:
    """An error and what to do about it, as one sentence."""
    if not isinstance(error, Error):
        if isinstance(error, OSError):
            return f"{error.filename or ''}: {error.strerror}".lstrip(": ")
        return f"a fault in pyebpf: {type(error).__name__}: {error}"
    matches = getattr(error, "close_matches", ())
    near = f"; did you mean {', '.join(matches)}?" if matches else ""
    hint = getattr(error, "hint", None)
    return f"{error}{near}{f'; {hint}' if hint else ''}"


def trace_of(config: TraceConfig, log: Log, costs: Costs) -> Trace:
    """The trace that a configuration describes."""
    kind: Any
    if config.targets:
        from pyebpf.export.calls import CallTrace as kind
    else:
        from pyebpf.export.events import EventTrace as kind
    trace: Trace = kind(config, log, costs)
    return trace
