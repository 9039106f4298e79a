# SPDX-License-Identifier: BSD-2-Clause
"""syncsnoop: requests to write what is cached to disk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tool import PID, SECONDS, Column, Option, Tool

# Numbers are those of enum sync_call (bpf/snoop/syncsnoop.h); whether a file descriptor is among the arguments.
_CALLS = {
    "CALL_SYNC": ("sync", False),
    "CALL_FSYNC": ("fsync", True),
    "CALL_FDATASYNC": ("fdatasync", True),
    "CALL_SYNCFS": ("syncfs", True),
    "CALL_MSYNC": ("msync", False),
    "CALL_SYNC_FILE_RANGE": ("sync_file_range", True),
}
_NEEDS = tuple(Need(f"{name}(2)", ((f"enter_{name}", f"exit_{name}"),)) for name, _ in _CALLS.values())


class Sync(NamedTuple):
    """A call that writes cached data to disk.

    Attributes:
        time: when it returned, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        call: the system call's name.
        fd: the file descriptor it was given; None where it takes none.
        errno: 0, or why it failed.
        latency: how long it took, ns.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    call: str
    fd: int | None
    errno: int
    latency: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def syncsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
) -> EventSession[Sync]:
    """Shows sync(2), fsync(2), fdatasync(2), syncfs(2), msync(2) and sync_file_range(2), when they return.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    events = KernelEvents("syncsnoop", _NEEDS, scope_of(pid, uid=uid, cgroup=cgroup))
    btf = events.object.btf
    layout = btf.layout("sync_event")
    calls = {number: _CALLS[name] for name, number in btf.enumerators("sync_call").items()}

    def decode(record: memoryview) -> Sync:
        actor, duration, result, fd, number, _ = layout.unpack(record)
        call, has_fd = calls[number]
        return Sync(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, call, fd if has_fd else None, max(0, -result),
            duration,
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="syncsnoop",
    description="Show each call of sync, fsync, fdatasync, syncfs, msync and sync_file_range, when it returns.",
    verb=syncsnoop,
    needs=_NEEDS,
    kind="sync",
    headline="Tracing calls of the sync family",
    options=(Option("", ("-x", "--extended-fields"), "show the file descriptor, the error and how long it took"),),
    columns=(
        SECONDS,
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("FD", 4, lambda e: e.fd, "extended-fields", right=True),
        Column("ERR", 3, lambda e: e.errno, "extended-fields", right=True),
        Column("LAT(ms)", 9, lambda e: f"{e.latency / 1e6:.3f}", "extended-fields", right=True),
        Column("CALL", 0, lambda e: e.call),
    ),
    examples=(
        "pyebpf syncsnoop                    # who syncs",
        "pyebpf syncsnoop -x -p 1234         # of a process, with durations",
    ),
)  # fmt: skip
