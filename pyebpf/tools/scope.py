# SPDX-License-Identifier: BSD-2-Clause
"""Which processes and connections a tool of the kernel's events shows: all, or those that were asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from pyebpf.core.object import Object
from pyebpf.errors import TargetError, TargetNotFound
from pyebpf.tools import processes

# The lowest of the initial namespaces in include/linux/proc_ns.h; others are PROC_DYNAMIC_FIRST and higher.
_FIRST_NAMESPACE = 0xEFFFFFF8
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET = 0x40000000
_FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
_MOST = 0xFFFFFFFF  # of what the kernel keeps in 32 bits


class Tree(int):
    """A process, and those it starts while it is traced, and theirs: ``pid=Tree(1234)``."""

    __slots__ = ()


class Scope(NamedTuple):
    """What is shown. Everything that is given must hold; what a tool's program doesn't know is refused.

    Attributes:
        pids: processes; empty: all but ourselves.
        children: the processes they start, too.
        tid: a thread.
        uid: a real user ID.
        cgroup: a directory of the cgroup2 hierarchy; processes in it or below it.
        netns: of connections: a file (``/proc/PID/ns/net``, ``/run/netns/NAME``), a name below /run/netns, or the inode
            number that ``readlink /proc/PID/ns/net`` shows.
        family: of connections: 4 or 6; what is on the wire counts.
        local_ports, remote_ports: of connections; empty: all.
    """

    pids: tuple[int, ...] = ()
    tid: int | None = None
    uid: int | None = None
    cgroup: str | None = None
    netns: str | int | None = None
    family: int | None = None
    local_ports: tuple[int, ...] = ()
    remote_ports: tuple[int, ...] = ()
    children: bool = False

    def asked(self) -> tuple[str, ...]:
        """What isn't left open, as text: ("pid=1234", "family=4")."""
        given = [("pid", pid) for pid in self.pids]
        given += [(name, value) for name, value in self._asdict().items() if name != "pids" and value != ()
                  and value is not None and value is not False]  # fmt: skip
        return tuple([f"{name}={value}" for name, value in given])

    def set(self, obj: Object) -> None:
        """Sets an opened object's constants and the sizes of its maps.

        Raises:
            TargetNotFound: no such process, thread, cgroup or network namespace.
            TargetError: what is named isn't one (a thread is no process), or the tool can't filter by it.
            Unsupported: /proc isn't mounted.
        """
        rodata = obj.rodata
        assert rodata is not None
        processes.number_as_we_do(obj)
        for pid in self.pids:
            _require_process(pid)
        processes.limit(obj, self.pids)
        if "tracer_tgid" in rodata and os.getpid() not in self.pids:
            rodata["tracer_tgid"] = os.getpid()
        if self.children:
            self._set(obj, "follow_children", True, "whose child a process is")
        elif "family" in obj.maps:
            obj.maps["family"].max_entries = 1
        if self.tid is not None:
            if not os.path.exists(f"/proc/{self.tid}"):  # threads are there too, if not among what is listed
                raise TargetNotFound(f"thread {self.tid} doesn't exist")
            rodata["only_tid"] = self.tid
        if self.uid is not None:
            if not isinstance(self.uid, int) or not 0 <= self.uid <= _MOST:
                raise TargetError(f"user ID {self.uid!r:.80}: user IDs are 0 to {_MOST}")
            rodata["filter_uid"], rodata["only_uid"] = True, self.uid
        if self.cgroup is not None:
            rodata["filter_cgroup"] = True
            if "only_cgroup" in rodata:
                rodata["only_cgroup"] = cgroup_id(self.cgroup)
        if self.netns is not None:
            self._set(obj, "only_netns", network_namespace(self.netns), "network namespaces")
        if self.family is not None:
            if self.family not in _FAMILIES:
                raise TargetError(f"family {self.family}: it is 4 or 6")
            self._set(obj, "only_family", _FAMILIES[self.family], "address families")
        for name, ports in (("local_ports", self.local_ports), ("remote_ports", self.remote_ports)):
            for port in ports:
                if not 0 < port < 65536:
                    raise TargetError(f"port {port}: ports are 1 to 65535")
            if ports:
                self._set(obj, f"filter_{name}", True, "ports")
                obj.maps[name].max_entries = len(ports)

    @staticmethod
    def _set(obj: Object, name: str, value: int, what: str) -> None:
        assert obj.rodata is not None
        if name not in obj.rodata:
            raise TargetError(f"{obj.name} can't filter by {what}")
        obj.rodata[name] = value

    def fill(self, obj: Object) -> None:
        """Fills the maps of the loaded object, before its programs are attached."""
        processes.fill(obj, self.pids)
        for name, ports in (("local_ports", self.local_ports), ("remote_ports", self.remote_ports)):
            for port in ports:
                obj.maps[name][port] = 1
        if self.cgroup is not None:
            fd = _open_cgroup(self.cgroup)
            try:
                obj.maps["cgroups"][0] = fd
            finally:
                os.close(fd)


def scope_of(pid: int | Iterable[int] | None, **others: object) -> Scope:
    """A scope as a verb's arguments give it: one process or several, None for what wasn't asked for."""
    pids = processes.asked_for(pid)
    others["children"] = any(isinstance(one, Tree) for one in pids)
    return Scope(pids, **{name: value for name, value in others.items() if value is not None})  # type: ignore[arg-type]


def _require_process(pid: int) -> None:
    """Raises TargetNotFound, TargetError (it's a thread)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            tgid = next((int(line[5:]) for line in status if line.startswith(b"Tgid:")), pid)
    except OSError:
        raise TargetNotFound(f"process {pid} doesn't exist") from None
    if tgid != pid:
        raise TargetError(f"{pid} is a thread of process {tgid}", hint=f"-p {tgid} shows all its threads")


def _open_cgroup(path: str) -> int:
    """Opens a cgroup2 directory. Raises TargetNotFound, TargetError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise TargetError(f"{path} is not a cgroup: not a directory") from None
    except OSError as error:
        raise TargetNotFound(
            f"cgroup {path}: {error.strerror}",
            hint="name its directory, e.g. /sys/fs/cgroup/system.slice/nginx.service",
        ) from None
    # Only cgroup2 has this file in every directory but the root, where it has cgroup.controllers.
    if not all(_exists_at(fd, name) for name in ("cgroup.procs", "cgroup.controllers")):
        os.close(fd)
        raise TargetError(
            f"{path} is not a directory of the cgroup2 hierarchy", hint="findmnt -t cgroup2 shows where that is"
        )
    return fd


def _exists_at(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd)
    except OSError:
        return False
    return True


def cgroup_id(path: str) -> int:
    """The kernel's number of a cgroup2 directory: its inode number (since Linux 5.5, 67c0496e87d1).

    Raises:
        TargetNotFound, TargetError: as it can't be opened, or isn't one.
    """
    fd = _open_cgroup(path)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def network_namespace(which: str | int) -> int:
    """The inode number of a network namespace.

    Args:
        which: the number itself, a file, or a name below /run/netns.

    Raises:
        TargetNotFound: no such file.
        TargetError: the file isn't a network namespace, or the number can't be an inode's.
    """
    import fcntl

    if isinstance(which, int) or (which.isascii() and which.isdigit() and len(which) < 20):
        if not _FIRST_NAMESPACE <= int(which) <= _MOST:  # struct ns_common.inum is an unsigned int
            raise TargetError(
                f"network namespace {which}: inode numbers of namespaces are {_FIRST_NAMESPACE} to {_MOST}"
            )
        return int(which)
    path = which if "/" in which else f"/run/netns/{which}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would wait for a writer
    except OSError as error:
        raise TargetNotFound(
            f"network namespace {path}: {error.strerror}",
            hint="give a file such as /proc/PID/ns/net, a name below /run/netns, or its inode number",
        ) from None
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise TargetError(f"network namespace {path}: {error.strerror}") from None
        kind = 0
    finally:
        inode = os.fstat(fd).st_ino
        os.close(fd)
    if kind != _CLONE_NEWNET:
        raise TargetError(f"{path} is not a network namespace")
    return inode
