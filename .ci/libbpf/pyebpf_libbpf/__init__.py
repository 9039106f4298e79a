# SPDX-License-Identifier: BSD-2-Clause
"""libbpf for hosts that have none: pyebpf takes it where there is no libbpf.so.1 of the system's."""

from __future__ import annotations

import os


def path() -> str:
    """The libbpf.so.1 in this package; libelf lies beside it."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "libbpf.so.1")
