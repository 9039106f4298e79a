# SPDX-License-Identifier: BSD-2-Clause
"""What every session promises, whatever it traces: all verbs, on this kernel."""

from __future__ import annotations

import copy
import ctypes
import io
import json
import os
import pickle
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from typing import Any

import pytest
import targets

import pyebpf
import pyebpf.aio
from pyebpf.target.probe import Skipped
from pyebpf.tools.frames import Frames
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import Lifetime
from pyebpf.tools.stream import Stream

LIBC = ctypes.CDLL(None)
DEADLINE = targets.DEADLINE
HERE: dict[str, Any] = {"pid": os.getpid()}
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "argdist": (("c:labs",), {"histograms": ["arg0"], "counts": ["arg0"], **HERE}),
    "count": (("c:labs",), HERE),
    "latency": (("c:labs",), HERE),
    "slower": (("c:labs",), {"min_us": 0, **HERE}),
    "stacks": (("c:labs",), HERE),
    "trace": (("c:labs",), {"args": ["arg0"], **HERE}),
}
VERBS = dir(pyebpf.aio)


def begin(verb: str) -> Any:
    arguments, options = OPTIONS.get(verb, ((), {}))
    return getattr(pyebpf, verb)(*arguments, **options)


def call(times: int = 1) -> None:
    for number in range(times):
        LIBC.labs(number)


def shared_mappings() -> list[str]:
    """Files and eBPF maps that are mapped into this process; libraries are mapped privately."""
    with open("/proc/self/maps") as maps:
        rows = [line.split(None, 5) for line in maps]
    return sorted(row[5].strip() for row in rows if row[1][3] == "s" and len(row) > 5)


def held() -> tuple[int, list[str]]:
    """What a session must give back: descriptors, mappings, threads."""
    until(lambda: len(os.listdir("/proc/self/task")) == threading.active_count())  # a joined one is there a bit longer
    return len(os.listdir("/proc/self/fd")), shared_mappings()


class Reading(threading.Thread):
    """Reads in a thread of its own; `result` waits for its end."""

    def __init__(self, read: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._read, self._outcome = read, []  # type: ignore[var-annotated]
        self.start()

    def run(self) -> None:
        try:
            self._outcome.append(self._read())
        except BaseException as error:  # the test is to see it
            self._outcome.append(error)

    def result(self) -> Any:
        self.join(DEADLINE)
        assert not self.is_alive(), "the reader was not woken"
        return self._outcome[0]


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread brings about."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


def sleeps(thread: threading.Thread) -> bool:
    """Is it in the kernel, waiting?"""
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "S"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """What is kept for good is there before anything is counted: libbpf, imports, threads' arenas."""
    for verb in ("trace", "opensnoop"):
        with begin(verb) as session:
            list(session.read(0.0))


@pytest.mark.parametrize("verb", VERBS)
def test_every_session(verb: str) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    out, error = io.StringIO(), io.StringIO()
    before = held()
    with redirect_stdout(out), redirect_stderr(error), begin(verb) as session:
        assert isinstance(session, Lifetime) and isinstance(session, (Stream, Intervals)) and not session.closed
        assert isinstance(session.lost, int) and session.lost == session.losses.lost >= 0
        assert json.loads(json.dumps(session.losses.as_dict())) == session.losses._asdict()
        assert isinstance(session.targets, tuple) and session.targets == OPTIONS.get(verb, ((), {}))[0]
        assert isinstance(session.skipped, tuple) and all(isinstance(one, Skipped) for one in session.skipped)
        assert all(isinstance(note, str) for note in session.notes) and isinstance(session.notes, tuple)
        assert 0 < session.started <= time.monotonic()

        # A reader in another thread, blocked: another is refused, losses can be had, close wakes it.
        if isinstance(session, Stream):
            assert os.fstat(session.fileno())
            reading = Reading(lambda: list(session))
            until(lambda: session._reader is not None)
            with pytest.raises(pyebpf.StateError, match="one reader at a time"):
                next(session.read(0.0))
            with pytest.raises(pyebpf.StateError, match="one reader at a time"):
                list(session.drain())
            assert reading.is_alive()
        else:
            with pytest.raises(ValueError, match="more than 0"):
                session.every(0)
            reading = Reading(lambda: list(session.every(1e9)))
        until(lambda: sleeps(reading))
        assert session.lost >= 0
        session.detach()
        session.detach()
        session.close()
        found = reading.result()
        assert isinstance(found, list), found
        for record in found:
            same_each_time(record)
    assert session.closed
    session.close()

    refused: list[Callable[[], Any]] = [lambda: session.losses, lambda: session.lost, lambda: iter(session)]
    refused += [session.detach, session.__enter__]
    if isinstance(session, Stream):
        refused += [session.fileno, session.rest, session.drain, session.read]
    else:
        refused += [session.interval, lambda: session.every(1.0)]
    refused += [getattr(session, name) for name in ("snapshot", "learn", "counts", "lasted", "runs")
                if hasattr(session, name)]  # fmt: skip
    for use in refused:
        with pytest.raises(pyebpf.StateError, match="closed") as caught:
            use()
        assert caught.value.hint
    assert session.targets == OPTIONS.get(verb, ((), {}))[0] and isinstance(session.notes, tuple)
    assert held() == before
    assert not out.getvalue() and not error.getvalue()
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]


def same_each_time(record: Any) -> None:
    plain = record.as_dict() if hasattr(record, "as_dict") else [one.as_dict() for one in record]
    text = json.dumps(plain, sort_keys=True)
    assert json.loads(text) == json.loads(json.dumps(plain))


@pytest.mark.parametrize("verb", ["count", "execsnoop"])
def test_a_hundred_sessions(verb: str) -> None:
    begin(verb).close()
    before, own = held(), targets.own_bpf()
    for _ in range(100):
        with begin(verb) as session:
            call(23)
            if verb == "count":
                assert session.snapshot()["labs"] == 23
    assert held() == before
    assert targets.own_bpf() == own


def test_files_of_stacks_are_closed() -> None:
    before = held()
    with pyebpf.trace("c:labs", user_stack=True, **HERE) as session:
        call()
        (seen,) = session.drain()
        assert seen.user_stack[0].name == "labs" and len(seen.user_stack) > 1
        assert seen.as_dict()["user_stack"][0] == "labs"
        assert held() != before
    assert held() == before
    with pytest.raises(pyebpf.TargetNotFound):
        pyebpf.count("c:no_such_function_in_libc", **HERE)
    with pytest.raises(pyebpf.TargetError):
        pyebpf.trace("c:labs", args=["no_such_argument"], **HERE)
    with pytest.raises(pyebpf.TargetNotFound):
        pyebpf.gethostlatency(libc="/bin/true")
    assert held() == before


def test_a_session_in_each_of_many_threads() -> None:
    before = held()

    def one(_: int) -> int:
        with pyebpf.count("c:labs", **HERE) as counts:
            together.wait(DEADLINE)
            call(997)
            together.wait(DEADLINE)
            return counts.snapshot()["labs"]

    together = threading.Barrier(3)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [3 * 997] * 3
    assert held() == before


def test_two_side_by_side() -> None:
    with pyebpf.trace("c:labs", args=["arg0"], **HERE) as first, pyebpf.trace("c:labs", **HERE) as second:
        call(23)
        assert [one.args["arg0"] for one in first.drain()] == list(range(23))
        first.close()
        call(23)
        assert len(list(second.drain())) == 46


def test_an_iterator_left_alone_is_no_obstacle() -> None:
    """In the same thread another may begin: it goes on where the first was, and the first goes on behind it."""
    with pyebpf.trace("c:labs", args=["arg0"], **HERE) as session:
        call(997)
        first = iter(session)
        seen = [next(first).args["arg0"] for _ in range(23)]
        second = session.read(0.0)
        seen += [next(second).args["arg0"] for _ in range(100)]
        seen += [next(first).args["arg0"] for _ in range(7)]
        seen += [one.args["arg0"] for one in session.drain()]
        assert seen == list(range(997))
        # One that is still held, by nobody who runs, and is of another thread, is one.
        call()
        kept: list[Iterator[Any]] = []

        def begin_and_leave() -> Any:
            kept.append(iter(session))
            return next(kept[0])

        Reading(begin_and_leave).result()
        with pytest.raises(pyebpf.StateError, match="one reader"):
            list(session.drain())
        kept.clear()
        call()
        assert len(list(session.drain())) == 1


def test_close_inside_the_loop_and_from_a_signal_handler() -> None:
    before = held()
    with pyebpf.trace("c:labs", args=["arg0"], **HERE) as session:
        call(997)
        seen = 0
        for _ in session:
            seen += 1
            if seen == 100:
                session.close()
        assert seen == 100
    assert held() == before

    old = signal.getsignal(signal.SIGUSR1)
    for make in (lambda: pyebpf.trace("c:labs", **HERE), lambda: pyebpf.count("c:labs", **HERE)):
        session = make()
        signal.signal(signal.SIGUSR1, lambda *_, session=session: session.close())  # type: ignore[misc]
        main = threading.main_thread()
        sender = Reading(lambda main=main: (until(lambda: sleeps(main)), os.kill(os.getpid(), signal.SIGUSR1)))  # type: ignore[misc]
        try:
            assert list(session if isinstance(session, Stream) else session.every(1e9)) == []
        finally:
            signal.signal(signal.SIGUSR1, old)
        sender.result()
        assert session.closed
    del session
    assert held() == before


def test_closed_while_reports_are_made() -> None:
    """No thread may see what another has freed."""
    for _ in range(3):
        session = pyebpf.latency("c:labs", **HERE)
        begun = threading.Barrier(4)

        def work(session: Any = session, begun: threading.Barrier = begun) -> int:
            begun.wait(DEADLINE)
            done = 0
            while True:
                try:
                    session.snapshot(), session.interval(), session.lost
                except pyebpf.StateError:
                    return done
                done += 1

        workers = [Reading(work) for _ in range(3)]
        begun.wait(DEADLINE)
        call(997)
        session.close()
        assert all(isinstance(worker.result(), int) for worker in workers)


def test_somebody_elses_event_loop() -> None:
    with pyebpf.trace("c:labs", args=["arg0"], **HERE) as calls, pyebpf.opensnoop(**HERE) as opens:
        waiting = selectors.DefaultSelector()
        waiting.register(calls, selectors.EVENT_READ, calls)
        waiting.register(opens, selectors.EVENT_READ, opens)
        work = Reading(lambda: (call(10007), [os.close(os.open(os.devnull, os.O_RDONLY)) for _ in range(97)]))
        numbers: list[Any] = []
        opened = 0
        while len(numbers) < 10007 or opened < 97:
            rests = [*filter(None, (calls.rest(), opens.rest()))]
            assert waiting.select(min(rests, default=DEADLINE)) or rests
            numbers += [record.args["arg0"] for record in calls.drain()]
            opened += [record.path for record in opens.drain()].count(os.devnull.encode())
        work.result()
        assert numbers == list(range(10007)) and calls.lost == opens.lost == 0


def test_when_a_loop_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second record that comes within 4 ms of the last look; until nothing comes. Each record is seen."""
    now = [100.0]
    monkeypatch.setattr("pyebpf.core.ringbuf.time", SimpleNamespace(monotonic=lambda: now[0]))
    with pyebpf.trace("c:labs", args=["arg0"], **HERE) as session:

        def look(calls: int, later: float) -> float:
            call(calls)
            now[0] += later
            assert [record.args["arg0"] for record in session.drain()] == list(range(calls))
            seconds = session.rest()
            assert session._ring._awake is not None
            assert session._ring._awake[0] == (seconds > 0)  # programs don't wake us, or do
            return seconds

        assert [look(0, 0.001), look(1, 0.005), look(1, 0.005)] == [0.0] * 3
        assert [look(1, 0.003), look(7, 0.005), look(1, 5.0)] == [0.004] * 3
        assert [look(0, 0.005), look(0, 0.003), look(1, 0.003)] == [0.0, 0.0, 0.004]
        assert [look(9973, 0.003), look(1, 0.001), look(0, 0.004)] == [0.001, 0.004, 0.0]


def test_fork() -> None:
    """A child has no part in a session, and does it no harm."""
    with pyebpf.trace("c:labs", **HERE) as session, pyebpf.count("c:labs", **HERE) as counts:
        call(23)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for use in (session.drain, counts.snapshot, lambda: session.losses):
                    with pytest.raises(pyebpf.StateError, match="belongs to process"):
                        use()
                session.close(), counts.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        call(23)
        assert len(list(session.drain())) == 46 and counts.snapshot()["labs"] == 46


def test_fork_while_another_thread_is_in_it() -> None:
    """The child's copy of the lock is held for ever."""
    held, go_on = threading.Event(), threading.Event()
    with pyebpf.trace("c:labs", **HERE) as session, pyebpf.count("c:labs", **HERE) as counts:
        call(23)
        records = iter(session)
        next(records)

        def hold() -> None:
            with session._lock, counts._lock:
                held.set()
                go_on.wait(DEADLINE)

        holder = Reading(hold)
        held.wait(DEADLINE)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(int(DEADLINE))
                for use in (counts.snapshot, counts.detach, session.rest, session.drain, lambda: session.lost):
                    with pytest.raises(pyebpf.StateError, match="belongs to process"):
                        use()
                session.close(), counts.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        holder.result()
        assert len(list(session.drain())) == 22 and counts.snapshot()["labs"] == 23


def test_closed_just_before_a_report() -> None:
    """By another thread, between the end of an interval and its report: the iteration ends."""
    with pyebpf.count("c:labs", **HERE) as counts:
        interval = counts.interval

        def closed_before() -> Any:
            counts.close()
            return interval()

        counts.interval = closed_before  # type: ignore[method-assign]
        assert list(counts.every(0.001)) == []


def test_interrupted_while_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the midst of opening: nothing stays attached."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before, own = held(), targets.own_bpf()
    monkeypatch.setattr(Frames, "learn", interrupted)
    for verb, options in (("trace", {}), ("slower", {"min_us": 0}), ("stacks", {})):
        with pytest.raises(KeyboardInterrupt):
            getattr(pyebpf, verb)("c:labs", user_stack=True, **options, **HERE)
    assert held() == before and targets.own_bpf() == own


def test_targets_of_events() -> None:
    with pyebpf.execsnoop(pid=os.getpid(), uid=0) as session:
        assert session.targets == (f"pid={os.getpid()}", "uid=0")
    with pyebpf.tcplife(family=4, local_ports=[80, 443]) as session:  # type: ignore[assignment]
        assert session.targets == ("family=4", "local_ports=(80, 443)")


def test_not_copied() -> None:
    """A copy would give back what it holds a second time."""
    with pyebpf.count("c:labs", **HERE) as session:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="can't be copied or pickled"):
                copied(session)
        assert not session.snapshot()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pyebpf.count(["c:labs"]), "a target is a text, got list"),  # type: ignore[arg-type]
        (lambda: pyebpf.count("c:labs", pid="1"), "pid is the number of a process, or several, got str '1'"),
        (lambda: pyebpf.count("c:labs", pid=1.5), "pid is the number of a process, or several, got float 1.5"),
        (lambda: pyebpf.opensnoop(pid=["1"]), "pid is the number of a process, or several, got list"),
        (lambda: pyebpf.opensnoop(uid="root"), "user ID 'root'"),
        (lambda: pyebpf.trace("c:labs", args="arg0"), "args is a list of expressions, got str 'arg0'"),
        (lambda: pyebpf.argdist("c:labs", histograms="arg0"), "histograms is a list of expressions"),
        (lambda: pyebpf.argdist("c:labs", counts="arg0"), "counts is a list of expressions"),
        (lambda: pyebpf.slower("c:labs", min_us=float("nan")), "min_us=nan"),
        (lambda: pyebpf.slower("c:labs", min_us=-1), "min_us=-1"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(pyebpf.TargetError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_results_by_name() -> None:
    library = ctypes.CDLL(None)
    with pyebpf.count("c:labs", **HERE) as counts, pyebpf.latency("c:labs", **HERE) as latency:
        assert "labs" not in counts.snapshot() and latency.snapshot().get("labs") is None
        for number in range(7):
            library.labs(number)
        called, timed = counts.snapshot(), latency.snapshot()
    assert "labs" in called and called.get("labs") == called["labs"] == 7 and called.get("abs", 3) == 3
    assert "labs" in timed and timed.get("labs").count == timed["labs"].count == 7 and "abs" not in timed


def test_what_must_not_become_everybody() -> None:
    with pytest.raises(pyebpf.TargetError, match="names no process"):
        pyebpf.count("c:malloc", pid=[])
    with pytest.raises(pyebpf.TargetError, match="names no process"):
        pyebpf.opensnoop(pid=())


def test_a_misspelt_name_is_no_zero() -> None:
    with pyebpf.count("c:getppid", pid=os.getpid()) as counts:
        os.getppid()
        found = counts.snapshot()
        assert found["getppid"] == 1
        with pytest.raises(KeyError):
            found["getpid"]
