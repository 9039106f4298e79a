# SPDX-License-Identifier: BSD-2-Clause
"""What is asked of every host: run there, by its Python, beside programs to trace; prints the answers as JSON.

    python probe.py FOLDER      FOLDER holds `calls` (tests/programs/calls.c) and `panics` (tests/programs/go/panics)

Needs nothing but Python 3.9 and the installed pyebpf.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

CALLS, ROUNDS = 997, 23
DEADLINE = 120
PYEBPF = [sys.executable, "-m", "pyebpf"]


class Failed(Exception):
    """A check that did not go as it must; says what came instead."""


def complaint(text: str) -> str:
    """What pyebpf said, error and hint, on one line; of anything else the last line."""
    lines = text.strip().splitlines()
    said = [line for line in lines if line.startswith(("pyebpf:", "  hint:"))]
    return " ".join(line.strip() for line in said or lines[-1:])


def run(*arguments: str, code: int = 0) -> str:
    """Runs pyebpf to its end; returns its standard output."""
    done = subprocess.run([*PYEBPF, *arguments], capture_output=True, text=True, timeout=DEADLINE,
                          stdin=subprocess.DEVNULL, check=False)  # fmt: skip
    if done.returncode != code:
        raise Failed(complaint(done.stderr) or f"exit code {done.returncode}")
    return done.stdout


def records(output: str, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [record for record in found if record.get("type") in kinds]


def same(seen: Any, truth: Any) -> None:
    if seen != truth:
        raise Failed(f"{seen!r} instead of {truth!r}")


def during(arguments: Sequence[str], act: Callable[[], None]) -> list[dict[str, Any]]:
    """Starts a tool, acts once it is ready, interrupts it; returns all its records."""
    ready, told = os.pipe()
    process = subprocess.Popen([*PYEBPF, arguments[0], "--json", "--ready-fd", str(told), *arguments[1:]],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               pass_fds=[told])  # fmt: skip
    os.close(told)
    with os.fdopen(ready, "rb") as end, process:
        try:
            if end.read(1) != b"\n":
                raise Failed(complaint(process.communicate(timeout=DEADLINE)[1]))
            act()
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=DEADLINE)
            if process.returncode not in (0, 130):
                raise Failed(complaint(error))
        finally:
            process.kill()
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def one(found: list[dict[str, Any]]) -> dict[str, Any]:
    if len(found) != 1:
        raise Failed(f"{len(found)} events instead of one")
    return found[0]


# The checks, in the table's order


def doctor(folder: str) -> str:
    done = subprocess.run([*PYEBPF, "doctor", "--json"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    if done.returncode not in (0, 5):
        raise Failed(complaint(done.stderr) or f"exit code {done.returncode}")
    facts = json.loads(done.stdout)
    if not facts["works"]:
        wrong = [f"{check['name']}: {check['reason']}" for check in facts["checks"] if not check["works"]]
        raise Failed("; ".join(wrong[:2]))
    return next(check["reason"] for check in facts["checks"] if check["name"] == "libbpf")


def funccount(folder: str) -> str:
    command = f"{folder}/calls -n {CALLS} hot"
    ((counts,),) = (record["counts"] for record in records(run("funccount", "--json", "-c", command, ":hot"), "counts"))
    same((counts["function"], counts["count"]), ("hot", CALLS))
    lines = [line.split() for line in run("funccount", "-c", command, ":hot").splitlines()]
    if ["hot", str(CALLS)] not in lines:
        raise Failed("the table of text doesn't show the count")
    return f"{CALLS} of {CALLS} calls"


def funclatency(folder: str) -> str:
    output = run("funclatency", "--json", "-c", f"{folder}/calls -n {CALLS} hot", ":hot")
    (histogram,) = records(output, "histogram")
    same(histogram["count"], CALLS)
    return f"{CALLS} of {CALLS} calls"


def arguments(folder: str) -> str:
    output = run("trace", "--json", "-c", f"{folder}/calls -n {ROUNDS} hot", ":hot", "i", "--ret", "retval")
    calls = [(call["args"]["i"], call["ret"]["retval"]) for call in records(output, "call")]
    same(calls, [(i, i * 3 + 1) for i in range(ROUNDS)])
    return "arguments and results of each call"


def go(folder: str) -> str:
    command = f"{folder}/panics -n {ROUNDS}"
    ((counts,),) = (r["counts"] for r in records(run("funccount", "--json", "-c", command, ":main.after"), "counts"))
    same(counts["count"], ROUNDS)
    calls = records(run("trace", "--json", "-c", command, ":main.panicking", "i"), "call")
    same([call["args"]["i"] for call in calls], [*range(ROUNDS)])
    return "calls and their arguments"


def tcpconnect(folder: str) -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = during(["tcpconnect"], lambda: socket.create_connection(("127.0.0.1", port)).close())
    event = one([record for record in found if record.get("dport") == port])
    same((event["daddr"], event["error"]), ("127.0.0.1", None))
    return "the connection"


def execsnoop(folder: str) -> str:
    command = [f"{folder}/calls", "-n", str(ROUNDS), "hot"]
    found = during(["execsnoop"], lambda: subprocess.run(command, stdout=subprocess.DEVNULL,
                                                         stdin=subprocess.DEVNULL, check=True))  # fmt: skip
    event = one([record for record in found if record.get("argv") == command or record.get("args") == command])
    same(event["comm"], "calls")
    return "the program and its arguments"


def opensnoop(folder: str) -> str:
    with tempfile.NamedTemporaryFile() as file:
        found = during(["opensnoop"], lambda: open(file.name).close())
        event = one([record for record in found if record.get("path") == file.name])
    same((event["pid"], event["errno"]), (os.getpid(), 0))
    return "the file"


API = """
import sys, pyebpf
from pyebpf.target.command import Command
with Command([sys.argv[1], "-n", sys.argv[2], "hot"]) as command, pyebpf.count(":hot", command=command) as counts:
    command.release()
    command.wait()
    print("counted", counts.snapshot()["hot"])
"""


def api(folder: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", API, f"{folder}/calls", str(CALLS)],
                          capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL,
                          check=False)  # fmt: skip
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["no output"])[-1])
    same(done.stdout.splitlines()[-1], f"counted {CALLS}")
    return f"{CALLS} of {CALLS} calls"


CHECKS: dict[str, Callable[[str], str]] = {
    "doctor": doctor, "funccount": funccount, "funclatency": funclatency, "trace": arguments, "Go": go,
    "tcpconnect": tcpconnect, "execsnoop": execsnoop, "opensnoop": opensnoop, "Python API": api,
}  # fmt: skip


def main() -> None:
    answers = {}
    for name, check in CHECKS.items():
        try:
            answers[name] = (True, check(sys.argv[1]))
        except Failed as error:
            answers[name] = (False, str(error))
        except Exception as error:  # what it said instead of what a check expects
            answers[name] = (False, f"{type(error).__name__}: {error}")
    print(json.dumps({"python": sys.version.split()[0], "answers": answers}))


if __name__ == "__main__":
    main()
