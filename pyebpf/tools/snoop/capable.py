# SPDX-License-Identifier: BSD-2-Clause
"""capable: checks of capabilities, and how they went."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.core.ringbuf import unpack_words
from pyebpf.target.stacks import UNKNOWN, Frame
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.frames import Frames
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tool import PID, TIME, Column, Option, Tool

# The function tells more than the tracepoint, which doesn't know what a check is for.
_NEEDS = (Need("checks of capabilities", (("on_function",), ("on_kprobe", "on_kretprobe"), ("on_tracepoint",))),)
# include/uapi/linux/capability.h
_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
_CHECK = "cap_capable"  # the kernel's function; it may be part of another
# __traceiter_*: of a tracepoint that several programs watch.
_OUR_WAY = ("bpf_", "__bpf_", "__traceiter_", UNKNOWN)
_NOAUDIT, _INSETID = 2, 4  # CAP_OPT_*, include/linux/security.h, since Linux 5.1


class Check(NamedTuple):
    """A check of a capability.

    Attributes:
        time: when it was over, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: whose; numbers as our /proc shows them, the name as raw bytes.
        cap: the capability's number.
        name: its name, "CAP_CHOWN"; the number as text where it is newer than this list.
        allowed: it has the capability.
        audit: a denial would be written to the audit log; None: unknown, as only the tracepoint can be seen here.
        insetid: the check is for a system call of the setuid family; None: unknown.
        user_stack, kernel_stack: innermost frame first; empty if not asked for, or if it could not be taken.
        stack_error: why one that was asked for could not be taken; None otherwise.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    cap: int
    name: str
    allowed: bool
    audit: bool | None
    insetid: bool | None
    user_stack: tuple[Frame, ...]
    kernel_stack: tuple[Frame, ...]
    stack_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def capable(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    all_checks: bool = False,
    denied: bool = False,
    unique: bool = False,
    user_stack: bool = False,
    kernel_stack: bool = False,
) -> EventSession[Check]:
    """Shows checks of capabilities.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.
        all_checks: also those of which a denial wouldn't be audited. They are always shown where only the tracepoint
            can be seen.
        denied: only those that are denied.
        unique: of each process each capability once, and once more if it is denied.
        user_stack, kernel_stack: with stacks.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["audited_only"] = not all_checks
        obj.rodata["denied_only"] = denied
        obj.rodata["unique"] = unique
        obj.rodata["want_user_stack"] = user_stack
        obj.rodata["want_kernel_stack"] = kernel_stack

    events = KernelEvents("capable", _NEEDS, scope_of(pid, uid=uid, cgroup=cgroup), configure)
    btf = events.object.btf
    layout = btf.layout("capable_event")
    offsets = btf.members("capable_stacks")
    unknown = btf.enumerators("capable_options")["OPTIONS_UNKNOWN"]
    frames = Frames({})
    notes = []
    if "on_tracepoint" in events.used:
        notes.append(
            "AUDIT isn't known where fentry and kprobes don't work, as here: all checks are shown, as with -v"
        )

    def decode(record: memoryview) -> Check:
        actor, cap, result, options, _, user_size, kernel_size = layout.unpack(record)
        known = options != unknown
        user: tuple[Frame, ...] = ()
        kernel: tuple[Frame, ...] = ()
        if user_size > 0:
            user = frames.user(actor.tgid, unpack_words(record, offsets["user_stack"], user_size))
        if kernel_size > 0:
            kernel = _without_us(frames.kernel(unpack_words(record, offsets["kernel_stack"], kernel_size)))
        error = min(user_size, kernel_size)
        return Check(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, cap,
            f"CAP_{_NAMES[cap]}" if 0 <= cap < len(_NAMES) else str(cap), result == 0,
            not options & _NOAUDIT if known else None, bool(options & _INSETID) if known else None, user, kernel,
            f"no stack: {os.strerror(-error)}" if error < 0 else None,
        )  # fmt: skip

    return EventSession(events, decode, notes, frames.close)


def _stacks(event: Check) -> list[str]:
    lines = []
    for frame in (*event.kernel_stack, *event.user_stack):
        module = "" if frame.module in ("", "[kernel]") else f" {frame.module}"
        lines.append(f"    {frame.name}+{frame.offset:#x}{module}")
    if event.stack_error:
        lines.append(f"    [{event.stack_error}]")
    return lines


def _without_us(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """A kernel stack without what runs our program. (That has no name any more once it is detached.)"""
    for index, frame in enumerate(frames):
        if frame.name == _CHECK:
            return frames[index:]
    ours = 0
    while ours < len(frames) and (frames[ours].module == "[bpf]" or frames[ours].name.startswith(_OUR_WAY)):
        ours += 1
    return frames[ours:] or frames


def _number(value: bool | None) -> int | None:
    return None if value is None else int(value)


TOOL = Tool(
    name="capable",
    description="Show each check of a capability that the kernel makes, and whether the process has it.",
    verb=capable,
    needs=_NEEDS,
    kind="capability",
    headline="Tracing checks of capabilities",
    options=(
        Option("all_checks", ("-v", "--verbose"), "also checks whose denial wouldn't be audited"),
        Option("denied", ("--denied",), "only checks that are denied"),
        Option("unique", ("--unique",), "each capability once a process, and once more if it is denied"),
        Option("kernel_stack", ("-K", "--kernel-stack"), "show the kernel's stack"),
        Option("user_stack", ("-U", "--user-stack"), "show the process's stack"),
        Option("", ("-x", "--extra"), "show TID and INSETID"),
    ),
    columns=(
        TIME,
        Column("UID", 6, lambda e: e.uid),
        PID,
        Column("TID", 7, lambda e: e.tid, "extra"),
        Column("COMM", 16, lambda e: e.comm),
        Column("CAP", 3, lambda e: e.cap, right=True),
        Column("NAME", 20, lambda e: e.name),
        Column("AUDIT", 5, lambda e: _number(e.audit)),
        Column("INSETID", 7, lambda e: _number(e.insetid), "extra"),
        Column("VERDICT", 0, lambda e: "allowed" if e.allowed else "denied"),
    ),
    follow=_stacks,
    examples=(
        "pyebpf capable -p 1234 --unique     # what a service needs",
        "pyebpf capable --denied -K          # what is denied, and where in the kernel",
    ),
)  # fmt: skip
