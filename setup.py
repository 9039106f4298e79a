# SPDX-License-Identifier: BSD-2-Clause
"""Packaging. The metadata is in pyproject.toml; here is what it can't say: the licence, and the generated parts."""

from __future__ import annotations

import gzip
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import setuptools
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # setup.py is not always run from here

from build import compile_objects, copy_headers, explained, ffibuilder  # noqa: E402
from pyebpf.errors import Error  # noqa: E402

LICENSE = "BSD-2-Clause AND (GPL-2.0-only OR BSD-2-Clause)"
LICENSE_FILES = ["LICENSE", "LICENSES/*.txt"]


class BuildPy(build_py):
    """Puts the cffi binding and the eBPF objects beside the Python sources."""

    def run(self) -> None:
        super().run()
        package = self._package()
        ffibuilder.emit_python_code(str(package / "core" / "_libbpf.py"))
        try:
            self._made = compile_objects(package / "objects")
        except Error as error:
            raise SystemExit(f"error: {explained(error)}") from error
        if not getattr(self, "editable_mode", False):
            self._made += copy_headers(package / "include")
            self.distribution.data_files = [("share/man/man1", self._manual()), *self._completions()]

    def _manual(self) -> list[str]:
        """The manual pages, compressed, the same bytes each time."""
        spec = spec_from_file_location("manual", ROOT / "docs" / "man.py")
        assert spec and spec.loader
        manual = module_from_spec(spec)
        spec.loader.exec_module(manual)
        folder = Path(self.build_lib).parent / "man"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in manual.pages().items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        return sorted(map(str, folder.glob("*.gz")))

    def _completions(self) -> list[tuple[str, list[str]]]:
        """The shells' completions, each where its shell looks."""
        from pyebpf.cli.completion import SHELLS

        placed = []
        for script, path in SHELLS.values():
            target = Path(self.build_lib).parent / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(script())
            placed.append((str(Path(path).parent), [str(target)]))
        return placed

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        made = [self._package() / "core" / "_libbpf.py", *getattr(self, "_made", [])]
        return [*super().get_outputs(include_bytecode), *map(str, made)]

    def _package(self) -> Path:
        """Where they go; an editable installation is used where it lies."""
        return (ROOT if getattr(self, "editable_mode", False) else Path(self.build_lib)) / "pyebpf"


def licence() -> dict[str, object]:
    """The licence as this setuptools takes it: pyproject.toml can't hold a form that all of them accept."""
    if int(setuptools.__version__.split(".")[0]) >= 77:  # PEP 639
        return {"license_expression": LICENSE, "license_files": LICENSE_FILES}
    return {"license": LICENSE, "license_files": LICENSE_FILES}


setuptools.setup(cmdclass={"build_py": BuildPy}, **licence())
