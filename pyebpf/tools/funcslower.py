# SPDX-License-Identifier: BSD-2-Clause
"""funcslower: each call that takes longer than a threshold."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.core.ringbuf import RingBuffer, unpack_words
from pyebpf.errors import Error
from pyebpf.target.command import Command
from pyebpf.target.probe import Resolution
from pyebpf.target.stacks import UNKNOWN, Frame, KernelSymbols, UserSymbols
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.probes import Probes
from pyebpf.tools.session import Session, TracedFunction, resolve_for

_MAX_SYMBOL_TABLES = 64  # processes whose symbols are kept
_NO_KERNEL_STACK = "a probe in user code interrupts no kernel function, so its kernel stack is empty"


class SlowCall(NamedTuple):
    """One slow call.

    Attributes:
        time: of the return, ns of CLOCK_MONOTONIC.
        duration: ns.
        function: what was called.
        pid, tid: process and thread that returned, as our /proc shows them.
        comm: the thread's name, raw bytes.
        goroutine: id; None for other languages and where the Go version is unknown.
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
    goroutine: int | None
    result: int | None
    arguments: tuple[int, ...]
    user_stack: tuple[Frame, ...]
    kernel_stack: tuple[Frame, ...]
    stack_error: str | None


class SlowerSession(Session):
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
            if user_stack or kernel_stack:
                obj.maps["calls"].max_entries = 4 << 20

        self._arguments, self._user_stack, self._kernel_stack = arguments, user_stack, kernel_stack
        probes = Probes("funcslower", resolution, configure, pids=pids, returns=True)
        try:
            self._ring = RingBuffer(probes.object.maps["calls"])
        except BaseException:
            probes.close()
            raise
        btf = probes.object.btf
        self._layout = btf.layout("slow_call")
        self._stack_offsets = btf.members("slow_call_stacks")
        self._images = resolution.images
        self._user_symbols: dict[int, UserSymbols | None] = {}
        self._kernel_symbols: KernelSymbols | None = None
        super().__init__(resolution, probes, (_NO_KERNEL_STACK,) if kernel_stack else ())
        if user_stack:
            for pid in pids:  # while they are there
                self._symbols_of(pid)

    def fileno(self) -> int:
        """A descriptor that is readable when calls wait for `drain`."""
        self._require_open()
        return self._ring.fd

    def drain(self) -> Iterator[SlowCall]:
        """Yields the calls that wait; never blocks."""
        self._require_open()
        yield from self._drain()

    def _drain(self) -> Iterator[SlowCall]:
        for record in self._ring.drain():
            yield self._decode(record)

    def read(self, timeout: float | None = None) -> Iterator[SlowCall]:
        """Yields calls for `timeout` seconds; None: until the session is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed:
            yield from self._drain()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._ring.wait(left)

    def __iter__(self) -> Iterator[SlowCall]:
        return self.read()

    def close(self) -> None:
        """Detaches; a blocked reader returns."""
        already, self._closed = self._closed, True
        if not already:
            self._ring.close()
        super().close()

    def _decode(self, record: memoryview) -> SlowCall:
        call = self._layout.unpack(record)
        probe = self._probes.resolution.probes[call.function]
        user_stack: tuple[Frame, ...] = ()
        kernel_stack: tuple[Frame, ...] = ()
        errors = []
        if self._user_stack:
            if call.user_stack_size < 0:
                errors.append(f"user stack: {os.strerror(-call.user_stack_size)}")
            elif self._symbols_of(call.tgid) is None:
                errors.append(f"user stack: process {call.tgid} was gone before its symbols were read")
            user_stack = self._user_frames(call, record, probe.function.name)
        if self._kernel_stack:
            if call.kernel_stack_size < 0:
                errors.append(f"kernel stack: {os.strerror(-call.kernel_stack_size)}")
            addresses = unpack_words(record, self._stack_offsets["kernel_stack"], call.kernel_stack_size)
            if self._kernel_symbols is None:
                self._kernel_symbols = KernelSymbols()
            kernel_stack = tuple(self._kernel_symbols.resolve(addresses))
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
            user_stack,
            kernel_stack,
            "; ".join(errors) or None,
        )

    def _user_frames(self, call: Any, record: memoryview, name: str) -> tuple[Frame, ...]:
        """The user stack, innermost first, beginning with the traced function.

        The kernel walks frame pointers, and at a RET the function's own frame is gone: it names the RET, then whoever
        called the caller. The caller's address was on top of the stack. At a kernel return probe the walk begins with
        the caller.
        """
        addresses = list(unpack_words(record, self._stack_offsets["user_stack"], call.user_stack_size))
        symbols = self._symbols_of(call.tgid)
        innermost = Frame(0, name, 0, "")
        if not call.popped:  # the RET is in the traced function, or in one that it ended in a tail call of
            addresses[:1] = [call.caller] if call.caller else []
        if symbols is None:
            return (innermost, *(Frame(address, UNKNOWN, 0, "") for address in addresses))
        return (innermost, *symbols.resolve(addresses, first_is_exact=False))

    def _symbols_of(self, pid: int) -> UserSymbols | None:
        """A process's symbols; None if it was gone before they could be read."""
        if pid not in self._user_symbols:
            if len(self._user_symbols) >= _MAX_SYMBOL_TABLES:
                self._user_symbols.pop(next(iter(self._user_symbols)))
            try:
                self._user_symbols[pid] = UserSymbols(pid, self._images)
            except Error:
                self._user_symbols[pid] = None
        return self._user_symbols[pid]


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
        as `count`.
    """
    resolution, pids = resolve_for(
        targets, pid, command, regex=regex, returns=True, max_probes=max_probes, allow_uretprobe=allow_uretprobe
    )
    return SlowerSession(resolution, pids, int(min_us * 1000), arguments, user_stack, kernel_stack)
