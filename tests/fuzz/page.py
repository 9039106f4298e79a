# SPDX-License-Identifier: BSD-2-Clause
"""docs/fuzzing.md, from results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import written
from fuzz import reader as readers

_HEAD = """\
# Fuzzing

What pyebpf reads was often made by somebody else: binaries, names, memory, packets ([Security](security.md) says who
controls what). Each reader has a harness in `tests/fuzz/` that gives it bytes as a file, a process or a peer would. A
finding is an exception that isn't among the documented ones, an answer that contradicts itself, a control character on
its way to a terminal, or more time or memory than the reader's bounds allow.

Inputs are changed at random, a piece at a time (a section, a table, a pattern), and kept when they reach something new:
coverage-guided fuzzing, by [atheris](https://github.com/google/atheris), which is libFuzzer for Python. What began it
were small programs by real compilers and tables made by hand. `tests/fuzz/corpus/` keeps the fewest inputs that reach
all that was reached, and every input that a fault was found with. `make test` tries them all, and then fuzzes each
reader for ten seconds, always with the same seed.

    make fuzz                                              # each reader for a minute, two at a time
    python tests/fuzz/run.py --seconds 3600 --keep         # an hour each (18 hours); adds to the corpus and the totals

"""


def text(
    outcomes: Sequence[Any], totals: dict[str, dict[str, float]], found: list[dict[str, str]], size: int, engine: str
) -> str:
    """The page.

    Args:
        outcomes: of run.py, which measured the corpus.
        totals: executions and seconds of all runs, by reader.
        found: what was found and fixed: reader, what, fix, input.
        size: bytes of the corpus.
        engine: what guided it.
    """
    lines = [_HEAD.rstrip("\n"), ""]
    executions = sum(int(one["executions"]) for one in totals.values())
    hours = sum(one["seconds"] for one in totals.values()) / 3600
    inputs = sum(one.inputs for one in outcomes)
    lines += [
        "## Results", "",
        f"{executions:,} executions in {hours:.1f} hours, in sum over {len(totals)} readers; the corpus has {inputs:,} "
        f"inputs, {size / 1000:,.0f} kB. {written.made_on(engine)}; at low priority beside other work, and slowed down "
        "by what counts coverage.", "",
        "Lines are those in functions of the modules that the harness is about, reached by the corpus. Branches are "
        "pairs of lines that followed each other. Bounds are for one input of that size; times are of the CPU, and "
        "tried without what counts coverage.", "",
        *written.table(
            ("reader", "what", "executions:", "hours:", "lines:", "branches:", "inputs:", "bounds"),
            [_cells(one, totals.get(one.name, {"executions": 0, "seconds": 0.0})) for one in outcomes],
        ),
    ]  # fmt: skip
    lines += ["", "## Found and fixed", ""]
    rows = [(row["reader"], row["what"], row["fix"], row["input"] and f"`{row['input']}`") for row in found]
    columns = ("reader", "what was wrong", "what was done", "input")
    lines += written.table(columns, rows) if rows else ["Nothing yet."]
    nothing = "Nothing that we know of: every input in the corpus is taken as documented."
    now = [f"* {one.name}: {what} (`{os.path.basename(path)}`)" for one in outcomes for what, path in one.findings]
    lines += ["", "## Open", "", *(now or [nothing]), ""]
    return "\n".join(lines)


def _cells(one: Any, told: dict[str, float]) -> tuple[str, ...]:
    reader = readers.load(one.name)
    return (
        one.name, " ".join((reader.fuzz.__doc__ or "").split()).rstrip(".").replace("``", "`"),
        f"{int(told['executions']):,}", f"{told['seconds'] / 3600:.2f}",
        f"{one.lines:,} of {one.of:,} ({100 * one.lines // max(one.of, 1)} %)", f"{one.arcs:,}", str(one.inputs),
        f"{reader.longest >> 10} KiB: {reader.seconds:g} s, {reader.megabytes} MB",
    )  # fmt: skip
