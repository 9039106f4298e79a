# SPDX-License-Identifier: BSD-2-Clause
"""Runs every tcp and snoop tool on this kernel for a moment, by each of its hooks that works here, and prints a table.

Use (as root; the live tests judge every detail, this tells what a kernel has)::

    python tests/vm/family.py               # all
    python tests/vm/family.py tcp capable   # those whose name contains a word
    python tests/vm/family.py --best        # only by the hooks that would be chosen
    python tests/vm/family.py --json FILE   # and keep the lines (matrix.py)

A line says which hooks (1: the best ones), how long it took to attach and to detach (ms), how many events of ours it
saw, and how many at least there were; then its notes, or why this kernel can't. Exit code 1: something is wrong: fewer
events, losses (of which "missed", by the kernel, are only told), or an error that isn't "this kernel can't", or one
that the command doesn't tell with exit code 5.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import causes  # noqa: E402
import targets  # noqa: E402
import traffic  # noqa: E402

import pyebpf  # noqa: E402
from pyebpf.cli import exits  # noqa: E402
from pyebpf.errors import Error, Unsupported  # noqa: E402
from pyebpf.tools import events as kernel_events  # noqa: E402

DEADLINE = 90  # seconds for a line; emulated machines are slow


class Stage:
    """What the causes act with: two ends of a wire, and an actor in our own namespaces."""

    def __init__(self, left: traffic.Side, right: traffic.Side, actor: traffic.Actor, folder: Path) -> None:
        self.left, self.right, self.actor, self.folder = left, right, actor, folder
        self.client, self.server = left.net.actor("client"), right.net.actor("server")
        self.pids = {self.client.pid, self.server.pid, actor.pid}
        self._opened: list[Any] = []

    def talk(self) -> int:
        """Two connections, in both directions."""
        for host in (self.right.v4, self.right.v6):
            ours, theirs = traffic.connected(self.client, self.server, host)
            ours.send(997), theirs.receive(997)
            theirs.send(997, "sendfile"), ours.receive(997)
            ours.close(), theirs.close()
        return 2

    def talk_twice(self) -> int:
        return 2 * self.talk()  # both ends

    def talk_once(self) -> int:
        return self.talk() - 1  # one histogram

    def lose(self) -> int:
        """Two connections of which data are lost once, and sent again."""
        pairs = [traffic.connected(self.client, self.server, host) for host in (self.right.v4, self.right.v6)]
        before = self.left.net.counters()["Tcp"]["RetransSegs"]
        self.right.lose()
        for ours, _ in pairs:
            ours.send(997)
        for ours, _ in pairs:
            targets.until(lambda ours=ours: ours.info()["ca_state"] == 4)
        self.right.mend()
        for ours, theirs in pairs:
            theirs.receive(997)
            targets.until(lambda ours=ours: not ours.info()["unacked"])
        after = self.left.net.counters()["Tcp"]["RetransSegs"]
        for ours, theirs in pairs:
            ours.close(), theirs.close()
        return after - before

    def lose_two(self) -> int:
        return min(self.lose(), 2)

    def probe(self) -> int:
        """A tail loss probe that sends new data, and what is sent again after it."""
        before = self.left.net.counters()
        ours, theirs = traffic.connected(self.client, self.server, self.right.v4)
        self.right.lose()
        ours.send(23), ours.send(23)
        self.left.net.waits("TcpExt", "TCPLossProbes", before["TcpExt"]["TCPLossProbes"] + 1)
        self.left.net.waits("Tcp", "RetransSegs", before["Tcp"]["RetransSegs"] + 1)
        self.right.mend()
        targets.until(lambda: not ours.info()["unacked"])
        ours.close(), theirs.close()
        return self.left.net.counters()["Tcp"]["RetransSegs"] - before["Tcp"]["RetransSegs"]

    def knock(self) -> int:
        """Where nobody listens."""
        for host in (self.right.v4, self.right.v6):
            self.client.connect((host, 1), fails=True)
        return 2

    def queue(self) -> int:
        """More connections than a queue has room for."""
        found = 0
        for host in (self.right.v4, self.right.v6):
            listener = self.server.listen(host, backlog=1)
            queued, dropped = listener.fill(self.client, 1)
            self.right.net.waits("TcpExt", "ListenOverflows", 1)
            found += 1
            for connection in [*queued, *dropped]:
                connection.close()
            listener.close()
        return found

    def queue_once(self) -> int:
        return self.queue() - 1  # one histogram

    def executes(self) -> int:
        causes.execs(self.actor, "/bin/true", ["true", "a"])
        causes.execs(self.actor, "/no/such", ["such"])
        return 2

    def ends(self) -> int:
        causes.ends(self.actor, "exit", 3), causes.ends(self.actor, "signal", 9)
        return 2

    def opens(self) -> int:
        for how in causes.OPENS:
            causes.opens(self.actor, "/etc/passwd", how=how, path="cold")
        return len(causes.OPENS)

    def stats(self) -> int:
        for how in causes.STATS:
            causes.stats(self.actor, "/etc/passwd", how, path="cold")
        return len(causes.STATS)

    def lives(self) -> int:
        for unlink in ("unlink" if causes.LEGACY else "unlinkat", "unlinkat"):
            causes.lives(self.actor, self.folder / "file", unlink)
        return 2

    def kills(self) -> int:
        causes.handles(self.actor, signal.SIGUSR1)
        for how in causes.KILLS:
            causes.kills(self.actor, how, self.actor.pid, signal.SIGUSR1)
        return len(causes.KILLS)

    def binds(self) -> int:
        causes.binds(self.actor, "127.0.0.1", 0), causes.binds(self.actor, "::1", 0, "dgram")
        return 2

    def syncs(self) -> int:
        for how in ("fsync", "fdatasync", "syncfs", "sync_file_range"):
            causes.syncs(self.actor, how, 999)
        return 4

    def mounts(self) -> int:
        causes.mounts(self.actor, "none", self.folder, path="cold"), causes.unmounts(self.actor, self.folder)
        number = len(causes.mounts_anew(self.actor, self.folder))
        causes.unmounts(self.actor, self.folder)
        return 3 + number

    def asks(self) -> int:
        return len(causes.denied(self.actor))

    def shares(self) -> int:
        return len(causes.segments(self.actor))

    def reclaims(self) -> int:
        """Of what the page cache holds: of files on a disk too, as ours may be in memory, where holes take none."""
        large = sorted(
            (path for path in Path("/usr/lib").glob("*/*.so*") if path.is_file() and not path.is_symlink()),
            key=lambda path: -path.stat().st_size,
        )
        with causes.little_memory(self.actor):
            causes.reclaims(self.actor)
            read = 0
            for path in large:
                read += self.actor.do("reads", path)["ret"]
                if read >= 64 << 20:
                    break
        return 1

    def resolves(self) -> int:
        for how in ("getaddrinfo", "gethostbyname"):
            causes.resolves(self.actor, "localhost", how)
        return 2

    def threads(self) -> int:
        causes.threads(self.actor, 23)
        return 23

    def types(self) -> int:
        """Lines to a shell."""
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(PS1="READY> ", TERM="dumb", HISTFILE="/dev/null")
            os.execvp("bash", ["bash", "--norc", "-i"])
        self.pids.add(pid)
        for line in (b"true\n", b": a b\n", b"exit\n"):
            seen = b""
            while not seen.endswith(b"READY> "):
                assert select.select([fd], [], [], DEADLINE)[0], seen
                seen += os.read(fd, 4096)
            os.write(fd, line)
        os.waitpid(pid, 0)
        os.close(fd)
        return 3

    def whispers(self) -> int:
        """TLS by a Python program with itself."""
        program, own = targets.PROGRAMS / "tls.py", self.folder / "own.pem"
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=localhost"
        if not own.exists():
            key, certificate = self.folder / "key", self.folder / "certificate"
            command = ["openssl", *words.split(), "-keyout", str(key), "-out", str(certificate)]
            subprocess.run(command, check=True, capture_output=True)
            own.write_text(key.read_text() + certificate.read_text())
        done = subprocess.Popen(
            [sys.executable, str(program), str(own), "23", "97"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pids.add(done.pid)
        done.communicate(b"\n\n", DEADLINE)
        return 46


class Line(NamedTuple):
    """A line of the table: a tool's verb with options, and what it is to see."""

    verb: str
    cause: str
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


LINES = (
    Line("tcpconnect", "talk"), Line("tcpconnect", "talk", {"dns": True}), Line("tcpaccept", "talk"),
    Line("tcpconnlat", "talk"), Line("tcptracer", "talk_twice"), Line("tcplife", "talk_twice"),
    Line("tcpstates", "talk_twice"), Line("tcptop", "talk_twice"), Line("tcpsubnet", "talk"),
    Line("tcprtt", "talk_once"), Line("tcpdrop", "knock"), Line("tcpretrans", "lose"),
    Line("tcpretrans", "probe", {"loss_probes": True}), Line("tcpsynbl", "queue_once"), Line("tcpcong", "lose_two"),
    Line("execsnoop", "executes", {"failed": True}), Line("opensnoop", "opens"), Line("exitsnoop", "ends"),
    Line("killsnoop", "kills"), Line("statsnoop", "stats"), Line("filelife", "lives"), Line("bindsnoop", "binds"),
    Line("syncsnoop", "syncs"), Line("mountsnoop", "mounts"), Line("capable", "asks"),
    Line("capable", "asks", {"kernel_stack": True, "user_stack": True}), Line("shmsnoop", "shares"),
    Line("drsnoop", "reclaims"), Line("gethostlatency", "resolves"), Line("threadsnoop", "threads"),
    Line("sslsniff", "whispers"), Line("bashreadline", "types"),
)  # fmt: skip


# What one process does: others aren't looked at, as a busy machine makes more events than a buffer has room for
BY_THE_ACTOR = {"opens", "stats", "lives", "kills", "binds", "syncs", "mounts", "shares", "threads"}
NOBODY = 65534  # who asks, in a child of the actor's


class Ways:
    """Lets a tool attach by other hooks than the best: way n takes the n-th set that this kernel has, or the last."""

    def __init__(self) -> None:
        self._choose = kernel_events.choose
        self.begin(1)

    def begin(self, way: int) -> None:
        self.way, self.most = way, 1
        self._passed: set[str] = set()  # programs that were better, which another need mustn't bring back

    def choose(self, hooks: Any, alternatives: Sequence[Any]) -> Any:
        usable = [programs for programs in alternatives if self._choose(hooks, [programs])[0] is not None]
        self.most = max(self.most, len(usable))
        if self.way == 1 or not usable:
            return self._choose(hooks, alternatives)
        index = min(self.way, len(usable)) - 1
        self._passed.update(program.name for programs in usable[:index] for program in programs)
        if any(program.name in self._passed for program in usable[index]):
            return None, ["not by the best hooks this time"]
        return usable[index], []


def rows_of(report: Any) -> Iterable[Any]:
    """The rows of an interval's report, whichever form it has."""
    if isinstance(report, tuple) and hasattr(report, "_fields"):
        report = next((part for part in report if isinstance(part, (list, tuple, dict))), ())
    return report.values() if isinstance(report, dict) else report


class Judged(NamedTuple):
    """What came of a line: is it right, its numbers, its remarks; and what the tool itself said."""

    good: bool
    numbers: str
    remarks: str
    said: Sequence[str] = ()


def run(line: Line, stage: Stage) -> Judged:
    """One line of the table."""
    whose = {"pid": stage.actor.pid} if line.cause in BY_THE_ACTOR else {"uid": NOBODY} if line.cause == "asks" else {}
    begun = time.monotonic()
    session = getattr(pyebpf, line.verb)(**line.options, **whose)
    attached = time.monotonic()
    try:
        least = getattr(stage, line.cause)()
        if hasattr(session, "interval"):
            seen = len([*rows_of(session.interval())])
        else:
            found = [*session.drain()]
            ours = [event for event in found if getattr(event, "pid", None) in stage.pids]
            ours += [event for event in found if getattr(event, "ppid", None) in stage.pids]
            seen = len(found) if line.verb in ("tcpdrop", "tcpretrans", "capable") else len(ours)
        losses = {name: number for name, number in session.losses._asdict().items() if number}
        closing = time.monotonic()
        session.detach()
        closed = time.monotonic()
    finally:
        session.close()
    used = " ".join(getattr(session._events, "used", ()))
    numbers = f"{(attached - begun) * 1000:6.0f} {(closed - closing) * 1000:6.0f} {seen:5} {least:5}"
    remarks = [*(f"LOST {losses}" if losses else "",), *session.notes, f"[{used[:150]}]"]
    # That the kernel skips a program while one runs on that CPU is the kernel's, and told; whose it was isn't known:
    # were it one of ours, it would be missing in what was seen
    good = seen >= least and not losses.keys() - {"missed"}
    return Judged(good, numbers, "; ".join(filter(None, remarks)), session.notes)


def refusal(line: Line, why: Unsupported) -> Judged:
    """What the command says to what this kernel can't."""
    options = [f"--{name.replace('_', '-')}" for name in line.options]
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", line.verb, "-d", "0.3", *options], capture_output=True, text=True,
        timeout=DEADLINE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    good = done.returncode == exits.UNSUPPORTED and len(done.stderr.splitlines()) <= 4
    said = done.stderr.splitlines() or [str(why)]
    return Judged(good, "refused", f"exit code {done.returncode}: {' | '.join(said)[:400]}", said)


def judged(line: Line, stage: Stage) -> Judged:
    signal.alarm(DEADLINE)
    try:
        return run(line, stage)
    except Unsupported as error:
        return refusal(line, error)
    except (Error, OSError, AssertionError, TimeoutError, KeyError, subprocess.SubprocessError) as error:
        return Judged(False, "ERROR", f"{type(error).__name__}: {' | '.join(str(error).splitlines()[-6:])[:600]}")
    finally:
        signal.alarm(0)


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as folder, traffic.wire() as (left, right), causes.actor("actor") as actor:
        causes.own_mounts(actor)
        yield Stage(left, right, actor, Path(folder))


def late(*_: object) -> None:
    raise TimeoutError("took too long")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args(arguments)
    rows = []
    ways = Ways()
    kernel_events.choose = ways.choose
    signal.signal(signal.SIGALRM, late)
    wrong = 0
    print(f"Linux {platform.release()}", flush=True)
    print(f"{'TOOL':24} HOOKS {'ATTACH':>6} {'DETACH':>6} {'SEEN':>5} {'LEAST':>5}  REMARKS", flush=True)
    with staged() as stage:
        for line in LINES:
            if options.words and not any(word in line.verb for word in options.words):
                continue
            name = " ".join([line.verb, *line.options])[:24]
            way = most = 1
            while way <= most:
                ways.begin(way)
                good, numbers, remarks, said = judged(line, stage)
                wrong += not good
                print(f"{name:24} {way:5} {numbers:25}  {'' if good else 'WRONG '}{remarks}", flush=True)
                came = "wrong" if not good else "refused" if numbers == "refused" else "works"
                rows.append({"tool": line.verb, "options": [*line.options], "way": way, "came": came,
                             "said": [*said] if good else [remarks]})  # fmt: skip
                if not options.best and numbers != "refused":
                    most = max(most, ways.most)
                way += 1
    print(f"{wrong} wrong", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"kernel": platform.release(), "rows": rows}))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
