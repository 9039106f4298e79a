# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf funccount."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pyebpf.cli import options, screen
from pyebpf.cli.listing import print_targets
from pyebpf.cli.run import Run
from pyebpf.output.text import safe
from pyebpf.tools.funccount import Counts, CountSession, count
from pyebpf.tools.session import TracedFunction

EXAMPLES = (
    "pyebpf funccount -d 10 './server:main.*.Mul'    # calls in ten seconds",
    "pyebpf funccount -Ti 5 './server:runtime.*.gc*' # every five seconds",
    "pyebpf funccount -p 1234 'c:str*'               # one process's use of libc",
    "pyebpf funccount --live 'c:*alloc'              # a table, redrawn each second",
)


def main(argv: Sequence[str]) -> int:
    parser = options.parser("funccount", "Count the calls of functions.", EXAMPLES)
    options.add_interval(parser)
    screen.add_option(parser)
    arguments = parser.parse_args(argv)
    options.check(arguments, parser)
    screen.check(arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=False)

    run = Run(
        arguments,
        "funccount",
        lambda command: count(*arguments.targets, pid=arguments.pid or None, command=command, regex=arguments.regex,
                              max_probes=arguments.max_probes),
        "Tracing {functions} for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, CountSession)
    run.start()
    pace, total = run.pace(), Counts()

    def report(_last: bool) -> None:
        counts, seconds = session.interval(), next(pace)[1]
        if run.screen:
            from pyebpf.output import live

            total.update(counts)
            run.screen.show(lambda *size: live.counts(size, run.title(), counts, total, seconds, run.foot()))
        elif run.json:
            run.emit("counts", time=_now(), **counts.as_dict())
        else:
            print_counts(counts, arguments.timestamp)

    run.intervals(report)
    return run.finish()


def ranked(counts: Counts) -> list[tuple[TracedFunction, int]]:
    """Functions and counts, the largest last, as it is next to the prompt then."""
    return sorted(counts.items(), key=lambda item: (item[1], item[0].name))


def print_counts(counts: Counts, timestamp: bool) -> None:
    print()
    if timestamp:
        print(time.strftime("%H:%M:%S"))
    rows = [(safe(function.label), n) for function, n in ranked(counts)]
    width = min(max([36, *(len(name) for name, _ in rows)]), 68)
    print(f"{'FUNC':<{width}} {'COUNT':>8}")
    for name, n in rows:
        print(f"{name:<{width}} {n:>8}")
    print(end="", flush=True)


def _now() -> str:
    from pyebpf.output.jsonl import timestamp

    return timestamp()
