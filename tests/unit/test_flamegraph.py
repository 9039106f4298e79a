# SPDX-License-Identifier: BSD-2-Clause
"""Flame graphs: widths that add up, names that stay names, and a bounded size."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import pytest

from pyebpf.output import flamegraph
from pyebpf.target.stacks import Frame
from pyebpf.tools.session import TracedFunction
from pyebpf.tools.stackcount import CallPath

NS = "{http://www.w3.org/2000/svg}"
HOT = TracedFunction("hot", "./a", 0, 1, "c", (), "hot")


class Box(NamedTuple):
    name: str
    calls: int
    look: str
    x: float
    y: float
    width: float
    text: str | None


def path(calls: int, *names: str, kernel: tuple[str, ...] = (), pid: int = 0, comm: bytes = b"") -> CallPath:
    """A call path, outermost first."""
    user = tuple(Frame(1, name, 0, "./a") for name in reversed(names))
    return CallPath(HOT, calls, pid, comm, user, tuple(Frame(2, name, 0, "[kernel]") for name in reversed(kernel)))


def boxes(document: str) -> list[Box]:
    root = ElementTree.fromstring(document.encode())
    found = []
    for group in root.iterfind(f"{NS}g/{NS}g"):
        name, calls = (group.findtext(f"{NS}title") or "").split("\n")
        rect = group.find(f"{NS}rect")
        assert rect is not None
        x, y, width = (float(rect.get(key, "")) for key in ("x", "y", "width"))
        found.append(Box(name, int(calls.split()[0].replace(",", "")), rect.get("class", ""), x, y, width,
                         group.findtext(f"{NS}text")))  # fmt: skip
    return found


def texts(document: str) -> str:
    return "\n".join(text.text or "" for text in ElementTree.fromstring(document.encode()).iterfind(f"{NS}text"))


def test_widths_are_calls_and_children_stand_on_their_callers() -> None:
    paths = [path(60, "main", "left", "hot"), path(30, "main", "right", "hot"), path(10, "main", "hot")]
    found = {(box.name, round(box.x)): box for box in boxes(flamegraph.svg(paths, "title"))}
    assert {(name, box.calls): round(box.width, 1) for (name, _), box in found.items()} == {
        ("all", 100): 1180.0, ("main", 100): 1180.0, ("left", 60): 708.0, ("right", 30): 354.0,
        ("hot", 60): 708.0, ("hot", 30): 354.0, ("hot", 10): 118.0,
    }  # fmt: skip
    by_name = {box.name: box for box in found.values()}
    assert by_name["left"].y == by_name["main"].y - 17 == by_name["all"].y - 34


def test_random_trees_are_nested_and_complete() -> None:
    rng = random.Random(7)
    paths = [path(rng.randrange(1, 1000), *(rng.choice("abcdef") for _ in range(rng.randrange(1, 20))))
             for _ in range(300)]  # fmt: skip
    found = boxes(flamegraph.svg(paths, "title"))
    rows: dict[float, list[Box]] = {}
    for box in found:
        rows.setdefault(box.y, []).append(box)
    for y, row in rows.items():
        row.sort(key=lambda box: box.x)
        assert all(left.x + left.width <= right.x + 0.002 for left, right in zip(row, row[1:]))
        for box in row:
            assert abs(box.width - box.calls / found[0].calls * 1180) < 0.001
            below = rows.get(y + 17, [found[0]])
            assert any(one.x <= box.x + 0.002 and box.x + box.width <= one.x + one.width + 0.002 for one in below)
    assert found[0].calls == sum(one.calls for one in paths)


def test_kinds_have_colours_of_their_own() -> None:
    document = flamegraph.svg([path(1, "[unknown]", "user", kernel=("do_syscall_64",), pid=7, comm=b"sh")], "title")
    assert {box.name: box.look[0] for box in boxes(document)} == {
        "all": "p", "sh [7]": "p", "[unknown]": "n", "user": "u", "do_syscall_64": "k",
    }  # fmt: skip


def test_hostile_names_are_only_names() -> None:
    names = ["<script>alert(1)</script>", "\"'&]]>", "\x1b[2J\n\u202egnp", "std::map<" + "int, " * 2000 + "int>"]
    document = flamegraph.svg([path(3, *names, pid=1, comm=b"\xff\n</g>")], names[0], names[1], names)
    root = ElementTree.fromstring(document.encode())
    assert len(list(root.iter(f"{NS}script"))) == 1
    found = [box.name for box in boxes(document)]
    assert found[:2] == ["all", "\\xff\\x0a</g> [1]"] and found[2:4] == names[:2]
    assert found[4] == "\\x1b[2J\\x0a\\u202egnp" and len(found[5]) == 400 and found[5].endswith("…")
    assert "\x1b" not in document and "\u202e" not in document


def test_narrow_frames_are_joined_but_counted() -> None:
    paths = [path(1_000_000, "main", "wide")] + [path(7, "main", f"narrow{i}", "below") for i in range(100)]
    document = flamegraph.svg(paths, "title")
    found = boxes(document)
    assert [(box.name, box.calls) for box in found] == [
        ("all", 1_000_700), ("main", 1_000_700), ("…", 700), ("wide", 1_000_000)
    ]  # fmt: skip
    assert '200 frames too narrow to see are joined to "…"; the widest has 7 calls.' in texts(document)


def test_size_is_bounded() -> None:
    paths = [path(1, f"a{i % 50}", f"b{i}", "c" * 200) for i in range(15_000)]
    document = flamegraph.svg(paths, "title", notes=[f"note {i}" for i in range(1000)])
    assert len(boxes(document)) <= 20_000 and len(document) < 8_000_000
    assert boxes(document)[0].calls == 15_000 and "frames too narrow" in texts(document)
    deep = flamegraph.svg([path(1, *["f"] * 5000)], "title")
    assert len(boxes(deep)) == 513 and "stacks of more than 512 frames: 1" in texts(deep)


def test_labels_fit_their_frames() -> None:
    go = "github.com/smallnest/rpcx/codec.(*JSONCodec).Decode"
    found = boxes(flamegraph.svg([path(80, "wide" * 5), path(20, go), path(1, "x" * 30)], "title"))
    labels = {box.name: box.text for box in found}
    assert labels[go] == "codec.(*JSONCodec).Decode" and labels["wide" * 5] == "wide" * 5
    assert labels["x" * 30] is None
    assert all(len(box.text) * 7.3 <= box.width for box in found if box.text)


@pytest.mark.parametrize("paths", [[], [path(0, "main")]])
def test_nothing_counted(paths: list[CallPath]) -> None:
    document = flamegraph.svg(paths, "title")
    assert not boxes(document) and "0 calls: nothing to draw" in texts(document)
