# SPDX-License-Identifier: BSD-2-Clause
"""The page of benchmark results: ratios in the right direction, and an explanation only where pyebpf is behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = Path(__file__).resolve().parents[2] / "benchmarks" / "run.py"


def row(who: str, **values: list[float]) -> dict[str, Any]:
    return {"what": "count", "who": who, "values": {name.replace("_", " "): one for name, one in values.items()},
            "said": ""}  # fmt: skip


def test_the_page_of_kept_values(tmp_path: Path) -> None:
    rows = [
        row("pyebpf 0.1", ns=[100, 300, 200], a_second=[50, 50, 50], peak=[7, 9, 8], added=[12, 9, 11]),
        row("bpftrace 0.17", ns=[50, 100, 50], a_second=[25, 10, 5], peak=[99, 1, 1], added=[10, 10, 10]),
        row("bcc 0.37", ns=[1000, 1000, 1000], a_second=[200, 25, 25], added=[-1, 100, 100]),
        {"what": "trace", "who": "bcc 0.37", "values": {}, "said": "no such file"},
    ]
    metrics = [["ns", 0, False, False, False], ["a second", 0, True, False, False], ["peak", 1, False, True, False],
               ["added", 0, False, False, False]]  # fmt: skip
    section = {"title": "Cost", "began": "then", "ended": "later", "rounds": 3,
               "tables": [{"title": "A call", "note": "", "metrics": metrics, "rows": rows}]}  # fmt: skip
    kept = {"machine": {"kernel": "Linux"}, "contestants": ["pyebpf 0.1"], "missing": {}, "sections": {"hits": section}}
    (tmp_path / "results.json").write_text(json.dumps(kept))
    subprocess.run([sys.executable, str(RUN), "--page", "--to", str(tmp_path)], check=True, timeout=60)
    page = (tmp_path / "RESULTS.md").read_text()
    ours, theirs, others = (line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| count |"))
    assert [cell.strip() for cell in ours] == [
        "count", "pyebpf 0.1", "200 (100 to 300)", "**3.00** (no explanation yet)", "50", "**0.50** first",
        "9.0", "**0.09** first", "11 (9 to 12)", "**1.10** level",
    ]  # fmt: skip
    assert [cell.strip() for cell in theirs[2:]] == [
        "50 (50 to 100)", "3.00", "10 (5 to 25)", "0.20", "99.0", "0.09", "10", "1.10",
    ]  # fmt: skip
    assert others[3].strip() == "0.20" and others[5].strip() == "0.50"
    assert "| 4 | 2 | 1 | 1 | 1 |" in page and "* bcc 0.37, trace: no such file" in page
