# SPDX-License-Identifier: BSD-2-Clause
"""Traces of functions: probes follow files and processes as they come, are replaced, and go."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from functools import partial

from pyebpf.errors import Error
from pyebpf.export.attachment import Attachment, File, file_of
from pyebpf.export.config import Selection, TraceConfig
from pyebpf.export.log import Log
from pyebpf.export.metrics import Family
from pyebpf.export.overhead import Costs
from pyebpf.export.processes import Processes, Running, in_use
from pyebpf.export.trace import Job, Retry, Trace, reason_of
from pyebpf.target.locate import Located, locate
from pyebpf.target.process import Process
from pyebpf.target.spec import parse

Files = tuple[File, ...]
_SETTLED = 2.0  # seconds: a file changed more recently may still be being written
_OLDER = 4  # generations of a file that are kept while processes run them, and those nobody runs
_SWEEP = 30.0  # seconds between looks whether anybody does
_NEW_AT_ONCE = 64  # processes, a look
_CACHE = "/etc/ld.so.cache"
_TOOLS = {"count": "funccount", "latency": "funclatency"}


def _may_be_in_the_making(path: str) -> bool:
    """Whether a file may still be being written: it changed just now, and nothing was done to it since, as renaming it
    to its place would have been."""
    status = os.stat(path)
    return status.st_mtime > time.time() - _SETTLED and status.st_ctime_ns - status.st_mtime_ns < 10**7


class Group:
    """The targets of a trace that name the same file.

    Attributes:
        file: its name, as targets have it.
        targets: the targets.
        attachments: by the files they are on, the oldest first.
        current: the files that the name means now, several if a library has variants; of selected processes, none.
        reason: why something that was asked for isn't traced.
        busy: the worker is at it.
        placed: processes that are followed, and in which attachment.
    """

    def __init__(self, file: str, targets: Sequence[str]) -> None:
        self.file = file
        self.targets = tuple(targets)
        self.attachments: dict[Files, Attachment] = {}
        self.current: Files = ()
        self.reason = ""
        self.busy = False
        self.placed: dict[int, tuple[Running, Files]] = {}
        self.retries: dict[object, Retry] = {}
        self.located: tuple[int, list[Located]] | None = None
        self.swept = time.monotonic()

    def may_try(self, what: object) -> bool:
        """Whether something that failed is to be tried again."""
        return what not in self.retries or self.retries[what].due()

    def failed(self, what: object) -> None:
        if len(self.retries) > 1000:
            self.retries.clear()
        self.retries.setdefault(what, Retry()).failed()

    def attached(self) -> bool:
        """Whether calls that happen now are seen, as far as this can be told."""
        return bool(self.placed or self.current) and all((file,) in self.attachments for file in self.current)

    def spare(self) -> list[Files]:
        """Attachments to files that the name doesn't mean any more, and that no process is followed in."""
        now = [(file,) for file in self.current]
        return [files for files, one in self.attachments.items() if files not in now and not one.pids]


class CallTrace(Trace):
    """Counts or times calls."""

    def __init__(self, config: TraceConfig, log: Log, costs: Costs) -> None:
        super().__init__(config, log, costs)
        files: dict[str, list[str]] = {}
        for target in config.targets:
            files.setdefault(parse(target, config.regex).file, []).append(target)
        self.groups = [Group(file, targets) for file, targets in files.items()]
        self._everybody = config.selection == Selection()
        self._hits: dict[Attachment, tuple[int, float]] = {}

    def _look(self, processes: Processes) -> list[Job]:
        jobs: list[Job] = []
        for group in self.groups:
            if not group.busy:
                jobs += self._anywhere(group) if self._everybody else self._in_processes(group, processes)
                jobs += self._sweep(group)
        self._tell("; ".join(dict.fromkeys(group.reason for group in self.groups if group.reason)))
        return jobs

    # -- every process that runs the file

    def glance(self) -> list[Job]:
        with self.lock:
            if self.closed or self.paused() or not self._everybody:
                return []
            paths = [group for group in self.groups if "/" in group.file and not group.busy]
            return [job for group in paths for job in self._anywhere(group)]

    def _anywhere(self, group: Group) -> list[Job]:
        try:
            located = self._located(group)
            files = tuple(file_of(one.path) for one in located)
            before, group.current = group.current, files
            # An attachment a file: if one of a library's variants is replaced, the others must not be counted twice.
            for file, one in zip(files, located):
                fresh = file not in before and _may_be_in_the_making(one.path)
                if (file,) not in group.attachments and not fresh and group.may_try((file,)):
                    return self._job(group, (file,), [one], ())
        except (Error, OSError) as error:
            group.current, group.reason = (), reason_of(error)
        return []

    def _located(self, group: Group) -> list[Located]:
        """Where a name leads; a library's, which takes reading ld.so's cache, only if that has changed."""
        if "/" in group.file:
            return locate(group.file, (), None, [])
        cache = os.stat(_CACHE).st_mtime_ns if os.path.exists(_CACHE) else time.monotonic_ns()
        if group.located is None or group.located[0] != cache:
            group.located = cache, locate(group.file, (), None, [])
        return group.located[1]

    def _job(self, group: Group, files: Files, located: Sequence[Located], running: Sequence[Running]) -> list[Job]:
        group.busy = True
        return [partial(self._attach, group, files, tuple(located), tuple(running))]

    def _attach(self, group: Group, files: Files, located: Sequence[Located], running: Sequence[Running]) -> None:
        """In the worker's thread."""
        config = self.config
        attachment, reason = None, ""
        try:
            attachment = Attachment(config, group.targets, located, [one.pid for one in running], self._costs)
        except Exception as error:
            reason = reason_of(error)
        with self.lock:
            group.busy = False
            if attachment is None:
                # Of selected processes others are traced: that one runs something else is no news.
                group.reason = "" if group.placed else reason
                group.failed(files)
                return
            if self.closed or self.paused() or attachment.files in group.attachments:
                attachment.close()
                return
            for other in self.groups:
                if other is not group and any({*files} & {*there} for there in other.attachments):  # calls count once
                    attachment.close()
                    group.reason = f"{group.targets[0]}: the file is that of {other.targets[0]}: write its name alike"
                    group.failed(files)
                    return
            self._hits[attachment] = attachment.hits()  # attaching took its time: no rate can be told of these
            group.attachments[attachment.files] = attachment
            group.placed.update((one.pid, (one, attachment.files)) for one in running if one.pid in attachment.pids)
            group.reason = "; ".join(attachment.missing)
            group.retries.pop(files, None)
            session = attachment.session
            self._attached(
                files=[one.shown for one in located], functions=len(session.functions),
                pids=[one.pid for one in running], generations=len(group.attachments),
                skipped=[f"{one.name}: {one.reason}" for one in session.skipped[:10]], notes=attachment.notes[:10],
            )  # fmt: skip
            self._bound(group)

    def _bound(self, group: Group) -> None:
        """Lets the oldest go of more attachments than are kept beside what is needed."""
        for files in group.spare()[:-_OLDER]:
            self._drop(group, files, "older files", "too many older generations of the file")

    def _sweep(self, group: Group) -> list[Job]:
        """Now and then: whether older files still run anywhere."""
        if time.monotonic() - group.swept < _SWEEP:
            return []
        group.swept = time.monotonic()
        older = group.spare()
        return [partial(self._drop_unused, group, older)] if older else []

    def _drop_unused(self, group: Group, older: Sequence[Files]) -> None:
        """In the worker's thread, as it reads the maps of all processes."""
        used = in_use({file.inode for files in older for file in files}) if self._everybody else frozenset[int]()
        with self.lock:
            for files in older:
                attachment = group.attachments.get(files)
                if attachment is None or attachment.pids or not used.isdisjoint(file.inode for file in files):
                    continue
                if self._everybody or attachment.deleted():
                    self._drop(group, files, "", "nobody runs the older file any more")

    def _drop(self, group: Group, files: Files, reason: str, why: str) -> None:
        """Detaches and keeps the numbers."""
        attachment = group.attachments.pop(files)
        group.placed = {pid: place for pid, place in group.placed.items() if place[1] != files}
        if reason:
            self.detached[reason] = self.detached.get(reason, 0) + 1
        self.log("warning" if reason else "info", f"detached: {why}", functions=len(attachment.session.functions))
        self._end(attachment)

    def _end(self, attachment: Attachment) -> None:
        """Detaches and keeps the numbers."""
        self._hits.pop(attachment, None)
        try:
            attachment.session.detach()
            self._totals.keep(self._limit(attachment.families(self._labels, _TOOLS[self.config.tool])))
        finally:
            attachment.close()

    # -- selected processes

    def _in_processes(self, group: Group, processes: Processes) -> list[Job]:
        matching = {one.pid: one for one in processes.matching(self.config.selection)}
        for pid, (running, files) in list(group.placed.items()):
            if matching.get(pid) != running:
                group.attachments[files].leave(pid)
                del group.placed[pid]
        new = [one for pid, one in matching.items() if pid not in group.placed and group.may_try(one)]
        wanted: dict[Files, tuple[list[Located], list[Running]]] = {}
        reason = ""
        for one in new[:_NEW_AT_ONCE]:
            try:
                located = locate(group.file, [Process(one.pid)], None, [])
                files = tuple(file_of(place.path) for place in located)
                if files in group.attachments:
                    group.attachments[files].follow(one.pid)
                    group.placed[one.pid] = one, files
                elif group.may_try(files):
                    wanted.setdefault(files, (located, []))[1].append(one)
                else:  # what can't be attached to must not keep others from their turn
                    group.failed(one)
            except (Error, OSError) as error:
                group.failed(one)
                reason = reason_of(error)
        if not matching:
            group.reason = f"no process matches {_described(self.config.selection)}"
        elif group.placed:
            group.reason = "; ".join(dict.fromkeys(why for one in group.attachments.values() for why in one.missing))
        elif reason:
            group.reason = reason
        for files, (places, these) in wanted.items():
            return self._job(group, files, places, these)  # one at a time: it may be that of the others, too
        return []

    # -- the rest

    def _check(self) -> None:
        for group in self.groups:
            for files, attachment in list(group.attachments.items()):
                if attachment.changed():
                    self._drop(group, files, "rewritten", "the file was rewritten in place")

    def _new_hits(self) -> tuple[int, float]:
        new, spent = 0, 0.0
        for attachment, before in self._hits.items():
            now = self._hits[attachment] = attachment.hits()
            new, spent = new + now[0] - before[0], spent + now[1] - before[1]
        return new, spent

    def _release(self) -> None:
        for group in self.groups:
            group.placed, group.current = {}, ()
            while group.attachments:
                self._end(group.attachments.popitem()[1])

    def followed(self) -> Iterable[int]:
        with self.lock:
            return [pid for group in self.groups for pid in group.placed]

    def memory(self) -> int:
        with self.lock:
            return sum(one.memory for group in self.groups for one in group.attachments.values())

    def _state(self) -> tuple[str, str]:
        attached = [group.attached() for group in self.groups]
        reason = "; ".join(dict.fromkeys(group.reason for group in self.groups if group.reason))
        if not any(attached):
            return "waiting", reason or "being attached"
        return ("attached", "") if all(attached) and not reason else ("partial", reason or "being attached")

    def _details(self) -> dict[str, object]:
        held = [one for group in self.groups for one in group.attachments.values()]
        return {
            "functions": len({function for one in held for function in one.session.functions}),
            "skipped": sum(len(one.session.skipped) for one in held),
            "generations": sum(len(group.attachments) for group in self.groups),
            **({} if self._everybody else {"pids": sorted({pid for one in held for pid in one.pids})[:1000]}),
        }

    def _families(self) -> Iterable[Family]:
        tool = _TOOLS[self.config.tool]
        held = [one for group in self.groups for one in group.attachments.values()]
        return self._totals.plus([family for one in held for family in one.families(self._labels, tool)])


def _described(selection: Selection) -> str:
    parts = [f"{name} = {value}" for name, value in selection._asdict().items() if value and name != "pids"]
    parts += [f"pid = {', '.join(map(str, selection.pids))}"] if selection.pids else []
    return " and ".join(parts)
