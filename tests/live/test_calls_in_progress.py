# SPDX-License-Identifier: BSD-2-Clause
"""Frames find their calls, whether they have a place of their own or share the overflow (bpf/include/frame.bpf.h)."""

from __future__ import annotations

import pytest
import targets

import pyebpf
from pyebpf.core.object import Object
from pyebpf.tools import probes
from pyebpf.tools.histogram import Histogram
from pyebpf.tools.probes import Losses


class Room:
    """Gives the objects that are opened from now on this many places; None: as many as they ask for."""

    places: int | None = None
    overflow: int | None = None


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    room = Room()

    def opened(name: str) -> Object:
        obj = open_bundled(name)
        for map, entries in (("frames", room.places), ("overflow", room.overflow)):
            obj.maps[map].max_entries = entries or obj.maps[map].max_entries
        return obj

    open_bundled = probes.open_bundled
    monkeypatch.setattr(probes, "open_bundled", opened)
    return room


@pytest.fixture(params=[None, 1, 23], ids=["own", "overflow", "both"])
def places(request: pytest.FixtureRequest, room: Room) -> None:
    room.places = request.param


def timed(target: targets.Target, name: str) -> tuple[Histogram, Losses]:
    with pyebpf.latency(f"{target.path}:{name}") as session:
        target.go()
        (histogram,) = session.snapshot().values()
        return histogram, session.losses


@pytest.mark.usefixtures("places")
def test_deep_recursion() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "deep") as target:
        deep, losses = timed(target, "deep")
    assert deep.count == 23 * 201
    assert losses == Losses()


@pytest.mark.usefixtures("places")
def test_calls_left_by_longjmp() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "longjmp") as target:
        jumper, losses = timed(target, "jumper")
    assert jumper.count == 499
    assert losses == Losses(abandoned=losses.abandoned, in_progress=498 - losses.abandoned)
    assert jumper.total < 499 * 1_000_000  # none took another's start


@pytest.mark.usefixtures("places")
def test_a_call_that_is_filtered_out_does_not_return_for_one_left_behind() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "longjmp") as target:
        with pyebpf.trace(f"{target.path}:jumper", args=["i"], ret=["retval"], filter="i == 1") as session:
            target.go()
            assert list(session.drain()) == []
            losses = session.losses
    assert losses == Losses(rejected=996, abandoned=1)


@pytest.mark.usefixtures("places")
def test_what_was_captured_at_the_entry_is_there_at_the_return() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "nap") as target:
        with pyebpf.trace(f"{target.path}:nap", args=["us", "arg0:s32"], ret=["retval"]) as session:
            target.go()
            calls = [(call.args["us"], call.args["arg0:s32"], call.ret["retval"]) for call in session.drain()]
            assert session.losses == Losses()
    asked = [100 * (1 + i % 10) for i in range(97)]
    assert calls == [(us, us, us) for us in asked]


def test_more_calls_than_room(room: Room) -> None:
    room.places, room.overflow = 23, 29
    with targets.run(targets.compiled("calls.c"), "-n", "23", "deep") as target:
        deep, losses = timed(target, "deep")
    assert 23 * 23 <= deep.count < 23 * 201
    assert losses.evicted == losses.unmatched == 23 * 201 - deep.count
    assert losses.lost == losses.evicted and losses.in_progress == 0
