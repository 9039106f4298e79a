# SPDX-License-Identifier: BSD-2-Clause
"""Text that is safe on a terminal: names come from binaries and processes that others control."""

from __future__ import annotations

import re

# C0 and C1 controls, DEL, and the marks that reorder or hide text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

# The folders before a Go package's name, left out where room is scarce.
FOLDERS = r"^(?:[\w.~-]+/)+"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that isn't UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def safe(text: str | bytes) -> str:
    """Escapes what could drive or deceive a terminal: ESC becomes ``\\x1b``, bytes that aren't UTF-8 ``\\xNN``."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)
