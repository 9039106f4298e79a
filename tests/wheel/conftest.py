# SPDX-License-Identifier: BSD-2-Clause
"""The archives that make built, and the wheel installed for each Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import venvs

ROOT = Path(__file__).resolve().parents[2]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``installed`` runs once for each Python."""
    if "installed" in metafunc.fixturenames:
        ids = [".".join(map(str, version)) for version in venvs.interpreters()]
        metafunc.parametrize("installed", venvs.interpreters().values(), ids=ids, indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    versions = ", ".join(".".join(map(str, version)) for version in venvs.interpreters())
    terminalreporter.write_line(f"the wheel was installed for Python {versions}")


def the_one(pattern: str) -> Path:
    found = list((ROOT / "dist").glob(pattern))
    assert len(found) == 1, f"dist/ holds {len(found)} files {pattern} instead of one: run make wheel"
    return found[0]


@pytest.fixture(scope="session")
def wheel() -> Path:
    return the_one("*.whl")


@pytest.fixture(scope="session")
def sdist() -> Path:
    return the_one("*.tar.gz")


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> venvs.Venv:
    """The wheel in an environment that holds nothing else, for each Python."""
    venv = venvs.Venv(tmp_path_factory.mktemp("installed"), request.param)
    venv.pip("install", wheel)
    return venv
