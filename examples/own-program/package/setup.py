# SPDX-License-Identifier: BSD-2-Clause
"""Compiles the program, once for each architecture: one wheel for all of them."""

from pathlib import Path

import setuptools
from setuptools.command.build_py import build_py

from pyebpf import build


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        for arch in build.ARCHITECTURES:
            build.compile("shells/own.bpf.c", Path(self.build_lib, f"shells/own.{arch}.bpf.o"), arch=arch)


setuptools.setup(cmdclass={"build_py": BuildPy})
