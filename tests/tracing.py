# SPDX-License-Identifier: BSD-2-Clause
"""Runs ``pyebpf`` beside a program that waits for the word, and compares the values it shows with the program's own.

Use::

    with targets.run(program) as target:
        calls, truth = tracing.trace(target, "main.text", ["s", "len(s)"], ["retval"])
    tracing.compare(calls, truth["values"]["main.text"])

What values look like in the truth: tests/programs/go/signatures/main.go.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import targets


@contextmanager
def pyebpf(command: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Starts ``pyebpf COMMAND ARGUMENTS`` and waits until its probes are in place."""
    ready_read, ready_write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "pyebpf", command, "--ready-fd", str(ready_write), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[ready_write],
    ) as process:  # fmt: skip
        os.close(ready_write)
        try:
            with os.fdopen(ready_read, "rb") as ready:
                is_ready = ready.read(1) == b"\n"
            assert is_ready, process.communicate(timeout=targets.DEADLINE)[1]
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def end(process: subprocess.Popen[str]) -> str:
    """Interrupts it as Ctrl-C does; returns what it printed."""
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=targets.DEADLINE)
    assert process.returncode in (0, 130), error
    return out


def records(out: str, kind: str) -> list[dict[str, Any]]:
    """The records of one type among lines of JSON."""
    found = [json.loads(line) for line in out.splitlines()]
    return [record for record in found if record["type"] == kind]


def trace(
    target: targets.Target, function: str, entry: Sequence[str], result: Sequence[str], *options: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Lets the target work under ``pyebpf trace``; returns the calls and the target's truth."""
    returns = [word for expression in result for word in ("--ret", expression)]
    with pyebpf(
        "trace", "--json", "-p", str(target.pid), "-Z", "400", *options, f"{target.path}:{function}", *entry, *returns
    ) as process:
        truth = target.go()
        return records(end(process), "call"), truth


def refused(path: object, function: str, *arguments: str) -> str:
    """What ``pyebpf trace`` says to something it can't answer; it ends before anything is attached."""
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "trace", f"{path}:{function}", *arguments],
        capture_output=True, text=True, timeout=targets.DEADLINE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode not in (0, 1) and not done.stdout, done
    return done.stderr


def unbracketed(function: str) -> str:
    """A Go function's name without its types: main.Sum, of main.Sum[go.shape.int]."""
    return re.sub(r"\[.*\]", "", function)


def compare(calls: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], float_registers: bool = True) -> None:
    """Every value of every call, in order.

    Args:
        float_registers: the calling convention has them; what is in one must be said to be so.
    """
    wrong = []
    assert len(calls) == len(truth), calls
    for number, (call, told) in enumerate(zip(calls, truth)):
        for side, key in (("entry", "args"), ("return", "ret")):
            for expression, value in told[side].items():
                seen = call[key].get(expression, "nothing")
                if not same(value, seen, float_registers):
                    wrong.append(f"call {number} {side} {expression}: is {value!r}, seen {seen!r}")
    assert not wrong, "\n".join(wrong)


def same(value: Any, seen: Any, float_registers: bool = True) -> bool:
    """Is it the value that the truth means?"""
    if isinstance(value, dict):
        if "$pointer" in value:
            return bool(seen == value["$pointer"])
        if "$float" in value:
            return is_absent(seen, "float") if float_registers else bool(seen == value["$float"])
        if "$dynamic" in value:
            return (
                isinstance(seen, dict)
                and seen.get("type") == value["$dynamic"]
                and ("$value" not in value or same(value["$value"], seen.get("value"), float_registers))
            )
        if "$enum" in value:
            return bool(seen == value["$enum"])
        if "$char" in value:
            return bool(seen in (value["$char"], ord(value["$char"])))
        if "$variant" in value:
            return is_variant(value, seen)
        return isinstance(seen, dict) and set(value) == set(seen) and all(same(value[key], seen[key]) for key in value)
    if isinstance(value, list):
        return isinstance(seen, list) and len(value) == len(seen) and all(map(same, value, seen))
    return isinstance(value, bool) == isinstance(seen, bool) and bool(value == seen)


def is_absent(seen: Any, reason: str) -> bool:
    return isinstance(seen, dict) and reason in str(seen.get("absent", ""))


def is_variant(value: dict[str, Any], seen: Any) -> bool:
    """Of a Rust enum: {"Some": [5]}, {"Named": {"id": 1}}, or only the name."""
    name = value["$variant"]
    if "$value" not in value:
        return bool(seen == name)
    if not isinstance(seen, dict) or [*seen] != [name]:
        return False
    return same(value["$value"], seen[name][0] if isinstance(seen[name], list) else seen[name])


def again_if_skipped(test: Any) -> Any:
    """Runs a test of many events once more, twice at most, where it failed and a session said that the kernel skipped
    runs of a program (`losses.missed`): what was skipped can't be shown. From Linux 7.0 on, where that is usual
    (KNOWN_ISSUES.md), it is enough that it was said each time."""
    from pyebpf.core import kernel
    from pyebpf.errors import StateError
    from pyebpf.tools.events import KernelSession

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        for last in (False, False, True):
            missed = []
            close = KernelSession.close

            def closing(session: KernelSession, close: Any = close, missed: list[int] = missed) -> None:
                try:
                    missed.append(session.losses.missed)
                except StateError:  # it was closed before
                    pass
                close(session)

            KernelSession.close = closing  # type: ignore[method-assign]
            try:
                return test(*arguments, **keywords)
            except AssertionError:
                if not any(missed) or (last and kernel.release() < (7, 0)):
                    raise
            finally:
                KernelSession.close = close  # type: ignore[method-assign]

    return run
