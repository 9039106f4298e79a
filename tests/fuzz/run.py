# SPDX-License-Identifier: BSD-2-Clause
"""Fuzzes the readers of untrusted input, guided by coverage, and says what came of it.

    python tests/fuzz/run.py                          each reader for a minute, two at a time
    python tests/fuzz/run.py --seconds 600 dwarf btf  some of them for longer
    python tests/fuzz/run.py --list                   the readers
    python tests/fuzz/run.py --keep                   also adds inputs that reach something new to tests/fuzz/corpus,
                                                      and what was done to tests/fuzz/totals.json
    python tests/fuzz/run.py --write docs/fuzzing.md  writes the page (--seconds 0: fuzzes nothing)
    python tests/fuzz/run.py --judge dwarf FILE...    tries inputs, as they are

PYEBPF_FUZZ_SEED=N makes the same changes again, as far as the time allows.

pyebpf must be installed for the Python that runs this, or be on PYTHONPATH. With atheris (pip install atheris==2.3.0,
CPython 3.11) it is many times faster. A finding's input is made small and kept in tests/fuzz/corpus/READER, where
test_fuzz.py tries it from then on; the exit code is 1. Bounds on time are CPU time, so other work does no harm.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # this folder has modules called like others

from fuzz import reader as readers  # noqa: E402

CORPUS = HERE / "corpus"
TOTALS = HERE / "totals.json"
FOUND = HERE / "found.json"
WORK = HERE.parents[1] / "build" / "fuzz"
_STARTING = 60.0  # seconds that an engine may take besides fuzzing
_SHRINKING = 20.0  # seconds for making a finding small
_MOST_KEPT = 40 << 10  # bytes of a reader's corpus
_LARGEST_KEPT = 8 << 10  # bytes of one input


class Outcome(NamedTuple):
    """What came of one reader.

    Attributes:
        name: the reader's.
        executions, seconds: of this run.
        lines, of: lines of its modules that the corpus reaches, and how many there are.
        arcs: pairs of lines that the corpus has executed one after the other.
        inputs: in the corpus.
        findings: what is wrong, with the file of its input.
    """

    name: str
    executions: int
    seconds: float
    lines: int
    of: int
    arcs: int
    inputs: int
    findings: list[tuple[str, Path]]


def corpus_of(name: str) -> list[Path]:
    """The inputs of a reader that are kept."""
    return sorted((CORPUS / name).iterdir()) if (CORPUS / name).is_dir() else []


# -- in processes of their own: what is tried may take all memory, or end the process


def _ask(task: str, name: str, files: Sequence[Path], timeout: float) -> list[object]:
    """The lines of JSON that `run.py --TASK NAME` prints about files."""
    command = [sys.executable, str(HERE / "run.py"), f"--{task}", name, *map(str, files)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        return _lines((error.stdout or b"").decode())
    if done.returncode and done.stderr:
        print(done.stderr[-2000:], file=sys.stderr)
    return _lines(done.stdout)


def _lines(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines() if line.startswith(("{", "["))]


def verdicts(name: str, files: Sequence[Path]) -> dict[Path, str]:
    """What is wrong with how a reader takes inputs, for those with which something is."""
    found: dict[Path, str] = {}
    left = list(files)
    while left:
        told = {Path(str(path)): what for path, what in _ask("judge", name, left[:200], 600.0)}  # type: ignore[misc]
        found.update({path: str(what) for path, what in told.items() if what})
        behind = [path for path in left if path not in told]
        if len(behind) == len(left):  # nothing was said even of the first
            found[left[0]] = "the process ended, or hung"
            behind = left[1:]
        left = behind
    return found


def judge(name: str, files: Sequence[str]) -> None:
    """Tries inputs and prints what is wrong with each."""
    one = readers.load(name)
    readers.modules_of(one)
    readers.attempt(one, b"", 60.0)  # what is imported late counts for nobody
    for file in files:
        print(json.dumps([file, readers.judge(one, Path(file).read_bytes())]), flush=True)


def shrink(name: str, file: str) -> None:
    """Makes the input of a finding smaller, in place, as long as the finding stays."""
    one = readers.load(name)
    readers.attempt(one, b"", 60.0)
    path = Path(file)
    data = path.read_bytes()
    wanted = readers.judge(one, data)
    if wanted is None:
        return
    end = time.monotonic() + _SHRINKING
    pieces = readers.unpacked(data, one.pieces) if one.pieces > 1 else [data]

    def holds(number: int, piece: bytes) -> bool:
        trial = [*pieces[:number], piece, *pieces[number + 1 :]]
        return readers.judge(one, readers.packed(*trial) if one.pieces > 1 else piece) == wanted

    for number in range(len(pieces)):
        size = max(len(pieces[number]) // 2, 1)
        while pieces[number] and time.monotonic() < end:
            at, changed = 0, False
            while at < len(pieces[number]) and time.monotonic() < end:
                smaller = pieces[number][:at] + pieces[number][at + size :]
                if holds(number, smaller):
                    pieces[number] = smaller
                    changed = True
                else:
                    at += size
            if size == 1 and not changed:
                break
            size = max(size // 2, 1)
    path.write_bytes(readers.packed(*pieces) if one.pieces > 1 else pieces[0])


def measure(name: str, files: Sequence[str]) -> None:
    """Prints what inputs cover, and the fewest of them that do."""
    from fuzz import reach

    one = readers.load(name)
    inputs = [Path(file).read_bytes() for file in files]
    covered, each = reach.measure(one, inputs)
    chosen = reach.fewest(each, [len(data) for data in inputs])
    print(json.dumps({"lines": covered.lines, "of": covered.of, "arcs": covered.arcs,
                      "fewest": [files[index] for index in chosen]}))  # fmt: skip


def seeds(name: str, folder: str) -> None:
    """Writes a reader's first inputs."""
    one = readers.load(name)
    for data in one.seeds():
        if data:
            (Path(folder) / _name_of(data)).write_bytes(data[: one.longest])


def _name_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()[:12]


# -- one reader


def fuzz(name: str, seconds: float, keep: bool) -> Outcome:
    """Fuzzes a reader; see `Outcome`."""
    folder = WORK / name
    work, suspects, begin = (folder / part for part in ("work", "suspects", "begin"))
    for part in (suspects, begin):
        shutil.rmtree(part, ignore_errors=True)
    for part in (work, suspects, begin):
        part.mkdir(parents=True, exist_ok=True)
    _ask("seeds", name, [begin], 120.0)
    for path in corpus_of(name):
        shutil.copy(path, begin / path.name)
    executions, spent = (0, 0.0) if not seconds else _engine(name, folder, seconds)
    # libFuzzer's own, in case the process ended: slow-unit-HASH and the like.
    findings = _kept(name, verdicts(name, sorted(suspects.iterdir())))
    if keep:
        _select(name, [*sorted(begin.iterdir()), *sorted(work.iterdir())])
    covered = _covered(name, corpus_of(name))
    return Outcome(name, executions, spent, int(covered.get("lines", 0)), int(covered.get("of", 0)),
                   int(covered.get("arcs", 0)), len(corpus_of(name)), findings)  # fmt: skip


def _engine(name: str, folder: Path, seconds: float) -> tuple[int, float]:
    """Executions and seconds."""
    executions, spent = 0, 0.0
    end = time.monotonic() + seconds
    plain: list[str] = []
    with open(folder / "log", "w") as log:
        while (left := end - time.monotonic()) >= 1:
            command = [sys.executable, str(HERE / "engine.py"), name, "--seconds", f"{left:.0f}",
                       "--folder", str(folder), *plain]  # fmt: skip
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=left + _STARTING
                )
            except subprocess.TimeoutExpired:
                done = None
            try:
                told = json.loads((folder / "stats.json").read_text())
            except (OSError, ValueError):
                break
            executions += told["executions"]
            spent += told["seconds"]
            if done is None or not done.returncode or plain:
                break
            plain = [] if told["executions"] else ["--plain"]
    return executions, spent


def _kept(name: str, wrong: dict[Path, str]) -> list[tuple[str, Path]]:
    """One small input of each finding, in the corpus."""
    first: dict[str, Path] = {}
    for path, what in sorted(wrong.items(), key=lambda item: item[0].stat().st_size):
        first.setdefault(what, path)
    kept = []
    for what, path in first.items():
        _ask("shrink", name, [path], 3 * _SHRINKING)
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        target = CORPUS / name / f"found-{_name_of(path.read_bytes())}"
        shutil.copy(path, target)
        kept.append((what, target))
    return kept


def _covered(name: str, files: Sequence[Path]) -> dict[str, object]:
    told = _ask("measure", name, files, 900.0)
    return told[0] if told and isinstance(told[0], dict) else {}


def _select(name: str, files: Sequence[Path]) -> None:
    """Keeps the fewest inputs that reach all that these do, and whatever was found once."""
    small = [path for path in files if path.stat().st_size <= _LARGEST_KEPT]
    found = [path for path in corpus_of(name) if path.name.startswith("found-")]
    chosen = _covered(name, small[:4000]).get("fewest")
    if not isinstance(chosen, list) or not chosen:
        return
    contents, room = {}, _MOST_KEPT
    for path in map(Path, chosen):
        data = path.read_bytes()
        if len(data) <= room and not path.name.startswith("found-"):
            contents[_name_of(data)] = data
            room -= len(data)
    kept = {path.name: path.read_bytes() for path in found}
    shutil.rmtree(CORPUS / name, ignore_errors=True)
    (CORPUS / name).mkdir(parents=True)
    for file, data in {**contents, **kept}.items():
        (CORPUS / name / file).write_bytes(data)


# -- all of them


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The outcomes as text."""
    rows = [
        f"{'READER':<12} {'EXECUTIONS':>11} {'A SECOND':>9} {'LINES':>12} {'ARCS':>7} {'CORPUS':>7} {'FINDINGS':>9}"
    ]
    for one in outcomes:
        rate = one.executions / one.seconds if one.seconds else 0
        share = f"{one.lines}/{one.of} {100 * one.lines // max(one.of, 1)}%"
        rows.append(f"{one.name:<12} {one.executions:>11,} {rate:>9,.0f} {share:>12} {one.arcs:>7,} {one.inputs:>7} "
                    f"{len(one.findings):>9}")  # fmt: skip
    return rows


def count(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Adds to the totals, and returns them. Several may run at once."""
    with open(TOTALS, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        totals: dict[str, dict[str, float]] = json.loads(file.read() or "{}")
        for one in outcomes:
            held = totals.setdefault(one.name, {"executions": 0, "seconds": 0.0})
            held["executions"] += one.executions
            held["seconds"] = round(held["seconds"] + one.seconds, 1)
            held.update(lines=one.lines, of=one.of, arcs=one.arcs)
        file.truncate(0)
        file.write(json.dumps(dict(sorted(totals.items())), indent=1) + "\n")
    return totals


def remembered(name: str) -> Outcome:
    """A reader's outcome without fuzzing: its corpus tried again, and as it was measured when it grew last."""
    told = (json.loads(TOTALS.read_text()) if TOTALS.exists() else {}).get(name, {})
    files = corpus_of(name)
    if "of" not in told:
        told = _covered(name, files)
    findings = [(what, path) for path, what in verdicts(name, files).items()]
    return Outcome(name, 0, 0.0, int(told["lines"]), int(told["of"]), int(told["arcs"]), len(files), findings)


def page(outcomes: Sequence[Outcome]) -> str:
    """docs/fuzzing.md."""
    from fuzz.page import text

    totals = json.loads(TOTALS.read_text()) if TOTALS.exists() else {}
    found = json.loads(FOUND.read_text()) if FOUND.exists() else []
    size = sum(path.stat().st_size for one in readers.names() for path in corpus_of(one))
    return text(outcomes, totals, found, size, engine())


def engine() -> str:
    """What guides the fuzzing."""
    if importlib.util.find_spec("atheris") is None:
        return "sys.settrace"
    from importlib.metadata import version

    return f"atheris {version('atheris')}"


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("readers", nargs="*", metavar="READER", help="all, if none is named")
    arguments.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    arguments.add_argument("--jobs", type=int, default=2, help="readers at a time")
    arguments.add_argument("--keep", action="store_true", help="add to the corpus and to the totals")
    arguments.add_argument("--write", type=Path, metavar="FILE", help="write the page")
    arguments.add_argument("--list", action="store_true", help="list the readers")
    for task in ("judge", "shrink", "measure", "seeds"):
        arguments.add_argument(f"--{task}", nargs="+", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    for task in (judge, shrink, measure, seeds):
        asked = getattr(given, task.__name__)
        if asked and task in (judge, measure):
            task(asked[0], asked[1:])
            return 0
        if asked:
            task(asked[0], asked[1])
            return 0
    chosen = given.readers or readers.names()
    unknown = set(chosen) - set(readers.names())
    if unknown:
        arguments.error(f"no reader is called {', '.join(sorted(unknown))}")
    if given.list:
        for name in chosen:
            print(f"{name:<12} {(readers.load(name).fuzz.__doc__ or '').strip()}")
        return 0
    began = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:
        how = (lambda name: fuzz(name, given.seconds, given.keep)) if given.seconds else remembered
        outcomes = list(pool.map(how, chosen))
    print("\n".join(table(outcomes)))
    for one in outcomes:
        for what, path in one.findings:
            print(f"{one.name}: {what}: {os.path.relpath(path)}")
    print(f"{engine()}, {time.monotonic() - began:.0f} s")
    if given.keep:
        count(outcomes)
    if given.write:
        given.write.write_text(page(outcomes))
    return 1 if any(one.findings for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
