# SPDX-License-Identifier: BSD-2-Clause
"""opensnoop: files that are opened, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.place import Places
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import shown, text_behind
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_CREATES = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY


def _needs(full_path: bool) -> tuple[Need, ...]:
    leave = "full_exit" if full_path else "exit"

    def need(call: str, **how: bool) -> Need:
        return Need(f"files opened by {call}(2)", ((f"enter_{call}", f"{leave}_{call}"),), **how)

    return (
        need("openat"),
        need("open", optional=True, silent=True),
        need("creat", optional=True, silent=True),
        need("openat2", optional=True),  # Linux 5.6
    )


class Open(NamedTuple):
    """A file that was opened, or not.

    Attributes:
        time: when the call returned, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        fd: the descriptor; None when it failed.
        errno: 0, or why it failed.
        flags: as the process gave them; None: they could not be read (openat2).
        mode: of a file to be created, as the process gave it; None: none was to be.
        path: as the process gave it; None: it could not be read.
        full_path: from the process's root directory; None: it wasn't asked for, or could not be read.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    fd: int | None
    errno: int
    flags: int | None
    mode: int | None
    path: bytes | None
    full_path: bytes | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def opensnoop(
    *,
    pid: int | Iterable[int] | None = None,
    tid: int | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    failed: bool = False,
    flags: Iterable[str] = (),
    full_path: bool = False,
) -> EventSession[Open]:
    """Shows files that are opened.

    Args:
        pid, tid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.
        failed: only those that fail.
        flags: only with any of these flags of open(2) ("O_CREAT").
        full_path: tell where relative paths begin.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    wanted = 0
    for flag in flags:
        value = getattr(os, flag, 0) if flag.startswith("O_") else 0
        if not value:
            raise TargetError(f"{flag} is not a flag of open(2) that can be looked for", hint="for instance O_CREAT")
        wanted |= value

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["failed_only"] = failed
        obj.rodata["wanted_flags"] = wanted

    events = KernelEvents(
        "opensnoop", _needs(full_path), scope_of(pid, tid=tid, uid=uid, cgroup=cgroup), configure,
        kernel_types=full_path,
    )  # fmt: skip
    layout = events.object.btf.layout("open_event")
    unread = events.object.btf.enumerators("open_flags")["FLAGS_UNREAD"] & 0xFFFFFFFF
    places = Places(events.object.btf, layout.size)

    def decode(record: memoryview) -> Open:
        actor, result, flags, mode, size, names, _ = layout.unpack(record)
        if full_path:
            path, whole = places.paths(record, size, names)
        else:
            path, whole = text_behind(record, layout.size, size), None
        known = flags != unread or mode != unread
        return Open(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm,
            result if result >= 0 else None, max(0, -result), flags if known else None,
            mode if known and flags & _CREATES else None, path, whole,
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="opensnoop",
    description="Show each file that is opened: by whom, and how it went.",
    verb=opensnoop,
    needs=_needs(False),
    kind="open",
    headline="Tracing opened files",
    scope=("pid", "tid", "uid", "cgroup", "command", "name"),
    letters={"timestamp": "-T", "time": "", "tid": "-t", "max_events": ""},
    options=(
        Option("failed", ("-x", "--failed"), "only calls that fail"),
        Option("flags", ("-f", "--flag-filter"), "only with this flag of open(2), e.g. O_WRONLY", "text", "FLAG",
               (), repeat=True),
        Option("full_path", ("-F", "--full-path"), "show relative paths from the root directory"),
        PRINT_UID,
        Option("", ("-e", "--extended-fields"), "show flags and mode too"),
    ),
    columns=(
        UID,
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("FD", 4, lambda e: -1 if e.fd is None else e.fd, right=True),
        Column("ERR", 3, lambda e: e.errno, right=True),
        Column("FLAGS", 8, lambda e: None if e.flags is None else f"{e.flags:08o}", "extended-fields"),
        Column("MODE", 4, lambda e: None if e.mode is None else f"{e.mode:04o}", "extended-fields"),
        Column("PATH", 0, lambda e: shown(e.path), "!full-path"),
        Column("PATH", 0, lambda e: shown(e.full_path), "full-path"),
    ),
    examples=(
        "pyebpf opensnoop -x                 # calls that fail",
        "pyebpf opensnoop -p 1234 -T         # of one process, with seconds",
        "pyebpf opensnoop -c 'ls /etc'       # of a command, from its beginning",
    ),
)  # fmt: skip
