# SPDX-License-Identifier: BSD-2-Clause
"""tcptop: what each process sends and receives on each connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.map import Map
from pyebpf.tools.events import KernelEvents, KernelSession, Need
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.sent import SENDS, notes_of
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import Option, Tool

_NEEDS = (
    *SENDS,
    Need("what is received", (("on_received",),)),
    Need("changes of a connection's state", (("on_state",),)),
    Need("closed sockets", (("on_destroy",),)),
)


class Traffic(NamedTuple):
    """What a process sent and received on a connection.

    Attributes:
        pid, comm: of the process.
        ip: 4 or 6.
        laddr, lport: our end.
        raddr, rport: the other.
        tx_bytes: data that TCP took from it.
        rx_bytes: data that it took from TCP; what it only looked at (MSG_PEEK) isn't in it.
        netns: inode number of the network namespace.
    """

    pid: int
    comm: bytes
    ip: int
    laddr: str
    lport: int
    raddr: str
    rport: int
    tx_bytes: int
    rx_bytes: int
    netns: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class TrafficSession(Intervals["list[Traffic]"], KernelSession):
    """Counts what processes send and receive while it is open."""

    def __init__(self, events: KernelEvents) -> None:
        super().__init__(events, notes_of(events))
        maps = events.object.maps
        self._current: Map = maps["current"]
        self._tables = [maps["uses_odd"], maps["uses_even"]]  # the empty one, and the one in use

    @while_open
    def interval(self) -> list[Traffic]:
        """What was sent and received since the last call of this method (or since the session began), most first."""
        empty, used = self._tables
        self._current[0] = empty.fd.to_bytes(4, "little")  # returns when no program uses the other any more
        self._tables = [used, empty]
        found = []
        for use, traffic in used.take():
            ip, local, remote = addresses(use.flow)
            ports = use.flow.local_port, use.flow.remote_port
            found.append(
                Traffic(use.tgid, traffic.comm, ip, local, ports[0], remote, ports[1], traffic.sent, traffic.received,
                        use.flow.netns)
            )  # fmt: skip
        found.sort(key=lambda traffic: (-traffic.tx_bytes - traffic.rx_bytes, traffic))
        return found


def tcptop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
    remote_ports: Iterable[int] = (),
) -> TrafficSession:
    """Counts what processes send and receive, by connection.

    Args:
        pid: by this process, or one of these.
        uid, cgroup: by processes of this real user ID, in this cgroup2 directory or below.
        netns: in this network namespace: a path, a name of ``ip netns``, or an inode number.
        family: 4 or 6.
        local_ports, remote_ports: with one of these; empty: all.

    Raises:
        Unsupported, PermissionDenied, LoadError, AttachError, LibbpfMissing: this host won't.
        TargetNotFound, TargetError: the scope names what doesn't exist.
    """
    scope = scope_of(
        pid, uid=uid, cgroup=cgroup, netns=netns, family=family, local_ports=tuple(local_ports),
        remote_ports=tuple(remote_ports),
    )  # fmt: skip
    return TrafficSession(KernelEvents("tcptop", _NEEDS, scope))


TOOL = Tool(
    name="tcptop",
    description="Show what each process sends and receives on each TCP connection, most first.",
    verb=tcptop,
    needs=_NEEDS,
    kind="traffic",
    headline="Tracing what is sent and received",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "remote_ports", "command"),
    options=(
        Option("", ("-C", "--noclear"), "don't clear the screen"),
        Option("", ("-S", "--nosummary"), "no line with the system's load"),
    ),
    examples=(
        "pyebpf tcptop                 # every second",
        "pyebpf tcptop -C 5 3          # three times five seconds, one below the other",
        "pyebpf tcptop -p 1234         # one process",
    ),
    columns=(),
)
