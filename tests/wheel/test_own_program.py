# SPDX-License-Identifier: BSD-2-Clause
"""An embedder's program, from C to events: built here with nothing but the wheel, and shipped in a wheel of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import venvs

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own-program"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, and of bash: nobody else's shells are seen."""
    folder = tmp_path_factory.mktemp("example") / "own-program"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("*.o", "build", "*.egg-info", "__pycache__"))
    shutil.copy("/bin/bash", folder / "bash")
    return folder


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> venvs.Venv:
    """An environment that holds our wheel only."""
    venv = venvs.Venv(tmp_path_factory.mktemp("clean"), Path(sys.executable))
    venv.pip("install", wheel)
    return venv


@pytest.fixture(scope="module")
def compilers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with clang and llvm-strip in it, and nothing else."""
    folder = tmp_path_factory.mktemp("compilers")
    for name in ("clang", "llvm-strip"):
        found = next(filter(None, (shutil.which(one) for one in (name, *(f"{name}-{n}" for n in range(40, 11, -1))))))
        (folder / name).symlink_to(os.path.realpath(found) if name == "clang" else found)
    return str(folder)


def traced(command: list[str | Path], folder: Path, path: str, script: str) -> list[str]:
    """What a program prints that traces bash, while bash runs a script."""
    environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True) as tracer:  # fmt: skip
        assert tracer.stderr
        first = tracer.stderr.readline()
        if not first.startswith("Tracing"):
            tracer.kill()
            pytest.fail(first + tracer.stderr.read())
        subprocess.run([folder / "bash", "-c", script], check=True, stdout=subprocess.DEVNULL)
        try:
            out, error = tracer.communicate(timeout=60)
        finally:
            tracer.kill()
    assert tracer.returncode == 0 and error == "", error
    return out.splitlines()


SCRIPT = "for ((i = 0; i < 97; i++)); do /bin/true; done; for ((i = 0; i < 23; i++)); do /bin/echo $i; done"


def test_from_c_to_events(clean: venvs.Venv, example: Path, compilers: str) -> None:
    environment = {"PATH": compilers, "HOME": str(example), "LANG": "C.UTF-8"}
    pyebpf = clean.path / "bin" / "pyebpf"
    done = subprocess.run([pyebpf, "build", "own.bpf.c"], cwd=example, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("own.bpf.o: "), done
    lines = traced([clean.python, "own.py", "--bash", "./bash", "-n", "120"], example, "/nowhere", SCRIPT)
    rows = [line.split() for line in lines[1:-1]]
    assert lines[0].split() == ["PID", "UID", "SHELL", "WHAT", "TEXT"]
    assert [row[4] for row in rows] == ["/bin/true"] * 97 + ["/bin/echo"] * 23
    assert {tuple(row[1:4]) for row in rows} == {(str(os.getuid()), "bash", "started")}
    assert len({row[0] for row in rows}) == 120
    assert lines[-1] == f"bash of user {os.getuid()} started 120"


def test_a_constant_of_it(clean: venvs.Venv, example: Path) -> None:
    """Nobody has this number: so nothing is shown, until the program is told to end."""
    command = [clean.python, "-c", (
        "import pyebpf, subprocess\n"
        "with pyebpf.Object.open('own.bpf.o') as own:\n"
        "    own.rodata['only_uid'] = 4000000000\n"
        "    own.load()\n"
        "    own.programs['on_start'].attach_uprobe('./bash', 'shell_execve')\n"
        "    subprocess.run(['./bash', '-c', '/bin/true; /bin/true'], check=True)\n"
        "    print(list(own.ring('events').drain()), dict(own.maps['counts']))\n")]  # fmt: skip
    done = subprocess.run(command, cwd=example, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=True)
    assert done.stdout == "[] {}\n"


def test_without_a_compiler(clean: venvs.Venv, example: Path) -> None:
    done = clean.run("pyebpf", "build", example / "own.bpf.c")
    assert done.returncode == 5
    assert "clang isn't installed" in done.stderr and "apt install clang llvm libbpf-dev" in done.stderr


def test_in_a_wheel_of_its_own(clean: venvs.Venv, wheel: Path, example: Path, tmp_path: Path) -> None:
    """Built with clang by pip, which makes a fresh environment for that; run where there is none."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--find-links", wheel.parent, "--wheel-dir", tmp_path, example / "package"], check=True,
                   env=venvs.ENVIRONMENT, cwd=tmp_path)  # fmt: skip
    (made,) = tmp_path.glob("*.whl")
    assert made.name == "shells-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert shipped == {"shells/__init__.py", "shells/own.x86-64.bpf.o", "shells/own.arm64.bpf.o"}
    clean.pip("install", "--no-deps", made)
    lines = traced([clean.path / "bin" / "shells", "./bash", "97"], example, "/nowhere",
                   "for ((i = 0; i < 97; i++)); do /bin/true; done")  # fmt: skip
    assert [line.split()[1] for line in lines] == ["/bin/true"] * 97
