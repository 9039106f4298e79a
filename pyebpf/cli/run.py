# SPDX-License-Identifier: BSD-2-Clause
"""A run of a function tool: what is traced, what is skipped, and what became of the calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from pyebpf.cli.tracing import Tracing, counted, say
from pyebpf.output.text import safe
from pyebpf.target.command import Command
from pyebpf.target.probe import Skipped
from pyebpf.tools.probes import Losses
from pyebpf.tools.session import Session

_SHOWN_SKIPS = 5
_ROOM = "see --max-keys"


class Run(Tracing[Session]):
    """One traced run of a function tool.

    Args:
        arguments, tool, begin: as `Tracing`'s.
        headline: says what is traced; {functions} and {targets} are filled in.
    """

    def __init__(
        self, arguments: argparse.Namespace, tool: str, begin: Callable[[Command | None], Session], headline: str
    ) -> None:
        super().__init__(arguments, tool, begin)
        self._headline = headline

    def start(self) -> None:
        """Announces the run and lets the command go."""
        targets = ", ".join(f'"{safe(target)}"' for target in self.arguments.targets)
        functions = len(self.session.functions)
        self._begin(self._headline.format(functions=counted(functions, "function"), targets=targets))
        if self.json:
            self.emit(
                "attached",
                tool=self._tool,
                functions=functions,
                targets=list(self.arguments.targets),
                pids=[self.command.pid] if self.command else list(self.arguments.pid),
                skipped=[skip.as_dict() for skip in self.session.skipped],
                notes=list(self.session.notes),
            )

        if self.command or self.arguments.pid:
            self.watch.glance = self.tell_notes

    def _announced(self) -> None:
        self.report_skipped(self.session.skipped)

    def report_skipped(self, skipped: Sequence[Skipped]) -> None:
        for skip in skipped[:_SHOWN_SKIPS]:
            say(f"skipped {safe(skip.name)}: {safe(skip.reason)}")
        if len(skipped) > _SHOWN_SKIPS:
            say(f"skipped {len(skipped) - _SHOWN_SKIPS} more functions (pyebpf ... -l names them all)")

    def lost(self, losses: Losses) -> list[str]:
        told = (
            (losses.dropped, "lost: {} not shown, as the buffer was full"),
            (losses.evicted, "lost: {}, as too many were in progress at once"),
            (losses.refused, "lost: {} whose entry the kernel could not record"),
            (losses.unreadable, "lost: {} whose goroutine could not be read"),
            (losses.undecided, "lost: {} left out, as what the filter asks for could not be read"),
            (losses.uncounted, f"lost: {{}} counted nowhere, as the kernel's table was full ({_ROOM})"),
            (losses.failed, "lost: {} whose value could not be read"),
            (losses.collided, f"counted without a stack: {{}}, as others have its place in the table ({_ROOM})"),
            (losses.rejected, "left out by the filter: {}"),
            (losses.abandoned, "not timed: {} left by a panic, an exception or longjmp"),
            (losses.in_progress, "not timed: {} that had not returned when tracing ended"),
            (losses.unmatched, "not timed: {} that had begun before tracing did"),
        )
        return [text.format(counted(number, "call")) for number, text in told if number]
