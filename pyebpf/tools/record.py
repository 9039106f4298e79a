# SPDX-License-Identifier: BSD-2-Clause
"""Records as plain values: what ``as_dict`` of every record returns, and what the command prints as JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pyebpf.tools.text import Cut

# Moments and times are in nanoseconds; their names in JSON say so.
_NANOSECONDS = frozenset(("time", "latency", "duration", "observed", "age", "started"))
_STACKS = frozenset(("user_stack", "kernel_stack"))  # of `pyebpf.target.stacks.Frame`
_PLAIN = frozenset((int, str, bool, type(None)))


def as_dict(record: Any, value_of: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A named tuple as JSON has it: values that `json.dumps` takes, by name.

    Names of moments and times end in ``_ns``. Bytes become text, with ``\\xNN`` for what isn't UTF-8; beside a text
    that was cut stands NAME_cut: true. A traced function is ``function``, its name, and ``path``; a stack is a list of
    names.

    Args:
        value_of: makes JSON of what is in dictionaries.
    """
    fields: dict[str, Any] = {}
    for name, value in zip(_names(record._fields), record):
        kind = type(value)
        if kind in _PLAIN:
            fields[name] = value
        elif kind is bytes:
            fields[name] = value.decode("utf-8", "backslashreplace")
        elif name in _STACKS:
            fields[name] = [frame.name for frame in value]
        elif kind is dict and value_of is not None:
            fields[name] = {key: value_of(one) for key, one in value.items()}
        elif name == "function":
            fields[name], fields["path"] = value.name, value.path
        else:
            fields[name] = plain(value)
            if kind is Cut:
                fields[f"{name}_cut"] = True
    return fields


@lru_cache(maxsize=256)
def _names(fields: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a record's fields in JSON."""
    return tuple([f"{name}_ns" if name in _NANOSECONDS else name for name in fields])


def plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return [plain(one) for one in value] if isinstance(value, (tuple, list)) else value
