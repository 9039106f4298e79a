# SPDX-License-Identifier: BSD-2-Clause
"""Who takes part, and how each does the same job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import NamedTuple

COUNT, COUNT_BY_NAME, LATENCY, SLOWER = "count", "count by name", "latency histogram", "calls slower than 1 s"
TRACE, STACK, KEYS = "trace", "stack", "keys"

# bpftrace's, by its older and newer names
_LIMITS = ("BPFTRACE_MAX_PROBES=100000", "BPFTRACE_MAP_KEYS_MAX=1000000", "BPFTRACE_MAX_MAP_KEYS=1000000")
_SLOW_US = 1_000_000  # no call of the benchmark is that slow
_BPFTRACE = {  # AT: path and function
    COUNT: "uprobe:AT { @ = count(); }",
    COUNT_BY_NAME: "uprobe:AT { @[func] = count(); }",
    LATENCY: "uprobe:AT { @start[tid] = nsecs; } "
    "uretprobe:AT /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }",
    SLOWER: "uprobe:AT { @start[tid] = nsecs; } "
    "uretprobe:AT /@start[tid]/ { $took = nsecs - @start[tid]; delete(@start[tid]); "
    f"if ($took > {_SLOW_US}000) "
    '{ printf("%s %d %d\\n", comm, tid, $took); } }',
    TRACE: r'uprobe:AT { printf("%d %d %s\n", arg0, arg1, str(arg2)); }',
    STACK: "uprobe:AT { @[ustack] = count(); }",
    KEYS: "uprobe:AT { @[arg0] = count(); }",
}
_PYEBPF = {  # what stands before and behind the options
    COUNT: (["funccount"], ["AT"]),
    COUNT_BY_NAME: (["funccount"], ["AT"]),
    LATENCY: (["funclatency"], ["AT"]),
    SLOWER: (["funcslower", "-u", str(_SLOW_US)], ["AT"]),
    TRACE: (["trace"], ["AT", "arg0:s32", "arg1:s64", "arg2:str"]),
    STACK: (["stackcount"], ["AT"]),
    KEYS: (["argdist"], ["AT", "-C", "arg0:u32"]),
}
_BCC = {
    COUNT: (["funccount-bpfcc"], ["AT"]),
    COUNT_BY_NAME: (["funccount-bpfcc"], ["AT"]),
    LATENCY: (["funclatency-bpfcc"], ["AT"]),
    SLOWER: (["funcslower-bpfcc", "-u", str(_SLOW_US)], ["AT"]),
    TRACE: (["trace-bpfcc"], ['AT "%d %ld %s", arg1, arg2, arg3']),
    STACK: (["stackcount-bpfcc", "-U"], ["AT"]),
}

# What bpftrace's users write where its own tool of that name wants a kernel probe, or there is none.
_STATE = "tracepoint:sock:inet_sock_set_state "
_TCP = "args->protocol == 6 && "
_BYTES = (
    "tracepoint:sock:sock_%s_length /args->protocol == 6 && args->ret > 0/ { "
    "$sk = (struct sock *)args->sk; $to = $sk->__sk_common.skc_dport; "
    "@%s[pid, comm, $sk->__sk_common.skc_num, ($to >> 8) | (($to << 8) & 0xff00)] = sum(args->ret); } "
)
_BY_HAND = {
    "tcpconnect": _STATE + "/" + _TCP + "args->newstate == 2/ "
    r'{ printf("%d %s %s %d\n", pid, comm, ntop(args->daddr), args->dport); }',
    "tcpaccept": _STATE + "/" + _TCP + "args->oldstate == 3 && args->newstate == 1/ "
    r'{ printf("%d %s %s %d\n", pid, comm, ntop(args->daddr), args->sport); }',
    "tcpstates": _STATE + r'{ printf("%p %d %s %d %d %d %d\n", args->skaddr, pid, comm, args->sport, args->dport, '
    "args->oldstate, args->newstate); }",
    "tcptop": _BYTES % ("send", "sent") + _BYTES % ("recv", "received")
    + "interval:s:1 { print(@sent); print(@received); clear(@sent); clear(@received); }",
}


class Contestant(NamedTuple):
    """A tool, or a family of tools.

    Attributes:
        name: as it stands in the tables.
        family: pyebpf, bpftrace, libbpf-tools or bcc.
        command: pyebpf's and bpftrace's command, and what stands before the path of a tool of the others.
        folder: where the others' tools lie, and those that come with bpftrace.
        options: for each run.
        root: where another system's files are that it is run with.
    """

    name: str
    family: str
    command: tuple[str, ...]
    folder: str = ""
    options: tuple[str, ...] = ()
    root: str = ""

    @property
    def ours(self) -> bool:
        return self.family == "pyebpf"

    def line(self, job: str, path: str, function: str, seconds: int | None = None) -> list[str] | None:
        """The command line for a job, for some seconds or until SIGINT. None: the tool has no such job."""
        at, duration = f"{path}:{function}", ["-d", str(seconds)] if seconds else []
        if self.family == "bpftrace" and job in _BPFTRACE:
            program = _BPFTRACE[job].replace("AT", at) + (f" interval:s:{seconds} {{ exit(); }}" if seconds else "")
            return ["env", *_LIMITS, *self.command, "-e", program]
        if self.family == "pyebpf" and job in _PYEBPF:
            tool, rest = _PYEBPF[job]
            words = [*self.command, *tool, *self.options, *duration, *rest]
            return [word.replace("AT", at) for word in words] if not self.options or job in (LATENCY, SLOWER) else None
        if self.family == "libbpf-tools" and job == LATENCY:
            return [*self.command, f"{self.folder}/funclatency-libbpf", *duration, at]
        if self.family == "bcc" and job in _BCC:
            tool, rest = _BCC[job]
            if duration and job in (TRACE, SLOWER):
                return None
            rest = [word.replace("AT", at) for word in rest]
            tool = [f"{self.folder}/{tool[0]}", *tool[1:]]
            return ["env", "BCC_PROBE_LIMIT=100000", *self.command, *tool, *duration, *rest]
        return None

    def event_line(self, tool: str) -> list[str] | None:
        """The command line that shows a tool's events. None: it has no such tool."""
        if self.family == "pyebpf":
            return None if self.options else [*self.command, tool]
        if self.family == "bpftrace":
            if tool in _BY_HAND:
                return [*self.command, "-e", _BY_HAND[tool]]
            script = f"{self.folder}/{tool}.bt"
            return [*self.command, script] if os.path.exists(script) else None
        name = {"libbpf-tools": f"{tool}-libbpf", "bcc": f"{tool}-bpfcc"}[self.family]
        there = f"{self.root}{self.folder}" if self.family == "bcc" else self.folder
        return [*self.command, f"{self.folder}/{name}"] if os.path.exists(f"{there}/{name}") else None


def version(command: list[str]) -> str:
    """What it says of itself."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{' '.join(command)}: {error}")
    match = re.search(r"\d+(\.\d+)+\S*", output)
    return match.group() if match else "?"
