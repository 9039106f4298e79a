# SPDX-License-Identifier: BSD-2-Clause
"""Tools that show system calls and what else processes do, event by event."""
