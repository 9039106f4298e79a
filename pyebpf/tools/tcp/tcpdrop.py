# SPDX-License-Identifier: BSD-2-Clause
"""tcpdrop: TCP packets that the kernel drops, why, and where."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from pyebpf.core import kernel
from pyebpf.core.object import Object
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp.owners import NEEDS as _OWNERS
from pyebpf.tools.tcp.owners import owner_of
from pyebpf.tools.tcp.states import STATES, flag_names
from pyebpf.tools.text import addresses, endpoint
from pyebpf.tools.tool import PID, TIME, Column, Option, Tool

if TYPE_CHECKING:
    from pyebpf.target.stacks import Frame, KernelSymbols

_NEEDS = (Need("dropped packets", (("on_drop",),)), *_OWNERS)
# The enum of reasons, and those of subsystems that are part of every kernel's own BTF.
_REASONS = ("skb_drop_reason", "qdisc_drop_reason", "ovs_drop_reason", "mac80211_drop_reason")
_PREFIX = "SKB_DROP_REASON_"
_UNSPECIFIED = "SKB_DROP_REASON_NOT_SPECIFIED"
_PURGE = "SKB_DROP_REASON_QUEUE_PURGE"
_MOST_PLACES = 10_000


class Drop(NamedTuple):
    """A TCP packet that the kernel gave up.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: whose socket the packet came from or was for; None: there is none, or it isn't known.
        ip: 4 or 6.
        saddr, sport: where the packet comes from.
        daddr, dport: where it goes.
        state: of the socket, "ESTABLISHED"; None: there is none.
        flags: of the packet, "SYN|ACK".
        reason: the kernel's name for it, without SKB_DROP_REASON_; None: the kernel doesn't tell (before Linux 5.17).
            One of a module whose reasons have no name here is a number.
        netns: inode number of the network namespace; None: not known.
        stack: kernel functions, from the one that gave the packet up to the outermost.
        stack_cut: there were more.
        stack_error: why the stack, or its functions' names (addresses stand for them), are missing; None: they aren't.
    """

    time: int
    pid: Optional[int]
    tid: Optional[int]
    uid: Optional[int]
    comm: Optional[bytes]
    ip: int
    saddr: str
    sport: int
    daddr: str
    dport: int
    state: Optional[str]
    flags: str
    reason: Optional[str]
    netns: Optional[int]
    stack: tuple[str, ...]
    stack_cut: bool
    stack_error: Optional[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def tcpdrop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    netns: str | int | None = None,
    family: int | None = None,
    all_reasons: bool = False,
) -> EventSession[Drop]:
    """Shows TCP packets that the kernel drops.

    Args:
        pid, uid, cgroup: of sockets that such a process owns; see `pyebpf.tools.scope.Scope`.
        netns, family: see there too.
        all_reasons: also packets for whose end the kernel gives no reason, and those a queue held when it went. Most of
            them were not dropped, but used up.

    Raises:
        TargetNotFound, TargetError: the scope names what doesn't exist.
        Unsupported: this kernel lacks the tracepoint.
    """
    reasons = kernel.enumerators(*_REASONS)
    numbers = {name: number for number, name in reasons.items()}

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        # What was used up has the reasons before the first; the one nobody gave comes last of them.
        obj.rodata["last_reason_not_shown"] = numbers.get(_UNSPECIFIED, 0)
        obj.rodata["reason_of_purge"] = numbers.get(_PURGE, 0)  # since Linux 6.8; before it has no reason
        obj.rodata["show_all"] = all_reasons

    scope = scope_of(pid, uid=uid, cgroup=cgroup, netns=netns, family=family)
    events = KernelEvents("tcpdrop", _NEEDS, scope, configure)
    notes = []
    if not numbers:
        notes.append(
            "this kernel doesn't tell why a packet is given up (Linux 5.17 does): some may have been used, not "
            "dropped, and what a connection itself throws away (not in its window, for instance) isn't seen"
        )
    layout = events.object.btf.layout("drop_event")
    most = events.object.btf.enumerators("drop_sizes")["DROP_FRAMES"]
    places = _Places()

    def decode(record: memoryview) -> Drop:
        actor, flow, reason, state, flags, _, size, location, stack = layout.unpack(record)
        ip, source, destination = addresses(flow)
        frames = stack[: max(0, size) // 8]
        return Drop(
            actor.time, *owner_of(actor), ip, source, flow.local_port, destination, flow.remote_port,
            STATES.get(state), flag_names(flags), _reason(reasons, reason) if numbers else None, flow.netns or None,
            places.of(frames, location), len(frames) == most, os.strerror(-size) if size < 0 else places.reason,
        )  # fmt: skip

    return EventSession(events, decode, notes)


def _reason(names: dict[int, str], number: int) -> str:
    name = names.get(number, str(number))
    return name[len(_PREFIX) :] if name.startswith(_PREFIX) else name


class _Places:
    """Names for the addresses of stacks; packets are dropped in few places. What it takes is read at the first."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[str, ...]] = {}
        self._symbols: KernelSymbols | None = None

    @property
    def reason(self) -> str | None:
        """Why there are no names, or None."""
        return self._symbols.reason if self._symbols else None

    def of(self, addresses: Sequence[int], location: int) -> tuple[str, ...]:
        """A stack's functions from the one that dropped the packet on; above it there are only our program's ways."""
        key = tuple(addresses)
        if location in key:
            key = key[key.index(location) :]
        if key not in self._known:
            if len(self._known) >= _MOST_PLACES:
                self._known.clear()
            self._known[key] = self._resolved(key)
        return self._known[key]

    def _resolved(self, addresses: Sequence[int]) -> tuple[str, ...]:
        from pyebpf.target.stacks import KernelSymbols

        if self._symbols is None:
            self._symbols = KernelSymbols()
        return tuple(map(_shown, self._symbols.resolve(addresses, first_is_exact=False)))


def _shown(frame: Frame) -> str:
    from pyebpf.target.stacks import UNKNOWN

    if frame.name == UNKNOWN:
        return f"{frame.address:#x}"
    module = "" if frame.module == "[kernel]" else f" {frame.module}"
    return f"{frame.name}+{frame.offset:#x}{module}"


def _stack(drop: Drop) -> list[str]:
    lines = [f"    {place}" for place in drop.stack] + ["    …"] * drop.stack_cut
    if drop.stack_error is not None:
        lines.append(f"    ({drop.stack_error})")
    return [*lines, ""]


TOOL = Tool(
    name="tcpdrop",
    description="Show each TCP packet that the kernel drops, with the reason and the kernel stack that led to it.",
    verb=tcpdrop,
    needs=_NEEDS,
    kind="drop",
    headline="Tracing TCP drops",
    scope=("pid", "uid", "cgroup", "netns", "family"),
    options=(
        Option("all_reasons", ("-a", "--all"), "also packets given up without a reason, or with the queue they were "
               "in; most of them were used, not dropped"),
        Option("", ("-w", "--wide"), "show COMM and NETNS too"),
    ),
    columns=(
        TIME,
        PID,
        Column("COMM", 16, lambda e: e.comm, "wide"),
        Column("NETNS", 10, lambda e: e.netns, "wide"),
        Column("IP", 2, lambda e: e.ip),
        Column("SADDR:SPORT", 20, lambda e: endpoint(e.saddr, e.sport)),
        Column(">", 1, lambda _: ">"),
        Column("DADDR:DPORT", 20, lambda e: endpoint(e.daddr, e.dport)),
        Column("STATE (FLAGS) REASON", 0, lambda e: f"{e.state or '-'} ({e.flags}) {e.reason or '-'}"),
    ),
    follow=_stack,
    examples=(
        "pyebpf tcpdrop                        # every drop, with its stack",
        "pyebpf tcpdrop -4 --netns web         # IPv4, in the network namespace web",
        "pyebpf tcpdrop -w -p $(pidof -s nginx)  # of one process's sockets",
    ),
)  # fmt: skip
