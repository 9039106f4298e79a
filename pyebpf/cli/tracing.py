# SPDX-License-Identifier: BSD-2-Clause
"""What every tool has in common on the command line: begin, wait, end, say what was lost."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pyebpf.cli import descriptors, exits
from pyebpf.cli.progress import Progress
from pyebpf.cli.watch import Watch
from pyebpf.core import shield
from pyebpf.output.text import safe
from pyebpf.target.command import Command

if TYPE_CHECKING:
    from pyebpf.cli.screen import Screen


def say(text: str) -> None:
    """Prints a line for people, on standard error: standard output is for data."""
    if sys.stderr is not None:  # it was closed: `print` would take standard output
        # At one go, as the command that we run may write there, too
        print(f"{text}\n", end="", file=sys.stderr, flush=True)


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


class AnySession(Protocol):
    """What a run asks of a session, whatever it traces."""

    started: float

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def losses(self) -> Any: ...

    def detach(self) -> None: ...

    def close(self) -> None: ...


_Session = TypeVar("_Session", bound=AnySession)


class Tracing(Generic[_Session]):
    """One traced run: the command it starts, the session, and how both end.

    Args:
        arguments: parsed options.
        tool: its name, for JSON.
        begin: makes the session from a not yet running command (or None).

    Attributes:
        screen: the window that reports are drawn in while the run lasts; None if they are printed.
    """

    def __init__(
        self, arguments: argparse.Namespace, tool: str, begin: Callable[[Command | None], _Session]
    ) -> None:
        self.arguments = arguments
        # JSON lines are for a program to read: what the command prints goes to standard error.
        stdout = 2 if arguments.json else None
        command = getattr(arguments, "command", None)
        self.command = Command(command, stdout) if command else None
        shield.wanted = True
        descriptors.allow_many()
        if getattr(arguments, "buffer", None) is not None:
            os.environ["PYEBPF_BUFFER"] = str(arguments.buffer)  # which the option outranks; see tools/room.py
        try:
            with Progress(arguments):
                self.session = begin(self.command)
        except BaseException:
            if self.command:
                self.command.close()
            raise
        gc.freeze()
        gc.enable()
        self.watch = Watch([self.command.pid] if self.command else getattr(arguments, "pid", ()))
        self.watch.stuck = self.session.detach
        self.json = bool(arguments.json)
        self.screen: Screen | None = None
        self._tool = tool
        self._told: list[str] = []  # of the session's notes

    def _begin(self, headline: str) -> None:
        """Announces the run and lets the command go."""
        say(f"{headline}... Hit Ctrl-C to end.")
        self._announced()
        if self.command:
            self.command.release()
        if self.arguments.ready_fd is not None:
            os.write(self.arguments.ready_fd, b"\n")
        with Progress(self.arguments):
            self.session.notes  # noqa: B018  which may have to be looked for
        self.tell_notes()

    def tell_notes(self) -> None:
        """Says what of the session's notes wasn't said yet; below a live view at its end."""
        if self.screen:
            return
        for note in self.session.notes:
            if note not in self._told:
                self._told.append(note)
                say(f"note: {safe(note)}")

    def _announced(self) -> None:
        """Says what more there is to say before the command begins."""

    def lost(self, losses: Any) -> list[str]:
        """What was lost, in words.

        Args:
            losses: of the session.
        """
        raise NotImplementedError

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
        if getattr(self.arguments, "live", False):
            from pyebpf.cli import screen

            self.screen = screen.Screen(self.watch) if screen.usable() else None
        try:
            self._intervals(report, meanwhile, reports)
        finally:
            if self.screen:
                self.screen.close()
                self.screen = None

    def _intervals(
        self, report: Callable[[bool], None], meanwhile: Callable[[], None] | None, reports: int | None
    ) -> None:
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

    def pace(self) -> Iterator[tuple[float, float]]:
        """For each report when its interval began, in seconds since the session did, and how long it was."""
        before = self.session.started
        while True:
            now = time.monotonic()
            yield before - self.session.started, max(now - before, 1e-9)
            before = now

    def title(self) -> str:
        """What stands above a live view."""
        targets = "".join(f' "{safe(target)}"' for target in getattr(self.arguments, "targets", ()))
        return f"pyebpf {self._tool}{targets} · {time.strftime('%H:%M:%S')}"

    def foot(self) -> str:
        """What stands below a live view: what was lost so far."""
        losses = self.session.losses
        if "in_progress" in losses._fields:  # which isn't lost before the end
            losses = losses._replace(in_progress=0)
        skipped = len(getattr(self.session, "skipped", ()))
        more = [f"skipped: {skipped}"] if skipped else []
        return " · ".join([*(self.lost(losses) or ["nothing lost"]), *more, "Ctrl-C ends"])

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
        reason = self.watch.ended or reason
        if reason == "exit":
            say(self._ended_line())
        losses = self.session.losses
        for line in self.lost(losses):
            say(line)
        self.tell_notes()
        if self.json:
            self.emit("end", reason=reason, elapsed_s=round(time.monotonic() - self.session.started, 3),
                      losses=losses._asdict(), notes=self._told)  # fmt: skip
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
