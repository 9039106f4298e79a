# SPDX-License-Identifier: BSD-2-Clause
"""Maps: typed keys and values, read in batches, or as plain memory where the map is mmapable."""

from __future__ import annotations

import errno
import mmap
import struct
from collections.abc import Iterator
from typing import Any

from pyebpf.core import bpf, libbpf
from pyebpf.core.btf import Btf, Layout, raw_layout
from pyebpf.errors import LibbpfError, StateError, Unsupported

_PERCPU_TYPES = frozenset((5, 6, 10, 21))  # percpu hash, percpu array, LRU percpu hash, percpu cgroup storage
_MMAPABLE = 1 << 10
_BATCH = 4096
_BATCH_BYTES = 4 << 20


class Map:
    """A map of an object. Keys and values are decoded with the types the C source declares, without any as bytes.

    Attributes:
        name: as in the C source.
        key, value: layouts from BTF, None where the map declares none.
    """

    def __init__(self, pointer: Any, btf: Btf | None) -> None:
        library = libbpf.lib()
        self._pointer = pointer
        self.name: str = libbpf.ffi.string(library.bpf_map__name(pointer)).decode()
        self.type: int = library.bpf_map__type(pointer)
        self._btf = btf
        self._key_type: int = library.bpf_map__btf_key_type_id(pointer)
        self._value_type: int = library.bpf_map__btf_value_type_id(pointer)
        self._raw_key: Layout | None = None
        self._raw_value: Layout | None = None
        self._memory: mmap.mmap | None = None

    # Looked up when asked for: most maps are the programs' own.
    @property
    def key(self) -> Layout | None:
        return self._btf.layout_of(self._key_type) if self._btf and self._key_type else None

    @property
    def value(self) -> Layout | None:
        return self._btf.layout_of(self._value_type) if self._btf and self._value_type else None

    @property
    def fd(self) -> int:
        if self._pointer is None:
            raise StateError(f"map {self.name}: the object is closed")
        fd: int = libbpf.lib().bpf_map__fd(self._pointer)
        if fd < 0:
            raise StateError(f"map {self.name}: the object isn't loaded")
        return fd

    @property
    def max_entries(self) -> int:
        if self._pointer is None:
            raise StateError(f"map {self.name}: the object is closed")
        return int(libbpf.lib().bpf_map__max_entries(self._pointer))

    @max_entries.setter
    def max_entries(self, count: int) -> None:
        code = libbpf.lib().bpf_map__set_max_entries(self._pointer, count)
        if code == -errno.EBUSY:
            raise StateError(f"map {self.name}: max_entries is set before the object is loaded")
        libbpf.check(code, f"map {self.name}: setting max_entries to {count}")

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return int(libbpf.lib().bpf_map__key_size(self._require_open()))

    @key_size.setter
    def key_size(self, size: int) -> None:
        self._set_size("key_size", libbpf.lib().bpf_map__set_key_size, size)

    @property
    def value_size(self) -> int:
        """Bytes of a value."""
        return int(libbpf.lib().bpf_map__value_size(self._require_open()))

    @value_size.setter
    def value_size(self, size: int) -> None:
        self._set_size("value_size", libbpf.lib().bpf_map__set_value_size, size)

    def _set_size(self, what: str, setter: Any, size: int) -> None:
        code = setter(self._require_open(), size)
        if code == -errno.EBUSY:
            raise StateError(f"map {self.name}: {what} is set before the object is loaded")
        libbpf.check(code, f"map {self.name}: setting {what} to {size}")
        self._raw_key = self._raw_value = None

    def _require_open(self) -> Any:
        if self._pointer is None:
            raise StateError(f"map {self.name}: the object is closed")
        return self._pointer

    def _key_layout(self) -> Layout:
        key = self.key
        if key is not None:
            return key
        if self._raw_key is None:
            self._raw_key = raw_layout(self.key_size)
        return self._raw_key

    def _value_layout(self) -> Layout:
        value = self.value
        if value is not None:
            return value
        if self._raw_value is None:
            self._raw_value = raw_layout(self.value_size)
        return self._raw_value

    def _value_bytes(self) -> int:
        size = self._value_layout().size
        return (size + 7) // 8 * 8 * possible_cpus() if self.type in _PERCPU_TYPES else size

    def _decode(self, data: Any, offset: int) -> Any:
        layout = self._value_layout()
        if self.type not in _PERCPU_TYPES:
            return layout.unpack(data, offset)
        step = (layout.size + 7) // 8 * 8
        return [layout.unpack(data, offset + cpu * step) for cpu in range(possible_cpus())]

    def _element(self, command: int, key: Any, value: bytes | None = None) -> Any:
        new = libbpf.ffi.new
        key_buffer = new("char[]", self._key_layout().pack(key))
        value_buffer = new("char[]", value) if value is not None else new("char[]", self._value_bytes())
        attr = struct.pack(
            "<IxxxxQQQ", self.fd, libbpf.address(key_buffer), libbpf.address(value_buffer), 0
        )
        return bpf.bpf(command, attr), value_buffer

    def __getitem__(self, key: Any) -> Any:
        """The value of a key; of a per-CPU map a list, one value a CPU. Raises KeyError."""
        code, buffer = self._element(bpf.MAP_LOOKUP_ELEM, key)
        if code == -errno.ENOENT:
            raise KeyError(key)
        libbpf.check(code, f"map {self.name}: looking up a key")
        return self._decode(libbpf.ffi.buffer(buffer), 0)

    def __setitem__(self, key: Any, value: Any) -> None:
        packed = self._value_layout().pack(value)
        code, _ = self._element(bpf.MAP_UPDATE_ELEM, key, packed)
        libbpf.check(code, f"map {self.name}: writing a key")

    def __delitem__(self, key: Any) -> None:
        key_buffer = libbpf.ffi.new("char[]", self._key_layout().pack(key))
        code = bpf.bpf(bpf.MAP_DELETE_ELEM, struct.pack("<IxxxxQ", self.fd, libbpf.address(key_buffer)))
        if code == -errno.ENOENT:
            raise KeyError(key)
        libbpf.check(code, f"map {self.name}: deleting a key")

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values, read in batches (Linux 5.6; a map type without batches is read one by one)."""
        return self._items(bpf.MAP_LOOKUP_BATCH)

    def take(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a hash, which is empty afterwards. No program may use the map meanwhile."""
        return self._items(bpf.MAP_LOOKUP_AND_DELETE_BATCH)

    def _items(self, command: int) -> Iterator[tuple[Any, Any]]:
        key_layout, value_bytes = self._key_layout(), self._value_bytes()
        new = libbpf.ffi.new
        capacity = max(1, min(_BATCH, self.max_entries, _BATCH_BYTES // value_bytes))
        token = new("char[]", max(8, key_layout.size))
        keys, values = new("char[]", key_layout.size * capacity), new("char[]", value_bytes * capacity)
        first, seen = True, 0
        while True:
            addresses = [libbpf.address(buffer) for buffer in (token, keys, values)]
            attr = struct.pack("<QQQQIIQQ", 0 if first else addresses[0], *addresses, capacity, self.fd, 0, 0)
            count, code = _batch(command, attr)
            if first and command == bpf.MAP_LOOKUP_BATCH and code in (-errno.EINVAL, -524, -errno.EOPNOTSUPP):
                yield from self._items_one_by_one()
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

    def _items_one_by_one(self) -> Iterator[tuple[Any, Any]]:
        key_layout = self._key_layout()
        new = libbpf.ffi.new
        key, following = new("char[]", key_layout.size), new("char[]", key_layout.size)
        position = 0
        for _ in range(4 * self.max_entries + 1):
            attr = struct.pack("<IxxxxQQ", self.fd, position, libbpf.address(following))
            if bpf.bpf(bpf.MAP_GET_NEXT_KEY, attr) < 0:
                return
            libbpf.ffi.memmove(key, following, key_layout.size)
            position = libbpf.address(key)
            decoded = key_layout.unpack(libbpf.ffi.buffer(key))
            try:
                yield decoded, self[decoded]
            except KeyError:  # deleted meanwhile
                continue

    def __iter__(self) -> Iterator[Any]:
        for key, _ in self.items():
            yield key

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def memory(self) -> mmap.mmap:
        """The values of an mmapable array (``BPF_F_MMAPABLE``, Linux 5.5) as memory, readable and writable.

        Elements lie one after the other, each padded to 8 bytes.
        """
        if self._memory is None:
            if not libbpf.lib().bpf_map__map_flags(self._pointer) & _MMAPABLE:
                raise Unsupported(f"map {self.name} isn't declared BPF_F_MMAPABLE", feature="mmapable array")
            size = (self._value_layout().size + 7) // 8 * 8 * self.max_entries
            pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
            try:
                self._memory = mmap.mmap(self.fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            except OSError as error:
                raise LibbpfError(f"map {self.name}: mmap: {error.strerror}", errno=error.errno) from None
        return self._memory

    def close(self) -> None:
        """Unmaps the memory and forgets the map, which goes with its object."""
        self._pointer = None
        if self._memory is not None:
            try:
                self._memory.close()
            except BufferError:  # somebody still holds a view; it goes with the last of them
                pass
            self._memory = None


def _batch(command: int, attr: bytes) -> tuple[int, int]:
    """Runs a batch command; returns how many elements came and the result. The kernel writes the count into attr."""
    buffer = libbpf.ffi.new("char[]", attr)
    code = bpf.bpf_inout(command, buffer, len(attr))
    count = struct.unpack_from("<I", libbpf.ffi.buffer(buffer), 32)[0]
    return (count if code in (0, -errno.ENOENT) else 0), code


_possible_cpus = 0


def possible_cpus() -> int:
    """CPUs that may ever be there: how many values a per-CPU map's element has."""
    global _possible_cpus
    if not _possible_cpus:
        _possible_cpus = libbpf.check(libbpf.lib().libbpf_num_possible_cpus(), "counting CPUs")
    return _possible_cpus
