# SPDX-License-Identifier: BSD-2-Clause
"""Every example of the documentation runs: the Python as a program, the command lines at least through the parser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pages
import pytest
from pages import Stage

from pyebpf.cli import completion
from pyebpf.cli.main import _GROUPS

HERE = Path(__file__).resolve().parent
TOOLS = {name for _, tools in _GROUPS for name, _, _ in tools}
FUNCTIONS = {"funccount", "funclatency", "funcslower", "trace", "argdist", "stackcount"}
SNIPPETS = list(pages.snippets())
LINES = list(dict.fromkeys(pages.lines()))
DEADLINE = 60
# Blocks that don't run, by page. A new one needs a reason there and a number here.
SKIPPED: dict[str, int] = {"docs/own-program.md": 2}


def environment() -> dict[str, str]:
    """The checkout is importable where the tests run in it."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def as_run(code: str, stage: Stage) -> str:
    """The block with this stage's processes in the place of the example's 1234, and shorter intervals."""
    pids = stage.pids
    lines = []
    for line in code.splitlines():
        who = "lookups" if "getaddrinfo" in line else "bash" if "tgid" in line else "server"
        lines.append(re.sub(r"\b1234\b", str(pids[who]), line))
    text = "\n".join(lines) + "\n"
    text = text.replace("aio.trace(...)", 'aio.trace("./server:main.(*Arith).Mul", args=["args.A"])')
    for name, most in (("every(", "0.3"), ("sleep(", "0.3"), ("timeout=", "1.5")):
        text = re.sub(rf"{re.escape(name)}[0-9.]+", name + most, text)
    return text


@pytest.fixture(scope="module")
def ran(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> dict[pages.Snippet, str]:
    """What each block had to complain about. They mostly wait, so several run at once."""
    folder = tmp_path_factory.mktemp("blocks")

    def run(snippet: pages.Snippet) -> str:
        file = folder / f"{Path(snippet.page).stem}-{snippet.line}.py"
        file.write_text(as_run(snippet.code, stage))
        done = subprocess.run(
            [sys.executable, HERE / "running.py", file, "2", str(snippet.seconds), *snippet.arguments],
            cwd=stage.folder, capture_output=True, text=True, timeout=DEADLINE, check=False, stdin=subprocess.DEVNULL,
            env={**environment(), "ENVOY": str(stage.pids["filter"])},
        )  # fmt: skip
        return "" if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"

    snippets = [snippet for snippet in SNIPPETS if not snippet.skip]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(snippets, pool.map(run, snippets)))


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: f"{snippet.page}:{snippet.line}")
def test_python_runs(snippet: pages.Snippet, ran: dict[pages.Snippet, str]) -> None:
    assert not ran.get(snippet), f"{snippet.page}:{snippet.line}\n{ran[snippet]}"


def test_skipped_blocks_are_counted() -> None:
    skipped: dict[str, int] = {}
    for snippet in SNIPPETS:
        if snippet.skip:
            skipped[snippet.page] = skipped.get(snippet.page, 0) + 1
    assert skipped == SKIPPED
    assert len(SNIPPETS) > 25, "the blocks aren't found any more"


def test_command_lines_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """The parser takes each of them."""
    wrong, parsers = [], {}
    for line in LINES:
        tool, *words = line.words
        if tool.startswith("-") or tool == "help":
            continue
        if tool not in TOOLS:
            wrong.append(f"{line.page}:{line.line}: no tool {tool}")
            continue
        if tool not in parsers:
            parsers[tool] = completion.parser_of(tool)
        try:
            if words:
                parsers[tool].parse_args(words)
        except SystemExit as end:
            complaint = capsys.readouterr().err
            # A sentence may name a command without saying what of
            if end.code and "the following arguments are required" not in complaint:
                wrong.append(f"{line.page}:{line.line}: {line.words}: {complaint.splitlines()[-1]}")
    assert not wrong, "\n".join(wrong)
    assert len(LINES) > 150 and {line.words[0] for line in LINES} >= TOOLS, "the lines aren't found any more"


def _limited(words: tuple[str, ...], stage: Stage) -> list[str]:
    """A command line of the comparison pages, limited in time, and to one process of ours where it would be all."""
    tool, pids = words[0], stage.pids
    words = tuple(word.replace("/usr/bin/envoy:", "./filter:") for word in words)  # which has functions of those names
    text = " ".join(words)
    own = "./" in text
    who = "server" if "./server" in text else "filter" if own else "bash" if "bash:" in text else "activity"
    limited = [re.sub(r"\b1234\b", str(pids[who]), word) for word in words]
    if tool in FUNCTIONS and not own and "-p" not in limited:
        limited += ["-p", str(pids[who])]
    if tool == "list":
        return limited
    if "-d" in limited:
        limited[limited.index("-d") + 1] = "0.2"
        return limited
    return [*limited, "--duration", "0.2"]


def test_one_liners_of_the_comparisons_run(stage: Stage) -> None:
    """Each command line beside bcc's or bpftrace's, for a fifth of a second."""
    compared = ("docs/from-bcc.md", "docs/from-bpftrace.md")
    lines = [line for line in LINES if line.page in compared and line.words[0] != "build"]
    commands = [list(words) for words in dict.fromkeys(tuple(_limited(line.words, stage)) for line in lines)]
    assert len(commands) > 80

    def run(words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pyebpf", *words], env=environment(), cwd=stage.folder,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        return "" if done.returncode == 0 else f"{words}: {done.returncode}: {done.stderr.strip()}"

    with ThreadPoolExecutor(4) as pool:
        wrong = list(filter(None, pool.map(run, commands)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("tool", sorted(FUNCTIONS))
def test_first_example_of_a_function_tool(tool: str, stage: Stage) -> None:
    """The one its page begins with shows something."""
    target = {"argdist": ["-C", "args.A"], "trace": ["args.A", "--ret", "reply.C"], "funcslower": ["-u", "1"]}
    words = [tool, "./server:main.(*Arith).Mul", *target.get(tool, []), "-d", "0.5", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", *words], env=environment(), cwd=stage.folder,
        capture_output=True, text=True, timeout=DEADLINE, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["type"] == "attached" and records[-1]["type"] == "end" and len(records) > 2
