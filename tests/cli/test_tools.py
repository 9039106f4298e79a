# SPDX-License-Identifier: BSD-2-Clause
"""The three tools as commands: what they print, in text and in JSON, and how they end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import targets


@pytest.fixture
def hot(request: pytest.FixtureRequest) -> Any:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "hot", "recurse", "many") as target:
        yield target
        if target.alive():
            target.kill()


def test_funccount(attached: Callable[..., Any], hot: targets.Target) -> None:
    tool = attached("funccount", f"{hot.path}:hot", f"{hot.path}:many", f"{hot.path}:nap")
    work(hot)
    ran = tool.end(signal.SIGINT)
    assert ran.code == 0
    assert ran.err.startswith("Tracing 3 functions for ") and "Hit Ctrl-C to end." in ran.err
    assert ran.out.splitlines() == [
        "",
        "FUNC                                    COUNT",
        "hot                                        97",
        "many                                       97",
    ]


def work(target: targets.Target) -> None:
    """Lets a target started with -w work to the end of its work."""
    target.begin()
    target.first_line()


def test_largest_count_last_and_timestamp(attached: Callable[..., Any], hot: targets.Target) -> None:
    tool = attached("funccount", "-T", "-d", "600", "-p", str(hot.pid), ":recurse", ":hot")
    work(hot)
    ran = tool.end(signal.SIGTERM)
    lines = ran.out.splitlines()
    assert ran.code == 0 and re.fullmatch(r"\d\d:\d\d:\d\d", lines[1])
    assert [line.split() for line in lines[3:]] == [["hot", "97"], ["recurse", str(97 * 7)]]


def test_ends_with_the_process(attached: Callable[..., Any], hot: targets.Target) -> None:
    tool = attached("funccount", "-p", str(hot.pid), ":hot")
    work(hot)
    hot.begin()  # the second line: it may exit
    ran = tool.end()
    assert ran.code == 0 and "The traced process has ended." in ran.err and " 97" in ran.out


def test_command(pyebpf: Callable[..., Any]) -> None:
    program = targets.compiled("calls.c")
    ran = pyebpf("funccount", "-c", f"{program} -n 997 hot", ":hot", ":main")
    assert ran.code == 0 and "The command has ended, exit status 0." in ran.err
    assert re.search(r"^main +1$", ran.out, re.M) and re.search(r"^hot +997$", ran.out, re.M)


def test_duration_and_intervals(pyebpf: Callable[..., Any]) -> None:
    program = targets.compiled("calls.c")
    ran = pyebpf("funccount", "-i", "0.2", "-d", "0.6", f"{program}:hot")
    assert ran.code == 0 and ran.out.count("FUNC") == 3


def test_funclatency(attached: Callable[..., Any], hot: targets.Target) -> None:
    tool = attached("funclatency", "-u", f"{hot.path}:recurse")
    work(hot)
    ran = tool.end(signal.SIGINT)
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[1:3] == ["Function = recurse", "     usecs               : count     distribution"]
    assert all(re.fullmatch(r" *\d+ -> \d+ +: \d+ +\|\*{0,40} *\|", line) for line in lines[3:-4])
    assert re.fullmatch(rf"avg = \d+ usecs, total: \d+ usecs, count: {97 * 7}", lines[-3])
    assert re.fullmatch(r"p50 = [\d.]+ usecs, p90 = [\d.]+ usecs, p99 = [\d.]+ usecs, max = [\d.]+ usecs", lines[-2])
    counts = [int(line.split(":")[1].split("|")[0]) for line in lines[3:-4]]
    assert sum(counts) == 97 * 7 and counts[-1] > 0


def test_one_histogram_or_one_each(attached: Callable[..., Any], hot: targets.Target) -> None:
    both = attached("funclatency", f"{hot.path}:hot", f"{hot.path}:many")
    each = attached("funclatency", "-F", f"{hot.path}:hot", f"{hot.path}:many")
    work(hot)
    together, apart = both.end(signal.SIGINT), each.end(signal.SIGINT)
    assert "Function" not in together.out and f"count: {2 * 97}" in together.out
    assert apart.out.count("count: 97") == 2
    assert set(re.findall(r"^Function = (.*)$", apart.out, re.M)) == {"hot", "many"}


def test_funcslower(attached: Callable[..., Any], hot: targets.Target) -> None:
    tool = attached("funcslower", "-u", "0", "-n", "23", "-a", "2", "-p", str(hot.pid), ":many")
    work(hot)
    ran = tool.end()
    lines = ran.out.splitlines()
    assert ran.code == 0 and "slower than 0 us" in ran.err
    assert lines[0].split() == ["COMM", "PID", "LAT(us)", "RVAL", "FUNC", "ARGS"]
    assert len(lines) == 24
    assert all(re.fullmatch(rf"calls +{hot.pid} +[\d.]+ +cc many 0x1 0x2", line) for line in lines[1:])


def test_funcslower_stacks_and_folded(attached: Callable[..., Any], hot: targets.Target) -> None:
    stacks = attached("funcslower", "-u", "0", "-n", "1", "-U", f"{hot.path}:many")
    folded = attached("funcslower", "-u", "0", "-n", "1", "-f", f"{hot.path}:many")
    work(hot)
    assert stacks.end().out.splitlines()[2] == "    many"
    assert re.fullmatch(r"calls;(.*;)?many 1\n", folded.end().out)


def test_json(attached: Callable[..., Any], hot: targets.Target) -> None:
    count = attached("funccount", "--json", f"{hot.path}:hot")
    latency = attached("funclatency", "--json", f"{hot.path}:hot")
    slower = attached("funcslower", "--json", "-u", "0", "-n", "3", f"{hot.path}:hot")
    work(hot)
    lines = [json.loads(line) for line in count.end(signal.SIGINT).out.splitlines()]
    assert [line["type"] for line in lines] == ["attached", "counts", "end"]
    assert lines[0]["functions"] == 1 and lines[2]["reason"] == "signal"
    assert [(row["function"], row["count"]) for row in lines[1]["counts"]] == [("hot", 97)]

    lines = [json.loads(line) for line in latency.end(signal.SIGINT).out.splitlines()]
    assert [line["type"] for line in lines] == ["attached", "histogram", "end"]
    assert lines[1]["count"] == 97 == sum(row["calls"] for row in lines[1]["buckets"])

    lines = [json.loads(line) for line in slower.end().out.splitlines()]
    assert [line["type"] for line in lines] == ["attached", "call", "call", "call", "end"]
    assert lines[1]["pid"] == hot.pid and lines[1]["duration_ns"] > 0 and lines[1]["comm"] == "calls"


def test_list(pyebpf: Callable[..., Any]) -> None:
    program = targets.compiled("throws.cpp")
    for arguments in (("list",), ("funccount", "-l"), ("funclatency", "-l"), ("funcslower", "-l")):
        ran = pyebpf(*arguments, f"{program}:shop::scale*")
        assert ran.code == 0 and "shop::scale(int)" in ran.out and "c++" in ran.out, ran
    ran = pyebpf("list", "--json", "--returns", f"{program}:shop::scale(int)")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["function"] for row in rows] == ["shop::scale(int)"]
    assert rows[0]["symbol"] == "_ZN4shop5scaleEi" and rows[0]["return_offsets"] and not rows[0]["uretprobe"]


@pytest.mark.parametrize("tool", ["funccount", "funclatency", "funcslower"])
def test_closed_pipe_ends_quietly(tool: str, attached: Callable[..., Any], hot: targets.Target) -> None:
    """Like `pyebpf ... | head`: when nobody reads any more, it ends, with 0 and without a word about it."""
    started = attached(tool, *(["-u", "0"] if tool == "funcslower" else ["-i", "0.1"]), f"{hot.path}:hot")
    started.process.stdout.close()
    work(hot)
    assert started.process.wait(60) == 0
    assert "Traceback" not in started.process.stderr.read()


def test_output_that_cannot_be_written() -> None:
    """Closed from the start: it traces all the same. A full disk: an error, not a traceback."""

    command = f"{sys.executable} -m pyebpf funccount -d 0.1 {targets.compiled('calls.c')}:hot"
    closed = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert closed.returncode == 0 and "Traceback" not in closed.stderr
    full = subprocess.run(f"{command} >/dev/full", shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert full.returncode == 1 and "No space left" in full.stderr and "Traceback" not in full.stderr


def test_output_of_the_command_stays_out_of_the_json(pyebpf: Callable[..., Any]) -> None:
    program = targets.compiled("calls.c")
    ran = pyebpf("funccount", "--json", "-c", f"{program} -n 97 hot", ":hot")
    assert [json.loads(line)["type"] for line in ran.out.splitlines()] == ["attached", "counts", "end"]
    assert '"program": "calls"' in ran.err or '"program":"calls"' in ran.err


def test_interrupted_when_all_is_said() -> None:
    """A Ctrl-C that comes while Python takes itself apart changes neither the exit code nor what was printed."""
    late = "\n".join([
        "import os, sys",
        "class Late:",
        "    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 2)",
        "sys.late = Late()",
        "from pyebpf.cli.main import entry",
        "entry()",
    ])  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", late, "funccount", "-d", "0.1", f"{targets.compiled('calls.c')}:hot"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr.count("\n")) == (0, 1), ran.stderr


def test_interrupted_before_a_tool_listens() -> None:
    """It ends at once: as an exception the Ctrl-C could be swallowed by an import's callback."""
    early = "import os, pyebpf.cli.main as main; main.main = lambda argv: os.kill(os.getpid(), 2); main.entry()"
    ran = subprocess.run([sys.executable, "-c", early], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (ran.returncode, ran.stderr) == (-signal.SIGINT, b"")


def test_whose_children_nobody_waits_for(attached: Callable[..., Any], hot: targets.Target) -> None:
    """Started with SIGCHLD ignored, as some supervisors do: the kernel buries children itself."""
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        tool = attached("funclatency", "-p", str(hot.pid), ":hot")
    finally:
        signal.signal(signal.SIGCHLD, ignored)
    work(hot)
    ran = tool.end(signal.SIGINT)
    assert ran.code == 0 and re.search(r"\b97\b", ran.out), ran


def test_exec_by_another_thread_is_said(attached: Callable[..., Any]) -> None:
    with targets.run(targets.compiled("torture/spawns.c"), "-n", "1000000", "thread-execs") as target:
        tool = attached("funccount", "--json", "-p", str(target.pid), ":works")
        early = json.loads(tool.process.stdout.readline())
        assert early["type"] == "attached" and not any("not seen" in note for note in early["notes"])
        target.begin()
        assert any("is not seen any more" in line for line in iter(tool.process.stderr.readline, ""))
        end = json.loads(tool.end(signal.SIGINT).out.splitlines()[-1])
        assert [f"process {target.pid} is not seen any more" in note for note in end["notes"]] == [True]
