# SPDX-License-Identifier: BSD-2-Clause
"""The agent's configuration: a TOML file in, typed values or all its errors out. docs/export.md explains the keys."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pyebpf.errors import Error
from pyebpf.export import toml
from pyebpf.export import values as reading
from pyebpf.export.eventtools import SCOPE, event_tool, event_tools, scope_of, tool_of

DEFAULT_LISTEN = ("127.0.0.1", 9435)
MOST_TRACES = 256
_MOST_ERRORS = 50
_LEAST_MEMORY = 48 << 20  # an agent that traces nothing has 30 MB

FUNCTIONS = ("count", "latency")
_NOT_EXPORTED = ("argdist", "funcslower", "stackcount", "trace")  # of functions
_TOP = ("interval", "listen", "max_memory", "otlp")
Readers = dict[str, "Callable[[Any], Any] | None"]

_NAME = r"[A-Za-z0-9_.:/@ -]{1,100}\Z"


class ConfigError(Error, ValueError):
    """A configuration file has errors.

    Attributes:
        problems: each as "FILE:LINE: what"; all that were found.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Selection(NamedTuple):
    """Which processes a trace is about; everything that is given must hold. Patterns are globs.

    Attributes:
        pids: process numbers.
        exe: the path of what a process executes, as it sees it.
        comm: its name.
        cgroup: a directory of the cgroup2 hierarchy; processes in it or below it.
        unit: a systemd unit.
    """

    pids: tuple[int, ...] = ()
    exe: str = ""
    comm: str = ""
    cgroup: str = ""
    unit: str = ""


class TraceConfig(NamedTuple):
    """A trace.

    Attributes:
        name: unique.
        tool: "count", "latency" or a tool of the kernel's events.
        targets: of functions: what to trace.
        regex: their patterns are regular expressions.
        max_probes: more functions than this are refused.
        allow_uretprobe: of "latency": the kernel's return probe may be used.
        selection: whose calls.
        options: of event tools: keywords for its verb.
        labels: of event tools: fields that become labels.
        max_rate: hits a second above which it is detached.
        max_overhead: share of a CPU, that hits take from the traced programs together, above which it is detached.
        cooldown: seconds after which it is attached again.
        max_series: label sets; what is beyond is added up in one more.
    """

    name: str
    tool: str
    targets: tuple[str, ...] = ()
    regex: bool = False
    max_probes: int = 1000
    allow_uretprobe: bool = False
    selection: Selection = Selection()
    options: tuple[tuple[str, Any], ...] = ()
    labels: tuple[str, ...] = ()
    max_rate: int = 100_000
    max_overhead: float = 0.3
    cooldown: float = 60.0
    max_series: int = 1000

    def what(self) -> TraceConfig:
        """It without what can change while it stays attached."""
        return self._replace(max_rate=0, max_overhead=0.0, cooldown=0.0)


class Otlp(NamedTuple):
    """Where metrics are pushed to.

    Attributes:
        endpoint: URL of the metrics' receiver, "http://127.0.0.1:4318/v1/metrics".
        interval: seconds.
        headers: sent with each request.
    """

    endpoint: str
    interval: float = 15.0
    headers: tuple[tuple[str, str], ...] = ()


class Config(NamedTuple):
    """A configuration.

    Attributes:
        listen: address and port.
        interval: seconds between looks at targets and processes.
        max_memory: bytes, of the agent and its maps.
        otlp: or None.
        traces: at least one.
    """

    listen: tuple[str, int] = DEFAULT_LISTEN
    interval: float = 1.0
    max_memory: int = 200 * 10**6
    otlp: Otlp | None = None
    traces: tuple[TraceConfig, ...] = ()


def load(path: str) -> Config:
    """Reads a file.

    Raises:
        ConfigError: with all that is wrong with it.
        ImportError: before Python 3.11 without tomli.
    """
    try:
        document = toml.read(path)
    except OSError as error:
        raise ConfigError((f"{path}: {error.strerror}",)) from None
    except toml.Malformed as error:
        raise ConfigError((f"{path}:{error.line}: {error}" if error.line else f"{path}: {error}",)) from None
    return _Reader(path, document).config()


def parse(text: str, path: str = "config") -> Config:
    """Reads a text, as `load`."""
    try:
        document = toml.parse(text)
    except toml.Malformed as error:
        raise ConfigError((f"{path}:{error.line}: {error}" if error.line else f"{path}: {error}",)) from None
    return _Reader(path, document).config()


class _Reader:
    """Makes a `Config` of a document, or errors."""

    def __init__(self, path: str, document: toml.Document) -> None:
        self.path = path
        self.document = document
        self.problems: list[tuple[int, str]] = []

    def problem(self, path: toml.Path, what: str) -> None:
        self.problems.append((self.document.line(path), what))

    def config(self) -> Config:
        values = self.document.values
        read: Readers = {
            "listen": lambda value: reading.address(reading.text(value)),
            "interval": reading.between(0.1, 3600, reading.seconds),
            "max_memory": reading.between(_LEAST_MEMORY, 1 << 40, reading.size),
        }
        found = self.table((), values, {**read, "otlp": None, "trace": None}, "a configuration")
        traces = values.get("trace", [])
        if not isinstance(traces, list) or not all(isinstance(one, dict) for one in traces):
            self.problem(("trace",), "traces are written as [[trace]]")
        elif not traces:
            self.problem((), "there is no [[trace]]: nothing would be traced")
        elif len(traces) > MOST_TRACES:
            self.problem(("trace", MOST_TRACES), f"{len(traces)} traces are more than {MOST_TRACES}")
        else:
            found["traces"] = tuple(self.trace(("trace", index), one) for index, one in enumerate(traces))
            self.names(found["traces"])
        if "otlp" in values:
            found["otlp"] = self.otlp(values["otlp"])
        if self.problems:
            problems = [f"{self.path}:{line}: {what}" for line, what in sorted(self.problems)]
            more = [f"{self.path}: and {len(problems) - _MOST_ERRORS} more errors"] * (len(problems) > _MOST_ERRORS)
            raise ConfigError(problems[:_MOST_ERRORS] + more)
        return Config(**found)

    def table(
        self, path: toml.Path, values: dict[str, Any], readers: Readers, what: str
    ) -> dict[str, Any]:
        """Reads a table's keys; None: a key that is read elsewhere."""
        found = {}
        for key, value in values.items():
            if key not in readers and path and key in _TOP:
                self.problem((*path, key), f"{key} belongs at the top of the file, above the first [[trace]]")
                continue
            if key not in readers:
                self.unknown((*path, key), key, readers, f"{what} has no key")
                continue
            reader = readers[key]
            if reader is None:
                continue
            try:
                found[key] = reader(value)
            except ValueError as error:
                self.problem((*path, key), f"{key}: {error}")
        return found

    def unknown(self, path: toml.Path, name: str, known: Iterable[str], what: str) -> None:
        close = difflib.get_close_matches(name[:100], sorted(known), 2)
        instead = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known))}"
        self.problem(path, f"{what} {name[:100]!r}: {instead}")

    def names(self, traces: Iterable[TraceConfig]) -> None:
        seen: dict[str, int] = {}
        for index, trace in enumerate(traces):
            path = ("trace", index, "name")
            if trace.name and trace.name in seen:
                self.problem(path, f"the name {trace.name!r} is taken by the trace in line {seen[trace.name]}")
            seen.setdefault(trace.name, self.document.line(path))

    def otlp(self, values: Any) -> Otlp | None:
        if not isinstance(values, dict):
            self.problem(("otlp",), "otlp is written as a table, [otlp]")
            return None

        def headers(value: Any) -> tuple[tuple[str, str], ...]:
            if not isinstance(value, dict):
                raise ValueError(f"{reading.shown(value)} is not a table, such as {{ Authorization = \"…\" }}")
            for name, one in value.items():
                if not isinstance(one, str):
                    raise ValueError(f"{name}: {reading.shown(one)} is not a string")
            return tuple(value.items())

        def endpoint(value: Any) -> str:
            if not re.match(r"https?://[^\s/]+", reading.text(value)):
                raise ValueError(f"{value!r} is not a URL, such as http://127.0.0.1:4318/v1/metrics")
            return str(value)

        interval = reading.between(1, 86400, reading.seconds)
        readers: Readers = {"endpoint": endpoint, "interval": interval, "headers": headers}
        found = self.table(("otlp",), values, readers, "[otlp]")
        if "endpoint" not in values:
            self.problem(("otlp",), "[otlp] needs an endpoint, such as http://127.0.0.1:4318/v1/metrics")
        return Otlp(**found) if "endpoint" in found else None

    # -- traces

    def trace(self, path: toml.Path, values: dict[str, Any]) -> TraceConfig:
        def name(value: Any) -> str:
            if not re.match(_NAME, reading.text(value)):
                raise ValueError(f"{value!r}: a name has at most 100 letters, digits, spaces and any of _ . : / @ -")
            return str(value)

        def cpus(value: Any) -> Any:
            return reading.number(value, (int, float), "a number of CPUs")

        readers: Readers = {
            "name": name,
            "tool": reading.text,
            "max_rate": reading.between(1, 10**9, reading.whole),
            "max_overhead": reading.between(0.001, 1024, cpus),
            "cooldown": reading.between(1, 86400, reading.seconds),
            "max_series": reading.between(1, 100_000, reading.whole),
            "pid": reading.many(reading.pid),
            "cgroup": reading.text,
            "unit": reading.text,
        }
        for key in ("name", "tool"):
            if key not in values:
                self.problem(path, f"this trace has no {key}")
        tool = values.get("tool")
        fields: tuple[str, ...] = ()
        if tool in FUNCTIONS or not isinstance(tool, str):
            readers.update(
                targets=reading.many(self.target(values.get("regex") is True)),
                regex=reading.flag,
                max_probes=reading.between(1, 100_000, reading.whole),
                process=None,
            )
            if tool == "latency":
                readers["allow_uretprobe"] = reading.flag
            if "targets" not in values and isinstance(tool, str):
                self.problem(path, f"{tool} needs targets, such as [\"/usr/bin/envoy:*dispatch*\"]")
        else:
            described = event_tool(tool)
            if described is None:
                if tool_of(tool) is not None:
                    self.problem((*path, "tool"), f"{tool} reports sums rather than events, and they aren't exported")
                elif tool in _NOT_EXPORTED:
                    self.problem((*path, "tool"), f"{tool} isn't exported: of functions there are count and latency")
                else:
                    self.unknown((*path, "tool"), tool, (*FUNCTIONS, *event_tools()), "there is no tool")
                readers.update((key, None) for key in values if key not in readers)  # what it takes isn't known
            else:
                options, fields = described
                readers.update(options)
                readers["labels"] = reading.many(reading.text, 20)
                for key in ("pid", "cgroup", "unit"):
                    if (key if key == "pid" else "cgroup") not in scope_of(tool):
                        del readers[key]
        what = f"a trace with tool = {tool!r}" if isinstance(tool, str) else "a trace"
        found = self.table(path, values, readers, what)
        for label in found.get("labels", ()):
            if label not in fields:
                self.unknown((*path, "labels"), label, fields, f"events of {tool} have no field for a label")
        own = {key: found.pop(key) for key in [*found] if key in SCOPE or key not in _COMMON}
        kept: dict[str, Any] = {key: found.pop(key) for key in ("pid", "cgroup", "unit") if key in found}
        if "pid" in kept:
            kept["pids"] = kept.pop("pid")
        if isinstance(values.get("process"), dict):
            more = self.table(
                (*path, "process"), values["process"], {"exe": reading.text, "comm": reading.text}, "process = { … }"
            )
            kept.update(more)
        elif "process" in values and "process" in readers:
            self.problem((*path, "process"), 'write process = { exe = "/usr/bin/envoy" } or { comm = "envoy" }')
        if "cgroup" in kept and "unit" in kept:
            self.problem((*path, "unit"), "a unit is a cgroup: give one of them")
        if tool in FUNCTIONS and not kept:
            for target in found.get("targets", ()):
                if target.startswith(":"):
                    self.problem((*path, "targets"), f"{target!r} means the program of a process: give process, pid, …")
        found.setdefault("name", "")
        found.setdefault("tool", "")
        found["selection"] = Selection(**kept)
        return TraceConfig(options=tuple(sorted(own.items())), **found)

    @staticmethod
    def target(regex: bool) -> Callable[[Any], str]:
        def checked(value: Any) -> str:
            from pyebpf.target.spec import parse as parse_target

            try:
                spec = parse_target(reading.text(value), regex)
            except Error as error:
                raise ValueError(f"{error}{'; ' + error.hint if error.hint else ''}") from None
            if spec.file.startswith((".", "~")) or ("/" in spec.file and not os.path.isabs(spec.file)):
                raise ValueError(f"{value!r}: an agent has no directory of its own: write the whole path")
            if regex:
                try:
                    re.compile(spec.pattern)
                except re.error as error:
                    raise ValueError(f"{value!r}: {error}") from None
            return str(value)

        return checked


_COMMON = frozenset((*TraceConfig._fields, "pid", "cgroup", "unit")) - {"options", "selection"}


