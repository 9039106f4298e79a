# SPDX-License-Identifier: BSD-2-Clause
"""Live tests load into this kernel and attach to real processes."""

from __future__ import annotations

import os
from contextlib import suppress

import firing
import pytest
import unprivileged

from pyebpf.cli.descriptors import allow_many
from pyebpf.core import kernel

collect_ignore = [] if os.uname().machine == "aarch64" else ["test_arm64.py"]  # tests/vm/arm64.py runs them


@pytest.fixture(autouse=True, scope="session")
def root() -> None:
    assert os.geteuid() == 0, "live tests load eBPF programs and need root"


@pytest.fixture(autouse=True, scope="session")
def descriptors() -> None:
    """Before Linux 6.6 each probe is an open file, and 1,024 is the usual limit."""
    allow_many()


@pytest.fixture
def perfmon_is_enough() -> None:
    """Where CAP_BPF and CAP_PERFMON are enough for the function tools."""
    if unprivileged.uprobes_take_admin():
        pytest.skip("before Linux 6.6")


@pytest.fixture(params=["multi", "cookie", "copy"])
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every rung of the attach ladder, also those this kernel would not need."""
    here, minimum = {
        "multi": (kernel.has_uprobe_multi, (6, 6)),
        "cookie": (kernel.has_attach_cookies, (5, 15)),
        "copy": (lambda: True, (5, 8)),
    }[request.param]
    if not here():
        assert kernel.release() < minimum, f"Linux {kernel.release()} should have what the rung {request.param} needs"
        pytest.skip(f"before Linux {minimum[0]}.{minimum[1]}")
    monkeypatch.setenv("PYEBPF_ATTACH", request.param)
    return str(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Runs a test anew, up to five times, that says of itself that the kernel didn't tell all (firing.py)."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for _ in range(4):
        with suppress(firing.Untold):
            pyfuncitem.obj(**arguments)
            return True
    pyfuncitem.obj(**arguments)
    return True
