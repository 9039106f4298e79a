#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measures pyebpf beside the peers that are installed. See README.md; run as root."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence

import contestants
import experiments
import tracing
from contestants import COUNT, COUNT_BY_NAME, LATENCY, NOTHING, SLOWER, Contestant
from processes import Programs
from sizes import size
from tables import heading, load, ratio, spread, table

EXPERIMENTS = ("start", "many", "call", "trace", "size")


def main() -> int:
    options = _options()
    if os.geteuid():
        sys.exit("benchmarks/run.py: run as root")
    tools = contestants.find(options.pyebpf, options.peer)
    if len({tool.name for tool in tools}) < len(tools):
        sys.exit("benchmarks/run.py: two contestants have the same name")
    programs = Programs()
    wanted = options.only or EXPERIMENTS
    heading([tool.name for tool in tools])
    if "start" in wanted:
        for job in (LATENCY, COUNT):
            _print_whole(job, experiments.one_function(programs, tools, job, options.runs), tools)
    if "call" in wanted:
        _print_per_call(experiments.per_call(programs, tools, options.runs), tools)
    if "trace" in wanted:
        _print_tracing(tracing.line_a_call(programs, tools, min(options.runs, 3)))
    if "size" in wanted:
        _print_sizes(tools)
    if "many" in wanted:
        path, _, pattern = options.many.rpartition(":")
        if os.path.exists(path):
            results = experiments.many_functions(programs, tools, path, pattern, min(options.runs, 3), options.limit)
            _print_many(options.many, results, tools)
        else:
            print(f"\n(Many functions: not measured, there is no {path}.)")
    print(f"\nLoad average at the end: {load()}.")
    return 0


def _options() -> argparse.Namespace:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(root, ".venv", "bin", "pyebpf")
    parser = argparse.ArgumentParser(description="Measure pyebpf beside its peers; the tables go to standard output.")
    parser.add_argument("--only", action="append", choices=EXPERIMENTS, help="only this (repeatable)")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="rounds (default 7)")
    parser.add_argument("--pyebpf", default=installed if os.path.exists(installed) else shutil.which("pyebpf"),
                        metavar="PATH", help="the command to measure (default: .venv/bin/pyebpf)")  # fmt: skip
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND",
                        help="one more peer; NAME contains bpftrace or funclatency")  # fmt: skip
    parser.add_argument("--many", default="/usr/bin/node:_ZN4node6*", metavar="PATH:GLOB",
                        help="about a thousand functions (default %(default)s)")  # fmt: skip
    parser.add_argument("--limit", type=int, default=60, metavar="SEC",
                        help="kill a tool that takes longer for many functions (default %(default)s)")  # fmt: skip
    options = parser.parse_args()
    if not options.pyebpf:
        parser.error("no pyebpf: make build, or --pyebpf PATH")
    return options


def _yardsticks(tools: Sequence[Contestant], names: Sequence[str]) -> list[str]:
    """Whom the others are compared with: the first bpftrace, and the first C tool."""
    found = []
    for family in ("bpftrace", "funclatency"):
        found += [tool.name for tool in tools if tool.family == family and tool.name in names][:1]
    return found


def _print_whole(
    job: str, results: dict[str, experiments.Whole], tools: Sequence[Contestant]
) -> None:
    yardsticks = _yardsticks(tools, list(results))
    title = {LATENCY: "latency histogram", COUNT: "count"}[job]
    print(f"\n## One function, {title}, one second")
    header = ["", "start to probe attached, ms", *(f"÷ {name}" for name in yardsticks),
              "beyond the second, ms", *(f"÷ {name}" for name in yardsticks), "peak memory, MB", "CPU, ms"]  # fmt: skip
    rows = []
    for name, whole in results.items():
        rows.append([
            name,
            spread(whole.attached), *(ratio(whole.attached, results[other].attached) for other in yardsticks),
            spread(whole.beyond), *(ratio(whole.beyond, results[other].beyond) for other in yardsticks),
            f"{max(whole.memory):.1f}", f"{statistics.median(whole.cpu):.0f}",
        ])  # fmt: skip
    table(header, rows)


def _print_per_call(results: dict[str, dict[str, list[float]]], tools: Sequence[Contestant]) -> None:
    print("\n## What a call costs more, ns")
    untraced = statistics.median(results.pop("")[""])
    print(f"\nAn untraced call takes {untraced:.1f} ns.")
    titles = {NOTHING: "a probe that does next to nothing", COUNT: "count", COUNT_BY_NAME: "count by function name",
              LATENCY: "latency histogram", SLOWER: "calls slower than 1 s (none is)"}  # fmt: skip
    rows = []
    for job, costs in results.items():
        yardstick = next(iter(_yardsticks(tools, list(costs))), None)
        for name, values in costs.items():
            rows.append([titles[job], name, spread(values), ratio(values, costs[yardstick]) if yardstick else ""])
    table(["job", "", "ns a call", "÷ bpftrace"], rows)


def _print_tracing(results: dict[str, tracing.Tracing]) -> None:
    print("\n## A line a call: two integers and a string")
    print(f"\nThe last two columns: {tracing.FASTEST_CALLS:,} calls as fast as the target can.\n"
          "Not accounted for: calls made, less those shown and those said to be lost.")  # fmt: skip
    rows = []
    for name, result in results.items():
        shown = [delivery.shown / delivery.seconds for delivery in result.fastest]
        missing = [delivery.made - delivery.shown - delivery.lost for delivery in result.fastest]
        rows.append([
            name, spread(result.cost), spread(result.without_loss),
            spread(shown), f"{min(missing):,} to {max(missing):,}",
        ])  # fmt: skip
    table(["", "ns a call", "calls a second without loss", "shown for each second of calling", "not accounted for"],
           rows)  # fmt: skip


def _print_many(target: str, results: dict[str, experiments.Many], tools: Sequence[Contestant]) -> None:
    print(f"\n## Many functions: count `{target}`, one second")
    rows = []
    for name, many in results.items():
        beyond = spread(many.beyond, 2)
        if many.limit:
            beyond = f"> {many.limit - experiments.SECONDS} (killed; the kernel let go after {many.beyond[0]:.0f})"
        rows.append([name, many.functions, beyond])
    table(["", "functions (or probes), as it says", "beyond the second, s"], rows)


def _print_sizes(tools: Sequence[Contestant]) -> None:
    print("\n## Disk, MB")
    measure: Callable[[Contestant], tuple[float, float]] = size
    sizes = [(tool.name, measure(tool)) for tool in tools]
    table(["", "own files", "libraries it loads, beyond the C and C++ run-time"],
           [[name, f"{own:.1f}", f"{libraries:.1f}"] for name, (own, libraries) in sizes])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
