# SPDX-License-Identifier: BSD-2-Clause
"""tcpstates: TCP connections changing state, and how long each state lasted."""

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
from pyebpf.tools.tcp.states import STATES
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import PID, Column, Option, Tool

_NEEDS = (
    Need("changes of a connection's state", (("on_state",),)),
    Need("destroyed sockets", (("on_destroy",),)),
    *OWNER_NEEDS[1:],  # who connects and listens is seen by on_state
)

# Bytes, a power of 2: room for a burst of 10,000 connections, which the kernel makes faster than lines are printed.
_BUFFER = 16 << 20


class Change(NamedTuple):
    """A socket's change of state.

    Attributes:
        time: of the change, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who connected, accepted or listens, or held the socket when tracing began; None: not known
            (a connection that nobody has accepted yet).
        current_pid, current_comm: who was running. Where a packet caused the change, that is whoever it interrupted.
        skaddr: the kernel's address of the socket, in hexadecimal digits.
        ip: 4 or 6.
        laddr, lport: our end; port 0 before it has one.
        raddr, rport: the other.
        oldstate, newstate: "ESTABLISHED", ...
        duration: how long the old state lasted, ns; None: its beginning wasn't seen.
        observed: then, of a state that is older than the tracing, how long it was seen: it lasted longer than so many
            ns. Else None.
        netns: inode number of the network namespace.
    """

    time: int
    pid: Optional[int]
    tid: Optional[int]
    uid: Optional[int]
    comm: Optional[bytes]
    current_pid: int
    current_comm: bytes
    skaddr: str
    ip: int
    laddr: str
    lport: int
    raddr: str
    rport: int
    oldstate: str
    newstate: str
    duration: Optional[int]
    observed: Optional[int]
    netns: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def tcpstates(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
    remote_ports: Iterable[int] = (),
) -> EventSession[Change]:
    """Shows sockets changing state.

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

    events = KernelEvents("tcpstates", _NEEDS, scope, configure)
    began = time.monotonic_ns()
    layout = events.object.btf.layout("state_event")

    def decode(record: memoryview) -> Change:
        actor, flow, current, current_comm, sk, since, old, new, forgotten, _ = layout.unpack(record)
        ip, local, remote = addresses(flow)
        # A socket in CLOSE may have been made since: of that state nothing is known.
        unseen = not since and not forgotten and STATES.get(old) != "CLOSE"
        return Change(
            actor.time, *owner_of(actor), current, current_comm, f"{sk:x}", ip, local, flow.local_port, remote,
            flow.remote_port, STATES.get(old, str(old)), STATES.get(new, str(new)),
            actor.time - since if since else None, max(0, actor.time - began) if unseen else None, flow.netns,
        )  # fmt: skip

    return EventSession(events, decode)


def _milliseconds(change: Change) -> str | None:
    if change.duration is not None:
        return f"{change.duration / 1e6:.3f}"
    return None if change.observed is None else f">{change.observed / 1e6:.3f}"


TOOL = Tool(
    name="tcpstates",
    description="Show TCP sockets changing state, and how long they were in the state they leave.",
    verb=tcpstates,
    needs=_NEEDS,
    kind="state",
    headline="Tracing changes of TCP states",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "remote_ports", "command"),
    options=(
        Option("", ("-w", "--wide"), "wider columns, which IPv6 addresses fit into"),
        Option("", ("-s", "--csv"), "comma-separated values"),
    ),
    examples=(
        "pyebpf tcpstates -D 443       # connections to HTTPS servers",
        "pyebpf tcpstates -stT         # comma-separated, with both times",
        "pyebpf tcpstates -p 1234      # one process's sockets",
    ),
    columns=(
        Column("SKADDR", 16, lambda e: e.skaddr),
        Column("C-PID", 7, lambda e: e.current_pid),
        Column("C-COMM", 10, lambda e: e.current_comm, "!wide"),
        Column("C-COMM", 16, lambda e: e.current_comm, "wide"),
        Column("IP", 2, lambda e: e.ip, "wide|csv"),
        Column("LADDR", 15, lambda e: e.laddr, "!wide"),
        Column("LADDR", 39, lambda e: e.laddr, "wide"),
        Column("LPORT", 5, lambda e: e.lport),
        Column("RADDR", 15, lambda e: e.raddr, "!wide"),
        Column("RADDR", 39, lambda e: e.raddr, "wide"),
        Column("RPORT", 5, lambda e: e.rport),
        Column("OLDSTATE", 11, lambda e: e.oldstate),
        Column("->", 2, lambda e: "->", "!csv"),
        Column("NEWSTATE", 11, lambda e: e.newstate),
        Column("MS", 9, _milliseconds),
        PID,
        Column("COMM", 0, lambda e: e.comm),
    ),
)
