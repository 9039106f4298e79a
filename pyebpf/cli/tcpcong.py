# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcpcong."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

from pyebpf.cli import events, options
from pyebpf.cli.tracing import write
from pyebpf.output import histogram as drawing
from pyebpf.tools.histogram import Histogram, plain_rows
from pyebpf.tools.tcp.tcpcong import TOOL, Congestion, CongestionSession
from pyebpf.tools.text import endpoint

_ALL = (0, 65535)


class _Run(events.EventRun):
    untracked = "lost: {} not counted, as a table of connections was full"


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    result = events.parser_for(TOOL)
    for letter, side in (("L", "local"), ("R", "remote")):
        result.add_argument(f"-{letter}", f"--{side}-port", type=_range, default=_ALL, metavar="PORT[-PORT]",
                            dest=f"{side}_range", help=f"only connections with these {side} ports")  # fmt: skip
    result.add_argument("interval", nargs="?", type=options.positive_seconds, metavar="INTERVAL",
                        help="seconds between reports")  # fmt: skip
    result.add_argument("count", nargs="?", type=options.positive_count, metavar="COUNT", help="how many reports")
    return result


def main(argv: Sequence[str]) -> int:
    parser_ = parser()
    arguments = parser_.parse_args(argv)
    options.check(arguments, parser_)
    ranges = {name: getattr(arguments, name) for name in ("local_range", "remote_range")}
    tool = TOOL._replace(verb=partial(TOOL.verb, **ranges))
    run = _Run(arguments, TOOL.name, events.begin(tool, arguments))
    session: CongestionSession = run.session
    run.start(TOOL)
    unit, suffix = (1000, "us") if arguments.microseconds else (1_000_000, "ms")

    def report(_last: bool) -> None:
        if run.json:
            _emit(run, session, arguments.dist)
            return
        text = "\n" + (time.strftime("%H:%M:%S\n") if arguments.timestamp else "")
        if arguments.dist:
            text += _histograms(session.lasted(), unit // 1000, suffix)
        else:
            text += _table(session.interval(), unit, suffix)
        write(text)

    run.intervals(report, reports=arguments.count)
    return run.finish("events" if arguments.count else "duration")


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [int(part) if part.isascii() and part.isdigit() and len(part) < 6 else -1
               for part in (first, last if dash else first)]  # fmt: skip
    if not 0 <= numbers[0] <= numbers[1] <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, nor a range such as 8000-8100")
    return numbers[0], numbers[1]


def _table(found: Sequence[Congestion], unit: int, suffix: str) -> str:
    """Connections over IPv4, then those over IPv6, as bcc's tcpcong has them."""
    text = ""
    for ip, mark, width in ((4, "", 21), (6, "6", 32)):
        rows = [one for one in found if one.ip == ip]
        if not rows:
            continue
        titles = [f"{name}_{suffix}" for name in ("Open", "Dod", "Rcov", "Cwr", "Los")]
        text += f"{'LAddrPort' + mark:<{width}} {'RAddrPort' + mark:<{width}} "
        text += " ".join(f"{title:<7}" for title in titles) + " Chgs\n"
        for one in rows:
            spent = (one.open_ns, one.disorder_ns, one.recovery_ns, one.cwr_ns, one.loss_ns)
            text += f"{endpoint(one.laddr, one.lport):<{width}} {endpoint(one.raddr, one.rport):<{width}} "
            text += " ".join(f"{time_ns // unit:<7}" for time_ns in spent) + f" {one.changes}\n"
    return text or "No connection changed its state.\n"


def _histograms(lasted: dict[str, Histogram], unit: int, suffix: str) -> str:
    lines = []
    for state, histogram in lasted.items():
        lines += [f"State = {state}", *drawing.bars(histogram.rows(unit), "msecs" if suffix == "ms" else "usecs"), ""]
    return "\n".join(lines) + "\n" if lines else "No state ended.\n"


def _emit(run: events.EventRun, session: CongestionSession, dist: bool) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for one in session.interval():
        run.emit(TOOL.kind, time=now, **one.as_dict())
    if dist:
        for state, histogram in session.lasted().items():
            run.emit("lasted", time=now, state=state, count=histogram.count, total_us=histogram.total,
                     buckets=plain_rows(histogram))  # fmt: skip
