# SPDX-License-Identifier: BSD-2-Clause
"""The manual pages: one a tool, made without complaint from its parser and its page in docs/."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from pyebpf.cli.main import _GROUPS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("manual", ROOT / "docs" / "man.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.pages()
    return found


def test_every_tool_has_a_page(pages: dict[str, str]) -> None:
    tools = {name for _, tools in _GROUPS for name, _, _ in tools}
    assert len(tools) == 40
    assert set(pages) == {"pyebpf.1", *(f"pyebpf-{tool}.1" for tool in tools)}


def test_groff_takes_them(pages: dict[str, str], tmp_path: Path) -> None:
    for name, text in pages.items():
        page = tmp_path / name
        page.write_text(text)
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", str(page)], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if "can't break line" not in line]
        assert done.returncode == 0 and not complaints, (name, complaints)
        for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"):
            assert f"\n{heading}\n" in done.stdout, (name, heading)
        if name[len("pyebpf-") : -len(".1")] in {tool for _, tools in _GROUPS[:3] for tool, _, _ in tools}:
            assert "--json" in done.stdout and "--duration SEC" in done.stdout, name
