# SPDX-License-Identifier: BSD-2-Clause
"""Programs and libraries nobody here wrote, with and without debug information, asked for what they were given."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
import toolchains
import tracing

from pyebpf.tools.tcp.tcptracer import tcptracer

PYTHON = Path("/usr/bin/python3")
NODE = Path("/usr/bin/node")
RPCX = Path(__file__).resolve().parents[2] / "examples" / "rpcx"
CALLS = 7  # of the rpcx client


@contextlib.contextmanager
def script(interpreter: Path, text: str, *arguments: str) -> Iterator[targets.Target]:
    """A script that says that it is there, and waits for a line."""
    flag = "-c" if interpreter == PYTHON else "-e"
    with targets.run(interpreter, flag, text, *arguments) as target:
        yield target


def shown(calls: list[dict[str, Any]], *names: str, side: str = "args") -> list[tuple[Any, ...]]:
    return [tuple([call[side][name] for name in names]) for call in calls]


# --- net/http ---------------------------------------------------------------------------------------------------------

SERVE = "net/http.serverHandler.ServeHTTP"


@pytest.mark.parametrize("version", ("1.15", "1.19", "1.21", "1.24", "1.27"))
def test_http_requests(version: str) -> None:
    """Method, path and query of each request, through three pointers."""
    with targets.run(targets.go_program("web", version), "-n", "9") as target:
        calls, truth = tracing.trace(
            target, SERVE, ["req.Method", "req.URL.Path", "req.URL.RawQuery", "req.ContentLength", "sh.srv.Addr"],
            ["req.URL.Path"],
        )  # fmt: skip
    assert shown(calls, "req.Method", "req.URL.Path", "req.URL.RawQuery", "req.ContentLength", "sh.srv.Addr") == [
        (asked["method"], asked["path"], asked["query"], asked["body"], "the address") for asked in truth["requests"]
    ]
    assert shown(calls, "req.URL.Path", side="ret") == [(asked["path"],) for asked in truth["requests"]]
    assert all(call["goid"] > 0 and call["duration_ns"] > 0 for call in calls)


@pytest.mark.parametrize("version", ("1.15", "1.27"))
def test_http_requests_that_match(version: str) -> None:
    condition = 'req.Method == "POST" && startswith(req.URL.Path, "/orders/") && req.ContentLength > 10'
    with targets.run(targets.go_program("web", version), "-n", "9") as target:
        calls, truth = tracing.trace(target, SERVE, ["req.URL.Path"], [], "--filter", condition)
    wanted = [asked for asked in truth["requests"] if asked["method"] == "POST" and asked["body"] > 10]
    assert 0 < len(wanted) < 9
    assert shown(calls, "req.URL.Path") == [(asked["path"],) for asked in wanted]


# --- libraries of a running Python ------------------------------------------------------------------------------------

READY = """
import json, os, sqlite3, ssl, sys, zlib  # before it is traced, so that its libraries are there
print(json.dumps({"ready": "script", "pid": os.getpid()}), flush=True)
sys.stdin.readline()
"""


def library(
    target: targets.Target, function: str, entry: list[str], result: list[str], *options: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Traces a function of a library that the process has loaded."""
    returns = [word for expression in result for word in ("--ret", expression)]
    with tracing.pyebpf("trace", "--json", "-p", str(target.pid), *options, function, *entry, *returns) as process:
        truth = target.go()
        return tracing.records(tracing.end(process), "call"), truth


def test_zlib_checksums() -> None:
    """No debug information: words by position, and their types from the manual. It ends in a tail call."""
    text = READY + (
        'texts = ["one", "two words", "", "three"]\n'
        'print(json.dumps({"sums": [[text, zlib.crc32(text.encode(), 7)] for text in texts]}))\n'
    )
    with script(PYTHON, text) as target:
        words = ["arg0", "arg1:str", "arg2:u32"]
        calls, truth = library(target, "z:crc32", words, ["ret0:u32"], "--allow-uretprobe")
    assert shown(calls, "arg0", "arg1:str", "arg2:u32") == [(7, text, len(text)) for text, _ in truth["sums"]]
    assert shown(calls, "ret0:u32", side="ret") == [(checksum,) for _, checksum in truth["sums"]]


def test_zlib_streams() -> None:
    """Members of z_stream, by their offsets: avail_in is 8 bytes from its beginning."""
    text = READY + (
        "sizes = [10, 1000, 5000]\n"
        "for size in sizes: zlib.compress(bytes(size), 6)\n"
        'print(json.dumps({"sizes": sizes}))\n'
    )
    with script(PYTHON, text) as target:
        left = "*(u32)(arg0+8)"
        calls, truth = library(target, "z:deflate", [left, "flush=arg1:s32"], [left, "retval:s32"])
    assert shown(calls, left, "flush") == [(size, 4) for size in truth["sizes"]]  # Z_FINISH
    assert shown(calls, left, "retval:s32", side="ret") == [(0, 1)] * 3  # Z_STREAM_END


TLS = READY + """
def context(side, purpose):
    made = ssl.SSLContext(purpose)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if side:
        made.load_cert_chain(sys.argv[1])
    return made
up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
server = context(True, ssl.PROTOCOL_TLS_SERVER).wrap_bio(up, down, server_side=True)
client = context(False, ssl.PROTOCOL_TLS_CLIENT).wrap_bio(down, up)
for side in (client, server, client, server):
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        pass
messages = [f"message number {number}" for number in range(5)]
for message in messages:
    client.write(message.encode())
    assert server.read(100) == message.encode()
print(json.dumps({"messages": messages}))
"""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-subj", "/CN=localhost", "-keyout", str(path), "-out", f"{path}.crt"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_openssl_in_the_clear(certificate: Path) -> None:
    """What is sent through TLS, before it is encrypted, and what arrives, after it is decrypted."""
    with script(PYTHON, TLS, str(certificate)) as target:
        calls, truth = library(target, "ssl:SSL_write_ex", ["arg1:str", "arg2"], ["retval:s32"])
    assert shown(calls, "arg1:str", "arg2") == [(message, len(message)) for message in truth["messages"]]
    assert shown(calls, "retval:s32", side="ret") == [(1,)] * 5
    with script(PYTHON, TLS, str(certificate)) as target:
        calls, truth = library(target, "ssl:SSL_read_ex", [], ["arg1:bytes(16)"])
    assert [call["ret"]["arg1:bytes(16)"] for call in calls] == [message[:16] for message in truth["messages"]]


# --- sqlite -----------------------------------------------------------------------------------------------------------

SQL = ["CREATE TABLE prices (name TEXT, price INT)", "INSERT INTO prices VALUES (?, ?)",
       "SELECT * FROM prices WHERE price > 5", "SELECT count(*) FROM prices"]  # fmt: skip


def test_sql_of_a_python() -> None:
    text = READY + (
        'base = sqlite3.connect(":memory:", isolation_level=None)\n'
        f"statements = {SQL!r}\n"
        'for sql in statements: base.execute(sql, ("bread", 7) if "?" in sql else ())\n'
        'print(json.dumps({"sql": statements}))\n'
    )
    with script(PYTHON, text) as target:
        calls, truth = library(target, "sqlite3:sqlite3_prepare_v2", ["arg1:str", "arg2:s32"], ["retval:s32"])
    asked = [sql for (sql,) in shown(calls, "arg1:str") if "sqlite_master" not in str(sql)]  # what sqlite asks itself
    assert asked == truth["sql"] == SQL
    assert set(shown(calls, "retval:s32", side="ret")) == {(0,)}  # SQLITE_OK


def test_sql_of_the_command(tmp_path: Path) -> None:
    """Traced from its first instruction."""
    command = f"sqlite3 {tmp_path}/base 'CREATE TABLE t (a INT)' 'SELECT * FROM t WHERE a > 3'"
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "trace", "--json", "-c", command, "sqlite3:sqlite3_prepare_v2",
         "sql=arg1:str"],
        capture_output=True, text=True, timeout=targets.DEADLINE, check=True,
    )  # fmt: skip
    seen = [call["args"]["sql"] for call in tracing.records(done.stdout, "call")]
    assert [sql for sql in seen if " t " in sql] == ["CREATE TABLE t (a INT)", "SELECT * FROM t WHERE a > 3"]


# --- node -------------------------------------------------------------------------------------------------------------

def test_node_methods() -> None:
    """C++ without debug information: arg0 is `this`."""
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "trace", "--json", "-c", f"{NODE} -e 'process.exit(7)'",
         f"{NODE}:node::Environment::Exit", "arg0:ptr", "code=arg1:s32"],
        capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    (call,) = tracing.records(done.stdout, "call")
    assert call["args"]["code"] == 7 and call["args"]["arg0:ptr"] > 0, done.stderr


def test_node_opens_files() -> None:
    text = (
        'const fs = require("fs");\n'
        'console.log(JSON.stringify({ready: "script", pid: process.pid}));\n'
        "fs.readSync(0, Buffer.alloc(10));\n"
        'const paths = ["/etc/passwd", "/etc/hostname", "/nonexistent/file"];\n'
        "for (const path of paths) try { fs.closeSync(fs.openSync(path)); } catch {}\n"
        "console.log(JSON.stringify({paths}));\n"
    )
    with script(NODE, text) as target:
        calls, truth = tracing.trace(target, "uv_fs_open", ["arg2:str", "arg3:s32"], ["retval:s32"])
    assert shown(calls, "arg2:str", "arg3:s32")[-3:] == [(path, os.O_RDONLY) for path in truth["paths"]]
    results = [result for (result,) in shown(calls, "retval:s32", side="ret")][-3:]
    assert results[0] > 0 and results[1] > 0 and results[2] == -2  # UV_ENOENT


# --- rpcx -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=["local", "1.15"])
def rpcx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(version of Go, folder): the server and client of the example, with the modules Go finds for itself."""
    go, folder = toolchains.go(request.param), tmp_path_factory.mktemp("rpcx")
    environment = {**os.environ, "GO": str(go.path), "GOROOT": str(go.root), "OUT": str(folder)}
    subprocess.run([RPCX / "build"], env=environment, check=True, capture_output=True, timeout=targets.DEADLINE * 5)
    return request.param, folder


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[int, str]]:
    """A running server: its process number and address."""
    address = free_address()
    with subprocess.Popen(
        [folder / "server", "-addr", address],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + targets.DEADLINE
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    host, port = address.split(":")
                    socket.create_connection((host, int(port)), timeout=1).close()
                    break
                assert process.poll() is None and time.monotonic() < deadline
            yield process.pid, address
        finally:
            process.kill()


def ask(folder: Path, address: str) -> None:
    """The client's calls, each 10 * 20."""
    subprocess.run(
        [folder / "client", "-addr", address, "-interval", "1ms", "-n", str(CALLS)],
        check=True, capture_output=True, timeout=targets.DEADLINE,
    )  # fmt: skip


def calls_of(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    with server(folder) as (pid, address), tracing.pyebpf("trace", "--json", "-p", str(pid), *arguments) as process:
        ask(folder, address)
        return tracing.records(tracing.end(process), "call")


def test_rpcx_by_name(rpcx: tuple[str, Path]) -> None:
    _, folder = rpcx
    calls = calls_of(folder, f"{folder}/server:main.(*Arith).Mul", "args.A", "args.B", "--ret", "reply.C")
    assert [(call["args"], call["ret"]) for call in calls] == [({"args.A": 10, "args.B": 20}, {"reply.C": 200})] * CALLS


def test_rpcx_as_a_line(rpcx: tuple[str, Path]) -> None:
    _, folder = rpcx
    with server(folder) as (pid, address), tracing.pyebpf(
        "trace", "-p", str(pid), f"{folder}/server:main.(*Arith).Mul", "args.A", "args.B", "--ret", "reply.C"
    ) as process:
        ask(folder, address)
        lines = tracing.end(process).splitlines()
    pattern = r" *\d+ +\d+ +\d+ +server +main\.\(\*Arith\)\.Mul +args\.A=10 args\.B=20 -> reply\.C=200 \([\d.]+.s\)"
    assert len([line for line in lines if re.fullmatch(pattern, line)]) == CALLS, lines


def test_rpcx_connections(rpcx: tuple[str, Path]) -> None:
    """Made by the client, accepted by the server, closed by both."""
    _, folder = rpcx
    with server(folder) as (pid, address), tcptracer() as session:
        with subprocess.Popen(
            [folder / "client", "-addr", address, "-interval", "1ms", "-n", str(CALLS)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as client:  # fmt: skip
            port, events = int(address.split(":")[1]), []
            for event in session.read(targets.DEADLINE):
                events += [event] if port in (event.sport, event.dport) else []
                if len(events) == 4:
                    break
    assert [(event.what, event.pid, event.comm) for event in events if event.dport == port] == [
        ("C", client.pid, b"client"), ("X", client.pid, b"client"),
    ]  # fmt: skip
    assert [(event.what, event.pid, event.comm) for event in events if event.sport == port] == [
        ("A", pid, b"server"), ("X", pid, b"server"),
    ]  # fmt: skip


def test_rpcx_by_position(rpcx: tuple[str, Path]) -> None:
    """The receiver is a word, the context two, A and B the next; with Go 1.15 on the stack."""
    version, folder = rpcx
    words = ("sarg3", "sarg4", "sarg5") if version == "1.15" else ("arg3", "arg4", "arg5")
    calls = calls_of(folder, f"{folder}/server:main.*.Mul", *words[:2], "--ret", f"*(s64)({words[2]})")
    assert shown(calls, *words[:2]) == [(10, 20)] * CALLS
    assert [list(call["ret"].values()) for call in calls] == [[200]] * CALLS


def test_rpcx_at_an_offset(rpcx: tuple[str, Path]) -> None:
    """Where the reply is boxed to be printed: it is the callee's first argument."""
    version, folder = rpcx
    listing = subprocess.run(
        ["objdump", "-d", "--disassemble=main.(*Arith).Mul", folder / "server"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    start = re.search(r"^([0-9a-f]+) <main\.\(\*Arith\)\.Mul>:", listing, re.M)
    boxed = re.search(r"^ *([0-9a-f]+):.*call.*<runtime\.convT64>", listing, re.M)
    assert start and boxed, listing
    offset = int(boxed[1], 16) - int(start[1], 16)
    word = '*(s64)(reg("sp"))' if version == "1.15" else "arg0"
    calls = calls_of(folder, f"{folder}/server:main.(*Arith).Mul+{offset}", word)
    assert shown(calls, word) == [(200,)] * CALLS
    if version != "1.15":
        calls = calls_of(folder, f"{folder}/server:main.(*Arith).Mul+{offset:#x}", 'reg("ax")')
        assert shown(calls, 'reg("ax")') == [(200,)] * CALLS


def test_rpcx_of_a_program_without_names(tmp_path: Path) -> None:
    """Stripped: by position; by name it says what works."""
    environment = {**os.environ, "OUT": str(tmp_path)}
    subprocess.run([RPCX / "build", "-ldflags=-s -w"], env=environment, check=True, capture_output=True)
    results = ["--ret", "*(s64)(arg5)", "--ret", "ret0:error"]
    calls = calls_of(tmp_path, f"{tmp_path}/server:main.*.Mul", "arg3", "arg4", *results)
    assert shown(calls, "arg3", "arg4") == [(10, 20)] * CALLS
    assert shown(calls, "*(s64)(arg5)", "ret0:error", side="ret") == [(200, None)] * CALLS
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", "trace", f"{tmp_path}/server:main.*.Mul", "args.A"],
        capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip
    assert done.returncode != 0 and "arg0" in done.stderr and "debug information" in done.stderr


# --- who calls them ---------------------------------------------------------------------------------------------------


def stacks_of(out: str) -> dict[tuple[str, ...], int]:
    """Folded stacks, read as flamegraph.pl and speedscope do: frames, outermost first -> calls."""
    found: dict[tuple[str, ...], int] = {}
    for line in out.splitlines():
        match = re.fullmatch(r"(.*)\s+?(\d+(?:\.\d*)?)", line)
        assert match, line
        frames = tuple(match[1].split(";"))
        assert all(frames) and frames not in found, line
        found[frames] = int(match[2])
    return found


@pytest.mark.parametrize("version", ("1.15", "1.19", "1.21", "1.24", "1.27"))
def test_who_serves_http(version: str) -> None:
    program = targets.go_program("web", version)
    with targets.run(program, "-n", "37") as target:
        with tracing.pyebpf("stackcount", "-f", "-p", str(target.pid), f"{program}:{SERVE}") as process:
            target.go()
            found = stacks_of(tracing.end(process))
    assert sum(found.values()) == 37
    for frames in found:
        assert frames[:2] == ("web", "runtime.goexit"), frames
        assert frames[-2:] == ("net/http.(*conn).serve", SERVE), frames


def test_who_calls_the_service(rpcx: tuple[str, Path]) -> None:
    """Through reflection, assembly and goroutines."""
    _, folder = rpcx
    function = f"{folder}/server:main.(*Arith).Mul"
    with server(folder) as (pid, address), tracing.pyebpf("stackcount", "-f", "-p", str(pid), function) as process:
        ask(folder, address)
        found = stacks_of(tracing.end(process))
    assert sum(found.values()) == CALLS
    for frames in found:
        assert frames[:2] == ("server", "runtime.goexit") and frames[-1] == "main.(*Arith).Mul", frames
        assert {"reflect.Value.call", "github.com/smallnest/rpcx/server.(*service).call"} < set(frames), frames


def test_who_calls_zlib() -> None:
    text = READY + "for i in range(23): zlib.crc32(bytes(i))\nprint(json.dumps({}))\n"
    with script(PYTHON, text) as target:
        with tracing.pyebpf("stackcount", "-f", "-p", str(target.pid), "z:crc32") as process:
            target.go()
            found = stacks_of(tracing.end(process))
    assert sum(found.values()) == 23
    assert {(frames[0], frames[-1]) for frames in found} == {("python3", "crc32")}


# --- how their values are distributed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ("1.15", "1.27"))
def test_methods_of_http_requests(version: str) -> None:
    program = targets.go_program("web", version)
    with targets.run(program, "-n", "38") as target:
        with tracing.pyebpf("argdist", "-p", str(target.pid), f"{program}:{SERVE}", "-C", "req.Method") as process:
            truth = target.go()
            out = tracing.end(process)
    methods = [asked["method"] for asked in truth["requests"]]
    for method in set(methods):
        assert re.search(rf"^\s*{methods.count(method)}\s+req\.Method = \"{method}\"$", out, re.M), out


def test_sizes_that_zlib_is_given() -> None:
    """bcc's histogram: one row a power of two."""
    text = READY + "for i in range(64): zlib.crc32(bytes(i))\nprint(json.dumps({}))\n"
    with script(PYTHON, text) as target:
        with tracing.pyebpf("argdist", "-p", str(target.pid), "z:crc32", "-H", "arg2:u32") as process:
            target.go()
            out = tracing.end(process)
    rows = [(int(low), int(count)) for low, count in re.findall(r"^ +(\d+) -> \d+ +: (\d+)", out, re.M)]
    assert [count for _, count in rows] == [2, 2, 4, 8, 16, 32], out  # 0 and 1 in the first
