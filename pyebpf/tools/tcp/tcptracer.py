# SPDX-License-Identifier: BSD-2-Clause
"""tcptracer: TCP connections as they are made, accepted and closed."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.tcpaccept import ACCEPT_NEEDS
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import PID, Column, Option, Tool

_NEEDS = (
    Need("changes of a connection's state", (("on_state",),)),
    Need("closed sockets", (("on_destroy",),)),
    *ACCEPT_NEEDS,
)
_LETTERS = {"TRACER_CONNECTED": "C", "TRACER_ACCEPTED": "A", "TRACER_CLOSED": "X", "TRACER_ENDED": "X"}


class Traced(NamedTuple):
    """A connection that was made, accepted or closed.

    Attributes:
        time: when, ns of CLOCK_MONOTONIC.
        what: "C": connected; "A": accepted; "X": closed (or shut down for sending) by this end, or broken.
        pid, tid, uid, comm: who did it; of a connection that was broken whose it is, None where that isn't known.
            Numbers as our /proc shows them, the name as raw bytes.
        ip: 4 or 6, as on the wire.
        saddr, sport: our end.
        daddr, dport: the other.
        netns: inode number of the network namespace.
        errno: of "X": 0: closed by a process; else what broke it, such as ECONNRESET or ETIMEDOUT.
        error: its name; None where there is none.
    """

    time: int
    what: str
    pid: Optional[int]
    tid: Optional[int]
    uid: Optional[int]
    comm: Optional[bytes]
    ip: int
    saddr: str
    sport: int
    daddr: str
    dport: int
    netns: int
    errno: int
    error: Optional[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def tcptracer(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
) -> EventSession[Traced]:
    """Shows TCP connections as they are made, accepted and closed, each by the process that does it.

    Args:
        pid, uid, cgroup, netns, family: whose, and which; see `pyebpf.tools.scope.Scope`.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family)
    events = KernelEvents("tcptracer", _NEEDS, scope)
    layout = events.object.btf.layout("tracer_event")
    letters = {number: _LETTERS[name] for name, number in events.object.btf.enumerators("tracer_what").items()}

    def decode(record: memoryview) -> Traced:
        actor, flow, what, error = layout.unpack(record)
        ip, local, remote = addresses(flow)
        pid, tid, uid, comm = (actor.tgid, actor.tid, actor.uid, actor.comm) if actor.tgid else (None,) * 4
        return Traced(
            actor.time, letters[what], pid, tid, uid, comm, ip, local, flow.local_port, remote, flow.remote_port,
            flow.netns, error, errno.errorcode.get(error),
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="tcptracer",
    description="Show each TCP connection that is made (C), accepted (A) or closed (X), by the process that does it.",
    verb=tcptracer,
    needs=_NEEDS,
    kind="connection",
    headline="Tracing TCP connections",
    scope=("pid", "uid", "cgroup", "netns", "family", "command"),
    letters={"netns": "-N"},
    options=(Option("", ("-v", "--verbose"), "show the network namespace"),),
    columns=(
        Column("T", 1, lambda e: e.what),
        PID,
        Column("COMM", 12, lambda e: e.comm),
        Column("IP", 2, lambda e: e.ip),
        Column("SADDR", 16, lambda e: e.saddr),
        Column("DADDR", 16, lambda e: e.daddr),
        Column("SPORT", 5, lambda e: e.sport),
        Column("DPORT", 0, lambda e: e.dport, "!verbose"),
        Column("DPORT", 5, lambda e: e.dport, "verbose"),
        Column("NETNS", 0, lambda e: e.netns, "verbose"),
    ),
    examples=(
        "pyebpf tcptracer                    # all of TCP",
        "pyebpf tcptracer -p 1234 -t         # of one process, with seconds",
        "pyebpf tcptracer -v -N /proc/1234/ns/net # in a process's network namespace",
    ),
)
