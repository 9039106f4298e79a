# SPDX-License-Identifier: BSD-2-Clause
"""mountsnoop: file systems that are mounted and unmounted, by the old and the new system calls."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, NamedTuple, Union

from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import names_of_bits
from pyebpf.tools.tool import PID, Column, Option, Tool

# include/uapi/linux/mount.h, fcntl.h; in the order of their bits.
_MOUNT = {
    1: "MS_RDONLY", 2: "MS_NOSUID", 4: "MS_NODEV", 8: "MS_NOEXEC", 16: "MS_SYNCHRONOUS", 32: "MS_REMOUNT",
    64: "MS_MANDLOCK", 128: "MS_DIRSYNC", 256: "MS_NOSYMFOLLOW", 1024: "MS_NOATIME", 2048: "MS_NODIRATIME",
    4096: "MS_BIND", 8192: "MS_MOVE", 16384: "MS_REC", 32768: "MS_SILENT", 1 << 16: "MS_POSIXACL",
    1 << 17: "MS_UNBINDABLE", 1 << 18: "MS_PRIVATE", 1 << 19: "MS_SLAVE", 1 << 20: "MS_SHARED",
    1 << 21: "MS_RELATIME", 1 << 22: "MS_KERNMOUNT", 1 << 23: "MS_I_VERSION", 1 << 24: "MS_STRICTATIME",
    1 << 25: "MS_LAZYTIME", 1 << 26: "MS_SUBMOUNT", 1 << 28: "MS_NOSEC", 1 << 29: "MS_BORN", 1 << 30: "MS_ACTIVE",
    1 << 31: "MS_NOUSER",
}  # fmt: skip
_MAGIC, _MAGIC_MASK = 0xC0ED0000, 0xFFFF0000  # MS_MGC_VAL: programs older than Linux 2.4 had to set it
_UMOUNT = {1: "MNT_FORCE", 2: "MNT_DETACH", 4: "MNT_EXPIRE", 8: "UMOUNT_NOFOLLOW"}
_FSOPEN = {1: "FSOPEN_CLOEXEC"}
_FSPICK = {1: "FSPICK_CLOEXEC", 2: "FSPICK_SYMLINK_NOFOLLOW", 4: "FSPICK_NO_AUTOMOUNT", 8: "FSPICK_EMPTY_PATH"}
_FSMOUNT = {1: "FSMOUNT_CLOEXEC"}
_ATTRIBUTES = {
    0x1: "MOUNT_ATTR_RDONLY", 0x2: "MOUNT_ATTR_NOSUID", 0x4: "MOUNT_ATTR_NODEV", 0x8: "MOUNT_ATTR_NOEXEC",
    0x10: "MOUNT_ATTR_NOATIME", 0x20: "MOUNT_ATTR_STRICTATIME", 0x80: "MOUNT_ATTR_NODIRATIME",
    0x100000: "MOUNT_ATTR_IDMAP", 0x200000: "MOUNT_ATTR_NOSYMFOLLOW",
}  # fmt: skip
_MOVE = {
    0x1: "MOVE_MOUNT_F_SYMLINKS", 0x2: "MOVE_MOUNT_F_AUTOMOUNTS", 0x4: "MOVE_MOUNT_F_EMPTY_PATH",
    0x10: "MOVE_MOUNT_T_SYMLINKS", 0x20: "MOVE_MOUNT_T_AUTOMOUNTS", 0x40: "MOVE_MOUNT_T_EMPTY_PATH",
    0x100: "MOVE_MOUNT_SET_GROUP", 0x200: "MOVE_MOUNT_BENEATH",
}  # fmt: skip
_AT = {
    0x1: "OPEN_TREE_CLONE", 0x100: "AT_SYMLINK_NOFOLLOW", 0x800: "AT_NO_AUTOMOUNT", 0x1000: "AT_EMPTY_PATH",
    0x8000: "AT_RECURSIVE", 0o2000000: "OPEN_TREE_CLOEXEC",
}  # fmt: skip
_COMMANDS = (
    "FSCONFIG_SET_FLAG", "FSCONFIG_SET_STRING", "FSCONFIG_SET_BINARY", "FSCONFIG_SET_PATH", "FSCONFIG_SET_PATH_EMPTY",
    "FSCONFIG_SET_FD", "FSCONFIG_CMD_CREATE", "FSCONFIG_CMD_RECONFIGURE", "FSCONFIG_CMD_CREATE_EXCL",
)  # fmt: skip
_SET_TEXTS = (1, 3, 4)
_AT_FDCWD = -100

# What an argument is: a text, a descriptor, a command of fsconfig(2), its value, a number, struct mount_attr, or flags.
_TEXT, _FD, _COMMAND, _VALUE, _INT, _SIZE, _ATTR = "text", "fd", "command", "value", "int", "size", "attr"
_Kind = Union[str, dict[int, str]]
# By the name of its number in enum mount_call: tracepoint, name, arguments.
_CALLS: dict[str, tuple[str, str, dict[str, _Kind]]] = {
    "CALL_MOUNT": ("mount", "mount", {"source": _TEXT, "target": _TEXT, "type": _TEXT, "flags": _MOUNT, "data": _TEXT}),
    "CALL_UMOUNT": ("umount", "umount2", {"target": _TEXT, "flags": _UMOUNT}),
    "CALL_PIVOT_ROOT": ("pivot_root", "pivot_root", {"new_root": _TEXT, "put_old": _TEXT}),
    "CALL_FSOPEN": ("fsopen", "fsopen", {"fsname": _TEXT, "flags": _FSOPEN}),
    "CALL_FSPICK": ("fspick", "fspick", {"dirfd": _FD, "path": _TEXT, "flags": _FSPICK}),
    "CALL_FSCONFIG": (
        "fsconfig", "fsconfig", {"fd": _FD, "cmd": _COMMAND, "key": _TEXT, "value": _VALUE, "aux": _INT}
    ),
    "CALL_FSMOUNT": ("fsmount", "fsmount", {"fsfd": _FD, "flags": _FSMOUNT, "attr_flags": _ATTRIBUTES}),
    "CALL_MOVE_MOUNT": (
        "move_mount", "move_mount",
        {"from_dirfd": _FD, "from_path": _TEXT, "to_dirfd": _FD, "to_path": _TEXT, "flags": _MOVE},
    ),
    "CALL_OPEN_TREE": ("open_tree", "open_tree", {"dirfd": _FD, "path": _TEXT, "flags": _AT}),
    "CALL_MOUNT_SETATTR": (
        "mount_setattr", "mount_setattr", {"dirfd": _FD, "path": _TEXT, "flags": _AT, "attr": _ATTR, "size": _SIZE}
    ),
    "CALL_OPEN_TREE_ATTR": (
        "open_tree_attr", "open_tree_attr", {"dirfd": _FD, "path": _TEXT, "flags": _AT, "attr": _ATTR, "size": _SIZE}
    ),
}  # fmt: skip
_LATE = ("mount_setattr", "open_tree_attr")  # Linux 5.12, 6.15
_NEEDS = tuple(
    # What a kernel doesn't have, nobody can call.
    Need(f"{name}(2)", ((f"enter_{hook}", f"exit_{hook}"),), optional=hook in _LATE, silent=hook in _LATE)
    for hook, name, _ in _CALLS.values()
)


class Mount(NamedTuple):
    """A system call that mounts, unmounts, or changes a mount.

    Attributes:
        time: when the call returned, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        ppid, pcomm: the parent process (0: not in our PID namespace).
        mount_ns: inode number of the mount namespace, as in /proc/PID/ns/mnt.
        call: the system call's name ("mount", "umount2", "fsconfig", ...).
        args: its arguments by the names of the manual pages. Texts are bytes, or None: a null pointer, or unreadable.
            mount_setattr's attr is a dict, or a pointer where it could not be read.
        unreadable, cut: names of the texts that could not be read, and of those that are longer than what is here.
        result: what it returned; None when it failed.
        errno: 0, or why it failed.
        latency: how long it took, ns.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    ppid: int
    pcomm: bytes
    mount_ns: int
    call: str
    args: dict[str, Any]
    unreadable: tuple[str, ...]
    cut: tuple[str, ...]
    result: int | None
    errno: int
    latency: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def mountsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
) -> EventSession[Mount]:
    """Shows mount(2), umount2(2), pivot_root(2), and the calls of the new interface, when they return.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    events = KernelEvents("mountsnoop", _NEEDS, scope_of(pid, uid=uid, cgroup=cgroup))
    btf = events.object.btf
    layout = btf.layout("mount_event")
    null = btf.enumerators("mount_text")["TEXT_NULL"]
    calls = {number: _CALLS[name][1:] for name, number in btf.enumerators("mount_call").items()}

    def decode(record: memoryview) -> Mount:
        event = layout.unpack(record)
        call, kinds = calls[event.call]
        actor = event.actor
        args: dict[str, Any] = {}
        unreadable, cut = [], []
        room = (len(record) - layout.size) // len(event.text_sizes)
        texts = 0
        for (name, kind), value in zip(kinds.items(), event.args):
            if kind == _TEXT or (kind == _VALUE and event.args[1] & 0xFFFFFFFF in _SET_TEXTS):
                size, at = event.text_sizes[texts], layout.size + texts * room
                texts += 1
                args[name] = bytes(record[at : at + max(0, size - 1)]) if size >= 0 else None
                if size < 0 and size != null:
                    unreadable.append(name)
                elif size == room:
                    cut.append(name)
            elif kind == _ATTR and event.has_attributes:
                args[name] = dict(zip(("attr_set", "attr_clr", "propagation", "userns_fd"), event.attributes))
            elif kind in (_FD, _INT):
                args[name] = (value & 0xFFFFFFFF) - ((value & 1 << 31) << 1)
            elif kind in (_VALUE, _ATTR, _SIZE) or call == "mount":
                args[name] = value  # an unsigned long
            else:
                args[name] = value & 0xFFFFFFFF
        return Mount(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, event.parent, event.parent_comm,
            event.mount_namespace, call, args, tuple(unreadable), tuple(cut),
            event.result if event.result >= 0 else None, max(0, -event.result), event.duration,
        )  # fmt: skip

    return EventSession(events, decode)


def _call(event: Mount) -> str:
    kinds = next(kinds for _, name, kinds in _CALLS.values() if name == event.call)
    arguments = ", ".join(_argument(event, name, kinds[name], value) for name, value in event.args.items())
    result = f"-{errno.errorcode.get(event.errno, event.errno)}" if event.errno else str(event.result)
    return f"{event.call}({arguments}) = {result}"


def _argument(event: Mount, name: str, kind: _Kind, value: Any) -> str:
    if name in event.unreadable:
        return "<unreadable>"
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        text = value.decode("utf-8", "surrogateescape").replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"' + ("…" if name in event.cut else "")
    if isinstance(kind, dict):
        return _flags(value, kind)
    if isinstance(value, dict):
        return (
            f"{{{names_of_bits(value['attr_set'], _ATTRIBUTES)}, {names_of_bits(value['attr_clr'], _ATTRIBUTES)}, "
            f"{names_of_bits(value['propagation'], _MOUNT)}, {value['userns_fd']}}}"
        )
    if kind == _COMMAND:
        return _COMMANDS[value] if value < len(_COMMANDS) else str(value)
    if kind in (_VALUE, _ATTR):
        return hex(value) if value else "NULL"
    return "AT_FDCWD" if kind == _FD and value == _AT_FDCWD else str(value)


def _flags(value: int, names: dict[int, str]) -> str:
    if names is _MOUNT and value & _MAGIC_MASK == _MAGIC:
        rest = value & ~_MAGIC_MASK
        return f"MS_MGC_VAL|{names_of_bits(rest, names)}" if rest else "MS_MGC_VAL"
    return names_of_bits(value, names)


TOOL = Tool(
    name="mountsnoop",
    description="Show each call that mounts or unmounts a file system, or changes a mount, with all its arguments: "
    "mount, umount2, pivot_root, fsopen, fspick, fsconfig, fsmount, move_mount, open_tree, mount_setattr.",
    verb=mountsnoop,
    needs=_NEEDS,
    kind="mount",
    headline="Tracing mounts",
    options=(Option("", ("-P", "--parent-process"), "show the parent process, too"),),
    columns=(
        Column("COMM", 16, lambda e: e.comm),
        PID,
        Column("TID", 7, lambda e: e.tid),
        Column("PCOMM", 16, lambda e: e.pcomm, "parent-process"),
        Column("PPID", 7, lambda e: e.ppid or None, "parent-process"),
        Column("MNT_NS", 11, lambda e: e.mount_ns),
        Column("CALL", 0, _call),
    ),
    examples=(
        "pyebpf mountsnoop                   # all",
        "pyebpf mountsnoop -c 'unshare -m true'  # of a command",
    ),
)  # fmt: skip
