# SPDX-License-Identifier: BSD-2-Clause
"""stackcount: every call, under the stack that led to it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
import targets

import pyebpf
from pyebpf.tools.stackcount import CallPaths


def by_names(paths: CallPaths) -> dict[tuple[str, ...], int]:
    return {tuple(frame.name for frame in path.user_stack): path.calls for path in paths}


def test_every_caller_is_named() -> None:
    program = targets.compiled("calls.c", "-fno-omit-frame-pointer")
    with targets.run(program, "-n", "3", "-w", "recurse") as target:
        with pyebpf.stacks(f"{program}:recurse", pid=target.pid) as session:
            target.begin()
            target.first_line()
            paths = session.snapshot()
            assert session.losses.lost == 0
    found = by_names(paths)
    (start,) = {names[names.index("main") :] for names in found}  # what the C library called it from
    assert found == {("recurse",) * depth + start: 3 for depth in range(1, 8)}
    assert paths.calls == 21 and {(path.pid, path.comm) for path in paths} == {(0, b"")}


def test_intervals_add_up() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "hot") as target:
        with pyebpf.stacks(f"{target.path}:hot") as session:
            assert session.interval() == ()
            target.begin()
            target.first_line()
            assert session.interval().calls == 97
            assert session.interval().calls == 0
            assert session.snapshot().calls == 97


def test_processes_apart_and_together() -> None:
    program = targets.compiled("calls.c", "-fno-omit-frame-pointer")
    with targets.run(program, "-n", "5", "-w", "hot") as one, targets.run(program, "-n", "7", "-w", "hot") as two:
        with pyebpf.stacks(f"{program}:hot") as together, pyebpf.stacks(f"{program}:hot", per_process=True) as apart:
            for target in (one, two):
                target.begin()
                target.first_line()
            assert [path.calls for path in together.snapshot()] == [12]
            assert {path.pid: path.calls for path in apart.snapshot()} == {one.pid: 5, two.pid: 7}
            assert {path.comm for path in apart.snapshot()} == {b"calls"}


def test_frames_of_a_process_that_is_gone() -> None:
    """What lies in the traced file is named all the same."""
    program = targets.compiled("calls.c", "-fno-omit-frame-pointer")
    with targets.run(program, "-n", "5", "recurse") as target:
        with pyebpf.stacks(f"{program}:recurse") as session:
            target.go()
            names = set(by_names(session.snapshot()))
    assert {stack[: stack.index("main") + 1] for stack in names} == {
        ("recurse",) * depth + ("main",) for depth in range(1, 8)
    }


def test_every_rung(rung: str) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "hot") as target:
        with pyebpf.stacks(f"{target.path}:hot", pid=target.pid) as session:
            target.begin()
            target.first_line()
            (path,) = session.snapshot()
    assert path.calls == 97 and [frame.name for frame in path.user_stack][:2] == ["hot", "main"]


def test_go() -> None:
    program = targets.go_program("recurse")
    with targets.run(program, "-n", "3") as target:
        with pyebpf.stacks(f"{program}:main.recurse") as session:
            target.begin()
            session_names = target.truth()
            paths = session.snapshot()
    assert paths.calls == session_names["calls"]["main.recurse"]
    stacks = set(by_names(paths))
    assert {stack.count("main.recurse") for stack in stacks} == set(range(1, 8))


def test_no_stack_takes_the_place_of_another() -> None:
    """997 stacks in a table of 16,384 rows that hashes choose: some thirty of them find their row taken."""
    with targets.run(targets.compiled("paths.c", "-fno-omit-frame-pointer")) as target:
        with pyebpf.stacks(f"{target.path}:leaf", pid=target.pid, kernel_stack=True) as session:
            target.begin()
            truth = target.truth()
            paths = session.snapshot()
            assert session.losses.lost == session.losses.collided == 0
            second = list(session._probes.object.maps["user_stacks_1"].items())
    assert paths.calls == truth["calls"]["leaf"]
    assert second  # so the test is one
    expected = {}
    for number in range(997):
        turns = ("right" if number >> level & 1 else "left" for level in range(10))
        expected[("left", *turns)] = 1 + number % 3
    found = {names[1 : names.index("main")][::-1]: calls for names, calls in by_names(paths).items()}
    assert found == expected


@pytest.mark.parametrize(("options", "room"), [({}, 16384), ({"max_keys": 20011}, 20011), ({"max_keys": 1}, 1)])
def test_so_many_stacks_are_counted(options: dict[str, int], room: int) -> None:
    """Of 20,011. Few of them find no place, as all the rows for their hash are taken: each is said."""
    made = 20011
    program = targets.compiled("paths.c", "-fno-omit-frame-pointer", f"-DPATHS={made}", "-DLEVELS=15")
    with targets.run(program) as target:
        with pyebpf.stacks(f"{program}:leaf", pid=target.pid, **options) as session:
            target.begin()
            calls = target.truth()["calls"]["leaf"]
            found = by_names(session.snapshot())
            losses = session.losses
    whole = {names: count for names, count in found.items() if "[lost stack]" not in names}
    assert sum(found.values()) + losses.uncounted == calls
    assert losses.lost == losses.uncounted and bool(losses.uncounted) == (room < made)
    assert set(whole.values()) <= {1, 2, 3}
    assert sum(whole.values()) + losses.collided + losses.uncounted >= calls  # some collide, and aren't counted either
    assert len(whole) <= room
    if room == made:
        assert sum(whole.values()) + losses.collided == calls
        assert made - len(whole) <= losses.collided < 100


@pytest.mark.parametrize("max_keys", [0, -1, 1048577])
def test_too_many_stacks_are_refused(max_keys: int) -> None:
    before = targets.own_bpf()
    with pytest.raises(pyebpf.TargetError, match=f"{max_keys} keys can't be counted apart: between 1 and 1048576 can"):
        pyebpf.stacks("c:malloc", max_keys=max_keys)
    assert targets.own_bpf() == before


def test_a_program_on_an_overlay_that_ended(tmp_path: Path) -> None:
    """Where /proc/PID/maps tells another device than stat, only the living process says which file it is."""
    with contextlib.ExitStack() as stack:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(tmp_path)], check=True)
        for name in ("lower", "upper", "work", "merged"):
            (tmp_path / name).mkdir()
        options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        subprocess.run(["mount", "-t", "overlay", "none", "-o", options, str(tmp_path / "merged")], check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(tmp_path / "merged")], check=True)
        program = tmp_path / "merged" / "calls"
        shutil.copy(targets.compiled("calls.c", "-fno-omit-frame-pointer"), program)
        with targets.run(program, "-n", "3", "recurse") as target:
            with pyebpf.stacks(f"{program}:recurse", pid=target.pid) as session:
                target.go()
                names = set(by_names(session.snapshot()))
    assert {path[: path.index("main")] for path in names} == {("recurse",) * depth for depth in range(1, 8)}
