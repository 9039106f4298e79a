# SPDX-License-Identifier: BSD-2-Clause
"""Sessions as OpenTelemetry metrics, pushed over OTLP/HTTP (extra ``otlp``). No global MeterProvider is touched.

Histograms become exponential histograms of scale 0 in ns, whose bucket i is 2^i .. 2^(i+1): our rows, so nothing is
lost however many are merged. (OpenTelemetry data model, "ExponentialHistogram"; why the bounds fit: docs/exporters.md.)

>>> with pyebpf.latency("./server:main.*") as session, Exporter(session, endpoint="http://localhost:4318") as exporter:
...     exporter.start()
...     serve()
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pyebpf import __version__
from pyebpf.errors import ExtraMissing, StateError, TargetError
from pyebpf.export.metrics import Family, HistogramPoint, Labels, Point, Sources, merge, minus, size
from pyebpf.output.text import safe

_UNITS = {"": "1", "seconds": "s", "bytes": "By"}  # UCUM
_Key = tuple[str, Labels]


def otel_name(name: str) -> str:
    """A metric's name as OpenTelemetry writes it: without suffixes for type and unit, which it tells apart."""
    for suffix in ("_total", "_seconds", "_bytes"):
        name = name[: -len(suffix)] if name.endswith(suffix) else name
    return name.replace("_", ".", 1)


class _Said(logging.Handler):
    """What OpenTelemetry's exporter logs in this thread meanwhile: it tells why it failed nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._messages: deque[str] = deque(maxlen=2)  # of an attempt, and of having given up

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._messages.append(safe(record.getMessage()[:500]))

    def text(self) -> str:
        return " ".join(self._messages) or "the endpoint did not take the metrics"

    def __enter__(self) -> _Said:
        logging.getLogger("opentelemetry.exporter").addHandler(self)
        return self

    def __exit__(self, *_: Any) -> None:
        logging.getLogger("opentelemetry.exporter").removeHandler(self)


class Exporter(Sources):
    """Pushes what sessions measure, by hand (`export_once`) or every `interval` seconds (`start`).

    Failures are counted, never raised, and nothing is lost by one: counters are cumulative, and differences are kept
    until they are delivered. Reading a session doesn't hold up the traced program.

    Args:
        what: sessions, `EventCounter`, `Source`, or functions that return families.
        endpoint: "http://host:4318", with or without a path. None: what the environment says
            (``OTEL_EXPORTER_OTLP_ENDPOINT``, else http://localhost:4318); its other variables count too.
        interval: seconds.
        attributes: of the resource. They replace those of ``OTEL_RESOURCE_ATTRIBUTES``, and those replace ours:
            service.name "pyebpf", host.name, service.instance.id "HOST:PID".
        headers: of each request.
        timeout: seconds a delivery may take, repeated attempts included.
        delta: report differences between deliveries rather than totals since the session began.

    Attributes:
        exported: deliveries that were taken.
        failures: deliveries that were not.
        last_error: why the last one was not; None if it was taken.

    Raises:
        ExtraMissing: the exporter of OpenTelemetry isn't installed.
        TargetError: the endpoint is no URL of http or https; interval or timeout isn't positive.
    """

    def __init__(
        self,
        *what: Any,
        endpoint: str | None = None,
        interval: float = 60.0,
        attributes: Mapping[str, str | int | float | bool] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        delta: bool = False,
    ) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import export
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise ExtraMissing(
                f"metrics over OTLP need OpenTelemetry's SDK and HTTP exporter: {error}",
                hint="pip install 'pyebpf-toolkit[otlp]'",
            ) from None
        if interval <= 0 or timeout <= 0:
            raise TargetError("interval and timeout are seconds, more than 0")
        if endpoint is not None:
            parts = urlsplit(endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise TargetError(f"{endpoint!r} is no endpoint", hint="http://localhost:4318")
            if parts.path in ("", "/"):
                endpoint = parts._replace(path="/v1/metrics").geturl()
        self._sdk: Any = export
        super().__init__(what)
        self._client = OTLPMetricExporter(endpoint=endpoint, headers=dict(headers or {}) or None, timeout=timeout)
        host = os.uname().nodename
        named: dict[str, Any] = {
            "service.name": "pyebpf",
            "service.instance.id": f"{host}:{os.getpid()}",  # two writers of one series would spoil it
            "host.name": host,
        }
        self._resource = Resource(named).merge(OTELResourceDetector().detect()).merge(Resource(dict(attributes or {})))
        self._scope = InstrumentationScope("pyebpf", __version__)
        self._interval = interval
        self._delta = delta
        self._temporality = getattr(export.AggregationTemporality, "DELTA" if delta else "CUMULATIVE")
        self._lock = threading.Lock()  # one delivery at a time
        self._delivered: dict[_Key, tuple[int, Point | HistogramPoint]] = {}  # since when it counts, and the last point
        self._last_time = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.exported = 0
        self.failures = 0
        self.last_error: str | None = None

    def export_once(self) -> bool:
        """Reads all sessions and delivers the numbers; returns whether they were taken."""
        with self._lock:
            try:
                error = self._export()
            except Exception as problem:  # of the network, of the library, of a function that was given as a source
                error = f"{type(problem).__name__}: {problem}"
            self.last_error = error
            if error is None:
                self.exported += 1
            else:
                self.failures += 1
            return error is None

    def _export(self) -> str | None:
        began = [(source.started, source.families()) for source in self._sources]
        now = time.time_ns()
        starts: dict[str, int] = {}
        for started, group in began:
            for family in group:
                starts[family.name] = min(started, starts.get(family.name, started))
        delivered: dict[_Key, tuple[int, Point | HistogramPoint]] = {}
        metrics = []
        for family in merge(*(group for _, group in began)):
            points = []
            for point in family.points:
                start, last = self._delivered.get((family.name, point.labels), (starts[family.name], None))
                if last is not None and size(point) < size(last):  # a session went, another came: it begins anew
                    start, last = self._last_time, None
                delivered[family.name, point.labels] = start, point
                if self._delta and last is not None and family.kind != "gauge":
                    point, start = minus(point, last), self._last_time
                points.append(self._point(point, min(start, now), now))
            if points:
                metrics.append(self._metric(family, points))
        if not metrics:
            return None
        sdk = self._sdk
        scope = sdk.ScopeMetrics(scope=self._scope, metrics=metrics, schema_url="")
        whole = sdk.ResourceMetrics(resource=self._resource, scope_metrics=[scope], schema_url="")
        with _Said() as said:
            result = self._client.export(sdk.MetricsData(resource_metrics=[whole]))
        if result is not sdk.MetricExportResult.SUCCESS:
            return said.text()
        self._delivered, self._last_time = delivered, now
        return None

    def _metric(self, family: Family, points: list[Any]) -> Any:
        sdk = self._sdk
        data: Any
        if family.kind == "histogram":
            data = sdk.ExponentialHistogram(data_points=points, aggregation_temporality=self._temporality)
        elif family.kind == "counter":
            data = sdk.Sum(data_points=points, aggregation_temporality=self._temporality, is_monotonic=True)
        else:
            data = sdk.Gauge(data_points=points)
        unit = "ns" if family.kind == "histogram" else _UNITS[family.unit]
        return sdk.Metric(name=otel_name(family.name), description=family.help, unit=unit, data=data)

    def _point(self, point: Point | HistogramPoint, start: int, now: int) -> Any:
        sdk, labels = self._sdk, dict(point.labels)
        if isinstance(point, Point):
            return sdk.NumberDataPoint(
                attributes=labels, start_time_unix_nano=start, time_unix_nano=now, value=point.value
            )
        # 0 and 1 ns are "rounded to zero": bucket 0 is above 1. From there row i is bucket i.
        zero, rows = (point.rows[0] if point.rows else 0), point.rows[1:]
        first = next((index for index, calls in enumerate(rows) if calls), len(rows))
        return sdk.ExponentialHistogramDataPoint(
            attributes=labels,
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=point.count,
            sum=point.total_ns,
            scale=0,
            zero_count=zero,
            positive=sdk.Buckets(first + 1, rows[first:]),
            negative=sdk.Buckets(0, ()),
            flags=0,
            min=None,  # the kernel's maximum may have been reset by interval(), and a minimum isn't kept
            max=None,
        )

    def start(self) -> None:
        """Exports every `interval` seconds from a thread of its own, until `close`.

        Raises:
            StateError: it does already, or is closed.
        """
        if self._thread is not None or self._stop.is_set():
            raise StateError("the exporter is closed" if self._stop.is_set() else "the exporter runs already")
        self._thread = threading.Thread(target=self._run, name="pyebpf-otlp", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.export_once()
        self.export_once()

    def close(self, wait: float | None = None) -> None:
        """Exports a last time and ends the thread. Safe to call twice. Close it before the sessions.

        Args:
            wait: seconds after which the last delivery is given up. None: where the endpoint doesn't answer, it takes
                up to twice `timeout`.
        """
        if self._stop.is_set():
            return
        if self._thread is None:
            self.start()
        self._stop.set()
        assert self._thread is not None
        self._thread.join(wait)
        self._client.shutdown()  # a delivery that goes on is not tried again

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
