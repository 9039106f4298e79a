# SPDX-License-Identifier: BSD-2-Clause
"""How often the kernel runs programs for what it counts: nobody can see more than that.

Use::

    with firing.runs("on_retransmit", net.inode) as fired:
        ...
        assert len(events) == fired() == net.counters()["Tcp"]["RetransSegs"]

A kernel may have tasks that it doesn't show (the agents of some virtual machines): while one of them is at work on a
CPU it runs no eBPF program and takes no sample, for nobody, and counts no run as missed; nor in an interrupt that comes
then. Its own counters (/proc/net/snmp, perf's) go on. `fired` is from a program that does nothing but count.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ownprograms

from pyebpf.core.tracefs import Tracefs

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[platform.machine()]
_TRACEPOINT, _ATTR_SIZE, _CLOEXEC = 2, 64, 8  # include/uapi/linux/perf_event.h


@contextmanager
def runs(program: str, netns: int) -> Iterator[Callable[[], int]]:
    """Counts runs of one of tests/bpf/firing.bpf.c's programs for a network namespace, by its inode number."""
    with ownprograms.opened("firing") as obj:
        assert obj.rodata is not None
        obj.rodata["netns"] = netns
        obj.load()
        obj.programs[program].attach()
        assert obj.bss is not None
        bss = obj.bss
        yield lambda: int(bss["fired"])


@contextmanager
def counted(event: str, pid: int) -> Iterator[Callable[[], int]]:
    """Counts how often a tracepoint fires in a thread, by the kernel's perf counters."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Tracefs() as tracefs:
        number = tracefs.number(event)
    assert number is not None, event
    attr = ctypes.create_string_buffer(struct.pack("<IIQQ", _TRACEPOINT, _ATTR_SIZE, number, 0), _ATTR_SIZE)
    fd = libc.syscall(_PERF_EVENT_OPEN, attr, pid, -1, -1, _CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"{event}: {errno.errorcode[ctypes.get_errno()]}")
    try:
        yield lambda: int(struct.unpack("<Q", os.read(fd, 8))[0])
    finally:
        os.close(fd)
