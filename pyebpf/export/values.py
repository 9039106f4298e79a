# SPDX-License-Identifier: BSD-2-Clause
"""Reading single values of a configuration: each function returns one, or raises ValueError and says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

MOST = 256  # of a list
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def address(text: str) -> tuple[str, int]:
    """"HOST:PORT" or "[HOST]:PORT", the host as a number. Raises ValueError, saying what is wrong."""
    import ipaddress

    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9435 or [::1]:9435")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as in [::1]:9435")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        raise ValueError(f"{text!r}: {host!r} is not an IP address (all addresses: 0.0.0.0 or [::])") from None


def seconds(value: Any) -> float:
    """A duration: a number of seconds, or "500ms", "60s", "5m", "1h". Raises ValueError."""
    if isinstance(value, str):
        found = re.match(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|m|h)\Z", value)
        if not found:
            raise ValueError(f'{value!r} is not a duration, such as "500ms", "60s", "5m"')
        return float(found.group(1)) * _UNITS[found.group(2)]
    return float(number(value, (int, float), "a duration, such as 1.5 (seconds) or \"60s\""))


def size(value: Any) -> int:
    """Bytes: a number, or "200MB", "64MiB". Raises ValueError."""
    if isinstance(value, str):
        found = re.match(r"(\d{1,12}) ?(\w*)\Z", value)
        if not found or found.group(2) not in _SIZES:
            raise ValueError(f'{value!r} is not a size, such as "200MB" or "64MiB"')
        return int(found.group(1)) * _SIZES[found.group(2)]
    return int(number(value, int, 'a size, such as "200MB" or a number of bytes'))


def number(value: Any, kind: Any, what: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{shown(value)} is not {what}")
    return value


def shown(value: Any) -> str:
    names = {dict: "a table", list: "an array", bool: "a boolean"}
    return f"{names[type(value)]}" if type(value) in names else repr(value)[:80]


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a string")
    if not value or len(value) > 4096 or "\0" in value:
        long = "is longer than 4096 characters" if value else "is empty"
        raise ValueError(f"the string {'has a NUL character in it' if chr(0) in value else long}")
    return value


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not true or false")
    return value


def between(low: float, high: float, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        number = read(value)
        if not low <= number <= high:
            raise ValueError(f"{shown(value)} is not within {low:.12g} to {high:.12g}")
        return number

    return checked


def whole(value: Any) -> int:
    return int(number(value, int, "a whole number"))


def many(read: Callable[[Any], Any], most: int = MOST) -> Callable[[Any], tuple[Any, ...]]:
    """A list of something, or one of it."""

    def checked(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if not 0 < len(values) <= most:
            raise ValueError(f"there are {len(values)} of them, not 1 to {most}")
        found, wrong = [], []
        for one in values:
            try:
                found.append(read(one))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("; ".join(wrong))
        return tuple(dict.fromkeys(found))

    return checked


def chosen(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{shown(value)} is none of {', '.join(choices)}")
        return str(value)

    return checked


pid = between(1, 1 << 22, whole)
port = between(1, 65535, whole)
