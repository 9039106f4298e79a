# SPDX-License-Identifier: BSD-2-Clause
"""Live tests load into this kernel and attach to real processes."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def root() -> None:
    assert os.geteuid() == 0, "live tests load eBPF programs and need root"


@pytest.fixture(params=["multi", "cookie", "copy"])
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every rung of the attach ladder, also those this kernel would not need."""
    monkeypatch.setenv("PYEBPF_ATTACH", request.param)
    return str(request.param)
