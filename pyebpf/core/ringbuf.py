# SPDX-License-Identifier: BSD-2-Clause
"""Reading a ring buffer map by mmap and epoll, without libbpf's reader.

libbpf's wants a C callback a record, which needs executable memory under cffi and costs three times as much. The
protocol is that of the kernel's ``kernel/bpf/ringbuf.c``: one page with the consumer's position (ours to write), one
with the producer's, then the data twice in a row, so that a record never wraps. Only the first of the two is mapped,
which halves the time and the memory it takes: the one record a round that lies across the end is copied.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator

from pyebpf.core import bpf
from pyebpf.core.map import Map
from pyebpf.errors import LibbpfError, StateError

_BUSY = 1 << 31
_DISCARD = 1 << 30
HEADER = 8  # bytes before a record: its length and flags, and what only the kernel wants to know
_REST = 0.004  # seconds: what comes closer together than that is looked for, not waited for
_SHORT_REST = 0.001  # where a 64th of the buffer was filled meanwhile
MOST_IN_A_RUN = 1024


class Run:
    """Records of the same size, one behind the other in a ring buffer.

    Attributes:
        data: the records, each with the kernel's header before it and padding behind it: for `struct.iter_unpack`. It
            is a view of the buffer or a copy, valid until it is taken.
        count: of the records.
        size: of a record, without header and padding.
        stride: from one record to the next.
    """

    __slots__ = ("_ring", "_taken", "count", "data", "size", "stride")

    def __init__(self, ring: RingBuffer, data: memoryview, count: int, size: int) -> None:
        self.data, self.count, self.size, self.stride = data, count, size, _stride(size)
        self._ring, self._taken = ring, 0

    def records(self) -> Iterator[memoryview]:
        """Each of the records, without header and padding."""
        return records_of(self.data, self.size)

    def take(self, count: int) -> None:
        """Gives back the first `count` records (counted from the beginning of the run): they are not read again."""
        self._ring._take((count - self._taken) * self.stride)
        self._taken = count


class RingBuffer:
    """The reading end of a ``BPF_MAP_TYPE_RINGBUF``. One reader at a time.

    Readers of many records should take `runs`, which cost next to nothing a record.

    Args:
        source: the map.
        awake: an mmapable array of one u64, for programs that need not be told to wake a reader who is busy: `wait`
            sets it to 1 while it looks at the buffer by itself, which it does as long as records come close together.

    Attributes:
        fd: readable when records wait; for somebody else's event loop.
    """

    def __init__(self, source: Map, awake: Map | None = None) -> None:
        page = mmap.PAGESIZE
        self.fd = source.fd
        self._size = source.max_entries
        try:
            self._consumer_page = mmap.mmap(self.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
            self._producer_map = mmap.mmap(self.fd, page + self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise LibbpfError(f"ring buffer {source.name}: mmap: {error.strerror}", errno=error.errno) from None
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._producer = memoryview(self._producer_map)[:8].cast("Q")
        self._lengths = memoryview(self._producer_map)[page:].cast("I")
        self._data = memoryview(self._producer_map)[page:]
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        self._rest_poll = select.poll()
        self._rest_poll.register(self._wake_read, select.POLLIN)
        self._awake = None if awake is None else memoryview(awake.memory()).cast("Q")
        self._position = self._consumer[0]  # where the last `wait` began, and when
        self._looked, self._rested = 0.0, 0.0
        self._fence = fence()
        self._full_fence = _Fence()
        self._closed = False
        self._waiting = allocate_lock()

    def drain(self) -> Iterator[memoryview]:
        """Yields the records that are there now; never blocks.

        A record is a view of the buffer, valid until the next one is asked for.
        """
        for run in self.runs():
            for index, record in enumerate(run.records(), 1):
                try:
                    yield record
                finally:  # also when the reader stops here: a record is delivered once
                    run.take(index)
                if self._closed:
                    return

    def runs(self, most: int = MOST_IN_A_RUN) -> Iterator[Run]:
        """Yields the records that are there now, many at a time; never blocks.

        What the reader doesn't `Run.take` is there again next time; a run that isn't taken whole is the last.

        Args:
            most: records in a run.
        """
        if self._closed:
            raise StateError("the ring buffer is closed")
        try:
            if self._awake is not None:  # whoever waits for fd afterwards is to be woken
                self._awake[0] = 0
                self._full_fence()
            yield from self._runs(most)
        except ValueError:  # closed by another thread meanwhile: its views are released
            if not self._closed:
                raise

    def _runs(self, most: int) -> Iterator[Run]:
        mask = self._size - 1
        position = self._consumer[0]
        end = self._producer[0]  # looked at once: whoever is overrun must get to look at other things too
        self._fence()  # the producer's position before what it says is there
        while position < end:
            start = position & mask
            length = self._lengths[start // 4]
            if length & _BUSY:  # reserved, not committed yet
                return
            if length & _DISCARD:
                position += _stride(length & ~_DISCARD)
                self._consumer[0] = position
                continue
            stride = _stride(length)
            # Where the headers are if all records are like the first: true up to the first that differs.
            stop = start + min((end - position) // stride, (self._size - start) // stride, most) * stride
            lengths = self._lengths[start // 4 : stop // 4 : stride // 4].tolist()
            count = len(lengths)
            if lengths.count(length) < count:
                count = next(index for index, other in enumerate(lengths) if other != length)
            self._fence()  # the records' lengths before their data
            if count:
                data = self._data[start : start + count * stride]
            else:  # it lies across the end
                count = 1
                data = memoryview(bytes(self._data[start:]) + bytes(self._data[: start + stride - self._size]))
            position += count * stride
            yield Run(self, data, count, length)
            if self._closed or self._consumer[0] != position:
                return

    def _take(self, size: int) -> None:
        """Gives back so many bytes."""
        self._fence()  # the data before it is given back
        try:
            self._consumer[0] += size
        except ValueError:  # closed by another thread meanwhile
            if not self._closed:
                raise

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until records may be there, `wake` is called, or the timeout (seconds) is over. True: look."""
        milliseconds = None if timeout is None else max(0, int(timeout * 1000 + 0.999))
        with self._waiting:
            if self._closed:
                return False
            rest = self.rest() * 1000 if milliseconds != 0 else 0
            if rest:
                ready = self._rest_poll.poll(min(rest, milliseconds or rest)) or [(self.fd, select.POLLIN)]
            else:
                ready = self._poll.poll(milliseconds)
            for fd, _ in ready:
                if fd == self._wake_read:
                    os.read(self._wake_read, 64)
        return bool(ready)

    def rest(self) -> float:
        """For a loop that polls `fd` itself, before it does: in how many seconds it should rather look; 0.0: poll.

        So it is while records come, from the second that comes within 4 ms, and nobody wakes the loop then: a lone one
        does at once. `wait` does all of this.
        """
        if self._awake is None:
            return 0.0
        now, taken = time.monotonic(), self._consumer[0] - self._position
        self._position += taken
        close = self._rested > 0 or now - self._looked < _REST
        self._looked, self._rested = now, 0.0
        if taken and close:
            self._awake[0] = 1
            self._rested = _REST if taken < self._size // 64 else _SHORT_REST
        return self._rested

    def wake(self) -> None:
        """Makes a `wait` in another thread return. Safe from signal handlers and after close."""
        try:
            os.write(self._wake_write, b"x")
        except OSError:
            pass

    def close(self) -> None:
        """Wakes a `wait` in another thread, and lets go of everything. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.wake()
        with self._waiting:  # a reader has left the descriptors alone
            pass
        for view in (self._consumer, self._producer, self._lengths, self._data, self._awake):
            if view is not None:
                view.release()
        bpf.unmap(self._consumer_page)
        bpf.unmap(self._producer_map)  # of which a record may still be held
        del self._consumer_page, self._producer_map
        os.close(self._wake_read)
        unused, self._wake_write = self._wake_write, -1  # another file may have its number then: nothing for `wake`
        os.close(unused)


def records_of(data: memoryview, size: int) -> Iterator[memoryview]:
    """The records of this size that `Run.data` is made of."""
    return (data[at : at + size] for at in range(HEADER, len(data), _stride(size)))


def _stride(size: int) -> int:
    """From a record of this size to the next."""
    return (size + HEADER + 7) // 8 * 8


def _no_fence() -> None:
    """x86-64 keeps loads in order, and stores after loads: nothing to do."""


class _Fence:
    """A memory barrier for weakly ordered CPUs, made of what Python has.

    Releasing one lock and acquiring it again orders everything before with everything after (release then acquire of
    the same lock is sequentially consistent on arm64); two pairs, so that neither side can be reordered into one
    critical section.
    """

    def __init__(self) -> None:
        self._first, self._second = allocate_lock(), allocate_lock()

    def __call__(self) -> None:
        self._first.acquire()
        self._first.release()
        self._second.acquire()
        self._second.release()


def fence() -> Callable[[], None]:
    """What this machine needs between a position and the data it tells of."""
    return _no_fence if os.uname().machine == "x86_64" else _Fence()


def unpack_words(record: memoryview, offset: int, size: int) -> tuple[int, ...]:
    """Reads `size` bytes of 64-bit words at an offset of a record."""
    count = max(0, min(size, len(record) - offset)) // 8
    return struct.unpack_from(f"<{count}Q", record, offset)
