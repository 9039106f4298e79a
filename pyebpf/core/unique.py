# SPDX-License-Identifier: BSD-2-Clause
"""What stands for something of the kernel's stands for it alone."""

from __future__ import annotations

from typing import Any, NoReturn


def not_copied(self: Any) -> NoReturn:
    """As a class's ``__reduce__``: a copy would close descriptors and free memory a second time."""
    raise TypeError(f"{type(self).__name__} can't be copied or pickled: it holds what this process got from the kernel")
