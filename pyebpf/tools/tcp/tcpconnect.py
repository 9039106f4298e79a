# SPDX-License-Identifier: BSD-2-Clause
"""tcpconnect: active TCP connections, and those that failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.scope import scope_of
from pyebpf.tools.stream import Reader
from pyebpf.tools.tcp import connects
from pyebpf.tools.tcp.connects import Connect, shown_error
from pyebpf.tools.tcp.dns import Names
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_NAMES = (
    Need("answers of name servers", (("enter_recvfrom", "exit_recvfrom", "enter_recvmsg", "exit_recvmsg"),)),
    Need("answers that Go programs read", (("enter_read", "exit_read"),), optional=True),
)


class ConnectSession(EventSession[Connect]):
    """Connects as they are answered; see `tcpconnect`."""

    def __init__(self, events: KernelEvents, dns: bool) -> None:
        size, connect = connects.decoder(events.object)
        answer = events.object.btf.layout("dns_event")
        names = Names()

        def decode(record: memoryview) -> Optional[Connect]:
            if len(record) == size:
                event = connect(record)
                return event._replace(query=names.get(event.daddr)) if dns else event
            names.learn(bytes(record[answer.size : answer.size + answer.unpack(record).size]))
            return None

        super().__init__(events, decode)  # type: ignore[arg-type]  # see _drain

    def _drain(self, reader: Reader) -> Iterator[Connect]:
        return (event for event in super()._drain(reader) if event is not None)


def tcpconnect(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    remote_ports: Iterable[int] = (),
    dns: bool = False,
) -> ConnectSession:
    """Shows attempts to connect by TCP, once they are answered or have failed.

    Args:
        pid, uid, cgroup, netns, family, remote_ports: whose, and which; see `pyebpf.tools.scope.Scope`.
        dns: learn names of addresses from what any process receives from name servers (UDP port 53).

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family, remote_ports=tuple(remote_ports))
    needs = (*connects.NEEDS, *_NAMES) if dns else connects.NEEDS
    return ConnectSession(KernelEvents("tcpconnect", needs, scope), dns)


TOOL = Tool(
    name="tcpconnect",
    description="Show each active TCP connection (connect(2)) once it is answered, also those that fail, with the "
    "error.",
    verb=tcpconnect,
    needs=(*connects.NEEDS, *_NAMES),
    kind="connect",
    headline="Tracing connects",
    scope=("pid", "uid", "cgroup", "netns", "family", "remote_ports", "command"),
    letters={"remote_ports": "-P", "command": ""},
    options=(
        Option("dns", ("--dns",), "show the name that a name server gave the address for"),
        Option("", ("-c", "--count"), "count connects by addresses and port instead, for a report at the end"),
        Option("", ("-i", "--interval"), "with -c: report every SEC seconds, each time what is new", "seconds", "SEC"),
        Option("", ("-L", "--lport"), "show the local port"),
        PRINT_UID,
    ),
    columns=(
        UID,
        PID,
        Column("COMM", 12, lambda e: e.comm),
        Column("IP", 2, lambda e: e.ip),
        Column("SADDR", 16, lambda e: e.saddr),
        Column("LPORT", 5, lambda e: e.sport or None, "lport"),
        Column("DADDR", 16, lambda e: e.daddr),
        Column("DPORT", 5, lambda e: e.dport),
        Column("ERR", 0, shown_error, "!dns"),
        Column("ERR", 12, shown_error, "dns"),
        Column("QUERY", 0, lambda e: e.query, "dns"),
    ),
    examples=(
        "pyebpf tcpconnect                   # all connects, also those that fail",
        "pyebpf tcpconnect -p 1234 -P 80,443 # of one process, to two ports",
        "pyebpf tcpconnect --dns             # with the names that were asked for",
        "pyebpf tcpconnect -c                # count them, by addresses and port",
    ),
)
