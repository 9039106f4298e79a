# SPDX-License-Identifier: BSD-2-Clause
"""Maps: typed keys and values, read in batches, or as plain memory where the map is mmapable."""

from __future__ import annotations

import errno
import os
import struct
from _thread import RLock
from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any

from pyebpf.core import bpf, libbpf
from pyebpf.core.layout import Layout, raw_layout
from pyebpf.core.mapbase import ARRAYS, MapBase, possible_cpus
from pyebpf.errors import BadValue, LibbpfError, StateError

if TYPE_CHECKING:
    from pyebpf.core.pins import MapInfo

__all__ = ["Map", "possible_cpus"]

_FIXED = frozenset((2, 6))  # arrays that always have all their elements
_QUEUES = frozenset((22, 23))
_BLOOM = 30
_BATCH = 4096
_BATCH_BYTES = 4 << 20
_NO_BATCHES = (-errno.EINVAL, -524, -errno.EOPNOTSUPP)
_MISSING: Any = object()


class Map(MapBase, MutableMapping[Any, Any]):
    """A map of an object, as a mapping. Keys and values have the types the C source declares, without any bytes.

    A per-CPU map's values are lists, one value a CPU. A queue or stack has `push`, `peek` and ``pop()``. What is kept
    in maps of programs, maps or sockets is given as it is (or as its file descriptor) and read as the kernel's number.

    Operations raise BadValue (it doesn't fit the C type), StateError (the object is closed, or not loaded), KeyError,
    LibbpfError (the kernel refused, e.g. as the map is full).
    """

    # A map is itself, not what is in it at the moment.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _element(self, command: int, key: bytes | None, value: bytes | None = None, flags: int = 0) -> Any:
        new = libbpf.ffi.new
        key_buffer = new("char[]", key or b"")
        value_buffer = new("char[]", value) if value is not None else new("char[]", self._value_bytes())
        with self._lock:
            attr = struct.pack(
                "<IxxxxQQQ", self.fd, libbpf.address(key_buffer) if key is not None else 0,
                libbpf.address(value_buffer), flags,
            )  # fmt: skip
            return bpf.bpf(command, attr), value_buffer

    def __getitem__(self, key: Any) -> Any:
        """The value of a key; of a per-CPU map a list, one value a CPU. Raises KeyError."""
        code, buffer = self._element(bpf.MAP_LOOKUP_ELEM, self._pack_key(key))
        if code == -errno.ENOENT:
            raise KeyError(key)
        libbpf.check(code, f"map {self.name}: looking up a key")
        return self._decode(libbpf.ffi.buffer(buffer), 0)

    def __contains__(self, key: object) -> bool:
        if self.type == _BLOOM:
            code, _ = self._element(bpf.MAP_LOOKUP_ELEM, None, self._pack_value(key))
        else:
            code, _ = self._element(bpf.MAP_LOOKUP_ELEM, self._pack_key(key))
        if code == -errno.ENOENT:
            return False
        libbpf.check(code, f"map {self.name}: looking up a key")
        return True

    def __setitem__(self, key: Any, value: Any) -> None:
        packed = self._pack_key(key)
        code, _ = self._element(bpf.MAP_UPDATE_ELEM, packed, self._pack_value(value))
        self._written(code, key)

    def _written(self, code: int, key: Any = None) -> None:
        if code == -errno.E2BIG:
            if self.type in ARRAYS:
                raise BadValue(f"map {self.name}: key: it has elements 0 to {self.max_entries - 1}, got {key!r}")
            raise LibbpfError(f"map {self.name} is full: it has room for {self.max_entries}", errno=errno.E2BIG,
                              hint="set max_entries before the object is loaded")  # fmt: skip
        libbpf.check(code, f"map {self.name}: writing an element")

    def __delitem__(self, key: Any) -> None:
        if not self._delete(self._pack_key(key)):
            raise KeyError(key)

    def _delete(self, key: bytes) -> bool:
        """Deletes an element; False: it isn't there."""
        buffer = libbpf.ffi.new("char[]", key)
        with self._lock:
            code = bpf.bpf(bpf.MAP_DELETE_ELEM, struct.pack("<IxxxxQ", self.fd, libbpf.address(buffer)))
        if code in _NO_BATCHES and self.type in _FIXED:
            raise self._undeletable()
        if code != -errno.ENOENT:
            libbpf.check(code, f"map {self.name}: deleting a key")
        return code != -errno.ENOENT

    def _undeletable(self) -> BadValue:
        return BadValue(f"map {self.name} is an array: its elements can be written, but not deleted")

    def pop(self, key: Any = _MISSING, default: Any = _MISSING) -> Any:
        """Takes an element out: of a key; of a queue or stack, which has none, the next (KeyError: it is empty)."""
        if self.type in _QUEUES:
            return self._next(bpf.MAP_LOOKUP_AND_DELETE_ELEM)
        if key is _MISSING:
            raise BadValue(f"map {self.name}: pop() wants a key")
        code, buffer = self._element(bpf.MAP_LOOKUP_AND_DELETE_ELEM, self._pack_key(key))
        if code in _NO_BATCHES:  # hashes before Linux 5.14, and other maps
            try:
                value = self[key]
                del self[key]
            except KeyError:
                code = -errno.ENOENT
            else:
                return value
        if code == -errno.ENOENT:
            if default is _MISSING:
                raise KeyError(key)
            return default
        libbpf.check(code, f"map {self.name}: taking a key out")
        return self._decode(libbpf.ffi.buffer(buffer), 0)

    def peek(self) -> Any:
        """The element of a queue or stack that ``pop()`` would take. Raises KeyError: it is empty."""
        return self._next(bpf.MAP_LOOKUP_ELEM)

    def _next(self, command: int) -> Any:
        if self.type not in _QUEUES:
            raise BadValue(f"map {self.name} is no queue or stack")
        code, buffer = self._element(command, None)
        if code == -errno.ENOENT:
            raise KeyError(f"map {self.name} is empty")
        libbpf.check(code, f"map {self.name}: reading the next element")
        return self._decode(libbpf.ffi.buffer(buffer), 0)

    def push(self, value: Any, *, force: bool = False) -> None:
        """Adds to a queue, stack or bloom filter.

        Args:
            force: of a full one, drop the oldest element.
        """
        if self.type not in _QUEUES and self.type != _BLOOM:
            raise BadValue(f"map {self.name} is no queue, stack or bloom filter")
        code, _ = self._element(bpf.MAP_UPDATE_ELEM, None, self._pack_value(value), 2 if force else 0)  # BPF_EXIST
        self._written(code)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Writes many elements, in batches where the kernel has them (Linux 5.6).

        What was written before an error stays written.
        """
        pairs: Iterable[tuple[Any, Any]] = other.items() if hasattr(other, "items") else other
        rows = [(self._pack_key(key), self._pack_value(value)) for key, value in (*pairs, *more.items())]
        self._all(bpf.MAP_UPDATE_BATCH, rows)

    def clear(self) -> None:
        """Deletes all elements there are."""
        if self.type in _QUEUES:
            try:
                while True:
                    self.pop()
            except KeyError:
                return
        if self.type in _FIXED:
            raise self._undeletable()
        # Keys as they are: what is behind a text's NUL, or between members, isn't in the keys that `items` gives.
        keys = raw_layout(self._key_layout().size)
        self._all(bpf.MAP_DELETE_BATCH, [(key, b"") for key, _ in list(self._items(bpf.MAP_LOOKUP_BATCH, keys))])

    def _all(self, command: int, rows: list[tuple[bytes, bytes]]) -> None:
        """Updates or deletes elements, a batch at a time."""
        step = max(1, min(_BATCH, _BATCH_BYTES // max(1, self._value_bytes())))
        deleting = command == bpf.MAP_DELETE_BATCH
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            keys = libbpf.ffi.new("char[]", b"".join([key for key, _ in part]))
            values = libbpf.ffi.new("char[]", b"".join([value for _, value in part]))
            with self._lock:
                attr = struct.pack("<QQQQIIQQ", 0, 0, libbpf.address(keys), 0 if deleting else libbpf.address(values),
                                   len(part), self.fd, 0, 0)  # fmt: skip
                done, code = _batch(command, attr, always=True)
            if code == 0:
                continue
            # One by one: where there are no batches, and for what else went wrong, to say of which.
            for key, value in part[done if done < len(part) and code not in _NO_BATCHES else 0 :]:
                if deleting:
                    self._delete(key)  # or it is gone meanwhile
                else:
                    one, _ = self._element(bpf.MAP_UPDATE_ELEM, key, value)
                    self._written(one, self._key_layout().unpack(key))

    def items(self) -> ItemsView[Any, Any]:
        """Keys and values, read in batches (Linux 5.6; a map type without batches is read one by one)."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """The values, read like `items`."""
        return _Values(self)

    def take(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a hash, which is empty afterwards. No program may use the map meanwhile."""
        return self._items(bpf.MAP_LOOKUP_AND_DELETE_BATCH)

    def _items(self, command: int, keys_as: Layout | None = None) -> Iterator[tuple[Any, Any]]:
        key_layout, value_bytes = keys_as or self._key_layout(), self._value_bytes()
        new = libbpf.ffi.new
        capacity = max(1, min(_BATCH, self.max_entries, _BATCH_BYTES // value_bytes))
        token = new("char[]", max(8, key_layout.size))
        keys, values = new("char[]", key_layout.size * capacity), new("char[]", value_bytes * capacity)
        first, seen = True, 0
        while True:
            addresses = [libbpf.address(buffer) for buffer in (token, keys, values)]
            with self._lock:
                attr = struct.pack("<QQQQIIQQ", 0 if first else addresses[0], *addresses, capacity, self.fd, 0, 0)
                count, code = _batch(command, attr)
            if first and code in _NO_BATCHES:
                yield from self._items_one_by_one(key_layout, delete=command != bpf.MAP_LOOKUP_BATCH)
                return
            if code == -errno.ENOSPC and not count:  # one hash bucket holds more than a batch
                capacity *= 2
                keys, values = new("char[]", key_layout.size * capacity), new("char[]", value_bytes * capacity)
                continue
            if code not in (0, -errno.ENOENT):
                libbpf.check(code, f"map {self.name}: reading a batch")
            key_data, value_data = libbpf.ffi.buffer(keys), libbpf.ffi.buffer(values)
            for index in range(count):
                yield key_layout.unpack(key_data, index * key_layout.size), self._decode(
                    value_data, index * value_bytes
                )
            seen += count
            if code == -errno.ENOENT or not count or seen > 4 * self.max_entries + _BATCH:
                return
            first = False

    def _items_one_by_one(self, key_layout: Layout, delete: bool) -> Iterator[tuple[Any, Any]]:
        new = libbpf.ffi.new
        key, following = new("char[]", key_layout.size), new("char[]", key_layout.size)
        position = 0
        for _ in range(4 * self.max_entries + 1):
            with self._lock:
                attr = struct.pack("<IxxxxQQ", self.fd, position, libbpf.address(following))
                code = bpf.bpf(bpf.MAP_GET_NEXT_KEY, attr)
            if code == -errno.ENOENT:
                return
            libbpf.check(code, f"map {self.name}: going through its keys")
            libbpf.ffi.memmove(key, following, key_layout.size)
            position = libbpf.address(key)
            raw = bytes(libbpf.ffi.buffer(key))
            code, value = self._element(bpf.MAP_LOOKUP_ELEM, raw)
            if code == -errno.ENOENT:  # deleted meanwhile
                continue
            libbpf.check(code, f"map {self.name}: looking up a key")
            if delete:
                self._delete(raw)
            yield key_layout.unpack(raw), self._decode(libbpf.ffi.buffer(value), 0)

    def __iter__(self) -> Iterator[Any]:
        for key, _ in self.items():
            yield key

    def __len__(self) -> int:
        return self.max_entries if self.type in _FIXED else sum(1 for _ in self._items(bpf.MAP_LOOKUP_BATCH))

    def __bool__(self) -> bool:
        return next(iter(self), _MISSING) is not _MISSING

    def __enter__(self) -> Map:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def open(cls, path: str) -> Map:
        """Opens a pinned map; its types are those the kernel was told, or else bytes. `close` it afterwards.

        Raises:
            TargetNotFound: nothing is pinned there. BadValue: it is no map. PermissionDenied, LibbpfError.
        """
        from pyebpf.core import pins

        return _Opened(pins.get(path), path)

    @classmethod
    def create(cls, type: int, key_size: int, value_size: int, max_entries: int, name: str = "map") -> Map:
        """Makes a map of its own, e.g. to put into a map of maps. `close` it afterwards; keys and values are bytes."""
        fd = libbpf.check(bpf.create_map(type, key_size, value_size, max_entries), f"map {name}: creating it")
        return _Opened(fd, None, name)

    def inner(self, key: Any) -> Map:
        """Of a map of maps: the map a key has, to be closed. Raises KeyError."""
        if self.type not in (12, 13):
            raise BadValue(f"map {self.name} is no map of maps")
        fd = bpf.bpf(bpf.MAP_GET_FD_BY_ID, struct.pack("<III", self[key], 0, 0))
        return _Opened(libbpf.check(fd, f"map {self.name}: opening the map of {key!r}"), None)


class _Opened(Map):
    """A map of no object: opened where it is pinned, or made by us."""

    def __init__(self, fd: int, path: str | None, name: str = "") -> None:
        from pyebpf.core import pins

        try:
            self._info: MapInfo = pins.map_info(fd)
            self._btf = pins.btf_of(self._info.btf_id)
        except BaseException:
            os.close(fd)
            raise
        self._pointer: Any = fd
        self._lock = RLock()
        self.name, self.type = self._info.name or name, self._info.type
        known = self._btf is not None
        self._key_type, self._value_type = (self._info.key_type, self._info.value_type) if known else (0, 0)
        self._reset()
        self._path = path

    @property
    def fd(self) -> int:
        return int(self._require_open())

    def _size(self, what: str) -> int:
        return int(getattr(self._info, what))

    def _set_size(self, what: str, size: int) -> None:
        raise StateError(f"map {self.name}: it exists, {what} can't be set any more")

    @property
    def flags(self) -> int:
        return self._info.flags

    @property
    def pin_path(self) -> str | None:
        return self._path

    def _require_open(self) -> Any:
        if self._pointer is None:
            raise StateError(f"map {self.name}: it is closed")
        return self._pointer

    def reuse(self, source: str | int | MapBase) -> None:
        raise StateError(f"map {self.name} belongs to no object")

    def close(self) -> None:
        with self._lock:
            fd = self._pointer
            super().close()
            if fd is not None:
                os.close(fd)


class _Items(ItemsView[Any, Any]):
    """Keys and values of a map, a batch at a time."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        source: Any = self._mapping  # type: ignore[attr-defined]
        return iter(source._items(bpf.MAP_LOOKUP_BATCH))


class _Values(ValuesView[Any]):
    """Values of a map, a batch at a time."""

    def __iter__(self) -> Iterator[Any]:
        source: Any = self._mapping  # type: ignore[attr-defined]
        return (value for _, value in source._items(bpf.MAP_LOOKUP_BATCH))


def _batch(command: int, attr: bytes, always: bool = False) -> tuple[int, int]:
    """Runs a batch command; returns how many elements came and the result. The kernel writes the count into attr.

    Args:
        always: the count is wanted whatever the result is.
    """
    buffer = libbpf.ffi.new("char[]", attr)
    code = bpf.bpf_inout(command, buffer, len(attr))
    count = struct.unpack_from("<I", libbpf.ffi.buffer(buffer), 32)[0]
    return (count if always or code in (0, -errno.ENOENT) else 0), code
