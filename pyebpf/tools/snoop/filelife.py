# SPDX-License-Identifier: BSD-2-Clause
"""filelife: files that are deleted soon after they were made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.tools.events import EventLosses, EventSession, KernelEvents, Need
from pyebpf.tools.place import Places
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import shown, text_behind
from pyebpf.tools.tool import PID, PRINT_UID, TIME, UID, Column, Option, Tool


def _calls(*names: str, optional: bool = False) -> tuple[Need, ...]:
    return tuple(
        Need(f"calls of {name}(2)", ((f"enter_{name}", f"exit_{name}"),), optional=optional, silent=optional)
        for name in names
    )


_NEEDS = (
    *_calls("openat", "unlinkat", "renameat2"),
    *_calls("open", "creat", "openat2", "unlink", "rename", "renameat", optional=True),  # not on every machine
    Need(
        "which files are deleted",
        (("on_unlink", "on_rename"), ("on_time_set", "on_time_changed", "on_time_kept"), ("at_unlink", "at_rename")),
    ),
)


class Life(NamedTuple):
    """A file that was deleted, and how long it had been there.

    Attributes:
        time: of the deletion, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who deleted it; numbers as our /proc shows them, the name as raw bytes.
        age: ns since it was made.
        path: the last of its names, as the process gave it; None: it could not be read.
        full_path: from the process's root directory; None: it wasn't asked for, or could not be read.
        replaced: another file was given its name (rename).
        made_by, made_comm: the process that had made it, and its name. None: it isn't in our PID namespace.
        inode: number of the file; device: of the file system, as the kernel packs it (major << 20 | minor).
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    age: int
    path: bytes | None
    full_path: bytes | None
    replaced: bool
    made_by: int | None
    made_comm: bytes
    inode: int
    device: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class _FileEvents(KernelEvents):
    """Of the files that were made, those that the kernel's table had to forget count as untracked."""

    def losses(self) -> EventLosses:
        counts, losses = self.object.bss, super().losses()
        assert counts is not None
        # Files are made and deleted meanwhile: those that ended are looked at last, so this is the least it can be.
        kept = counts["births_kept"]
        there = len(self.object.maps["births"])
        return losses._replace(untracked=losses.untracked + max(0, kept - there - counts["births_ended"]))


def filelife(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    full_path: bool = False,
) -> EventSession[Life]:
    """Shows files that are deleted, of those that were made meanwhile.

    Args:
        pid, uid, cgroup: who deletes them; see `pyebpf.tools.scope.Scope`.
        full_path: tell where relative paths begin.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["full_paths"] = full_path

    events = _FileEvents("filelife", _NEEDS, scope_of(pid, uid=uid, cgroup=cgroup), configure)
    layout = events.object.btf.layout("file_event")
    places = Places(events.object.btf, layout.size)

    def decode(record: memoryview) -> Life:
        actor, age, inode, device, made_by, made_comm, size, names, replaced, _ = layout.unpack(record)
        if full_path:
            path, whole = places.paths(record, size, names)
        else:
            path, whole = text_behind(record, layout.size, size), None
        return Life(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, age, path, whole, bool(replaced),
            made_by or None, made_comm, inode, device,
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="filelife",
    description="Show each file that is deleted, of those made while this runs, and how long it was there.",
    verb=filelife,
    needs=_NEEDS,
    kind="file",
    headline="Tracing files that are made and deleted",
    scope=("pid", "uid", "cgroup", "command", "name"),
    options=(
        Option("full_path", ("-F", "--full-path"), "show relative paths from the root directory"),
        PRINT_UID,
    ),
    columns=(
        TIME,
        UID,
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("AGE(s)", 7, lambda e: f"{e.age / 1e9:.2f}"),
        Column("FILE", 0, lambda e: shown(e.path), "!full-path"),
        Column("FILE", 0, lambda e: shown(e.full_path), "full-path"),
    ),
    examples=(
        "pyebpf filelife -F                  # whole paths",
        "pyebpf filelife -p 1234             # files that one process deletes",
    ),
)
