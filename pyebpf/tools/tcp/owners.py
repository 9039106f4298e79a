# SPDX-License-Identifier: BSD-2-Clause
"""Whose socket it is: what the programs of bpf/include/owners.bpf.h need, and how their answer reads."""

from __future__ import annotations

from typing import Any, Optional

from pyebpf.tools.events import Need

NEEDS = (
    Need("who connects and listens", (("owner_begins",),)),
    Need("who accepts connections", (("on_accept",), ("exit_accept", "exit_accept4")), optional=True),
    Need("closed sockets", (("owner_ends",),)),
)


def owner_of(actor: Any) -> tuple[Optional[int], Optional[int], Optional[int], Optional[bytes]]:
    """pid, tid, uid and comm of a record's ``struct actor``; None each where nobody is known to own the socket."""
    if not actor.tgid:
        return None, None, None, None
    return actor.tgid, actor.tid, actor.uid, actor.comm
