# SPDX-License-Identifier: BSD-2-Clause
"""Real calls, pushed over OTLP/HTTP, decoded with OpenTelemetry's own protobuf."""

from __future__ import annotations

import receiver
import targets

import pyebpf
from pyebpf.export.otlp import Exporter


def test_calls_and_durations_arrive() -> None:
    path = targets.compiled("calls.c")
    with receiver.receiver() as server, pyebpf.count(f"{path}:hot") as counts:
        with pyebpf.latency(f"{path}:hot") as latencies, Exporter(latencies, counts, endpoint=server.url) as exporter:
            assert exporter.export_once()
            with targets.run(path, "-n", "10007", "hot") as target:
                target.go()
            histogram = latencies.snapshot()["hot"]
    before, after = (server.metrics(request)["pyebpf.call_duration"].exponential_histogram for request in (0, 1))
    assert before.data_points[0].count == 0
    (point,) = after.data_points
    assert receiver.attributes(point) == {"function": "hot", "path": str(path)}
    assert (point.count, point.sum) == (10007, histogram.total)
    rows = [row.calls for row in histogram.rows()]
    positive = point.positive
    assert list(positive.bucket_counts) == rows[positive.offset :] and sum(positive.bucket_counts) == 10007
    assert server.metrics()["pyebpf.calls"].sum.data_points[0].as_int == 10007
    assert point.start_time_unix_nano == before.data_points[0].start_time_unix_nano
    assert before.data_points[0].start_time_unix_nano < before.data_points[0].time_unix_nano
