# SPDX-License-Identifier: BSD-2-Clause
"""Tools that show what happens on the whole system: how soon they do, at what cost, and what they lose.

workloads/events.c makes the events. They bear a mark (a file's or a program's name, a process's number, a server's
port), by which their lines are told from all others.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from processes import Programs

LOOPS = 10_007
LIMIT = 15  # seconds that a tool has to show its first event
_PACE_US = 1000
_BURSTS = 5
_SETTLED = 0.3  # seconds without a new line: everything was shown
_LONGEST = 5  # seconds that it has for that

# What bpftrace's users write where its own tool of that name wants a kernel probe, or there is none.
_STATE = "tracepoint:sock:inet_sock_set_state "
_TCP = "args->protocol == 6 && "
_BYTES = (
    "tracepoint:sock:sock_%s_length /args->protocol == 6 && args->ret > 0/ { "
    "$sk = (struct sock *)args->sk; $to = $sk->__sk_common.skc_dport; "
    "@%s[pid, comm, $sk->__sk_common.skc_num, ($to >> 8) | (($to << 8) & 0xff00)] = sum(args->ret); } "
)
_BY_HAND = {
    "tcpconnect": _STATE + "/" + _TCP + "args->newstate == 2/ "
    r'{ printf("%d %s %s %d\n", pid, comm, ntop(args->daddr), args->dport); }',
    "tcpaccept": _STATE + "/" + _TCP + "args->oldstate == 3 && args->newstate == 1/ "
    r'{ printf("%d %s %s %d\n", pid, comm, ntop(args->daddr), args->sport); }',
    "tcpstates": _STATE + r'{ printf("%p %d %s %d %d %d %d\n", args->skaddr, pid, comm, args->sport, args->dport, '
    "args->oldstate, args->newstate); }",
    "tcptop": _BYTES % ("send", "sent") + _BYTES % ("recv", "received")
    + "interval:s:1 { print(@sent); print(@received); clear(@sent); clear(@received); }",
}


class Job(NamedTuple):
    """A tool and the loop it watches.

    Attributes:
        tool: its name, with every contestant.
        loop: of workloads/events.c.
        burst: loops that are made at once to take the cost.
        lines: that a loop is shown by; 0: the tool shows totals, in intervals.
        extra: lines that are shown of a new mark, before any loop: a server begins to listen.
        options: that pyebpf's needs.
    """

    tool: str
    loop: str
    burst: int
    lines: int
    extra: int = 0
    options: tuple[str, ...] = ()


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


class Peer(NamedTuple):
    """A contestant.

    Attributes:
        name: as it stands in the tables.
        command: its words; {tool} is the tool's name, {program} a bpftrace program. pyebpf's is without.
    """

    name: str
    command: tuple[str, ...]

    def line(self, job: Job) -> Optional[list[str]]:
        """The command line. None: it has no such tool."""
        words = [word.replace("{tool}", job.tool) for word in self.command]
        if self.command[-1] == "{program}":
            return [*words[:-1], _BY_HAND[job.tool]] if job.tool in _BY_HAND else None
        if words == list(self.command):
            return [*words, job.tool, *job.options]
        # Of a path in another root only its run tells.
        return words if words[0] == "chroot" or os.path.exists(words[-1]) else None


class Shown(NamedTuple):
    """A tool's run to its end.

    Attributes:
        start: seconds of CLOCK_MONOTONIC, before the fork.
        memory: peak, MB.
        cpu: seconds, user and system.
        text: standard output and error.
    """

    start: float
    memory: float
    cpu: float
    text: bytes


class Events:
    """A running workloads/events.c."""

    def __init__(self, programs: Programs, loop: str, cpu: int) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="events-", dir=programs.directory)
        os.link(os.path.join(programs.directory, "nothing"), os.path.join(self._directory.name, "nothing"))
        self._process = subprocess.Popen(
            [os.path.join(programs.directory, "events"), loop, self._directory.name, str(cpu)],
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
            sys.exit("workloads/events.c failed")
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


class Tool:
    """A tool that runs until the block ends, or it is asked for what it has `shown`.

    With a terminal its lines come at once; without it they go to a file in memory.
    """

    def __init__(self, programs: Programs, command: list[str], terminal: bool) -> None:
        self._terminal, self._text = terminal, b""
        if terminal:
            self._output, child = pty.openpty()
        else:
            self._output, path = tempfile.mkstemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
            os.unlink(path)
            child = os.dup(self._output)
        self._report, write_end = os.pipe()
        self._process = subprocess.Popen(
            [programs.launch, str(write_end), "120", *command],
            stdin=subprocess.DEVNULL, stdout=child, stderr=child, pass_fds=(write_end,), start_new_session=True,
        )  # fmt: skip
        os.close(child)
        os.close(write_end)

    def text(self, timeout: float = 0) -> bytes:
        """What it has shown; waits for more for `timeout` seconds, if it has a terminal."""
        if not self._terminal:
            return os.pread(self._output, 1 << 30, 0)
        if select.select([self._output], [], [], timeout)[0]:
            try:
                self._text += os.read(self._output, 1 << 16)
            except OSError:  # nobody has the terminal open any more
                pass
        return self._text

    def size(self) -> int:
        """Bytes that it has written, without a terminal."""
        return os.fstat(self._output).st_size

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def shown(self) -> Shown:
        """Ends it as Ctrl-C does."""
        self._interrupt()
        while self.running and self._terminal:
            self.text(0.05)
        with os.fdopen(os.dup(self._report)) as report:
            start, _, memory, cpu, _, _ = map(int, report.read().split())
        self._process.wait()
        return Shown(start / 1e9, memory / 1024, cpu / 1e6, self.text())

    def _interrupt(self) -> None:
        if self.running:
            os.killpg(self._process.pid, signal.SIGINT)

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._output)
        os.close(self._report)


class Failed(Exception):
    """A tool that doesn't run here; the message is what it said last."""


def _look(tool: Tool, since: float) -> None:
    """Raises Failed when it has ended, or had its time: with the last line of an error, without colours."""
    late = time.monotonic() - since > LIMIT
    if tool.running and not late:
        return
    plain = re.sub(r"\x1b\[[\d;]*m", "", tool.text().decode(errors="replace"))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    errors = [line for line in lines if re.search("error|exception|failed", line, re.IGNORECASE)] or lines
    raise Failed(f"showed nothing of it in {LIMIT} s" if late else (errors or [""])[-1][:200])


def first_line(programs: Programs, command: list[str], job: Job, cpu: int) -> tuple[float, Shown]:
    """Seconds from its start until it has shown an event of the loop, of which there is one each millisecond."""
    with Events(programs, job.loop, cpu) as events:
        mark = events.mark()
        events.ask(f"pace {_PACE_US}")
        with Tool(programs, command, terminal=True) as tool:
            since = time.monotonic()
            while not mark.search(tool.text(0.01)):
                _look(tool, since)
            seen = time.monotonic()
            shown = tool.shown()
        return seen - shown.start, shown


def _wait_for(tool: Tool, events: Events) -> None:
    """Until it has shown something of the loop. Tools that write to a file keep their first lines back for a while."""
    mark = events.mark()
    since = time.monotonic()
    while not mark.search(tool.text()):
        events.run(50)
        time.sleep(0.02)
        _look(tool, since)


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


def cost(programs: Programs, command: list[str], job: Job, cpu: int) -> tuple[Cost, Shown]:
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
            shown = tool.shown()
    expected = job.burst * _BURSTS * job.lines + job.extra
    complete = lines_with(shown.text, mark) / expected if expected else 1.0
    return Cost(without, statistics.median(times), complete), shown


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


def loss(programs: Programs, command: list[str], job: Job, cpu: int) -> tuple[Loss, Shown]:
    """LOOPS loops as fast as it goes."""
    with Events(programs, job.loop, cpu) as events:
        with Tool(programs, command, terminal=False) as tool:
            _wait_for(tool, events)
            _settle(tool)
            mark = events.mark()
            took = events.run(LOOPS)
            _settle(tool)
            shown = tool.shown()
    made = LOOPS * job.lines + job.extra
    return Loss(made, lines_with(shown.text, mark), lost(shown.text), job.lines * 1e9 / took), shown


def lines_with(text: bytes, mark: re.Pattern[bytes]) -> int:
    return sum(1 for line in text.splitlines() if mark.search(line))


def lost(text: bytes) -> int:
    """bpftrace: "Lost 123 events"; libbpf-tools: "lost 123 events on CPU #1"; bcc: "Possibly lost 123 samples";
    pyebpf: "lost: 123 events"."""
    numbers = re.findall(rb"[Ll]ost:? ([\d,]+) (?:\w+ )?(?:events|samples)", text)
    return sum(int(number.replace(b",", b"")) for number in numbers)


def installed(pyebpf: str, version: str, peers: Sequence[str]) -> list[Peer]:
    """pyebpf and the peers that are given as NAME=COMMAND."""
    found = [Peer(f"pyebpf {version}", (pyebpf,))]
    for peer in peers:
        name, _, command = peer.partition("=")
        found.append(Peer(name, tuple(command.split())))
    return found
