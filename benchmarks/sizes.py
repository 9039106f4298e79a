# SPDX-License-Identifier: BSD-2-Clause
"""How much disk a tool takes."""

from __future__ import annotations

import os
import re
import subprocess
from typing import NamedTuple

from contestants import Contestant

# What every system has
_COMMON = re.compile(r"/(ld-linux|ld-musl|libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+)[-.]")


class Size(NamedTuple):
    """MB of disk.

    Attributes:
        own: the tool's files.
        libraries: shared libraries it loads, without the C and C++ run-time.
    """

    own: float
    libraries: float


def size(tool: Contestant) -> Size:
    """The size of an installed tool. Of pyebpf: the package, cffi and its dependency, not the Python interpreter."""
    if tool.family == "pyebpf":
        with open(tool.command[0], encoding="utf-8") as script:
            python = script.readline()[2:].strip()
        code = (
            "import importlib.metadata as m, _cffi_backend, os\n"
            "for d in ('pyebpf-toolkit', 'cffi', 'pycparser'):\n"
            "    try: files = m.files(d) or ()\n"
            "    except m.PackageNotFoundError: files = ()\n"
            "    for f in files: print(os.path.realpath(f.locate()))\n"
        )
        files = set(_lines([python, "-c", code]))
        # libbpf is opened at run time
        script_libraries = (
            "from pyebpf.core import libbpf\nlibbpf.lib()\n"
            "print(*{l.split(maxsplit=5)[5].strip() for l in open('/proc/self/maps') if '.so' in l}, sep='\\n')"
        )
        loaded = set(_lines([python, "-c", script_libraries]))
        loaded = {path for path in loaded if re.search(r"/lib(bpf|elf|z|zstd|lzma|bz2)\.so|/lib(bpf|elf|z)-", path)}
        return Size(_megabytes(files), _megabytes(loaded))
    environment = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}
    lines = _lines(list(tool.command), environment)
    found = {match.group(1) for line in lines for match in [re.search(r"=> (/\S+)", line)] if match}
    return Size(_megabytes({tool.command[-1]}), _megabytes({path for path in found if not _COMMON.search(path)}))


def _lines(command: list[str], environment: dict[str, str] | None = None) -> list[str]:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.stdout.splitlines()


def _megabytes(paths: set[str]) -> float:
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path)) / 1e6
