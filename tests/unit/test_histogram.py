# SPDX-License-Identifier: BSD-2-Clause
"""Histograms: the bucket arithmetic, percentiles, log2 rows, and how they are drawn."""

from __future__ import annotations

import random

import pytest

from pyebpf.core.object import open_bundled
from pyebpf.output import histogram as drawing
from pyebpf.tools import histogram
from pyebpf.tools.histogram import BUCKETS, EMPTY, Histogram, bucket_bounds, merge


def bucket_of(value: int) -> int:
    """The kernel side's arithmetic (bpf/funclatency.bpf.c), in Python."""
    if value < 8:
        return value
    exponent = value.bit_length() - 1
    return (exponent - 2) * 8 + (value >> (exponent - 3) & 7)


def made_of(values: list[int]) -> Histogram:
    buckets = [0] * BUCKETS
    for value in values:
        buckets[bucket_of(value)] += 1
    return Histogram(buckets, sum(values), max(values, default=0))


def test_buckets_are_the_objects() -> None:
    with open_bundled("funclatency") as obj:
        declared = obj.btf.enumerators("latency_buckets")
    assert declared == {"SUB_BUCKET_BITS": histogram.SUB_BITS, "BUCKETS": BUCKETS, "BUCKET_ROOM": 512}


def test_bounds_tile_the_numbers() -> None:
    expected = 0
    for index in range(BUCKETS):
        low, high = bucket_bounds(index)
        assert low == expected and high >= low
        assert bucket_of(low) == bucket_of(high) == index
        expected = high + 1
    assert expected == 1 << 64


def test_percentiles_are_close() -> None:
    generator = random.Random(23)
    values = sorted(int(generator.lognormvariate(12, 2)) for _ in range(10007))
    made = made_of(values)
    assert made.count == 10007 and made.total == sum(values) and made.max == values[-1]
    for percent in (1, 10, 50, 90, 99, 99.9):
        exact = values[min(len(values) - 1, int(len(values) * percent / 100))]
        assert made.percentile(percent) == pytest.approx(exact, rel=0.125, abs=1)
    assert made.percentile(100) == made.max


def test_percentile_bounds() -> None:
    assert EMPTY.percentile(99) == 0 and EMPTY.average == 0 and EMPTY.max == 0
    with pytest.raises(ValueError):
        EMPTY.percentile(101)
    assert made_of([5]).percentile(50) == 5


def test_rows_add_up() -> None:
    values = [0, 1, 2, 3, 4, 7, 8, 1023, 1024, 5_000_000_000]
    rows = made_of(values).rows()
    assert sum(row.calls for row in rows) == len(values)
    for row in rows:
        assert row.calls == sum((row.low if row.low > 1 else 0) <= value <= row.high for value in values)
    assert rows[-1].high == (1 << 33) - 1


def test_rows_in_units() -> None:
    rows = made_of([1_500, 900_000, 64_000_000]).rows(1000)
    assert [(row.low, row.calls) for row in rows if row.calls] == [(0, 1), (512, 1), (32768, 1)]


def test_maximum_is_never_below_the_top_bucket() -> None:
    buckets = [0] * BUCKETS
    buckets[bucket_of(10_000)] = 1
    assert Histogram(buckets, 10_000, 17).max >= bucket_bounds(bucket_of(10_000))[0]


def test_merge() -> None:
    both = merge([made_of([1, 100]), made_of([1000])])
    assert (both.count, both.total, both.max) == (3, 1101, 1000)


def test_drawn_as_bcc_draws_it() -> None:
    values = [3] * 124 + [5] * 291
    assert drawing.lines(made_of([value * 1000 for value in values]), 1000) == [
        "     usecs               : count     distribution",
        "         0 -> 1          : 0        |                                        |",
        "         2 -> 3          : 124      |*****************                       |",
        "         4 -> 7          : 291      |****************************************|",
    ]
    assert drawing.summary(made_of([7_000, 20_000]), 1000)[0] == "avg = 13 usecs, total: 27 usecs, count: 2"


def test_wide_form_beyond_32_bits() -> None:
    lines = drawing.lines(made_of([1, 1 << 33]))
    assert lines[1].startswith("                   0 -> 1                    : 1        |********************|")
    assert len(lines) == 1 + 34


def test_as_dict() -> None:
    plain = made_of([10, 20]).as_dict()
    assert (plain["count"], plain["total_ns"], plain["max_ns"]) == (2, 30, 20)
