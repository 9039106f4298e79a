# SPDX-License-Identifier: BSD-2-Clause
"""What is measured. Contestants take turns within every round, so that a busy minute hits them all."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

from contestants import COUNT, COUNT_BY_NAME, LATENCY, NOTHING, SLOWER, Contestant
from processes import Background, Programs, Running, Target

SECONDS = 1  # every tool traces for so long


class Whole(NamedTuple):
    """Whole runs of a tool on one function; a value a round.

    Attributes:
        attached: from the start until the function was probed, ms.
        beyond: wall time beyond the traced second, ms.
        memory: peak, MB.
        cpu: ms.
    """

    attached: list[float]
    beyond: list[float]
    memory: list[float]
    cpu: list[float]


class Many(NamedTuple):
    """Runs of a tool on many functions.

    Attributes:
        functions: how many it attached to, as it says.
        beyond: wall time beyond the traced second, seconds; a value a run.
        limit: seconds after which it was killed; None: it wasn't.
    """

    functions: str
    beyond: list[float]
    limit: Optional[int]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def one_function(programs: Programs, tools: Sequence[Contestant], job: str, rounds: int) -> dict[str, Whole]:
    """Start, memory and end of whole runs: one function, which is not called."""
    results: dict[str, Whole] = {}
    for number in range(-1, rounds):  # the first round fills caches and is not counted
        progress(f"one function, {job}: round {number + 1} of {rounds}")
        for tool in tools:
            command = tool.line(job, programs.target, Target.function, SECONDS)
            if command is None:
                continue
            with Target(programs) as target:
                target.ask("watch")
                with Running(programs.launch, command, 60) as running:
                    outcome = running.finish()
                attached = target.answer() - outcome.start
            if number >= 0:
                whole = results.setdefault(tool.name, Whole([], [], [], []))
                whole.attached.append(attached * 1e3)
                whole.beyond.append((outcome.end - outcome.start - SECONDS) * 1e3)
                whole.memory.append(outcome.memory)
                whole.cpu.append(outcome.cpu * 1e3)
    return results


def many_functions(
    programs: Programs, tools: Sequence[Contestant], path: str, pattern: str, rounds: int, limit: int
) -> dict[str, Many]:
    """Whole runs on about a thousand functions of a program that is running idle."""
    results: dict[str, Many] = {}
    with subprocess.Popen([path, "-e", "setInterval(() => {}, 1e6)"], stdin=subprocess.DEVNULL) as idle:
        try:
            time.sleep(1)
            for number in range(rounds):
                for tool in tools:
                    command = tool.line(COUNT, path, pattern, SECONDS)
                    if command is None or (tool.name in results and results[tool.name].limit):
                        continue
                    progress(f"many functions, {tool.name}: round {number + 1} of {rounds}")
                    if tool.family == "bpftrace":
                        command = ["env", "BPFTRACE_MAX_PROBES=100000", *command]
                    outcome = programs.run(command, limit)
                    said = re.search(r"([\d,]+) (function|probe)s", outcome.output)
                    beyond = outcome.end - outcome.start - SECONDS
                    many = results.setdefault(
                        tool.name, Many(said.group(1) if said else "?", [], limit if outcome.killed else None)
                    )
                    many.beyond.append(beyond)
        finally:
            idle.kill()
    return results


def per_call(programs: Programs, tools: Sequence[Contestant], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Nanoseconds that a probe adds to a call: by job, then by tool. The job "" is the untraced call."""
    calls, untraced_calls, samples = 20_000, 5_000_000, 5
    results: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        progress(f"cost per call: round {number + 1} of {rounds}")
        for job in (NOTHING, COUNT, COUNT_BY_NAME, LATENCY, SLOWER):
            for tool in tools:
                # By name is what a tool does that tells functions apart: funccount does it always
                command = tool.line(COUNT if (job, tool.family) == (COUNT_BY_NAME, "pyebpf") else job,
                                    programs.target, Target.function)  # fmt: skip
                if command is None:
                    continue
                with Target(programs) as target:
                    untraced = _per_call(target, untraced_calls)
                    results.setdefault("", {}).setdefault("", []).append(untraced)
                    with Background(command):
                        target.ask("watch")
                        target.answer()
                        time.sleep(0.05)  # a tool with a probe at the return may not be ready yet
                        _per_call(target, calls // 10)
                        costs = sorted(_per_call(target, calls) for _ in range(samples))
                    results.setdefault(job, {}).setdefault(tool.name, []).append(costs[samples // 2] - untraced)
    return results


def _per_call(target: Target, calls: int) -> float:
    target.ask(f"calls {calls}")
    return target.answer() * 1e9 / calls


