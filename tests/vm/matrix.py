#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs every tool and the live tests under Debian's kernels, and keeps what came of it for docs/support.md.

    python tests/vm/matrix.py              # this machine's kernel, 5.10, 6.1, 6.12 and the newest (make test-kernels)
    python tests/vm/matrix.py --short 5.10 newest          # what CI runs: 4 minutes a guest, two at a time
    python tests/vm/matrix.py 6.1 --only 'count or trace'  # one kernel, some live tests (a pytest -k), no tools
    python tests/vm/matrix.py --arm64 dist/*.whl 6.1 6.12  # on arm64 kernels, in a root of its own (arm64.py)
    python tests/vm/matrix.py --again 6.12      # what failed there, once more; the table says that it was a second run
    python tests/vm/matrix.py --check           # judges the kept results again

As root, by a Python that has pyebpf and pytest (.venv-test). Programs that are traced are built on this machine first,
while the same tests run here ("here", always the first). Results: tests/vm/results/ARCHITECTURE-KERNEL.json, of which
report.py makes the table. Of the live tests run those that selection.py chooses; a kernel takes about 25 minutes.

Exit code: 0: right, or no kernel or emulator can be had, which it says (CI without a Debian mirror); 1: a test or a
tool failed, a guest died, or a test was skipped though the kernel isn't too old: every skip says "before Linux X.Y".
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(HERE)]

import arm64  # noqa: E402
import debian  # noqa: E402
import guest  # noqa: E402
import images  # noqa: E402

HERE_ALSO = "here"
KERNELS = (HERE_ALSO, "5.10", "6.1", "6.12", images.NEWEST)
RESULTS = HERE / "results"
MINUTES = {"full": 60, "short": 20}  # a guest's limit; it takes half of it at most on an idle machine
TOOLS = ("functions", "family")


class Order(NamedTuple):
    """What to run.

    Attributes:
        only: an expression of pytest -k; then no tools.
        programs: the folder of the programs that are traced.
        wheel: what guests of arm64 get; None: guests are like this machine.
    """

    form: str
    only: str
    programs: Path
    wheel: Path | None = None


def commands(order: Order, python: str, results: Path) -> Iterator[list[str]]:
    """What runs under each kernel; each leaves a file of results."""
    if not order.only:
        for name in TOOLS:
            best = ["--best"] if name == "family" and order.form == "short" else []
            yield [python, str(HERE / f"{name}.py"), "--json", str(results / f"{name}.json"), *best]
    live = [python, "-m", "pytest", "-p", "selection", "-p", "no:cacheprovider", "-q", "--tb=short", "live"]
    live += ["--vm-form", "all" if order.only else order.form, "--vm-results", str(results / "live.jsonl")]
    yield [*live, *(["-k", order.only] if order.only else [])]


def script(order: Order, python: str, results: Path) -> str:
    """The commands as a shell's, which runs all of them; what says how each ended are the files."""
    lines = [f"cd {shlex.quote(str(HERE.parent))}", *map(shlex.join, commands(order, python, results)), "true"]
    return "\n".join(lines)


def environment(order: Order) -> dict[str, str]:
    """The wheel's pyebpf comes from the interpreter's own environment; the checkout's only where PYTHONPATH says so."""
    path = [*filter(None, [os.environ.get("PYTHONPATH", "")]), str(HERE)]
    return {"PYTHONPATH": os.pathsep.join(path), "PYEBPF_TEST_PROGRAMS": str(order.programs)}


def run(name: str, order: Order, log: Path) -> dict[str, Any]:
    """Runs it all under a kernel; returns the results, which say what is wrong under "wrong"."""
    begun = datetime.datetime.now()
    with tempfile.TemporaryDirectory(prefix="pyebpf-matrix-") as folder, open(log, "wb", buffering=0) as out:
        results = Path(folder)
        python = "/usr/bin/python3" if order.wheel else sys.executable
        words = ["/bin/bash", "-c", script(order, python, results)]
        limit = MINUTES[order.form] * 60
        emulated = ""
        if name == HERE_ALSO:
            ended = run_here(words, environment(order), out, limit)
        else:
            with machine(name, order, results) as (there, emulated):
                ended = guest.run(there, words, limit, out.write)
                if ended == guest.DIED and not [*results.iterdir()]:  # the emulator's fault, not a test's
                    ended = guest.run(there, words, limit, out.write)
        found = collect(results)
    found.update(
        name=name, form=order.form, date=begun.date().isoformat(), ended=ended,
        emulator=emulated,
        minutes=round((datetime.datetime.now() - begun).total_seconds() / 60, 1),
    )  # fmt: skip
    found["wrong"] = [*wrong(found, bool(order.only))]
    return found


def run_here(words: Sequence[str], variables: Mapping[str, str], out: IO[bytes], limit: float) -> int:
    with subprocess.Popen(
        words, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        until = time.monotonic() + limit
        while process.poll() is None:
            if guest.stopping.is_set() or time.monotonic() > until:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                return guest.TIMED_OUT
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    return process.returncode


@contextlib.contextmanager
def machine(name: str, order: Order, results: Path) -> Iterator[tuple[guest.Guest, str]]:
    """A guest for it, and what its emulator is."""
    shared = [(results, results)]
    with contextlib.ExitStack() as stack:
        if order.wheel:
            emulator = images.emulator("arm64")
            root, more, variables = stack.enter_context(arm64.ready(order.wheel))
            there = guest.Guest(
                images.kernel(name, "arm64"), emulator, "arm64", root, memory=3072, share=[*shared, *more],
                environment={**variables, "PYTHONPATH": str(HERE)},
            )  # fmt: skip
        else:
            emulator = images.emulator()
            there = guest.Guest(
                images.kernel(name), emulator, memory=3072, share=shared, environment=environment(order)
            )
        said = subprocess.run([*emulator.qemu, "--version"], capture_output=True, text=True, check=True).stdout
        yield there, (re.findall(r"version ([\d.]+)", said) or [""])[0]


def collect(results: Path) -> dict[str, Any]:
    """What the commands left, as far as they came."""
    found: dict[str, Any] = {"tools": [], "checks": [], "parts": []}
    for name in TOOLS:
        if (results / f"{name}.json").exists():
            said = json.loads((results / f"{name}.json").read_text())
            found["tools"] += said["rows"]
            found["checks"] += said.get("checks", [])
            found["parts"].append(name)
    live: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}, "left_out": 0, "seconds": 0.0, "slowest": {}}
    found["ran"] = []
    if (results / "live.jsonl").exists():
        begun, lines = "", (results / "live.jsonl").read_text().splitlines()
        took: dict[str, float] = {}
        for line in map(json.loads, lines):
            if "kernel" in line:
                found.update(kernel=line["kernel"], machine=line["machine"], python=line["python"])
            live["left_out"] += line.get("left_out", 0)
            begun = line.get("begins", begun)
            if "test" in line:
                begun = ""
                test = re.sub(r"^.*/live/", "", f"/{line['test']}")
                took[test] = line["seconds"]
                live["seconds"] = round(live["seconds"] + line["seconds"], 1)
                if line["came"] == "passed":
                    live["passed"] += 1
                else:
                    live[line["came"]][test] = line["why"]
            if "ended" in line:
                found["parts"].append("live")
                if line["ended"] not in (0, 1):  # pytest's: all passed, some failed
                    live["failed"]["pytest"] = f"it ended with {line['ended']}: a test could not be imported?"
        if begun and "live" not in found["parts"]:
            live["failed"][begun] = "the guest ended while it ran"
        found["ran"] = [*took]
        live["slowest"] = dict(sorted(took.items(), key=lambda item: -item[1])[:10])
    found["live"] = live
    return found


def wrong(found: dict[str, Any], partial: bool = False) -> Iterator[str]:
    """What is not as it must be."""
    if found["ended"]:
        yield f"it ended with {found['ended']}"
    for part in ("live",) if partial else (*TOOLS, "live"):
        if part not in found["parts"]:
            yield f"{part}: did not come to its end"
    for row in found["tools"]:
        if row["came"] == "wrong":
            yield f"{' '.join([row['tool'], *row['options']])} ({row['way']}): {' '.join(row['said'])}"
        if row["came"] == "absent" and (problem := unjustified(f"before Linux {SINCE[row['way']]}", found)):
            yield f"{row['tool']} ({row['way']}): {problem}"
    for check in found.get("checks", []):
        if not check["works"] and found["name"] != HERE_ALSO:  # Debian's kernels leave nothing out
            if not check["minimum"] or not unjustified(f"before Linux {check['minimum']}", found):
                continue
            yield f"doctor: no {check['name']} ({check['reason']}), which there is since Linux {check['minimum']}"
    for test, why in found["live"]["failed"].items():
        yield f"{test}: {' '.join(why.split())[-600:]}"
    for test, why in found["live"]["skipped"].items():
        if problem := unjustified(why, found):
            yield f"{test}: {problem}"


SINCE = {"multi": "6.6", "cookie": "5.15"}


def unjustified(reason: str, found: dict[str, Any]) -> str:
    """Why a skip is none that the kernel's version justifies; empty: it is one."""
    release = tuple(map(int, re.findall(r"\d+", found.get("kernel", "0"))[:2]))
    version = re.fullmatch(r"before Linux (\d+)\.(\d+)", reason)
    if version:
        minimum = (int(version[1]), int(version[2]))
        return "" if release < minimum else f"skipped as “{reason}” on {found['kernel']}"
    return f"skipped for no reason of the kernel's version: {reason}"


def tell(found: dict[str, Any]) -> None:
    """One kernel's results on the terminal."""
    live = found["live"]
    came = Counter(row["came"] for row in found["tools"])
    print(f"{found['name']}: Linux {found.get('kernel', '?')}, {found['minutes']} min: tools {dict(came)}; "
          f"live tests {live['passed']} passed, {len(live['failed'])} failed, {len(live['skipped'])} skipped, "
          f"{live['left_out']} left out")  # fmt: skip
    for reason, number in sorted(Counter(live["skipped"].values()).items()):
        print(f"    skipped: {number} {reason}")
    for problem in found["wrong"]:
        print(f"    WRONG: {problem}")
    sys.stdout.flush()


def path_of(found: dict[str, Any]) -> Path:
    return RESULTS / f"{found.get('machine', platform.machine())}-{found['name']}.json"


def keep(found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    kept = {name: value for name, value in found.items() if name != "ran"}
    path_of(found).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def again(kept: dict[str, Any], order: Order, log: Path) -> dict[str, Any]:
    """Kept results after a second run of the tests that failed: those that pass now are named under "again"."""
    live = kept["live"]
    names = {re.sub(r"^.*::|\[.*", "", test) for test in live["failed"] if "::" in test}
    if names:
        second = run(kept["name"], order._replace(only=" or ".join(sorted(names))), log)
        for test in sorted({*live["failed"]}.intersection(second["ran"]) - second["live"]["skipped"].keys()):
            if test in second["live"]["failed"]:
                live["failed"][test] = second["live"]["failed"][test]
            else:
                del live["failed"][test]
                live["passed"] += 1
                kept.setdefault("again", []).append(test)
    kept["wrong"] = [*wrong(kept)]
    return kept


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--arm64", type=Path)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--no-here", action="store_true")
    parser.add_argument("--keep", action="store_true", help="the short form's results, too")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    if options.check:
        return int(any([*map(check, sorted(RESULTS.glob("*.json")))]))
    if os.geteuid():
        parser.error("this takes root")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    kernels = [name for name in options.kernels or KERNELS if name != HERE_ALSO]
    here_too = not (options.no_here or options.arm64 or options.again)
    jobs = options.jobs or (2 if options.short else 1)
    with tempfile.TemporaryDirectory(prefix="pyebpf-matrix-") as folder:
        form, programs = "short" if options.short else "full", options.programs or Path(folder) / "programs"
        order = Order(form, options.only, programs, options.arm64)
        logs = options.logs or Path(folder)
        for made in (order.programs, logs):
            made.mkdir(mode=0o700, exist_ok=True)
        try:
            images.prepare(kernels, "arm64" if order.wheel else "amd64")
        except (debian.Unavailable, OSError) as error:
            print(f"NOT RUN on other kernels: they or the emulator can't be had: {error}", file=sys.stderr)
            if options.short:  # what runs here is what `make test` ran
                return 0
            kernels = []
        bad = False
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for names in ([HERE_ALSO] if here_too else [], kernels):
                for found in pool.map(lambda name: results_of(name, order, logs / f"{name}.log", options.again), names):
                    tell(found)
                    bad = bad or bool(found["wrong"])
                    if found["wrong"] and not options.logs:
                        sys.stdout.write(last_lines(logs / f"{found['name']}.log"))
                    if options.keep or options.again or not (options.only or options.short):
                        keep(found)
    return int(bad)


def results_of(name: str, order: Order, log: Path, second: bool) -> dict[str, Any]:
    """Those of a run; or the kept ones, and what failed in them run a second time."""
    if not second:
        return run(name, order, log)
    kept = path_of({"name": name, "machine": "aarch64" if order.wheel else platform.machine()})
    return again(json.loads(kept.read_text()), order, log)


def stop(*_: object) -> None:
    guest.stopping.set()
    sys.exit(143)


def last_lines(path: Path) -> str:
    return "".join(f"    | {line}\n" for line in path.read_text(errors="replace").splitlines()[-80:])


def check(path: Path) -> bool:
    """Judges results that were kept."""
    found = json.loads(path.read_text())
    found["wrong"] = [*wrong(found)]
    tell(found)
    return bool(found["wrong"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
