# SPDX-License-Identifier: BSD-2-Clause
"""Attaching one program to many uprobe sites, in the best way this kernel has.

The ladder: one uprobe_multi link for all sites (Linux 6.6), a perf event a site with a cookie (5.15), a perf event a
site and a copy of the program a cookie (5.8). A site the kernel refuses is left out and reported; the others stand.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pyebpf.core import bpf, kernel, shield
from pyebpf.core.leader import Leader
from pyebpf.core.libbpf import failure
from pyebpf.core.object import Object
from pyebpf.core.programs import Program
from pyebpf.errors import AttachError, Error, StateError, TargetNotFound, UnsafeProbe

if TYPE_CHECKING:
    from pyebpf.binary.elf import Elf

# What the kernel says of one site rather than of the whole request: no probe-able instruction (ENOTSUPP), an
# instruction that can't be read, an offset outside the file.
_SITE_ERRORS = frozenset((524, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO, errno.EFAULT))


class Site(NamedTuple):
    """A probe site in a file.

    Attributes:
        offset: in the file, the beginning of an instruction.
        cookie: what the program is told (``bpf/include/site.h``).
    """

    offset: int
    cookie: int


class Refused(NamedTuple):
    """A site the kernel would not take."""

    site: Site
    reason: str


class Ladder:
    """Which rung this kernel's links stand on. Decided before an object is loaded, as programs are loaded for one.

    Args:
        rung: "multi", "cookie" or "copy"; None: the best this kernel has (``PYEBPF_ATTACH`` overrides).
    """

    def __init__(self, rung: str | None = None) -> None:
        chosen = rung or os.environ.get("PYEBPF_ATTACH")
        if not chosen:
            chosen = "multi" if kernel.has_uprobe_multi() else "cookie" if kernel.has_attach_cookies() else "copy"
        if chosen not in ("multi", "cookie", "copy"):
            raise StateError(f"PYEBPF_ATTACH={chosen}: it is one of multi, cookie, copy")
        self.rung = chosen

    @property
    def limits(self) -> bool:
        """Whether a link can be limited to a process. Else the program's own filter is what limits, and one link serves
        all processes: two would have each call seen twice."""
        return self.rung != "multi" or kernel.multi_pid_filter_is_right()

    def variant(self, obj: Object) -> str:
        """What the names of the programs to load end in: "_sleepable", or "" for an object with one build only.

        The sleepable build reads pages that aren't resident. Copies can't be made of it, as they lack the type
        information that its loop needs. ``PYEBPF_SLEEPABLE=0`` forbids it.
        """
        if not any(name.endswith("_sleepable") for name in obj.programs):
            return ""
        allowed = self.rung != "copy" and os.environ.get("PYEBPF_SLEEPABLE") != "0"
        return "_sleepable" if allowed and kernel.has_sleepable_uprobes() else ""

    def prepare(self, obj: Object, programs: Iterable[Program]) -> None:
        """Sets an opened object up for this rung."""
        if self.rung == "multi":
            for program in programs:
                program.attach_type = bpf.TRACE_UPROBE_MULTI
        elif "have_cookies" in obj.rodata:
            obj.rodata["have_cookies"] = self.rung == "cookie"


class Links:
    """What is attached. Closing takes every probe out of the traced programs; so does the death of this process."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._fds: list[int] = []
        self._limited: dict[int, int] = {}  # a uprobe_multi link's descriptor -> the process it is limited to
        self._leaders: dict[int, Leader] = {}  # of processes that perf events are limited to

    def __len__(self) -> int:
        return len(self._fds)

    def attach(
        self, program: Program, path: str, sites: Sequence[Site], *, pid: int = 0, on_return: bool = False,
        name: str = "",
    ) -> list[Refused]:
        """Attaches a loaded program to sites of one file.

        Args:
            path: the file as we can open it (``/proc/PID/exe`` is fine).
            pid: limits the probes to one process, all its threads; 0: every process.
            on_return: the kernel's return probe at function entries, which must not be Go code.
            name: what the file is called in errors, if not by its path.

        Returns:
            the sites the kernel refused.

        Raises:
            UnsafeProbe: a return probe in Go code.
            AttachError, PermissionDenied, TargetNotFound: nothing could be attached.
        """
        if on_return or program.attach_type == bpf.TRACE_UPROBE_SESSION:
            from pyebpf.binary.elf import Elf

            with Elf.open(path) as elf:
                refuse_go(elf, sites)
        if self._ladder.rung == "multi":
            link_pid = pid if self._ladder.limits else 0
            return self._attach_multi(program, path, sites, link_pid, on_return, name or path)
        return self._attach_events(program, path, sites, pid, on_return, name or path)

    def _attach_multi(
        self, program: Program, path: str, sites: Sequence[Site], pid: int, on_return: bool, name: str
    ) -> list[Refused]:
        """One link; if the kernel refuses it, halves, until the sites it can't take stand alone."""
        refused: list[Refused] = []
        pending = [list(sites)]
        while pending:
            part = pending.pop()
            if not part:
                continue
            result = shield.opened(
                partial(
                    bpf.link_uprobe_multi, program.fd, path, [s.offset for s in part], [s.cookie for s in part],
                    pid=pid, on_return=on_return, attach_type=program.attach_type,
                )
            )  # fmt: skip
            if result >= 0:
                self._fds.append(result)
                if pid:
                    self._limited[result] = pid
            elif -result not in _SITE_ERRORS:
                raise attach_failure(-result, name, pid)
            elif len(part) == 1:
                refused.append(Refused(part[0], _reason(-result)))
            else:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
        return refused

    def _attach_events(
        self, program: Program, path: str, sites: Sequence[Site], pid: int, on_return: bool, name: str
    ) -> list[Refused]:
        from pyebpf.core.copies import with_cookie

        if pid and pid not in self._leaders:
            self._leaders[pid] = Leader(pid)
        refused, copy, copied = [], -1, -1  # the program's copy for a cookie; sites that share one follow each other
        try:
            for site in sites:
                event = bpf.open_uprobe_event(path, site.offset, pid=pid, on_return=on_return)
                if event < 0 and -event not in _SITE_ERRORS:
                    raise attach_failure(-event, name, pid)
                if event < 0:
                    refused.append(Refused(site, _reason(-event)))
                    continue
                self._fds.append(event)
                if self._ladder.rung == "cookie":
                    link = bpf.link_perf_event(program.fd, event, site.cookie)
                    if link < 0:
                        raise attach_failure(-link, name, pid)
                    self._fds.append(link)
                    bpf.enable_perf_event(event)
                    self._fds[-2:] = [link]  # which holds the event: one descriptor a probe
                    os.close(event)
                else:
                    if site.cookie != copied:
                        if copy >= 0:  # the events hold it
                            os.close(copy)
                            copy = -1
                        copy, copied = with_cookie(program, site.cookie), site.cookie
                    bpf.set_perf_event_program(copy, event)
                    bpf.enable_perf_event(event)
        except OSError as error:
            if isinstance(error, Error) and error.errno != errno.EMFILE:
                raise
            raise attach_failure(error.errno or 0, name, pid) from None
        finally:
            if copy >= 0:
                os.close(copy)
        return refused

    def take(self) -> list[int]:
        """The descriptors that hold the links: the caller's to close now."""
        fds, self._fds = self._fds, []
        leaders, self._leaders = self._leaders, {}
        self._limited = {}
        for leader in leaders.values():
            leader.close()
        return fds

    def left_alone(self) -> set[int]:
        """Processes whose probes are for a thread that is no more: they have ended, or go on without their first
        thread, or another one executed a program and took its place. Such a process has no probes any more.

        A uprobe_multi link (limited from Linux 6.10 on) tells of the latter; going on without it keeps those probes.
        """
        multi = {pid for fd, pid in self._limited.items() if bpf.uprobe_multi_pid(fd) == 0}
        return multi | {pid for pid, leader in self._leaders.items() if leader.ended()}

    def close(self) -> None:
        """Detaches everything. Safe to call twice.

        Each close waits for the kernel, a perf event's about 100 ms, so many are closed side by side.
        """
        shield.close(self.take())


def refuse_go(elf: Elf, sites: Sequence[Site]) -> None:
    """Raises UnsafeProbe if a site lies in Go code: stack copying and the scheduler meet the return address the
    kernel's return probe put there, and the program dies."""
    from pyebpf.binary import golang

    program = golang.find(elf)
    if program is None:
        return
    low, high = program.text
    for site in sites:
        address = elf.vaddr_of(site.offset)
        if address is not None and low <= address < high:
            raise UnsafeProbe(
                f"{elf.path}: offset {site.offset:#x} is Go code: a kernel return probe there would crash the program",
                hint="probe the function's RET instructions instead",
            )


def _reason(number: int) -> str:
    if number in (524, errno.EOPNOTSUPP):
        return "the kernel can't probe its first instruction"
    return f"the kernel refused it: {os.strerror(number)}"


def attach_failure(number: int, path: str, pid: int) -> Error:
    """The error for an errno of an attempt to attach to a file."""
    if number == errno.ESRCH:
        return TargetNotFound(f"process {pid} is gone")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return TargetNotFound(f"{path}: {os.strerror(number)}")
    if number in (errno.EPERM, errno.EACCES):
        hint = kernel.why_no_uprobe_event() if number == errno.EACCES and not kernel.missing_capabilities() else ""
        return failure(number, f"attaching to {path}", hint=hint or None)
    if number == errno.EMFILE:
        return AttachError(
            f"attaching to {path}: too many open files: this kernel needs a file descriptor a probe",
            errno=number,
            hint="raise the limit (ulimit -n), or trace fewer functions",
        )
    return AttachError(f"attaching to {path}: {os.strerror(number)}", errno=number)
