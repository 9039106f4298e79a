# SPDX-License-Identifier: BSD-2-Clause
"""bindsnoop, syncsnoop, mountsnoop, capable, shmsnoop and drsnoop against processes that know what they did."""

from __future__ import annotations

import errno
import json
import os
import signal
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
from pyebpf.core.hooks import Hooks
from pyebpf.tools.snoop import bindsnoop, mountsnoop, shmsnoop


@pytest.fixture
def actor() -> Iterator[traffic.Actor]:
    with causes.actor("system") as made:
        yield made


def seen(session: Any) -> list[Any]:
    """All that a session has seen. An act's record is there before its reply."""
    session.detach()
    events = list(session.drain())
    assert not any(session.losses[:3]), session.losses
    return events


def within(event: Any, reply: traffic.Reply) -> bool:
    return bool(reply["start"] <= event.time <= reply["end"])


def is_by(event: Any, actor: traffic.Actor) -> bool:
    who = (event.pid, event.tid, event.uid, event.comm)
    return who == (actor.pid, actor.pid, os.getuid(), actor.comm.encode())


# bindsnoop


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
@pytest.mark.parametrize("kind", ["stream", "dgram"])
def test_bind_names_address_and_the_port_given(actor: traffic.Actor, host: str, kind: str) -> None:
    with pyebpf.bindsnoop(pid=actor.pid) as session:
        fd = actor.socket(host, kind)
        reply = actor.do("bind", fd, host, 0)
        (event,) = seen(session)
    assert reply["lport"] > 0
    assert (event.addr, event.port, event.ip, event.errno) == (host, reply["lport"], 6 if ":" in host else 4, 0)
    assert event.protocol == {"stream": "TCP", "dgram": "UDP"}[kind]
    assert event.options == () and event.device == 0
    assert event.netns == os.stat(f"/proc/{actor.pid}/ns/net").st_ino
    assert is_by(event, actor) and within(event, reply)


@pytest.mark.parametrize(
    ("option", "letters"),
    [
        ("IP_FREEBIND", "F...."),
        ("IP_TRANSPARENT", ".T..."),
        ("IP_BIND_ADDRESS_NO_PORT", "..N.."),
        ("SO_REUSEADDR", "...R."),
        ("SO_REUSEPORT", "....r"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_bind_shows_each_option(actor: traffic.Actor, option: str, letters: str, host: str) -> None:
    with pyebpf.bindsnoop(pid=actor.pid) as session:
        fd = actor.socket(host)
        assert actor.option(fd, option, 1)["errno"] == 0
        reply = actor.do("bind", fd, host, 0)
        (event,) = seen(session)
    assert event.options == (option,) and event.port == reply["lport"]
    (column,) = (column for column in bindsnoop.TOOL.columns if column.title == "OPTS")
    assert column.value(event) == letters


def test_bind_that_fails(actor: traffic.Actor) -> None:
    with pyebpf.bindsnoop(pid=actor.pid, errors=True) as session, pyebpf.bindsnoop(pid=actor.pid) as good:
        first, second, six = actor.socket(), actor.socket(), actor.socket("::1")
        port = actor.do("bind", first, "127.0.0.1", 0)["lport"]
        assert actor.act("bind", second, "127.0.0.1", port)["errno"] == errno.EADDRINUSE
        assert actor.act("bind", six, "2001:db8::1", 7)["errno"] == errno.EADDRNOTAVAIL
        assert actor.act("bind", 999, "192.0.2.1", 9)["errno"] == errno.EBADF
        events, ones = seen(session), seen(good)
    assert [event.errno for event in events] == [0, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EBADF]
    where = [(event.addr, event.port) for event in events]
    assert where == [("127.0.0.1", port), ("127.0.0.1", port), ("2001:db8::1", 7), ("192.0.2.1", 9)]
    nothing = events[3]  # there is no socket of which more could be known
    assert (nothing.protocol, nothing.options, nothing.device, nothing.netns) == (None, None, None, None)
    assert [event.port for event in ones] == [port]


def test_bind_of_raw_and_other_sockets(actor: traffic.Actor) -> None:
    with pyebpf.bindsnoop(pid=actor.pid) as session:
        raw = actor.socket("127.0.0.1", "raw")
        actor.do("bind", raw, "127.0.0.1", 0)
        assert actor.noise(3)["errno"] == 0
        events = seen(session)
    assert (events[0].protocol, events[0].addr, events[0].port) == ("TCP", "127.0.0.1", None)
    assert {event.protocol for event in events[1:]} <= {"UDP"}  # sockets of other families are none of ours


def test_bind_filters() -> None:
    with traffic.namespace() as net, traffic.namespace() as other:
        one, two = net.actor("one"), other.actor("two")
        with (
            pyebpf.bindsnoop(netns=net.path) as by_net,
            pyebpf.bindsnoop(netns=net.inode, family=6) as by_family,
            pyebpf.bindsnoop(netns=net.path, local_ports=(997,)) as by_port,
        ):
            for actor in (one, two):
                for host in ("127.0.0.1", "::1"):
                    for port in (997, 998):
                        actor.do("bind", actor.socket(host), host, port)
            nets, families, ports = seen(by_net), seen(by_family), seen(by_port)
    assert {event.pid for event in nets} == {one.pid} and len(nets) == 4
    assert [(event.ip, event.port) for event in families] == [(6, 997), (6, 998)]
    assert [(event.ip, event.port) for event in ports] == [(4, 997), (6, 997)]


def test_bind_to_a_device() -> None:
    with traffic.namespace() as net:
        actor = net.actor("device")
        with pyebpf.bindsnoop(pid=actor.pid) as session:
            fd = actor.socket()
            assert actor.option(fd, "SO_BINDTODEVICE", "lo")["errno"] == 0
            actor.do("bind", fd, "127.0.0.1", 0)
            (event,) = seen(session)
    assert event.device == 1  # lo is the first device of a namespace


def test_binds_are_counted(actor: traffic.Actor) -> None:
    for options in ((), ("--json",)):
        with tracing.pyebpf("bindsnoop", "--count", "-p", str(actor.pid), *options) as process:
            for number, host in ((7, "127.0.0.1"), (23, "::1")):
                for _ in range(number):
                    fd = actor.socket(host)
                    actor.do("bind", fd, host, 997)
                    actor.do("close", fd)
            out = tracing.end(process)
        if options:
            (record,) = tracing.records(out, "binds")
            assert record["binds"] == [{"addr": "::1", "port": 997, "count": 23},
                                       {"addr": "127.0.0.1", "port": 997, "count": 7}]  # fmt: skip
        else:
            rows = [line.split() for line in out.splitlines() if line]
            assert rows == [["LADDR", "LPORT", "BINDS"], ["::1", "997", "23"], ["127.0.0.1", "997", "7"]]


# syncsnoop


def test_sync_shows_every_call(actor: traffic.Actor, tmp_path: Path) -> None:
    fd = causes.opens(actor, tmp_path / "file", os.O_CREAT | os.O_RDWR, keep=True)["ret"]
    actor.do("send", fd, "write", 4096, 4096)
    with pyebpf.syncsnoop(pid=actor.pid) as session:
        replies = {how: causes.syncs(actor, how, fd) for how in causes.SYNCS if how != "sync"}
        replies["again"] = causes.syncs(actor, "fsync", 999)
        events = seen(session)
    assert [event.call for event in events] == [*(how for how in causes.SYNCS if how != "sync"), "fsync"]
    assert [event.errno for event in events] == [reply["errno"] for reply in replies.values()]
    assert events[-1].errno == errno.EBADF
    for event, reply in zip(events, replies.values()):
        assert is_by(event, actor) and within(event, reply)
        assert 0 < event.latency <= reply["end"] - reply["start"]
        assert event.fd == {"msync": None}.get(event.call, 999 if event.errno else fd)


def test_sync_of_everything(actor: traffic.Actor) -> None:
    with pyebpf.syncsnoop(pid=actor.pid) as session:
        reply = causes.syncs(actor, "sync")
        (event,) = seen(session)
    assert (event.call, event.fd, event.errno) == ("sync", None, 0) and within(event, reply)


# mountsnoop


def calls(events: list[Any]) -> list[str]:
    """As the CALL column has them."""
    (column,) = (column for column in mountsnoop.TOOL.columns if column.title == "CALL")
    return [column.value(event) for event in events]


def test_mount_and_umount(actor: traffic.Actor, tmp_path: Path) -> None:
    namespace = causes.own_mounts(actor)
    with pyebpf.mountsnoop(pid=actor.pid) as session:
        replies = [
            causes.mounts(actor, 'so"urce\\', tmp_path, "tmpfs", 0x1 | 0x2 | 0x1000 * 0, "size=64k"),
            causes.mounts(actor, "none", tmp_path / "none", "tmpfs", 0xC0ED0000),
            causes.mounts(actor, "none", tmp_path, "nofs", 0x1000 | 0x4000 | 1 << 27),
            causes.unmounts(actor, tmp_path, 2),
            causes.unmounts(actor, tmp_path / "none", 0),
        ]
        events = seen(session)
    assert [event.errno for event in events] == [reply["errno"] for reply in replies]
    assert calls(events) == [
        f'mount("so\\"urce\\\\", "{tmp_path}", "tmpfs", MS_RDONLY|MS_NOSUID, "size=64k") = 0',
        f'mount("none", "{tmp_path}/none", "tmpfs", MS_MGC_VAL, "") = -ENOENT',
        f'mount("none", "{tmp_path}", "nofs", MS_BIND|MS_REC|0x8000000, "") = -ENOENT',
        f'umount2("{tmp_path}", MNT_DETACH) = 0',
        f'umount2("{tmp_path}/none", 0x0) = -ENOENT',
    ]
    for event, reply in zip(events, replies):
        assert is_by(event, actor) and within(event, reply) and event.mount_ns == namespace
        assert event.ppid == os.getpid() and event.pcomm == Path("/proc/self/comm").read_bytes().rstrip()


def test_new_mount_interface(actor: traffic.Actor, tmp_path: Path) -> None:
    causes.own_mounts(actor)
    with pyebpf.mountsnoop(pid=actor.pid) as session:
        replies = causes.mounts_anew(actor, tmp_path)
        tree = actor.do("mount", "open_tree", tmp_path, 1 | 0x8000)
        events = seen(session)
    assert [reply["errno"] for reply in replies] == [0] * 5
    context, mount = replies[0]["ret"], replies[3]["ret"]
    assert calls(events) == [
        f'fsopen("tmpfs", 0x0) = {context}',
        f'fsconfig({context}, FSCONFIG_SET_STRING, "size", "64k", 0) = 0',
        f"fsconfig({context}, FSCONFIG_CMD_CREATE, NULL, NULL, 0) = 0",
        f"fsmount({context}, 0x0, 0x0) = {mount}",
        f'move_mount({mount}, "", AT_FDCWD, "{tmp_path}", MOVE_MOUNT_F_EMPTY_PATH) = 0',
        f'open_tree(AT_FDCWD, "{tmp_path}", OPEN_TREE_CLONE|AT_RECURSIVE) = {tree["ret"]}',
    ]


@pytest.mark.parametrize("memory", causes.MEMORIES)
def test_mount_texts_are_whole(actor: traffic.Actor, tmp_path: Path, memory: str) -> None:
    names = causes.names_that_hurt(tmp_path)
    with pyebpf.mountsnoop(pid=actor.pid) as session:
        for name in names:
            causes.mounts(actor, "s" * 200, name, "nofs", 0, "d" * 1000, path=memory)
            causes.unmounts(actor, name, path=memory)
        events = seen(session)
    targets_seen = [event.args["target"] for event in events]
    assert targets_seen == [name for name in names for _ in range(2)]
    assert not any(event.cut or event.unreadable for event in events)
    assert {event.args.get("data") for event in events} == {b"d" * 1000, None}


def test_mount_text_that_is_longer_than_a_page(actor: traffic.Actor) -> None:
    with pyebpf.mountsnoop(pid=actor.pid) as session:
        causes.mounts(actor, "none", "/nowhere", "nofs", 0, "d" * 5000)
        (event,) = seen(session)
    assert event.cut == ("data",) and event.args["data"] == b"d" * 4103
    assert calls([event])[0].endswith(f'"nofs", 0x0, "{"d" * 4103}"…) = -{errno.errorcode[event.errno]}')


# The system calls that actors don't know, made by number (include/uapi/asm-generic/unistd.h; pivot_root differs).
_OTHERS = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_void_p(w) if isinstance(w, int) else w for w in words))
    return -ctypes.get_errno() if result < 0 else result
sys.stdin.readline()
attr = (ctypes.c_uint64 * 4)(1, 2, 1 << 18, 0)
results = [
    call(442, 0xFFFFFF9C, b"/nowhere", 0x8000, ctypes.byref(attr), 32),
    call(442, 0xFFFFFF9C, b"/nowhere", 0, 16, 32),
    call(433, 0xFFFFFF9C, b"/nowhere", 2),
    call(PIVOT, b"/nowhere", b"/put\\x07"),
    call(428, 0xFFFFFF9C, 16, 0),
    call(428, 0xFFFFFF9C, 0, 0),
]
print(json.dumps(results), flush=True)
"""


def test_mount_calls_with_bad_memory() -> None:
    pivot = {"x86_64": 155}.get(os.uname().machine, 41)
    script = _OTHERS.replace("PIVOT", str(pivot))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        with pyebpf.mountsnoop(pid=process.pid) as session:
            results = json.loads(process.communicate("go\n", timeout=targets.DEADLINE)[0])
            session.detach()
            events = list(session.drain())
            assert session.losses.unread == 1
    if kernel.release() < (5, 12):  # no mount_setattr(2)
        results = results[2:]
    names = [f"-{errno.errorcode[-result]}" for result in results]
    expected = [
        'mount_setattr(AT_FDCWD, "/nowhere", AT_RECURSIVE, {MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MS_PRIVATE, 0}, 32)',
        'mount_setattr(AT_FDCWD, "/nowhere", 0x0, 0x10, 32)',
        'fspick(AT_FDCWD, "/nowhere", FSPICK_SYMLINK_NOFOLLOW)',
        'pivot_root("/nowhere", "/put\x07")',
        "open_tree(AT_FDCWD, <unreadable>, 0x0)",
        "open_tree(AT_FDCWD, NULL, 0x0)",
    ][-len(results) :]
    assert calls(events) == [f"{call} = {name}" for call, name in zip(expected, names)]


# shmsnoop


def test_shared_memory(actor: traffic.Actor) -> None:
    with pyebpf.shmsnoop(pid=actor.pid) as session:
        replies = causes.segments(actor)
        events = seen(session)
    assert [event.call for event in events] == ["shmget", "shmat", "shmctl", "shmdt", "shmctl", "shmat"]
    made, at = replies[0]["ret"], replies[1]["ret"]
    assert [event.result for event in events] == [made, at, 0, 0, 0, None]
    assert [event.errno for event in events] == [reply["errno"] for reply in replies]
    assert all(is_by(event, actor) and within(event, reply) for event, reply in zip(events, replies))
    columns = {column.title: column.value for column in shmsnoop.TOOL.columns}
    assert [columns["RET"](event) for event in events] == [str(made), hex(at), "0", "0", "0", "-EINVAL"]
    buffer = events[2].args["buf"]
    assert [columns["ARGs"](event) for event in events] == [
        "key: 0x0, size: 8192, shmflg: 0x380 (IPC_CREAT|0600)",
        f"shmid: {made}, shmaddr: 0x0, shmflg: 0x0",
        f"shmid: {made}, cmd: 2 (IPC_STAT), buf: {buffer:#x}",
        f"shmaddr: {at:#x}",
        f"shmid: {made}, cmd: 0 (IPC_RMID), buf: {buffer:#x}",
        f"shmid: {made}, shmaddr: 0x0, shmflg: 0x0",
    ]


def test_shared_memory_with_odd_arguments(actor: traffic.Actor) -> None:
    (column,) = (column for column in shmsnoop.TOOL.columns if column.title == "ARGs")
    with pyebpf.shmsnoop(pid=actor.pid) as session:
        actor.act("shm", "at", -1, 0, 0o170000)
        actor.act("shm", "get", -2, 0, 0o7777 | 21 << 26)
        actor.act("shm", "ctl", -1, 99)
        actor.act("shm", "dt", -1)
        events = seen(session)
    arguments = [column.value(event) for event in events]
    assert arguments[0] == "shmid: -1, shmaddr: 0x0, shmflg: 0xf000 (SHM_RDONLY|SHM_RND|SHM_REMAP|SHM_EXEC)"
    flags = "IPC_CREAT|IPC_EXCL|SHM_HUGETLB|21<<26|0777"
    assert arguments[1] == f"key: 0xfffffffe, size: 0, shmflg: {0o7777 | 21 << 26:#x} ({flags})"
    assert arguments[2].startswith("shmid: -1, cmd: 99, buf: 0x")
    assert arguments[3] == "shmaddr: 0xffffffffffffffff"
    assert all(event.result is None and event.errno for event in events)


# capable

# Calls that need a capability and change nothing.
_NEEDS = {
    "CAP_SYS_CHROOT": "os.chroot('/')",
    "CAP_SETGID": "os.setgroups(os.getgroups())",
    "CAP_SYS_NICE": "os.nice(-1)",
}
_CHECKED = """
import os, sys
def act(code):
    try: eval(code)
    except OSError: pass
sys.stdin.readline()
act(sys.argv[1])
os.setuid(65534)
act(sys.argv[1])
"""


@pytest.mark.parametrize("name", [*_NEEDS])
def test_capability_allowed_and_denied(name: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _CHECKED, _NEEDS[name]], stdin=subprocess.PIPE, text=True
    ) as process, pyebpf.capable(pid=process.pid, user_stack=True, kernel_stack=True) as session:
        process.communicate("go\n", timeout=targets.DEADLINE)
        events = [event for event in seen(session) if event.name == name]
    assert [event.allowed for event in events] == [True, False]
    assert [event.uid for event in events] == [0, 65534]
    for event in events:
        assert event.pid == process.pid and event.comm.startswith(b"python") and event.kernel_stack
        assert any("syscall" in frame.name or frame.name.startswith("el0") for frame in event.kernel_stack)
        assert "capa" in event.kernel_stack[0].name  # the check, not what runs our program
        assert event.user_stack
        if not_the_function():
            assert event.audit is None and event.insetid is None
        else:
            assert event.audit is True and event.insetid is (name == "CAP_SETGID")


def test_capability_stack_while_another_watches() -> None:
    """Then the kernel goes round by __traceiter_cap_capable, which is no part of the check."""
    with causes.actor("checked") as actor:
        with pyebpf.capable(pid=actor.pid), pyebpf.capable(pid=actor.pid, kernel_stack=True) as session:
            causes.names(actor, "chroot", "/")
            event = next(event for event in session.drain() if event.name == "CAP_SYS_CHROOT")
        assert event.kernel_stack and not event.kernel_stack[0].name.startswith("__trace"), event.kernel_stack


def not_the_function() -> bool:
    """Only the tracepoint can be seen: it doesn't tell what a check is for."""
    with Hooks() as hooks:
        return all(hooks.why_not(f"{kind}/cap_capable") for kind in ("fexit", "kprobe"))


def test_capability_once_and_denied_only() -> None:
    script = "import os, sys; sys.stdin.readline(); os.setuid(65534)\n"
    script += "for _ in range(23):\n    try: os.chroot('/')\n    except OSError: pass\n"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True) as process:
        with (
            pyebpf.capable(pid=process.pid, all_checks=True) as everything,
            pyebpf.capable(pid=process.pid, unique=True) as unique,
            pyebpf.capable(pid=process.pid, denied=True) as denied,
        ):
            process.communicate("go\n", timeout=targets.DEADLINE)
            whole, once, without = seen(everything), seen(unique), seen(denied)
    assert sum(event.name == "CAP_SYS_CHROOT" for event in whole) == 23
    assert sum(event.name == "CAP_SYS_CHROOT" for event in once) == 1
    verdicts = [(event.cap, event.allowed) for event in once]
    assert len(set(verdicts)) == len(verdicts)
    assert sum(event.name == "CAP_SYS_CHROOT" for event in without) == 23
    assert not any(event.allowed for event in without)


# drsnoop


def large_files() -> list[Path]:
    """Some that lie on a disk: a test's own may be in memory, where holes take none."""
    found = [path for path in Path("/usr/lib").glob("*/*.so*") if path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: path.stat().st_size)[-3:]


def test_reclaim_at_a_cgroups_limit(actor: traffic.Actor) -> None:
    with causes.little_memory(actor), pyebpf.drsnoop(pid=actor.pid, memory=True) as session:
        replies = [causes.reclaims(actor)]
        sparse = list(session.drain())
        replies += [actor.do("reads", path) for path in large_files()]
        events = sparse + seen(session)
    assert events and all(event.cause == "cgroup" and is_by(event, actor) for event in events)
    for event in events:
        (reply,) = (reply for reply in replies if within(event, reply))
        assert 0 < event.latency <= reply["end"] - reply["start"]
    if sparse:  # what was read is four times what fits
        assert sum(event.pages for event in sparse) * os.sysconf("SC_PAGESIZE") > 32 << 20
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(memory["MemTotal"].split()[0])
    assert all(0 < event.free_kb < total and 0 < event.cached_kb < total for event in events)


# As commands


@pytest.mark.parametrize(
    ("tool", "options", "heading"),
    [
        ("bindsnoop", ["-E", "-U", "-w", "-t"], "TIME(s)   UID    PID     COMM             ERR PROT    ADDR"),
        ("syncsnoop", ["-x"], "TIME(s)    PID     COMM               FD ERR   LAT(ms) CALL"),
        ("mountsnoop", ["-P"], "COMM             PID     TID     PCOMM            PPID    MNT_NS      CALL"),
        ("capable", ["-v", "-x", "-K", "-U", "--unique"], "TIME      UID    PID     TID     COMM"),
        ("shmsnoop", ["-T"], "TIME(s)   PID     COMM                SYS              RET ARGs"),
        ("drsnoop", ["-v", "-U", "-T"], "TIME(s)   UID    COMM             PID      LAT(ms)  PAGES   FREE(KB)"),
    ],
)
def test_commands_have_bccs_columns(tool: str, options: list[str], heading: str) -> None:
    with tracing.pyebpf(tool, *options) as process:
        out = tracing.end(process)
    assert out.splitlines()[0].startswith(heading)


def test_control_characters_stay_harmless(actor: traffic.Actor, tmp_path: Path) -> None:
    with tracing.pyebpf("mountsnoop", "-p", str(actor.pid)) as process:
        causes.mounts(actor, "\x1b[2J", tmp_path / "no\nwhere", "nofs")
        out = tracing.end(process)
    (line,) = out.splitlines()[1:]
    assert line.startswith("system ")
    assert line.endswith(f'mount("\\x1b[2J", "{tmp_path}/no\\x0awhere", "nofs", 0x0, "") = -ENOENT')


def test_json(actor: traffic.Actor) -> None:
    with tracing.pyebpf("mountsnoop", "--json", "-p", str(actor.pid)) as process:
        causes.unmounts(actor, b"/nowhere\xff")
        (record,) = tracing.records(tracing.end(process), "mount")
    assert record["args"] == {"target": "/nowhere\\xff", "flags": 0} and record["errno"] == errno.ENOENT
    assert record["pid"] == actor.pid and record["result"] is None and record["latency_ns"] > 0


def test_killed_in_the_call_leaves_nothing_behind(actor: traffic.Actor) -> None:
    """A process that is killed takes its begun call with it."""
    with pyebpf.shmsnoop(pid=actor.pid) as session:
        causes.segments(actor)
        os.kill(actor.pid, signal.SIGKILL)
        assert len(seen(session)) == 6
        assert not list(session._events.object.maps["begun_calls"].items())
