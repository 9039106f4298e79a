# SPDX-License-Identifier: BSD-2-Clause
"""stackcount: by which paths functions are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.target.command import Command
from pyebpf.target.probe import Resolution
from pyebpf.target.stacks import Frame
from pyebpf.tools.frames import NO_KERNEL_STACK, walk_is_whole
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.keys import DEFAULT_MAX_KEYS, check
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.probes import Probes
from pyebpf.tools.record import as_dict
from pyebpf.tools.session import IntervalSession, TracedFunction, resolve_for

_LOST = Frame(0, "[lost stack]", 0, "")


class CallPath(NamedTuple):
    """A stack, and how many calls were made with it.

    Attributes:
        function: what was called.
        calls: how often.
        pid: the process; 0 where processes were counted together.
        comm: the name of the calling thread; b"" where processes were counted together.
        user_stack: innermost frame first, which is the function; empty if not asked for.
        kernel_stack: innermost frame first; empty if not asked for.
    """

    function: TracedFunction
    calls: int
    pid: int
    comm: bytes
    user_stack: tuple[Frame, ...]
    kernel_stack: tuple[Frame, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        fields = as_dict(self)
        return {**fields, "count": fields.pop("calls"), "pid": self.pid or None}


class CallPaths(tuple[CallPath, ...]):
    """Call paths, the least travelled first."""

    __slots__ = ()

    @property
    def calls(self) -> int:
        """Calls in total."""
        return sum(path.calls for path in self)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"stacks": [path.as_dict() for path in self]}

    def _repr_html_(self) -> str:
        from pyebpf.tools.html import table

        rows = []
        for path in reversed(self):
            frames = [frame.name for frame in path.kernel_stack + path.user_stack] or [path.function.name]
            cells: list[str | int] = [" ← ".join(frames), path.calls]
            rows.append(([f"{os.fsdecode(path.comm)} [{path.pid}]", *cells] if path.comm else cells, path.calls))
        heads = ("stack, innermost first", "calls")
        with_process = any(path.comm for path in self)
        return table(("process", *heads) if with_process else heads, rows, f"{self.calls:,} calls")


class StackSession(IntervalSession[CallPaths]):
    """Counts calls by stack while it is open. Counters live in the kernel and are never reset.

    Addresses are turned into names when `learn` is called, or for a report: only while a process runs can it be seen
    what it maps.
    """

    def __init__(
        self,
        resolution: Resolution,
        pids: Sequence[int],
        user_stack: bool,
        kernel_stack: bool,
        per_process: bool,
        max_keys: int,
    ) -> None:
        def configure(obj: Object, _functions: int) -> None:
            assert obj.rodata is not None
            obj.rodata["want_user_stack"] = user_stack
            obj.rodata["want_kernel_stack"] = kernel_stack
            obj.rodata["by_process"] = user_stack or per_process
            obj.maps["counts"].max_entries = max_keys
            for number in range(obj.btf.enumerators("stackcount_limits")["STACKCOUNT_MAPS"]):
                # To a table come those that found no place in the ones before. It has as many rows as the next power of
                # two, here twice as many as it has room for stacks.
                room = (1 << (max_keys - 1).bit_length()) // min(4**number, 8) + 1
                if user_stack:
                    obj.maps[f"user_stacks_{number}"].max_entries = room
                if kernel_stack:
                    obj.maps[f"kernel_stacks_{number}"].max_entries = room

        probes = Probes("stackcount", resolution, configure, pids=pids, returns=False)
        super().__init__(resolution, probes, (NO_KERNEL_STACK,) if kernel_stack else ())
        self._user_stack, self._kernel_stack, self._per_process = user_stack, kernel_stack, per_process
        self._row_bits = probes.object.btf.enumerators("stackcount_limits")["STACKCOUNT_ROW_BITS"]
        self._names = self._frames(user_stack)
        self._whole = [walk_is_whole(resolution.images[probe.image_id], probe) for probe in resolution.probes]
        self._paths: dict[Any, CallPath] = {}  # by the kernel's key; calls is 0
        self._before: dict[Any, int] = {}

    @while_open
    def learn(self) -> None:
        """Names the stacks that were counted so far. Worth calling now and then while short-lived processes run."""
        self._totals()

    def _totals(self) -> dict[Any, int]:
        totals = {}
        for key, count in self._probes.object.maps["counts"].items():
            totals[key] = count.calls
            if key not in self._paths:
                self._paths[key] = self._path(key, count.comm)
        return totals

    def _path(self, key: Any, comm: bytes) -> CallPath:
        user: tuple[Frame, ...] = ()
        kernel: tuple[Frame, ...] = ()
        probe = self._probes.resolution.probes[key.function]
        if self._user_stack:
            addresses = self._stack("user_stacks", key.user_stack)
            if addresses is None:
                caller = self._names.user(key.tgid, [key.caller] if key.caller else [], first_is_exact=False)
                user = (Frame(0, probe.function.name, 0, ""), *caller, _LOST)
            else:
                whole = self._whole[key.function]
                user = self._names.called(key.tgid, probe, addresses, key.caller, whole=whole)
        if self._kernel_stack:
            addresses = self._stack("kernel_stacks", key.kernel_stack)
            kernel = self._names.kernel(addresses or ())
        return CallPath(self._by_index[key.function], 0, key.tgid if self._per_process else 0,
                        comm if self._per_process else b"", user, kernel)  # fmt: skip

    def _stack(self, name: str, row: int) -> tuple[int, ...] | None:
        """The addresses of a stack, None if it could not be taken or kept."""
        if row < 0:
            return None
        try:
            stacks = self._probes.object.maps[f"{name}_{row >> self._row_bits}"]
            stack: tuple[int, ...] = stacks[row & ((1 << self._row_bits) - 1)]
        except KeyError:
            return None
        return stack

    @while_open
    def snapshot(self) -> CallPaths:
        """Calls since the session began."""
        return self._merged(self._totals())

    @while_open
    def interval(self) -> CallPaths:
        """Calls since the last call of this method (or since the session began)."""
        totals = self._totals()
        before, self._before = self._before, totals
        return self._merged({key: calls - before.get(key, 0) for key, calls in totals.items()})

    def _merged(self, counts: dict[Any, int]) -> CallPaths:
        """Adds up what reads the same: one path has many addresses in a function, and others in each process."""
        sums: dict[Any, CallPath] = {}
        for key, calls in counts.items():
            if calls:
                path = self._paths[key]
                names = tuple([frame.name for frame in path.user_stack + path.kernel_stack])
                reading = (path.function, path.pid, path.comm, names)
                known = sums.get(reading, path)
                sums[reading] = known._replace(calls=known.calls + calls)
        return CallPaths(sorted(sums.values(), key=lambda path: path.calls))


def stacks(
    *targets: str,
    pid: int | Sequence[int] | None = None,
    command: Command | None = None,
    regex: bool = False,
    user_stack: bool = True,
    kernel_stack: bool = False,
    per_process: bool = False,
    max_probes: int = DEFAULT_MAX_PROBES,
    max_keys: int = DEFAULT_MAX_KEYS,
) -> StackSession:
    """Counts the calls of functions by the stacks that lead to them.

    Args:
        targets, pid, command, regex, max_probes: as for `count`.
        user_stack, kernel_stack: which stacks.
        per_process: count each process and thread name apart.
        max_keys: different stacks that are counted, of all functions together, up to 1,048,576; calls with others are
            counted as lost. The kernel keeps some 1.7 KB for each from the start (of a power of two).

    Raises:
        Error: as `count`.
    """
    check(max_keys)
    resolution, pids = resolve_for(targets, pid, command, regex=regex, returns=False, max_probes=max_probes)
    return StackSession(resolution, pids, user_stack, kernel_stack, per_process, max_keys)
