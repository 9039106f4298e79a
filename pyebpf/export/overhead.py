# SPDX-License-Identifier: BSD-2-Clause
"""What a hit costs the traced program on this machine, so that time can be bounded and not only numbers.

An instruction under a uprobe is emulated by the kernel, or single-stepped out of line. The latter takes about as long
on hardware, and ten to a hundred times as long on virtual machines that have to ask their host each time.
"""

from __future__ import annotations

import os
import time

from pyebpf.errors import Error
from pyebpf.export.resolver import Question, ask
from pyebpf.target.probe import Probe

EMULATED = 1e-6  # seconds a hit: benchmarks/RESULTS.md
_CALLS = 50


class Costs:
    """Measures once what single-stepping takes here. For one thread."""

    def __init__(self) -> None:
        self._stepped: float | None = None

    def of(self, probe: Probe, fd: int, returns: bool) -> float:
        """Seconds a call of a function takes more while it is probed.

        Args:
            fd: of its file.
            returns: they are probed, too: a RET is always single-stepped.
        """
        stepped = self.stepped()
        entry = EMULATED if is_emulated(os.pread(fd, 8, probe.entry)) else stepped
        return entry + (stepped if returns else 0.0)

    def stepped(self) -> float:
        """Seconds a hit takes whose instruction is single-stepped."""
        if self._stepped is None:
            self._stepped = max(EMULATED, _measured())
        return self._stepped


def is_emulated(code: bytes) -> bool:
    """Whether the kernel emulates the instruction that `code` begins with: arch/x86/kernel/uprobes.c,
    branch_setup_xol_ops and push_setup_xol_ops. Of other architectures: hardly ever."""
    if os.uname().machine != "x86_64" or len(code) < 3:
        return False
    rex = code[0] == 0x41
    first, second = (code[1], code[2]) if rex else (code[0], code[1])
    if 0x50 <= first <= 0x57:  # push
        return True
    if rex:
        return False
    branch = 0x70 <= first <= 0x7F or first in (0xE8, 0xE9, 0xEB) or (first == 0x0F and 0x80 <= second <= 0x8F)
    return branch or first == 0x90 or (first == 0x0F and second == 0x1F)


def _measured() -> float:
    """By a probe in ourselves, on a function of libc that begins with a plain instruction."""
    from pyebpf.tools.funccount import CountSession

    try:
        import ctypes

        labs = ctypes.CDLL(None).labs
    except (ImportError, OSError, AttributeError):  # a Python without it; another libc
        return EMULATED
    pid = os.getpid()

    def best() -> float:
        times = []
        for _ in range(_CALLS):
            before = time.perf_counter()
            labs(1)
            times.append(time.perf_counter() - before)
        return sorted(times)[_CALLS // 4]

    for target in ("c:labs+4", "c:labs"):  # behind endbr64, where that is
        try:
            resolution = ask(Question((target,), (pid,), False, False, 10, False)).resolution
            without = best()
            with CountSession(resolution, (pid,)):
                return best() - without
        except Error:
            continue
    return EMULATED
