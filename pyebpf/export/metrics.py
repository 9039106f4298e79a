# SPDX-License-Identifier: BSD-2-Clause
"""What sessions measure as families of metrics that no exporter's library is needed for; the exporters translate them.

Names and labels follow OpenMetrics 1.0; a table of them is in ``docs/exporters.md``. Text comes from binaries and
processes that others control: it is decoded, made printable and cut to length, and the number of series is bounded.
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from pyebpf.errors import Error, StateError, TargetError
from pyebpf.output.text import safe
from pyebpf.tools.funccount import CountSession
from pyebpf.tools.funclatency import LatencySession

Labels = tuple[tuple[str, str], ...]  # ordered by name
OTHER = "other"  # label value of what has no series of its own
MAX_SERIES = 1000  # label combinations a metric has, unless something else is asked for
_LONGEST = 200  # characters of a label's value
_NAME = re.compile(r"[^a-zA-Z0-9_]+")
# Fields of `losses` that are no loss: of calls that go on, that were to be left out, or that are told incompletely.
_INCOMPLETE = ("abandoned", "unmatched", "unread", "collided")
_NO_LOSS = ("in_progress", "rejected", *_INCOMPLETE)
_LOSSES_OF_LATENCY = ("evicted", "refused", "unreadable", "abandoned", "unmatched")  # shown even if there are none


class Point(NamedTuple):
    """A number of a family.

    Attributes:
        labels: name and value of each, ordered by name.
        value: for a counter, since the session began.
    """

    labels: Labels
    value: int


class HistogramPoint(NamedTuple):
    """A histogram of a family.

    Attributes:
        labels: name and value of each, ordered by name.
        rows: calls by power of two: ``rows[i]`` lasted 2^i .. 2^(i+1)-1 ns, ``rows[0]`` 0 or 1 ns.
        count: calls.
        total_ns: their times added up, exact.
    """

    labels: Labels
    rows: tuple[int, ...]
    count: int  # type: ignore[assignment]  # a tuple's method of that name is of no use here
    total_ns: int


class Family(NamedTuple):
    """Points that differ in labels only.

    Attributes:
        name: as Prometheus writes it; of a counter, with ``_total``.
        help: one sentence.
        kind: "counter", "gauge" or "histogram".
        unit: "", "seconds" or "bytes"; the points of a histogram are in ns all the same.
        points: `HistogramPoint` if it is a histogram, else `Point`.
    """

    name: str
    help: str
    kind: str
    unit: str
    points: tuple[Union[Point, HistogramPoint], ...]


CALLS = Family("pyebpf_calls_total", "Calls of a traced function.", "counter", "", ())
DURATION = Family(
    "pyebpf_call_duration_seconds", "Time from a function's entry to its return.", "histogram", "seconds", ()
)
EVENTS = Family("pyebpf_events_total", "Events that a tool showed.", "counter", "", ())
LOST = Family("pyebpf_lost_total", "Calls or events that happened and are in no other metric.", "counter", "", ())
INCOMPLETE = Family(
    "pyebpf_incomplete_total", "Calls or events that were seen but not wholly measured.", "counter", "", ()
)
IN_PROGRESS = Family("pyebpf_calls_in_progress", "Calls entered and not yet returned.", "gauge", "", ())
TRACED = Family("pyebpf_traced_functions", "Functions with probes.", "gauge", "", ())
SKIPPED = Family("pyebpf_skipped_functions", "Functions that matched but are not traced.", "gauge", "", ())
FOLDED = Family(
    "pyebpf_folded_series", "Label combinations over the limit, which are added up as other.", "gauge", "", ()
)
FAILED = Family("pyebpf_failed_reads_total", "Times that a session's numbers could not be read.", "counter", "", ())
ALL = (CALLS, DURATION, EVENTS, LOST, INCOMPLETE, IN_PROGRESS, TRACED, SKIPPED, FOLDED, FAILED)


def metric_name(text: str) -> str:
    """A metric's name: what OpenMetrics doesn't allow becomes ``_``."""
    name = _NAME.sub("_", text) or "_"
    return f"_{name}" if name[0].isdigit() else name


def label_name(text: str) -> str:
    """A label's name; those that OpenMetrics keeps for itself get a ``_`` behind."""
    name = re.sub("^_+", "_", metric_name(text))
    return f"{name}_" if name in ("le", "quantile") else name


def label_value(value: object) -> str:
    """A label's value: printable, of bounded length. Long texts that differ still differ when they are cut."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = safe(value if isinstance(value, (str, bytes)) else str(value))
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 9]}~{zlib.crc32(text.encode()):08x}"


def label_pairs(labels: Mapping[str, object] | Iterable[tuple[str, object]]) -> Labels:
    """Labels as points have them: names and values made safe, ordered by name."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    return tuple(sorted({label_name(name): label_value(value) for name, value in pairs}.items()))


def _with(fixed: Labels, **own: object) -> Labels:
    """A point's own labels beside those that all points of a source have."""
    taken = [name for name, _ in fixed if name in own]
    if taken:
        raise TargetError(f"the label {taken[0]} is the metric's own", hint="give yours another name")
    return label_pairs((*fixed, *own.items()))


def _family(of: Family, points: Iterable[Point | HistogramPoint]) -> Family:
    return of._replace(points=tuple(points))


def families(
    session: Any, labels: Mapping[str, object] | Iterable[tuple[str, object]] = (), tool: str | None = None
) -> list[Family]:
    """What a session has measured since it began.

    Args:
        session: from `pyebpf.count` or `pyebpf.latency`: calls or durations of each function, 0 for those not called
            yet. From any other verb: what it lost; an `EventCounter` counts what it showed.
        labels: that all points get.
        tool: the label ``tool`` of losses; by default it is told from the session.

    Raises:
        StateError: the session is closed.
        TargetError: a label has the name of one of the metric's own.
    """
    fixed = label_pairs(labels)
    result: list[Family] = []
    expected: Sequence[str] | None = None
    if isinstance(session, CountSession):
        tool, expected = tool or "funccount", ()
        counts = session.snapshot()
        points = [
            Point(_with(fixed, function=function.name, path=function.path), counts[function])
            for function in session.functions
        ]
        result.append(_family(CALLS, points))
    elif isinstance(session, LatencySession):
        tool, expected = tool or "funclatency", _LOSSES_OF_LATENCY
        histograms = session.snapshot()
        durations = []
        for function in session.functions:
            own = _with(fixed, function=function.name, path=function.path)
            histogram = histograms.get(function)
            if histogram is None:
                durations.append(HistogramPoint(own, (), 0, 0))
            else:
                rows = tuple(row.calls for row in histogram.rows())
                durations.append(HistogramPoint(own, rows, histogram.count, histogram.total))
        result.append(_family(DURATION, durations))
    own = _with(fixed, tool=tool or OTHER)
    losses = session.losses
    lost: list[Point] = []
    incomplete: list[Point] = []
    for field, n in losses._asdict().items():
        if n or expected is None or field in expected:
            of = incomplete if field in _INCOMPLETE else [] if field in _NO_LOSS else lost
            of.append(Point(_with(own, reason=field), n))
    result += [_family(LOST, lost), _family(INCOMPLETE, incomplete)]
    if isinstance(session, LatencySession):
        result.append(_family(IN_PROGRESS, [Point(own, losses.in_progress)]))
    if hasattr(session, "functions"):
        result.append(_family(TRACED, [Point(own, len(session.functions))]))
        result.append(_family(SKIPPED, [Point(own, len(session.skipped))]))
    return merge(family for family in result if family.points)


def _add(a: Point | HistogramPoint, b: Point | HistogramPoint) -> Point | HistogramPoint:
    """Two points of the same labels, or what is left of them, added up."""
    if isinstance(a, Point) and isinstance(b, Point):
        return a._replace(value=a.value + b.value)
    assert isinstance(a, HistogramPoint) and isinstance(b, HistogramPoint)
    longer, shorter = (a.rows, b.rows) if len(a.rows) >= len(b.rows) else (b.rows, a.rows)
    rows = tuple(map(sum, zip(longer, shorter))) + longer[len(shorter) :]
    return HistogramPoint(a.labels, rows, a.count + b.count, a.total_ns + b.total_ns)


def minus(now: Point | HistogramPoint, before: Point | HistogramPoint) -> Point | HistogramPoint:
    """What has come to a point."""
    if isinstance(now, Point) and isinstance(before, Point):
        return now._replace(value=now.value - before.value)
    assert isinstance(now, HistogramPoint) and isinstance(before, HistogramPoint)
    earlier = before.rows + (0,) * (len(now.rows) - len(before.rows))
    rows = tuple(a - b for a, b in zip(now.rows, earlier))
    return HistogramPoint(now.labels, rows, now.count - before.count, now.total_ns - before.total_ns)


def merge(*groups: Iterable[Family]) -> list[Family]:
    """Families of several sources as one exposition may have them: a name once, and each of its label sets once.

    Points of the same labels are added up.

    Raises:
        TargetError: two families of one name are of different kinds.
    """
    merged: dict[str, tuple[Family, dict[Labels, Point | HistogramPoint]]] = {}
    for group in groups:
        for family in group:
            known, points = merged.setdefault(family.name, (family, {}))
            if known.kind != family.kind:
                raise TargetError(f"{family.name} is a {known.kind} in one source and a {family.kind} in another")
            for point in family.points:
                there = points.get(point.labels)
                points[point.labels] = point if there is None else _add(there, point)
    return [_family(family, points.values()) for family, points in merged.values()]


class Totals:
    """Counters that go on where those of a closed session ended, so that they never fall."""

    def __init__(self) -> None:
        self._kept: list[Family] = []

    def keep(self, ended: Iterable[Family]) -> None:
        """Adds the last numbers of a session that ended. Gauges end with it."""
        self._kept = merge(self._kept, [family for family in ended if family.kind != "gauge"])

    def plus(self, current: Iterable[Family] = ()) -> list[Family]:
        """What was kept and what the current session has measured, added up."""
        return merge(self._kept, current)


class Limit:
    """Bounds how many label combinations a metric has: those over the limit are added up into one series.

    That one has "other" for each label but the fixed ones, so sums over a metric stay right. A combination that got
    a series keeps it; new ones get what is left, the largest first.

    Args:
        max_series: of each metric.
        fixed: names of labels that tell sources, not series.
    """

    def __init__(self, max_series: int = MAX_SERIES, fixed: Collection[str] = ()) -> None:
        if max_series < 1:
            raise TargetError("max_series is at least 1")
        self._max, self._fixed = max_series, fixed
        self._admitted: dict[str, set[Labels]] = {}
        self._folding: dict[str, Point] = {}

    def __call__(self, groups: Iterable[Family]) -> list[Family]:
        """The families with no more than `max_series` points each, and how many points were folded."""
        result = [self._bound(family) for family in groups]
        if self._folding:
            result.append(_family(FOLDED, self._folding.values()))
        return merge(result)

    def _bound(self, family: Family) -> Family:
        admitted = self._admitted.setdefault(family.name, set())
        new = [point for point in family.points if point.labels not in admitted]
        room = self._max - len(admitted)
        if len(new) > room:
            new = sorted((point for point in new if size(point)), key=size, reverse=True)[:room]
        admitted.update(point.labels for point in new)
        kept = [point for point in family.points if point.labels in admitted]
        rest = [point for point in family.points if point.labels not in admitted and size(point)]
        folded = [
            point._replace(
                labels=tuple((name, value if name in self._fixed else OTHER) for name, value in point.labels)
            )
            for point in rest
        ]
        if rest or family.name in self._folding:
            one = (rest or kept)[0]
            fixed = tuple((name, value) for name, value in one.labels if name in self._fixed)
            over = sum(point.labels != other.labels for point, other in zip(rest, folded))
            self._folding[family.name] = Point(label_pairs((*fixed, ("metric", family.name))), over)
        return merge([_family(family, [*kept, *folded])])[0]


def size(point: Point | HistogramPoint) -> int:
    """A point's value, or how many calls it holds."""
    return point.value if isinstance(point, Point) else point.count


class EventCounter:
    """Counts the records of a session by some of their fields: ``pyebpf_events_total{tool, fields...}``.

    One thread counts, any may read.

    Args:
        tool: the label ``tool``.
        fields: of the records, each a label: "comm", "dport". Few values each: every combination is a series.
        max_series: combinations; records of further ones are counted with "other" for every field.

    Attributes:
        names: of the fields' labels.
        overflow: records that were counted as "other".
    """

    def __init__(self, tool: str, fields: Sequence[str] = (), max_series: int = MAX_SERIES) -> None:
        if max_series < 1:
            raise TargetError("max_series is at least 1")
        self._tool, self._fields, self._max = tool, tuple(fields), max_series
        self.names = tuple("tool_" if name == "tool" else name for name in map(label_name, fields))
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()
        self.overflow = 0
        self.started = time.monotonic()

    def add(self, record: Any) -> None:
        """Counts a record.

        Raises:
            TargetError: it has no field of that name.
        """
        try:
            key = tuple(label_value(getattr(record, field)) for field in self._fields)
        except AttributeError:
            known = ", ".join(getattr(record, "_fields", ()))
            missing = next(field for field in self._fields if not hasattr(record, field))
            raise TargetError(f"records of {self._tool} have no field {missing}", hint=f"they have {known}") from None
        with self._lock:
            if key not in self._counts and len(self._counts) >= self._max:
                key = (OTHER,) * len(self._fields)
                self.overflow += 1
            self._counts[key] = self._counts.get(key, 0) + 1

    def families(self, labels: Mapping[str, object] | Iterable[tuple[str, object]] = ()) -> list[Family]:
        """The counts so far."""
        fixed = label_pairs(labels)
        with self._lock:
            counts = list(self._counts.items())
        if not counts and not self._fields:
            counts = [((), 0)]
        points = [Point(_with(fixed, tool=self._tool, **dict(zip(self.names, key))), n) for key, n in counts]
        return [_family(EVENTS, points)]


class Source:
    """A session as exporters read it, at any time and from any thread: numbers never fall, and a session that is closed
    keeps those that were read last.

    Args:
        what: a session, an `EventCounter`, or a function that returns families.
        labels: that all points get (not those of a function).
        max_series: see `Limit`; None: what a function returns is bounded as it is.
        tool: see `families`.

    Attributes:
        started: since when it counts, ns since 1970.

    Raises:
        TargetError: a label has the name of one of the metric's own; max_series isn't positive.
    """

    def __init__(
        self,
        what: Any,
        labels: Mapping[str, object] | Iterable[tuple[str, object]] = (),
        max_series: int | None = MAX_SERIES,
        tool: str | None = None,
    ) -> None:
        self._what, self._labels, self._tool = what, label_pairs(labels), tool
        if not callable(what):  # now rather than at each scrape
            own = what.names if isinstance(what, EventCounter) else ("function", "path", "reason")
            _with(self._labels, tool="", **dict.fromkeys(own))
        fixed = [name for name, _ in self._labels]
        self._limit = merge if max_series is None else Limit(max_series, fixed)
        self._totals = Totals()
        self._lock = threading.Lock()
        self._current: list[Family] = []
        self._floor: dict[tuple[str, Labels], int] = {}
        age = time.monotonic() - getattr(what, "started", time.monotonic())
        self.started = time.time_ns() - int(age * 1e9)

    def of(self, what: Any) -> bool:
        """Whether this reads that session."""
        return self._what is what

    def replace(self, what: Any) -> None:
        """Goes on with another session, on top of what the one before has counted. Call it before closing that one."""
        with self._lock:
            self._read()
            self._totals.keep(self._current)
            self._what, self._current = what, []

    def families(self) -> list[Family]:
        """The numbers now."""
        with self._lock:
            self._read()
            whole = self._limit(self._totals.plus(self._current))
            return [self._never_falling(family) for family in whole]

    def _read(self) -> None:
        try:
            if callable(self._what):
                self._current = merge(self._what())
            elif isinstance(self._what, EventCounter):
                self._current = self._what.families(self._labels)
            else:
                self._current = families(self._what, self._labels, self._tool)
        except StateError:  # it is closed
            self._current = [family for family in self._current if family.kind != "gauge"]
        except (Error, OSError):
            self._totals.keep([_family(FAILED, [Point(self._labels, 1)])])

    def _never_falling(self, family: Family) -> Family:
        """Losses are told from tables that change while they are read: a later look may find fewer."""
        if family.kind != "counter":
            return family
        points = []
        for point in family.points:
            assert isinstance(point, Point)
            key = family.name, point.labels
            self._floor[key] = max(self._floor.get(key, 0), point.value)
            points.append(point._replace(value=self._floor[key]))
        return _family(family, points)


class Sources:
    """What an exporter reads: sessions, `EventCounter`, `Source`, or functions that return families. They come and go,
    in any thread.
    """

    def __init__(self, what: Iterable[Any]) -> None:
        self._sources = tuple(one if isinstance(one, Source) else Source(one) for one in what)

    def add(
        self,
        what: Any,
        labels: Mapping[str, object] | Iterable[tuple[str, object]] = (),
        max_series: int = MAX_SERIES,
        tool: str | None = None,
    ) -> Source:
        """Exports one more session; arguments as for `Source`."""
        source = what if isinstance(what, Source) else Source(what, labels, max_series, tool)
        self._sources += (source,)
        return source

    def remove(self, what: Any) -> None:
        """Exports a session (or a source) no more: its series end."""
        self._sources = tuple(one for one in self._sources if one is not what and not one.of(what))
