# SPDX-License-Identifier: BSD-2-Clause
"""How many different values or stacks the kernel counts apart."""

from __future__ import annotations

from pyebpf.errors import TargetError

DEFAULT_MAX_KEYS = 16384
MOST_KEYS = 1 << 20


def check(max_keys: int) -> int:
    """Returns it. Raises TargetError: no table has so many rows."""
    if not 0 < max_keys <= MOST_KEYS:
        raise TargetError(f"{max_keys} keys can't be counted apart: between 1 and {MOST_KEYS} can")
    return max_keys
