# SPDX-License-Identifier: BSD-2-Clause
"""An embedder's programs, ``tests/bpf``: compiled once a session, opened as `pyebpf.core.object.Object`.

Use::

    with ownprograms.opened("maps") as obj:
        obj.load()
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import targets

from pyebpf.core.object import Object

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "bpf"
_ARCH = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]


@functools.lru_cache(None)
def _folder() -> Path:
    folder = targets.folder() / "own"
    folder.mkdir(exist_ok=True)
    return folder


@functools.lru_cache(None)
def compiled(name: str) -> Path:
    """The object of ``tests/bpf/NAME.bpf.c``."""
    target = _folder() / f"{name}.bpf.o"
    targets.build(
        ["clang", "-target", "bpf", f"-D__TARGET_ARCH_{_ARCH}", "-g", "-O2", "-mcpu=v2", "-std=gnu11", "-Wall",
         "-Werror", "-Ivmlinux", "-Ibpf", f"-I/usr/include/{platform.machine()}-linux-gnu", "-c",
         str(FOLDER / f"{name}.bpf.c"), "-o", str(target)],
        target, ROOT,
    )  # fmt: skip
    return target


def opened(name: str, **options: str) -> Object:
    """An object, opened but not loaded."""
    return Object.open(str(compiled(name)), **options)


@functools.lru_cache(None)
def target() -> tuple[str, ctypes.CDLL]:
    """The library ``tests/bpf/target.c``: its path, and itself, loaded into this process."""
    path = _folder() / "target.so"
    targets.build(["gcc", "-g", "-O2", "-fPIC", "-shared", "-o", str(path), "target.c"], path, FOLDER)
    return str(path), ctypes.CDLL(str(path))


@contextlib.contextmanager
def bpffs() -> Iterator[str]:
    """A folder in a BPF file system of our own, which is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="pyebpf-pins-")
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        os.rmdir(folder)
