# SPDX-License-Identifier: BSD-2-Clause
"""Packages of Debian that take part in tests, unpacked into a folder: nothing is installed into the machine.

Use::

    debian.unpack(["libbpf1"], "trixie", tmp_path / "root")     # from a suite this machine needn't be configured for
    debian.program("prometheus")                                # -> Path, on PATH or unpacked from the cache

Packages come from the mirror that this machine's apt uses. `program` keeps what it unpacked in
``${XDG_CACHE_HOME:-~/.cache}/pyebpf-tests/debian``; a lock file makes it safe to run several test sessions at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyebpf-tests" / "debian"
SUITE = "bookworm"


class Unavailable(RuntimeError):
    """It can't be had; the message holds the failing command's output."""


def program(name: str, package: str | None = None) -> Path:
    """An executable: the one on PATH, or the one of Debian's package of that name.

    Raises:
        Unavailable: it can't be had.
    """
    found = shutil.which(name)
    if found:
        return Path(found)
    home = CACHE / (package or name)
    with locked(CACHE, package or name):
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                unpack([package or name], SUITE, Path(scratch) / "new")
                (Path(scratch) / "new").rename(home)
    return home / "usr" / "bin" / name


def unpack(
    packages: Sequence[str], suite: str, to: Path, architecture: str = "", dependencies: bool = False
) -> None:
    """Unpacks packages of a Debian suite, with package lists of our own.

    Args:
        architecture: Debian's name of another than this machine's.
        dependencies: with all that they depend on, the C library included; nothing is configured.

    Raises:
        Unavailable: there are no such packages, or no mirror within reach.
    """
    with apt(suite, architecture=architecture) as (scratch, command):
        if dependencies:
            wanted = ["-y", "--no-install-recommends", "--download-only", "install", *packages]
            run([*command, *wanted], cwd=scratch)
        else:
            run([*command, "download", *packages], cwd=scratch)
        to.mkdir(parents=True, exist_ok=True)
        for package in scratch.glob("**/*.deb"):
            run(["dpkg", "-x", str(package), str(to)])


def source(packages: Sequence[str], suite: str, to: Path) -> None:
    """Fetches the source packages of a Debian suite into a folder, as they are (dpkg-source unpacks them).

    Raises:
        Unavailable: there are no such packages, or no mirror within reach.
    """
    to.mkdir(parents=True, exist_ok=True)
    with apt(suite, "deb-src") as (_, command):
        run([*command, "source", "--download-only", *packages], cwd=to)


@contextlib.contextmanager
def apt(suite: str, kind: str = "deb", architecture: str = "") -> Iterator[tuple[Path, list[str]]]:
    """A folder of its own for a while, and apt-get with the package lists of a suite in it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "archives" / "partial").mkdir(parents=True)
        (scratch / "status").touch()
        signed_by = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
        (scratch / "sources.list").write_text(f"{kind} {signed_by} {mirror()} {suite} main\n")
        settings = {
            "Dir::State::Lists": scratch / "lists",
            "Dir::State::status": scratch / "status",
            "Dir::State::extended_states": scratch / "extended_states",
            "Dir::Cache": scratch,
            "Dir::Etc::sourcelist": scratch / "sources.list",
            "Dir::Etc::sourceparts": "/nonexistent",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",
            "Acquire::Check-Valid-Until": "false",  # a mirror may lag behind
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        if architecture:
            options += ["-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}"]
        command = ["apt-get", "-qq", *options]
        run([*command, "update"])
        yield scratch, command


def mirror() -> str:
    """The Debian mirror this machine's own apt uses."""
    etc = Path("/etc/apt")
    for path in [*sorted(etc.glob("sources.list.d/*.sources")), *etc.glob("sources.list"), *etc.glob("*.d/*.list")]:
        for line in path.read_text().splitlines():
            words = [word for word in line.split() if not word.startswith(("[", "signed-by=", "arch="))]
            if len(words) >= 2 and words[0] in ("URIs:", "deb") and words[1].rstrip("/").endswith("/debian"):
                return words[1]
    raise Unavailable("apt isn't configured for a Debian mirror")


@contextlib.contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """Holds a lock of a cache's entry."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs a command to its end; returns what it printed. Raises Unavailable, with its last words."""
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=1200, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        last_words = (done.stderr or done.stdout)[-3000:]
        raise Unavailable(f"{' '.join(command)}: exit code {done.returncode}\n{last_words}")
    return done.stdout
