# SPDX-License-Identifier: BSD-2-Clause
"""exitsnoop: processes that end, why, and how old they were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.signals import signal_name
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_NEEDS = (Need("processes that end", (("on_exit",),)),)
_SIGNAL, _CORE = 0x7F, 0x80  # of a wait status, wait(2)


class Exit(NamedTuple):
    """A process, or a thread, that ended.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: which; of a process, tid and name are its first thread's.
        ppid: its parent.
        age: ns since it began.
        exit_code: what it gave to exit(2), 0 to 255; None: a signal ended it.
        signal: the number of the signal that ended it; None: none did.
        core_dumped: it left a core dump.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    ppid: int
    age: int
    exit_code: int | None
    signal: int | None
    core_dumped: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def exitsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    failed: bool = False,
    per_thread: bool = False,
) -> EventSession[Exit]:
    """Shows processes that end.

    Args:
        pid, uid, cgroup: which; see `pyebpf.tools.scope.Scope`.
        failed: only those that end by a signal or with an exit code other than 0.
        per_thread: each thread that ends, instead of each process.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["failed_only"] = failed
        obj.rodata["each_thread"] = per_thread

    events = KernelEvents("exitsnoop", _NEEDS, scope_of(pid, uid=uid, cgroup=cgroup), configure)
    layout = events.object.btf.layout("exit_event")

    def decode(record: memoryview) -> Exit:
        actor, age, parent, code = layout.unpack(record)
        signal = code & _SIGNAL or None
        return Exit(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, parent, age,
            None if signal else code >> 8 & 0xFF, signal, bool(code & _CORE),
        )  # fmt: skip

    return EventSession(events, decode)


def _how(event: Exit) -> str:
    if event.signal is None:
        return f"code {event.exit_code}" if event.exit_code else "0"
    # Without "SIG", as bcc has it.
    text = f"signal {event.signal} ({signal_name(event.signal).replace('SIG', '', 1)})"
    return text + ", core dumped" if event.core_dumped else text


TOOL = Tool(
    name="exitsnoop",
    description="Show each process that ends: how old it was, and by which exit code or signal.",
    verb=exitsnoop,
    needs=_NEEDS,
    kind="exit",
    headline="Tracing processes that end",
    scope=("pid", "uid", "cgroup", "command", "name"),
    options=(
        Option("failed", ("-x", "--failed"), "only those that fail: an exit code other than 0, or a signal"),
        Option("per_thread", ("--per-thread",), "each thread that ends, instead of each process"),
        PRINT_UID,
    ),
    columns=(
        UID,
        Column("PCOMM", 16, lambda e: e.comm),
        PID,
        Column("PPID", 7, lambda e: e.ppid),
        Column("TID", 7, lambda e: e.tid),
        Column("AGE(s)", 7, lambda e: f"{e.age / 1e9:.2f}"),
        Column("EXIT_CODE", 0, _how),
    ),
    examples=(
        "pyebpf exitsnoop -x                 # what fails or is killed",
        "pyebpf exitsnoop --per-thread -p 1234",
        "pyebpf exitsnoop -T                 # with the time of day",
    ),
)
