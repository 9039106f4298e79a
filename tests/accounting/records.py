# SPDX-License-Identifier: BSD-2-Clause
"""Every tool that shows records, in every situation of situations.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from accounting import making, readers
from accounting.ledger import Entry, case, lost, number
from accounting.making import connections, functions, many, program
from accounting.situations import ALL, Cause, Causes, entries

import pyebpf

FOUR = "4 threads"
ONE = ("not read meanwhile", "tiny", "stopped")  # where events are few


@contextmanager
def execs(count: int) -> Iterator[Cause]:
    with many("exec", count) as (target, make):
        pid = str(target.pid)
        yield Cause({"ppid": target.pid, "failed": True}, ["-P", pid, "-x"], make)


def of_check(event: Any) -> bool:
    name = event.get("name") if isinstance(event, dict) else event.name
    return bool(name == "CAP_SYS_ADMIN")


# Tool, what makes its events, how many in a whole run, the situations.
TABLE: tuple[tuple[Any, Causes, int, tuple[str, ...], str], ...] = (
    ("trace", functions("call", "many_calls", 4, {"args": ["thread", "i"]}, ["thread", "i"]), 200_000, ALL, FOUR),
    ("trace", functions("text", "many_texts", 1, {"args": ["text"], "strsize": 250}, ["-Z", "250", "text"]), 50_000,
     ALL, "texts of 199 bytes"),
    ("trace", functions("call", "many_calls", 4, {"args": ["i"], "ret": ["retval"]}, ["i", "--ret", "retval"]), 50_000,
     ("read at once", "tiny", "stopped"), "with results, 4 threads"),
    (("slower", "funcslower"), functions("call", "many_calls", 4, {"min_us": 0}, ["-u", "0"]), 50_000, ALL, FOUR),
    ("opensnoop", program("open", 4), 100_000, ALL, FOUR),
    ("opensnoop", program("long", 4), 20_000, ("read at once", "tiny", "tiny, slow"), "paths of 1,000 bytes"),
    ("opensnoop", program("unreadable", 4), 20_000, ("read at once", "tiny"), "paths that can't be read"),
    ("opensnoop", program("open", 4, {"full_path": True}, ["-F"]), 20_000, ("read at once", "tiny"), "full paths"),
    ("statsnoop", program("stat", 4), 50_000, ALL, FOUR),
    ("bindsnoop", program("bind", 4, {"errors": True}, ["-E"]), 50_000, ALL, FOUR),
    ("syncsnoop", program("sync", 4), 50_000, ALL, FOUR),
    ("killsnoop", program("kill", 4), 50_000, ALL, FOUR),
    ("shmsnoop", program("shm", 4), 50_000, ALL, FOUR),
    ("mountsnoop", program("mount", 4), 20_000, ALL, FOUR),
    ("capable", program("check", 4, wanted=of_check), 50_000, ALL, FOUR),
    ("filelife", program("file", 4), 20_000, ALL, FOUR),
    ("filelife", program("files", 2), 80_000, ("read at once",), "more files at once than the table holds"),
    ("execsnoop", execs, 997, ALL, "execs that fail"),
    ("exitsnoop", program("fork", 2, children=True), 2_000, ALL, "children of 2 threads"),
    ("threadsnoop", program("thread", 2), 10_007, ALL, "by 2 threads"),
    ("gethostlatency", program("lookup", 2), 10_007, ALL, "2 threads"),
    ("sslsniff", making.encrypted, 10_007, ONE, ""),
    ("bashreadline", making.typed, 997, ONE, ""),
    ("drsnoop", making.reclaims, 256, ONE, "by the kernel's own count"),
    ("tcpconnect", connections, 10_007, ALL, "over loopback"),
    ("tcpaccept", connections, 10_007, ALL, "over loopback"),
    ("tcpconnlat", connections, 10_007, ALL, "over loopback"),
    ("tcplife", partial(connections, each=2, reset=True), 10_007, ALL, "both ends"),
    ("tcptracer", partial(connections, each=4), 10_007, ALL, "connect, accept, two closes"),
    ("tcpstates", partial(connections, each=6, reset=True), 10_007, ALL, "three states an end"),
    ("tcpdrop", making.refused, 10_007, ALL, "refused SYNs"),
    ("tcpretrans", making.retransmits, 200, ONE, "SYNs into a void"),
)  # fmt: skip


def _register(tool: Any, causes: Causes, whole: int, situations: tuple[str, ...], what: str) -> None:
    name = tool if isinstance(tool, str) else tool[1]

    @case(name)
    def records(scale: float) -> Iterator[Entry]:
        count = whole if "than the table holds" in what else number(scale, whole)
        yield from entries(tool, causes, count, situations, what)


for row in TABLE:
    _register(*row)


@case("bindsnoop")
def left_out(scale: float) -> Iterator[Entry]:
    """What a filter leaves out is not lost either, where there is no room for what it takes."""
    with many("bind", number(scale, 20_000), 4) as (target, make):
        keywords: dict[str, Any] = {"pid": target.pid, "errors": True}
        with readers.buffer(readers.TINY), pyebpf.bindsnoop(**keywords) as one, pyebpf.bindsnoop(
            local_ports=(1,), **keywords
        ) as other:
            made = make()
            for session, count, what in ((one, made, "no filter"), (other, 0, "a filter by port that none passes")):
                session.detach()
                delivered = sum(1 for _ in session.drain())
                yield Entry("bindsnoop", f"a buffer of 4 KB; {what}", count, delivered, lost(session.losses))
