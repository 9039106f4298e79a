# SPDX-License-Identifier: BSD-2-Clause
"""Whose events are shown: processes, threads, users, cgroups, PID and network namespaces; and what isn't one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import causes
import pytest
import targets
import traffic

import pyebpf
from pyebpf.errors import TargetError, TargetNotFound
from pyebpf.tools.scope import Scope, Tree, network_namespace, scope_of

_BAD_FD = 999  # fsync of it fails: an event without a disk


@pytest.fixture
def two() -> Iterator[tuple[traffic.Actor, traffic.Actor]]:
    with causes.actor("one") as one, causes.actor("two") as two:
        yield one, two


def seen(session: Any) -> list[Any]:
    """All that a session has seen. An act's record is there before its reply."""
    session.detach()
    return list(session.drain())


def sync(actor: traffic.Actor, times: int = 1, who: str = "") -> None:
    for _ in range(times):
        causes.syncs(actor, "fsync", _BAD_FD, who=who)


def test_processes(two: tuple[traffic.Actor, traffic.Actor]) -> None:
    one, other = two
    with causes.actor("three") as three:
        with (
            pyebpf.syncsnoop(pid=one.pid) as single,
            pyebpf.syncsnoop(pid=[one.pid, three.pid]) as several,
            pyebpf.syncsnoop() as everyone,
        ):
            one.thread("worker")
            sync(one), sync(one, who="worker"), sync(other), sync(three)
            events = [seen(session) for session in (single, several, everyone)]
    assert [event.pid for event in events[0]] == [one.pid, one.pid]
    assert [event.comm for event in events[0]] == [b"one", b"worker"]  # all its threads
    assert [event.pid for event in events[1]] == [one.pid, one.pid, three.pid]
    ours = [event.pid for event in events[2] if event.pid in (one.pid, other.pid, three.pid)]
    assert ours == [one.pid, one.pid, other.pid, three.pid]


def test_children_and_theirs(two: tuple[traffic.Actor, traffic.Actor]) -> None:
    """Those a process starts from now on; not its children of before, and not others."""
    one, other = two
    one.fork("early")
    with pyebpf.syncsnoop(pid=Tree(one.pid)) as family, pyebpf.syncsnoop(pid=one.pid) as alone:
        child = one.fork("kid")
        grandchild = one.do("fork", "grandkid", who="kid")["child"]
        sync(one), sync(one, who="kid"), sync(one, who="kid/grandkid"), sync(one, who="early"), sync(other)
        assert [event.pid for event in seen(family)] == [one.pid, child, grandchild]
        assert [event.pid for event in seen(alone)] == [one.pid]
        assert not any(family.losses)


def test_a_command_and_all_it_starts() -> None:
    script = "/bin/true; (/bin/true; sh -c '/bin/true; exit 0')"
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "execsnoop", "--json", "-c", f"sh -c {script!r}"],
        capture_output=True, text=True, timeout=targets.DEADLINE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    started = [record["comm"] for record in map(json.loads, done.stdout.splitlines()) if record["type"] == "exec"]
    assert started == ["sh", "true", "true", "sh", "true"]


def test_we_are_not_shown_unless_asked_for() -> None:
    with pyebpf.syncsnoop() as everyone, pyebpf.syncsnoop(pid=os.getpid()) as ourselves:
        for _ in range(23):
            with pytest.raises(OSError, match="Bad file"):
                os.fsync(_BAD_FD)
        assert os.getpid() not in {event.pid for event in seen(everyone)}
        assert [event.pid for event in seen(ourselves)] == [os.getpid()] * 23


def test_a_thread(two: tuple[traffic.Actor, traffic.Actor]) -> None:
    one, _ = two
    worker = one.thread("worker")
    with pyebpf.shmsnoop(tid=worker) as session:
        one.act("shm", "dt", 16), one.act("shm", "dt", 16, who="worker")
        (event,) = seen(session)
    assert (event.pid, event.tid, event.comm) == (one.pid, worker, b"worker")
    with pytest.raises(TargetError, match=f"{worker} is a thread of process {one.pid}"):
        pyebpf.shmsnoop(pid=worker)


def test_a_user(two: tuple[traffic.Actor, traffic.Actor]) -> None:
    one, other = two
    other.do("user", 4242)
    with pyebpf.syncsnoop(uid=4242) as session, pyebpf.syncsnoop(uid=0, pid=[one.pid, other.pid]) as root:
        sync(one), sync(other)
        assert [(event.pid, event.uid) for event in seen(session)] == [(other.pid, 4242)]
        assert [(event.pid, event.uid) for event in seen(root)] == [(one.pid, 0)]


# Control groups


def cgroup2() -> Path:
    """Where the cgroup2 hierarchy is mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next(Path(fields[1]) for fields in mounts if fields[2] == "cgroup2")


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup of ours, with another below it, and one beside it with a name that only begins the same."""
    folder = cgroup2() / f"pyebpf-test-{os.getpid()}"
    folders = [folder, folder / "below", Path(f"{folder}2")]
    for made in folders:
        made.mkdir()
    try:
        yield folder
    finally:
        for made in reversed(folders):
            for pid in (made / "cgroup.procs").read_text().split():
                (cgroup2() / "cgroup.procs").write_text(pid)
            made.rmdir()


def test_a_cgroup_and_all_below_it(group: Path, two: tuple[traffic.Actor, traffic.Actor]) -> None:
    one, other = two
    with causes.actor("beside") as beside:
        (group / "cgroup.procs").write_text(str(one.pid))
        (group / "below" / "cgroup.procs").write_text(str(other.pid))
        Path(f"{group}2/cgroup.procs").write_text(str(beside.pid))
        with (
            pyebpf.syncsnoop(cgroup=str(group)) as whole,
            pyebpf.syncsnoop(cgroup=str(group / "below")) as below,
            pyebpf.syncsnoop(cgroup=str(cgroup2()), pid=beside.pid) as root,
        ):
            sync(one), sync(other), sync(beside)
            (cgroup2() / "cgroup.procs").write_text(str(one.pid))
            sync(one)  # it has left
            found = [[event.pid for event in seen(session)] for session in (whole, below, root)]
            for actor in (other, beside):
                (cgroup2() / "cgroup.procs").write_text(str(actor.pid))
    assert found == [[one.pid, other.pid], [other.pid], [beside.pid]]


def test_what_is_no_cgroup(tmp_path: Path, group: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path, "not a directory of the cgroup2 hierarchy"), (tmp_path / "file", "not a directory"),
                        (group / "cgroup.procs", "not a directory")):  # fmt: skip
        with pytest.raises(TargetError, match=words):
            pyebpf.syncsnoop(cgroup=str(path))
    with pytest.raises(TargetNotFound, match="No such file"):
        pyebpf.syncsnoop(cgroup=str(group / "nothing"))
    first = Path("/sys/fs/cgroup/memory")
    if first.is_dir():  # a hierarchy of version 1
        with pytest.raises(TargetError, match="not a directory of the cgroup2"):
            pyebpf.syncsnoop(cgroup=str(first))


# Network namespaces


def test_network_namespaces_by_file_name_and_number(tmp_path: Path) -> None:
    with traffic.namespace() as net:
        name = f"pyebpf-test-{os.getpid()}"
        os.makedirs("/run/netns", exist_ok=True)
        Path(f"/run/netns/{name}").symlink_to(net.path)  # what `ip netns add` does by a mount
        try:
            assert network_namespace(name) == net.inode
        finally:
            os.unlink(f"/run/netns/{name}")
        for which in (net.path, net.inode, str(net.inode)):
            assert network_namespace(which) == net.inode
        inside, outside = net.actor("inside"), traffic.Actor("outside")
        try:
            with pyebpf.bindsnoop(netns=net.path) as session:
                for actor in (inside, outside):
                    actor.do("bind", actor.socket(), "127.0.0.1", 0)
                assert [(event.pid, event.netns) for event in seen(session)] == [(inside.pid, net.inode)]
        finally:
            outside.kill()


def test_what_is_no_network_namespace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opened carelessly it would wait for a writer
    (tmp_path / "file").write_text("")
    for path in ("/proc/self/ns/pid", "/proc/self/ns/mnt", "/dev/null", str(tmp_path / "fifo"), str(tmp_path), "/",
                 str(tmp_path / "file")):  # fmt: skip
        with pytest.raises(TargetError, match="not a network namespace"):
            network_namespace(path)
    for path in ("nothing-of-this-name", "/proc/self/ns/nothing", "\u00b2", "9" * 30):
        with pytest.raises(TargetNotFound):
            network_namespace(path)
    for number in (0, -1, 12345, 1 << 32, "0", "12345", str(1 << 32), "9" * 19):
        with pytest.raises(TargetError, match="inode numbers of namespaces are 4026531832 to 4294967295"):
            network_namespace(number)


# What isn't there


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"pids": (999_999_999,)}, TargetNotFound, "process 999999999 doesn't exist"),
        ({"pids": (-1,)}, TargetNotFound, "process -1"),
        ({"pids": (1 << 70,)}, TargetNotFound, "doesn't exist"),
        ({"tid": 999_999_999}, TargetNotFound, "thread 999999999 doesn't exist"),
        ({"tid": 1 << 70}, TargetNotFound, "doesn't exist"),
        ({"uid": 1 << 32}, TargetError, "user IDs are 0 to"),
        ({"uid": -1}, TargetError, "user IDs are 0 to"),
        ({"family": 5}, TargetError, "4 or 6"),
        ({"local_ports": (0,)}, TargetError, "1 to 65535"),
        ({"remote_ports": (65536,)}, TargetError, "1 to 65535"),
        ({"netns": 0xF0000000}, TargetError, "can't filter by network namespaces"),
        ({"family": 4}, TargetError, "can't filter by address families"),
        ({"local_ports": (1,)}, TargetError, "can't filter by ports"),
    ],
)
def test_scopes_that_are_none(given: dict[str, Any], error: type[Exception], words: str) -> None:
    from pyebpf.core.object import open_bundled

    obj = open_bundled("syncsnoop")
    try:
        with pytest.raises(error, match=words):
            Scope(**given).set(obj)
    finally:
        obj.close()


def test_scope_of_what_verbs_are_given() -> None:
    assert scope_of(None) == Scope()
    assert scope_of(7, uid=0, tid=None) == Scope((7,), uid=0)
    assert scope_of(iter([7, 8])).pids == (7, 8)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-p", "999999999"], 3), (["-p", "0"], 2), (["-p", "x"], 2), (["-u", str(1 << 32)], 2), (["-u", "-1"], 2),
        (["-u", "nobody-of-this-name"], 2), (["--netns", "12345"], 2),
        (["--cgroup", "/nowhere"], 3), (["--cgroup", "/tmp"], 2), (["--netns", "/nowhere"], 3),
        (["--netns", "/proc/self/ns/uts"], 2), (["--netns", "9999999999"], 2), (["-P", "70000"], 2), (["-P", ""], 2),
    ],
)  # fmt: skip
def test_exit_codes(arguments: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "bindsnoop", "-d", "60", *arguments],
        capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    assert done.returncode == code and not done.stdout and "Traceback" not in done.stderr, done.stderr


def test_without_proc() -> None:
    command = "umount -l /proc && exec python -m pyebpf syncsnoop -d 60 -p 1".replace("python", sys.executable)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=targets.DEADLINE
    )
    assert done.returncode == 5 and "/proc/self/ns/pid: No such file" in done.stderr, done.stderr
    assert "mount -t proc" in done.stderr


# PID namespaces

_INSIDE = """
import json, os, subprocess, sys, pyebpf
child = subprocess.Popen([sys.executable, "-c", "import os, sys\\nfor line in sys.stdin:\\n"
    "    try: os.fsync(999)\\n    except OSError: print('done', flush=True)"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
with pyebpf.syncsnoop() as everyone, pyebpf.syncsnoop(pid=child.pid) as only, pyebpf.mountsnoop(pid=child.pid) as other:
    print("ready", flush=True)
    sys.stdin.readline()                      # meanwhile there were events outside
    child.stdin.write("go\\n"), child.stdin.flush(), child.stdout.readline()
    found = [[(event.pid, event.tid) for event in session.drain()] for session in (everyone, only)]
numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
print(json.dumps({"pid": child.pid, "found": found, "numbers": numbers}))
"""


def test_inside_a_pid_namespace(two: tuple[traffic.Actor, traffic.Actor]) -> None:
    """Numbers are those of our own /proc, and nothing is seen of what is outside."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", _INSIDE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        sync(two[0], 23)
        result = json.loads(process.communicate("go\n", timeout=targets.DEADLINE)[0])
    assert result["pid"] in result["numbers"] and result["pid"] < 100
    assert result["found"] == [[[result["pid"]] * 2]] * 2


def test_numbers_of_processes_deeper_down() -> None:
    """From outside, a process in a PID namespace has the number that our /proc gives it."""
    script = "import os, sys\nprint('ready', flush=True); sys.stdin.readline()\n"
    script += "try: os.fsync(999)\nexcept OSError: pass"
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        with pyebpf.syncsnoop(pid=int(child)) as session:
            process.communicate("go\n", timeout=targets.DEADLINE)
            assert [event.pid for event in seen(session)] == [int(child)]


# Readers


def test_a_blocked_reader_returns_when_the_session_is_closed(two: tuple[traffic.Actor, traffic.Actor]) -> None:
    session = pyebpf.syncsnoop(pid=two[0].pid)
    found: list[Any] = []
    first = threading.Event()

    def read() -> None:
        for event in session:
            found.append(event)
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    sync(two[0])
    assert first.wait(targets.DEADLINE)
    session.close()
    reader.join(targets.DEADLINE)
    assert not reader.is_alive() and len(found) == 1
