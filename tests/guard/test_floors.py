# SPDX-License-Identifier: BSD-2-Clause
"""The architecture, held: imports go one way, and each rule of the house that a machine can check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("errors", "binary", "core", "build", "target", "tools", "aio", "output", "export", "cli")
MODULES = {"errors", "build", "aio"}  # floors of one file
SOURCES = sorted(path for path in (ROOT / "pyebpf").rglob("*.py") if path.name != "_libbpf.py")


def floor_of(parts: tuple[str, ...]) -> int | None:
    """The floor of a module path below pyebpf; None for the package itself and __main__."""
    return FLOORS.index(parts[0]) if parts and parts[0] in FLOORS else None


def imported_modules(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Line and path below pyebpf of everything a module imports from pyebpf."""
    here = path.relative_to(ROOT).with_suffix("").parts
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]
        else:
            continue
        found += [(node.lineno, name[1:]) for name in names if name and name[0] == "pyebpf"]
    return found


def test_every_folder_has_its_floor() -> None:
    folders = {path.name for path in (ROOT / "pyebpf").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert folders == set(FLOORS) - MODULES


# __init__ and __main__, the package's front doors, may import everything.
@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.parent != ROOT / "pyebpf" or path.stem in MODULES],
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_imports_go_down(path: Path) -> None:
    mine = floor_of(path.relative_to(ROOT / "pyebpf").with_suffix("").parts)
    assert mine is not None
    upwards = [
        f"line {line}: {'.'.join(target)}"
        for line, target in imported_modules(path)
        if (floor := floor_of(target)) is not None and floor > mine
    ]
    assert not upwards


def test_only_the_command_prints() -> None:
    guilty = []
    for path in SOURCES:
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "exit"):
                guilty.append(f"{path}:{node.lineno}")
    assert not guilty


def test_one_door_to_libbpf() -> None:
    importers = {path.name for path in SOURCES if re.search(r"import _libbpf|_libbpf import", path.read_text())}
    assert importers == {"libbpf.py"}


def test_no_cffi_callback() -> None:
    """ffi.callback needs writable-executable memory, which hardened services forbid."""
    assert not [path for path in SOURCES if re.search(r"ffi\.callback\(|def_extern", path.read_text())]


def test_every_source_names_its_licence() -> None:
    patterns = ("pyebpf/**/*.py", "tests/**/*.py", "benchmarks/**/*.py", "*.py", "bpf/**/*.[ch]", "vmlinux/**/*.h",
                "examples/**/*.c", "examples/**/*.cpp", "examples/**/*.go", "examples/**/*.rs")  # fmt: skip
    files = [path for pattern in patterns for path in ROOT.glob(pattern) if path.name != "_libbpf.py"]
    assert len(files) > 60
    missing = [str(path.relative_to(ROOT)) for path in files
               if "SPDX-License-Identifier:" not in path.read_text()[:300]]  # fmt: skip
    assert not missing


def test_kernel_side_licence() -> None:
    for path in [*(ROOT / "bpf").rglob("*.[ch]"), *(ROOT / "vmlinux").rglob("*.h")]:
        assert "GPL-2.0-only OR BSD-2-Clause" in path.read_text()[:200], path
