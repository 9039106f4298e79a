# SPDX-License-Identifier: BSD-2-Clause
"""threadsnoop: threads that are started, and with which function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.target.command import Command
from pyebpf.target.mapped import Place, Sought
from pyebpf.target.stacks import UNKNOWN
from pyebpf.tools.events import EventSession
from pyebpf.tools.frames import Frames
from pyebpf.tools.functions import FunctionEvents, find_for
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tool import PID, Column, Option, Tool, elapsed_ms

_SOUGHT = (Sought(("pthread_create",), returns=False),)


class NewThread(NamedTuple):
    """A call of pthread_create.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who starts the thread; numbers as our /proc shows them, the name as raw bytes.
        function: the function the thread begins with, demangled; None: the process was gone before it could be looked
            up, or nothing names it.
        offset: bytes from that function's first instruction: 0, or the name is only of what lies before.
        module: the file it is in; None if unknown.
        address: where it is in the process's memory.
        argument: what the function is given.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    function: str | None
    offset: int
    module: str | None
    address: int
    argument: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def threadsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    command: Command | None = None,
) -> EventSession[NewThread]:
    """Shows threads that are started by pthread_create, in every C library that a process uses.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.
        command: a command that has not begun yet.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or has no pthread_create.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    place = Place(("c", "pthread"), ("*",) if pid else ())
    scope = scope_of(pid, uid=uid, cgroup=cgroup)
    found, scope = find_for(_SOUGHT, place, scope, command, "pthread_create")
    events = FunctionEvents("threadsnoop", found, scope, returns=False)
    layout = events.object.btf.layout("thread_event")
    frames = Frames(found.resolution.images)

    def decode(record: memoryview) -> NewThread:
        actor, address, argument = layout.unpack(record)
        (frame,) = frames.user(actor.tgid, (address,))
        return NewThread(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm,
            None if frame.name == UNKNOWN else frame.name, frame.offset, frame.module or None, address, argument,
        )  # fmt: skip

    return EventSession(events, decode, at_end=frames.close)


def _function(event: NewThread) -> str:
    if event.function is None:
        return f"{event.address:#x}"
    return event.function + (f"+{event.offset:#x}" if event.offset else "")


TOOL = Tool(
    name="threadsnoop",
    description="Show each thread that is started by pthread_create, and the function it begins with.",
    verb=threadsnoop,
    kind="thread",
    headline="Tracing calls of pthread_create",
    scope=("pid", "uid", "cgroup", "command", "name"),
    probes=True,
    options=(Option("", ("-x", "--extended"), "show the starting thread and the file the function is in"),),
    columns=(
        Column("TIME(ms)", 10, elapsed_ms),
        PID,
        Column("TID", 7, lambda e: e.tid, "extended"),
        Column("COMM", 16, lambda e: e.comm),
        Column("MODULE", 30, lambda e: e.module, "extended"),
        Column("FUNC", 0, _function),
    ),
    examples=(
        "pyebpf threadsnoop                  # of all processes",
        "pyebpf threadsnoop -p 1234 -x       # of one, with files",
        "pyebpf threadsnoop -c 'node app.js' # of a command, from its beginning",
    ),
)
