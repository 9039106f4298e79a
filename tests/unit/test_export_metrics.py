# SPDX-License-Identifier: BSD-2-Clause
"""The model that both exporters translate: names, label values from hostile text, merging, totals, bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import pytest

from pyebpf.errors import LibbpfError, StateError, TargetError
from pyebpf.export.metrics import (
    CALLS,
    DURATION,
    LOST,
    EventCounter,
    Family,
    HistogramPoint,
    Limit,
    Point,
    Source,
    Totals,
    label_name,
    label_pairs,
    label_value,
    merge,
    metric_name,
    minus,
)


def calls(**by_function: int) -> Family:
    return CALLS._replace(points=tuple(Point((("function", name),), n) for name, n in by_function.items()))


def values(families: list[Family], name: str = CALLS.name) -> dict[str, int]:
    """Values by the last label's."""
    found = [family for family in families if family.name == name]
    assert len(found) <= 1
    result = {}
    for family in found:
        for point in family.points:
            assert isinstance(point, Point)
            result[point.labels[-1][1] if point.labels else ""] = point.value
    return result


@pytest.mark.parametrize(
    "text, name",
    [
        ("calls", "calls"), ("a.b-c", "a_b_c"), ("9lives", "_9lives"), ("", "_"), ("a:b", "a_b"), ("größe", "gr_e"),
        ("\n", "_"),
    ],
)  # fmt: skip
def test_names(text: str, name: str) -> None:
    assert metric_name(text) == label_name(text) == name


def test_label_names_that_openmetrics_keeps() -> None:
    assert [label_name(name) for name in ("le", "quantile", "__name__")] == ["le_", "quantile_", "_name__"]


@pytest.mark.parametrize(
    "value, text",
    [
        ("main.(*Arith).Mul", "main.(*Arith).Mul"), (b"a\xffb", r"a\xffb"), ("a\nb\x1b[31m", r"a\x0ab\x1b[31m"),
        ("\udcff", r"\xff"), ("\ud800", r"\ud800"), ("\u202eevil", r"\u202eevil"), (None, ""), (True, "true"),
        (80, "80"), ("größe", "größe"), (b"\0", r"\x00"),
    ],
)  # fmt: skip
def test_label_values(value: object, text: str) -> None:
    assert label_value(value) == text
    text.encode()


def test_long_label_values_are_cut_and_stay_different() -> None:
    one, other = label_value("std::" * 10_000 + "a"), label_value("std::" * 10_000 + "b")
    assert one != other and len(one) == len(other) == 200
    assert one == label_value("std::" * 10_000 + "a")


def test_labels_are_ordered_and_each_there_once() -> None:
    assert label_pairs({"b": 1, "a": "x"}) == (("a", "x"), ("b", "1"))
    assert label_pairs([("a.b", "x"), ("a-b", "y")]) == (("a_b", "y"),)


def test_merging_adds_up_points_of_the_same_labels() -> None:
    one = DURATION._replace(points=(HistogramPoint((), (1, 0, 2), 3, 10),))
    other = DURATION._replace(points=(HistogramPoint((), (0, 5), 5, 15), HistogramPoint((("x", "y"),), (), 0, 0)))
    merged = merge([one], [calls(f=1, g=2)], [other, calls(g=3)])
    assert [family.name for family in merged] == [DURATION.name, CALLS.name]
    assert merged[0].points == (HistogramPoint((), (1, 5, 2), 8, 25), HistogramPoint((("x", "y"),), (), 0, 0))
    assert values(merged) == {"f": 1, "g": 5}
    assert minus(merged[0].points[0], one.points[0]) == HistogramPoint((), (0, 5, 0), 5, 15)


def test_families_of_one_name_and_two_kinds_are_refused() -> None:
    with pytest.raises(TargetError, match="is a counter in one source and a gauge in another"):
        merge([calls(f=1)], [calls(f=1)._replace(kind="gauge")])


def test_totals_go_on_where_a_session_ended() -> None:
    totals = Totals()
    gauge = Family("g", "", "gauge", "", (Point((), 7),))
    totals.keep([calls(f=10, g=1), gauge])
    totals.keep([calls(f=5)])
    assert values(totals.plus()) == {"f": 15, "g": 1}
    assert values(totals.plus([calls(f=1, h=2)])) == {"f": 16, "g": 1, "h": 2}
    assert values(totals.plus([gauge]), "g") == {"": 7}


def test_series_over_the_limit_are_one_whose_sum_is_right() -> None:
    limit = Limit(2, fixed=["host"])
    first = limit([calls(a=1, b=0, c=9)])
    assert values(first) == {"a": 1, "c": 9}, "those that were not called take no place"
    then = limit([calls(a=1, b=100, c=9, d=1)])
    assert values(then) == {"a": 1, "c": 9, "other": 101}, "those that have a place keep it"
    assert values(then, "pyebpf_folded_series") == {CALLS.name: 2}
    again = limit([calls(a=2, c=9)])
    assert values(again) == {"a": 2, "c": 9} and values(again, "pyebpf_folded_series") == {CALLS.name: 0}


def test_what_was_folded_before_is_not_counted_as_folded() -> None:
    limit = Limit(1)
    kept = limit([calls(a=9, b=1)])[:1]
    again = limit(merge(kept, [calls(a=1, b=2, c=4)]))
    assert values(again) == {"a": 10, "other": 7}
    assert values(again, "pyebpf_folded_series") == {CALLS.name: 2}, "b and c"


def test_a_source_without_a_limit() -> None:
    many = {f"f{n}": n for n in range(1500)}
    assert values(Source(lambda: [calls(**many)], max_series=None).families()) == many


def test_fixed_labels_stay_on_what_is_folded() -> None:
    family = CALLS._replace(points=tuple(Point((("function", f"f{n}"), ("host", "h")), n) for n in range(1, 5)))
    bounded = Limit(1, fixed=["host"])([family])
    assert [point.labels for point in bounded[0].points] == [
        (("function", "f4"), ("host", "h")),
        (("function", "other"), ("host", "h")),
    ]
    assert sum(point.value for point in bounded[0].points if isinstance(point, Point)) == 1 + 2 + 3 + 4


def test_all_are_shown_where_all_fit_called_or_not() -> None:
    assert values(Limit(3)([calls(a=0, b=0, c=0)])) == {"a": 0, "b": 0, "c": 0}


class Connect(NamedTuple):
    comm: bytes
    dport: int
    le: str = "x"


def test_events_are_counted_by_fields_and_bounded() -> None:
    counter = EventCounter("tcpconnect", ["comm", "dport"], max_series=2)
    for port in (80, 80, 443, 8080, 8081, 80):
        counter.add(Connect(b"cu\nrl", port))
    assert counter.overflow == 2
    (family,) = counter.families({"trace": "web"})
    assert {point.labels: point.value for point in family.points if isinstance(point, Point)} == {
        (("comm", r"cu\x0arl"), ("dport", "80"), ("tool", "tcpconnect"), ("trace", "web")): 3,
        (("comm", r"cu\x0arl"), ("dport", "443"), ("tool", "tcpconnect"), ("trace", "web")): 1,
        (("comm", "other"), ("dport", "other"), ("tool", "tcpconnect"), ("trace", "web")): 2,
    }


def test_events_without_fields_begin_at_zero() -> None:
    counter = EventCounter("oomkill")
    assert [point.value for point in counter.families()[0].points if isinstance(point, Point)] == [0]


def test_a_field_that_records_do_not_have() -> None:
    with pytest.raises(TargetError, match="records of tcpconnect have no field port") as caught:
        EventCounter("tcpconnect", ["comm", "port"]).add(Connect(b"", 1))
    assert caught.value.hint == "they have comm, dport, le"


def test_a_field_may_have_a_name_that_labels_may_not() -> None:
    counter = EventCounter("tcpconnect", ["le"])
    counter.add(Connect(b"", 1))
    assert counter.families()[0].points[0].labels == (("le_", "x"), ("tool", "tcpconnect"))


def test_a_label_that_is_the_metrics_own_is_refused() -> None:
    counter = EventCounter("tcpconnect")
    with pytest.raises(TargetError, match="the label tool is the metric's own"):
        counter.families({"tool": "mine"})
    with pytest.raises(TargetError, match="the label comm is the metric's own"):
        Source(EventCounter("tcpconnect", ["comm"]), {"comm": "mine"})


@pytest.mark.parametrize(
    "make", [Limit, lambda n: EventCounter("x", max_series=n), lambda n: Source(list, max_series=n)]
)
def test_a_limit_is_positive(make: Callable[[int], object]) -> None:
    with pytest.raises(TargetError, match="max_series is at least 1"):
        make(0)


def test_events_are_counted_while_they_are_read() -> None:
    counter = EventCounter("tcpconnect", ["dport"])
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(sum(point.value for point in counter.families()[0].points if isinstance(point, Point)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(9973):
            counter.add(Connect(b"", n % 97))
    finally:
        done.set()
        reader.join()
    assert seen == sorted(seen)
    assert sum(point.value for point in counter.families()[0].points if isinstance(point, Point)) == 9973


class Numbers:
    """A source's numbers, which a test sets."""

    def __init__(self, *families: Family) -> None:
        self.families = families
        self.error: Exception | None = None

    def __call__(self) -> tuple[Family, ...]:
        if self.error:
            raise self.error
        return self.families


def test_a_source_keeps_the_last_numbers_of_a_closed_session() -> None:
    gauge = Family("g", "", "gauge", "", (Point((), 7),))
    numbers = Numbers(calls(f=5), gauge)
    source = Source(numbers)
    assert values(source.families()) == {"f": 5}
    numbers.error = StateError("the session is closed")
    assert [family.name for family in source.families()] == [CALLS.name] == [f.name for f in source.families()]
    assert values(source.families()) == {"f": 5}


def test_a_source_that_cannot_be_read_says_so_and_keeps_the_last_numbers() -> None:
    numbers = Numbers(calls(f=5))
    source = Source(numbers)
    source.families()
    numbers.error = LibbpfError("bpf(2) failed", errno=12)
    source.families()
    again = source.families()
    assert values(again) == {"f": 5} and values(again, "pyebpf_failed_reads_total") == {"": 2}
    numbers.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        source.families()


def test_a_source_goes_on_with_another_session() -> None:
    first, second = Numbers(calls(f=5)), Numbers(calls(f=2, g=1))
    source = Source(first)
    source.families()
    first.families = (calls(f=8),)  # what happened since then is not lost
    source.replace(second)
    assert values(source.families()) == {"f": 10, "g": 1}
    second.error = StateError("closed")
    source.replace(Numbers(calls(f=1)))
    assert values(source.families()) == {"f": 11, "g": 1}


def test_counters_of_a_source_never_fall() -> None:
    lost = [LOST._replace(points=(Point((("reason", "evicted"),), n),)) for n in (3, 1, 4)]
    numbers = Numbers(lost[0])
    source = Source(numbers)
    seen = []
    for family in lost:
        numbers.families = (family,)
        seen.append(values(source.families(), LOST.name)["evicted"])
    assert seen == [3, 3, 4]
