# SPDX-License-Identifier: BSD-2-Clause
"""Fresh virtual environments, for every Python of this machine.

Use::

    for version, interpreter in venvs.interpreters().items():
        venv = venvs.Venv(tmp_path / "venv", interpreter)
        venv.pip("install", wheel)
        print(venv.output("pyebpf", "--help"))
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 9)

# What this process runs in must not reach the environments that are made here. pip's settings stay.
ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(("PYTHON", "PYEBPF_", "VIRTUAL_ENV", "__PYVENV"))
}


@functools.cache
def interpreters() -> dict[tuple[int, ...], Path]:
    """One CPython of each minor version from 3.9 on, the running one first: version -> executable."""
    candidates = [Path(sys.executable), *sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidates += sorted(path for path in Path(folder).glob("python3.*") if path.name[8:].isdigit())
    found: dict[tuple[int, ...], Path] = {}
    minors = set()
    for candidate in candidates:
        # A version manager's stand-in fails for a version that isn't there, Debian's Python without its venv package
        question = "import ensurepip, sys, venv; print(sys.implementation.name, *sys.version_info[:3])"
        done = subprocess.run([candidate, "-Ic", question], capture_output=True, text=True, check=False)
        name, *numbers = done.stdout.split() or [""]
        version = tuple(map(int, numbers))
        if name == "cpython" and version >= OLDEST and version[:2] not in minors:
            minors.add(version[:2])
            found[version] = candidate
    return found


class Venv:
    """A fresh virtual environment.

    Attributes:
        path: where it is.
        python: its interpreter.
    """

    def __init__(self, path: Path, interpreter: Path) -> None:
        subprocess.run([interpreter, "-m", "venv", path], check=True, env=ENVIRONMENT)
        self.path = path
        self.python = path / "bin" / "python"

    def pip(self, *arguments: str | Path) -> str:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=self.path, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command of this environment where there is nothing else: no compiler, no settings, no checkout."""
        empty = self.path / "empty"
        empty.mkdir(exist_ok=True)
        environment = {"PATH": f"{empty}:{self.path / 'bin'}", "HOME": str(empty), "LANG": "C.UTF-8"}
        return subprocess.run(
            [self.path / "bin" / command[0], *command[1:]], cwd=empty, env=environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=120, check=False,
        )  # fmt: skip

    def output(self, *command: str | Path) -> str:
        """The standard output of a command that must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def files(self) -> dict[str, int]:
        """Every file in it and its size."""
        return {
            str(path.relative_to(self.path)): path.stat().st_size for path in self.path.rglob("*") if path.is_file()
        }
