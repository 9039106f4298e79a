# SPDX-License-Identifier: BSD-2-Clause
"""Attaching an embedder's program to the kernel: what `Program.attach_…` do. `uprobes` has those for user space."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyebpf.core import bpf, kernel, libbpf
from pyebpf.core.attached import Link
from pyebpf.core.hooks import failure
from pyebpf.core.tracefs import Tracefs
from pyebpf.errors import AttachError, BadValue, TargetNotFound, Unsupported

if TYPE_CHECKING:
    from pyebpf.core.map import Map
    from pyebpf.core.programs import Program

# perf_event_open(2): type and config. 0: the CPU's own events; 1: the kernel's.
_EVENTS = {
    "cpu-clock": (1, 0), "task-clock": (1, 1), "page-faults": (1, 2), "context-switches": (1, 3), "cycles": (0, 0),
    "instructions": (0, 1), "cache-misses": (0, 3), "branch-misses": (0, 5),
}  # fmt: skip
_XDP_MODES = {"": 0, "skb": 2, "drv": 4, "hw": 8}  # XDP_FLAGS_…, linux/if_link.h
# Sections of programs that are attached by what they were loaded for.
_TRACING = ("tp_btf", "fentry", "fexit", "fmod_ret", "lsm", "freplace")
# Others that libbpf attaches; those it doesn't know how to, e.g. "cgroup/connect4", say no place.
_BY_LIBBPF = ("kprobe.multi", "kretprobe.multi", "kprobe.session", "ksyscall", "kretsyscall")
_OF_A_MAP = ("bpf_map_elem", "bpf_sk_storage_map", "sockmap")  # iterators that go through one


def by_section(program: Program) -> Link | None:
    """Attaches a program where its section says; None if it doesn't say."""
    from pyebpf.core import uprobes

    kind, _, place = program.section.partition("/")
    kind = kind.lstrip("?")
    plain = kind[:-2] if kind.endswith(".s") else kind
    if plain in ("uprobe", "uretprobe", "uprobe.multi", "uretprobe.multi", "uprobe.session", "usdt"):
        return uprobes.by_section(program, plain, place) if place else None
    if plain in _TRACING:
        return raw_tracepoint(program, "") if place else None
    if plain in ("raw_tp", "raw_tracepoint", "raw_tp.w", "raw_tracepoint.w"):
        return raw_tracepoint(program, place) if place else None
    if plain in ("tp", "tracepoint"):
        category, slash, name = place.partition("/")
        return tracepoint(program, category, name, 0) if slash else None
    if plain in ("kprobe", "kretprobe"):
        function, offset = split_offset(place)
        return kprobe(program, function, offset, 0, plain == "kretprobe") if place else None
    if plain == "iter":
        return iterator(program, None) if place and place not in _OF_A_MAP else None
    with program.owner.lock:
        _ = program.fd
        pointer = libbpf.lib().bpf_program__attach(program.pointer)
        number = libbpf.ffi.errno
        if pointer == libbpf.ffi.NULL:
            if number in (errno.EOPNOTSUPP, 524) and not (place and plain in _BY_LIBBPF):
                return None
            raise failure(-number, _what(program, program.section))
        return Link(program, f"{program.name} at {program.section}", pointers=[pointer])


def split_offset(place: str) -> tuple[str, int]:
    """What a section says of a place in a function: "NAME" or "NAME+OFFSET"."""
    match = re.fullmatch(r"(?s)(.*?)(?:\+(0x[0-9a-fA-F]+|[0-9]+))?", place)
    assert match is not None
    return match[1], int(match[2] or "0", 0)


def _what(program: Program, place: str) -> str:
    return f"attaching {program.name} to {place}"


def made(program: Program, code: int, place: str) -> Link:
    """A link of a new descriptor, or the error a negative one means."""
    if code == -errno.EINVAL:
        raise AttachError(
            f"{_what(program, place)}: the kernel refused it: is a program of section {program.section!r} for this?",
            errno=errno.EINVAL,
        )
    if code < 0:
        raise failure(code, _what(program, place))
    return Link(program, f"{program.name} at {place}", [code])


def raw_tracepoint(program: Program, name: str) -> Link:
    with program.owner.lock:
        fd = bpf.open_raw_tracepoint(program.fd, name)
        if fd == -errno.ENOENT and name:
            raise TargetNotFound(f"{_what(program, name)}: this kernel has no such tracepoint")
        if fd == -errno.EINVAL and not name and not program.section.startswith(_TRACING):
            raise AttachError(
                f"program {program.name}: a program of section {program.section!r} isn't loaded for a place of its own",
                errno=errno.EINVAL, hint="attach_trace() is for fentry, fexit, fmod_ret, tp_btf and lsm",
            )  # fmt: skip
        if fd in (-errno.EOPNOTSUPP, -524) and not name:
            raise AttachError(
                f"{_what(program, program.section)}: not supported by the kernel", errno=-fd, hint=program.why_not()
            )
        return made(program, fd, name or program.section)


def tracepoint(program: Program, category: str, name: str, cookie: int) -> Link:
    place = f"{category}/{name}"
    checked_cookie(cookie)
    with program.owner.lock, Tracefs() as tracefs:
        fd = program.fd  # raises StateError before anything else is done
        number = tracefs.number(place)
        if number is None:
            from difflib import get_close_matches

            close = tuple(f"{category}/{one}" for one in get_close_matches(name, tracefs.names(category), 3))
            hint = f"did you mean {', '.join(close)}?" if close else None
            raise TargetNotFound(f"this kernel has no tracepoint {place}", close_matches=close, hint=hint)
        return _on_events(program, fd, [bpf.open_tracepoint_event(number)], place, cookie)


def checked_cookie(cookie: int, what: str = "a cookie") -> int:
    """An attach cookie, or something else. Raises BadValue: it has no 64 bits."""
    if not isinstance(cookie, int) or not 0 <= cookie < 1 << 64:
        raise BadValue(f"{what} is an integer of 64 bits, got {cookie!r}")
    return cookie


def _on_events(program: Program, program_fd: int, events: Iterable[int], place: str, cookie: int) -> Link:
    """Attaches to perf events, whose descriptors are given away; a negative one is an error."""
    library, ffi = libbpf.lib(), libbpf.ffi
    options = ffi.new("char[]", struct.pack("<QQ", 16, cookie))
    pointers: list[Any] = []
    left = list(events)
    try:
        while left:
            if left[0] < 0:
                raise failure(left.pop(0), _what(program, place))
            pointer = library.bpf_program__attach_perf_event_opts(program.pointer, left[0], options)
            if pointer == ffi.NULL:
                raise _refused(program, place, ffi.errno, cookie)
            pointers.append(pointer)
            del left[0]
    except BaseException:
        for pointer in pointers:
            library.bpf_link__destroy(pointer)
        bpf.close_all([fd for fd in left if fd >= 0])
        raise
    return Link(program, f"{program.name} at {place}", pointers=pointers)


def _refused(program: Program, place: str, number: int, cookie: int) -> Exception:
    if cookie and number in (errno.EOPNOTSUPP, errno.EINVAL, 524) and not kernel.has_attach_cookies():
        return Unsupported(f"{_what(program, place)}: cookies aren't supported by this kernel", feature="attach cookie",
                           minimum="Linux 5.15")  # fmt: skip
    if number == errno.EINVAL:
        return AttachError(
            f"{_what(program, place)}: the program is of another kind (its section is {program.section!r})",
            errno=number,
        )
    return failure(-number, _what(program, place))


def kprobe(program: Program, function: str, offset: int, cookie: int, on_return: bool) -> Link:
    checked_cookie(offset, "an offset")
    place = f"{function}{f'+{offset:#x}' if offset else ''}{' return' if on_return else ''}"
    with program.owner.lock:
        _ = program.fd
        feature = kernel.kprobe()
        if not feature.works:
            raise Unsupported(f"{_what(program, place)}: kprobes: {feature.reason}", feature="kprobe",
                              minimum=f"Linux {feature.minimum} with CONFIG_KPROBE_EVENTS",
                              hint="a tracepoint may show the same (attach_tracepoint)")  # fmt: skip
        library, ffi = libbpf.lib(), libbpf.ffi
        # struct bpf_kprobe_opts: sz, bpf_cookie, offset, retprobe
        options = ffi.new("char[]", struct.pack("<QQQ?7x", 32, checked_cookie(cookie), offset, on_return))
        name = ffi.new("char[]", function.encode())
        pointer = library.bpf_program__attach_kprobe_opts(program.pointer, name, options)
        if pointer != ffi.NULL:
            return Link(program, f"{program.name} at {place}", pointers=[pointer])
        number = ffi.errno
        if number in (errno.ENOENT, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EILSEQ):
            names = _kernel_functions()
            if names and function not in names:
                from difflib import get_close_matches

                alike = [one for one in names if one[:2] == function[:2]] or list(names)
                close = tuple(get_close_matches(function, alike, 3))
                raise TargetNotFound(f"this kernel has no function {function}", close_matches=close,
                                     hint=f"did you mean {', '.join(close)}?" if close else None)  # fmt: skip
            raise AttachError(f"{_what(program, place)}: the kernel can't probe it there (an inlined, forbidden or "
                              "__init function, or no instruction begins there)", errno=number)  # fmt: skip
        raise _refused(program, place, number, cookie)


def _kernel_functions() -> dict[str, None]:
    """Names of the kernel's functions; none if they can't be read."""
    try:
        with open("/proc/kallsyms") as lines:
            return {words[2]: None for line in lines for words in [line.split()] if words[1] in "tTwW"}
    except (OSError, IndexError):
        return {}


def perf_event(
    program: Program,
    event: str,
    frequency: int | None,
    period: int | None,
    pid: int | None,
    cpu: int | None,
    cookie: int,
) -> Link:
    if event not in _EVENTS:
        raise BadValue(f"there is no event {event!r}; there is {', '.join(_EVENTS)}")
    checked_cookie(cookie)
    if frequency is not None and period is not None:
        raise BadValue("a frequency or a period, not both")
    amount = period if period is not None else 99 if frequency is None else frequency
    if not isinstance(amount, int) or not 0 < amount < 1 << 63:
        raise BadValue(f"a frequency or period is a positive integer, got {amount!r}")
    if cpu is not None and cpu not in online_cpus():
        raise BadValue(f"CPU {cpu!r} isn't at work; there are {', '.join(map(str, online_cpus()))}")
    if pid is None:
        places = [(0, one) for one in (online_cpus() if cpu is None else [cpu])]
    else:
        try:
            places = [(int(thread), -1 if cpu is None else cpu) for thread in os.listdir(f"/proc/{pid}/task")]
        except OSError:
            raise TargetNotFound(f"process {pid} is gone") from None
    events: list[int] = []
    with program.owner.lock:
        fd = program.fd
        for thread, where in places:
            opened = bpf.open_sampling_event(
                *_EVENTS[event], amount, frequency=period is None, pid=thread, cpu=where
            )
            if opened in (-errno.ESRCH, -errno.ENODEV) and len(places) > 1:  # a thread that ended, a CPU gone offline
                continue
            events.append(opened)
            if opened < 0:
                bpf.close_all(events[:-1])
                if opened in (-errno.ENOENT, -errno.EOPNOTSUPP, -errno.ENODEV):
                    raise Unsupported(f"this machine doesn't count {event}", feature=event,
                                      hint="cpu-clock works everywhere")  # fmt: skip
                if opened == -errno.ESRCH:
                    raise TargetNotFound(f"process {pid} is gone")
                if opened == -errno.EINVAL and period is None:
                    raise AttachError(f"{_what(program, event)}: {amount} samples a second are too many", errno=-opened,
                                      hint="sysctl kernel.perf_event_max_sample_rate has the limit")  # fmt: skip
                raise failure(opened, _what(program, event))
        if not events:
            raise TargetNotFound(f"process {pid} is gone")
        return _on_events(program, fd, events, event, cookie)


def online_cpus() -> list[int]:
    """The CPUs at work ("0-3,8" in sysfs)."""
    with open("/sys/devices/system/cpu/online") as file:
        ranges = [part.split("-") for part in file.read().strip().split(",")]
    return [cpu for part in ranges for cpu in range(int(part[0]), int(part[-1]) + 1)]


def iterator(program: Program, over: Map | None) -> Link:
    with program.owner.lock:
        place = f"map {over.name}" if over is not None else program.section
        code = bpf.link_iterator(program.fd, -1 if over is None else over.fd)
        if code == -errno.EBADF and over is None:
            raise AttachError(f"{_what(program, place)}: it goes through a map", errno=errno.EBADF,
                              hint='say which: attach_iter(obj.maps["NAME"])')  # fmt: skip
        return made(program, code, place)


def xdp(program: Program, interface: str | int, mode: str) -> Link:
    if mode not in _XDP_MODES:
        raise BadValue(f"an XDP mode is one of {', '.join(filter(None, _XDP_MODES))}, got {mode!r}")
    import socket

    try:
        index = socket.if_nametoindex(interface) if isinstance(interface, str) else interface
        socket.if_indextoname(index)
    except (OSError, OverflowError):
        close = tuple(name for _, name in socket.if_nameindex())
        raise TargetNotFound(f"there is no network interface {interface!r}; there is {', '.join(close)}",
                             close_matches=close[:3]) from None  # fmt: skip
    with program.owner.lock:
        code = bpf.create_link(program.fd, index, bpf.XDP, _XDP_MODES[mode])
        place = f"interface {interface}"
        if code == -errno.EBUSY:
            raise AttachError(f"{_what(program, place)}: another XDP program is attached there", errno=errno.EBUSY)
        if code in (-errno.EOPNOTSUPP, -524):
            what = f"{_what(program, place)}: its driver can't"
            raise Unsupported(what, feature=f"XDP {mode}", hint='use mode="skb"')
        return made(program, code, place)


def folder(program: Program, place: str | int, kind: str) -> Link:
    """Attaches to what a path or descriptor stands for: a control group, a network namespace."""
    with program.owner.lock:
        program_fd = program.fd
        try:
            fd = os.dup(place) if isinstance(place, int) else os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetNotFound(f"{kind} {place}: {error.strerror}") from None
        try:
            code = bpf.create_link(program_fd, fd, program.attach_type)
        finally:
            os.close(fd)
        if code in (-errno.EBADF, -errno.EINVAL):
            hint = "is it one of version 2 (type cgroup2)?" if kind == "control group" else None
            raise AttachError(f"{_what(program, str(place))}: it is no {kind}, or the program (section "
                              f"{program.section!r}) isn't for one", errno=-code, hint=hint)  # fmt: skip
        return made(program, code, f"{kind} {place}")
