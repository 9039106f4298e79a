# SPDX-License-Identifier: BSD-2-Clause
"""What a call of a traced function costs more, and of which parts that consists."""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import runtimes
from bench import Bench
from contestants import COUNT, COUNT_BY_NAME, LATENCY, SLOWER, STACK, TRACE
from processes import Programs, Target, Tool
from results import Metric, Table, Turn, take_turns

from pyebpf.build import compile as compile_bpf

FLOOR = "an empty program"
_CALLS, _SAMPLES = 20_000, 5
_JOBS = (COUNT, COUNT_BY_NAME, LATENCY, SLOWER, STACK, TRACE)
_FLOORS = (  # name, program, function
    ("at the entry", "empty", "traced"),
    ("at the return, by the kernel's return probe", "empty_return", "traced"),
    ("at a return instruction", "empty", "traced_ret"),
    ("a record into a ring buffer", "record", "traced"),
)
NS = Metric("ns a call")


def measure(bench: Bench) -> list[Table]:
    """Against the peers; then the parts of ours."""
    cost = Table(
        "What a call costs more, ns",
        [NS],
        f"An almost empty C function, {_CALLS:,} calls at once, untraced 1 to 2 ns each; the median of {_SAMPLES}."
        f" Trace: two"
        "\nintegers and a string of 20 characters, in bursts of 10,000 that a tool can buffer. An empty program is"
        " what the"
        "\nkernel's part of any tool's probe costs: the floor. It is no contestant.",
    )
    image = floor_object(bench.programs)
    turns = []
    for name, program, function in _FLOORS:
        command = [sys.executable, os.path.join(os.path.dirname(__file__), "floor.py"), image, program,
                   bench.programs.target, function]  # fmt: skip
        asked = "rets" if function == "traced_ret" else "calls"
        turns.append(Turn(FLOOR, name, functools.partial(_cost, bench.programs, command, asked)))
    for job in _JOBS:
        for one in bench.contestants:
            function = "traced_values" if job == TRACE else Target.function
            command = one.line(job, bench.programs.target, function)
            if command:
                measured: Callable[[], Sequence[float]] = functools.partial(_cost, bench.programs, command, "calls")
                if job == TRACE:
                    measured = functools.partial(line_cost, bench.programs, command)
                turns.append(Turn(job, one.name, measured))
    take_turns(cost, turns, bench.rounds)
    return [cost, _parts(bench)]


def floor_object(programs: Programs) -> str:
    """Compiles the empty programs; the object's path."""
    path = os.path.join(programs.directory, "floor.bpf.o")
    compile_bpf(os.path.join(os.path.dirname(os.path.abspath(__file__)), "workloads", "floor.bpf.c"), path)
    return path


def _per_call(target: Target, calls: int, asked: str = "calls") -> float:
    target.ask(f"{asked} {calls}")
    return target.answer() * 1e9 / calls


def _cost(programs: Programs, command: list[str], asked: str) -> Sequence[float]:
    with Target(programs.target) as target:
        untraced = _per_call(target, 5_000_000, asked)
        with Tool(programs, command) as tool:
            ready(target, tool)
            _per_call(target, _CALLS // 10, asked)
            traced = statistics.median(_per_call(target, _CALLS, asked) for _ in range(_SAMPLES))
            tool.end()
    return (traced - untraced,)


def ready(target: Target, tool: Tool) -> None:
    target.ask("watch")
    target.answer(tool)
    time.sleep(0.1)  # a tool with a probe at the return may not be ready yet


def line_cost(programs: Programs, command: list[str]) -> Sequence[float]:
    """The same of a tool that shows a line a call."""
    calls = 10_000
    with Target(programs.target) as target:
        target.ask(f"values {calls * 100} 0")
        untraced = target.answer() / (calls * 100)
        with Tool(programs, command) as tool:
            ready(target, tool)
            costs = []
            for _ in range(_SAMPLES):
                target.ask(f"values {calls} 0")
                costs.append(target.answer() / calls)
                time.sleep(0.2)  # for the tool to empty its buffer: what it loses costs less
            tool.end()
    return ((statistics.median(costs) - untraced) * 1e9,)


def _parts(bench: Bench) -> Table:
    """The kernel's own measure of the tools' programs; the rest of a call is the trap, and who reads."""
    table = Table(
        "Of that, what the tool's own programs run for, ns",
        [NS, Metric("runs a call", 1, plain=True)],
        "As the kernel counts it (BPF_ENABLE_STATS), its two readings of the clock included. What is missing to the"
        " table"
        "\nabove is the kernel's: the trap, an emulated or single-stepped instruction, the return probe.",
    )
    turns = []
    for job in _JOBS:
        for one in bench.contestants:
            command = one.line(job, bench.programs.target, "traced_values" if job == TRACE else Target.function)
            if command and one.family != "bcc":
                turns.append(Turn(job, one.name, functools.partial(_run_time, bench.programs, command, job)))
    with runtimes.statistics():
        take_turns(table, turns, min(bench.rounds, 3))
    return table


def _run_time(programs: Programs, command: list[str], job: str) -> Sequence[float]:
    with Target(programs.target) as target, Tool(programs, command) as tool:
        ready(target, tool)
        before = runtimes.of_processes(tool.processes())
        target.ask(f"values {_CALLS} 0" if job == TRACE else f"calls {_CALLS}")
        target.answer()
        after = runtimes.of_processes(tool.processes())
        tool.end()
    time = sum(after[number][0] - before[number][0] for number in before.keys() & after.keys())
    runs = sum(after[number][1] - before[number][1] for number in before.keys() & after.keys())
    return time / _CALLS, runs / _CALLS
