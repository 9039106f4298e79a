# SPDX-License-Identifier: BSD-2-Clause
"""argdist: how often each value was seen, and in which power of two."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
import targets

import pyebpf
from pyebpf.tools.argdist import Distribution, ValueCounts
from pyebpf.tools.histogram import Row


def values(report: object) -> dict[object, int]:
    assert isinstance(report, ValueCounts)
    return {row[0] if len(row) == 1 else row: calls for row, calls in report.rows}


def test_values_and_combinations() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "nap", "fails") as target:
        with pyebpf.argdist(f"{target.path}:nap", counts=["us", ("us", "retval")]) as session:
            target.go()
            single, pairs = session.snapshot()
            assert session.losses.lost == 0
    truth = Counter(100 * (1 + i % 10) for i in range(97))
    assert values(single) == truth and single.calls == 97
    assert values(pairs) == {(us, us): calls for us, calls in truth.items()}
    assert [calls for _, calls in single.rows] == sorted(truth.values())


def test_texts_are_told_apart_by_their_bytes() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "text") as target:
        with pyebpf.argdist(f"{target.path}:text", counts=["name"], filter="arg1:s32 < 20") as session:
            target.go()
            (report,) = session.snapshot()
            assert session.losses.rejected == 3
    assert {value.data for (value,), _ in report.rows} == {b"name-%d" % i for i in range(20)}


def test_histograms_signed_and_unsigned() -> None:
    """Results are i for even i and -1 for odd ones."""
    with targets.run(targets.compiled("calls.c"), "-n", "17", "fails") as target:
        with pyebpf.argdist(f"{target.path}:fails", histograms=["retval", "i", "latency"]) as session:
            target.go()
            result, number, latency = session.snapshot()
    assert isinstance(result, Distribution) and isinstance(number, Distribution)
    assert result.rows == (Row(-1, -1, 8), Row(0, 1, 1), Row(2, 3, 1), Row(4, 7, 2), Row(8, 15, 4), Row(16, 31, 1))
    assert number.rows == (Row(0, 1, 2), Row(2, 3, 2), Row(4, 7, 4), Row(8, 15, 8), Row(16, 31, 1))
    assert latency.calls == 17


def test_intervals_add_up() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "fails") as target:
        with pyebpf.argdist(f"{target.path}:fails", counts=["retval"], histograms=["i"]) as session:
            assert all(not report.rows for report in session.interval())
            target.begin()
            target.first_line()
            first, second = session.interval(), session.interval()
            assert [report.calls for report in first] == [97, 97]
            assert [report.calls for report in second] == [0, 0]
            assert [report.calls for report in session.snapshot()] == [97, 97]


def test_several_functions_are_added_up() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "7", "hot", "nap") as target:
        with pyebpf.argdist(f"{target.path}:hot", f"{target.path}:nap", counts=["arg0:s64"]) as session:
            target.go()
            (report,) = session.snapshot()
    assert values(report) == {**dict.fromkeys(range(7), 1), **{100 * (i + 1): 1 for i in range(7)}}


@pytest.mark.parametrize(("options", "counted"), [({}, 16384), ({"max_keys": 20011}, 20011), ({"max_keys": 7}, 7)])
def test_so_many_values_are_counted(options: dict[str, int], counted: int) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "20011", "text") as target:
        with pyebpf.argdist(f"{target.path}:text", counts=["arg1:s32"], **options) as session:
            target.go()
            (report,) = session.snapshot()
            losses = session.losses
    assert values(report) == dict.fromkeys(range(counted), 1)
    assert losses.uncounted == losses.lost == 20011 - counted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to count"),
        ({"counts": ["nope"]}, "no argument 'nope'"),
        ({"histograms": ["name"]}, "no whole number"),
        ({"counts": ["arg1:s32"], "histograms": ["nope"]}, "no argument 'nope'"),
        ({"counts": ["arg1:s32", "name"], "strsize": 600}, "can't be counted"),
        ({"counts": ["arg1:s32"], "max_keys": 0}, "0 keys can't be counted apart: between 1 and 1048576 can"),
        ({"counts": ["arg1:s32"], "max_keys": 1048577}, "1048577 keys can't be counted apart"),
    ],
)
def test_errors_come_before_anything_is_attached(options: dict[str, object], message: str) -> None:
    before = targets.own_bpf()
    with pytest.raises(pyebpf.TargetError, match=message):
        pyebpf.argdist(f"{targets.compiled('calls.c')}:text", **options)  # type: ignore[arg-type]
    assert targets.own_bpf() == before


def test_threads_by_name() -> None:
    program = targets.compiled("calls.c")
    long = program.with_name("a-name-of-16-bytes")  # of which a thread's name keeps 15
    shutil.copy(program, long)
    with targets.run(program, "-n", "3", "hot") as one, targets.run(long, "-n", "5", "hot") as two:
        with pyebpf.argdist(f"{program}:hot", f"{long}:hot", counts=["comm"], filter='comm != "x"') as session:
            one.go()
            two.go()
            (report,) = session.snapshot()
            assert session.losses.lost == 0
        assert {value.data: calls for (value,), calls in report.rows} == {b"calls": 3, b"a-name-of-16-by": 5}
    with pytest.raises(pyebpf.TargetError, match="comm"):
        pyebpf.argdist(f"{program}:hot", histograms=["comm"])
