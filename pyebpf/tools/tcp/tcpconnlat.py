# SPDX-License-Identifier: BSD-2-Clause
"""tcpconnlat: how long connecting takes."""

from __future__ import annotations

from collections.abc import Iterable

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.tools.events import EventSession, KernelEvents
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp import connects
from pyebpf.tools.tcp.connects import Connect, shown_error
from pyebpf.tools.tool import PID, Column, Option, Tool

_LONGEST = 10**9  # ms


def tcpconnlat(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    min_ms: float | None = None,
) -> EventSession[Connect]:
    """Shows how long attempts to connect by TCP take, from connect(2) to the answer or failure.

    Args:
        pid, uid, cgroup, netns, family: whose, and which; see `pyebpf.tools.scope.Scope`.
        min_ms: only those that take at least so many milliseconds.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    if min_ms is not None and not 0 <= min_ms <= _LONGEST:
        raise TargetError(f"{min_ms} ms: the least latency is 0 to {_LONGEST:,} ms")

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["least_duration"] = int((min_ms or 0) * 1e6)

    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family)
    events = KernelEvents("tcpconnlat", connects.NEEDS, scope, configure)
    return EventSession(events, connects.decoder(events.object)[1])


TOOL = Tool(
    name="tcpconnlat",
    description="Show how long each active TCP connection takes, from connect(2) to the answer; also those that fail.",
    verb=tcpconnlat,
    needs=connects.NEEDS,
    kind="connect",
    headline="Tracing how long connects take",
    scope=("pid", "uid", "cgroup", "netns", "family", "command"),
    options=(
        Option("min_ms", ("min_ms",), "only those that take at least so many milliseconds, e.g. 0.1", "milliseconds",
               "MIN_MS"),
        Option("", ("-L", "--lport"), "show the local port"),
    ),
    columns=(
        PID,
        Column("COMM", 12, lambda e: e.comm),
        Column("IP", 2, lambda e: e.ip),
        Column("SADDR", 16, lambda e: e.saddr),
        Column("LPORT", 5, lambda e: e.sport or None, "lport"),
        Column("DADDR", 16, lambda e: e.daddr),
        Column("DPORT", 5, lambda e: e.dport),
        Column("LAT(ms)", 9, lambda e: f"{e.latency / 1e6:.3f}", right=True),
        Column("ERR", 0, shown_error),
    ),
    examples=(
        "pyebpf tcpconnlat                   # all connects",
        "pyebpf tcpconnlat 10                # those that take 10 ms and more",
        "pyebpf tcpconnlat -c 'curl example.org'",
    ),
)  # fmt: skip
