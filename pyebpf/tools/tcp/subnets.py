# SPDX-License-Identifier: BSD-2-Clause
"""Subnets as people write them."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from collections.abc import Sequence
from typing import NamedTuple

from pyebpf.errors import TargetError

MOST = 4096
_MOST_SHOWN = 64  # characters of what is refused, in the message


class Subnet(NamedTuple):
    """A subnet.

    Attributes:
        name: as it was written.
        family: AF_INET or AF_INET6.
        address: its first, 4 or 16 bytes.
        length: of its prefix, in bits.
    """

    name: str
    family: int
    address: bytes
    length: int

    def holds(self, other: Subnet) -> bool:
        """Is all of the other one in this one?"""
        if self.family != other.family or self.length > other.length:
            return False
        return _cut(other.address, self.length) == self.address


def parse_subnet(text: str) -> Subnet:
    """A subnet of IPv4 or IPv6, ADDRESS/LENGTH.

    Raises:
        TargetError: it isn't one; says why.
    """
    shown = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    address, slash, length = text.partition("/")
    family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
    try:
        packed = inet_pton(family, address)
    except (OSError, ValueError, UnicodeError):
        kind = "IPv6" if family == AF_INET6 else "IPv4"
        raise TargetError(
            f"subnet {shown!r}: no {kind} address stands before the slash", hint="as in 10.0.0.0/8,2001:db8::/32"
        ) from None
    if not slash:
        raise TargetError(f"subnet {shown!r} has no prefix length", hint=f"{address}/{bits} is that address alone")
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits):
        raise TargetError(f"subnet {shown!r}: its prefix length isn't a number from 0 to {bits}")
    first = _cut(packed, int(length))
    if first != packed:
        raise TargetError(
            f"subnet {shown!r}: the address has bits behind the prefix",
            hint=f"did you mean {inet_ntop(family, first)}/{int(length)}, or {address}/{bits}?",
        )
    return Subnet(text, family, packed, int(length))


def parse_subnets(texts: Sequence[str]) -> tuple[Subnet, ...]:
    """Subnets in the order in which they are tried.

    Raises:
        TargetError: one of them isn't one, there is none, or more than `MOST`.
    """
    if not texts:
        raise TargetError("no subnet is given", hint="as in 10.0.0.0/8,2001:db8::/32")
    if len(texts) > MOST:
        raise TargetError(f"{len(texts)} subnets: at most {MOST} can be told apart")
    return tuple(parse_subnet(text) for text in texts)


def _cut(address: bytes, length: int) -> bytes:
    """An address with only its first `length` bits."""
    behind = len(address) * 8 - length
    return (int.from_bytes(address, "big") >> behind << behind).to_bytes(len(address), "big")
