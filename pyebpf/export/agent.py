# SPDX-License-Identifier: BSD-2-Clause
"""The agent: keeps the traces of a configuration attached as far as limits allow, and serves their numbers."""

from __future__ import annotations

import gc
import ipaddress
import json
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pyebpf import __version__
from pyebpf.errors import Error, ExtraMissing
from pyebpf.export.config import Config, ConfigError, Selection, load
from pyebpf.export.events import EventTrace
from pyebpf.export.http import Response, Server, bind
from pyebpf.export.log import Log
from pyebpf.export.metrics import Family, Point, Source
from pyebpf.export.overhead import Costs
from pyebpf.export.processes import Processes
from pyebpf.export.prometheus import Collector
from pyebpf.export.trace import STATES, Job, Trace, reason_of, trace_of

TICK = 0.2  # seconds between looks at rates and at files that may be rewritten
_LAST_DELIVERY = 1.5  # seconds that an OTLP endpoint has at the end
_PAGE = os.sysconf("SC_PAGESIZE")


class Agent:
    """Traces what a configuration lists until it is stopped. Made, run and closed in one thread.

    Args:
        path: the configuration file, for `reload`.
        config: what it says.
        listener: where to serve (`pyebpf.export.http.bind`); the agent's from now on.
        log: what happens.
        override: an address that replaces the configuration's, also after a reload.
        notify: called with lines for the service manager ("READY=1").

    Raises:
        ExtraMissing: a library isn't installed.
    """

    def __init__(
        self,
        path: str,
        config: Config,
        listener: socket.socket,
        log: Log,
        override: tuple[str, int] | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        try:
            import prometheus_client
            from prometheus_client import exposition
        except ImportError as error:
            raise ExtraMissing(
                f"the agent needs prometheus_client: {error}", hint="pip install 'pyebpf-toolkit[agent]'"
            ) from None
        self.path, self.config, self._log, self._override, self._notify = path, config, log, override, notify
        self.traces: dict[str, Trace] = {}
        self._processes = Processes()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._asked = self._done = 0  # jobs; each is counted in one thread only
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._stop, self._reload = False, False
        self._reloads = {"success": 0, "failure": 0}
        self._reload_error = ""
        self._scrapes = 0
        self._costs = Costs()
        self._started = time.monotonic()
        self._ready: Callable[[], None] | None = None
        self._too_big = 0.0
        self._own_source = Source(self._own, max_series=None)
        self._past: dict[str, tuple[int, dict[str, int]]] = {}  # of traces that a reload ended: their own counters
        self._status = ""
        self._collector = Collector(self._own_source)
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        prometheus_client.ProcessCollector(registry=self._registry)
        self._encoder = exposition.choose_encoder
        self._exporter: Any = None
        self._exporter = self._new_exporter(config)
        self._listener = listener
        self._worker = threading.Thread(target=self._work, name="attach", daemon=True)

    # -- from signal handlers and other threads

    def stop(self) -> None:
        """Lets `run` end."""
        self._stop = True
        self._poke()

    def reload(self) -> None:
        """Lets `run` read the configuration again."""
        self._reload = True
        self._poke()

    def _poke(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            pass

    # -- the loop

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Traces and serves until `stop`; then everything is detached.

        Args:
            ready: called once each trace was tried.

        Raises:
            Error: it may not have another thread.
        """
        self._ready = ready
        gc.freeze()  # what is imported stays: collecting after each job takes a millisecond then
        try:
            self._worker.start()
            self._apply(self.config)
            self._server = Server(self._listener, self._answer)
        except RuntimeError as error:  # its control group's limit
            self._jobs.put(None)
            raise Error(str(error), hint="the agent needs three threads, and a process that reads programs") from None
        try:
            self._tell("started", self._listener, version=__version__)
            self._loop()
        finally:
            self._notify("STOPPING=1")
            self._close()

    def _tell(self, what: str, listener: socket.socket, **fields: object) -> None:
        host, port = listener.getsockname()[:2]
        listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._log("info", what, **fields, listen=listen, traces=len(self.traces))
        if not ipaddress.ip_address(host).is_loopback:
            self._log("warning", f"{host} is not a loopback address: whoever reaches it sees the metrics")

    def _loop(self) -> None:
        tick = look = time.monotonic()
        while not self._stop:
            self._wait(tick)
            now = time.monotonic()
            if self._reload:
                self._reload = False
                self._read_again()
                look = now
            if now >= tick:
                tick = now + TICK
                for trace in self.traces.values():
                    self._guard(trace, trace.tick)
                    self._give(self._guard(trace, trace.glance))
                self._notify("WATCHDOG=1")
            if now >= look:
                look = now + self.config.interval
                self._look()
            if self._ready is not None and self._asked == self._done:
                self._ready()
                self._ready = None
                self._notify("READY=1")

    def _wait(self, until: float) -> None:
        """Waits for a tick, a signal or events, and counts those."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        streams: dict[int, EventTrace] = {}
        busy = []
        left = max(0.0, until - time.monotonic())
        for trace in self.traces.values():
            if isinstance(trace, EventTrace):
                rest = trace.rest()
                if rest:
                    left = min(left, rest)
                    busy.append(trace)
                    continue
                fd = trace.fileno()
                if fd is not None:
                    streams[fd] = trace
                    poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(left * 1000):
            if fd == self._wake:
                os.read(self._wake, 4096)
            else:
                self._guard(streams[fd], streams[fd].drain)
        for trace in busy:
            self._guard(trace, trace.drain)

    def _look(self) -> None:
        if any(trace.config.targets and trace.config.selection != Selection() for trace in self.traces.values()):
            followed = frozenset(pid for trace in self.traces.values() for pid in trace.followed())
            self._processes.look(followed)
        for trace in self.traces.values():
            self._give(self._guard(trace, partial(trace.look, self._processes)))
        self._bound_memory()
        states = [str(trace.status()["state"]) for trace in self.traces.values()]
        status = "STATUS=" + ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
        if status != self._status:
            self._status = status
            self._notify(status)

    def _give(self, jobs: Iterable[Job] | None) -> None:
        """Gives jobs to the worker."""
        for job in jobs or ():
            self._asked += 1
            self._jobs.put(job)

    def _guard(self, trace: Trace, act: Callable[[], Any]) -> Any:
        """One trace's failure is its own, also if it is a fault of ours."""
        try:
            return act()
        except Exception as error:
            why = reason_of(error)
        try:
            trace.pause("error", why)
        except Exception as error:
            self._log("error", f"can't detach: {reason_of(error)}", trace=trace.config.name)
        return None

    def _work(self) -> None:
        """The worker: attaching takes from a tenth of a second to several."""
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception as error:  # one trace's must not keep others from being attached
                self._log("error", reason_of(error))
            # A session leaves cycles, as types of records are classes: megabytes, until the collector comes by itself,
            # after 50,000 new objects (`pyebpf.cli.main.entry`).
            gc.collect()
            self._done += 1
            self._poke()

    def _bound_memory(self) -> None:
        resident, maps = resident_memory(), sum(trace.memory() for trace in self.traces.values())
        if resident + maps <= self.config.max_memory or time.monotonic() < self._too_big:
            return
        self._too_big = time.monotonic() + 5 * TICK  # the system needs a moment to get memory back
        biggest = max(self.traces.values(), key=lambda trace: trace.memory())
        limit = f"max_memory, {self.config.max_memory >> 20} MiB"
        why = f"{resident >> 20} MiB and {maps >> 20} MiB of maps are more than {limit}"
        if biggest.memory():
            biggest.pause("max_memory", why)
        else:
            self._too_big += 60
            self._log("error", f"{why}, and nothing is attached")

    def _close(self) -> None:
        self._jobs.put(None)
        for trace in self.traces.values():
            self._guard(trace, trace.close)
        if self._exporter is not None:
            self._exporter.close(_LAST_DELIVERY)
        self._server.close()
        self._log("info", "ended")

    # -- the configuration

    def _apply(self, config: Config) -> None:
        """Makes traces what a configuration says; those it doesn't change aren't touched."""
        wanted = {trace.name: trace for trace in config.traces}
        for name, trace in list(self.traces.items()):
            new = wanted.get(name)
            if new is not None and new.what() == trace.config.what():
                trace.update(new)
                continue
            self._guard(trace, trace.close)
            self._past[name] = trace.attachments, trace.detached
            self._collector.remove(trace.source)
            if self._exporter is not None:
                self._exporter.remove(trace.source)
            del self.traces[name]
            if new is None:
                self._log("info", "removed", trace=name)
        for name, one in wanted.items():
            if name not in self.traces:
                trace = self.traces[name] = trace_of(one, self._log, self._costs)
                trace.attachments, trace.detached = self._past.pop(name, (0, {}))
                self._collector.add(trace.source)
                if self._exporter is not None:
                    self._exporter.add(trace.source)
        self.config = config

    def _read_again(self) -> None:
        """SIGHUP."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            config = load(self.path)
            if self._override:
                config = config._replace(listen=self._override)
            listener = bind(*config.listen) if config.listen != self.config.listen else None
            try:
                exporter = self._exporter if config.otlp == self.config.otlp else self._new_exporter(config)
            except Error:
                if listener is not None:
                    listener.close()
                raise
        except Error as error:
            problems = error.problems if isinstance(error, ConfigError) else (reason_of(error),)
            for problem in problems:
                self._log("error", f"configuration not reloaded: {problem}")
            self._reloads["failure"] += 1
            self._reload_error = "; ".join(problems)[:4000]
        else:
            if exporter is not self._exporter:
                if self._exporter is not None:
                    self._exporter.close(_LAST_DELIVERY)
                self._exporter = exporter
                for trace in self.traces.values() if exporter is not None else ():
                    exporter.add(trace.source)
            self._apply(config)
            if listener is not None:
                self._server.move(listener)
                self._listener = listener
            self._reloads["success"] += 1
            self._reload_error = ""
            self._tell("configuration reloaded", self._listener)
        self._notify("READY=1")

    def _new_exporter(self, config: Config) -> Any:
        if config.otlp is None:
            return None
        from pyebpf.export.otlp import Exporter

        endpoint, interval, headers = config.otlp
        exporter = Exporter(self._own_source, endpoint=endpoint, interval=interval, headers=dict(headers))
        exporter.start()
        return exporter

    # -- what is served

    def _answer(self, path: str, accept: str) -> Response:
        """In the server's thread."""
        if path == "/metrics":
            self._scrapes += 1
            try:
                encode, content_type = self._encoder(accept)
            except Exception:  # whatever the client wrote there
                encode, content_type = self._encoder("")
            return Response(200, content_type, encode(self._registry))
        if path == "/healthz":
            body = json.dumps(self.health(), indent=1) + "\n"
            return Response(200, "application/json", body.encode())
        return Response(404, "text/plain; charset=utf-8", b"there are /metrics and /healthz\n")

    def health(self) -> dict[str, object]:
        """What `/healthz` says."""
        return {
            "status": "ok",
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "config": {"path": self.path, "reloaded": not self._reload_error, "error": self._reload_error},
            "traces": {name: trace.status() for name, trace in sorted(self.traces.copy().items())},
        }

    def _own(self) -> Iterable[Family]:
        """Metrics of the agent itself."""
        traces = sorted(self.traces.copy().items())

        def family(
            name: str, kind: str, help_: str, points: Iterable[tuple[dict[str, str], Any]], unit: str = ""
        ) -> Family:
            made = tuple(Point(tuple(sorted(labels.items())), value) for labels, value in points)
            return Family(f"pyebpf_{name}", help_, kind, unit, made)

        states = [(name, trace.status()["state"], trace) for name, trace in traces]
        usage = os.times()
        return [
            family("build_info", "gauge", "The version that runs, and on which kernel.",
                   [({"version": __version__, "kernel": os.uname().release}, 1)]),
            family("trace_attached", "gauge", "Whether a trace sees what it is about; 0: see pyebpf_trace_state.",
                   [({"trace": name}, int(state in ("attached", "partial"))) for name, state, _ in states]),
            family("trace_state", "gauge", "1 for the state that a trace is in.",
                   [({"trace": name, "state": one}, int(state == one)) for name, state, _ in states for one in STATES]),
            family("trace_attachments_total", "counter", "Times that a trace was attached to something.",
                   [({"trace": name}, trace.attachments) for name, _, trace in states]),
            family("trace_detached_total", "counter", "Times that a trace was detached before its end, by reason.",
                   [({"trace": name, "reason": reason}, count) for name, _, trace in states
                    for reason, count in sorted(trace.detached.copy().items())]),
            family("trace_overhead_ratio", "gauge", "About the share of a CPU that its hits take from traced programs.",
                   [({"trace": name}, round(trace.overhead, 6)) for name, _, trace in states]),
            family("trace_map_memory_bytes", "gauge", "Kernel memory of a trace's maps.",
                   [({"trace": name}, trace.memory()) for name, _, trace in states], "bytes"),
            family("agent_cpu_seconds_total", "counter", "CPU time of the agent and of what reads programs for it.",
                   [({}, round(sum(usage[:4]), 2))], "seconds"),
            family("agent_resident_memory_bytes", "gauge", "Memory of the agent, without maps.",
                   [({}, resident_memory())], "bytes"),
            family("agent_memory_limit_bytes", "gauge", "max_memory of the configuration.",
                   [({}, self.config.max_memory)], "bytes"),
            family("agent_scrapes_total", "counter", "Requests for metrics.", [({}, self._scrapes)]),
            family("config_reloads_total", "counter", "Times that the configuration was read again.",
                   [({"result": result}, count) for result, count in self._reloads.items()]),
            family("config_last_reload_successful", "gauge", "0: the file has errors, and an older one is in force.",
                   [({}, int(not self._reload_error))]),
            *([] if self._exporter is None else [
                family("otlp_deliveries_total", "counter", "Deliveries over OTLP.",
                       [({"result": "success"}, self._exporter.exported),
                        ({"result": "failure"}, self._exporter.failures)])]),
        ]  # fmt: skip


def resident_memory() -> int:
    """Bytes that this process has in memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
