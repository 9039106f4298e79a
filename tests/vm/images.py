# SPDX-License-Identifier: BSD-2-Clause
"""What a guest is made of: Debian's kernels, and an emulator. Downloaded once, nothing is installed into the machine.

Everything lives in ``${XDG_CACHE_HOME:-~/.cache}/pyebpf-tests/vm``: a folder a kernel (60 to 250 MB) and one an
emulator (170 MB). Delete it to start over, or to get newer kernels of the same series.

The emulator is that of Debian 13 with its libraries, whatever this machine has: it is 1.6 times as fast as the one of
Debian 12, whose emulation of cmpxchg16b is wrong besides (which Linux 7 can't do without).
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import debian

CACHE = debian.CACHE.parent / "vm"
SUITES = ("bullseye", "bookworm", "trixie", "trixie-backports", "sid")  # where a series is looked for, the first counts
NEWEST = "newest"
NEEDED = ("virtio_pci", "virtio_mmio", "virtio_console", "9pnet_virtio", "9p", "virtiofs", "overlay")
EMULATORS = {"amd64": ("qemu-system-x86", "qemu-system-x86_64"), "arm64": ("qemu-system-arm", "qemu-system-aarch64")}
HERE = Path(__file__).resolve().parent


class Kernel(NamedTuple):
    """A kernel, ready to boot.

    Attributes:
        release: as uname -r tells it.
        image: what the emulator loads.
        initrd: modules for the root's file system, and `guest-init.sh`.
        modules: the folder that belongs to /lib/modules/RELEASE.
        has_9p: the root can be had by 9p; otherwise it takes virtiofs.
    """

    release: str
    image: Path
    initrd: Path
    modules: Path
    has_9p: bool


class Emulator(NamedTuple):
    """The emulator's program with the words before its arguments, and the daemon that serves it files by virtiofs."""

    qemu: list[str]
    virtiofsd: list[str]


def version_of(release: str) -> tuple[int, ...]:
    """(6, 12, 107) of 6.12.107+deb13-cloud-amd64; Debian's 5.10.0-32 sorts by what comes after the dash, too."""
    return tuple(int(number) for number in re.findall(r"\d+", release.partition("+")[0].partition("-cloud")[0]))


def kernel(name: str, architecture: str = "amd64") -> Kernel:
    """Debian's kernel by its series ("5.10"), its whole release, or `NEWEST`.

    Raises:
        debian.Unavailable: there is none, or it can't be downloaded.
    """
    kept = CACHE / "series" / f"{name}-{architecture}"
    with debian.locked(CACHE, f"kernel-{name}-{architecture}"):
        release = kept.read_text() if kept.exists() else ""
        if not (release and (CACHE / release / "initrd").exists()):
            release, suite = _find(name, architecture)
            if not (CACHE / release / "initrd").exists():
                _download(release, suite, architecture)
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(release)
    home = CACHE / release
    return Kernel(
        release, home / "image", home / "initrd", home / "modules" / "lib" / "modules" / release,
        "\nCONFIG_9P_FS=" in (home / "config").read_text(),
    )  # fmt: skip


def _find(name: str, architecture: str) -> tuple[str, str]:
    """A kernel's release and the suite it is in: the cloud flavour, which is small and boots fast."""
    begins = "[7-9]" if name == NEWEST else re.escape(name)
    pattern = re.compile(rf"linux-image-({begins}(?:[.+-][0-9a-z.+~-]*)?-cloud-{architecture})$")
    if name.endswith(architecture):
        pattern = re.compile(rf"linux-image-({re.escape(name)})$")
    for suite in ("trixie-backports", "sid") if name == NEWEST else SUITES:
        with debian.apt(suite, architecture=architecture) as (_, command):
            listed = debian.run(["apt-cache", *command[2:], "search", "--names-only", "^linux-image-[0-9]"])
        found = [match[1] for line in listed.splitlines() if (match := pattern.match(line.split()[0]))]
        if found:
            return max(found, key=version_of), suite
    raise debian.Unavailable(f"Debian has no kernel {name} for {architecture}")


def _download(release: str, suite: str, architecture: str) -> None:
    """Unpacks a kernel's packages, uncompresses its image (an emulated one takes long for that), makes its initrd."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        new, root = Path(folder) / "new", Path(folder) / "root"
        new.mkdir()
        debian.unpack([f"linux-image-{release}"], suite, root, architecture)
        if not [*root.glob("**/vmlinuz*")]:  # since 6.19 a package of packages
            parts = [f"linux-{part}-{release}" for part in ("binary", "modules", "base")]
            debian.unpack(parts, suite, root, architecture)
        (image,) = [path for path in root.glob("**/vmlinuz*") if path.is_file() and not path.is_symlink()]
        (new / "image").write_bytes(uncompressed(image.read_bytes()))
        config = next(path for pattern in ("**/config-*", "**/config") for path in root.glob(pattern))
        shutil.copy(config, new / "config")
        modules = next(path for path in root.glob("**/modules") if (path / release).is_dir()) / release
        target = new / "modules" / "lib" / "modules" / release
        target.parent.mkdir(parents=True)
        modules.rename(target)
        depmod = shutil.which("depmod", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
        if depmod is None:
            raise debian.Unavailable("no depmod: apt install kmod")
        debian.run([depmod, "-b", str(new / "modules"), release])
        busybox = Path(folder) / "busybox"
        debian.unpack(["busybox-static"], "trixie", busybox, architecture)
        (new / "initrd").write_bytes(gzip.compress(b"".join(_initrd(target, busybox / "usr/bin/busybox")), 1))
        home = CACHE / release
        shutil.rmtree(home, ignore_errors=True)
        new.rename(home)


def uncompressed(image: bytes) -> bytes:
    """The kernel inside of a compressed image; of an image that isn't known, itself."""
    payload, how = b"", ""
    if image[0x38:0x3C] == b"ARM\x64":
        return image
    if image[:2] == b"\x1f\x8b":
        return gzip.decompress(image)
    if image[4:8] == b"zimg":  # EFI's, on arm64
        begin, size = struct.unpack_from("<II", image, 8)
        payload = image[begin : begin + size]
        how = image[24:56].split(b"\0")[0].decode()
    elif image[0x202:0x206] == b"HdrS":  # x86's
        begin, size = struct.unpack_from("<II", image, 0x248)
        begin += ((image[0x1F1] or 4) + 1) * 512
        payload = image[begin : begin + size - 4]
    if payload[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(payload)
    if payload[:2] == b"\x1f\x8b" or how == "gzip":
        return gzip.decompress(payload)
    for magic, program, package in ((b"\x28\xb5\x2f\xfd", "zstd", "zstd"), (b"\x02\x21\x4c\x18", "lz4", "lz4")):
        if payload.startswith(magic):
            command = [str(debian.program(program, package)), "-dcq"]
            return subprocess.run(command, input=payload, stdout=subprocess.PIPE, check=True).stdout
    return image


def _initrd(modules: Path, busybox: Path) -> Iterator[bytes]:
    """An archive (cpio's "newc") of busybox, `guest-init.sh` and the modules it loads."""
    yield from (_entry(name, 0o40755, b"") for name in ("bin", "dev", "proc", "sys", "lower", "rw", "newroot", "mods"))
    yield _entry("bin/busybox", 0o100755, busybox.read_bytes())
    for name in ("sh", "mount", "umount", "mkdir", "insmod", "switch_root", "poweroff", "cat", "cp", "ln", "sleep"):
        yield _entry(f"bin/{name}", 0o120777, b"busybox")
    yield _entry("init", 0o100755, (HERE / "guest-init.sh").read_bytes())
    wanted = [*_with_dependencies(modules)]
    for path in wanted:
        yield _entry(f"mods/{_plain(path)}", 0o100644, _module(path))
    yield _entry("mods/list", 0o100644, "".join(f"{_plain(path)}\n" for path in wanted).encode())
    yield _entry("TRAILER!!!", 0, b"")


def _entry(name: str, mode: int, data: bytes) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = ("070701" + "".join(f"{field:08X}" for field in fields) + name + "\0").encode()
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _plain(path: Path) -> str:
    return path.name.partition(".ko")[0] + ".ko"


def _module(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".zst":
        command = [str(debian.program("zstd")), "-dcq"]
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
    return lzma.decompress(data) if path.suffix == ".xz" else gzip.decompress(data) if path.suffix == ".gz" else data


def _with_dependencies(modules: Path) -> Iterator[Path]:
    """The files of `NEEDED`, as far as they are no part of the kernel itself, in the order they are loaded in."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    names = {_plain(Path(path))[:-3].replace("-", "_"): path for path in needs}
    done: set[str] = set()

    def load(path: str) -> Iterator[Path]:
        if path not in done:
            done.add(path)
            for other in reversed(needs[path]):  # modules.dep has all, those that come first last
                yield from load(other)
            yield modules / path

    for name in NEEDED:
        if name in names:
            yield from load(names[name])


def emulator(architecture: str = "amd64") -> Emulator:
    """Debian 13's QEMU and virtiofsd, started by their own C library.

    Raises:
        debian.Unavailable: they can't be downloaded.
    """
    package, program = EMULATORS[architecture]
    with debian.locked(CACHE, package):
        home = CACHE / package
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                debian.unpack([package, "virtiofsd"], "trixie", Path(folder) / "new", dependencies=True)
                (Path(folder) / "new").rename(home)
    libraries = [str(path.parent) for path in (home / "usr" / "lib").glob("*-linux-gnu/libc.so.6")]
    loaders = [*(home / "usr" / "lib64").glob("ld-linux*"), *(home / "usr" / "lib").glob("ld-linux-aarch64*")]
    begin = [str(loaders[0]), "--library-path", ":".join(libraries)]
    data = [word for folder in ("qemu", "seabios", "ipxe/qemu") for word in ("-L", str(home / "usr/share" / folder))]
    return Emulator(
        [*begin, str(home / "usr" / "bin" / program), *data], [*begin, str(home / "usr" / "libexec" / "virtiofsd")]
    )


def prepare(names: Sequence[str], architecture: str = "amd64") -> list[Kernel]:
    """Downloads all that guests of these kernels take. Raises debian.Unavailable."""
    emulator(architecture)
    return [kernel(name, architecture) for name in names]
