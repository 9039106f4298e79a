# SPDX-License-Identifier: BSD-2-Clause
"""Runs every tool for functions on this kernel by each way of attaching, on C and Go programs that know their calls.

Use (as root; the live tests judge every detail, this tells what a kernel has)::

    python tests/vm/functions.py [--json FILE]

A line says the tool, the way (uprobe_multi links, perf events with cookies, a copy of the program a cookie) and what
came of it: "works", what is wrong, or what the tool says to what this kernel can't. Exit code 1: something is wrong.
The file has what ``pyebpf doctor`` says, too.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import family  # noqa: E402
import targets  # noqa: E402
import toolchains  # noqa: E402

import pyebpf  # noqa: E402
from pyebpf.core import kernel  # noqa: E402
from pyebpf.errors import Error, Unsupported  # noqa: E402

CALLS = 997
WAYS = {"multi": kernel.has_uprobe_multi, "cookie": kernel.has_attach_cookies, "copy": lambda: True}
GO_VERSIONS = (toolchains.VERSIONS[0], toolchains.VERSIONS[-1])


def same(seen: object, truth: object) -> None:
    assert seen == truth, f"{seen!r} instead of {truth!r}"


def funccount() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", str(CALLS), "hot") as target:
        with pyebpf.count(f"{target.path}:hot", pid=target.pid) as session:
            target.go()
            same(session.snapshot()["hot"], CALLS)


def funclatency() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "nap") as target:
        with pyebpf.latency(f"{target.path}:nap", pid=target.pid) as session:
            truth = target.go()
            (histogram,) = session.snapshot().values()
    same(histogram.count, 97)
    assert histogram.total <= truth["ns"]["nap"], (histogram.total, truth["ns"])


def funcslower() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "many") as target:
        with pyebpf.slower(f"{target.path}:many", min_us=0, arguments=True) as session:
            target.go()
            same([(call.arguments, call.result) for call in session.drain()], [((1, 2, 3, 4, 5, 6), 204)] * 23)


def trace() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "fails") as target:
        with pyebpf.trace(f"{target.path}:fails", args=["i"], ret=["retval"]) as session:
            target.go()
            calls = [(call.args["i"], call.ret["retval"]) for call in session.drain()]
    same(calls, [(i, -1 if i % 2 else i) for i in range(23)])


def argdist() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "fails") as target:
        with pyebpf.argdist(f"{target.path}:fails", counts=["retval"], histograms=["i"]) as session:
            target.go()
            values, numbers = session.snapshot()
    same({row[0]: calls for row, calls in values.rows}, {-1: 48, **dict.fromkeys(range(0, 97, 2), 1)})
    same(numbers.calls, 97)


def stackcount() -> None:
    with targets.run(targets.compiled("calls.c", "-fno-omit-frame-pointer"), "-n", "3", "-w", "recurse") as target:
        with pyebpf.stacks(f"{target.path}:recurse", pid=target.pid) as session:
            target.begin()
            target.first_line()
            paths = session.snapshot()
            names = {tuple(frame.name for frame in path.user_stack): path.calls for path in paths}
    same({key[: key.index("main")]: calls for key, calls in names.items()}, {("recurse",) * i: 3 for i in range(1, 8)})


def go(version: str) -> Callable[[], None]:
    def check() -> None:
        with targets.run(targets.go_program("panics", version), "-n", "23") as target:
            with pyebpf.trace(f"{target.path}:main.panicking", args=["i"]) as session:
                with pyebpf.latency(f"{target.path}:main.after") as latency:
                    target.go()
                    same([call.args["i"] for call in session.drain()], [*range(23)])
                    same([histogram.count for histogram in latency.snapshot().values()], [23])

    return check


TOOLS: dict[str, Callable[[], None]] = {
    "funccount": funccount, "funclatency": funclatency, "funcslower": funcslower, "trace": trace, "argdist": argdist,
    "stackcount": stackcount, **{f"Go {version}: trace, funclatency": go(version) for version in GO_VERSIONS},
}  # fmt: skip


def judged(check: Callable[[], None]) -> tuple[str, str]:
    """Did it work, was it refused, or wrong ("works", "refused", "wrong"), and what was said."""
    signal.alarm(family.DEADLINE)
    try:
        check()
    except Unsupported as error:
        return "refused", str(error)
    except (Error, OSError, AssertionError, LookupError, TimeoutError, ValueError) as error:
        return "wrong", f"{type(error).__name__}: {str(error)[:600]}"
    finally:
        signal.alarm(0)
    return "works", ""


def main(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGALRM, family.late)
    rows = []
    for way, is_there in WAYS.items():
        for tool, check in TOOLS.items():
            if is_there():
                os.environ["PYEBPF_ATTACH"] = way
                came, said = judged(check)
            else:
                came, said = "absent", ""
            rows.append({"tool": tool, "options": [], "way": way, "came": came, "said": [said] if said else []})
            print(f"{tool:32} {way:8} {came:8} {said}", flush=True)
    os.environ.pop("PYEBPF_ATTACH", None)
    if arguments[:1] == ["--json"]:
        command = [sys.executable, "-m", "pyebpf", "doctor", "--json"]
        said = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False).stdout
        with open(arguments[1], "w") as file:
            json.dump({"kernel": platform.release(), "rows": rows, "checks": json.loads(said)["checks"]}, file)
    return int(any(row["came"] == "wrong" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
