# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcpsubnet."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

from pyebpf.cli import events, options
from pyebpf.cli.tracing import say, write
from pyebpf.cli.transfers import TransferRun
from pyebpf.output.text import safe
from pyebpf.tools.tcp.tcpsubnet import DEFAULT, TOOL, SubnetBytes, SubnetSession

# What is multiplied and then divided, as bcc's tcpsubnet does.
_FORMATS = {"b": (8, 1), "k": (8, 1 << 10), "m": (8, 1 << 20), "B": (1, 1), "K": (1, 1 << 10), "M": (1, 1 << 20)}


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    result = events.parser_for(TOOL)
    result.add_argument("subnets", nargs="?", metavar="SUBNETS", default=",".join(DEFAULT),
                        help="comma-separated, as in 10.0.0.0/8,2001:db8::/32; an address counts for the first that "
                        "holds it (default: this host, private networks, and all the rest)")  # fmt: skip
    return result


def main(argv: Sequence[str]) -> int:
    parser_ = parser()
    arguments = parser_.parse_args(argv)
    options.check(arguments, parser_)
    tool = TOOL._replace(verb=partial(TOOL.verb, arguments.subnets))
    run = TransferRun(arguments, TOOL.name, events.begin(tool, arguments))
    session: SubnetSession = run.session
    run.start(TOOL)
    if arguments.verbose:
        say(f"An address counts for the first that holds it: {', '.join(map(safe, session.subnets))}")
    width = max(21, *map(len, session.subnets))

    def report(_last: bool) -> None:
        found = session.interval()
        if run.json:
            from pyebpf.output.jsonl import timestamp

            run.emit(TOOL.kind, time=timestamp(), subnets=[one.as_dict() for one in found])
        else:
            write(time.strftime("[%x %X]\n") + "".join(_line(one, arguments.format, width) for one in found))

    run.intervals(report)
    return run.finish()


def _line(one: SubnetBytes, form: str, width: int) -> str:
    times, over = _FORMATS[form]
    return f"{safe(one.subnet):<{width}} {one.bytes * times // over:>6}\n"
