# SPDX-License-Identifier: BSD-2-Clause
"""What results look like in a notebook."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

from pyebpf.output.text import safe
from pyebpf.target.stacks import Frame
from pyebpf.tools.funccount import Counts
from pyebpf.tools.funclatency import Histograms
from pyebpf.tools.histogram import BUCKETS, EMPTY, Histogram, readable
from pyebpf.tools.html import escaped
from pyebpf.tools.session import TracedFunction
from pyebpf.tools.stackcount import CallPath, CallPaths

HOSTILE = "</td><script>alert(1)</script>\"'&\x1b[2J\u202e\udc80"


def function(name: str) -> TracedFunction:
    return TracedFunction(name, "./a", 0, 1, "c", (), name)


def rows(shown: object) -> list[list[str]]:
    """The body's cells; it is well-formed XML too."""
    root = ElementTree.fromstring(f"<r>{shown._repr_html_()}</r>".encode())  # type: ignore[attr-defined]
    assert not list(root.iter("script"))
    return [["".join(cell.itertext()) for cell in row.iter("td")] for row in root.iter("tr")][1:]


def histogram(**buckets: int) -> Histogram:
    numbers = {int(index[1:]): calls for index, calls in buckets.items()}
    return Histogram([numbers.get(index, 0) for index in range(BUCKETS)], 1000, 0)


def test_counts() -> None:
    counts = Counts({function("a"): 23, function(HOSTILE): 9973})
    shown = rows(counts)
    assert shown[0][0] == "</td><script>alert(1)</script>\"'&\\x1b[2J\\u202e\\udc80"
    assert [row[2] for row in shown] == ["9,973", "23"]
    assert "width:100.0%" in counts._repr_html_() and "9,996 calls" in counts._repr_html_()


def test_rows_are_bounded() -> None:
    counts = Counts({function(f"f{i}"): i for i in range(1, 1000)})
    assert len(rows(counts)) == 100 and "899 more rows" in counts._repr_html_()
    assert len(rows(Counts({function("x" * 10**6): 1}))[0][0]) == 400


def test_histograms() -> None:
    one = histogram(b40=90, b60=10)
    assert rows(one) == [["128 ns", "256 ns", "90", ""], ["256 ns", "512 ns", "0", ""], ["512 ns", "1.02 µs", "10", ""]]
    assert "100 calls, average 10 ns, p50 " in one._repr_html_()
    several = Histograms()
    several[function(HOSTILE)] = one
    assert rows(several)[0][1] == "100"
    assert rows(EMPTY) == [] and rows(Histograms()) == [] and rows(Counts()) == [] and rows(CallPaths()) == []


def test_call_paths() -> None:
    frames = (Frame(1, "inner", 0, ""), Frame(2, HOSTILE, 0, ""))
    paths = CallPaths([CallPath(function("inner"), 7, 0, b"", frames, ()),
                       CallPath(function("inner"), 97, 0, b"", frames[:1], ())])  # fmt: skip
    shown = rows(paths)
    assert shown[0][:2] == ["inner", "97"] and shown[1][0].startswith("inner ← </td><script>")
    by_process = CallPaths([CallPath(function("inner"), 7, 12, b"s\xff<b>", frames[:1], ())])
    assert rows(by_process)[0][:2] == ["s\\udcff<b> [12]", "inner"]


def test_escaped() -> None:
    assert escaped(b"a\xff<") == "a\\xff&lt;"


def test_readable() -> None:
    times = (0, 7, 999, 999.6, 1234, 12_345, 999_400, 999_600, 4.2e9, 1e12)
    assert [readable(time) for time in times] == [
        "0 ns", "7 ns", "999 ns", "1.00 µs", "1.23 µs", "12.3 µs", "999 µs", "1.00 ms", "4.20 s", "1000 s",
    ]  # fmt: skip


def test_what_a_terminal_may_not_see_a_page_may_not_either() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    assert [f"{ord(one):#x}" for one in every if safe(one) != one and escaped(one) == one] == []
