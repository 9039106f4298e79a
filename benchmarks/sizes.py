# SPDX-License-Identifier: BSD-2-Clause
"""How much disk a tool takes, and how long it takes to say its version, or to be imported."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Sequence

from bench import Bench
from contestants import Contestant
from results import Metric, Table, Turn, take_turns

# What every system has
_COMMON = re.compile(r"/(ld-linux|ld-musl|libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+)[-.]")
_VERSION, _IMPORT, _NOTHING, _MODULES = "--version", "import", "Python alone", "opensnoop's modules"
# As the command does it: without looking for garbage, nor taking the interpreter apart at the end
_OPENSNOOP = (
    "import gc, os; gc.disable(); import pyebpf.cli.main, pyebpf.cli.events, pyebpf.tools.snoop.opensnoop; os._exit(0)"
)


def measure(bench: Bench) -> list[Table]:
    """Disk; then the shortest runs."""
    disk = Table(
        "Disk, MB",
        [Metric("all its tools", 1), Metric("libraries they load", 1), Metric("together", 1)],
        "Libraries: without those that every system has (the C and C++ run-time). pyebpf's and bcc's are without"
        " the Python"
        "\ninterpreter, pyebpf's with cffi. libbpf-tools and bcc: all the tools of the package, and bcc's Python"
        " module.",
    )
    for one in bench.contestants:
        if not one.options:
            own, libraries = _size(one)
            disk.add("installed", one.name, own, libraries, own + libraries)
    short = Table(
        "The shortest runs",
        [Metric("ms", 1), Metric("peak memory, MB", 1, peak=True), Metric("CPU, ms", 1)],
        "`pyebpf --version`, `bpftrace --version`, `opensnoop --version`; a Python that imports `pyebpf` or `bcc`"
        " and ends, and"
        "\none that does nothing: what every program in Python has before its first line; and what a pyebpf tool"
        " has to import.",
    )
    turns = [Turn(_NOTHING, f"Python {sys.version.split()[0]}",
                  functools.partial(_run, bench, [sys.executable, "-c", "pass"]))]  # fmt: skip
    for one in bench.contestants:
        for what, command in _short(one):
            turns.append(Turn(what, one.name, functools.partial(_run, bench, command)))
    take_turns(short, turns, 3 * bench.rounds, warm=True)
    return [disk, short]


def _short(one: Contestant) -> list[tuple[str, list[str]]]:
    if one.options:
        return []
    if one.ours:
        return [(_VERSION, [*one.command, "--version"]), (_IMPORT, [sys.executable, "-c", "import pyebpf"]),
                (_MODULES, [sys.executable, "-c", _OPENSNOOP])]  # fmt: skip
    if one.family == "bcc":
        return [(_IMPORT, [*one.command, "/usr/bin/python3", "-c", "import bcc"])]
    if one.family == "libbpf-tools":
        return [(_VERSION, [*one.command, f"{one.folder}/opensnoop-libbpf", "--version"])]
    return [(_VERSION, [*one.command, "--version"])]


def _run(bench: Bench, command: list[str]) -> Sequence[float]:
    outcome = bench.programs.run(command)
    return (outcome.end - outcome.start) * 1e3, outcome.memory, outcome.cpu * 1e3


def _size(one: Contestant) -> tuple[float, float]:
    """MB of the tools' own files, and of the shared libraries they load."""
    if one.ours:
        return _our_size()
    if one.family == "bcc":
        top = f"{one.root}/usr"
        tools = _files(f"{top}/sbin", "-bpfcc") | _files(f"{top}/share/bcc") | _files(f"{top}/lib/python3", "", "/bcc/")
        library = next(path for path in sorted(_files(f"{top}/lib", "")) if "/libbcc.so" in path)
        inside = library[len(one.root):]
        loaded = {f"{one.root}{path}" for path in _loaded([*one.command, "/usr/bin/env", "/bin/true"], inside)}
        return _megabytes(tools), _megabytes(loaded | {library})
    if one.family == "libbpf-tools":
        tools = _files(one.folder, "-libbpf")
        return _megabytes(tools), _megabytes(_loaded([*one.command, f"{one.folder}/opensnoop-libbpf"]))
    tools = {one.command[-1]} | _files(one.folder, ".bt")
    return _megabytes(tools), _megabytes(_loaded(list(one.command)))


def _our_size() -> tuple[float, float]:
    """The package, cffi and its dependency; libbpf is opened at run time."""
    own = (
        "import importlib.metadata as m, _cffi_backend, os\n"
        "for d in ('pyebpf-toolkit', 'cffi', 'pycparser'):\n"
        "    try: files = m.files(d) or ()\n"
        "    except m.PackageNotFoundError: files = ()\n"
        "    for f in files: print(os.path.realpath(f.locate()))\n"
    )
    libraries = (
        "from pyebpf.core import libbpf\nlibbpf.lib()\n"
        "print(*{l.split(maxsplit=5)[5].strip() for l in open('/proc/self/maps') if '.so' in l}, sep='\\n')"
    )
    loaded = set(_lines([sys.executable, "-c", libraries]))
    pattern = r"/lib(bpf|elf|z|zstd|lzma|bz2)\.so|/lib(bpf|elf|z)-"
    return _megabytes(set(_lines([sys.executable, "-c", own]))), _megabytes(
        {path for path in loaded if re.search(pattern, path)}
    )


def _files(folder: str, end: str = "", within: str = "") -> set[str]:
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names
            if name.endswith(end) and within in f"{at}/" and not os.path.islink(os.path.join(at, name))}  # fmt: skip


def _loaded(command: list[str], preload: str = "") -> set[str]:
    """The libraries that a program would load, with those of one it is to load besides."""
    environment = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1", **({"LD_PRELOAD": preload} if preload else {})}
    if preload:  # chroot itself must run
        del environment["LD_TRACE_LOADED_OBJECTS"], environment["LD_PRELOAD"]
        command = [*command[:-2], "/usr/bin/env", "LD_TRACE_LOADED_OBJECTS=1", f"LD_PRELOAD={preload}", command[-1]]
    matches = (re.search(r"(?:=> )?(/\S+) \(0x", line) for line in _lines(command, environment))
    return {match.group(1) for match in matches if match and not _COMMON.search(match.group(1))}


def _lines(command: list[str], environment: dict[str, str] | None = None) -> list[str]:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result.stdout.splitlines()


def _megabytes(paths: set[str]) -> float:
    return sum(os.path.getsize(path) for path in paths if os.path.isfile(path)) / 1e6
