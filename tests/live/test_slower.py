# SPDX-License-Identifier: BSD-2-Clause
"""funcslower: every slow call, its values and its stack."""

from __future__ import annotations

import threading

import pytest
import targets

import pyebpf


def test_every_call_over_the_threshold() -> None:
    """A nap of at least 500 us is slow; naps are 100 to 1000 us and their true lengths are known."""
    with targets.run(targets.compiled("calls.c"), "-n", "97", "nap") as target:
        with pyebpf.slower(f"{target.path}:nap", min_us=500, pid=target.pid) as session:
            truth = target.go()
            calls = list(session.drain())
            assert session.losses.dropped == 0
    asked = [100 * (1 + i % 10) for i in range(97)]
    sure = sum(us >= 500 for us in asked)
    assert sure <= len(calls) <= sum(ns >= 500_000 for ns in truth["naps"])
    assert all(call.duration >= 500_000 and call.pid == target.pid and call.comm == b"calls" for call in calls)
    assert [call.time for call in calls] == sorted(call.time for call in calls)
    assert {call.result for call in calls} <= set(asked)


def test_arguments_and_result() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "many") as target:
        with pyebpf.slower(f"{target.path}:many", min_us=0, arguments=True) as session:
            target.go()
            calls = list(session.drain())
    assert [call.arguments for call in calls] == [(1, 2, 3, 4, 5, 6)] * 23
    assert [call.result for call in calls] == [204] * 23
    assert {call.goid for call in calls} == {None}


def test_user_stack_names_every_caller() -> None:
    """The traced function, its caller (which the kernel's walk skips at a RET), and up to main."""
    with targets.run(targets.compiled("calls.c", "-fno-omit-frame-pointer"), "-n", "3", "recurse") as target:
        with pyebpf.slower(f"{target.path}:recurse", min_us=0, user_stack=True, pid=target.pid) as session:
            target.begin()
            calls = []
            for call in session.read(timeout=targets.DEADLINE):
                calls.append(call)
                if len(calls) == 21:
                    break
            target.truth()
    for index, call in enumerate(calls):
        names = [frame.name for frame in call.user_stack]
        depth = 7 - index % 7  # the innermost returns first
        assert names[:depth] == ["recurse"] * depth, names
        assert "main" in names[depth:], names


def test_losses_are_counted_when_nobody_reads() -> None:
    """delivered + dropped = made."""
    with targets.run(targets.compiled("calls.c"), "-n", "50021", "hot") as target:
        with pyebpf.slower(f"{target.path}:hot", min_us=0) as session:
            target.go()
            delivered = sum(1 for _ in session.drain())
            dropped = session.losses.dropped
    assert dropped > 0 and delivered + dropped == 50021


def test_close_wakes_a_blocked_reader() -> None:
    session = pyebpf.slower(f"{targets.compiled('calls.c')}:hot", min_us=0)
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(session))
    reader.start()
    session.close()
    reader.join(targets.DEADLINE)
    assert not reader.is_alive() and seen == []


def test_stopping_early_loses_and_repeats_nothing() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "hot") as target:
        with pyebpf.slower(f"{target.path}:hot", min_us=0) as session:
            target.go()
            times = []
            for _ in range(997):
                times.append(next(session.drain()).time)
            assert list(session.drain()) == []
    assert len(set(times)) == 997


def test_nothing_is_read_after_close() -> None:
    """The kernel objects are gone: an error, not whatever their numbers mean by then."""
    session = pyebpf.slower(f"{targets.compiled('calls.c')}:hot", min_us=0)
    obj = session._probes.object
    session.close()
    for read in (lambda: obj.maps["calls"].fd, lambda: obj.programs["on_entry"].fd, lambda: obj.rodata["threshold"]):
        with pytest.raises(pyebpf.StateError):
            read()
