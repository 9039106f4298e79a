# SPDX-License-Identifier: BSD-2-Clause
"""Ring buffers and perf buffers of an embedder, as typed records."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ownprograms
import pytest
import targets

from pyebpf.core.object import Object
from pyebpf.errors import BadValue, BinaryError, NoSuchName, StateError


@pytest.fixture
def obj() -> Iterator[Object]:
    with ownprograms.opened("rings") as made:
        assert made.rodata is not None
        made.rodata["only"] = os.getpid()
        made.load()
        yield made


def act(numbers: Any) -> None:
    """Calls getpgid with numbers that no process has."""
    for number in numbers:
        try:
            os.getpgid(number | 1 << 30)
        except ProcessLookupError:
            pass


def number_of(event: Any) -> int:
    return int(event.number & ~(1 << 30))


@pytest.mark.parametrize("kind", ["ring", "perf"])
def test_typed_records(obj: Object, kind: str) -> None:
    if kind == "ring":
        reader: Any = obj.ring("events")  # of the type the map declares
        obj.programs["on_call"].attach()
    else:
        reader = obj.perf("samples", type="event")
        obj.programs["on_sample"].attach()
    act(range(997))
    events = list(reader.drain())
    assert [number_of(event) for event in events] == list(range(997)) or kind == "perf"
    assert sorted(number_of(event) for event in events) == list(range(997))
    first = events[0]
    assert type(first).__name__ == "event" and first.pid == os.getpid()
    assert first.comm == Path("/proc/self/comm").read_bytes().strip()
    assert (first.level, first.urgent) == ((-3, number_of(first) & 1) if kind == "ring" else (5, 0))
    assert list(reader.drain()) == [] and reader.read(0) is None and reader.read(0.01) is None
    act([23])
    assert number_of(reader.read(5)) == 23
    act([5, 7])
    assert sorted(number_of(event) for event in (reader.read(), reader.read())) == [5, 7]
    assert kind == "ring" or reader.lost == 0


@pytest.mark.parametrize("kind", ["ring", "perf"])
def test_waiting_and_closing(obj: Object, kind: str) -> None:
    obj.programs["on_call" if kind == "ring" else "on_sample"].attach()

    def opened() -> Any:
        return obj.ring("events", type="event") if kind == "ring" else obj.perf("samples", type="event", pages=8)

    name = "events" if kind == "ring" else "samples"
    reader = opened()
    with pytest.raises(StateError, match=f"map {name} is being read already") as caught:
        opened()
    assert "close() it first" in str(caught.value.hint)
    poll = select.poll()
    poll.register(reader.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    act(range(23))
    assert poll.poll(5000)
    assert len(list(reader.drain())) == 23 and poll.poll(0) == []
    got: list[Any] = []
    three = threading.Event()

    def read() -> None:
        for event in reader:
            got.append(number_of(event))
            if len(got) == 3:
                three.set()

    thread = threading.Thread(target=read)
    thread.start()
    act([1, 2, 3])
    assert three.wait(targets.DEADLINE)
    reader.close()
    reader.close()
    thread.join(targets.DEADLINE)
    assert not thread.is_alive() and sorted(got) == [1, 2, 3]
    for dead in (reader.drain, reader.read, reader.fileno, lambda: iter(reader)):
        with pytest.raises(StateError, match="closed"):
            dead()
    with opened() as again:  # whose buffer may have kept what came meanwhile
        list(again.drain())
        act([5])
        assert number_of(again.read(5)) == 5


def test_a_blocked_read_is_woken(obj: Object) -> None:
    reader = obj.ring("events")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(reader.read()))
    thread.start()
    obj.close()
    thread.join(targets.DEADLINE)
    assert not thread.is_alive() and reader.closed


def test_which_type(obj: Object) -> None:
    with pytest.raises(BadValue, match="ring others: which of event, text, words, big are its records") as caught:
        obj.ring("others")
    assert "type=" in str(caught.value.hint)
    with pytest.raises(NoSuchName, match="no type 'evnt'"):
        obj.ring("others", type="evnt")
    with pytest.raises(BadValue, match=r"no ring buffer .*; perf\(\) reads it"):
        obj.ring("samples")
    with pytest.raises(BadValue, match=r"ring\(\) reads it"):
        obj.perf("events")
    with pytest.raises(NoSuchName):
        obj.ring("nothing")
    with pytest.raises(BadValue, match="a power of two"):
        obj.perf("samples", type="event", pages=3)
    with pytest.raises(BadValue, match="a type is a structure's name"):
        obj.ring("others", type=5)  # type: ignore[arg-type]
    with obj.ring("others", type=bytes) as reader:  # nothing of the failed attempts holds it
        assert list(reader.drain()) == []


def test_records_of_other_lengths(obj: Object) -> None:
    obj.programs["on_other"].attach()

    def of(type: Any, calls: int = 1) -> list[Any]:
        with obj.ring("others", type=type) as reader:
            act(range(calls))
            return list(reader.drain())

    raw = of(bytes)
    assert [len(record) for record in raw] == [10, 20] and raw[0] == b"\5\0\0\0hello\0"
    texts = obj.btf.layout("text")

    def tell(record: bytes) -> Any:
        return record[4:].partition(b"\0")[0] if len(record) == 10 else obj.btf.layout("words").unpack(record).count

    assert of(tell, 2) == [b"hello", 3, b"hello", 3] and texts.size == 68
    with obj.ring("others", type="text") as reader:
        act([1])
        first, second = reader.drain()
        assert first.size == 5 and first.bytes == b"hello"
        assert second.size == 3  # as long as a text might be: nobody can tell
    with obj.ring("others", type="words") as reader:
        act([1])
        records = iter(reader)
        first, second = next(records), next(records)
        assert second.count == 3 and second.items == (23, 997, 10007) and first.items == ()
    with obj.ring("others", type="event") as reader:
        act([1])
        with pytest.raises(BinaryError, match="ring others: a record of 10 bytes came, struct event has 32"):
            reader.read(5)
        assert reader.read(5).comm == b"\3"  # the other ends within the last member, a text
        assert list(reader.drain()) == []


def test_records_that_wrap_around_and_get_lost(obj: Object) -> None:
    """A page is 4 records and a bit: most wrap, in bursts that fit; then more than fit."""
    obj.programs["on_big"].attach()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        with obj.perf("samples", type="big", pages=1) as reader:
            numbers = []
            for _ in range(997):
                act([1, 2, 3])
                numbers += [record.number for record in reader.drain()]
            assert numbers == list(range(1, 3 * 997 + 1)) and reader.lost == 0
            act(range(23))
            got = [record.number for record in reader.drain()]
            act([1])  # the kernel tells of a loss with the next record
            got += [record.number for record in reader.drain()]
            assert len(got) + reader.lost == 24 and reader.lost > 0
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def test_what_was_lost_is_asked_for_while_it_is_closed(obj: Object) -> None:
    """By another thread: the kernel is asked by descriptors that are about to close."""
    for _ in range(23):
        reader, asking, failed = obj.perf("samples", type="event", pages=1), threading.Event(), []

        def ask(reader: Any = reader, asking: Any = asking, failed: Any = failed) -> None:
            try:
                while not reader.closed:
                    failed += [reader.lost] if reader.lost else []
                    asking.set()
                failed += [reader.lost] if reader.lost else []
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert asking.wait(targets.DEADLINE)
        reader.close()
        thread.join(targets.DEADLINE)
        assert failed == [] and not thread.is_alive()


def test_records_across_the_end_of_a_ring(obj: Object) -> None:
    """64 KB are no multiple of a record: one of each round lies across the end, read alone or with others."""
    obj.programs["on_call"].attach()
    obj.programs["on_other"].attach()
    with obj.ring("events") as events, obj.ring("others", type=bytes) as others:
        for burst in (1, 23, 997):
            for start in range(0, 10007, burst):
                act(range(start, start + burst))
                assert [number_of(event) for event in events.drain()] == list(range(start, start + burst))
                pairs = list(others.drain())
                assert [len(one) for one in pairs] == [10, 20] * burst
                assert {one[:9] for one in pairs[::2]} == {b"\5\0\0\0hello"}


def test_a_full_ring_is_the_programs_to_count(obj: Object) -> None:
    obj.programs["on_call"].attach()
    with obj.ring("events") as reader:
        act(range(10007))
        got = list(reader.drain())
        assert obj.bss is not None
        assert len(got) + obj.bss["dropped"] == 10007 and obj.bss["dropped"] > 0
        assert [number_of(event) for event in got] == list(range(len(got)))
