# SPDX-License-Identifier: BSD-2-Clause
"""Attaching to 1 to 10,000 functions of a running program, and letting go of them."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence

from bench import Bench
from contestants import COUNT
from processes import Failed, Target, Tool
from results import Metric, Table, Turn, take_turns

_GROUPS = {"one_": 1, "hundred_": 100, "thousand_": 1000, "myriad_": 10_000}
_LONGEST = 60  # seconds: whoever would take longer for a group isn't asked


def measure(bench: Bench) -> list[Table]:
    """A count of the calls of each group's functions."""
    table = Table(
        "Attach to functions, and detach",
        [Metric("start to all attached, ms"), Metric("Ctrl-C to all released, ms"),
         Metric("peak memory, MB", 1, peak=True), Metric("CPU, ms")],
        "Functions of a C program with 11,101, which is running: it sees its own first instructions change, and"
        " change back"
        "\n(the kernel's part included, however long after the tool is gone). One wildcard for each number.",
    )  # fmt: skip
    path = _program(bench)
    turns = []
    for number, (prefix, count) in enumerate(_GROUPS.items()):
        for one in bench.contestants:
            command = one.line(COUNT, path, f"{prefix}*")
            if command and not one.options:
                measured = functools.partial(_attach, bench, path, command, table, one.name, number)
                turns.append(Turn(f"{count:,}", one.name, measured))
    take_turns(table, turns, min(bench.rounds, 5))
    return [table]


def _program(bench: Bench) -> str:
    names = [f"{prefix}{number}" for prefix, count in _GROUPS.items() for number in range(count)]
    with open(os.path.join(bench.programs.directory, "many.h"), "w", encoding="utf-8") as file:
        file.writelines(f"FUNCTION({name})\n" for name in names)
    sizes = ", ".join(map(str, _GROUPS.values()))
    return bench.programs.compile("many", "-O1", f"-I{bench.programs.directory}", f"-DSIZES={sizes}")


def _attach(
    bench: Bench, path: str, command: list[str], table: Table, who: str, group: int
) -> Sequence[float]:
    counts = list(_GROUPS.values())
    if group:
        before = f"{counts[group - 1]:,}"
        earlier = table.rows.get((before, who))
        if earlier is None or earlier.said:
            raise Failed(f"not run: see {before}")
        seconds = (table.value(before, who, table.metrics[1]) or 0) / 1e3
        if seconds * counts[group] / counts[group - 1] > _LONGEST and seconds > 1:
            raise Failed(f"not run: {before} took it {seconds:.0f} s to release")
    with Target(path) as target:
        target.ask(f"watch {group}")
        with Tool(bench.programs, command, limit=300) as tool:
            attached = target.answer(tool, _LONGEST)
            time.sleep(0.3)
            told = time.monotonic()
            outcome = tool.end()
            target.ask(f"clear {group}")
            released = max(target.answer(limit=2 * _LONGEST), outcome.end)
    return (attached - outcome.start) * 1e3, (released - told) * 1e3, outcome.memory, outcome.cpu * 1e3
