# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcpsynbl."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from pyebpf.cli import events, options
from pyebpf.cli.tracing import counted, write
from pyebpf.output import histogram as drawing
from pyebpf.tools.tcp.tcpsynbl import TOOL, Backlogs, BacklogSession
from pyebpf.tools.text import endpoint


class _Run(events.EventRun):
    untracked = "lost: {} not counted, as a table of listeners was full"


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    result = events.parser_for(TOOL)
    result.add_argument("interval", nargs="?", type=options.positive_seconds, metavar="INTERVAL",
                        help="seconds between reports")  # fmt: skip
    result.add_argument("count", nargs="?", type=options.positive_count, metavar="COUNT", help="how many reports")
    return result


def main(argv: Sequence[str]) -> int:
    parser_ = parser()
    arguments = parser_.parse_args(argv)
    options.check(arguments, parser_)
    run = _Run(arguments, TOOL.name, events.begin(TOOL, arguments))
    session: BacklogSession = run.session
    run.start(TOOL)

    def report(_last: bool) -> None:
        found = session.interval()
        if run.json:
            _emit(run, found)
            return
        write("\n" + (time.strftime("%H:%M:%S\n") if arguments.timestamp else "") + "\n".join(_lines(found)) + "\n")

    run.intervals(report, reports=arguments.count)
    return run.finish("events" if arguments.count else "duration")


def _lines(found: Backlogs) -> list[str]:
    lines = []
    for limit, histogram in found.backlogs:
        lines += [f"backlog_max = {limit}", *drawing.bars(histogram.rows(), "backlog"), ""]
    for one in found.turned_away:
        where = endpoint(one.laddr, one.lport)
        lines.append(f"{where} (backlog_max {one.limit}) turned away {counted(one.packets, 'packet')}")
    return lines or ["No connection came."]


def _emit(run: events.EventRun, found: Backlogs) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for backlog in found.backlogs:
        run.emit(TOOL.kind, time=now, **backlog.as_dict())
    for one in found.turned_away:
        run.emit("turned_away", time=now, **one.as_dict())
