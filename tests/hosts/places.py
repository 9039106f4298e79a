# SPDX-License-Identifier: BSD-2-Clause
"""The hosts: each a fresh environment without a compiler that holds the wheel, and the command that runs things in it.

Roots of other distributions are unpacked once into ``${XDG_CACHE_HOME:-~/.cache}/pyebpf-tests/hosts`` and never
changed: what is done in one is done in an overlay. All mounts are made in mount namespaces that end with their command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import debian
import targets
import unprivileged
import venvs

CACHE = debian.CACHE.parent / "hosts"
HERE = Path(__file__).resolve().parent
MINIMAL = "python3,python3-venv,python3-cffi-backend"


class Unavailable(RuntimeError):
    """This host can't be had here; says why."""


class Place(NamedTuple):
    """Where the probe runs.

    Attributes:
        command: what runs Python code in it: this, then a script's path as it is there, then arguments.
        folder: the folder of the probe and of the programs to trace, as it is there.
        environment: of the command.
        what: what is special about it, with versions.
    """

    command: Sequence[str | Path]
    folder: str
    environment: dict[str, str]
    what: str = ""


class Workshop:
    """What all hosts are made of: the wheel, the programs to trace, a folder for what is made.

    Attributes:
        companion, musl_companion: the wheels pyebpf-libbpf; None: there are none.
    """

    def __init__(self, wheel: Path, scratch: Path, companions: Sequence[Path]) -> None:
        self.wheel, self.scratch = wheel, scratch
        self.companion = next((path for path in companions if "manylinux" in path.name), None)
        self.musl_companion = next((path for path in companions if "musllinux" in path.name), None)
        self.programs = scratch / "programs"
        self.programs.mkdir()
        shutil.copy(targets.compiled("calls.c"), self.programs)
        shutil.copy(targets.go_program("panics"), self.programs)
        shutil.copy(HERE / "probe.py", self.programs)
        self._venvs: dict[Path, venvs.Venv] = {}
        self._made = 0

    def folder(self) -> Path:
        self._made += 1
        path = self.scratch / str(self._made)
        path.mkdir()
        return path

    def venv(self, interpreter: Path) -> venvs.Venv:
        """A fresh environment with the wheel, one an interpreter."""
        if interpreter not in self._venvs:
            made = venvs.Venv(self.folder() / "venv", interpreter)
            made.pip("install", self.wheel)
            self._venvs[interpreter] = made
        return self._venvs[interpreter]

    @property
    def own(self) -> Path:
        """This interpreter, outside of the environment it may run in."""
        return Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"

    def here(self, *prefix: str | Path, interpreter: Path | None = None, what: str = "", **environment: str) -> Place:
        """On this machine, in an environment of its own; ``prefix`` runs a command in some way."""
        venv = self.venv(interpreter or self.own)
        return Place([*prefix, venv.python], str(self.programs), self.environment(**environment), what)

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of this machine's, and no programs at all on PATH."""
        return {"PATH": str(self.scratch / "empty"), "HOME": str(self.scratch / "empty"), "LANG": "C.UTF-8",
                "PYEBPF_CACHE": "0", **more}  # fmt: skip


def shell(script: str, *unshare: str) -> list[str]:
    """A prefix that runs a script in a mount namespace of its own, then the command."""
    return ["/usr/bin/unshare", "--mount", *unshare, "/bin/sh", "-c",
            f'PATH=/usr/sbin:/usr/bin:/sbin:/bin; set -e; {script}; unset PATH; exec "$@"', "sh"]  # fmt: skip


# --- this machine, in one way or another

MDWE = "import ctypes, os, sys; assert not ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


def hardened(shop: Workshop) -> Place:
    """What systemd's MemoryDenyWriteExecute=, NoNewPrivileges= set: before exec, so from its first instruction."""
    return shop.here(shop.own, "-c", MDWE, "/usr/bin/setpriv", "--no-new-privs", what="PR_SET_MDWE, no_new_privs")


def as_user(*capabilities: str) -> Callable[[Workshop], Place]:
    def make(shop: Workshop) -> Place:
        venv = shop.venv(shop.own)
        prefix = unprivileged.command(capabilities, venv.python, read=[shop.programs, venv.path, shop.own.parents[1]])
        held = ", ".join(capabilities) or "none"
        return Place(["/usr/bin/env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *prefix], str(shop.programs),
                     shop.environment(), f"user {unprivileged.UID}; capabilities: {held}")  # fmt: skip

    return make


_CONTAINER = "mount -t proc none /proc; umount -R /sys; mount -t sysfs -o ro none /sys"


def inside_container(shop: Workshop) -> Place:
    prefix = shell(_CONTAINER, "--pid", "--uts", "--ipc", "--fork", "--kill-child")
    return shop.here(*prefix, what="own mounts, pids, host name, IPC; /sys read-only, no tracefs, no bpffs")


def inside_container_as(*capabilities: str) -> Callable[[Workshop], Place]:
    def make(shop: Workshop) -> Place:
        kept = "".join(f",+cap_{unprivileged.NUMBERS[name]}" for name in capabilities)
        prefix = shell(_CONTAINER, "--pid", "--uts", "--ipc", "--fork", "--kill-child")
        # The capabilities that containers have by default (Docker's list)
        default = ",+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw," \
                  "+sys_chroot,+mknod,+audit_write,+setfcap"  # fmt: skip
        return shop.here(*prefix, "/usr/bin/setpriv", f"--bounding-set=-all{default}{kept}",
                         what=f"as before; root with Docker's default capabilities and {', '.join(capabilities)}")

    return make


def inside_user_namespace(shop: Workshop) -> Place:
    return shop.here("/usr/bin/unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child",
                     "--mount-proc", what="a user namespace (rootless)")  # fmt: skip


_NO_BTF = "mount -t tmpfs none /sys/kernel/btf"


def without_btf(shop: Workshop) -> Place:
    return shop.here(*shell(_NO_BTF), what="/sys/kernel/btf hidden")


def with_btf_file(shop: Workshop) -> Place:
    copy = shop.folder() / "vmlinux.btf"
    shutil.copy("/sys/kernel/btf/vmlinux", copy)
    return shop.here(*shell(_NO_BTF), what="/sys/kernel/btf hidden, a copy in PYEBPF_BTF", PYEBPF_BTF=str(copy))


def without_tracefs(shop: Workshop) -> Place:
    return shop.here(*shell("umount -R /sys; mount -t sysfs none /sys"), what="tracefs not mounted")


# --- other libbpfs, other Pythons


def with_python(interpreter: Path) -> Callable[[Workshop], Place]:
    return lambda shop: shop.here(interpreter=interpreter, what="fresh environment, pip install")


def with_library(path: str) -> Callable[[Workshop], Place]:
    return lambda shop: shop.here(what="PYEBPF_LIBBPF", PYEBPF_LIBBPF=path)


def with_libbpf(suite: str, *packages: str) -> Callable[[Workshop], Place]:
    """Debian's packages of another suite, beside this machine's C library."""

    def make(shop: Workshop) -> Place:
        folder = CACHE / f"libbpf-{suite}"
        with debian.locked(CACHE, folder.name):
            if not folder.exists():
                shutil.rmtree(f"{folder}.new", ignore_errors=True)
                debian.unpack(packages, suite, Path(f"{folder}.new"))
                os.rename(f"{folder}.new", folder)
        machine = f"{os.uname().machine}-linux-gnu"
        where = [path for top in ("usr/lib", "lib") if (path := folder / top / machine).exists()]
        return shop.here(what=f"{packages[0]} of {suite}, by LD_LIBRARY_PATH",
                         LD_LIBRARY_PATH=":".join(map(str, where)))  # fmt: skip

    return make


# --- other roots


def root_of(suite: str, packages: str = MINIMAL) -> Path:
    """A minimal Debian; made once.

    Raises:
        Unavailable: debootstrap isn't here, or fails.
    """
    root = CACHE / suite
    with debian.locked(CACHE, suite):
        if root.exists():
            return root
        if not shutil.which("debootstrap"):
            raise Unavailable("debootstrap is not installed")
        new = CACHE / f"{suite}.new"
        shutil.rmtree(new, ignore_errors=True)
        # debootstrap mounts below its target: in a namespace, they end with it
        done = subprocess.run(
            ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={packages}", suite, new,
             debian.mirror()], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Unavailable(f"debootstrap: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        new.rename(root)
    return root


_IN_ROOT = (
    "mount -t tmpfs none {top}; mkdir {top}/upper {top}/work {top}/root; "
    "mount -t overlay -o lowerdir={extra}{root},upperdir={top}/upper,workdir={top}/work none {top}/root; "
    "mount -t proc none {top}/root/proc; mount -t sysfs none {top}/root/sys; "
    "mount -t tracefs none {top}/root/sys/kernel/tracing; mount -t tmpfs none {top}/root/tmp; "
    "mount --bind /dev {top}/root/dev; ip link set lo up 2>/dev/null || true"
)


def in_root(shop: Workshop, root: Path, layer: Path, python: str, what: str, **environment: str) -> Place:
    """In another root with a layer of ours over it, which has the probe and the programs in /probe."""
    top = shop.folder()
    script = _IN_ROOT.format(top=top, extra=f"{layer}:", root=root)
    prefix = [*shell(script), "/usr/sbin/chroot", top / "root"]
    clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYEBPF_CACHE": "0"}
    return Place([*prefix, python], "/probe", {**clean, **environment}, what)


def layer_of(shop: Workshop, *wheels: Path | None, packages: Sequence[Path] = ()) -> Path:
    """A folder to lay over a root: the probe, the programs, unzipped wheels in /site, unpacked packages."""
    layer = shop.folder()
    shutil.copytree(shop.programs, layer / "probe")
    (layer / "site").mkdir()
    for wheel in wheels:
        if wheel is None:
            raise Unavailable("the wheel pyebpf-libbpf was not built (make libbpf-wheel)")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(layer / "site")
    for package in packages:
        shutil.copytree(package, layer, dirs_exist_ok=True, symlinks=True)
    return layer


def packages_of(shop: Workshop, suite: str, *names: str) -> Path:
    folder = shop.folder() / "packages"
    debian.unpack(names, suite, folder)
    # A merged /usr: a folder lib would hide the root's link
    if (folder / "lib").is_dir():
        shutil.copytree(folder / "lib", folder / "usr" / "lib", dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(folder / "lib")
    return folder


def libelf_of(suite: str) -> str:
    return "libelf1" if suite in ("bullseye", "bookworm") else "libelf1t64"


def minimal(suite: str) -> Callable[[Workshop], Place]:
    """Debian's own Python, cffi and libbpf; the wheel unzipped."""

    def make(shop: Workshop) -> Place:
        root = root_of(suite)
        packages = packages_of(shop, suite, "libbpf1", libelf_of(suite))
        return in_root(shop, root, layer_of(shop, shop.wheel, packages=[packages]), "/usr/bin/python3",
                       f"Debian {suite}, minbase, libbpf1, python3-cffi-backend", PYTHONPATH="/site")  # fmt: skip

    return make


def minimal_with_pip(suite: str) -> Callable[[Workshop], Place]:
    """As `minimal`, in a virtual environment that pip installed the wheel into."""

    def make(shop: Workshop) -> Place:
        root = root_of(suite)
        layer = layer_of(shop, packages=[packages_of(shop, suite, "libbpf1", libelf_of(suite))])
        wheels = layer / "wheels"
        wheels.mkdir()
        shutil.copy(shop.wheel, wheels)
        install = "cd /tmp && /usr/bin/python3 -m venv --system-site-packages /tmp/venv && /tmp/venv/bin/pip -q " \
                  'install --no-index --no-deps /wheels/*.whl && exec /tmp/venv/bin/python "$@"'  # fmt: skip
        (layer / "python").write_text(f"#!/bin/sh\n{install}\n")
        (layer / "python").chmod(0o755)
        return in_root(shop, root, layer, "/python", f"Debian {suite}, minbase; venv and pip inside, without index")

    return make


def minimal_without_libbpf(suite: str, old: bool = False) -> Callable[[Workshop], Place]:
    def make(shop: Workshop) -> Place:
        root = root_of(suite)
        packages = [packages_of(shop, "bullseye", "libbpf0", "libelf1")] if old else []
        return in_root(shop, root, layer_of(shop, shop.wheel, packages=packages), "/usr/bin/python3",
                       f"Debian {suite}, minbase{', libbpf0 of bullseye' if old else ''}, no libbpf1",
                       PYTHONPATH="/site")  # fmt: skip

    return make


def minimal_with_companion(suite: str) -> Callable[[Workshop], Place]:
    return lambda shop: in_root(
        shop, root_of(suite), layer_of(shop, shop.wheel, shop.companion), "/usr/bin/python3",
        f"Debian {suite}, minbase, no libbpf1, the wheel pyebpf-libbpf", PYTHONPATH="/site",
    )  # fmt: skip


def newest(version: str) -> Callable[[Workshop], Place]:
    """Debian's unstable suite: its libbpf, its newest Pythons; cffi from the package index."""

    def make(shop: Workshop) -> Place:
        root = root_of("sid", "python3.14,python3.15,libbpf1")
        cffi = cffi_for(shop, version, "manylinux_2_17_x86_64", "manylinux2014_x86_64")
        return in_root(shop, root, layer_of(shop, shop.wheel, cffi), f"/usr/bin/python{version}",
                       f"Debian sid, minbase, python{version}, libbpf1", PYTHONPATH="/site")  # fmt: skip

    return make


def cffi_for(shop: Workshop, version: str, *platforms: str) -> Path:
    folder = shop.folder()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--dest",
               folder, "--only-binary=:all:", "--python-version", version]  # fmt: skip
    for platform in platforms:
        command += ["--platform", platform.replace("x86_64", os.uname().machine)]
    done = subprocess.run([*command, "cffi"], capture_output=True, text=True, env=venvs.ENVIRONMENT, check=False)
    if done.returncode:
        raise Unavailable(f"no wheel of cffi for Python {version}: {done.stderr.strip().splitlines()[-1]}")
    return next(folder.glob("*.whl"))


def alpine_like(shop: Workshop) -> Place:
    """Nothing but musl: CPython and libbpf built for it. Alpine's own packages can't be had here."""
    import musl

    root = musl.root()
    version = musl.version()
    layer = layer_of(shop, shop.wheel, shop.musl_companion, cffi_for(shop, version, "musllinux_1_2_x86_64"))
    shutil.copy(targets.compiled("calls.c", compiler="musl-gcc"), layer / "probe")
    return in_root(shop, root, layer, f"/usr/local/bin/python{version}",
                   "musl 1.2, CPython built for it, the wheel pyebpf-libbpf built for it", PYTHONPATH="/site",
                   LD_LIBRARY_PATH="/usr/local/lib")  # fmt: skip


@contextmanager
def neighbour(shop: Workshop) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`calls` in a container of its own; yields it and its pid on this host."""
    from containers import container

    with container(shop.folder(), targets.compiled("calls.c"), "-n", "997", "hot") as found:
        yield found
