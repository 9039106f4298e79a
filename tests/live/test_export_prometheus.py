# SPDX-License-Identifier: BSD-2-Clause
"""Real calls, served by prometheus_client, scraped and queried by a real Prometheus."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import debian
import pytest
import targets
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

import pyebpf
from pyebpf.export.metrics import EventCounter
from pyebpf.export.prometheus import Collector, register

_CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: pyebpf
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query?"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What its HTTP API answers: ``metric`` and ``value`` (or ``values``) of each series."""
        url = self._url + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=targets.DEADLINE) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Of the only series; None if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def wait_for(self, expression: str, value: float) -> None:
        """Asks until it has scraped that value."""
        end = time.monotonic() + targets.DEADLINE
        while (now := self.value(expression)) != value:
            assert time.monotonic() < end, f"{expression} is {now}, not {value}"
            time.sleep(0.1)


@contextmanager
def prometheus(tmp_path: Path, scraped: int) -> Iterator[Prometheus]:
    """Runs one that scrapes a port of loopback each second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "prometheus.yml").write_text(_CONFIG.format(port=scraped))
    with subprocess.Popen(
        [
            str(debian.program("prometheus")), f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        log = []
        try:
            for line in process.stderr:
                log.append(line)
                if "Server is ready" in line:
                    break
            else:
                pytest.fail("".join(log))
            threading.Thread(target=process.stderr.read, daemon=True).start()  # so that its pipe never fills up
            yield Prometheus(port)
        finally:
            process.terminate()
            process.wait(targets.DEADLINE)


@contextmanager
def served(registry: CollectorRegistry) -> Iterator[int]:
    """Serves a registry on a port of loopback."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_prometheus_that_scrapes(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    calls_c = targets.compiled("calls.c")
    with targets.run(calls_c, "-n", "10007", "hot") as busy, targets.run(calls_c, "-n", "997", "nap") as idle:
        with served(registry) as port, prometheus(tmp_path, port) as peer:
            scrape(busy, idle, registry, peer)


def scrape(busy: targets.Target, idle: targets.Target, registry: CollectorRegistry, peer: Prometheus) -> None:
    with pyebpf.count(f"{busy.path}:hot", pid=busy.pid) as counts:
        with pyebpf.latency(f"{idle.path}:nap", pid=idle.pid) as latencies:
            collector = register(counts, registry, {"trace": "calls"})
            collector.add(latencies)
            peer.wait_for("pyebpf_calls_total", 0)
            calls, naps = busy.go()["calls"]["hot"], idle.go()["calls"]["nap"]
            peer.wait_for('pyebpf_calls_total{function="hot",trace="calls"}', calls)
            peer.wait_for("pyebpf_call_duration_seconds_count", naps)
            histogram = latencies.snapshot()["nap"]
            assert (histogram.count, peer.value("pyebpf_call_duration_seconds_sum")) == (naps, histogram.total / 1e9)
    below = [0, *accumulate(row.calls for row in histogram.rows())]
    buckets = {s["metric"]["le"]: float(s["value"][1]) for s in peer.query("pyebpf_call_duration_seconds_bucket")}
    assert len(buckets) == 30 and buckets.pop("+Inf") == naps
    for bound, n in buckets.items():
        power = round(float(bound) * 1e9).bit_length() - 1
        assert n == below[min(power, len(below) - 1)]
    quantile = peer.value("histogram_quantile(0.5, sum by (le) (rate(pyebpf_call_duration_seconds_bucket[1m])))")
    assert quantile is not None
    row = next(row for row, calls in zip(histogram.rows(), below[1:]) if calls >= naps / 2)
    assert row.low <= quantile * 1e9 <= row.high + 1
    # The session is closed: its numbers stay, and the target is up.
    kept = collector.add(EventCounter("oomkill"))
    peer.wait_for('pyebpf_events_total{tool="oomkill"}', 0)
    peer.wait_for("pyebpf_calls_total", 10007)
    collector.remove(kept)
    peer.wait_for("count(pyebpf_events_total) or vector(0)", 0)
    (series,) = peer.query("pyebpf_calls_total[5m]")
    values = [float(value) for _, value in series["values"]]
    assert values == sorted(values) and values[0] == 0 and values[-1] == 10007
    assert peer.value("min_over_time(up[5m])") == 1


def test_promtool_finds_no_fault() -> None:
    registry = CollectorRegistry()
    path = targets.compiled("calls.c")
    counter = EventCounter("tcpconnect", ["comm"])
    with pyebpf.latency(f"{path}:hot") as latencies, pyebpf.count(f"{path}:*") as counts:
        collector = register(latencies, registry)
        collector.add(counts, max_series=2)
        collector.add(counter, {"host": b'a"\\\n\xff'})
        with targets.run(path, "-n", "23", "hot") as target:
            target.go()
        with pyebpf.tcpconnect(pid=os.getpid()) as connects, socket.socket() as server:
            collector.add(connects, tool="tcpconnect")
            server.bind(("127.0.0.1", 0))
            server.listen()
            socket.create_connection(server.getsockname()).close()
            counter.add(next(connects.read(targets.DEADLINE)))
            text = generate_latest(registry).decode()
    lost = 'pyebpf_lost_total{reason="missed",tool="tcpconnect"}'
    for series in ("pyebpf_folded_series{", lost, "pyebpf_events_total{"):
        assert series in text
    done = subprocess.run(
        [str(debian.program("promtool", "prometheus")), "check", "metrics"],
        input=text, capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sessions_that_close_while_they_are_scraped() -> None:
    """Ten sessions of two kinds, closed in the midst of scrapes by several threads."""
    registry = CollectorRegistry()
    collector = Collector()
    registry.register(collector)
    wrong: list[BaseException] = []
    done = threading.Event()

    def scrape() -> None:
        last = 0.0
        while not done.is_set():
            try:
                lines = generate_latest(registry).decode().splitlines()
                now = sum(float(line.split()[-1]) for line in lines if line.startswith("pyebpf_calls_total"))
                assert now >= last
                last = now
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with targets.run(targets.compiled("calls.c"), "-n", "10007", "hot") as target:
            openers: list[Callable[[str], Any]] = [pyebpf.count, pyebpf.latency]
            sessions = [open_(f"{target.path}:hot") for open_ in openers * 5]
            for session in sessions:
                collector.add(session)
            target.begin()
            for session in sessions:
                generate_latest(registry)
                session.close()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong
