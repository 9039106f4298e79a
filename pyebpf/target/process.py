# SPDX-License-Identifier: BSD-2-Clause
"""A running process, as /proc shows it: what it executes, which files it maps, and how to open exactly those.

A file is known by its inode, never by its path: the path in /proc/PID/maps may name another file by now (the program
was rebuilt), or a file of another mount namespace (a container). Formats: proc_pid_maps(5), proc_pid_stat(5).
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..errors import PermissionDenied, TargetError, TargetNotFound
from .libraries import is_library

_MAX_MAPS_BYTES = 256 << 20
_MAX_MAPS = 1_000_000
_MAX_SYMLINKS = 40  # MAXSYMLINKS, include/linux/namei.h
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_DELETED = " (deleted)"

# Compiled when first used: tracing without a process needs no maps.
_MAP = rb"(?m)^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$"


class Mapping(NamedTuple):
    """A line of /proc/PID/maps.

    Attributes:
        start, end: addresses in the process.
        perms: "r-xp" and the like.
        offset: of `start` in the file.
        dev, inode: of the file, as `os.stat` gives them on most file systems (not on overlayfs and btrfs, where the
            kernel shows another device here); inode 0: no file.
        path: in the process's mount namespace, without " (deleted)"; or "[vdso]", "[stack]", "" and the like.
        deleted: the path no longer names this file.
    """

    start: int
    end: int
    perms: str
    offset: int
    dev: int
    inode: int
    path: str
    deleted: bool


class Process:
    """A process that exists and runs a program.

    Attributes:
        pid: its process ID in our PID namespace.
        name: its name (comm), raw: it may hold control characters.
        exe: a path by which we can open what it executes, also if that was deleted or lies in a container.
        root: a path to its root directory.
        cwd: a path to its working directory.
    """

    __slots__ = ("_maps", "cwd", "exe", "name", "pid", "root")

    def __init__(self, pid: int) -> None:
        """Look at process `pid`.

        Raises:
            TargetNotFound: there is none.
            TargetError: it is a zombie, a kernel thread, a thread of another process, or its first thread has ended.
            PermissionDenied: /proc hides it.
        """
        self.pid = pid
        self.exe = f"/proc/{pid}/exe"
        self.root = f"/proc/{pid}/root"
        self.cwd = f"/proc/{pid}/cwd"
        self._maps: list[Mapping] | None = None
        text = os.fsdecode(_read(pid, "stat", 65536))
        # The name can hold anything, parentheses and spaces too; nothing after it does.
        head, _, tail = text.rpartition(")")
        fields = tail.split()
        self.name = head.partition("(")[2]
        if len(fields) < 18:
            raise TargetError(f"process {pid}: /proc/{pid}/stat can't be read")
        if fields[0] in ("Z", "X"):
            others = int(fields[17]) - 1
            if others > 0:
                raise TargetError(
                    f"process {pid}: its first thread has ended, without which the kernel shows nothing of its memory "
                    f"(others run: {others})",
                    hint="trace its program by path, without -p",
                )
            raise TargetError(f"process {pid} has exited and only waits for its parent to notice (a zombie)")
        if int(fields[6]) & _PF_KTHREAD:
            raise TargetError(f"process {pid} is a kernel thread: it has no program to trace")
        group = re.search(rb"^Tgid:\s*(\d+)", _read(pid, "status", 65536), re.MULTILINE)
        if group and int(group.group(1)) != pid:
            owner = int(group.group(1))
            raise TargetError(f"{pid} is a thread of process {owner}", hint=f"give the process: {owner}")

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.name!r}>"

    @property
    def program(self) -> str:
        """The path of what it executes, in its own mount namespace, for names and messages; see `exe` for opening."""
        return self.maps_path(_readlink(self.pid, "exe"))

    @staticmethod
    def maps_path(path: str) -> str:
        """`path` without the kernel's " (deleted)"."""
        return path[: -len(_DELETED)] if path.endswith(_DELETED) else path

    def maps(self) -> list[Mapping]:
        """Its mappings by address, read once. Raises like `read_maps`."""
        if self._maps is None:
            self._maps = read_maps(self.pid)
        return self._maps

    def files(self) -> list[Mapping]:
        """The files it maps as code: of each the first such mapping."""
        found: dict[tuple[int, int], Mapping] = {}
        for mapping in self.maps():
            if mapping.inode and "x" in mapping.perms:
                found.setdefault((mapping.dev, mapping.inode), mapping)
        return list(found.values())

    def libraries(self, name: str) -> list[Mapping]:
        """The files it maps as code that are called `name` (see `is_library`); several versions are possible."""
        return [mapping for mapping in self.files() if is_library(os.path.basename(mapping.path), name)]

    def path_for(self, mapping: Mapping) -> str:
        """A path that opens the very file `mapping` maps. The plainest one that does: it outlives the process.

        Raises:
            TargetNotFound: the process is gone, or the file no longer mapped.
            PermissionDenied: only /proc/PID/map_files leads to the file, and it may not be used.
        """
        candidates = (mapping.path, self.root + mapping.path) if mapping.path.startswith("/") else ()
        wanted = (mapping.dev, mapping.inode)
        for path in candidates:
            if identity(path) == wanted:
                return path
        link = f"/proc/{self.pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        try:
            status = os.stat(link)
        except PermissionError as error:
            # Without the privilege for map_files: on overlayfs and btrfs the inode number is right, the device isn't.
            for path in candidates:
                found = identity(path)
                if found and found[1] == mapping.inode and not mapping.deleted:
                    return path
            closed = any(map(_is_closed, candidates))
            why, missing = ("may not be read", "CAP_DAC_READ_SEARCH") if closed else (
                "no path leads to (deleted or replaced)", "CAP_CHECKPOINT_RESTORE"
            )
            raise PermissionDenied(
                f"process {self.pid} maps a {mapping.path} that {why}",
                missing=(missing,),
                errno=error.errno,
                hint=f"run as root, or with {missing}",
            ) from None
        except OSError:
            raise TargetNotFound(f"process {self.pid} no longer maps {mapping.path}") from None
        for path in candidates:
            if identity(path) == (status.st_dev, status.st_ino):
                return path
        return link

    def real_path(self, path: str) -> str:
        """`path` of the process's mount namespace with its symbolic links followed there, not here.

        Opening /proc/PID/root/lib/x doesn't do that: an absolute link in it would lead to our /.
        """
        done: list[str] = []
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            done.append(part)
            try:
                link = os.readlink("/".join((self.root, *done)))
            except (OSError, ValueError):
                continue
            links += 1
            if links > _MAX_SYMLINKS:
                raise TargetError(f"{path}: too many symbolic links")
            if link.startswith("/"):
                done.clear()
            else:
                done.pop()
            todo += link.split("/")[::-1]
        return "/" + "/".join(done)

    def open_pidfd(self) -> int:
        """A pidfd (pidfd_open(2)), close-on-exec, for the caller to close; readable once the process has ended.

        Raises:
            TargetNotFound: it has ended already.
        """
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:
            raise _gone(self.pid) from None


class Incarnation(NamedTuple):
    """What tells a process from others of the same number, and from what it was before it executed another program.

    Attributes:
        start_time: clock ticks after boot; exec doesn't change it.
        code, stack: where both begin; 0 where we may not know.
    """

    start_time: int
    code: int
    stack: int


def incarnation(pid: int, *, headless: bool = False) -> Incarnation | None:
    """What process `pid` is now; None: it is gone, or may not be looked at.

    Args:
        headless: one whose first thread has ended while others go on isn't gone.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X") and not (headless and int(fields[17]) > 1):
            return None
        return Incarnation(int(fields[19]), int(fields[23]), int(fields[25]))
    except (OSError, ValueError, IndexError):
        return None


def _is_closed(path: str) -> bool:
    """True if a folder on the way is closed to us."""
    try:
        os.stat(path)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def identity(path: str) -> tuple[int, int] | None:
    """(st_dev, st_ino) of the file at `path`, or None if there is none we can see."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def read_maps(pid: int) -> list[Mapping]:
    """What process `pid` maps now, by address.

    Raises:
        TargetNotFound: there is no such process.
        TargetError: it has more than 1,000,000 mappings.
        PermissionDenied: its maps may not be read.
    """
    data = _read(pid, "maps", _MAX_MAPS_BYTES)
    if data.count(b"\n") > _MAX_MAPS:
        raise TargetError(f"process {pid} has more than {_MAX_MAPS} mappings")
    mappings = []
    for start, end, perms, offset, major, minor, inode, path in re.findall(_MAP, data):
        # seq_path() escapes only newlines.
        name = os.fsdecode(path).replace("\\012", "\n") if path else ""
        plain = Process.maps_path(name)
        mappings.append(
            Mapping(
                int(start, 16),
                int(end, 16),
                perms.decode("ascii", "replace"),
                int(offset, 16),
                os.makedev(int(major, 16), int(minor, 16)),
                int(inode),
                plain,
                plain is not name,
            )
        )
    return mappings


def _read(pid: int, file: str, limit: int) -> bytes:
    """All of /proc/`pid`/`file`."""
    chunks: list[bytes] = []
    size = 0
    try:
        fd = os.open(f"/proc/{pid}/{file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                chunk = os.read(fd, 1 << 20)
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise TargetError(f"process {pid}: /proc/{pid}/{file} is larger than {limit} bytes")
        finally:
            os.close(fd)
    except OSError as error:
        raise _failed(pid, file, error) from None


def _readlink(pid: int, file: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{file}")
    except OSError as error:
        raise _failed(pid, file, error) from None


def _failed(pid: int, file: str, error: OSError) -> Exception:
    if isinstance(error, PermissionError):
        return PermissionDenied(
            f"process {pid}: /proc/{pid}/{file} may not be read",
            missing=("CAP_SYS_PTRACE",),
            errno=error.errno,
            hint="run as root, or with CAP_SYS_PTRACE",
        )
    if isinstance(error, (FileNotFoundError, ProcessLookupError)):
        return _gone(pid)
    return TargetError(f"process {pid}: /proc/{pid}/{file}: {error.strerror}")


def _gone(pid: int) -> TargetNotFound:
    return TargetNotFound(f"no process has the ID {pid}")
