# SPDX-License-Identifier: BSD-2-Clause
"""An eBPF object: opened (a pure reading of the file), configured, loaded into the kernel, closed.

One lock an object: load, attach, map operations and close may come from any thread. What is read one record or batch
after the other (rings, `Map.items`) belongs to one thread at a time.
"""

from __future__ import annotations

import errno
import os
import zlib
from _thread import RLock
from typing import TYPE_CHECKING, Any

from pyebpf.core import libbpf
from pyebpf.core.btf import Btf
from pyebpf.core.excerpt import excerpt_for, file_of
from pyebpf.core.map import Map
from pyebpf.core.programs import Program as Program
from pyebpf.core.sections import DataSection, Names
from pyebpf.core.unique import not_copied
from pyebpf.errors import LoadError, StateError, TargetNotFound

if TYPE_CHECKING:
    from pyebpf.core.attached import Link
    from pyebpf.core.records import PerfReader, Reader, RecordType

_LOG_SIZE = 1 << 20
_EM_BPF = b"\xf7\0"  # e_machine, include/uapi/linux/elf-em.h

class Object:
    """An eBPF object file.

    Use as a context manager; ``close`` detaches and unloads what nothing else holds.

    Attributes:
        name: what it is called in errors.
        programs, maps: by name.
        btf: the object's types.
        rodata, data, bss: its variables; none where it has no such section.
        sections: all of these, also of an own name (".data.counters").
        lock: held while something is done to the object.
    """

    def __init__(self, image: bytes, name: str, kernel_types: str = "all", pin_root: str | None = None) -> None:
        library, ffi = libbpf.lib(), libbpf.ffi
        self.name = name
        self.lock = RLock()
        self._image = image
        self._pin_root = pin_root
        self._failed = False
        self._links: list[Link] = []
        self._kernel_types = kernel_types
        self._types_fd = -1 if kernel_types == "all" else os.memfd_create("btf")  # filled when it is loaded
        self._kernel_functions: dict[str, int] = {}
        self._loaded = False
        self._pointer: Any = None
        try:
            self._pointer = self._open()
            size = ffi.new("__u32 *")
            btf = library.bpf_object__btf(self._pointer)
            raw = library.btf__raw_data(btf, size) if btf != ffi.NULL else ffi.NULL
            if raw == ffi.NULL:
                raise LoadError(f"{name}: no BTF; compile it with clang -g")
            self.btf = Btf(bytes(ffi.buffer(raw, size[0])))
            self.programs: dict[str, Program] = Names("program", {one.name: one for one in self._all_programs()})
            self.maps: dict[str, Map] = Names("map", {})
            self.sections: dict[str, DataSection] = Names("section", {})
            for pointer in self._all_maps(self._pointer):
                map_name = ffi.string(library.bpf_map__name(pointer)).decode()
                _, dot, rest = map_name.partition(".")  # libbpf keeps variables in maps called after the section
                if dot:
                    self.sections[dot + rest] = DataSection(dot + rest, pointer, self.btf.variables(dot + rest), self)
                else:
                    self.maps[map_name] = Map(pointer, self.btf, self.lock)
        except BaseException:
            self.close()
            raise
        self.rodata, self.data, self.bss = map(self._section, (".rodata", ".data", ".bss"))

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes, name: str | None = None, *, pin_root: str | None = None
             ) -> Object:  # fmt: skip
        """Opens an object file; nothing is done to the kernel yet.

        Args:
            source: its path, or its contents.
            name: what it is called in errors; the kernel shows its first letters. By default the file's.
            pin_root: the folder for maps declared ``LIBBPF_PIN_BY_NAME``, by default /sys/fs/bpf.

        Raises:
            TargetNotFound: no such file.
            LoadError: it isn't an eBPF object.
        """
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(_require_bpf(bytes(source), name or "object"), name or "object", pin_root=pin_root)
        path = os.fspath(source)
        try:
            with open(path, "rb") as file:
                image = file.read()
        except OSError as error:
            raise TargetNotFound(f"{path}: {error.strerror}") from None
        return cls(_require_bpf(image, path), name or os.path.basename(path).split(".")[0], pin_root=pin_root)

    def _open(self, log: Any = None) -> Any:
        library, ffi = libbpf.lib(), libbpf.ffi
        options = ffi.new("struct bpf_object_open_opts *")
        options.sz = ffi.sizeof("struct bpf_object_open_opts")
        name = ffi.new("char[]", self.name.encode())
        options.object_name = name
        pin_root = ffi.new("char[]", os.fsencode(self._pin_root or ""))
        if self._pin_root:
            options.pin_root_path = pin_root
        custom_btf = ffi.new("char[]", os.fsencode(os.environ.get("PYEBPF_BTF", "")))
        types = ffi.new("char[]", f"/proc/self/fd/{self._types_fd}".encode())
        if self._types_fd >= 0:
            options.btf_custom_path = types
        elif os.environ.get("PYEBPF_BTF"):
            options.btf_custom_path = custom_btf
        if log is not None:
            options.kernel_log_buf, options.kernel_log_size = log, len(log)
        pointer = library.bpf_object__open_mem(self._image, len(self._image), options)
        if pointer == ffi.NULL:
            number = int(ffi.errno)
            with libbpf.captured_messages() as messages:  # once more, for what libbpf says of it
                pointer = library.bpf_object__open_mem(self._image, len(self._image), options)
            if pointer == ffi.NULL:
                reason = _libbpf_reason(messages.lines)
                raise LoadError(
                    f"{self.name}: not an eBPF object: {os.strerror(number) if number < 4000 else 'malformed'}"
                    + (f": {reason}" if reason else ""),  # libbpf has numbers of its own from 4000 on
                    errno=number,
                )
        return pointer

    def _all_programs(self) -> list[Program]:
        return [Program(pointer, self) for pointer in _walk(libbpf.lib().bpf_object__next_program, self._pointer)]

    def _section(self, name: str) -> DataSection:
        return self.sections[name] if name in self.sections else DataSection(name, None, [], self)

    def _all_maps(self, pointer: Any) -> list[Any]:
        return _walk(libbpf.lib().bpf_object__next_map, pointer)

    @property
    def loaded(self) -> bool:
        """True once `load` was called, and succeeded."""
        return self._loaded

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self._pointer is None

    def _require_open(self, what: str) -> None:
        """Raises StateError once the object is loaded or closed."""
        if self._pointer is None:
            raise StateError(f"{what}: the object is closed")
        if self._loaded:
            raise StateError(f"{what}: only before the object is loaded")

    def _require_loaded(self, what: str) -> None:
        """Raises StateError unless the object is loaded."""
        if self._pointer is None:
            raise StateError(f"{what}: the object is closed")
        if not self._loaded:
            raise StateError(f"{what}: the object isn't loaded: call load() first")

    def load(self) -> None:
        """Loads maps and programs into the kernel.

        Raises:
            LoadError: with the program's name and the verifier's log.
            PermissionDenied: naming what is missing.
        """
        with self.lock:
            self._require_open("load")
            if self._failed:
                raise StateError("load: it failed before; open the object again")
            if self._types_fd >= 0:
                os.write(self._types_fd, self._types())
            self._failed = True
            for program in self.programs.values():
                program.settle()
            code = libbpf.lib().bpf_object__load(self._pointer)
            if code:
                self._explain(code)
            self._loaded = True
            for one in self.maps.values():
                one.loaded()

    def attach(self) -> dict[str, Link]:
        """Attaches every program whose section says where ("tp/sched/sched_switch"); others are left alone.

        Returns:
            a link a program, by the program's name. Closing the object detaches them.

        Raises:
            Error: what `Program.attach` raises; nothing is attached then.
        """
        made: dict[str, Link] = {}
        with self.lock:
            self._require_loaded("attach")
            try:
                for name, program in self.programs.items():
                    link = program.attach_by_section() if program.autoload and program.autoattach else None
                    if link is not None:
                        made[name] = link
            except BaseException:
                for link in made.values():
                    link.detach()
                raise
        return made

    def ring(self, name: str, type: RecordType = None) -> Reader:
        """Reads a ring buffer, as records of a type; one reader at a time.

        Args:
            name: of the map.
            type: a structure's name; ``bytes``; or a function that is given each record's bytes. Without it, the
                structure the map declares (``__type(value, struct event)``), or the one that a global pointer keeps
                (``const struct event *unused __attribute__((unused));``), if there is only one.

        Raises:
            StateError: the object isn't loaded, or the ring is being read already.
            NoSuchName: there is no such map or type.
            BadValue: the map is no ring buffer, or it isn't clear which type is meant.
        """
        from pyebpf.core.records import RingReader

        with self.lock:
            self._require_loaded(f"ring {name}")
            return RingReader(self.maps[name], self.btf, type)

    def perf(self, name: str, type: RecordType = None, pages: int = 64) -> PerfReader:
        """Reads a perf event array, as `ring` does.

        Args:
            pages: of memory for each CPU, a power of two.

        Raises:
            what `ring` does; PermissionDenied, LibbpfError: the kernel refused a buffer.
        """
        from pyebpf.core.records import PerfReader

        with self.lock:
            self._require_loaded(f"perf {name}")
            return PerfReader(self.maps[name], self.btf, type, pages)

    def _types(self) -> bytes:
        """What libbpf is to know of the kernel's types. Raises LoadError."""
        if self._kernel_types == "none":
            return file_of()
        wanted = [one.iterator for one in self.programs.values() if one.iterator]
        types, self._kernel_functions = excerpt_for(self.name, self._image, self.btf, wanted)
        return types

    def _explain(self, code: int) -> None:
        """Loads once more with logs on, and raises what they say.

        The first attempt runs without logs: collecting libbpf's messages needs a callback, which costs start-up time.
        """
        library, ffi = libbpf.lib(), libbpf.ffi
        second = self._open()
        try:
            reused = [one for one in self.maps.values() if one.reused_fd >= 0]
            for ours, theirs in zip(self._all_maps(self._pointer), self._all_maps(second)):
                for one in reused:
                    if ffi.string(library.bpf_map__name(theirs)).decode() == one.name:
                        library.bpf_map__reuse_fd(theirs, one.reused_fd)
                library.bpf_map__set_max_entries(theirs, library.bpf_map__max_entries(ours))
                if not library.bpf_map__btf_key_type_id(ours):  # else libbpf knows it from the type
                    library.bpf_map__set_key_size(theirs, library.bpf_map__key_size(ours))
                    library.bpf_map__set_value_size(theirs, library.bpf_map__value_size(ours))
                size = ffi.new("size_t *")
                value = library.bpf_map__initial_value(ours, size)
                if value != ffi.NULL:
                    ffi.memmove(library.bpf_map__initial_value(theirs, size), value, size[0])
            programs = _walk(library.bpf_object__next_program, second)
            logs = {}
            for program, pointer in zip(self.programs.values(), programs):
                program.configure(pointer)
                logs[program.name] = ffi.new("char[]", _LOG_SIZE)
                library.bpf_program__set_log_buf(pointer, logs[program.name], _LOG_SIZE)
            with libbpf.captured_messages() as messages:
                code = library.bpf_object__load(second) or code
        finally:
            library.bpf_object__close(second)
        refused = next((name for name, log in logs.items() if log[0] != b"\0"), None)
        log = ffi.string(logs[refused]).decode(errors="replace") if refused else ""
        hint = next((hint for one in self.programs.values() for hint in [one.why_not()] if hint), None)
        text = "".join(messages.lines)
        named = refused or next((name for name in self.programs if f"prog '{name}': failed" in text
                                 or f"prog '{name}': BPF program load failed" in text), None)  # fmt: skip
        where = f"loading {self.name}" + (f", program {named}" if named else "")
        if code in (-errno.EPERM, -errno.EACCES) and not log:
            raise libbpf.failure(code, where, hint=hint)
        detail = _last_useful_line(log) or _libbpf_reason(messages.lines)
        raise LoadError(
            f"{where}: {os.strerror(-code) if code != -524 else 'not supported by the kernel'}"
            + (f": {detail}" if detail else ""),
            program=named,
            verifier_log=log,
            errno=-code,
            hint=hint,
        )

    def close(self) -> None:
        """Detaches links, ends readers, lets go of programs and maps. From any thread; safe to call twice."""
        for one in getattr(self, "maps", {}).values():
            one.end_reader()  # before the lock is asked for: whoever reads may be holding up somebody else
        with self.lock:
            for link in list(self._links):
                link.detach()
            for one in getattr(self, "maps", {}).values():
                one.close()
            for section in getattr(self, "sections", {}).values():
                section.close()
            if self._pointer is not None:
                libbpf.lib().bpf_object__close(self._pointer)
                self._pointer = None
            if self._types_fd >= 0:
                os.close(self._types_fd)
                self._types_fd = -1

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    __reduce__ = not_copied


def open_bundled(name: str, *, kernel_types: str = "all") -> Object:
    """Opens one of pyebpf's own objects (``pyebpf/objects/ARCH/NAME.bpf.o.gz``) for this machine.

    Args:
        kernel_types: what libbpf is given of the kernel's type information. "all": its megabytes, if a program that is
            loaded needs any of it; "needed": see `pyebpf.core.excerpt`; "none": no program that is loaded needs any.

    Raises:
        Unsupported: pyebpf has no objects for this architecture.
    """
    from pyebpf.errors import Unsupported

    machine = os.uname().machine
    arch = {"x86_64": "x86-64", "aarch64": "arm64"}.get(machine)
    if arch is None:
        raise Unsupported(f"pyebpf has no eBPF objects for {machine}", feature=machine, minimum="x86-64 or arm64")
    root = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "objects")
    path = os.path.join(root, arch, f"{name}.bpf.o.gz")
    if not os.path.exists(path):  # one that reads no registers is the same everywhere
        path = os.path.join(root, "any", f"{name}.bpf.o.gz")
    try:
        with open(path, "rb") as file:
            image = zlib.decompress(file.read(), 31)  # with gzip's header
    except OSError as error:
        raise TargetNotFound(f"{path}: {error.strerror}", hint="in a checkout: python build.py") from None
    return Object(image, name, kernel_types)


def _require_bpf(image: bytes, shown: str) -> bytes:
    """The image, if it is an ELF file for eBPF: libbpf says of others what doesn't help. Raises LoadError."""
    if image[:4] != b"\x7fELF" or image[18:20] != _EM_BPF:
        what = "an ELF file, but for another machine" if image[:4] == b"\x7fELF" else "no ELF file"
        raise LoadError(f"{shown}: not an eBPF object: {what}", hint="compile one: pyebpf build FILE.bpf.c")
    return image


def _walk(following: Any, owner: Any) -> list[Any]:
    """Collects what one of libbpf's next_… functions enumerates."""
    found, pointer = [], following(owner, libbpf.ffi.NULL)
    while pointer != libbpf.ffi.NULL:
        found.append(pointer)
        pointer = following(owner, pointer)
    return found


def _last_useful_line(log: str) -> str:
    """The line of a verifier log that names the reason: the last that isn't a statistic."""
    noise = ("processed ", "verification time", "stack depth", "max_states", "mark_read")
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(noise)]
    return lines[-1].strip() if lines else ""


def _libbpf_reason(lines: list[str]) -> str:
    """libbpf's first complaint, without its guesses about ulimits, and what it does without."""
    for line in lines:
        text = line.removeprefix("libbpf: ")
        guess = "ulimit" in text or "skipping optional" in text
        if not guess and ("fail" in text or "error" in text or "can't" in text):
            return text
    return ""
