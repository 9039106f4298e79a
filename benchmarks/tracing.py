# SPDX-License-Identifier: BSD-2-Clause
"""A line a call: what it costs the target, and how many calls a second arrive.

Two integers and a string of 20 characters are shown. The lines go to a file in memory.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from contestants import TRACE, Contestant
from processes import Programs, Target

RATES = (50_000, 100_000, 200_000, 300_000, 400_000, 600_000, 800_000)  # calls a second; then as fast as it goes
_SECONDS = 2
FASTEST_CALLS = 1_000_000
_TEXT = b"GET /index.html HTTP"


class Delivery(NamedTuple):
    """One run.

    Attributes:
        made: calls.
        shown: lines with the call's values.
        lost: calls that the tool says it lost.
        seconds: that the calls took.
    """

    made: int
    shown: int
    lost: int
    seconds: float


class Tracing(NamedTuple):
    """A tool's results; a value a round.

    Attributes:
        cost: ns added to a call, when 10,000 are made at once.
        without_loss: the largest of RATES at which every call was shown; 0: none was.
        fastest: runs in which the target called as fast as it could.
    """

    cost: list[float]
    without_loss: list[int]
    fastest: list[Delivery]


def line_a_call(programs: Programs, tools: Sequence[Contestant], rounds: int) -> dict[str, Tracing]:
    """Every tool that can show a function's arguments, in turns."""
    results: dict[str, Tracing] = {}
    for _ in range(rounds):
        for tool in tools:
            command = tool.line(TRACE, programs.target, "traced_values")
            if command is None:
                continue
            result = results.setdefault(tool.name, Tracing([], [], []))
            result.cost.append(_cost(programs, command))
            best = 0
            for rate in RATES:
                delivery = _deliver(programs, command, rate * _SECONDS, rate)
                if delivery.shown < delivery.made or delivery.seconds > 1.1 * _SECONDS:
                    break
                best = rate
            result.without_loss.append(best)
            result.fastest.append(_deliver(programs, command, FASTEST_CALLS, 0))
    return results


def _cost(programs: Programs, command: list[str]) -> float:
    calls = 10_000
    with Target(programs) as target:
        target.ask(f"values {calls * 100} 0")
        untraced = target.answer() / (calls * 100)
        with _Tool(command) as tool:
            tool.wait_for(target)
            costs = []
            for _ in range(5):
                target.ask(f"values {calls} 0")
                costs.append(target.answer() / calls)
                time.sleep(0.2)  # for the tool to empty its buffer: what it loses costs less
    return (sorted(costs)[2] - untraced) * 1e9


def _deliver(programs: Programs, command: list[str], calls: int, rate: int) -> Delivery:
    with Target(programs) as target:
        with _Tool(command) as tool:
            tool.wait_for(target)
            target.ask(f"values {calls} {rate}")
            seconds = target.answer()
        return Delivery(calls, tool.shown, tool.lost, seconds)


class _Tool:
    """A tool that traces while the block runs; then `shown` and `lost` are known."""

    def __init__(self, command: list[str]) -> None:
        self.shown = self.lost = 0
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self._output = tempfile.TemporaryFile(dir=memory)  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )

    def wait_for(self, target: Target) -> None:
        target.ask("watch")
        target.answer()
        time.sleep(0.1)

    def __enter__(self) -> _Tool:
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(1)  # a tool need not empty its buffer when it is told to end
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._output.seek(0)
        text = self._output.read()
        self._output.close()
        self.shown = text.count(_TEXT)
        # bpftrace: "Lost 123 events"; pyebpf: "lost: 123 calls not shown, ..."
        for number in re.findall(rb"(?:Lost|lost:) ([\d,]+) (?:events|calls)", text):
            self.lost += int(number.replace(b",", b""))
