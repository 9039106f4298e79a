# SPDX-License-Identifier: BSD-2-Clause
"""What snoop tools watch, done by an actor (traffic.py) that says what came of it.

Use::

    with causes.actor("opener") as opener:
        reply = causes.opens(opener, "/nowhere\\n", how="openat2", path="cold")
        assert reply["errno"] == errno.ENOENT       # pid, tid, comm, ret, errno, start, end (CLOCK_MONOTONIC, ns)

Every function takes who= (a thread or child of the actor) where the actor has such. None raises if the call fails.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from traffic import Actor, Reply, Word

AT_FDCWD = -100
LEGACY = os.uname().machine == "x86_64"  # open, stat, unlink, ... are system calls of their own
OPENS = ("openat", "openat2", *(("open",) if LEGACY else ()))
STATS = ("newfstatat", "statx", "statfs", *(("stat", "lstat") if LEGACY else ()))
SYNCS = ("sync", "fsync", "fdatasync", "syncfs", "sync_file_range", "msync")
KILLS = ("kill", "tkill", "tgkill", "sigqueue", "tgsigqueue", "pidfd")
EXECS = ("execve", "execveat", "fd", "thread")
MEMORIES = ("", "cold", "disk", "edge", "cross")


@contextmanager
def actor(comm: str = "actor") -> Iterator[Actor]:
    """One in the test's own namespaces; ends with the manager."""
    made = Actor(comm)
    try:
        yield made
    finally:
        made.kill()


# Files


def opens(
    by: Actor, name: Word, flags: int = os.O_RDONLY, *, how: str = "openat", mode: int = 0o644, dirfd: int = AT_FDCWD,
    path: str = "", keep: bool = False, who: str = "",
) -> Reply:  # fmt: skip
    """Opens a file and (unless kept; ret is the descriptor) closes it.

    Args:
        how: one of OPENS, or creat (x86-64).
        path: one of MEMORIES, where the name is: "cold" in no page table, "disk" nor in memory, "edge" up to the last
            mapped byte, "cross" with a cold second half.
    """
    reply = by.act("open", how, name, flags, mode, dirfd, who=who, path=path)
    if not reply["errno"] and not keep:
        by.do("close", reply["ret"], who=who)
    return reply


def stats(
    by: Actor, name: Word, how: str = "newfstatat", *, dirfd: int = AT_FDCWD, path: str = "", who: str = ""
) -> Reply:
    """One of STATS."""
    return by.act("stat", how, name, dirfd, who=who, path=path)


def names(by: Actor, how: str, *paths: Word, path: str = "", who: str = "") -> Reply:
    """unlink, unlinkat, rmdir, mkdir, rename, renameat, renameat2, link, symlink, chdir, chroot."""
    return by.act("name", how, *paths, who=who, path=path)


def lives(by: Actor, name: Word, unlink: str = "unlinkat") -> tuple[Reply, Reply]:
    """Creates a file and removes it; both replies. It lived at least from the first's end to the second's start."""
    return opens(by, name, os.O_CREAT | os.O_EXCL | os.O_WRONLY), names(by, unlink, name)


def syncs(by: Actor, how: str, fd: int = -1, *, who: str = "") -> Reply:
    """One of SYNCS, of a descriptor of the actor's."""
    return by.act("sync", how, fd, who=who)


def longest_path(folder: Path) -> bytes:
    """The name, PATH_MAX - 1 bytes long, of a file that isn't there in the folder: dots and slashes, then a name."""
    start, end = os.fsencode(folder) + b"/", b"longest"
    room = 4095 - len(start) - len(end)
    return start + b"./" * (room // 2) + b"/" * (room % 2) + end


def names_that_hurt(folder: Path) -> list[bytes]:
    """Control characters, escapes, quotes, bytes that aren't UTF-8, a comma, an empty one, the longest one."""
    inside = os.fsencode(folder) + b"/"
    hard = (b"a\nb", b"tab\there", b"\x1b[31mred", b"\x07\x7f", b"quote\"'\\", b"\xff\xfe", b"caf\xc3\xa9", b",", b" ")
    return [*(inside + name for name in hard), b"", longest_path(folder)]


# Mounts; the actor is in a mount namespace of its own after own_mounts()


def own_mounts(by: Actor) -> int:
    """Gives the actor a mount namespace that shares nothing; returns its number, as in /proc/PID/ns/mnt."""
    by.do("mount", "unshare")
    return os.stat(f"/proc/{by.pid}/ns/mnt").st_ino


def mounts(
    by: Actor, source: Word, target: Word, kind: str = "tmpfs", flags: int = 0, data: Word = "", *, path: str = ""
) -> Reply:
    """mount(2)."""
    return by.act("mount", "mount", source, target, kind, flags, data, path=path)


def unmounts(by: Actor, target: Word, flags: int = 0, *, path: str = "") -> Reply:
    """umount2(2)."""
    return by.act("mount", "umount", target, flags, path=path)


def mounts_anew(by: Actor, target: Word, kind: str = "tmpfs") -> list[Reply]:
    """fsopen, two of fsconfig (size=64k; create), fsmount, move_mount; all replies, up to one that failed."""
    replies = [by.act("mount", "fsopen", kind, 0)]
    steps: list[tuple[Any, ...]] = [
        ("fsconfig", 0, 1, "size", "64k"),
        ("fsconfig", 0, 6, ""),
        ("fsmount", 0, 0, 0),
        ("move_mount", 3, "", target, 4),
    ]
    for how, source, *rest in steps:
        if replies[-1]["errno"]:
            break
        replies.append(by.act("mount", how, replies[source]["ret"], *rest))
    return replies


# Memory


def segments(by: Actor, size: int = 8192) -> list[Reply]:
    """shmget (private), shmat, shmctl (IPC_STAT), shmdt, shmctl (IPC_RMID), shmat that fails; their replies."""
    made = by.do("shm", "get", 0, size, 0o1600)
    at = by.do("shm", "at", made["ret"], 0, 0)
    return [
        made,
        at,
        by.do("shm", "ctl", made["ret"], 2),
        by.do("shm", "dt", at["ret"]),
        by.do("shm", "ctl", made["ret"], 0),
        by.act("shm", "at", made["ret"], 0, 0),
    ]


@contextmanager
def little_memory(by: Actor, limit: int = 16 << 20) -> Iterator[Path]:
    """Puts the actor into a memory cgroup (v1 or v2) of its own with a limit in bytes; its folder."""
    v1 = Path("/sys/fs/cgroup/memory")
    folder = Path(tempfile.mkdtemp(prefix="pyebpf-", dir=v1 if v1.is_dir() else "/sys/fs/cgroup"))
    parent = folder.parent / "cgroup.procs"
    try:
        if v1.is_dir():
            (folder / "memory.limit_in_bytes").write_text(str(limit))
        else:
            (folder.parent / "cgroup.subtree_control").write_text("+memory")
            (folder / "memory.max").write_text(str(limit))
        (folder / "cgroup.procs").write_text(str(by.pid))
        try:
            yield folder
        finally:
            parent.write_text(str(by.pid))
    finally:
        folder.rmdir()


def reclaims(by: Actor, size: int = 64 << 20) -> Reply:
    """Reads a file of so many bytes through the page cache; within `little_memory` the reader itself reclaims
    most of it (tracepoints vmscan:mm_vmscan_memcg_reclaim_begin and _end). ret: bytes read."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.truncate(size)
        return by.do("reads", file.name)


# Processes and threads


def execs(
    by: Actor, file: Word, arguments: Sequence[Word], *, how: str = "execve", path: str = "", who: str = ""
) -> Reply:
    """A child of the actor becomes that program; arguments[0] is its own name.

    Args:
        how: one of EXECS; "fd" executes an open file (a script fails: ENOENT), "thread" calls execve in a thread that
            isn't the first.

    The reply: child (pid), errno (of the exec), status (of wait; 99 << 8 if the exec failed), end after it ended.
    """
    return by.act("exec", how, file, *arguments, who=who, path=path)


def hard_arguments() -> dict[str, list[bytes]]:
    """Lists of arguments that a tool must show whole, or say that it doesn't."""
    return {
        "many": [b"true", *(b"argument-%d" % number for number in range(199))],
        "long": [b"true", b"x" * 10_000, b"end"],
        "control": [b"true", b"a\nb", b"\x1b[2J", b"\t", b"\xff", b"caf\xc3\xa9"],
        "empty": [b"true", b"", b"", b"end", b""],
        "quotes": [b"true", b"a b", b"\"'", b"\\", b"$HOME"],
        "none": [],
    }


def script(folder: Path, interpreter: str = "/bin/sh") -> Path:
    """An executable script; exec of it has the interpreter as the program that runs."""
    path = folder / "script"
    path.write_text(f"#!{interpreter}\nexit 7\n")
    path.chmod(0o755)
    return path


def ends(by: Actor, how: str, code: int = 0, comm: str = "child") -> Reply:
    """A child of the actor ends.

    Args:
        how: exit (code), group (exit_group(code) by a thread that isn't the first), leader (the first thread ends, then
            the other), signal (number code), core (the same, and it leaves a core file: the actor should be in a folder
            of the test's, ``names(by, "chdir", tmp_path)``).

    The reply: child, status (as of wait: os.WEXITSTATUS, os.WTERMSIG), core.
    """
    return by.act("end", how, code, comm)


def kills(by: Actor, how: str, pid: int, number: int, tid: int = 0, *, who: str = "") -> Reply:
    """A signal by one of KILLS; the receiver should `handles` it."""
    return by.act("kill", how, pid, number, tid or pid, who=who)


def handles(by: Actor, number: int) -> None:
    """The actor counts that signal from now on; `handled` tells."""
    by.do("handle", number)


def handled(by: Actor, number: int) -> int:
    return int(by.do("handled", number)["ret"])


def threads(by: Actor, number: int) -> Reply:
    """pthread_create(short_lived) so many times; the reply: tids, ret (how many)."""
    return by.act("threads", number)


def resolves(by: Actor, name: str, how: str = "getaddrinfo") -> Reply:
    """getaddrinfo, gethostbyname or gethostbyname2 of the C library; ret is the library's (0: found)."""
    return by.act("resolve", how, name)


# Sockets and rights


def binds(
    by: Actor, host: str, port: int, kind: str = "stream", options: dict[str, Word] | None = None, *,
    keep: bool = False, who: str = "",
) -> Reply:  # fmt: skip
    """A new socket with options (Actor.option), bound; closed after unless kept. The reply: fd, lhost, lport."""
    fd = by.socket(host, kind, who=who)
    for name, value in (options or {}).items():
        by.option(fd, name, value, who=who)
    reply = by.act("bind", fd, host, port, who=who)
    reply["fd"] = fd
    if not keep:
        by.do("close", fd, who=who)
    return reply


def unprivileged(by: Actor, name: str = "nobody", uid: int = 65534) -> int:
    """Forks a child (who=name) that is that user, without capabilities; its pid."""
    pid = by.fork(name)
    by.do("user", uid, who=name)
    return pid


def denied(by: Actor) -> dict[str, Reply]:
    """What a user without capabilities asks for: {CAP_...: reply}; EPERM all, or EACCES."""
    unprivileged(by)
    fd = by.socket(who="nobody")
    asked = {
        "CAP_SYS_CHROOT": names(by, "chroot", "/", who="nobody"),
        "CAP_SETUID": by.act("user", 0, who="nobody"),
        "CAP_NET_BIND_SERVICE": by.act("bind", fd, "127.0.0.1", 80, who="nobody"),
        "CAP_KILL": kills(by, "kill", by.pid, 0, who="nobody"),
        "CAP_SYS_ADMIN": by.act("mount", "umount", "/proc", 0, who="nobody"),
        "CAP_NET_RAW": by.act("socket", 4, "raw", who="nobody"),
    }
    assert all(reply["errno"] in (errno.EPERM, errno.EACCES) for reply in asked.values()), asked
    return asked
