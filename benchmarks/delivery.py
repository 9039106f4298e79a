# SPDX-License-Identifier: BSD-2-Clause
"""Records a second: how many are shown, and whether what isn't is said to be lost."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import hits
import snooping
from bench import Bench
from contestants import TRACE
from processes import Programs, Target, Tool
from results import Metric, Table, Turn, take_turns

_RATES = (50_000, 100_000, 200_000, 300_000, 400_000, 600_000, 800_000)  # calls a second
_SECONDS = 2
_FASTEST = 1_000_000
_TEXT = b"GET /index.html HTTP"
_MISSING = Metric("not accounted for")


class Delivery(NamedTuple):
    """Attributes:
    made: calls.
    shown: lines with the call's values.
    lost: calls that the tool says it lost.
    seconds: that the calls took.
    """

    made: int
    shown: int
    lost: int
    seconds: float


def measure(bench: Bench) -> list[Table]:
    """A line a call; then the events of the kernel: as fast as they come."""
    lines = Table(
        "A line a call: two integers and a string",
        [Metric("calls a second without loss", more=True), Metric("shown for each second of calling", more=True),
         Metric("lost, as it says", plain=True), _MISSING],
        f"Without loss: the largest of {', '.join(f'{rate:,}' for rate in _RATES)} a second that two seconds"
        f" can be called at and every call is shown. The others: {_FASTEST:,} calls as fast as the program can."
        " Not accounted for: calls made, less those shown and those said to be lost (or what these are too many)."
        " All with the tools' own buffers,"
        " into a file in memory.",
    )  # fmt: skip
    turns = []
    for one in bench.contestants:
        command = one.line(TRACE, bench.programs.target, "traced_values")
        if command:
            turns.append(Turn(TRACE, one.name, functools.partial(_lines, bench.programs, command, bench.quick)))
    take_turns(lines, turns, min(bench.rounds, 3))

    cost = Table(
        "Events: what a loop costs more while a tool shows them",
        [Metric("ns added"), Metric("with ÷ without", 2, plain=True), Metric("shown, %", 1, more=True),
         Metric("CPU of the tool, s", 2)],
        "opensnoop: open and close. statsnoop, killsnoop: one call. execsnoop, exitsnoop: start a program and wait"
        " for it."
        "\ntcpconnect to tcpstates: a connection over loopback, made and closed. tcptop: 100 bytes sent and"
        " received. In"
        "\nbursts that a tool can buffer; what is lost costs less.",
    )  # fmt: skip
    loss = Table(
        f"Events: {snooping.LOOPS:,} loops as fast as they go",
        [Metric("shown", more=True), Metric("lost, as it says", plain=True), _MISSING,
         Metric("events a second", more=True), Metric("peak memory, MB", 1, peak=True)],
    )  # fmt: skip
    costs, losses = [], []
    for job in snooping.JOBS:
        for one in bench.contestants:
            command = one.event_line(job.tool)
            if command is None:
                continue
            costs.append(Turn(job.tool, one.name, functools.partial(_event_cost, bench, command, job)))
            if job.lines and job.loop != "exec":
                losses.append(Turn(job.tool, one.name, functools.partial(_event_loss, bench, command, job)))
    take_turns(cost, costs, bench.rounds)
    take_turns(loss, losses, min(bench.rounds, 3))
    return [lines, cost, loss]


def _lines(programs: Programs, command: list[str], quick: bool) -> Sequence[float]:
    best = 0
    for rate in _RATES[::2] if quick else _RATES:
        one = _deliver(programs, command, rate * _SECONDS, rate)
        if one.shown < one.made or one.seconds > 1.1 * _SECONDS:
            break
        best = rate
    fastest = _deliver(programs, command, _FASTEST, 0)
    return best, fastest.shown / fastest.seconds, fastest.lost, abs(fastest.made - fastest.shown - fastest.lost)


def _deliver(programs: Programs, command: list[str], calls: int, rate: int) -> Delivery:
    with Target(programs.target) as target, Tool(programs, command) as tool:
        hits.ready(target, tool)
        target.ask(f"values {calls} {rate}")
        seconds = target.answer()
        time.sleep(1)  # a tool need not empty its buffer when it is told to end
        text = tool.end().output
    # bpftrace: "Lost 123 events"; pyebpf: "lost: 123 calls not shown, ..."
    lost = sum(int(number.replace(b",", b""))
               for number in re.findall(rb"(?:[Ll]ost|lost:) ([\d,]+) (?:events|calls|samples)", text))  # fmt: skip
    return Delivery(calls, text.count(_TEXT), lost, seconds)


def _event_cost(bench: Bench, command: list[str], job: snooping.Job) -> Sequence[float | None]:
    one, outcome = snooping.cost(bench.programs, command, job, bench.cpu)
    shown = 100 * one.complete if job.lines else None
    return one.with_tool - one.without, one.with_tool / one.without, shown, outcome.cpu


def _event_loss(bench: Bench, command: list[str], job: snooping.Job) -> Sequence[float]:
    one, outcome = snooping.loss(bench.programs, command, job, bench.cpu)
    return one.shown, one.lost, abs(one.made - one.shown - one.lost), one.rate, outcome.memory
