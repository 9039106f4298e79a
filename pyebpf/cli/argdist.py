# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf argdist."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from pyebpf.cli import options
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run
from pyebpf.cli.trace import EXPRESSIONS
from pyebpf.output.histogram import bars
from pyebpf.output.text import safe
from pyebpf.output.values import text_of
from pyebpf.tools.argdist import DEFAULT_STRSIZE, Distribution, DistributionSession, ValueCounts, argdist

EXAMPLES = (
    "pyebpf argdist -d 10 c:malloc -H size                        # sizes, as a histogram",
    "pyebpf argdist -i 1 -T 5 './server:main.(*Arith).Mul' -C args.A args.B",
    "pyebpf argdist -p 1234 c:read -C fd retval --filter 'retval < 0'",
)


def main(argv: Sequence[str]) -> int:
    parser = options.parser(
        "argdist", "Count the values of arguments, results and latencies, or draw them as a histogram.", EXAMPLES,
        targets="?", more=EXPRESSIONS,
    )  # fmt: skip
    options.add_uretprobe(parser)
    parser.add_argument("-H", "--histogram", metavar="EXPR", action="append", default=[],
                        help="a histogram of a number, by powers of two (repeatable)")  # fmt: skip
    parser.add_argument("-C", "--count", metavar="EXPR", nargs="+", action="append", default=[],
                        help="count values, or combinations of several (repeatable)")  # fmt: skip
    options.add_question(parser, DEFAULT_STRSIZE)
    parser.add_argument("-z", dest="strsize", type=options.positive_count, help=argparse.SUPPRESS)
    parser.add_argument("-i", "--interval", type=options.positive_seconds, metavar="SEC",
                        help="report every SEC seconds")  # fmt: skip
    parser.add_argument("-n", "--reports", type=options.positive_count, metavar="N",
                        help="end after N reports (a second each, if -i doesn't say else)")  # fmt: skip
    parser.add_argument("-T", "--top", type=options.positive_count, metavar="N",
                        help="show the N commonest values only")  # fmt: skip
    parser.add_argument("--timestamp", action="store_true", help="print the time with each report")
    options.add_max_keys(parser, "values of each -C", "64 bytes, and what the values take,")
    arguments = parser.parse_intermixed_args(argv)
    # -C takes all words up to the next option, and so also a target behind it.
    if arguments.targets is None and arguments.count and len(arguments.count[-1]) > 1:
        arguments.targets = arguments.count[-1].pop()
    if arguments.targets is None:
        parser.error("the following arguments are required: TARGET")
    arguments.targets = [arguments.targets]
    options.check(arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=False, signatures=True)
    if not arguments.histogram and not arguments.count:
        parser.error("nothing to count: give -H EXPR or -C EXPR")
    if arguments.reports and not arguments.interval:
        arguments.interval = 1.0

    run = Run(
        arguments,
        "argdist",
        lambda command: argdist(*arguments.targets, histograms=arguments.histogram, counts=arguments.count,
                                filter=arguments.filter, strsize=arguments.strsize, pid=arguments.pid or None,
                                command=command, regex=arguments.regex, max_probes=arguments.max_probes,
                                max_keys=arguments.max_keys, allow_uretprobe=arguments.allow_uretprobe),
        "Tracing {functions} for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, DistributionSession)
    run.start()

    def report(_last: bool) -> None:
        reports = session.interval()
        if run.json:
            _emit(run, reports)
            return
        print(time.strftime("[%H:%M:%S]"))
        for one in reports:
            print(safe(f"{arguments.targets[0]}: {', '.join(one.labels)}"))
            if isinstance(one, Distribution):
                print("\n".join(bars(one.rows, _unit(one.labels[0]))) if one.rows else "\tno calls")
            else:
                _print_counts(one, arguments.top)
        print(end="", flush=True)

    run.intervals(report, reports=arguments.reports)
    return run.finish()


def _unit(label: str) -> str:
    """The heading of a histogram's numbers; buckets of latencies are nanoseconds."""
    return "latency (ns)" if label == "latency" else safe(label)


def _print_counts(counts: ValueCounts, top: int | None) -> None:
    print("\tCOUNT      EVENT")
    for values, calls in counts.rows[-top if top else 0 :]:
        event = ", ".join(f"{safe(label)} = {text_of(value)}" for label, value in zip(counts.labels, values))
        print(f"\t{calls:<10} {event}")


def _emit(run: Run, reports: Sequence[ValueCounts | Distribution]) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for one in reports:
        run.emit("distribution" if isinstance(one, Distribution) else "values", time=now, **one.as_dict())
