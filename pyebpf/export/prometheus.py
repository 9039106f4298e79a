# SPDX-License-Identifier: BSD-2-Clause
"""Sessions as metrics of ``prometheus_client`` (extra ``prometheus``), read anew at each scrape.

>>> with pyebpf.latency("./server:main.*") as session:
...     register(session)
...     prometheus_client.start_http_server(9100, "127.0.0.1")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pyebpf.errors import ExtraMissing, StateError, TargetError
from pyebpf.export.metrics import ALL, Family, HistogramPoint, Sources, merge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

BUCKETS = range(8, 37)  # 256 ns .. 69 s: what a traced call can last, and what somebody waits for
MANY = 100  # histograms: of more, those without a call are left out, as each is some 30 lines of every scrape


def _library() -> Any:
    try:
        import prometheus_client.metrics_core
    except ImportError as error:
        raise ExtraMissing(
            f"metrics for Prometheus need prometheus_client: {error}",
            hint="pip install 'pyebpf-toolkit[prometheus]'",
        ) from None
    return prometheus_client


class Collector(Sources):
    """A collector for a registry of ``prometheus_client``; any number of scrapes may read it at once.

    Counters and histograms never fall. Of a session that is closed the numbers read last stay, until it is removed.

    Args:
        what: sessions, `EventCounter`, `Source`, or functions that return families.
        buckets: k for each upper bound 2^k ns of the histograms. Fewer make fewer series; a bound more or less
            changes no other number.

    Raises:
        ExtraMissing: prometheus_client isn't installed.
        TargetError: buckets is empty or not within 1..63.
    """

    def __init__(self, *what: Any, buckets: Iterable[int] = BUCKETS) -> None:
        self._metric = _library().metrics_core.Metric
        bounds = sorted(set(buckets))
        if not bounds or bounds[0] < 1 or bounds[-1] > 63:
            raise TargetError("buckets are powers of two from 1 to 63", hint="range(8, 37) is 256 ns to 69 s")
        self._buckets = [(k, repr((1 << k) / 1e9)) for k in bounds]
        super().__init__(what)

    def collect(self) -> Iterator[Metric]:
        """Reads all sessions. Called by the registry."""
        for family in merge(*(source.families() for source in self._sources)):
            if family.points:
                yield self._translated(family)

    def describe(self) -> Iterator[Metric]:
        """The names, so that a registry refuses a second collector rather than show a name twice."""
        for family in ALL:
            yield self._translated(family)

    def _translated(self, family: Family) -> Metric:
        counter = family.kind == "counter"
        name = family.name[: -len("_total")] if counter and family.name.endswith("_total") else family.name
        metric: Metric = self._metric(name, family.help, family.kind, family.unit)
        many = len(family.points) > MANY
        for point in family.points:
            labels = dict(point.labels)
            if isinstance(point, HistogramPoint):
                if point.count or not many:
                    self._add_histogram(metric, labels, point)
            else:
                metric.add_sample(f"{metric.name}_total" if counter else metric.name, labels, point.value)
        return metric

    def _add_histogram(self, metric: Metric, labels: dict[str, str], point: HistogramPoint) -> None:
        """Row i holds 2^i .. 2^(i+1)-1 ns, so the rows below k are the calls below 2^k ns."""
        below = [0, *accumulate(point.rows)]
        for k, bound in self._buckets:
            metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, below[min(k, len(below) - 1)])
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, point.count)
        metric.add_sample(f"{metric.name}_count", labels, point.count)
        metric.add_sample(f"{metric.name}_sum", labels, point.total_ns / 1e9)


def register(
    session: Any,
    registry: CollectorRegistry | None = None,
    labels: Mapping[str, object] | Iterable[tuple[str, object]] = (),
    buckets: Iterable[int] = BUCKETS,
) -> Collector:
    """Shows a session in a registry; further ones go to the `Collector.add` of what is returned.

    Args:
        session: as `Collector`.
        registry: None: the one that ``prometheus_client`` serves by default.
        labels: that all its points get.
        buckets: as `Collector`.

    Raises:
        StateError: the registry has a collector of pyebpf's metrics already.
        ExtraMissing: prometheus_client isn't installed.
    """
    library = _library()
    collector = Collector(buckets=buckets)
    collector.add(session, labels)
    try:
        (library.REGISTRY if registry is None else registry).register(collector)
    except ValueError:  # DuplicateTimeseries in newer versions
        raise StateError(
            "the registry shows sessions of pyebpf already",
            hint="add this one to the Collector that register() returned: collector.add(session)",
        ) from None
    return collector
