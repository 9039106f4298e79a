# SPDX-License-Identifier: BSD-2-Clause
"""The programs of an object: configured before it is loaded, attached after it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from pyebpf.core import bpf, libbpf
from pyebpf.errors import AttachError, BadValue, StateError, TargetNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyebpf.core.attached import Link
    from pyebpf.core.map import Map
    from pyebpf.core.object import Object
    from pyebpf.core.testrun import Run

# Sections that libbpf learned of in 1.3 and later, by what is before the "/": the attach type.
_MULTI = {
    "uprobe.multi": bpf.TRACE_UPROBE_MULTI, "uretprobe.multi": bpf.TRACE_UPROBE_MULTI,
    "uprobe.session": bpf.TRACE_UPROBE_SESSION,
}  # fmt: skip
ATTACH_TYPES = {"uprobe_multi": bpf.TRACE_UPROBE_MULTI, "uprobe_session": bpf.TRACE_UPROBE_SESSION}


class Program:
    """One program of an object.

    Each ``attach_…`` needs the object loaded and returns a `Link`, which holds until it is detached or the object is
    closed. They raise StateError, PermissionDenied (naming what is missing), TargetNotFound (with close matches),
    Unsupported (this kernel has none of it) and AttachError (it refused).

    Attributes:
        name: the C function's name.
        section: its ELF section, e.g. "uprobe".
        owner: its object.
    """

    def __init__(self, pointer: Any, owner: Object) -> None:
        library = libbpf.lib()
        self._pointer = pointer
        self.owner = owner
        self.name: str = libbpf.ffi.string(library.bpf_program__name(pointer)).decode()
        self.section: str = libbpf.ffi.string(library.bpf_program__section_name(pointer)).decode()
        self._fix: tuple[int, bool] | None = None
        self._target = ""
        if self.section.startswith("u") and "." in self.section:
            kind, _, _ = self.section.partition("/")
            attach_type = _MULTI.get(kind[:-2] if kind.endswith(".s") else kind)
            if attach_type is not None:
                self._fix = attach_type, kind.endswith(".s")
                self._set_fix(pointer)

    def _set_fix(self, pointer: Any) -> None:
        """Tells an old libbpf what a section means that it doesn't know."""
        if self._fix is not None:
            library = libbpf.lib()
            library.bpf_program__set_type(pointer, bpf.PROG_TYPE_KPROBE)
            library.bpf_program__set_expected_attach_type(pointer, self._fix[0])
            if self._fix[1]:
                library.bpf_program__set_flags(pointer, library.bpf_program__flags(pointer) | bpf.SLEEPABLE)

    @property
    def pointer(self) -> Any:
        """libbpf's struct bpf_program."""
        if self.owner.closed:
            raise StateError(f"program {self.name}: the object is closed")
        return self._pointer

    @property
    def autoload(self) -> bool:
        """False: the program is left out when the object is loaded."""
        return bool(libbpf.lib().bpf_program__autoload(self.pointer))

    @autoload.setter
    def autoload(self, wanted: bool) -> None:
        self.owner._require_open(f"program {self.name}: autoload")
        libbpf.check(libbpf.lib().bpf_program__set_autoload(self.pointer, wanted), f"program {self.name}: autoload")

    @property
    def autoattach(self) -> bool:
        """False: `Object.attach` leaves the program alone."""
        return bool(libbpf.lib().bpf_program__autoattach(self.pointer))

    @autoattach.setter
    def autoattach(self, wanted: bool) -> None:
        libbpf.lib().bpf_program__set_autoattach(self.pointer, wanted)

    @property
    def attach_type(self) -> int:
        """The expected attach type (``enum bpf_attach_type``). Set as a number, "uprobe_multi" or "uprobe_session"."""
        return int(libbpf.lib().bpf_program__expected_attach_type(self.pointer))

    @attach_type.setter
    def attach_type(self, value: int | str) -> None:
        self.owner._require_open(f"program {self.name}: attach_type")
        number = ATTACH_TYPES.get(value, value) if isinstance(value, str) else value
        if not isinstance(number, int):
            raise BadValue(f"program {self.name}: attach_type is a number or one of {', '.join(ATTACH_TYPES)}")
        code = libbpf.lib().bpf_program__set_expected_attach_type(self.pointer, number)
        libbpf.check(code, f"program {self.name}: attach_type")
        if self._fix is not None:
            self._fix = number, self._fix[1]

    def set_target(self, function: str) -> None:
        """Chooses the kernel's function (or tracepoint, or LSM hook) a tracing program (``fentry``) is loaded for."""
        self.owner._require_open(f"program {self.name}: set_target")
        name = libbpf.ffi.new("char[]", function.encode())
        code = libbpf.lib().bpf_program__set_attach_target(self.pointer, 0, name)
        if code in (-errno.ESRCH, -errno.ENOENT):
            raise TargetNotFound(f"program {self.name}: this kernel's types have no {function} for {self.section}")
        libbpf.check(code, f"program {self.name}: {function}")
        self._target = function

    def settle(self) -> None:
        """Before loading: on kernels without uprobe_multi (Linux 6.6), single uprobes do the same."""
        if self._fix is not None and self._fix[0] == bpf.TRACE_UPROBE_MULTI:
            from pyebpf.core import kernel

            if not kernel.has_uprobe_multi():
                self.attach_type = 0

    def configure(self, pointer: Any) -> None:
        """Sets up another libbpf program as this one is."""
        library = libbpf.lib()
        self._set_fix(pointer)
        library.bpf_program__set_autoload(pointer, self.autoload)
        library.bpf_program__set_expected_attach_type(pointer, self.attach_type)
        if self._target:
            library.bpf_program__set_attach_target(pointer, 0, libbpf.ffi.new("char[]", self._target.encode()))

    def why_not(self) -> str | None:
        """Why this kernel can't load the program, if that is known for all programs of its kind."""
        from pyebpf.core import kernel

        kind, _, function = self.section.partition("/")
        if not self.autoload:
            return None
        if kind.partition(".")[0] in ("fentry", "fexit", "fmod_ret", "lsm"):
            hook = "bpf_lsm_" * kind.startswith("lsm")
            feature = kernel.fentry(hook + (self._target or function))
            where = f"{kind} on {self._target or function}"
            return None if feature.works else f"{where} doesn't work here: {feature.reason}"
        if self.attach_type == bpf.TRACE_UPROBE_SESSION and kernel.release() < (6, 13):
            return "uprobe sessions need Linux 6.13"
        if self.attach_type == bpf.TRACE_UPROBE_MULTI and not kernel.has_uprobe_multi():
            return "uprobe_multi links need Linux 6.6: leave attach_type alone"
        return None

    @property
    def fd(self) -> int:
        """The loaded program's file descriptor, the object's to close."""
        fd: int = libbpf.lib().bpf_program__fd(self.pointer)
        if fd < 0:
            raise StateError(f"program {self.name}: the object isn't loaded" if self.autoload or not self.owner.loaded
                             else f"program {self.name}: it was left out: autoload is False")  # fmt: skip
        return fd

    def pin(self, path: str) -> None:
        """Keeps the program in a BPF file system. Raises what `Map.pin` does."""
        from pyebpf.core import pins

        with self.owner.lock:
            pins.pin(self.fd, path, f"program {self.name}")

    def run(self, data: bytes = b"", *, context: bytes = b"", repeat: int = 1, room: int = 4096) -> Run:
        """Runs the program once (or ``repeat`` times) on a packet and a context: XDP, tc, raw tracepoints, syscall.

        Args:
            room: bytes for the packet behind it.

        Raises:
            LibbpfError: the kernel can't run programs of this kind, or not on this data, or there was no room.
        """
        from pyebpf.core.testrun import run

        return run(self, data, context, repeat, room)

    @property
    def iterator(self) -> str:
        """Of an iterator's program in a section "raw_tp/bpf_iter_…": the kernel's function; "" of all others."""
        return self.section[7:] if self.section.startswith("raw_tp/bpf_iter_") else ""

    # -- attaching; docs/object.md has the table

    def attach(self) -> Link:
        """Attaches the program where its section says ("tp/sched/sched_switch", "uprobe/PATH:FUNCTION").

        Raises:
            AttachError: the section doesn't say where.
        """
        link = self.attach_by_section()
        if link is None:
            raise AttachError(
                f"program {self.name}: its section {self.section!r} doesn't say where to attach it",
                hint="use one of its attach_... methods",
            )
        return link

    def attach_by_section(self) -> Link | None:
        """`attach`, or None if the section doesn't say where."""
        from pyebpf.core import attach

        return attach.by_section(self)

    def attach_uprobe(
        self, binary: str, symbol: str | None = None, *, offset: int = 0, pid: int | None = None, cookie: int = 0
    ) -> Link:
        """Attaches to a function's entry, or to an instruction.

        Args:
            binary: a path, or a name to look for as the shell and the dynamic linker do ("bash", "libc.so.6").
            symbol: the function: readable or linkage name.
            offset: in bytes, of an instruction in the function; without a symbol, in the file.
            pid: one process; None: all.
            cookie: what ``bpf_get_attach_cookie`` gives (Linux 5.15).

        Raises:
            UnsafeProbe: the offset isn't the beginning of an instruction.
        """
        from pyebpf.core import uprobes

        return uprobes.attach(self, binary, symbol, offset, pid, cookie)

    def attach_uretprobe(self, binary: str, symbol: str | None = None, *, offset: int = 0, pid: int | None = None,
                         cookie: int = 0) -> Link:  # fmt: skip
        """Attaches to a function's return.

        Args:
            offset: without a symbol: of the function's entry, in the file. The others as of `attach_uprobe`.

        Raises:
            UnsafeProbe: it is Go code, which a kernel return probe would crash; or no function's entry, where it takes
                what is on the stack for the return address.
        """
        from pyebpf.core import uprobes

        return uprobes.attach(self, binary, symbol, offset, pid, cookie, on_return=True)

    def attach_uprobe_multi(
        self,
        binary: str,
        symbols: str | Sequence[str] = (),
        *,
        offsets: Sequence[int] = (),
        cookies: Sequence[int] = (),
        pid: int | None = None,
        on_return: bool | None = None,
    ) -> Link:
        """Attaches to many functions: by one link if the program's `attach_type` is "uprobe_multi" (Linux 6.6) or
        "uprobe_session" (6.13: at entry and return), else by one uprobe each.

        Args:
            symbols: a pattern ("SSL_*") or names.
            offsets: in the file, instead.
            cookies: one for each name or offset.
            on_return: at their returns instead of their entries; None: as the section says ("uretprobe.multi").

        Raises:
            UnsafeProbe: a return in Go code, or one of an offset that isn't known to be a function's entry.
        """
        from pyebpf.core import uprobes

        if on_return is None:
            on_return = self.section.startswith("uretprobe")
        return uprobes.attach_many(self, binary, symbols, offsets, cookies, pid, on_return)

    def attach_usdt(self, binary: str, provider: str, name: str, *, pid: int | None = None, cookie: int = 0) -> Link:
        """Attaches to a static probe (``<bpf/usdt.bpf.h>``, ``BPF_USDT``); the cookie is for ``bpf_usdt_cookie``."""
        from pyebpf.core import uprobes

        return uprobes.attach_usdt(self, binary, provider, name, pid, cookie)

    def attach_kprobe(self, function: str, *, offset: int = 0, cookie: int = 0) -> Link:
        """Attaches to a kernel function's entry, or to an instruction of it."""
        from pyebpf.core import attach

        return attach.kprobe(self, function, offset, cookie, on_return=False)

    def attach_kretprobe(self, function: str, *, cookie: int = 0) -> Link:
        """Attaches to a kernel function's return."""
        from pyebpf.core import attach

        return attach.kprobe(self, function, 0, cookie, on_return=True)

    def attach_trace(self) -> Link:
        """Attaches a program that was loaded for its place: fentry, fexit, fmod_ret, tp_btf, lsm."""
        from pyebpf.core import attach

        return attach.raw_tracepoint(self, "")

    def attach_tracepoint(self, category: str, name: str, *, cookie: int = 0) -> Link:
        """Attaches to a tracepoint ("sched", "sched_switch"); tracefs need not be mounted."""
        from pyebpf.core import attach

        return attach.tracepoint(self, category, name, cookie)

    def attach_raw_tracepoint(self, name: str) -> Link:
        """Attaches to a tracepoint by its raw arguments ("sched_switch")."""
        from pyebpf.core import attach

        return attach.raw_tracepoint(self, name)

    def attach_perf_event(
        self,
        event: str = "cpu-clock",
        *,
        frequency: int | None = None,
        period: int | None = None,
        pid: int | None = None,
        cpu: int | None = None,
        cookie: int = 0,
    ) -> Link:
        """Attaches to samples: profiling.

        Args:
            event: "cpu-clock", "task-clock", "page-faults", "context-switches", or the CPU's "cycles",
                "instructions", "cache-misses", "branch-misses", which virtual machines seldom have.
            frequency: samples a second; 99 if no period is given.
            period: or a sample each so many (nanoseconds of a clock).
            pid: one process with all its threads, also those to come; None: all.
            cpu: one CPU; None: all.
        """
        from pyebpf.core import attach

        return attach.perf_event(self, event, frequency, period, pid, cpu, cookie)

    def attach_iter(self, map: Map | None = None) -> Link:
        """Links an iterator's program; `Link.iterate` runs it.

        Args:
            map: of a ``bpf_map_elem`` iterator, the map to go through.
        """
        from pyebpf.core import attach

        return attach.iterator(self, map)

    def attach_xdp(self, interface: str | int, mode: str = "") -> Link:
        """Attaches to a network interface (Linux 5.9).

        Args:
            interface: name or index.
            mode: "skb" (any interface), "drv" (the driver's), "hw"; "": the best it has.
        """
        from pyebpf.core import attach

        return attach.xdp(self, interface, mode)

    def attach_cgroup(self, group: str | int) -> Link:
        """Attaches to a control group (version 2), by path or file descriptor; other programs stay."""
        from pyebpf.core import attach

        return attach.folder(self, group, "control group")

    def attach_netns(self, namespace: str | int) -> Link:
        """Attaches to a network namespace (sk_lookup, flow_dissector), by path or file descriptor."""
        from pyebpf.core import attach

        return attach.folder(self, namespace, "network namespace")
