# SPDX-License-Identifier: BSD-2-Clause
"""tcpcong: how long TCP connections are in each state of congestion control."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.tools.events import KernelEvents, KernelSession, Need
from pyebpf.tools.histogram import BUCKETS, Histogram, highest
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.owners import NEEDS as _OWNERS
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import Option, Tool

_NEEDS = (
    *_OWNERS,
    Need("changes of congestion control (since Linux 5.19)", (("on_congestion",),)),  # before, no function of its own
    Need("connections that begin and end", (("on_state",),)),
)
STATES = ("open", "disorder", "cwr", "recovery", "loss")  # enum tcp_ca_state, include/uapi/linux/tcp.h


class Congestion(NamedTuple):
    """How long a connection was in each state.

    Attributes:
        pid, comm: who owned it when it first changed its state; None: not known.
        ip: 4 or 6.
        laddr, lport: our end.
        raddr, rport: the other.
        netns: inode number of the network namespace.
        open_ns: all is well.
        disorder_ns: segments came out of order, or were acknowledged twice.
        recovery_ns: lost segments are sent again (fast retransmit).
        cwr_ns: the window was made smaller, as the network or this host asked for it.
        loss_ns: a retransmission timer ran out.
        changes: of the state.
    """

    pid: Optional[int]
    comm: Optional[bytes]
    ip: int
    laddr: str
    lport: int
    raddr: str
    rport: int
    netns: int
    open_ns: int
    disorder_ns: int
    recovery_ns: int
    cwr_ns: int
    loss_ns: int
    changes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class CongestionSession(Intervals["list[Congestion]"], KernelSession):
    """Measures states of congestion control while it is open. Counters live in the kernel and are never reset."""

    def __init__(self, events: KernelEvents) -> None:
        super().__init__(events)
        self._began = time.monotonic_ns()
        self._ended: int | None = None
        self._before: dict[Any, tuple[list[int], int]] = {}
        self._lasted_before: dict[int, tuple[int, tuple[int, ...]]] = {}

    @while_open
    def detach(self) -> None:
        super().detach()
        if self._ended is None:
            self._ended = time.monotonic_ns()

    @while_open
    def interval(self) -> list[Congestion]:
        """Since the last call of this method (or since the session began): connections that changed their state in that
        time, or were not in the state "open" for some of it. Those with the most changes last."""
        table = self._open_map("congestions")
        now = self._ended or time.monotonic_ns()
        found, after, closed = [], {}, []
        for flow, one in table.items():
            spent = list(one.durations)
            if one.first:
                spent[one.old] += max(0, one.first - self._began)
            if one.since:
                spent[one.state] += max(0, now - one.since)
            else:
                closed.append(flow)
            after[flow] = spent, one.changes
            spent_before, changes_before = self._before.get(flow, ([0] * len(STATES), 0))
            times = [max(0, total - before) for total, before in zip(spent, spent_before)]
            changes = max(0, one.changes - changes_before)
            if changes or any(times[1:]):
                found.append(_congestion(flow, one, times, changes))
        if len(after) > table.max_entries // 2:  # make room
            for flow in closed:
                del table[flow], after[flow]
        self._before = after
        return sorted(found, key=lambda one: (one.changes, one.ip, one.laddr, one.lport, one.raddr, one.rport))

    @while_open
    def lasted(self) -> dict[str, Histogram]:
        """How long states lasted that ended since the last call of this method (or since the session began), in µs, by
        state. The maximum isn't kept: it is the last bucket's bound."""
        found = {}
        for index, value in self._open_map("lasting").items():
            buckets = value.buckets[:BUCKETS]
            total_before, before = self._lasted_before.get(index, (0, (0,) * BUCKETS))
            self._lasted_before[index] = value.total, buckets
            counts = tuple(now - then for now, then in zip(buckets, before))
            histogram = Histogram(counts, value.total - total_before, highest(counts))
            if histogram.count:
                found[STATES[index]] = histogram
        return found

    def _open_map(self, name: str) -> Any:
        return self._events.object.maps[name]


def _congestion(flow: Any, one: Any, times: list[int], changes: int) -> Congestion:
    ip, local, remote = addresses(flow)
    by_state = dict(zip(STATES, times))
    return Congestion(
        one.tgid or None, one.comm if one.tgid else None, ip, local, flow.local_port, remote, flow.remote_port,
        flow.netns, by_state["open"], by_state["disorder"], by_state["recovery"], by_state["cwr"], by_state["loss"],
        changes,
    )  # fmt: skip


def tcpcong(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_range: tuple[int, int] = (0, 65535),
    remote_range: tuple[int, int] = (0, 65535),
) -> CongestionSession:
    """Measures how long connections are in each state of congestion control.

    Args:
        pid, uid, cgroup: of sockets that such a process owns; see `pyebpf.tools.scope.Scope`.
        netns, family: see there too.
        local_range, remote_range: only connections with these ports, the first and the last.

    Raises:
        TargetNotFound, TargetError: the scope names what doesn't exist.
        Unsupported: this kernel lacks the tracepoint (Linux 5.19).
    """

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        for side, (first, last) in (("local", local_range), ("remote", remote_range)):
            if not 0 <= first <= last <= 65535:
                raise TargetError(f"ports {first}-{last}: not a range of ports")
            obj.rodata[f"first_{side}_port"], obj.rodata[f"last_{side}_port"] = first, last

    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family)
    return CongestionSession(KernelEvents("tcpcong", _NEEDS, scope, configure))


TOOL = Tool(
    name="tcpcong",
    description="Show how long TCP connections are in each state of congestion control: those that change it.",
    verb=tcpcong,
    needs=_NEEDS,
    kind="congestion",
    headline="Tracing congestion control",
    scope=("pid", "uid", "cgroup", "netns", "family"),
    options=(
        Option("", ("-u", "--microseconds"), "microseconds instead of milliseconds"),
        Option("", ("--dist",), "show how long states lasted, as histograms"),
        Option("", ("-T", "--timestamp"), "print the time with each report"),
    ),
    columns=(),
    examples=(
        "pyebpf tcpcong                     # until Ctrl-C",
        "pyebpf tcpcong -T 1 10             # every second, ten times",
        "pyebpf tcpcong -L 443 -R 32768-60999",
        "pyebpf tcpcong --dist -u           # histograms, in µs",
    ),
)
