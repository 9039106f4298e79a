#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measures pyebpf beside its peers and writes RESULTS.md. See README.md; run as root, by the Python that has pyebpf."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent / "tests"))

import page  # noqa: E402
import peers  # noqa: E402
import results  # noqa: E402
from bench import Bench  # noqa: E402
from processes import Programs  # noqa: E402

_TITLES = {  # of the modules that measure
    "starting": "Starting and ending",
    "attaching": "Attaching and detaching",
    "symbols": "Reading symbols",
    "hits": "Cost of a call",
    "delivery": "Records",
    "sizes": "Size and shortest runs",
    "growth": "Growth",
    "overhead": "Programs of the event tools",
}


def main() -> int:
    options = _options()
    values = options.to / "results.json"
    kept: dict[str, Any] = json.loads(values.read_text()) if values.exists() else {}
    if not options.page:
        if os.geteuid():
            sys.exit("benchmarks/run.py: run as root")
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no tool is left running
        _measure(options, kept)
    else:
        _write(options.to, kept)
    return 0


def _write(folder: Path, kept: dict[str, Any]) -> None:
    # A section that was measured by itself stands with the others of an earlier run; each says when that was
    kept["sections"] = {name: kept["sections"][name] for name in _TITLES if name in kept["sections"]}
    (folder / "results.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    (folder / "RESULTS.md").write_text(page.Page(kept).text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure pyebpf beside its peers; write RESULTS.md and results.json.")
    parser.add_argument("--only", action="append", choices=list(_TITLES), help="only this section (repeatable)")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds (default 7; a section may take fewer)")
    parser.add_argument("--pyebpf", default=os.path.join(os.path.dirname(sys.executable), "pyebpf"), metavar="PATH",
                        help="the command to measure (default: beside this Python)")  # fmt: skip
    parser.add_argument("--peer", action="append", default=[], metavar="PART",
                        help="only contestants with this in their name, and pyebpf (repeatable)")  # fmt: skip
    parser.add_argument("--to", type=Path, default=HERE, metavar="FOLDER", help="where the page goes (default: here)")
    parser.add_argument("--page", action="store_true", help="measure nothing, make the page of the kept values anew")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), metavar="N",
                        help="where the kernel's events are made (default %(default)s)")  # fmt: skip
    return parser.parse_args()


def _measure(options: argparse.Namespace, kept: dict[str, Any]) -> None:
    peers.private_mounts()
    contestants, missing = peers.find(options.pyebpf, options.peer)
    rounds = options.runs or (2 if options.quick else 7)
    programs = Programs()
    bench = Bench(programs, contestants, rounds, options.quick, options.cpu)
    wanted = options.only or list(_TITLES)
    machine = results.machine()
    sections = kept.get("sections", {}) if options.only and kept.get("machine") == machine else {}
    names = [one.name for one in contestants if not one.options]
    kept = {"machine": machine, "contestants": names, "missing": missing, "sections": sections}
    for name in wanted:
        module = __import__(name)
        began = results.moment()
        tables = module.measure(bench)
        kept["sections"][name] = {
            "title": _TITLES[name], "began": began, "ended": results.moment(), "rounds": rounds,
            "tables": [table.plain() for table in tables],
        }  # fmt: skip
        _write(options.to, kept)


if __name__ == "__main__":
    sys.exit(main())
