# SPDX-License-Identifier: BSD-2-Clause
"""Reading a perf event array: a ring for each CPU, by mmap and epoll.

Format: ``include/uapi/linux/perf_event.h`` (struct perf_event_mmap_page, PERF_RECORD_SAMPLE, PERF_RECORD_LOST).
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
from _thread import RLock, allocate_lock
from collections.abc import Iterator

from pyebpf.core import bpf, libbpf
from pyebpf.core.attach import online_cpus
from pyebpf.core.map import Map
from pyebpf.core.ringbuf import fence
from pyebpf.errors import BadValue, LibbpfError

_HEAD, _TAIL = 1024 // 8, 1032 // 8  # data_head, data_tail: words of the first page
_LOST, _SAMPLE = 2, 9


class _Ring:
    """One CPU's."""

    def __init__(self, fd: int, cpu: int, pages: int) -> None:
        page = mmap.PAGESIZE
        self.fd, self.cpu = fd, cpu
        self.size = pages * page
        self.map = mmap.mmap(fd, page + self.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.words = memoryview(self.map)[:page].cast("Q")
        self.data = memoryview(self.map)[page:]

    def bytes_at(self, position: int, size: int) -> bytes:
        """What lies at a position, also where it goes on at the ring's beginning."""
        start = position % self.size
        end = start + size
        if end <= self.size:
            return bytes(self.data[start:end])
        return bytes(self.data[start:]) + bytes(self.data[: end - self.size])

    def close(self) -> None:
        self.words.release()
        self.data.release()
        bpf.unmap(self.map)  # of which another thread may be reading a record


class PerfBuffer:
    """The reading end of a ``BPF_MAP_TYPE_PERF_EVENT_ARRAY``, on the CPUs that are at work now.

    Records are padded to 8 bytes by the kernel. Those of one CPU come in their order; CPUs come one after the other.

    Args:
        source: the map.
        pages: of memory for each CPU, a power of two.

    Attributes:
        fd: readable when records wait; for somebody else's event loop.
    """

    def __init__(self, source: Map, pages: int) -> None:
        if not isinstance(pages, int) or pages <= 0 or pages & (pages - 1) or pages > 1 << 16:
            raise BadValue(f"perf buffer {source.name}: pages is a power of two, got {pages!r}")
        self._told = 0  # lost, as records say
        self._source, self._map_fd = source, source.fd
        self._rings: list[_Ring] = []
        self._closed = False
        self._waiting = allocate_lock()
        self._asking = RLock()  # whoever asks the descriptors for `lost`
        self._fence = fence()
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        try:
            for cpu in online_cpus():
                if cpu < source.max_entries:
                    self._add(cpu, pages)
        except BaseException:
            self.close()
            raise

    def _add(self, cpu: int, pages: int) -> None:
        what = f"perf buffer {self._source.name}, CPU {cpu}"
        fd = bpf.open_output_event(cpu)
        if fd == -errno.ENODEV:  # went offline
            return
        libbpf.check(fd, what)
        try:
            ring = _Ring(fd, cpu, pages)
        except OSError as error:
            os.close(fd)
            hint = "fewer pages, or a higher kernel.perf_event_mlock_kb" if error.errno == errno.EPERM else None
            raise LibbpfError(f"{what}: mmap: {error.strerror}", errno=error.errno, hint=hint) from None
        self._rings.append(ring)
        self._source[cpu] = fd
        bpf.enable_perf_event(fd)
        self._epoll.register(fd, select.EPOLLIN)

    def drain(self) -> Iterator[bytes]:
        """Yields the records that are there now; never blocks."""
        try:
            for ring in self._rings:
                yield from self._drain(ring)
        except ValueError:  # closed by another thread meanwhile: its views are released
            if not self._closed:
                raise

    def _drain(self, ring: _Ring) -> Iterator[bytes]:
        position, end = ring.words[_TAIL], ring.words[_HEAD]
        self._fence()  # the head before what it says is there
        while position < end:
            kind, _, size = struct.unpack("<IHH", ring.bytes_at(position, 8))
            if size < 8 or position + size > end:
                raise LibbpfError(f"perf buffer {self._source.name}: a malformed record of {size} bytes")
            body = ring.bytes_at(position + 8, size - 8)
            position += size
            self._fence()  # the data before it is given back
            ring.words[_TAIL] = position
            if kind == _SAMPLE:
                yield body[4 : 4 + int.from_bytes(body[:4], "little")]
                if self._closed:
                    return
            elif kind == _LOST:
                self._told += int.from_bytes(body[8:16], "little")

    @property
    def lost(self) -> int:
        """Records that found no room. Before Linux 6.0, and once it is closed, those that a later record told of."""
        with self._asking:
            try:
                counts = [] if self._closed else [bpf.lost_records(ring.fd) for ring in self._rings]
            except OSError:  # closed meanwhile by a signal's handler
                counts = []
            if counts and None not in counts:
                self._told = sum(filter(None, counts))
            return self._told

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until records may be there, `close`, or the timeout (seconds). True: look."""
        with self._waiting:
            if self._closed:
                return False
            return bool(self._poll.poll(None if timeout is None else max(0, int(timeout * 1000 + 0.999))))

    def close(self) -> None:
        """Wakes a `wait` in another thread, and lets go of everything. Safe to call twice."""
        with self._asking:
            if self._closed:
                return
            self._told = self.lost  # the last time that it can be asked for
            self._closed = True
        os.write(self._wake_write, b"x")
        with self._waiting:  # a reader has left the descriptors alone
            pass
        for ring in self._rings:
            # The map would hold the event. Without its lock, which who closes the object holds while waiting for us.
            key = libbpf.ffi.new("__u32[]", [ring.cpu])
            bpf.bpf(bpf.MAP_DELETE_ELEM, struct.pack("<IxxxxQ", self._map_fd, libbpf.address(key)))
            ring.close()
        bpf.close_all([ring.fd for ring in self._rings])
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
