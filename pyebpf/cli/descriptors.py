# SPDX-License-Identifier: BSD-2-Clause
"""How many files the command may have open: before Linux 6.6 each probe is one, and 1,024 is the usual limit."""

from __future__ import annotations

import resource

_ENOUGH = 1 << 20


def allow_many() -> None:
    """Raises the limit as far as that is ours to do. Commands that are to run with the usual one are started before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
