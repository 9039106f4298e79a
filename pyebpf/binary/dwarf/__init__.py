# SPDX-License-Identifier: BSD-2-Clause
"""Debug information: what DWARF versions 2 to 5 say about a function's parameters, their types and their places.

Numbers in parentheses in this package's comments are sections of the DWARF 5 standard, https://dwarfstd.org/.
Nothing is read before it is asked for, and nothing that is read is trusted.
"""

from __future__ import annotations

from .file import Dwarf
from .location import CFA, Location
from .subprogram import Capture, Formal, Subprogram

__all__ = ["CFA", "Capture", "Dwarf", "Formal", "Location", "Subprogram"]
