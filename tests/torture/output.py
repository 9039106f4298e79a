# SPDX-License-Identifier: BSD-2-Clause
"""The tracer's standard descriptors: full, closed, read by nobody, of a terminal that is gone; a tracer that stops."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import termios
import time
from collections.abc import Callable

import targets
from torture.case import Outcome, case
from torture.subjects import TOOLS, Ended, Subjects, Tracer, endless, native, times


def _closed(*fds: int) -> Callable[[], None]:
    def close() -> None:
        for fd in fds:
            os.close(fd)

    return close


def _full(words: tuple[str, ...]) -> Ended:
    with open("/dev/full", "wb") as full:
        return Tracer(words, ready=False, stdout=full).end()


def _unread(words: tuple[str, ...]) -> Ended:
    """The reader is gone."""
    read, write = os.pipe()
    os.close(read)
    tracer = Tracer(words, ready=False, stdout=write)
    os.close(write)
    return tracer.end()


def _hangup(words: tuple[str, ...]) -> Ended:
    """It runs in a terminal that goes away while it traces."""
    ours, its = pty.openpty()
    tracer = Tracer(
        endless(words), stdin=its, stdout=its, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(its)
    tracer.wait_ready()
    os.close(ours)
    return tracer.end()


# What befalls it -> how it is run, and what its exit code may be
FAULTS: dict[str, tuple[Callable[[tuple[str, ...]], Ended], tuple[int, ...]]] = {
    "stdout full": (_full, (1,)),
    "stdout's reader gone": (_unread, (0,)),
    "stdin closed": (lambda words: Tracer(words, ready=False, preexec_fn=_closed(0)).end(), (0,)),
    "stdout closed": (lambda words: Tracer(words, ready=False, preexec_fn=_closed(1)).end(), (0,)),
    "stderr closed": (lambda words: Tracer(words, ready=False, preexec_fn=_closed(2)).end(), (0,)),
    "stdout, stderr closed": (lambda words: Tracer(words, ready=False, preexec_fn=_closed(1, 2)).end(), (0,)),
    "all closed": (lambda words: Tracer(words, ready=False, preexec_fn=_closed(0, 1, 2)).end(), (0,)),
    "terminal gone": (_hangup, (0, 1)),
}


@case("tracer's output", group="Tracer", variants=tuple(FAULTS), short=("terminal gone",))
def output(scale: float, fault: str) -> Outcome:
    """Each tool, with a standard descriptor that is no good."""
    run, codes = FAULTS[fault]
    tools = [tool for tool in TOOLS if tool != "export"][: times(scale, 5, 2)]  # its standard output stays empty
    rounds = times(scale, 2)
    with Subjects() as subjects:
        for tool in tools * rounds:
            ended = run(TOOLS[tool](subjects))
            assert ended.code in codes and "Traceback" not in ended.error, (tool, ended)
            subjects.check()
    return Outcome(len(tools) * rounds, "runs", subjects.checks)


@case("tracer nobody reads", group="Tracer", variants=("SIGTERM", "SIGINT"), short=("SIGTERM",))
def nobody_reads(scale: float, name: str) -> Outcome:
    """A pipe that is full and stays so: the target goes on; told to end, the tracer takes its probes out at once, and
    ends when it is told once more, or when it is read."""
    calls = times(scale, 30_011, 10_007)
    checks = {}
    with targets.run(targets.compiled("calls.c"), "-n", str(calls), "-w", "hot") as target:
        read, write = os.pipe()
        words = ("trace", "--json", "-p", str(target.pid), ":hot", "arg0")
        tracer = Tracer(words, stdout=write)
        os.close(write)
        assert tracer.wait_ready()
        target.begin()
        checks["calls beside a full pipe"] = (target.first_line()["calls"]["hot"], calls)
        tracer.process.send_signal(signal.Signals[name])
        targets.until(lambda: tracer.phase() != "tracing", "it still has its probes")
        records = []
        with open(read) as pipe:
            for line in pipe:
                records.append(json.loads(line))
        ended = tracer.end()
        assert ended.code == 0 and records[-1]["type"] == "end", ended
        shown = sum(record["type"] == "call" for record in records)
        checks["shown + lost"] = (shown + records[-1]["losses"]["dropped"], calls)
    with targets.run(targets.compiled("calls.c"), "-n", "10007", "-w", "hot") as target:
        read, write = os.pipe()
        tracer = Tracer(("trace", "-p", str(target.pid), ":hot", "arg0"), stdout=write)
        os.close(write)
        assert tracer.wait_ready()
        target.begin()
        checks["calls of the second"] = (target.first_line()["calls"]["hot"], 10007)

        def told_again() -> bool:
            tracer.process.send_signal(signal.Signals[name])
            time.sleep(0.3)
            return tracer.process.poll() is not None

        targets.until(told_again, "it can't be ended")
        os.close(read)
        assert tracer.end().code == 130
    return Outcome(calls + 10007, "calls", checks)


@case("tracer stopped", group="Tracer", variants=("trace", "funcslower", "opensnoop"), short=("trace",))
def stopped(scale: float, tool: str) -> Outcome:
    """SIGSTOP for seconds under load, with buffers that overflow meanwhile: shown + lost = made."""
    seconds = 3 * max(scale, 0.1)
    with targets.run(native(), "-r", "20000") as target:
        words = {
            "trace": ("trace", "--json", "-p", str(target.pid), f"{target.path}:step_*", "arg0", "--buffer", "64K"),
            "funcslower": ("funcslower", "--json", "-u", "0", "-p", str(target.pid), f"{target.path}:text"),
            "opensnoop": ("opensnoop", "--json", "-p", str(target.pid)),
        }[tool]
        tracer = Tracer(words)
        assert tracer.wait_ready(), tracer.end()
        target.begin()
        for _ in range(times(scale, 3)):
            tracer.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            tracer.process.send_signal(signal.SIGCONT)
            time.sleep(0.2)
        truth = target.go()
        ended = tracer.end(signal.SIGINT)
    assert ended.code == 0, ended
    records = [json.loads(line) for line in ended.out.splitlines()]
    shown = sum(record["type"] not in ("attached", "end") for record in records)
    lost = records[-1]["losses"]
    if tool == "opensnoop":
        shown = sum(record.get("path") == "/etc/hostname" for record in records)
    made = {"trace": truth["calls"]["step"], "funcslower": truth["calls"]["text"], "opensnoop": truth["opened"]}[tool]
    checks = {"shown + lost": (shown + lost["dropped"], made), "checksum": (truth["checksum"], truth["expected"])}
    return Outcome(made, "events", checks, f"{lost['dropped']} lost")
