# SPDX-License-Identifier: BSD-2-Clause
"""Folded stacks, as flamegraph.pl and speedscope read them: frames from the outermost, then a number."""

from __future__ import annotations

from collections.abc import Sequence

from pyebpf.output.text import safe
from pyebpf.target.stacks import Frame


def line(root: str | bytes, frames: Sequence[str], count: int) -> str:
    """One stack.

    Args:
        root: what the stack hangs from (a process name).
        frames: innermost first.
    """
    names = [safe(root), *(safe(frame) for frame in reversed(frames))]
    return ";".join(name.replace(";", ":") for name in names) + f" {count}"


def frames(kernel: Sequence[Frame], user: Sequence[Frame]) -> list[str]:
    """The names of a call's frames, innermost first; flamegraph.pl colours kernel functions by the ``_[k]`` at the
    end."""
    return [f"{frame.name}_[k]" for frame in kernel] + [frame.name for frame in user]
