# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf funcslower."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from pyebpf.cli import options
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run
from pyebpf.cli.watch import Watch
from pyebpf.output import folded
from pyebpf.output.text import safe
from pyebpf.tools.funcslower import SlowCall, SlowerSession, slower

EXAMPLES = (
    "pyebpf funcslower -u 10 './server:main.(*Arith).Mul'    # calls over 10 us",
    "pyebpf funcslower -m 5 -U -p 1234 'c:write'             # over 5 ms, with user stacks",
    "pyebpf funcslower -u 100 -Uf -d 30 './server:main.*'    # folded, for a flame graph",
)


def main(argv: Sequence[str]) -> int:
    parser = options.parser("funcslower", "Show each call that is slower than a threshold.", EXAMPLES)
    options.add_uretprobe(parser)
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument("-m", "--min-ms", type=_threshold, metavar="MS", help="threshold in ms (default 1)")
    threshold.add_argument("-u", "--min-us", type=_threshold, metavar="US", help="threshold in us; latencies in us too")
    options.add_buffer(parser)
    parser.add_argument("-n", "--max-events", type=options.positive_count, metavar="N", help="end after N calls")
    parser.add_argument("-T", "--time", action="store_true", help="show the time of day")
    parser.add_argument("-t", "--timestamp", action="store_true", help="show seconds since the first call")
    parser.add_argument("-a", "--arguments", type=_argument_count, default=0, metavar="N",
                        help="show the first N argument words (1 to 6) in hex")  # fmt: skip
    parser.add_argument("-U", "--user-stack", action="store_true", help="show user stacks")
    parser.add_argument("-K", "--kernel-stack", action="store_true", help="show kernel stacks")
    parser.add_argument("-f", "--folded", action="store_true",
                        help="one line a call: the folded stack (implies -U unless -K is given)")  # fmt: skip
    arguments = parser.parse_args(argv)
    options.check(arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=True)
    if arguments.folded and not arguments.kernel_stack:
        arguments.user_stack = True
    min_us = arguments.min_us if arguments.min_us is not None else 1000 * (arguments.min_ms or 1)

    limit = f"{arguments.min_us:g} us" if arguments.min_us is not None else f"{min_us / 1000:g} ms"
    run = Run(
        arguments,
        "funcslower",
        lambda command: slower(*arguments.targets, min_us=min_us, pid=arguments.pid or None, command=command,
                               regex=arguments.regex, arguments=bool(arguments.arguments),
                               user_stack=arguments.user_stack, kernel_stack=arguments.kernel_stack,
                               max_probes=arguments.max_probes, allow_uretprobe=arguments.allow_uretprobe),
        "Tracing {functions} slower than " + limit + " for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, SlowerSession)
    run.start()
    printer = _Printer(arguments, session)
    run.watch.also(session.fileno())
    left = arguments.max_events
    deadline = run.deadline()
    while left is None or left > 0:
        state = run.watch.wait(deadline)
        if state != Watch.READY:
            session.detach()
        for call in session.drain():
            if run.json:
                run.emit("call", **call.as_dict())
            else:
                printer.show(call)
            left = None if left is None else left - 1
            if left == 0:
                break
        print(end="", flush=True)
        if state != Watch.READY:
            break
    return run.finish("events" if left == 0 else "duration")


class _Printer:
    """Prints calls in bcc's columns, with the goroutine's number where Go is traced."""

    def __init__(self, arguments: argparse.Namespace, session: SlowerSession) -> None:
        self._arguments = arguments
        self._in_us = arguments.min_us is not None
        self._goroutines = any(function.language == "go" for function in session.functions)
        self._first: int | None = None
        if arguments.folded or arguments.json:
            return
        columns = [f"{'TIME':<10}"] if arguments.time or arguments.timestamp else []
        columns += [f"{'COMM':<14}", f"{'PID':<6}"]
        if self._goroutines:
            columns.append(f"{'GOID':<6}")
        columns += [f"{'LAT(us)' if self._in_us else 'LAT(ms)':>7}", f"{'RVAL':>16}", "FUNC"]
        columns += ["ARGS"] if arguments.arguments else []
        print(" ".join(columns), flush=True)

    def show(self, call: SlowCall) -> None:
        if self._arguments.folded:
            print(folded.line(call.comm, folded.frames(call.kernel_stack, call.user_stack), 1))
            return
        columns = []
        if self._arguments.time:
            columns.append(f"{time.strftime('%H:%M:%S'):<10}")
        elif self._arguments.timestamp:
            self._first = call.time if self._first is None else self._first
            columns.append(f"{(call.time - self._first) / 1e9:<10.6f}")
        columns += [f"{safe(call.comm):<14}", f"{call.pid:<6}"]
        if self._goroutines:
            columns.append(f"{call.goid if call.goid is not None else '-':<6}")
        latency = call.duration / (1e3 if self._in_us else 1e6)
        result = "-" if call.result is None else f"{call.result:x}"
        columns += [f"{latency:7.2f}", f"{result:>16}", safe(call.function.label)]
        columns += [f"{word:#x}" for word in call.arguments[: self._arguments.arguments]]
        print(" ".join(columns))
        for frame in call.kernel_stack:
            print(f"    {safe(frame.name)}")
        if call.kernel_stack and call.user_stack:
            print("    --")
        for frame in call.user_stack:
            print(f"    {safe(frame.name)}")
        if call.stack_error:
            print(f"    [{call.stack_error}]")


def _threshold(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e15:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _argument_count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 6:
        raise argparse.ArgumentTypeError("must be 1 to 6")
    return value
