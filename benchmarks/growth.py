# SPDX-License-Identifier: BSD-2-Clause
"""How the cost grows: with the calls a second, with the threads that call, with the different values and stacks.

How it grows with the functions is in attaching.py.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Sequence

import hits
from bench import Bench
from contestants import COUNT, KEYS, LATENCY, STACK, TRACE
from processes import Programs, Target, Tool
from results import Metric, Table, Turn, take_turns

from pyebpf.tools.keys import DEFAULT_MAX_KEYS

_RATES = (1_000, 10_000, 100_000, 1_000_000)
_THREADS = (1, 2, 8, 64)
_KEYS = (10, 1_000, 10_000, 100_000)
_SECONDS = 2


def measure(bench: Bench) -> list[Table]:
    """Calls, threads, keys."""
    rates = Table(
        "With the calls a second",
        [Metric("CPU of the tool, ms a second", 1), Metric("shown, %", 1, more=True),
         Metric("calls a second", plain=True)],
        f"A line a call, {_SECONDS} seconds, into a file in memory. Calls a second: that the program then came to.",
    )  # fmt: skip
    threads = Table(
        "With the threads that call",
        [hits.NS],
        f"200,000 calls in all, on {os.cpu_count()} CPUs: the time they take, times the CPUs that the threads can use,"
        " by the calls; less the same untraced. A fifth of that for the latency.",
    )
    keys = Table(
        "With the different values, and stacks",
        [hits.NS, Metric("different ones shown", more=True), Metric("CPU of the tool, s", 2),
         Metric("peak memory, MB", 1, peak=True)],
        "Each value comes at least three times. pyebpf's argdist and stackcount, allowed 131,072 of them where there"
        "\nare 100,000 (`--max-keys`); bpftrace's `@[arg0] = count()` and `@[ustack] = count()`, allowed a million"
        "\n(BPFTRACE_MAX_MAP_KEYS).",
    )  # fmt: skip
    path, turns = bench.programs.target, []
    for rate in _some(bench, _RATES):
        for one in bench.contestants:
            command = one.line(TRACE, path, "traced_values")
            if command:
                measured = functools.partial(_rate, bench.programs, command, rate)
                turns.append(Turn(f"{rate:,} a second", one.name, measured))
    take_turns(rates, turns, min(bench.rounds, 3))

    turns = []
    for count in _some(bench, _THREADS):
        for job in (COUNT, LATENCY):
            for one in bench.contestants:
                command = one.line(job, path, Target.function)
                if command:
                    measured = functools.partial(_threads, bench.programs, command, count)
                    turns.append(Turn(f"{job}, {count} threads", one.name, measured))
    take_turns(threads, turns, min(bench.rounds, 3))

    turns = []
    for count in _some(bench, _KEYS):
        for job, what in ((KEYS, "values"), (STACK, "stacks")):
            for one in bench.contestants:
                command = one.line(job, path, "traced_values" if job == KEYS else Target.function)
                if command and one.ours and count > DEFAULT_MAX_KEYS:
                    command += ["--max-keys", "131072"]
                if command:
                    measured = functools.partial(_keys, bench.programs, command, job, count)
                    turns.append(Turn(f"{count:,} {what}", one.name, measured))
    take_turns(keys, turns, min(bench.rounds, 3))
    return [rates, threads, keys]


def _some(bench: Bench, values: Sequence[int]) -> Sequence[int]:
    return (values[0], values[-1]) if bench.quick else values


def _rate(programs: Programs, command: list[str], rate: int) -> Sequence[float]:
    calls = rate * _SECONDS
    with Target(programs.target) as target, Tool(programs, command) as tool:
        hits.ready(target, tool)
        begun = _cpu(tool)
        target.ask(f"values {calls} {rate}")
        seconds = target.answer()
        time.sleep(1)  # to empty its buffer
        used = _cpu(tool) - begun
        shown = tool.end().output.count(b"GET /index.html HTTP")
    return used * 1e3 / seconds, 100 * shown / calls, calls / seconds


def _cpu(tool: Tool) -> float:
    """Seconds that the tool has used until now, with all its threads and processes."""
    seconds, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for pid in tool.processes():
        try:
            with open(f"/proc/{pid}/schedstat") as file:  # of its first thread; finer than stat
                first = int(file.read().split()[0]) / 1e9
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += max(first, (int(fields[11]) + int(fields[12])) / ticks)
    return seconds


def _threads(programs: Programs, command: list[str], threads: int) -> Sequence[float]:
    calls, scale = 200_000, min(threads, os.cpu_count() or 1) * 1e9
    if any("funclatency" in word or "uretprobe" in word for word in command):
        calls //= 5
    with Target(programs.target) as target:
        target.ask(f"threads {calls * 10} {threads}")
        untraced = target.answer() * scale / (calls * 10)
        with Tool(programs, command) as tool:
            hits.ready(target, tool)
            target.ask(f"threads {calls} {threads}")
            traced = target.answer() * scale / calls
            tool.end()
    return (traced - untraced,)


def _keys(programs: Programs, command: list[str], job: str, keys: int) -> Sequence[float]:
    calls = max(20_000, 3 * keys)
    asked = "keys" if job == KEYS else "stacks"
    with Target(programs.target) as target:
        target.ask(f"{asked} {calls} {keys}")
        untraced = target.answer()
        with Tool(programs, command) as tool:
            hits.ready(target, tool)
            target.ask(f"{asked} {calls} {keys}")
            traced = target.answer()
            outcome = tool.end()
    return (traced - untraced) * 1e9 / calls, _different(outcome.output, job), outcome.cpu, outcome.memory


def _different(text: bytes, job: str) -> int:
    """Values or stacks in a tool's output: bpftrace's `@[7]: 3`, pyebpf's tables."""
    if b"@[" in text:
        return len(re.findall(rb"\]: \d", text))
    if job == KEYS:
        return len(re.findall(rb"(?m)^\s*[\d,]+\s+arg0:u32 = \d+\s*$", text))
    return len(re.findall(rb"(?m)^\s+[\d,]+$", text))
