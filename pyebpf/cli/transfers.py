# SPDX-License-Identifier: BSD-2-Clause
"""What the commands that count transfers of data have in common."""

from __future__ import annotations

from pyebpf.cli.events import EventRun
from pyebpf.cli.tracing import counted
from pyebpf.tools.events import EventLosses


class TransferRun(EventRun):
    """One run of a tool that counts what is sent or received, and loses transfers rather than events."""

    def lost(self, losses: EventLosses) -> list[str]:
        told = (
            (losses.untracked, "lost: {} not counted, as the kernel's table was full"),
            (losses.missed, "lost: perhaps {}, as the kernel skipped a program at work already"),
        )
        return [text.format(counted(number, "transfer")) for number, text in told if number]
