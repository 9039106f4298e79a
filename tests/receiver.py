# SPDX-License-Identifier: BSD-2-Clause
"""A receiver of OTLP/HTTP metrics on loopback, which decodes them with OpenTelemetry's own protobuf."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it gets.

    Attributes:
        url: where it listens, without a path.
        requests: each with its path, headers and message.
        answer: the status of the answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[tuple[str, Any, Any]] = []
        self.answer = 200

    def metrics(self, request: int = -1) -> dict[str, Any]:
        """The metrics of a request by name."""
        (resource,) = self.requests[request][2].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def resource(self) -> dict[str, str]:
        """The attributes of the last request's resource."""
        (resource,) = self.requests[-1][2].resource_metrics
        return {pair.key: pair.value.string_value for pair in resource.resource.attributes}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append((self.path, self.headers, ExportMetricsServiceRequest.FromString(body)))
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def attributes(point: Any) -> dict[str, str]:
    """A point's attributes."""
    return {pair.key: pair.value.string_value for pair in point.attributes}


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Listens meanwhile."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
