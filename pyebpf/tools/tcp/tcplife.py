# SPDX-License-Identifier: BSD-2-Clause
"""tcplife: TCP connections that have ended, how long they lived and what they carried."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from pyebpf.core.object import Object
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.owners import NEEDS as OWNER_NEEDS
from pyebpf.tools.tcp.owners import owner_of
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import PID, Column, Option, Tool

_NEEDS = (
    Need("changes of a connection's state", (("on_state",),)),
    *OWNER_NEEDS[1:],  # who connects and listens is seen by on_state
)

# Bytes, a power of 2: room for a burst of 10,000 connections, which the kernel makes faster than lines are printed.
_BUFFER = 4 << 20


class Life(NamedTuple):
    """A connection that has ended, or an attempt at one.

    Attributes:
        time: of its end, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who connected or accepted it, or held it when tracing began; None: not known (nobody had
            accepted it yet).
        ip: 4 or 6.
        laddr, lport: our end.
        raddr, rport: the other.
        tx_bytes: data sent and acknowledged by the peer.
        rx_bytes: data received and acknowledged.
        duration: from its establishment (if that never came: from its beginning) to its end, ns. None: it is older than
            the tracing.
        observed: of such a connection, how long it was seen: it lived longer than so many ns. Else None.
        netns: inode number of the network namespace.
    """

    time: int
    pid: Optional[int]
    tid: Optional[int]
    uid: Optional[int]
    comm: Optional[bytes]
    ip: int
    laddr: str
    lport: int
    raddr: str
    rport: int
    tx_bytes: int
    rx_bytes: int
    duration: Optional[int]
    observed: Optional[int]
    netns: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def tcplife(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
    remote_ports: Iterable[int] = (),
) -> EventSession[Life]:
    """Shows TCP connections as they end.

    Args:
        pid: owned by this process, or one of these.
        uid, cgroup: owned by a process of this real user ID, in this cgroup2 directory or below.
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

    def configure(obj: Object) -> None:
        obj.maps["events"].max_entries = _BUFFER

    events = KernelEvents("tcplife", _NEEDS, scope, configure)
    began = time.monotonic_ns()
    layout = events.object.btf.layout("life_event")

    def decode(record: memoryview) -> Life:
        actor, flow, forgotten, begun, sent, received = layout.unpack(record)
        ip, local, remote = addresses(flow)
        return Life(
            actor.time, *owner_of(actor), ip, local, flow.local_port, remote, flow.remote_port, sent, received,
            actor.time - begun if begun else None, None if begun or forgotten else max(0, actor.time - began),
            flow.netns,
        )  # fmt: skip

    return EventSession(events, decode)


def _milliseconds(life: Life) -> str | None:
    if life.duration is not None:
        return f"{life.duration / 1e6:.2f}"
    return None if life.observed is None else f">{life.observed / 1e6:.2f}"


TOOL = Tool(
    name="tcplife",
    description="Show TCP connections as they end: whose they were, what they carried, and how long they lived.",
    verb=tcplife,
    needs=_NEEDS,
    kind="life",
    headline="Tracing the lives of TCP connections",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "remote_ports", "command"),
    options=(
        Option("", ("-w", "--wide"), "wider columns, which IPv6 addresses fit into"),
        Option("", ("-s", "--csv"), "comma-separated values"),
    ),
    examples=(
        "pyebpf tcplife -p 1234        # one process's connections",
        "pyebpf tcplife -stT           # comma-separated, with both times",
        "pyebpf tcplife -L 80,443      # of a web server",
        "pyebpf tcplife -c 'curl -s https://example.org'",
    ),
    columns=(
        PID,
        Column("COMM", 10, lambda e: e.comm, "!wide"),
        Column("COMM", 16, lambda e: e.comm, "wide"),
        Column("IP", 2, lambda e: e.ip, "wide|csv"),
        Column("LADDR", 15, lambda e: e.laddr, "!wide"),
        Column("LADDR", 39, lambda e: e.laddr, "wide"),
        Column("LPORT", 5, lambda e: e.lport),
        Column("RADDR", 15, lambda e: e.raddr, "!wide"),
        Column("RADDR", 39, lambda e: e.raddr, "wide"),
        Column("RPORT", 5, lambda e: e.rport),
        Column("TX_KB", 6, lambda e: f"{e.tx_bytes / 1024:.2f}", right=True),
        Column("RX_KB", 6, lambda e: f"{e.rx_bytes / 1024:.2f}", right=True),
        Column("MS", 0, _milliseconds),
    ),
)
