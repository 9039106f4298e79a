# SPDX-License-Identifier: BSD-2-Clause
"""Exit codes, part of the command's interface."""

from __future__ import annotations

TRACED = 0  # also when ended by Ctrl-C, SIGTERM, a duration, or a closed pipe
RUN_TIME_ERROR = 1
USAGE = 2
NOTHING_MATCHED = 3
PERMISSION = 4
UNSUPPORTED = 5
INTERRUPTED_TWICE = 130
