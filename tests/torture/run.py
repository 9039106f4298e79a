#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Traces programs at their worst, and shows that they and the machine come out of it as if nobody had looked.

    tests/torture/run.py [--scale 1] [--group WORD]... [--write FILE] [--list] [NAME...]

NAME is a part of a case's name. As root, by a Python that has pyebpf (the tests' environment: .venv-test). Toolchains
it needs are fetched once (tests/toolchains.py). --write makes the document, of all cases. Exit code 1 if a case failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # instead of this folder: cases are modules of the package torture

import written  # noqa: E402
from torture.case import Case, Row, be_the_child, examine, load  # noqa: E402

TOOLS = (("gcc", "-dumpfullversion"), ("bpftrace", "--version"), ("gdb", "--version"))
COLUMNS = ("case", "variant", "survived", "seen = truth", "left behind", "seconds")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table as texts."""
    outcome = row.outcome
    survived = f"{outcome.survived:,} {outcome.what}" if outcome else ""
    if row.failures:
        said = "FAILED: " + "; ".join(row.wrong or ["it left something"])
    else:
        assert outcome
        values = {name: seen for name, (seen, _) in outcome.checks.items()}
        zeros = ", ".join(name for name, seen in values.items() if not seen)
        said = ", ".join([f"{name} {seen}" for name, seen in values.items() if seen] + [f"0 {zeros}"] * bool(zeros))
    said += f" ({outcome.note})" if outcome and outcome.note else ""
    return (row.case.name, row.variant, survived, said, ", ".join(row.left) or "nothing", f"{row.seconds:.1f}")


HEAD = """\
# Torture

<!-- Made by tests/torture/run.py --write; don't edit. -->

Each row traces a program that does what tracers have killed programs by, and counts how much of it the program lived
through. A row passes if the program's checksum is right, what we counted equals what the program says it did, and
nothing of ours is left in the kernel or among the processes. “Seen = truth” shows what is the same on both sides.

To run it again: `make torture`, or one case of it: `sudo .venv-test/bin/python tests/torture/run.py NAME`.
"""


def document(rows: Sequence[Row], scale: float) -> Iterator[str]:
    """The table as Markdown, a heading a group."""
    failed = sum(bool(row.failures) for row in rows)
    yield HEAD
    yield f"Run on {written.made_on(*written.versions(*TOOLS))}."
    yield f"{len(rows)} rows at scale {scale:g}: {len(rows) - failed} passed, {failed} failed."
    for group in dict.fromkeys(row.case.group for row in rows):
        yield f"\n## {group}\n"
        yield from written.table(COLUMNS, [cells(row) for row in rows if row.case.group == group])


def plan(cases: Sequence[Case]) -> list[tuple[Case, str]]:
    return [(which, variant) for which in cases for variant in which.variants]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1, help="how much of everything; 0.05 is the short run")
    parser.add_argument("--group", action="append", default=[], metavar="WORD", help="only groups of this name")
    parser.add_argument("--variant", help="only this variant")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the document")
    parser.add_argument("--list", action="store_true", help="only name the cases")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)  # one case, in this process
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()

    cases = load()
    if args.answer:
        be_the_child(cases[args.names[0]], args.variant, args.scale, args.answer)
        return 0
    if args.write and (args.names or args.group or args.variant):
        parser.error("--write is for all cases")
    chosen = [
        (which, variant)
        for which, variant in plan(list(cases.values()))
        if (not args.names or any(name in which.name for name in args.names))
        and (not args.group or any(word.lower() == which.group.lower() for word in args.group))
        and args.variant in (None, variant)
    ]
    if not chosen:
        parser.error("no such case; --list names them")
    if args.list:
        for which in dict.fromkeys(which for which, _ in chosen):
            print(f"{which.group}: {which.name}  {' '.join(which.variants)}".rstrip())
        return 0

    names, variants = (max(map(len, column)) for column in zip(*((c.name, v) for c, v in chosen), ("case", "variant")))
    layout = f"{{0:{names}}}  {{1:{variants}}}  {{2:24}}  {{5:>7}}  {{4:11}}  {{3}}"
    print(layout.format(*COLUMNS), flush=True)
    rows = []
    try:
        for which, variant in chosen:
            rows.append(examine(which, variant, args.scale))
            print(layout.format(*cells(rows[-1])), flush=True)
            if rows[-1].failures and rows[-1].trace:
                print("    " + rows[-1].trace.strip().replace("\n", "\n    "), flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    failed = sum(bool(row.failures) for row in rows)
    print(f"{len(rows)} rows, {failed} failed")
    if args.write:
        args.write.write_text("\n".join(document(rows, args.scale)) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
