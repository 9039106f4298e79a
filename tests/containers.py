# SPDX-License-Identifier: BSD-2-Clause
"""Programs with a root, mounts and process ids of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyebpf.binary.elf import Elf
from pyebpf.target.process import Process


@contextmanager
def container(root: Path, program: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs a program with a root, mounts and process ids of its own; yields it, ready, and its pid as we see it."""
    with Elf.open(str(program)) as elf:
        assert elf.interpreter is not None
        interpreter = Path(elf.interpreter)
    libc = next(Path(m.path) for m in Process(os.getpid()).maps() if Path(m.path).name.startswith("libc.so"))
    for source, place in ((program, Path("app") / program.name), (libc, Path("app") / libc.name),
                          (interpreter, interpreter.relative_to("/"))):  # fmt: skip
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / place)
    process = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--kill-child", f"--root={root}", f"/app/{program.name}", *arguments],
        env={"LD_LIBRARY_PATH": "/app"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["pid"] == 1
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield process, int(children[0])
    finally:
        process.kill()
        process.communicate()
