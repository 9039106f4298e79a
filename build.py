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
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # this source's pyebpf, whatever else is installed

from pyebpf.build import ARCHITECTURES, object_of  # noqa: E402
from pyebpf.errors import CompileError, Error  # noqa: E402

sys.path.remove(str(ROOT))  # a test that imports this has another pyebpf

CDEF = ROOT / "pyebpf" / "core" / "libbpf.cdef.h"
ANY = "any"  # where an object goes that is the same for every architecture

ffibuilder = FFI()
ffibuilder.set_source("pyebpf.core._libbpf", None)
ffibuilder.cdef(CDEF.read_text())
ffibuilder.cdef("long syscall(long number, ...);")  # libc's


def compile_object(source: Path, arch: str) -> bytes:
    """Compiles one program. The result holds no absolute path and is the same at every run."""
    return object_of(
        str(source.relative_to(ROOT)), arch, "-Werror", f"-ffile-prefix-map={ROOT}=.", "-Ivmlinux", "-Ibpf",
        slim=True, folder=str(ROOT),
    )[0]  # fmt: skip


def compile_objects(output: Path, force: bool = False) -> list[Path]:
    """Compiles every program for every architecture into ``output/ARCH/NAME.bpf.o.gz``; returns the paths.

    More than half of them read no registers: they come out the same for each, and lie in ``any`` once. Compressed they
    are a quarter of their size; ``zcat`` gives the object to whoever wants to look at it.
    """
    ready = os.environ.get("PYEBPF_OBJECTS")
    sources = sorted((ROOT / "bpf").rglob("*.bpf.c"), key=lambda path: path.name)
    headers = [*(ROOT / "bpf").rglob("*.h"), *(ROOT / "vmlinux").rglob("*.h"), Path(__file__), ROOT / "pyebpf/build.py"]
    newest_header = max(path.stat().st_mtime for path in headers)

    def made(source: Path) -> list[Path]:
        name = source.name[: -len(".c")] + ".o"
        every = [output / arch / f"{name}.gz" for arch in (ANY, *ARCHITECTURES)]
        there = [path for path in every if path.exists()]
        newest = max(newest_header, source.stat().st_mtime)
        whole = there in (every[:1], every[1:]) and all(path.stat().st_mtime >= newest for path in there)
        if whole and not (ready or force):
            return there
        images = {
            arch: (Path(ready) / arch / name).read_bytes() if ready else compile_object(source, arch)
            for arch in ARCHITECTURES
        }
        if len(set(images.values())) == 1:
            images = {ANY: images.popitem()[1]}
        for path in there:
            path.unlink()
        for arch, image in images.items():
            (output / arch / f"{name}.gz").write_bytes(gzip.compress(image, mtime=0))
        return [output / arch / f"{name}.gz" for arch in images]

    for arch in (ANY, *ARCHITECTURES):
        (output / arch).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [path for paths in pool.map(made, sources) for path in paths]


def copy_headers(output: Path) -> list[Path]:
    """What an embedder's programs include: kernel types, and the public header."""
    copied = []
    for top in (ROOT / "vmlinux", ROOT / "bpf" / "public"):
        for path in sorted(top.rglob("*.h")):
            target = output / path.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            copied.append(target)
    return copied


def explained(error: Error) -> str:
    """All that an error says."""
    said = error.output if isinstance(error, CompileError) else ""
    return "\n".join(part for part in (said.rstrip(), str(error), error.hint) if part)


def main() -> int:
    try:
        compile_objects(ROOT / "pyebpf" / "objects", force="--force" in sys.argv[1:])
    except Error as error:
        print(f"build.py: {explained(error)}", file=sys.stderr)
        return 1
    ffibuilder.emit_python_code(str(ROOT / "pyebpf" / "core" / "_libbpf.py"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
