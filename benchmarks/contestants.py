# SPDX-License-Identifier: BSD-2-Clause
"""Who takes part, and how each does the same job."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple, Optional

COUNT, COUNT_BY_NAME, LATENCY, SLOWER, NOTHING = "count", "count by name", "latency", "slower", "empty probe"
TRACE = "trace"
FAMILIES = ("pyebpf", "bpftrace", "funclatency")

_SLOW_US = 1_000_000  # no call of the benchmark is that slow
_BPFTRACE = {  # AT: path and function
    NOTHING: "uprobe:AT { @ = 1 }",
    COUNT: "uprobe:AT { @ = count(); }",
    COUNT_BY_NAME: "uprobe:AT { @[func] = count(); }",
    LATENCY: "uprobe:AT { @start[tid] = nsecs; } "
    "uretprobe:AT /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }",
    TRACE: r'uprobe:AT { printf("%d %d %s\n", arg0, arg1, str(arg2)); }',
    SLOWER: "uprobe:AT { @start[tid] = nsecs; } "
    "uretprobe:AT /@start[tid]/ { $took = nsecs - @start[tid]; delete(@start[tid]); "
    f"if ($took > {_SLOW_US}000) "
    '{ printf("%s %d %d\\n", comm, tid, $took); } }',
}
_PYEBPF = {
    COUNT: ["funccount"],
    LATENCY: ["funclatency"],
    SLOWER: ["funcslower", "-u", str(_SLOW_US)],
}


class Contestant(NamedTuple):
    """A tool.

    Attributes:
        name: as it stands in the tables.
        family: what its command line looks like, one of FAMILIES.
        command: how it is started, without options.
    """

    name: str
    family: str
    command: tuple[str, ...]

    def line(self, job: str, path: str, function: str, seconds: Optional[int] = None) -> Optional[list[str]]:
        """The command line for a job, for some seconds or until SIGINT. None: the tool has no such job."""
        if self.family == "bpftrace" and job in _BPFTRACE:
            program = _BPFTRACE[job].replace("AT", f"{path}:{function}")
            return [*self.command, "-e", program + (f" interval:s:{seconds} {{ exit(); }}" if seconds else "")]
        duration = ["-d", str(seconds)] if seconds else []
        if self.family == "pyebpf" and job in _PYEBPF:
            return [*self.command, *_PYEBPF[job], *duration, f"{path}:{function}"]
        if self.family == "pyebpf" and job == TRACE:
            return [*self.command, "trace", *duration, f"{path}:{function}", "arg0:s32", "arg1:s64", "arg2:str"]
        if self.family == "funclatency" and job == LATENCY:
            return [*self.command, *duration, f"{path}:{function}"]
        return None


def find(pyebpf: str, peers: list[str]) -> list[Contestant]:
    """pyebpf, the peers that are installed, and those given as NAME=COMMAND."""
    found = [Contestant(f"pyebpf {version([pyebpf, '--version'])}", "pyebpf", (pyebpf,))]
    bpftrace = shutil.which("bpftrace")
    if bpftrace:
        found.append(Contestant(f"bpftrace {version([bpftrace, '--version'])}", "bpftrace", (bpftrace,)))
    for binary, name in (
        ("funclatency-libbpf", "libbpf-tools"),  # Debian's name since libbpf-tools 0.31
        ("funclatency", "libbpf-tools"),
        ("funclatency-bpfcc", "bcc"),
    ):
        path = shutil.which(binary)
        if path and not any(one.name == name for one in found):
            found.append(Contestant(name, "funclatency", (path,)))
    for peer in peers:
        name, _, command = peer.partition("=")
        family = next((family for family in FAMILIES if command and family in os.path.basename(name)), None)
        if family is None:
            sys.exit(f"--peer {peer}: NAME=COMMAND, and NAME contains one of {', '.join(FAMILIES)}")
        found.append(Contestant(name, family, tuple(command.split())))
    return found


def version(command: list[str]) -> str:
    """What it says of itself."""
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+(\.\d+)+\S*", output)
    return match.group() if match else "?"
