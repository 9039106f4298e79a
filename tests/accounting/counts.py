# SPDX-License-Identifier: BSD-2-Clause
"""Counts and histograms: what intervals add up to is what the program counted itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import firing
import targets
import traffic
from accounting import ledger
from accounting.ledger import Entry, by_kind, case, number
from accounting.making import many

import pyebpf

INTERVAL = 0.01  # seconds


def by_intervals(session: Any, calls: Callable[[Any], int], make: Callable[[], int]) -> tuple[int, int]:
    """Lets a program work while intervals are taken one after the other; what it made, and what they add up to."""
    total, over = [0], threading.Event()

    def read() -> None:
        while not over.is_set():
            total[0] += calls(session.interval())
            over.wait(INTERVAL)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        made = make()
    finally:
        over.set()
        reader.join()
    session.detach()
    return made, total[0] + calls(session.interval())


def of_counts(report: Any) -> int:
    return int(sum(report.values()))


def of_histograms(report: Any) -> int:
    return int(report.total().count)


def of_lists(report: Any) -> int:
    return sum(one.calls for one in report)


# Verb, command, options besides the process, what an interval's report counts.
FUNCTIONS: tuple[tuple[str, str, dict[str, Any], Callable[[Any], int]], ...] = (
    ("count", "funccount", {}, of_counts),
    ("latency", "funclatency", {}, of_histograms),
    ("argdist", "argdist", {"counts": ["thread"]}, of_lists),
    ("argdist", "argdist", {"histograms": ["i"]}, of_lists),
    ("stacks", "stackcount", {}, lambda report: int(report.calls)),
)  # fmt: skip


def _losses(session: Any) -> dict[str, int]:
    return ledger.lost(session.losses)


def _functions(verb: str, command: str, options: dict[str, Any], calls: Callable[[Any], int]) -> None:
    what = f", {next(iter(options))}" if options else ""

    @case(command)
    def intervals(scale: float) -> Iterator[Entry]:
        with many("call", number(scale, 50_000), 4) as (target, make):
            with getattr(pyebpf, verb)(f"{target.path}:many_calls", pid=target.pid, **options) as session:
                made, seen = by_intervals(session, calls, make)
                yield Entry(command, f"intervals of 10 ms, 4 threads{what}", made, seen, _losses(session))
        with many("call", number(scale, 20_000), 4) as (target, make), ExitStack() as stack:
            sessions = [
                stack.enter_context(getattr(pyebpf, verb)(f"{target.path}:many_calls", pid=target.pid, **options))
                for _ in range(3)
            ]
            made = make()
            for place, session in enumerate(sessions, 1):
                session.detach()
                yield Entry(command, f"the {place}. of three sessions at once{what}", made, calls(session.interval()),
                            _losses(session))  # fmt: skip
        with many("child", number(scale, 200, 5), 2) as (target, make):
            with getattr(pyebpf, verb)(f"{target.path}:many_calls", **options) as session:
                made, seen = by_intervals(session, calls, make)
                yield Entry(command, f"a child each 100 calls, all processes{what}", made, seen, _losses(session))


for row in FUNCTIONS:
    _functions(*row)


@case("argdist")
def more_values_than_fit(scale: float) -> Iterator[Entry]:
    """A distinct value each call."""
    with many("call", 40_000, 1) as (target, make):
        with pyebpf.argdist(f"{target.path}:many_calls", counts=["i"], pid=target.pid) as session:
            made = make()
            session.detach()
            yield Entry("argdist", "more distinct values than the table holds", made, of_lists(session.interval()),
                        _losses(session))  # fmt: skip


@case("funclatency")
def left_by_longjmp(scale: float) -> Iterator[Entry]:
    with many("jump", number(scale, 30_000), 2) as (target, make):
        with pyebpf.latency(f"{target.path}:many_jumps", pid=target.pid) as session:
            made, seen = by_intervals(session, of_histograms, make)
            losses = session.losses
            kinds = ledger.lost(losses)
            kinds["left"] = losses.abandoned + losses.in_progress
            yield Entry("funclatency", "calls that longjmp leaves", made, seen, kinds)


@case("trace")
def filters(scale: float) -> Iterator[Entry]:
    """What a filter leaves out is neither made nor lost, but counted."""
    with many("call", number(scale, 50_000), 4) as (target, make):
        with pyebpf.trace(f"{target.path}:many_calls", args=["i"], filter="thread == 2", pid=target.pid) as session:
            made = make()
            session.detach()
            delivered, losses = sum(1 for _ in session.drain()), session.losses
            yield Entry("trace", "a filter that one of 4 threads passes", made // 4, delivered, ledger.lost(losses),
                        f"left out {losses.rejected:,} = {made - made // 4:,}" if losses.rejected == made - made // 4
                        else f"left out {losses.rejected:,} ≠ {made - made // 4:,}")  # fmt: skip
            yield Entry("trace", "the calls that it left out", made - made // 4, losses.rejected)


# Go


@case("funclatency")
def goroutines_that_change_thread(scale: float) -> Iterator[Entry]:
    for program, functions in (("migrate", ("main.asks", "main.nap")), ("recurse", ("main.recurse",))):
        with targets.run(targets.go_program(program)) as target:
            names = [f"{target.path}:{function}" for function in functions]
            with pyebpf.count(*names, pid=target.pid) as counts, pyebpf.latency(*names, pid=target.pid) as session:
                truth = target.go()
                counts.detach(), session.detach()
                numbers, histograms = counts.snapshot(), session.snapshot()
            for function in functions:
                made = truth["calls"][function]
                yield Entry("funccount", f"Go, {program}: {function}", made, numbers[function])
                returned = truth["returns"][function]
                yield Entry("funclatency", f"Go, {program}: {function}", returned, histograms[function].count)


# Connections


@case("tcptop")
def bytes_by_intervals(scale: float) -> Iterator[Entry]:
    count, payload = number(scale, 5_000), 997
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        listener = server.listen()

        def make() -> int:
            served = server.serve(listener, count)
            sent = client.burst(listener, count, payload=payload).result()["bytes"]
            assert served.result()["bytes"] == sent
            return int(2 * sent)

        with pyebpf.tcptop(netns=net.inode) as top, pyebpf.tcpsubnet("127.0.0.0/8", netns=net.inode) as subnet:
            made, seen = by_intervals(top, lambda rows: sum(row.tx_bytes + row.rx_bytes for row in rows), make)
            yield Entry("tcptop", "bytes sent and received, intervals of 10 ms", made, seen, _losses(top))
            subnet.detach()
            sent = sum(row.bytes for row in subnet.snapshot())
            yield Entry("tcpsubnet", "bytes sent", made // 2, sent, _losses(subnet))


@case("tcpsynbl")
def backlogs(scale: float) -> Iterator[Entry]:
    count = number(scale, 5_000)
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        listener = server.listen()

        def make() -> int:
            served = server.serve(listener, count)
            made = int(client.burst(listener, count, reset=True).result()["made"])
            served.result()
            return made

        with pyebpf.tcpsynbl(netns=net.inode) as session:
            made, seen = by_intervals(
                session, lambda report: sum(one.histogram.count for one in report.backlogs), make
            )
            yield Entry("tcpsynbl", "SYNs, intervals of 10 ms", made, seen, _losses(session))


@case("tcprtt")
def round_trips(scale: float) -> Iterator[Entry]:
    """A value for each segment that an established connection receives, by the connections' own counters (TCP_INFO)."""
    count = number(scale, 997, 23)
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        pairs = [traffic.connected(client, server, host) for host in (right.v4, right.v6)]

        def received() -> int:
            return sum(int(ours.info()["segs_in"]) for ours, _ in pairs)

        def make() -> int:
            before = received()
            for _ in range(count):
                for ours, theirs in pairs:
                    ours.send(10), theirs.receive(10)
                    theirs.send(10), ours.receive(10)
            for pair in pairs:
                for end in pair:
                    targets.until(lambda end=end: not end.info()["unacked"])
            return received() - before

        with firing.runs(left.net.inode, "on_received") as fired, pyebpf.tcprtt(netns=left.net.inode) as session:
            made, seen = by_intervals(session, lambda rows: sum(row.histogram.count for row in rows), make)
            more = by_kind(unfired=max(0, made - fired()))
            yield Entry("tcprtt", "segments, intervals of 10 ms", made, seen, {**_losses(session), **more})


@case("tcpcong")
def congestion(scale: float) -> Iterator[Entry]:
    """Connections that lose a segment: to "loss" when the timer has run out, and back when it has arrived."""
    count = number(scale, 200, 7)
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")

        def make() -> int:
            pairs = [traffic.connected(client, server, right.v4) for _ in range(count)]
            right.lose()
            for ours, _ in pairs:
                ours.send(997)
            for state in (4, 0):  # enum tcp_ca_state, as TCP_INFO has it: Loss, Open
                for ours, _ in pairs:
                    targets.until(lambda ours=ours, state=state: ours.info()["ca_state"] == state)
                right.mend()
            return 2 * count

        with firing.runs(left.net.inode, "on_congestion") as fired, pyebpf.tcpcong(netns=left.net.inode) as session:
            made, seen = by_intervals(session, lambda rows: sum(row.changes for row in rows), make)
            more = {**_losses(session), **by_kind(unfired=max(0, made - fired()))}
            yield Entry("tcpcong", "changes of state, intervals of 10 ms", made, seen, more)
            lasted = sum(histogram.count for histogram in session.lasted().values())
            yield Entry("tcpcong", "states that ended", made, lasted, more)
