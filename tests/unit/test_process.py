# SPDX-License-Identifier: BSD-2-Clause
"""Processes as /proc shows them: this one, and children made for the purpose."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyebpf.errors import PermissionDenied, TargetError, TargetNotFound
from pyebpf.target import process as process_module
from pyebpf.target.process import Process, identity, read_maps

SOURCE = "int f(int x) { return x + 1; }"
MAIN = """
#include <stdio.h>
#include <unistd.h>
int f(int);
int main(void) { puts("up"); fflush(stdout); f(1); pause(); return 0; }
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with libf.so, and prog, which uses it and waits."""
    (tmp_path / "f.c").write_text(SOURCE)
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "libf.so", "f.c"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "-o", "prog", "main.c", "-L.", "-lf", "-Wl,-rpath,$ORIGIN"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def child(programs: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([programs / "prog"], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
        running.kill()


def test_this_process() -> None:
    me = Process(os.getpid())
    assert me.name == Path("/proc/self/comm").read_text()[:-1]
    assert me.program == os.readlink("/proc/self/exe")
    assert identity(me.exe) == identity(me.program)
    [libc] = me.libraries("c")
    assert "libc" in libc.path or "ld-musl" in libc.path
    assert identity(me.path_for(libc)) == identity(libc.path)
    assert me.libraries("no-such-library") == []
    assert any(mapping.path == "[stack]" and not mapping.inode for mapping in me.maps())
    assert all("x" in mapping.perms and mapping.inode for mapping in me.files())


def test_maps_are_those_of_the_kernel() -> None:
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    found = {(mapping.start, mapping.perms, mapping.inode, mapping.path) for mapping in read_maps(os.getpid())}
    seen = {(int(f[0].split("-")[0], 16), f[1], int(f[4]), f[5] if len(f) > 5 else "") for f in lines}
    # Reading them allocates, so the heap and the unnamed ones may differ.
    assert {entry for entry in seen if entry[2]} <= found


def test_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    for pid in (child.pid, 0, -1, 1 << 40):
        with pytest.raises(TargetNotFound, match="no process has the ID"):
            Process(pid)


def test_gone_later(child: subprocess.Popen[bytes]) -> None:
    process = Process(child.pid)
    [mapping] = process.libraries("f")
    pidfd = process.open_pidfd()
    assert select.select([pidfd], [], [], 0)[0] == []
    assert not os.get_inheritable(pidfd)
    child.kill()
    assert select.select([pidfd], [], [], 60)[0] == [pidfd]
    os.close(pidfd)
    child.wait()
    assert process.path_for(mapping) == mapping.path  # known from before, and still that file
    with pytest.raises(TargetNotFound):
        process.open_pidfd()
    with pytest.raises(TargetNotFound):
        read_maps(child.pid)
    with pytest.raises(TargetNotFound):
        process.program  # noqa: B018


def test_zombie() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(TargetError, match="zombie"):
            Process(pid)
    finally:
        os.waitpid(pid, 0)


def test_kernel_thread() -> None:
    names = {pid: Path(f"/proc/{pid}/comm") for pid in os.listdir("/proc") if pid.isdigit() and int(pid) < 100}
    threads = [int(pid) for pid, comm in names.items() if comm.exists() and comm.read_text() == "kthreadd\n"]
    if not threads:
        pytest.skip("no kernel thread is visible in this PID namespace")
    with pytest.raises(TargetError, match="kernel thread"):
        Process(threads[0])


def test_thread_of_a_process() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        with pytest.raises(TargetError, match=f"a thread of process {os.getpid()}") as caught:
            Process(thread.native_id)
        assert str(os.getpid()) in str(caught.value.hint)
    finally:
        end.set()
        thread.join()


def test_name_that_lies(tmp_path: Path) -> None:
    path = tmp_path / "x) Z 1\n\x1b[3"
    shutil.copy(shutil.which("cat") or "", path)
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as running:
        try:
            # Once it answers, everything is mapped.
            assert running.stdin
            assert running.stdout
            running.stdin.write(b"x")
            assert running.stdout.read(1) == b"x"
            process = Process(running.pid)
            assert process.name == path.name
            assert process.program == str(path)
            [mapping] = [mapping for mapping in process.files() if mapping.path == str(path)]
            assert process.path_for(mapping) == str(path)
        finally:
            running.kill()


def test_program_replaced(programs: Path, child: subprocess.Popen[bytes]) -> None:
    program = programs / "prog"
    old = identity(str(program))
    program.unlink()
    shutil.copy("/bin/true", program)
    process = Process(child.pid)
    assert process.program == str(program)
    assert identity(process.exe) == old != identity(str(program))
    [mapping] = [mapping for mapping in process.files() if mapping.path == str(program)]
    assert mapping.deleted
    assert (mapping.dev, mapping.inode) == old


def test_library_replaced(programs: Path, child: subprocess.Popen[bytes]) -> None:
    library = programs / "libf.so"
    old = identity(str(library))
    (programs / "new").write_bytes(library.read_bytes())
    (programs / "new").rename(library)
    process = Process(child.pid)
    [mapping] = process.libraries("f")
    assert mapping.deleted
    assert mapping.path == str(library)
    if os.geteuid():
        with pytest.raises(PermissionDenied):
            process.path_for(mapping)
    else:
        assert identity(process.path_for(mapping)) == old != identity(str(library))


def test_file_of_the_root_directory(programs: Path, child: subprocess.Popen[bytes]) -> None:
    # As in a container: the path in maps exists only below the process's root.
    process = Process(child.pid)
    [mapping] = process.libraries("f")
    process.root = str(programs)
    assert process.path_for(mapping._replace(path="/libf.so")) == f"{programs}/libf.so"


def test_links_are_followed_in_the_root_directory(tmp_path: Path) -> None:
    process = Process(os.getpid())
    process.root = str(tmp_path)
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/x").touch()
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/up").symlink_to("../../../../lib/x")
    (tmp_path / "loop").symlink_to("loop")
    assert process.real_path("/lib/x") == "/usr/lib/x"
    assert process.real_path("lib/./x") == "/usr/lib/x"
    assert process.real_path("/usr/up") == "/usr/lib/x"
    assert process.real_path("/none/../usr//none") == "/usr/none"
    assert process.real_path("/") == "/"
    with pytest.raises(TargetError, match="symbolic links"):
        process.real_path("/loop")


def test_too_many_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_MAX_MAPS", 3)
    with pytest.raises(TargetError, match="more than 3 mappings"):
        read_maps(os.getpid())
    monkeypatch.setattr(process_module, "_MAX_MAPS_BYTES", 100)
    with pytest.raises(TargetError, match="larger than 100 bytes"):
        read_maps(os.getpid())


def test_nothing_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    me = Process(os.getpid())
    me.maps()
    me.path_for(me.files()[0])
    with pytest.raises(TargetNotFound):
        Process(1 << 40)
    assert os.listdir("/proc/self/fd") == before
