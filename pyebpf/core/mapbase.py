# SPDX-License-Identifier: BSD-2-Clause
"""What every map has: a descriptor, sizes, types of keys and values, memory if it is mmapable, a place in bpffs."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from _thread import RLock
from typing import Any

from pyebpf.core import bpf, libbpf
from pyebpf.core.btf import Btf
from pyebpf.core.layout import WORD, Layout, raw_layout
from pyebpf.core.unique import not_copied
from pyebpf.errors import BadValue, LibbpfError, StateError, Unsupported

# enum bpf_map_type, include/uapi/linux/bpf.h
_PERCPU_TYPES = frozenset((5, 6, 10, 21))  # percpu hash, percpu array, LRU percpu hash, percpu cgroup storage
ARRAYS = frozenset((2, 3, 4, 6, 7, 8, 12, 15, 17))  # what has a __u32 for a key, whatever it declares
_FDS = frozenset((3, 4, 8, 12, 13, 15, 17, 18))  # values are file descriptors, and read as the kernel's numbers
_KEYLESS = {22: "a queue: push(), peek() and pop()", 23: "a stack: push(), peek() and pop()",
            27: "a ring buffer: Object.ring() reads it", 30: "a bloom filter: push() and `in`",
            31: "a user ring buffer"}  # fmt: skip
_MMAPABLE = 1 << 10
_STACK_TRACE = 7
_STACK_BUILD_ID = 1 << 5


def _shown(value: Any) -> str:
    from pyebpf.core.encode import shown

    return shown(value)


class MapBase:
    """A map of an object, without its elements.

    Attributes:
        name: as in the C source.
        type: ``enum bpf_map_type``.
        reused_fd: of the map that `reuse` chose, or -1.
        reader: what reads the ring, if something does.
    """

    def __init__(self, pointer: Any, btf: Btf | None, lock: RLock | None = None) -> None:
        library = libbpf.lib()
        self._pointer = pointer
        self._lock = lock or RLock()
        self.name: str = libbpf.ffi.string(library.bpf_map__name(pointer)).decode()
        self.type: int = library.bpf_map__type(pointer)
        self._btf = btf
        self._key_type: int = library.bpf_map__btf_key_type_id(pointer)
        self._value_type: int = library.bpf_map__btf_value_type_id(pointer)
        self._reset()
        if self.type == 27 and library.bpf_map__value_size(pointer):  # declared to say what its records are
            library.bpf_map__set_value_size(pointer, 0)

    def _reset(self) -> None:
        self._raw_key: Layout | None = None
        self._raw_value: Layout | None = None
        self._memory: mmap.mmap | None = None
        self.reused_fd = -1
        self._path: str | None = None
        self.reader: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    __reduce__ = not_copied

    @property
    def key(self) -> Layout | None:
        """The type of keys the source declares; None: bytes."""
        return self._btf.layout_of(self._key_type) if self._btf and self._key_type else None

    @property
    def value(self) -> Layout | None:
        """The type of values the source declares; None: bytes."""
        return self._btf.layout_of(self._value_type) if self._btf and self._value_type else None

    @property
    def fd(self) -> int:
        """The kernel's file descriptor, the object's to close. Raises StateError: closed, or not loaded."""
        fd: int = libbpf.lib().bpf_map__fd(self._require_open())
        if fd < 0:
            raise StateError(f"map {self.name}: the object isn't loaded: call load() first")
        return fd

    @property
    def max_entries(self) -> int:
        """How many elements fit (bytes, of a ring buffer)."""
        return self._size("max_entries")

    @max_entries.setter
    def max_entries(self, count: int) -> None:
        if not isinstance(count, int) or not 0 < count < 1 << 32:
            raise BadValue(f"map {self.name}: max_entries is a number from 1 to 4294967295, got {_shown(count)}")
        self._set_size("max_entries", count)

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self._size("key_size")

    @key_size.setter
    def key_size(self, size: int) -> None:
        self._set_size("key_size", size)

    @property
    def value_size(self) -> int:
        """Bytes of a value."""
        return self._size("value_size")

    @value_size.setter
    def value_size(self, size: int) -> None:
        self._set_size("value_size", size)

    def _size(self, what: str) -> int:
        return int(getattr(libbpf.lib(), f"bpf_map__{what}")(self._require_open()))

    def _set_size(self, what: str, size: int) -> None:
        code = getattr(libbpf.lib(), f"bpf_map__set_{what}")(self._require_open(), size)
        if code == -errno.EBUSY:
            raise StateError(f"map {self.name}: {what} is set before the object is loaded")
        libbpf.check(code, f"map {self.name}: setting {what} to {size}")
        self._raw_key = self._raw_value = None

    def _require_open(self) -> Any:
        if self._pointer is None:
            raise StateError(f"map {self.name}: the object is closed")
        return self._pointer

    @property
    def flags(self) -> int:
        """``map_flags``, as declared."""
        return int(libbpf.lib().bpf_map__map_flags(self._require_open()))

    def _key_layout(self) -> Layout:
        if self._raw_key is None:
            if self.type in _KEYLESS:
                raise BadValue(f"map {self.name} has no keys: it is {_KEYLESS[self.type]}")
            self._raw_key = _of_size(WORD if self.type in ARRAYS else self.key, self.key_size)
        return self._raw_key

    def _value_layout(self) -> Layout:
        if self._raw_value is None:
            self._raw_value = _of_size(self.value or (WORD if self._fds else None), self.value_size)
        return self._raw_value

    @property
    def _fds(self) -> bool:
        return self.type in _FDS and self.value_size == 4

    def _value_bytes(self) -> int:
        size = self._value_layout().size
        return (size + 7) // 8 * 8 * possible_cpus() if self.type in _PERCPU_TYPES else size

    def _decode(self, data: Any, offset: int) -> Any:
        if self._fds:
            return WORD.unpack(data, offset)
        layout = self._value_layout()
        if self.type == _STACK_TRACE and not self.flags & _STACK_BUILD_ID:
            count = self.value_size // 8
            return tuple(word for word in struct.unpack_from(f"<{count}Q", data, offset) if word)
        if self.type not in _PERCPU_TYPES:
            return layout.unpack(data, offset)
        step = (layout.size + 7) // 8 * 8
        return [layout.unpack(data, offset + cpu * step) for cpu in range(possible_cpus())]

    def _pack_key(self, key: Any) -> bytes:
        return self._key_layout().pack(key, f"map {self.name}: key")

    def _pack_value(self, value: Any) -> bytes:
        what = f"map {self.name}: value"
        if self._fds:
            fd = getattr(value, "fd", value) if not hasattr(value, "fileno") else value.fileno()
            if isinstance(fd, bytes) and len(fd) == 4:
                return fd
            if not isinstance(fd, int) or isinstance(fd, bool) or fd < 0:
                raise BadValue(f"{what}: a program, map or file descriptor is wanted, got {_shown(value)}")
            return WORD.pack(fd, what)
        layout = self._value_layout()
        if self.type not in _PERCPU_TYPES:
            return layout.pack(value, what)
        cpus = possible_cpus()
        if not isinstance(value, (list, tuple)) or len(value) != cpus:
            raise BadValue(f"{what}: a list of {cpus} is wanted, a value for each CPU, got {_shown(value)}")
        step = (layout.size + 7) // 8 * 8
        return b"".join([layout.pack(one, f"{what}[{cpu}]").ljust(step, b"\0") for cpu, one in enumerate(value)])

    def pin(self, path: str) -> None:
        """Keeps the map in a BPF file system, also when the object is closed.

        Raises:
            StateError: the name is taken. TargetNotFound, PermissionDenied, LibbpfError: it can't be put there.
        """
        from pyebpf.core import pins

        with self._lock:
            pins.pin(self.fd, path, f"map {self.name}")
            self._path = path

    @property
    def pin_path(self) -> str | None:
        """Where the map is pinned, or will be when it is loaded (``LIBBPF_PIN_BY_NAME``)."""
        if self._path is None:
            given = libbpf.lib().bpf_map__pin_path(self._require_open())
            return os.fsdecode(libbpf.ffi.string(given)) if given != libbpf.ffi.NULL else None
        return self._path

    def unpin(self) -> None:
        """Takes the map out of the BPF file system. Raises StateError: it isn't pinned."""
        from pyebpf.core import pins

        path = self.pin_path
        if path is None:
            raise StateError(f"map {self.name} isn't pinned")
        pins.unpin(path)
        self._path = None

    def reuse(self, source: str | int | MapBase) -> None:
        """Before loading: take an existing map instead of making one.

        Args:
            source: where it is pinned, its file descriptor, or a map.

        Raises:
            TargetNotFound: nothing is pinned there. BadValue: it is a map of another kind.
        """
        from pyebpf.core import pins

        with self._lock:
            pointer, library = self._require_open(), libbpf.lib()
            if library.bpf_map__fd(pointer) >= 0 and self.reused_fd < 0:
                raise StateError(f"map {self.name}: reuse it before the object is loaded")
            given = source.fd if isinstance(source, MapBase) else source
            fd = os.dup(given) if isinstance(given, int) else pins.get(given)
            try:
                info = pins.map_info(fd)
                ours, theirs = (self.type, self.key_size, self.value_size), (info.type, info.key_size, info.value_size)
                if ours != theirs:
                    words = "type {}, {} bytes a key, {} a value"
                    raise BadValue(
                        f"map {self.name}: {source} is another kind of map: {words.format(*theirs)}; "
                        f"wanted {words.format(*ours)}"
                    )
                libbpf.check(library.bpf_map__reuse_fd(pointer, fd), f"map {self.name}: reusing {source}")
            except BaseException:
                os.close(fd)
                raise
            if self.reused_fd >= 0:
                os.close(self.reused_fd)
            self.reused_fd = fd
            self._path = os.fspath(source) if not isinstance(source, (int, MapBase)) else None

    def loaded(self) -> None:
        """The object was loaded: what `reuse` held is held by it now."""
        if self.reused_fd >= 0:
            os.close(self.reused_fd)
            self.reused_fd = -1

    def end_reader(self) -> None:
        """Closes what reads the ring."""
        reader = self.reader
        if reader is not None:
            reader.close()

    def memory(self) -> mmap.mmap:
        """The values of an mmapable array (``BPF_F_MMAPABLE``, Linux 5.5) as memory, readable and writable.

        Elements lie one after the other, each padded to 8 bytes.
        """
        if self._memory is None:
            if not self.flags & _MMAPABLE:
                raise Unsupported(f"map {self.name} isn't declared BPF_F_MMAPABLE", feature="mmapable array")
            size = (self._value_layout().size + 7) // 8 * 8 * self.max_entries
            pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
            try:
                self._memory = mmap.mmap(self.fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            except OSError as error:
                raise LibbpfError(f"map {self.name}: mmap: {error.strerror}", errno=error.errno) from None
        return self._memory

    def close(self) -> None:
        """Unmaps the memory and forgets the map, which goes with its object. Safe to call twice."""
        self.end_reader()
        self._pointer = None
        self.loaded()
        if self._memory is not None:
            bpf.unmap(self._memory)
            self._memory = None


def _of_size(layout: Layout | None, size: int) -> Layout:
    """A layout, or bytes where the map was given another size than its type's: the kernel goes by the size."""
    return layout if layout is not None and layout.size == size else raw_layout(size)


_possible_cpus = 0


def possible_cpus() -> int:
    """CPUs that may ever be there: how many values a per-CPU map's element has."""
    global _possible_cpus
    if not _possible_cpus:
        _possible_cpus = libbpf.check(libbpf.lib().libbpf_num_possible_cpus(), "counting CPUs")
    return _possible_cpus
