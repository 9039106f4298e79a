# SPDX-License-Identifier: BSD-2-Clause
"""tcpretrans: TCP segments that are sent again, and tail loss probes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from pyebpf.core.object import Object
from pyebpf.errors import Unsupported
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.owners import NEEDS as _OWNERS
from pyebpf.tools.tcp.owners import owner_of
from pyebpf.tools.tcp.states import STATES
from pyebpf.tools.text import addresses, endpoint
from pyebpf.tools.tool import PID, TIME, Column, Option, Tool

_NEEDS = (
    Need("segments that are sent again", (("on_retransmit",),)),
    Need("SYN-ACKs that are sent again", (("on_synack",),)),
    *_OWNERS,
)
_NEW_PROBES = Need("tail loss probes that send new data", (("on_probe",), ("on_probe_kprobe",)), optional=True)
_PROBE = "tcp_send_loss_probe"
_MOST_FLOWS = 16_384


class Retransmit(NamedTuple):
    """A segment that was sent again, or a tail loss probe.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: whose socket it is; None: not known. Of a SYN-ACK the listener's.
        ip: 4 or 6.
        laddr, lport: our end.
        raddr, rport: the other.
        what: "R"; "L" a tail loss probe, if it was asked for; "S" a SYN-ACK.
        state: of the connection: "ESTABLISHED". Of a SYN-ACK, before there is one, "NEW_SYN_RECV".
        seq: the segment's sequence number.
        errno: 0: it was sent; else why not (kernels that don't tell show only those that were).
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
    what: str
    state: Optional[str]
    seq: int
    errno: int
    netns: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class FlowCount(NamedTuple):
    """How often segments of a connection were sent again. Attributes as `Retransmit`'s; retransmits: how often."""

    ip: int
    laddr: str
    lport: int
    raddr: str
    rport: int
    what: str
    netns: int
    retransmits: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class RetransmitSession(EventSession[Retransmit]):
    """Yields retransmits as they happen, or only counts them."""

    @while_open
    def counts(self) -> list[FlowCount]:
        """With ``count=True``: retransmits by connection since the session began, the fewest first."""
        found = []
        for key, number in self._events.object.maps["counts"].items():
            ip, local, remote = addresses(key.flow)
            flow = key.flow
            found.append(
                FlowCount(ip, local, flow.local_port, remote, flow.remote_port, chr(key.type), flow.netns, number)
            )
        return sorted(found, key=lambda row: (row.retransmits, row))


def tcpretrans(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
    remote_ports: Iterable[int] = (),
    loss_probes: bool = False,
    count: bool = False,
) -> RetransmitSession:
    """Shows TCP segments that are sent again.

    Args:
        pid, uid, cgroup: of sockets that such a process owns; see `pyebpf.tools.scope.Scope`.
        netns, family, local_ports, remote_ports: see there too.
        loss_probes: also tail loss probes (RFC 8985): tell those that send a segment again from other retransmits, and
            show those that send new data.
        count: record no events, count them by connection; see `RetransmitSession.counts`.

    Raises:
        TargetNotFound, TargetError: the scope names what doesn't exist.
        Unsupported: this kernel lacks what it takes.
    """
    probe = _extent_of_probe() if loss_probes else None

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        if probe is not None:
            obj.rodata["probe_from"], obj.rodata["probe_to"] = probe
        if count:
            obj.rodata["count_only"] = True
            obj.maps["counts"].max_entries = _MOST_FLOWS

    scope = scope_of(
        pid, uid=uid, cgroup=cgroup, netns=netns, family=family, local_ports=tuple(local_ports),
        remote_ports=tuple(remote_ports),
    )  # fmt: skip
    events = KernelEvents("tcpretrans", (*_NEEDS, _NEW_PROBES) if loss_probes else _NEEDS, scope, configure)
    layout = events.object.btf.layout("retransmit_event")

    def decode(record: memoryview) -> Retransmit:
        actor, flow, sequence, error, kind, state, _ = layout.unpack(record)
        ip, local, remote = addresses(flow)
        return Retransmit(
            actor.time, *owner_of(actor), ip, local, flow.local_port, remote, flow.remote_port, chr(kind),
            STATES.get(state), sequence, abs(error), flow.netns,
        )  # fmt: skip

    return RetransmitSession(events, decode)


def _extent_of_probe() -> tuple[int, int]:
    """Where the kernel's function is that sends tail loss probes. Raises Unsupported."""
    from pyebpf.target.stacks import KernelSymbols

    symbols = KernelSymbols()
    extent = symbols.extent(_PROBE)
    if extent is None:
        raise Unsupported(
            f"tcpretrans can't tell tail loss probes here: {symbols.reason or f'/proc/kallsyms has no {_PROBE}'}",
            feature="tail loss probes",
        )
    return extent


TOOL = Tool(
    name="tcpretrans",
    description="Show TCP segments that are sent again: R, SYN-ACKs: S, and with -l tail loss probes: L.",
    verb=tcpretrans,
    needs=(*_NEEDS, _NEW_PROBES),
    kind="retransmit",
    headline="Tracing retransmits",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "remote_ports"),
    options=(
        Option("loss_probes", ("-l", "--lossprobe"), "tell tail loss probes: L instead of R, also those that send new "
               "data"),
        Option("count", ("-c", "--count"), "count retransmits by connection, and show that at the end"),
        Option("", ("-s", "--sequence"), "show the sequence number"),
        Option("", ("-w", "--wide"), "show COMM and NETNS too"),
    ),
    columns=(
        TIME,
        PID,
        Column("COMM", 16, lambda e: e.comm, "wide"),
        Column("NETNS", 10, lambda e: e.netns, "wide"),
        Column("IP", 2, lambda e: e.ip),
        Column("LADDR:LPORT", 20, lambda e: endpoint(e.laddr, e.lport)),
        Column("T>", 2, lambda e: e.what + ">"),
        Column("RADDR:RPORT", 20, lambda e: endpoint(e.raddr, e.rport)),
        Column("STATE", 12, lambda e: e.state),
        Column("SEQ", 10, lambda e: e.seq, "sequence"),
        Column("ERR", 0, lambda e: e.errno),
    ),
    examples=(
        "pyebpf tcpretrans                # every retransmit",
        "pyebpf tcpretrans -ls            # tail loss probes too, with sequence numbers",
        "pyebpf tcpretrans -c -d 60       # a minute's, counted by connection",
    ),
)  # fmt: skip
