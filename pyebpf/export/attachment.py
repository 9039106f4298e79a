# SPDX-License-Identifier: BSD-2-Clause
"""Probes in one generation of a trace's files: what is attached when a file is there, and gone when it is another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from pyebpf.core import bpf
from pyebpf.core.object import Object
from pyebpf.errors import TargetNotFound
from pyebpf.export.config import TraceConfig
from pyebpf.export.metrics import Family, families
from pyebpf.export.overhead import Costs
from pyebpf.export.resolver import Question, ask
from pyebpf.target.locate import Located
from pyebpf.target.probe import Resolution
from pyebpf.tools.funccount import CountSession
from pyebpf.tools.funclatency import LatencySession

MOST_PROCESSES = 1024  # that one attachment follows


class File(NamedTuple):
    """A file, as far as it must not change under probes."""

    dev: int
    inode: int
    mtime: int
    size: int


def file_of(path: str | int) -> File:
    """What a path or a descriptor is of. Raises OSError."""
    status = os.stat(path)
    return File(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


class FollowCount(CountSession):
    """Counts calls of processes that come and go."""

    def _configure(self, obj: Object, functions: int) -> None:
        super()._configure(obj, functions)
        _make_room(obj)


class FollowLatency(LatencySession):
    """Times calls of processes that come and go."""

    def _configure(self, obj: Object, functions: int) -> None:
        super()._configure(obj, functions)
        _make_room(obj)


def _make_room(obj: Object) -> None:
    """The process filter as a table, also for one process."""
    assert obj.rodata is not None
    obj.rodata["only_tgid"], obj.rodata["filter_tgids"] = 0, True
    obj.maps["tgids"].max_entries = MOST_PROCESSES


_SESSIONS: dict[tuple[str, bool], type[CountSession] | type[LatencySession]] = {
    ("count", False): CountSession, ("latency", False): LatencySession,
    ("count", True): FollowCount, ("latency", True): FollowLatency,
}  # fmt: skip


class Attachment:
    """A session on certain files. The files are held open, so that their inodes stay theirs.

    Args:
        config: the trace.
        targets: those of its targets that mean these files.
        located: the files.
        pids: processes to follow; empty: every process that runs the files.
        costs: what a hit costs here.

    Attributes:
        files: what was attached to.
        pids: the processes that are followed.
        session: of `count` or `latency`.
        notes: what a reader of the numbers should know.
        missing: targets that nothing in these files matches, with reasons.
        memory: bytes of kernel memory for maps.

    Raises:
        TargetNotFound, TargetError, PermissionDenied, AttachError, …: as `pyebpf.count`.
    """

    def __init__(
        self,
        config: TraceConfig,
        targets: Sequence[str],
        located: Sequence[Located],
        pids: Sequence[int],
        costs: Costs,
    ) -> None:
        self.pids: set[int] = set()
        self._fds: list[int] = []
        try:
            for one in located:
                try:
                    self._fds.append(os.open(one.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
                except OSError as error:
                    raise TargetNotFound(f"{one.shown}: {error.strerror}") from None
            self.files = tuple(file_of(fd) for fd in self._fds)
            answer = ask(
                Question(
                    tuple(targets), tuple(pids), config.regex, config.tool == "latency", config.max_probes,
                    config.allow_uretprobe,
                )
            )  # fmt: skip
            self.notes, self.missing = answer.notes, answer.missing
            resolution = self._on_these(answer.resolution)
            fd_of = {file[:2]: fd for file, fd in zip(self.files, self._fds)}
            timed = config.tool == "latency"
            self._costs = [costs.of(probe, fd_of[probe.image_id], timed) for probe in resolution.probes]
            self.session = _SESSIONS[config.tool, bool(pids)](resolution, pids[:1])
        except BaseException:
            self._close_files()
            raise
        try:
            probes = self.session._probes
            for pid in pids[:1]:
                probes.object.maps["tgids"][pid] = 1
                self.pids.add(pid)
            for pid in pids[1:]:
                try:
                    self.follow(pid)
                except TargetNotFound:  # it has ended
                    continue
            if self.changed():
                raise TargetNotFound(f"{located[0].shown}: changed while it was attached to")
            self.memory = map_memory(probes.object)
        except BaseException:
            self.close()
            raise

    def _on_these(self, resolution: Resolution) -> Resolution:
        """The probes, to be placed in the very files that are held open, whatever their paths name by now."""
        paths = {file[:2]: f"/proc/self/fd/{fd}" for file, fd in zip(self.files, self._fds)}
        found = [probe for probe in resolution.probes if probe.image_id in paths]  # a library may have variants
        if not found or self.changed():
            raise TargetNotFound(f"{resolution.probes[0].shown}: changed while it was read")
        probes = tuple(probe._replace(path=paths[probe.image_id], pids=()) for probe in found)
        return resolution._replace(probes=probes)

    def changed(self) -> bool:
        """Whether a file was rewritten in place: probes would be anywhere in it."""
        return any(file_of(fd) != file for fd, file in zip(self._fds, self.files))

    def deleted(self) -> bool:
        """Whether no directory has a file any more: nobody can start it again."""
        return any(os.fstat(fd).st_nlink == 0 for fd in self._fds)

    def follow(self, pid: int) -> None:
        """Follows one more process. Raises as the constructor."""
        if len(self.pids) >= MOST_PROCESSES:
            raise TargetNotFound(f"{MOST_PROCESSES} processes are followed; that is the most")
        self.session._probes.follow(pid)
        self.pids.add(pid)

    def leave(self, pid: int) -> None:
        """Stops following a process, which need not exist any more."""
        self.session._probes.leave(pid)
        self.pids.discard(pid)

    def hits(self) -> tuple[int, float]:
        """How often its probes were hit, and about how many seconds that took: cheap enough for each tick."""
        if isinstance(self.session, LatencySession):
            entered = int(self.session._probes._tally()["entered"])
            return entered, entered * max(self._costs)
        totals = self.session._totals()
        return sum(totals), sum(calls * cost for calls, cost in zip(totals, self._costs))

    def families(self, labels: dict[str, str], tool: str) -> list[Family]:
        """What it has measured."""
        return families(self.session, labels, tool)

    def close(self) -> None:
        """Detaches. Safe to call twice."""
        self.session.close()
        self._close_files()

    def _close_files(self) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


def map_memory(obj: Object) -> int:
    """Bytes of an object's maps, as the kernel accounts for them; Linux 5.11 to 6.3 leaves ring buffers out."""
    total = 0
    for one in obj.maps.values():
        least = one.max_entries if one.type == bpf.MAP_TYPE_RINGBUF else 0
        try:
            with open(f"/proc/self/fdinfo/{one.fd}", "rb") as info:
                told = next((int(line.split()[1]) for line in info if line.startswith(b"memlock:")), 0)
            total += max(told, least)
        except (OSError, ValueError):
            continue
    return total
