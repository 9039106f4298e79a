# SPDX-License-Identifier: BSD-2-Clause
"""Others at the same functions: bpftrace with its return probe, gdb, strace, a debugger's steps, and ourselves again.

Each comes and goes while the program is at rest between two lines of its input, so that everybody's count is known.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import targets
from torture.case import Outcome, altered, case
from torture.watch import Checks, Watch

import pyebpf

GROUP = "Other tracers"
COUNTED = 1000  # calls with a smaller argument are none of the others': they find out whether they are attached


class Rested:
    """A program that calls works(i) when it is told to, and rests.

    Attributes:
        made: how many calls it made.
    """

    def __init__(self, target: targets.Target) -> None:
        self.target, self.made = target, 0
        target.begin()

    def calls(self, count: int, first: int = COUNTED) -> None:
        self.target.begin(f"{first} {count}")
        self.target.first_line()
        self.made += count


class Bpftrace:
    """bpftrace's uprobe and uretprobe on works."""

    def __init__(self, program: Path, rested: Rested) -> None:
        script = (
            f"uprobe:{program}:works {{ if (arg0 < {COUNTED}) "
            '{ printf("entry\\n") } else { @entries = count() } } '
            f"uretprobe:{program}:works {{ if (retval <= {3 * COUNTED - 2}) "
            '{ printf("return\\n") } else { @returns = count() } }'
        )
        self._process = subprocess.Popen(
            ["bpftrace", "-B", "none", "-e", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        said, deadline = b"", time.monotonic() + targets.DEADLINE
        try:
            while b"entry" not in said or b"return" not in said:
                assert time.monotonic() < deadline and self._process.poll() is None, said
                rested.calls(1, first=0)
                if select.select([self._process.stdout], [], [], 0.05)[0]:
                    said += self._process.stdout.read(1 << 16)
        except BaseException:
            self.kill()
            raise

    def end(self) -> dict[str, int]:
        out, deadline = None, time.monotonic() + targets.DEADLINE
        while out is None:
            assert time.monotonic() < deadline, "bpftrace doesn't end"
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):  # bpftrace 0.17 now and then forgets that it was told
                out, _ = self._process.communicate(timeout=5)
        found = dict(re.findall(r"@(\w+): (\d+)", out.decode()))
        return {name: int(found.get(name, 0)) for name in ("entries", "returns")}

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Gdb:
    """gdb with a breakpoint that counts and goes on."""

    def __init__(self, where: str, pid: int) -> None:
        self._pid = pid
        commands = (
            "set pagination off", "set confirm off", "set debuginfod enabled off", "handle SIGUSR1 stop print nopass",
            "set $hits = 0", f"break {where}", "commands 1\nsilent\nset $hits = $hits + 1\ncontinue\nend", "continue",
        )  # fmt: skip
        self._process = subprocess.Popen(
            ["gdb", "-nx", "-q", "-p", str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            self._say("\n".join(commands))
            assert self._process.stdout is not None
            for line in self._process.stdout:
                if line.endswith("Continuing.\n"):
                    return
            raise AssertionError("gdb ended")
        except BaseException:
            self.kill()
            raise

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, int]:
        os.kill(self._pid, signal.SIGUSR1)
        self._say('printf "hits %d\\n", $hits\ndetach\nquit')
        out, _ = self._process.communicate(timeout=targets.DEADLINE)
        return {"hits": int(out.partition("hits ")[2].split()[0])}

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Ours:
    """All tools of ours."""

    def __init__(self, program: Path, pid: int | None) -> None:
        self._watch = Watch(f"{program}:works", pid=pid)
        self._watch.__enter__()

    def end(self) -> dict[str, int]:
        watch = self._watch
        watch.finish()
        latency = watch.sessions["latency"]
        seen = {
            "count": watch.sessions["count"].snapshot()["works"],
            "latency": latency.snapshot()["works"].count,
            "trace": watch.records["trace", "works"],
            "slower": watch.records["slower", "works"],
        }
        for tool, dropped in ((tool, watch.sessions[tool].losses.dropped) for tool in ("trace", "slower")):
            seen[tool] += dropped
        losses = latency.losses
        assert not losses.lost and not losses.abandoned and not losses.in_progress, losses
        watch.__exit__()
        return seen

    def kill(self) -> None:
        self._watch.__exit__()


def takes_turns(program: Path, come: str, go: str, calls: int, where: str = "works") -> tuple[int, Checks]:
    """Lets tracers come and go in an order, with calls after each step; how many calls were made, and what each saw.

    Args:
        come, go: o and p are ours (by path, by -p), b is bpftrace, g is gdb.
    """
    seen: Checks = {}
    with targets.run(program, "lingers") as target, ExitStack() as stack:
        rested = Rested(target)
        there: dict[str, Ours | Bpftrace | Gdb] = {}
        since: Counter[str] = Counter()
        for name in come:
            before = rested.made
            if name == "b":
                there[name] = Bpftrace(program, rested)
            elif name == "g":
                there[name] = Gdb(where, target.pid)
            else:
                there[name] = Ours(program, target.pid if name == "p" else None)
            stack.callback(there[name].kill)
            since.update({other: rested.made - before for other in there if other in "op" and other != name})
            rested.calls(calls)
            since.update(dict.fromkeys(there, calls))
        for name in go:
            for what, number in there.pop(name).end().items():
                seen[f"{name} {what}"] = number, since[name]
            rested.calls(calls)
            since.update(dict.fromkeys(there, calls))
        changed = altered(target.pid, program)
        truth = target.truth()
        seen["checksum"] = truth["checksum"], truth["expected"]
        seen["calls"] = truth["calls"]["works"], rested.made
        seen["bytes of code changed"] = changed, 0
    return truth["survived"], seen


def in_all_orders(names: str, scale: float, calls: int, where: str = "works") -> Outcome:
    """Every order of coming; who came first goes first, or last."""
    program = targets.compiled("torture/spawns.c")
    orders = [("".join(come), "".join(go)) for come in itertools.permutations(names) for go in (come, come[::-1])]
    survived, sums, wrong = 0, Counter(), {}
    used = orders[: max(1, round(len(orders) * scale))]
    for come, go in used:
        number, checks = takes_turns(program, come, go, calls, where)
        survived += number
        wrong.update({f"{come}-{go} {name}": pair for name, pair in checks.items() if pair[0] != pair[1]})
        sums.update({name: pair[1] for name, pair in checks.items() if name != "checksum"})
    return Outcome(survived, "calls", wrong or {name: (number, number) for name, number in sums.items()},
                   f"{len(used)} orders of coming and going; {LEGEND}")  # fmt: skip


LEGEND = "o, p: ours by path and by -p, b: bpftrace, g: gdb"


@case("bpftrace and ours twice", group=GROUP)
def with_bpftrace(scale: float) -> Outcome:
    """bpftrace has the kernel's return probe on the same function."""
    return in_all_orders("obp", scale, 97)


@case("gdb's breakpoint and ours twice", group=GROUP, short=())
def with_gdb(scale: float) -> Outcome:
    """The breakpoint is on the second instruction. (On a probed one it takes the probe's place, or the probe takes its:
    KNOWN_ISSUES.md.)"""
    program = targets.compiled("torture/spawns.c")
    with pyebpf.count(f"{program}:works") as counts:
        size = counts.functions[0].size
    return in_all_orders("ogp", scale, 23, where=f"*(char *)works+{second_instruction(program, size)}")


def second_instruction(program: Path, size: int) -> int:
    """How far behind the entry of works its second instruction is."""
    for offset in range(1, size):
        try:
            with pyebpf.count(f"{program}:works+{offset}"):
                return offset
        except pyebpf.UnsafeProbe:
            continue
    raise AssertionError("works has one instruction")


@case("strace", group=GROUP, short=())
def with_strace(scale: float) -> Outcome:
    """PTRACE_SYSCALL; it comes and goes."""
    program, rounds = targets.compiled("torture/spawns.c"), max(3, int(61 * scale))
    with targets.run(program, "lingers") as target, tempfile.NamedTemporaryFile() as output:
        with Watch(f"{program}:works", results=True, pid=target.pid) as watch:
            rested = Rested(target)
            for _ in range(rounds):
                tracer = subprocess.Popen(
                    ["strace", "-f", "-o", output.name, "-p", str(target.pid)], stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE, text=True,
                )  # fmt: skip
                assert tracer.stderr is not None and "attached" in tracer.stderr.readline()
                for _ in range(10):
                    rested.calls(23)
                tracer.terminate()
                tracer.communicate(timeout=targets.DEADLINE)
                rested.calls(23)
            truth = target.truth()
            return Outcome(rounds, "times strace came and went", watch.checks(truth))


@case("single steps through probes", group=GROUP)
def stepped(scale: float) -> Outcome:
    """A debugger steps through every instruction, also those with our probes on them."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes, ptrace.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_long
    detach, attach, step = 17, 16, 9
    program, rounds, steps = targets.compiled("torture/spawns.c"), max(1, int(19 * scale)), 0
    with targets.run(program, "lingers") as target, Watch(f"{program}:works", results=True, pid=target.pid) as watch:
        rested = Rested(target)
        for _ in range(rounds):
            assert ptrace(attach, target.pid, None, None) == 0
            os.waitpid(target.pid, 0)
            target.begin(f"{COUNTED} 23")
            while not target.has_answered():
                assert ptrace(step, target.pid, None, None) == 0
                _, status = os.waitpid(target.pid, 0)
                assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP, status
                steps += 1
            target.first_line()
            rested.made += 23
            assert ptrace(detach, target.pid, None, None) == 0
            rested.calls(23)
        truth = target.truth()
        return Outcome(steps, "steps", watch.checks(truth))
