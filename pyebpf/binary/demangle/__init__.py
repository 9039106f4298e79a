# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations
