# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from pyebpf.cli import options
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run, write
from pyebpf.cli.watch import Watch
from pyebpf.output.text import safe
from pyebpf.output.values import duration, line_of, text_of
from pyebpf.tools.trace import DEFAULT_STRSIZE, Call, PlainCall, Reader, TraceSession, trace
from pyebpf.tools.values import as_json

EXAMPLES = (
    "pyebpf trace './server:main.(*Arith).Mul' args.A args.B --ret reply.C",
    "pyebpf trace --all-args -U './server:main.*'            # all arguments, and who calls",
    "pyebpf trace 'c:open*' arg0:str --ret retval --filter 'retval < 0'",
    "pyebpf trace './server:main.(*Arith).Mul+92' arg0       # inside a function",
)
EXPRESSIONS = """\
expressions:
  NAME, NAME.FIELD, NAME[0], len(NAME)   by the names in the debug information; pointers are followed
  arg0, sarg0, ret0, retval, reg("r14")  by position, register or stack slot, with a type: arg0:str, arg1:u32
  *(u64)(arg2+8)                         memory
  latency pid tid goid uid cpu comm      of the call
  LABEL=EXPR                             shown under another name
pyebpf list -v TARGET shows what a function has."""

_BATCH = 1024  # lines written at a time
_MAX_COMMS = 4096
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
                              all_args=arguments.all_args, strsize=arguments.strsize, pid=arguments.pid,
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
        state = run.watch.wait(deadline, session.nap())
        if state != Watch.READY:
            session.detach()
        records = session.records() if left is None else islice(session.records(), left)
        seen = printer.show(records)
        if left is not None:
            left -= seen
            if not left:
                session.detach()
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
        self._wall = time.time_ns() - time.monotonic_ns()
        self._comms: dict[bytes, str] = {}
        self._quick: dict[Reader, Callable[[memoryview], str | None]] = {}
        self._shown = self._json if run.json else self._text
        if run.json:
            return
        columns = [f"{'TIME':<8}"] if run.arguments.time else []
        columns += [f"{'TIME(s)':<10}"] if run.arguments.timestamp else []
        columns += [f"{'PID':<7} {'TID':<7}"]
        columns += [f"{'GOID':<7}"] if self._goroutines else []
        columns += [f"{'COMM':<15} {'FUNC':<{self._width}} -"]
        print(" ".join(columns), flush=True)
        if not (run.arguments.time or run.arguments.timestamp):
            for reader in session.readers:
                if reader.plain is not None:
                    self._quick[reader] = self._quick_line(reader, reader.plain)

    def show(self, records: Iterable[memoryview]) -> int:
        """Prints records; returns how many."""
        lines: list[str] = []
        seen = 0
        for record in records:
            quick = self._quick.get(self._session.reader_of(record))
            line = quick(record) if quick else None
            lines.append(self._shown(self._session.decode(record)) if line is None else line)
            if len(lines) >= _BATCH:
                seen += _written(lines)
        return seen + _written(lines)

    def _quick_line(self, reader: Reader, plain: PlainCall) -> Callable[[memoryview], str | None]:
        """What makes a line of a record without the way through its values."""
        members, first, unpack = plain.members, plain.first, plain.unpack
        labels = [column.label for column in reader.columns]
        results = [index for index, column in enumerate(reader.columns) if column.on_return]
        if results:
            labels[results[0]] = f"-> {labels[results[0]]}"
        values = line_of(plain.values, labels)
        tgid, tid, comm, goid, spent = (members[name] for name in ("tgid", "tid", "comm", "goid", "duration"))
        failed = members["failed_entry"], members["failed_return"]
        name = f"{safe(reader.function.label):<{self._width}}"
        goroutines, comms, returns = self._goroutines, self._comms, self._session.returns

        def line(record: memoryview) -> str | None:
            items = unpack(record)
            if items[failed[0]] or items[failed[1]]:
                return None
            thread = comms.get(items[comm]) or self._comm(items[comm])
            goroutine = f"{items[goid] or '-':<7} " if goroutines else ""
            text = f"{items[tgid]:<7} {items[tid]:<7} {goroutine}{thread} {name} {values(items[first:])}"
            return f"{text} ({duration(items[spent])})" if returns else text.rstrip()

        return line

    def _comm(self, raw: bytes) -> str:
        if len(self._comms) > _MAX_COMMS:
            self._comms.clear()
        self._comms[raw] = f"{safe(raw.split(_NUL, 1)[0]):<15}"
        return self._comms[raw]

    def _json(self, call: Call) -> str:
        from pyebpf.output import jsonl

        return jsonl.line("call", **_as_json(call))

    def _text(self, call: Call) -> str:
        columns = []
        if self._arguments.time:
            columns.append(time.strftime("%H:%M:%S", time.localtime((call.time + self._wall) / 1e9)))
        if self._arguments.timestamp:
            self._first = call.time if self._first is None else self._first
            columns.append(f"{(call.time - self._first) / 1e9:<10.6f}")
        columns.append(f"{call.pid:<7} {call.tid:<7}")
        if self._goroutines:
            columns.append(f"{'-' if call.goroutine is None else call.goroutine:<7}")
        columns.append(f"{safe(call.comm):<15} {safe(call.function.label):<{self._width}}")
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


def _written(lines: list[str]) -> int:
    """Writes lines out and forgets them; returns how many they were."""
    count = len(lines)
    if count:
        lines.append("")
        write("\n".join(lines))
        lines.clear()
    return count


def _as_json(call: Call) -> dict[str, object]:
    return {
        "time_ns": call.time,
        "duration_ns": call.duration,
        "function": call.function.name,
        "path": call.function.path,
        "pid": call.pid,
        "tid": call.tid,
        "comm": call.comm,
        "goroutine": call.goroutine,
        "args": {label: as_json(value) for label, value in call.args.items()},
        "ret": {label: as_json(value) for label, value in call.ret.items()},
        "user_stack": [frame.name for frame in call.user_stack],
        "kernel_stack": [frame.name for frame in call.kernel_stack],
        "stack_error": call.stack_error,
    }
