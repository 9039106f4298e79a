# SPDX-License-Identifier: BSD-2-Clause
"""From short names to files: ld.so's cache, and $PATH."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pyebpf.target import libraries
from pyebpf.target.libraries import Library, find_libraries, find_program, is_library, parse_cache, read_cache


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("libc.so.6", "c"),
        ("libc-2.31.so", "c"),
        ("libc.so", "c"),
        ("libc.so.6", "libc"),
        ("libc.so.6", "libc.so.6"),
        ("libstdc++.so.6.0.30", "stdc++"),
        ("libpython3.11.so.1.0", "python3.11"),
        ("libssl.so.3", "ssl"),
        ("libssl.so.1.1", "ssl"),
        ("libfoo-1.2.so.3", "foo"),
        ("ld-musl-x86_64.so.1", "c"),
        ("libc.musl-x86_64.so.1", "c"),
        ("myplugin.so", "myplugin.so"),
        ("libfoo.so.1 (x)", "foo"),
    ],
)
def test_is_library(file: str, name: str) -> None:
    assert is_library(file, name)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("libcap.so.2", "c"),
        ("libc-client.so.2", "c"),
        ("libc++.so.1", "c"),
        ("libcrypto.so.3", "c"),
        ("libc.so.6", "lib"),
        ("libc.so.6", ""),
        ("libxsoy", "x"),
        ("libX.so", "."),
        ("node", "n"),
        ("c.so", "c"),
    ],
)
def test_is_not_library(file: str, name: str) -> None:
    assert not is_library(file, name)


def test_cache_of_this_machine() -> None:
    expected = set()
    for line in subprocess.run(["ldconfig", "-p"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        if "=>" in line and "(libc6,x86-64" in line.replace("AArch64", "x86-64"):
            expected.add(Library(line.split()[0], line.split("=> ")[1]))
    assert expected
    assert set(read_cache()) == expected


def test_c_is_the_library_this_machine_loads() -> None:
    found = find_libraries("c")
    loaded = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line]
    assert any(os.path.samefile(library.path, loaded[0]) for library in found)
    assert find_libraries("no-such-library") == []


ENTRIES = [("libx.so.2", "/lib/libx.so.2", 0x303), ("libx.so.1", "/lib/libx.so.1", 0x303), ("libx.so.1", "/lib32/x", 3)]


def new_cache(entries: list[tuple[str, str, int]], count: int | None = None) -> bytes:
    base = 48 + 24 * len(entries)
    table, strings = b"", b""
    for soname, path, flags in entries:
        key = base + len(strings)
        strings += soname.encode() + b"\0"
        value = base + len(strings)
        strings += path.encode() + b"\0"
        table += struct.pack("<iIIIQ", flags, key, value, 0, 0)
    number = len(entries) if count is None else count
    return struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", number, len(strings), 2, 0) + table + strings


def test_entries_of_other_machines_are_left_out() -> None:
    assert parse_cache(new_cache(ENTRIES), "x86_64") == [Library(*entry[:2]) for entry in ENTRIES[:2]]
    assert parse_cache(new_cache(ENTRIES), "aarch64") == []
    assert parse_cache(new_cache(ENTRIES), "vax") == []


@pytest.mark.parametrize("old", [0, 1, 2, 3])
def test_cache_behind_one_of_the_old_format(old: int) -> None:
    prefix = struct.pack("<12sI", b"ld.so-1.7.0\0", old) + bytes(12 * old)
    prefix += bytes(-len(prefix) % 8)
    assert parse_cache(prefix + new_cache(ENTRIES), "x86_64") == parse_cache(new_cache(ENTRIES), "x86_64")
    assert parse_cache(prefix, "x86_64") == []


def test_hostile_cache() -> None:
    good = new_cache(ENTRIES)
    for size in range(len(good)):
        parse_cache(good[:size], "x86_64")
    assert parse_cache(new_cache(ENTRIES, count=0xFFFFFFFF), "x86_64") == []
    assert parse_cache(struct.pack("<12sI", b"ld.so-1.7.0\0", 0xFFFFFFFF) + good, "x86_64") == []
    dice = random.Random(1)
    for _ in range(2000):
        bad = bytearray(good)
        for _ in range(3):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        for library in parse_cache(bytes(bad), "x86_64"):
            assert len(library.path) < len(good)


def test_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_cache(str(tmp_path / "none")) == []
    assert read_cache(str(tmp_path)) == []
    monkeypatch.setattr(libraries, "read_cache", list)
    monkeypatch.setattr(libraries, "_DEFAULT_DIRECTORIES", (str(tmp_path), str(tmp_path / "none")))
    for name in ("libzzz.so.1", "libzzz.so.2", "libzzzy.so.1", "notes.txt"):
        (tmp_path / name).touch()
    assert find_libraries("zzz") == [
        Library("libzzz.so.2", f"{tmp_path}/libzzz.so.2"),
        Library("libzzz.so.1", f"{tmp_path}/libzzz.so.1"),
    ]


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_program("gcc") == shutil.which("gcc")
    assert find_program("no-such-program") is None
    assert find_program("") is None
    assert find_program("a\0b") is None
    tool = tmp_path / "tool"
    tool.touch(mode=0o644)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("PATH", f":/none:{tmp_path}")
    monkeypatch.chdir(tmp_path)
    assert find_program("tool") is None
    assert find_program("folder") is None
    tool.chmod(0o755)
    assert find_program("tool") == str(tool)
    assert find_program("./tool") == "./tool"
    assert find_program("./none") is None
