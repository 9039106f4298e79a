#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What each tool for TCP and the system costs in the kernel: the time its programs run for one action.

The kernel measures (bpf(2), BPF_ENABLE_STATS), so whatever else the machine does hardly matters. What an event costs
besides, a tracepoint's own work or a uprobe's trap, is not in it: snooping.py measures that from outside.

    python benchmarks/overhead.py [TOOL...]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import causes
import traffic
from bench import Bench
from results import Metric, Table
from runtimes import run_time, statistics

import pyebpf

TIMES = 997

Action = Callable[[], None]


def loaded(session: Any) -> list[Any]:
    return [program for program in session._events.object.programs.values() if program.autoload]


@contextmanager
def connections() -> Iterator[tuple[str, int, Action]]:
    """Short connections with 1,000 bytes: connect, accept, send, receive, close on both sides."""
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        listener = server.listen(backlog=128)

        def act() -> None:
            serving = server.serve(listener, TIMES)
            client.burst(listener, TIMES, payload=1000).result()
            serving.result()

        yield "short connection", TIMES, act


@contextmanager
def acts(
    what: str, act: Callable[[traffic.Actor, Path], None], times: int = TIMES
) -> Iterator[tuple[str, int, Action]]:
    with causes.actor("actor") as actor, tempfile.TemporaryDirectory() as folder:

        def repeat() -> None:
            for _ in range(times):
                act(actor, Path(folder))

        yield what, times, repeat


def cause(tool: str) -> Any:
    """What makes the events of a tool: a context manager of (what, how often, action)."""
    table: dict[str, Any] = {
        "opensnoop": lambda: acts("open", lambda a, f: causes.opens(a, "/etc/hostname") and None),
        "statsnoop": lambda: acts("stat", lambda a, f: causes.stats(a, "/etc/hostname", "newfstatat") and None),
        "execsnoop": lambda: acts("exec", lambda a, f: causes.execs(a, "/bin/true", [b"true", b"x"]) and None, 97),
        "exitsnoop": lambda: acts("exit", lambda a, f: causes.ends(a, "exit") and None, 97),
        "killsnoop": lambda: acts("kill", lambda a, f: causes.kills(a, "kill", a.pid, 0) and None),
        "filelife": lambda: acts("file's life", lambda a, f: causes.lives(a, f / "x") and None),
        "syncsnoop": lambda: acts("fsync", lambda a, f: causes.syncs(a, "fsync", 999) and None),
        "bindsnoop": lambda: acts("bind", lambda a, f: causes.binds(a, "127.0.0.1", 0) and None),
        "shmsnoop": lambda: acts("life of a segment (6 calls)", lambda a, f: causes.segments(a) and None),
        "capable": lambda: acts("chroot", lambda a, f: causes.names(a, "chroot", "/") and None),
        "mountsnoop": lambda: acts("failing umount", lambda a, f: causes.unmounts(a, f / "no") and None),
        "threadsnoop": lambda: acts("thread", lambda a, f: causes.threads(a, 1) and None),
        "gethostlatency": lambda: acts("lookup", lambda a, f: causes.resolves(a, "127.0.0.1") and None),
    }
    return table[tool]() if tool in table else connections() if tool.startswith("tcp") else None


def run_times(tool: str) -> tuple[str, float, float] | None:
    """What makes the tool's events, how many ns its programs run for one of it, and how often."""
    made = cause(tool)
    if made is None:
        return None
    with made as (what, times, act), getattr(pyebpf, tool)() as session:
        programs = loaded(session)
        act()  # warm
        before = [run_time(program.fd) for program in programs]
        act()
        after = [run_time(program.fd) for program in programs]
    time = sum(late[0] - early[0] for late, early in zip(after, before))
    runs = sum(late[1] - early[1] for late, early in zip(after, before))
    return what, time / times, runs / times


def tools() -> list[str]:
    return [
        name for name in pyebpf.__all__
        if name.startswith("tcp") or name.endswith("snoop") or name in ("capable", "filelife", "gethostlatency")
    ]  # fmt: skip


def measure(bench: Bench) -> list[Table]:
    """As a section of RESULTS.md. No peer takes part: their programs can't be told from outside."""
    table = Table(
        "What the event tools' programs run for",
        [Metric("ns an action", plain=True), Metric("runs an action", 1, plain=True)],
        "By the kernel's own count. What an event costs besides (a tracepoint's work, a uprobe's trap) isn't in it.",
    )
    with statistics():
        for _ in range(min(bench.rounds, 3)):
            for tool in tools():
                found = run_times(tool)
                if found:
                    table.add(f"{tool}: {found[0]}", bench.contestants[0].name, *found[1:])
    return [table]


def main() -> None:
    print("| tool | action | its programs run for | times |\n|---|---|---|---|")
    with statistics():
        for tool in sys.argv[1:] or tools():
            found = run_times(tool)
            said = f"{found[0]} | {found[1]:,.0f} ns | {found[2]:.1f}" if found else "not measured | |"
            print(f"| {tool} | {said} |", flush=True)


if __name__ == "__main__":
    main()
