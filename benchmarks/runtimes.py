# SPDX-License-Identifier: BSD-2-Clause
"""How long eBPF programs run, as the kernel counts it."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyebpf.core import bpf, libbpf

# include/uapi/linux/bpf.h
_PROG_GET_FD_BY_ID, _ENABLE_STATS = 13, 32
_RUN_TIME_AT = 192  # run_time_ns and run_cnt of struct bpf_prog_info


@contextmanager
def statistics() -> Iterator[None]:
    """While it is entered, the kernel measures every program."""
    fd = bpf.bpf(_ENABLE_STATS, struct.pack("<I", 0))
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd))
    try:
        yield
    finally:
        os.close(fd)


def run_time(fd: int) -> tuple[int, int]:
    """How long a program ran, in ns, and how often."""
    info = libbpf.ffi.new("char[]", 256)
    bpf.bpf(bpf.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, 256, libbpf.address(info)))
    time, count = struct.unpack_from("<QQ", libbpf.ffi.buffer(info), _RUN_TIME_AT)
    return time, count


def of_processes(pids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The same of all programs that processes hold, by the programs' numbers."""
    numbers: set[int] = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
            try:
                numbers.update(map(int, re.findall(r"(?m)^prog_id:\s+(\d+)$", path.read_text())))
            except OSError:  # it is closed
                pass
    found = {}
    for number in numbers:
        fd = bpf.bpf(_PROG_GET_FD_BY_ID, struct.pack("<I", number))
        if fd >= 0:
            found[number] = run_time(fd)
            os.close(fd)
    return found
