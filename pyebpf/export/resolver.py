# SPDX-License-Identifier: BSD-2-Clause
"""Resolving targets in a process of its own.

Binaries are somebody else's: one that makes the parser take all memory, or is cut short while it is mapped (SIGBUS),
ends that process and not the agent. What parsing takes is given back to the system, and the agent stays small.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import pyebpf
from pyebpf import errors
from pyebpf.target.probe import Resolution

_SECONDS = 120
_MEMORY = 2 << 30
_MOST_BYTES = 256 << 20

# -I and the path given by hand: nothing is imported from the working directory.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from pyebpf.export import resolver; resolver.serve()"


class Question(NamedTuple):
    """What `pyebpf.target.resolve.resolve` is asked."""

    targets: tuple[str, ...]
    pids: tuple[int, ...]
    regex: bool
    returns: bool
    max_probes: int
    allow_uretprobe: bool


class Answer(NamedTuple):
    """What it says.

    Attributes:
        resolution: without images.
        notes: the resolution's, with those about calls that are not seen.
        missing: targets that nothing matches, beside others that were found; each with the reason.
    """

    resolution: Resolution
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def ask(question: Question) -> Answer:
    """Resolves in a process of its own.

    Raises:
        as `resolve`; Error: the process failed.
    """
    ours = os.path.dirname(os.path.dirname(pyebpf.__file__))  # an editable install may have it in no path
    command = [sys.executable, "-I", "-S", "-c", _CHILD, ours, *(path for path in sys.path if path)]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise errors.Error(f"can't start {sys.executable}, to read the program with: {error.strerror}") from None
    with process as child:
        try:
            output, _ = child.communicate(pickle.dumps(question), timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            raise errors.Error(f"reading {question.targets[0]} took more than {_SECONDS} s and was given up") from None
    if child.returncode or not output:
        how = f"died of signal {-child.returncode}" if child.returncode < 0 else f"ended with {child.returncode}"
        raise errors.Error(f"what reads {question.targets[0]} {how}: the file changed meanwhile, or is malformed")
    answer = pickle.loads(output)
    if isinstance(answer, Answer):
        return answer
    name, message, hint = answer
    kind = getattr(errors, name, errors.Error)
    if issubclass(kind, (errors.TargetError, errors.TargetNotFound, errors.PermissionDenied)):
        raise kind(message, hint=hint)
    raise errors.Error(message, hint=hint)


def serve() -> None:
    """The process: a question on standard input, the answer on standard output."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    _die_first()
    result: Answer | tuple[str, str, str | None]
    try:
        result = _answer(pickle.loads(sys.stdin.buffer.read(_MOST_BYTES)))
    except errors.Error as error:
        result = type(error).__name__, str(error), error.hint
    except MemoryError:
        result = "Error", f"reading it takes more than {_MEMORY >> 30} GiB of memory", None
    except Exception as error:
        result = "Error", f"a fault in pyebpf: {type(error).__name__}: {error}", None
    sys.stdout.buffer.write(pickle.dumps(result))


def _die_first() -> None:
    """Of the two the agent is to survive where memory is short, and this process isn't to survive the agent."""
    import threading

    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
    agent = os.getppid()

    def watch() -> None:
        while os.getppid() == agent:
            time.sleep(0.5)
        os._exit(1)

    try:
        threading.Thread(target=watch, daemon=True).start()
    except RuntimeError:  # no more threads may be; there is still the limit of CPU time
        pass


def _answer(question: Question) -> Answer:
    resolution, missing = _resolve(question)
    notes = (*resolution.notes, *resolution.unseen())
    return Answer(resolution._replace(images={}), notes, missing)


def _resolve(question: Question) -> tuple[Resolution, tuple[str, ...]]:
    """Resolves all targets, or else those that can be: a function that is gone must not cost the others."""
    from pyebpf.target.resolve import resolve

    def resolved(targets: Sequence[str]) -> Resolution:
        return resolve(
            targets, pids=question.pids, regex=question.regex, returns=question.returns,
            max_probes=question.max_probes, allow_uretprobe=question.allow_uretprobe,
        )  # fmt: skip

    try:
        return resolved(question.targets), ()
    except (errors.TargetError, errors.TargetNotFound):
        if len(question.targets) == 1:
            raise
    good, missing = [], []
    for target in question.targets:
        try:
            resolved([target])
            good.append(target)
        except (errors.TargetError, errors.TargetNotFound) as error:
            missing.append(f"{target}: {error}")
    if not good:
        raise errors.TargetNotFound("; ".join(missing))
    return resolved(good), tuple(missing)
