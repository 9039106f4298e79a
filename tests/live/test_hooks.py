# SPDX-License-Identifier: BSD-2-Clause
"""Attaching to the kernel's own events: what is said before, what comes of it, and where tracefs isn't mounted."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import causes
import pytest
import targets
import traffic

import pyebpf
from pyebpf.core import bpf, kernel
from pyebpf.core.hooks import Hooks, choose, iterate
from pyebpf.core.object import Object, open_bundled
from pyebpf.core.tracefs import Tracefs
from pyebpf.errors import AttachError, Unsupported
from pyebpf.tools.events import KernelEvents, Need
from pyebpf.tools.scope import Scope


@pytest.fixture
def actor() -> Iterator[traffic.Actor]:
    with causes.actor("hooks") as made:
        yield made


@pytest.mark.parametrize(
    ("there", "missing", "words"),
    [
        ("tp_btf/sched_process_exec", "tp_btf/no_such_event", "no tracepoint no_such_event"),
        ("tp/syscalls/sys_enter_openat", "tp/syscalls/sys_enter_nothing", "no tracepoint syscalls/sys_enter_nothing"),
        ("tp/sched/sched_process_exec", "tp/nosuch/sched_process_exec", "no tracepoint nosuch/sched_process_exec"),
        ("iter/task_file", "iter/nothing", "no iterator nothing"),
        ("raw_tp/sys_enter", "", ""),
    ],
)
def test_what_is_there_and_what_is_not(there: str, missing: str, words: str) -> None:
    with Hooks() as hooks:
        assert hooks.why_not(there) is None
        if missing:
            assert words in str(hooks.why_not(missing))


def test_functions_are_judged_by_what_the_kernel_can() -> None:
    with Hooks() as hooks:
        for kind, works in (
            ("fentry", kernel.fentry("tcp_v4_connect").works), ("fexit", kernel.fentry("tcp_v4_connect").works),
            ("kprobe", kernel.kprobe().works), ("kretprobe", kernel.kprobe().works),
        ):  # fmt: skip
            reason = hooks.why_not(f"{kind}/tcp_v4_connect")
            assert (reason is None) == works, reason
            assert works or "tcp_v4_connect: " in str(reason)
            assert "no_such_function" in str(hooks.why_not(f"{kind}/no_such_function"))


def loaded(source: str, *names: str) -> Object:
    """A bundled object of which only these programs are loaded."""
    obj = open_bundled(source, kernel_types="needed")
    for program in obj.programs.values():
        program.autoload = program.name in names
    obj.load()
    return obj


def test_attached_programs_run_until_closed(actor: traffic.Actor) -> None:
    obj = loaded("syncsnoop", "enter_fsync", "exit_fsync")
    try:
        def sent() -> int:
            return sum(tally.sent for tally in obj.maps["tallies"][0])

        with Hooks() as hooks:
            for name in ("enter_fsync", "exit_fsync"):
                hooks.attach(obj.programs[name])
            hooks.settle()  # attached ones stay
            for _ in range(23):
                causes.syncs(actor, "fsync", 999)
            assert sent() >= 23
        before = sent()
        causes.syncs(actor, "fsync", 999)
        assert sent() == before
        hooks.close()
    finally:
        obj.close()


def test_every_kind_of_hook_is_attached_here() -> None:
    """Raw and classic tracepoints; a program that wasn't at work already was never skipped."""
    for source, *names in (("drsnoop", "system_begins", "system_ends"), ("opensnoop", "enter_openat", "exit_openat")):
        obj = loaded(source, *names)
        try:
            with Hooks() as hooks:
                for name in names:
                    hooks.attach(obj.programs[name])
                    assert bpf.missed_runs(obj.programs[name].fd) == 0
        finally:
            obj.close()


def test_attaching_to_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    obj = loaded("syncsnoop", "enter_fsync")
    try:
        with Hooks() as hooks:
            program = obj.programs["enter_fsync"]
            monkeypatch.setattr(program, "section", "tp/syscalls/sys_enter_nothing", raising=False)
            with pytest.raises(AttachError, match="to tp/syscalls/sys_enter_nothing: No such file") as caught:
                hooks.attach(program)
            assert caught.value.errno == errno.ENOENT
            monkeypatch.setattr(program, "section", "lsm/file_open", raising=False)
            with pytest.raises(AttachError, match="don't know how to attach section 'lsm/file_open'"):
                hooks.attach(program)
    finally:
        obj.close()


class Named:
    """What `choose` asks of a program."""

    def __init__(self, section: str) -> None:
        self.section = section


def test_the_first_set_that_can_be_attached_is_chosen() -> None:
    best, last = Named("tp_btf/nothing"), Named("tp/sched/sched_switch")
    next_best = Named("tp/syscalls/sys_enter_nothing")
    with Hooks() as hooks:
        chosen, against = choose(hooks, [[best], [last, next_best], [last], [best]])  # type: ignore[list-item]
        assert chosen == [last]
        assert against == ["this kernel has no tracepoint nothing",
                           "this kernel has no tracepoint syscalls/sys_enter_nothing"]  # fmt: skip
        assert choose(hooks, [[best], [best]])[0] is None  # type: ignore[list-item]


def test_a_need_that_no_kernel_meets_names_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Need("calls of fsync(2)", (("enter_fsync", "exit_fsync"),))
    real = Hooks.why_not

    def without(self: Hooks, section: str) -> str | None:
        return f"this kernel has no tracepoint {section[3:]}" if "fsync" in section else real(self, section)

    monkeypatch.setattr(Hooks, "why_not", without)
    with pytest.raises(Unsupported, match=r"can't see calls of fsync\(2\) here: .*sys_enter_fsync; .*sys_exit_fsync"):
        KernelEvents("syncsnoop", (wanted,), Scope())
    another = Need("calls of sync(2)", (("enter_sync", "exit_sync"),))
    events = KernelEvents("syncsnoop", (wanted._replace(optional=True), another), Scope())
    try:
        assert events.used == ["enter_sync", "exit_sync"]
        assert len(events.notes) == 1 and "calls of fsync(2) can't be seen here" in events.notes[0]
    finally:
        events.close()
        events.close()


# Iterators


def test_an_iterator_goes_over_a_million_objects_of_which_it_says_nothing() -> None:
    """The kernel gives up now and then (EAGAIN, a million objects) and wants to be asked again."""
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 200_000)
    script = (
        "import os, resource, sys, time\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))\n"
        "fd, (end, keep) = os.open('/dev/null', 0), os.pipe()\n"
        f"for _ in range({most} - 23): os.dup(fd)\n"
        f"for _ in range(1_100_000 // {most}):\n"
        "    if os.fork() == 0:\n"
        "        os.close(keep), os.read(end, 1), os._exit(0)\n"
        "print('open', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        obj = loaded("tcptracer", "prime_owners")
        try:
            assert iterate(obj.programs["prime_owners"]) == b""
        finally:
            obj.close()
            process.communicate("\n", timeout=targets.DEADLINE)


# Tracefs

_HIDDEN = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0                                                # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, ctypes.c_ulong(0x4000 | 0x40000), None) == 0   # MS_REC | MS_PRIVATE
for path in (b"/sys/kernel/tracing", b"/sys/kernel/debug/tracing", b"/sys/kernel/debug"):
    while libc.umount2(path, 2) == 0: pass
assert not os.path.exists("/sys/kernel/tracing/events")
"""


def hidden(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a mount namespace without tracefs."""
    return subprocess.run(
        [sys.executable, "-c", _HIDDEN + script, *arguments], capture_output=True, text=True, timeout=targets.DEADLINE
    )


def test_tracepoints_are_found_where_tracefs_is_not_mounted() -> None:
    with Tracefs() as tracefs:
        number = tracefs.number("sched/sched_process_exec")
        assert number is not None and tracefs.number("sched/nothing") is None
    done = hidden(
        "from pyebpf.core.tracefs import Tracefs\n"
        "before = open('/proc/self/mounts').read()\n"
        "with Tracefs() as it:\n"
        "    print(it.number('sched/sched_process_exec'), it.number('sched/nothing'))\n"
        "    assert open('/proc/self/mounts').read() == before  # nobody sees our mount\n"
        "it.close()\n"
    )
    assert done.stdout.split() == [str(number), "None"], done.stderr


def test_a_tool_runs_where_tracefs_is_not_mounted(actor: traffic.Actor) -> None:
    script = (
        "import pyebpf\n"
        "with pyebpf.syncsnoop(pid=int(sys.argv[1])) as session:\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    print([event.call for event in session.drain()])\n"
    )
    command = [sys.executable, "-c", _HIDDEN + script, str(actor.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        causes.syncs(actor, "fsync", 999)
        assert process.communicate("\n", timeout=targets.DEADLINE)[0] == "['fsync']\n"


def test_without_the_right_to_mount_it_is_said_so() -> None:
    script = (  # capset(2), version 3
        "import ctypes\n"
        "from pyebpf.core.tracefs import Tracefs\n"
        "from pyebpf.errors import PermissionDenied\n"
        "class Header(ctypes.Structure): _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]\n"
        "assert libc.capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)()) == 0\n"
        "try: Tracefs()\n"
        "except PermissionDenied as error: print(error, error.hint)\n"
    )
    done = hidden(script)
    assert "mounted neither on /sys/kernel/tracing nor on /sys/kernel/debug/tracing" in done.stdout, done.stderr
    assert "Operation not permitted" in done.stdout and "run as root" in done.stdout


# Losses


def test_what_the_buffer_has_no_room_for_is_counted(actor: traffic.Actor) -> None:
    def smallest(obj: Object) -> None:
        obj.maps["events"].max_entries = os.sysconf("SC_PAGESIZE")

    needs = (Need("fsync", (("enter_fsync", "exit_fsync"),)),)
    events = KernelEvents("syncsnoop", needs, Scope((actor.pid,)), smallest)
    try:
        for _ in range(997):
            causes.syncs(actor, "fsync", 999)
        losses = events.losses()
        sent = sum(tally.sent for tally in events.object.maps["tallies"][0])
        assert losses.dropped > 0 and losses.dropped + sent == 997
        assert losses._replace(dropped=0) == (0, 0, 0, 0)
    finally:
        events.close()


def test_begun_calls_that_could_not_be_remembered_are_counted(actor: traffic.Actor) -> None:
    """Three threads are in a system call at the same time, and there is room for two."""
    def smallest(obj: Object) -> None:
        obj.maps["begun_calls"].max_entries = 1

    needs = (Need("fsync", (("enter_fsync",),)),)  # without the exit: what has begun never ends
    events = KernelEvents("syncsnoop", needs, Scope((actor.pid,)), smallest)
    try:
        for name in ("one", "two", "three"):
            actor.thread(name)
            causes.syncs(actor, "fsync", 999, who=name)
        assert events.losses().untracked == 2
    finally:
        events.close()


def test_losses_and_events_of_a_closed_session(actor: traffic.Actor) -> None:
    session = pyebpf.syncsnoop(pid=actor.pid)
    causes.syncs(actor, "fsync", 999)
    session.detach()
    causes.syncs(actor, "fsync", 999)
    assert session.losses == (0, 0, 0, 0)
    assert [event.call for event in session.drain()] == ["fsync"]
    session.close()
    session.close()
    with pytest.raises(pyebpf.StateError):
        list(session.drain())
    with pytest.raises(pyebpf.StateError):
        session.fileno()
    with pytest.raises(pyebpf.StateError):
        session.losses  # noqa: B018 - a property that reads the kernel's counters
