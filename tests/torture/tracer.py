# SPDX-License-Identifier: BSD-2-Clause
"""The tracer dies, is told to end, can't write, is stopped: at any moment."""

from __future__ import annotations

import signal
import statistics
import time
from collections import Counter

import targets
from torture.case import Outcome, altered, case
from torture.subjects import SIGNALS, STEPS, TOOLS, Ended, Subjects, Tracer, endless, seeded, times

KILLS = 34  # a tool: 204 in all
SENT = 30  # of each signal
AT_PROBES = 204


class Moments:
    """How long a tool's run takes here, from which random moments are drawn.

    Attributes:
        start: seconds from its start until it traces.
        end: from SIGINT until it is gone.
    """

    def __init__(self, words: tuple[str, ...], rounds: int) -> None:
        starts, ends = [], []
        for _ in range(rounds):
            tracer = Tracer(words)
            assert tracer.wait_ready(), tracer.end()
            starts.append(time.monotonic() - tracer.began)
            asked = time.monotonic()
            ended = tracer.end(signal.SIGINT)
            assert ended.code == 0, ended
            ends.append(time.monotonic() - asked)
        self.start, self.end = statistics.median(starts), statistics.median(ends)

    def strike(self, words: tuple[str, ...], number: int, dice: float, when: float) -> tuple[str, Ended, bool]:
        """Starts the tool and sends it a signal at a random moment.

        Args:
            dice, when: random numbers below 1: in which part of its run, and when in that.

        Returns:
            what it was at, how it ended, whether it traced when the signal came.
        """
        tracer = Tracer(words)
        if dice < 0.6:
            time.sleep(when * self.start * 1.1)
        elif tracer.wait_ready():
            if dice < 0.7:
                time.sleep(when * 0.05)
            else:
                tracer.process.send_signal(signal.SIGINT)
                time.sleep(when * self.end * 1.1)
        phase, was_ready = tracer.phase(), tracer.is_ready()
        if dice >= 0.7 and phase in ("tracing", "loading", "reading"):
            phase = "ending"
        tracer.process.send_signal(number)
        if number == signal.SIGPIPE or (number == signal.SIGHUP and "export" in words):  # ignored; read the file again
            time.sleep(0.01)
            tracer.process.send_signal(signal.SIGINT)
        return phase, tracer.end(), was_ready


def _strikes(
    tools: list[str], number: int, count: int, scale: float
) -> tuple[Subjects, list[tuple[str, str, Ended, bool]], str]:
    rng, seed = seeded()
    struck = []
    with Subjects() as subjects:
        commands = {tool: endless(TOOLS[tool](subjects)) for tool in tools}
        moments = {tool: Moments(words, 3 if scale >= 0.5 else 1) for tool, words in commands.items()}
        for attempt in range(count):
            tool = tools[attempt % len(tools)]
            phase, ended, ready = moments[tool].strike(commands[tool], number, rng.random(), rng.random())
            struck.append((tool, phase, ended, ready))
            subjects.check()
    phases = Counter(phase for _, phase, _, _ in struck)
    notes = [f"{phase} {phases[phase]}" for phase in phases]
    return subjects, struck, ", ".join([*notes, seed])


@case("tracer killed", group="Tracer", variants=tuple(TOOLS), short=("funccount", "export"), deadline=900)
def killed(scale: float, tool: str) -> Outcome:
    """SIGKILL at random moments."""
    subjects, struck, note = _strikes([tool], signal.SIGKILL, times(scale, KILLS, 2), scale)
    wrong = [ended for _, _, ended, _ in struck if ended.code not in (-signal.SIGKILL, 0)]
    assert not wrong, wrong
    return Outcome(len(struck), "kills", subjects.checks, note)


@case("tracer killed at its probes", group="Tracer", variants=("placing", "taking out"), deadline=900)
def killed_at_probes(scale: float, what: str) -> Outcome:
    """SIGKILL while the kernel places one breakpoint after the other, or takes them out: none may stay."""
    rng, seed = seeded()
    count, midway = times(scale, AT_PROBES, 10), 0
    with Subjects() as subjects:
        target = subjects.native
        for _ in range(count):
            tracer = Tracer(("funccount", "-p", str(target.pid), ":step_*"))
            before = 0
            if what == "taking out":
                assert tracer.wait_ready(), tracer.end()
                before = altered(target.pid, target.path)
                assert before == STEPS, before
                tracer.process.send_signal(signal.SIGINT)
            targets.until(lambda: altered(target.pid, target.path) != before, "it doesn't begin")  # noqa: B023
            time.sleep(rng.random() * 0.002)  # a moment to strike at, not to wait for anything
            tracer.process.kill()
            midway += 0 < altered(target.pid, target.path) < STEPS
            tracer.end()
            subjects.check()
    return Outcome(count, "kills", subjects.checks, f"breakpoints were being worked on at {midway} of them, {seed}")


@case("tracer told to end", group="Tracer", variants=[s.name for s in SIGNALS], short=("SIGTERM",), deadline=900)
def told(scale: float, name: str) -> Outcome:
    """By each signal, at random moments, each tool: it reports and ends, with an exit code that says so."""
    number = signal.Signals[name]
    tools = list(TOOLS) if scale >= 0.5 else ["trace"]
    subjects, struck, note = _strikes(tools, number, times(scale, SENT, 2), scale)
    for tool, phase, ended, ready in struck:
        where = f"{tool}, {phase}: {ended}"
        if number == signal.SIGQUIT:
            assert ended.code in (-signal.SIGQUIT, 0), where
        elif ready:  # 130: it had been told before
            assert ended.code in (0, 130), where
            assert "Traceback" not in ended.error, where
        else:  # it died of it, or said that it ends early; 1: Python itself was starting
            early = (1,) if phase == "starting" and "in entry" not in ended.error else ()
            assert ended.code in (-number, -signal.SIGINT, 130, 0, *early), where
    return Outcome(len(struck), "signals", subjects.checks, note)
