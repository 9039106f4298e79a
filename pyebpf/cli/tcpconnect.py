# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf tcpconnect: its lines are those of every tool of events; with --count it counts them instead."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pyebpf.cli import events, options
from pyebpf.cli.tracing import counted, say, write
from pyebpf.cli.watch import Watch
from pyebpf.output.text import safe
from pyebpf.tools.tcp.tcpconnect import TOOL, ConnectSession

_MOST_ROWS = 65_536


def main(argv: Sequence[str]) -> int:
    parser = events.parser_for(TOOL)
    arguments = parser.parse_args(argv)
    if not arguments.count:
        if arguments.interval:
            parser.error("-i needs -c")
        return events.main(TOOL, argv)
    if arguments.max_events:
        parser.error("-n and -c can't be used together")
    options.check(arguments, parser)
    run = events.EventRun(arguments, TOOL.name, events.begin(TOOL, arguments))
    run.start(TOOL)
    session: ConnectSession = run.session
    counts = _Counts()

    def report() -> None:
        counts.add(session)
        if run.json:
            from pyebpf.output.jsonl import timestamp

            run.emit("connects", time=timestamp(), connects=[
                {"saddr": local, "daddr": remote, "dport": port, "query": counts.names.get(remote), "count": count}
                for (local, remote, port), count in counts.rows()
            ], uncounted=counts.uncounted)  # fmt: skip
        else:
            write(counts.table(named=arguments.dns, timed=arguments.time))
            if counts.uncounted:
                say(f"lost: {counted(counts.uncounted, 'connect')} not counted, as there are too many addresses")
        counts.clear()

    run.watch.also(session.fileno())
    deadline = run.deadline()
    due, state = session.started, Watch.READY
    while state != Watch.ENDED:
        due += arguments.interval or 0
        last = not arguments.interval or (deadline is not None and due >= deadline - 1e-6)
        while (state := run.watch.wait(deadline if last else due, session.rest())) == Watch.READY:
            counts.add(session)
        if last or state == Watch.ENDED:
            session.detach()  # so that what is reported is all there is
            state = Watch.ENDED
        report()
    return run.finish()


class _Counts:
    """How often what was connected to.

    Attributes:
        names: of remote addresses, where a name server's answer was seen.
        uncounted: connects to what there was no row for.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}  # local and remote address, remote port
        self.names: dict[str, bytes] = {}
        self.uncounted = 0

    def add(self, session: ConnectSession) -> None:
        """Counts the connects that wait to be read."""
        for event in session.drain():
            row = (event.saddr, event.daddr, event.dport)
            if event.errno != 0:
                continue
            if row in self._counts or len(self._counts) < _MOST_ROWS:
                self._counts[row] = self._counts.get(row, 0) + 1
                if event.query is not None:
                    self.names[event.daddr] = event.query
            else:
                self.uncounted += 1

    def clear(self) -> None:
        self._counts.clear()
        self.names.clear()
        self.uncounted = 0

    def rows(self) -> list[tuple[tuple[str, str, int], int]]:
        """The most frequent first."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def table(self, *, named: bool, timed: bool) -> str:
        lines = ["", *([time.strftime("%H:%M:%S")] if timed else [])]
        lines.append(f"{'LADDR':<24} {'RADDR':<24} {'RPORT':<8} {'CONNECTS':<8}" + (" QUERY" if named else ""))
        for (local, remote, port), count in self.rows():
            name = f" {safe(self.names.get(remote, b'-'))}" if named else ""
            lines.append(f"{local:<24} {remote:<24} {port:<8} {count:<8}{name}")
        return "\n".join(line.rstrip() for line in lines) + "\n"
