#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measures the tools that show what happens on the whole system beside their peers. See README.md; run as root."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

import snooping
from contestants import version
from processes import Programs
from snooping import JOBS, Cost, Failed, Job, Loss, Peer, Shown
from tables import heading, load, ratio, spread, table

EXPERIMENTS = ("start", "cost", "loss")


class Results:
    """What was measured of each tool and contestant, a value a round."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[Any]] = {}
        self.shown: dict[tuple[str, str], list[Shown]] = {}

    def names(self, job: Job) -> list[str]:
        return [name for tool, name in self.values if tool == job.tool]


def main() -> int:
    options = _options()
    if os.geteuid():
        sys.exit("benchmarks/events.py: run as root")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and pass that on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no tool is left running
    peers = snooping.installed(options.pyebpf, version([options.pyebpf, "--version"]), options.peer)
    runner = Runner(peers, options.runs, options.cpu)
    jobs = [job for job in JOBS if not options.tool or job.tool in options.tool]
    line_an_event = [job for job in jobs if job.lines]
    wanted = options.only or EXPERIMENTS
    heading([peer.name for peer in peers])
    if "start" in wanted:
        _print_start(line_an_event, runner.run(line_an_event, snooping.first_line))
    if "cost" in wanted:
        _print_cost(jobs, runner.run(jobs, snooping.cost))
    if "loss" in wanted:
        _print_loss(line_an_event, runner.run([job for job in line_an_event if job.loop != "exec"], snooping.loss))
    if runner.failed:
        print("\nDo not run here:\n")
    for (tool, name), reason in runner.failed.items():
        print(f"* {name}, {tool}: {reason}")
    print(f"\nLoad average at the end: {load()}.")
    return 0


def _options() -> argparse.Namespace:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description="Measure the tools that show events; tables go to standard output.")
    parser.add_argument("--only", action="append", choices=EXPERIMENTS, help="only this (repeatable)")
    parser.add_argument("--tool", action="append", choices=[job.tool for job in JOBS], help="only this (repeatable)")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="rounds (default 7)")
    parser.add_argument("--pyebpf", default=os.path.join(root, ".venv", "bin", "pyebpf"), metavar="PATH",
                        help="the command to measure (default: .venv/bin/pyebpf)")  # fmt: skip
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND",
                        help="a peer; COMMAND contains {tool}, or {program} for bpftrace's -e")  # fmt: skip
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), metavar="N",
                        help="where the events are made (default %(default)s)")  # fmt: skip
    return parser.parse_args()


class Runner:
    """Has contestants take turns, tool by tool and round by round. Who fails once is left out from then on."""

    def __init__(self, peers: Sequence[Peer], rounds: int, cpu: int) -> None:
        self._peers, self._rounds, self._cpu = peers, rounds, cpu
        self._programs = Programs()
        self._programs.compile("events", "-D_GNU_SOURCE")
        self._programs.compile("nothing", "-static")
        self.failed: dict[tuple[str, str], str] = {}

    def run(self, jobs: Sequence[Job], measure: Callable[..., tuple[Any, Shown]]) -> Results:
        results = Results()
        for number in range(self._rounds):
            print(f"{measure.__name__}: round {number + 1} of {self._rounds}", file=sys.stderr)
            for job in jobs:
                for peer in self._peers:
                    key = job.tool, peer.name
                    command = peer.line(job)
                    if command is None or key in self.failed:
                        continue
                    try:
                        value, shown = measure(self._programs, command, job, self._cpu)
                    except Failed as failed:
                        self.failed[key] = str(failed)
                        continue
                    results.values.setdefault(key, []).append(value)
                    results.shown.setdefault(key, []).append(shown._replace(text=b""))  # megabytes
        return results


def _yardsticks(results: Results, job: Job) -> tuple[str, list[str]]:
    """Ours, and the others it is compared with."""
    names = results.names(job)
    ours = next((name for name in names if name.startswith("pyebpf")), "")
    return ours, [name for name in names if name != ours]


def _against(results: Results, job: Job, name: str, value: Callable[[Any], float]) -> str:
    """Ours divided by this contestant's."""
    ours, others = _yardsticks(results, job)
    if not ours or name not in others:
        return ""
    theirs: Optional[list[float]] = [value(one) for one in results.values[job.tool, name]]
    return ratio([value(one) for one in results.values[job.tool, ours]], theirs)


def _memory(results: Results, job: Job, name: str) -> str:
    return f"{max(shown.memory for shown in results.shown[job.tool, name]):.1f}"


def _print_start(jobs: Sequence[Job], results: Results) -> None:
    print("\n## From the start of a tool to its first event, on a terminal; there is an event each millisecond")
    rows = []
    for job in jobs:
        for name in results.names(job):
            rows.append([
                job.tool, name, spread([1000 * seconds for seconds in results.values[job.tool, name]]),
                _against(results, job, name, float), _memory(results, job, name),
            ])  # fmt: skip
    table(["tool", "", "ms", "pyebpf ÷ it", "peak memory, MB"], rows)


def _print_cost(jobs: Sequence[Job], results: Results) -> None:
    print("\n## What a loop costs more while a tool watches")
    print("\nopen: open, close. stat, signal: one each. exec: start a program, wait for it. connect: connect, accept,\n"
          "close, close. message: send, receive. Shown: the share of the events that was shown.")  # fmt: skip
    rows = []
    for job in jobs:
        for name in results.names(job):
            costs: list[Cost] = results.values[job.tool, name]
            rows.append([
                job.tool, name, job.loop, f"{statistics.median(one.without for one in costs):,.0f}",
                spread([one.with_tool - one.without for one in costs]),
                f"{statistics.median(one.with_tool / one.without for one in costs):.2f}",
                _against(results, job, name, lambda one: one.with_tool - one.without),
                f"{100 * min(one.complete for one in costs):.1f} %" if job.lines else "",
                f"{statistics.median(shown.cpu for shown in results.shown[job.tool, name]):.2f}",
                _memory(results, job, name),
            ])  # fmt: skip
    table(["tool", "", "loop", "ns without", "ns added", "with ÷ without", "pyebpf ÷ it (added)", "shown", "CPU, s",
           "peak memory, MB"], rows)  # fmt: skip


def _print_loss(jobs: Sequence[Job], results: Results) -> None:
    print(f"\n## {snooping.LOOPS:,} loops as fast as it goes")
    print("\nNot accounted for: events made, less those shown and those said to be lost.")
    rows = []
    for job in jobs:
        for name in results.names(job):
            losses: list[Loss] = results.values[job.tool, name]
            missing = [one.made - one.shown - one.lost for one in losses]
            rows.append([
                job.tool, name, job.loop, f"{losses[0].made:,}", spread([one.rate for one in losses]),
                spread([one.shown for one in losses]), spread([one.lost for one in losses]),
                f"{min(missing):,} to {max(missing):,}", _memory(results, job, name),
            ])  # fmt: skip
    table(["tool", "", "loop", "events", "events a second", "shown", "said to be lost", "not accounted for",
           "peak memory, MB"], rows)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
