#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Compilers for a guest of another architecture: there a door by each compiler's name, here what compiles for it.

An emulated machine takes minutes for what a cross-compiler does in a second, and tests build what they trace as
they run. So in the guest ``gcc``, ``clang``, ``go`` … are this file: it puts the command and the files it names into a
folder that both machines see, waits for the answer, and puts the output where it was asked for. The host answers::

    with crossbuild.served(folder, cache):   # while the guest runs, with PYEBPF_CROSSBUILD=folder
        ...

The sources of ``tests/programs`` are the host's own, as both have the project at the same path. What was built once
comes from the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
DOORS = ("gcc", "g++", "clang", "clang++", "rustc", "go")
SHARE = "PYEBPF_CROSSBUILD"  # the environment variable that names the folder, in the guest
DEADLINE = 1200  # seconds for one program: a Go version's library may have to be compiled first
_PASSED_ON = ("GO", "CGO_")  # beginnings of the environment variables that change what a compiler makes
_TRIPLE = "aarch64-linux-gnu"


# --- in the guest -----------------------------------------------------------------------------------------------------
def door(arguments: Sequence[str]) -> int:
    """Lets the host run a command line; returns its exit code."""
    share, here = Path(os.environ[SHARE]), Path.cwd()
    number = f"{os.getpid()}-{time.monotonic_ns()}"
    asked = share / f"{number}.new"
    asked.mkdir()
    outputs = [here / after for word, after in zip(arguments, arguments[1:]) if word == "-o"]
    named = [path for path in (here / word for word in arguments[1:]) if path.exists() and path not in outputs]
    for path in {here, *named}:
        if not path.is_relative_to(PROJECT) and path != Path("/"):
            copy = asked / "files" / path.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copy, dirs_exist_ok=True, ignore=lambda *_: [])
            elif not copy.exists():
                shutil.copyfile(path, copy)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    request = {"command": [*arguments], "folder": str(here), "environment": environment}
    (asked / "request.json").write_text(json.dumps(request))
    asked.rename(share / f"{number}.request")
    answer = share / f"{number}.answer"
    end = time.monotonic() + DEADLINE
    while not answer.exists():
        if time.monotonic() > end:
            sys.exit(f"{arguments[0]}: the host gives no answer")
        time.sleep(0.05)
    told = json.loads((answer / "answer.json").read_text())
    sys.stdout.write(told["stdout"])
    sys.stderr.write(told["stderr"])
    for path in outputs:
        if (answer / "output").exists():
            shutil.copyfile(answer / "output", path)
            path.chmod(0o755)
    shutil.rmtree(answer, ignore_errors=True)
    return int(told["code"])


# --- on the host ------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def served(share: Path, cache: Path) -> Iterator[None]:
    """Answers what the guest asks for in a folder; keeps what was built in another."""
    cache.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()
    sources = _digest(PROJECT / "tests" / "programs")

    def serve() -> None:
        while not ended.wait(0.02):
            for request in sorted(share.glob("*.request")):
                _answer(request, cache, sources)

    thread = threading.Thread(target=serve, name="crossbuild")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _answer(request: Path, cache: Path, sources: str) -> None:
    asked = (request / "request.json").read_text()
    files = request / "files"
    told = json.loads(asked)
    made = cache / hashlib.sha256(repr((_nameless(told), sources, _digest(files))).encode()).hexdigest()[:24]
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as scratch:
            new = Path(scratch) / "made"
            new.mkdir()
            try:
                code = _build(told, files, new)
            except (OSError, subprocess.SubprocessError) as error:
                code = 1
                (new / "answer.json").write_text(json.dumps({"code": code, "stdout": "", "stderr": f"{error}\n"}))
            if code == 0:
                with contextlib.suppress(OSError):  # another has built the same meanwhile
                    new.rename(made)
            else:
                made = shutil.copytree(new, request / "made")
    shutil.copytree(made, request, dirs_exist_ok=True)
    request.rename(request.with_suffix(".answer"))


def _nameless(told: dict[str, object]) -> str:
    """A request without the names of temporary folders, which differ each time."""
    text, folder = json.dumps(told), str(told["folder"])
    return text.replace(folder, "FOLDER") if folder.startswith("/tmp/") else text


def _build(told: dict[str, object], files: Path, to: Path) -> int:
    def here(path: str) -> str:
        """Where what the guest calls so lies on the host."""
        shipped = files / path.lstrip("/")
        return str(shipped) if path.startswith("/") and shipped.exists() else path

    command, folder = [*told["command"]], str(told["folder"])  # type: ignore[misc]
    for index, word in enumerate(command):
        command[index] = str(to / "output") if index and command[index - 1] == "-o" else here(word) if index else word
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PASSED_ON)}
    environment.update(told["environment"])  # type: ignore[call-overload]
    done = subprocess.run(
        ["nice", "-n", "5", *_cross(command, environment)], cwd=here(folder), env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    answer = {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    (to / "answer.json").write_text(json.dumps(answer))
    return done.returncode


def _cross(command: list[str], environment: dict[str, str]) -> list[str]:
    """The command that makes here what it would make in the guest."""
    compiler, arguments = Path(command[0]).name, command[1:]
    if compiler in ("gcc", "g++"):
        return [f"{_TRIPLE}-{compiler}", *arguments]
    if compiler in ("clang", "clang++"):
        own = [] if "-target" in arguments or "--version" in arguments else [f"--target={_TRIPLE}"]
        headers = {f"-I/usr/include/{_TRIPLE}": f"-I/usr/{_TRIPLE}/include"}  # of the C library, the kernel's with them
        return [compiler, *own, *(headers.get(word, word) for word in arguments)]
    if compiler == "rustc":
        linker = ["-C", f"linker={_TRIPLE}-gcc"]
        return ["rustc", "--target", "aarch64-unknown-linux-gnu", *linker, *arguments]
    environment.update(GOARCH="arm64", CC=f"{_TRIPLE}-gcc")
    return [command[0] if Path(command[0]).exists() else "go", *arguments]  # a version's own, or the machine's


def _digest(folder: Path) -> str:
    """Of all that lies below a folder: names and contents."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(repr((str(path.relative_to(folder)), path.read_bytes())).encode())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(door(sys.argv))
