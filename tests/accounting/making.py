# SPDX-License-Identifier: BSD-2-Clause
"""What makes events, and counts them itself: tests/programs/many.c, actors, the kernel's counters."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import causes as happenings
import firing
import targets
import traffic
from accounting.ledger import by_kind
from accounting.situations import Cause
from shells import Shell

from pyebpf import Tree


@contextmanager
def many(kind: str, count: int, threads: int = 1) -> Iterator[tuple[targets.Target, Callable[[], int]]]:
    """tests/programs/many.c, ready to do something so many times in each thread; and what lets it, and says how often
    it did. It lives until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("-n", str(count), "-t", str(threads), "-C", folder, kind)
        with targets.run(targets.compiled("many.c"), *arguments) as target:

            def make() -> int:
                target.begin()
                return int(target.first_line()["made"])

            yield target, make


def program(
    kind: str, threads: int = 1, keywords: dict[str, Any] | None = None, arguments: Sequence[str] = (), *,
    children: bool = False, wanted: Callable[[Any], bool] = lambda _: True,
) -> Callable[[int], Any]:  # fmt: skip
    """Causes of one kind of `many`, of its process only.

    Args:
        keywords, arguments: more of the verb's and the command's.
        children: its children's events.
    """

    @contextmanager
    def causes(count: int) -> Iterator[Cause]:
        with many(kind, count // threads, threads) as (target, make):
            pid = Tree(target.pid) if children else target.pid
            words = ["-p", str(target.pid), *(["--children"] if children else []), *arguments]
            yield Cause({"pid": pid, **(keywords or {})}, words, make, wanted)

    return causes


def functions(
    kind: str, function: str, threads: int = 1, keywords: dict[str, Any] | None = None, arguments: Sequence[str] = ()
) -> Callable[[int], Any]:
    """Causes of one of many.c's functions."""

    @contextmanager
    def causes(count: int) -> Iterator[Cause]:
        with many(kind, count // threads, threads) as (target, make):
            where = f"{target.path}:{function}"
            words = ["-p", str(target.pid), where, *arguments]
            yield Cause({"pid": target.pid, **(keywords or {})}, words, make)._replace(targets=(where,))

    return causes


# Connections


@contextmanager
def connections(count: int, *, each: int = 1, reset: bool = False, host: str = "127.0.0.1") -> Iterator[Cause]:
    """So many, one after the other, over loopback in a namespace of their own; `each` events of every one."""
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        listener = server.listen(host)

        def make() -> int:
            before = net.counters()["Tcp"]
            served = server.serve(listener, count)
            made = int(client.burst(listener, count, reset=reset).result()["made"])
            assert served.result()["made"] == made
            after = net.counters()["Tcp"]
            for counter in ("ActiveOpens", "PassiveOpens"):
                assert after[counter] - before[counter] == made
            return made * each

        yield Cause({"netns": net.inode}, ["--netns", str(net.inode)], make)


@contextmanager
def refused(count: int) -> Iterator[Cause]:
    """Connections that are refused: a dropped SYN each."""
    with traffic.namespace() as net:
        client = net.actor("client")

        def make() -> int:
            return int(client.burst(("127.0.0.1", 9), count).result()["failed"])

        yield Cause({"netns": net.inode}, ["--netns", str(net.inode)], make)


@contextmanager
def retransmits(count: int) -> Iterator[Cause]:
    """Connections begun into a void, whose SYNs are sent again."""
    port, unfired = 4711, [0]
    with traffic.wire() as (left, right):
        client = left.net.actor("client")
        right.lose(), left.lose()

        def make() -> int:
            with firing.runs(left.net.inode, "on_retransmit") as fired:
                for _ in range(count):
                    client.connect((right.v4, port), "start", options={"TCP_SYNCNT": 1})
                left.net.waits("Tcp", "AttemptFails", count)
                made = left.net.counters()["Tcp"]["RetransSegs"]
                unfired[0] = max(0, made - fired())
            return made

        arguments = ["--netns", str(left.net.inode)]
        yield Cause({"netns": left.net.inode}, arguments, make, more=lambda: by_kind(unfired=unfired[0]))


# Programs that others wrote


@contextmanager
def encrypted(count: int) -> Iterator[Cause]:
    """A server and a client that speak TLS, of Python's ssl."""
    with tempfile.TemporaryDirectory() as folder:
        key, own, both = (Path(folder) / name for name in ("key.pem", "own.pem", "both.pem"))
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
        subprocess.run([*command, "-keyout", str(key), "-out", str(own)], check=True, capture_output=True)
        both.write_text(key.read_text() + own.read_text())
        words = (str(targets.PROGRAMS / "tls.py"), str(both), str(count // 4), "997")
        with targets.run(Path(sys.executable), *words) as target:
            yield Cause({"pid": target.pid}, ["-p", str(target.pid)], lambda: len(target.go()["data"]))


@contextmanager
def typed(count: int) -> Iterator[Cause]:
    """A shell on a terminal, that is told so many commands."""
    with Shell() as shell:

        def make() -> int:
            for number in range(count):
                shell.type(b": %d" % number)
            return count

        yield Cause({"pid": shell.pid}, ["-p", str(shell.pid)], make)


@contextmanager
def reclaims(count: int) -> Iterator[Cause]:
    """A process that reads more than its cgroup's memory holds, `count` MB; the kernel counts how often it reclaims."""
    with happenings.actor() as actor, happenings.little_memory(actor):

        def make() -> int:
            with firing.counted("vmscan/mm_vmscan_memcg_reclaim_end", actor.pid) as fired:
                happenings.reclaims(actor, count << 20)
                return fired()

        yield Cause({"pid": actor.pid}, ["-p", str(actor.pid)], make)
