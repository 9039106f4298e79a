# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcpretrans: its lines are those of every tool of events; with --count it counts them instead."""

from __future__ import annotations

from collections.abc import Sequence

from pyebpf.cli import events, options
from pyebpf.cli.tracing import write
from pyebpf.cli.watch import Watch
from pyebpf.tools.tcp.tcpretrans import TOOL, RetransmitSession
from pyebpf.tools.text import endpoint


class _Run(events.EventRun):
    untracked = "lost: {} not counted, as the table of connections was full"


def main(argv: Sequence[str]) -> int:
    parser = events.parser_for(TOOL)
    arguments = parser.parse_args(argv)
    if not arguments.count:
        return events.main(TOOL, argv)
    if arguments.max_events:
        parser.error("-n and -c can't be used together")
    options.check(arguments, parser)
    run = _Run(arguments, TOOL.name, events.begin(TOOL, arguments))
    run.start(TOOL)
    session: RetransmitSession = run.session
    while run.watch.wait(run.deadline()) == Watch.READY:
        pass
    session.detach()  # so that what is reported is all there is
    if run.json:
        for row in session.counts():
            run.emit("retransmits", **row.as_dict())
    else:
        write("".join(_lines(session)))
    return run.finish()


def _lines(session: RetransmitSession) -> list[str]:
    lines = [f"{'LADDR:LPORT':<25} T> {'RADDR:RPORT':<25} RETRANSMITS\n"]
    for row in session.counts():
        ours, theirs = endpoint(row.laddr, row.lport), endpoint(row.raddr, row.rport)
        lines.append(f"{ours:<25} {row.what}> {theirs:<25} {row.retransmits}\n")
    return lines
