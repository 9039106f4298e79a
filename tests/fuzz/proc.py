# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for files whose names, or names in them, are others': /proc, the loader's cache, scripts.

The readers open fixed paths; here those are other files, by the names that their modules look up.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

from pyebpf.core import kernel, pins
from pyebpf.errors import Error
from pyebpf.export import http, processes
from pyebpf.export.config import Selection
from pyebpf.target import images, libraries, mapped, process, stacks
from pyebpf.target.locate import Located

from .reader import packed, reader, unpacked


@contextlib.contextmanager
def files(module: Any, contents: Callable[[str], bytes | None]) -> Iterator[None]:
    """``open`` in a module gives what ``contents`` has for a path; None: the file itself."""

    def opened(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        data = contents(str(path))
        if data is None:
            return builtins.open(path, mode, *more, **options)
        if "b" in mode:
            return io.BytesIO(data)
        return io.TextIOWrapper(io.BytesIO(data), options.get("encoding") or "utf-8", options.get("errors"))

    module.open = opened
    try:
        yield
    finally:
        del module.open


_NAMES = (b"/bin/dbus daemon", b"/lib/x86_64-linux-gnu/libc.so.6 (deleted)", b"/a\\012b\xff\x1b[31m", b"[vdso]", b"")


def _lines(names: bytes) -> bytes:
    """/proc/PID/maps with names: the kernel writes the numbers, and only newlines in names are escaped."""
    rows = []
    for number, name in enumerate(names.split(b"\0")[:1000]):
        start = 0x400000 + 0x2000 * number
        perms = b"r-xp" if number % 2 == 0 else b"rw-p"
        place = b"%08x-%08x %s 00001000 08:02 %d " % (start, start + 0x1000, perms, number)
        rows.append(place + (b"  " + name.replace(b"\n", b"\\012") if name else b""))
    return b"\n".join(rows) + b"\n"


@reader(
    "target.process target.stacks target.mapped",
    lambda: [packed(b"\0".join(_NAMES), b"(a) b) S 1 1", b"x")],
    pieces=3,
    seconds=2,
    words=(b" (deleted)", b"\\012", b"r-xp", b"[vdso]", b"/libc.so.6", b"/", b"\0/"),
)
def maps(data: bytes) -> None:
    """Names in /proc/PID/maps, stat and status: files that are mapped, and stacks in them."""
    names, comm, name = unpacked(data, 3)
    mapping = _lines(names)
    given = {
        "maps": mapping,
        "stat": b"7 (" + comm + b") S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 7",
        "status": b"Name:\t" + name.replace(b"\n", b"\\n") + b"\nTgid:\t1073741824\n",
    }
    before = process._read
    process._read = lambda pid, file, limit: given[file]  # type: ignore[assignment]
    pid = 1 << 30  # there is none
    try:
        found = process.read_maps(pid)
        assert len(found) == mapping.count(b"\n"), "a name hides a mapping, or makes one up"
        held = process.Process(pid)
        assert os.fsencode(held.name) == comm
        held.libraries("c")
        symbols = stacks.UserSymbols(pid)
        symbols.resolve([0, 0x400100, 0x402000, (1 << 64) - 1])
        symbols.close()
        for one in held.files()[:4]:
            try:
                held.path_for(one)
            except Error:
                pass
            held.real_path(one.path[:4096])
        looked = mapped._Files(mapped.Place(libraries=("c",), programs=("*",)))
        with files(mapped, lambda path: mapping if path.endswith("/maps") else None):
            try:
                looked._add_libraries(pid)
            except (Error, OSError):
                pass
    finally:
        process._read = before


_FACTS = (b"tmux: server) S 1", b"0::/system.slice/a.service\n", b"cgroup2 /sys/fs/cgroup cgroup2 rw 0\n")


@reader("export.processes", lambda: [packed(*_FACTS, b"a*")], pieces=4, megabytes=64,
        words=(b"(", b")", b"0::/", b"\n", b"cgroup2 ", b" "))  # fmt: skip
def facts(data: bytes) -> None:
    """What the agent reads of every process: names and cgroups, and selections of them."""
    comm, cgroup, mounts, wanted = unpacked(data, 4)
    line = b"7 (" + comm[:2000] + b") S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n"

    def contents(path: str) -> bytes | None:
        return mounts if path.endswith("mounts") else cgroup if path.endswith("cgroup") else line

    with files(processes, contents):
        found = processes.facts_of(1 << 30)
        processes.cgroups()
        processes._below(os.fsdecode(wanted[:512]).replace("\0", ""))
        if found is not None:
            pattern = os.fsdecode(wanted[:64])
            for field in ("comm", "exe", "unit", "cgroup"):
                processes.matches(Selection(**{field: pattern}), found)


_TCP = b"""  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:24DB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
"""
_MOUNTS = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
_STATUS = b"Name:\tx\nCapEff:\t000001ffffffffff\n"


def _tables() -> Iterator[bytes]:
    old = b"ld.so-1.7.0".ljust(12, b"\0") + bytes(4)
    entry = (0x0303).to_bytes(4, "little") + (72).to_bytes(4, "little") + (82).to_bytes(4, "little") + bytes(12)
    new = b"glibc-ld.so.cache1.1" + (1).to_bytes(4, "little") + (40).to_bytes(4, "little") + bytes(20)
    cache = (new + entry).ljust(72, b"\0") + b"libc.so.6\0/lib/libc.so.6\0"
    for one in (cache, old + cache):
        yield packed(one, _TCP, _MOUNTS, _STATUS, b"python3\n", b"#!/usr/bin/env python3\n")


@reader("target.libraries target.images", _tables, pieces=6, megabytes=64,
        words=(b"glibc-ld.so.cache1.1", b" 0A ", b" - ", b"#!", b"\n", b"CapEff:\t"))  # fmt: skip
def tables(data: bytes) -> None:
    """The loader's cache, tables of sockets and mounts, our own status, the first line of a script."""
    cache, tcp, mounts, status, comm, script = unpacked(data, 6)
    for machine in ("x86_64", "aarch64", "riscv64"):
        for library in libraries.parse_cache(cache, machine):
            libraries.is_library(library.soname, "c")
    # The lines that the kernel writes have their numbers; only the names in them are somebody else's.
    line = b"36 35 0:1 /" + mounts.replace(b"\n", b"").replace(b" ", b"") + b" /mnt rw - ext3 /dev/root rw\n"
    name = status.replace(b"\n", b"")
    with files(http, lambda path: tcp if "/net/" in path else comm if "comm" in path else None):
        http._by_whom(9436)  # none of these: else all processes are looked at, see test_others_names.py
    with files(pins, lambda path: line if path.endswith("mountinfo") else None):
        pins._filesystem("/")
    with files(kernel, lambda path: b"Name:\t" + name + b"\nCapEff:\t1f\n" if path.endswith("status") else None):
        assert kernel.effective_capabilities() == 0x1F or name.startswith(b"CapEff:")
    with files(images, lambda path: script if path == "/fuzzed" else None):
        images._about_script(Located("/fuzzed", "/fuzzed", (0, 0), (), "/"))


_MODULES = b"_text\0do_one_initcall\t[module]\0\xff\x1b[31m\0 T x\t[\0"


@reader("target.stacks", lambda: [_MODULES + b"\0", _MODULES + b"\1"], words=(b" T ", b"\t[", b"\0"), megabytes=64)
def kallsyms(data: bytes) -> None:
    """The kernel's symbols: modules name their own. Addresses are the kernel's, or all 0 for who may not see them."""
    hidden = data[-1:] == b"\1"
    lines = [
        b"%016x %c %s" % (0 if hidden else 0xFFFFFFFF81000000 + 64 * number, b"TtDW"[number % 4], name)
        for number, name in enumerate(data.replace(b"\n", b"").split(b"\0")[:2000])
    ]
    fd = os.memfd_create("kallsyms", os.MFD_CLOEXEC)
    try:
        os.write(fd, b"\n".join([*lines, b""]))
        symbols = stacks.KernelSymbols(f"/proc/self/fd/{fd}")
        frames = symbols.resolve([0, 0xFFFFFFFF81000050, 0xFFFFFFFF81000000, (1 << 64) - 1])
        assert len(frames) == 4 and all("\t" not in frame.name for frame in frames)
        symbols.extent("_text")
        assert symbols.reason is None or isinstance(symbols.reason, str)
    finally:
        os.close(fd)
