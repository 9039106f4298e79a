# SPDX-License-Identifier: BSD-2-Clause
"""opensnoop, statsnoop and filelife against processes that know what they did."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import causes
import pytest
import targets
import tracing
import traffic

import pyebpf
from pyebpf.core import kernel
from pyebpf.errors import TargetError
from pyebpf.tools.text import Cut

_O_CREATES = os.O_CREAT | os.O_WRONLY | os.O_TRUNC


@pytest.fixture
def actor() -> Iterator[traffic.Actor]:
    with causes.actor("filer") as made:
        yield made


def seen(session: Any) -> list[Any]:
    """All that a session has seen; nothing was lost. An act's record is there before its reply."""
    session.detach()
    events = list(session.drain())
    assert not any(session.losses[:3]), session.losses
    return events


def is_of(event: Any, reply: traffic.Reply) -> bool:
    """The same thread at the same time, with the same result."""
    who = (event.pid, event.tid, event.comm, event.errno)
    return (
        who == (reply["pid"], reply["tid"], reply["comm"].encode(), reply["errno"])
        and reply["start"] <= event.time <= reply["end"]
    )


# opensnoop


@pytest.mark.parametrize("memory", causes.MEMORIES)
@pytest.mark.parametrize("how", causes.OPENS)
def test_open_with_its_path_wherever_that_lies(actor: traffic.Actor, tmp_path: Path, how: str, memory: str) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    with pyebpf.opensnoop(pid=actor.pid) as session:
        replies = [causes.opens(actor, path, os.O_RDWR, how=how, path=memory) for path in (there, gone)]
        events = seen(session)
    assert [reply["errno"] for reply in replies] == [0, errno.ENOENT]
    paths = (there, gone)
    mine = [event for event in events if event.path in [os.fsencode(path) for path in paths]]
    assert len(mine) == 2
    for event, path, reply in zip(mine, paths, replies):
        assert is_of(event, reply) and event.path == os.fsencode(path)
        assert event.fd == (None if reply["errno"] else reply["ret"])
        assert event.flags == os.O_RDWR and event.mode is None and event.full_path is None
        assert event.uid == os.getuid()


def test_open_that_creates_shows_the_mode(actor: traffic.Actor, tmp_path: Path) -> None:
    ways = [*causes.OPENS, *(["creat"] if causes.LEGACY else [])]
    with pyebpf.opensnoop(pid=actor.pid, flags=["O_CREAT"]) as session:
        causes.opens(actor, tmp_path / "none")
        replies = [causes.opens(actor, tmp_path / how, _O_CREATES, how=how, mode=0o640) for how in ways]
        events = seen(session)
    assert [event.path for event in events] == [os.fsencode(tmp_path / how) for how in ways]
    assert all(is_of(event, reply) for event, reply in zip(events, replies))
    assert [(event.flags, event.mode) for event in events] == [(_O_CREATES, 0o640)] * len(ways)


def test_names_that_hurt_are_whole(actor: traffic.Actor, tmp_path: Path) -> None:
    hard = causes.names_that_hurt(tmp_path)
    with pyebpf.opensnoop(pid=actor.pid, failed=True) as session:
        for name in hard:
            causes.opens(actor, name)
        events = seen(session)
    assert [event.path for event in events] == hard
    assert len(hard[-1]) == 4095 and not any(isinstance(event.path, Cut) for event in events)


def test_a_path_that_is_too_long_is_marked_as_cut(actor: traffic.Actor) -> None:
    name = b"/" + b"x" * 5000
    with pyebpf.opensnoop(pid=actor.pid) as session:
        reply = causes.opens(actor, name)
        (event,) = seen(session)
    assert reply["errno"] == errno.ENAMETOOLONG == event.errno
    assert isinstance(event.path, Cut) and name.startswith(event.path) and len(event.path) >= 4095


def test_a_path_that_cannot_be_read_is_counted() -> None:
    program = "import ctypes, sys; sys.stdin.read(1); ctypes.CDLL(None).syscall(%d, -100, 8, 0, 0)"
    number = {"x86_64": 257, "aarch64": 56}[os.uname().machine]  # openat
    with subprocess.Popen([sys.executable, "-c", program % number], stdin=subprocess.PIPE) as process:
        with pyebpf.opensnoop(pid=process.pid, failed=True) as session:
            process.communicate(b"\n", timeout=targets.DEADLINE)
            session.detach()
            bad = [event for event in session.drain() if event.errno == errno.EFAULT]
            assert [event.path for event in bad] == [None] and session.losses.unread == 1


def test_full_paths_begin_at_the_root(actor: traffic.Actor, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b c" / "d\ne"
    deep.mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    directory = actor.do("open", "openat", tmp_path, os.O_PATH, 0, causes.AT_FDCWD)["ret"]
    names = [b"nosuch", b"../../file", b"/etc/hostname-no", os.fsencode(tmp_path / "x")]
    with pyebpf.opensnoop(pid=actor.pid, full_path=True) as session:
        causes.names(actor, "chdir", deep)
        for name in names:
            causes.opens(actor, name)
        causes.opens(actor, "a/file", dirfd=directory)
        causes.opens(actor, "y", dirfd=99)
        events = seen(session)
    here = os.fsencode(deep)
    assert [event.path for event in events] == [*names, b"a/file", b"y"]
    assert [event.full_path for event in events[:5]] == [
        here + b"/nosuch", here + b"/../../file", b"/etc/hostname-no", names[3], os.fsencode(tmp_path) + b"/a/file",
    ]  # fmt: skip
    assert events[5].errno == errno.EBADF


def test_full_paths_cross_mounts_and_stop_at_the_process_root(actor: traffic.Actor, tmp_path: Path) -> None:
    causes.own_mounts(actor)
    inner = tmp_path / "mounted"
    inner.mkdir()
    assert not causes.mounts(actor, "none", inner)["errno"]
    for how, path in (("mkdir", inner / "sub"), ("chdir", inner / "sub")):
        assert not causes.names(actor, how, path)["errno"]
    with pyebpf.opensnoop(pid=actor.pid, full_path=True) as session:
        causes.opens(actor, "one")
        assert not causes.names(actor, "chroot", tmp_path)["errno"]
        causes.opens(actor, "two")
        assert not causes.names(actor, "chdir", "/")["errno"]
        causes.opens(actor, "three")
        events = seen(session)
    whole = os.fsencode(inner) + b"/sub/one"
    assert [event.full_path for event in events] == [whole, b"/mounted/sub/two", b"/three"]


def test_a_directory_that_lies_too_deep_is_told_as_cut(actor: traffic.Actor, tmp_path: Path) -> None:
    assert not causes.names(actor, "chdir", tmp_path)["errno"]
    for _ in range(70):
        assert not causes.names(actor, "mkdir", "deep")["errno"]
        assert not causes.names(actor, "chdir", "deep")["errno"]
    long = b"n" * 200
    with pyebpf.opensnoop(pid=actor.pid, full_path=True) as session:
        causes.opens(actor, long)
        (event,) = seen(session)
    assert event.path == long and event.full_path == "…/".encode() + b"deep/" * 64 + long


@pytest.mark.parametrize("full_path", [False, True])
def test_no_open_is_lost_untold(full_path: bool) -> None:
    """Four threads, as fast as they can."""
    with causes.actor("many") as actor:
        for number in range(4):
            actor.thread(f"t{number}")
        with pyebpf.opensnoop(pid=actor.pid, full_path=full_path) as session:
            count, pending = 0, []
            for number in range(10007):
                pending.append(actor.begin("open", "openat", b"none-%d" % number, 0, 0, -100, who=f"t{number % 4}"))
                if len(pending) == 64:
                    count += sum(reply.result()["errno"] == errno.ENOENT for reply in pending)
                    pending.clear()
            count += sum(reply.result()["errno"] == errno.ENOENT for reply in pending)
            session.detach()
            events = list(session.drain())
            losses = session.losses
            told = len(events) + losses.dropped + losses.untracked
            assert count == 10007 and told <= 10007 <= told + losses.missed and not losses.unread
            assert not losses.missed or kernel.release() >= (7, 0)  # KNOWN_ISSUES.md
        assert {event.path for event in events} <= {b"none-%d" % number for number in range(10007)}
        assert len({event.path for event in events}) == len(events)


def test_open_filters(actor: traffic.Actor) -> None:
    tid = actor.thread("worker")
    uid = 65534
    causes.unprivileged(actor, "other", uid)
    with pyebpf.opensnoop(pid=actor.pid, tid=tid) as by_thread, pyebpf.opensnoop(uid=uid) as by_user:
        for who in ("", "worker", "other"):
            causes.opens(actor, f"/nowhere-{who}", who=who)
        assert [event.path for event in seen(by_thread)] == [b"/nowhere-worker"]
        assert [event.path for event in seen(by_user) if event.comm == b"other"] == [b"/nowhere-other"]
    with pytest.raises(TargetError, match="O_RDONLY"):
        pyebpf.opensnoop(flags=["O_RDONLY"])


def test_opensnoop_command(actor: traffic.Actor, tmp_path: Path) -> None:
    with tracing.pyebpf("opensnoop", "-eFU", "-p", str(actor.pid)) as process:
        causes.opens(actor, tmp_path / "a\x1b[31m\nb", _O_CREATES, mode=0o600)
        causes.opens(actor, tmp_path / "none")
        lines = tracing.end(process).splitlines()
    assert lines[0].split() == ["UID", "PID", "COMM", "FD", "ERR", "FLAGS", "MODE", "PATH"]
    assert lines[1].split()[-4:] == ["0", "00001101", "0600", f"{tmp_path}/a\\x1b[31m\\x0ab"]
    assert lines[2].split() == [
        str(os.getuid()), str(actor.pid), "filer", "-1", "2", "00000000", "-", f"{tmp_path}/none",
    ]  # fmt: skip
    assert len(lines) == 3


# statsnoop


@pytest.mark.parametrize("memory", causes.MEMORIES)
@pytest.mark.parametrize("how", causes.STATS)
def test_stat_with_its_path_wherever_that_lies(actor: traffic.Actor, tmp_path: Path, how: str, memory: str) -> None:
    with pyebpf.statsnoop(pid=actor.pid) as session:
        replies = [causes.stats(actor, path, how, path=memory) for path in (tmp_path, tmp_path / "gone")]
        events = seen(session)
    assert [reply["errno"] for reply in replies] == [0, errno.ENOENT]
    assert [event.path for event in events] == [os.fsencode(tmp_path), os.fsencode(tmp_path / "gone")]
    for event, reply in zip(events, replies):
        assert is_of(event, reply) and event.call == how and event.dirfd is None


def test_stat_of_names_that_hurt(actor: traffic.Actor, tmp_path: Path) -> None:
    hard = causes.names_that_hurt(tmp_path)
    directory = actor.do("open", "openat", tmp_path, os.O_PATH, 0, causes.AT_FDCWD)["ret"]
    with pyebpf.statsnoop(pid=actor.pid, failed=True) as session:
        causes.stats(actor, tmp_path)
        for name in hard:
            causes.stats(actor, name, dirfd=directory)
        events = seen(session)
    assert [event.path for event in events] == hard and {event.dirfd for event in events} == {directory}


def test_statsnoop_command(actor: traffic.Actor) -> None:
    with tracing.pyebpf("statsnoop", "-s", "-p", str(actor.pid)) as process:
        causes.stats(actor, "/", "statx")
        causes.stats(actor, "/no\tsuch")
        lines = tracing.end(process).splitlines()
    pid = str(actor.pid)
    assert [line.split() for line in lines] == [
        ["PID", "COMM", "FD", "ERR", "SYSCALL", "PATH"],
        [pid, "filer", "0", "0", "statx", "/"],
        [pid, "filer", "-1", "2", "newfstatat", "/no\\x09such"],
    ]
    with tracing.pyebpf("statsnoop", "--json", "-x", "-p", str(actor.pid)) as process:
        reply = causes.stats(actor, "/no\tsuch")
        (record,) = tracing.records(tracing.end(process), "stat")
    assert record["path"] == "/no\tsuch" and record["errno"] == 2 and record["dirfd"] is None
    assert reply["start"] <= record["time_ns"] <= reply["end"]


# filelife


@pytest.fixture(params=["/dev/shm", "/var/tmp"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """On a file system in memory, and on one on a disk."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="pyebpf-", dir=request.param))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("unlink", ["unlinkat", *(["unlink"] if causes.LEGACY else [])])
def test_life_of_a_file(actor: traffic.Actor, folder: Path, unlink: str) -> None:
    (folder / "old").touch()
    with pyebpf.filelife(pid=actor.pid) as session:
        made, gone = causes.lives(actor, folder / "file", unlink)
        causes.names(actor, unlink, folder / "old")
        assert causes.names(actor, unlink, folder / "none")["errno"] == errno.ENOENT
        (event,) = seen(session)
    assert event.path == os.fsencode(folder / "file") and not event.replaced and event.full_path is None
    assert (event.pid, event.comm) == (actor.pid, b"filer") == (event.made_by, event.made_comm)
    assert gone["start"] <= event.time <= gone["end"]
    assert gone["start"] - made["end"] <= event.age <= gone["end"] - made["start"]


def test_life_made_and_deleted_by_different_processes(actor: traffic.Actor, folder: Path) -> None:
    with causes.actor("maker") as maker, pyebpf.filelife(pid=actor.pid, full_path=True) as session:
        made = causes.opens(maker, folder / "file", _O_CREATES, keep=True)
        inode = (folder / "file").stat().st_ino
        causes.names(actor, "chdir", folder)
        causes.names(actor, "unlinkat", "file")  # it is still open
        (event,) = seen(session)
    assert not made["errno"] and event.inode == inode
    assert (event.made_by, event.made_comm, event.pid) == (maker.pid, b"maker", actor.pid)
    assert event.path == b"file" and event.full_path == os.fsencode(folder / "file")


def test_life_ends_with_the_last_name(actor: traffic.Actor, folder: Path) -> None:
    with pyebpf.filelife(pid=actor.pid) as session:
        causes.opens(actor, folder / "one", _O_CREATES)
        causes.names(actor, "link", folder / "one", folder / "two")
        causes.names(actor, "unlinkat", folder / "one")
        causes.names(actor, "renameat2", folder / "two", folder / "three")
        causes.names(actor, "unlinkat", folder / "three")
        (event,) = seen(session)
    assert event.path == os.fsencode(folder / "three") and not event.replaced


def test_life_ends_when_another_file_takes_the_name(actor: traffic.Actor, folder: Path) -> None:
    ways = ["renameat2", *(["rename", "renameat"] if causes.LEGACY else [])]
    with pyebpf.filelife(pid=actor.pid) as session:
        inodes = []
        for how in ways:
            for name in ("new", "old"):
                causes.opens(actor, folder / name, _O_CREATES)
            inodes.append((folder / "old").stat().st_ino)
            causes.names(actor, how, folder / "new", folder / "old")
            (folder / "old").unlink()
        events = seen(session)
    assert [(event.path, event.replaced) for event in events] == [(os.fsencode(folder / "old"), True)] * len(ways)
    assert [event.inode for event in events] == inodes


def test_no_life_is_lost_untold(actor: traffic.Actor, folder: Path) -> None:
    with pyebpf.filelife(pid=actor.pid) as session:
        for number in range(997):
            causes.lives(actor, folder / str(number))
        events = seen(session)
    assert [event.path for event in events] == [os.fsencode(folder / str(number)) for number in range(997)]


def test_filelife_command(actor: traffic.Actor, tmp_path: Path) -> None:
    with tracing.pyebpf("filelife", "-p", str(actor.pid), "--json") as process:
        causes.lives(actor, tmp_path / "a\nb")
        records = [json.loads(line) for line in tracing.end(process).splitlines()]
    assert [record["type"] for record in records] == ["attached", "file", "end"]
    assert records[1]["path"] == f"{tmp_path}/a\nb" and records[1]["age_ns"] > 0
    with tracing.pyebpf("filelife", "-p", str(actor.pid)) as process:
        made, removed = causes.lives(actor, tmp_path / "a\nb")
        lines = tracing.end(process).splitlines()
    assert lines[0].split() == ["TIME", "PID", "COMM", "AGE(s)", "FILE"]
    _, pid, comm, age, path = lines[1].split()
    assert (pid, comm, path) == (str(actor.pid), "filer", f"{tmp_path}/a\\x0ab") and len(lines) == 2
    assert age[-3] == "." and float(age) <= (removed["end"] - made["start"]) / 1e9 + 0.005
