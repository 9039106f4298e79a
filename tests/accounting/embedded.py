# SPDX-License-Identifier: BSD-2-Clause
"""What an embedder has: rings and perf buffers of programs of one's own, asyncio, the agent's metrics."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.request import urlopen

import ownprograms
import targets
from accounting import ledger
from accounting.ledger import Entry, by_kind, case, number
from accounting.making import many

from pyebpf import aio


def _act(count: int) -> int:
    """Calls getpgid for processes that don't exist; how often."""
    made = 0
    for one in range(count):
        try:
            os.getpgid(one | 1 << 30)
        except ProcessLookupError:
            made += 1
    return made


@case("Object.ring")
def rings(scale: float) -> Iterator[Entry]:
    """tests/bpf/rings.bpf.c: the program counts what found no room."""
    for read in (False, True):
        with ownprograms.opened("rings") as obj:
            assert obj.rodata is not None
            obj.rodata["only"] = os.getpid()
            obj.maps["events"].max_entries = 4096
            obj.load()
            obj.programs["on_call"].attach()
            with obj.ring("events") as reader:
                delivered = [0]
                thread = threading.Thread(target=_read, args=(reader, delivered))
                if read:
                    thread.start()
                made = _act(number(scale, 20_000))
                if read:
                    assert obj.bss is not None
                    dropped = int(obj.bss["dropped"])
                    targets.until(lambda: not _waits(obj))
                    reader.close()
                    thread.join()
                else:
                    delivered[0] = sum(1 for _ in reader.drain())
                    assert obj.bss is not None
                    dropped = int(obj.bss["dropped"])
            situation = "read by a thread" if read else "read after all was made"
            yield Entry("Object.ring", f"a ring of 4 KB, {situation}", made, delivered[0], by_kind(ring=dropped))


def _read(reader: Iterable[object], count: list[int]) -> None:
    for _ in reader:
        count[0] += 1


def _waits(obj: object) -> int:
    """Bytes in the ring, by the kernel's own positions."""
    buffer = obj.maps["events"].reader._buffer  # type: ignore[attr-defined]
    return int(buffer._producer[0] - buffer._consumer[0])


@case("Object.perf")
def perf_buffers(scale: float) -> Iterator[Entry]:
    for pages, read in ((1, False), (1, True), (64, True)):
        with ownprograms.opened("rings") as obj:
            assert obj.rodata is not None
            obj.rodata["only"] = os.getpid()
            obj.load()
            obj.programs["on_sample"].attach()
            with obj.perf("samples", type="event", pages=pages) as reader:
                delivered, made = 0, 0
                for _ in range(20):
                    made += _act(number(scale, 1_000, 50))
                    if read:
                        delivered += sum(1 for _ in reader.drain())
                delivered += sum(1 for _ in reader.drain())
                situation = "read now and then" if read else "read after all was made"
                lost = by_kind(ring=reader.lost)
                yield Entry("Object.perf", f"{pages} pages a CPU, {situation}", made, delivered, lost)


@case("aio.opensnoop")
def streams(scale: float) -> Iterator[Entry]:
    """Records read in an event loop."""

    async def run(count: int) -> Entry:
        with many("open", count // 4, 4) as (target, make):
            async with aio.opensnoop(pid=target.pid) as session:
                working = asyncio.get_running_loop().run_in_executor(None, make)
                shown = 0

                async def read() -> None:
                    nonlocal shown
                    async for _ in session:
                        shown += 1

                reading = asyncio.create_task(read())
                made = await working
                end = asyncio.get_running_loop().time() + targets.DEADLINE
                while shown + ledger.lost(session.losses).get("ring", 0) < made:
                    assert asyncio.get_running_loop().time() < end, (shown, made, session.losses)
                    await asyncio.sleep(0.01)
                losses = session.losses
                await session.close()
                await reading
                return Entry("aio.opensnoop", "async for, 4 threads", made, shown, ledger.lost(losses))

    yield asyncio.run(run(number(scale, 50_000)))


@case("export")
def agent(scale: float) -> Iterator[Entry]:
    """The agent's counters: of calls, of how long they took, and of a tool's events."""
    with tempfile.TemporaryDirectory() as folder, many("call", number(scale, 50_000), 4) as (target, make):
        config = Path(folder, "agent.toml")
        lines = ['listen = "127.0.0.1:0"', 'interval = "100ms"']
        for tool in ("count", "latency"):
            lines += ["[[trace]]", f'name = "{tool}"', f'tool = "{tool}"', f'targets = ["{target.path}:many_calls"]',
                      "max_overhead = 100"]  # fmt: skip
        config.write_text("\n".join([*lines, ""]))
        with subprocess.Popen(
            [sys.executable, "-m", "pyebpf", "export", str(config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            try:
                assert process.stderr is not None
                address = next(line["listen"] for line in map(json.loads, process.stderr) if line["msg"] == "started")
                threading.Thread(target=process.stderr.read, daemon=True).start()
                targets.until(lambda: _attached(address) == 2)
                made = make()
                counts = {name: _metric(address, name) for name in ("calls_total", "call_duration_seconds_count")}
            finally:
                process.terminate()
                process.wait(targets.DEADLINE)
        for name, shown in counts.items():
            yield Entry("export", f"pyebpf_{name}, 4 threads", made, shown)


def _metric(address: str, name: str) -> int:
    with urlopen(f"http://{address}/metrics", timeout=targets.DEADLINE) as answer:
        lines = answer.read().decode().splitlines()
    traces = {"calls_total": 'trace="count"'}
    found = [line for line in lines if line.startswith(f"pyebpf_{name}{{") and traces.get(name, "") in line]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in found))


def _attached(address: str) -> int:
    return _metric(address, "trace_attached")
