#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Tries which capabilities each tool needs, and writes the table of docs/security.md.

    tests/hosts/capabilities.py [--check] [TOOL...]

Each tool runs as a user who isn't root, with exactly the capabilities of tests/privileges.py, and must show what
happens; and once without each of them, and must name the one that is missing. As root, by a Python that has pyebpf.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

import privileges  # noqa: E402
import written  # noqa: E402
from privileges import CASES, Stage  # noqa: E402

DOCUMENT = HERE.parents[1] / "docs" / "security.md"
BEGIN, END = "<!-- tests/hosts/capabilities.py writes from here -->", "<!-- to here -->"


def trouble(stage: Stage, tool: str) -> Iterator[str]:
    """What doesn't go as the table says."""
    case = CASES[tool]
    code, out, error, shown = stage.run(tool, case.needs)
    if code not in (0, 130) or not privileges.is_shown(shown, out):
        yield f"with {', '.join(case.needs)}: exit code {code}: {error.strip() or out[-300:]}"
    for missing in case.needs:
        code, _, error, _ = stage.run(tool, [name for name in case.needs if name != missing])
        if code != 4 or f"with {missing}\n" not in error:
            yield f"without {missing}: exit code {code}: {error.strip()}"


def table() -> str:
    rows = [(f"`{name}`", ", ".join(case.needs), case.more) for name, case in CASES.items()]
    return "\n".join(written.table(("tool", "capabilities", "what takes more"), rows))


def main() -> int:
    words = sys.argv[1:]
    tools = [word for word in words if word != "--check"] or [*CASES]
    wrong = 0
    with privileges.stage() as stage:
        for tool in tools:
            found = [*trouble(stage, tool)]
            wrong += len(found)
            print(f"{tool:<16} {', '.join(CASES[tool].needs)}{'' if not found else '   <-- wrong'}")
            print("".join(f"    {text}\n" for text in found), end="", flush=True)
    if not words:
        text = DOCUMENT.read_text()
        before, _, rest = text.partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
