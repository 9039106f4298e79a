# SPDX-License-Identifier: BSD-2-Clause
"""drsnoop: processes that had to free memory to get some."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_NEEDS = (
    Need("reclaims for want of memory", (("system_begins", "system_ends"),)),
    Need("reclaims at a cgroup's limit", (("cgroup_begins", "cgroup_ends"),), optional=True),  # CONFIG_MEMCG
)
_CAUSES = {"CAUSE_SYSTEM": "system", "CAUSE_CGROUP": "cgroup"}
_VMSTAT_AGE = 1_000_000  # ns: in a flood of reclaims the file isn't read for each


class Reclaim(NamedTuple):
    """A direct reclaim: a thread that freed memory itself before it got some.

    Attributes:
        time: when it ended, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        latency: how long it took, ns.
        pages: that it freed.
        cause: "system": the machine was short of memory; "cgroup": a memory cgroup was at its limit.
        free_kb, cached_kb: free memory and page cache of the system when the event was read, shortly after; None if not
            asked for.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    latency: int
    pages: int
    cause: str
    free_kb: int | None
    cached_kb: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def drsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    tid: int | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    memory: bool = False,
) -> EventSession[Reclaim]:
    """Shows direct reclaims, when they end.

    Args:
        pid, tid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.
        memory: with the system's free memory and page cache.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    events = KernelEvents("drsnoop", _NEEDS, scope_of(pid, tid=tid, uid=uid, cgroup=cgroup))
    btf = events.object.btf
    layout = btf.layout("reclaim_event")
    causes = {number: _CAUSES[name] for name, number in btf.enumerators("reclaim_cause").items()}
    state = _Memory() if memory else None

    def decode(record: memoryview) -> Reclaim:
        actor, duration, pages, cause, _ = layout.unpack(record)
        free, cached = state.at(actor.time) if state else (None, None)
        return Reclaim(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, duration, pages, causes[cause], free, cached
        )

    return EventSession(events, decode)


class _Memory:
    """The system's memory, from /proc/vmstat: the kernel's own counters have no symbol on many kernels."""

    def __init__(self) -> None:
        self._page_kb = os.sysconf("SC_PAGESIZE") >> 10
        self._known = (-_VMSTAT_AGE - 1, 0, 0)

    def at(self, time: int) -> tuple[int, int]:
        """Free and cached KiB, read now if what is known is much older than the event."""
        if time - self._known[0] > _VMSTAT_AGE:
            with open("/proc/vmstat", "rb") as file:
                counts = dict(line.split() for line in file)
            free, cached = int(counts[b"nr_free_pages"]), int(counts[b"nr_file_pages"])
            self._known = (time, free * self._page_kb, cached * self._page_kb)
        return self._known[1:]


TOOL = Tool(
    name="drsnoop",
    description="Show each direct reclaim: a process that needs memory has to free some itself before it gets it, as "
    "the machine is short of it, or a memory cgroup is at its limit.",
    verb=drsnoop,
    needs=_NEEDS,
    kind="reclaim",
    headline="Tracing direct reclaims",
    scope=("pid", "tid", "uid", "cgroup", "command", "name"),
    letters={"timestamp": "-T", "time": "", "tid": "-t", "max_events": ""},
    options=(
        Option("memory", ("-v", "--verbose"), "show free memory and page cache of the system, too"),
        PRINT_UID,
    ),
    columns=(
        UID,
        Column("COMM", 16, lambda e: e.comm),
        PID,
        Column("LAT(ms)", 8, lambda e: f"{e.latency / 1e6:.3f}", right=True),
        Column("PAGES", 6, lambda e: e.pages, right=True),
        Column("FREE(KB)", 10, lambda e: e.free_kb, "memory", right=True),
        Column("CACHED(KB)", 10, lambda e: e.cached_kb, "memory", right=True),
        Column("CAUSE", 0, lambda e: e.cause),
    ),
    examples=(
        "pyebpf drsnoop                      # who waits for memory, and how long",
        "pyebpf drsnoop -v -p 1234           # of one process, with the system's memory",
    ),
)  # fmt: skip
