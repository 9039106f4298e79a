# SPDX-License-Identifier: BSD-2-Clause
"""Tools that show what TCP does."""
