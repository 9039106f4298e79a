# SPDX-License-Identifier: BSD-2-Clause
"""An eBPF object: opened (a pure reading of the file), configured, loaded into the kernel, closed.

libbpf objects are not thread-safe; an `Object` belongs to one thread until it is loaded.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import zlib
from typing import Any

from pyebpf.core import bpf, libbpf
from pyebpf.core.btf import Btf, Variable
from pyebpf.core.excerpt import excerpt_for, file_of
from pyebpf.core.map import Map
from pyebpf.errors import AttachError, LoadError, StateError, TargetNotFound

_LOG_SIZE = 1 << 20
# Constants and globals that libbpf keeps in maps of their own; their names end in the section's.
_SECTIONS = (".rodata", ".data", ".bss")
# The instruction that loads SITE_PLACEHOLDER (bpf/include/site.bpf.h): ld_imm64 into any register.
_PLACEHOLDER = 0x5EEDC00C1E5EED00


class Program:
    """One program of an object.

    Attributes:
        name: the C function's name.
        section: its ELF section, e.g. "uprobe".
    """

    def __init__(self, pointer: Any, owner: Object) -> None:
        library = libbpf.lib()
        self.pointer = pointer
        self._owner = owner
        self.name: str = libbpf.ffi.string(library.bpf_program__name(pointer)).decode()
        self.section: str = libbpf.ffi.string(library.bpf_program__section_name(pointer)).decode()

    @property
    def autoload(self) -> bool:
        """False: the program is left out when the object is loaded."""
        return bool(libbpf.lib().bpf_program__autoload(self.pointer))

    @autoload.setter
    def autoload(self, wanted: bool) -> None:
        self._owner._require_open(f"program {self.name}: autoload")
        libbpf.check(libbpf.lib().bpf_program__set_autoload(self.pointer, wanted), f"program {self.name}: autoload")

    @property
    def attach_type(self) -> int:
        """The expected attach type (``enum bpf_attach_type``)."""
        return int(libbpf.lib().bpf_program__expected_attach_type(self.pointer))

    @attach_type.setter
    def attach_type(self, value: int) -> None:
        self._owner._require_open(f"program {self.name}: attach_type")
        code = libbpf.lib().bpf_program__set_expected_attach_type(self.pointer, value)
        libbpf.check(code, f"program {self.name}: attach_type")

    @property
    def fd(self) -> int:
        if self._owner.closed:
            raise StateError(f"program {self.name}: the object is closed")
        fd: int = libbpf.lib().bpf_program__fd(self.pointer)
        if fd < 0:
            raise StateError(f"program {self.name}: the object isn't loaded")
        return fd

    @property
    def iterator(self) -> str:
        """Of an iterator's program in a section "raw_tp/bpf_iter_…": the kernel's function; "" of all others."""
        return self.section[7:] if self.section.startswith("raw_tp/bpf_iter_") else ""

    def as_iterator(self) -> int:
        """Loads a copy of the loaded program as the iterator it is.

        From a section "iter/…" libbpf would, but it reads all of the kernel's types to look up a number.

        Returns:
            a file descriptor, the caller's to close.

        Raises:
            AttachError: the kernel has no such iterator, or refused the copy.
        """
        function = self._owner._kernel_functions.get(self.iterator)
        if function is None:
            raise AttachError(f"program {self.name}: this kernel has no iterator {self.iterator}")
        library = libbpf.lib()
        size = library.bpf_program__insn_cnt(self.pointer) * 8
        code = bytes(libbpf.ffi.buffer(library.bpf_program__insns(self.pointer), size))
        fd = bpf.load_program(
            code, kind=bpf.PROG_TYPE_TRACING, attach_type=bpf.TRACE_ITER, name=self.name, attach_to=function
        )
        if fd < 0:
            raise AttachError(f"program {self.name}: loading it as an iterator: {os.strerror(-fd)}", errno=-fd)
        return fd

    def copy_with_cookie(self, cookie: int) -> int:
        """Loads a copy of the loaded program whose `site_cookie` is a constant, for kernels without attach cookies.

        Returns:
            a file descriptor, the caller's to close.

        Raises:
            AttachError: the program reads no cookie, or the kernel refused the copy.
        """
        library = libbpf.lib()
        size = library.bpf_program__insn_cnt(self.pointer) * 8
        code = bytearray(libbpf.ffi.buffer(library.bpf_program__insns(self.pointer), size))
        low, high = struct.pack("<I", _PLACEHOLDER & 0xFFFFFFFF), struct.pack("<I", _PLACEHOLDER >> 32)
        copies = 0
        for at in range(0, size - 8, 8):
            if code[at] == 0x18 and code[at + 4 : at + 8] == low and code[at + 12 : at + 16] == high:
                struct.pack_into("<I", code, at + 4, cookie & 0xFFFFFFFF)
                struct.pack_into("<I", code, at + 12, cookie >> 32)
                copies += 1
        if not copies:
            raise AttachError(f"program {self.name} has no site_cookie() to replace")
        fd = bpf.load_program(bytes(code), name=self.name)
        if fd < 0:
            raise AttachError(f"program {self.name}: loading a copy: {os.strerror(-fd)}", errno=-fd)
        return fd


class DataSection:
    """The variables of ``.rodata``, ``.data`` or ``.bss``, by name, typed by BTF.

    Constants (``.rodata``) are written before the object is loaded, so that the verifier can prune by them.
    """

    def __init__(self, name: str, pointer: Any, variables: list[Variable], owner: Object) -> None:
        self._name, self._pointer, self._owner = name, pointer, owner
        self._live: mmap.mmap | None = None
        self._variables = {variable.name: variable for variable in variables}

    def memory(self) -> Any:
        """The section's bytes: the initial value, and once loaded the live one."""
        if self._owner.closed:
            raise StateError(f"{self._name}: the object is closed")
        if self._live is not None:
            return self._live
        size = libbpf.ffi.new("size_t *")
        address = libbpf.lib().bpf_map__initial_value(self._pointer, size)
        if address == libbpf.ffi.NULL:
            raise StateError(f"{self._name} can't be read")
        if self._owner.loaded and self._name != ".rodata":  # which is frozen: its initial value is its last
            self._live = mmap.mmap(libbpf.lib().bpf_map__fd(self._pointer), size[0])
            return self._live
        return libbpf.ffi.buffer(address, size[0])

    def close(self) -> None:
        """Lets go of the memory."""
        if self._live is not None:
            self._live.close()

    def __getitem__(self, name: str) -> Any:
        variable = self._variables[name]
        return variable.layout.unpack(self.memory(), variable.offset)

    def __setitem__(self, name: str, value: Any) -> None:
        if self._name == ".rodata":
            self._owner._require_open(f"constant {name}")
        variable = self._variables[name]
        packed = variable.layout.pack(value)
        self.memory()[variable.offset : variable.offset + len(packed)] = packed

    def __contains__(self, name: object) -> bool:
        return name in self._variables


class Object:
    """An eBPF object file.

    Use as a context manager; ``close`` unloads programs and maps that nothing else holds.

    Attributes:
        name: what it is called in errors.
        programs, maps: by name.
        btf: the object's types.
        rodata, data, bss: its variables; None where it has no such section.
    """

    def __init__(self, image: bytes, name: str, kernel_types: str = "all") -> None:
        library, ffi = libbpf.lib(), libbpf.ffi
        self.name = name
        self._image = image
        self._kernel_types = kernel_types
        self._types_fd = -1 if kernel_types == "all" else os.memfd_create("btf")  # filled when it is loaded
        self._kernel_functions: dict[str, int] = {}
        self._loaded = False
        self._pointer = self._open()
        try:
            size = ffi.new("__u32 *")
            btf = library.bpf_object__btf(self._pointer)
            raw = library.btf__raw_data(btf, size) if btf != ffi.NULL else ffi.NULL
            if raw == ffi.NULL:
                raise LoadError(f"{name}: no BTF; compile it with clang -g")
            self.btf = Btf(bytes(ffi.buffer(raw, size[0])))
            self.programs = {program.name: program for program in self._all_programs()}
            self.maps: dict[str, Map] = {}
            sections: dict[str, DataSection] = {}
            for pointer in self._all_maps(self._pointer):
                map_name = ffi.string(library.bpf_map__name(pointer)).decode()
                section = next((name for name in _SECTIONS if map_name.endswith(name)), None)
                if section:
                    sections[section] = DataSection(section, pointer, self.btf.variables(section), self)
                else:
                    self.maps[map_name] = Map(pointer, self.btf)
        except BaseException:
            self.close()
            raise
        self.rodata, self.data, self.bss = (sections.get(section) for section in _SECTIONS)

    @classmethod
    def open(cls, path: str) -> Object:
        """Opens an object file; nothing is done to the kernel yet.

        Raises:
            TargetNotFound: no such file.
            LoadError: it isn't an eBPF object.
        """
        try:
            with open(path, "rb") as file:
                image = file.read()
        except OSError as error:
            raise TargetNotFound(f"{path}: {error.strerror}") from None
        return cls(image, os.path.basename(path).split(".")[0])

    def _open(self, log: Any = None) -> Any:
        library, ffi = libbpf.lib(), libbpf.ffi
        options = ffi.new("struct bpf_object_open_opts *")
        options.sz = ffi.sizeof("struct bpf_object_open_opts")
        name = ffi.new("char[]", self.name.encode())
        options.object_name = name
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
            raise LoadError(f"{self.name}: not an eBPF object: {os.strerror(ffi.errno)}", errno=ffi.errno)
        return pointer

    def _all_programs(self) -> list[Program]:
        return [Program(pointer, self) for pointer in _walk(libbpf.lib().bpf_object__next_program, self._pointer)]

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
        if self._loaded or self._pointer is None:
            raise StateError(f"{what}: set it before the object is loaded")

    def load(self) -> None:
        """Loads maps and programs into the kernel.

        Raises:
            LoadError: with the program's name and the verifier's log.
            PermissionDenied: naming what is missing.
        """
        self._require_open("load")
        if self._types_fd >= 0:
            os.write(self._types_fd, self._types())
        code = libbpf.lib().bpf_object__load(self._pointer)
        if code:
            self._explain(code)
        self._loaded = True

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
            for ours, theirs in zip(self._all_maps(self._pointer), self._all_maps(second)):
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
                library.bpf_program__set_autoload(pointer, program.autoload)
                library.bpf_program__set_expected_attach_type(pointer, program.attach_type)
                logs[program.name] = ffi.new("char[]", _LOG_SIZE)
                library.bpf_program__set_log_buf(pointer, logs[program.name], _LOG_SIZE)
            with libbpf.captured_messages() as messages:
                code = library.bpf_object__load(second) or code
        finally:
            library.bpf_object__close(second)
        refused = next((name for name, log in logs.items() if log[0] != b"\0"), None)
        log = ffi.string(logs[refused]).decode(errors="replace") if refused else ""
        if code in (-errno.EPERM, -errno.EACCES) and not log:
            raise libbpf.failure(code, f"loading {self.name}")
        where = f"loading {self.name}" + (f", program {refused}" if refused else "")
        detail = _last_useful_line(log) or _libbpf_reason(messages.lines)
        raise LoadError(
            f"{where}: {os.strerror(-code) if code != -524 else 'not supported by the kernel'}"
            + (f": {detail}" if detail else ""),
            program=refused,
            verifier_log=log,
            errno=-code,
        )

    def close(self) -> None:
        """Lets go of programs and maps. Safe to call twice."""
        for one in getattr(self, "maps", {}).values():
            one.close()
        for section in (getattr(self, name[1:], None) for name in _SECTIONS):
            if section is not None:
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
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(root, "objects", arch, f"{name}.bpf.o.gz")
    try:
        with open(path, "rb") as file:
            image = zlib.decompress(file.read(), 31)  # with gzip's header
    except OSError as error:
        raise TargetNotFound(f"{path}: {error.strerror}", hint="in a checkout: python build.py") from None
    return Object(image, name, kernel_types)


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
    """libbpf's first complaint, without its guesses about ulimits."""
    for line in lines:
        text = line.removeprefix("libbpf: ") if hasattr(line, "removeprefix") else line
        if "ulimit" not in text and ("fail" in text or "error" in text or "can't" in text):
            return text
    return ""
