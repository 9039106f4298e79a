# SPDX-License-Identifier: BSD-2-Clause
"""What the function tools have in common on the command line: begin, say what is traced, end, say what was lost."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyebpf.cli import exits
from pyebpf.cli.watch import Watch
from pyebpf.output.text import safe
from pyebpf.target.command import Command
from pyebpf.target.probe import Skipped
from pyebpf.tools.probes import Losses
from pyebpf.tools.session import Session

if TYPE_CHECKING:
    from pyebpf.tools.funcslower import SlowCall
    from pyebpf.tools.trace import Call

_SHOWN_SKIPS = 5


def say(text: str) -> None:
    """Prints a line for people, on standard error: standard output is for data."""
    if sys.stderr is not None:  # it was closed: `print` would take standard output
        print(text, file=sys.stderr, flush=True)


def write(text: str) -> None:
    """Prints a long text on standard output, at once and whole.

    Without a buffer (PYTHONUNBUFFERED) `print` forgets the rest of what a signal interrupted.
    """
    if sys.stdout is None:
        return
    sys.stdout.flush()
    output = sys.stdout.buffer
    data = memoryview(text.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))
    while data:
        data = data[output.write(data) :]
    output.flush()


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def call_fields(call: Call | SlowCall, **own: object) -> dict[str, object]:
    """A call as JSON has it; `own`: what only this tool knows of it."""
    return {
        "time_ns": call.time,
        "duration_ns": call.duration,
        "function": call.function.name,
        "path": call.function.path,
        "pid": call.pid,
        "tid": call.tid,
        "comm": call.comm,
        "goroutine": call.goroutine,
        **own,
        "user_stack": [frame.name for frame in call.user_stack],
        "kernel_stack": [frame.name for frame in call.kernel_stack],
        "stack_error": call.stack_error,
    }


class Run:
    """One traced run: the command it starts, the session, and how both end.

    Args:
        arguments: parsed options.
        tool: its name, for JSON.
        begin: makes the session from a not yet running command (or None).
        headline: says what is traced; {functions} and {targets} are filled in.
    """

    def __init__(
        self, arguments: argparse.Namespace, tool: str, begin: Callable[[Command | None], Session], headline: str
    ) -> None:
        self.arguments = arguments
        # JSON lines are for a program to read: what the command prints goes to standard error.
        stdout = 2 if arguments.json else None
        self.command = Command(arguments.command, stdout) if arguments.command else None
        self._skips_shown = False
        try:
            self.session = begin(self.command)
        except BaseException:
            if self.command:
                self.command.close()
            raise
        self.watch = Watch([self.command.pid] if self.command else arguments.pid)
        self.json = bool(arguments.json)
        self._tool, self._headline = tool, headline

    def start(self) -> None:
        """Announces the run and lets the command go."""
        targets = ", ".join(f'"{safe(target)}"' for target in self.arguments.targets)
        functions = len(self.session.functions)
        say(f"{self._headline.format(functions=counted(functions, 'function'), targets=targets)}... Hit Ctrl-C to end.")
        self.report_skipped(self.session.skipped)
        if self.command:
            self.command.release()
        if self.arguments.ready_fd is not None:
            os.write(self.arguments.ready_fd, b"\n")
        for note in self.session.notes:
            say(f"note: {safe(note)}")
        if self.json:
            self.emit(
                "attached",
                tool=self._tool,
                functions=functions,
                targets=list(self.arguments.targets),
                pids=[self.command.pid] if self.command else list(self.arguments.pid),
                skipped=[skip._asdict() for skip in self.session.skipped],
                notes=list(self.session.notes),
            )

    def report_skipped(self, skipped: Sequence[Skipped]) -> None:
        for skip in skipped[:_SHOWN_SKIPS]:
            say(f"skipped {safe(skip.name)}: {safe(skip.reason)}")
        if len(skipped) > _SHOWN_SKIPS:
            say(f"skipped {len(skipped) - _SHOWN_SKIPS} more functions (pyebpf ... -l names them all)")

    def emit(self, kind: str, **fields: object) -> None:
        """Prints a JSON line."""
        from pyebpf.output import jsonl

        print(jsonl.line(kind, **fields), flush=True)

    def deadline(self) -> float | None:
        """When the duration is over, in seconds of CLOCK_MONOTONIC."""
        return None if self.arguments.duration is None else self.session.started + self.arguments.duration

    def intervals(
        self,
        report: Callable[[bool], None],
        meanwhile: Callable[[], None] | None = None,
        reports: int | None = None,
    ) -> None:
        """Calls `report(last)` every interval and at the end.

        Args:
            meanwhile: called now and then between reports.
            reports: the most there are.
        """
        interval, deadline = self.arguments.interval, self.deadline()
        due = self.session.started
        while True:
            due += interval or 0
            last = interval is None or (deadline is not None and due >= deadline - 1e-6)
            ended = self._wait(deadline if last else due, meanwhile) == Watch.ENDED
            if reports is not None:
                reports -= 1
            last = last or ended or reports == 0
            if last:
                self.session.detach()  # so that what is reported is all there is
            report(last)
            if last:
                return

    def _wait(self, until: float | None, meanwhile: Callable[[], None] | None) -> str:
        pause = 0.005
        while meanwhile:
            now = time.monotonic()
            if until is not None and until - now <= pause:
                break
            state = self.watch.wait(now + pause)
            if state != Watch.TIME:
                return state
            now = time.monotonic()
            meanwhile()
            # Often at first, as a command may be over soon; never for more than a tenth of the time.
            pause = max(min(2 * pause, 0.5), 10 * (time.monotonic() - now))
        return self.watch.wait(until)

    def finish(self, reason: str = "duration") -> int:
        """Ends the run: says why, and what was lost. Returns the exit code.

        Args:
            reason: why it ended, if it wasn't a signal, the end of what is traced, or a closed pipe.
        """
        losses = self.session.losses
        reason = self.watch.ended or reason
        if reason == "exit":
            say(self._ended_line())
        self.report_losses(losses)
        if self.json:
            self.emit("end", reason=reason, elapsed_s=round(time.monotonic() - self.session.started, 3),
                      losses=losses._asdict())  # fmt: skip
        self.session.close()
        if self.command:
            self.command.close()
        return exits.TRACED

    def _ended_line(self) -> str:
        if self.command is None:
            return "The traced process has ended."
        self.command.poll()
        code = self.command.returncode
        return f"The command has ended{'' if code is None else f', exit status {code}'}."

    def report_losses(self, losses: Losses) -> None:
        for number, text in (
            (losses.dropped, "lost: {} not shown, as the buffer was full"),
            (losses.evicted, "lost: {}, as too many were in progress at once"),
            (losses.refused, "lost: {} whose entry the kernel could not record"),
            (losses.unreadable, "lost: {} whose goroutine could not be read"),
            (losses.undecided, "lost: {} left out, as what the filter asks for could not be read"),
            (losses.uncounted, "lost: {} counted nowhere, as the kernel's table was full"),
            (losses.failed, "lost: {} whose value could not be read"),
            (losses.collided, "counted without a stack: {}, as others have their place in the kernel's table"),
            (losses.rejected, "left out by the filter: {}"),
            (losses.abandoned, "not timed: {} left by a panic, an exception or longjmp"),
            (losses.in_progress, "not timed: {} that had not returned when tracing ended"),
            (losses.unmatched, "not timed: {} that had begun before tracing did"),
        ):
            if number:
                say(text.format(counted(number, "call")))
