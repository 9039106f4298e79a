# SPDX-License-Identifier: BSD-2-Clause
"""Nothing we do may harm what is traced, or stay behind: whatever dies, and whenever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import targets
from containers import container

import pyebpf
from pyebpf.binary.image import Image
from pyebpf.core import kernel
from pyebpf.core.link import Ladder, Links, Site
from pyebpf.core.object import Object, open_bundled
from pyebpf.target.process import Process
from pyebpf.tools.stripes import Stripes


def descriptors() -> Counter[str]:
    """What this process has open, without the pipes to targets, which close when they are collected."""
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that lists
            continue
        if not what.startswith("pipe:"):
            found[what] += 1
    return found


def text_is_untouched(pid: int, path: Path, function: str) -> bool:
    """Whether a function's bytes in a process become those of its file again."""
    [found] = Image.open(str(path)).search(function)
    code = path.read_bytes()[found.offset : found.offset + found.size]
    mapped = [m for m in Process(pid).maps() if m.path == str(path) and "x" in m.perms]
    [at] = [m.start + found.offset - m.offset for m in mapped if 0 <= found.offset - m.offset < m.end - m.start]
    deadline = time.monotonic() + targets.DEADLINE
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while True:
            memory.seek(at)
            if memory.read(found.size) == code:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def script(text: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts Python code in a process of its own that can import what we can."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(text), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def counter() -> Iterator[tuple[Object, Ladder, Callable[[], int]]]:
    """The object of funccount for one function, loaded, not attached, and what reads its counter."""
    with open_bundled("funccount") as obj:
        ladder = Ladder()
        ladder.prepare(obj, obj.programs.values())
        stripes = Stripes(obj, obj.maps["counts"], 1)
        obj.load()
        yield obj, ladder, lambda: stripes.column(stripes.words())[0]


# Return probes and Go


@pytest.mark.parametrize("version", ["1.15", "1.27"])
def test_core_refuses_return_probes_in_go_code(rung: str, version: str) -> None:
    """At the function's first byte, behind its stack check, at its RET; also among sites that are harmless."""
    program = targets.go_program("panics", version)
    [function] = Image.open(str(program)).search("main.after")
    with counter() as (obj, ladder, count), targets.run(program, "-n", "23") as target:
        links = Links(ladder)
        for offset in range(function.offset, function.offset + function.size):
            with pytest.raises(pyebpf.UnsafeProbe, match="Go code"):
                links.attach(obj.programs["on_entry"], str(program), [Site(offset, 0)], on_return=True)
        assert len(links) == 0
        assert target.go()["calls"]["main.after"] == 23
        assert count() == 0


def test_core_has_return_probes_for_c(rung: str) -> None:
    program = targets.compiled("calls.c")
    [function] = Image.open(str(program)).search("hot")
    with counter() as (obj, ladder, count), targets.run(program, "-n", "997", "hot") as target:
        links = Links(ladder)
        sites = [Site(function.offset, 0)]
        assert links.attach(obj.programs["on_entry"], str(program), sites, pid=target.pid, on_return=True) == []
        assert target.go()["returns"]["hot"] == 997
        links.close()
        assert count() == 997


# What the kernel refuses


def test_refused_sites_are_reported_and_the_others_stand(rung: str) -> None:
    """A trap instruction can't be probed. The kernel looks at it only where the file is mapped."""
    program = targets.compiled("shapes.c")
    image = Image.open(str(program))
    [trap], [good] = image.search("trap_first"), image.search("assembled")
    with counter() as (obj, ladder, count), targets.run(program, "-n", "997") as target:
        links = Links(ladder)
        sites = [Site(trap.offset, 0), Site(good.offset, 0)]
        refused = links.attach(obj.programs["on_entry"], str(program), sites, pid=target.pid)
        assert [one.site for one in refused] == [sites[0]] and refused[0].reason
        truth = target.go()
        links.close()
        assert count() == truth["calls"]["assembled"] == 997


def test_a_function_that_begins_with_a_trap_is_skipped(rung: str) -> None:
    program = targets.compiled("shapes.c")
    with targets.run(program, "-n", "997") as target:
        with pyebpf.count(":assembled", ":trap_first", ":table", pid=target.pid) as counts:
            assert [skip.name for skip in counts.skipped] == ["trap_first"] and "trap" in counts.skipped[0].reason
            target.go()
            seen = counts.snapshot()
    assert (seen["assembled"], seen["table"]) == (997, 997)


# A tracer that dies


@pytest.mark.parametrize("tool", ["funccount", "funclatency", "funcslower"])
def test_killed_tracer_leaves_nothing(rung: str, tool: str) -> None:
    """SIGKILL under load: the target runs on and counts right, its code is what it was, nothing of us is left."""
    ready_read, ready_write = os.pipe()
    with targets.run(targets.compiled("calls.c"), "-n", "30011", "-w", "hot") as target:
        command = [sys.executable, "-m", "pyebpf", tool, "-p", str(target.pid), "--ready-fd", str(ready_write), ":hot"]
        tracer = subprocess.Popen(command, pass_fds=[ready_write], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        os.close(ready_write)
        with os.fdopen(ready_read, "rb") as ready:
            assert ready.read(1) == b"\n"
        ids = targets.held_bpf(tracer.pid)
        assert ids["programs"] and ids["maps"] and (ids["links"] or rung != "multi")
        target.begin()
        tracer.kill()
        tracer.wait()
        assert target.first_line()["calls"]["hot"] == 30011
        assert not targets.bpf_left(ids)
        assert text_is_untouched(target.pid, target.path, "hot")


# Stops in the call that makes its Nth attachment, before or after it, to be looked at and killed there.
DIES_WHILE_ATTACHING = """
    import os, signal, sys
    import pyebpf
    from pyebpf.core import bpf
    path, step, when = sys.argv[1:]
    name = {"multi": "link_uprobe_multi", "cookie": "link_perf_event", "copy": "set_perf_event_program"}
    name = name[os.environ["PYEBPF_ATTACH"]]
    attach, calls = getattr(bpf, name), [0]

    def stop(*arguments, **options):
        calls[0] += 1
        result = attach(*arguments, **options) if calls[0] < int(step) or when == "after" else None
        if calls[0] == int(step):
            print("stops", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(bpf, name, stop)
    pyebpf.latency(f"{path}:hot")
"""


@pytest.mark.parametrize("step", ["1", "2"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_tracer_killed_while_attaching_leaves_nothing(rung: str, when: str, step: str) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "-w", "hot") as target:
        tracer = script(DIES_WHILE_ATTACHING, str(target.path), step, when)
        assert tracer.stdout is not None and tracer.stdout.readline() == "stops\n"
        os.waitid(os.P_PID, tracer.pid, os.WSTOPPED | os.WNOWAIT)
        ids = targets.held_bpf(tracer.pid)
        assert ids["programs"] and ids["maps"]
        tracer.kill()
        tracer.communicate()
        assert tracer.returncode == -signal.SIGKILL
        assert not targets.bpf_left(ids)
        assert text_is_untouched(target.pid, target.path, "hot")
        target.begin()
        assert target.first_line()["calls"]["hot"] == 997


# A target that dies


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
@pytest.mark.parametrize("step", [1, 2])
def test_target_that_dies_while_attaching(rung: str, step: int, reaped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead before the returns are attached, or between them and the entries: an error of ours, or no calls."""
    attach, calls = Links.attach, [0]
    before = descriptors()
    with targets.run(targets.compiled("calls.c"), "hot") as target:

        def dies(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == step:
                os.kill(target.pid, signal.SIGKILL)
                if reaped:
                    target.kill()
                else:
                    os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)
            return attach(*arguments, **options)

        monkeypatch.setattr(Links, "attach", dies)
        try:
            session = pyebpf.latency(":hot", pid=target.pid)
        except pyebpf.TargetNotFound as error:
            assert str(target.pid) in str(error)
        else:
            assert not session.snapshot()
            session.close()
            del session  # and the files it read
        assert calls[0] >= step
        assert not descriptors() - before


def test_target_that_is_gone() -> None:
    with targets.run(targets.compiled("calls.c"), "hot") as target:
        target.kill()
        with pytest.raises(pyebpf.TargetNotFound, match=str(target.pid)):
            pyebpf.count(":hot", pid=target.pid)


def test_target_that_exits_while_traced(rung: str) -> None:
    """Its last numbers stay."""
    with targets.run(targets.compiled("calls.c"), "-n", "997", "hot") as target:
        with pyebpf.latency(":hot", pid=target.pid) as session:
            target.go()
            assert session.snapshot()["hot"].count == 997
            session.detach()
            assert session.snapshot()["hot"].count == 997


def test_slow_calls_of_a_process_that_is_gone() -> None:
    """What it did is kept; what can't be named any more has no name."""
    with targets.run(targets.compiled("calls.c"), "-n", "23", "nap") as target:
        with pyebpf.slower(":nap", min_us=0, pid=target.pid, user_stack=True) as session:
            target.go()
            calls = list(session.drain())
    assert len(calls) == 23 and {call.function.name for call in calls} == {"nap"}


# Several tracers


def test_sessions_on_the_same_functions_do_not_disturb_each_other(rung: str) -> None:
    program = targets.compiled("calls.c")
    names = (f"{program}:hot", f"{program}:recurse")
    with pyebpf.count(*names) as last:
        with pyebpf.count(*names) as counts, pyebpf.latency(*names) as one, pyebpf.latency(*names) as two:
            with targets.run(program, "-n", "23", "hot", "recurse") as target:
                target.go()
            assert counts.snapshot()["hot"] == last.snapshot()["hot"] == 23
            for session in (one, two):
                seen = session.snapshot()
                assert (seen["hot"].count, seen["recurse"].count) == (23, 23 * 7)
        with targets.run(program, "-n", "97", "hot") as target:  # the others are gone, these probes are still in place
            target.go()
        assert last.snapshot()["hot"] == 23 + 97


@pytest.mark.parametrize("make", [pyebpf.count, pyebpf.latency, pyebpf.slower], ids=["count", "latency", "slower"])
def test_thirty_sessions_leak_nothing(make: Callable[..., Any]) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "23", "hot") as target:
        with make(":hot", pid=target.pid):
            pass  # what is loaded once in a process is loaded now
        before, others = descriptors(), targets.held_bpf(os.getpid())
        seen: dict[str, set[int]] = {kind: set() for kind in others}
        for _ in range(30):
            with make(":hot", pid=target.pid):
                for kind, ids in targets.held_bpf(os.getpid()).items():
                    seen[kind] |= ids - others[kind]
        assert len(seen["programs"]) >= 30 and len(seen["maps"]) >= 30
        assert not descriptors() - before
        assert not targets.bpf_left(seen)
        assert text_is_untouched(target.pid, target.path, "hot")
        assert target.go()["calls"]["hot"] == 23


# Namespaces

TRACES = """
    import json, sys
    from pathlib import Path
    import pyebpf, targets

    with targets.run(Path(sys.argv[1]), "-n", "97", "-w", "hot", "recurse") as target:
        everyone = pyebpf.count(f"{target.path}:hot")
        counts = pyebpf.count(":hot", pid=target.pid)
        latency = pyebpf.latency(":recurse", pid=target.pid)
        slower = pyebpf.slower(":recurse", pid=target.pid, min_us=7000, user_stack=True)
        target.begin()
        truth = target.first_line()
        calls = list(slower.drain())
        print(json.dumps({
            "truth": truth["calls"], "everyone": everyone.snapshot()["hot"], "counts": counts.snapshot()["hot"],
            "latency": latency.snapshot()["recurse"].count, "target": target.pid, "pids": [call.pid for call in calls],
            "stacks": [[frame.name for frame in call.user_stack] for call in calls],
        }))
"""


def test_tracer_inside_a_pid_namespace(rung: str) -> None:
    """Process ids are those the tracer sees, everywhere."""
    tracer = script(TRACES, str(targets.compiled("calls.c")), prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    out, _ = tracer.communicate(timeout=targets.DEADLINE)
    assert tracer.returncode == 0
    seen = json.loads(out.splitlines()[-1])
    assert seen["target"] < 100  # it is a young namespace
    assert seen["counts"] == seen["everyone"] == seen["truth"]["hot"] == 97
    assert seen["latency"] == seen["truth"]["recurse"] == 97 * 7
    assert len(seen["pids"]) >= 97 and set(seen["pids"]) == {seen["target"]}
    assert all(stack[0] == "recurse" for stack in seen["stacks"])


@pytest.mark.parametrize("spec", [":{}", "/app/calls:{}"])
def test_container_from_outside(rung: str, tmp_path: Path, spec: str) -> None:
    """A process with another root and other pids, by its host pid: its executable, a path as it sees it, its libc."""
    program = targets.compiled("calls.c")
    with container(tmp_path, program, "-n", "97", "-w", "hot", "nap") as (process, pid):
        with pyebpf.count(spec.format("hot"), "c:nanosleep", pid=pid) as counts, \
             pyebpf.slower(spec.format("nap"), min_us=0, pid=pid, user_stack=True) as slower:  # fmt: skip
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            truth = json.loads(process.stdout.readline())
            seen, calls = counts.snapshot(), list(slower.drain())
    assert seen["hot"] == truth["calls"]["hot"] == 97
    assert sum(seen.values()) - 97 == truth["calls"]["nap"] == 97
    assert len(calls) == 97 and {call.pid for call in calls} == {pid} != {1}


def test_same_path_of_the_host_is_another_file(tmp_path: Path) -> None:
    """/app/calls of the container doesn't exist here; the host's calls is not what the container runs."""
    program = targets.compiled("calls.c")
    with container(tmp_path, program, "hot") as (_, pid):
        with pytest.raises(pyebpf.TargetError):
            pyebpf.count(f"{program}:hot", pid=pid)
        with pytest.raises(pyebpf.TargetNotFound):
            pyebpf.count("/app/calls:hot")


# A hardened process

REFUSES_NEW_CODE = """
    import ctypes, os
    PR_SET_MDWE, PR_GET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 66, 1
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
"""


@pytest.mark.skipif(kernel.release() < (6, 3), reason="before Linux 6.3")
def test_process_that_may_not_make_memory_executable(rung: str) -> None:
    """systemd's MemoryDenyWriteExecute: we run no code we made. The target inherits it and is traced all the same."""
    tracer = script(REFUSES_NEW_CODE + TRACES, str(targets.compiled("calls.c")))
    out, _ = tracer.communicate(timeout=targets.DEADLINE)
    assert tracer.returncode == 0
    seen = json.loads(out.splitlines()[-1])
    assert seen["counts"] == seen["truth"]["hot"] == 97 and seen["latency"] == 97 * 7
