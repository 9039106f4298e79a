# SPDX-License-Identifier: BSD-2-Clause
"""Text that is safe on a terminal: names come from binaries and processes that others control."""

from __future__ import annotations

import re

# C0 and C1 controls, DEL, and what reorders or hides text: Unicode's format characters (Cf) but for the number signs
# that are seen, its separators of lines and paragraphs, and letters without a shape (Hangul fillers and the like).
# Compiled when there is such a text: that takes half a millisecond.
_UNSAFE = (
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# The folders before a Go package's name, left out where room is scarce.
FOLDERS = r"^(?:[\w.~-]+/)+"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that isn't UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe(text: str | bytes) -> str:
    """Escapes what could drive or deceive a terminal: ESC becomes ``\\x1b``, bytes that aren't UTF-8 ``\\xNN``."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return text if text.isascii() and text.isprintable() else re.sub(_UNSAFE, _escape, text)
