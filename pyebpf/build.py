# SPDX-License-Identifier: BSD-2-Clause
"""Compiles eBPF programs with clang: an embedder's own, and pyebpf's when its wheel is built.

>>> from pyebpf import build
>>> build.compile("own.bpf.c").path
'own.bpf.o'

Needs clang and libbpf's headers, but neither libbpf nor root: a host that builds need not be one that traces. An object
is the same wherever it is built, for each architecture: the kernel's types come from our own headers.

Formats: the System V ABI's ELF; Documentation/bpf/btf.rst; Documentation/bpf/libbpf/program_types.rst for sections.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from pyebpf.core.btf import ARRAY, PTR, TRAILER, Btf
from pyebpf.errors import CompileError, LoadError, TargetError, TargetNotFound, Unsupported

ARCHITECTURES = {"x86-64": "x86", "arm64": "arm64"}  # our name: libbpf's (__TARGET_ARCH_*)
PACKAGES = (
    "Debian and Ubuntu: apt install clang llvm libbpf-dev; Fedora and RHEL: dnf install clang llvm libbpf-devel; "
    "Alpine: apk add clang llvm libbpf-dev; Arch: pacman -S clang llvm libbpf"
)
# enum bpf_map_type of include/uapi/linux/bpf.h, in its order.
_MAP_KINDS = re.findall(
    r"\w+",
    "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash "
    "lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage "
    "reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage "
    "task_storage bloom_filter user_ringbuf cgrp_storage arena",
)


class Map(NamedTuple):
    """A map of an object: its kind ("hash"), the C types of key and value ("" without one), and how many entries (of a
    ring buffer: bytes) it can hold, 0 where that is set later."""

    name: str
    kind: str
    key: str
    value: str
    entries: int


class Built(NamedTuple):
    """An object that was made.

    Attributes:
        path: where it is.
        arch: "x86-64" or "arm64".
        size: in bytes.
        programs: sections ("uprobe") by the programs' names.
        maps: without the variables.
        variables: names by section (".rodata", ".data", ".bss").
        records: structures that records can be decoded by, and their members.
        warnings: what clang said.
        notes: what may go wrong with it later, a sentence each.
    """

    path: str
    arch: str
    size: int
    programs: dict[str, str]
    maps: tuple[Map, ...]
    variables: dict[str, tuple[str, ...]]
    records: dict[str, tuple[str, ...]]
    warnings: str
    notes: tuple[str, ...]


def host() -> str:
    """This machine's architecture, as objects are named by it: "x86-64" or "arm64". Raises Unsupported."""
    return _known(os.uname().machine)


def _known(arch: str) -> str:
    found = {"x86_64": "x86-64", "aarch64": "arm64"}.get(arch, arch)
    if found not in ARCHITECTURES:
        raise Unsupported(f"no eBPF objects for {arch}", feature=arch, minimum="x86-64 or arm64")
    return found


def include_dirs() -> list[str]:
    """Where our headers are: vmlinux.h and pyebpf.bpf.h."""
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "include")
    top = os.path.dirname(package)  # a checkout
    return [installed] if os.path.isdir(installed) else [os.path.join(top, "vmlinux"), os.path.join(top, "bpf/public")]


def flags(arch: str = "") -> list[str]:
    """clang's options for a program of the kernel.

    Args:
        arch: "x86-64" or "arm64"; "": this machine's.
    """
    found = _known(arch) if arch else host()
    return [
        *("-target", "bpf", f"-D__TARGET_ARCH_{ARCHITECTURES[found]}"),
        *("-g", "-O2", "-mcpu=v2", "-std=gnu11", "-Wall"),  # v2: for Linux 5.10, whatever clang's default becomes
        *("-fno-ident", "-fdebug-compilation-dir=."),
    ]


def find_tool(variable: str, name: str) -> str:
    """The path of an LLVM tool: ``$variable``, ``name``, or the newest ``name-NN``. Raises Unsupported."""
    from shutil import which

    chosen = os.environ.get(variable)
    for candidate in [chosen] if chosen else [name, *(f"{name}-{version}" for version in range(40, 11, -1))]:
        path = which(candidate)
        if path:
            return path
    raise Unsupported(
        f"{variable}={chosen}: no such program" if chosen else f"{name} isn't installed", feature=name,
        hint=f"install it ({PACKAGES}), or name one with {variable}=/path/{name}",
    )  # fmt: skip


def compile(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    arch: str = "",
    include: Sequence[str | os.PathLike[str]] = (),
    define: Sequence[str] = (),
    slim: bool = False,
) -> Built:
    """Compiles a program and looks at what came out.

    Args:
        source: a C file, by habit NAME.bpf.c.
        output: the object; None: beside the source, with .o for .c.
        arch: "x86-64", "arm64", or "" for this machine's. Only one that reads registers differs between the two.
        include: further folders of headers.
        define: macros, "NAME" or "NAME=VALUE".
        slim: without source lines, which a verifier's log shows: half the size.

    Raises:
        TargetNotFound: there is no such source.
        TargetError: the object can't be written.
        Unsupported: clang (or with `slim`, llvm-objcopy) isn't here, or there is no such architecture.
        CompileError: clang refused it; ``output`` is what it said.
    """
    path = os.fspath(source)
    target = os.fspath(output) if output is not None else os.path.splitext(path)[0] + ".o"
    if not os.path.isfile(path):
        raise TargetNotFound(f"{path}: {'not a regular file' if os.path.exists(path) else 'no such file'}")
    if os.path.exists(target) and os.path.samefile(path, target):
        raise TargetError(f"{target} is the source itself")
    folders = [os.path.abspath(folder) for folder in [*include, *include_dirs()]]
    arch = _known(arch) if arch else host()
    # It runs where the source is: so no path gets into the object, and clang finds the lines it quotes there.
    folder, name = os.path.split(os.path.abspath(path))
    image, said = object_of(
        f"./{name}" if name.startswith("-") else name, arch, "-fdiagnostics-absolute-paths",
        *(f"-I{one}" for one in folders), *(f"-ffile-prefix-map={one}=." for one in folders),
        *(f"-D{macro}" for macro in define), slim=slim, folder=folder,
    )  # fmt: skip
    part = f"{target}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            file.write(image)
        os.replace(part, target)
    except OSError as error:
        if os.path.exists(part):
            os.unlink(part)
        raise TargetError(f"can't write {target}: {error.strerror}") from None
    return examine(image)._replace(path=target, arch=arch, warnings=said)


def object_of(source: str, arch: str, *more: str, slim: bool = False, folder: str | None = None) -> tuple[bytes, str]:
    """Compiles; returns the object, and what clang said.

    Args:
        more: further options of clang's.
        slim: see `compile`.
        folder: where clang runs.
    """
    import subprocess
    from tempfile import TemporaryDirectory

    clang = find_tool("PYEBPF_CLANG", "clang")
    with TemporaryDirectory() as temporary:
        target = os.path.join(temporary, "object")

        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                raise CompileError(
                    f"{os.path.basename(command[0])} can't compile {source} for {arch}", output=done.stderr,
                    hint=_why(done.stderr),
                )  # fmt: skip
            return done.stderr

        said = run(clang, *flags(arch), *more, "-x", "c", "-c", source, "-o", target)
        try:
            run(find_tool("PYEBPF_LLVM_STRIP", "llvm-strip"), "-g", target)  # keeps .BTF, drops DWARF
        except Unsupported:
            if slim:
                raise
        if slim:
            command = [find_tool("PYEBPF_LLVM_OBJCOPY", "llvm-objcopy"), "--wildcard", "--strip-symbol=LBB*"]
            with open(target, "rb") as file:
                elf = _Elf(file.read())
            for name, data in zip((".BTF", ".BTF.ext"), without_lines(elf.section(".BTF"), elf.section(".BTF.ext"))):
                with open(f"{temporary}/{name}", "wb") as part:
                    part.write(data)
                command.append(f"--update-section={name}={temporary}/{name}")
            run(*command, "--remove-section=.rel.BTF*", target)
        with open(target, "rb") as file:
            return file.read(), said


def _why(said: str) -> str | None:
    """What to do about some of clang's errors."""
    missing = re.search(r"'(bpf/\w+\.h|[\w./-]+)' file not found", said)
    if missing and missing[1].startswith("bpf/"):
        return f"<{missing[1]}> is libbpf's: install its headers ({PACKAGES}), or name their folder with -I"
    if missing and missing[1].startswith(("linux/", "asm/", "sys/", "std")):
        return f"<{missing[1]}> is not for eBPF: take the types of vmlinux.h, and declare what it hasn't"
    if "No available targets" in said or "unknown target triple" in said:
        return "this clang was built without the eBPF target; PYEBPF_CLANG names another"
    return None


class _Symbol(NamedTuple):
    name: str
    kind: int  # 2: function
    is_global: bool
    section: int


class _Elf:
    """An object as clang makes it: 64-bit, little-endian."""

    def __init__(self, image: bytes) -> None:
        self._image = image
        at, size, count, names = struct.unpack_from("<Q", image, 40) + struct.unpack_from("<HHH", image, 58)
        # sh_name, sh_type, sh_offset, sh_size, sh_link, sh_info
        self._headers = [struct.unpack_from("<II16xQQII", image, at + size * index) for index in range(count)]
        self.names = [self._text(names, header[0]) for header in self._headers]

    def _text(self, table: int, at: int) -> str:
        start = self._headers[table][2] + at
        return self._image[start : self._image.index(b"\0", start)].decode(errors="replace")

    def at(self, index: int) -> bytes:
        """A section's contents."""
        _, _, offset, size, _, _ = self._headers[index]
        return self._image[offset : offset + size]

    def section(self, name: str) -> bytes:
        """A section's contents by its name. Raises LoadError."""
        if name not in self.names:
            raise LoadError(f"the object has no section {name}")
        return self.at(self.names.index(name))

    def symbols(self) -> list[_Symbol]:
        """In the order of the table."""
        if ".symtab" not in self.names:
            return []
        index = self.names.index(".symtab")
        rows = struct.iter_unpack("<IBxH16x", self.at(index))
        strings = self._headers[index][4]
        return [_Symbol(self._text(strings, name), info & 15, info >> 4 == 1, part) for name, info, part in rows]

    def referenced(self) -> set[int]:
        """Numbers of the symbols that code refers to."""
        rows = (self.at(index) for index, header in enumerate(self._headers)
                if header[1] == 9 and not self.names[header[5]].startswith((".BTF", ".debug")))  # fmt: skip
        return {info >> 32 for row in rows for _, info in struct.iter_unpack("<QQ", row)}


def _map(types: Btf, name: str, number: int) -> Map:
    """A map by its definition in section .maps: __uint() is the length of an array pointed to, __type() a type."""
    numbers, named = {}, {}
    for member, type_id, _, _ in types.fields(types.resolve(number)):
        pointer = types.resolve(type_id)
        target = types.resolve(pointer.size_or_type)
        if pointer.kind == PTR and target.kind == ARRAY:
            numbers[member] = types.array(target)[1]
        elif pointer.kind == PTR:
            named[member] = types.spelled(pointer.size_or_type)
    kind = numbers.get("type", 0)
    shown = _MAP_KINDS[kind] if kind < len(_MAP_KINDS) else f"type {kind}"
    return Map(name, shown, named.get("key", ""), named.get("value", ""), numbers.get("max_entries", 0))


def examine(image: bytes) -> Built:
    """What an object holds, without path, arch and warnings; its notes say what is likely to be a mistake.

    Raises:
        LoadError: it isn't one of clang's objects with type information.
    """
    try:
        return _examine(image)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise LoadError(f"not an eBPF object: {error}") from None


def _examine(image: bytes) -> Built:
    elf = _Elf(image)
    types = Btf(elf.section(".BTF"))
    symbols, referenced = elf.symbols(), elf.referenced()
    functions = [(number, one) for number, one in enumerate(symbols) if one.kind == 2]
    programs = {one.name: elf.names[one.section] for _, one in functions if elf.names[one.section] != ".text"}
    maps = tuple(_map(types, one.name, one.type_id) for one in types.variables(".maps"))
    variables = {section: tuple(one.name for one in types.variables(section) if types.resolve(one.type_id).kind != PTR)
                 for section in (".rodata", ".data", ".bss")}  # fmt: skip
    records = {name: tuple(types.members(name)) for name in types.anchored().values()}
    notes = []
    if "license" not in elf.names:
        notes.append("no licence: the kernel refuses such programs most of its helpers; "
                     'add: char LICENSE[] SEC("license") = "Dual BSD/GPL";')  # fmt: skip
    if not programs:
        notes.append('no program: a function becomes one by SEC("uprobe") or the like before it')
    notes += [f'{one.name}() is never called, and is no program: it has no SEC("...") before it'
              for number, one in functions
              if elf.names[one.section] == ".text" and one.is_global and number not in referenced]  # fmt: skip
    if not records:
        notes += [f"{one.name}: no type to decode its records by, as nothing global refers to one; "
                  "add: PYEBPF_RECORD(struct NAME);"
                  for one in maps
                  if (one.kind == "ringbuf" and not one.value) or one.kind == "perf_event_array"]  # fmt: skip
    if any(name.startswith(".debug") for name in elf.names):
        notes.append("llvm-strip isn't here: what only a debugger reads stays in the object, which does no harm")
    return Built("", "", len(image), programs, maps, {section: names for section, names in variables.items() if names},
                 records, "", tuple(notes))  # fmt: skip


def without_lines(btf: bytes, extension: bytes) -> tuple[bytes, bytes]:
    """.BTF and .BTF.ext without line information: source lines, which only a verifier's log would show.

    They are half of an object, and the kernel reads them at every start. Formats: Documentation/bpf/btf.rst.
    """
    header, types_at, types_size, strings_at, strings_size = struct.unpack_from("<4xIIIII", btf)
    strings = btf[header + strings_at : header + strings_at + strings_size]
    kept, moved = bytearray(b"\0"), {0: 0}

    def move(data: bytearray, at: int) -> None:
        old = struct.unpack_from("<I", data, at)[0]
        if old not in moved:
            moved[old] = len(kept)
            kept.extend(strings[old : strings.index(b"\0", old) + 1])
        struct.pack_into("<I", data, at, moved[old])

    types = bytearray(btf[header + types_at : header + types_at + types_size])
    at = 0
    while at < len(types):
        info = struct.unpack_from("<I", types, at + 4)[0]
        kind, entries = info >> 24 & 0x1F, info & 0xFFFF
        if kind not in TRAILER:
            raise ValueError(f"a type of unknown kind {kind}")
        move(types, at)
        fixed, each = TRAILER[kind]
        at += 12 + fixed
        for _ in range(entries if each else 0):
            if kind != 15:  # a section's entries have no names
                move(types, at)
            at += each
    size, functions_at, functions_size, _, _ = struct.unpack_from("<4xIIIII", extension)
    relocations_at, relocations_size = struct.unpack_from("<II", extension, 24) if size >= 32 else (0, 0)
    functions = bytearray(extension[size + functions_at : size + functions_at + functions_size])
    relocations = bytearray(extension[size + relocations_at : size + relocations_at + relocations_size])
    for part, string_at in ((functions, None), (relocations, 8)):
        each, at = struct.unpack_from("<I", part)[0] if part else 0, 4
        if part and each < 8:
            raise ValueError(f"records of {each} bytes")
        while at < len(part):
            move(part, at)  # the section's name
            count, at = struct.unpack_from("<I", part, at + 4)[0], at + 8
            if count * each > len(part) - at:
                raise ValueError(f"{count} records of {each} bytes don't fit")
            for _ in range(count):
                if string_at is not None:
                    move(part, at + string_at)
                at += each
    ends = len(functions)
    slim_extension = struct.pack("<HBBIIIIIII", 0xEB9F, 1, 0, 32, 0, ends, ends, 0, ends, len(relocations))
    slim = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(kept))
    return slim + types + kept, slim_extension + functions + relocations
