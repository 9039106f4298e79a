# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf funclatency."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pyebpf.cli import options
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run
from pyebpf.output import histogram as drawing
from pyebpf.output.text import safe
from pyebpf.tools.funclatency import Histograms, LatencySession, latency
from pyebpf.tools.histogram import Histogram

EXAMPLES = (
    "pyebpf funclatency -d 10 './server:main.*.Mul'           # ns, ten seconds",
    "pyebpf funclatency -uF -p 1234 'envoy:proxy_wasm*exports*' # us, a histogram each",
    "pyebpf funclatency -m -i 5 'c:getaddrinfo'               # ms, every five seconds",
)


def main(argv: Sequence[str]) -> int:
    parser = options.parser("funclatency", "Show how long calls take, as a histogram.", EXAMPLES)
    options.add_interval(parser)
    options.add_uretprobe(parser)
    unit = parser.add_mutually_exclusive_group()
    unit.add_argument("-u", "--microseconds", dest="unit", action="store_const", const=1000, default=1,
                      help="microseconds (default: nanoseconds)")  # fmt: skip
    unit.add_argument("-m", "--milliseconds", dest="unit", action="store_const", const=1_000_000, help="milliseconds")
    parser.add_argument("-F", "--per-function", action="store_true", help="a histogram for each function")
    arguments = parser.parse_args(argv)
    options.check(arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=True)

    run = Run(
        arguments,
        "funclatency",
        lambda command: latency(*arguments.targets, pid=arguments.pid, command=command, regex=arguments.regex,
                                max_probes=arguments.max_probes, allow_uretprobe=arguments.allow_uretprobe),
        "Tracing {functions} for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, LatencySession)
    run.start()

    def report(_last: bool) -> None:
        histograms = session.interval()
        if run.json:
            _emit(run, histograms)
            return
        print()
        if arguments.timestamp:
            print(time.strftime("%H:%M:%S"))
        returned = [item for item in histograms.items() if item[1].count]
        if not returned:
            print("No calls returned.")
        elif arguments.per_function or len(session.functions) == 1:
            for function, histogram in sorted(returned, key=lambda item: item[1].total):
                print(f"Function = {safe(function.label)}")
                _print(histogram, arguments.unit)
        else:
            _print(histograms.total(), arguments.unit)
        print(end="", flush=True)

    run.intervals(report)
    return run.finish()


def _print(histogram: Histogram, unit: int) -> None:
    print("\n".join([*drawing.lines(histogram, unit), "", *drawing.summary(histogram, unit), ""]))


def _emit(run: Run, histograms: Histograms) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for function, histogram in histograms.items():
        run.emit("histogram", time=now, function=function.name, path=function.path, **histogram.as_dict())
