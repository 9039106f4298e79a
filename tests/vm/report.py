#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes what matrix.py found under each kernel into docs/support.md, behind the tables of tests/hosts/run.py.

Use::

    python tests/vm/report.py           # from tests/vm/results/*.json
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "support.md"
RESULTS = HERE / "results"
BEGIN = "\n## Kernel by kernel\n"
MACHINES = {"x86_64": "x86-64", "aarch64": "arm64"}
EXPECTED = {"x86_64": ("5.10", "6.1", "6.12", "newest", "here"), "aarch64": ("6.1", "6.12", "newest")}
WAYS = {"multi": "uprobe_multi links", "cookie": "perf events with cookies", "copy": "a copy of the program a cookie"}
INTRODUCTION = """
<!-- written by tests/vm/report.py (make test-kernels): don't edit -->

Every tool, on programs and traffic whose truth is known, by every set of hooks and every way of attaching that a kernel
has; and the live tests. Debian's kernels run in QEMU, which emulates the processor; "here" is the kernel of the machine
that ran it all. "In part" and "refused" have the tool's own words below the table.

Of the live tests, a kernel runs those that `tests/vm/selection.py` chooses: of each test one variant, and of what
concerns the kernel, such as ways of attaching, all; in the short form one test a tool's kind and way of attaching, and
every tool by its best hooks. A test is skipped only where the kernel is older than what it is about, which is checked
against the kernel's version.
"""


def results() -> list[dict[str, Any]]:
    """By machine and kernel, this machine's own last."""
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    release = {id(one): [*map(int, re.findall(r"\d+", one.get("kernel", ""))[:2])] for one in found}
    return sorted(found, key=lambda one: (one.get("machine") != "x86_64", one["name"] == "here", release[id(one)]))


def heading(found: dict[str, Any]) -> str:
    series = ".".join(re.findall(r"\d+", found["kernel"])[:2])
    return f"{series} {MACHINES[found['machine']]}{' (here)' if found['name'] == 'here' else ''}"


def section(found: Sequence[dict[str, Any]]) -> str:
    """The whole of it; nothing without results."""
    return BEGIN + INTRODUCTION + "\n".join([*kernels(found), *checks(found), *tools(found)]) + "\n" if found else ""


def kernels(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "\n| kernel | run on | live tests passed | failed | skipped, and why | functions are probed by |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        live = one["live"]
        how = f"{one['date']}, QEMU {one['emulator']}" if one["emulator"] else f"{one['date']}, no emulation"
        how += ", short form" if one["form"] == "short" else ""
        failed = "; ".join([str(len(live["failed"])), *(f"`{test}`" for test in live["failed"])])
        failed += "".join(f"; `{test}` at the first run, not at the second" for test in one.get("again", ()))
        skipped = "; ".join(f"{n} {reason}" for reason, n in sorted(Counter(live["skipped"].values()).items()))
        ways = {row["way"] for row in one["tools"] if row["came"] == "works"}
        probed = "; ".join(words for way, words in WAYS.items() if way in ways)
        name = f"{one['kernel']}, {MACHINES[one['machine']]}"
        yield f"| {name} | {how} | {live['passed']} | {failed} | {skipped or '0'} | {probed} |"
    yield from missing(found)


def missing(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What has not been tried, or not by the full form."""
    forms = {(one["machine"], one["name"]): one["form"] for one in found}
    for machine, names in EXPECTED.items():
        for words, form in (("Not run yet", None), ("The full form has not been run yet", "short")):
            series = [name for name in names if forms.get((machine, name)) == form]
            if series:
                yield f"\n{words} on {MACHINES[machine]}: {', '.join(series)}."


def checks(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What `pyebpf doctor` finds in each."""
    names = [*dict.fromkeys(check["name"] for one in found for check in one.get("checks", []) if check["minimum"])]
    yield "\n| `pyebpf doctor` | " + " | ".join(map(heading, found)) + " |\n|" + "---|" * (len(found) + 1)
    for name in names:
        works = [{check["name"]: check["works"] for check in one.get("checks", [])}.get(name) for one in found]
        yield f"| {name} | {' | '.join({True: 'yes', False: 'no', None: ''}[one] for one in works)} |"


def tools(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Tool by kernel; what is said is numbered, and follows."""
    names = [*dict.fromkeys(row["tool"] for one in found for row in one["tools"])]
    notes: dict[str, int] = {}
    yield "\n| tool | " + " | ".join(map(heading, found)) + " |\n|" + "---|" * (len(found) + 1)
    for name in names:
        told = [words_of(one, name) for one in found]
        everywhere = set.intersection(*map(set, told)) if len(told) > 1 else set()  # the machine's, not a kernel's
        cells = []
        for one, words in zip(found, told):
            said = [text for text in words if text not in everywhere]
            marks = ", ".join(str(notes.setdefault(text, len(notes) + 1)) for text in said)
            cells.append(came(one, name, said) + (f" ({marks})" if marks else ""))
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    for text, number in notes.items():
        yield f"{number}. {text}"


def words_of(one: dict[str, Any], name: str) -> list[str]:
    """What a tool says by its best hooks, what it was refused for, and what is wrong."""
    said = []
    for row in one["tools"]:
        if row["tool"] == name and (row["way"] in (1, *WAYS) or row["came"] == "wrong"):
            texts = [text for text in row["said"] if not text.startswith("probed: ")]
            if row["came"] != "works":
                options = "".join(f" --{option.replace('_', '-')}" for option in row["options"])
                texts = [f"`{name}{options}`: {' '.join(text.strip() for text in texts)}"] if texts else []
            said += [text.replace("|", "\\|").replace("pyebpf: ", "") for text in texts]
    return [*dict.fromkeys(said)]


def came(one: dict[str, Any], name: str, said: Sequence[str]) -> str:
    rows = [row["came"] for row in one["tools"] if row["tool"] == name and row["came"] != "absent"]
    if not rows:
        return "not tried"
    if "wrong" in rows:
        return "fails"
    if "works" not in rows:
        return "refused"
    return "in part" if said else "works"


def main() -> int:
    page = PAGE.read_text()
    PAGE.write_text(page.partition(BEGIN)[0] + section(results()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
