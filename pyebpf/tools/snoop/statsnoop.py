# SPDX-License-Identifier: BSD-2-Clause
"""statsnoop: files whose metadata is asked for, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import shown, text_behind
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_CALLS = ("stat", "lstat", "newfstatat", "statx", "statfs")  # enum stat_call
_NEEDS = (
    Need("calls of newfstatat(2)", (("enter_newfstatat", "exit_newfstatat"),)),
    Need("calls of statx(2)", (("enter_statx", "exit_statx"),)),
    Need("calls of statfs(2)", (("enter_statfs", "exit_statfs"),)),
    Need("calls of stat(2)", (("enter_newstat", "exit_newstat"),), optional=True, silent=True),
    Need("calls of lstat(2)", (("enter_newlstat", "exit_newlstat"),), optional=True, silent=True),
)
_WORKING_DIRECTORY = -100  # AT_FDCWD


class Stat(NamedTuple):
    """Metadata that was asked for.

    Attributes:
        time: when the call returned, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        call: "stat", "lstat", "newfstatat", "statx" or "statfs".
        errno: 0, or why it failed.
        dirfd: what the path is relative to: a file descriptor; None: the working directory.
        path: as the process gave it; empty: of the open file `dirfd` itself. None: it could not be read.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    call: str
    errno: int
    dirfd: int | None
    path: bytes | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def statsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    tid: int | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    failed: bool = False,
) -> EventSession[Stat]:
    """Shows files whose metadata is asked for.

    Args:
        pid, tid, uid, cgroup: by whom; see `pyebpf.tools.scope.Scope`.
        failed: only calls that fail.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["failed_only"] = failed

    events = KernelEvents("statsnoop", _NEEDS, scope_of(pid, tid=tid, uid=uid, cgroup=cgroup), configure)
    layout = events.object.btf.layout("stat_event")

    def decode(record: memoryview) -> Stat:
        actor, result, call, dirfd, size = layout.unpack(record)
        return Stat(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, _CALLS[call], -result,
            None if dirfd == _WORKING_DIRECTORY else dirfd, text_behind(record, layout.size, size),
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="statsnoop",
    description="Show each file whose metadata is asked for by name (stat(2) and its kin), and how it went.",
    verb=statsnoop,
    needs=_NEEDS,
    kind="stat",
    headline="Tracing stat calls",
    scope=("pid", "tid", "uid", "cgroup", "command", "name"),
    options=(
        Option("failed", ("-x", "--failed"), "only calls that fail"),
        Option("", ("-s", "--sysname"), "show the system call"),
        PRINT_UID,
    ),
    columns=(
        UID,
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("FD", 3, lambda e: -1 if e.errno else 0, right=True),
        Column("ERR", 3, lambda e: e.errno, right=True),
        Column("SYSCALL", 10, lambda e: e.call, "sysname"),
        Column("PATH", 0, lambda e: f"(fd {e.dirfd})" if e.path == b"" and e.dirfd is not None else shown(e.path)),
    ),
    examples=(
        "pyebpf statsnoop -x                 # files that are looked for in vain",
        "pyebpf statsnoop -s -p 1234         # with the system call's name",
        "pyebpf statsnoop -c 'ls -l /etc'    # of a command, from its beginning",
    ),
)
