# SPDX-License-Identifier: BSD-2-Clause
"""Builds what the Python sources alone don't hold: the cffi binding and the eBPF objects.

``ffibuilder`` is cffi's builder for libbpf (out-of-line ABI mode: the result is a Python module, no compiler).
``compile_objects`` drives clang: every ``*.bpf.c`` below ``bpf/`` becomes an object for each architecture, all
from one clang.

Run as a program it compiles into ``pyebpf/``, so that the checkout itself can be imported::

    python build.py [--force]

Environment: ``PYEBPF_CLANG``, ``PYEBPF_LLVM_STRIP``, ``PYEBPF_LLVM_OBJCOPY`` name other tools;
``PYEBPF_OBJECTS=DIR`` takes ready-made objects (``DIR/ARCH/NAME.bpf.o``) and runs no clang.
"""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
CDEF = ROOT / "pyebpf" / "core" / "libbpf.cdef.h"
ARCHITECTURES = {"x86-64": "x86", "arm64": "arm64"}  # our name: libbpf's (__TARGET_ARCH_*)

ffibuilder = FFI()
ffibuilder.set_source("pyebpf.core._libbpf", None)
ffibuilder.cdef(CDEF.read_text())
ffibuilder.cdef("long syscall(long number, ...);")  # libc's


class BuildError(Exception):
    """The objects can't be built; the message says what is missing."""


def find_tool(variable: str, name: str) -> str:
    """Returns the path of an LLVM tool: ``$variable``, ``name``, or the newest ``name-NN``."""
    chosen = os.environ.get(variable)
    candidates = [chosen] if chosen else [name] + [f"{name}-{version}" for version in range(30, 11, -1)]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path:
            return path
    raise BuildError(f"{chosen or name} not found: install clang and llvm, or set {variable}")


# Of a type, behind its first 12 bytes: bytes once, bytes for each entry, and whether an entry begins with a name.
_BTF_TRAILERS = {
    1: (4, 0, False), 3: (12, 0, False), 4: (0, 12, True), 5: (0, 12, True), 6: (0, 8, True), 13: (0, 8, True),
    14: (4, 0, False), 15: (0, 12, False), 17: (4, 0, False), 19: (0, 12, True),
}  # fmt: skip


def section_of(image: bytes, name: str) -> bytes:
    """The contents of an ELF section (64-bit, little-endian)."""
    headers_at, size, count, names = struct.unpack_from("<Q", image, 40) + struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<IIQQQQ", image, headers_at + size * index) for index in range(count)]
    names_at = headers[names][4]
    for header in headers:
        start = names_at + header[0]
        if image[start : image.index(b"\0", start)].decode() == name:
            return image[header[4] : header[4] + header[5]]
    raise BuildError(f"the object has no section {name}")


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
        move(types, at)
        fixed, each, named = _BTF_TRAILERS.get(kind, (0, 0, False))
        at += 12 + fixed
        for _ in range(entries if each else 0):
            if named:
                move(types, at)
            at += each
    size, functions_at, functions_size, _, _ = struct.unpack_from("<4xIIIII", extension)
    relocations_at, relocations_size = struct.unpack_from("<II", extension, 24) if size >= 32 else (0, 0)
    functions = bytearray(extension[size + functions_at : size + functions_at + functions_size])
    relocations = bytearray(extension[size + relocations_at : size + relocations_at + relocations_size])
    for part, string_at in ((functions, None), (relocations, 8)):
        each, at = struct.unpack_from("<I", part)[0] if part else 0, 4
        while at < len(part):
            move(part, at)  # the section's name
            count, at = struct.unpack_from("<I", part, at + 4)[0], at + 8
            for _ in range(count):
                if string_at is not None:
                    move(part, at + string_at)
                at += each
    ends = len(functions)
    slim_extension = struct.pack("<HBBIIIIIII", 0xEB9F, 1, 0, 32, 0, ends, ends, 0, ends, len(relocations))
    slim = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(kept))
    return slim + types + kept, slim_extension + functions + relocations


def slim(target: Path) -> None:
    """Takes out of an object what neither libbpf nor the kernel needs."""
    objcopy = find_tool("PYEBPF_LLVM_OBJCOPY", "llvm-objcopy")
    image = target.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        command = [objcopy, "--wildcard", "--strip-symbol=LBB*", "--remove-section=.rel.BTF*"]
        names = (".BTF", ".BTF.ext")
        for name, data in zip(names, without_lines(*(section_of(image, name) for name in names))):
            (Path(folder) / name).write_bytes(data)
            command.append(f"--update-section={name}={folder}/{name}")
        subprocess.run([*command, str(target)], check=True)


def compile_object(source: Path, arch: str) -> bytes:
    """Compiles one program. The result holds no absolute path and is the same at every run."""
    clang, strip = find_tool("PYEBPF_CLANG", "clang"), find_tool("PYEBPF_LLVM_STRIP", "llvm-strip")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "object"
        command = [
            clang,
            *("-target", "bpf", f"-D__TARGET_ARCH_{ARCHITECTURES[arch]}"),
            *("-g", "-O2", "-mcpu=v2", "-std=gnu11", "-Wall", "-Werror"),  # v2: for Linux 5.10
            *("-fno-ident", f"-ffile-prefix-map={ROOT}=.", "-fdebug-compilation-dir=."),
            *("-Ivmlinux", "-Ibpf", "-c", str(source.relative_to(ROOT)), "-o", str(target)),
        ]
        try:
            subprocess.run(command, cwd=ROOT, check=True)
            subprocess.run([strip, "-g", str(target)], check=True)  # keeps .BTF, drops DWARF
            slim(target)
        except subprocess.CalledProcessError as error:
            raise BuildError(f"{source.name} for {arch}: {error}") from error
        return target.read_bytes()


def compile_objects(output: Path, force: bool = False) -> list[Path]:
    """Compiles every program for every architecture into ``output/ARCH/NAME.bpf.o.gz``; returns the paths.

    Compressed they are a quarter of their size; ``zcat`` gives the object to whoever wants to look at it.
    """
    ready = os.environ.get("PYEBPF_OBJECTS")
    sources = sorted((ROOT / "bpf").rglob("*.bpf.c"), key=lambda path: path.name)
    headers = [*(ROOT / "bpf").rglob("*.h"), *(ROOT / "vmlinux").rglob("*.h"), Path(__file__)]
    newest_header = max(path.stat().st_mtime for path in headers)
    objects, stale = [], []
    for arch in ARCHITECTURES:
        for source in sources:
            name = source.name[: -len(".c")] + ".o"
            target = output / arch / f"{name}.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            objects.append(target)
            if ready:
                _write(target, (Path(ready) / arch / name).read_bytes())
            elif force or not target.exists() or target.stat().st_mtime < max(newest_header, source.stat().st_mtime):
                stale.append((source, target, arch))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: _write(job[1], compile_object(job[0], job[2])), stale))
    return objects


def _write(target: Path, image: bytes) -> None:
    target.write_bytes(gzip.compress(image, mtime=0))


def main() -> int:
    try:
        compile_objects(ROOT / "pyebpf" / "objects", force="--force" in sys.argv[1:])
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    ffibuilder.emit_python_code(str(ROOT / "pyebpf" / "core" / "_libbpf.py"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
