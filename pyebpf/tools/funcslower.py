# SPDX-License-Identifier: BSD-2-Clause
"""funcslower: each call that takes longer than a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.target.command import Command
from pyebpf.target.probe import Resolution
from pyebpf.target.stacks import Frame
from pyebpf.tools import room
from pyebpf.tools.calls import CallSession
from pyebpf.tools.frames import NO_KERNEL_STACK, RecordStacks
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.probes import Probes
from pyebpf.tools.record import as_dict
from pyebpf.tools.session import TracedFunction, resolve_for

_MOST_US = 1e15  # 2^64 ns are some more


class SlowCall(NamedTuple):
    """One slow call.

    Attributes:
        time: of the return, ns of CLOCK_MONOTONIC.
        duration: ns.
        function: what was called.
        pid, tid: process and thread that returned, as our /proc shows them.
        comm: the thread's name, raw bytes.
        goid: the goroutine's number; None for other languages and where the Go version is unknown.
        result: the first result register; None where the calling convention has none (Go's stack ABI).
        arguments: the first six argument words at entry, in the language's own convention; empty if not asked for.
        user_stack, kernel_stack: innermost frame first; empty if not asked for.
        stack_error: why a stack is missing, or None.
    """

    time: int
    duration: int
    function: TracedFunction
    pid: int
    tid: int
    comm: bytes
    goid: int | None
    result: int | None
    arguments: tuple[int, ...]
    user_stack: tuple[Frame, ...]
    kernel_stack: tuple[Frame, ...]
    stack_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class SlowerSession(CallSession[SlowCall]):
    """Yields slow calls as they return. Iterate, or use `read`, `drain` and `fileno` in an event loop."""

    def __init__(
        self,
        resolution: Resolution,
        pids: Sequence[int],
        threshold: int,
        arguments: bool,
        user_stack: bool,
        kernel_stack: bool,
    ) -> None:
        def configure(obj: Object, _functions: int) -> None:
            assert obj.rodata is not None
            obj.rodata["threshold"] = threshold
            obj.rodata["want_arguments"] = arguments
            obj.rodata["want_user_stack"] = user_stack
            obj.rodata["want_kernel_stack"] = kernel_stack
            room.make(obj.maps["calls"], 4 << 20 if user_stack or kernel_stack else None)

        self._arguments = arguments
        probes = Probes("funcslower", resolution, configure, pids=pids, returns=True)
        super().__init__(resolution, probes, (NO_KERNEL_STACK,) if kernel_stack else ())
        btf = probes.object.btf
        self._layout = btf.layout("slow_call")
        self._stacks = RecordStacks(btf, "slow_call_stacks", self._frames(user_stack), user_stack, kernel_stack)

    def _decode(self, record: memoryview) -> SlowCall:
        call = self._layout.unpack(record)
        probe = self._probes.resolution.probes[call.function]
        return SlowCall(
            call.time,
            call.duration,
            self._by_index[call.function],
            call.tgid,
            call.tid,
            call.comm,
            call.goid or None,
            None if probe.go is not None and probe.go.stack_abi else call.result,
            call.arguments if self._arguments else (),
            *self._stacks.of(call, record, probe),
        )


def slower(
    *targets: str,
    min_us: float = 1000.0,
    pid: int | Sequence[int] | None = None,
    command: Command | None = None,
    regex: bool = False,
    arguments: bool = False,
    user_stack: bool = False,
    kernel_stack: bool = False,
    max_probes: int = DEFAULT_MAX_PROBES,
    allow_uretprobe: bool = False,
) -> SlowerSession:
    """Reports each call that takes at least `min_us` microseconds.

    Args:
        targets, pid, command, regex, max_probes, allow_uretprobe: as for `latency`.
        arguments: keep the first six argument words of each call.
        user_stack, kernel_stack: take stacks of the slow calls, at their return.

    Raises:
        Error: as `count`.
    """
    if not 0 <= min_us <= _MOST_US:
        raise TargetError(f"min_us={min_us}: a threshold is 0 to {_MOST_US:.0e} microseconds")
    resolution, pids = resolve_for(
        targets, pid, command, regex=regex, returns=True, max_probes=max_probes, allow_uretprobe=allow_uretprobe
    )
    return SlowerSession(resolution, pids, int(min_us * 1000), arguments, user_stack, kernel_stack)
