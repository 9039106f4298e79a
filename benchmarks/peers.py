# SPDX-License-Identifier: BSD-2-Clause
"""The peers: this distribution's bpftrace, and newer ones from Debian's later releases, each with its own files.

A release's packages are unpacked into ``${XDG_CACHE_HOME:-~/.cache}/pyebpf-bench/NAME`` when they are missing (1.3 GB
in all); delete the folder to have newer ones. Nothing is installed. bpftrace and libbpf-tools are started by their own
loader with their own libraries; bcc looks for files by fixed paths, so it is started in its folder as root directory.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import debian
from contestants import Contestant, version

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyebpf-bench"
_CLONE_NEWNS = 0x20000
_TOOLS = ("bpftrace", "libbpf-tools")
_ROOTS = {"trixie": ("trixie", _TOOLS), "sid": ("sid", _TOOLS),
          "bcc": ("sid", ("python3", "bpfcc-tools", "python3-bpfcc"))}  # fmt: skip


def private_mounts() -> None:
    """From here on mounts are this process's own. tracefs is mounted where bpftrace looks for it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    if not os.path.exists("/sys/kernel/tracing/events"):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=True)


def find(pyebpf: str, wanted: Sequence[str] = ()) -> tuple[list[Contestant], dict[str, str]]:
    """pyebpf, and its peers.

    Args:
        pyebpf: the command.
        wanted: parts of names; none: all.

    Returns: those that are here, and why others are not, by name.
    """
    ours = version([pyebpf, "--version"])
    found = [Contestant(f"pyebpf {ours}", "pyebpf", (pyebpf,)),
             Contestant("pyebpf --allow-uretprobe", "pyebpf", (pyebpf,), options=("--allow-uretprobe",))]  # fmt: skip
    missing = {}
    bpftrace = shutil.which("bpftrace")
    if bpftrace:
        number = version([bpftrace, "--version"])
        found.append(Contestant(f"bpftrace {number}", "bpftrace", (bpftrace,), "/usr/sbin"))
    else:
        missing["this system's bpftrace"] = "it isn't installed"
    for name in _ROOTS:
        try:
            found += _of_root(name)
        except debian.Unavailable as error:
            missing[f"the peers of Debian's {name}"] = str(error).splitlines()[-1]
    chosen = [one for one in found if not wanted or one.ours or any(part in one.name for part in wanted)]
    return chosen, missing


def _of_root(name: str) -> list[Contestant]:
    root, versions = _root(name)

    if name == "bcc":
        for path in ("proc", "sys", "dev"):
            subprocess.run(["mount", "--rbind", f"/{path}", f"{root}/{path}"], check=True)
        subprocess.run(["mount", "--bind", "/tmp", f"{root}/tmp"], check=True)
        bcc = versions["bpfcc-tools"]
        return [Contestant(f"bcc {bcc}", "bcc", ("chroot", str(root)), "/usr/sbin", root=str(root))]
    loader = next(iter(sorted(root.glob("lib*/ld-linux*")))), f"{root}/usr/lib/{platform.machine()}-linux-gnu"
    start = (str(loader[0]), "--library-path", loader[1])
    tools, trace = versions["libbpf-tools"], versions["bpftrace"]
    return [
        Contestant(f"bpftrace {trace}", "bpftrace", (*start, f"{root}/usr/bin/bpftrace"), f"{root}/usr/sbin",
                   root=str(root)),
        Contestant(f"libbpf-tools {tools}", "libbpf-tools", start, f"{root}/usr/sbin", root=str(root)),
    ]  # fmt: skip


def _root(name: str) -> tuple[Path, dict[str, str]]:
    """Where a release's packages are, and their versions. The first time takes minutes."""
    home, note = CACHE / name, CACHE / f"{name}.json"
    with debian.locked(CACHE, name):
        if not note.exists():
            print(f"unpacking {name} into {home}", file=sys.stderr, flush=True)
            suite, packages = _ROOTS[name]
            if name == "bcc":  # it includes kernel headers, and there may be none of this kernel's
                architecture = debian.run(["dpkg", "--print-architecture"]).strip()
                packages = (*packages, f"linux-headers-cloud-{architecture}")
            shutil.rmtree(home, ignore_errors=True)
            for folder in ("bin", "sbin", "lib", "lib64"):
                (home / "usr" / folder).mkdir(parents=True, exist_ok=True)
                (home / folder).symlink_to(f"usr/{folder}")
            debian.unpack(("base-files", "bash", "coreutils", *packages), suite, home, dependencies=True)
            for folder in ("proc", "sys", "dev", "tmp"):
                (home / folder).mkdir(exist_ok=True)
            note.write_text(json.dumps({package: _version(home, package) for package in packages}))
    if name == "bcc":
        _headers(home)
    return home, json.loads(note.read_text())


def _version(root: Path, package: str) -> str:
    """Upstream's version of an unpacked package."""
    for path in sorted((root / "usr" / "share" / "doc" / package).glob("changelog.Debian*")):
        opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path, encoding="utf-8")  # noqa: SIM115
        with opened as changelog:  # bpftrace (0.27.1-1) unstable; urgency=medium
            return re.sub(r"^\d+:|[-+].*$", "", changelog.readline().split()[1].strip("()"))
    return "?"


def _headers(root: Path) -> None:
    """Puts the headers of the root's kernel where bcc looks for those of the one that runs."""
    modules = root / "usr" / "lib" / "modules"
    there = modules / platform.release()
    if not os.path.lexists(there):
        there.symlink_to(max(path for path in modules.iterdir() if (path / "build").is_symlink()).name)
