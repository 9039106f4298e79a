# SPDX-License-Identifier: BSD-2-Clause
"""The agent's log: a line of JSON for each thing that happens."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from pyebpf.output.text import safe

_LONGEST = 4000


class Log:
    """Writes lines of JSON, pure ASCII: what comes from binaries and processes can't break out of a line.

    Args:
        fd: where to.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd

    def __call__(self, level: str, message: str, **fields: object) -> None:
        """Writes a line; `level` is "info", "warning" or "error". Nobody to read it is no reason to end."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        line = {"ts": stamp, "level": level, "msg": _plain(message), **{k: _plain(v) for k, v in fields.items()}}
        try:
            os.write(self._fd, (json.dumps(line) + "\n").encode())
        except OSError:
            pass


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value[:100]]
    text = safe(value if isinstance(value, (str, bytes)) else str(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
