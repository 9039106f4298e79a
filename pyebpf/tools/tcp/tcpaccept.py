# SPDX-License-Identifier: BSD-2-Clause
"""tcpaccept: passive TCP connections, as they are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import PID, Column, Tool

# bpf/include/accept.bpf.h
ACCEPT_NEEDS = (
    Need("accepted connections", (("on_accept",), ("exit_accept", "exit_accept4"))),
    Need("accepts through io_uring", (("on_accept",),), optional=True),
)


class Accept(NamedTuple):
    """A connection that was accepted.

    Attributes:
        time: when it was, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who accepted it; numbers as our /proc shows them, the name as raw bytes.
        ip: 4 or 6, as on the wire.
        raddr, rport: the client.
        laddr, lport: our end.
        netns: inode number of the network namespace.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    ip: int
    raddr: str
    rport: int
    laddr: str
    lport: int
    netns: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def tcpaccept(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
) -> EventSession[Accept]:
    """Shows TCP connections as they are accepted, by the process that accepts them.

    Args:
        pid, uid, cgroup, netns, family, local_ports: whose, and which; see `pyebpf.tools.scope.Scope`.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family, local_ports=tuple(local_ports))
    events = KernelEvents("tcpaccept", ACCEPT_NEEDS, scope)
    layout = events.object.btf.layout("accept_event")

    def decode(record: memoryview) -> Accept:
        actor, flow, _ = layout.unpack(record)
        ip, local, remote = addresses(flow)
        return Accept(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, ip, remote, flow.remote_port, local,
            flow.local_port, flow.netns,
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="tcpaccept",
    description="Show each TCP connection that is accepted (accept(2)), by the process that accepts it.",
    verb=tcpaccept,
    needs=ACCEPT_NEEDS,
    kind="accept",
    headline="Tracing accepts",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "command"),
    letters={"local_ports": "-P"},
    columns=(
        PID,
        Column("COMM", 12, lambda e: e.comm),
        Column("IP", 2, lambda e: e.ip),
        Column("RADDR", 16, lambda e: e.raddr),
        Column("RPORT", 5, lambda e: e.rport),
        Column("LADDR", 16, lambda e: e.laddr),
        Column("LPORT", 0, lambda e: e.lport),
    ),
    examples=(
        "pyebpf tcpaccept                    # all accepted connections",
        "pyebpf tcpaccept -P 80,443          # to two local ports",
        "pyebpf tcpaccept -p 1234 -T         # of one process, with the time of day",
    ),
)
