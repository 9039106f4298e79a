# SPDX-License-Identifier: BSD-2-Clause
"""What the commands that count transfers of data have in common."""

from __future__ import annotations

from pyebpf.cli.events import EventRun
from pyebpf.cli.tracing import counted, say
from pyebpf.tools.events import EventLosses


class TransferRun(EventRun):
    """One run of a tool that counts what is sent or received, and loses transfers rather than events."""

    def _losses(self) -> EventLosses:
        losses: EventLosses = self.session.losses
        if losses.untracked:
            say(f"lost: {counted(losses.untracked, 'transfer')} not counted, as the kernel's table was full")
        if losses.missed:
            say(f"lost: perhaps {counted(losses.missed, 'transfer')}, as the kernel skipped a program at work already")
        return losses
