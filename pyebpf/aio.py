# SPDX-License-Identifier: BSD-2-Clause
"""The verbs for asyncio: the same arguments and results, ``async with`` and ``async for``.

>>> async with pyebpf.aio.trace("./server:main.(*Arith).Mul", args=["args.A"]) as calls:
...     async for call in calls:
...         print(call.args["args.A"])

Opening and closing, which take some 10 to 300 ms, and reports happen in the loop's default executor. Records are read
in the loop itself, which must have ``add_reader``, as asyncio's own on Linux and uvloop's have.
"""

from __future__ import annotations

import asyncio
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial, wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import pyebpf
from pyebpf.core.unique import not_copied
from pyebpf.errors import StateError
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import Lifetime
from pyebpf.tools.stream import Stream

_Session = TypeVar("_Session", bound=Lifetime, covariant=True)
_Self = TypeVar("_Self", bound="AsyncSession[Any]")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result", covariant=True)
_MOST_AT_ONCE = 256  # records that are handed out before other tasks have their turn


class _WithSnapshot(Protocol[_Result]):
    def snapshot(self) -> _Result: ...


class _WithLosses(Protocol[_Result]):
    @property
    def losses(self) -> _Result: ...


class AsyncSession(Generic[_Session]):
    """A session for one event loop. It begins when it is entered by ``async with``, and ends with that."""

    def __init__(self, make: Callable[[], _Session]) -> None:
        self._make = make
        self._session: _Session | None = None
        self._entered = False
        self._handing_over = allocate_lock()
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None  # for records, or for the end of an interval
        self._taken: deque[Any] = deque()  # records that were read and not handed out
        self._fd = -1  # that the loop watches
        self._loop: asyncio.AbstractEventLoop

    @property
    def session(self) -> _Session:
        """The session itself, for what it has besides: ``functions``, ``counts()``. Reading and closing it is this
        object's affair. StateError before it has begun."""
        if self._session is None:
            raise StateError("the session hasn't begun: enter it by `async with`")
        return self._session

    # What every session has.

    @property
    def targets(self) -> tuple[str, ...]:
        """As the session's."""
        return self.session.targets

    @property
    def skipped(self) -> tuple[Any, ...]:
        """As the session's."""
        return self.session.skipped

    @property
    def started(self) -> float:
        """As the session's."""
        return self.session.started

    @property
    def notes(self) -> tuple[str, ...]:
        """As the session's. Finding them can take half a second, once, for a large Go program."""
        return cast(Any, self.session).notes  # type: ignore[no-any-return]

    @property
    def lost(self) -> int:
        """As the session's."""
        return cast(Any, self.session).lost  # type: ignore[no-any-return]

    @property
    def losses(self: AsyncSession[_WithLosses[_Item]]) -> _Item:  # type: ignore[type-var]
        """As the session's."""
        return self.session.losses

    # Its life.

    async def __aenter__(self: _Self) -> _Self:
        if self._entered:
            raise StateError("this session was entered before: call the verb again for another")
        self._entered = True
        self._loop = asyncio.get_running_loop()
        opening = self._loop.run_in_executor(None, self._open)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._abandon(opening)
            raise
        if self._session is None:
            raise StateError("the session was closed while it was opened", hint="call the verb again for another")
        return self

    def _open(self) -> None:
        session = self._make()
        with self._handing_over:
            if not self._closed:
                self._session = session
                return
        session.close()  # nobody waits for it any more

    def _abandon(self, opening: asyncio.Future[None]) -> None:
        """Sees to it that what is being opened will be closed."""
        with self._handing_over:
            self._closed = True
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks
        if self._session is not None:
            self._loop.run_in_executor(None, self._session.close)

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    __reduce__ = not_copied

    async def close(self) -> None:
        """Detaches and lets go of everything; whoever iterates over it, in another task, comes to an end.

        For the loop's own thread. Safe to call twice. Cancelled, it goes on in the background.
        """
        with self._handing_over:  # else what is being opened could be handed over unseen
            self._closed = True
        if self._session is not None and self._loop.is_closed():  # nobody waits on it; its threads are gone too
            self._session.close()
            return
        self._unwatch()
        self._wake()
        if self._session is not None:
            await asyncio.shield(self._loop.run_in_executor(None, self._session.close))

    def _require_open(self) -> None:
        if self._closed or self.session.closed:
            self.session._refuse()

    # Records and reports.

    def __aiter__(self: AsyncSession[Iterable[_Item]]) -> AsyncIterator[_Item]:  # type: ignore[type-var]
        """Records as they come; of a session with intervals ``every(1.0)``."""
        self._require_open()
        if isinstance(self.session, Stream):
            return _Records(cast(Any, self), None)
        return cast(Any, self).every(1.0)  # type: ignore[no-any-return]

    def read(self: AsyncSession[Stream[_Item]], timeout: float | None = None) -> AsyncIterator[_Item]:
        """Records for `timeout` seconds; None: until the session is closed.

        Raises:
            StateError: it is closed, or (at the first record) another task is reading.
        """
        self._require_open()
        return _Records(self, None if timeout is None else time.monotonic() + timeout)

    def every(
        self: AsyncSession[Intervals[_Item]], seconds: float, count: int | None = None
    ) -> AsyncIterator[_Item]:
        """Reports, each interval, `count` times or until the session is closed.

        Raises:
            ValueError: seconds isn't above 0.
            StateError: it is closed.
        """
        if not seconds > 0:
            raise ValueError(f"every({seconds}): an interval is more than 0 seconds")
        self._require_open()
        return _Every(self, seconds, count)

    async def interval(self: AsyncSession[Intervals[_Item]]) -> _Item:
        """As the session's. What was had and then cancelled is gone; `snapshot` still has it."""
        self._require_open()
        return await self._loop.run_in_executor(None, self.session.interval)

    async def snapshot(self: AsyncSession[_WithSnapshot[_Item]]) -> _Item:  # type: ignore[type-var]
        """As the session's, where it has one."""
        self._require_open()
        return await self._loop.run_in_executor(None, self.session.snapshot)

    # Waiting. One task at a time.

    async def _wait(self, seconds: float | None, fd: int = -1) -> None:
        """Until something can be read, the time is over, or the session is closed."""
        if self._waiting is not None:
            raise StateError(
                "one reader at a time: another task waits for this session",
                hint="hand its records on from there, e.g. by an asyncio.Queue, or open a session a task",
            )
        loop = self._loop
        self._waiting = loop.create_future()
        timer = None if seconds is None else loop.call_later(max(0.0, seconds), self._wake)
        try:
            if fd >= 0:
                loop.add_reader(fd, self._wake)
                self._fd = fd
            await self._waiting
        finally:
            self._waiting = None
            self._unwatch()
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _unwatch(self) -> None:
        """Before the descriptor is closed, as another's may have its number then."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1


class _Records(AsyncIterator[_Item]):
    """The records of a stream."""

    def __init__(self, owner: AsyncSession[Stream[_Item]], deadline: float | None) -> None:
        self._owner, self._deadline, self._left = owner, deadline, _MOST_AT_ONCE

    def __aiter__(self) -> _Records[_Item]:
        return self

    async def __anext__(self) -> _Item:
        owner = self._owner
        if self._left <= 0:  # a flood must not starve other tasks
            self._left = _MOST_AT_ONCE
            await asyncio.sleep(0)
        while not owner._closed:
            if owner._taken:
                self._left -= 1
                record: _Item = owner._taken.popleft()
                return record
            stream = owner.session
            records = stream.drain()
            owner._taken.extend(islice(records, self._left))
            cast(Any, records).close()
            if owner._taken:
                continue
            left = None if self._deadline is None else self._deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            rest = stream.rest()
            if rest:
                await owner._wait(rest if left is None else min(rest, left))
            else:
                await owner._wait(left, stream.fileno())
            self._left = _MOST_AT_ONCE
        raise StopAsyncIteration


class _Every(AsyncIterator[_Item]):
    """The reports of a session with intervals."""

    def __init__(self, owner: AsyncSession[Intervals[_Item]], seconds: float, count: int | None) -> None:
        self._owner, self._seconds, self._count = owner, seconds, count
        self._due = time.monotonic()

    def __aiter__(self) -> _Every[_Item]:
        return self

    async def __anext__(self) -> _Item:
        owner = self._owner
        if owner._closed or (self._count is not None and self._count <= 0):
            raise StopAsyncIteration
        self._due += self._seconds
        await owner._wait(self._due - time.monotonic())
        if owner._closed:
            raise StopAsyncIteration
        self._count = None if self._count is None else self._count - 1
        try:
            return await owner.interval()
        except StateError:
            if owner._closed:  # while it was asked for
                raise StopAsyncIteration from None
            raise


if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    _Arguments = ParamSpec("_Arguments")


def _verb(verb: Callable[_Arguments, _Session]) -> Callable[_Arguments, AsyncSession[_Session]]:
    @wraps(verb)
    def begin(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> AsyncSession[_Session]:
        return AsyncSession(partial(verb, *arguments, **keywords))

    return begin


if TYPE_CHECKING:
    argdist = _verb(pyebpf.argdist)
    bashreadline = _verb(pyebpf.bashreadline)
    bindsnoop = _verb(pyebpf.bindsnoop)
    capable = _verb(pyebpf.capable)
    count = _verb(pyebpf.count)
    drsnoop = _verb(pyebpf.drsnoop)
    execsnoop = _verb(pyebpf.execsnoop)
    exitsnoop = _verb(pyebpf.exitsnoop)
    filelife = _verb(pyebpf.filelife)
    gethostlatency = _verb(pyebpf.gethostlatency)
    killsnoop = _verb(pyebpf.killsnoop)
    latency = _verb(pyebpf.latency)
    mountsnoop = _verb(pyebpf.mountsnoop)
    opensnoop = _verb(pyebpf.opensnoop)
    shmsnoop = _verb(pyebpf.shmsnoop)
    slower = _verb(pyebpf.slower)
    sslsniff = _verb(pyebpf.sslsniff)
    stacks = _verb(pyebpf.stacks)
    statsnoop = _verb(pyebpf.statsnoop)
    syncsnoop = _verb(pyebpf.syncsnoop)
    tcpaccept = _verb(pyebpf.tcpaccept)
    tcpcong = _verb(pyebpf.tcpcong)
    tcpconnect = _verb(pyebpf.tcpconnect)
    tcpconnlat = _verb(pyebpf.tcpconnlat)
    tcpdrop = _verb(pyebpf.tcpdrop)
    tcplife = _verb(pyebpf.tcplife)
    tcpretrans = _verb(pyebpf.tcpretrans)
    tcprtt = _verb(pyebpf.tcprtt)
    tcpstates = _verb(pyebpf.tcpstates)
    tcpsubnet = _verb(pyebpf.tcpsubnet)
    tcpsynbl = _verb(pyebpf.tcpsynbl)
    tcptop = _verb(pyebpf.tcptop)
    tcptracer = _verb(pyebpf.tcptracer)
    threadsnoop = _verb(pyebpf.threadsnoop)
    trace = _verb(pyebpf.trace)
else:

    def __getattr__(name: str) -> Any:
        if name not in __dir__():
            raise AttributeError(f"module 'pyebpf.aio' has no attribute {name!r}")
        return globals().setdefault(name, _verb(getattr(pyebpf, name)))


def __dir__() -> list[str]:
    """The verbs: what pyebpf has in lower case from its tools."""
    return sorted(name for name, home in pyebpf._HOMES.items() if home.startswith("pyebpf.tools.") and name.islower())
