# SPDX-License-Identifier: BSD-2-Clause
"""What the calling conventions of C, C++ and Rust have in common, and what is known without debug information."""

from __future__ import annotations

from typing import NamedTuple

from ..signature import Signature


class Convention(NamedTuple):
    """A machine's: registers of parameters and results, and where stack arguments begin above the stack pointer."""

    words: tuple[str, ...]
    result_words: tuple[str, ...]
    stack: int


def convention_of(machine: str) -> Convention:
    """The convention of "x86-64" or "arm64"."""
    if machine == "arm64":
        from . import aapcs64 as abi
    else:
        from . import systemv as abi  # type: ignore[no-redef]
    return Convention(abi.INTEGERS, abi.RESULTS, abi.FIRST_ARGUMENT)


def unknown_signature(machine: str, reason: str) -> Signature:
    """The signature of a function of which nobody tells anything, at its first instruction."""
    convention = convention_of(machine)
    return Signature((), (), convention.words, convention.result_words, convention.stack, 0, "", reason)
