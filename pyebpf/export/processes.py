# SPDX-License-Identifier: BSD-2-Clause
"""Which processes run that a trace is about: a look at /proc whose cost is bounded."""

from __future__ import annotations

import os
import time
from fnmatch import fnmatchcase
from typing import NamedTuple

from pyebpf.export.config import Selection

_YOUNG = 10.0  # seconds in which a process is looked at each time: after fork it is not yet what it will be
_OLD_AT_ONCE = 200  # older ones, a look, in turns: one may call exec or be moved to another cgroup
_MOST = 1 << 16
_DEEPEST = 6  # levels of cgroups that a unit is looked for in
_MOST_MAPS = 4 << 20  # bytes of a process's maps


class Running(NamedTuple):
    """A process.

    Attributes:
        pid: its number.
        started: clock ticks since boot; with the number it is unique.
        exe: (st_dev, st_ino) of what it executes, None for a kernel thread or one we may not look at.
    """

    pid: int
    started: int
    exe: tuple[int, int] | None


class Facts(NamedTuple):
    """What selections ask about a process."""

    running: Running
    exe: str
    comm: str
    cgroup: str


class Processes:
    """All processes, as far as they were looked at.

    A look lists /proc, reads about young processes and those that are followed, and about 200 others in turns. So a
    process that is new is seen at the next look; one that changes what it is (exec long after fork), a little later.
    """

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._facts: dict[int, Facts] = {}
        self._turn: list[int] = []

    def look(self, followed: frozenset[int]) -> None:
        """Brings what is known up to date."""
        now = time.monotonic()
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for pid in self._seen.keys() - pids:
            del self._seen[pid]
            self._facts.pop(pid, None)
        new = pids - self._seen.keys()
        first = now if self._seen else now - _YOUNG  # all there are at the first look are old, and looked at once
        for pid in new:
            if len(self._seen) < _MOST:
                self._seen[pid] = first
        if not self._turn:
            self._turn = list(self._seen)
        turn, self._turn = self._turn[:_OLD_AT_ONCE], self._turn[_OLD_AT_ONCE:]
        young = {pid for pid, since in self._seen.items() if now - since < _YOUNG}
        for pid in (new | young | followed | set(turn)) & self._seen.keys():
            facts = facts_of(pid)
            if facts is None:
                self._facts.pop(pid, None)
            else:
                self._facts[pid] = facts

    def matching(self, selection: Selection) -> list[Running]:
        """The processes that a selection means, the lowest number first."""
        selection = selection._replace(cgroup=selection.cgroup and _below(selection.cgroup))
        found = [facts.running for facts in self._facts.values() if matches(selection, facts)]
        return sorted(found)


def facts_of(pid: int) -> Facts | None:
    """What is known about a process; None if it is gone, or a kernel thread."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read(4096)
        comm = stat[stat.index(b"(") + 1 : stat.rindex(b")")]
        fields = stat[stat.rindex(b")") + 2 :].split()
        if fields[0] in (b"Z", b"X") or int(fields[6]) & 0x00200000:  # PF_KTHREAD, include/linux/sched.h
            return None
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            cgroups = file.read(65536).splitlines()
        cgroup = next((line[3:] for line in cgroups if line.startswith(b"0::")), b"")
    except (OSError, ValueError, IndexError):
        return None
    exe, which = "", None
    try:
        exe = os.readlink(f"/proc/{pid}/exe")
        status = os.stat(f"/proc/{pid}/exe")
        which = status.st_dev, status.st_ino
    except OSError:
        pass
    if exe.endswith(" (deleted)"):
        exe = exe[:-10]
    return Facts(Running(pid, int(fields[19]), which), exe, os.fsdecode(comm), os.fsdecode(cgroup))


def matches(selection: Selection, facts: Facts) -> bool:
    """Whether a process is one that a selection means, its cgroup as /proc/PID/cgroup has it."""
    if selection.pids and facts.running.pid not in selection.pids:
        return False
    if selection.exe and not fnmatchcase(facts.exe, selection.exe):
        return False
    if selection.comm and not fnmatchcase(facts.comm, selection.comm):
        return False
    if selection.unit and selection.unit not in facts.cgroup.split("/"):
        return False
    if selection.cgroup:
        return facts.cgroup == selection.cgroup or facts.cgroup.startswith(selection.cgroup.rstrip("/") + "/")
    return True


def cgroups() -> str:
    """Where the cgroup2 hierarchy is mounted; where it usually is, if it isn't."""
    with open("/proc/self/mounts", "rb") as mounts:  # others choose the names of what they mount
        fields = (line.split(b" ") for line in mounts)
        return next((os.fsdecode(one[1]) for one in fields if one[2:3] == [b"cgroup2"]), "/sys/fs/cgroup")


def _below(path: str) -> str:
    """A cgroup as /proc/PID/cgroup has it, "/system.slice"; given with the mount point or without."""
    path, top = os.path.normpath(path), cgroups()
    if path == top or path.startswith(top + "/"):
        path = path[len(top) :]
    return path or "/"


def cgroup_of_unit(unit: str) -> str | None:
    """The directory of a unit's cgroup, None if it isn't running."""
    root = cgroups()
    for top, folders, _ in os.walk(root):
        if unit in folders:
            return os.path.join(top, unit)
        if top.count("/") - root.count("/") >= _DEEPEST:
            folders.clear()
    return None


def in_use(inodes: set[int]) -> frozenset[int]:
    """Those of some inode numbers that processes map. (A number may be another file system's: an answer too many.)"""
    wanted = {b" %d " % inode: inode for inode in inodes}
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/maps", "rb") as file:
                maps = file.read(_MOST_MAPS)
        except OSError:
            continue
        found.update(inode for text, inode in wanted.items() if text in maps)
    return frozenset(found)
