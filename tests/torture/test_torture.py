# SPDX-License-Identifier: BSD-2-Clause
"""The torture cases, in short: docs/torture.md has the long run."""

from __future__ import annotations

import os

import pytest
from torture.case import Case, examine, load

SCALE = 0.05
SHORT = [(which, variant) for which in load().values() for variant in which.short]


@pytest.mark.parametrize("which, variant", SHORT, ids=[f"{which.name} {variant}".strip() for which, variant in SHORT])
def test_survives(which: Case, variant: str) -> None:
    assert os.geteuid() == 0, "torture cases load eBPF programs and need root"
    row = examine(which, variant, SCALE)
    assert not row.failures, "\n".join([*row.failures, row.trace])
