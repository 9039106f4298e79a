# SPDX-License-Identifier: BSD-2-Clause
"""An embedder's readers of ring and perf buffers: typed records, one after the other."""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from typing import Any, Union

from pyebpf.core.btf import ARRAY, STRUCT, Btf
from pyebpf.core.layout import Layout
from pyebpf.core.map import Map
from pyebpf.core.perfbuf import PerfBuffer
from pyebpf.core.ringbuf import RingBuffer
from pyebpf.core.unique import not_copied
from pyebpf.errors import BadValue, BinaryError, StateError

RecordType = Union[str, type, Callable[[bytes], Any], None]
_RINGBUF, _PERF_EVENT_ARRAY = 27, 4


class Records:
    """Turns a record's bytes into what an embedder asked for.

    A record that ends within its type's last member, an array, or goes on behind it where that array has no length, has
    so much of it; that is how programs send texts and stacks. Any other length that isn't the type's is an error.

    Args:
        what: is read, for errors.
        spare: bytes that may come behind a record, and mean nothing.
    """

    def __init__(self, source: Map, btf: Btf, type: RecordType, what: str, spare: int = 0) -> None:
        self.what, self._spare = what, spare
        if type is None:
            type = _infer(source, btf, what)
        self.layout: Layout | None = None
        self.decode: Callable[[Any], Any]
        if isinstance(type, str):
            self._compile(btf, type)
            self.decode = self._typed
        elif type is bytes:
            self.decode = bytes
        elif callable(type):
            function = type
            self.decode = lambda record: function(bytes(record))
        else:
            raise BadValue(f"{what}: a type is a structure's name, bytes or a function, got {type!r}")

    def _compile(self, btf: Btf, name: str) -> None:
        number = btf.number(name)
        self._name = btf.spelled(number)
        self.layout = btf.layout_of(number)
        self._last: tuple[int, Layout, bool] | None = None  # the last member, if an array
        kind = btf.resolve(number)
        rows = btf.fields(kind) if kind.kind == STRUCT else []
        if rows and not rows[-1][3]:
            _, type_id, bits, _ = rows[-1]
            last = btf.resolve(type_id)
            if last.kind == ARRAY:
                element, _ = btf.array(last)
                one = btf.resolve(element)
                chars = btf.layout_of(element).size == 1 and one.name in ("char", "unsigned char")
                self._last = bits // 8, btf.layout_of(element), chars
                self._text = one.name == "char"

    def _typed(self, record: Any) -> Any:
        assert self.layout is not None
        size, length = self.layout.size, len(record)
        if size <= length <= size + self._spare and (self._last is None or self._last[0] < size or length == size):
            return self.layout.unpack(record)
        if self._last is not None:
            at, element, chars = self._last
            if at <= length and (length < size or at >= size - 7):
                value = self.layout.unpack(bytes(record[:size]).ljust(size, b"\0"))
                tail = bytes(record[at:])
                if chars:
                    rest: Any = tail.partition(b"\0")[0] if self._text else tail
                else:
                    step = max(element.size, 1)
                    rest = tuple(element.unpack(tail, start) for start in range(0, len(tail) - step + 1, step))
                return value._replace(**{value._fields[-1]: rest})
        raise BinaryError(
            f"{self.what}: a record of {length} bytes came, {self._name} has {size}",
            hint="records of several types? take them with type=bytes, or give a function that tells them apart",
        )


def _infer(source: Map, btf: Btf, what: str) -> str | type:
    """The type of records nobody named. Raises BadValue."""
    if source.value is not None and source.value.name and source.type == _RINGBUF:
        return source.value.name
    anchored = btf.anchored()
    if f"{source.name}_record" in anchored:  # so PYEBPF_RING has it
        return anchored[f"{source.name}_record"]
    found = [*dict.fromkeys(anchored.values())]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(found)
        raise BadValue(f"{what}: which of {names} are its records?", hint=f"say type={found[0]!r}, or type=bytes")
    raise BadValue(
        f"{what}: the object says of no structure that it is a record",
        hint="keep one in the .bpf.c (const struct event *unused_event __attribute__((unused));), or say type=bytes",
    )


class Reader:
    """Reads records: an iterator that waits for more, until it is closed. One thread reads; any may close.

    Attributes:
        name: of the map.
    """

    def __init__(self, source: Map, make: Callable[[], RingBuffer | PerfBuffer], decode: Any) -> None:
        self.name = source.name
        self._source, self._decode = source, decode
        self._closing = allocate_lock()
        self._closed = False
        if source.reader is not None:
            raise StateError(
                f"map {source.name} is being read already: a record is given to one reader",
                hint="use that reader, or close() it first",
            )
        self._buffer = make()
        source.reader = self

    def fileno(self) -> int:
        """A descriptor that is readable when records wait, for an event loop that calls `drain` then.

        Drain once after the loop was told of it, and to the end each time: a perf buffer's tells of new records only.
        """
        self._require_open()
        return self._buffer.fd

    @property
    def closed(self) -> bool:
        """True once it was closed, or its object was."""
        return self._closed

    def _require_open(self) -> None:
        if self._closed:
            raise StateError(f"the reader of {self.name} is closed")

    def drain(self) -> Iterator[Any]:
        """Yields the records that are there now; never blocks.

        Raises:
            StateError: it is closed.
            BinaryError: a record isn't of the type; it is passed over, and the next can be read.
        """
        self._require_open()
        return self._drain()

    def _drain(self) -> Iterator[Any]:
        try:
            yield from self._values()
        except StateError:  # closed by another thread meanwhile
            if not self._closed:
                raise

    def _values(self) -> Iterator[Any]:
        raise NotImplementedError

    def read(self, timeout: float | None = None) -> Any:
        """The next record; None when the timeout (seconds) is over, or somebody closed the reader meanwhile."""
        self._require_open()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            records = self._drain()
            try:
                for record in records:
                    return record
            finally:
                records.close()  # type: ignore[attr-defined]
            left = None if end is None else end - time.monotonic()
            if self._closed or (left is not None and left <= 0):
                return None
            self._buffer.wait(left)

    def __iter__(self) -> Iterator[Any]:
        self._require_open()
        return self._forever()

    def _forever(self) -> Iterator[Any]:
        while not self._closed:
            yield from self._drain()
            if not self._closed:
                self._buffer.wait()

    def close(self) -> None:
        """Ends reading; wakes a reader that waits. From any thread; safe to call twice."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._buffer.close()
                self._source.reader = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    __reduce__ = not_copied


class RingReader(Reader):
    """Of a ring buffer. What found no room, only the program knows (``bpf_ringbuf_reserve`` gave NULL)."""

    def __init__(self, source: Map, btf: Btf, type: RecordType) -> None:
        what = f"ring {source.name}"
        if source.type != _RINGBUF:
            raise BadValue(f"{what}: the map is no ring buffer (BPF_MAP_TYPE_RINGBUF)" +
                           ("; perf() reads it" if source.type == _PERF_EVENT_ARRAY else ""))  # fmt: skip
        records = Records(source, btf, type, what)
        super().__init__(source, lambda: RingBuffer(source), records.decode)

    def _values(self) -> Iterator[Any]:
        for run in self._buffer.runs():  # type: ignore[union-attr]
            for index, record in enumerate(run.records(), 1):
                try:
                    value = self._decode(record)
                finally:  # before it is handed out: a record is delivered once, also to who reads no further
                    run.take(index)
                yield value
                if self._closed:
                    return


class PerfReader(Reader):
    """Of a perf event array."""

    def __init__(self, source: Map, btf: Btf, type: RecordType, pages: int) -> None:
        what = f"perf {source.name}"
        if source.type != _PERF_EVENT_ARRAY:
            raise BadValue(f"{what}: the map is no BPF_MAP_TYPE_PERF_EVENT_ARRAY" +
                           ("; ring() reads it" if source.type == _RINGBUF else ""))  # fmt: skip
        records = Records(source, btf, type, what, spare=7)
        super().__init__(source, lambda: PerfBuffer(source, pages), records.decode)

    def _values(self) -> Iterator[Any]:
        return map(self._decode, self._buffer.drain())

    @property
    def lost(self) -> int:
        """Records that found no room. Before Linux 6.0 as far as was read: the next that finds room tells."""
        return self._buffer.lost  # type: ignore[union-attr]

    def __enter__(self) -> PerfReader:
        return self
