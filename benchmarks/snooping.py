# SPDX-License-Identifier: BSD-2-Clause
"""Tools that show what happens on the whole system: how soon they do, at what cost, and what they lose.

workloads/events.c makes the events. They bear a mark (a file's or a program's name, a process's number, a server's
port), by which their lines are told from all others.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from typing import Any, NamedTuple

from processes import Failed, Outcome, Programs, Tool

LOOPS = 10_007
LIMIT = 15  # seconds that a tool has to show its first event
_PACE_US = 1000
_BURSTS = 5
_SETTLED = 0.3  # seconds without a new line: everything was shown
_LONGEST = 5  # seconds that it has for that


class Job(NamedTuple):
    """A tool and the loop it watches.

    Attributes:
        tool: its name, with every contestant.
        loop: of workloads/events.c.
        burst: loops that are made at once to take the cost.
        lines: that a loop is shown by; 0: the tool shows totals, in intervals.
        extra: lines that are shown of a new mark, before any loop: a server begins to listen.
    """

    tool: str
    loop: str
    burst: int
    lines: int
    extra: int = 0


JOBS = (
    Job("opensnoop", "open", 2000, 1),
    Job("statsnoop", "stat", 2000, 1),
    Job("killsnoop", "signal", 2000, 1),
    Job("execsnoop", "exec", 100, 1),
    Job("exitsnoop", "exec", 100, 1),
    Job("tcpconnect", "connect", 1000, 1),
    Job("tcpaccept", "connect", 1000, 1),
    Job("tcplife", "connect", 1000, 2),
    Job("tcpstates", "connect", 1000, 10, extra=1),
    Job("tcptop", "message", 5000, 0),
)


def _compiled(programs: Programs, name: str, *flags: str) -> str:
    path = os.path.join(programs.directory, name)
    return path if os.path.exists(path) else programs.compile(name, *flags)


class Events:
    """A running workloads/events.c."""

    def __init__(self, programs: Programs, loop: str, cpu: int) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="events-", dir=programs.directory)
        os.link(_compiled(programs, "nothing", "-static"), os.path.join(self._directory.name, "nothing"))
        self._process = subprocess.Popen(
            [_compiled(programs, "events"), loop, self._directory.name, str(cpu)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._marks: list[str] = []

    def ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed("workloads/events.c failed")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def mark(self) -> re.Pattern[bytes]:
        """From now on the events bear a new mark; what finds it."""
        self.ask("mark")
        return re.compile(rb"(?<![\w.])" + re.escape(self.answer()["mark"]).encode() + rb"(?!\w)")

    def run(self, loops: int) -> float:
        """The ns that a loop took."""
        self.ask(f"run {loops}")
        return float(self.answer()["ns"]) / loops

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()


def first_line(programs: Programs, command: list[str], job: Job, cpu: int) -> tuple[float, Outcome]:
    """Seconds from its start until it has shown an event of the loop, of which there is one each millisecond."""
    with Events(programs, job.loop, cpu) as events:
        mark = events.mark()
        events.ask(f"pace {_PACE_US}")
        with Tool(programs, command, terminal=True) as tool:
            since = time.monotonic()
            while not mark.search(tool.text(0.01)):
                tool.look(since, LIMIT)
            seen = time.monotonic()
            outcome = tool.end()
        return seen - outcome.start, outcome


def _wait_for(tool: Tool, events: Events) -> None:
    """Until it has shown something of the loop. Tools that write to a file keep their first lines back for a while."""
    mark = events.mark()
    since = time.monotonic()
    while not mark.search(tool.text()):
        events.run(50)
        time.sleep(0.02)
        tool.look(since, LIMIT)


def _settle(tool: Tool) -> None:
    """Until it has been silent for a moment; on a system where others are busy it never is."""
    size, since = -1, time.monotonic()
    until = since + _LONGEST
    while time.monotonic() < min(since + _SETTLED, until):
        now = tool.size()
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.02)


class Cost(NamedTuple):
    """Attributes:
    without, with_tool: ns a loop; the median of the bursts.
    complete: the share of the events of the bursts that was shown.
    """

    without: float
    with_tool: float
    complete: float


def cost(programs: Programs, command: list[str], job: Job, cpu: int) -> tuple[Cost, Outcome]:
    """What a loop takes without and with the tool, in bursts that a tool can buffer."""
    with Events(programs, job.loop, cpu) as events:
        events.mark()
        events.run(job.burst)
        without = statistics.median(events.run(job.burst) for _ in range(_BURSTS))
        with Tool(programs, command, terminal=False) as tool:
            _wait_for(tool, events)
            mark = events.mark()
            times = []
            for _ in range(_BURSTS):
                time.sleep(0.1)  # for the tool to empty its buffer: what it loses costs less
                times.append(events.run(job.burst))
            _settle(tool)
            outcome = tool.end()
    expected = job.burst * _BURSTS * job.lines + job.extra
    complete = lines_with(outcome.output, mark) / expected if expected else 1.0
    return Cost(without, statistics.median(times), complete), outcome


class Loss(NamedTuple):
    """Attributes:
    made, shown: events.
    lost: that it says it lost.
    rate: events a second that were made.
    """

    made: int
    shown: int
    lost: int
    rate: float


def loss(programs: Programs, command: list[str], job: Job, cpu: int) -> tuple[Loss, Outcome]:
    """LOOPS loops as fast as it goes."""
    with Events(programs, job.loop, cpu) as events:
        with Tool(programs, command, terminal=False) as tool:
            _wait_for(tool, events)
            _settle(tool)
            mark = events.mark()
            took = events.run(LOOPS)
            _settle(tool)
            outcome = tool.end()
    made = LOOPS * job.lines + job.extra
    return Loss(made, lines_with(outcome.output, mark), lost(outcome.output), job.lines * 1e9 / took), outcome


def lines_with(text: bytes, mark: re.Pattern[bytes]) -> int:
    return sum(1 for line in text.splitlines() if mark.search(line))


def lost(text: bytes) -> int:
    """bpftrace: "Lost 123 events"; libbpf-tools: "lost 123 events on CPU #1"; bcc: "Possibly lost 123 samples";
    pyebpf: "lost: 123 events"."""
    numbers = re.findall(rb"[Ll]ost:? ([\d,]+) (?:\w+ )?(?:events|samples)", text)
    return sum(int(number.replace(b",", b"")) for number in numbers)
