# SPDX-License-Identifier: BSD-2-Clause
"""sslsniff, gethostlatency, bashreadline and threadsnoop on real programs: what they tell is what those did."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import targets
import tracing
from containers import container
from shells import Shell

import pyebpf
from pyebpf.errors import TargetError, TargetNotFound
from pyebpf.tools.text import Cut

LIBSSL = "/usr/lib/x86_64-linux-gnu/libssl.so.3" if os.uname().machine == "x86_64" else "libssl.so.3"
PYTHON_TLS = Path(targets.PROGRAMS, "tls.py")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a key and a certificate for it."""
    folder = tmp_path_factory.mktemp("certificate")
    key, own = folder / "key.pem", folder / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(own)], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + own.read_text())
    return str(both)


def worked(target: targets.Target, session: Any) -> tuple[dict[str, Any], list[Any]]:
    """Lets the target work while what it does is read; returns its truth, and the events of it."""
    with ThreadPoolExecutor(1) as pool:
        truth = pool.submit(target.go)
        events = []
        while not truth.done():
            events += session.read(0.05)
        events += session.drain()
        return truth.result(), [event for event in events if event.pid == target.pid]


def of_truth(truth: dict[str, Any]) -> Counter[tuple[bool, int, str]]:
    return Counter((one["wrote"], one["size"], one["sum"]) for one in truth["data"])


def of_events(events: Sequence[Any]) -> Counter[tuple[bool, int, str]]:
    assert not any(event.data is None or isinstance(event.data, Cut) for event in events)
    return Counter((e.function == "WRITE/SEND", e.size, hashlib.sha256(e.data).hexdigest()) for e in events)


class Interpreted(targets.Target):
    """A program that an interpreter runs."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        super().__init__(Path(command[0]), command[1:], env)


@contextmanager
def running(*command: str, env: dict[str, str] | None = None) -> Iterator[targets.Target]:
    target = Interpreted(*command, env=env)
    try:
        yield target
    finally:
        target.kill() if target.alive() else None


# -- sslsniff


@pytest.mark.parametrize("messages, most", [(23, 997), (23, 10007), (997, 50)])
def test_openssl_bytes_are_equal(certificate: str, messages: int, most: int) -> None:
    with running(sys.executable, str(PYTHON_TLS), certificate, str(messages), str(most)) as target:
        with pyebpf.sslsniff(pid=target.pid) as session:
            truth, events = worked(target, session)
            assert of_events(events) == of_truth(truth)
            assert not any(session.losses), session.losses


def test_openssl_on_every_rung(certificate: str, rung: str) -> None:
    with running(sys.executable, str(PYTHON_TLS), certificate, "23", "997") as target:
        with pyebpf.sslsniff(pid=target.pid) as session:
            truth = target.go()
            events = list(session.drain())
    assert of_events(events) == of_truth(truth)
    assert {(e.pid, e.uid) for e in events} == {(target.pid, os.getuid())}
    assert {e.called for e in events} <= {"SSL_read_ex", "SSL_write_ex", "SSL_read", "SSL_write"}
    assert all(e.latency > 0 for e in events) and len({e.tid for e in events}) == 2


def test_more_than_is_kept_is_cut_with_its_size(certificate: str) -> None:
    with running(sys.executable, str(PYTHON_TLS), certificate, "3", "9000") as target:
        with pyebpf.sslsniff(pid=target.pid, max_size=100) as session:
            truth = target.go()
            events = list(session.drain())
    assert Counter(e.size for e in events) == Counter(one["size"] for one in truth["data"])
    for event in events:
        assert isinstance(event.data, Cut) == (event.size > 100) and len(event.data) == min(event.size, 100)


def test_a_large_write_is_whole_when_asked_for(certificate: str) -> None:
    with running(sys.executable, str(PYTHON_TLS), certificate, "3", "900001") as target:
        with pyebpf.sslsniff(pid=target.pid, max_size=1 << 20) as session:
            truth, events = worked(target, session)
    assert max(e.size for e in events) > 500_000
    assert of_events(events) == of_truth(truth)


def test_another_copy_of_the_library_is_seen(certificate: str, tmp_path: Path) -> None:
    copy = tmp_path / "libssl.so.3"
    shutil.copy(LIBSSL, copy)
    program = "import ssl; " + f"exec(compile(open({str(PYTHON_TLS)!r}).read(), 'tls.py', 'exec'))"
    command = [sys.executable, "-c", program, certificate, "3", "997"]
    with running(*command, env={"LD_LIBRARY_PATH": str(tmp_path)}) as target:
        assert str(copy) in Path(f"/proc/{target.pid}/maps").read_text()
        with pyebpf.sslsniff() as session:
            assert any(str(copy) in note for note in session.notes), session.notes
            truth = target.go()
            events = [event for event in session.drain() if event.pid == target.pid]
    assert of_events(events) == of_truth(truth)
    assert {event.library for event in events} == {str(copy)}


def test_handshakes(certificate: str) -> None:
    """Whether or not their return can be seen, there is one each for the client and the server."""
    with running(sys.executable, str(PYTHON_TLS), certificate, "1") as target:
        with pyebpf.sslsniff(pid=target.pid, handshake=True) as session:
            target.go()
            events = [event for event in session.drain() if event.function == "HANDSHAKE"]
    assert len({event.tid for event in events}) == 2 and {event.size for event in events} == {0}


def test_the_warning_comes_first_and_data_are_safe_on_a_terminal(certificate: str) -> None:
    command = f"{sys.executable} {PYTHON_TLS} {certificate} 3 997"
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "sslsniff", "--command", command, "-x", "-l"],
        input=b"\n", capture_output=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr.startswith(b"WARNING: this shows secrets"), done.stderr
    lines = [line for line in done.stdout.decode().split("\n") if not line.startswith('{"')]
    assert lines[0].split() == ["FUNC", "TIME(s)", "COMM", "PID", "LEN", "UID", "TID", "LAT(ms)"]
    assert lines.count("----- DATA -----") == lines.count("----- END DATA -----") >= 6
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\n".join(lines))


def test_json_holds_every_byte(certificate: str) -> None:
    command = f"{sys.executable} {PYTHON_TLS} {certificate} 5 997"
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "sslsniff", "--json", "--command", command],
        input=b"\n", capture_output=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    records = [json.loads(line) for line in done.stdout.splitlines()]
    truth = next(json.loads(line) for line in done.stderr.splitlines() if line.startswith(b'{"program"'))
    seen: Counter[tuple[bool, int, str]] = Counter()
    for record in records:
        if record["type"] == "tls":
            data = record["data"].encode() if record["data_hex"] is None else bytes.fromhex(record["data_hex"])
            seen[record["function"] == "WRITE/SEND", record["size"], hashlib.sha256(data).hexdigest()] += 1
    assert seen == of_truth(truth)


@contextmanager
def https_server(certificate: str, body: bytes) -> Iterator[int]:
    """A port on which every request is answered with this body."""
    import http.server
    import ssl
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BODY = bytes(range(256)) * 197 + b"the end"


@pytest.mark.parametrize("program, library", [
    (("wget", "-q", "--no-check-certificate", "-O", "-"), "libgnutls"),
    (("curl", "-s", "-k"), "libssl"),
])  # fmt: skip
def test_downloads(certificate: str, program: tuple[str, ...], library: str) -> None:
    """wget uses GnuTLS on Debian, curl OpenSSL. We, the server, are not shown."""
    with https_server(certificate, BODY) as port, pyebpf.sslsniff() as session:
        command = [*program, f"https://127.0.0.1:{port}/a/path"]
        got = subprocess.run(command, capture_output=True, timeout=targets.DEADLINE)
        events = list(session.drain())
    assert got.stdout == BODY, got.stderr
    events = [event for event in events if event.comm == program[0].encode()]
    assert all(library in event.library for event in events)
    sent = b"".join(event.data for event in events if event.function == "WRITE/SEND")
    received = b"".join(event.data for event in events if event.function == "READ/RECV")
    assert sent.startswith(b"GET /a/path HTTP/1.1\r\n")
    assert received.startswith(b"HTTP/1.") and received.endswith(BODY)


def test_openssl_of_its_own_in_a_program(certificate: str) -> None:
    """node was linked with its OpenSSL."""
    script = (
        "console.log(JSON.stringify({pid: process.pid}));"
        "process.stdin.once('data', () => require('https').get({host: '127.0.0.1', port: +process.argv[1],"
        " path: '/node', rejectUnauthorized: false}, r => { let n = 0; r.on('data', d => n += d.length);"
        " r.on('end', () => { console.log(JSON.stringify({got: n})); process.exit(0); }); }));"
    )
    with https_server(certificate, BODY) as port, running("/usr/bin/node", "-e", script, str(port)) as target:
        with pyebpf.sslsniff(no_gnutls=True) as session:
            assert target.go()["got"] == len(BODY)
            events = [event for event in session.drain() if event.pid == target.pid]
    assert {event.library for event in events} == {os.path.realpath("/usr/bin/node")}
    assert b"".join(e.data for e in events if e.function == "WRITE/SEND").startswith(b"GET /node HTTP/1.1\r\n")
    assert b"".join(e.data for e in events if e.function == "READ/RECV").endswith(BODY)


def test_the_openssl_command(certificate: str) -> None:
    server = subprocess.Popen(
        ["openssl", "s_server", "-cert", certificate, "-key", certificate, "-accept", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None and server.stdin is not None
    try:
        port = next(line.rpartition(b":")[2] for line in server.stdout if line.startswith(b"ACCEPT ")).strip().decode()
        with pyebpf.sslsniff(no_gnutls=True) as session:
            client = subprocess.Popen(
                ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(b"a secret\n")
            client.stdin.flush()
            assert b"a secret\n" in server.stdout
            server.stdin.write(b"an answer\n")
            server.stdin.flush()
            assert client.stdout.readline() == b"an answer\n"
            client.kill()
            client.communicate()
            events = list(session.drain())
    finally:
        server.kill()
        server.communicate()
    seen = {(event.pid, event.function, event.data) for event in events}
    assert {
        (client.pid, "WRITE/SEND", b"a secret\n"), (server.pid, "READ/RECV", b"a secret\n"),
        (server.pid, "WRITE/SEND", b"an answer\n"), (client.pid, "READ/RECV", b"an answer\n"),
    } <= seen  # fmt: skip
    ours = [event for event in events if event.pid in (client.pid, server.pid)]
    assert {event.called for event in ours} == {"SSL_read", "SSL_write"}


@pytest.mark.parametrize("version", ["1.15", "1.21", "local"])
@pytest.mark.parametrize("by", ["pid", "path"])
def test_go(version: str, by: str) -> None:
    program = targets.go_program("tls", version)
    with targets.run(program, "-n", "97", env={"GOGC": "1"}) as target:
        how: dict[str, Any] = {"pid": target.pid} if by == "pid" else {"extra_lib": [f"go:{program}"]}
        with pyebpf.sslsniff(**how) as session:
            truth, events = worked(target, session)
            losses = session.losses
    assert of_events(events) == of_truth(truth)
    assert not any(losses) and {e.called for e in events} == {"crypto/tls.(*Conn).Read", "crypto/tls.(*Conn).Write"}


def test_a_stripped_go_program() -> None:
    with targets.run(targets.go_program("tls", "local", "-ldflags=-s -w")) as target:
        with pyebpf.sslsniff(pid=target.pid) as session:
            truth, events = worked(target, session)
    assert of_events(events) == of_truth(truth)


def test_a_flood_is_counted(certificate: str) -> None:
    """Nobody reads, and there is more than the buffer holds: what isn't shown is said."""
    with running(sys.executable, str(PYTHON_TLS), certificate, "997", "10007") as target:
        with pyebpf.sslsniff(pid=target.pid, max_size=16384) as session:
            truth = target.go()
            shown = len(list(session.drain()))
            assert session.losses.dropped > 0 and shown + session.losses.dropped == len(truth["data"])


def test_a_program_that_lies() -> None:
    """About sizes and addresses: what can't be read is said, and counted."""
    program = targets.compiled("liar.c")
    with targets.run(program, "23") as target:
        with pyebpf.sslsniff(extra_lib=[f"openssl:{program}"], no_gnutls=True) as session:
            truth, events = worked(target, session)
            losses = session.losses
    assert truth["program"] == "liar"
    assert [(event.called, event.size, event.data) for event in events] == 23 * [
        ("SSL_read", 0x7FFFFFFF, None), ("SSL_write", 14, b"\x1b]0;owned\x07\xc2\x9b \xff"),
    ]  # fmt: skip
    assert losses.unread == 46 and losses.dropped == losses.untracked == 0


def test_what_has_no_tls() -> None:
    with targets.run(targets.compiled("threads.c"), "1") as target:
        with pytest.raises(TargetNotFound, match=r"has no OpenSSL, GnuTLS or Go's crypto/tls"):
            pyebpf.sslsniff(pid=target.pid)
    with pytest.raises(TargetNotFound, match="no such file"):
        pyebpf.sslsniff(extra_lib=["openssl:/no/such/libssl.so.3"])
    with pytest.raises(TargetNotFound, match="/bin/true has no OpenSSL"):  # though others have
        pyebpf.sslsniff(extra_lib=["openssl:/bin/true"])
    with pytest.raises(TargetError, match="is no library"):
        pyebpf.sslsniff(extra_lib=["nss:/x"])
    with pytest.raises(TargetError, match="can't be kept"):
        pyebpf.sslsniff(max_size=(1 << 20) + 1)
    assert targets.own_bpf() == []


# -- gethostlatency


@pytest.mark.parametrize("function", [
    "getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r", "gethostbyname2_r",
])  # fmt: skip
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "no such name!"])
def test_every_lookup_once(function: str, name: str) -> None:
    with targets.run(targets.compiled("lookups.c"), function, "23", name) as target:
        with pyebpf.gethostlatency(pid=target.pid) as session:
            truth = target.go()
            events = list(session.drain())
            assert not any(session.losses)
    assert {(e.function, e.host, e.comm) for e in events} == {(function, name.encode(), b"lookups")}
    assert len(events) == truth["calls"][function] == 23
    assert sum(event.error is not None for event in events) == truth["failed"] == (23 if " " in name else 0)
    assert 0 < sum(event.latency for event in events) <= truth["ns"][function]
    if function == "getaddrinfo" and truth["failed"]:
        assert {event.error for event in events} == {"EAI_NONAME"}


@pytest.mark.parametrize("version", ["1.15", "1.21", "local"])
@pytest.mark.parametrize("name", ["localhost", "no such name!", "x" * 200 + ".invalid", "x" * 300 + " no name"])
def test_lookups_of_go(version: str, name: str) -> None:
    """Its own resolver: of a name that could be one only from its hosts file, as nothing answers here."""
    with targets.run(targets.go_program("lookups", version), "-n", "23", name) as target:
        with pyebpf.gethostlatency(pid=target.pid) as session:
            truth = target.go()
            events = list(session.drain())
            assert not any(session.losses)
    assert Counter(event.function for event in events) == truth["calls"]
    assert {(event.host, isinstance(event.host, Cut)) for event in events} == {(name.encode()[:255], len(name) > 255)}
    assert sum(event.error is not None for event in events) == truth["failed"] == (0 if name == "localhost" else 46)


def test_lookups_on_every_rung(rung: str) -> None:
    with targets.run(targets.compiled("lookups.c"), "getaddrinfo", "997", "localhost") as target:
        with pyebpf.gethostlatency() as session:
            target.go()
            events = [event for event in session.drain() if event.pid == target.pid]
    assert len(events) == 997 and {event.host for event in events} == {b"localhost"}


def test_lookups_of_other_programs() -> None:
    with pyebpf.gethostlatency() as session:
        subprocess.run(["getent", "ahosts", "localhost"], check=True, capture_output=True)
        subprocess.run(["getent", "ahosts", "no such name!"], capture_output=True)
        code = "import socket; socket.getaddrinfo('127.0.0.2', 80); socket.getaddrinfo(None, 80)"
        with subprocess.Popen([sys.executable, "-c", code]) as python:
            assert python.wait(targets.DEADLINE) == 0
        events = list(session.drain())
    getent = [(event.host, event.error) for event in events if event.comm == b"getent"]
    assert getent == [(b"localhost", None), (b"no such name!", "EAI_NONAME")]
    assert [(event.host, event.comm[:6]) for event in events if event.pid == python.pid] == [(b"127.0.0.2", b"python")]


def test_a_long_and_hostile_name() -> None:
    name = "\x1b[31m" + "x" * 5000
    with targets.run(targets.compiled("lookups.c"), "getaddrinfo", "1", name) as target:
        with pyebpf.gethostlatency(pid=target.pid) as session:
            target.go()
            (event,) = session.drain()
    assert isinstance(event.host, Cut) and name.encode().startswith(event.host) and len(event.host) >= 4095


# -- threadsnoop


@pytest.mark.parametrize("count", [23, 997])
def test_threads(count: int) -> None:
    with targets.run(targets.compiled("threads.c"), str(count)) as target:
        with pyebpf.threadsnoop(pid=target.pid) as session:
            target.begin()
            truth = target.first_line()
            events = list(session.drain())
            assert not any(session.losses)
    assert Counter(event.function for event in events) == truth["calls"]
    assert [event.argument for event in events] == list(range(count))
    assert {(e.pid, e.tid, e.comm, e.offset, e.module) for e in events} == {
        (target.pid, target.pid, b"threads", 0, str(target.path))
    }


def test_threads_on_every_rung(rung: str) -> None:
    with targets.run(targets.compiled("threads.c"), "23") as target:
        with pyebpf.threadsnoop() as session:
            target.begin()
            target.first_line()
            events = [event for event in session.drain() if event.pid == target.pid]
    assert len(events) == 23 and {event.function for event in events} == {"first", "second"}


def test_threads_of_a_static_program() -> None:
    with targets.run(targets.compiled("threads.c", "-static"), "23") as target:
        with pyebpf.threadsnoop(pid=target.pid) as session:
            target.begin()
            target.first_line()
            assert Counter(event.function for event in session.drain()) == {"first": 16, "second": 7}


def test_threads_of_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "threadsnoop", "-c", f"{targets.compiled('threads.c')} 23", "-x"],
        input="", capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith("{")]
    assert done.returncode == 0 and lines[0] == ["TIME(ms)", "PID", "TID", "COMM", "MODULE", "FUNC"]
    assert len(lines) == 24 and all(line[3] == "threads" for line in lines[1:])


@pytest.mark.parametrize("by", ["pid", "everywhere"])
def test_threads_in_a_container(tmp_path: Path, by: str) -> None:
    """With a root, a C library, and process ids of its own."""
    with container(tmp_path, targets.compiled("threads.c"), "23") as (process, pid):
        with pyebpf.threadsnoop(**({"pid": pid} if by == "pid" else {})) as session:
            assert any("/app/libc" in note for note in session.notes), session.notes
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            events = [event for event in session.drain() if event.pid == pid]
    assert Counter(event.function for event in events) == {"first": 16, "second": 7}


# -- bashreadline


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as one:
        yield one


def test_commands_also_of_a_shell_that_waits_already(shell: Shell) -> None:
    lines = [b"true", "echo gr\u00fc\u00dfe >/dev/null".encode(), b"", b": " + b"x" * 900]
    with pyebpf.bashreadline(pid=shell.pid) as session:
        for line in lines:
            shell.type(line)
        events = list(session.drain())
        assert not any(session.losses)
    assert [event.command for event in events] == lines
    assert {(event.pid, event.comm) for event in events} == {(shell.pid, b"bash")}
    assert {event.file for event in events} == {os.path.realpath("/bin/bash")}


def test_commands_on_every_rung(shell: Shell, rung: str) -> None:
    with pyebpf.bashreadline() as session:
        for number in range(23):
            shell.type(b": %d" % number)
        events = [event for event in session.drain() if event.pid == shell.pid]
    assert [event.command for event in events] == [b": %d" % number for number in range(23)]


def test_a_command_with_control_characters_is_escaped(shell: Shell) -> None:
    with tracing.pyebpf("bashreadline", "-p", str(shell.pid), "-n", "2") as process:
        shell.type(b": \x16\x1b[31m red")  # ^V quotes the escape
        shell.type(b": " + b"y" * 1500)
        out, _ = process.communicate(timeout=targets.DEADLINE)
    lines = out.splitlines()
    assert lines[0].split() == ["TIME", "PID", "COMMAND"]
    assert lines[1].endswith(r": \x1b[31m red") and lines[2].endswith("y" * 1500)


@pytest.mark.parametrize("by", ["file", "pid"])
def test_a_shared_library(by: str) -> None:
    """Python's readline module isn't linked with it everywhere; this program is."""
    library = "/usr/lib/x86_64-linux-gnu/libreadline.so.8"
    code = f"import ctypes; r = ctypes.CDLL({library!r}).readline\nwhile True: r(b'READY> ')"
    with Shell(sys.executable, "-c", code) as one:
        with pyebpf.bashreadline(**({"pid": one.pid} if by == "pid" else {"shared": library})) as session:
            one.type(b"typed into python")
            assert [event.command for event in session.drain()] == [b"typed into python"]


def test_a_program_without_readline() -> None:
    with pytest.raises(TargetNotFound, match="readline"):
        pyebpf.bashreadline(shared="/bin/true")
    with pytest.raises(TargetNotFound, match="no such file"):
        pyebpf.bashreadline(shared="/no/such/bash")
