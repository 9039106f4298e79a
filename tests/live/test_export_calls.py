# SPDX-License-Identifier: BSD-2-Clause
"""A trace of functions without its agent: a library of two variants, and faults of our own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import targets

from pyebpf.export import attachment, calls
from pyebpf.export.calls import CallTrace
from pyebpf.export.config import TraceConfig
from pyebpf.export.log import Log
from pyebpf.export.metrics import Point
from pyebpf.export.overhead import Costs
from pyebpf.export.processes import Processes
from pyebpf.export.resolver import Answer
from pyebpf.target.locate import Located, locate
from pyebpf.target.resolve import resolve


def counted(trace: CallTrace) -> dict[str, int]:
    """Calls by file."""
    found = {}
    for family in trace.source.families():
        for point in family.points:
            if family.name == "pyebpf_calls_total" and isinstance(point, Point):
                found[os.path.basename(dict(point.labels)["path"])] = point.value
    return found


def settle(trace: CallTrace) -> None:
    """Looks and attaches until nothing is left to do."""
    while jobs := [*trace.look(Processes()), *trace.glance()]:
        for job in jobs:
            job()


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CallTrace:
    """Of `hot` in two files that one name means, as a library's variants for several processors are."""
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        shutil.copy2(targets.compiled("calls.c"), path)
        os.utime(path, (0, 0))
    names = [f"{path}:hot" for path in paths]

    def both(*_: object) -> list[Located]:
        return [found for path in paths for found in locate(str(path), (), None, [])]

    monkeypatch.setattr(calls, "locate", both)
    monkeypatch.setattr(attachment, "ask", lambda _: Answer(resolve(names, returns=False), (), ()))
    log = Log(os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY))
    return CallTrace(TraceConfig("x", "count", (names[0],)), log, Costs())


def test_variants_of_a_library(trace: CallTrace, tmp_path: Path) -> None:
    """One is upgraded: calls of the other are counted once, calls of those that still run the old one, too."""
    settle(trace)
    assert trace.status()["state"] == "attached" and trace.attachments == 2, trace.status()
    with targets.run(tmp_path / "one", "-n", "997", "hot") as survivor:
        shutil.copy2(targets.compiled("calls.c", "-O1", "-DNEWER"), tmp_path / "new")
        os.rename(tmp_path / "new", tmp_path / "one")
        settle(trace)
        assert trace.status()["state"] == "attached" and trace.attachments == 3
        for name in ("one", "two"):
            with targets.run(tmp_path / name, "-n", "23", "hot") as target:
                target.go()
        survivor.go()
    assert counted(trace) == {"one": 997 + 23, "two": 23}
    trace.close()
    assert counted(trace) == {"one": 997 + 23, "two": 23}


def test_two_names_of_one_file(tmp_path: Path) -> None:
    """Calls are counted once, and the configuration's fault is told."""
    path = tmp_path / "one"
    shutil.copy2(targets.compiled("calls.c"), path)
    os.utime(path, (0, 0))
    (tmp_path / "two").symlink_to(path)
    config = TraceConfig("x", "count", (f"{path}:hot", f"{tmp_path}/two:hot"))
    trace = CallTrace(config, Log(os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)), Costs())
    settle(trace)
    assert trace.status()["state"] == "partial"
    assert trace.status()["reason"] == f"{tmp_path}/two:hot: the file is that of {path}:hot: write its name alike"
    with targets.run(path, "-n", "997", "hot") as target:
        target.go()
    assert counted(trace) == {"one": 997}
    trace.close()


def test_a_fault_of_ours_is_told_and_tried_again(
    trace: CallTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(attachment, "ask", lambda _: 1 / 0)
        settle(trace)
    assert trace.status()["state"] == "waiting"
    assert trace.status()["reason"] == "a fault in pyebpf: ZeroDivisionError: division by zero"
    trace.look(Processes())
    assert "ZeroDivisionError" in json.loads((tmp_path / "log").read_text().splitlines()[-1])["msg"]
    for group in trace.groups:
        group.retries.clear()
    settle(trace)
    assert trace.status()["state"] == "attached"
    trace.close()
