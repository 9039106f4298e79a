# SPDX-License-Identifier: BSD-2-Clause
"""Something to see for the examples: connections, files, programs, threads, over and over until it is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl  # noqa: F401  # libssl is there to be found
import subprocess
import sys
import threading
import time
import zlib


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    listeners = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
    print("ready", flush=True)
    for _ in range(12_000):  # ten minutes at most
        for listener in listeners:
            with socket.create_connection(listener.getsockname()[:2]) as client:
                accepted, _ = listener.accept()
                client.sendall(zlib.compress(b"x" * 2000))
                accepted.recv(4096)
                accepted.close()
        with open("activity", "w") as file:
            file.write("x" * 2000)
        os.unlink("activity")
        with contextlib.suppress(FileNotFoundError):
            os.stat("nothing")
        with contextlib.suppress(FileNotFoundError), open("nothing"):
            pass
        with contextlib.suppress(OSError):
            socket.getaddrinfo("localhost", 80)
        os.kill(os.getpid(), 0)
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        subprocess.run(["bash", "-c", "/bin/true; /bin/true"], user=1000, cwd="/", check=False)
        time.sleep(0.03)
    sys.exit("it is late")


main()
