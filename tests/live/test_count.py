# SPDX-License-Identifier: BSD-2-Clause
"""funccount against programs that count themselves."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import targets
import tracing

import pyebpf
from pyebpf.core import kernel
from pyebpf.tools.funccount import CountSession


def test_every_rung_counts_right(rung: str) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "hot", "many") as target:
        with pyebpf.count(f"{target.path}:hot", f"{target.path}:many") as counts:
            truth = target.go()
            seen = counts.snapshot()
    assert (seen["hot"], seen["many"]) == (997, 997) == (truth["calls"]["hot"], truth["calls"]["many"])


@pytest.mark.parametrize("flags", [(), ("-no-pie",), ("-static",), ("-static-pie",)], ids=str)
def test_kinds_of_executable(flags: tuple[str, ...]) -> None:
    with targets.run(targets.compiled("calls.c", *flags), "-n", "997", "hot") as target:
        with pyebpf.count(f"{target.path}:hot") as counts:
            target.go()
            assert counts.snapshot()["hot"] == 997


def test_threads_and_pid_filter(rung: str) -> None:
    """All threads of the process that was asked for, none of another that runs the same file."""
    program = targets.compiled("calls.c")
    with targets.run(program, "-n", "997", "-t", "7", "threads") as wanted, targets.run(
        program, "-n", "23", "-t", "3", "threads"
    ) as other:
        with pyebpf.count(":threaded", pid=wanted.pid) as counts:
            truth, _ = wanted.go(), other.go()
            assert counts.snapshot()["threaded"] == 7 * 997 == truth["calls"]["threaded"]


def test_two_pids(rung: str) -> None:
    program = targets.compiled("calls.c")
    with targets.run(program, "-n", "997", "hot") as one, targets.run(program, "-n", "23", "hot") as two, targets.run(
        program, "-n", "10007", "hot"
    ) as unwanted:
        with pyebpf.count(":hot", pid=[one.pid, two.pid]) as counts:
            for target in (one, two, unwanted):
                target.go()
            assert counts.snapshot()["hot"] == 997 + 23


@pytest.mark.parametrize("right", [True, False])
def test_several_pids_where_links_tell_processes_apart_or_not(monkeypatch: pytest.MonkeyPatch, right: bool) -> None:
    """uprobe_multi's own filter is wrong before Linux 6.10: one link for all processes, or each counts twice."""
    if kernel.release() < (6, 6):
        pytest.skip("before Linux 6.6")
    monkeypatch.setattr("pyebpf.core.kernel.multi_pid_filter_is_right", lambda: right)
    monkeypatch.setenv("PYEBPF_ATTACH", "multi")
    program = targets.compiled("calls.c")
    with targets.run(program, "-n", "997", "hot") as one, targets.run(program, "-n", "23", "hot") as two, targets.run(
        program, "-n", "10007", "hot"
    ) as unwanted:
        pids = [one.pid, two.pid]
        with pyebpf.count(":hot", pid=pids) as counts, pyebpf.latency(":hot", pid=pids) as times:
            for target in (one, two, unwanted):
                target.go()
            assert counts.snapshot()["hot"] == times.snapshot()["hot"].count == 997 + 23
            assert times.losses.abandoned == times.losses.unmatched == 0


def test_intervals_lose_nothing() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "100003", "hot") as target:
        with pyebpf.count(f"{target.path}:hot") as counts:
            worker = threading.Thread(target=target.go)
            worker.start()
            total, intervals = 0, 0
            while worker.is_alive():
                total += counts.interval()["hot"]
                intervals += 1
            total += counts.interval()["hot"]
    assert total == 100003 and intervals > 1


def test_library_of_a_process() -> None:
    """LIB:PATTERN through the process's own mappings, and a library loaded before we came."""
    library = targets.compiled("libwork.c", "-fPIC", "-shared", "-Wl,-soname,libwork.so")
    shared = library.with_name("libwork.so")
    if not shared.exists():
        shared.symlink_to(library)
    with targets.run(targets.compiled("calls.c"), "-n", "997", "-l", str(shared), "dlopen") as target:
        with pyebpf.count(f"{shared}:work") as counts:
            target.go()
            assert counts.snapshot()["work"] == 997


def test_cpp_names() -> None:
    """Demangled names, without parameters, overloads apart, and the raw symbol."""
    with targets.run(targets.compiled("throws.cpp"), "-k", "23", "-m", "997") as target:
        with pyebpf.count(f"{target.path}:shop::scale*", f"{target.path}:plain_c") as counts:
            truth = target.go()
            seen = counts.snapshot()
    expected = {name: n for name, n in truth["calls"].items() if name.startswith("shop::scale(") or name == "plain_c"}
    assert len(expected) == 4
    normal = {function.name.replace("[abi:cxx11]", ""): n for function, n in seen.items()}
    for name, n in expected.items():
        is_string = "string" in name  # libstdc++ writes it out: std::__cxx11::basic_string<...>
        assert [n for shown, n in normal.items() if shown == name or (is_string and "string" in shown)] == [n], normal


def test_fork_is_another_process() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "fork") as target:
        with pyebpf.count(":hot", pid=target.pid) as mine, pyebpf.count(f"{target.path}:hot") as everyone:
            truth = target.go()
            assert mine.snapshot()["hot"] == truth["calls"]["hot"] == 997
            assert everyone.snapshot()["hot"] == 997 + truth["child"]["calls"]


def test_overlapping_patterns_count_once() -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "997", "hot") as target:
        with pyebpf.count(f"{target.path}:hot", f"{target.path}:h?t", f"{target.path}:hot*") as counts:
            target.go()
            assert counts.snapshot()["hot"] == 997
            assert [function.name for function in counts.functions].count("hot") == 1


def test_more_probes_than_the_usual_limit_of_open_files(rung: str) -> None:
    """On the lower rungs each is a file. The command raises its own limit, not that of the command it runs."""
    program = targets.go_program("panics")
    words = ["pyebpf", "funccount", "--json", f"{program}:runtime.g*", "-c", "sh -c 'ulimit -Sn'"]
    limited = ["prlimit", "--nofile=97:4096", "--", sys.executable, "-m", *words]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=targets.DEADLINE, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (attached,) = tracing.records(done.stdout, "attached")
    assert attached["functions"] > 97, attached
    assert "97" in done.stderr.splitlines()


def test_too_many_open_files(rung: str) -> None:
    """A library leaves the limits of its process alone, and says what the trouble is."""
    program = targets.go_program("panics")
    script = f"import pyebpf; pyebpf.count('{program}:runtime.g*')"
    limited = ["prlimit", "--nofile=97", "--", sys.executable, "-c", script]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=targets.DEADLINE, stdin=subprocess.DEVNULL)
    if rung == "multi":
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert "too many open files: this kernel needs a file descriptor a probe" in done.stderr


def test_session_after_close() -> None:
    counts = pyebpf.count(f"{targets.compiled('calls.c')}:hot")
    counts.close()
    counts.close()
    with pytest.raises(pyebpf.StateError):
        counts.snapshot()


def test_command_is_traced_from_its_first_instruction() -> None:
    from pyebpf.target.command import Command

    program = targets.compiled("calls.c")
    with Command(["sh", "-c", f"exec {program} -n 997 hot </dev/null >/dev/null"]) as shell:
        with pyebpf.count(f"{program}:hot", f"{program}:main", command=shell) as counts:
            shell.release()
            shell.wait(targets.DEADLINE)
            seen = counts.snapshot()
    assert (seen["main"], seen["hot"]) == (1, 997)


def await_note(counts: CountSession, text: str) -> None:
    targets.until(lambda: any(text in note for note in counts.notes), text)


def test_exec_by_another_thread_is_told(rung: str) -> None:
    """The kernel's probes of -p don't follow it: that nothing is seen any more is a note."""
    if rung == "multi" and kernel.release() < (6, 10):
        pytest.skip("before Linux 6.10")  # where those probes are in every process, and it goes on
    with targets.run(targets.compiled("torture/spawns.c"), "-n", "1000000", "thread-execs") as target:
        with pyebpf.count(":works", pid=target.pid) as counts:
            assert not any("not seen any more" in note for note in counts.notes)
            target.begin()
            await_note(counts, f"process {target.pid} is not seen any more")
            counts.detach()
            assert sum("not seen any more" in note for note in counts.notes) == 1
        assert sum("not seen any more" in note for note in counts.notes) == 1  # also when it is closed


def test_end_of_the_first_thread(rung: str) -> None:
    """Perf events' probes end with it, which is told; those of uprobe_multi don't."""
    with targets.run(targets.compiled("torture/spawns.c"), "headless") as target:
        with pyebpf.count(":works", pid=target.pid) as counts:
            target.begin()
            if rung != "multi":
                await_note(counts, f"process {target.pid} is not seen any more")
            targets.until(lambda: ") Z " in Path(f"/proc/{target.pid}/stat").read_text(), "its first thread's end")
            target.begin("0 23")
            assert target.first_line() == {"line": 0}
            assert counts.snapshot()["works"] == (23 if rung == "multi" else 0)
            assert any("not seen any more" in note for note in counts.notes) == (rung != "multi")
        with pytest.raises(pyebpf.TargetError, match="its first thread has ended") as refused:
            pyebpf.count(":works", pid=target.pid)
        assert "by path" in refused.value.hint
        with pyebpf.count(f"{target.path}:works") as counts:
            target.begin("23 97")
            assert target.first_line() == {"line": 1}
            assert counts.snapshot()["works"] == 97


def test_exec_by_the_first_thread_is_followed() -> None:
    with targets.run(targets.compiled("torture/spawns.c"), "-n", "23", "execs") as target:
        with pyebpf.count(":works", pid=target.pid) as counts:
            truth = target.go()
            assert counts.snapshot()["works"] == truth["calls"]["works"] == 24
            assert not any("not seen any more" in note for note in counts.notes)
