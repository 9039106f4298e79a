# SPDX-License-Identifier: BSD-2-Clause
"""Names of addresses, learnt from answers of name servers (RFC 1035). What they say is bounded and never trusted."""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, inet_ntop
from collections.abc import Iterator
from typing import Optional

_MOST_NAMES = 10_000
_MOST_LABELS = 128  # a name has at most 255 bytes
_MOST_JUMPS = 64
_MOST_ANSWERS = 256
_A, _AAAA, _IN = 1, 28, 1
_RESPONSE = 0x8000
_FAILED = 0x000F
_FAMILIES = {(_A, 4): AF_INET, (_AAAA, 16): AF_INET6}


def names_of(message: bytes) -> Iterator[tuple[str, bytes]]:
    """Each address in an answer, and the name that was asked for; nothing if it isn't an answer, or a broken one.

    The addresses of aliases (CNAME) count for the name that was asked for: it is what the program wanted.
    """
    try:
        _, flags, questions, answers = struct.unpack_from("!HHHH", message)
        if not flags & _RESPONSE or flags & _FAILED or questions != 1:
            return
        asked, at = _name(message, 12)
        at += 4
        for _ in range(min(answers, _MOST_ANSWERS)):
            at = _behind_name(message, at)
            kind, group, _, size = struct.unpack_from("!HHIH", message, at)
            at += 10
            family = _FAMILIES.get((kind, size))
            if family is not None and group == _IN and at + size <= len(message):
                yield inet_ntop(family, message[at : at + size]), asked
            at += size
    except (struct.error, IndexError, ValueError):
        return  # it was cut, or was never a message of DNS


def _name(message: bytes, at: int) -> tuple[bytes, int]:
    """The name at a place, and where what follows begins. Raises ValueError, IndexError."""
    labels = []
    behind = jumps = 0
    while True:
        length = message[at]
        if length >= 0xC0:  # the rest is elsewhere
            behind = behind or at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
            jumps += 1
        elif length >= 0x40:
            raise ValueError("labels of this kind were never in use")
        elif length:
            label = message[at + 1 : at + 1 + length]
            if len(label) < length:
                raise IndexError
            labels.append(label)
            at += 1 + length
        else:
            return b".".join(labels) or b".", behind or at + 1
        if jumps > _MOST_JUMPS or len(labels) > _MOST_LABELS:
            raise ValueError("a name without an end")


def _behind_name(message: bytes, at: int) -> int:
    for _ in range(_MOST_LABELS):
        length = message[at]
        if length >= 0xC0:
            return at + 2
        if not length:
            return at + 1
        at += 1 + length
    raise ValueError("a name without an end")


class Names:
    """The names of the addresses seen last, a bounded number of them."""

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}

    def learn(self, message: bytes) -> None:
        """Takes the names out of an answer."""
        for address, name in names_of(message):
            self._names.pop(address, None)
            self._names[address] = name
            if len(self._names) > _MOST_NAMES:
                del self._names[next(iter(self._names))]

    def get(self, address: str) -> Optional[bytes]:
        """The name under which an address was given last; None: none was seen."""
        return self._names.get(address)
