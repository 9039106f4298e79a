# SPDX-License-Identifier: BSD-2-Clause
"""`pyebpf export` beside a real Prometheus: its targets are restarted and upgraded, one calls a million times a second.

Three programs call a traced function and count the calls themselves. *steady*: 1000 a second, restarted every ten
seconds, every second time as a new file that the agent has seen before the new process starts (a careful deployment).
*sudden*: the same, but the new process starts at once (what a package manager does): what the agent misses meanwhile is
measured. *fast*: a million a second, which max_rate and max_overhead don't allow.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import targets
from soak_watch import Watched

TOP = Path(__file__).resolve().parents[1]
RATE, FAST_RATE = 1000, 1_000_000  # calls a second
ROUND = 10.0  # seconds until steady and sudden are restarted
PAUSE = 0.05  # seconds between two questions to the agent: each costs it something
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


def fetch(url: str) -> Any:
    with urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


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


def run(minutes: float, pyebpf: list[str], port: int) -> tuple[list[tuple[str, str, bool]], Watched]:
    """What was seen of it: what, the value, whether it is good; and the samples of its memory.

    Args:
        pyebpf: the command.
        port: of the agent; the next one is Prometheus's.
    """
    events = Path("/sys/kernel/tracing/uprobe_events")
    with tempfile.TemporaryDirectory(prefix="pyebpf-soak-") as name:
        folder = Path(name)
        rates = {"steady": RATE, "sudden": RATE, "fast": FAST_RATE}
        callers = {name: Caller(folder, name, rate) for name, rate in rates.items()}
        config = folder / "agent.toml"
        config.write_text(CONFIG.format(port=port, folder=folder, max_rate=MAX_RATE, cooldown=COOLDOWN))
        log = (folder / "agent.log").open("wb")
        agent = subprocess.Popen([*pyebpf, "export", str(config)], stderr=log)
        prometheus = Prometheus(folder, port + 1, port)
        watched = Watched(agent.pid)
        report, held = [], {}
        try:
            report = soak(minutes * 60, watched, prometheus, callers, f"http://127.0.0.1:{port}")
        finally:
            for caller in callers.values():
                if hasattr(caller, "process") and caller.process.poll() is None:
                    caller.process.kill()
            prometheus.stop()
            held = targets.held_bpf(agent.pid)
            agent.send_signal(signal.SIGTERM)
            code = agent.wait(60)
            log.close()
            lines = [json.loads(line) for line in (folder / "agent.log").read_text().splitlines()]
        report.append(("exit code of the agent", str(code), code == 0))
        faults = [line["msg"] for line in lines if line["level"] == "error"]
        report.append(("errors in its log", str(faults[:3] or "none"), not faults))
        left = targets.bpf_left(held)
        of = sum(map(len, held.values()))
        report.append(("eBPF programs, maps, links left", f"{left} of {of}", left == 0 and of > 0))
        if events.exists():
            report.append(("uprobe_events left", events.read_text().strip() or "none", not events.read_text().strip()))
    return report, watched


def soak(
    seconds: float, watched: Watched, prometheus: Prometheus, callers: dict[str, Caller], url: str
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
        targets.until(lambda name=name: seen(name), f"{name} attached", PAUSE)
    targets.until(lambda: ready(prometheus), "Prometheus is up", PAUSE)
    steady, sudden = callers["steady"], callers["sudden"]
    for caller in callers.values():
        caller.start()
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
                targets.until(
                    lambda name=name, number=number: count_of(url, name) > number, f"{name} on its new file", PAUSE
                )
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
    compared("steady: calls timed", 'pyebpf_call_duration_seconds_count{trace="steady-times"}', steady.calls, 0)
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
    report.append(("CPU of the agent and its children", f"{watched.cpu():.1%} of one CPU", watched.cpu() < 0.15))
    private = watched.judged()["private"]
    report.append((
        "memory of the agent", f"{samples[0].private / 1024:.1f} MiB at first, {private.first / 1024:.1f} in the first "
        f"quarter, {private.last / 1024:.1f} in the last", private.flat,
    ))  # fmt: skip
    half = samples[len(samples) // 2 :]
    fds, threads = [sample.descriptors for sample in half], {sample.threads for sample in half}
    # Up to four older generations of three upgraded files are kept, with some ten descriptors each.
    report.append(("descriptors, second half", f"{min(fds)} to {max(fds)}", max(fds) < 60 + 5 * 4 * 12))
    report.append(("threads, second half", str(sorted(threads)), threads == {3}))
    return report
