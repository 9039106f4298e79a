# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf: trace the functions of running programs with eBPF, from Python, with nothing but libbpf on the host.

>>> with pyebpf.count("./server:main.*", pid=1234) as counts:
...     time.sleep(5)
...     for function, calls in counts.snapshot().most_common(10):
...         print(calls, function.name)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pyebpf.core.object import Object as Object
    from pyebpf.errors import (
        AttachError as AttachError,
    )
    from pyebpf.errors import (
        BinaryError as BinaryError,
    )
    from pyebpf.errors import (
        Error as Error,
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
    from pyebpf.tools.argdist import argdist as argdist
    from pyebpf.tools.funccount import count as count
    from pyebpf.tools.funclatency import latency as latency
    from pyebpf.tools.funcslower import slower as slower
    from pyebpf.tools.stackcount import stacks as stacks
    from pyebpf.tools.trace import trace as trace

# Public names, and where each lives. They are imported when first used: a command pays for one tool only.
_HOMES = {
    **dict.fromkeys(
        (
            "AttachError", "BinaryError", "Error", "LibbpfError", "LibbpfMissing", "LoadError", "PermissionDenied",
            "StateError", "TargetError", "TargetNotFound", "UnsafeProbe", "Unsupported",
        ),
        "pyebpf.errors",
    ),
    "Object": "pyebpf.core.object",
    "argdist": "pyebpf.tools.argdist",
    "count": "pyebpf.tools.funccount",
    "latency": "pyebpf.tools.funclatency",
    "slower": "pyebpf.tools.funcslower",
    "stacks": "pyebpf.tools.stackcount",
    "trace": "pyebpf.tools.trace",
}  # fmt: skip

__all__ = [*sorted(_HOMES), "__version__"]


if not TYPE_CHECKING:  # a type checker would believe that every name exists

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'pyebpf' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
