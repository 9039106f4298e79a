#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every tool, and `pyebpf export`, under load for a long time: does what they take of the machine stay what it is?

    python benchmarks/soak.py --minutes 60                        # all tools at once, then export beside Prometheus
    python benchmarks/soak.py --minutes 10 --tools trace,tcplife  # some
    python benchmarks/soak.py --minutes 60 --write                # also into docs/overhead.md

As root. Each tool's memory (resident, proportional, private), the kernel memory of its eBPF maps, its descriptors,
threads and CPU time are sampled. soak_load.py says what the load is, soak_watch.py what is flat. Of the kernel's memory
as a whole only the change is shown: it is of everybody on the machine. For export more is checked (soak_agent.py, with
Debian's prometheus). Exit code 1 if something grew, failed, or stayed behind.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(TOP / "tests"))

import soak_agent  # noqa: E402
import soak_load  # noqa: E402
import targets  # noqa: E402
import written  # noqa: E402
from soak_watch import Verdict, Watched, kernel_memory  # noqa: E402

PAGE = TOP / "docs" / "overhead.md"
BEGIN, END = "<!-- soak: written by benchmarks/soak.py --write -->", "<!-- end of soak -->"
POINTS = 400  # samples of a run, at most one a second
F_SETPIPE_SZ = 1031  # Python 3.10 has the name
TAIL = 1 << 16  # bytes of a tool's output that are kept
COLUMNS = ("tool", "records", "lost", "CPU", "private memory (growth)", "maps", "descriptors", "threads", "verdict")


class Result(NamedTuple):
    """Of a tool's run.

    Attributes:
        records: lines of JSON it printed.
        lost: what it says was lost; None where it has nothing to lose.
        faults: what else was not as it should be.
    """

    tool: str
    records: int
    lost: int | None
    cpu: float
    verdicts: dict[str, Verdict]
    faults: list[str]

    @property
    def good(self) -> bool:
        return not self.faults and all(one.flat for one in self.verdicts.values())

    def cells(self) -> tuple[str, ...]:
        if not self.verdicts:  # it ended too early
            return (self.tool, *[""] * (len(COLUMNS) - 2), "; ".join(self.faults))
        memory, maps = self.verdicts["private"], self.verdicts["maps"]
        grown = [name for name, one in self.verdicts.items() if not one.flat]
        return (
            self.tool, f"{self.records:,}", "" if self.lost is None else f"{self.lost:,}", f"{self.cpu:.1%}",
            f"{memory.last / 1024:.1f} MiB ({memory.growth / 1024:+.2f})", f"{maps.last / 1024:.1f} MiB",
            f"{self.verdicts['descriptors'].last:.0f}", f"{self.verdicts['threads'].last:.0f}",
            "flat" if self.good else "; ".join([*(f"{name} grew" for name in grown), *self.faults]),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return {
            **self._asdict(), "good": self.good,
            "verdicts": {name: one._asdict() for name, one in self.verdicts.items()},
        }  # fmt: skip


class Reader(threading.Thread):
    """Reads what tools print, and keeps the last of it.

    Attributes:
        lines: how many, by tool.
        tails: the last bytes, by tool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.tails: dict[str, bytes] = {}
        self._selector = selectors.DefaultSelector()

    def add(self, tool: str, pipe: Any) -> None:
        fcntl.fcntl(pipe, F_SETPIPE_SZ, 1 << 20)  # what waits for us must not be what slows a tool down
        self.lines[tool], self.tails[tool] = 0, b""
        self._selector.register(pipe, selectors.EVENT_READ, tool)

    def run(self) -> None:
        while self._selector.get_map():
            for key, _ in self._selector.select():
                data = os.read(key.fd, 1 << 20)
                if not data:
                    self._selector.unregister(key.fileobj)
                self.lines[key.data] += data.count(b"\n")
                self.tails[key.data] = (self.tails[key.data] + data)[-TAIL:]
        self._selector.close()


class Tool:
    """One that runs until `end`.

    Attributes:
        watched: its process.
    """

    def __init__(self, name: str, pyebpf: Sequence[str], load: soak_load.Load, reader: Reader, folder: Path) -> None:
        self.name = name
        self._errors = (folder / f"{name}.err").open("w+")
        ready, told = os.pipe()
        words = [*pyebpf, name, "--json", "--ready-fd", str(told), *soak_load.arguments_of(name, load)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=[told]
        )
        os.close(told)
        with os.fdopen(ready, "rb") as end:
            self.began = end.read(1) == b"\n"
        reader.add(name, self.process.stdout)
        self.watched = Watched(self.process.pid)
        self._faults: list[str] = []

    def sample(self) -> None:
        try:
            self.watched.sample()
        except (OSError, KeyError):  # it has ended, which `end` tells
            pass

    def ask(self) -> None:
        """Tells it to end."""
        self._held = targets.held_bpf(self.process.pid) if self.process.poll() is None else {}
        if self.process.poll() is not None:
            self._faults.append("ended by itself")
        self.process.send_signal(signal.SIGINT)

    def end(self, reader: Reader) -> Result:
        """Waits for its end, and judges."""
        code = self.process.wait(120)
        self._errors.seek(0)
        said = self._errors.read()
        self._errors.close()
        if code or not self.began:
            self._faults.append(f"exit code {code}: {said.strip()[-200:]}")
        if left := targets.bpf_left(self._held) if self._held else 0:
            self._faults.append(f"{left} eBPF objects left")
        return Result(
            self.name, 0, None, self.watched.cpu() if self.watched.samples else 0.0,
            self.watched.judged() if len(self.watched.samples) > 3 else {}, self._faults,
        )  # fmt: skip


def with_output(result: Result, reader: Reader) -> Result:
    """A result with what the tool printed, once all of it is read."""
    lost = None
    if found := re.findall(rb'^\{"type": ?"end".*$', reader.tails[result.tool], re.MULTILINE):
        losses = json.loads(found[-1])["losses"]
        lost = sum(losses.get(name, 0) for name in ("dropped", "evicted", "refused", "untracked", "missed", "failed"))
    faults = list(result.faults)
    if lost is None and not faults:
        faults.append("no last line")
    if reader.lines[result.tool] < 4 and not faults:
        faults.append("nothing shown")
    return result._replace(records=max(0, reader.lines[result.tool] - 2), lost=lost, faults=faults)


def soak(names: Sequence[str], minutes: float, pyebpf: Sequence[str]) -> tuple[list[Result], dict[str, Any]]:
    """Runs tools side by side; their results, and what the load and the kernel's memory were."""
    with tempfile.TemporaryDirectory(prefix="pyebpf-soak-") as name, soak_load.Load(Path(name)) as load:
        soak_load.settle()
        reader = Reader()
        tools = [Tool(tool, pyebpf, load, reader, Path(name)) for tool in names]
        reader.start()
        before, begun = kernel_memory(), time.monotonic()
        every = max(1.0, minutes * 60 / POINTS)
        due = begun
        while time.monotonic() < begun + minutes * 60:
            for tool in tools:
                tool.sample()
            due += every
            time.sleep(max(0.0, due - time.monotonic()))
        after = kernel_memory()
        for tool in tools:
            tool.ask()
        results = [tool.end(reader) for tool in tools]
        reader.join()
        for tool in tools:
            if tool.process.stdout:
                tool.process.stdout.close()
        results = [with_output(result, reader) for result in results]
        more = {
            "acts": load.acts, "load_faults": load.faults,
            "kernel_kib": {name: [before[name], after[name]] for name in before},
            "samples": {tool.name: [sample._asdict() for sample in tool.watched.samples] for tool in tools},
        }  # fmt: skip
    return results, more


def block(document: dict[str, Any], tools: str, agent: str) -> str:
    """What stands in docs/overhead.md."""
    memory = document["kernel_kib"].items()
    kernel = "; ".join(f"{name} {old / 1024:.0f} → {new / 1024:.0f} MiB" for name, (old, new) in memory)
    load = ", ".join(f"{1e6 / microseconds:,.0f} {loop}" for loop, microseconds in soak_load.PACES.items())
    text = (
        f"{document['minutes']:g} minutes on {document['machine']}. The load, a second: {soak_load.CALLS:,} calls of a "
        f"function, {load}, and up to {1 / soak_load.PAUSE:.0f} of everything else. “Growth” is what the regression "
        "line rises by in that time, without its first tenth. Flat: neither that nor what the last quarter's median is "
        "above the first's is more than 1 MiB or 5 % of memory, 256 KiB of maps, or one descriptor or thread.\n\n"
    )
    if tools:
        text += f"{tools}\n\nThe whole kernel's memory meanwhile, whoever for: {kernel}.\n"
    if agent:
        text += f"\n`pyebpf export` beside Prometheus, its targets restarted and upgraded:\n\n{agent}\n"
    return f"{BEGIN}\n{text}{END}"


def write(text: str) -> None:
    """Puts the block where it was, or behind everything else."""
    page = PAGE.read_text()
    if BEGIN in page:
        page = page[: page.index(BEGIN)] + text + page[page.index(END) + len(END) :]
    else:
        page = f"{page.rstrip()}\n\n## Over time\n\n{text}\n"
    PAGE.write_text(page)


def main() -> int:
    names = (*soak_load.TOOLS, "export")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of each group (default %(default)g)")
    parser.add_argument("--tools", default=",".join(names), metavar="TOOL,…", help="which; all of them by default")
    parser.add_argument("--at-once", type=int, default=len(names), metavar="N", help="so many side by side (all)")
    parser.add_argument("--pyebpf", default=f"{sys.executable} -m pyebpf", help="the command (default %(default)s)")
    parser.add_argument("--port", type=int, default=19435, help="of the agent; the next one is Prometheus's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    parser.add_argument("--write", action="store_true", help="also into docs/overhead.md")
    arguments = parser.parse_args()
    chosen = arguments.tools.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}")
    pyebpf = arguments.pyebpf.split()
    tools = [name for name in chosen if name != "export"]
    machine = written.made_on()
    document: dict[str, Any] = {"machine": machine, "minutes": arguments.minutes, "kernel_kib": {}, "tools": []}
    good, shown, agent = True, "", ""
    rows: list[tuple[str, ...]] = []
    for at in range(0, len(tools), arguments.at_once):
        results, more = soak(tools[at : at + arguments.at_once], arguments.minutes, pyebpf)
        rows += [result.cells() for result in results]
        document["tools"] += [{**result.as_dict(), "samples": more["samples"][result.tool]} for result in results]
        document.update({key: more[key] for key in ("acts", "load_faults", "kernel_kib")})
        good = good and all(result.good for result in results) and not more["load_faults"]
        for fault in more["load_faults"]:
            print(f"load: {fault}", file=sys.stderr)
    if tools:
        shown = "\n".join(written.table(COLUMNS, rows, align=True))
        print(shown, flush=True)
    if "export" in chosen:
        report, watched = soak_agent.run(arguments.minutes, pyebpf, arguments.port)
        seen = [(what, "ok" if fine else "BAD", value) for what, value, fine in report]
        agent = "\n".join(written.table(("what", "", "seen"), seen, align=True))
        print(agent, flush=True)
        document["export"] = {
            "report": [[what, value, fine] for what, value, fine in report],
            "samples": [sample._asdict() for sample in watched.samples],
        }  # fmt: skip
        good = good and all(fine for _, _, fine in report)
    document["good"] = good
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.write:
        write(block(document, shown, agent))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
