# SPDX-License-Identifier: BSD-2-Clause
"""What tools of the kernel's events take and show, for the configuration: told from how they describe themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from pyebpf.export.values import between, chosen, flag, many, number, pid, port, seconds, text, whole

# Of events: what differs each time, isn't a value, or is nobody's business.
_NO_LABELS = frozenset(("time", "data", "data_hex", "stack", "user_stack", "kernel_stack"))
# What the verbs of event tools take besides their own options.
SCOPE: dict[str, Callable[[Any], Any]] = {
    "tid": pid,
    "uid": between(0, 2**32 - 1, whole),
    "netns": lambda value: value if isinstance(value, int) and not isinstance(value, bool) else text(value),
    "family": between(4, 6, whole),
    "local_ports": many(port),
    "remote_ports": many(port),
}


def event_tools() -> list[str]:
    """Names of the tools whose events can be counted."""
    return [name for name in _modules() if event_tool(name) is not None]


def tool_of(name: str) -> Any:
    """An event tool's description (`pyebpf.tools.tool.Tool`), None if there is none of that name."""
    from importlib import import_module

    module = _modules().get(name)
    return getattr(import_module(module), "TOOL", None) if module else None


def event_tool(name: str) -> tuple[dict[str, Callable[[Any], Any]], tuple[str, ...]] | None:
    """What can be written in a trace of a tool of the kernel's events, and the fields of its events."""
    import sys
    import typing

    from pyebpf.tools.events import EventSession

    tool = tool_of(name)
    if tool is None:
        return None
    # Not get_type_hints: Python 3.9 can't evaluate what stands at the arguments.
    session: Any = eval(tool.verb.__annotations__["return"], vars(sys.modules[tool.verb.__module__]))
    bases = [session, *(base for one in getattr(session, "__mro__", ()) for base in getattr(one, "__orig_bases__", ()))]
    events = [typing.get_args(one)[0] for one in bases if typing.get_origin(one) is EventSession]
    if not events or not hasattr(events[0], "_fields"):
        return None  # it reports sums, not events
    readers = {name: SCOPE[name] for name in tool.scope if name in SCOPE}
    kinds = {
        "flag": flag,
        "count": between(1, 2**31, whole),
        "number": between(0, 2**63 - 1, whole),
        "seconds": seconds,
        "milliseconds": between(0, 10**9, lambda value: number(value, (int, float), "a number of milliseconds")),
        "ports": many(port),
        "text": text,
        "choice": text,
    }
    for option in tool.options:
        if option.name:
            read = chosen(option.choices) if option.choices else kinds[option.kind]
            readers[option.name] = many(read) if option.repeat else read
    return readers, tuple(field for field in events[0]._fields if field not in _NO_LABELS)


def scope_of(name: str) -> tuple[str, ...]:
    return tuple(tool_of(name).scope)


def _modules() -> dict[str, str]:
    """The modules of event tools, by name. They are files, as the list of them belongs to the command."""
    from pyebpf import tools

    found = {}
    for folder in ("tcp", "snoop"):
        for path in tools.__path__:
            for file in sorted(os.listdir(os.path.join(path, folder))):
                if file.endswith(".py") and not file.startswith("_"):
                    found[file[:-3]] = f"pyebpf.tools.{folder}.{file[:-3]}"
    return found
