# SPDX-License-Identifier: BSD-2-Clause
"""The process filter of bpf/include/wanted.bpf.h: which processes a program looks at, and what our /proc calls them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from pyebpf.core.object import Object
from pyebpf.errors import TargetError, Unsupported

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def number_as_we_do(obj: Object) -> None:
    """Sets an opened object's constants so that processes have the numbers of our PID namespace.

    Raises:
        Unsupported: /proc isn't mounted.
    """
    rodata = obj.rodata
    assert rodata is not None
    try:
        namespace = os.stat("/proc/self/ns/pid")
    except OSError as error:
        raise Unsupported(
            f"/proc/self/ns/pid: {error.strerror}", feature="/proc", hint="mount -t proc proc /proc"
        ) from None
    if namespace.st_ino != _INITIAL_PID_NAMESPACE:
        rodata["pidns_dev"], rodata["pidns_ino"] = namespace.st_dev, namespace.st_ino


def asked_for(pid: int | Iterable[int] | None) -> tuple[int, ...]:
    """The processes that a verb's argument names; none for None. Raises TargetError: it is something else."""
    if pid is None:
        return ()
    if isinstance(pid, int):
        return (pid,)
    pids = tuple(pid) if isinstance(pid, Iterable) else (pid,)
    if isinstance(pid, (str, bytes)) or not all(isinstance(one, int) for one in pids):
        raise TargetError(f"pid is the number of a process, or several, got {type(pid).__name__} {pid!r:.80}")
    if not pids:  # a search that found nothing must not become everybody
        raise TargetError("pid names no process: it is empty", hint="leave it out to trace every process")
    return pids


def limit(obj: Object, pids: Sequence[int]) -> None:
    """Sets an opened object's constants, and the size of its map, for these processes; none: for every process."""
    rodata = obj.rodata
    assert rodata is not None
    if len(pids) == 1:
        rodata["only_tgid"] = pids[0]
    elif pids:
        rodata["filter_tgids"] = True
        obj.maps["tgids"].max_entries = len(pids)


def fill(obj: Object, pids: Sequence[int]) -> None:
    """Fills the loaded object's map, before its programs are attached."""
    if len(pids) > 1:
        for pid in pids:
            obj.maps["tgids"][pid] = 1
