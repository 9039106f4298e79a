# SPDX-License-Identifier: BSD-2-Clause
"""Raw bpf(2): the commands that the installed libbpf may be too old for.

Numbers and layouts are those of ``include/uapi/linux/bpf.h``; unused bytes of ``union bpf_attr`` must be zero.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pyebpf.core import libbpf

# Numbers of system calls: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h. To -1 the kernel
# answers ENOSYS.
_MACHINE = os.uname().machine
_BPF = {"x86_64": 321, "aarch64": 280}.get(_MACHINE, -1)
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}.get(_MACHINE, -1)


MAP_CREATE = 0
MAP_LOOKUP_ELEM = 1
MAP_UPDATE_ELEM = 2
MAP_DELETE_ELEM = 3
MAP_GET_NEXT_KEY = 4
PROG_LOAD = 5
OBJ_PIN = 6
OBJ_GET = 7
PROG_TEST_RUN = 10
MAP_GET_FD_BY_ID = 14
OBJ_GET_INFO_BY_FD = 15
RAW_TRACEPOINT_OPEN = 17
BTF_GET_FD_BY_ID = 19
MAP_LOOKUP_AND_DELETE_ELEM = 21
MAP_LOOKUP_BATCH = 24
MAP_LOOKUP_AND_DELETE_BATCH = 25
MAP_UPDATE_BATCH = 26
MAP_DELETE_BATCH = 27
LINK_CREATE = 28
LINK_UPDATE = 29
ITER_CREATE = 33

PROG_TYPE_KPROBE = 2
PROG_TYPE_TRACING = 26
MAP_TYPE_RINGBUF = 27

XDP = 37  # the attach type of a program on a network interface
TRACE_ITER = 28  # the attach type of an iterator
PERF_EVENT = 41  # the attach type of a program on a perf event
TRACE_UPROBE_MULTI = 48  # Linux 6.6, 89ae89f53d20
TRACE_UPROBE_SESSION = 57  # Linux 6.13, d920179b3d4842

UPROBE_MULTI_RETURN = 1

SLEEPABLE = 1 << 4  # BPF_FSLEEPABLE

# mov r0, 0; exit
TRIVIAL_PROGRAM = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)


def bpf(command: int, attr: bytes) -> int:
    """Calls bpf(2). Returns its result, or ``-errno``."""
    libbpf.lib()
    return bpf_inout(command, libbpf.ffi.new("char[]", attr), len(attr))


def bpf_inout(command: int, attr: Any, size: int) -> int:
    """Calls bpf(2) with an attribute in a cffi buffer that the kernel may write to."""
    return libbpf.syscall(_BPF, command, libbpf.address(attr), size)


def load_program(
    instructions: bytes,
    *,
    kind: int = PROG_TYPE_KPROBE,
    attach_type: int = 0,
    name: str = "",
    sleepable: bool = False,
    attach_to: int = 0,
) -> int:
    """Loads a program from finished instructions.

    Args:
        kind: its type. Uprobes have none of their own: they are kprobes.
        attach_to: the kernel's function it belongs to, by its number in the kernel's type information.

    Returns:
        a file descriptor, or ``-errno``.
    """
    libbpf.lib()
    new = libbpf.ffi.new
    code, license_ = new("char[]", instructions), new("char[]", b"Dual BSD/GPL")
    attr = struct.pack(
        "<IIQQIIQII16sIIIIQIIQII",
        kind,
        len(instructions) // 8,
        libbpf.address(code),
        libbpf.address(license_),
        *(0, 0, 0, 0),  # log_level, log_size, log_buf, kern_version
        SLEEPABLE if sleepable else 0,
        name.encode()[:15],
        0,  # prog_ifindex
        attach_type,
        *(0, 0, 0, 0, 0, 0),  # prog_btf_fd, func_info_rec_size, func_info, func_info_cnt, line_info_rec_size, line_info
        *(0, attach_to),  # line_info_cnt, attach_btf_id
    )
    return bpf(PROG_LOAD, attr)


def create_map(map_type: int, key_size: int, value_size: int, max_entries: int) -> int:
    """Creates a map; returns a file descriptor, or ``-errno``."""
    return bpf(MAP_CREATE, struct.pack("<IIII", map_type, key_size, value_size, max_entries))


def link_uprobe_multi(
    program_fd: int,
    path: str,
    offsets: Sequence[int],
    cookies: Sequence[int],
    *,
    pid: int = 0,
    on_return: bool = False,
    attach_type: int = TRACE_UPROBE_MULTI,
) -> int:
    """Creates one link for many uprobes of one file (``BPF_LINK_CREATE`` with ``uprobe_multi``).

    Args:
        program_fd: a program loaded with the same expected attach type.
        path: the file, resolved by the kernel in our namespaces (``/proc/PID/exe`` is fine).
        offsets: file offsets.
        cookies: one for each offset.
        pid: limits the probes to a process; 0: every process.
        on_return: kernel return probes instead of entry probes.

    Returns:
        a file descriptor, or ``-errno``; -EINVAL where the kernel has no such link.
    """
    libbpf.lib()
    new = libbpf.ffi.new
    name = new("char[]", os.fsencode(path))
    offset_array, cookie_array = new("__u64[]", list(offsets)), new("__u64[]", list(cookies))
    attr = struct.pack(
        "<IIIIQQQQIII",
        program_fd,
        *(0, attach_type, 0),  # target_fd, attach_type, flags
        libbpf.address(name),
        libbpf.address(offset_array),
        0,  # ref_ctr_offsets
        libbpf.address(cookie_array),
        len(offsets),
        UPROBE_MULTI_RETURN if on_return else 0,
        pid,
    )
    return bpf(LINK_CREATE, attr)


_PERF_EVENT_IOC_SET_BPF = 0x40042408
_PERF_EVENT_IOC_ENABLE = 0x2400
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_TYPE_TRACEPOINT = 2


def open_uprobe_event(path: str, offset: int, *, pid: int = 0, on_return: bool = False) -> int:
    """Opens a perf event that fires at a file offset (the "uprobe" event source, Linux 4.17).

    Returns:
        a file descriptor, or ``-errno``.
    """
    return _open_probe_event("uprobe", os.fsencode(path), offset, pid, on_return)


def open_tracepoint_event(number: int) -> int:
    """Opens a perf event for a tracepoint by its number in tracefs.

    Returns:
        a file descriptor, or ``-errno``.
    """
    return _open_event(_PERF_TYPE_TRACEPOINT, number)


def open_kprobe_event(function: str, *, on_return: bool = False) -> int:
    """Opens a perf event that fires at a kernel function's entry or return (the "kprobe" event source, Linux 4.17).

    Returns:
        a file descriptor, or ``-errno``.
    """
    return _open_probe_event("kprobe", function.encode(), 0, 0, on_return)


def _open_probe_event(source: str, where: bytes, offset: int, pid: int, on_return: bool) -> int:
    libbpf.lib()
    try:
        event_type, return_bit = _event_source(source)
    except OSError as error:
        return -(error.errno or errno.ENODEV)
    name = libbpf.ffi.new("char[]", where)
    return _open_event(event_type, 1 << return_bit if on_return else 0, libbpf.address(name), offset, pid)


@cache  # the running kernel's; read once, not for each of thousands of probes
def _event_source(name: str) -> tuple[int, int]:
    """A perf event source's type, and the bit of its config that says "at the return".

    Raises:
        OSError: ENODEV: the kernel has no such source; others: it could not be read (too many open files).
    """
    source = f"/sys/bus/event_source/devices/{name}"
    try:
        with open(f"{source}/type") as file:
            event_type = int(file.read())
        with open(f"{source}/format/retprobe") as file:  # "config:0"
            return event_type, int(file.read().partition(":")[2])
    except (FileNotFoundError, ValueError):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def _open_event(
    event_type: int,
    config: int,
    config1: int = 0,
    config2: int = 0,
    pid: int = 0,
    *,
    cpu: int | None = None,
    period: int = 0,
    sample_type: int = 0,
    flags: int = 0,
    wakeup: int = 0,
    read_format: int = 0,
) -> int:
    libbpf.lib()
    # type, size (PERF_ATTR_SIZE_VER5), config, period, sample type, read format, flags, wakeup, bp_type, config1, 2
    attr = struct.pack(
        "<IIQQQQQIIQQ", event_type, 112, config, period, sample_type, read_format, flags, wakeup, 0, config1, config2
    )
    buffer = libbpf.ffi.new("char[]", attr.ljust(112, b"\0"))
    if cpu is None:
        cpu = -1 if pid else 0  # without a process an event belongs to a CPU; a probe's program runs on all of them
    return libbpf.syscall(_PERF_EVENT_OPEN, libbpf.address(buffer), pid or -1, cpu, -1, _PERF_FLAG_FD_CLOEXEC)


_PERF_SAMPLE_RAW = 1 << 10
_INHERIT, _FREQUENCY = 1 << 1, 1 << 10  # bits of perf_event_attr's flags
_EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 5, 1 << 6
_SOFTWARE, _DUMMY, _BPF_OUTPUT = 1, 9, 10
_FORMAT_LOST = 1 << 4


def open_output_event(cpu: int) -> int:
    """Opens the perf event that ``bpf_perf_event_output`` writes to on a CPU; each record wakes its reader.

    Returns:
        a file descriptor, for `lost_records` too, or ``-errno``.
    """
    fd = -errno.EINVAL
    for read_format in (_FORMAT_LOST, 0):
        if fd == -errno.EINVAL:
            fd = _open_event(_SOFTWARE, _BPF_OUTPUT, cpu=cpu, period=1, sample_type=_PERF_SAMPLE_RAW, wakeup=1,
                             read_format=read_format)  # fmt: skip
    return fd


def open_idle_event(pid: int) -> int:
    """Opens a perf event that counts nothing, of a thread; of one's own process every user may have it.

    Returns:
        a file descriptor, or ``-errno``.
    """
    return _open_event(_SOFTWARE, _DUMMY, pid=pid, flags=_EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR)


def lost_records(event_fd: int) -> int | None:
    """How many records found no room in an output event's buffer; None: this kernel doesn't tell (before 6.0)."""
    value = os.read(event_fd, 16)
    return int.from_bytes(value[8:], "little") if len(value) == 16 else None


def open_sampling_event(event_type: int, config: int, amount: int, *, frequency: bool, pid: int, cpu: int) -> int:
    """Opens a perf event that fires each so many, or so often a second; of a thread its children count too.

    Args:
        pid: a thread; 0: all. cpu: -1 with a thread: any.

    Returns:
        a file descriptor, or ``-errno``.
    """
    flags = (_FREQUENCY if frequency else 0) | (_INHERIT if pid else 0)
    return _open_event(event_type, config, pid=pid, cpu=cpu, period=amount, flags=flags)


def create_link(program_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """Links a program to a control group, network namespace (descriptors) or interface (index).

    Returns:
        a file descriptor, or ``-errno``.
    """
    return bpf(LINK_CREATE, struct.pack("<IIII", program_fd, target, attach_type, flags))


def open_raw_tracepoint(program_fd: int, name: str = "") -> int:
    """Attaches a raw tracepoint's program, or one that knows by itself where it belongs (tp_btf, fentry, fexit).

    Returns:
        a file descriptor, which is the link, or ``-errno``.
    """
    libbpf.lib()
    buffer = libbpf.ffi.new("char[]", name.encode())
    return bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QII", libbpf.address(buffer) if name else 0, program_fd, 0))


def link_iterator(program_fd: int, map_fd: int = -1) -> int:
    """Links an iterator's program (Linux 5.8), to a map if it is one's. Returns a file descriptor, or ``-errno``."""
    libbpf.lib()
    info = libbpf.ffi.new("__u32[]", [max(map_fd, 0)])  # union bpf_iter_link_info
    given = (libbpf.address(info), 4) if map_fd >= 0 else (0, 0)
    return bpf(LINK_CREATE, struct.pack("<IIIIQI", program_fd, 0, TRACE_ITER, 0, *given))


def create_iterator(link_fd: int) -> int:
    """Begins one run of a linked iterator: reading the descriptor runs it. Returns a descriptor, or ``-errno``."""
    return bpf(ITER_CREATE, struct.pack("<II", link_fd, 0))


_RECURSION_MISSES_AT = 208  # struct bpf_prog_info, Linux 5.12 (9ed9e9ba2337)


def missed_runs(program_fd: int) -> int:
    """How often the kernel did not run a program, as it was at work already on the same CPU; 0 where it doesn't say."""
    libbpf.lib()
    info = libbpf.ffi.new("char[]", 256)
    if bpf(OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", program_fd, 256, libbpf.address(info))) < 0:
        return 0
    return int(struct.unpack_from("<Q", libbpf.ffi.buffer(info), _RECURSION_MISSES_AT)[0])


_UPROBE_MULTI_PID_AT = 60  # struct bpf_link_info, Linux 6.8


def uprobe_multi_pid(link_fd: int) -> int | None:
    """The process that a link made by `link_uprobe_multi` is limited to; 0: every process, or its task is no more.

    None: the kernel doesn't say.
    """
    libbpf.lib()
    info = libbpf.ffi.new("char[]", 256)
    if bpf(OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", link_fd, 256, libbpf.address(info))) < 0:
        return None
    return int(struct.unpack_from("<I", libbpf.ffi.buffer(info), _UPROBE_MULTI_PID_AT)[0])


def link_perf_event(program_fd: int, event_fd: int, cookie: int) -> int:
    """Links a program to a perf event, with a cookie (Linux 5.15). Returns a file descriptor, or ``-errno``."""
    return bpf(LINK_CREATE, struct.pack("<IIIIQ", program_fd, event_fd, PERF_EVENT, 0, cookie))


def set_perf_event_program(program_fd: int, event_fd: int) -> None:
    """Sets a perf event's program the way kernels before 5.15 do. Raises OSError."""
    import fcntl

    fcntl.ioctl(event_fd, _PERF_EVENT_IOC_SET_BPF, program_fd)


def enable_perf_event(event_fd: int) -> None:
    """Starts a perf event. Raises OSError."""
    import fcntl

    fcntl.ioctl(event_fd, _PERF_EVENT_IOC_ENABLE, 0)


def unmap(mapping: Any) -> None:
    """Closes an `mmap.mmap`; if somebody still holds a view of it, the memory goes with the last view."""
    try:
        mapping.close()
    except BufferError:
        pass


_CLOSERS = 32


def close_all(fds: Sequence[Any], close: Callable[[Any], object] = os.close) -> None:
    """Closes links and perf events. Each close waits for the kernel, up to 100 ms, so many are closed side by side.

    Plain threads: concurrent.futures imports twenty modules, just when a tool is about to end.
    """
    if len(fds) <= 2:
        for fd in fds:
            close(fd)
        return
    from _thread import allocate_lock, start_new_thread

    left = list(fds)
    running = []

    def work(done: Any) -> None:
        try:
            while left:
                close(left.pop())
        except IndexError:  # another thread took the last one
            pass
        finally:
            done.release()

    for _ in range(min(_CLOSERS, len(fds))):
        done = allocate_lock()
        done.acquire()
        try:
            start_new_thread(work, (done,))
        except RuntimeError:  # no more threads: those there are, or this one, do it
            break
        running.append(done)
    if not running:
        for fd in left:
            close(fd)
    for done in running:
        done.acquire()
