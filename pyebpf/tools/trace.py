# SPDX-License-Identifier: BSD-2-Clause
"""trace: a record of each call, with its arguments and results."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.target.capture import Column, Plan, Question
from pyebpf.target.command import Command
from pyebpf.target.stacks import Frame
from pyebpf.tools.calls import CallSession
from pyebpf.tools.frames import NO_KERNEL_STACK, Frames, RecordStacks, walk_is_whole
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.questions import Asked, ask
from pyebpf.tools.session import TracedFunction
from pyebpf.tools.typenames import TypeNames
from pyebpf.tools.values import Decoder, Plain, Value

DEFAULT_STRSIZE = 80  # as bcc's trace

_RING = 4 << 20
_MOST_RING = 32 << 20


class Call(NamedTuple):
    """One call.

    Attributes:
        time: of the entry, ns of CLOCK_MONOTONIC.
        duration: ns; None where returns aren't seen.
        function: what was called.
        pid, tid: process and thread, as our /proc shows them; at the return, if returns are seen.
        comm: the thread's name, raw bytes.
        goroutine: id; None for other languages and where the Go version is unknown.
        args: what was asked for, by label; see `pyebpf.tools.values`.
        ret: what was asked for as at the return, by label.
        user_stack, kernel_stack: innermost frame first; empty if not asked for.
        stack_error: why a stack is missing, or None.
    """

    time: int
    duration: int | None
    function: TracedFunction
    pid: int
    tid: int
    comm: bytes
    goroutine: int | None
    args: dict[str, Value]
    ret: dict[str, Value]
    user_stack: tuple[Frame, ...]
    kernel_stack: tuple[Frame, ...]
    stack_error: str | None


class TraceSession(CallSession[Call]):
    """Yields calls: as they begin, or as they return if something of the return is asked for.

    Iterate, or use `read`, `drain` and `fileno` in an event loop.

    Attributes:
        returns: calls are seen as they return.
    """

    def __init__(self, asked: Asked, user_stack: bool, kernel_stack: bool) -> None:
        plan, resolution = asked.plan, asked.resolution
        want_stacks = user_stack or kernel_stack

        def configure(obj: Object, _functions: int) -> None:
            assert obj.rodata is not None
            obj.rodata["want_user_stack"] = user_stack
            obj.rodata["want_kernel_stack"] = kernel_stack
            record = obj.btf.layout("traced_call_stacks" if want_stacks else "traced_call").size
            record += plan.entry_size + plan.return_size
            obj.maps["calls"].max_entries = max(_RING, min(_MOST_RING, 1 << (1000 * record).bit_length()))

        probes = asked.attach(configure)
        super().__init__(resolution, probes, (NO_KERNEL_STACK,) if kernel_stack else ())
        self.returns = asked.returns
        btf = probes.object.btf
        self._layout = btf.layout("traced_call")
        self._captured = btf.layout("traced_call_stacks").size if want_stacks else self._layout.size
        frames = Frames(resolution.images)
        self._stacks = RecordStacks(btf, "traced_call_stacks", frames, user_stack, kernel_stack)
        if user_stack:
            frames.learn(resolution)
        self._whole = [
            user_stack and not asked.returns and walk_is_whole(resolution.images[probe.image_id], probe)
            for probe in resolution.probes
        ]
        names = TypeNames(resolution.images)
        self.readers = tuple(
            [Reader(function, columns, plan, names) for function, columns in zip(self._by_index, plan.columns)]
        )
        self._function_at = struct.Struct("<I"), btf.members("traced_call")["function"]
        if not want_stacks:
            code, members = btf.flat("traced_call")
            for reader in self.readers:
                reader.be_quick(code, members)

    def _decode(self, record: memoryview) -> Call:
        return self.decode(record)

    def records(self) -> Iterator[memoryview]:
        """The calls that wait, for `decode`, each valid until the next is asked for."""
        self._require_open()
        return self._ring.drain()

    def reader_of(self, record: memoryview) -> Reader:
        """What reads a record's values."""
        word, at = self._function_at
        index: int = word.unpack_from(record, at)[0]
        return self.readers[index]

    def decode(self, record: memoryview) -> Call:
        """What a record says."""
        call = self._layout.unpack(record)
        reader = self.readers[call.function]
        args, ret = reader.values(record[self._captured :], call.failed_entry | call.failed_return << 64, call.tgid)
        probe = self._probes.resolution.probes[call.function]
        return Call(
            call.time - call.duration,
            call.duration if self.returns else None,
            self._by_index[call.function],
            call.tgid,
            call.tid,
            call.comm,
            call.goid or None,
            args,
            ret,
            *self._stacks.of(call, record, probe, self._whole[call.function]),
        )


class PlainCall(NamedTuple):
    """The quick way to read a record whose values are numbers and texts, when none of them failed.

    Attributes:
        unpack: makes a flat tuple of all that is in a record.
        members: where in it the members of ``struct traced_call`` are, by name.
        first: where in it the captured values begin.
        values: what they are.
    """

    unpack: Callable[[memoryview], tuple[Any, ...]]
    members: dict[str, int]
    first: int
    values: Plain


class Reader:
    """Reads what was captured of one function's calls.

    Attributes:
        function: which.
        columns: what was asked for.
        plain: the quick way, if there is one.
    """

    __slots__ = ("_decoder", "columns", "function", "plain")

    def __init__(self, function: TracedFunction, columns: Sequence[Column], plan: Plan, names: TypeNames) -> None:
        self.function, self.columns = function, tuple(columns)
        self.plain: PlainCall | None = None
        self._decoder = Decoder(columns, plan.entry_size, plan.return_size, names)

    def be_quick(self, code: str, members: dict[str, int]) -> None:
        """Finds the quick way, for records that begin with plain members and go on with the capture."""
        plain = self._decoder.plain
        if plain is not None:
            unpack = struct.Struct("<" + code + plain.format).unpack_from
            self.plain = PlainCall(unpack, members, len(members), plain)

    def values(self, capture: memoryview, failed: int, pid: int) -> tuple[dict[str, Value], dict[str, Value]]:
        """Arguments and results by label."""
        args: dict[str, Value] = {}
        ret: dict[str, Value] = {}
        for column, value in zip(self.columns, self._decoder.values(capture, failed, pid)):
            (ret if column.on_return else args)[column.label] = value
        return args, ret


def trace(
    *targets: str,
    args: Sequence[str] = (),
    ret: Sequence[str] = (),
    filter: str = "",
    all_args: bool = False,
    strsize: int = DEFAULT_STRSIZE,
    pid: int | Sequence[int] | None = None,
    command: Command | None = None,
    regex: bool = False,
    user_stack: bool = False,
    kernel_stack: bool = False,
    returns: bool = False,
    max_probes: int = DEFAULT_MAX_PROBES,
    allow_uretprobe: bool = False,
) -> TraceSession:
    """Reports each call, with values of its arguments and results.

    Args:
        targets, pid, command, regex, max_probes, allow_uretprobe: as for `latency`.
        args: expressions, see ``docs/trace.md``: "args.A", "name", "arg0:str", "retval", "latency".
        ret: expressions that are read at the return, through arguments too: "reply.C".
        filter: only calls for which this holds: "args.A > 5 && name == \"x\"".
        all_args: every parameter.
        strsize: most bytes of a text that are read.
        user_stack, kernel_stack: take stacks: at the entry, or at the return if that is seen.
        returns: see calls as they return, with their durations, also when nothing of the return is asked for.

    Raises:
        TargetError: an expression is malformed, or no function has what it asks for.
        the others: as `count`.
    """
    question = Question(tuple(args), tuple(ret), filter, all_args, strsize)
    asked = ask(
        "trace", question, targets, pid, command, regex=regex, returns=returns, max_probes=max_probes,
        allow_uretprobe=allow_uretprobe,
    )
    return TraceSession(asked, user_stack, kernel_stack)
