# SPDX-License-Identifier: BSD-2-Clause
"""The numbers of tracepoints, from tracefs: also where nobody has mounted it.

perf_event_open(2) wants a tracepoint's number, which only tracefs tells. Minimal hosts and containers often have it not
mounted; then a mount of our own is made that no namespace sees and that goes with its descriptor.
"""

from __future__ import annotations

import errno
import os

from pyebpf.core import kernel, mount
from pyebpf.errors import PermissionDenied, Unsupported

_MOUNTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class Tracefs:
    """Looks up tracepoints; a context manager, as it may hold a mount."""

    def __init__(self) -> None:
        self._mount = -1
        self._numbers: dict[str, int | None] = {}
        denied = ""
        for path in _MOUNTS:
            try:
                os.stat(f"{path}/events")
            except PermissionError:
                denied = path
            except OSError:  # it isn't there
                pass
            else:
                self._mount = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                return
        self._mount = mount.detached("tracefs")
        if self._mount >= 0:
            try:
                os.stat("events", dir_fd=self._mount)
                return
            except OSError as error:  # only root may look into it
                self.close()
                self._mount = -(error.errno or errno.EACCES)
        why = f"{denied} can't be read" if denied else f"tracefs is mounted neither on {' nor on '.join(_MOUNTS)}"
        message = f"{why}, and mounting it for ourselves failed: {os.strerror(-self._mount)}"
        if self._mount in (-errno.EPERM, -errno.EACCES):
            reads = denied or self._mount == -errno.EACCES
            missing = (*kernel.missing_capabilities(), "CAP_DAC_READ_SEARCH" if reads else "CAP_SYS_ADMIN")
            hint = kernel.why_denied(missing) + ("" if denied else f"; or have tracefs mounted on {_MOUNTS[0]}")
            raise PermissionDenied(message, missing=missing, errno=-self._mount, hint=hint)
        raise Unsupported(message, feature="tracefs", hint="as root: mount -t tracefs none /sys/kernel/tracing")

    def number(self, event: str) -> int | None:
        """A tracepoint's number ("syscalls/sys_enter_openat"); None: the kernel has no such tracepoint."""
        if event not in self._numbers:  # asked again, it must not show up among the opened files that are traced
            self._numbers[event] = self._read(event)
        return self._numbers[event]

    def _read(self, event: str) -> int | None:
        try:
            fd = os.open(f"events/{event}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._mount)
        except FileNotFoundError:
            return None
        try:
            return int(os.read(fd, 32))
        finally:
            os.close(fd)

    def names(self, category: str) -> list[str]:
        """The tracepoints of a category ("sched")."""
        try:
            fd = os.open(f"events/{category}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._mount)
        except OSError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def field_offset(self, event: str, field: str) -> int | None:
        """Where a field lies in a tracepoint's record, in bytes; None: there is no such event or field."""
        try:
            fd = os.open(f"events/{event}/format", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._mount)
        except FileNotFoundError:
            return None
        with os.fdopen(fd) as lines:
            for line in lines:  # "\tfield:pid_t child_pid;\toffset:44;\tsize:4;\tsigned:1;"
                declaration, _, rest = line.partition(";")
                if declaration.endswith(f" {field}") and "offset:" in rest:
                    return int(rest.partition("offset:")[2].partition(";")[0])
        return None

    def close(self) -> None:
        """Lets go of the mount. Safe to call twice."""
        if self._mount >= 0:
            os.close(self._mount)
            self._mount = -1

    def __enter__(self) -> Tracefs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
