# SPDX-License-Identifier: BSD-2-Clause
"""Packaging. The metadata is in pyproject.toml; here is what it can't say: how the generated parts get in."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # setup.py is not always run from here

from build import BuildError, compile_objects, ffibuilder  # noqa: E402


class BuildPy(build_py):
    """Puts the cffi binding and the eBPF objects beside the Python sources."""

    def run(self) -> None:
        super().run()
        package = Path(self.build_lib) / "pyebpf"
        ffibuilder.emit_python_code(str(package / "core" / "_libbpf.py"))
        try:
            self._objects = compile_objects(package / "objects")
        except BuildError as error:
            raise SystemExit(f"error: {error}") from error

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        package = Path(self.build_lib) / "pyebpf"
        made = [package / "core" / "_libbpf.py", *getattr(self, "_objects", [])]
        return [*super().get_outputs(include_bytecode), *map(str, made)]


setup(cmdclass={"build_py": BuildPy})
