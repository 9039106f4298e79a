# SPDX-License-Identifier: BSD-2-Clause
"""Commands that show the kernel's events: what all of them have in common."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import causes
import pytest
import targets
import traffic

from pyebpf.cli import main as commands
from pyebpf.tools.tool import Tool

TOOLS = {
    name: module for group, tools in commands._GROUPS for name, _, module in tools if group in ("TCP", "system")
}  # fmt: skip
_BAD_FD = 999  # fsync of it fails: an event without a disk


def tool_of(name: str) -> Tool:
    found = importlib.import_module(f"pyebpf.{TOOLS[name]}")
    assert isinstance(found.TOOL, Tool)
    return found.TOOL


@pytest.fixture
def actor() -> Any:
    with causes.actor("events") as made:
        yield made


def sync(actor: traffic.Actor, times: int = 1) -> None:
    for _ in range(times):
        causes.syncs(actor, "fsync", _BAD_FD)


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


# What a tool says of itself


@pytest.mark.parametrize("name", TOOLS)
def test_help_lists_every_option(pyebpf: Callable[..., Any], name: str) -> None:
    tool, ran = tool_of(name), pyebpf(name, "--help")
    assert ran.code == 0 and not ran.err and ran.out.startswith(f"usage: pyebpf {name} ")
    flags = re.findall(r"(?<![\w-])--?[\w-]+", ran.out)
    for option in tool.options:
        if option.flags[0].startswith("-"):
            assert set(option.flags) <= set(flags), option
        assert option.help.split()[0] in ran.out
    for common in ("--json", "--duration", "--ready-fd"):
        assert common in flags
    for example in tool.examples:
        assert example.split("#")[0].strip() in ran.out
        assert example.startswith(f"pyebpf {name}")
    assert max(len(line) for line in ran.out.splitlines()) <= 100


@pytest.mark.parametrize("name", TOOLS)
def test_tools_describe_themselves_consistently(name: str) -> None:
    tool = tool_of(name)
    summary = next(text for _, tools in commands._GROUPS for other, text, _ in tools if other == name)
    assert tool.name == name and len(summary) < 66
    assert tool.description.endswith(".") and tool.headline and tool.kind.isidentifier()
    known = {option.name or option.flags[-1].lstrip("-") for option in tool.options}
    known |= {option.flags[-1].lstrip("-") for option in tool.options}
    for column in tool.columns:
        for condition in column.when.lstrip("!").split("|") if column.when else ():
            assert condition in known or condition.replace("_", "-") in known, column
        assert column.title == column.title.strip()
    arguments = importlib.import_module("inspect").signature(tool.verb).parameters
    assert {option.name for option in tool.options if option.name} <= set(arguments) or name in ("tcptop", "tcpsubnet")


def test_the_list_of_tools(pyebpf: Callable[..., Any]) -> None:
    out = pyebpf("--help").out
    assert len(TOOLS) == 29
    for name in TOOLS:
        assert re.search(rf"^  {name} +\S", out, re.MULTILINE)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-d", "0"], "not a number of seconds"), (["-d", "nan"], "not a number of seconds"),
        (["-d", "x"], "not a number of seconds"), (["-n", "0"], "not a whole number above 0"),
        (["-p", "-1"], ""), (["-p", "1x"], "not a whole number"), (["--ready-fd", "77"], "no such file descriptor"),
        (["--nothing"], "unrecognized"), (["word"], "unrecognized"), (["-c", " "], "the command is empty"),
        (["-c", "true", "-p", "1"], "can't be used together"), (["-u", "nobody-such"], "there is no user"),
    ],
)  # fmt: skip
def test_usage(pyebpf: Callable[..., Any], arguments: list[str], words: str) -> None:
    ran = pyebpf("syncsnoop", *arguments)
    assert ran.code == 2 and words in ran.err and "Traceback" not in ran.err and not ran.out


def test_without_capabilities(pyebpf: Callable[..., Any]) -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "pyebpf", "opensnoop", "-d", "9"],
        capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    assert done.returncode == 4 and "CAP_BPF" in done.stderr and not done.stdout, done.stderr


def test_a_command_that_is_none(pyebpf: Callable[..., Any]) -> None:
    ran = pyebpf("syncsnoop", "-c", "/nowhere/at/all")
    assert ran.code == 3 and "/nowhere/at/all" in ran.err


# Lines and their end


def test_text(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    tool = attached("syncsnoop", "-x", "-p", str(actor.pid))
    sync(actor, 23)
    ran = tool.end(signal.SIGINT)
    assert ran.code == 0 and ran.err == "Tracing calls of the sync family... Hit Ctrl-C to end.\n"
    heading, *rows = ran.out.splitlines()
    assert heading.split() == ["TIME(s)", "PID", "COMM", "FD", "ERR", "LAT(ms)", "CALL"]
    assert len(rows) == 23 and rows[0].startswith("0.000000 ")
    assert all(row.split()[1:5] == [str(actor.pid), "events", "999", "9"] for row in rows)


def test_json(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    tool = attached("syncsnoop", "--json", "-p", str(actor.pid))
    sync(actor, 23)
    ran = tool.end(signal.SIGTERM)
    begun, *events, ended = lines(ran.out)
    assert ran.code == 0
    assert begun == {"type": "attached", "tool": "syncsnoop", "pids": [actor.pid], "notes": []}
    assert ended["type"] == "end" and ended["reason"] == "signal" and not any(ended["losses"].values())
    assert {event["type"] for event in events} == {"sync"} and len(events) == 23
    assert all(event["pid"] == actor.pid and event["comm"] == "events" and event["errno"] == 9 for event in events)
    assert [event["time_ns"] for event in events] == sorted(event["time_ns"] for event in events)


def test_ends_after_so_many_events(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    tool = attached("syncsnoop", "--json", "-n", "7", "-p", str(actor.pid))
    sync(actor, 23)
    _, *events, ended = lines(tool.end().out)
    assert len(events) == 7 and ended["reason"] == "events"


def test_ends_after_its_time(pyebpf: Callable[..., Any]) -> None:
    ran = pyebpf("drsnoop", "--json", "-d", "0.05")
    *_, ended = lines(ran.out)
    assert ran.code == 0 and ended["reason"] == "duration" and ended["elapsed_s"] >= 0.05


def test_ends_with_the_command(pyebpf: Callable[..., Any]) -> None:
    script = "import os\nfor _ in range(23):\n  try: os.fsync(999)\n  except OSError: pass\n"
    script += "print(1); raise SystemExit(7)"
    ran = pyebpf("syncsnoop", "--json", "-c", f"{sys.executable} -c '{script}'")
    begun, *events, ended = lines(ran.out)  # what the command prints goes to standard error
    assert len(events) == 23 and ended["reason"] == "exit" and begun["pids"] == [events[0]["pid"]]
    assert ran.code == 0 and "exit status 7" in ran.err


def test_ends_with_the_process(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    tool = attached("syncsnoop", "-p", str(actor.pid))
    sync(actor, 2)
    actor.exit()
    ran = tool.end()
    assert ran.code == 0 and "The traced process has ended." in ran.err and len(ran.out.splitlines()) == 3


def test_by_name(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    other = traffic.Actor("another")
    try:
        tool = attached("shmsnoop", "-n", "vent")
        for one in (actor, other):
            one.act("shm", "dt", 16)
        ran = tool.end(signal.SIGINT)
        assert {row.split()[1] for row in ran.out.splitlines()[1:]} == {"events"}
    finally:
        other.kill()


def test_by_a_name_that_is_not_text(attached: Callable[..., Any]) -> None:
    """Names of processes are bytes."""
    script = "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.prctl(15, b'\\xff\\x1b\\n')\nlibc.shmdt(16)"
    tool = attached("shmsnoop", "--json", b"-n", b"\xff\x1b")
    subprocess.run([sys.executable, "-c", script], check=True)
    ran = tool.end(signal.SIGINT)
    (event,) = (line for line in lines(ran.out) if line["type"] == "shared_memory")
    assert event["comm"] == "\\xff\x1b\n"  # JSON escapes it once more


def test_control_characters_are_escaped(attached: Callable[..., Any]) -> None:
    script = "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.prctl(15, b'\\x1b[2J\\xe2\\x80\\xae\\n')\nlibc.shmdt(16)"
    tool = attached("shmsnoop", "-n", "[2J")
    subprocess.run([sys.executable, "-c", script], check=True)
    (row,) = tool.end(signal.SIGINT).out.splitlines()[1:]
    assert "\\x1b[2J\\u202e\\x0a" in row and row.isprintable()


def test_nobody_reads_any_more(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    reading, writing = os.pipe()
    tool = attached("syncsnoop", "-p", str(actor.pid), stdout=writing)
    os.close(writing)
    os.close(reading)
    sync(actor)
    ran = tool.end()
    assert ran.code == 0 and "Traceback" not in ran.err


def test_a_full_disk(attached: Callable[..., Any], actor: traffic.Actor) -> None:
    with Path("/dev/full").open("w") as full:
        tool = attached("syncsnoop", "--json", "-p", str(actor.pid), stdout=full)
        sync(actor)
        ran = tool.end()
    assert ran.code == 1 and "No space left" in ran.err and "Traceback" not in ran.err


def test_standard_error_is_closed(actor: traffic.Actor) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pyebpf", "drsnoop", "--json", "-d", "0.05"],
        stdout=subprocess.PIPE, text=True, timeout=targets.DEADLINE, preexec_fn=lambda: os.close(2),
    )  # fmt: skip
    assert ran.returncode == 0 and [line["type"] for line in lines(ran.stdout)] == ["attached", "end"]


def test_time_and_timestamp(attached: Callable[..., Any]) -> None:
    """Each on its own and both together."""
    tool = attached("mountsnoop", "-T", "-t", "-p", str(os.getpid()))
    assert tool.end(signal.SIGINT).out.startswith("TIME     TIME(s)   COMM ")


def test_a_flood_is_shown_or_counted(attached: Callable[..., Any]) -> None:
    """Many more events than a reader who is stopped can keep: what isn't shown is counted, and said."""
    number = 200_003
    script = (
        "import ctypes, sys\nlibc = ctypes.CDLL(None)\nsys.stdin.readline()\n"
        f"for _ in range({number}): libc.fsync(999)\nprint('done', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as flood:
        assert flood.stdin is not None and flood.stdout is not None
        tool = attached("syncsnoop", "--json", "-p", str(flood.pid))
        tool.process.send_signal(signal.SIGSTOP)
        print("go", file=flood.stdin, flush=True)
        assert flood.stdout.readline() == "done\n"
        tool.process.send_signal(signal.SIGCONT)
        ran = tool.end(signal.SIGINT)
        flood.communicate("\n", timeout=targets.DEADLINE)
    *_, ended = found = lines(ran.out)
    shown = sum(line["type"] == "sync" for line in found)
    assert ended["losses"]["dropped"] == number - shown > 0
    assert re.search(r"lost: [\d,]+ events not shown, as the buffer was full", ran.err)


def test_doctor_knows_what_works() -> None:
    """What it says of a tool is what the tool says, on this kernel."""
    command = [sys.executable, "-m", "pyebpf", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tools = {tool["name"]: tool for tool in json.loads(done.stdout)["tools"]}
    assert len(tools) == 29
    for name in ("tcpaccept", "capable", "tcpcong", "opensnoop"):
        ran = subprocess.run(
            [sys.executable, "-m", "pyebpf", name, "-d", "0.01"], capture_output=True, text=True,
            timeout=targets.DEADLINE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (ran.returncode == 0) == tools[name]["works"], (tools[name], ran.stderr)
        if tools[name]["reason"] and tools[name]["works"]:
            assert "note: " in ran.stderr
