# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf funclatency."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pyebpf.cli import options, picture, screen
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run
from pyebpf.output import histogram as drawing
from pyebpf.output.text import safe
from pyebpf.tools.funclatency import Histograms, LatencySession, latency
from pyebpf.tools.histogram import EMPTY, Histogram
from pyebpf.tools.session import TracedFunction

EXAMPLES = (
    "pyebpf funclatency -d 10 './server:main.*.Mul'           # ns, ten seconds",
    "pyebpf funclatency -uF -p 1234 'envoy:proxy_wasm*exports*' # us, a histogram each",
    "pyebpf funclatency -m -i 5 'c:getaddrinfo'               # ms, every five seconds",
    "pyebpf funclatency --live 'c:*alloc'                     # a table, redrawn each second",
    "pyebpf funclatency -d 60 -i 1 --plot a.svg 'c:read'      # a heat map, a column a second",
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
    screen.add_option(parser)
    parser.add_argument("--plot", metavar="FILE.svg",
                        help="draw a histogram for each function into FILE.svg instead of printing them; with -i a "
                        "heat map over time, with -F one for each function (-: standard output)")  # fmt: skip
    arguments = parser.parse_args(argv)
    options.check(arguments, parser)
    mapped = arguments.interval is not None
    screen.check(arguments, parser)
    if arguments.plot is not None:
        picture.check(arguments.plot, "--plot", arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=True)

    run = Run(
        arguments,
        "funclatency",
        lambda command: latency(*arguments.targets, pid=arguments.pid or None, command=command, regex=arguments.regex,
                                max_probes=arguments.max_probes, allow_uretprobe=arguments.allow_uretprobe),
        "Tracing {functions} for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, LatencySession)
    run.start()
    pace = run.pace()
    total: dict[TracedFunction, Histogram] = {}
    timeline = None
    if arguments.plot is not None:
        from pyebpf.output import plot

        timeline = plot.Timeline(arguments.per_function or len(session.functions) == 1) if mapped else None

    def report(_last: bool) -> None:
        histograms, (since, seconds) = session.interval(), next(pace)
        if timeline:
            timeline.add(histograms, since, since + seconds)
        if run.screen or (arguments.plot is not None and not mapped):
            for function, histogram in histograms.items():
                total[function] = total.get(function, EMPTY) + histogram
        if run.screen:
            from pyebpf.output import live

            run.screen.show(lambda *size: live.latencies(size, run.title(), histograms, total, seconds, run.foot()))
            return
        if run.json:
            _emit(run, histograms)
        if run.json or arguments.plot is not None:
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
    if arguments.plot is None:
        return run.finish()
    draw = timeline.svg if timeline else lambda *texts: plot.histograms(total, *texts)
    return picture.finish(run, arguments.plot, draw, "Latency of")


def _print(histogram: Histogram, unit: int) -> None:
    print("\n".join([*drawing.lines(histogram, unit), "", *drawing.summary(histogram, unit), ""]))


def _emit(run: Run, histograms: Histograms) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for one in histograms.as_dict()["histograms"]:
        run.emit("histogram", time=now, **one)
