# SPDX-License-Identifier: BSD-2-Clause
"""Every function tool at once on a program that is tortured, and whether what each saw is what the program did.

Use::

    with targets.run(program, "-n", "997", "jumps") as target, Watch(f"{target.path}:dive") as watch:
        truth = target.go()
        checks = watch.checks(truth)         # for Outcome
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pyebpf

TIMED = ("latency", "trace", "slower")  # tools that see returns
TOOLS = ("count", *TIMED)
Checks = dict[str, tuple[int, int]]


class Watch:
    """Sessions of the function tools, and readers for those that send records.

    Args:
        names: targets of all tools.
        tools: some of TOOLS.
        results: trace reads what the functions return, and the program's checksum is the sum of it.
        pid: of the one process to trace.

    Attributes:
        sessions: by tool.
        sum: of the results that trace showed.
        records: by tool and function, how many.
    """

    def __init__(
        self, *names: str, tools: Sequence[str] = TOOLS, results: bool = False, pid: int | None = None
    ) -> None:
        self.records: Counter[tuple[str, str]] = Counter()
        self.sum = 0
        self.sessions: dict[str, Any] = {}
        self._names, self._tools, self._results, self._pid = names, tools, results, pid
        self._stack = ExitStack()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed: list[BaseException] = []

    def __enter__(self) -> Watch:
        values = ["retval"] if self._results else []
        makers: dict[str, Callable[..., Any]] = {
            "count": pyebpf.count,
            "latency": pyebpf.latency,
            "trace": lambda *names, pid: pyebpf.trace(*names, ret=values, returns=True, pid=pid),
            "slower": lambda *names, pid: pyebpf.slower(*names, min_us=0, pid=pid),
        }
        try:
            for tool in self._tools:
                self.sessions[tool] = self._stack.enter_context(makers[tool](*self._names, pid=self._pid))
            for tool in ("trace", "slower"):
                if tool in self.sessions:
                    thread = threading.Thread(target=self._read, args=(tool,))
                    thread.start()
                    self._threads.append(thread)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end_reading()
        self._stack.close()

    def _read(self, tool: str) -> None:
        try:
            while not self._over.is_set():
                self._take(tool, self.sessions[tool].read(0.05))
            self._take(tool, self.sessions[tool].drain())
        except BaseException as error:  # told by whoever reads the numbers
            self._failed.append(error)

    def _take(self, tool: str, records: Any) -> None:
        for record in records:
            self.records[tool, record.function.name] += 1
            if tool == "trace" and self._results:
                self.sum += record.ret["retval"]

    def _end_reading(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def finish(self) -> None:
        """Takes the probes out and reads what records are left."""
        for session in self.sessions.values():
            session.detach()
        self._end_reading()
        for error in self._failed:
            raise error

    def skipped(self) -> dict[str, str]:
        """Functions that tools which see returns do not trace, and why."""
        timed = [self.sessions[tool] for tool in TIMED if tool in self.sessions]
        return {skip.name: skip.reason for session in timed for skip in session.skipped}

    def checks(self, truth: dict[str, Any], names: Sequence[str] = ()) -> Checks:
        """What every tool saw beside what the program says; call it once the program has ended, or is at rest.

        For counts: the calls of all functions. For the others the returns, that what did not return is what was
        abandoned or is still in progress, and that nothing was lost but records that the reader was too slow for, which
        are added. A function that a tool skips is not in its sums. Where functions differ, those are told instead.

        Args:
            names: of the functions; those of the truth if there are none.
        """
        self.finish()
        checks: Checks = {}
        if "checksum" in truth:
            checks["checksum"] = truth["checksum"], truth["expected"]
        skipped = self.skipped()
        for tool, session in self.sessions.items():
            traced = {function.name for function in session.functions}
            if tool != "count":
                traced.difference_update(skipped)
            of_tool = [name for name in names or truth["calls"] if name in traced]
            kind = "calls" if tool == "count" else "returns"
            losses = session.losses
            seen = self._seen(tool, of_tool)
            told = {name: truth[kind][name] for name in of_tool}
            wrong = {f"{tool} {name}": (seen[name], told[name]) for name in of_tool if seen[name] != told[name]}
            if losses.dropped:  # of which functions they were nobody knows
                wrong = {f"{tool}, {losses.dropped} dropped": (sum(seen.values()) + losses.dropped, sum(told.values()))}
            checks.update(wrong or {tool: (sum(seen.values()), sum(told.values()))})
            if tool == "trace" and self._results and not losses.dropped:
                checks["sum of results"] = self.sum, truth["checksum"]
            if tool != "count":
                left = sum(truth["calls"][name] - truth["returns"][name] for name in of_tool)
                if left or losses.abandoned or losses.in_progress:
                    checks[f"{tool} left"] = losses.abandoned + losses.in_progress, left
                if losses.lost != losses.dropped:
                    checks[f"{tool} lost"] = losses.lost - losses.dropped, 0
        return checks

    def _seen(self, tool: str, names: Sequence[str]) -> dict[str, int]:
        """Calls or returns by function."""
        if tool in ("trace", "slower"):
            return {name: self.records[tool, name] for name in names}
        shown = self.sessions[tool].snapshot()
        if tool == "count":
            return {name: shown[name] for name in names}
        return {name: shown[name].count if name in shown else 0 for name in names}
