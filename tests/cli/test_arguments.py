# SPDX-License-Identifier: BSD-2-Clause
"""trace, argdist, stackcount and list -v as commands: what they print, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import targets

Attached = Callable[..., Any]


@pytest.fixture
def calls() -> Iterator[targets.Target]:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "text", "fails", "many", "nap") as target:
        yield target


def work(target: targets.Target) -> None:
    """Lets a target started with -w work to the end of its work."""
    target.begin()
    target.first_line()


def test_trace(attached: Attached, calls: targets.Target) -> None:
    tool = attached("trace", f"{calls.path}:text", "name", "-p", str(calls.pid), "number=arg1:s32")
    work(calls)
    ran = tool.end(signal.SIGINT)
    lines = ran.out.splitlines()
    assert ran.code == 0 and ran.err.startswith("Tracing 1 function for ") and "lost" not in ran.err
    assert lines[0].split() == ["PID", "TID", "COMM", "FUNC", "-"]
    pid = f"{calls.pid:<7} {calls.pid:<7}"
    assert lines[1:] == [f'{pid} calls           text             name="name-{i}" number={i}' for i in range(97)]


def test_trace_results_filter_and_time(attached: Attached, calls: targets.Target) -> None:
    tool = attached("trace", "-T", "-t", f"{calls.path}:fails", "i", "--ret", "retval", "--filter", "retval < 0")
    work(calls)
    ran = tool.end(signal.SIGINT)
    lines = ran.out.splitlines()
    assert lines[0].split() == ["TIME", "TIME(s)", "PID", "TID", "COMM", "FUNC", "-"]
    pattern = r"\d\d:\d\d:\d\d \d+\.\d{6} .* i=(\d+) -> retval=-1 \([\d.]+[mu]?s\)"
    found = [re.fullmatch(pattern, line) for line in lines[1:]]
    assert [int(match.group(1)) for match in found if match] == list(range(1, 97, 2))
    assert "left out by the filter: 49 calls" in ran.err


def test_trace_ends_after_so_many_calls(attached: Attached, calls: targets.Target) -> None:
    """Exactly, although all 97 may wait in the buffer by then."""
    quick = attached("trace", "-n", "23", f"{calls.path}:text", "name")
    slow = attached("trace", "-n", "23", "-T", f"{calls.path}:text", "name")
    as_json = attached("trace", "-n", "23", "--json", f"{calls.path}:text", "name")
    work(calls)
    assert len(quick.end().out.splitlines()) == 1 + 23
    assert len(slow.end().out.splitlines()) == 1 + 23
    lines = [json.loads(line) for line in as_json.end().out.splitlines()]
    assert [line["type"] for line in lines] == ["attached", *["call"] * 23, "end"]
    assert lines[-1]["reason"] == "events" and lines[1]["args"] == {"name": "name-0"} and lines[1]["ret"] == {}


def test_trace_losses_are_said(attached: Attached) -> None:
    with targets.run(targets.compiled("calls.c"), "-n", "200003", "-w", "text") as target:
        tool = attached("trace", "-U", f"{target.path}:text", "name")
        work(target)
        ran = tool.end(signal.SIGINT)
    lost = re.search(r"lost: ([\d,]+) calls? not shown, as the buffer was full", ran.err)
    shown = len(re.findall(r'^\d.* name="name-\d+"$', ran.out, re.M))
    assert shown + int(lost.group(1).replace(",", "") if lost else 0) == 200003


def test_trace_stack_and_all_arguments(attached: Attached, calls: targets.Target) -> None:
    tool = attached("trace", "--all-args", "-U", "-n", "1", f"{calls.path}:many")
    work(calls)
    lines = tool.end().out.splitlines()
    assert lines[1].endswith(" many             a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8")
    assert lines[2:4] == ["        many", "        main"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 2, "there is no argument 'nope'\n  hint: there are arguments: a, b, c"),
        (["a.b"], 2, "a is an integer"),
        (["--filter", "a >"], 2, "expected a value"),
        (["arg0:quux"], 2, "no type 'quux'"),
        (["-Z", "999999"], 2, "a text can have"),
        (["-n", "0"], 2, "whole number above 0"),
        (["-c", " "], 2, "-c: the command is empty"),
    ],
)
def test_trace_mistakes(pyebpf: Callable[..., Any], arguments: list[str], code: int, message: str) -> None:
    ran = pyebpf("trace", f"{targets.compiled('calls.c')}:many", *arguments)
    assert ran.code == code and message in ran.err and ran.out == "" and "Tracing" not in ran.err


@pytest.mark.parametrize("tool", [("trace",), ("argdist", "-C", "arg0"), ("stackcount",)])
def test_nothing_matched(pyebpf: Callable[..., Any], tool: tuple[str, ...]) -> None:
    ran = pyebpf(*tool, f"{targets.compiled('calls.c')}:no_such_function")
    assert ran.code == 3 and "no function of" in ran.err


def test_argdist(attached: Attached, calls: targets.Target) -> None:
    tool = attached("argdist", f"{calls.path}:nap", "-C", "us", "retval", "-T", "3", "-H", "us")
    work(calls)
    ran = tool.end(signal.SIGINT)
    lines = ran.out.splitlines()
    assert ran.code == 0 and re.fullmatch(r"\[\d\d:\d\d:\d\d\]", lines[0])
    assert lines[1:3] == [f"{calls.path}:nap: us, retval", "\tCOUNT      EVENT"]
    assert all(re.fullmatch(r"\t10         us = (\d+), retval = \1", line) for line in lines[3:6])
    assert lines[6:8] == [f"{calls.path}:nap: us", "     us                  : count     distribution"]
    assert lines[-1] == "       512 -> 1023       : 47       |****************************************|"


def test_argdist_reports_and_json(pyebpf: Callable[..., Any], attached: Attached, calls: targets.Target) -> None:
    program = calls.path
    assert pyebpf("argdist", "-i", "0.1", "-n", "3", "-H", "us", f"{program}:nap").out.count("us") == 3
    tool = attached("argdist", "--json", "-H", "us", f"{program}:nap", "-C", "us")
    work(calls)
    lines = [json.loads(line) for line in tool.end(signal.SIGINT).out.splitlines()]
    assert [line["type"] for line in lines] == ["attached", "values", "distribution", "end"]
    assert lines[1]["count"] == lines[2]["count"] == 97
    assert sum(row["count"] for row in lines[1]["rows"]) == sum(row["calls"] for row in lines[2]["buckets"]) == 97


def test_argdist_mistakes(pyebpf: Callable[..., Any]) -> None:
    target = f"{targets.compiled('calls.c')}:text"
    for arguments, message in (
        ((target,), "nothing to count"),
        (("-H", "name", target), "no whole number"),
        (("-C", "name"), "required: TARGET"),
        (("-C", "name", "nope", target), "no argument 'nope'"),
    ):
        ran = pyebpf("argdist", *arguments)
        assert ran.code == 2 and message in ran.err


def test_stackcount(attached: Attached) -> None:
    program = targets.compiled("calls.c", "-fno-omit-frame-pointer")
    with targets.run(program, "-n", "7", "-w", "recurse") as target:
        plain = attached("stackcount", f"{program}:recurse")
        apart = attached("stackcount", "-P", "-p", str(target.pid), ":recurse")
        folded = attached("stackcount", "-f", f"{program}:recurse")
        as_json = attached("stackcount", "--json", f"{program}:recurse")
        work(target)
        stacks = [block.splitlines() for block in plain.end(signal.SIGINT).out.strip("\n").split("\n\n")]
        assert all(block[-1] == "    7" and block[0] == "  recurse" and "  main" in block for block in stacks)
        assert len(stacks) == 7
        assert apart.end(signal.SIGINT).out.count(f"    calls [{target.pid}]\n    7\n") == 7
        lines = folded.end(signal.SIGINT).out.splitlines()
        assert sorted(line.count("recurse") for line in lines) == list(range(1, 8))
        assert all(re.fullmatch(r"calls;[^;]+;main(;recurse)+ 7", line) for line in lines)
        rows = [json.loads(line) for line in as_json.end(signal.SIGINT).out.splitlines()]
    assert [row["type"] for row in rows] == ["attached", *["stack"] * 7, "end"]
    assert {row["count"] for row in rows[1:-1]} == {7} and rows[1]["user_stack"][0] == "recurse"


def test_list_shows_what_may_be_asked_for(pyebpf: Callable[..., Any]) -> None:
    ran = pyebpf("list", "-v", f"{targets.compiled('calls.c')}:many")
    assert "many(a long int [di], b long int [si], " in ran.out and "h long int [sp+16]) long int [ax]" in ran.out
    ran = pyebpf("list", "-v", f"{targets.compiled('throws.cpp')}:shop::Till::add(int)")
    assert re.search(r"shop::Till::add\(this .*Till \* ?\[di\], \w+ int \[si\]\)", ran.out), ran.out
    hot = f"{targets.compiled('calls.c')}:hot"
    assert pyebpf("trace", "-l", hot).out.rstrip().endswith("hot(i long int [di]) long int [ax]")
    row = json.loads(pyebpf("list", "-v", "--json", hot).out)
    assert row["parameters"] == [{"name": "i", "type": "long int", "place": "di", "captured": False}]
    assert row["words"][0] == "di" and row["no_names"] is None


def test_list_says_once_why_there_are_no_names(pyebpf: Callable[..., Any]) -> None:
    ran = pyebpf("list", "-v", "-r", f"{targets.compiled('calls.c')}:_(init|start)$")
    assert ran.out.count("(no names; arg0 to arg5 are di si dx cx r8 r9)") > 1
    assert ran.out.count("\nno names: the debug information in ") == 1


def test_a_histogram_of_latencies_has_a_unit(attached: Attached, calls: targets.Target) -> None:
    tool = attached("argdist", f"{calls.path}:nap", "-H", "latency")
    work(calls)
    assert tool.end(signal.SIGINT).out.splitlines()[2].split() == ["latency", "(ns)", ":", "count", "distribution"]


def test_without_standard_error_standard_output_has_data_only(attached: Attached, calls: targets.Target) -> None:
    tool = attached("trace", "--json", "-n", "1", f"{calls.path}:text", "name", preexec_fn=lambda: os.close(2))
    work(calls)
    assert [json.loads(line)["type"] for line in tool.end().out.splitlines()] == ["attached", "call", "end"]


@pytest.mark.parametrize("tool", [("trace",), ("argdist", "-i", "0.1", "-C", "arg0"), ("stackcount", "-i", "0.1")])
def test_closed_pipe_ends_quietly(tool: tuple[str, ...], attached: Attached, calls: targets.Target) -> None:
    started = attached(*tool, f"{calls.path}:text")
    started.process.stdout.close()
    work(calls)
    assert started.process.wait(60) == 0
    assert "Traceback" not in started.process.stderr.read()
