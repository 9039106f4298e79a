# SPDX-License-Identifier: BSD-2-Clause
"""trace: every call, with its values, or else counted as lost."""

from __future__ import annotations

import platform
import threading

import pytest
import targets
import toolchains

import pyebpf
from pyebpf.tools.values import Text, Unreadable


def test_every_call_with_its_arguments() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "text") as target:
        with pyebpf.trace(f"{target.path}:text", args=["name", "arg1:s32"], pid=target.pid) as session:
            target.go()
            calls = list(session.drain())
            assert session.losses == type(session.losses)()
    assert [call.args["arg1:s32"] for call in calls] == list(range(97))
    assert [call.args["name"] for call in calls] == [Text(b"name-%d" % i, len(f"name-{i}")) for i in range(97)]
    assert [call.time for call in calls] == sorted(call.time for call in calls)
    assert {(call.pid, call.comm, call.function.name) for call in calls} == {(target.pid, b"calls", "text")}
    assert {(call.duration, call.goid, len(call.ret)) for call in calls} == {(None, None, 0)}


def test_results_and_durations() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "nap") as target:
        with pyebpf.trace(f"{target.path}:nap", args=["us"], ret=["retval"]) as session:
            truth = target.go()
            calls = list(session.drain())
    asked = [100 * (1 + i % 10) for i in range(23)]
    assert [call.args["us"] for call in calls] == [call.ret["retval"] for call in calls] == asked
    for call, ns in zip(calls, truth["naps"]):
        assert call.duration is not None and call.duration <= ns
    assert session.returns


def test_all_arguments_also_those_on_the_stack() -> None:
    on_stack = {} if platform.machine() == "aarch64" else {"sarg0": 7}  # there eight travel in registers
    with targets.run(targets.compiled("calls.c"), "-n", "3", "many") as target:
        with pyebpf.trace(f"{target.path}:many", all_args=True, args=[*on_stack, "x=arg5"]) as session:
            target.go()
            (call, *_) = session.drain()
    assert call.args == {**dict(zip("abcdefgh", range(1, 9))), **on_stack, "x": 6}


def test_filter_and_what_it_leaves_out() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "text") as target:
        condition = 'startswith(name, "name-9") && arg1:s32 != 9'
        with pyebpf.trace(f"{target.path}:text", args=["name"], filter=condition) as session:
            target.go()
            names = [call.args["name"].data for call in session.drain()]
            losses = session.losses
    assert names == [b"name-9%d" % i for i in range(7)]
    assert losses.rejected == 90 and losses.lost == 0


def test_filter_on_the_result() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "fails") as target:
        with pyebpf.trace(f"{target.path}:fails", args=["i"], filter="retval < 0 && i > 90") as session:
            target.go()
            assert [call.args["i"] for call in session.drain()] == [91, 93, 95]
            assert session.losses.rejected == 94 and session.losses.lost == 0


def test_delivered_and_lost_make_all() -> None:
    """Nobody reads: the buffer fills, and what didn't fit is counted."""
    with targets.run(targets.compiled("calls.c"), "-n", "100003", "text") as target:
        with pyebpf.trace(f"{target.path}:text", args=["name"], filter="arg1:s32 != 5") as session:
            target.go()
            delivered = sum(1 for _ in session.drain())
            losses = session.losses
    assert losses.dropped > 0 and losses.rejected == 1
    assert delivered + losses.dropped + losses.rejected == 100003


def test_a_reader_who_stops_goes_on_where_he_stopped() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "text") as target:
        with pyebpf.trace(f"{target.path}:text", args=["arg1:s32"]) as session:
            target.go()
            numbers = [next(session.drain()).args["arg1:s32"] for _ in range(23)]
            (run, *_) = session.runs()
            assert run.count == 97 - 23 and len(list(run.records())) == run.count
            run.take(1)
            run.take(7)
            numbers += [call.args["arg1:s32"] for call in session.drain()]
    assert numbers == [*range(23), *range(30, 97)]


def test_calls_of_several_functions_keep_their_order() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "tail", "text") as target:
        functions = [f"{target.path}:{name}" for name in ("tail", "tail_target", "text")]
        with pyebpf.trace(*functions, args=["x=arg0:str", "arg0"]) as session:
            target.go()
            calls = list(session.drain())
    expected = [call for i in range(97) for call in (("tail", i), ("tail_target", 2 * i))]
    assert [(call.function.name, call.args["arg0"]) for call in calls[: 2 * 97]] == expected
    assert all(isinstance(call.args["x"], Unreadable) for call in calls[: 2 * 97])
    assert [str(call.args["x"]) for call in calls[2 * 97 :]] == [f"name-{i}" for i in range(97)]


def test_a_bad_pointer_spoils_its_value_only() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "3", "many") as target:
        with pyebpf.trace(f"{target.path}:many", args=["arg0:str", "*(u64)(arg1+8)", "b"]) as session:
            target.go()
            (call, *_) = session.drain()
    assert isinstance(call.args["arg0:str"], Unreadable) and call.args["arg0:str"].reason == "bad address"
    assert isinstance(call.args["*(u64)(arg1+8)"], Unreadable) and call.args["b"] == 2


def test_a_filter_that_cannot_be_evaluated_is_a_loss() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "5", "many") as target:
        with pyebpf.trace(f"{target.path}:many", filter='arg0:str == "x"') as session:
            target.go()
            assert list(session.drain()) == []
            assert session.losses.undecided == 5 == session.losses.lost


def test_user_stack_at_the_entry_and_at_the_return() -> None:
    program = targets.compiled("calls.c", "-fno-omit-frame-pointer")
    for ret in ((), ("retval",)):
        with targets.run(program, "-n", "1", "-w", "recurse") as target:
            with pyebpf.trace(f"{program}:recurse", args=["left"], ret=ret, user_stack=True) as session:
                target.begin()
                target.first_line()
                calls = list(session.drain())
        assert sorted(call.args["left"] for call in calls) == list(range(7))
        for call in calls:
            names = [frame.name for frame in call.user_stack]
            depth = 7 - call.args["left"]
            assert names[: depth + 2] == ["recurse"] * depth + ["main", names[depth + 1]], names
            assert any(name.startswith("__libc_start") for name in names[depth + 1 :])


def test_inside_a_function() -> None:
    """An instruction in the middle: the registers are what they are there."""
    import re
    import subprocess

    program = targets.compiled("calls.c")
    code = subprocess.check_output(["objdump", "-d", "--disassemble=hot", str(program)], text=True)
    addresses = [int(address, 16) for address in re.findall(r"^ +([0-9a-f]+):\t", code, re.M)]
    last = addresses[-1] - addresses[0]  # ret: the result is in its register
    result = 'reg("x0")' if platform.machine() == "aarch64" else 'reg("ax")'
    with targets.run(program, "-n", "7", "hot") as target:
        with pyebpf.trace(f"{program}:hot+{last}", args=[result]) as session:
            target.go()
            calls = list(session.drain())
    assert [call.args[result] for call in calls] == [i * 3 + 1 for i in range(7)]
    assert calls[0].function.name == f"hot+{last:#x}"


def test_functions_without_what_is_asked_are_left_out() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "3", "hot", "nap") as target:
        with pyebpf.trace(f"{target.path}:hot", f"{target.path}:nap", args=["us"]) as session:
            target.go()
            assert {call.function.name for call in session.drain()} == {"nap"}
            assert [skip.name for skip in session.skipped] == ["hot"] and "'us'" in session.skipped[0].reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"args": ["nope"]}, "no argument 'nope'"),
        ({"args": ["a.b"]}, "has no fields"),
        ({"args": ["a +"]}, "expected"),
        ({"args": ["arg99"]}, "arg99"),
        ({"ret": ["nope"]}, "nope"),
        ({"filter": "a >"}, "expected"),
        ({"filter": 'a == "x"'}, "a"),
        ({"strsize": 1 << 20}, "at most|can have"),
    ],
)
def test_errors_come_before_anything_is_attached(options: dict[str, object], message: str) -> None:
    before = targets.own_bpf()
    with pytest.raises(pyebpf.TargetError, match=message):
        pyebpf.trace(f"{targets.compiled('calls.c')}:many", **options)  # type: ignore[arg-type]
    assert targets.own_bpf() == before


def test_close_wakes_a_blocked_reader() -> None:
    session = pyebpf.trace(f"{targets.compiled('calls.c')}:hot")
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(session))
    reader.start()
    session.close()
    reader.join(targets.DEADLINE)
    assert not reader.is_alive() and seen == []


def test_every_rung(rung: str) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "7", "text", "fails") as target:
        with pyebpf.trace(f"{target.path}:text", args=["name"]) as text, pyebpf.trace(
            f"{target.path}:fails", args=["i"], ret=["retval"]
        ) as fails:
            target.go()
            assert [call.args["name"].data for call in text.drain()] == [b"name-%d" % i for i in range(7)]
            assert [call.ret["retval"] for call in fails.drain()] == [0, -1, 2, -1, 4, -1, 6]


@pytest.mark.parametrize("version", toolchains.VERSIONS)
def test_pointers_into_a_stack_that_moves(version: str) -> None:
    """What a Go pointer led to at the entry is elsewhere at the return; the traced program's own pointer follows."""
    program = targets.go_program("grow", version)
    with targets.run(program, "-n", "97") as target:
        with pyebpf.trace(f"{program}:main.fills", args=["left"], ret=["reply.C"], pid=target.pid) as session:
            truth = target.go()
            calls = list(session.drain())
    assert truth["moved"] > 0
    assert [(call.args["left"], call.ret["reply.C"]) for call in calls] == [(40, 200)] * 97


def test_the_thread_s_name_as_a_value() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "3", "nap") as target:
        with pyebpf.trace(f"{target.path}:nap", args=["us", "comm"], ret=["by=comm"], pid=target.pid) as session:
            target.go()
            calls = list(session.drain())
    assert [(call.args["comm"], call.ret["by"]) for call in calls] == [(Text(b"calls", 5), Text(b"calls", 5))] * 3
