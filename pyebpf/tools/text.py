# SPDX-License-Identifier: BSD-2-Clause
"""Texts and addresses in records."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop
from collections.abc import Mapping
from typing import Any


class Cut(bytes):
    """A text of which only the beginning was read."""

    __slots__ = ()


def text_behind(record: memoryview, at: int, size: int) -> bytes | None:
    """The text that bpf/include/events.bpf.h's reserve_with_text() put behind a record's fixed part.

    Args:
        at: where it begins.
        size: its length with the NUL, or -errno.

    Returns:
        None: it could not be read. A `Cut` where it was longer than the room.
    """
    if size < 0:
        return None
    text = bytes(record[at : at + max(0, size - 1)])
    return Cut(text) if size == len(record) - at else text


def shown(text: bytes | None) -> bytes:
    """A text for people: what could not be read is said."""
    return b"<unreadable>" if text is None else text


def names_of_bits(value: int, names: Mapping[int, str]) -> str:
    """Flags as C writes them: "MS_RDONLY|MS_BIND|0x80000000"; bits without a name stay a number, none are "0x0"."""
    known = [name for bit, name in names.items() if value & bit == bit]
    rest = value
    for bit in names:
        if value & bit == bit:
            rest &= ~bit
    return "|".join(known + [hex(rest)] * (rest != 0 or not known))


def addresses(flow: Any) -> tuple[int, str, str]:
    """IP version (4 or 6), local and remote address of a ``struct flow`` (bpf/include/flow.h)."""
    if flow.family == 2:
        return 4, inet_ntop(AF_INET, flow.local[:4]), inet_ntop(AF_INET, flow.remote[:4])
    return 6, inet_ntop(AF_INET6, flow.local), inet_ntop(AF_INET6, flow.remote)


def endpoint(address: str, port: int) -> str:
    """192.0.2.1:80, [2001:db8::1]:80."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
