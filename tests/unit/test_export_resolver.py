# SPDX-License-Identifier: BSD-2-Clause
"""The process that reads programs for the agent: it may fail in any way, and the agent hears why and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import targets

from pyebpf.errors import Error, TargetNotFound
from pyebpf.export import resolver
from pyebpf.export.resolver import Question, ask

MALLOC = Question(("c:malloc",), (), False, False, 10, False)


def child_does(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Has the process do something else instead of resolving."""
    instead = f"resolver._answer = lambda question: {what}; resolver.serve()"
    monkeypatch.setattr(resolver, "_CHILD", resolver._CHILD.replace("resolver.serve()", instead))


def test_what_is_there_and_what_is_not() -> None:
    path = targets.compiled("calls.c")
    answer = ask(MALLOC._replace(targets=(f"{path}:hot", f"{path}:cold_is_not_here")))
    assert [probe.function.name for probe in answer.resolution.probes] == ["hot"]
    assert len(answer.missing) == 1 and "cold_is_not_here" in answer.missing[0]
    with pytest.raises(TargetNotFound, match="cold_is_not_here"):
        ask(MALLOC._replace(targets=(f"{path}:cold_is_not_here",)))


@pytest.mark.parametrize(
    "what, told",
    [
        ("1 / 0", "a fault in pyebpf: ZeroDivisionError"),
        ("__import__('os')._exit(3)", "ended with 3"),
        ("__import__('os').kill(__import__('os').getpid(), 7)", "died of signal 7"),  # SIGBUS: the file was cut short
        ("bytearray(3 << 30)", "takes more than 2 GiB of memory"),
    ],
)
def test_it_fails(monkeypatch: pytest.MonkeyPatch, what: str, told: str) -> None:
    child_does(monkeypatch, what)
    with pytest.raises(Error, match=told):
        ask(MALLOC)


def test_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    child_does(monkeypatch, "__import__('time').sleep(600)")
    monkeypatch.setattr(resolver, "_SECONDS", 1)
    with pytest.raises(Error, match="c:malloc took more than 1 s and was given up"):
        ask(MALLOC)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # nothing is left of it


def test_it_does_not_outlive_who_asked() -> None:
    """Nor does it inherit more than its three descriptors; where memory is short, it is the one to go."""
    code = (
        "from pyebpf.export import resolver as r\n"
        "hang = 'resolver._answer = lambda q: print(\"up\", file=sys.stderr) or __import__(\"time\").sleep(600)'\n"
        "r._CHILD = r._CHILD.replace('resolver.serve()', hang + '; resolver.serve()')\n"
        "r.subprocess.DEVNULL = None\n"  # its standard error is ours
        "r.ask(r.Question(('c:malloc',), (), False, False, 10, False))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    with parent:
        assert parent.stderr is not None and parent.stderr.readline() == "up\n"
        with open(f"/proc/{parent.pid}/task/{parent.pid}/children") as file:
            (child,) = file.read().split()
        assert sorted(os.listdir(f"/proc/{child}/fd")) == ["0", "1", "2"]
        with open(f"/proc/{child}/oom_score_adj") as file:
            assert file.read() == "1000\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stderr.read() == "", "it ends: nobody holds the other end any more"
