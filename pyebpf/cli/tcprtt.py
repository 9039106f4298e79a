# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcprtt."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

from pyebpf.cli import events, options
from pyebpf.cli.tracing import write
from pyebpf.output import histogram as drawing
from pyebpf.tools.tcp.tcprtt import TOOL, RoundTrips, RttSession

_TITLES = {"local": "Local Address", "remote": "Remote Address", None: "All Addresses"}
_ALL = "*******"


class _Run(events.EventRun):
    untracked = "lost: {} not counted, as connections have more addresses than there is room for"


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    result = events.parser_for(TOOL)
    by = result.add_mutually_exclusive_group()
    by.add_argument("-b", "--byladdr", dest="by", action="store_const", const="local",
                    help="a histogram for each local address")  # fmt: skip
    by.add_argument("-B", "--byraddr", dest="by", action="store_const", const="remote",
                    help="a histogram for each remote address")  # fmt: skip
    return result


def main(argv: Sequence[str]) -> int:
    parser_ = parser()
    arguments = parser_.parse_args(argv)
    options.check(arguments, parser_)
    tool = TOOL._replace(verb=partial(TOOL.verb, by=arguments.by))
    run = _Run(arguments, TOOL.name, events.begin(tool, arguments))
    session: RttSession = run.session
    run.start(TOOL)
    unit, name = (1000, "msecs") if arguments.milliseconds else (1, "usecs")

    def report(_last: bool) -> None:
        found = session.interval()
        if run.json:
            _emit(run, arguments.by, found)
            return
        lines = [""]
        if arguments.timestamp:
            lines.append(time.strftime("%H:%M:%S"))
        for address, histogram in found:
            average = f" [AVG {histogram.average / unit:.1f}]" if arguments.extension else ""
            lines.append(f"{_TITLES[arguments.by]} = {address or _ALL}{average}")
            lines += drawing.bars(histogram.rows(unit), name)
            if arguments.extension:
                lines.append(drawing.percentiles(histogram, unit, name))
            lines.append("")
        if not found:
            lines.append("Nothing was received.")
        write("\n".join(lines) + "\n")

    run.intervals(report)
    return run.finish()


def _emit(run: events.EventRun, by: str | None, found: Sequence[RoundTrips]) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for one in found:
        run.emit(TOOL.kind, time=now, by=by, **one.as_dict())
