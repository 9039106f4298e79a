# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf bindsnoop: its lines are those of every tool of events; with --count it counts them instead."""

from __future__ import annotations

from collections.abc import Sequence

from pyebpf.cli import events, options
from pyebpf.cli.tracing import counted, say, write
from pyebpf.cli.watch import Watch
from pyebpf.tools.events import EventSession
from pyebpf.tools.snoop.bindsnoop import TOOL, Bind

_MOST_ROWS = 65_536
_Row = tuple[str, str]  # address and port, "-" where it isn't known


def main(argv: Sequence[str]) -> int:
    parser = events.parser_for(TOOL)
    arguments = parser.parse_args(argv)
    if not arguments.count:
        return events.main(TOOL, argv)
    if arguments.max_events:
        parser.error("-n and --count can't be used together")
    options.check(arguments, parser)
    run = events.EventRun(arguments, TOOL.name, events.begin(TOOL, arguments))
    run.start(TOOL)
    session: EventSession[Bind] = run.session
    counts: dict[_Row, int] = {}
    uncounted = 0
    run.watch.also(session.fileno())
    state = Watch.READY
    while state == Watch.READY:
        state = run.watch.wait(run.deadline(), session.rest())
        if state != Watch.READY:
            session.detach()  # so that what is reported is all there is
        for event in session.drain():
            row = (event.addr or "-", "-" if event.port is None else str(event.port))
            if row in counts or len(counts) < _MOST_ROWS:
                counts[row] = counts.get(row, 0) + 1
            else:
                uncounted += 1
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if run.json:
        from pyebpf.output.jsonl import timestamp

        run.emit("binds", time=timestamp(), binds=[
            {"addr": None if addr == "-" else addr, "port": None if port == "-" else int(port), "count": count}
            for (addr, port), count in rows
        ], uncounted=uncounted)  # fmt: skip
    else:
        write(f"\n{'LADDR':<39} {'LPORT':>5} {'BINDS':>8}\n")
        write("".join(f"{addr:<39} {port:>5} {count:>8}\n" for (addr, port), count in rows))
        if uncounted:
            say(f"lost: {counted(uncounted, 'bind')} not counted, as there are too many addresses")
    return run.finish()
