# SPDX-License-Identifier: BSD-2-Clause
"""What Go's interfaces hold: messages of the library's errors, boxed numbers and strings."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import NamedTuple, Union

from .values import Duration, EnumValue, Interface, Text, Value

_MAX_ERRNO = 4095  # include/linux/err.h
NETWORK_ADDRESSES = ("*net.TCPAddr", "*net.UDPAddr")
PORT = 24  # where expand.py keeps the address's bytes, and the port with them
_MESSAGE_FIRST = frozenset(
    ("*errors.errorString", "*fmt.wrapError", "*fmt.wrapErrors", "*errors.fundamental", "string", "runtime.errorString",
     "runtime.plainError", "errors.errorString", "*http.httpError", "*poll.errNetClosing")
)  # fmt: skip
_INTEGERS = {
    "int": 64, "int64": 64, "int32": 32, "int16": 16, "int8": 8,
    "uint": -64, "uint64": -64, "uint32": -32, "uint16": -16, "uint8": -8, "uintptr": -64,
    "time.Duration": 64,
}  # fmt: skip


class GoType(NamedTuple):
    """A type of a running Go program: its name, and that of the predeclared type it is made of ("" if of another)."""

    name: str
    basic: str = ""


TypeName = Callable[[int, int], Union[GoType, None]]  # (pid, address of a Go type's description)


def held_in(
    name: str,
    basic: str,
    data: Value,
    word: Value,
    text_at: Callable[[int], str | None],
    cause_at: Callable[[int], str | None],
) -> Value:
    """The value in an interface, as far as its type is known: an error's message, a boxed number or string."""
    message = text_at(0) if name in _MESSAGE_FIRST or basic == "string" else _message(name, text_at, cause_at)
    if message is not None:
        return as_text(message)
    if isinstance(word, int) and name == "syscall.Errno":
        return EnumValue(os.strerror(word) if 0 <= word < _MAX_ERRNO else "", int(word))
    basic = basic or name
    if isinstance(word, int) and basic in _INTEGERS:
        bits = _INTEGERS[basic]
        number = word & ((1 << abs(bits)) - 1)
        number = number - (1 << bits) if bits > 0 and number >> (bits - 1) else number
        return Duration(number) if name == "time.Duration" else number
    if isinstance(word, int) and basic == "bool":
        return bool(word & 1)
    if isinstance(word, int) and basic in ("float64", "float32"):
        code, size = ("<d", 8) if basic == "float64" else ("<f", 4)
        value: float = struct.unpack(code, (word & ((1 << size * 8) - 1)).to_bytes(size, "little"))[0]
        return value
    return data


def as_text(message: str) -> Text:
    raw = message.encode("utf-8", "surrogateescape")
    return Text(raw, len(raw))


def network_address(octets: Value, port: Value) -> str | None:
    """An address as net.TCPAddr's String makes it."""
    if not isinstance(octets, Text) or not isinstance(port, int):
        return None
    raw = octets.data
    if len(raw) == 16 and raw[:12] == bytes(10) + b"\xff\xff":
        raw = raw[12:]
    if octets.length not in (4, 16) or len(raw) not in (4, 16):
        return f":{port}" if not octets.length else None
    if len(raw) == 4:
        return f"{'.'.join(map(str, raw))}:{port}"
    import socket

    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]:{port}"


def _message(
    name: str, text_at: Callable[[int], str | None], cause_at: Callable[[int], str | None]
) -> str | None:
    """The message of an error type of Go's library, as its Error method makes it; None if it is another type."""
    if name in ("*fs.PathError", "*os.PathError"):
        parts = text_at(0), text_at(16), cause_at(32)
        return None if parts[0] is None else f"{parts[0]} {parts[1]}: {parts[2] or '…'}"
    if name == "*url.Error":
        parts = text_at(0), text_at(16), cause_at(32)
        return None if parts[0] is None else f'{parts[0]} "{parts[1]}": {parts[2] or "…"}'
    if name == "*strconv.NumError":
        parts = text_at(0), text_at(16), cause_at(32)
        return None if parts[0] is None else f'strconv.{parts[0]}: parsing "{parts[1]}": {parts[2] or "…"}'
    if name in ("*os.SyscallError", "*exec.Error"):
        first, cause = text_at(0), cause_at(16)
        return None if first is None else f"{first}: {cause or '…'}"
    if name == "*net.OpError":
        first, source, address = text_at(0), cause_at(32), cause_at(48)
        if first is None:
            return None
        network = f" {text_at(16)}" if text_at(16) else ""
        ends = f" {source}" if source else ""
        ends += f"{'->' if source else ' '}{address}" if address else ""
        return f"{first}{network}{ends}: {cause_at(64) or '…'}"
    if name == "*net.DNSError":
        first = text_at(0)
        return None if first is None else f"lookup {text_at(16)}: {first}"
    return None


def cause_of(interface: Interface) -> str | None:
    value = interface.value
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, EnumValue):
        # The text of syscall.Errno in Go begins with a small letter.
        return value.name[:1].lower() + value.name[1:] if value.name else f"errno {value.value}"
    return interface.type or None
