# SPDX-License-Identifier: BSD-2-Clause
"""Telling systemd how a service does: the protocol of sd_notify(3), without its library."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Sends lines such as "READY=1" to the service manager, if one waits for them."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@") or (state == "WATCHDOG=1" and "WATCHDOG_USEC" not in os.environ):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto(state.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)
    except OSError:  # it is not ours to judge that nobody listens any more
        pass
