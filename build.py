# SPDX-License-Identifier: BSD-2-Clause
"""Builds what the Python sources alone don't hold: the cffi binding and the eBPF objects.

``ffibuilder`` is cffi's builder for libbpf (out-of-line ABI mode: the result is a Python module, no compiler).
``compile_objects`` drives clang: every ``*.bpf.c`` below ``bpf/`` becomes an object for each architecture, all
from one clang.

Run as a program it compiles into ``pyebpf/``, so that the checkout itself can be imported::

    python build.py [--force]

Environment: ``PYEBPF_CLANG``, ``PYEBPF_LLVM_STRIP`` name other tools; ``PYEBPF_OBJECTS=DIR`` takes ready-made objects
(``DIR/ARCH/NAME.bpf.o``) and runs no clang.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def compile_object(source: Path, target: Path, arch: str) -> None:
    """Compiles one program. The result holds no absolute path and is the same at every run."""
    clang, strip = find_tool("PYEBPF_CLANG", "clang"), find_tool("PYEBPF_LLVM_STRIP", "llvm-strip")
    target.parent.mkdir(parents=True, exist_ok=True)
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
    except subprocess.CalledProcessError as error:
        target.unlink(missing_ok=True)
        raise BuildError(f"{source.name} for {arch}: {error}") from error


def compile_objects(output: Path, force: bool = False) -> list[Path]:
    """Compiles every program for every architecture into ``output/ARCH/NAME.bpf.o``; returns the paths."""
    ready = os.environ.get("PYEBPF_OBJECTS")
    sources = sorted((ROOT / "bpf").rglob("*.bpf.c"), key=lambda path: path.name)
    headers = [*(ROOT / "bpf").rglob("*.h"), *(ROOT / "vmlinux").rglob("*.h"), Path(__file__)]
    newest_header = max(path.stat().st_mtime for path in headers)
    objects = []
    for arch in ARCHITECTURES:
        for source in sources:
            target = output / arch / f"{source.name[: -len('.bpf.c')]}.bpf.o"
            objects.append(target)
            if ready:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(ready) / arch / target.name, target)
            elif force or not target.exists() or target.stat().st_mtime < max(newest_header, source.stat().st_mtime):
                compile_object(source, target, arch)
    return objects


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
