# SPDX-License-Identifier: BSD-2-Clause
"""Reading the symbols of large programs."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Sequence

from bench import Bench
from contestants import COUNT, Contestant
from processes import Failed
from results import Metric, Table, Turn, take_turns

_LIMIT = 30  # seconds
_PROGRAMS = (  # name, a function, a wildcard
    ("node", "_ZN4node5StartEiPPc", "_ZN4node6*"),
    ("go", "runtime.mallocgc", "runtime.ma*"),
)


def measure(bench: Bench) -> list[Table]:
    """All names of a program; and whole runs on one and on some of its functions."""
    listed = Table(
        "All functions of a program, listed",
        [Metric("seconds", 2), Metric("CPU, s", 2), Metric("peak memory, MB", 1, peak=True),
         Metric("lines", plain=True)],
        "`pyebpf list PROGRAM:*`, `bpftrace -l 'uprobe:PROGRAM:*'`. The one shows addresses, sizes and demangled"
        " names, the"
        "\nother names.",
    )  # fmt: skip
    attached = Table(
        "Attached by name and by wildcard, for one second",
        [Metric("beyond the second, s", 2), Metric("CPU, s", 2), Metric("peak memory, MB", 1, peak=True)],
        f"A count; the program isn't running. A tool is killed after {_LIMIT} seconds.",
    )
    lists, attaches = [], []
    for name, function, pattern in _PROGRAMS:
        path = shutil.which(name)
        if path is None:
            listed.refuse(name, "(nobody)", "there is no such program on this machine")
            continue
        path = os.path.realpath(path)
        size = f"{name} ({os.path.getsize(path) / 1e6:.0f} MB)"
        for one in bench.contestants:
            command = _list(one, path)
            if command:
                lists.append(Turn(size, one.name, functools.partial(_listed, bench, command)))
            for glob in (function, pattern):
                command = one.line(COUNT, path, glob, 1)
                if command and not one.options:
                    turn = Turn(f"{name}: `{glob}`", one.name, functools.partial(_attached, bench, command))
                    attaches.append(turn)
    rounds = min(bench.rounds, 5)
    take_turns(listed, lists, rounds, warm=True)
    take_turns(attached, attaches, rounds, warm=True)
    return [listed, attached]


def _list(one: Contestant, path: str) -> list[str] | None:
    if one.family == "bpftrace":
        return [*one.command, "-l", f"uprobe:{path}:*"]
    return [*one.command, "list", f"{path}:*"] if one.ours and not one.options else None


def _listed(bench: Bench, command: list[str]) -> Sequence[float]:
    outcome = bench.programs.run(command, _LIMIT)
    if outcome.killed:
        raise Failed(f"took more than {_LIMIT} s")
    return outcome.end - outcome.start, outcome.cpu, outcome.memory, outcome.output.count(b"\n")


def _attached(bench: Bench, command: list[str]) -> Sequence[float]:
    outcome = bench.programs.run(command, _LIMIT)
    if outcome.killed:
        gone = outcome.end - outcome.start
        raise Failed(f"took more than {_LIMIT} s" + (f"; released after {gone:.0f} s" if gone > _LIMIT + 1 else ""))
    if outcome.end - outcome.start < 1:
        raise Failed("ended before its second was over")
    return outcome.end - outcome.start - 1, outcome.cpu, outcome.memory
