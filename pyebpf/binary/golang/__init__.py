# SPDX-License-Identifier: BSD-2-Clause
"""Go programs: functions, probe sites and runtime offsets, from what survives stripping."""

from .program import GoFunction, GoProgram, find
from .sites import GoSites
from .version import GoVersion

__all__ = ["GoFunction", "GoProgram", "GoSites", "GoVersion", "find"]
