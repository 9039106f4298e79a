# SPDX-License-Identifier: BSD-2-Clause
"""Names of what TCP's numbers mean."""

from __future__ import annotations

# include/net/tcp_states.h. NEW_SYN_RECV is the state of a request: a SYN was answered, and no connection exists yet.
STATES = dict(
    enumerate(
        (
            "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
            "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
        ),
        1,
    )
)  # fmt: skip
# The bits of byte 13 of the header (RFC 9293).
FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


def flag_names(flags: int) -> str:
    """ "SYN|ACK"; no flag at all is "0"."""
    return "|".join(name for bit, name in enumerate(FLAGS) if flags >> bit & 1) or "0"
