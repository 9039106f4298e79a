#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`pyebpf export` beside a real Prometheus: its targets are restarted and upgraded, one calls a million times a second.

    python benchmarks/soak.py --minutes 10

Three programs call a traced function and count the calls themselves. *steady*: 1000 a second, restarted every ten
seconds, every second time as a new file that the agent has seen before the new process starts (a careful deployment).
*sudden*: the same, but the new process starts at once (what a package manager does): what the agent misses meanwhile is
measured. *fast*: a million a second, which max_rate and max_overhead don't allow. Exit code 1 if anything isn't as it
should be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests"))

import targets  # noqa: E402

RATE, FAST_RATE = 1000, 1_000_000  # calls a second
ROUND = 10.0  # seconds until steady and sudden are restarted
MAX_RATE, COOLDOWN = 100_000, 10
CONFIG = """
listen = "127.0.0.1:{port}"
[[trace]]
name = "steady"
tool = "count"
targets = ["{folder}/steady:work"]
[[trace]]
name = "steady-times"
tool = "latency"
targets = ["{folder}/steady:work"]
[[trace]]
name = "sudden"
tool = "count"
targets = ["{folder}/sudden:work"]
[[trace]]
name = "selected"
tool = "count"
targets = [":work"]
process = {{ comm = "steady" }}
[[trace]]
name = "fast"
tool = "count"
targets = ["{folder}/fast:work"]
max_rate = {max_rate}
cooldown = "{cooldown}s"
[[trace]]
name = "starts"
tool = "execsnoop"
labels = ["comm"]
"""
PROMETHEUS = """
global: {{ scrape_interval: 2s, scrape_timeout: 2s }}
scrape_configs:
  - job_name: pyebpf
    static_configs: [{{ targets: ["127.0.0.1:{port}"] }}]
"""


class Caller:
    """A program that counts its own calls, through all its restarts.

    Attributes:
        calls: of the processes that have ended.
        seconds: of each second, calls and CPU time in µs: what others do meanwhile isn't in that.
    """

    def __init__(self, folder: Path, name: str, rate: int) -> None:
        self.path, self.rate = folder / name, rate
        self.calls, self.newer = 0, False
        self.seconds: list[tuple[int, int]] = []
        self.install()

    def install(self) -> None:
        """Replaces the file as a package manager does."""
        flags = ["-DNEWER"] if self.newer else []
        source = str(TOP / "benchmarks/workloads/caller.c")
        subprocess.run(["gcc", "-O2", *flags, "-o", f"{self.path}.new", source], check=True)
        os.rename(f"{self.path}.new", self.path)
        self.newer = not self.newer

    def start(self) -> None:
        self.process = subprocess.Popen([str(self.path), str(self.rate)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.calls += json.loads(line)["calls"]
            else:
                calls, cpu = map(int, line.split())
                self.seconds.append((calls, max(cpu, 1)))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Watched:
    """The agent's process, looked at from outside.

    Attributes:
        samples: time, resident KiB, CPU seconds, descriptors, threads.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples: list[tuple[float, int, float, int, int]] = []

    def sample(self) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        field = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if len(line.split()) > 1}
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = sum(int(stat[at]) for at in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")  # with ended children's
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        self.samples.append((time.monotonic(), int(field["VmRSS"]), cpu, descriptors, int(field["Threads"])))


def fetch(url: str) -> Any:
    with urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def until(what: str, check: Any, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"never: {what}")
        time.sleep(0.05)
    return found


class Prometheus:
    """Debian's, with an empty database, on loopback."""

    def __init__(self, folder: Path, port: int, scraped: int) -> None:
        (folder / "prometheus.yml").write_text(PROMETHEUS.format(port=scraped))
        self.url = f"http://127.0.0.1:{port}"
        self.log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def value(self, query: str) -> float | None:
        found = fetch(f"{self.url}/api/v1/query?query={quote(query)}")["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--pyebpf", default=f"{sys.executable} -m pyebpf", help="the command (default %(default)s)")
    parser.add_argument("--port", type=int, default=19435, help="of the agent; the next one is Prometheus's")
    arguments = parser.parse_args()
    events = Path("/sys/kernel/tracing/uprobe_events")
    with tempfile.TemporaryDirectory(prefix="pyebpf-soak-") as name:
        folder = Path(name)
        rates = {"steady": RATE, "sudden": RATE, "fast": FAST_RATE}
        callers = {name: Caller(folder, name, rate) for name, rate in rates.items()}
        config = folder / "agent.toml"
        config.write_text(
            CONFIG.format(port=arguments.port, folder=folder, max_rate=MAX_RATE, cooldown=COOLDOWN)
        )
        log = (folder / "agent.log").open("wb")
        agent = subprocess.Popen([*arguments.pyebpf.split(), "export", str(config)], stderr=log)
        prometheus = Prometheus(folder, arguments.port + 1, arguments.port)
        report, held = [], {}
        try:
            report = soak(arguments.minutes * 60, agent, prometheus, callers, f"http://127.0.0.1:{arguments.port}")
        finally:
            for caller in callers.values():
                if hasattr(caller, "process") and caller.process.poll() is None:
                    caller.process.kill()
            prometheus.stop()
            held = ids_of(agent.pid)
            agent.send_signal(signal.SIGTERM)
            code = agent.wait(60)
            log.close()
            lines = [json.loads(line) for line in (folder / "agent.log").read_text().splitlines()]
        report.append(("exit code of the agent", str(code), code == 0))
        faults = [line["msg"] for line in lines if line["level"] == "error"]
        report.append(("errors in its log", str(faults[:3] or "none"), not faults))
        left = until_gone(held)
        of = sum(map(len, held.values()))
        report.append(("eBPF programs, maps, links left", f"{left} of {of}", left == 0 and of > 0))
        if events.exists():
            report.append(("uprobe_events left", events.read_text().strip() or "none", not events.read_text().strip()))
    width = max(len(what) for what, _, _ in report)
    for what, value, good in report:
        print(f"{what:<{width}}  {'ok ' if good else 'BAD'}  {value}")
    return 0 if all(good for _, _, good in report) else 1


def ids_of(pid: int) -> dict[str, set[int]]:
    """The eBPF objects that a process has open."""
    ids: dict[str, set[int]] = {"programs": set(), "maps": set(), "links": set()}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = info.read_text()
        except FileNotFoundError:  # closed since
            continue
        for kind, number in re.findall(r"^(prog|map|link)_id:\s*(\d+)$", text, re.MULTILINE):
            ids[{"prog": "programs", "map": "maps", "link": "links"}[kind]].add(int(number))
    return ids


def until_gone(held: dict[str, set[int]]) -> int:
    """How many of these objects stay in the kernel, which frees them a moment after the last descriptor."""
    deadline = time.monotonic() + 10
    while True:
        left = sum(len(ids & held[kind]) for kind, ids in targets.bpf_ids().items())
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def soak(
    seconds: float, agent: subprocess.Popen[bytes], prometheus: Prometheus, callers: dict[str, Caller], url: str
) -> list[tuple[str, str, bool]]:
    def health(name: str) -> dict[str, Any]:
        found: dict[str, Any] = fetch(f"{url}/healthz")["traces"][name]
        return found

    def seen(name: str) -> bool:
        try:
            return bool(health(name)["state"] == "attached")
        except OSError:
            return False

    for name in ("steady", "steady-times", "sudden", "fast", "starts"):
        until(f"{name} attached", lambda name=name: seen(name))
    until("Prometheus is up", lambda: ready(prometheus))
    steady, sudden = callers["steady"], callers["sudden"]
    for caller in callers.values():
        caller.start()
    watched = Watched(agent.pid)
    begun = due = time.monotonic()
    rounds = upgrades = 0
    while time.monotonic() < begun + seconds:
        due += ROUND
        while time.monotonic() < due:
            watched.sample()
            time.sleep(1)
        rounds += 1
        if rounds % 2:
            upgrades += 1
            attached = {name: count_of(url, name) for name in ("steady", "steady-times")}
            steady.install()
            for name, number in attached.items():
                until(f"{name} on its new file", lambda name=name, number=number: count_of(url, name) > number)
            sudden.install()
        for caller in (steady, sudden):
            caller.stop()
            caller.start()
    for caller in callers.values():
        caller.stop()
    time.sleep(5)  # for a last scrape
    watched.sample()
    return judged(prometheus, callers, watched, seconds, rounds, upgrades)


def count_of(url: str, name: str) -> int:
    """How often a trace was attached."""
    with urlopen(f"{url}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f'pyebpf_trace_attachments_total{{trace="{name}"}}'):
                return int(float(line.split()[-1]))
    return 0


def ready(prometheus: Prometheus) -> bool:
    try:
        return prometheus.value("up") == 1
    except OSError:
        return False


def judged(
    prometheus: Prometheus, callers: dict[str, Caller], watched: Watched, seconds: float, rounds: int, upgrades: int
) -> list[tuple[str, str, bool]]:
    steady, sudden, fast = callers["steady"], callers["sudden"], callers["fast"]
    window = f"[{int(seconds) + 60}s]"
    value = prometheus.value
    report = [("rounds, upgrades", f"{rounds}, {upgrades}", rounds > 0)]

    def compared(what: str, query: str, truth: int, most_missing: int) -> None:
        number = int(value(query) or 0)
        share = f"{number:,} of {truth:,}" + (f" ({truth - number:,} missing)" if truth != number else "")
        report.append((what, share, 0 <= truth - number <= most_missing))

    compared("steady: calls", 'pyebpf_calls_total{trace="steady"}', steady.calls, 0)
    compared(
        "steady: calls timed", 'pyebpf_call_duration_seconds_count{trace="steady-times"}', steady.calls, 0
    )
    compared("steady by process: calls", 'pyebpf_calls_total{trace="selected"}', steady.calls, 3 * RATE * (rounds + 1))
    compared("sudden: calls", 'pyebpf_calls_total{trace="sudden"}', sudden.calls, 3 * RATE * upgrades)
    missing = sudden.calls - int(value('pyebpf_calls_total{trace="sudden"}') or 0)
    report.append(("sudden: unseen after an upgrade", f"{missing / RATE / max(upgrades, 1):.2f} s on average", True))
    resets = value(f"sum(resets(pyebpf_calls_total{window}))")
    report.append(("counters that fell (Prometheus)", f"{resets:.0f}", resets == 0))
    up, scrapes = value(f"min_over_time(up{window})"), value(f"count_over_time(up{window})")
    report.append(("scrapes, all of them answered", f"{scrapes:.0f}", up == 1))
    slowest = value(f"max_over_time(scrape_duration_seconds{window})") or 0
    report.append(("slowest scrape", f"{slowest * 1000:.0f} ms", slowest < 2))
    detached = value('sum(pyebpf_trace_detached_total{trace="fast",reason=~"max_rate|max_overhead"})') or 0
    report.append(("fast: detached by a limit", f"{detached:.0f} times", detached > 0))
    rates = sorted(calls for calls, _ in fast.seconds)
    report.append(("fast: calls a second", f"{statistics.median(rates):,.0f}, {rates[0]:,} in its slowest", True))
    counted = value('pyebpf_calls_total{trace="fast"}') or 0
    report.append(("fast: calls counted while attached", f"{counted:,.0f} of {fast.calls:,}", 0 < counted < fast.calls))
    costs = sorted(cpu / calls for calls, cpu in fast.seconds if calls)
    free = statistics.median(costs[: max(1, len(costs) // 4)])  # µs a call, not traced
    lost = sum(cpu - calls * free for calls, cpu in fast.seconds) / 1e6 / seconds
    report.append((
        "fast: CPU that being traced takes", f"{lost:.1%} of one (a call: {free * 1000:.0f} ns untraced, up to "
        f"{costs[-1] * 1000:,.0f} ns in a second in which it was attached)", lost < 0.3,
    ))  # fmt: skip
    samples = watched.samples
    half = samples[len(samples) // 2 :]
    passed = samples[-1][0] - samples[0][0]
    cpu = (samples[-1][2] - samples[0][2]) / passed
    report.append(("CPU of the agent and its children", f"{cpu:.1%} of one CPU", cpu < 0.15))
    rss = [sample[1] for sample in half]
    growth = (rss[-1] - rss[0]) / 1024
    report.append((
        "memory of the agent", f"{samples[0][1] / 1024:.1f} MiB at first, {rss[0] / 1024:.1f} half way, "
        f"{rss[-1] / 1024:.1f} at the end, {max(sample[1] for sample in samples) / 1024:.1f} at most", growth < 2,
    ))  # fmt: skip
    fds, threads = [sample[3] for sample in half], {sample[4] for sample in half}
    # Up to four older generations of three upgraded files are kept, with some ten descriptors each.
    report.append(("descriptors, second half", f"{min(fds)} to {max(fds)}", max(fds) < 60 + 5 * 4 * 12))
    report.append(("threads, second half", str(sorted(threads)), threads == {3}))
    return report


if __name__ == "__main__":
    raise SystemExit(main())
