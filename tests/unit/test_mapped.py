# SPDX-License-Identifier: BSD-2-Clause
"""Functions found by name in every file that has them: of this system, of other copies that processes map."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyebpf.errors import BinaryError, TargetNotFound
from pyebpf.target import mapped
from pyebpf.target.mapped import Found, Place, Sought, find
from pyebpf.target.process import identity

LIBRARY = """
__attribute__((noinline)) int work(int x) { return x + 1; }
int indirect(int (*f)(int)) { return f(1); }
"""
PROGRAM = """
#include <stdio.h>
#include <unistd.h>
int work(int);
int in_program(int x) { return x + 2; }
int main(void) { puts("up"); fflush(stdout); pause(); return work(in_program(1)); }
"""
# Its functions have no symbols but one, which ends in a call of another.
STRIPPED = """
static __attribute__((noipa)) int inner(int x, int y) { return x * y; }
int outer(int x) { return inner(x, 7); }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    (folder / "lib.c").write_text(LIBRARY)
    (folder / "prog.c").write_text(PROGRAM)
    (folder / "stripped.c").write_text(STRIPPED)
    for line in (
        "gcc -O2 -shared -fPIC -o libpyebpfmapped.so.1 lib.c",
        "gcc -O2 -o prog prog.c libpyebpfmapped.so.1 -Wl,-rpath,$ORIGIN",
        "gcc -O2 -shared -fPIC -o libstripped.so stripped.c",
        "strip libstripped.so",
    ):
        subprocess.run(line.split(), cwd=folder, check=True)
    return folder


@pytest.fixture
def start() -> Iterator[Callable[[Path], int]]:
    started = []

    def begin(program: Path) -> int:
        process = subprocess.Popen([program], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        return process.pid

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def files(found: Found) -> set[Path]:
    return {Path(file) for file in found.files}


WORK = (Sought(("work",)),)


def test_every_copy_that_is_mapped(folder: Path, start: Callable[[Path], int], tmp_path: Path) -> None:
    for name in ("prog", "libpyebpfmapped.so.1"):
        shutil.copy(folder / name, tmp_path / name)
    start(folder / "prog"), start(folder / "prog"), start(tmp_path / "prog")
    found = find(WORK, Place(("pyebpfmapped",)), what="work")
    assert files(found) == {folder / "libpyebpfmapped.so.1", tmp_path / "libpyebpfmapped.so.1"}
    assert found.sought == ("work", "work")
    assert all(probe.pids == () and probe.returns and not probe.uretprobe for probe in found.resolution.probes)
    assert all(file in found.resolution.notes[0] for file in found.files)


def test_what_one_process_maps(folder: Path, start: Callable[[Path], int], tmp_path: Path) -> None:
    for name in ("prog", "libpyebpfmapped.so.1"):
        shutil.copy(folder / name, tmp_path / name)
    start(tmp_path / "prog")
    pid = start(folder / "prog")
    found = find((*WORK, Sought(("in_program",))), Place(("pyebpfmapped",), ("*",)), pids=[pid], what="work")
    assert dict(zip(found.sought, map(Path, found.files))) == {
        "work": folder / "libpyebpfmapped.so.1", "in_program": folder / "prog"
    }  # fmt: skip
    assert all(probe.pids == (pid,) for probe in found.resolution.probes)
    found = find((*WORK, Sought(("in_program",))), Place(("pyebpfmapped",)), pids=[pid], what="work")
    assert found.sought == ("work",)


def test_a_deleted_library_is_still_found(folder: Path, start: Callable[[Path], int], tmp_path: Path) -> None:
    for name in ("prog", "libpyebpfmapped.so.1"):
        shutil.copy(folder / name, tmp_path / name)
    pid = start(tmp_path / "prog")
    which = identity(str(tmp_path / "libpyebpfmapped.so.1"))
    (tmp_path / "libpyebpfmapped.so.1").unlink()
    if os.geteuid() == 0:
        (probe,) = find(WORK, Place(("pyebpfmapped",)), pids=[pid], what="work").resolution.probes
        assert probe.image_id == which and probe.shown.startswith(str(tmp_path / "libpyebpfmapped.so.1"))


def test_programs_by_name(folder: Path, start: Callable[[Path], int]) -> None:
    start(folder / "prog")
    assert files(find((Sought(("in_program",)),), Place(programs=("prog",)), what="it")) == {folder / "prog"}
    with pytest.raises(TargetNotFound, match="this system has no it"):
        find((Sought(("in_program",)),), Place(programs=("another",)), what="it")


def test_the_first_name_whose_return_is_certain(folder: Path) -> None:
    library = str(folder / "libpyebpfmapped.so.1")
    (probe,) = find((Sought(("indirect", "work")),), Place(paths=(library,)), what="it").resolution.probes
    assert probe.function.name == "work" and probe.returns
    with pytest.raises(TargetNotFound, match=r"indirect of .*tail call"):
        find((Sought(("indirect",)),), Place(paths=(library,)), what="it")
    (probe,) = find((Sought(("indirect",), entry_alone=True),), Place(paths=(library,)), what="it").resolution.probes
    assert not probe.returns and not probe.uretprobe


def test_no_return_probe_of_the_kernel(folder: Path, start: Callable[[Path], int]) -> None:
    for pids in ([start(folder / "prog")], []):
        with pytest.raises(TargetNotFound):
            find((Sought(("indirect",)),), Place(("pyebpfmapped",)), pids=pids, what="it")


def test_a_tail_call_of_what_has_no_symbol(folder: Path) -> None:
    (probe,) = find((Sought(("outer",)),), Place(paths=(str(folder / "libstripped.so"),)), what="it").resolution.probes
    assert probe.tail and len(probe.returns) == 1 and not probe.uretprobe


def test_a_path_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TargetNotFound, match="no such file"):
        find(WORK, Place(paths=(str(tmp_path / "none"),)), what="work")
    (tmp_path / "text").write_text("not a library")
    with pytest.raises(BinaryError):
        find(WORK, Place(paths=(str(tmp_path / "text"),)), what="work")
    with pytest.raises(TargetNotFound):
        find(WORK, Place(("c",)), pids=[1 << 22], what="work")


def test_what_is_called_a_library() -> None:
    files = mapped._Files(Place(("ssl", "c")))
    for path in ("/lib/libssl.so.3", "/x/libssl-81ffa89e.so.1.1", "/libssl.so", "/lib/libc.so.6", "/lib/libc-2.31.so",
                 "/lib/ld-musl-x86_64.so.1"):  # fmt: skip
        assert files.is_library(path), path
    for path in ("/lib/libssl3.so", "/lib/libssh.so.4", "/x/libcrypto.so.3", "/lib/libssl.a", "/lib/mylibssl.so",
                 "/lib/libcap.so.2"):  # fmt: skip
        assert not files.is_library(path), path


def test_too_many_files_are_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(mapped, "_MAX_FILES", 1)
    library, program = str(folder / "libpyebpfmapped.so.1"), str(folder / "prog")
    found = find(WORK, Place(paths=(library, program)), what="work")
    assert files(found) == {folder / "libpyebpfmapped.so.1"} and "aren't looked at" in found.resolution.notes[-1]
