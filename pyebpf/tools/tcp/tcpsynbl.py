# SPDX-License-Identifier: BSD-2-Clause
"""tcpsynbl: how full the queues of accepted connections are, as histograms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.hooks import iterate
from pyebpf.core.object import Object
from pyebpf.tools.events import KernelEvents, KernelSession, Need
from pyebpf.tools.histogram import BUCKETS, Histogram, highest, plain_rows
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.owners import NEEDS as _OWNERS
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import Option, Tool

_NEEDS = (
    Need("connections that come about", (("on_ack4", "on_ack6"), ("on_ack4_kprobe", "on_ack6_kprobe"),
                                         ("on_established",))),
    Need("who begins and ends to listen", (("on_listen",),)),
)  # fmt: skip
_LOOK = "prime_listeners"


class Backlog(NamedTuple):
    """How many connections waited to be accepted when another one came.

    Attributes:
        limit: of the queues: what listen(2) was given, or less (net.core.somaxconn).
        histogram: of lengths. The maximum isn't kept: it is the last bucket's bound.
    """

    limit: int
    histogram: Histogram

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        one = self.histogram
        return {"limit": self.limit, "count": one.count, "total": one.total, "buckets": plain_rows(one)}


class TurnedAway(NamedTuple):
    """What a listener dropped: SYNs and last ACKs of handshakes, as its queue was full, or for want of memory.

    Attributes:
        ip, laddr, lport: where it listens.
        limit: of its queue.
        netns: inode number of the network namespace.
        packets: how many; a client that tries again counts again.
    """

    ip: int
    laddr: str
    lport: int
    limit: int
    netns: int
    packets: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class Backlogs(NamedTuple):
    """What was seen of accept queues.

    Attributes:
        backlogs: by limit, ascending.
        turned_away: by listener, those with the most last; without those that dropped nothing.
    """

    backlogs: list[Backlog]
    turned_away: list[TurnedAway]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return as_dict(self)


class BacklogSession(Intervals[Backlogs], KernelSession):
    """Looks at accept queues while it is open. Counters live in the kernel and are never reset."""

    def __init__(self, events: KernelEvents, notes: Iterable[str]) -> None:
        super().__init__(events, tuple(notes))
        self._before: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._dropped_before: dict[int, int] = {}

    @while_open
    def interval(self) -> Backlogs:
        """Since the last call of this method (or since the session began)."""
        obj = self._events.object
        rows = {limit: (value.total, value.buckets[:BUCKETS]) for limit, value in obj.maps["backlogs"].items()}
        backlogs = []
        for limit, (total, buckets) in sorted(rows.items()):
            total_before, before = self._before.get(limit, (0, (0,) * BUCKETS))
            buckets = tuple(now - then for now, then in zip(buckets, before))
            histogram = Histogram(buckets, total - total_before, highest(buckets))
            if histogram.count:
                backlogs.append(Backlog(limit, histogram))
        self._before = rows
        iterate(obj.programs[_LOOK])
        turned_away, dropped = [], {}
        for key, one in obj.maps["listeners"].items():
            dropped[key] = one.earlier + (one.last - one.before & 0xFFFFFFFF)
            count = dropped[key] - self._dropped_before.get(key, 0)
            if count > 0:
                ip, local, _ = addresses(one.flow)
                turned_away.append(TurnedAway(ip, local, one.flow.local_port, one.most, one.flow.netns, count))
        self._dropped_before = dropped
        return Backlogs(backlogs, sorted(turned_away, key=lambda one: (one.packets, one)))


def tcpsynbl(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
) -> BacklogSession:
    """Collects how many connections wait to be accepted when another one comes.

    Args:
        pid, uid, cgroup: of sockets that such a process listens on; see `pyebpf.tools.scope.Scope`.
        netns, family, local_ports: see there too.

    Raises:
        TargetNotFound, TargetError: the scope names what doesn't exist.
        Unsupported: this kernel lacks what it takes.
    """
    by_owner = pid is not None or uid is not None or cgroup is not None

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["filter_owner"] = by_owner

    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family, local_ports=tuple(local_ports))
    events = KernelEvents("tcpsynbl", (*_OWNERS, *_NEEDS) if by_owner else _NEEDS, scope, configure)
    notes = []
    if "on_established" in events.used:
        notes.append(
            "a connection that meets a full queue isn't in the histogram here, only among those turned away"
        )
        if by_owner:
            notes.append("of a port that several processes listen on, all connections are counted")
    return BacklogSession(events, notes)


TOOL = Tool(
    name="tcpsynbl",
    description="Show how many connections wait to be accepted when another one comes, as a histogram for each limit "
    "of such queues (backlog_max), and what listeners turn away.",
    verb=tcpsynbl,
    needs=(*_OWNERS, *_NEEDS),
    kind="backlog",
    headline="Tracing accept queues",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports"),
    options=(Option("", ("-T", "--timestamp"), "print the time with each report"),),
    columns=(),
    examples=(
        "pyebpf tcpsynbl                # until Ctrl-C",
        "pyebpf tcpsynbl -T 1 10        # every second, ten times",
        "pyebpf tcpsynbl -L 80,443      # of a web server",
    ),
)
