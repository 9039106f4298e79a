# SPDX-License-Identifier: BSD-2-Clause
"""How to see what processes send: the programs of bpf/include/sent.bpf.h, and which of them this kernel needs."""

from __future__ import annotations

from pyebpf.tools.events import KernelEvents, Need

SENDS = (
    Need("what is sent", (("on_send_length",), ("after_sendmsg",), ("before_sendmsg", "returned_sendmsg"))),
    # A function of its own until Linux 6.4.
    Need(
        "what sendfile(2) and splice(2) send",
        (("after_sendpage",), ("before_sendpage", "returned_sendpage")),
        optional=True,
        silent=True,
    ),
)


def notes_of(events: KernelEvents) -> list[str]:
    """What is less than exact with the programs that were chosen."""
    if "returned_sendmsg" not in events.used:
        return []
    # Documentation/trace/kprobes.rst, "How Does a Return Probe Work?"
    return ["only a kretprobe tells what is sent here: of many threads that wait in send() at once it misses some"]
