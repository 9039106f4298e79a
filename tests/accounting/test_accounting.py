# SPDX-License-Identifier: BSD-2-Clause
"""The short form of tests/accounting/run.py: a situation or two of each tool."""

from __future__ import annotations

import pytest
from accounting import records
from accounting.ledger import Case, Entry, load
from accounting.situations import entries

FEW = 997


@pytest.mark.parametrize("row", range(len(records.TABLE)), ids=[f"{row[0]}-{row[4]}" for row in records.TABLE])
def test_shown_and_lost_make_what_there_was(row: int) -> None:
    tool, causes, whole, situations, what = records.TABLE[row]
    count = min(FEW, whole) if whole >= FEW else 40
    if "than the table holds" in what:
        count = whole
    # Each tool with the smallest buffer; the others by some.
    chosen = ["tiny"] if "tiny" in situations else []
    if row % 8 == 0 or not chosen:
        chosen.append(situations[row % len(situations)])
    for entry in entries(tool, causes, count, chosen, what):
        check(entry)


OTHERS = [one for one in load() if one.name != "records"]


@pytest.mark.parametrize("one", OTHERS, ids=[f"{one.tool}-{one.name}" for one in OTHERS])
def test_counts_and_readers(one: Case) -> None:
    made = one.make(0.01)
    for _ in range(2 if one.name == "left_out" else 1):
        check(next(made))
    made.close()  # type: ignore[attr-defined]


def check(entry: Entry) -> None:
    assert entry.holds, f"{entry.tool}, {entry.situation}: {entry.equation()}, {dict(entry.lost)}"
