# SPDX-License-Identifier: BSD-2-Clause
"""execsnoop, exitsnoop and killsnoop against processes that know what they did."""

from __future__ import annotations

import errno
import os
import resource
import shlex
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
from pyebpf.errors import TargetError
from pyebpf.tools.text import Cut

TRUE = b"/bin/true"


@pytest.fixture
def actor() -> Iterator[traffic.Actor]:
    with causes.actor("runner") as made:
        yield made


def seen(session: Any) -> list[Any]:
    """All that a session has seen; nothing was lost. An act's record is there before its reply."""
    session.detach()
    events = list(session.drain())
    assert not any(session.losses[:3]), session.losses
    return events


# execsnoop


@pytest.mark.parametrize("how", causes.EXECS)
@pytest.mark.parametrize("name", sorted(causes.hard_arguments()))
def test_exec_with_all_its_arguments(actor: traffic.Actor, how: str, name: str) -> None:
    arguments = causes.hard_arguments()[name]
    with pyebpf.execsnoop(ppid=actor.pid) as session:
        reply = causes.execs(actor, TRUE, arguments, how=how)
        (event,) = seen(session)
    assert not reply["errno"] and (reply["status"] == 0 or name == "none")
    if name == "none" and (event.args or kernel.release() >= (5, 18)):
        arguments = [b""]  # dcd46d897adb ("exec: Force single empty string when argv is empty"), also in stable kernels
    assert (event.args, event.args_left) == (tuple(arguments), 0)
    assert (event.pid, event.tid, event.ppid, event.errno) == (reply["child"], reply["child"], actor.pid, 0)
    assert reply["start"] <= event.time <= reply["end"] and event.uid == os.getuid() and not event.script
    if how == "fd":
        assert event.file.startswith(b"/dev/fd/")
    else:
        assert (event.file, event.comm) == (TRUE, b"true")


@pytest.mark.parametrize("memory", causes.MEMORIES)
def test_exec_that_fails(actor: traffic.Actor, tmp_path: Path, memory: str) -> None:
    (tmp_path / "file").touch()
    hard = causes.hard_arguments()
    with pyebpf.execsnoop(ppid=actor.pid, failed=True) as session:
        replies = [
            causes.execs(actor, file, arguments, how=how, path=memory)
            for how in ("execve", "execveat")
            for file in ("/no\nsuch", tmp_path / "file")
            for arguments in hard.values()
        ]
        events = seen(session)
    assert [event.errno for event in events] == [reply["errno"] for reply in replies]
    assert {event.errno for event in events} == {errno.ENOENT, errno.EACCES}
    assert [event.file for event in events[:: len(hard)]] == [b"/no\nsuch", os.fsencode(tmp_path / "file")] * 2
    for event, arguments, reply in zip(events, [*hard.values()] * 4, replies):
        assert (event.pid, event.comm, event.ppid) == (reply["child"], b"runner", actor.pid)
        if max(map(len, arguments), default=0) > 4096:  # of a long one the beginning
            assert event.args_left is None and event.args == (b"true", b"x" * 4095)
        else:
            assert (event.args, event.args_left) == (tuple(arguments), 0)


def test_exec_only_shows_failures_when_asked(actor: traffic.Actor) -> None:
    with pyebpf.execsnoop(ppid=actor.pid) as session:
        assert causes.execs(actor, "/nosuch", [b"x"])["errno"] == errno.ENOENT
        assert seen(session) == []


@pytest.mark.parametrize(("size", "left"), [(500, 0), (4000, 0), (32761, 0), (32763, 1), (60000, 27238)])
def test_exec_of_many_bytes_says_how_many_more_there_are(actor: traffic.Actor, size: int, left: int) -> None:
    with pyebpf.execsnoop(ppid=actor.pid) as session:
        causes.execs(actor, TRUE, [b"true", b"y" * size])
        (event,) = seen(session)
    assert event.args_left == left
    # "true" and a NUL, then what is left of 32768 bytes.
    assert event.args == (b"true", b"y" * min(size, 32763)) and isinstance(event.args[1], Cut) == (left > 0)


def test_exec_of_a_script_shows_what_runs(actor: traffic.Actor, tmp_path: Path) -> None:
    script = os.fsencode(causes.script(tmp_path, "/bin/sh -e"))
    with pyebpf.execsnoop(ppid=actor.pid) as session:
        reply = causes.execs(actor, script, [b"ignored", b"a b"])
        (event,) = seen(session)
    assert os.WEXITSTATUS(reply["status"]) == 7
    assert event.script and event.args == (b"/bin/sh", b"-e", script, b"a b")
    assert (event.file, event.comm) == (script, b"script")


def test_exec_of_a_long_path(actor: traffic.Actor, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/./" * 1200 + b"true"
    os.symlink(TRUE, tmp_path / "true")
    with pyebpf.execsnoop(ppid=actor.pid, failed=True) as session:
        causes.execs(actor, path, [b"t"])
        causes.execs(actor, path + b"x", [b"t", b"u"])
        good, bad = seen(session)
    assert (good.file, good.args, good.errno) == (path, (b"t",), 0)
    assert (bad.file, bad.args, bad.errno) == (path + b"x", (b"t", b"u"), errno.ENOENT)


def test_no_exec_is_lost(actor: traffic.Actor) -> None:
    with pyebpf.execsnoop(ppid=actor.pid, failed=True) as session, pyebpf.exitsnoop() as exits:
        children = []
        for number in range(997):
            file = TRUE if number % 2 else b"/nosuch"
            children.append(causes.execs(actor, file, [b"true", b"%d" % number])["child"])
        events, ends = seen(session), seen(exits)
    assert [event.pid for event in events] == children
    assert [event.args[1] for event in events] == [b"%d" % number for number in range(997)]
    assert [event.errno for event in events] == [0 if number % 2 else errno.ENOENT for number in range(997)]
    ours = [event for event in ends if event.ppid == actor.pid]
    assert [event.pid for event in ours] == children
    assert [event.exit_code for event in ours] == [0 if number % 2 else 99 for number in range(997)]


def test_execsnoop_command(actor: traffic.Actor) -> None:
    with tracing.pyebpf("execsnoop", "-x", "-q", "-U", "-P", str(actor.pid), "--max-args", "3") as process:
        first = causes.execs(actor, TRUE, [b"true", b'say "\x1b[2J"', b"", b"c" * 9])["child"]
        second = causes.execs(actor, "/nosuch", [b"nosuch"])["child"]
        lines = tracing.end(process).splitlines()
    assert lines[0].split() == ["UID", "PCOMM", "PID", "PPID", "RET", "ARGS"]
    words = [line.split(None, 5) for line in lines[1:]]
    uid, pid = str(os.getuid()), str(actor.pid)
    assert words == [
        [uid, "true", str(first), pid, "0", r'"/bin/true" "say \"\x1b[2J\"" "" ... (10 bytes more)'],
        [uid, "runner", str(second), pid, "-2", '"/nosuch"'],
    ]


def test_execsnoop_finds_command_lines(actor: traffic.Actor) -> None:
    with tracing.pyebpf("execsnoop", "--json", "-P", str(actor.pid), "-l", "true (a|b)$") as process:
        for word in (b"a", b"b", b"c"):
            causes.execs(actor, TRUE, [b"true", word])
        records = tracing.records(tracing.end(process), "exec")
    assert [record["args"] for record in records] == [["true", "a"], ["true", "b"]]
    assert records[0]["file"] == "/bin/true" and records[0]["args_left"] == 0 and records[0]["script"] is False
    with pytest.raises(TargetError, match="not a regular expression"):
        pyebpf.execsnoop(line="(")


# exitsnoop


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("exit", 0), ("exit", 1), ("exit", 255), ("group", 3), ("leader", 5), ("signal", signal.SIGTERM),
        ("signal", signal.SIGKILL), ("signal", 64), ("core", signal.SIGSEGV),
    ],
)  # fmt: skip
def test_exit_as_wait_tells_it(actor: traffic.Actor, tmp_path: Path, how: str, code: int) -> None:
    causes.names(actor, "chdir", tmp_path)
    with pyebpf.exitsnoop() as session, pyebpf.exitsnoop(failed=True) as failed:
        reply = causes.ends(actor, how, int(code), "dying")
        (event,) = [event for event in seen(session) if event.ppid == actor.pid]
        assert (event.pid in [other.pid for other in seen(failed)]) == (reply["status"] != 0)
    status = reply["status"]
    assert event.exit_code == (os.WEXITSTATUS(status) if os.WIFEXITED(status) else None)
    assert event.signal == (os.WTERMSIG(status) if os.WIFSIGNALED(status) else None)
    assert event.core_dumped == reply["core"]
    assert (event.pid, event.tid, event.comm) == (reply["child"], reply["child"], b"dying")
    assert 0 < event.age <= reply["end"] - reply["start"] and reply["start"] <= event.time <= reply["end"]


def test_each_thread_that_ends(actor: traffic.Actor) -> None:
    with pyebpf.exitsnoop(pid=actor.pid, per_thread=True) as each, pyebpf.exitsnoop(pid=actor.pid) as processes:
        reply = causes.threads(actor, 23)
        events: list[Any] = []
        # A thread can be joined a little before it is told to have ended.
        targets.until(lambda: events.extend(each.drain()) or len(events) >= 23)  # type: ignore[func-returns-value]
        assert seen(each) == []
        assert seen(processes) == []
    # The next one's end may be told first: it is on another CPU.
    assert sorted(event.tid for event in events) == sorted(reply["tids"]) and len(events) == 23
    assert {(event.pid, event.ppid, event.exit_code) for event in events} == {(actor.pid, os.getpid(), 0)}
    assert all(event.age < reply["end"] - reply["start"] for event in events)


def test_a_process_of_many_threads_ends_once() -> None:
    with pyebpf.exitsnoop() as session:
        pids = set()
        for _ in range(23):
            with causes.actor("manifold") as actor:
                for number in range(13):
                    actor.thread(f"t{number}")
                assert actor.exit(9) == 9
                pids.add(actor.pid)
        ours = [event for event in seen(session) if event.pid in pids]
    assert len(ours) == 23 and {event.pid for event in ours} == pids
    assert {(event.exit_code, event.comm) for event in ours} == {(9, b"manifold")}


def test_exitsnoop_command(actor: traffic.Actor) -> None:
    with tracing.pyebpf("exitsnoop", "-x") as process:
        pids = [causes.ends(actor, how, code, "a b\x1b")["child"] for how, code in (("exit", 3), ("signal", 15))]
        lines = tracing.end(process).splitlines()
    assert lines[0].split() == ["PCOMM", "PID", "PPID", "TID", "AGE(s)", "EXIT_CODE"]
    ours = [line for line in lines if f" {actor.pid} " in line]
    assert [line.startswith("a b\\x1b ") for line in ours] == [True, True]
    told = [line[16:].split(None, 4) for line in ours]
    assert [line[:3] + line[4:] for line in told] == [
        [str(pids[0]), str(actor.pid), str(pids[0]), "code 3"],
        [str(pids[1]), str(actor.pid), str(pids[1]), "signal 15 (TERM)"],
    ]
    assert all(0 <= float(line[3]) < targets.DEADLINE for line in told)


def test_a_command_is_shown_to_its_end() -> None:
    command = f"/bin/sh -c {shlex.quote('exit 7')}"
    with tracing.pyebpf("exitsnoop", "--json", "-c", command) as process:
        out, _ = process.communicate(timeout=targets.DEADLINE)
    (record,) = tracing.records(out, "exit")
    assert (record["exit_code"], record["signal"], record["comm"]) == (7, None, "sh")


# killsnoop


@pytest.mark.parametrize("how", causes.KILLS)
def test_signal_by_every_call(actor: traffic.Actor, how: str) -> None:
    others = {"sigqueue": "rt_sigqueueinfo", "tgsigqueue": "rt_tgsigqueueinfo", "pidfd": "pidfd_send_signal"}
    with causes.actor("target") as target:
        causes.handles(target, signal.SIGUSR1)
        with pyebpf.killsnoop(pid=actor.pid) as session:
            reply = causes.kills(actor, how, target.pid, signal.SIGUSR1)
            (event,) = seen(session)
        assert not reply["errno"] and causes.handled(target, signal.SIGUSR1) == 1
        assert (event.pid, event.comm, event.call) == (actor.pid, b"runner", others.get(how, how))
        assert (event.signal, event.signal_name, event.errno) == (signal.SIGUSR1, "SIGUSR1", 0)
        assert (event.target, event.target_comm, event.outcome) == (target.pid, b"target", "delivered")
        assert event.target_tid == (target.pid if how in ("tkill", "tgkill", "tgsigqueue") else None)
        assert reply["start"] <= event.time <= reply["end"]


@pytest.mark.parametrize("how", [how for how in causes.KILLS if how != "pidfd"])
def test_signal_that_cannot_be_sent(actor: traffic.Actor, how: str) -> None:
    gone = causes.ends(actor, "exit")["child"]
    causes.unprivileged(actor)
    with pyebpf.killsnoop(failed=True) as session:
        nobody = causes.kills(actor, how, gone, 9)
        denied = causes.kills(actor, "kill", os.getpid(), 15, who="nobody")
        causes.kills(actor, "kill", actor.pid, 0)
        events = [event for event in seen(session) if event.comm in (b"runner", b"nobody")]
    assert [(event.errno, event.target, event.signal) for event in events] == [
        (errno.ESRCH, gone, 9), (errno.EPERM, os.getpid(), 15),
    ]  # fmt: skip
    assert [reply["errno"] for reply in (nobody, denied)] == [errno.ESRCH, errno.EPERM]
    assert {(event.target_comm, event.outcome) for event in events} == {(None, None)}


def test_signal_to_a_group_is_one_for_each_process(actor: traffic.Actor) -> None:
    leader = traffic.Actor("leader", prefix=["setsid"])
    try:
        members = {leader.pid: "", **{leader.fork(name): name for name in ("one", "two")}}
        for who in members.values():
            leader.do("handle", signal.SIGUSR2, who=who)
        with pyebpf.killsnoop(pid=actor.pid, signals=["usr2"]) as session:
            causes.kills(actor, "kill", -leader.pid, signal.SIGUSR2)
            causes.kills(actor, "kill", leader.pid, signal.SIGWINCH)
            events = seen(session)
        assert sorted(event.target for event in events) == sorted(members)
        assert [leader.do("handled", signal.SIGUSR2, who=who)["ret"] for who in members.values()] == [1, 1, 1]
    finally:
        leader.kill()


def test_what_becomes_of_signals(actor: traffic.Actor) -> None:
    with causes.actor("target") as target, pyebpf.killsnoop(pid=actor.pid, target=target.pid) as session:
        causes.kills(actor, "kill", os.getpid(), 0)
        causes.kills(actor, "kill", target.pid, 0)
        causes.kills(actor, "kill", target.pid, signal.SIGWINCH)  # ignored if not handled
        causes.kills(actor, "kill", target.pid, 64)
        events = seen(session)
    assert [(event.signal_name, event.outcome, event.errno) for event in events] == [
        ("0", None, 0), ("SIGWINCH", "ignored", 0), ("SIGRTMIN+30", "delivered", 0),
    ]  # fmt: skip


def test_a_signal_that_finds_the_queue_full_is_one_failure(actor: traffic.Actor) -> None:
    with causes.actor("target") as target:
        causes.handles(target, 40)
        resource.prlimit(target.pid, resource.RLIMIT_SIGPENDING, (0, 0))
        with pyebpf.killsnoop(pid=actor.pid) as session:
            reply = causes.kills(actor, "sigqueue", target.pid, 40)
            (event,) = seen(session)
    assert reply["errno"] == event.errno == errno.EAGAIN
    assert (event.target, event.outcome) == (target.pid, None)


def test_signals_of_the_kernel_are_shown_when_asked(actor: traffic.Actor) -> None:
    with pyebpf.killsnoop(target=actor.pid, kernel=True) as session, pyebpf.killsnoop(target=actor.pid) as calls:
        reply = causes.ends(actor, "exit", 4, "child")
        (event,) = seen(session)
        assert seen(calls) == []
    assert (event.call, event.signal_name, event.target_comm) == ("kernel", "SIGCHLD", b"runner")
    assert (event.pid, event.comm) == (reply["child"], b"child")


def test_who_caused_a_signal_of_the_kernel_is_not_guessed() -> None:
    with pyebpf.killsnoop(target=os.getpid(), kernel=True) as session:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            signal.sigwait([signal.SIGALRM])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        events = [event for event in seen(session) if event.signal == signal.SIGALRM]
    assert [(event.call, event.pid, event.tid, event.uid, event.comm) for event in events] == [
        ("kernel", None, None, None, None)
    ]


def test_no_signal_is_lost(actor: traffic.Actor) -> None:
    with causes.actor("target") as target, pyebpf.killsnoop(pid=actor.pid) as session:
        causes.handles(target, 40)
        for _ in range(997):
            causes.kills(actor, "sigqueue", target.pid, 40)
        events = seen(session)
        assert causes.handled(target, 40) == 997 == len(events)


def test_killsnoop_command(actor: traffic.Actor) -> None:
    gone = causes.ends(actor, "exit")["child"]
    with causes.actor("target") as target:
        causes.handles(target, signal.SIGUSR1)
        with tracing.pyebpf("killsnoop", "-p", str(actor.pid), "-n", "-s", "USR1,9") as process:
            causes.kills(actor, "kill", target.pid, signal.SIGUSR1)
            causes.kills(actor, "kill", target.pid, signal.SIGWINCH)
            causes.kills(actor, "kill", gone, 9)
            lines = tracing.end(process).splitlines()
        pid = str(actor.pid)
        assert [line.split()[1:] for line in lines] == [
            ["PID", "COMM", "SIG", "TPID", "TCOMM", "RESULT"],
            [pid, "runner", "SIGUSR1", str(target.pid), "target", "0"],
            [pid, "runner", "SIGKILL", str(gone), "-", "-3"],
        ]
    with pytest.raises(TargetError, match="not a signal"):
        pyebpf.killsnoop(signals=["HUPP"])


@pytest.mark.parametrize(
    ("tool", "kind", "ppid", "target"),
    [("execsnoop", "exec", "ppid", ""), ("exitsnoop", "exit", "ppid", ""), ("killsnoop", "signal", "", "target")],
)
def test_numbers_are_those_of_our_pid_namespace(tool: str, kind: str, ppid: str, target: str) -> None:
    """The tool is process 1 of a new one; the command it starts is its child."""
    done = subprocess.run(
        ["unshare", "-pf", "--mount-proc", sys.executable, "-m", "pyebpf", tool, "--json", "-c",
         "/bin/sh -c 'kill -CONT $$'"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    (record,) = tracing.records(done.stdout, kind)
    assert 1 < record["pid"] < 100 and record["comm"] == "sh", done
    assert not ppid or record[ppid] == 1
    assert not target or record[target] == record["pid"]
