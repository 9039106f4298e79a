# SPDX-License-Identifier: BSD-2-Clause
"""How many bytes of records can wait in the kernel for whoever reads them."""

from __future__ import annotations

import mmap
import os

from pyebpf.core.map import Map
from pyebpf.errors import StateError

_MOST = 1 << 30
_UNITS = {"K": 10, "M": 20, "G": 30}


def parse(text: str) -> int:
    """Bytes: "65536", "64K", "16M". Raises ValueError."""
    digits, shift = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 0)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12) or not 0 < int(digits) << shift <= _MOST:
        raise ValueError(f"{text!r:.80} is not a size such as 64K or 16M, 1G at most")
    return int(digits) << shift


def make(ring: Map, usual: int | None = None) -> None:
    """Sizes the ring buffer of an opened object, to a power of two of at least a page.

    Args:
        usual: bytes where ``PYEBPF_BUFFER`` asks for none; None: what the object has.

    Raises:
        StateError: ``PYEBPF_BUFFER`` is no size.
    """
    size, asked = usual, os.environ.get("PYEBPF_BUFFER")
    if asked:
        try:
            size = parse(asked)
        except ValueError as error:
            raise StateError(f"PYEBPF_BUFFER: {error}") from None
    if size is not None:
        ring.max_entries = max(mmap.PAGESIZE, 1 << (size - 1).bit_length())
