# SPDX-License-Identifier: BSD-2-Clause
"""JSON lines: one object a line, each with a "type". Fields are only ever added within a major version."""

from __future__ import annotations

import json
import time


def line(kind: str, **fields: object) -> str:
    """One record as a line of JSON, pure ASCII, without the newline. Bytes become text, with ``\\xNN`` for what isn't
    UTF-8."""
    return json.dumps({"type": kind, **fields}, default=_plain)


def timestamp() -> str:
    """The wall-clock time as ISO 8601 with its offset."""
    now = time.time()
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
    return f"{text}.{int(now % 1 * 1000):03d}{time.strftime('%z', time.localtime(now))}"


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(f"{type(value).__name__} has no place in a record")
