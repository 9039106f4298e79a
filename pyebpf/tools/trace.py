# SPDX-License-Identifier: BSD-2-Clause
"""trace: a record of each call, with its arguments and results."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from pyebpf.core.object import Object
from pyebpf.core.ringbuf import HEADER, MOST_IN_A_RUN, Run, records_of
from pyebpf.target.capture import Column, Plan, Question
from pyebpf.target.command import Command
from pyebpf.target.stacks import Frame
from pyebpf.tools import room
from pyebpf.tools.calls import CallSession
from pyebpf.tools.decoder import Decoder
from pyebpf.tools.frames import NO_KERNEL_STACK, RecordStacks, walk_is_whole
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.questions import Asked, ask, expressions
from pyebpf.tools.record import as_dict
from pyebpf.tools.session import TracedFunction
from pyebpf.tools.typenames import TypeNames
from pyebpf.tools.values import Value, as_json

DEFAULT_STRSIZE = 80  # as bcc's trace

# Bytes for records that wait: 80,000 calls with two numbers and a short text. A burst that fills them faster than they
# are read (about 1 us a call) loses calls, which are counted.
_RING = 16 << 20
_MOST_RING = 32 << 20

# What the quick way reads of struct traced_call, in its order there.
MEMBERS = ("time", "duration", "goid", "failed_entry", "failed_return", "tgid", "tid", "comm")
_FAILED = MEMBERS.index("failed_entry"), MEMBERS.index("failed_return")

Columns = Sequence[Sequence[Any]]
_Made = TypeVar("_Made")


class Call(NamedTuple):
    """One call.

    Attributes:
        time: of the entry, ns of CLOCK_MONOTONIC.
        duration: ns; None where returns aren't seen.
        function: what was called.
        pid, tid: process and thread, as our /proc shows them; at the return, if returns are seen.
        comm: the thread's name, raw bytes.
        goid: the goroutine's number; None for other languages and where the Go version is unknown.
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
    goid: int | None
    args: dict[str, Value]
    ret: dict[str, Value]
    user_stack: tuple[Frame, ...]
    kernel_stack: tuple[Frame, ...]
    stack_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self, as_json)


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
            room.make(obj.maps["calls"], max(_RING, min(_MOST_RING, 1 << (1000 * record).bit_length())))

        probes = asked.attach(configure)
        super().__init__(resolution, probes, (NO_KERNEL_STACK,) if kernel_stack else ())
        self.returns = asked.returns
        btf = probes.object.btf
        self._layout = btf.layout("traced_call")
        self._captured = btf.layout("traced_call_stacks").size if want_stacks else self._layout.size
        self._stacks = RecordStacks(btf, "traced_call_stacks", self._frames(user_stack), user_stack, kernel_stack)
        self._whole = [
            user_stack and not asked.returns and walk_is_whole(resolution.images[probe.image_id], probe)
            for probe in resolution.probes
        ]
        names = TypeNames(resolution.images)
        self.readers = tuple(
            [Reader(function, columns, plan, names) for function, columns in zip(self._by_index, plan.columns)]
        )
        self._function_at = HEADER + btf.members("traced_call")["function"]
        self._quick: dict[Reader, Callable[[Columns], Iterable[Call]]] = {}
        if not want_stacks:
            code = btf.flat("traced_call", MEMBERS)
            for reader in self.readers:
                reader.be_quick(code)
                if reader.columns_of is not None:
                    self._quick[reader] = partial(self._calls, reader)

    def _decode(self, record: memoryview) -> Call:
        return self.decode(record)

    def _decoded(self, run: Run) -> Iterable[Call]:
        return self.each(run, self._quick, self.decode)

    def runs(self) -> Iterator[Run]:
        """The calls that wait, for `each`."""
        self._require_open()
        return self._ring.runs()

    def each(
        self,
        run: Run,
        quick: Mapping[Reader, Callable[[Columns], Iterable[_Made]]],
        slow: Callable[[memoryview], _Made],
        count: int = MOST_IN_A_RUN,
    ) -> list[_Made]:
        """Makes something of each call of a run.

        Args:
            quick: makes it for all calls of a function at once, where `Reader.columns_of` can read them.
            slow: makes it of one record.
            count: of the first so many calls only.
        """
        stride = run.stride
        data = run.data[: count * stride]
        functions = data.cast("I")[self._function_at // 4 :: stride // 4].tolist()
        if functions.count(functions[0]) == len(functions):
            return self._made(data, run, self.readers[functions[0]], quick, slow)
        places: dict[int, list[int]] = {}
        for place, function in enumerate(functions):
            places.setdefault(function, []).append(place)
        in_order: dict[int, _Made] = {}
        for function, found in places.items():
            gathered = memoryview(b"".join([data[place * stride : (place + 1) * stride] for place in found]))
            in_order.update(zip(found, self._made(gathered, run, self.readers[function], quick, slow)))
        return [in_order[place] for place in range(len(functions))]

    def _made(
        self,
        data: memoryview,
        run: Run,
        reader: Reader,
        quick: Mapping[Reader, Callable[[Columns], Iterable[_Made]]],
        slow: Callable[[memoryview], _Made],
    ) -> list[_Made]:
        """`each`, of calls of one function."""
        maker = quick.get(reader)
        if maker is None:
            return [slow(record) for record in records_of(data, run.size)]
        assert reader.columns_of is not None
        columns = reader.columns_of(data)
        made = list(maker(columns))
        failed_entry, failed_return = columns[_FAILED[0]], columns[_FAILED[1]]
        if any(failed_entry) or any(failed_return):
            for place, record in enumerate(records_of(data, run.size)):
                if failed_entry[place] or failed_return[place]:
                    made[place] = slow(record)
        return made

    def _calls(self, reader: Reader, columns: Columns) -> Iterable[Call]:
        times, durations, goids, _, _, tgids, tids, comms = columns[: len(MEMBERS)]
        function, returns = reader.function, self.returns
        for time, duration, goid, tgid, tid, comm, (args, ret) in zip(
            times, durations, goids, tgids, tids, comms, reader.quick_values(columns)
        ):
            yield Call(
                time - duration,
                duration if returns else None,
                function,
                tgid,
                tid,
                comm.split(b"\0", 1)[0],
                goid or None,
                args,
                ret,
                (),
                (),
                None,
            )

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


class Reader:
    """Reads what was captured of one function's calls.

    Attributes:
        function: which.
        columns: what was asked for, arguments first.
        plain: its values, if all of them are numbers and texts.
        columns_of: the quick way to read many calls whose values are plain and did not fail: from their records, as in
            `Run.data`, one behind the other, to a sequence for each of MEMBERS, then for each of plain's items; or
            None.
    """

    __slots__ = ("_decoder", "columns", "columns_of", "function", "plain")

    def __init__(self, function: TracedFunction, columns: Sequence[Column], plan: Plan, names: TypeNames) -> None:
        self.function = function
        self.columns = tuple(sorted(columns, key=lambda column: column.on_return))
        self._decoder = Decoder(self.columns, plan.entry_size, plan.return_size, names)
        self.plain = self._decoder.plain
        self.columns_of: Callable[[memoryview], Columns] | None = None

    def be_quick(self, code: str) -> None:
        """Finds the quick way, for records that begin with plain members and go on with the capture."""
        if self.plain is not None:
            code += self.plain.format
            rows = struct.Struct(f"<{HEADER}x{code}{-struct.calcsize('<' + code) % 8}x").iter_unpack
            self.columns_of = lambda data: list(zip(*rows(data)))

    def quick_values(self, columns: Columns) -> Iterator[tuple[dict[str, Value], dict[str, Value]]]:
        """Arguments and results by label, of each call that `columns_of` has read."""
        assert self.plain is not None
        labels = [column.label for column in self.columns]
        split = sum([not column.on_return for column in self.columns])
        args, results = labels[:split], labels[split:]
        for values in self.plain.many(columns[len(MEMBERS) :]):
            yield dict(zip(args, values)), dict(zip(results, values[split:]))

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
        args: expressions, see ``docs/functions/trace.md``: "args.A", "name", "arg0:str", "retval", "latency".
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
    question = Question(expressions("args", args), expressions("ret", ret), filter, all_args, strsize)
    asked = ask(
        "trace", question, targets, pid, command, regex=regex, returns=returns, max_probes=max_probes,
        allow_uretprobe=allow_uretprobe,
    )
    return TraceSession(asked, user_stack, kernel_stack)
