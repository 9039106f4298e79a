# SPDX-License-Identifier: BSD-2-Clause
"""Go: stacks that move, goroutines that change thread, panics; from Go 1.15 to the newest."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import targets

import pyebpf
from pyebpf.tools.histogram import Histogram
from pyebpf.tools.probes import Losses

VERSIONS = ("1.15", "1.19", "1.21", "1.24", "1.27", "local")


def measure(program: Path, names: list[str], *arguments: str, env: dict[str, str] | None = None) -> tuple[
    dict[str, Histogram], dict[str, Any], Losses
]:  # fmt: skip
    with targets.run(program, *arguments, env=env) as target:
        with pyebpf.latency(*(f"{program}:{name}" for name in names), pid=target.pid) as session:
            truth = target.go()
            return {f.name: h for f, h in session.snapshot().items()}, truth, session.losses


@pytest.mark.parametrize("version", VERSIONS)
def test_goroutines_that_change_thread(version: str) -> None:
    """50 at once: every call timed, the total between what they sleep and what the program's own clock says around."""
    seen, truth, losses = measure(targets.go_program("migrate", version), ["main.nap"], "-n", "101", "-g", "50")
    assert truth["migrated"] > 0
    assert seen["main.nap"].count == truth["calls"]["main.nap"] == 5050
    asked = 50 * sum(1_000_000 * (1 + i % 5) for i in range(101))
    assert asked <= seen["main.nap"].total <= truth["ns"]["main.nap"]
    assert losses.in_progress == losses.abandoned == losses.lost == losses.unmatched == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_growing_stacks(version: str) -> None:
    """GOGC=1, stacks copied while functions are traced: the program lives, and every call is seen once."""
    names = ["main.holds", "main.grow", "main.huge"]
    seen, truth, losses = measure(targets.go_program("grow", version), names, "-n", "997", env={"GOGC": "1"})
    assert truth["moved"] > 0
    for name in names:
        assert seen[name].count == truth["calls"][name], name
    assert losses.in_progress == losses.abandoned == losses.lost == losses.unmatched == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_panics_and_goexit(version: str) -> None:
    names = ["main.recovers", "main.middle", "main.panicking", "main.exits", "main.after"]
    seen, truth, losses = measure(targets.go_program("panics", version), names, "-n", "997", env={"GOGC": "1"})
    for name in names:
        assert seen[name].count == truth["returns"][name], name
    left = sum(truth["calls"][name] - truth["returns"][name] for name in names)
    assert left > 0 and losses.abandoned + losses.in_progress == left


@pytest.mark.parametrize("version", VERSIONS)
def test_recursion(version: str) -> None:
    seen, truth, losses = measure(targets.go_program("recurse", version), ["main.recurse", "main.deep"], "-n", "23")
    assert seen["main.recurse"].count == truth["calls"]["main.recurse"] == 23 * 7
    assert truth["ns"]["main.recurse"] <= seen["main.recurse"].total <= truth["ns"]["main.recurse"] * 1.5
    assert seen["main.deep"].count == 23 * 201
    assert losses.in_progress == losses.lost == 0


@pytest.mark.parametrize("flags", [("-ldflags=-s -w",), ("-buildmode=pie",), ("-buildmode=pie", "-ldflags=-s -w")],
                         ids=["stripped", "pie", "stripped pie"])  # fmt: skip
@pytest.mark.parametrize("version", VERSIONS)
def test_stripped_and_pie(version: str, flags: tuple[str, ...]) -> None:
    seen, truth, _ = measure(targets.go_program("migrate", version, *flags), ["main.nap"], "-n", "23", "-g", "7")
    assert seen["main.nap"].count == truth["calls"]["main.nap"] == 161
    asked = 7 * sum(1_000_000 * (1 + i % 5) for i in range(23))
    assert asked <= seen["main.nap"].total <= truth["ns"]["main.nap"]


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in ("1.15",)])
def test_generics(version: str) -> None:
    program = targets.go_program("generic", version)
    with targets.run(program, "-n", "997") as target:
        with pyebpf.count(f"{program}:main.Sum", f"{program}:main.(*Stack).Push") as counts:
            truth = target.go()
            seen = counts.snapshot()
    sums = sum(n for function, n in seen.items() if function.name.startswith("main.Sum"))
    pushes = sum(n for function, n in seen.items() if ".Push" in function.name)
    assert (sums, pushes) == (truth["calls"]["main.Sum"], truth["calls"]["main.(*Stack).Push"])


@pytest.mark.parametrize("version", VERSIONS)
def test_inlined_calls_are_announced(version: str) -> None:
    """Calls that were compiled away can't be seen: the note says where they are."""
    program = targets.go_program("inlined", version)
    with targets.run(program, "-n", "997") as target:
        with pyebpf.count(f"{program}:main.small") as counts:
            truth = target.go()
            assert counts.snapshot()["main.small"] == truth["calls"]["main.small"] == 997
            assert any("main.small" in note and "main.caller" in note for note in counts.notes), counts.notes
    with pytest.raises(pyebpf.Error, match="inlined"):
        pyebpf.count(f"{program}:main.nowhere")


@pytest.mark.parametrize("version", VERSIONS)
def test_slow_calls_have_goroutine_and_stack(version: str) -> None:
    program = targets.go_program("migrate", version)
    with targets.run(program, "-n", "23", "-g", "7") as target:
        with pyebpf.slower(f"{program}:main.nap", min_us=0, user_stack=True, pid=target.pid) as session:
            target.begin()
            calls = []
            for call in session.read(timeout=targets.DEADLINE):
                calls.append(call)
                if len(calls) == 161:
                    break
            target.truth()
    assert len({call.goid for call in calls}) == 7 and None not in {call.goid for call in calls}
    for call in calls:
        names = [frame.name for frame in call.user_stack]
        assert names[0] == "main.nap" and names[-1] == "runtime.goexit", names
        assert names[1].startswith("main.main.func1"), names


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runtime_itself(version: str) -> None:
    """Every function of the runtime at once, its scheduler and garbage collector included; what can't be probed is
    named, and the program lives."""
    program = targets.go_program("panics", version)
    with targets.run(program, "-n", "23") as target:
        with pyebpf.count(f"{program}:runtime.*", pid=target.pid) as counts:
            truth = target.go()
            assert counts.snapshot()["runtime.gopanic"] > 0
            if platform.machine() == "x86_64":  # begins with a trap there; on arm64 it loads from address 0
                assert "runtime.abort" in {skip.name for skip in counts.skipped}
    assert truth["calls"]["main.after"] == 23


@pytest.mark.parametrize("version", VERSIONS)
def test_latency_of_the_runtime(version: str) -> None:
    """Entry and return of the scheduler, the allocator and the stack grower, under GOGC=1."""
    program = targets.go_program("grow", version)
    names = ["runtime.mallocgc", "runtime.newstack", "runtime.schedule", "runtime.gcStart", "runtime.makeslice",
             "runtime.copystack", "runtime.newproc", "runtime.gopark"]  # fmt: skip
    with targets.run(program, "-n", "97", env={"GOGC": "1"}) as target:
        with pyebpf.latency(*(f"{program}:{name}" for name in names), f"{program}:main.huge",
                            pid=target.pid) as session:  # fmt: skip
            truth = target.go()
            assert session.snapshot()["main.huge"].count == truth["calls"]["main.huge"]
            assert session.snapshot()["runtime.copystack"].count > 0
