# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from operator import sub
from typing import Any

from pyebpf.cli import options
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run
from pyebpf.cli.tracing import write
from pyebpf.cli.watch import Watch
from pyebpf.core.ringbuf import Run as Records
from pyebpf.output.text import safe
from pyebpf.output.values import duration, line_of, text_of
from pyebpf.tools.trace import DEFAULT_STRSIZE, MEMBERS, Call, Columns, Reader, TraceSession, trace

EXAMPLES = (
    "pyebpf trace './server:main.(*Arith).Mul' args.A args.B --ret reply.C",
    "pyebpf trace --all-args -U './server:main.*'            # all arguments, and who calls",
    "pyebpf trace 'c:open*' arg0:str --ret retval --filter 'retval < 0'",
    "pyebpf trace './server:main.(*Arith).Mul+18' 'reg(\"di\")' # inside a function",
)
EXPRESSIONS = """\
expressions:
  NAME, NAME.FIELD, NAME[0], len(NAME)   by the names in the debug information; pointers are followed
  arg0, sarg0, ret0, retval, reg("r14")  by position, register or stack slot, with a type: arg0:str, arg1:u32
  *(u64)(arg2+8)                         memory
  latency pid tid goid uid cpu comm      of the call
  ret(EXPR)                              as at the return
  LABEL=EXPR                             shown under another name
pyebpf list -v TARGET shows what a function has."""

_MAX_THREADS = 4096
_NUL = b"\0"


def main(argv: Sequence[str]) -> int:
    parser = options.parser(
        "trace", "Show calls with their arguments and results, a line each.", EXAMPLES, targets=1, more=EXPRESSIONS
    )
    options.add_uretprobe(parser)
    parser.add_argument("values", metavar="EXPR", nargs="*", help="what to show of each call")
    options.add_question(parser, DEFAULT_STRSIZE)
    parser.add_argument("--ret", metavar="EXPR", action="append", default=[],
                        help="what to show as at the return, read through arguments too (repeatable)")  # fmt: skip
    parser.add_argument("--all-args", action="store_true", help="show every parameter")
    options.add_buffer(parser)
    parser.add_argument("-n", "--max-events", type=options.positive_count, metavar="N", help="end after N calls")
    parser.add_argument("-T", "--time", action="store_true", help="show the time of day")
    parser.add_argument("-t", "--timestamp", action="store_true", help="show seconds since the first call")
    parser.add_argument("-U", "--user-stack", action="store_true", help="show user stacks")
    parser.add_argument("-K", "--kernel-stack", action="store_true", help="show kernel stacks")
    arguments = parser.parse_intermixed_args(argv)
    options.check(arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=bool(arguments.ret), signatures=True)

    run = Run(
        arguments,
        "trace",
        lambda command: trace(*arguments.targets, args=arguments.values, ret=arguments.ret, filter=arguments.filter,
                              all_args=arguments.all_args, strsize=arguments.strsize, pid=arguments.pid or None,
                              command=command, regex=arguments.regex, user_stack=arguments.user_stack,
                              kernel_stack=arguments.kernel_stack, max_probes=arguments.max_probes,
                              allow_uretprobe=arguments.allow_uretprobe),
        "Tracing {functions} for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, TraceSession)
    run.start()
    return _follow(run, session)


def _follow(run: Run, session: TraceSession) -> int:
    """Prints calls until the run ends."""
    printer = _Printer(run, session)
    run.watch.also(session.fileno())
    left = run.arguments.max_events
    deadline = run.deadline()
    while left is None or left > 0:
        state = run.watch.wait(deadline, session.rest())
        if state != Watch.READY:
            session.detach()
        for records in session.runs():
            count = records.count if left is None else min(records.count, left)
            lines = printer.lines(records, count)
            records.take(count)  # the kernel has the room again before the terminal has the lines
            write("\n".join([*lines, ""]))
            left = None if left is None else left - count
            if left == 0:
                session.detach()
                break
            if state == Watch.READY and run.watch.over(deadline):
                break  # first nothing more is to come
        if state != Watch.READY:
            break
    return run.finish("events" if left == 0 else "duration")


class _Printer:
    """Prints calls: bcc's columns, with the goroutine's number where Go is traced, then the values."""

    def __init__(self, run: Run, session: TraceSession) -> None:
        self._arguments = run.arguments
        self._session = session
        self._goroutines = any(function.language == "go" for function in session.functions)
        names = [len(safe(function.label)) for function in session.functions]
        self._width = min(max(16, *names), 40)
        self._first: int | None = None
        self._clock = _Clock()
        self._threads = _Threads()
        self._quick: dict[Reader, Callable[[Columns], Iterable[str]]] = {}
        self._shown = self._json if run.json else self._text
        if run.json:
            return
        columns = [f"{'TIME':<8}"] if run.arguments.time else []
        columns += [f"{'TIME(s)':<10}"] if run.arguments.timestamp else []
        columns += [f"{'PID':<7} {'TID':<7}"]
        columns += [f"{'GOID':<7}"] if self._goroutines else []
        columns += [f"{'COMM':<15} {'FUNC':<{self._width}} -"]
        print(" ".join(columns), flush=True)
        self._quick = {reader: self._quick_lines(reader) for reader in session.readers if reader.columns_of}

    def lines(self, records: Records, count: int) -> list[str]:
        """The first records of a run as lines."""
        return self._session.each(records, self._quick, self._show, count)

    def _show(self, record: memoryview) -> str:
        return self._shown(self._session.decode(record))

    def _quick_lines(self, reader: Reader) -> Callable[[Columns], Iterable[str]]:
        """What makes the lines of many calls at once: a template, and for each of its places a column of values."""
        assert reader.plain is not None
        labels = [column.label for column in reader.columns]
        results = [index for index, column in enumerate(reader.columns) if column.on_return]
        if results:
            labels[results[0]] = f"-> {labels[results[0]]}"
        values = line_of(reader.plain, labels)
        with_day, with_time, goroutines, returns = (
            self._arguments.time, self._arguments.timestamp, self._goroutines, self._session.returns,
        )  # fmt: skip
        name = f"{safe(reader.function.label):<{self._width}}".replace("%", "%%")
        places = ["%s"] * with_day + ["%-10.6f"] * with_time + ["%s", name, values.template] + ["(%s)"] * returns
        template = " ".join(filter(None, places)).rstrip()
        first = len(MEMBERS)

        def lines(columns: Columns) -> Iterable[str]:
            times, durations, goids, _, _, tgids, tids, comms = columns[:first]
            shown: list[Iterable[Any]] = []
            if with_day or with_time:
                began = list(map(sub, times, durations))
                shown += [map(self._clock.text, began)] * with_day
                shown += [map(self._since, began)] * with_time
            threads = zip(tgids, tids, comms, goids) if goroutines else zip(tgids, tids, comms)
            shown.append(map(self._threads.__getitem__, threads))
            items = columns[first:]
            shown += [column(items) for column in values.values]
            if returns:
                shown.append(map(duration, durations))
            return map(template.__mod__, zip(*shown))

        return lines

    def _since(self, began: int) -> float:
        """Seconds since the first call."""
        if self._first is None:
            self._first = began
        return (began - self._first) / 1e9

    def _json(self, call: Call) -> str:
        from pyebpf.output import jsonl

        return jsonl.line("call", **call.as_dict())

    def _text(self, call: Call) -> str:
        columns = []
        if self._arguments.time:
            columns.append(self._clock.text(call.time))
        if self._arguments.timestamp:
            columns.append(f"{self._since(call.time):<10.6f}")
        thread = call.pid, call.tid, call.comm
        columns.append(self._threads[(*thread, call.goid) if self._goroutines else thread])
        columns.append(f"{safe(call.function.label):<{self._width}}")
        columns += [f"{safe(label)}={text_of(value)}" for label, value in call.args.items()]
        if call.ret:
            columns.append("->")
            columns += [f"{safe(label)}={text_of(value)}" for label, value in call.ret.items()]
        if call.duration is not None:
            columns.append(f"({duration(call.duration)})")
        lines = [" ".join(columns).rstrip()]
        lines += [f"        {safe(frame.name)}" for frame in call.kernel_stack]
        if call.kernel_stack and call.user_stack:
            lines.append("        --")
        lines += [f"        {safe(frame.name)}" for frame in call.user_stack]
        if call.stack_error:
            lines.append(f"        [{call.stack_error}]")
        return "\n".join(lines)


class _Clock:
    """The time of day of a time of CLOCK_MONOTONIC, in ns."""

    def __init__(self) -> None:
        self._wall = time.time_ns() - time.monotonic_ns()
        self._second, self._text = -1, ""

    def text(self, when: int) -> str:
        second = (when + self._wall) // 1_000_000_000
        if second != self._second:
            self._second, self._text = second, time.strftime("%H:%M:%S", time.localtime(second))
        return self._text


class _Threads(dict[tuple[Any, ...], str]):
    """The columns of a thread: process, thread, the name as the kernel has it, and the goroutine if Go is traced."""

    def __missing__(self, thread: tuple[Any, ...]) -> str:
        tgid, tid, comm, *goroutine = thread
        columns = [f"{tgid:<7} {tid:<7}", *[f"{goid or '-':<7}" for goid in goroutine]]
        columns.append(f"{safe(comm.split(_NUL, 1)[0]):<15}")
        if len(self) >= _MAX_THREADS:
            self.clear()
        self[thread] = text = " ".join(columns)
        return text
