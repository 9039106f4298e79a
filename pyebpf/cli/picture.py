# SPDX-License-Identifier: BSD-2-Clause
"""Pictures that a run writes when it ends."""

from __future__ import annotations

import argparse
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from pyebpf.cli import exits
from pyebpf.cli.run import Run
from pyebpf.cli.tracing import counted, say, write
from pyebpf.output.text import safe


def check(path: str, option: str, arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuses, before anything is traced, a file that can't be written (exit code 2)."""
    if path == "-":
        if arguments.json or getattr(arguments, "live", False):
            parser.error(f"{option} -: standard output is taken by --json or --live")
        return
    folder = os.path.dirname(path) or "."
    why = ""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            why = "it is there already, and no plain file"
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    if not why and not path:
        why = "a file's name is expected"
    if not why and not os.path.isdir(folder):
        why = f"there is no directory {folder}"
    if not why and not os.access(folder, os.W_OK | os.X_OK):
        why = f"the directory {folder} can't be written to"
    if why:
        parser.error(f"{option} {path}: {why}")


def finish(run: Run, path: str, draw: Callable[[str, str, list[str]], str], kind: str) -> int:
    """Writes a picture and ends the run; returns the exit code.

    Args:
        draw: makes it of a title, a line about the run, and notes.
        kind: what the title begins with.
    """
    session: Any = run.session
    elapsed = time.monotonic() - session.started
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - elapsed))
    targets = ", ".join(f'"{target}"' for target in run.arguments.targets)
    pids = [run.command.pid] if run.command else run.arguments.pid
    about = f"{os.uname().nodename} · {began} · {elapsed:.3g} s"
    about += f" · process {', '.join(map(str, pids[:8]))}{' …' if len(pids) > 8 else ''}" if pids else ""
    notes = run.lost(session.losses)
    if session.skipped:
        notes.append(f"skipped: {counted(len(session.skipped), 'function')}")
    notes += [f"note: {note}" for note in session.notes[:5]]
    picture = draw(f"{kind} {targets}", about, notes)
    if path == "-":
        write(picture)
        return run.finish()
    failed = _replace(path, picture)
    say(f"can't write {safe(path)}: {failed}" if failed else f"Wrote {safe(path)}.")
    return run.finish() or (exits.RUN_TIME_ERROR if failed else exits.TRACED)


def _replace(path: str, text: str) -> str:
    """Writes a file: all of it, or none. Returns why it failed."""
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)[:200]}.{os.getpid()}")
    try:
        with open(beside, "x", encoding="utf-8") as file:
            file.write(text)
        os.rename(beside, path)
    except OSError as error:
        try:
            if not isinstance(error, FileExistsError):  # which is another's
                os.unlink(beside)
        except OSError:
            pass
        return error.strerror or str(error)
    return ""
