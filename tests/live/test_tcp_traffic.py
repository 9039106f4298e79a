# SPDX-License-Identifier: BSD-2-Clause
"""tcplife, tcpstates, tcptop, tcpsubnet: bytes, durations and owners as both ends of real connections know them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
import tracing
import traffic

from pyebpf.core import kernel
from pyebpf.core.hooks import Hooks
from pyebpf.core.object import open_bundled
from pyebpf.errors import TargetError, TargetNotFound
from pyebpf.tools.events import EventLosses, EventSession, KernelEvents, Need
from pyebpf.tools.tcp import tcplife as life_tool
from pyebpf.tools.tcp import tcptop as top
from pyebpf.tools.tcp.sent import SENDS
from pyebpf.tools.tcp.tcplife import Life, tcplife
from pyebpf.tools.tcp.tcpstates import Change, tcpstates
from pyebpf.tools.tcp.tcpsubnet import SubnetBytes, tcpsubnet
from pyebpf.tools.tcp.tcptop import Traffic, tcptop

DEADLINE = targets.DEADLINE
NOTHING_LOST = EventLosses()
# Where a server listens, where the client connects, and what is on the wire.
HOSTS = pytest.mark.parametrize(
    ("host", "to", "ip"),
    [("127.0.0.1", "", 4), ("::1", "", 6), ("::", "::ffff:127.0.0.1", 4)],
    ids=["ipv4", "ipv6", "mapped"],
)


@pytest.fixture
def net() -> Iterator[traffic.Namespace]:
    with traffic.namespace() as made:
        yield made


def take(session: EventSession[Any], number: int) -> list[Any]:
    """So many events; fails if they don't come."""
    found: list[Any] = []
    end = time.monotonic() + DEADLINE
    while len(found) < number:
        assert time.monotonic() < end, f"{len(found)} of {number} events: {found}"
        before = len(found)
        for event in session.read(2 if session.losses.missed else 0.05):
            found.append(event)
            if len(found) == number:
                break
        skipped = session.losses.missed
        assert len(found) > before or not skipped, f"{len(found)} of {number} events, {skipped} runs skipped"
    return found


def ends(life: Any) -> tuple[traffic.Address, traffic.Address]:
    return traffic.Address(life.laddr, life.lport), traffic.Address(life.raddr, life.rport)


def plain(address: traffic.Address) -> traffic.Address:
    return traffic.Address(address.host.replace("::ffff:", ""), address.port)


def check_life(life: Life, end: traffic.Connection, ip: int) -> None:
    assert (life.pid, life.comm) == (end.actor.pid, end.actor.comm.encode())
    assert (life.ip, *ends(life)) == (ip, plain(end.local), plain(end.remote))
    assert (life.tx_bytes, life.rx_bytes) == (end.sent, end.received)


def small(*tables: str) -> type[KernelEvents]:
    """Makes these maps so small that they are full soon."""

    class Small(KernelEvents):
        def __init__(self, source: str, needs: Any, scope: Any, before: Any = None) -> None:
            def configure(obj: Any) -> None:
                if before:
                    before(obj)
                for table in tables:
                    obj.maps[table].max_entries = 23

            super().__init__(source, needs, scope, configure)

    return Small


# tcplife


@HOSTS
@pytest.mark.parametrize("before", [False, True], ids=["new", "open-already"])
@pytest.mark.parametrize("how", ["client-first", "server-first", "half-close", "reset"])
def test_a_life(net: traffic.Namespace, host: str, to: str, ip: int, before: bool, how: str) -> None:
    client, server = net.actor("client"), net.actor("server")
    ours = theirs = None
    if before:
        ours, theirs = traffic.connected(client, server, host, to=to)
        ours.send(97), theirs.receive(97)
        theirs.send(89), ours.receive(89)
    tracing = time.monotonic_ns()
    with tcplife(netns=net.inode) as session:
        if not ours or not theirs:
            ours, theirs = traffic.connected(client, server, host, to=to)
        ours.send(10007), theirs.receive(10007)
        theirs.send(997), ours.receive(997)
        closing = time.monotonic_ns()
        if how == "reset":
            targets.until(lambda: not theirs.info()["unacked"])  # a reset acknowledges nothing
            ours.reset()
            theirs.close()
        elif how == "half-close":
            ours.shutdown(), theirs.receive(1)
            theirs.send(23), ours.receive(23)
            theirs.close(), ours.receive(1), ours.close()
        else:
            first, second = (ours, theirs) if how == "client-first" else (theirs, ours)
            first.close(), second.receive(1), second.close()
        lives: list[Life] = take(session, 2)
        over = time.monotonic_ns()
        assert list(session.drain()) == []
        assert session.losses == NOTHING_LOST
    by_port = {life.lport: life for life in lives}
    check_life(by_port[ours.local.port], ours, ip)
    check_life(by_port[theirs.local.port], theirs, ip)
    for life in lives:
        assert closing <= life.time <= over and life.netns == net.inode and life.uid == 0
        if before:
            assert life.duration is None and life.observed is not None and 0 < life.observed <= over - tracing
        else:
            # Established while connect(2) was called; ended after the first close.
            assert life.observed is None and life.duration is not None
            assert closing - ours.reply["end"] <= life.duration <= over - ours.reply["start"]


def test_a_stream_in_both_directions_at_once(net: traffic.Namespace) -> None:
    """With retransmissions, or not: what is sent twice counts once."""
    client, server = net.actor("client"), net.actor("server")
    with tcplife(netns=net.inode) as session:
        ours, theirs = traffic.connected(client, server, receive_buffer=4096)
        client.thread("reader"), server.thread("reader")
        sending = ours.sending(200_003), theirs.sending(300_017)
        received = theirs.receive(200_003, who="reader"), ours.receive(300_017, who="reader")
        assert [reply["bytes"] for reply in received] == [200_003, 300_017]
        for result in sending:
            result()
        ours.close(), theirs.receive(1), theirs.close()
        lives = {life.pid: life for life in take(session, 2)}
    check_life(lives[client.pid], ours, 4)
    check_life(lives[server.pid], theirs, 4)


@pytest.mark.parametrize("before", [False, True], ids=["new", "open-already"])
def test_what_is_sent_again_counts_once(before: bool) -> None:
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        if before:
            ours, theirs = traffic.connected(client, server, right.v4)
        with tcplife(pid=[client.pid, server.pid]) as session:
            if not before:
                ours, theirs = traffic.connected(client, server, right.v4)
            ours.send(97), theirs.receive(97)
            left.lose()
            retransmitted = left.net.counters()["Tcp"]["RetransSegs"]
            ours.send(10007)
            left.net.waits("Tcp", "RetransSegs", retransmitted + 2)
            left.mend()
            theirs.receive(10007)
            ours.close(), theirs.receive(1), theirs.close()
            lives = {life.pid: life for life in take(session, 2)}
    check_life(lives[client.pid], ours, 4)
    check_life(lives[server.pid], theirs, 4)


@pytest.mark.parametrize("before", [False, True], ids=["new", "open-already"])
def test_what_the_peer_did_not_acknowledge_is_not_counted(before: bool) -> None:
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        if before:
            ours, theirs = traffic.connected(client, server, right.v6)
        with tcplife(pid=client.pid) as session:
            if not before:
                ours, theirs = traffic.connected(client, server, right.v6)
            ours.send(97), theirs.receive(97)
            targets.until(lambda: ours.info()["unacked"] == 0)
            left.lose()
            ours.send(10007)
            ours.reset()
            (life,) = take(session, 1)
    assert (life.tx_bytes, life.rx_bytes) == (97, 0)


def test_a_connection_that_tracing_finds_half_made() -> None:
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        listener = server.listen(right.v4)
        left.lose()
        ours = client.connect(listener, "start")
        with tcplife(pid=client.pid) as session:
            mending = time.monotonic_ns()
            left.mend()
            assert not ours.finish()["errno"]
            theirs = server.accept(listener)
            ours.send(97), theirs.receive(97)
            ours.close(), theirs.receive(1), theirs.close()
            (life,) = take(session, 1)
            over = time.monotonic_ns()
    check_life(life, ours, 4)
    assert life.observed is None and life.duration is not None and 0 < life.duration < over - mending


def test_a_socket_that_connects_to_itself(net: traffic.Namespace) -> None:
    """Both ends send the first SYN: a simultaneous open, with one socket."""
    client = net.actor("client")
    with tcplife(netns=net.inode) as session:
        ours = client.connect(("127.0.0.1", 40007), source=("127.0.0.1", 40007))
        ours.send(997), ours.receive(997)
        ours.close()
        (life,) = take(session, 1)
    assert (life.pid, *ends(life)) == (client.pid, ours.local, ours.local)
    assert (life.tx_bytes, life.rx_bytes) == (997, 997)


def test_a_refused_connect_is_a_life_without_bytes(net: traffic.Namespace) -> None:
    client = net.actor("client")
    with tcplife(netns=net.inode) as session:
        refused = client.connect(("127.0.0.1", 9), fails=True)
        (life,) = take(session, 1)
    assert refused.errno and (life.pid, life.rport, life.tx_bytes, life.rx_bytes) == (client.pid, 9, 0, 0)
    assert 0 < life.duration <= refused.reply["end"] - refused.reply["start"]


def test_a_listener_has_no_life(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    with tcplife(netns=net.inode) as session:
        server.listen().close()
        client.connect(("127.0.0.1", 9), fails=True)  # so that something comes
        assert [life.pid for life in take(session, 1)] == [client.pid]
        assert list(session.drain()) == []


def test_who_accepts_is_the_owner_and_nobody_else(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    worker = server.fork("worker")
    with tcplife(netns=net.inode) as session:
        ours = client.connect(listener)
        theirs = server.accept(listener, who="worker")
        theirs.send(97), ours.receive(97)
        ours.close(), theirs.close()
        lives = {life.lport: life for life in take(session, 2)}
    assert (lives[listener.address.port].pid, lives[listener.address.port].comm) == (worker, b"worker")
    assert lives[ours.local.port].pid == client.pid


def test_what_nobody_accepted_has_no_owner(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    with tcplife(netns=net.inode) as session:
        ours = client.connect(listener)
        ours.reset()
        lives = {life.lport: life for life in take(session, 2)}
    life = lives[listener.address.port]
    assert (life.pid, life.tid, life.uid, life.comm) == (None, None, None, None)


@tracing.again_if_skipped
def test_ten_thousand_short_connections(net: traffic.Namespace) -> None:
    """The reader sleeps meanwhile: the buffer has room for all."""
    number = 10007
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(backlog=1024)
    with tcplife(netns=net.inode) as session:
        served = server.serve(listener, number)
        made = client.burst(listener, number, payload=23).result()
        assert served.result()["made"] == made["made"] == number
        lives: list[Life] = take(session, 2 * number)
        assert not list(session.drain()) and session.losses == NOTHING_LOST
    of_client = [life for life in lives if life.pid == client.pid]
    of_server = [life for life in lives if life.pid == server.pid]
    assert len(of_client) + len(of_server) == 2 * number
    assert Counter(life.lport for life in of_client) == Counter(life.rport for life in of_server)
    assert Counter(life.lport for life in of_client) == Counter(made["ports"])
    assert {(life.tx_bytes, life.rx_bytes) for life in of_client} == {(23, 0)}
    assert {(life.tx_bytes, life.rx_bytes) for life in of_server} == {(0, 23)}
    assert None not in {life.duration for life in lives}


def test_a_full_table_of_lives(net: traffic.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had no room for is not taken for an old connection; its bytes are known all the same."""
    monkeypatch.setattr(life_tool, "KernelEvents", small("lives"))
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    with tcplife(netns=net.inode, pid=client.pid) as session:
        pairs = [(client.connect(listener), server.accept(listener)) for _ in range(97)]
        for ours, theirs in pairs:
            ours.send(23), theirs.receive(23)
            ours.close(), theirs.receive(1), theirs.close()
        lives = take(session, 97)
        forgotten = [life for life in lives if life.duration is None]
        assert 97 - 23 <= len(forgotten) <= session.losses.untracked
    assert {(life.tx_bytes, life.rx_bytes, life.observed) for life in lives} == {(23, 0, None)}


@pytest.mark.parametrize("ip", [4, 6])
def test_filters(net: traffic.Namespace, ip: int) -> None:
    client, server = net.actor("client"), net.actor("server")
    listeners = {4: server.listen("127.0.0.1"), 6: server.listen("::1")}
    port = listeners[ip].address.port

    def traffic_of_both() -> None:
        for listener in listeners.values():
            ours, theirs = client.connect(listener), server.accept(listener)
            ours.close(), theirs.close()

    for keywords, expected in (
        ({"family": ip}, 2), ({"pid": client.pid, "family": ip}, 1), ({"pid": [server.pid]}, 2), ({}, 4),
        ({"local_ports": [port]}, 1), ({"remote_ports": [port]}, 1), ({"uid": 0}, 4), ({"uid": 997}, 0),
    ):  # fmt: skip
        with tcplife(netns=net.inode, **keywords) as session, tcplife(netns=net.inode) as all_of_them:  # type: ignore[arg-type]
            traffic_of_both()
            take(all_of_them, 4)
            assert len(list(session.drain())) == expected, keywords
    with pytest.raises(TargetNotFound):
        tcplife(netns="/nonexistent")
    with pytest.raises(TargetError):
        tcplife(netns="/dev/null")
    with pytest.raises(TargetError):
        tcplife(local_ports=[65536])


# tcpstates


@HOSTS
def test_states_of_both_ends(net: traffic.Namespace, host: str, to: str, ip: int) -> None:
    client, server = net.actor("client"), net.actor("server")
    with tcpstates(netns=net.inode) as session:
        ours, theirs = traffic.connected(client, server, host, to=to)
        ours.close(), theirs.receive(1), theirs.close()
        changes: list[Change] = take(session, 12)
        assert session.losses == NOTHING_LOST
    sockets: dict[str, list[Change]] = {}
    for change in changes:
        sockets.setdefault(change.skaddr, []).append(change)
    listening, client_end, server_end = sorted(sockets.values(), key=len)[0], *sorted(sockets.values(), key=len)[1:]
    if client_end[0].oldstate != "CLOSE":
        client_end, server_end = server_end, client_end
    assert [(c.oldstate, c.newstate) for c in listening] == [("CLOSE", "LISTEN"), ("LISTEN", "CLOSE")]
    assert [c.newstate for c in client_end] == ["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]
    assert [c.newstate for c in server_end] == ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]
    for one in (client_end, server_end):
        assert [c.newstate for c in one[:-1]] == [c.oldstate for c in one[1:]]
        # Each state's duration is exactly the time between two changes.
        assert [c.duration for c in one[1:]] == [b.time - a.time for a, b in zip(one, one[1:])]
    assert client_end[0].duration is None and client_end[0].observed is None  # made at an unknown time
    assert server_end[0].duration == 0
    assert {c.pid for c in client_end} == {client.pid}
    assert [c.pid for c in server_end] == [None, None, server.pid, server.pid, server.pid]
    assert {c.pid for c in listening} == {server.pid}
    assert client_end[0].current_pid == client.pid and server_end[3].current_pid == server.pid
    assert ends(client_end[-1]) == (plain(ours.local), plain(ours.remote))
    assert ends(server_end[-1]) == (plain(theirs.local), plain(theirs.remote))


def test_states_that_are_older_than_the_tracing(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    ours, theirs = traffic.connected(client, server)
    with tcpstates(netns=net.inode) as session:
        ours.close(), theirs.receive(1), theirs.close()
        changes = take(session, 6)
    first = [change for change in changes if change.oldstate == "ESTABLISHED"]
    assert {(c.pid, c.newstate) for c in first} == {(client.pid, "FIN_WAIT1"), (server.pid, "CLOSE_WAIT")}
    assert all(c.duration is None and c.observed is not None and c.observed > 0 for c in first)
    assert all(c.duration is not None and c.observed is None for c in changes if c not in first)


@tracing.again_if_skipped
def test_states_of_ten_thousand_connections(net: traffic.Namespace) -> None:
    number = 10007
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(backlog=1024)
    with tcpstates(netns=net.inode) as session:
        served = server.serve(listener, number)
        made = client.burst(listener, number, payload=23).result()
        assert served.result()["made"] == made["made"] == number
        # Five changes at each end, if neither closed before the other's FIN came: that would be CLOSING.
        seen = Counter(change.newstate for change in take(session, 10 * number))
        assert not list(session.drain()) and session.losses == NOTHING_LOST
    assert (seen["SYN_SENT"], seen["SYN_RECV"], seen["ESTABLISHED"]) == (number, number, 2 * number)
    assert (seen["FIN_WAIT1"], seen["CLOSE_WAIT"], seen["LAST_ACK"]) == (number, number, number)
    assert (seen["FIN_WAIT2"], seen["CLOSE"]) == (number, 2 * number)


def test_a_burst_that_the_buffer_has_no_room_for(net: traffic.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_tool, "_BUFFER", 4096)
    number = 997
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(backlog=1024)
    with tcplife(netns=net.inode) as session:
        served = server.serve(listener, number)
        client.burst(listener, number).result(), served.result()
        targets.until(lambda: session.losses.dropped)
        lives: list[Life] = []

        def told() -> int:
            lives.extend(session.drain())
            return len(lives) + session.losses.dropped

        targets.until(lambda: told() + session.losses.missed >= 2 * number)
        assert lives and told() <= 2 * number
        assert told() == 2 * number or kernel.release() >= (7, 0)  # which skips runs: KNOWN_ISSUES.md


# tcptop


def sums(report: list[Traffic]) -> dict[int, tuple[int, int]]:
    """Sent and received, by process."""
    found: dict[int, tuple[int, int]] = {}
    for one in report:
        sent, received = found.get(one.pid, (0, 0))
        found[one.pid] = sent + one.tx_bytes, received + one.rx_bytes
    return found


@HOSTS
@pytest.mark.parametrize("before", [False, True], ids=["new", "open-already"])
def test_bytes_by_every_call(net: traffic.Namespace, host: str, to: str, ip: int, before: bool) -> None:
    client, server = net.actor("client"), net.actor("server")
    if before:
        ours, theirs = traffic.connected(client, server, host, to=to)
        ours.send(97), theirs.receive(53)  # 44 wait
    with tcptop(netns=net.inode) as session:
        if not before:
            ours, theirs = traffic.connected(client, server, host, to=to)
        for send in traffic.SENDS:
            for receive in traffic.RECEIVES:
                sent, received = ours.sent, theirs.received
                ours.send(997, send)
                theirs.receive(997, receive, chunk=100)
                (a, b) = session.interval()
                assert {a.ip, b.ip} == {ip} and {a.netns, b.netns} == {net.inode}
                assert sums([a, b]) == {client.pid: (ours.sent - sent, 0), server.pid: (0, theirs.received - received)}
        if before:
            theirs.receive(44)
            assert sums(session.interval()) == {server.pid: (0, 44)}
        assert session.interval() == []
        # The end of the stream takes a sequence number and is no data, also where data is taken by splice(2).
        theirs.send(10007), theirs.close()
        ours.receive(10007 + 1, "splice"), ours.close()
        assert sums(session.interval()) == {server.pid: (10007, 0), client.pid: (0, 10007)}
        assert session.losses == NOTHING_LOST and session.notes == ()


def test_every_way_to_see_what_is_sent(net: traffic.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the best that this kernel has."""
    obj, hooks, ways = open_bundled("tcptop"), Hooks(), []
    for programs in SENDS[0].alternatives:
        if not any(hooks.why_not(obj.programs[name].section) for name in programs):
            ways.append(programs)
    obj.close(), hooks.close()
    assert ways
    client, server = net.actor("client"), net.actor("server")
    ours, theirs = traffic.connected(client, server)
    for way in ways:
        pages = SENDS[1].alternatives[1:] if "returned_sendmsg" in way else SENDS[1].alternatives
        sends = (Need("what is sent", (way,)), SENDS[1]._replace(alternatives=pages))
        monkeypatch.setattr(top, "_NEEDS", sends + top._NEEDS[len(SENDS) :])
        with tcptop(netns=net.inode) as session:
            assert bool(session.notes) == ("returned_sendmsg" in way)
            for how in traffic.SENDS:
                ours.send(997, how), theirs.receive(997)
            assert sums(session.interval()) == {
                client.pid: (997 * len(traffic.SENDS), 0), server.pid: (0, 997 * len(traffic.SENDS))
            }, way  # fmt: skip
            assert session.losses == NOTHING_LOST


def test_intervals_add_up(net: traffic.Namespace) -> None:
    """Nothing is lost between two intervals, however short, and none is counted twice."""
    client, server = net.actor("client"), net.actor("server")
    with tcptop(netns=net.inode) as session:
        ours, theirs = traffic.connected(client, server)
        total: Counter[tuple[int, str]] = Counter()

        def add(report: list[Traffic]) -> None:
            for one in report:
                total[one.pid, "tx"] += one.tx_bytes
                total[one.pid, "rx"] += one.rx_bytes

        for _ in range(23):
            sending = ours.sending(1_000_003, chunk=997)
            receiving = threading.Thread(target=theirs.receive, args=(1_000_003,))
            receiving.start()
            add(session.interval())  # in the middle of it
            receiving.join()
            sending()
        add(session.interval())
        assert session.losses == NOTHING_LOST
    assert total == {(client.pid, "tx"): ours.sent, (client.pid, "rx"): 0, (server.pid, "rx"): theirs.received,
                     (server.pid, "tx"): 0}  # fmt: skip
    assert ours.sent == theirs.received == 23 * 1_000_003


@tracing.again_if_skipped
def test_ten_thousand_connections_in_one_interval(net: traffic.Namespace) -> None:
    number = 10007
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen(backlog=1024)
    with tcptop(netns=net.inode) as session:
        served = server.serve(listener, number)
        made = client.burst(listener, number, payload=23).result()
        served.result()
        report = session.interval()
        assert session.losses == NOTHING_LOST
        assert session.interval() == []
    assert made["made"] == number
    assert sums(report) == {client.pid: (23 * number, 0), server.pid: (0, 23 * number)}


def test_a_full_table_is_counted(net: traffic.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "KernelEvents", small("uses_even", "uses_odd"))
    client, server = net.actor("client"), net.actor("server")
    listener = server.listen()
    with tcptop(netns=net.inode, pid=client.pid) as session:
        served = server.serve(listener, 97)
        client.burst(listener, 97, payload=23).result()
        served.result()
        report = session.interval()
        assert len(report) < 97 and len(report) + session.losses.untracked == 97
        served = server.serve(listener, 7)
        client.burst(listener, 7, payload=23).result()
        served.result()
        assert len(session.interval()) == 7  # there is room again


def test_threads_and_children_of_one_connection(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    ours, theirs = traffic.connected(client, server)
    client.thread("sender")
    child = client.fork("child")
    with tcptop(netns=net.inode) as session:
        ours.send(97), ours.send(23, who="sender"), ours.send(997, who="child")
        theirs.receive(97 + 23 + 997)
        report = session.interval()
    assert {(one.pid, one.comm, one.tx_bytes) for one in report if one.tx_bytes} == {
        (client.pid, b"client", 97 + 23), (child, b"child", 997)
    }  # fmt: skip
    assert sums(report)[server.pid] == (0, 97 + 23 + 997)


def test_top_filters(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    pairs = {4: traffic.connected(client, server), 6: traffic.connected(client, server, "::1")}
    port = pairs[6][0].local.port
    for keywords, expected in (
        ({}, {client.pid: (194, 0), server.pid: (0, 194)}), ({"family": 6}, {client.pid: (97, 0), server.pid: (0, 97)}),
        ({"pid": server.pid}, {server.pid: (0, 194)}), ({"local_ports": [port]}, {client.pid: (97, 0)}),
        ({"remote_ports": [port]}, {server.pid: (0, 97)}), ({"uid": 997}, {}),
    ):  # fmt: skip
        with tcptop(netns=net.inode, **keywords) as session:  # type: ignore[arg-type]
            for ours, theirs in pairs.values():
                ours.send(97), theirs.receive(97)
            assert sums(session.interval()) == expected, keywords
    with tcptop() as everywhere:  # without a namespace: ours are among them
        for ours, theirs in pairs.values():
            ours.send(97), theirs.receive(97)
        assert sums(everywhere.interval())[client.pid] == (194, 0)


@pytest.mark.parametrize("before", [False, True], ids=["new", "open-already"])
def test_a_cgroup(net: traffic.Namespace, tmp_path: Path, before: bool) -> None:
    subprocess.run(["mount", "-t", "cgroup2", "none", str(tmp_path)], check=True)
    group = tmp_path / f"pyebpf-{os.getpid()}"
    inner, folder = group / "inner", str(group)
    inner.mkdir(parents=True)
    client, server = net.actor("client"), net.actor("server")
    try:
        (inner / "cgroup.procs").write_text(str(client.pid))
        if before:
            ours, theirs = traffic.connected(client, server)
        with tcplife(cgroup=folder) as lives, tcptop(cgroup=folder) as use, tcpsubnet(cgroup=folder) as sent:
            if not before:
                ours, theirs = traffic.connected(client, server)
            ours.send(97), theirs.receive(97)
            theirs.send(23), ours.receive(23)
            ours.close(), theirs.receive(1), theirs.close()
            assert [life.pid for life in take(lives, 1)] == [client.pid] and not list(lives.drain())
            assert sums(use.interval()) == {client.pid: (97, 23)}
            assert sent.interval() == [SubnetBytes("127.0.0.1/32", 97)]
    finally:
        client.kill()
        targets.until(lambda: not (inner / "cgroup.procs").read_text())
        inner.rmdir(), group.rmdir()
        subprocess.run(["umount", str(tmp_path)], check=True)


# tcpsubnet


def test_subnets(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    four = server.listen("0.0.0.0")
    six = server.listen("::1")
    asked = ["127.7.0.0/16", "127.0.0.0/8", "127.7.7.0/24", "0.0.0.0/0", "::1/128", "::/0"]
    with tcpsubnet(asked, netns=net.inode, pid=client.pid) as session:
        assert session.subnets == tuple(asked)
        assert [note for note in session.notes if "127.7.7.0/24 counts nothing" in note and "127.7.0.0/16" in note]
        connections = []
        for to in (four.at("127.7.7.7"), four.at("127.7.1.1"), four.at("127.0.0.1"), six.address):
            ours = client.connect(to)
            connections.append((ours, server.accept(six if to is six.address else four)))
        for number, (ours, theirs) in enumerate(connections):
            for how in traffic.SENDS:
                ours.send(997 + number, how), theirs.receive(997 + number)
            theirs.send(23), ours.receive(23)  # by the server, which isn't asked for
        calls = len(traffic.SENDS)
        first = [SubnetBytes("127.7.0.0/16", 997 * calls + 998 * calls), SubnetBytes("::1/128", 1000 * calls),
                 SubnetBytes("127.0.0.0/8", 999 * calls)]  # fmt: skip
        assert session.interval() == first
        assert session.interval() == []
        connections[0][0].send(7)
        assert session.interval() == [SubnetBytes("127.7.0.0/16", 7)]
        assert session.snapshot()[0] == SubnetBytes("127.7.0.0/16", 997 * calls + 998 * calls + 7)
        assert session.losses == NOTHING_LOST


def test_real_bytes_not_those_asked_for(net: traffic.Namespace) -> None:
    """A send that the peer's closed window cuts short counts what was taken."""
    client, server = net.actor("client"), net.actor("server")
    ours, _theirs = traffic.connected(client, server, receive_buffer=4096)
    with tcpsubnet("127.0.0.0/8,::/0", netns=net.inode) as session:
        ours.stuff()
        assert session.interval() == [SubnetBytes("127.0.0.0/8", ours.sent)]


def test_mapped_addresses_count_as_ipv4(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    ours, _theirs = traffic.connected(client, server, "::", to="::ffff:127.0.0.1")
    with tcpsubnet(["::/0", "127.0.0.0/8"], netns=net.inode) as session:
        ours.send(97)
        assert session.interval() == [SubnetBytes("127.0.0.0/8", 97)]


def test_many_subnets(net: traffic.Namespace) -> None:
    client, server = net.actor("client"), net.actor("server")
    asked = [f"127.{a}.{b}.0/24" for a in range(16) for b in range(64)]
    listener = server.listen("0.0.0.0")
    with tcpsubnet(asked, netns=net.inode) as session:
        ours = client.connect(listener.at("127.13.37.1"))
        ours.send(97)
        assert session.interval() == [SubnetBytes("127.13.37.0/24", 97)]


def test_the_tracer_itself_is_not_shown(net: traffic.Namespace) -> None:
    import socket

    def talk() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as ours, listener.accept()[0] as theirs:
                ours.sendall(b"x" * 97)
                assert theirs.recv(97)

    with tcptop() as session:
        talk()
        assert os.getpid() not in sums(session.interval())
    with tcptop(pid=os.getpid()) as session:
        talk()
        assert sums(session.interval()) == {os.getpid(): (97, 97)}
