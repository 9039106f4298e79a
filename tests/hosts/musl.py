# SPDX-License-Identifier: BSD-2-Clause
"""A root with musl instead of glibc: CPython of Debian's source package, built with musl-gcc. Made once, in minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import debian
from places import CACHE, Unavailable

SUITE, PACKAGE = "bookworm", "python3.11"


def version() -> str:
    return PACKAGE[len("python") :]


def root() -> Path:
    """The root's folder.

    Raises:
        Unavailable: musl-gcc isn't here, or something doesn't compile.
    """
    made = CACHE / "musl"
    with debian.locked(CACHE, "musl"):
        if made.exists():
            return made
        if not shutil.which("musl-gcc"):
            raise Unavailable("musl-gcc is not installed (musl-tools)")
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="musl-") as folder:
            _build(Path(folder), Path(folder) / "root")
            (Path(folder) / "root").rename(made)
    return made


def _build(scratch: Path, root: Path) -> None:
    debian.source([PACKAGE, "zlib"], SUITE, scratch)
    for name in ("zlib", PACKAGE):
        _run(scratch, "dpkg-source", "--no-check", "-x", str(next(scratch.glob(f"{name}_*.dsc"))), name)
    # musl-gcc doesn't look where the kernel's headers are, and must not see glibc's beside them
    headers = scratch / "headers"
    headers.mkdir()
    for name, place in (("linux", "linux"), ("asm-generic", "asm-generic"),
                        ("asm", f"{os.uname().machine}-linux-gnu/asm")):  # fmt: skip
        (headers / name).symlink_to(f"/usr/include/{place}")
    # It says that it is for glibc's multiarch folders, which CPython takes for a contradiction
    compiler = scratch / "cc"
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --print-multiarch ] || exec musl-gcc "$@" -idirafter {headers}\n')
    compiler.chmod(0o755)
    prefix, environment = scratch / "prefix", {**os.environ, "CC": str(compiler), "CFLAGS": "-O1 -fPIC"}
    _run(scratch / "zlib", "./configure", f"--prefix={prefix}", "--static", env=environment)
    _run(scratch / "zlib", "make", "install", env=environment)
    source = scratch / PACKAGE
    setup = source / "setup.py"
    head = "    def add_multiarch_paths(self):\n"  # it would add glibc's headers
    setup.write_text(setup.read_text().replace(head, f"{head}        return\n"))
    environment |= {"CPPFLAGS": f"-I{prefix}/include", "LDFLAGS": f"-L{prefix}/lib",
                    "CONFIG_SITE": "/dev/null"}  # fmt: skip
    _run(source, "./configure", "--prefix=/usr/local", "--without-ensurepip", "--disable-test-modules", env=environment)
    _run(source, "nice", "make", f"-j{os.cpu_count()}", env=environment)
    _run(source, "make", "install", f"DESTDIR={root}", env=environment)
    (root / "lib").mkdir(exist_ok=True)
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    shutil.copy(loader.resolve(), root / "lib" / loader.name)
    for folder in ("dev", "proc", "sys", "tmp"):
        (root / folder).mkdir()


def _run(folder: Path, *command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False)  # fmt: skip
    if done.returncode:
        words = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise Unavailable(f"{' '.join(command[:3])}: exit code {done.returncode}: {words}")
