# SPDX-License-Identifier: BSD-2-Clause
"""What a user gets: the wheel's content, and the wheel installed for every Python here, without a compiler."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import targets
import venvs

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.name[: -len(".bpf.c")] for path in (ROOT / "bpf").rglob("*.bpf.c"))
ARCHITECTURES = ("x86-64", "arm64")
OBJECT = re.compile(r"pyebpf/objects/(any|x86-64|arm64)/(.+)\.bpf\.o\.gz")
HEADERS = {f"pyebpf/include/{path.relative_to(top)}" for top in (ROOT / "vmlinux", ROOT / "bpf" / "public")
           for path in top.rglob("*.h")}  # fmt: skip
BINDING = "pyebpf/core/_libbpf.py"
COMPILERS = ("clang", "gcc", "cc", "c++", "g++", "tcc", "llc", "llvm-strip", "ld", "as", "go", "rustc")


def contents(wheel: Path) -> dict[str, bytes]:
    """The package's files in a wheel, without its metadata and manual pages."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not re.search(r"\.(dist-info|data)/", name)}


def metadata(wheel: Path, name: str) -> Any:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return email.message_from_bytes(archive.read(path))


# --- the archives


def test_one_wheel_for_every_python_and_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    tags = metadata(wheel, "WHEEL")
    assert (tags["Root-Is-Purelib"], tags.get_all("Tag")) == ("true", ["py3-none-any"])


def test_holds_the_package_and_nothing_else(wheel: Path) -> None:
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "pyebpf").rglob("*.py")}
    files = contents(wheel)
    objects = {name for name in files if OBJECT.fullmatch(name)}
    assert set(files) == sources | {BINDING, "pyebpf/py.typed"} | HEADERS | objects


def test_each_program_is_there_for_each_architecture(wheel: Path) -> None:
    """Once, where it is the same for both."""
    files = contents(wheel)
    found: dict[str, set[str]] = {}
    for name in files:
        if match := OBJECT.fullmatch(name):
            found.setdefault(match[2], set()).add(match[1])
    assert sorted(found) == PROGRAMS and len(PROGRAMS) > 30
    for name, folders in found.items():
        assert folders in ({"any"}, set(ARCHITECTURES)), name
        images = {files[f"pyebpf/objects/{folder}/{name}.bpf.o.gz"] for folder in folders}
        assert len(images) == len(folders), f"{name} is the same for both"


def test_what_shells_look_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        data = {name.partition(".data/data/")[2]: archive.read(name) for name in archive.namelist()}
    for path in ("bash-completion/completions/pyebpf", "zsh/site-functions/_pyebpf",
                 "fish/vendor_completions.d/pyebpf.fish"):  # fmt: skip
        assert b"funccount" in data[f"share/{path}"] and b"max-probes" in data[f"share/{path}"]
    assert len([name for name in data if name.startswith("share/man/man1/pyebpf")]) > 30


def test_what_it_says_about_itself(wheel: Path) -> None:
    about = metadata(wheel, "METADATA")
    assert about["Name"] == "pyebpf-toolkit" and wheel.name == f"pyebpf_toolkit-{about['Version']}-py3-none-any.whl"
    assert about["License-Expression"] == "BSD-2-Clause AND (GPL-2.0-only OR BSD-2-Clause)"
    licences = ["LICENSE", "LICENSES/BSD-2-Clause.txt", "LICENSES/GPL-2.0-only.txt"]
    assert sorted(about.get_all("License-File")) == licences
    assert about["Requires-Python"] == ">=3.9"
    needed = about.get_all("Requires-Dist")
    assert [one for one in needed if "extra ==" not in one] == ["cffi>=1.15.1"]
    extras = {name: " ".join(one for one in needed if re.search(f"extra == ['\"]{name}", one))
              for name in about.get_all("Provides-Extra")}  # fmt: skip
    assert set(extras) == {"prometheus", "otlp", "agent"}
    assert "prometheus-client" in extras["prometheus"] and "prometheus-client" in extras["agent"]
    assert "opentelemetry-sdk" in extras["otlp"] and "opentelemetry-exporter-otlp-proto-http" in extras["otlp"]
    assert re.search(r"tomli[^;]*;.*python_version < ['\"]3\.11", extras["agent"])
    with zipfile.ZipFile(wheel) as archive:
        for path in licences:
            (stored,) = (name for name in archive.namelist() if name.endswith(f".dist-info/licenses/{path}"))
            assert archive.read(stored) == (ROOT / path).read_bytes()


def test_what_was_made_here_names_no_place_here(wheel: Path) -> None:
    files = contents(wheel)
    places = {str(ROOT), str(Path.home()), "/root", "/home", "/tmp", "/build"}
    for name in (BINDING, *filter(OBJECT.fullmatch, files)):
        assert files[name], name
        assert not [place for place in places if place.encode() in files[name]], name


def test_sdist_holds_the_sources_and_nothing_made(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(entry.name).parts[1:])) for entry in archive if entry.isfile()}
    for pattern in ("*.py", "bpf/**/*.[ch]", "vmlinux/**/*", "pyebpf/**/*.py", "LICENSES/*", ".ci/*", "docs/*.md",
                    "tests/programs/**/*.[ch]", "tests/**/*.go", "examples/**/*.go"):  # fmt: skip
        wanted = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file()} - {BINDING}
        assert wanted and wanted <= names, pattern
    assert {"Makefile", "MANIFEST.in", "README.md", "pyproject.toml", "pyebpf/py.typed"} <= names
    assert "pyebpf/core/libbpf.cdef.h" in names
    assert not [name for name in names if re.search(r"\.py[co]$|\.o$|__pycache__|_libbpf\.py$", name)]
    with tarfile.open(sdist) as archive:
        programs = [entry.name for entry in archive
                    if (member := archive.extractfile(entry)) and member.read(4) == b"\x7fELF"]  # fmt: skip
    assert not [name for name in programs if "/tests/fuzz/corpus/" not in name]


def test_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """pip makes a fresh environment with the latest of what building needs; here clang must be on PATH."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", tmp_path, sdist], check=True, env=venvs.ENVIRONMENT, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    first, second = contents(wheel), contents(again)
    assert again.name == wheel.name and set(first) == set(second)
    assert not [name for name in first if name != BINDING and first[name] != second[name]]


# --- installed


def test_needs_nothing_but_cffi(installed: venvs.Venv) -> None:
    packages = {package["name"].lower() for package in json.loads(installed.pip("list", "--format=json"))}
    assert packages - {"pip", "setuptools"} == {"pyebpf-toolkit", "cffi", "pycparser"}  # cffi asks for pycparser


def test_size(installed: venvs.Venv) -> None:
    """Without the byte code, which is Python's cache and differs from version to version."""
    sizes = {name: size for name, size in installed.files().items() if "/site-packages/pyebpf" in name}
    assert 300_000 < sum(size for name, size in sizes.items() if not name.endswith(".pyc")) < 2_200_000
    assert sum(size for name, size in sizes.items() if "/objects/" in name) < 300_000


def test_the_command(installed: venvs.Venv) -> None:
    usage = installed.output("pyebpf", "--help")
    assert all(tool in usage for tool in ("funccount", "funclatency", "funcslower"))
    assert installed.output("python", "-m", "pyebpf", "--help") == usage
    assert re.fullmatch(r"pyebpf \d+\.\d+\.\d+\n", installed.output("pyebpf", "--version"))


def test_doctor(installed: venvs.Venv) -> None:
    assert "The function tools work here" in installed.output("pyebpf", "doctor")
    facts = json.loads(installed.output("python", "-Im", "pyebpf", "doctor", "--json"))
    assert facts["works"] is True and facts["python"] in installed.output("python", "-V")


def test_import_is_light_and_warns_of_nothing(installed: venvs.Venv) -> None:
    question = "import sys; before = set(sys.modules); import pyebpf; print(*set(sys.modules) - before)"
    modules = installed.output("python", "-I", "-W", "error", "-c", question).split()
    ours = {name for name in modules if name.startswith("pyebpf")}
    assert ours == {"pyebpf"}
    assert len(modules) <= 30  # it is typing that brings them, if Python hasn't already
    assert not {"cffi", "_cffi_backend", "pycparser", "ctypes", "argparse", "json", "asyncio", "subprocess",
                "dataclasses", "inspect", "logging", "pathlib", "shutil"} & set(modules)  # fmt: skip


EMBEDDED = """
import sys
import pyebpf
from pyebpf.target.command import Command
with Command([sys.argv[1], "-n", "97", "hot"]) as command, pyebpf.count(":hot", command=command) as counts:
    command.release()
    command.wait()
    print(counts.snapshot()["hot"])
print(*sys.modules)
"""


def test_of_cffi_only_the_backend_is_imported(installed: venvs.Venv) -> None:
    program = targets.compiled("calls.c")
    lines = installed.output("python", "-I", "-W", "error", "-c", EMBEDDED, program).splitlines()
    calls, modules = lines[-2:]  # before them the program's own
    assert calls == "97"
    assert "_cffi_backend" in modules.split()
    assert not {"cffi", "pycparser", "ctypes", "argparse", "json", "asyncio"} & set(modules.split())


def trace(venv: venvs.Venv, *command: str | Path) -> None:
    """All three tools, each on calls of its own target. ``command`` runs pyebpf."""
    calls = f"{targets.compiled('calls.c')} -n 97 hot"
    results = {}
    for tool, options in (("funccount", ()), ("funclatency", ()), ("funcslower", ("-u", "0"))):
        output = venv.output(*command, tool, "--json", *options, "-c", calls, ":hot")
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        results[tool] = [line for line in lines if line.get("type") in ("counts", "histogram", "call")]
    ((count,),) = (line["counts"] for line in results["funccount"])
    (histogram,) = results["funclatency"]
    assert (count["function"], count["count"], histogram["count"], len(results["funcslower"])) == ("hot", 97, 97, 97)


def test_tools_without_a_compiler(installed: venvs.Venv) -> None:
    question = "import shutil, sys; print([name for name in sys.argv[1:] if shutil.which(name)])"
    assert installed.output("python", "-c", question, *COMPILERS).strip() == "[]"
    trace(installed, "pyebpf")


HARDENED = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(65, 1, 0, 0, 0) == 0, "PR_SET_MDWE: Linux 6.3 and newer have it"
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    sys.exit("memory can still be made writable and executable")
from pyebpf.cli.main import entry
entry()
"""


@pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 3), reason="PR_SET_MDWE is of Linux 6.3"
)
def test_tools_without_executable_memory(installed: venvs.Venv) -> None:
    """As under systemd's MemoryDenyWriteExecute=yes."""
    trace(installed, "python", "-c", HARDENED)


def of_python(*versions: tuple[int, int]) -> pytest.MarkDecorator:
    """Those of these versions that are here."""
    found = {version: path for version, path in venvs.interpreters().items() if version[:2] in versions}
    ids = [".".join(map(str, version)) for version in found]
    return pytest.mark.parametrize("interpreter", found.values(), ids=ids)


@of_python((3, 9), (3, 10), (3, 11))  # there is no wheel of it for newer ones
def test_oldest_cffi(interpreter: Path, wheel: Path, tmp_path: Path) -> None:
    """The floor that the metadata promise."""
    venv = venvs.Venv(tmp_path / "venv", interpreter)
    venv.pip("install", "--only-binary=:all:", "cffi==1.15.1", wheel)
    assert "cffi==1.15.1" in venv.pip("freeze").splitlines()
    trace(venv, "pyebpf")


@of_python(sys.version_info[:2])
def test_uninstalling_leaves_nothing(interpreter: Path, wheel: Path, tmp_path: Path) -> None:
    venv = venvs.Venv(tmp_path / "venv", interpreter)
    venv.pip("install", "cffi")
    before = set(venv.files())
    venv.pip("install", "--no-deps", wheel)
    trace(venv, "pyebpf")
    assert "bin/pyebpf" in venv.files()
    venv.pip("uninstall", "--yes", "pyebpf-toolkit")
    assert set(venv.files()) == before
