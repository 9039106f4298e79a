# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of latencies: geometry, marks and bounds."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable

from pyebpf.output import plot
from pyebpf.tools.histogram import BUCKETS, Histogram, bucket_bounds
from pyebpf.tools.session import TracedFunction

NS = "{http://www.w3.org/2000/svg}"
STARTS = [bucket_bounds(index)[0] for index in range(BUCKETS)]


def function(name: str) -> TracedFunction:
    return TracedFunction(name, "./a", 0, 1, "c", (), name)


def histogram(values: Iterable[int]) -> Histogram:
    from bisect import bisect_right

    listed, buckets = list(values), [0] * BUCKETS
    for value in listed:
        buckets[bisect_right(STARTS, value) - 1] += 1
    return Histogram(buckets, sum(listed), max(listed, default=0))


def rects(document: str, look: str) -> list[tuple[float, float, float, float, str]]:
    root = ElementTree.fromstring(document.encode())
    return [
        (*(float(rect.get(key, "")) for key in ("x", "y", "width", "height")), rect.findtext(f"{NS}title") or "")
        for rect in root.iterfind(f"{NS}rect") if re.fullmatch(look, rect.get("class", ""))
    ]  # fmt: skip


def texts(document: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(document.encode()).iterfind(f"{NS}text")]


def calls_of(title: str) -> int:
    found = re.search(r"([\d,]+) calls", title)
    assert found
    return int(found[1].replace(",", ""))


def sample(seed: int, size: int, middle: float = 9.0) -> Histogram:
    rng = random.Random(seed)
    return histogram(int(rng.lognormvariate(middle, 0.5)) for _ in range(size))


def test_every_call_is_in_a_bar_whose_area_is_its_share() -> None:
    one = sample(1, 9973)
    bars = rects(plot.histograms({function("f"): one}, "title"), "bar")
    assert sum(calls_of(title) for *_, title in bars) == 9973
    x, _, width, height, title = max(bars, key=lambda bar: bar[3])
    for other_x, _, other_width, other_height, other in bars:
        if other_height > 10:
            share = other_height * (other_width + 0.75) / (height * (width + 0.75))
            assert abs(share - calls_of(other) / calls_of(title)) < 0.02, (x, other_x)
    ends = [(x, x + width) for x, _, width, *_ in bars]
    assert all(left[1] < right[0] for left, right in zip(ends, ends[1:]))


def test_few_calls_are_drawn_coarser() -> None:
    few, many = ({function("f"): sample(2, size)} for size in (29, 9973))
    assert len(rects(plot.histograms(few, "t"), "bar")) < len(rects(plot.histograms(many, "t"), "bar")) / 2


def test_marks_say_the_percentiles_and_never_touch() -> None:
    one = histogram([100_000] * 90 + [101_000] * 9 + [3_000_000_000])
    document = plot.histograms({function("f"): one}, "t")
    assert [text for text in texts(document) if text.startswith(("p50", "p90", "p99", "max"))][-1] == "max 3.00 s"
    root = ElementTree.fromstring(document.encode())
    labels = [(float(text.get("x", "")), float(text.get("y", "")), len(text.text or ""))
              for text in root.iterfind(f"{NS}text") if text.get("class") == "p"]  # fmt: skip
    assert len(labels) == 4
    for x, y, size in labels:
        assert x + 6.3 * size <= 960
        for other_x, other_y, _ in labels:
            assert (x, y) == (other_x, other_y) or y != other_y or other_x < x or other_x > x + 6 * size


def test_functions_beyond_a_dozen_are_added_up() -> None:
    found = {function(f"f{i:02}"): histogram([1000 * (i + 1)] * 10) for i in range(30)}
    shown = texts(plot.histograms(found, "t"))
    assert "18 other functions" in shown and "f29" in shown and "f17" not in shown
    assert "12 of 30 functions have a panel of their own" in " ".join(shown)
    assert sum(calls_of(title) for *_, title in rects(plot.histograms(found, "t"), "bar")) == 300


def test_functions_of_one_name_are_added_up() -> None:
    found = {function("f")._replace(address=address): histogram([1000] * 23) for address in (1, 2)}
    timeline = plot.Timeline(True)
    timeline.add(found, 0, 1)
    for document, look in ((plot.histograms(found, "t"), "bar"), (timeline.svg("t"), r"h\d")):
        assert sum(calls_of(title) for *_, title in rects(document, look) if title) == 46


def test_extremes() -> None:
    for values in ([0], [1], [0, 1 << 62], [5] * 3, range(9)):
        document = plot.histograms({function("f"): histogram(values)}, "t")
        for x, y, width, height, _ in rects(document, "bar"):
            assert x >= 64 and x + width <= 936 and width > 0 and height > 0 and y > 0
    assert "No calls returned." in texts(plot.histograms({}, "t"))
    assert "No calls returned." in texts(plot.Timeline().svg("t"))


def test_hostile_names() -> None:
    hostile = "</svg><script>\x1b\u202e" + "x" * 10_000
    timeline = plot.Timeline(True)
    timeline.add({function(hostile): sample(3, 10)}, 0, 1)
    for document in (plot.histograms({function(hostile): sample(3, 10)}, hostile, hostile, [hostile]),
                     timeline.svg(hostile, hostile, [hostile])):  # fmt: skip
        assert not list(ElementTree.fromstring(document.encode()).iter(f"{NS}script"))
        assert "\x1b" not in document and "\u202e" not in document and len(document) < 60_000


def test_heat_map_places_every_call() -> None:
    timeline, one, two = plot.Timeline(True), function("one"), function("two")
    for second in range(23):
        timeline.add({one: sample(second, 97), **({two: sample(second, 3, 14)} if second % 2 else {})},
                     second, second + 1)  # fmt: skip
    document = timeline.svg("t", "about")
    cells = rects(document, r"h\d")
    cells = [cell for cell in cells if cell[4]]  # without the legend
    assert sum(calls_of(title) for *_, title in cells) == 23 * 97 + 11 * 3
    assert all(x >= 64 and x + width <= 936.01 for x, _, width, *_ in cells)
    assert {round(width, 2) for _, _, width, *_ in cells} == {round(872 / 23, 2)}
    shown = texts(document)
    assert "one" in shown and "two" in shown and "A column is 1 s. Solid line: median (p50); dashed: p99." in shown
    assert "23 s" not in shown and "22 s" not in shown and "20 s" in shown


def test_heat_map_of_all_functions() -> None:
    timeline = plot.Timeline()
    timeline.add({function("one"): sample(1, 97), function("two"): sample(2, 23)}, 0, 0.5)
    timeline.add({}, 0.5, 1)
    document = timeline.svg("t")
    assert "all functions" in texts(document)
    assert sum(calls_of(title) for *_, title in rects(document, r"h\d") if title) == 120


def test_long_runs_and_many_functions_stay_bounded() -> None:
    timeline = plot.Timeline(True)
    known = [(function(f"f{i}"), sample(i, 40)) for i in range(100)]
    for second in range(1000):
        timeline.add(dict(known if second in (0, 999) else known[:14]), second, second + 1)
    document = timeline.svg("t")
    cells = [title for *_, title in rects(document, r"h\d") if title]
    assert len(cells) <= 20_000 and len(document) < 4_000_000
    assert sum(map(calls_of, cells)) == 40 * (14 * 1000 + 86 * 2)


def test_grid_of_round_latencies() -> None:
    assert [label for label in texts(plot.histograms({function("f"): histogram([10_000, 90_000])}, "t"))
            if re.fullmatch(r"\d+ µs", label)] == ["10 µs", "20 µs", "50 µs", "100 µs"]  # fmt: skip
