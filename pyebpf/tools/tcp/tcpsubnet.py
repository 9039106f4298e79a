# SPDX-License-Identifier: BSD-2-Clause
"""tcpsubnet: bytes sent, by the subnet that they go to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.tools.events import KernelEvents, KernelSession
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.sent import SENDS, notes_of
from pyebpf.tools.tcp.subnets import Subnet, parse_subnets
from pyebpf.tools.tool import Option, Tool

DEFAULT = (
    "127.0.0.1/32", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/0",
    "::1/128", "fe80::/10", "fc00::/7", "::/0",
)  # fmt: skip


class SubnetBytes(NamedTuple):
    """What was sent to a subnet.

    Attributes:
        subnet: as it was given.
        bytes: data that TCP took from processes.
    """

    subnet: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class SubnetSession(Intervals["list[SubnetBytes]"], KernelSession):
    """Counts what is sent to subnets while it is open. The counters are never reset, so nothing is lost.

    Attributes:
        subnets: in the order in which they are tried: an address counts for the first that holds it.
    """

    def __init__(self, events: KernelEvents, subnets: Sequence[Subnet], notes: Sequence[str]) -> None:
        super().__init__(events, notes)
        self.subnets = tuple(subnet.name for subnet in subnets)
        self._counters = events.object.maps["bytes_sent"]
        self._before = [0] * len(subnets)

    @while_open
    def interval(self) -> list[SubnetBytes]:
        """What was sent since the last call of this method (or since the session began), most first."""
        before, self._before = self._before, self._totals()
        return self._ranked([now - then for now, then in zip(self._before, before)])

    @while_open
    def snapshot(self) -> list[SubnetBytes]:
        """What was sent since the session began, most first."""
        return self._ranked(self._totals())

    def _totals(self) -> list[int]:
        with memoryview(self._counters.memory()) as memory, memory.cast("Q") as words:
            return words[: len(self.subnets)].tolist()

    def _ranked(self, numbers: Sequence[int]) -> list[SubnetBytes]:
        found = [SubnetBytes(subnet, number) for subnet, number in zip(self.subnets, numbers) if number]
        return sorted(found, key=lambda one: -one.bytes)


def tcpsubnet(
    subnets: str | Sequence[str] = DEFAULT,
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    local_ports: Iterable[int] = (),
    remote_ports: Iterable[int] = (),
) -> SubnetSession:
    """Counts the bytes sent to subnets.

    Args:
        subnets: of IPv4 and IPv6, ADDRESS/LENGTH (a text has commas between them). Of several that hold an address the
            first counts.
        pid: by this process, or one of these.
        uid, cgroup: by processes of this real user ID, in this cgroup2 directory or below.
        netns: in this network namespace: a path, a name of ``ip netns``, or an inode number.
        local_ports, remote_ports: with one of these; empty: all.

    Raises:
        Unsupported, PermissionDenied, LoadError, AttachError, LibbpfMissing: this host won't.
        TargetNotFound, TargetError: the scope names what doesn't exist, or a subnet isn't one.
    """
    parsed = parse_subnets(subnets.split(",") if isinstance(subnets, str) else subnets)
    scope = scope_of(
        pid, uid=uid, cgroup=cgroup, netns=netns, local_ports=tuple(local_ports), remote_ports=tuple(remote_ports)
    )
    notes = []
    # The trie finds the longest prefix. Of the subnets that hold an address each lies in the next, so what counts for
    # the longest of them is known beforehand: the first that holds all of it.
    counted = [next(index for index, first in enumerate(parsed) if first.holds(subnet)) for subnet in parsed]
    for subnet, index in zip(parsed, counted):
        if parsed[index] is not subnet:
            notes.append(f"{subnet.name} counts nothing: what goes there counts for {parsed[index].name}, given before")

    def configure(obj: Object) -> None:
        obj.maps["subnets"].max_entries = obj.maps["bytes_sent"].max_entries = len(parsed)

    def loaded(obj: Object) -> None:
        trie = obj.maps["subnets"]
        for subnet, index in zip(parsed, counted):
            trie[32 + subnet.length, subnet.family, subnet.address.ljust(16, b"\0")] = index

    events = KernelEvents("tcpsubnet", SENDS, scope, configure, loaded)
    return SubnetSession(events, parsed, notes_of(events) + notes)


TOOL = Tool(
    name="tcpsubnet",
    description="Count the bytes that are sent over TCP to each of some subnets.",
    verb=tcpsubnet,
    needs=SENDS,
    kind="subnets",
    headline="Tracing what is sent to subnets",
    scope=("pid", "uid", "cgroup", "netns", "local_ports", "remote_ports", "command"),
    options=(
        Option("", ("-f", "--format"), "in bits (b), kilobits, megabits (k, m), bytes (B, default), KB or MB (K, M) of "
               "1024; JSON has bytes", "choice", default="B", choices=tuple("bkmBKM")),
        Option("", ("-i", "--interval"), "seconds between reports (default 1)", "seconds", "SEC", 1.0),
        Option("", ("-v", "--verbose"), "say which subnets are told apart"),
    ),
    letters={"json": "-J"},
    examples=(
        "pyebpf tcpsubnet                            # private networks, the rest",
        "pyebpf tcpsubnet -f K 10.80.0.0/24,::/0     # KB to a subnet, and over IPv6",
        "pyebpf tcpsubnet -i 5 -p 1234               # one process, every five seconds",
    ),
    columns=(),
)  # fmt: skip
