# SPDX-License-Identifier: BSD-2-Clause
"""The programs of ``tests/programs``, compiled once a session, started, and asked for the truth.

Use::

    with targets.run(targets.c_program("calls"), "-n", "997", "hot") as target:
        with pyebpf.count(f"{target.path}:hot") as counts:
            truth = target.go()          # lets it work, waits for its end
            assert counts.snapshot()["hot"] == truth["calls"]["hot"] == 997
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import toolchains

PROGRAMS = Path(__file__).resolve().parent / "programs"
_COMPILERS = {
    ".c": ("gcc", "-g", "-O2", "-Wall", "-pthread"),
    ".cpp": ("g++", "-std=c++17", "-g", "-O2", "-Wall", "-pthread"),
    ".rs": ("rustc", "--edition", "2021", "-g", "-C", "opt-level=2"),
}
DEADLINE = 120  # seconds; a target that needs longer has a fault


def until(condition: Callable[[], Any], what: str = "what was waited for", pause: float = 0.005) -> Any:
    """Waits until it holds, asking after each pause (seconds). Returns what it returned; AssertionError: never."""
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(pause)
    return found


@functools.cache
def folder() -> Path:
    """Where compiled programs lie: one for this process, or the one that PYEBPF_TEST_PROGRAMS names."""
    if "PYEBPF_TEST_PROGRAMS" in os.environ:
        return Path(os.environ["PYEBPF_TEST_PROGRAMS"])
    made = tempfile.mkdtemp(prefix="pyebpf-targets-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@functools.cache
def compiled(source: str, *flags: str, compiler: str | None = None) -> Path:
    """Compiles a program of ``tests/programs`` with its language's compiler and more flags."""
    path = PROGRAMS / source
    command = list(_COMPILERS[path.suffix])
    if compiler:
        command[0] = compiler
    name = f"{path.stem}-{hashlib.sha1(repr((command, flags)).encode()).hexdigest()[:8]}"
    output = folder() / name / path.stem
    libraries = ["-ldl"] if path.suffix == ".c" else []
    build([*command, *flags, "-o", str(output), str(path), *libraries], output, PROGRAMS)
    return output


def build(command: Sequence[str | Path], output: Path, cwd: Path) -> None:
    """Runs a compiler if what it makes isn't there. It is there whole or not at all: others use the folder too."""
    if not output.exists():
        output.parent.mkdir(exist_ok=True)
        new = output.with_name(f"{output.name}.new")
        subprocess.run([new if word == str(output) else word for word in command], check=True, cwd=cwd)
        new.rename(output)


def go_program(name: str, version: str = "local", *flags: str, env: dict[str, str] | None = None) -> Path:
    """Builds a program of ``tests/programs/go`` with a Go version ("1.21", "local")."""
    output = folder() / f"{name}-{version}-{hashlib.sha1(repr((flags, env)).encode()).hexdigest()[:8]}" / name
    if not output.exists():
        output.parent.mkdir(exist_ok=True)
        toolchains.go(version).build(PROGRAMS / "go" / name, output, flags=flags, env=env)
    return output


class Target:
    """A started program that waits for the word.

    Attributes:
        pid: its process number.
        path: the executable.
    """

    def __init__(self, path: Path, arguments: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.path = path
        self._process = subprocess.Popen(
            [str(path), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})},
        )  # fmt: skip
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready, f"{path} died before it was ready"
        self.pid: int = json.loads(ready)["pid"]

    def begin(self, line: str = "") -> None:
        """Lets it work, or gives a program that reads more lines the next."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def first_line(self) -> dict[str, Any]:
        """Waits for a line: the truth of a program started with -w, which then waits for another before it exits."""
        assert self._process.stdout is not None
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def has_answered(self) -> bool:
        """Whether a line of its can be read; none may have been read in part."""
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def truth(self) -> dict[str, Any]:
        """Waits for its end; returns what it says it did."""
        output, _ = self._process.communicate(timeout=DEADLINE)
        assert self._process.returncode == 0, f"{self.path} ended with {self._process.returncode}: {output}"
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
        return result

    def go(self) -> dict[str, Any]:
        """`begin`, then `truth`."""
        self.begin()
        return self.truth()

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        if self.alive():
            self._process.kill()
        self._process.communicate()


@contextmanager
def run(path: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[Target]:
    """Starts a program; kills it at the end if it still runs."""
    target = Target(path, arguments, env)
    try:
        yield target
    finally:
        if target.alive():
            target.kill()


def bpf_ids() -> dict[str, set[int]]:
    """The ids of all eBPF programs, maps and links in the kernel (``BPF_*_GET_NEXT_ID``)."""
    import struct

    from pyebpf.core import bpf, libbpf

    libbpf.lib()
    found: dict[str, set[int]] = {}
    for kind, command in (("programs", 11), ("maps", 12), ("links", 31)):
        ids: set[int] = set()
        current = 0
        while True:
            attr = libbpf.ffi.new("char[]", struct.pack("<III", current, 0, 0))
            if bpf.bpf_inout(command, attr, 12) < 0:
                break
            current = struct.unpack_from("<I", libbpf.ffi.buffer(attr), 4)[0]
            ids.add(current)
        found[kind] = ids
    return found


def held_bpf(pid: int | str) -> dict[str, set[int]]:
    """Those that a process has open; none of what can't be looked at, or has ended."""
    kinds = {"prog": "programs", "map": "maps", "link": "links"}
    found: dict[str, set[int]] = {kind: set() for kind in kinds.values()}
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed since
                if "bpf" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                    text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
                    for kind, number in re.findall(r"^(prog|map|link)_id:\s*(\d+)$", text, re.MULTILINE):
                        found[kinds[kind]].add(int(number))
    return found


def bpf_left(ids: dict[str, set[int]], seconds: float = DEADLINE) -> int:
    """How many of these stay in the kernel, which frees them a while after the last descriptor and tells nobody."""
    end = time.monotonic() + seconds
    while True:
        there = bpf_ids()
        left = sum(len(ids[kind] & there[kind]) for kind in ids)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.01)


def own_bpf() -> list[str]:
    """The eBPF objects and perf events that this process holds, whatever others do meanwhile."""
    held = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return sorted(name for name in held if name.startswith("anon_inode:") and ("bpf" in name or "perf_event" in name))
