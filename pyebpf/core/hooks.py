# SPDX-License-Identifier: BSD-2-Clause
"""Attaching programs to the kernel's own events, as their sections say: tracepoints, functions, iterators.

Sections are libbpf's: ``tp_btf/NAME``, ``raw_tp/NAME``, ``tp/CATEGORY/NAME``, ``fentry/FUNCTION``, ``fexit/FUNCTION``,
``kprobe/FUNCTION``, ``kretprobe/FUNCTION``, ``iter/NAME``; and ``raw_tp/bpf_iter_NAME``, see `copies.as_iterator`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from pyebpf.core import bpf, kernel, libbpf
from pyebpf.core.programs import Program
from pyebpf.core.tracefs import Tracefs
from pyebpf.errors import AttachError, Error, Unsupported

_READ = 1 << 16
_MOST_OUTPUT = 64 << 20
_BTF_MAGIC = (b"\x9f\xeb", b"\xeb\x9f")  # include/uapi/linux/btf.h, in either order


class Hooks:
    """What this kernel can be asked to tell, and the programs that were attached to it.

    A context manager; leaving it detaches all programs.
    """

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._tracefs: Tracefs | None = None
        self._names: bytes | None = None

    def why_not(self, section: str) -> str | None:
        """Why a program of this section can't be attached here; None: it can (as far as can be told before)."""
        kind, _, name = section.partition("/")
        check: Callable[[str], str | None] = {
            "tp_btf": self._no_raw_tracepoint, "raw_tp": self._no_raw_tracepoint,
            "tp": self._no_tracepoint, "iter": self._no_iterator,
            "fentry": self._no_fentry, "fexit": self._no_fentry,
            "kprobe": self._no_kprobe, "kretprobe": self._no_kprobe,
        }.get(kind, lambda _: None)  # fmt: skip
        return check(name)

    def kernel_types(self) -> bytes:
        """The kernel's type information, as its file has it.

        Raises:
            Unsupported: there is none, or none that can be read.
        """
        if self._names is None:
            path = kernel.btf_path()
            try:
                with open(path, "rb") as file:
                    names = file.read()
                isnt = b"\0.BTF\0" not in names if names[:4] == b"\x7fELF" else names[:2] not in _BTF_MAGIC
                why = "there is no BTF in it" if isnt else ""
            except OSError as error:
                names, why = b"", os.strerror(error.errno or 0)
            if why:
                raise Unsupported(
                    f"the kernel's type information can't be read: {path}: {why}",
                    feature="kernel BTF",
                    minimum="Linux 5.2 with CONFIG_DEBUG_INFO_BTF",
                    hint="give a BTF file for this kernel in PYEBPF_BTF",
                )
            self._names = names
        return self._names

    def _in_btf(self, name: str) -> bool:
        return b"\0" + name.encode() + b"\0" in self.kernel_types()

    def _no_raw_tracepoint(self, name: str) -> str | None:
        # A tracepoint's prototype is the typedef btf_trace_NAME.
        return None if self._in_btf(f"btf_trace_{name}") else f"this kernel has no tracepoint {name}"

    def _no_tracepoint(self, name: str) -> str | None:
        if self._tracefs is None:
            self._tracefs = Tracefs()
        return None if self._tracefs.number(name) is not None else f"this kernel has no tracepoint {name}"

    def _no_iterator(self, name: str) -> str | None:
        return None if self._in_btf(f"bpf_iter_{name}") else f"this kernel has no iterator {name}"

    def _no_fentry(self, name: str) -> str | None:
        feature = kernel.fentry(name)
        return None if feature.works else f"fentry on {name}: {feature.reason}"

    def _no_kprobe(self, name: str) -> str | None:
        if not kernel.kprobe().works:
            return f"kprobe on {name}: {kernel.kprobe().reason}"
        return None if self._in_btf(name) else f"this kernel has no function {name} that can be traced"

    def attach(self, program: Program) -> None:
        """Attaches a loaded program where its section says, until `close`.

        Raises:
            AttachError: the kernel refused it.
            PermissionDenied: naming what is missing.
        """
        kind, _, name = program.section.partition("/")
        if kind in ("tp_btf", "fentry", "fexit"):
            fd = bpf.open_raw_tracepoint(program.fd)
        elif kind in ("raw_tp", "raw_tracepoint"):
            fd = bpf.open_raw_tracepoint(program.fd, name)
        elif kind == "tp":
            fd = self._tracepoint_event(name)
        elif kind in ("kprobe", "kretprobe"):
            fd = bpf.open_kprobe_event(name, on_return=kind == "kretprobe")
        else:
            raise AttachError(f"program {program.name}: don't know how to attach section {program.section!r}")
        if fd < 0:
            raise _failure(fd, program)
        self._fds.append(fd)
        if kind in ("tp", "kprobe", "kretprobe"):
            try:
                bpf.set_perf_event_program(program.fd, fd)
                bpf.enable_perf_event(fd)
            except OSError as error:
                raise _failure(-(error.errno or 0), program) from None

    def _tracepoint_event(self, name: str) -> int:
        if self._tracefs is None:
            self._tracefs = Tracefs()
        number = self._tracefs.number(name)
        return -errno.ENOENT if number is None else bpf.open_tracepoint_event(number)

    def field_offset(self, event: str, field: str) -> int | None:
        """Where a field lies in the record of a tracepoint ("sched/sched_process_fork"); None: it isn't there."""
        if self._tracefs is None:
            self._tracefs = Tracefs()
        return self._tracefs.field_offset(event, field)

    def settle(self) -> None:
        """Forgets what was only needed to find hooks: the mount, and the kernel's names (megabytes)."""
        self._names = None
        if self._tracefs is not None:
            self._tracefs.close()
            self._tracefs = None

    def close(self) -> None:
        """Detaches all programs. Safe to call twice."""
        self.settle()
        fds, self._fds = self._fds, []
        bpf.close_all(fds)

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def iterate(program: Program) -> bytes:
    """Runs an iterator (``iter/…``) once over all it goes through; returns what it wrote.

    Raises:
        AttachError: the kernel refused it, or it wrote more than 64 MiB.
    """
    from pyebpf.core.copies import as_iterator

    copy = as_iterator(program) if program.iterator else -1
    link = bpf.link_iterator(program.fd if copy < 0 else copy)
    if copy >= 0:
        os.close(copy)  # the link holds it
    if link < 0:
        raise _failure(link, program)
    try:
        return read_iterator(bpf.create_iterator(link), f"attaching {program.name} to {program.section}")
    finally:
        os.close(link)


def read_iterator(fd: int, what: str) -> bytes:
    """What an iterator writes, whose descriptor (or negative errno) is given away. Raises like `iterate`."""
    if fd < 0:
        raise failure(fd, what)
    output: list[bytes] = []
    size = 0
    try:
        while True:
            try:
                data = os.read(fd, _READ)
            except BlockingIOError:  # a million objects of which nothing was said: it goes on from there
                continue
            except OSError as error:
                raise failure(-(error.errno or 0), what) from None
            if not data:
                return b"".join(output)
            output.append(data)
            size += len(data)
            if size > _MOST_OUTPUT:
                raise AttachError(f"{what}: more than {_MOST_OUTPUT >> 20} MiB of output")
    finally:
        os.close(fd)


def _failure(code: int, program: Program) -> Error:
    return failure(code, f"attaching {program.name} to {program.section}")


def failure(code: int, what: str) -> Error:
    """The error for a negative errno."""
    if code in (-errno.EPERM, -errno.EACCES):
        return libbpf.failure(code, what)
    return AttachError(f"{what}: {os.strerror(-code) if code != -524 else 'not supported by the kernel'}", errno=-code)


def choose(hooks: Hooks, alternatives: Sequence[Sequence[Program]]) -> tuple[Sequence[Program] | None, list[str]]:
    """The first set of programs that can all be attached (None: no set), and what speaks against those before it."""
    against: list[str] = []
    for programs in alternatives:
        reasons = [reason for program in programs for reason in [hooks.why_not(program.section)] if reason]
        if not reasons:
            return programs, against
        for reason in reasons:
            if reason not in against:
                against.append(reason)
    return None, against
