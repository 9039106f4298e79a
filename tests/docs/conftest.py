# SPDX-License-Identifier: BSD-2-Clause
"""A folder as the documentation's examples have it: ./server, ./filter, mine.bpf.o, and everything running."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pages
import pytest
import toolchains
from pages import Stage

from pyebpf import build

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples"


def _build(folder: Path) -> None:
    """Compiles what is traced, as examples/build does, and the embedder's own objects."""
    # own.bpf.c is the one in the text, alone and in the package that it becomes
    own = next(text for _, language, _, text in pages.blocks(pages.DOCS / "own-program.md") if language == "c")
    (folder / "shells").mkdir()
    for file in ("own.bpf.c", "shells/own.bpf.c", "shells/__init__.py"):
        (folder / file).write_text(own if file.endswith(".c") else "")
    go = toolchains.go("local")
    (folder / "examples" / "c").mkdir(parents=True)
    # The program that docs/own-program.md explains, as it stands there.
    own = next(text for _, language, _, text in pages.blocks(pages.DOCS / "own-program.md") if language == "c")
    (folder / "own.bpf.c").write_text(own)
    commands: list[tuple[list[Any], dict[str, str]]] = [
        ([EXAMPLES / "rpcx" / "build"], {"GO": str(go.path), "GOROOT": str(go.root), "OUT": str(folder)}),
        (["gcc", "-g", "-O2", "-fno-omit-frame-pointer", "-o", folder / "examples/c/shop", EXAMPLES / "c/shop.c"], {}),
        (["g++", "-std=c++17", "-g", "-O2", "-fno-omit-frame-pointer", "-o", folder / "filter",
          EXAMPLES / "cpp/filter.cpp"], {}),
        ([sys.executable, "-m", "pyebpf", "build", "-o", folder / "mine.bpf.o", HERE / "mine.bpf.c"], {}),
        ([sys.executable, "-m", "pyebpf", "build", folder / "own.bpf.c"], {}),
        ([sys.executable, "-m", "pyebpf", "build", folder / "own.bpf.c"], {}),
        ([sys.executable, "-m", "pyebpf", "build", "-o", folder / f"shells/own.{build.host()}.bpf.o",
          folder / "own.bpf.c"], {}),
    ]  # fmt: skip
    for command, environment in commands:
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        assert not done.returncode, f"{command}: {done.stderr}{done.stdout}"


@pytest.fixture(scope="module")  # its processes are nobody else's children
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """What the examples trace, running. It ends with the tests."""
    assert os.geteuid() == 0, "the examples load eBPF programs and need root"
    folder = tmp_path_factory.mktemp("docs")
    folder.chmod(0o755)
    _build(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with ExitStack() as running:

        def start(*command: str | Path, said: bool = False, **options: Any) -> int:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE if said else subprocess.DEVNULL}
            process = subprocess.Popen(
                [str(word) for word in command], cwd=folder, stderr=subprocess.DEVNULL, **{**streams, **options}
            )
            running.callback(process.wait)
            running.callback(process.kill)
            if said:
                assert process.stdout and process.stdout.readline(), command
            return process.pid

        pids = {"server": start("./server", "-addr", address)}
        host, _, port = address.partition(":")
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
        start("./client", "-addr", address, "-interval", "10ms")
        pids["filter"] = start("./filter", "0")
        pids["shop"] = start("examples/c/shop", "0")
        pids["activity"] = start(sys.executable, HERE / "activity.py", said=True)
        # unshare(1) replaces itself by what it starts
        pids["lookups"] = start("unshare", "--net", "--mount", sys.executable, HERE / "lookups.py", said=True)
        ours, theirs = pty.openpty()
        running.callback(os.close, ours)
        pids["bash"] = start(
            "bash", "--norc", "-i", stdin=theirs, stdout=theirs, start_new_session=True,
            env={**os.environ, "HISTFILE": "/dev/null", "PS1": "$ "},
        )  # fmt: skip
        os.close(theirs)
        ended = threading.Event()

        def type_commands() -> None:
            while not ended.wait(0.05):
                os.write(ours, b"true\n")

        def read_answers() -> None:
            try:
                while os.read(ours, 4096):
                    pass
            except OSError:
                pass

        threads = [threading.Thread(target=type_commands), threading.Thread(target=read_answers, daemon=True)]
        for thread in threads:
            thread.start()
        running.callback(threads[0].join)
        running.callback(ended.set)
        yield Stage(folder, pids)
