# SPDX-License-Identifier: BSD-2-Clause
"""bindsnoop: sockets that are bound to addresses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import addresses
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_NEEDS = (Need("bind(2)", (("enter_bind", "exit_bind"),)),)
# include/uapi/linux/in.h, in6.h
_PROTOCOLS = {
    1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 33: "DCCP", 41: "IPv6", 47: "GRE", 50: "ESP", 51: "AH",
    58: "ICMPv6", 89: "OSPF", 103: "PIM", 115: "L2TP", 132: "SCTP", 136: "UDPLITE", 255: "RAW", 262: "MPTCP",
}  # fmt: skip
# In the order of bcc's letters.
_OPTIONS = {
    "BIND_FREEBIND": ("F", "IP_FREEBIND"),
    "BIND_TRANSPARENT": ("T", "IP_TRANSPARENT"),
    "BIND_ADDRESS_NO_PORT": ("N", "IP_BIND_ADDRESS_NO_PORT"),
    "BIND_REUSEADDR": ("R", "SO_REUSEADDR"),
    "BIND_REUSEPORT": ("r", "SO_REUSEPORT"),
}


class Bind(NamedTuple):
    """A bind(2) of a socket of IPv4 or IPv6.

    Attributes:
        time: when the call returned, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        errno: 0, or why it failed.
        protocol: "TCP", "UDP", ...; a number as text where it has no name here; None: the descriptor is no socket.
        ip: 4 or 6, of the address.
        addr: the address; of one that failed, what was asked for; None where that could not be read.
        port: the port that the socket has then, also where the kernel chose it; None: a raw socket has none, or as
            `addr`.
        options: of IP_FREEBIND, IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT, SO_REUSEADDR, SO_REUSEPORT those that are
            set; None without a socket.
        device: number of the network device that the socket is bound to, 0: none; None without a socket.
        netns: inode number of the network namespace; None without a socket.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    errno: int
    protocol: str | None
    ip: int
    addr: str | None
    port: int | None
    options: tuple[str, ...] | None
    device: int | None
    netns: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def bindsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
    errors: bool = False,
) -> EventSession[Bind]:
    """Shows bind(2) of sockets of IPv4 and IPv6.

    Args:
        pid, uid, cgroup, netns, family, local_ports: which; see `pyebpf.tools.scope.Scope`.
        errors: also those that fail.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["failed_too"] = errors

    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family, local_ports=tuple(local_ports))
    events = KernelEvents("bindsnoop", _NEEDS, scope, configure)
    btf = events.object.btf
    layout = btf.layout("bind_event")
    bits = btf.enumerators("bind_option")
    options = [(bits[name], option) for name, (_, option) in _OPTIONS.items()]
    known = btf.enumerators("bind_known")
    has_address, has_port, has_socket = (known[f"KNOWN_{name}"] for name in ("ADDRESS", "PORT", "SOCKET"))

    def decode(record: memoryview) -> Bind:
        actor, flow, result, flags, device, protocol, what = layout.unpack(record)
        ip, local, _ = addresses(flow)
        socket = bool(what & has_socket)
        address = bool(what & has_address)
        return Bind(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, max(0, -result),
            _PROTOCOLS.get(protocol, str(protocol)) if socket else None, ip, local if address else None,
            flow.local_port if address and what & has_port else None,
            tuple(name for bit, name in options if flags & bit) if socket else None,
            device if socket else None, flow.netns if socket else None,
        )  # fmt: skip

    return EventSession(events, decode)


def _letters(event: Bind) -> str | None:
    if event.options is None:
        return None
    return "".join(letter if option in event.options else "." for letter, option in _OPTIONS.values())


TOOL = Tool(
    name="bindsnoop",
    description="Show each bind of a socket of IPv4 or IPv6 to an address and a port. OPTS are the socket's options: F "
    "IP_FREEBIND, T IP_TRANSPARENT, N IP_BIND_ADDRESS_NO_PORT, R SO_REUSEADDR, r SO_REUSEPORT.",
    verb=bindsnoop,
    needs=_NEEDS,
    kind="bind",
    headline="Tracing binds",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "command"),
    letters={"local_ports": "-P", "time": ""},
    options=(
        Option("errors", ("-E", "--errors"), "also binds that fail, with the error"),
        PRINT_UID,
        Option("", ("--count",), "count binds by address and port, and show a table at the end"),
        Option("", ("-w", "--wide"), "leave room for the longest address and name"),
    ),
    columns=(
        UID,
        PID,
        Column("COMM", 12, lambda e: e.comm, "!wide"),
        Column("COMM", 16, lambda e: e.comm, "wide"),
        Column("ERR", 3, lambda e: e.errno, "errors", right=True),
        Column("PROT", 7, lambda e: e.protocol),
        Column("ADDR", 15, lambda e: e.addr, "!wide"),
        Column("ADDR", 39, lambda e: e.addr, "wide"),
        Column("PORT", 5, lambda e: e.port, right=True),
        Column("OPTS", 5, _letters),
        Column("IF", 2, lambda e: e.device, right=True),
    ),
    examples=(
        "pyebpf bindsnoop -t                 # all, with seconds",
        "pyebpf bindsnoop -E -P 80,443       # of these ports, also those that fail",
    ),
)  # fmt: skip
