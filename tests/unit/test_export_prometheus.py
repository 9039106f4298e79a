# SPDX-License-Identifier: BSD-2-Clause
"""The collector for prometheus_client: what it exposes is what its own strict parser reads back."""

from __future__ import annotations

import sys
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pyebpf.errors import ExtraMissing, StateError, TargetError
from pyebpf.export.metrics import CALLS, DURATION, Family, HistogramPoint, Point
from pyebpf.export.prometheus import MANY, Collector, register

HOSTILE = 'a"b\\c\nd\x1b\udcff\u2028}= # {' + "x" * 5000
ROWS = (2, 1, 0, 4) + (0,) * 36 + (3,)  # two of 0 or 1 ns, one of 2..3, four of 8..15, three of 2^40 and more


def duration(function: str = "f", rows: tuple[int, ...] = ROWS, total: int = 7 * 10**12 + 1) -> Family:
    return DURATION._replace(points=(HistogramPoint((("function", function),), rows, sum(rows), total),))


def bucket(registry: CollectorRegistry, bound: str) -> float | None:
    return registry.get_sample_value("pyebpf_call_duration_seconds_bucket", {"function": "f", "le": bound})


def test_histograms() -> None:
    registry = CollectorRegistry()
    registry.register(Collector(lambda: [duration()], buckets=[1, 2, 3, 4, 40, 41]))
    assert bucket(registry, "2e-09") == 2, "below 2 ns: 0 and 1 ns"
    assert bucket(registry, "4e-09") == 3
    assert bucket(registry, "8e-09") == 3
    assert bucket(registry, "1.6e-08") == 7
    assert bucket(registry, "1099.511627776") == 7 and bucket(registry, "2199.023255552") == 10
    assert bucket(registry, "+Inf") == 10
    labels = {"function": "f"}
    assert registry.get_sample_value("pyebpf_call_duration_seconds_count", labels) == 10
    assert registry.get_sample_value("pyebpf_call_duration_seconds_sum", labels) == 7000.000000001


def test_fewer_buckets_change_no_count() -> None:
    registry = CollectorRegistry()
    registry.register(Collector(lambda: [duration()]))
    assert bucket(registry, "2.56e-07") == bucket(registry, "68.719476736") == 7
    assert bucket(registry, "+Inf") == 10


@pytest.mark.parametrize("functions, shown", [(MANY, MANY), (MANY + 1, 2)])
def test_of_many_histograms_only_those_with_calls(functions: int, shown: int) -> None:
    points = [HistogramPoint((("function", f"f{n}"),), (), 0, 0) for n in range(functions - 2)]
    points += [HistogramPoint((("function", name),), (1,), 1, 1) for name in "ab"]
    registry = CollectorRegistry()
    registry.register(Collector(lambda: [DURATION._replace(points=tuple(points))]))
    (family,) = parse_openmetrics(openmetrics(registry).decode())
    assert len([sample for sample in family.samples if sample.name.endswith("_count")]) == shown


@pytest.mark.parametrize("buckets", [[], [0], [64]])
def test_buckets_that_cannot_be(buckets: list[int]) -> None:
    with pytest.raises(TargetError, match="powers of two from 1 to 63"):
        Collector(buckets=buckets)


def test_hostile_names_come_back_printable_in_both_formats() -> None:
    registry = CollectorRegistry()
    collector = register(lambda: [duration()], registry)
    from pyebpf.export.metrics import EventCounter

    counter = EventCounter("tcpconnect", ["real"])
    counter.add(3 + 4j)
    collector.add(counter, {HOSTILE: HOSTILE, "le": b"\xff\0"})
    strict = list(parse_openmetrics(openmetrics(registry).decode()))
    loose = list(parse_text(generate_latest(registry).decode()))
    for families in (strict, loose):
        names = [family.name for family in families]
        assert len(names) == len(set(names))
        (sample,) = [s for family in families for s in family.samples if s.name == "pyebpf_events_total"]
        assert sample.value == 1 and len(sample.labels) == 4
        assert all(value.isprintable() and len(value) <= 200 for value in sample.labels.values())
        assert sample.labels["le_"] == r"\xff\x00"


def test_sources_of_the_same_metric_are_one_family() -> None:
    registry = CollectorRegistry()
    collector = register(lambda: [duration()], registry)
    collector.add(lambda: [duration()])
    collector.add(lambda: [duration("g", (0, 1), 3)])
    text = openmetrics(registry).decode()
    assert text.count("# TYPE") == 1
    (family,) = parse_openmetrics(text)
    assert {s.labels["function"]: s.value for s in family.samples if s.name.endswith("_count")} == {"f": 20, "g": 1}


def test_sources_come_and_go() -> None:
    def source() -> list[Family]:
        return [CALLS._replace(points=(Point((), 5),))]

    registry = CollectorRegistry()
    collector = register(source, registry)
    assert registry.get_sample_value("pyebpf_calls_total") == 5
    collector.remove(source)
    assert registry.get_sample_value("pyebpf_calls_total") is None
    kept = collector.add(source)
    collector.remove(kept)
    assert generate_latest(registry) == b""


def test_a_second_collector_in_a_registry_is_refused() -> None:
    registry = CollectorRegistry()
    register(lambda: [], registry)
    with pytest.raises(StateError, match="shows sessions of pyebpf already") as caught:
        register(lambda: [], registry)
    assert caught.value.hint is not None and "collector.add" in caught.value.hint


def test_only_some_metrics_can_be_asked_for() -> None:
    registry = CollectorRegistry()
    register(lambda: [duration(), CALLS._replace(points=(Point((), 5),))], registry)
    text = generate_latest(registry.restricted_registry(["pyebpf_calls_total"])).decode()
    assert "pyebpf_calls_total 5.0" in text and "duration" not in text


def test_many_scrapes_at_once() -> None:
    count = 0

    def source() -> list[Family]:
        nonlocal count
        count += 1
        return [CALLS._replace(points=(Point((), count),))]

    registry = CollectorRegistry()
    register(source, registry)
    wrong: list[object] = []

    def scrape() -> None:
        last = 0.0
        for _ in range(97):
            (family,) = parse_openmetrics(openmetrics(registry).decode())
            now = family.samples[0].value
            if now <= last:
                wrong.append((last, now))
            last = now

    threads = [threading.Thread(target=scrape) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and count == 7 * 97


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "prometheus_client.metrics_core")
    with pytest.raises(ExtraMissing, match="need prometheus_client") as caught:
        Collector()
    assert isinstance(caught.value, ImportError)
    assert caught.value.hint == "pip install 'pyebpf-toolkit[prometheus]'"
