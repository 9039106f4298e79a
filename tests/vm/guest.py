#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs a command as root under another kernel, which it boots in QEMU with this machine's files.

    python tests/vm/guest.py [options] KERNEL -- COMMAND…
    python tests/vm/guest.py 5.10 -- uname -a
    python tests/vm/guest.py --arch arm64 --root DIR --share /srv/x:/x 6.12 -- python3 -c 'print(1)'
    python tests/vm/guest.py --prepare newest        # downloads only; prints the release

KERNEL is a series of Debian's (5.10, 6.1, 6.12, 7.2), a whole release (6.12.107+deb13-cloud-amd64), or "newest".
The guest sees this machine's files below an overlay in its memory: what it writes is gone afterwards, but in folders
given by --share. The command begins in the same folder, with the same PATH and HOME, and no network but "lo". For
arm64, --root is a root directory of that architecture (the first stage of debootstrap is enough); "/" without it.

--cpus N (1), --mem MIB (2048), --timeout S (600): of the whole guest; --share DIR[:AS]: writable in the guest;
--append WORDS: to the kernel's command line; --console: the kernel's messages to standard error.

Exit code: the command's; 124: it took too long; 125: the guest didn't come up, or died. A guest that dies or hangs
while it boots is tried again, twice. 126: a kernel or the emulator can't be had.

Guests are emulated, 10 to 20 times slower than this machine (KVM is not always there, and not always works: set
PYEBPF_VM_ACCEL=kvm to try it). Needs root, apt and kmod; downloads go to ~/.cache/pyebpf-tests/vm (images.py).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import mmap
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import debian  # noqa: E402
import images  # noqa: E402

TRIES = 3
BOOTS_WITHIN = 240  # seconds; 5 to 35 on an idle machine
TIMED_OUT, DIED, NOT_HAD = 124, 125, 126
KERNEL_WORDS = (
    "panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check noreplace-smp rcupdate.rcu_expedited=1 "
    "cryptomgr.notests apparmor=0 audit=0 random.trust_cpu=on raid=noautodetect i8042.noaux i8042.nopnp=1"
)  # what takes long under emulation left out


class Guest(NamedTuple):
    """What to boot.

    Attributes:
        cpus: more than one only with thread=multi (PYEBPF_VM_ACCEL), which takes a core each.
        share: folders of this machine that the guest may write to, and where they are there.
        environment: of the command, besides PATH, HOME and TERM.
    """

    kernel: images.Kernel
    emulator: images.Emulator
    architecture: str = "amd64"
    root: Path = Path("/")
    cpus: int = 1
    memory: int = 2048
    share: Sequence[tuple[Path, Path]] = ()
    append: str = ""
    environment: Mapping[str, str] = {}


stopping = threading.Event()  # set: guests are to end


class BootFailed(Exception):
    """The guest died before the command began."""


def run(
    guest: Guest, command: Sequence[str], timeout: float, tell: Callable[[bytes], object], console: bool = False
) -> int:
    """Boots a guest and runs a command in it.

    Args:
        timeout: seconds, of booting too.
        tell: is given what the command says, as it says it.

    Returns:
        The command's exit code, or `TIMED_OUT`, or `DIED`.
    """
    until = time.monotonic() + timeout
    for attempt in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="pyebpf-vm-") as folder:
            try:
                return _run_once(guest, command, until, tell, Path(folder), console)
            except BootFailed as error:
                print(f"guest: {error}{'' if attempt + 1 == TRIES else '; again'}", file=sys.stderr)
    return DIED


def _run_once(
    guest: Guest, command: Sequence[str], until: float, tell: Callable[[bytes], object], folder: Path, console: bool
) -> int:
    share = folder / "share"
    share.mkdir()
    shared = [*guest.share]
    if guest.root != Path("/"):
        shared.append((guest.kernel.modules, Path("/lib/modules") / guest.kernel.release))
    environment = {"HOME": os.environ.get("HOME", "/root"), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    environment.update({"TERM": "dumb", **guest.environment})
    words = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    words += [f"cd {shlex.quote(os.getcwd())} 2>/dev/null || cd /", f"exec {shlex.join(command)}", ""]
    (share / "command").write_text("\n".join(words))
    (share / "writable").write_text("".join(f"{i} {there}\n" for i, (_, there) in enumerate(shared)))
    shutil.copy(HERE / "guest-start.sh", share / "start")
    (share / "start").chmod(0o755)
    with contextlib.ExitStack() as stack:
        served = [("root", guest.root, True), ("share", share, False)]
        served += [(f"rw{i}", here, False) for i, (here, _) in enumerate(shared)]
        devices = _by_9p(served) if guest.kernel.has_9p else stack.enter_context(_by_virtiofs(guest, served, folder))
        command_line = _command(guest, folder / "console", "9p" if guest.kernel.has_9p else "virtiofs", console)
        process = stack.enter_context(_started([*guest.emulator.qemu, *command_line, *devices], folder / "errors"))
        assert process.stdout is not None
        forward = threading.Thread(target=_forward, args=(process.stdout.fileno(), tell), daemon=True)
        forward.start()
        boots_until = min(time.monotonic() + BOOTS_WITHIN, until)
        booted = share / "booted"
        while process.poll() is None:  # a fifth of a second is nothing to a guest
            now = time.monotonic()
            if stopping.is_set():
                return TIMED_OUT
            if now > until and booted.exists():
                print("guest: the time is over", file=sys.stderr)
                return TIMED_OUT
            if now > boots_until and not booted.exists():
                raise BootFailed(f"has not booted in time{_last_words(folder / 'console')}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        forward.join(10)
        if console:
            sys.stderr.write((folder / "console").read_text(errors="replace"))
        if (share / "code").exists():
            return int((share / "code").read_text())
        if booted.exists() and booted.stat().st_size:
            print(f"guest: died{_last_words(folder / 'console')}{_last_words(folder / 'errors')}", file=sys.stderr)
            return DIED
        raise BootFailed(f"died while booting{_last_words(folder / 'console')}{_last_words(folder / 'errors')}")


def _forward(fd: int, tell: Callable[[bytes], object]) -> None:
    while data := os.read(fd, 1 << 16):
        tell(data)


def _last_words(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()[-20:] if path.exists() else []
    return "".join(f"\n    {line}" for line in lines)


@contextlib.contextmanager
def _started(command: Sequence[str], errors: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with open(errors, "wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _command(guest: Guest, console: Path, by: str, verbose: bool) -> list[str]:
    """The emulator's arguments, all but the file systems."""
    arm = guest.architecture == "arm64"
    machine, cpu, terminal = ("virt,gic-version=max", "max,pauth-impdef=on,sve=off,sme=off", "ttyAMA0") if arm else (
        "q35", "max,la57=off", "ttyS0")  # fmt: skip
    accel = os.environ.get("PYEBPF_VM_ACCEL", f"tcg,thread={'multi' if guest.cpus > 1 else 'single'},tb-size=512")
    if accel == "kvm":
        cpu = "host"
    words = [
        f"console={terminal}", KERNEL_WORDS, *(() if verbose else ("quiet", "loglevel=3")), f"vm.by={by}",
        f"vm.release={guest.kernel.release}", f"vm.modules={guest.kernel.modules}", f"vm.date={int(time.time())}",
        *([f"tsc_early_khz={_tsc_khz()}"] if not arm and accel != "kvm" else ()), guest.append,
    ]  # fmt: skip
    return [
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", machine, "-accel", accel,
        "-cpu", cpu, "-smp", str(guest.cpus), "-m", str(guest.memory), "-chardev", f"file,id=console,path={console}",
        "-serial", "chardev:console", "-device", "virtio-serial-pci",
        "-chardev", "file,id=out,path=/proc/self/fd/1", "-device", "virtserialport,chardev=out,name=vm.out",
        "-kernel", str(guest.kernel.image), "-initrd", str(guest.kernel.initrd), "-append", " ".join(words),
        "-object", f"memory-backend-memfd,id=memory,size={guest.memory}M,share=on", "-numa", "node,memdev=memory",
    ]  # fmt: skip


def _tsc_khz() -> int:
    """What this processor's time stamp counter counts in a millisecond, 0 if it can't be told.

    An emulated processor's is this one's. A guest on a busy machine measures it wrong, and its time runs many times too
    fast from then on.
    """
    if platform.machine() != "x86_64":
        return 0
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx, 32; or rax, rdx; ret
        exported = ctypes.c_char.from_buffer(code)
        begun, low = _both(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(exported)))
        time.sleep(0.2)
        ended, high = _both(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(exported)))
        del exported
    return round((high - low) * 1_000_000 / (ended - begun))


def _both(count: Callable[[], int]) -> tuple[int, int]:
    """Clock and counter of the same moment: of the attempt during which the least time passed."""
    tries = []
    for _ in range(200):
        before, ticks, after = time.monotonic_ns(), count(), time.monotonic_ns()
        tries.append((after - before, (before + after) // 2, ticks))
    return min(tries)[1:]


def _by_9p(served: Sequence[tuple[str, Path, bool]]) -> list[str]:
    words = []
    for tag, folder, read_only in served:
        options = ",readonly=on" if read_only else ""
        words += ["-fsdev", f"local,id=fs-{tag},path={folder},security_model=none,multidevs=remap{options}"]
        words += ["-device", f"virtio-9p-pci,fsdev=fs-{tag},mount_tag={tag}"]
    return words


@contextlib.contextmanager
def _by_virtiofs(guest: Guest, served: Sequence[tuple[str, Path, bool]], folder: Path) -> Iterator[list[str]]:
    """The daemons that serve folders, one each, and the emulator's arguments for them."""
    words = []
    with contextlib.ExitStack() as stack:
        for tag, path, _ in served:
            socket = folder / f"{tag}.socket"
            cache = "always" if tag == "root" else "never" if tag == "share" else "auto"
            command = [*guest.emulator.virtiofsd, "--socket-path", str(socket), "--shared-dir", str(path)]
            command += ["--sandbox", "none", "--no-announce-submounts", "--cache", cache]
            process = stack.enter_context(_started(command, folder / f"{tag}.log"))
            until = time.monotonic() + 60
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise BootFailed(f"no virtiofsd{_last_words(folder / f'{tag}.log')}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            words += ["-chardev", f"socket,id=chr-{tag},path={socket}"]
            words += ["-device", f"vhost-user-fs-pci,chardev=chr-{tag},tag={tag}"]
        yield words


def _folders(text: str) -> tuple[Path, Path]:
    here, _, there = text.partition(":")
    return Path(here).resolve(), Path(there or Path(here).resolve())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=True)
    parser.add_argument("--arch", default="amd64", choices=images.EMULATORS)
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--mem", type=int, default=2048)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--share", type=_folders, action="append", default=[])
    parser.add_argument("--append", default="")
    parser.add_argument("--console", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("kernel")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the emulator ends with us
    try:
        kernel, emulator = images.kernel(options.kernel, options.arch), images.emulator(options.arch)
    except debian.Unavailable as error:
        print(f"guest: {error}", file=sys.stderr)
        return NOT_HAD
    if options.prepare:
        print(kernel.release)
        return 0
    if not options.command:
        parser.error("no command")
    guest = Guest(
        kernel, emulator, options.arch, options.root.resolve(), options.cpus, options.mem, options.share, options.append
    )
    return run(guest, options.command, options.timeout, lambda data: os.write(1, data), options.console)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
