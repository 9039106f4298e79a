# SPDX-License-Identifier: BSD-2-Clause
"""tcpconnect: active TCP connections, and those that failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import Column, Option, Tool

_NEEDS = (
    Need("changes of a connection's state", (("on_state",),)),
    Need("closed sockets", (("on_destroy",),)),
)


class Connect(NamedTuple):
    """A connect(2) that was answered, or given up.

    Attributes:
        time: of the answer, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who called connect(2).
        ip: 4 or 6.
        saddr, sport: our end.
        daddr, dport: the other.
        errno: 0, or why it failed.
        latency: from connect(2) to the answer, ns.
        netns: inode number of the network namespace.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    ip: int
    saddr: str
    sport: int
    daddr: str
    dport: int
    errno: int
    latency: int
    netns: int


def tcpconnect(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    remote_ports: Iterable[int] = (),
) -> EventSession[Connect]:
    """Shows active connections."""
    scope = scope_of(
        pid, uid=uid, cgroup=cgroup, netns=netns, family=family, remote_ports=tuple(remote_ports)
    )
    events = KernelEvents("tcpconnect", _NEEDS, scope)
    layout = events.object.btf.layout("connect_event")

    def decode(record: memoryview) -> Connect:
        actor, flow, error, _, duration = layout.unpack(record)
        ip, local, remote = addresses(flow)
        return Connect(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, ip, local, flow.local_port, remote,
            flow.remote_port, error, duration, flow.netns,
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="tcpconnect",
    summary="show active connections, and those that fail",
    description="Show each active TCP connection (connect(2)), also those that fail, with the error.",
    verb=tcpconnect,
    kind="connect",
    headline="Tracing connects",
    scope=("pid", "uid", "cgroup", "netns", "family", "remote_ports"),
    letters={"remote_ports": "-P"},
    options=(Option("", ("-U", "--print-uid"), "show the user ID"),),
    columns=(
        Column("UID", 6, lambda e: e.uid, "print-uid"),
        Column("PID", 7, lambda e: e.pid),
        Column("COMM", 12, lambda e: e.comm),
        Column("IP", 2, lambda e: e.ip),
        Column("SADDR", 16, lambda e: e.saddr),
        Column("DADDR", 16, lambda e: e.daddr),
        Column("DPORT", 5, lambda e: e.dport),
        Column("ERR", 0, lambda e: e.errno),
    ),
)
