# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf: trace the functions of running programs with eBPF, from Python, with nothing but libbpf on the host.

>>> with pyebpf.count("./server:main.*", pid=1234) as counts:
...     time.sleep(5)
...     for function, calls in counts.snapshot().most_common(10):
...         print(calls, function.name)
"""

from __future__ import annotations

TYPE_CHECKING = False  # a type checker takes this for true, too; `typing` itself takes 3 ms to import

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from pyebpf import aio as aio
    from pyebpf import build as build
    from pyebpf.core.attached import Link as Link
    from pyebpf.core.map import Map as Map
    from pyebpf.core.object import Object as Object
    from pyebpf.core.programs import Program as Program
    from pyebpf.errors import (
        AttachError as AttachError,
    )
    from pyebpf.errors import (
        BadValue as BadValue,
    )
    from pyebpf.errors import (
        BinaryError as BinaryError,
    )
    from pyebpf.errors import (
        CompileError as CompileError,
    )
    from pyebpf.errors import (
        Error as Error,
    )
    from pyebpf.errors import (
        ExtraMissing as ExtraMissing,
    )
    from pyebpf.errors import (
        LibbpfError as LibbpfError,
    )
    from pyebpf.errors import (
        LibbpfMissing as LibbpfMissing,
    )
    from pyebpf.errors import (
        LoadError as LoadError,
    )
    from pyebpf.errors import (
        NoSuchName as NoSuchName,
    )
    from pyebpf.errors import (
        PermissionDenied as PermissionDenied,
    )
    from pyebpf.errors import (
        StateError as StateError,
    )
    from pyebpf.errors import (
        TargetError as TargetError,
    )
    from pyebpf.errors import (
        TargetNotFound as TargetNotFound,
    )
    from pyebpf.errors import (
        UnsafeProbe as UnsafeProbe,
    )
    from pyebpf.errors import (
        Unsupported as Unsupported,
    )
    from pyebpf.target.command import Command as Command
    from pyebpf.tools.argdist import argdist as argdist
    from pyebpf.tools.funccount import count as count
    from pyebpf.tools.funclatency import latency as latency
    from pyebpf.tools.funcslower import slower as slower
    from pyebpf.tools.scope import Tree as Tree
    from pyebpf.tools.snoop.bashreadline import bashreadline as bashreadline
    from pyebpf.tools.snoop.bindsnoop import bindsnoop as bindsnoop
    from pyebpf.tools.snoop.capable import capable as capable
    from pyebpf.tools.snoop.drsnoop import drsnoop as drsnoop
    from pyebpf.tools.snoop.execsnoop import execsnoop as execsnoop
    from pyebpf.tools.snoop.exitsnoop import exitsnoop as exitsnoop
    from pyebpf.tools.snoop.filelife import filelife as filelife
    from pyebpf.tools.snoop.gethostlatency import gethostlatency as gethostlatency
    from pyebpf.tools.snoop.killsnoop import killsnoop as killsnoop
    from pyebpf.tools.snoop.mountsnoop import mountsnoop as mountsnoop
    from pyebpf.tools.snoop.opensnoop import opensnoop as opensnoop
    from pyebpf.tools.snoop.shmsnoop import shmsnoop as shmsnoop
    from pyebpf.tools.snoop.sslsniff import sslsniff as sslsniff
    from pyebpf.tools.snoop.statsnoop import statsnoop as statsnoop
    from pyebpf.tools.snoop.syncsnoop import syncsnoop as syncsnoop
    from pyebpf.tools.snoop.threadsnoop import threadsnoop as threadsnoop
    from pyebpf.tools.stackcount import stacks as stacks
    from pyebpf.tools.tcp.tcpaccept import tcpaccept as tcpaccept
    from pyebpf.tools.tcp.tcpcong import tcpcong as tcpcong
    from pyebpf.tools.tcp.tcpconnect import tcpconnect as tcpconnect
    from pyebpf.tools.tcp.tcpconnlat import tcpconnlat as tcpconnlat
    from pyebpf.tools.tcp.tcpdrop import tcpdrop as tcpdrop
    from pyebpf.tools.tcp.tcplife import tcplife as tcplife
    from pyebpf.tools.tcp.tcpretrans import tcpretrans as tcpretrans
    from pyebpf.tools.tcp.tcprtt import tcprtt as tcprtt
    from pyebpf.tools.tcp.tcpstates import tcpstates as tcpstates
    from pyebpf.tools.tcp.tcpsubnet import tcpsubnet as tcpsubnet
    from pyebpf.tools.tcp.tcpsynbl import tcpsynbl as tcpsynbl
    from pyebpf.tools.tcp.tcptop import tcptop as tcptop
    from pyebpf.tools.tcp.tcptracer import tcptracer as tcptracer
    from pyebpf.tools.trace import trace as trace

_SNOOPS = (
    "bashreadline", "bindsnoop", "capable", "drsnoop", "execsnoop", "exitsnoop", "filelife", "gethostlatency",
    "killsnoop", "mountsnoop", "opensnoop", "shmsnoop", "sslsniff", "statsnoop", "syncsnoop", "threadsnoop",
)  # fmt: skip
_TCP = (
    "tcpaccept", "tcpcong", "tcpconnect", "tcpconnlat", "tcpdrop", "tcplife", "tcpretrans", "tcprtt", "tcpstates",
    "tcpsubnet", "tcpsynbl", "tcptop", "tcptracer",
)  # fmt: skip
# Public names, and where each lives. They are imported when first used: a command pays for one tool only.
_HOMES = {
    **dict.fromkeys(
        (
            "AttachError", "BadValue", "BinaryError", "CompileError", "Error", "ExtraMissing", "LibbpfError",
            "LibbpfMissing", "LoadError", "NoSuchName", "PermissionDenied", "StateError", "TargetError",
            "TargetNotFound", "UnsafeProbe", "Unsupported",
        ),
        "pyebpf.errors",
    ),
    "Command": "pyebpf.target.command",
    "Link": "pyebpf.core.attached",
    "Map": "pyebpf.core.map",
    "Object": "pyebpf.core.object",
    "Program": "pyebpf.core.programs",
    "Tree": "pyebpf.tools.scope",
    **{name: f"pyebpf.tools.snoop.{name}" for name in _SNOOPS},
    **{name: f"pyebpf.tools.tcp.{name}" for name in _TCP},
    "argdist": "pyebpf.tools.argdist",
    "count": "pyebpf.tools.funccount",
    "latency": "pyebpf.tools.funclatency",
    "slower": "pyebpf.tools.funcslower",
    "stacks": "pyebpf.tools.stackcount",
    "trace": "pyebpf.tools.trace",
}  # fmt: skip

_MODULES = ("aio", "build")

__all__ = [*sorted(_HOMES), *_MODULES, "__version__"]


if not TYPE_CHECKING:  # a type checker would believe that every name exists

    def __getattr__(name: str) -> Any:
        if name not in _HOMES and name not in _MODULES:
            raise AttributeError(f"module 'pyebpf' has no attribute {name!r}")
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"pyebpf.{name}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
