# SPDX-License-Identifier: BSD-2-Clause
"""Signals by number and by name."""

from __future__ import annotations

from functools import cache

from pyebpf.errors import TargetError

# The first and the last that are free for programs; the C library keeps two (signal(7)).
_FIRST_REAL_TIME, _LAST = 34, 64
_ALIASES = ("SIGRTMIN", "SIGRTMAX", "SIGCLD", "SIGPOLL", "SIGIOT")


@cache
def _names() -> dict[int, str]:
    import signal

    return {int(value): name for name, value in signal.Signals.__members__.items() if name not in _ALIASES}


def signal_name(number: int) -> str:
    """Its name: "SIGKILL", "SIGRTMIN+3"; the number if it has none."""
    if _FIRST_REAL_TIME <= number <= _LAST:
        more = number - _FIRST_REAL_TIME
        return f"SIGRTMIN+{more}" if more else "SIGRTMIN"
    return _names().get(number, str(number))


def signal_number(text: str) -> int:
    """The number of a signal given by name ("KILL", "sigkill", "SIGRTMIN+3") or number; 0 asks whether a process is.

    Raises:
        TargetError: there is no such signal.
    """
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= _LAST:
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    for number in range(1, _LAST + 1):
        if signal_name(number) == name:
            return number
    raise TargetError(f"{text!r} is not a signal", hint="for instance KILL, SIGTERM, RTMIN+1, or 9")
