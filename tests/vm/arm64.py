#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A root directory of arm64 for guests: Debian 12, the wheel, the tests, and doors to this machine's cross-compilers.

Use::

    with arm64.ready(wheel) as (root, share, environment):
        guest.run(guest.Guest(..., architecture="arm64", root=root, share=share, environment=environment), ...)

    python tests/vm/arm64.py dist/*.whl -k 6.12 -- python3 -m pytest tests/live/test_count.py

Packages are unpacked, nothing is configured: enough to run Python, libbpf and what the cross-compilers build
(crossbuild.py). It lies in ``~/.cache/pyebpf-tests/vm/root-arm64``; delete it to start over. Needs, besides what guests
need: gcc-aarch64-linux-gnu, g++-aarch64-linux-gnu, clang, go, and rustc with aarch64-unknown-linux-gnu's std.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import crossbuild  # noqa: E402
import debian  # noqa: E402
import guest  # noqa: E402
import images  # noqa: E402
import toolchains  # noqa: E402

PROJECT = crossbuild.PROJECT
SUITE = "bookworm"
PACKAGES = (
    "base-files", "base-passwd", "bash", "binutils", "bsdutils", "coreutils", "dash", "findutils", "grep", "gzip",
    "hostname", "iproute2", "iptables", "kmod", "libbpf1", "libc-bin", "libstdc++6", "login", "mount", "openssl",
    "passwd", "procps", "python3", "python3-cffi-backend", "sed", "tar", "util-linux",
)  # fmt: skip
TOOLS = ("pytest",)  # pure Python
PARTS = ("bpf", "docs", "examples", "pyproject.toml", "tests", "vmlinux")  # of the project; pyebpf is the wheel's
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DOOR = "/run/crossbuild"


def root() -> Path:
    """The directory with Debian in it, made if it isn't there, or of other packages. Raises debian.Unavailable."""
    home = images.CACHE / "root-arm64"
    made_of, wanted = home / "etc" / "pyebpf-tests", " ".join([SUITE, *PACKAGES])
    with debian.locked(images.CACHE, home.name):
        if not (made_of.exists() and made_of.read_text() == wanted):
            with tempfile.TemporaryDirectory(dir=images.CACHE) as scratch:
                new = Path(scratch) / "new"
                debian.unpack(PACKAGES, SUITE, new, "arm64", dependencies=True)
                for folder in ("bin", "sbin", "lib"):  # as an installed Debian has them
                    shutil.copytree(new / folder, new / "usr" / folder, symlinks=True, dirs_exist_ok=True)
                    shutil.rmtree(new / folder)
                    (new / folder).symlink_to(f"usr/{folder}")
                for folder in ("dev", "proc", "run", "sys", "tmp", "root", "mnt"):
                    (new / folder).mkdir(exist_ok=True)
                (new / "tmp").chmod(0o1777)
                etc = new / "etc"
                for name in ("passwd", "group"):
                    shutil.copy(new / "usr/share/base-passwd" / f"{name}.master", etc / name)
                (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
                (etc / "hosts").write_text("127.0.0.1 localhost guest\n::1 localhost\n")
                (new / made_of.relative_to(home)).write_text(wanted)
                shutil.rmtree(home, ignore_errors=True)
                new.rename(home)
    return home


def furnish(home: Path, wheel: Path) -> None:
    """Puts the wheel, the tests and the doors into the directory, in place of what was there of them."""
    (packages,) = (home / "usr/lib").glob("python3.*[0-9]")
    site = home / "usr/local/lib" / packages.name / "dist-packages"
    shutil.rmtree(site, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--target", str(site)]
    version = packages.name[len("python") :]
    debian.run([*pip, "--no-deps", "--no-compile", str(wheel)])
    debian.run([*pip, "--no-compile", "--python-version", version, "--only-binary=:all:", *TOOLS])
    copy = home / PROJECT.relative_to("/")
    shutil.rmtree(copy, ignore_errors=True)
    for name in PARTS:
        if (PROJECT / name).is_dir():
            shutil.copytree(
                PROJECT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "rpcx")
            )
        else:
            shutil.copy(PROJECT / name, copy / name)
    _doors(home)


def _doors(home: Path) -> None:
    """What looks like compilers there, and like Go's toolchains."""
    door = HERE / "crossbuild.py"
    for name in crossbuild.DOORS:
        _link(home / "usr/local/bin" / name, door)
    if toolchains.has_local():
        place = home / toolchains.go("local").root.relative_to("/")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(toolchains.go("local").root / "VERSION", place)
    for version in toolchains.VERSIONS:
        go = toolchains.go(version)
        place = home / "root" / go.root.relative_to(Path.home())  # HOME there
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copy(go.root / "VERSION", place)
        _link(place / "bin" / "go", door)


def _link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


@contextlib.contextmanager
def ready(wheel: Path) -> Iterator[tuple[Path, list[tuple[Path, Path]], Mapping[str, str]]]:
    """All a guest needs: its root, the folders to share, its environment. Compiles for it meanwhile.

    One guest at a time: the directory is furnished anew for each.
    """
    home = root()
    with contextlib.ExitStack() as stack:
        stack.enter_context(debian.locked(images.CACHE, "root-arm64-used"))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyebpf-crossbuild-"))
        furnish(home, wheel)
        with crossbuild.served(Path(folder), images.CACHE / "crossbuilt-arm64"):
            yield home, [(Path(folder), Path(DOOR))], {"PATH": PATH, crossbuild.SHARE: DOOR}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("-k", "--kernel", default="6.12")
    parser.add_argument("--share", type=guest._folders, action="append", default=[])
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=3600)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the emulator ends with us
    os.chdir(PROJECT)
    kernel, emulator = images.kernel(options.kernel, "arm64"), images.emulator("arm64")
    with ready(options.wheel) as (home, share, environment):
        machine = guest.Guest(
            kernel, emulator, "arm64", home, options.cpus, 2048, [*share, *options.share], "", environment
        )
        return guest.run(machine, options.command, options.timeout, lambda data: os.write(1, data))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
