#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Prints, for every tool and situation, that what was shown and what is said to be lost make what there was.

    tests/accounting/run.py [--scale 1] [--write FILE] [TOOL...]

As root, by a Python that has pyebpf (the tests' environment: .venv-test). --write makes the document, of all tools.
Exit code 1 if an equality doesn't hold.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # instead of this folder: cases are modules of the package accounting

import written  # noqa: E402
from accounting.ledger import KINDS, Entry, load  # noqa: E402


def cells(entry: Entry) -> tuple[str, ...]:
    """An equality as a row of the page."""
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in entry.lost.items())
    note = f" ({entry.note})" if entry.note else ""
    return (entry.tool, entry.situation + note, f"{entry.made:,}", f"{entry.delivered:,}", kinds, entry.equation())


def line(entry: Entry) -> str:
    """An equality as a line of text."""
    tool, _, made, shown, kinds, equation = cells(entry)
    return f"{tool:15} {entry.situation:62.62} {made:>9} {shown:>9}  {kinds or '-':34} {equation}"


def examined(scale: float, tools: Sequence[str]) -> Iterator[Entry]:
    """All entries of all tools, or of those."""
    for one in load():
        if not tools or one.tool in tools:
            yield from one.make(scale)


def document(entries: Sequence[Entry], scale: float) -> str:
    """The page."""
    wrong = sum(not entry.holds for entry in entries)
    lines = [
        "# What is shown and what is lost make what there was",
        "",
        f"Made by `tests/accounting/run.py --write docs/accounting.md --scale {scale:g}` on {written.made_on()}. "
        f"{len(entries)} equalities, of which {len(entries) - wrong} hold.",
        "",
        "*Made* is what the traced program counted itself, or the kernel's counters of its network namespace. *Shown* "
        "is what came out of the tool. *Lost* is what the tool says it lost, and why:",
        "",
        *(f"* **{kind}**: {meaning}" for kind, meaning in KINDS.items()),
        "",
        "Of runs that were skipped, and of files that were forgotten, nobody knows what would have been shown, so the "
        "equality says from how many to how many.",
        "",
        *written.table(("tool", "situation", "made:", "shown:", "lost", "equality"), map(cells, entries)),
    ]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="how much is made; 1: as much as a whole run makes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="make the document")
    parser.add_argument("tools", nargs="*", metavar="TOOL")
    arguments = parser.parse_args()
    page = arguments.write and arguments.write.resolve()
    os.chdir(HERE)  # `python -m pyebpf` is to find the one that is installed, not the checkout's
    entries = []
    for entry in examined(arguments.scale, arguments.tools):
        print(line(entry), flush=True)
        entries.append(entry)
    wrong = sum(not entry.holds for entry in entries)
    print(f"{len(entries)} equalities, {wrong} that don't hold")
    if page and not arguments.tools:
        page.write_text(document(entries, arguments.scale))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
