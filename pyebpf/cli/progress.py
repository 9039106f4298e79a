# SPDX-License-Identifier: BSD-2-Clause
"""A line on the terminal while something takes long."""

from __future__ import annotations

import argparse
import os
import sys
import time
from _thread import allocate_lock, get_ident, start_new_thread
from typing import Any

from pyebpf.output.text import safe

_AFTER = 1.0  # seconds
# What is being done, told by the module that is at work.
_DOING = (
    ("pyebpf.binary.dwarf", "reading debug information"),
    ("pyebpf.binary.signatures", "reading debug information"),
    ("pyebpf.binary", "reading symbols"),
    ("pyebpf.core", "loading and attaching"),
    ("pyebpf.target", "looking for functions"),
)


class Progress:
    """While it is entered, says on standard error what the program does, from the second on; takes it back at the end.
    Nothing where standard error is no terminal, or beside JSON.

    A thread of its own sees what the thread that entered is at, so nothing else has to know of it; starting it takes
    0.1 ms. (A timer's signal would interrupt system calls: the kernel gives up verifying a program then.)
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._wanted = (
            not arguments.json
            and sys.stderr is not None
            and sys.stderr.isatty()
            and os.environ.get("TERM", "dumb") != "dumb"
        )
        targets = getattr(arguments, "targets", None) or ()
        self._of = f' for "{safe(targets[0])[:40]}"' if targets else ""  # in 80 columns: a longer line can't be erased

    def __enter__(self) -> None:
        if self._wanted:
            self._over, self._ended = allocate_lock(), allocate_lock()
            self._over.acquire()
            self._ended.acquire()
            try:
                start_new_thread(self._run, (get_ident(),))
            except RuntimeError:  # no more threads may be
                self._wanted = False

    def __exit__(self, *_: Any) -> None:
        if self._wanted:
            self._over.release()
            self._ended.acquire()

    def _run(self, watched: int) -> None:
        began, shown = time.monotonic(), False
        try:
            while not self._over.acquire(timeout=_AFTER):
                doing = _doing(watched)
                text = f"\r{doing}{self._of}… {time.monotonic() - began:.0f} s\033[K"
                os.write(2, text.encode(sys.stderr.encoding, "replace"))
                shown = True
            if shown:
                os.write(2, b"\r\033[K")
        except OSError:  # the terminal is gone
            pass
        finally:
            self._ended.release()


def _doing(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        for module, doing in _DOING:
            if name == module or name.startswith(f"{module}."):
                return doing
        frame = frame.f_back
    return "preparing"
