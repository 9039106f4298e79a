# SPDX-License-Identifier: BSD-2-Clause
"""How often the kernel runs programs for what it counts: nobody can see more than that.

Use::

    def test_what_the_tool_shows() -> None:
        with traffic.wire() as (left, right), firing.told(left.net, right.net):
            ...
            assert len(events) == left.net.counters()["Tcp"]["RetransSegs"]

A kernel may have tasks that it doesn't show (the agents of some virtual machines): while one of them is at work on a
CPU it runs no eBPF program and takes no sample, for nobody, and counts no run as missed; nor in an interrupt that comes
then (a timer that sends a segment again). Its own counters (/proc/net/snmp, perf's) go on. What `fired` returns is from
programs that do nothing but count.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import ownprograms
import traffic

from pyebpf.core.tracefs import Tracefs

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[platform.machine()]
_TRACEPOINT, _ATTR_SIZE, _CLOEXEC = 2, 64, 8  # include/uapi/linux/perf_event.h


class Untold(Exception):
    """The kernel counted more than it ran programs for. The test is run anew (tests/live/conftest.py)."""


@contextmanager
def told(*nets: traffic.Namespace) -> Iterator[None]:
    """Raises `Untold` at its end, also in place of a failed check, if a segment was sent again and no program told."""
    with ExitStack() as stack:
        fired = [stack.enter_context(runs(net.inode, "on_retransmit", "on_retransmit_synack")) for net in nets]
        before = [net.counters()["Tcp"]["RetransSegs"] for net in nets]
        try:
            yield
        finally:
            for net, count, already in zip(nets, fired, before):
                made = net.counters()["Tcp"]["RetransSegs"] - already  # before `count`: others may follow
                if count() < made:
                    raise Untold(f"{made} segments sent again, programs run for {count()}")


@contextmanager
def runs(netns: int, *programs: str) -> Iterator[Callable[[], int]]:
    """Counts runs of some of tests/bpf/firing.bpf.c's programs for a network namespace, by its inode number."""
    with ownprograms.opened("firing") as obj:
        assert obj.rodata is not None
        obj.rodata["netns"] = netns
        obj.load()
        for program in programs:
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
