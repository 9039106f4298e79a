#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Builds the wheel pyebpf-libbpf: libbpf and libelf from the distribution's source packages, with their licences.

    .ci/libbpf/build.py [--suite SUITE] [--sources DIR] DIST

Takes gcc (CC: another, musl-gcc for a musllinux wheel), make, m4, apt-get, dpkg-source, and pip with setuptools ≥ 77
and wheel. The tag says the oldest C library that the result runs on, as its symbols' versions tell.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import debian  # noqa: E402

CC = os.environ.get("CC", "gcc")
FLAGS = "-O2 -g0 -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2"
LINK = "-Wl,-z,relro,-z,now,-z,defs,--exclude-libs,libz.a"
# The licences, by the names they get in the wheel
LICENCES = {
    "libbpf": {"libbpf.txt": "LICENSE", "libbpf-BSD-2-Clause.txt": "LICENSE.BSD-2-Clause",
               "libbpf-LGPL-2.1.txt": "LICENSE.LGPL-2.1"},
    "elfutils": {"libelf-GPL-2.0.txt": "COPYING-GPLV2", "libelf-LGPL-3.0.txt": "COPYING-LGPLV3",
                 "libelf-GPL-3.0.txt": "COPYING"},  # which the LGPL 3 refers to
    "zlib": {"zlib.txt": "LICENSE"},
}  # fmt: skip
# What elfutils' programs need and its libelf doesn't: other C libraries haven't it
CACHED = {f"ac_cv_search_{name}": "none required" for name in ("argp_parse", "fts_close", "_obstack_free")}


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"libbpf: {' '.join(map(str, command))}: exit code {done.returncode}\n"
                         f"{(done.stdout + done.stderr)[-4000:]}")  # fmt: skip
    return done.stdout


def sources(suite: str, given: Path | None, scratch: Path) -> dict[str, tuple[Path, str]]:
    """Unpacks the source packages: name -> folder, Debian's version."""
    found = {}
    for name in LICENCES:
        folder = given or scratch / "packages"
        if not given:
            debian.source([name], suite, folder)
        (description,) = folder.glob(f"{name}_*.dsc")
        run("dpkg-source", "--no-check", "-x", description, scratch / name, cwd=scratch)
        match = re.search(r"^Version: (?:\d+:)?(\S+)$", description.read_text(), re.MULTILINE)
        assert match, description
        found[name] = (scratch / name, match[1])
    return found


def flags() -> str:
    """musl's compiler doesn't look where the kernel's headers are."""
    return f"{FLAGS} -idirafter /usr/include -idirafter /usr/include/{os.uname().machine}-linux-gnu" if (
        "musl" in CC) else FLAGS  # fmt: skip


def build(zlib: Path, elfutils: Path, libbpf: Path, to: Path) -> None:
    """Makes libelf.so.1 and libbpf.so.1, each with a zlib of its own inside."""
    run("./configure", "--static", cwd=zlib, env={"CC": CC, "CFLAGS": FLAGS})
    run("make", "libz.a", cwd=zlib)
    zlib_flags = f"-I{zlib}"
    settings = {"CC": CC, "CFLAGS": f"{flags()} {zlib_flags} -Wno-error", "LDFLAGS": f"-L{zlib}", **CACHED}
    without = ("bzlib", "lzma", "zstd")
    off = ("nls", "debuginfod", "libdebuginfod", "demangler")
    run("./configure", *(f"--without-{name}" for name in without), *(f"--disable-{name}" for name in off),
        "ac_cv_c99=yes", cwd=elfutils, env=settings)  # fmt: skip
    makefile = (elfutils / "libelf" / "Makefile.am").read_text()
    listed = re.search(r"^libelf_a_SOURCES = ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    assert listed
    names = [name for name in listed[1].split() if name.endswith(".c")]
    run(CC, *flags().split(), zlib_flags, "-std=gnu99", "-DHAVE_CONFIG_H", "-D_GNU_SOURCE", "-I.", "-Ilib", "-Ilibelf",
        "-shared", "-Wl,-soname,libelf.so.1", "-Wl,--version-script,libelf/libelf.map", *LINK.split(),
        *(f"libelf/{name}" for name in names), "lib/eu-search.c", zlib / "libz.a",
        "-o", to / "libelf.so.1", cwd=elfutils)  # fmt: skip
    include = elfutils / "include"
    include.mkdir()
    for name in ("libelf.h", "gelf.h", "elf.h"):
        shutil.copy(elfutils / "libelf" / name, include)
    extra = f"{flags()} -I{include} {zlib_flags}"
    run("make", "BUILD_STATIC_ONLY=y", "OBJDIR=objects", cwd=libbpf / "src",
        env={"CC": CC, "EXTRA_CFLAGS": extra, "NO_PKG_CONFIG": "1"})  # fmt: skip
    run(CC, "-shared", "-Wl,-soname,libbpf.so.1", "-Wl,--version-script,libbpf.map", "-Wl,-rpath,$ORIGIN",
        *LINK.split(), "-Wl,--whole-archive", "objects/libbpf.a", "-Wl,--no-whole-archive", to / "libelf.so.1",
        zlib / "libz.a", "-o", to / "libbpf.so.1", cwd=libbpf / "src")  # fmt: skip
    for library in ("libelf.so.1", "libbpf.so.1"):
        run("strip", "--strip-unneeded", library, cwd=to)


def platform(folder: Path) -> str:
    """The wheel's platform: the oldest C library whose symbols suffice (PEP 600, PEP 656)."""
    machine = os.uname().machine
    if "musl" in CC:
        return f"musllinux_1_2_{machine}"
    needed = {(2, 17)}
    for library in folder.glob("*.so.1"):
        text = run("readelf", "--version-info", "--wide", library, cwd=folder)
        needed |= {(int(a), int(b)) for a, b in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", text)}
    major, minor = max(needed)
    return f"manylinux_{major}_{minor}_{machine}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="where the wheel goes")
    parser.add_argument("--suite", default="trixie", help="the Debian suite of the sources (default: %(default)s)")
    parser.add_argument("--sources", type=Path, help="a folder with source packages that are there already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyebpf-libbpf-") as folder:
        scratch = Path(folder)
        found = sources(arguments.suite, arguments.sources and arguments.sources.resolve(), scratch)
        project = scratch / "project"
        shutil.copytree(HERE, project, ignore=shutil.ignore_patterns("build.py", "__pycache__"))
        build(found["zlib"][0], found["elfutils"][0], found["libbpf"][0], project / "pyebpf_libbpf")
        (project / "licenses").mkdir()
        for name, texts in LICENCES.items():
            for target, text in texts.items():
                shutil.copy(found[name][0] / text, project / "licenses" / target)
        shutil.copy(HERE.parents[1] / "LICENSES" / "BSD-2-Clause.txt", project / "licenses")
        content = "\n".join(f"* {name}: Debian's source package {name} {its}" for name, (_, its) in found.items())
        version = found["libbpf"][1].split("-")[0]
        for name, mark, text in (("README.md", "@CONTENT@", content),
                                 ("pyproject.toml", 'version = "0"', f'version = "{version}"')):  # fmt: skip
            path = project / name
            path.write_text(path.read_text().replace(mark, text))
        tag = f"--config-setting=--build-option=--plat-name={platform(project / 'pyebpf_libbpf')}"
        arguments.dist.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation",
            tag, "--config-setting=--build-option=--python-tag=py3", "--wheel-dir", arguments.dist.resolve(), ".",
            cwd=project)  # fmt: skip
    for wheel in arguments.dist.glob("pyebpf_libbpf-*.whl"):
        print(wheel)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
