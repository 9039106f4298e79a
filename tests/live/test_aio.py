# SPDX-License-Identifier: BSD-2-Clause
"""Sessions in asyncio's event loop."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import targets

import pyebpf
from pyebpf import aio
from pyebpf.tools.funccount import Counts

LIBC = ctypes.CDLL(None)
HERE: dict[str, Any] = {"pid": os.getpid()}
DEADLINE = targets.DEADLINE


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs it, and looks what it left behind, in the loop and in the kernel."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        complaints: list[Any] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await asyncio.wait_for(test(*arguments, **keywords), DEADLINE)
            assert len(asyncio.all_tasks()) <= 2  # this one, and what waits for the test

        before = targets.own_bpf()
        asyncio.run(main())
        gc.collect()
        assert not complaints
        assert targets.own_bpf() == before

    return run


def call(times: int) -> None:
    for number in range(times):
        LIBC.labs(number)


def start(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


@in_a_loop
async def test_every_record_in_order_and_others_have_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with aio.trace("c:labs", args=["arg0"], **HERE) as calls:
        task = asyncio.ensure_future(other())
        await start(call, 10007)  # all of them wait: handing them out at once would take long
        before, seen = turns, []
        async for one in calls:
            seen.append(one.args["arg0"])
            if len(seen) == 10007:
                break
        assert seen == list(range(10007)) and calls.lost == 0
        assert turns - before > 10007 // 512
        working = start(call, 10007)  # while they come
        seen.clear()
        async for one in calls:
            seen.append(one.args["arg0"])
            if len(seen) == 10007:
                break
        await working
        assert seen == list(range(10007)) and calls.lost == 0
        task.cancel()
    assert calls.session.closed


@in_a_loop
async def test_timeouts_and_cancellation_lose_nothing() -> None:
    async with aio.trace("c:labs", args=["arg0"], **HERE) as calls:
        assert [one async for one in calls.read(timeout=0.01)] == []
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(calls.__aiter__().__anext__(), 0.01)
        await start(call, 997)
        seen: list[Any] = []

        async def read_for_ever() -> None:
            async for one in calls:
                seen.append(one.args["arg0"])
                if len(seen) in (23, 500):
                    await asyncio.sleep(DEADLINE)

        for stop in (23, 500):
            task = asyncio.ensure_future(read_for_ever())
            while len(seen) < stop:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        seen += [one.args["arg0"] async for one in calls.read(timeout=0.0)]
        assert seen == list(range(997))


@in_a_loop
async def test_closing_ends_what_others_iterate_over() -> None:
    async def all_of(items: Any) -> list[Any]:
        return [one async for one in items]

    async with aio.trace("c:labs", **HERE) as calls, aio.count("c:labs", **HERE) as counts:
        tasks = [asyncio.ensure_future(all_of(items)) for items in (calls, counts.every(1e6))]
        while calls._waiting is None or counts._waiting is None:
            await asyncio.sleep(0)
        for second in (calls, calls.read(1.0), counts):
            with pytest.raises(pyebpf.StateError, match="one reader at a time"):
                await all_of(second)
        await asyncio.gather(calls.close(), counts.close(), calls.close())
        assert await asyncio.gather(*tasks) == [[], []]
        for use in (lambda: calls.losses, lambda: calls.lost, calls.__aiter__, calls.read, lambda: counts.every(1.0)):
            with pytest.raises(pyebpf.StateError, match="closed"):
                use()
        for wait in (counts.snapshot, counts.interval, counts.__aenter__):
            with pytest.raises(pyebpf.StateError):
                await wait()
    with pytest.raises(pyebpf.StateError, match="hasn't begun"):
        _ = aio.count("c:labs").lost


@in_a_loop
async def test_intervals() -> None:
    async with aio.count("c:labs", **HERE) as counts:
        call(23)
        assert (await counts.snapshot())["labs"] == 23
        reports = []
        async for report in counts.every(0.01, 3):
            reports.append(report["labs"])
            call(7)
        assert reports == [23, 7, 7] and (await counts.interval())["labs"] == 7
        assert [type(one) async for one in counts.every(0.01, 1)] == [Counts]
        async for report in counts:  # every second
            assert report["labs"] == 0
            break
        with pytest.raises(ValueError, match="more than 0"):
            counts.every(0)
        assert counts.targets == ("c:labs",) and counts.skipped == () and isinstance(counts.notes, tuple)
        assert counts.started <= time.monotonic() and counts.losses.lost == counts.lost == 0


@in_a_loop
async def test_two_in_one_loop() -> None:
    """A tool of functions and one of the kernel's events."""

    async def some(session: Any, wanted: Callable[[Any], bool], number: int) -> int:
        found = 0
        async for record in session:
            found += wanted(record)
            if found == number:
                break
        return found

    def work() -> None:
        for _ in range(97):
            LIBC.labs(1)
            os.close(os.open(os.devnull, os.O_RDONLY))

    async with aio.slower("c:labs", min_us=0, **HERE) as slow, aio.opensnoop(**HERE) as opens:
        working = start(work)
        found = await asyncio.gather(
            some(slow, lambda _: True, 97), some(opens, lambda record: record.path == os.devnull.encode(), 97)
        )
        await working
        assert found == [97, 97]


@in_a_loop
async def test_opening_that_fails_or_is_given_up() -> None:
    with pytest.raises(pyebpf.TargetNotFound):
        async with aio.count("c:no_such_function_in_libc"):
            pass
    threads: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> Any:
        threads.append(threading.get_ident())
        begun.set()
        go_on.wait(DEADLINE)
        return pyebpf.count("c:labs", **HERE)

    giving_up: aio.AsyncSession[Any] = aio.AsyncSession(slowly)
    entering = asyncio.ensure_future(giving_up.__aenter__())
    await start(begun.wait, DEADLINE)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    go_on.set()  # it is opened, and closed at once: `in_a_loop` sees whether
    assert threads != [threading.get_ident()]

    begun.clear(), go_on.clear()
    closed: aio.AsyncSession[Any] = aio.AsyncSession(slowly)
    entering = asyncio.ensure_future(closed.__aenter__())
    await start(begun.wait, DEADLINE)
    await closed.close()
    go_on.set()
    with pytest.raises(pyebpf.StateError, match="closed while it was opened"):
        await entering


@in_a_loop
async def test_an_exception_inside() -> None:
    with pytest.raises(ZeroDivisionError):
        async with aio.trace("c:labs", **HERE) as calls:
            await start(call, 1)
            async for one in calls:
                _ = one.pid / 0
    assert calls.session.closed


@pytest.mark.parametrize("verb", dir(aio))
def test_every_verb(verb: str) -> None:
    ordinary, asynchronous = getattr(pyebpf, verb), getattr(aio, verb)
    assert asynchronous.__wrapped__ is ordinary and asynchronous.__doc__ == ordinary.__doc__
    assert getattr(aio, verb) is asynchronous
