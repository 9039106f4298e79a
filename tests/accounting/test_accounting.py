# SPDX-License-Identifier: BSD-2-Clause
"""The short form of tests/accounting/run.py: a situation or two of each tool."""

from __future__ import annotations

import pytest
from accounting import counts, embedded, records
from accounting.ledger import CASES, Entry
from accounting.situations import entries

FEW = 997


@pytest.mark.parametrize("row", range(len(records.TABLE)), ids=[f"{row[0]}-{row[4]}" for row in records.TABLE])
def test_shown_and_lost_make_what_there_was(row: int) -> None:
    tool, causes, whole, situations, what = records.TABLE[row]
    count = min(FEW, whole) if whole >= FEW else 40
    if "than the table holds" in what:
        count = whole
    # Each tool with the smallest buffer; the others by some.
    chosen = ["tiny", *([situations[row % len(situations)]] if row % 8 == 0 else [])]
    for entry in entries(tool, causes, count, chosen, what):
        check(entry)


@pytest.mark.parametrize("name", [case.name + " " + case.tool for case in CASES if case.make.__name__ != "records"])
def test_counts_and_readers(name: str) -> None:
    for case in CASES:
        if case.name + " " + case.tool == name:
            made = case.make(0.01)
            check(next(made))
            if name.startswith("left_out"):
                check(next(made))
            made.close()  # type: ignore[attr-defined]


def check(entry: Entry) -> None:
    assert entry.holds, f"{entry.tool}, {entry.situation}: {entry.equation()}, {dict(entry.lost)}"


assert counts and embedded
