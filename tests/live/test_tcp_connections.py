# SPDX-License-Identifier: BSD-2-Clause
"""tcpconnect, tcpconnlat, tcpaccept and tcptracer against connections whose ends tell what they did."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
import tracing
import traffic

from pyebpf.errors import TargetError, TargetNotFound
from pyebpf.tools.events import EventSession, KernelEvents
from pyebpf.tools.scope import scope_of
from pyebpf.tools.tcp import tcptracer as tracer
from pyebpf.tools.tcp.tcpaccept import tcpaccept
from pyebpf.tools.tcp.tcpconnect import tcpconnect
from pyebpf.tools.tcp.tcpconnlat import tcpconnlat
from pyebpf.tools.tcp.tcptracer import tcptracer

HOSTS = (("127.0.0.1", ""), ("::1", ""), ("::", "::ffff:127.0.0.1"))  # where one listens, and where one connects to
MANY = 10_007


@pytest.fixture
def net() -> Iterator[traffic.Namespace]:
    with traffic.namespace() as made:
        yield made


def seen(session: EventSession[Any]) -> list[Any]:
    """All it saw: what is done by now has been told."""
    session.detach()
    events = list(session.drain())
    losses = session.losses
    session.close()
    assert not any(losses), losses
    return events


def on_wire(host: str) -> tuple[int, str]:
    """IP version and address as shown."""
    return (6, host) if ":" in host and "." not in host else (4, host.rpartition(":")[2])


# tcpconnect and tcpconnlat


@pytest.mark.parametrize("verb", [tcpconnect, tcpconnlat])
@pytest.mark.parametrize(("host", "to"), HOSTS)
@pytest.mark.parametrize("how", ["block", "poll"])
def test_connects(net: traffic.Namespace, verb: Any, host: str, to: str, how: str) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(host, only_v6=not to)
    with verb(netns=net.path) as session:
        ours = client.connect(listener.at(to or host), how)
        (event,) = seen(session)
    ip, address = on_wire(to or host)
    assert (event.pid, event.tid, event.uid, event.comm) == (client.pid, client.pid, 0, b"client")
    assert (event.ip, event.saddr, event.daddr) == (ip, address, address)
    assert (event.sport, event.dport) == (ours.local.port, listener.address.port)
    assert (event.errno, event.error, event.netns) == (0, None, net.inode)
    assert ours.reply["start"] <= event.time - event.latency < event.time <= ours.reply["end"]


@pytest.mark.parametrize("verb", [tcpconnect, tcpconnlat])
@pytest.mark.parametrize(("host", "to"), HOSTS)
@pytest.mark.parametrize("how", ["block", "poll"])
def test_refused(net: traffic.Namespace, verb: Any, host: str, to: str, how: str) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(host, only_v6=not to)
    listener.close()
    with verb(netns=net.path) as session:
        ours = client.connect(listener.at(to or host), how, fails=True)
        (event,) = seen(session)
    assert ours.errno == errno.ECONNREFUSED
    assert (event.pid, event.comm, event.errno, event.error) == (client.pid, b"client", ours.errno, "ECONNREFUSED")
    assert (event.ip, event.daddr) == on_wire(to or host)
    assert event.dport == listener.address.port and event.sport


@pytest.mark.parametrize("verb", [tcpconnect, tcpconnlat])
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_no_route(net: traffic.Namespace, verb: Any, host: str) -> None:
    client = net.actor("client")
    with verb(netns=net.path) as session:
        ours = client.connect((host, 80), fails=True)
        (event,) = seen(session)
    ip, address = on_wire(host)
    assert ours.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL)
    assert (event.pid, event.errno, event.error) == (client.pid, ours.errno, errno.errorcode[ours.errno])
    assert (event.ip, event.saddr, event.sport) == (ip, "::" if ip == 6 else "0.0.0.0", 0)
    assert (event.daddr, event.dport, event.netns) == (address, 80, net.inode)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_port_left(net: traffic.Namespace, host: str) -> None:
    """It fails after the socket has changed its state."""
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(host)
    net.run("sh", "-c", "echo 30011 30011 >/proc/sys/net/ipv4/ip_local_port_range")
    with tcpconnect(netns=net.path) as session:
        first = client.connect(listener)
        second = client.connect(listener, fails=True)
        events = seen(session)
    assert (first.local.port, second.errno) == (30011, errno.EADDRNOTAVAIL)
    assert [event.error for event in events] == [None, "EADDRNOTAVAIL"]
    assert [(event.daddr, event.dport) for event in events] == [listener.address] * 2


def test_no_answer() -> None:
    with traffic.wire() as (left, right):
        client = left.net.actor("client")
        right.lose()
        left.lose()
        with tcpconnect(netns=left.net.path) as session:
            waits = client.connect((right.v4, 80), options={"TCP_USER_TIMEOUT": 500}, fails=True)
            gives_up = client.connect((right.v6, 81), "start")
            gives_up.close()
            first, second = seen(session)
    assert waits.errno == errno.ETIMEDOUT
    assert (first.errno, first.error, first.dport) == (errno.ETIMEDOUT, "ETIMEDOUT", 80)
    assert 500_000_000 <= first.latency <= waits.reply["end"] - waits.reply["start"]
    assert (second.errno, second.error, second.ip, second.dport) == (None, None, 6, 81)


def test_only_slow_connects() -> None:
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        listener = server.listen(right.v4)
        with tcpconnlat(netns=left.net.path, min_ms=400) as session:
            client.connect(listener)
            left.lose()
            slow = client.connect((right.v4, 80), options={"TCP_USER_TIMEOUT": 500}, fails=True)
            (event,) = seen(session)
    assert (event.errno, event.dport) == (slow.errno, 80)
    assert event.latency >= 400_000_000


def test_an_attempt_is_told_once(net: traffic.Namespace) -> None:
    """Also when connect(2) is called again to ask how it went."""
    script = """
import errno, socket
with socket.socket() as listener, socket.socket() as closed:
    closed.bind(("127.0.0.1", 0))
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    for there in closed.getsockname(), listener.getsockname():
        with socket.socket() as client:
            client.setblocking(False)
            print(*[client.connect_ex(there) for _ in range(3)])
"""
    with tcpconnect(netns=net.path) as session:
        refused, made = net.run(sys.executable, "-c", script).splitlines()
        events = seen(session)
    assert made.split() == [str(errno.EINPROGRESS), "0", str(errno.EISCONN)]
    assert refused.split()[:2] == [str(errno.EINPROGRESS), str(errno.ECONNREFUSED)]
    # The third call to the closed port is an attempt of its own.
    assert [event.error for event in events] == ["ECONNREFUSED", "ECONNREFUSED", None]


def test_connecting_to_oneself(net: traffic.Namespace) -> None:
    script = """
import socket
with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    one.connect(one.getsockname())
    print(one.getsockname()[1])
"""
    with tcpconnect(netns=net.path) as session, tcptracer(netns=net.path) as other:
        port = int(net.run(sys.executable, "-c", script))
        (event,) = seen(session)
        lines = seen(other)
    assert (event.errno, event.sport, event.dport) == (0, port, port)
    assert [line.what for line in lines] == ["C", "X"]


def test_fast_open(net: traffic.Namespace) -> None:
    """Data goes with the SYN; connect(2) may never be called."""
    script = """
import socket
open("/proc/sys/net/ipv4/tcp_fastopen", "w").write("3")
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
listener.listen()
for step in range(3):
    client = socket.socket()
    if step < 2:
        client.sendto(b"hello", socket.MSG_FASTOPEN, listener.getsockname())
    else:
        client.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        client.connect(listener.getsockname())
        client.send(b"hello")
    server, _ = listener.accept()
    assert server.recv(5) == b"hello"
    print(server.getpeername()[1])
    client.close()
    server.close()
"""
    with tcpconnect(netns=net.path) as session, tcptracer(netns=net.path) as other, tcpaccept(netns=net.path) as third:
        ports = [int(line) for line in net.run(sys.executable, "-c", script).split()]
        events, lines, accepts = seen(session), seen(other), seen(third)
    assert [(event.errno, event.sport) for event in events] == [(0, port) for port in ports]
    assert [event.rport for event in accepts] == ports
    for port in ports:
        assert sorted((line.what, line.sport == port) for line in lines if port in (line.sport, line.dport)) == [
            ("A", False), ("C", True), ("X", False), ("X", True),
        ]  # fmt: skip


def test_a_thread_connects(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    tid = client.thread("worker")
    listener = server.listen()
    with tcpconnect(pid=client.pid) as session:
        client.connect(listener, who="worker")
        server.connect(listener)
        (event,) = seen(session)
    assert (event.pid, event.tid, event.comm) == (client.pid, tid, b"worker")


def test_filters_of_connects(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    here, there = server.listen("127.0.0.1"), server.listen("::1")
    for filters, ports in (
        ({"remote_ports": [here.address.port]}, [here.address.port]),
        ({"remote_ports": [here.address.port, there.address.port]}, [here.address.port, there.address.port, 1]),
        ({"family": 4}, [here.address.port, 1]),
        ({"family": 6}, [there.address.port]),
        ({"uid": 997}, []),
        ({"pid": [client.pid, server.pid]}, [here.address.port, there.address.port, 1]),
        ({"pid": server.pid}, []),
    ):
        with tcpconnect(netns=net.path, **filters) as session:  # type: ignore[arg-type]
            client.connect(here)
            client.connect(there)
            client.connect(("127.0.0.1", 1), fails=True)
            wanted = [port for port in ports if port != 1 or "remote_ports" not in filters]
            assert [event.dport for event in seen(session)] == wanted, filters
    with tcpconnect() as everywhere, tcpconnect(netns="/proc/self/ns/net") as elsewhere:
        client.connect(here)
        assert client.pid not in [event.pid for event in seen(elsewhere)]
        assert client.pid in [event.pid for event in seen(everywhere)]


def test_arguments_that_make_no_sense() -> None:
    for keywords in ({"family": 5}, {"remote_ports": [0]}, {"netns": "/etc/passwd"}, {"cgroup": "/etc"}):
        with pytest.raises(TargetError):
            tcpconnect(**keywords)  # type: ignore[arg-type]
    for keywords in ({"pid": 4194304}, {"netns": "/nowhere"}, {"cgroup": "/nowhere"}):
        with pytest.raises(TargetNotFound):
            tcpconnect(**keywords)  # type: ignore[arg-type]
    for milliseconds in (-1.0, 1e12, float("nan")):
        with pytest.raises(TargetError):
            tcpconnlat(min_ms=milliseconds)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@tracing.again_if_skipped
def test_many_connections_are_all_shown_or_counted(net: traffic.Namespace, host: str) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(host)
    with tcpconnect(netns=net.path) as connects, tcpaccept(netns=net.path) as accepts:
        serving = server.serve(listener, MANY)
        bursting = client.burst(listener, MANY, reset=True)
        found: dict[str, list[Any]] = {"connects": [], "accepts": []}
        while sum(map(len, found.values())) + connects.losses.dropped + accepts.losses.dropped < 2 * MANY:
            found["connects"] += connects.read(0.01)
            found["accepts"] += accepts.read(0.01)
        truth, served = bursting.result(), serving.result()
        found["connects"] += seen(connects)
        found["accepts"] += seen(accepts)
    assert truth["made"] == served["made"] == MANY
    assert [event.sport for event in found["connects"]] == truth["ports"]
    assert [event.rport for event in found["accepts"]] == served["ports"]


_NAME_SERVER = """
import os, socket, struct, sys
served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
served.bind(("127.0.0.53", 53))
listener = socket.create_server(("127.0.0.1", 0))
def ask(how, name, size):
    query = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0)
    query += b"".join(bytes([len(part)]) + part for part in name.split(b".")) + b"\\0" + struct.pack("!HH", 1, 1)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if how == "unconnected":
        client.sendto(query, ("127.0.0.53", 53))
    else:
        client.connect(("127.0.0.53", 53))
        client.send(query)
    query, sender = served.recvfrom(4096)
    answer = query[:2] + struct.pack("!5H", 0x8180, 1, 2, 0, 0) + query[12:]
    answer += b"\\xc0\\x0c" + struct.pack("!HHIH", 16, 1, 60, size) + bytes(size)  # a long text before it
    answer += b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
    served.sendto(answer, sender)
    if how == "read":
        os.read(client.fileno(), 4096)
    elif how == "recvmsg":
        client.recvmsg(4096)
    else:
        client.recvfrom(4096)
    socket.create_connection(listener.getsockname())
for how in "recv", "read", "recvmsg", "unconnected":
    for size in 23, 997:
        ask(how, f"{how}-{size}.example.org".encode(), size)
ask("recv", b"\\x1b[31m\\n.example.org", 0)
"""


def test_names(net: traffic.Namespace) -> None:
    expected = [f"{how}-{size}.example.org".encode() for how in ("recv", "read", "recvmsg", "unconnected")
                for size in (23, 997)]  # fmt: skip
    with tcpconnect(netns=net.path, dns=True) as session:
        net.run(sys.executable, "-c", _NAME_SERVER)
        events = seen(session)
    assert [event.query for event in events] == [*expected, b"\x1b[31m\n.example.org"]
    with tracing.pyebpf("tcpconnect", "--dns", "--netns", net.path) as process:
        net.run(sys.executable, "-c", _NAME_SERVER)
        lines = tracing.end(process).splitlines()
    assert lines[0].split()[-1] == "QUERY"
    assert lines[1].split()[-1] == "recv-23.example.org"
    assert lines[-1].endswith(r"\x1b[31m\x0a.example.org")


def test_counts(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    v4, v6 = server.listen("127.0.0.1"), server.listen("::1")
    for arguments in ([], ["--json"]):
        with tracing.pyebpf("tcpconnect", "-c", "--netns", net.path, *arguments) as process:
            for _ in range(23):
                client.connect(v4)
            for _ in range(7):
                client.connect(v6)
            client.connect(("127.0.0.1", 1), fails=True)
            out = tracing.end(process)
        if arguments:
            (record,) = tracing.records(out, "connects")
            rows = [[str(row[name]) for name in ("saddr", "daddr", "dport", "count")] for row in record["connects"]]
        else:
            assert out.split("\n")[1].split() == ["LADDR", "RADDR", "RPORT", "CONNECTS"]
            rows = [line.split() for line in out.split("\n")[2:] if line]
        assert rows == [
            ["127.0.0.1", "127.0.0.1", str(v4.address.port), "23"], ["::1", "::1", str(v6.address.port), "7"],
        ]  # fmt: skip


def test_lines(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    with tracing.pyebpf("tcpconnect", "-UL", "-p", str(client.pid)) as process:
        ours = client.connect(listener)
        client.connect(("127.0.0.1", 1), fails=True)
        head, made, refused = tracing.end(process).splitlines()
    assert head.split() == ["UID", "PID", "COMM", "IP", "SADDR", "LPORT", "DADDR", "DPORT", "ERR"]
    here = ["0", str(client.pid), "client", "4", "127.0.0.1"]
    assert made.split() == [*here, str(ours.local.port), "127.0.0.1", str(listener.address.port), "0"]
    assert refused.split()[:5] == here and refused.split()[6:] == ["127.0.0.1", "1", "ECONNREFUSED"]
    with tracing.pyebpf("tcpconnlat", "0.000001", "--json", "-p", str(client.pid)) as process:
        ours = client.connect(listener)
        (record,) = tracing.records(tracing.end(process), "connect")
    assert (record["sport"], record["errno"], record["error"]) == (ours.local.port, 0, None)
    assert 0 < record["latency_ns"] <= ours.reply["end"] - ours.reply["start"]


# tcpaccept


@pytest.mark.parametrize(("host", "to"), HOSTS)
@pytest.mark.parametrize("how", ["accept", "accept4", "poll"])
def test_accepts(net: traffic.Namespace, host: str, to: str, how: str) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(host, only_v6=not to)
    with tcpaccept(netns=net.path) as session:
        ours = client.connect(listener.at(to or host))
        theirs = server.accept(listener, how)
        (event,) = seen(session)
    ip, address = on_wire(to or host)
    assert (event.pid, event.tid, event.uid, event.comm) == (server.pid, server.pid, 0, b"server")
    assert (event.ip, event.raddr, event.laddr) == (ip, address, address)
    assert (event.rport, event.lport, event.netns) == (ours.local.port, listener.address.port, net.inode)
    assert theirs.reply["start"] <= event.time <= theirs.reply["end"]


def test_who_accepts_is_shown(net: traffic.Namespace) -> None:
    """A thread, or a child that inherited the listener: not who listens, nor the client."""
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    tid, child = server.thread("worker"), server.fork("child")
    with tcpaccept(netns=net.path) as session:
        for who in "worker", "child", "":
            client.connect(listener)
            server.accept(listener, who=who)
        events = seen(session)
    assert [(event.pid, event.tid, event.comm) for event in events] == [
        (server.pid, tid, b"worker"), (child, child, b"child"), (server.pid, server.pid, b"server"),
    ]  # fmt: skip


def test_filters_of_accepts(net: traffic.Namespace) -> None:
    client, server, other = net.actor("client"), net.actor("server"), net.actor("other")
    v4, v6 = server.listen("127.0.0.1"), other.listen("::1")
    for filters, ports in (
        ({"local_ports": [v4.address.port]}, [v4.address.port]),
        ({"family": 6}, [v6.address.port]),
        ({"pid": server.pid}, [v4.address.port]),
        ({"pid": [server.pid, other.pid]}, [v4.address.port, v6.address.port]),
        ({"uid": 997}, []),
        ({"pid": client.pid}, []),
    ):
        with tcpaccept(netns=net.path, **filters) as session:  # type: ignore[arg-type]
            client.connect(v4), client.connect(v6)
            server.accept(v4), other.accept(v6)
            assert [event.lport for event in seen(session)] == ports, filters


def test_what_is_accepted_but_not_tcp_is_not_shown(net: traffic.Namespace) -> None:
    server = net.actor("server")
    with tcpaccept(netns=net.path) as session, tcpconnect(netns=net.path) as other:
        server.noise(23)
        assert seen(session) == seen(other) == []


def test_lines_of_accepts(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    with tracing.pyebpf("tcpaccept", "-P", str(listener.address.port), "-n", "1") as process:
        ours = client.connect(listener)
        server.accept(listener)
        out, _ = process.communicate()
    head, line = out.splitlines()
    assert head.split() == ["PID", "COMM", "IP", "RADDR", "RPORT", "LADDR", "LPORT"]
    assert line.split() == [str(server.pid), "server", "4", "127.0.0.1", str(ours.local.port), "127.0.0.1",
                            str(listener.address.port)]  # fmt: skip


# tcptracer, and whose sockets are


def told(events: list[Any]) -> list[tuple[str, int | None, int, int]]:
    return [(event.what, event.pid, event.sport, event.dport) for event in events]


@pytest.mark.parametrize(("host", "to"), HOSTS)
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_connection_s_life(net: traffic.Namespace, host: str, to: str, first: str) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(host, only_v6=not to)
    with tcptracer(netns=net.path) as session:
        ours = client.connect(listener.at(to or host))
        theirs = server.accept(listener)
        for end in (ours, theirs) if first == "client" else (theirs, ours):
            end.close()
        listener.close()
        events = seen(session)
    mine, port = ours.local.port, listener.address.port
    ends = [("X", client.pid, mine, port), ("X", server.pid, port, mine)]
    assert told(events) == [("C", client.pid, mine, port), ("A", server.pid, port, mine),
                            *(ends if first == "client" else ends[::-1])]  # fmt: skip
    for event in events:
        assert (event.ip, event.saddr) == (event.ip, event.daddr) == on_wire(to or host)
        assert event.comm == (b"client" if event.pid == client.pid else b"server")
        assert (event.netns, event.errno) == (net.inode, 0)


def test_shutdown_is_the_end_and_close_isn_t_told_again(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    with tcptracer(netns=net.path) as session:
        ours, theirs = traffic.connected(client, server)
        ours.shutdown("write")
        theirs.close()
        ours.close()
        events = seen(session)
    assert [(event.what, event.pid) for event in events] == [
        ("C", client.pid), ("A", server.pid), ("X", client.pid), ("X", server.pid),
    ]  # fmt: skip


def test_a_reset_ends_both(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    with tcptracer(netns=net.path) as session:
        ours, theirs = traffic.connected(client, server)
        ours.reset()
        theirs.close()
        events = seen(session)[2:]
    assert sorted((event.pid, event.what, event.error) for event in events) == sorted(
        [(client.pid, "X", None), (server.pid, "X", "ECONNRESET")]
    )


def test_who_closes_last_is_shown(net: traffic.Namespace) -> None:
    """A child holds the socket too: the connection ends when the last lets go."""
    client, server = net.actor("client"), net.actor("server")
    ours, theirs = traffic.connected(client, server)
    child = client.fork("child")
    with tcptracer(netns=net.path) as session:
        ours.close()
        client.act("close", ours.fd, who="child")
        (event,) = seen(session)
    assert (event.what, event.pid, event.comm) == ("X", child, b"child")
    theirs.close()


def test_a_socket_that_is_passed_on(net: traffic.Namespace) -> None:
    """Accepted by one process, closed by the one it was sent to."""
    script = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
here, there = socket.socketpair()
client = socket.create_connection(listener.getsockname())
pid = os.fork()
if not pid:
    for ours in client, listener, here:
        ours.close()
    there.send(b"x")
    _, (fd,), _, _ = socket.recv_fds(there, 1, 1)
    os.read(fd, 1)  # until the client has closed
    os.close(fd)
    os._exit(0)
server, _ = listener.accept()
here.recv(1)
socket.send_fds(here, [b"x"], [server.fileno()])
server.close()
client.close()
os.waitpid(pid, 0)
print(os.getpid(), pid)
"""
    with tcptracer(netns=net.path) as session:
        one, other = map(int, net.run(sys.executable, "-c", script).split())
        events = seen(session)
    assert [(event.what, event.pid) for event in events] == [("C", one), ("A", one), ("X", one), ("X", other)]


def test_what_nobody_accepted_is_not_told(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    with tcptracer(netns=net.path) as session:
        ours = client.connect(listener)
        listener.close()
        events = seen(session)
    assert told(events)[0] == ("C", client.pid, ours.local.port, listener.address.port)
    assert [(event.what, event.pid, event.error) for event in events[1:]] == [("X", client.pid, "ECONNRESET")]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_that_were_open_before(net: traffic.Namespace, host: str) -> None:
    """Closed by a process: it is the current one. Reset by the peer: the table knows whose it was."""
    client, server = net.actor("client"), net.actor("server")
    pairs = [traffic.connected(client, server, host) for _ in range(2)]
    with tcptracer(netns=net.path) as session:
        pairs[0][0].close()
        pairs[1][0].reset()
        events = seen(session)
    assert [(event.what, event.pid, event.comm, event.error) for event in events if event.pid == client.pid] == [
        ("X", client.pid, b"client", None)
    ] * 2
    assert [(event.what, event.pid, event.tid, event.comm, event.error) for event in events
            if event.pid != client.pid] == [("X", server.pid, server.pid, b"server", "ECONNRESET")]  # fmt: skip


def test_the_filter_of_processes_holds_for_sockets_opened_before(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    for pid, number in ((client.pid, 1), (server.pid, 1), ([client.pid, server.pid], 2), (os.getppid(), 0)):
        ours, _ = traffic.connected(client, server)
        with tcptracer(pid=pid, netns=net.path) as session:
            ours.reset()
            assert len(seen(session)) == number


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup2 directory and one below it."""
    root = next(
        Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"
    )
    inner = root / f"pyebpf-test-{os.getpid()}" / "inner"
    inner.mkdir(parents=True)
    yield inner.parent
    inner.rmdir()
    inner.parent.rmdir()


def test_the_filter_of_cgroups(net: traffic.Namespace, cgroup: Path) -> None:
    client, server = net.actor("client"), net.actor("server")
    (cgroup / "inner" / "cgroup.procs").write_text(str(server.pid))
    for directory in cgroup, cgroup / "inner":
        before, _ = traffic.connected(client, server)
        listener = server.listen()
        with tcptracer(cgroup=str(directory)) as session, tcpaccept(cgroup=str(directory)) as accepts:
            before.reset()
            client.connect(listener)
            server.accept(listener)
            events, accepted = seen(session), seen(accepts)
        assert [(event.what, event.pid) for event in events] == [("X", server.pid), ("A", server.pid)]
        assert [event.pid for event in accepted] == [server.pid]
    with tcptracer(cgroup=str(cgroup), pid=client.pid) as session:
        traffic.connected(client, server)[0].reset()
        assert seen(session) == []
    server.kill()
    targets.until(lambda: not (cgroup / "inner" / "cgroup.procs").read_text())


def test_numbers_in_another_pid_namespace(net: traffic.Namespace) -> None:
    """The tracer's own /proc decides what a process is called; who isn't in there isn't shown."""
    script = """
import json, os, socket, struct, sys
from pyebpf.tools.tcp.tcptracer import tcptracer
listener = socket.create_server(("127.0.0.1", 0))
def pair():
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]
held = [pair() for _ in range(2)]
ready, say = os.pipe()
asked, ask = os.pipe()
pid = os.fork()
if not pid:
    for client, server in held:
        client.close() # ours are the server's ends
    os.write(say, b"x")
    os.read(asked, 1)
    held.append(pair())
    os._exit(0)
for client, server in held:
    server.close()
os.read(ready, 1)
with tcptracer(netns="/proc/self/ns/net") as session:
    held[0][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    held[0][0].close()
    os.write(ask, b"x")
    os.waitpid(pid, 0)
    session.detach()
    print(json.dumps([pid, [[event.what, event.pid, event.error] for event in session.drain()]]))
"""
    stranger, server = net.actor("stranger"), net.actor("server")
    command = net.command("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script)
    with tcptracer(netns=net.path) as outside:
        traffic.connected(stranger, server)
        pid, events = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        assert {stranger.pid, server.pid} < {event.pid for event in seen(outside)}
    assert pid < 100
    assert events[0] == ["X", pid, "ECONNRESET"]
    assert sorted(event[:2] for event in events[1:3]) == [["A", pid], ["C", pid]]
    assert all(event[1] == pid for event in events)


def test_a_full_table_is_counted(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")

    def configure(obj: Any) -> None:
        obj.maps["owners"].max_entries = 23

    events = KernelEvents("tcptracer", tracer._NEEDS, scope_of(None, netns=net.path), configure)
    try:
        before = events.losses().untracked
        listener = server.listen()
        for _ in range(97):
            client.connect(listener)
            server.accept(listener)
        assert events.losses().untracked - before >= 2 * 97 - 23
    finally:
        events.close()


def test_the_table_is_emptied(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    events = KernelEvents("tcptracer", tracer._NEEDS, scope_of(None, netns=net.path))
    try:
        before = len(list(events.object.maps["owners"]))
        serving = server.serve(listener, 997)
        client.burst(listener, 997, reset=True).result()
        serving.result()
        targets.until(lambda: len(list(events.object.maps["owners"])) <= before + 97)  # others work here too
    finally:
        events.close()


def test_lines_of_the_tracer(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    with tracing.pyebpf("tcptracer", "-v", "-N", net.path) as process:
        ours, theirs = traffic.connected(client, server)
        ours.close(), theirs.close()
        head, *lines = tracing.end(process).splitlines()
    assert head.split() == ["T", "PID", "COMM", "IP", "SADDR", "DADDR", "SPORT", "DPORT", "NETNS"]
    assert [line.split()[:4] for line in lines] == [
        ["C", str(client.pid), "client", "4"], ["A", str(server.pid), "server", "4"],
        ["X", str(client.pid), "client", "4"], ["X", str(server.pid), "server", "4"],
    ]  # fmt: skip
    assert {line.split()[-1] for line in lines} == {str(net.inode)}
