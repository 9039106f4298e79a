# SPDX-License-Identifier: BSD-2-Clause
"""OTLP: what a receiver decodes with OpenTelemetry's own protobuf is what was measured."""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import receiver as receivers

from pyebpf.errors import ExtraMissing, StateError, TargetError
from pyebpf.export.metrics import CALLS, DURATION, TRACED, Family, HistogramPoint, Labels, Point, Source
from pyebpf.export.otlp import Exporter, otel_name

CUMULATIVE, DELTA = 2, 1  # AggregationTemporality of metrics.proto


@pytest.fixture
def receiver() -> Iterator[receivers.Receiver]:
    with receivers.receiver() as server:
        yield server


class Numbers:
    """A session's numbers, which a test sets."""

    def __init__(self) -> None:
        self.rows: dict[str, list[int]] = {}
        self.totals: dict[str, int] = {}
        self.traced = 0

    def call(self, function: str, ns: int) -> None:
        row = max(0, ns.bit_length() - 1)
        rows = self.rows.setdefault(function, [])
        rows += [0] * (row + 1 - len(rows))
        rows[row] += 1
        self.totals[function] = self.totals.get(function, 0) + ns

    def __call__(self) -> list[Family]:
        durations, calls = [], []
        for function, rows in self.rows.items():
            labels: Labels = (("function", function),)
            durations.append(HistogramPoint(labels, tuple(rows), sum(rows), self.totals[function]))
            calls.append(Point(labels, sum(rows)))
        traced = TRACED._replace(points=(Point((), self.traced),))
        return [DURATION._replace(points=tuple(durations)), CALLS._replace(points=tuple(calls)), traced]


def times(seed: int, n: int = 997) -> list[int]:
    """Durations from 0 ns to hours, all of them likely."""
    chance = random.Random(seed)
    return [chance.getrandbits(chance.randrange(44)) for _ in range(n)]


def numbers(*durations: int) -> Numbers:
    result = Numbers()
    for ns in durations:
        result.call("f", ns)
    return result


def by_bucket(point: Any) -> dict[int, int]:
    """An exponential histogram's counts by bucket index; None: the zero bucket."""
    counts = {point.positive.offset + i: n for i, n in enumerate(point.positive.bucket_counts) if n}
    return {**counts, **({None: point.zero_count} if point.zero_count else {})}  # type: ignore[dict-item]


def histogram(server: receivers.Receiver, request: int = -1) -> Any:
    (point,) = server.metrics(request)["pyebpf.call_duration"].exponential_histogram.data_points
    return point


@pytest.mark.parametrize(
    "name, otel",
    [
        ("pyebpf_calls_total", "pyebpf.calls"), ("pyebpf_call_duration_seconds", "pyebpf.call_duration"),
        ("pyebpf_agent_memory_bytes", "pyebpf.agent_memory"), ("pyebpf_cpu_seconds_total", "pyebpf.cpu"),
    ],
)  # fmt: skip
def test_names(name: str, otel: str) -> None:
    assert otel_name(name) == otel


def test_a_delivery(receiver: receivers.Receiver) -> None:
    before = time.time_ns()
    source = numbers(0, 1, 2, 3, 4, 1000, 1 << 40)
    source.traced = 3
    exporter = Exporter(
        Source(source), endpoint=receiver.url, headers={"x-key": "secret"}, attributes={"service.name": "mine"}
    )
    assert exporter.export_once() and (exporter.exported, exporter.failures, exporter.last_error) == (1, 0, None)
    path, headers, _ = receiver.requests[0]
    assert path == "/v1/metrics" and headers["x-key"] == "secret"
    host = os.uname().nodename
    expected = {"service.name": "mine", "host.name": host, "service.instance.id": f"{host}:{os.getpid()}"}
    assert {**receiver.resource(), **expected} == receiver.resource()
    metrics = receiver.metrics()
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "pyebpf.call_duration": "ns", "pyebpf.calls": "1", "pyebpf.traced_functions": "1",
    }  # fmt: skip
    assert metrics["pyebpf.call_duration"].exponential_histogram.aggregation_temporality == CUMULATIVE
    assert metrics["pyebpf.calls"].sum.is_monotonic
    assert metrics["pyebpf.calls"].sum.data_points[0].as_int == 7
    assert metrics["pyebpf.traced_functions"].gauge.data_points[0].as_int == 3
    point = histogram(receiver)
    assert (point.scale, point.count, point.sum) == (0, 7, 1010 + (1 << 40))
    assert by_bucket(point) == {None: 2, 1: 2, 2: 1, 9: 1, 40: 1}
    assert not point.HasField("min") and not point.HasField("max")
    assert receivers.attributes(point) == {"function": "f"}
    assert before <= point.start_time_unix_nano <= point.time_unix_nano <= time.time_ns()
    exporter.close()


@pytest.mark.parametrize("seed", range(7))
def test_every_value_is_in_the_bucket_it_belongs_to(receiver: receivers.Receiver, seed: int) -> None:
    """The data model: bucket i of scale 0 is (2^i, 2^(i+1)]. A clock that reads n ns means [n, n + 1)."""
    durations = times(seed, 23)
    for ns in durations:
        exporter = Exporter(numbers(ns), endpoint=receiver.url)
        assert exporter.export_once()
        (index,) = by_bucket(histogram(receiver))
        if index is None:
            assert ns < 2
        else:
            assert 2**index < ns + 0.5 <= 2 ** (index + 1)


def test_histograms_of_a_fleet_add_up_without_loss(receiver: receivers.Receiver) -> None:
    """Two exporters' points, added up bucket by bucket as a collector does, are the point of both together."""
    both = Numbers()
    points = []
    for seed in (1, 2):
        alone = numbers(*times(seed))
        for ns in times(seed):
            both.call("f", ns)
        assert Exporter(alone, endpoint=receiver.url).export_once()
        points.append(histogram(receiver))
    assert Exporter(both, endpoint=receiver.url).export_once()
    whole = histogram(receiver)
    assert {point.scale for point in (*points, whole)} == {0}, "no bucket has to be split or joined"
    merged: dict[int, int] = {}
    for point in points:
        for index, n in by_bucket(point).items():
            merged[index] = merged.get(index, 0) + n
    assert merged == by_bucket(whole) and whole.count == 2 * 997 == sum(merged.values())
    assert sum(point.sum for point in points) == whole.sum == sum(times(1) + times(2)) < 1 << 53


def test_the_sdks_own_histogram_has_the_same_buckets(receiver: receivers.Receiver) -> None:
    """The mapping of OpenTelemetry's SDK, asked about times that lie within [n, n + 1)."""
    from opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.exponent_mapping import ExponentMapping

    mapping = ExponentMapping(0)
    durations = [ns for ns in times(3) if ns > 1]
    expected: dict[int, int] = {}
    for ns in durations:
        index = mapping.map_to_index(ns + 0.5)
        expected[index] = expected.get(index, 0) + 1
    assert Exporter(numbers(*durations), endpoint=receiver.url).export_once()
    assert by_bucket(histogram(receiver)) == expected


def test_differences(receiver: receivers.Receiver) -> None:
    source = numbers(5, 5)
    exporter = Exporter(source, endpoint=receiver.url, delta=True)
    assert exporter.export_once()
    first = histogram(receiver)
    source.call("f", 100)
    receiver.answer = 400
    assert not exporter.export_once()
    source.call("f", 7)
    receiver.answer = 200
    assert exporter.export_once()
    point = histogram(receiver)
    assert by_bucket(point) == {6: 1, 2: 1} and point.sum == 107, "what was not delivered came with the next"
    assert point.start_time_unix_nano == first.time_unix_nano
    metrics = receiver.metrics()
    assert metrics["pyebpf.call_duration"].exponential_histogram.aggregation_temporality == DELTA
    assert metrics["pyebpf.calls"].sum.aggregation_temporality == DELTA
    assert metrics["pyebpf.calls"].sum.data_points[0].as_int == 2
    assert (exporter.exported, exporter.failures) == (2, 1)
    assert exporter.export_once() and by_bucket(histogram(receiver)) == {}


def test_start_times(receiver: receivers.Receiver) -> None:
    """They stay while the numbers grow, and are new where they began anew."""
    source, other = numbers(5, 6, 7), numbers(5)
    exporter = Exporter(source, endpoint=receiver.url)
    assert exporter.export_once()
    first = histogram(receiver)
    source.call("f", 5)
    assert exporter.export_once()
    second = histogram(receiver)
    assert first.start_time_unix_nano == second.start_time_unix_nano < first.time_unix_nano < second.time_unix_nano
    exporter.remove(source)
    exporter.add(other)
    assert exporter.export_once()
    third = histogram(receiver)
    assert third.count == 1 and third.start_time_unix_nano == second.time_unix_nano


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_refusals_are_counted_and_told(receiver: receivers.Receiver, status: int) -> None:
    receiver.answer = status
    exporter = Exporter(numbers(5), endpoint=receiver.url, timeout=3)
    assert not exporter.export_once() and exporter.failures == 1
    assert str(status) in str(exporter.last_error) or (status == 500 and "ransient" in str(exporter.last_error))
    receiver.answer = 200
    assert exporter.export_once() and exporter.last_error is None


def test_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    exporter = Exporter(numbers(5), endpoint="http://127.0.0.1:9", timeout=2)
    assert not exporter.export_once()
    assert "refused" in str(exporter.last_error)
    assert capfd.readouterr() == ("", "")


def test_a_source_that_fails_is_a_failure_that_is_told(receiver: receivers.Receiver) -> None:
    def broken() -> list[Family]:
        raise ZeroDivisionError("of the embedder")

    exporter = Exporter(broken, endpoint=receiver.url)
    assert not exporter.export_once() and exporter.last_error == "ZeroDivisionError: of the embedder"


def test_the_thread(receiver: receivers.Receiver) -> None:
    arrived = threading.Event()
    source = numbers(5)

    def asked() -> list[Family]:
        if len(receiver.requests) >= 3:
            arrived.set()
        return source()

    with Exporter(asked, endpoint=receiver.url, interval=0.01) as exporter:
        exporter.start()
        with pytest.raises(StateError, match="runs already"):
            exporter.start()
        assert arrived.wait(60)
        source.call("f", 5)
    assert histogram(receiver).count == 2, "closing delivers the rest"
    exporter.close()
    with pytest.raises(StateError, match="closed"):
        exporter.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "pyebpf-otlp"]


def test_closing_does_not_wait_for_who_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = Exporter(numbers(5), endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=60)
        exporter.close(0.1)
        connection, _ = silent.accept()
        silent.close()  # for the connection that OpenTelemetry tries at once when one breaks
        with connection:
            assert connection.recv(4) == b"POST", "it was tried"
            (thread,) = [thread for thread in threading.enumerate() if thread.name == "pyebpf-otlp"]
        thread.join(60)  # the connection was cut: it isn't tried again
    assert not thread.is_alive() and (exporter.exported, exporter.failures) == (0, 1)


def test_nothing_global_is_touched(receiver: receivers.Receiver) -> None:
    import logging

    from opentelemetry import metrics

    before = metrics.get_meter_provider(), list(logging.getLogger("opentelemetry.exporter").handlers)
    with Exporter(numbers(5), endpoint=receiver.url) as exporter:
        exporter.export_once()
    assert (metrics.get_meter_provider(), logging.getLogger("opentelemetry.exporter").handlers) == before


def test_the_environment(receiver: receivers.Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,host.name=there,team=a")
    assert Exporter(numbers(5), attributes={"team": "b"}).export_once()
    resource = receiver.resource()
    assert (resource["service.name"], resource["host.name"], resource["team"]) == ("ours", "there", "b")


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://localhost", "http://", ""])
def test_endpoints_that_cannot_be(endpoint: str) -> None:
    with pytest.raises(TargetError, match="is no endpoint"):
        Exporter(endpoint=endpoint)


@pytest.mark.parametrize("options", [{"interval": 0}, {"timeout": -1}])
def test_times_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(TargetError, match="more than 0"):
        Exporter(**options)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    with pytest.raises(ExtraMissing, match="need OpenTelemetry") as caught:
        Exporter()
    assert caught.value.hint == "pip install 'pyebpf-toolkit[otlp]'"
