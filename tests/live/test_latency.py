# SPDX-License-Identifier: BSD-2-Clause
"""funclatency against programs that time themselves."""

from __future__ import annotations

from typing import Any

import pytest
import targets

import pyebpf
from pyebpf.tools.histogram import Histogram
from pyebpf.tools.probes import Losses


def measure(target: targets.Target, *names: str) -> tuple[dict[str, Histogram], dict[str, Any], Losses]:
    """Lets a target work under trace; returns the histograms by name, the truth, and what became of other calls."""
    with pyebpf.latency(*(f"{target.path}:{name}" for name in names)) as session:
        truth = target.go()
        return {f.name: h for f, h in session.snapshot().items()}, truth, session.losses


def test_totals_match_the_programs_clock(rung: str) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "nap") as target:
        seen, truth, losses = measure(target, "nap")
    nap = seen["nap"]
    assert nap.count == truth["calls"]["nap"] == 97
    asked = sum(100_000 * (1 + i % 10) for i in range(97))
    assert asked <= nap.total <= truth["ns"]["nap"]
    assert 1_000_000 <= nap.max <= max(truth["naps"])
    assert losses.in_progress == losses.lost == losses.unmatched == 0


def test_recursion() -> None:
    """Depth 6 with 1 ms sleeps: seven frames, each timed for itself, inclusive."""
    with targets.run(targets.compiled("calls.c"), "-n", "23", "recurse") as target:
        seen, truth, losses = measure(target, "recurse")
    assert seen["recurse"].count == truth["calls"]["recurse"] == 23 * 7
    assert truth["ns"]["recurse"] <= seen["recurse"].total <= truth["ns"]["recurse"] * 1.5  # its clock runs inside
    assert losses.in_progress == 0


def test_deep_recursion_beyond_the_kernels_limit() -> None:
    """201 frames: the kernel's return probes give up at 64, ours don't."""
    with targets.run(targets.compiled("calls.c"), "-n", "23", "deep") as target:
        seen, truth, losses = measure(target, "deep")
    assert seen["deep"].count == truth["calls"]["deep"] == 23 * 201
    assert losses.in_progress == losses.lost == 0


def test_threads() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "-t", "7", "threads") as target:
        seen, _, losses = measure(target, "threaded")
    assert seen["threaded"].count == 7 * 997
    assert losses.unmatched == losses.abandoned == losses.in_progress == 0


def test_longjmp_leaves_no_wrong_number() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "longjmp") as target:
        seen, truth, losses = measure(target, "jumper")
    assert seen["jumper"].count == truth["returns"]["jumper"]
    left = truth["calls"]["jumper"] - truth["returns"]["jumper"]
    assert left > 0 and losses.abandoned + losses.in_progress == left
    assert seen["jumper"].total <= truth["ns"]["jumper"]


def test_tail_call_is_timed_to_the_end_of_what_it_calls() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "tail") as target:
        seen, truth, losses = measure(target, "tail", "tail_target")
    assert seen["tail"].count == truth["calls"]["tail"] == 997
    assert seen["tail"].total >= seen["tail_target"].total
    assert losses.unmatched == losses.in_progress == 0


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O3",), ("-O2", "-fno-omit-frame-pointer"), ("-static",)])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_exceptions(flags: tuple[str, ...], compiler: str) -> None:
    """A function left by an exception: the program lives, the numbers are right, no frame leaks into another call."""
    program = targets.compiled("throws.cpp", *flags, compiler=compiler)
    with targets.run(program, "-k", "997", "-m", "10007") as target:
        seen, truth, losses = measure(target, "shop::sometimes*", "shop::passes*", "shop::catches*")
    for name in ("shop::sometimes(int)", "shop::passes(int)", "shop::catches(int)"):
        assert seen[name].count == truth["returns"][name], name
        assert seen[name].total <= truth["ns"][name], name
    thrown = sum(truth["calls"][name] - truth["returns"][name] for name in truth["calls"] if name in seen)
    assert thrown >= 2 * 997
    assert losses.abandoned + losses.in_progress == thrown
    assert losses.lost == 0


@pytest.mark.parametrize("flags", [(), ("-C", "symbol-mangling-version=v0")], ids=["default", "v0"])
def test_rust_panics(flags: tuple[str, ...]) -> None:
    program = targets.compiled("unwind.rs", *flags)
    with targets.run(program, "23", "997") as target:
        seen, truth, _ = measure(target, "unwind::panics", "unwind::passes")
    for name in ("unwind::panics", "unwind::passes"):
        assert seen[name].count == truth["returns"][name], name
        assert truth["calls"][name] > truth["returns"][name]


def test_intervals_add_up() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "10007", "hot") as target:
        with pyebpf.latency(f"{target.path}:hot") as session:
            target.begin()
            count = total = 0
            while target.alive():
                for histogram in session.interval().values():
                    count, total = count + histogram.count, total + histogram.total
            target.truth()
            for histogram in session.interval().values():
                count, total = count + histogram.count, total + histogram.total
            whole = session.snapshot()["hot"]
    assert count == whole.count == 10007
    assert total == whole.total


def test_totals_beyond_32_bits() -> None:
    """More than 2^32 ns in one function."""
    with targets.run(targets.compiled("calls.c"), "-n", "9973", "nap") as target:
        seen, truth, _ = measure(target, "nap")
    assert truth["ns"]["nap"] > 1 << 32
    assert truth["ns"]["nap"] * 0.9 <= seen["nap"].total <= truth["ns"]["nap"]


def test_the_kernels_return_probe(rung: str) -> None:
    """What --allow-uretprobe takes: the same numbers, as long as nothing unwinds."""
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-t", "3", "hot", "recurse", "threads") as target:
        names = ("hot", "recurse", "threaded")
        with pyebpf.latency(*(f"{target.path}:{name}" for name in names), allow_uretprobe=True) as session:
            truth = target.go()
            seen, losses = session.snapshot(), session.losses
    assert {name: seen[name].count for name in names} == {name: truth["calls"][name] for name in names}
    assert truth["ns"]["recurse"] <= seen["recurse"].total <= truth["ns"]["recurse"] * 1.5
    assert losses.in_progress == losses.abandoned == losses.unmatched == 0
