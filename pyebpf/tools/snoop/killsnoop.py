# SPDX-License-Identifier: BSD-2-Clause
"""killsnoop: signals that are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.signals import signal_name, signal_number
from pyebpf.tools.tool import PID, PRINT_UID, TIME, UID, Column, Option, Tool

_CALLS = ("kernel", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
_OUTCOMES = ("delivered", "ignored", "already pending", "queue overflow", "info lost", None)  # enum kill_outcome
_NEEDS = (
    Need("signals", (("on_signal",),)),
    *(Need(f"calls of {call}(2)", ((f"enter_{call}", f"exit_{call}"),)) for call in _CALLS[1:-1]),
    Need("calls of pidfd_send_signal(2)", (("enter_pidfd_send_signal", "exit_pidfd_send_signal"),), optional=True),
)


class Kill(NamedTuple):
    """A signal that was sent, or could not be.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who sent it; None: the kernel did, and which process it worked for isn't known.
        call: the system call, "kill" for instance; "kernel": it comes from the kernel itself.
        signal: its number; 0: a call that only asks whether it could send.
        signal_name: "SIGTERM", "SIGRTMIN+1".
        target: the process; of a call that sent nothing what it was given, so 0, -1 or minus a process group too. None:
            it isn't known (a pidfd, or a process outside our PID namespace).
        target_tid: the thread, of a signal to one thread; None: it went to the process, or nowhere.
        target_comm: the target's name; None: nothing was sent.
        errno: 0, or why it failed.
        outcome: "delivered", "ignored" (the target ignores it), "already pending", "info lost"; None: nothing was sent.
    """

    time: int
    pid: int | None
    tid: int | None
    uid: int | None
    comm: bytes | None
    call: str
    signal: int
    signal_name: str
    target: int | None
    target_tid: int | None
    target_comm: bytes | None
    errno: int
    outcome: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def killsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    tid: int | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    failed: bool = False,
    target: int | None = None,
    signals: Iterable[str | int] = (),
    kernel: bool = False,
) -> EventSession[Kill]:
    """Shows signals that are sent by system calls.

    Args:
        pid, tid, uid, cgroup: by whom; see `pyebpf.tools.scope.Scope`.
        failed: only calls that fail.
        target: only to this process.
        signals: only these: names or numbers, or several with a comma between them.
        kernel: also those that the kernel sends by itself: of children that end, faults, timers, terminals.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    wanted = {signal_number(name) for group in signals for name in str(group).split(",")}

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["failed_only"] = failed
        obj.rodata["from_kernel"] = kernel
        obj.rodata["only_target"] = target or 0
        obj.rodata["filter_signals"] = bool(wanted)
        obj.rodata["wanted_zero"] = 0 in wanted
        obj.rodata["wanted_signals"] = sum(1 << number - 1 for number in wanted if number)

    events = KernelEvents("killsnoop", _NEEDS, scope_of(pid, tid=tid, uid=uid, cgroup=cgroup), configure)
    btf = events.object.btf
    layout = btf.layout("kill_event")
    nobody = btf.enumerators("kill_target")["NO_TARGET"]
    nothing = btf.enumerators("kill_outcome")["KILL_NOTHING"]

    def decode(record: memoryview) -> Kill:
        actor, process, thread, comm, signal, result, call, outcome, known, _ = layout.unpack(record)
        return Kill(
            actor.time, actor.tgid if known else None, actor.tid if known else None, actor.uid if known else None,
            actor.comm if known else None, _CALLS[call], signal,
            signal_name(signal) if signal else "0", None if process == nobody else process, thread or None,
            None if outcome == nothing else comm, -min(result, 0), _OUTCOMES[outcome],
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="killsnoop",
    description="Show each signal that is sent by a system call: by whom, to whom, and how it went.",
    verb=killsnoop,
    needs=_NEEDS,
    kind="signal",
    headline="Tracing signals",
    scope=("pid", "tid", "uid", "cgroup", "command"),
    options=(
        Option("failed", ("-x", "--failed"), "only calls that fail"),
        Option("signals", ("-s", "--signal"), "only these signals, by number or name, e.g. 9,TERM", "text", "SIGNAL",
               (), repeat=True),
        Option("target", ("-T", "--tpid"), "only signals to this process", "count", "PID"),
        Option("kernel", ("-a", "--all"),
               "also what the kernel sends by itself: of children, faults, timers, terminals"),
        Option("", ("-n", "--names"), "show signals by name"),
        PRINT_UID,
    ),
    columns=(
        TIME,
        UID,
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("SIG", 4, lambda e: e.signal, "!names"),
        Column("SIG", 11, lambda e: e.signal_name, "names"),
        Column("TPID", 7, lambda e: e.target),
        Column("TCOMM", 16, lambda e: e.target_comm),
        Column("RESULT", 0, lambda e: -e.errno),
    ),
    examples=(
        "pyebpf killsnoop -x                 # calls that fail",
        "pyebpf killsnoop -n -s KILL,TERM    # who ends others",
        "pyebpf killsnoop -a -T 1234         # all that reaches a process",
    ),
)  # fmt: skip
