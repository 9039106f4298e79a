# SPDX-License-Identifier: BSD-2-Clause
"""``pyebpf export`` beside programs that appear, restart, are upgraded, stripped, and call a million times a second."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import receiver
import targets
import unprivileged

from pyebpf.core import kernel
from pyebpf.export.processes import cgroups

OLD, NEW = (), ("-O1", "-DNEWER")  # compiler flags of a program and of its next version: hot lies elsewhere
CAPABILITIES = "+bpf,+perfmon,+dac_read_search,+sys_ptrace"
WITH_MDWE = pytest.mark.skipif(kernel.release() < (6, 3), reason="before Linux 6.3")  # PR_SET_MDWE
HARDENED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(65, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_MDWE
os.execv(sys.executable, [sys.executable, "-m", "pyebpf", *sys.argv[1:]])
"""


class Agent:
    """A running agent.

    Attributes:
        lines: what it has logged.
    """

    def __init__(
        self, folder: Path, config: str, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.file = folder / "agent.toml"
        self.write(config)
        command = prefix or (sys.executable, "-m", "pyebpf")
        self.process = subprocess.Popen(
            [*command, "export", str(self.file)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(env or {})},
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.address = self.logged("started")["listen"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))

    def write(self, config: str) -> None:
        self.file.write_text('listen = "127.0.0.1:0"\ninterval = "100ms"\n' + config)

    def reload(self, config: str) -> None:
        self.write(config)
        self.process.send_signal(signal.SIGHUP)

    def logged(self, pattern: str, times: int = 1) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            found = [line for line in self.lines if re.search(pattern, line["msg"])]
            assert len(found) >= times or self.process.poll() is None, self.lines
            return found[times - 1] if len(found) >= times else None

        line: dict[str, Any] = targets.until(find, f"{times} x {pattern!r} in {self.lines}", 0.02)
        return line

    def get(self, path: str, accept: str = "") -> bytes:
        request = Request(f"http://{self.address}{path}", headers={"Accept": accept})
        with urlopen(request, timeout=targets.DEADLINE) as answer:
            body: bytes = answer.read()
        return body

    def health(self, trace: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/healthz"))["traces"][trace]
        return found

    def until(self, trace: str, **wanted: object) -> dict[str, Any]:
        """Waits until a trace is in a state."""
        last: dict[str, Any] = {}

        def check() -> bool:
            last.update(self.health(trace))
            return all(last[key] == value for key, value in wanted.items())

        targets.until(check, f"{trace} with {wanted}: {last} {self.lines}", 0.02)
        return last

    def metric(self, name: str, **labels: str) -> float:
        """A metric, summed over the label sets that have these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics").decode())
            for sample in family.samples
            if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
        )

    def calls(self, trace: str) -> float:
        return self.metric("pyebpf_calls_total", trace=trace, function="hot")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(targets.DEADLINE) == 0
        self._reader.join()
        assert self.lines[-1]["msg"] == "ended"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts agents, and ends what is left of them."""
    agents: list[Agent] = []

    def begin(config: str, **keywords: Any) -> Agent:
        agents.append(Agent(tmp_path, config, **keywords))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.kill()


@pytest.fixture
def linux_own_levels() -> Iterator[None]:
    """kernel.perf_event_paranoid as CAP_PERFMON overrides it everywhere."""
    with unprivileged.paranoid(2):
        yield


def install(flags: tuple[str, ...], path: Path) -> None:
    """A program, as a package manager puts it in place: under another name, then renamed."""
    shutil.copy(targets.compiled("calls.c", *flags), f"{path}.new")
    os.rename(f"{path}.new", path)


def count(path: Path | str, *more: str, name: str = "hot", tool: str = "count") -> str:
    own = [*more, *(["max_overhead = 100"] if "overhead" not in "".join(more) else [])]
    return "\n".join(["[[trace]]", f'name = "{name}"', f'tool = "{tool}"', f'targets = ["{path}:hot"]', *own, ""])


@contextmanager
def running(path: Path, calls: int) -> Iterator[targets.Target]:
    with targets.run(path, "-n", str(calls), "hot") as target:
        yield target


def test_counts_are_exact_across_upgrades(start: Callable[..., Agent], tmp_path: Path) -> None:
    """The file comes later, is replaced while old processes run, is deleted; numbers go on."""
    path = tmp_path / "prog"
    agent = start(count(path) + count(path, name="times", tool="latency"))
    assert "no such file" in agent.logged("waiting")["msg"]
    assert agent.health("hot")["state"] == "waiting" and agent.metric("pyebpf_trace_attached", trace="hot") == 0
    install(OLD, path)
    agent.until("hot", state="attached", generations=1)
    agent.until("times", state="attached", generations=1)
    with running(path, 997) as first, running(path, 23) as survivor:
        first.go()
        assert agent.calls("hot") == 997
        install(NEW, path)
        agent.until("hot", state="attached", generations=2)
        agent.until("times", state="attached", generations=2)
        with running(path, 10007) as newer:
            newer.go()
        survivor.go()
        os.unlink(path)
        assert "no such file" in agent.until("hot", state="waiting")["reason"]
    assert agent.calls("hot") == 997 + 23 + 10007
    assert agent.metric("pyebpf_call_duration_seconds_count", trace="times") == 997 + 23 + 10007
    agent.end()


def test_rewritten_in_place(start: Callable[..., Agent], tmp_path: Path) -> None:
    """Probes leave a file whose bytes change, and come back where the function is then."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path))
    agent.until("hot", state="attached")
    with running(path, 997) as target:
        target.go()
    shutil.copyfile(targets.compiled("calls.c", *NEW), path)
    assert agent.logged("rewritten in place")["trace"] == "hot"
    agent.logged("attached", 2)
    agent.until("hot", state="attached", generations=1)
    with running(path, 23) as target:
        target.go()
    assert agent.calls("hot") == 997 + 23
    assert agent.metric("pyebpf_trace_detached_total", trace="hot", reason="rewritten") == 1


def test_who_has_a_series_keeps_it_over_a_new_attachment(start: Callable[..., Agent], tmp_path: Path) -> None:
    """With room for one: it stays the function that had it first, though another is called more by now."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path, "max_series = 1", "regex = true").replace(":hot", ":(hot|many)$"))
    agent.until("hot", state="attached")
    with running(path, 23) as target:
        target.go()
    assert agent.calls("hot") == 23
    with targets.run(path, "-n", "997", "many") as target:
        target.go()
    shutil.copyfile(targets.compiled("calls.c", *NEW), path)
    agent.logged("attached", 2)
    with running(path, 23) as target:
        target.go()
    assert agent.calls("hot") == 46
    assert agent.metric("pyebpf_calls_total", trace="hot", function="other") == 997


def test_stripped_by_an_upgrade(start: Callable[..., Agent], tmp_path: Path) -> None:
    """What was counted stays; of two targets the one that is still there is traced."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path))
    agent.until("hot", state="attached")
    with running(path, 997) as target:
        target.go()
    install(("-s",), path)
    reason = agent.until("hot", state="waiting", reason=agent.logged("waiting: no function")["msg"][9:])["reason"]
    assert "hot" in reason and agent.calls("hot") == 997
    assert agent.metric("pyebpf_trace_attached", trace="hot") == 0
    install(NEW, path)
    agent.until("hot", state="attached")
    with running(path, 23) as target:
        target.go()
    assert agent.calls("hot") == 997 + 23


def test_selected_processes_come_and_go(start: Callable[..., Agent], tmp_path: Path) -> None:
    """By executable and by name; a restart needs no new attachment, a process that isn't meant isn't counted."""
    path, other = tmp_path / "prog", tmp_path / "other"
    install(OLD, path)
    os.link(path, other)  # the same inode
    agent = start(
        count("", f'process = {{ exe = "{path}" }}', name="exe")
        + count(path, 'process = { comm = "prog" }', name="comm")
    )
    agent.until("exe", state="waiting")
    for number in (997, 23):
        with running(path, number) as target, running(other, 10007) as stranger:
            agent.until("exe", state="attached", pids=[target.pid])
            agent.until("comm", state="attached", pids=[target.pid])
            target.go()
            stranger.go()
        agent.until("exe", state="waiting", pids=[])
    assert agent.calls("exe") == agent.calls("comm") == 997 + 23
    assert agent.metric("pyebpf_trace_attachments_total", trace="exe") == 1


def test_a_process_that_leaves_and_comes_back(start: Callable[..., Agent], tmp_path: Path) -> None:
    """It is moved to another cgroup and back: each call is counted once."""
    path = tmp_path / "prog"
    install(OLD, path)
    group = Path(cgroups()) / f"pyebpf-agent-{os.getpid()}"
    group.mkdir()
    agent = start(count(path, f'cgroup = "{group}"') + count(path, f'cgroup = "{group}"', name="times", tool="latency"))
    try:
        with running(path, 997) as target:
            for folder, pids in ((group, [target.pid]), (group.parent, []), (group, [target.pid])):
                (folder / "cgroup.procs").write_text(str(target.pid))
                agent.until("hot", pids=pids)
                agent.until("times", pids=pids)
            target.go()
    finally:
        group.rmdir()
    assert agent.calls("hot") == 997
    assert agent.metric("pyebpf_call_duration_seconds_count", trace="times") == 997
    assert agent.metric("pyebpf_incomplete_total", trace="times") == 0


def test_max_rate(start: Callable[..., Agent], tmp_path: Path) -> None:
    """A function that is called as fast as can be is let go, and tried again after the cooldown."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(
        count(path, "max_rate = 5000", 'cooldown = "1s"') + count(path, "max_overhead = 0.001", name="time")
    )
    agent.until("hot", state="attached")
    agent.until("time", state="attached")
    with running(path, 2_000_000_000) as target:
        target.begin()
        line = agent.logged("more than max_rate = 5000")
        assert line["level"] == "warning" and line["retry_s"] == 1 and line["trace"] == "hot"
        line = agent.logged("more than max_overhead = 0.001")
        assert line["trace"] == "time" and line["reason"] == "max_overhead"
        assert agent.metric("pyebpf_trace_detached_total", trace="hot", reason="max_rate") >= 1
        assert agent.logged("more than max_rate", 2)["retry_s"] == 2  # it was tried again; next time later
        agent.until("hot", state="detached")
        assert agent.metric("pyebpf_trace_attached", trace="hot") == 0
        assert agent.calls("hot") > 5000 * 0.05
        target.kill()
    agent.until("hot", state="attached")
    before = agent.calls("hot")
    with running(path, 997) as target:
        target.go()
    assert agent.calls("hot") == before + 997


def test_max_memory(start: Callable[..., Agent], tmp_path: Path) -> None:
    """Three tools whose buffers are larger than what is allowed: the largest goes first, the small trace last."""
    path = tmp_path / "prog"
    install(OLD, path)
    tools = ("opensnoop", "statsnoop", "execsnoop")
    events = "".join(f'[[trace]]\nname = "{tool}"\ntool = "{tool}"\n' for tool in tools)
    agent = start('max_memory = "48MiB"\n' + count(path) + events)
    line = agent.logged("more than max_memory, 48 MiB")
    assert line["reason"] == "max_memory" and line["trace"] in tools
    agent.until(line["trace"], state="detached")
    assert agent.metric("pyebpf_trace_detached_total", trace=line["trace"], reason="max_memory") == 1
    assert agent.metric("pyebpf_trace_map_memory_bytes", trace=line["trace"]) == 0


def test_reload(start: Callable[..., Agent], tmp_path: Path) -> None:
    """What didn't change isn't touched; a file with errors changes nothing, and all of them are logged."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path) + count(path, name="second"))
    agent.until("hot", state="attached")
    with running(path, 997) as target:
        target.go()
    agent.reload(count(path, "max_rate = 0", "lables = []") + '[[trace]]\nname = "x"\ntool = "nope"\n')
    assert agent.logged("max_rate")["msg"].endswith(
        f"{agent.file}:7: max_rate: 0 is not within 1 to 1000000000"
    )
    agent.logged("lables"), agent.logged("there is no tool 'nope'")
    health = json.loads(agent.get("/healthz"))
    assert not health["config"]["reloaded"] and "nope" in health["config"]["error"]
    assert agent.metric("pyebpf_config_last_reload_successful") == 0
    assert health["traces"]["hot"]["state"] == "attached"
    agent.reload(count(path, "max_rate = 77777") + '[[trace]]\nname = "opens"\ntool = "opensnoop"\nlabels = ["comm"]\n')
    agent.logged("configuration reloaded")
    agent.until("opens", state="attached")
    assert set(json.loads(agent.get("/healthz"))["traces"]) == {"hot", "opens"}
    assert agent.metric("pyebpf_config_last_reload_successful") == 1
    assert agent.calls("hot") == 997 and agent.metric("pyebpf_trace_attachments_total", trace="hot") == 1
    with running(path, 23) as target:
        target.go()
        targets.until(lambda: agent.metric("pyebpf_events_total", trace="opens", comm="prog"), "its opens")
    assert agent.calls("hot") == 997 + 23


def test_reload_onto_another_port_with_otlp(start: Callable[..., Agent], tmp_path: Path) -> None:
    """Numbers go on at the new address and to the receiver; counters of a trace that is made anew don't fall."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path) + count(path, name="second"))
    agent.until("hot", state="attached")
    agent.until("second", state="attached")
    with running(path, 997) as target:
        target.go()
    with receiver.receiver() as server:
        agent.file.write_text(
            f'listen = "[::1]:0"\n[otlp]\nendpoint = "{server.url}"\ninterval = "1s"\nheaders = {{ x-key = "k" }}\n'
            + count(path) + count(path, "max_series = 5", name="second")
        )  # fmt: skip
        agent.process.send_signal(signal.SIGHUP)
        agent.address = agent.logged("configuration reloaded")["listen"]
        assert agent.address.startswith("[::1]:") and agent.calls("hot") == 997
        agent.until("second", state="attached")
        assert agent.calls("second") == 0
        assert agent.metric("pyebpf_trace_attachments_total", trace="second") == 2
        targets.until(lambda: server.requests, "a delivery")
        with running(path, 23) as target:
            target.go()
        agent.end()
        assert all(headers["x-key"] == "k" for _, headers, _ in server.requests)
        points = server.metrics()["pyebpf.calls"].sum.data_points
        found = {receiver.attributes(point)["trace"]: point.as_int for point in points}
        assert found == {"hot": 997 + 23, "second": 23}, "the last delivery holds all"
        (up,) = server.metrics()["pyebpf.agent_scrapes"].sum.data_points
        assert up.as_int > 0 and "pyebpf.otlp_deliveries" in server.metrics()


def test_it_ends_though_nobody_answers(start: Callable[..., Agent], tmp_path: Path) -> None:
    """An OTLP endpoint that takes the connection and says nothing: a last delivery isn't waited for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        otlp = f'[otlp]\nendpoint = "http://127.0.0.1:{silent.getsockname()[1]}"\ninterval = "1s"\n'
        agent = start(otlp + count(tmp_path / "none"))
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"POST"
            agent.end()


def test_service_manager(start: Callable[..., Agent], tmp_path: Path) -> None:
    """The protocol of sd_notify(3): readiness, reloading, being alive."""
    path = tmp_path / "prog"
    install(OLD, path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)

        def heard(wanted: str) -> str:
            while not (told := manager.recv(4096).decode()).startswith(wanted):
                assert told.startswith(("STATUS=", "WATCHDOG=1")), told
            return told

        agent = start(count(path), env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"})
        heard("READY=1")
        assert agent.metric("pyebpf_trace_attachments_total", trace="hot") == 1, "each trace was tried"
        heard("WATCHDOG=1")
        agent.reload("nonsense")
        assert re.match(r"RELOADING=1\nMONOTONIC_USEC=\d+\Z", heard("RELOADING"))
        heard("READY=1")
        agent.end()
        heard("STOPPING=1")


def test_port_in_use(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(f'listen = "127.0.0.1:{port}"\n[[trace]]\nname = "a"\ntool = "opensnoop"\n')
        done = subprocess.run(
            [sys.executable, "-m", "pyebpf", "export", str(config)], capture_output=True, text=True,
            timeout=targets.DEADLINE,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}: the port is in use by process {os.getpid()}" in done.stderr
    assert "hint: stop that program, or choose another port" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_stays(start: Callable[..., Agent], tmp_path: Path, number: signal.Signals) -> None:
    """However it ends, its programs, maps and links leave the kernel, and the target lives on."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path, name="hot", tool="latency") + '[[trace]]\nname = "opens"\ntool = "opensnoop"\n')
    with running(path, 997) as target:
        agent.until("hot", state="attached")
        agent.until("opens", state="attached")
        held = targets.held_bpf(agent.process.pid)
        assert held["programs"] and held["maps"] and (held["links"] or not kernel.has_attach_cookies())
        agent.process.send_signal(number)
        assert agent.process.wait(targets.DEADLINE) == (-9 if number == signal.SIGKILL else 0)
        assert not targets.bpf_left(held)
        assert target.go()["calls"]["hot"] == 997


def test_http(start: Callable[..., Agent], tmp_path: Path) -> None:
    """Formats, refusals, and clients that are slow, silent, or many: none keeps a scraper from its numbers."""
    path = tmp_path / "prog"
    install(OLD, path)
    agent = start(count(path))
    agent.until("hot", state="attached")
    assert agent.get("/metrics", "application/openmetrics-text; version=1.0.0").endswith(b"# EOF\n")
    assert b"# EOF" not in agent.get("/metrics")
    with pytest.raises(HTTPError, match="404"):
        agent.get("/")
    with pytest.raises(HTTPError, match="405"):
        urlopen(Request(f"http://{agent.address}/metrics", data=b"x"), timeout=targets.DEADLINE)
    host, port = agent.address.rsplit(":", 1)
    for request, status in (
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 20000, b"431"),
        (b"\x00\xff\r\n\r\n", b"400"),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", b"400"),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", b"200"),
        (b"HEAD /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=\x00\xff;q=x\r\n\r\n", b"200"),
    ):
        with socket.create_connection((host, int(port)), timeout=targets.DEADLINE) as client:
            client.sendall(request)
            answer = client.makefile("rb").read()
            assert answer.split(b" ")[1] == status
            assert request[:4] != b"HEAD" or answer.endswith(b"\r\n\r\n")
    silent = [socket.create_connection((host, int(port)), timeout=targets.DEADLINE) for _ in range(100)]
    for number, client in enumerate(silent):
        client.sendall(b"GET /metr"[: number % 9])
    bodies: list[bytes] = []
    scrapers = [threading.Thread(target=lambda: bodies.append(agent.get("/metrics"))) for _ in range(8)]
    for scraper in scrapers:
        scraper.start()
    for scraper in scrapers:
        scraper.join()
    assert len(bodies) == 8 and all(b"pyebpf_build_info" in body for body in bodies)
    for client in silent:
        client.close()


@pytest.mark.usefixtures("linux_own_levels", "perfmon_is_enough")
@pytest.mark.parametrize("hardened", [False, pytest.param(True, marks=WITH_MDWE)], ids=["capabilities", "and-mdwe"])
def test_without_root(start: Callable[..., Agent], tmp_path: Path, hardened: bool) -> None:
    """As nobody, with the capabilities of examples/agent/pyebpf-export.service, and nothing executable made."""
    path = tmp_path / "prog"
    install(OLD, path)
    tmp_path.chmod(0o755)
    prefix = [
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
        f"--inh-caps=-all,{CAPABILITIES}", f"--ambient-caps=-all,{CAPABILITIES}", f"--bounding-set=-all,{CAPABILITIES}",
        sys.executable, *(("-c", HARDENED) if hardened else ("-m", "pyebpf")),
    ]  # fmt: skip
    agent = start(
        count(path)
        + count("", f'process = {{ exe = "{path}" }}', name="exe", tool="latency")
        + '[[trace]]\nname = "opens"\ntool = "opensnoop"\nlabels = ["comm"]\n',
        prefix=tuple(prefix),
    )
    agent.until("hot", state="attached")
    agent.until("opens", state="attached")
    with running(path, 997) as target:
        agent.until("exe", state="attached", pids=[target.pid])
        target.go()
        assert agent.calls("hot") == 997
        assert agent.metric("pyebpf_call_duration_seconds_count", trace="exe") == 997
        targets.until(lambda: agent.metric("pyebpf_events_total", trace="opens", comm="prog"), "its opens")
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    assert "Uid:\t65534\t65534" in status and "NoNewPrivs:\t1" in status
    agent.end()


@pytest.mark.usefixtures("linux_own_levels", "perfmon_is_enough")
def test_with_two_capabilities(start: Callable[..., Agent], tmp_path: Path) -> None:
    """As nobody with CAP_BPF and CAP_PERFMON: programs that everybody may read are traced; the others say why not."""
    tmp_path.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="pyebpf-open-") as name:
        path = Path(name) / "prog"
        path.parent.chmod(0o755)
        install(OLD, path)
        config = count(path) + count(path, name="times", tool="latency")
        config += count(path, 'process = { comm = "prog" }', name="selected")
        words = unprivileged.command(("CAP_BPF", "CAP_PERFMON"), sys.executable, "-m", "pyebpf", read=[tmp_path])
        agent = start(config, prefix=words)
        agent.until("hot", state="attached")
        agent.until("times", state="attached")
        with running(path, 997) as target:
            assert agent.logged(f"process {target.pid}.*CAP_SYS_PTRACE")["trace"] == "selected"
            target.go()
        assert agent.calls("hot") == 997
        assert agent.metric("pyebpf_call_duration_seconds_count", trace="times") == 997
        agent.end()
