# SPDX-License-Identifier: BSD-2-Clause
"""bashreadline: commands that are typed into bash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.errors import TargetNotFound
from pyebpf.target.mapped import Place, Sought, find
from pyebpf.tools.events import EventSession
from pyebpf.tools.functions import FunctionEvents
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import shown, text_behind
from pyebpf.tools.tool import PID, PRINT_UID, TIME, UID, Column, Option, Tool

_SOUGHT = (Sought(("readline",)),)


class TypedLine(NamedTuple):
    """A line that was entered.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: the shell; numbers as our /proc shows them, the name as raw bytes.
        command: the line, as readline() returned it; None: it could not be read.
        file: the program or library whose readline() it was.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    command: bytes | None
    file: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def bashreadline(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    shared: str | None = None,
) -> EventSession[TypedLine]:
    """Shows lines that readline() returns to interactive shells.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.
        shared: a program, or a libreadline.so, instead of bash; of a library every program that uses it is shown.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or has no readline().
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    scope = scope_of(pid, uid=uid, cgroup=cgroup)
    if shared is not None:
        found = find(_SOUGHT, Place(paths=(shared,)), what="readline()")
    elif scope.pids:
        found = find(_SOUGHT, Place(("readline",), ("*",)), pids=scope.pids, what="readline()")
    else:
        try:
            found = find(_SOUGHT, Place(programs=("bash",)), what="readline()")
        except TargetNotFound:  # bash was linked with the library
            found = find(_SOUGHT, Place(("readline",), ("bash",)), what="readline()")
    events = FunctionEvents("bashreadline", found, scope, entries=False)
    layout = events.object.btf.layout("line_event")

    def decode(record: memoryview) -> TypedLine:
        actor, size, function = layout.unpack(record)
        text = text_behind(record, layout.size, size)
        return TypedLine(actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, text, found.files[function])

    return EventSession(events, decode)


TOOL = Tool(
    name="bashreadline",
    description="Show each line that is entered in an interactive bash.",
    verb=bashreadline,
    kind="line",
    headline="Tracing commands typed into bash",
    scope=("pid", "uid", "cgroup"),
    probes=True,
    options=(
        Option("shared", ("-s", "--shared"), "this libreadline.so or program instead of bash", "text", "FILE"),
        PRINT_UID,
    ),
    columns=(
        TIME,
        UID,
        PID,
        Column("COMMAND", 0, lambda e: shown(e.command)),
    ),
    examples=(
        "pyebpf bashreadline                 # in every bash",
        "pyebpf bashreadline -p 1234         # in one shell",
        "pyebpf bashreadline -s /usr/lib/x86_64-linux-gnu/libreadline.so.8  # in all its users",
    ),
)
