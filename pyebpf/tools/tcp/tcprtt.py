# SPDX-License-Identifier: BSD-2-Clause
"""tcprtt: round-trip times of TCP connections, as histograms."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.tools.events import KernelEvents, KernelSession, Need
from pyebpf.tools.histogram import BUCKETS, Histogram, highest, plain_rows
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.owners import NEEDS as _OWNERS
from pyebpf.tools.tool import Option, Tool

_NEED = Need("what connections receive", (("on_received",),))
_MOST_ADDRESSES = 4096
_SIDES = {None: "BY_NOTHING", "local": "BY_LOCAL", "remote": "BY_REMOTE"}


class RoundTrips(NamedTuple):
    """Round-trip times, in µs: the kernel's smoothed value, each time a connection received something.

    Attributes:
        address: of which end; None: of all.
        histogram: its ``total``, ``average`` and percentiles are µs too. The maximum isn't kept: it is the last
            bucket's bound.
    """

    address: Optional[str]
    histogram: Histogram

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        one = self.histogram
        return {
            "address": self.address, "count": one.count, "total_us": one.total, "average_us": round(one.average, 1),
            **{f"p{share}_us": round(one.percentile(share)) for share in (50, 90, 99)},
            "buckets": plain_rows(one),
        }  # fmt: skip


class RttSession(Intervals["list[RoundTrips]"], KernelSession):
    """Looks at round-trip times while it is open. Counters live in the kernel and are never reset."""

    def __init__(self, events: KernelEvents) -> None:
        super().__init__(events)
        self._before: dict[Optional[str], tuple[int, tuple[int, ...]]] = {}

    def _rows(self) -> dict[Optional[str], tuple[int, tuple[int, ...]]]:
        return {
            _address(key.address, key.family): (value.total, value.buckets[:BUCKETS])
            for key, value in self._events.object.maps["rtts"].items()
        }

    @while_open
    def snapshot(self) -> list[RoundTrips]:
        """Since the session began, by address."""
        return _sorted((address, total, buckets) for address, (total, buckets) in self._rows().items())

    @while_open
    def interval(self) -> list[RoundTrips]:
        """Since the last call of this method (or since the session began), by address."""
        rows, found = self._rows(), []
        for address, (total, buckets) in rows.items():
            total_before, before = self._before.get(address, (0, (0,) * BUCKETS))
            found.append((address, total - total_before, tuple(now - then for now, then in zip(buckets, before))))
        self._before = rows
        return _sorted(found)


def _sorted(rows: Iterable[tuple[Optional[str], int, tuple[int, ...]]]) -> list[RoundTrips]:
    found = [RoundTrips(address, Histogram(buckets, total, highest(buckets))) for address, total, buckets in rows]
    return sorted((row for row in found if row.histogram.count), key=lambda row: (row.histogram.count, row.address))


def _address(packed: bytes, family: int) -> Optional[str]:
    if not family:
        return None
    return inet_ntop(AF_INET, packed[:4]) if family == AF_INET else inet_ntop(AF_INET6, packed)


def _packed(address: str) -> tuple[int, bytes]:
    """IP version and bytes of an address, IPv4's padded. Raises TargetError."""
    for ip, family in ((4, AF_INET), (6, AF_INET6)):
        try:
            packed = inet_pton(family, address)
        except (OSError, ValueError):  # ValueError: a NUL, or what can't be encoded
            continue
        # ::ffff:192.0.2.1 is what an IPv6 socket calls an IPv4 address; on the wire it is that.
        if ip == 6 and packed[:12] == bytes(10) + b"\xff\xff":
            ip, packed = 4, packed[12:]
        return ip, packed.ljust(16, b"\0")
    raise TargetError(f"{address!r} is not an IP address")


def tcprtt(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    local_ports: Iterable[int] = (),
    remote_ports: Iterable[int] = (),
    local_address: str | None = None,
    remote_address: str | None = None,
    by: str | None = None,
) -> RttSession:
    """Collects round-trip times.

    Args:
        pid, uid, cgroup: of sockets that such a process owns; see `pyebpf.tools.scope.Scope`.
        netns, family, local_ports, remote_ports: see there too.
        local_address, remote_address: only connections with it.
        by: "local" or "remote": a histogram for each such address; None: one for all.

    Raises:
        TargetNotFound, TargetError: the scope names what doesn't exist, an address isn't one.
        Unsupported: this kernel lacks the tracepoint.
    """
    if by not in _SIDES:
        raise TargetError(f"by {by!r}: it is 'local', 'remote' or None")
    given = {"local": local_address, "remote": remote_address}
    addresses = {side: _packed(address) for side, address in given.items() if address is not None}
    versions = {ip for ip, _ in addresses.values()} | ({family} if family else set())
    if len(versions) > 1:
        raise TargetError("IPv4 and IPv6 are asked for at once: no connection has both")
    by_owner = pid is not None or uid is not None or cgroup is not None

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["by"] = obj.btf.enumerators("rtt_by")[_SIDES[by]]
        obj.rodata["filter_owner"] = by_owner
        for side, (_, packed) in addresses.items():
            obj.rodata[f"filter_{side}"] = True
            obj.rodata[f"only_{side}"] = packed
        if by:
            obj.maps["rtts"].max_entries = _MOST_ADDRESSES

    scope = scope_of(
        pid, uid=uid, cgroup=cgroup, netns=netns, family=next(iter(versions), None), local_ports=tuple(local_ports),
        remote_ports=tuple(remote_ports),
    )  # fmt: skip
    return RttSession(KernelEvents("tcprtt", (_NEED, *_OWNERS) if by_owner else (_NEED,), scope, configure))


TOOL = Tool(
    name="tcprtt",
    description="Show the smoothed round-trip times of TCP connections, looked at whenever one receives something, as "
    "a histogram.",
    verb=tcprtt,
    needs=(_NEED, *_OWNERS),
    kind="rtt",
    headline="Tracing round-trip times",
    scope=("pid", "uid", "cgroup", "netns", "family", "local_ports", "remote_ports"),
    letters={"remote_ports": "-P"},
    options=(
        Option("local_address", ("-a", "--laddr"), "only connections with this local address", "text", "ADDRESS"),
        Option("remote_address", ("-A", "--raddr"), "only connections with this remote address", "text", "ADDRESS"),
        Option("", ("-m", "--milliseconds"), "milliseconds instead of microseconds"),
        Option("", ("-e", "--extension"), "show the average and percentiles too"),
        Option("", ("-i", "--interval"), "report every SEC seconds", "seconds", "SEC"),
        Option("", ("-T", "--timestamp"), "print the time with each report"),
    ),
    columns=(),
    examples=(
        "pyebpf tcprtt -i 1 -d 10       # every second, ten times",
        "pyebpf tcprtt -mTB             # ms, with the time, by remote address",
        "pyebpf tcprtt -P 443 -e        # to port 443, with average, percentiles",
    ),
)
