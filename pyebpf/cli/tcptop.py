# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcptop."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from pyebpf.cli import events, options, screen
from pyebpf.cli.tracing import write
from pyebpf.cli.transfers import TransferRun
from pyebpf.output.text import safe
from pyebpf.tools.tcp.tcptop import TOOL, Traffic, TrafficSession

_CLEAR = "\033[H\033[2J"  # to the upper left, erase the screen; what was scrolled out of it stays


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    result = events.parser_for(TOOL)
    screen.add_option(result)
    result.add_argument("interval", nargs="?", type=options.positive_seconds, default=1.0,
                        help="seconds between reports (default 1)")  # fmt: skip
    result.add_argument("count", nargs="?", type=options.positive_count, help="how many reports")
    return result


def main(argv: Sequence[str]) -> int:
    parser_ = parser()
    arguments = parser_.parse_args(argv)
    options.check(arguments, parser_)
    screen.check(arguments, parser_)
    run = TransferRun(arguments, TOOL.name, events.begin(TOOL, arguments))
    session: TrafficSession = run.session
    run.start(TOOL)
    pace = run.pace()
    clear = not arguments.noclear and sys.stdout is not None and sys.stdout.isatty()

    def report(_last: bool) -> None:
        traffic, seconds = session.interval(), next(pace)[1]
        if run.screen:
            from pyebpf.output import live

            run.screen.show(lambda *size: live.traffic(size, run.title(), traffic, seconds, run.foot()))
        elif run.json:
            from pyebpf.output.jsonl import timestamp

            run.emit(TOOL.kind, time=timestamp(), connections=[one.as_dict() for one in traffic])
        else:
            write((_CLEAR if clear else "\n") + ("" if arguments.nosummary else summary()) + tables(traffic))

    run.intervals(report, reports=arguments.count)
    return run.finish()


def summary() -> str:
    """The line about the system's load, as bcc's tcptop has it."""
    with open("/proc/loadavg") as file:
        return f"{time.strftime('%H:%M:%S')} loadavg: {file.read()}\n"


def tables(traffic: Sequence[Traffic]) -> str:
    """Connections over IPv4, then those over IPv6."""
    text = ""
    for ip, suffix, width in ((4, "", 21), (6, "6", 32)):
        rows = [one for one in traffic if one.ip == ip]
        if not rows:
            continue
        if text:
            text += "\n"
        line = f"%-7s %-12s %-{width}s %-{width}s %6s %6s\n"
        text += line % ("PID", "COMM", "LADDR" + suffix, "RADDR" + suffix, "RX_KB", "TX_KB")
        for one in rows:
            local, remote = f"{one.laddr}:{one.lport}", f"{one.raddr}:{one.rport}"
            text += line % (one.pid, safe(one.comm), local, remote, one.rx_bytes // 1024, one.tx_bytes // 1024)
    return text
