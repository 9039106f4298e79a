# SPDX-License-Identifier: BSD-2-Clause
"""From the start of a tool until it traces, until it is gone, and what it takes meanwhile."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import snooping
from bench import Bench
from contestants import COUNT, LATENCY, TRACE
from processes import Target, Tool
from results import Metric, Table, Turn, take_turns

_JOBS = ((COUNT, "funccount"), (LATENCY, "funclatency"), (TRACE, "trace"))


def measure(bench: Bench) -> list[Table]:
    """One function, which nobody calls; then the tools of the kernel's events."""
    functions = Table(
        "One function, which nobody calls",
        [Metric("start to attached, ms"), Metric("Ctrl-C to gone, ms"), Metric("peak memory, MB", 1, peak=True),
         Metric("CPU, ms")],
        "bpftrace's and bcc's jobs are those of the same name: a count, a histogram of times, a line with the"
        " arguments.",
    )  # fmt: skip
    turns = []
    for job, what in _JOBS:
        for one in bench.contestants:
            command = one.line(job, bench.programs.target, "traced_values" if job == TRACE else Target.function)
            if command and not one.options:
                turns.append(Turn(what, one.name, functools.partial(_whole, bench, command)))
    take_turns(functions, turns, bench.rounds, warm=True)

    events = Table(
        "The tools that show events: from the start to the first line",
        [Metric("start to first line, ms"), Metric("peak memory, MB", 1, peak=True), Metric("CPU, ms")],
        "On a terminal; there is an event each millisecond. bpftrace's are its own scripts, for the tcp tools"
        " one-liners.",
    )
    turns = []
    for event_job in snooping.JOBS:
        for one in bench.contestants:
            command = one.event_line(event_job.tool) if event_job.lines else None
            if command:
                measured = functools.partial(_first_line, bench, command, event_job)
                turns.append(Turn(event_job.tool, one.name, measured))
    take_turns(events, turns, bench.rounds)
    return [functions, events]


def _whole(bench: Bench, command: list[str]) -> Sequence[float]:
    with Target(bench.programs.target) as target:
        target.ask("watch")
        with Tool(bench.programs, command) as tool:
            attached = target.answer(tool)
            time.sleep(0.3)  # a tool with a probe at the return, too, is ready for its end then
            told = time.monotonic()
            outcome = tool.end()
    return (attached - outcome.start) * 1e3, (outcome.end - told) * 1e3, outcome.memory, outcome.cpu * 1e3


def _first_line(bench: Bench, command: list[str], job: snooping.Job) -> Sequence[float]:
    seconds, outcome = snooping.first_line(bench.programs, command, job, bench.cpu)
    return seconds * 1e3, outcome.memory, outcome.cpu * 1e3
