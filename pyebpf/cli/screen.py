# SPDX-License-Identifier: BSD-2-Clause
"""A terminal's window, redrawn in place."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from pyebpf.cli.watch import Watch

_HIDE, _SHOW, _HOME, _TO_END_OF_LINE, _TO_END = "\033[?25l", "\033[?25h", "\033[H", "\033[K", "\033[J"

Draw = Callable[[int, int], Sequence[str]]


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--live", action="store_true",
                        help="a table that is redrawn in place, every second if no interval says else; plain reports "
                        "where standard output is no terminal")  # fmt: skip


def check(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses what makes no sense together, and gives --live its interval."""
    if arguments.live:
        if arguments.json:
            parser.error("--live is for people and --json for programs: give one of them")
        arguments.interval = arguments.interval or 1.0


def usable() -> bool:
    """Can standard output be redrawn in place?"""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """The window, from its making to `close`, which gives the cursor back; so do all signals that end or stop us.

    What was in the window scrolls up. A frame is one write, and overwrites the last without clearing it first.

    Args:
        watch: calls us when the window changes its size.
    """

    def __init__(self, watch: Watch) -> None:
        from pyebpf.output import live  # not where only the option is added

        self._cells = live.cells
        self._watch = watch
        self._fd = sys.stdout.fileno()
        self._draw: Draw = lambda columns, rows: ()
        self._bold = not os.environ.get("NO_COLOR")
        try:
            "█µ…·".encode(sys.stdout.encoding)
            self._table = None
        except UnicodeError:
            self._table = live.ASCII
        sys.stdout.flush()
        watch.last_words = _SHOW.encode()
        watch.on(signal.SIGWINCH, self._redraw)
        for number in (signal.SIGTSTP, signal.SIGQUIT):
            self._stop_at(number)
        self._begun = False

    def show(self, draw: Draw) -> None:
        """Draws a frame.

        Args:
            draw: gives the lines that fit so many columns and rows; the third is printed bold. Called again when the
                window changes its size.
        """
        self._draw = draw
        if not self._begun:
            self._begun = True
            self._write("\n" * (self._size()[1] - 1) + _HIDE)
        self._redraw()

    def close(self) -> None:
        """Leaves the last frame, gives the cursor back."""
        if self._begun:
            self._write(f"\r\n{_SHOW}")
        self._watch.last_words = b""
        for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._fd)
        except OSError:  # the terminal is gone
            columns = rows = 0
        return columns or 80, rows or 24

    def _redraw(self) -> None:
        if not self._begun:
            return
        columns, rows = self._size()
        text = []
        for index, line in enumerate(self._draw(columns, rows)[:rows]):
            # Behind a full line the cursor is still in its last column: erasing would take a character.
            end = _TO_END_OF_LINE if self._cells(line) < columns else ""
            text.append((f"\033[1m{line}\033[0m" if index == 2 and self._bold else line) + end)
        self._write(_HOME + "\r\n".join(text) + _TO_END)

    def _write(self, text: str) -> None:
        data = memoryview((text.translate(self._table) if self._table else text).encode(sys.stdout.encoding, "replace"))
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:  # the terminal is gone; SIGHUP ends the run
            pass

    def _stop_at(self, number: int) -> None:
        self._watch.on(number, lambda: self._stop(number))

    def _stop(self, number: int) -> None:
        """Lets a signal do what it does by default; returns if the shell continues us."""
        self._write(f"\r\n{_SHOW}" if self._begun else "")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        self._stop_at(number)
        self._write(_HIDE if self._begun else "")
        self._redraw()
