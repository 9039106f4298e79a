# SPDX-License-Identifier: BSD-2-Clause
"""shmsnoop: uses of System V shared memory."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import names_of_bits
from pyebpf.tools.tool import PID, Column, Tool

# include/uapi/linux/ipc.h, include/uapi/linux/shm.h
_GET_FLAGS = {
    0o1000: "IPC_CREAT", 0o2000: "IPC_EXCL", 0o4000: "SHM_HUGETLB", 0o10000: "SHM_NORESERVE",
}  # fmt: skip
_AT_FLAGS = {0o10000: "SHM_RDONLY", 0o20000: "SHM_RND", 0o40000: "SHM_REMAP", 0o100000: "SHM_EXEC"}
_COMMANDS = {
    0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 3: "IPC_INFO", 11: "SHM_LOCK", 12: "SHM_UNLOCK", 13: "SHM_STAT",
    14: "SHM_INFO", 15: "SHM_STAT_ANY",
}  # fmt: skip
_HUGE_SHIFT = 26  # include/uapi/asm-generic/hugetlb_encode.h: the size of huge pages, as a power of two

# Arguments by name; what is 32 bits wide in the system call is cut to that. Identifiers have a sign.
_INT, _WORD = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_CALLS = {
    "CALL_SHMGET": ("shmget", {"key": _INT, "size": _WORD, "shmflg": _INT}),
    "CALL_SHMAT": ("shmat", {"shmid": _INT, "shmaddr": _WORD, "shmflg": _INT}),
    "CALL_SHMDT": ("shmdt", {"shmaddr": _WORD}),
    "CALL_SHMCTL": ("shmctl", {"shmid": _INT, "cmd": _INT, "buf": _WORD}),
}
_NEEDS = tuple(Need(f"{name}(2)", ((f"enter_{name}", f"exit_{name}"),)) for name, _ in _CALLS.values())


class SharedMemory(NamedTuple):
    """A call that concerns System V shared memory.

    Attributes:
        time: when it returned, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        call: shmget, shmat, shmdt or shmctl.
        result: shmget's identifier, shmat's address, what shmctl's command returns, 0; None when it failed.
        errno: 0, or why it failed.
        args: by name, as the process gave them: shmget has key, size, shmflg; shmat shmid, shmaddr, shmflg; shmdt
            shmaddr; shmctl shmid, cmd, buf. Only shmid has a sign.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    call: str
    result: int | None
    errno: int
    args: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def shmsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    tid: int | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
) -> EventSession[SharedMemory]:
    """Shows calls of shmget(2), shmat(2), shmdt(2) and shmctl(2), when they return.

    Args:
        pid, tid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    events = KernelEvents("shmsnoop", _NEEDS, scope_of(pid, tid=tid, uid=uid, cgroup=cgroup))
    btf = events.object.btf
    layout = btf.layout("shm_event")
    calls = {number: _CALLS[name] for name, number in btf.enumerators("shm_call").items()}

    def decode(record: memoryview) -> SharedMemory:
        actor, given, result, number, _ = layout.unpack(record)
        call, masks = calls[number]
        failed = -4096 < result < 0  # MAX_ERRNO, include/linux/err.h: shmat may return any address
        return SharedMemory(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, call, None if failed else result,
            -result if failed else 0,
            {name: _signed(name, value & mask) for (name, mask), value in zip(masks.items(), given)},
        )  # fmt: skip

    return EventSession(events, decode)


def _signed(name: str, value: int) -> int:
    return value - (1 << 32) if name == "shmid" and value >> 31 else value


def _result(event: SharedMemory) -> str:
    if event.result is None:
        return f"-{errno.errorcode.get(event.errno, event.errno)}"
    return hex(event.result) if event.call == "shmat" else str(event.result)


def _arguments(event: SharedMemory) -> str:
    return ", ".join(f"{name}: {_argument(event.call, name, value)}" for name, value in event.args.items())


def _argument(call: str, name: str, value: int) -> str:
    if name == "cmd":
        command = value & ~0x100  # IPC_64, of old programs
        return f"{value} ({_COMMANDS[command]})" if command in _COMMANDS else str(value)
    if name in ("size", "shmid"):
        return str(value)
    if name != "shmflg" or not value:
        return hex(value)
    if call == "shmat":
        return f"{value:#x} ({names_of_bits(value, _AT_FLAGS)})"
    mode, huge = value & 0o777, value >> _HUGE_SHIFT
    flags = names_of_bits(value & ((1 << _HUGE_SHIFT) - 1) & ~0o777, _GET_FLAGS)
    parts = [flags] if flags != "0x0" else []
    if huge:
        parts.append(f"{huge}<<{_HUGE_SHIFT}")
    return f"{value:#x} ({'|'.join((*parts, f'0{mode:o}'))})"


TOOL = Tool(
    name="shmsnoop",
    description="Show each call of shmget, shmat, shmdt and shmctl, when it returns.",
    verb=shmsnoop,
    needs=_NEEDS,
    kind="shared_memory",
    headline="Tracing System V shared memory",
    scope=("pid", "tid", "uid", "cgroup", "command", "name"),
    letters={"timestamp": "-T", "time": "", "tid": "-t", "max_events": ""},
    columns=(
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("SYS", 6, lambda e: e.call.upper(), right=True),
        Column("RET", 16, _result, right=True),
        Column("ARGs", 0, _arguments),
    ),
    examples=(
        "pyebpf shmsnoop                     # all uses",
        "pyebpf shmsnoop -p 1234             # of one process",
        "pyebpf shmsnoop -n post             # of processes with post in their name",
    ),
)  # fmt: skip
