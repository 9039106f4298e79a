# SPDX-License-Identifier: BSD-2-Clause
"""Looks up host names from a name server that never answers: in a network and a mount namespace of its own.

``unshare --net --mount python lookups.py``
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (
            ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
            ("nsswitch.conf", "hosts: dns\n"),
        ):
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(text)
            if os.path.exists(f"/etc/{name}"):
                subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 53))
            print("ready", flush=True)
            for _ in range(600):
                with contextlib.suppress(OSError):
                    socket.getaddrinfo("slow.example", 80, type=socket.SOCK_STREAM, family=socket.AF_INET)


main()
