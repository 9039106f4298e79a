# SPDX-License-Identifier: BSD-2-Clause
"""What bash is told, and which programs it starts for that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pyebpf
from pyebpf import build


def watch(bash: str = "bash") -> Iterator[Any]:
    """Yields events as they happen; closing the generator ends it."""
    image = files("shells").joinpath(f"own.{build.host()}.bpf.o").read_bytes()
    with pyebpf.Object.open(image) as own:
        own.load()
        own.programs["on_line"].attach_uretprobe(bash, "readline")
        own.programs["on_start"].attach_uprobe(bash, "shell_execve")
        print("Tracing bash. Ctrl-C to end.", file=sys.stderr)
        yield from own.ring("events")


def main() -> None:
    """The command: shells [PATH OF BASH [HOW MANY EVENTS]]"""
    bash = sys.argv[1] if len(sys.argv) > 1 else "bash"
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    try:
        for number, event in enumerate(watch(bash), 1):
            print(event.pid, event.text.decode(errors="replace"), flush=True)
            if number == most:
                break
    except KeyboardInterrupt:
        pass
    except pyebpf.Error as error:
        sys.exit(f"shells: {error}" + (f" ({error.hint})" if error.hint else ""))
