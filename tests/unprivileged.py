# SPDX-License-Identifier: BSD-2-Clause
"""Running commands as a user who isn't root and holds exactly some capabilities.

Use::

    done = subprocess.run(unprivileged.command(("CAP_BPF", "CAP_PERFMON"), sys.executable, "-m", "pyebpf", "doctor"))

Linux 5.10 of Debian refuses what CAP_PERFMON stands for while kernel.perf_event_paranoid is above 2: `paranoid`.

The user must be able to read the interpreter and what it imports. Where a folder above is closed to others (root's
home), the command gets a mount namespace of its own in which that folder shows nothing but what is needed.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyebpf.core import kernel

UID = 65534
# include/uapi/linux/capability.h; by number, as older setprivs don't know the new names
NUMBERS = {
    "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip


def command(capabilities: Sequence[str], *words: str | Path, read: Sequence[str | Path] = ()) -> list[str]:
    """The command that runs ``words`` as that user.

    Args:
        read: more folders that it reads, besides those of this interpreter.
    """
    kept = "".join(f",+cap_{NUMBERS[name]}" for name in capabilities)
    # Ambient capabilities outlive exec by somebody who isn't root; they take inheritable ones.
    drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", f"--bounding-set=-all{kept}",
            f"--inh-caps=-all{kept}", *([f"--ambient-caps=-all{kept}"] if kept else []), "--"]  # fmt: skip
    return [*_opened([sys.prefix, sys.base_prefix, *filter(None, sys.path), *map(str, read)]), *drop, *map(str, words)]


@contextmanager
def paranoid(level: int) -> Iterator[None]:
    """Within the block kernel.perf_event_paranoid has this value."""
    sysctl = Path("/proc/sys/kernel/perf_event_paranoid")
    before = sysctl.read_text()
    try:
        sysctl.write_text(f"{level}\n")
        yield
    finally:
        sysctl.write_text(before)


@functools.cache
def uprobes_take_admin() -> bool:
    """If function tools need CAP_SYS_ADMIN, as they attach by perf events, which the kernel gives to no others."""
    if kernel.has_uprobe_multi():
        return False
    script = "import errno; from pyebpf.core import bpf; print(bpf.open_uprobe_event('/', 0) == -errno.EACCES)"
    with paranoid(2):
        words = command(("CAP_BPF", "CAP_PERFMON"), sys.executable, "-c", script)
        return subprocess.run(words, capture_output=True, text=True, check=True, cwd="/").stdout == "True\n"


def _opened(paths: Sequence[str]) -> list[str]:
    """A prefix that opens the way to these paths, in a mount namespace of its own; nothing if it is open."""
    closed: dict[str, list[str]] = {}
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        parents = [str(parent) for parent in reversed(Path(path).parents)]
        shut = next((parent for parent in parents if not os.stat(parent).st_mode & 1), None)
        if shut and os.path.isdir(path):
            closed.setdefault(shut, []).append(path)
    if not closed:
        return []
    needed = [path for group in closed.values() for path in group]
    needed = [path for path in needed if not any(path.startswith(other + "/") for other in needed)]
    script = ["set -e", "mount -t tmpfs none /mnt"]
    script += [f"mkdir /mnt/{i}; mount --rbind {shlex.quote(path)} /mnt/{i}" for i, path in enumerate(needed)]
    script += [f"mount -t tmpfs -o mode=755 none {shlex.quote(shut)}" for shut in closed]
    script += [f"mkdir -p {shlex.quote(p)}; mount --rbind /mnt/{i} {shlex.quote(p)}" for i, p in enumerate(needed)]
    return ["unshare", "--mount", "sh", "-c", "; ".join([*script, 'exec "$@"']), "sh"]
