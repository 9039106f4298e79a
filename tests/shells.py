# SPDX-License-Identifier: BSD-2-Clause
"""A program that asks for lines on a terminal, and somebody who types them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

import targets


class Shell:
    """An interactive bash, or another program with the prompt "READY> ", on a terminal of its own; for ``with``.

    Attributes:
        pid: its process number.
    """

    def __init__(self, *command: str) -> None:
        command = command or ("bash", "--norc", "-i")
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            # Wider than any line, or it would be drawn again for each character.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 50, 30000, 0, 0))
            os.environ.update(PS1="READY> ", TERM="dumb", HISTFILE="/dev/null")
            os.execvp(command[0], command)
        self._wait_for_prompt()

    def _wait_for_prompt(self) -> None:
        seen, deadline = b"", time.monotonic() + targets.DEADLINE
        while not seen.endswith(b"READY> "):
            assert select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0], seen
            seen += os.read(self._fd, 65536)

    def type(self, text: bytes) -> None:
        """Enters a line and waits for the next prompt."""
        os.write(self._fd, text + b"\n")
        self._wait_for_prompt()

    def close(self) -> None:
        os.close(self._fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
