# SPDX-License-Identifier: BSD-2-Clause
"""tcpdrop, tcpretrans, tcprtt, tcpsynbl, tcpcong against real losses, and the kernel's own counters."""

from __future__ import annotations

import collections
import concurrent.futures
import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import firing
import pytest
import targets
import tracing
import traffic

import pyebpf
from pyebpf.core import kernel
from pyebpf.core.hooks import Hooks
from pyebpf.errors import TargetError, Unsupported

LOOPBACKS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
WITH_REASONS = bool(kernel.enumerators("skb_drop_reason"))
WITH_SOCKET = kernel.field_offset("trace_event_raw_kfree_skb.rx_sk") is not None
CONG_STATES = kernel.enumerators("tcp_ca_state")
with Hooks() as hooks:
    WITH_PROBES = not all(hooks.why_not(f"{kind}/tcp_send_loss_probe") for kind in ("fentry", "kprobe"))
    WITH_CONGESTION = hooks.why_not("tp_btf/tcp_cong_state_set") is None


class Seen:
    """What a run showed, once it is over."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]

    @property
    def losses(self) -> dict[str, int]:
        return dict(self.lines[-1]["losses"])


@contextmanager
def seen(tool: str, net: traffic.Namespace, *options: str, whole: bool = True) -> Iterator[Seen]:
    """Runs a tool during the block, for one network namespace; `firing.Untold` if it is to be whole and isn't."""
    result = Seen()
    with tracing.pyebpf(tool, "--json", "--netns", str(net.inode), *options) as process:
        yield result
        result.lines = [json.loads(line) for line in tracing.end(process).splitlines()]
    losses = result.losses
    if losses["missed"] and kernel.release() >= (7, 0):  # KNOWN_ISSUES.md: another was preempted
        if whole:
            raise firing.Untold
        del losses["missed"]
    assert not any(losses.values()), result.lines[-1]


def text(tool: str, *options: str) -> tuple[int, str, str]:
    """Runs a tool for a moment; its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "pyebpf", tool, *options], capture_output=True, text=True, timeout=targets.DEADLINE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


# tcpdrop


@LOOPBACKS
def test_nobody_listens(host: str) -> None:
    with traffic.namespace() as net:
        client = net.actor("client")
        with seen("tcpdrop", net) as result:
            for _ in range(23):
                assert client.connect((host, 9), fails=True).errno == errno.ECONNREFUSED
        drops = result.of("drop")
    assert len(drops) == 23
    for drop in drops:
        assert (drop["saddr"], drop["daddr"], drop["dport"]) == (host, host, 9)
        assert drop["flags"] == "SYN"
        assert (drop["pid"], drop["comm"], drop["state"]) == (None, None, None)
        assert drop["netns"] == net.inode
        assert drop["reason"] == ("NO_SOCKET" if WITH_REASONS else None)
        assert drop["stack"][0].startswith("tcp_v6_rcv+" if ":" in host else "tcp_v4_rcv+")
        assert "x64_sys_connect" in "".join(drop["stack"]) or "softirq" in "".join(drop["stack"])
        assert not drop["stack_cut"]
    assert len({drop["sport"] for drop in drops}) == 23


def test_what_is_used_is_no_drop() -> None:
    """Connections that do nothing unusual, among them some whose end is never read."""
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        with seen("tcpdrop", net, whole=False) as result:
            for host in ("127.0.0.1", "::1"):
                listener = server.listen(host)
                served = server.serve(listener, 997)
                assert client.burst(listener, 997, payload=23).result()["made"] == 997
                assert served.result()["made"] == 997
                ours, theirs = traffic.connected(client, server, host)
                ours.send(997), theirs.receive(500)
                ours.close(), theirs.close()
        again = net.counters()["Tcp"]["RetransSegs"]  # on a slow machine; what came twice is dropped
    drops = [drop for drop in result.of("drop") if "RST" not in drop["flags"]]
    assert len(result.of("drop")) - len(drops) <= 2  # those closed with data unread, after a FIN
    assert len(drops) <= again, [(drop["reason"], drop["state"], drop["flags"], drop["stack"][:4]) for drop in drops]


def test_a_wrong_checksum() -> None:
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        listener = server.listen()
        with seen("tcpdrop", net) as result:
            for _ in range(23):
                client.segment(("127.0.0.1", 4711), listener.address, "S", bad_checksum=True)
        drops = result.of("drop")
        assert net.counters()["Tcp"]["InCsumErrors"] == 23
    assert len(drops) == 23
    for drop in drops:
        assert (drop["sport"], drop["dport"], drop["flags"]) == (4711, listener.address.port, "SYN")
        assert drop["reason"] == ("TCP_CSUM" if WITH_REASONS else None)


# Segments (a wrong checksum) behind headers that aren't the shortest: IPv4 with options, IPv6 with extensions; a part
# of a packet that isn't its first; and what isn't TCP.
_ODD_PACKETS = """
import socket, struct
tcp = struct.pack("!HHIIBBHHH", 4711, 4712, 1, 0, 0x50, 0x29, 1024, 0xBAD, 0)
v4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
local4 = socket.inet_aton("127.0.0.1")
def send4(options, protocol, fragment, payload):
    header = struct.pack("!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 0, 7, fragment, 64, protocol, 0, local4, local4)
    v4.sendto(header + options + payload, ("127.0.0.1", 0))
send4(bytes([1, 1, 1, 1]), 6, 0, tcp)
send4(bytes([1] * 40), 6, 0, tcp)
send4(b"", 6, 100, tcp)
send4(b"", 253, 0, tcp)
v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
local6 = socket.inet_pton(socket.AF_INET6, "::1")
def send6(kind, extensions, payload):
    data = extensions + payload
    v6.sendto(struct.pack("!IHBB", 6 << 28, len(data), kind, 64) + local6 + local6 + data, ("::1", 0))
padding = bytes([1, 4, 0, 0, 0, 0])
send6(6, b"", tcp)
send6(0, bytes([60, 0]) + padding + bytes([6, 1]) + bytes([1, 12] + [0] * 12), tcp)
send6(44, bytes([6, 0, 0, 0, 0, 0, 0, 7]), tcp)
send6(253, b"", tcp)
"""


def test_headers_of_every_length() -> None:
    with traffic.namespace() as net:
        with seen("tcpdrop", net) as result:
            net.run(sys.executable, "-c", _ODD_PACKETS)
        drops = result.of("drop")
    assert [drop["ip"] for drop in drops] == [4, 4, 6, 6, 6]
    for drop in drops:
        assert (drop["sport"], drop["dport"], drop["flags"]) == (4711, 4712, "FIN|PSH|URG")
        assert drop["saddr"] == drop["daddr"] == {4: "127.0.0.1", 6: "::1"}[drop["ip"]]
        assert drop["netns"] == net.inode


def test_a_connection_s_packets_have_its_owner() -> None:
    with traffic.namespace() as net:
        client, server, stranger = net.actor("client"), net.actor("server"), net.actor("stranger")
        ours, theirs = traffic.connected(client, server)
        with seen("tcpdrop", net) as result:
            stranger.segment(ours.local, theirs.local, "R", sequence=1)  # outside of the window
            ours.send(23), theirs.receive(23)
        drops = result.of("drop")
    if not WITH_REASONS:  # tcp_drop() freed it as if it had been used
        assert not drops and any("isn't seen" in note for note in result.of("attached")[0]["notes"])
        return
    assert [(drop["sport"], drop["dport"], drop["flags"]) for drop in drops] == [
        (ours.local.port, theirs.local.port, "RST")
    ]
    if WITH_SOCKET:
        assert (drops[0]["pid"], drops[0]["comm"], drops[0]["state"]) == (server.pid, "server", "ESTABLISHED")
        assert drops[0]["uid"] == 0


@pytest.mark.skipif(not WITH_SOCKET, reason="before Linux 6.11")
def test_drops_of_one_process() -> None:
    with traffic.namespace() as net:
        client, server, stranger = net.actor("client"), net.actor("server"), net.actor("stranger")
        ours, theirs = traffic.connected(client, server)
        with seen("tcpdrop", net, "-p", str(server.pid)) as result:
            client.connect(("127.0.0.1", 9), fails=True)
            stranger.segment(ours.local, theirs.local, "R", sequence=1)
            stranger.segment(theirs.local, ours.local, "R", sequence=1)
    assert [drop["pid"] for drop in result.of("drop")] == [server.pid]


def test_a_flood_of_drops() -> None:
    """What isn't shown is counted."""
    with traffic.namespace() as net:
        client = net.actor("client")
        with tracing.pyebpf("tcpdrop", "--json", "--netns", str(net.inode)) as process:
            reading = concurrent.futures.ThreadPoolExecutor(1).submit(process.stdout.read)
            assert client.burst(("127.0.0.1", 9), 10_007).result()["failed"] == 10_007
            process.send_signal(signal.SIGINT)
            lines = [json.loads(line) for line in reading.result().splitlines()]
            assert process.wait(targets.DEADLINE) in (0, 130)
    drops = [line for line in lines if line["type"] == "drop"]
    assert len(drops) + lines[-1]["losses"]["dropped"] == 10_007
    assert len(drops) >= 997


def test_drops_of_one_family() -> None:
    with traffic.namespace() as net:
        client = net.actor("client")
        with seen("tcpdrop", net, "-6") as result:
            client.connect(("127.0.0.1", 9), fails=True)
            client.connect(("::ffff:127.0.0.1", 9), fails=True)
            client.connect(("::1", 9), fails=True)
    assert [drop["ip"] for drop in result.of("drop")] == [6]


@pytest.mark.skipif(not WITH_REASONS, reason="before Linux 5.17")
def test_reasons_are_the_running_kernel_s() -> None:
    names = kernel.enumerators("skb_drop_reason")
    assert len(names) > 60
    assert "SKB_DROP_REASON_NO_SOCKET" in names.values()
    assert kernel.enumerators("no_such_enum") == {}


# tcpretrans


@pytest.mark.parametrize("probes", [False, True])
def test_lost_acknowledgements(probes: bool) -> None:
    with traffic.wire() as (left, right), firing.told(left.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        before = traffic.connected(client, server, right.v4)
        already = left.net.counters()["Tcp"]["RetransSegs"]
        with seen("tcpretrans", left.net, *(["-l"] if probes else [])) as result:
            pairs = [before, traffic.connected(client, server, right.v6)]
            right.lose()
            for ours, _ in pairs:
                ours.send(997)
            left.net.waits("Tcp", "RetransSegs", already + 6)
            right.mend()
            for ours, theirs in pairs:
                theirs.receive(997)
                targets.until(lambda ours=ours: not ours.info()["unacked"])
            counters = left.net.counters()
        events = result.of("retransmit")
        assert len(events) == counters["Tcp"]["RetransSegs"] - already
        kinds = collections.Counter(event["what"] for event in events)
        assert kinds["L"] == (counters["TcpExt"]["TCPLossProbes"] if probes else 0)
        assert set(kinds) == ({"L", "R"} if probes else {"R"})
        for ours, theirs in pairs:
            mine = [event for event in events if event["lport"] == ours.local.port]
            assert len(mine) == ours_retransmits(mine) >= 2
            for event in mine:
                assert (event["laddr"], event["raddr"], event["rport"]) == (*ours.local[:1], *theirs.local)
                assert (event["pid"], event["comm"], event["uid"]) == (client.pid, "client", 0)
                assert (event["state"], event["errno"], event["netns"]) == ("ESTABLISHED", 0, left.net.inode)
            assert len({event["seq"] for event in mine}) == 1


def ours_retransmits(events: list[dict[str, Any]]) -> int:
    return sum(event["what"] in "RL" for event in events)


def test_probes_with_new_data() -> None:
    """Nagle's algorithm holds the second piece back until the first one is acknowledged; a probe doesn't."""
    with traffic.wire() as (left, right), firing.told(left.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        with seen("tcpretrans", left.net, "-l") as result:
            ours, _ = traffic.connected(client, server, right.v4)
            right.lose()
            ours.send(23), ours.send(23)
            left.net.waits("TcpExt", "TCPLossProbes", 1)
            left.net.waits("Tcp", "RetransSegs", 1)
            right.mend()
            targets.until(lambda: not ours.info()["unacked"])
            counters = left.net.counters()
        events = result.of("retransmit")
        (attached,) = result.of("attached")
        kinds = collections.Counter(event["what"] for event in events)
        assert kinds["R"] == counters["Tcp"]["RetransSegs"]
        assert kinds["L"] == (counters["TcpExt"]["TCPLossProbes"] if WITH_PROBES else 0) == (1 if WITH_PROBES else 0)
        assert any("new data" in note for note in attached["notes"]) != WITH_PROBES
        if WITH_PROBES:
            probe, again = events[0], events[1]
            assert (probe["what"], probe["seq"] - again["seq"] & 0xFFFFFFFF) == ("L", 23)
            assert (probe["lport"], probe["pid"]) == (ours.local.port, client.pid)


@pytest.mark.parametrize("side", ["v4", "v6"])
def test_lost_synacks(side: str) -> None:
    with traffic.wire() as (left, right), firing.told(left.net, right.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        listener = server.listen(getattr(right, side))
        with seen("tcpretrans", right.net) as theirs, seen("tcpretrans", left.net) as ours:
            right.lose()
            attempt = client.connect(listener, "start")
            right.net.waits("Tcp", "RetransSegs", 2)
            left.net.waits("Tcp", "RetransSegs", 1)
            right.mend()
            assert attempt.finish()["errno"] == 0
            counters = right.net.counters(), left.net.counters()
        synacks, syns = theirs.of("retransmit"), ours.of("retransmit")
        assert len(synacks) == counters[0]["Tcp"]["RetransSegs"]
        for event in synacks:
            assert (event["what"], event["state"]) == ("S", "NEW_SYN_RECV")
            assert (event["pid"], event["comm"]) == (server.pid, "server")
            assert (event["laddr"], event["lport"]) == listener.address
            assert event["rport"] == attempt.local.port
        assert len(syns) == counters[1]["Tcp"]["RetransSegs"]
        assert {(event["what"], event["state"], event["pid"]) for event in syns} == {("R", "SYN_SENT", client.pid)}


def test_counted_by_connection() -> None:
    with traffic.wire() as (left, right), firing.told(left.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        pairs = [traffic.connected(client, server, host) for host in (right.v4, right.v6)]
        with seen("tcpretrans", left.net, "-c") as result:
            right.lose()
            for ours, _ in pairs:
                ours.send(997)
            left.net.waits("Tcp", "RetransSegs", 6)
            right.mend()
            for ours, _ in pairs:
                targets.until(lambda ours=ours: not ours.info()["unacked"])
            number = left.net.counters()["Tcp"]["RetransSegs"]
        rows = result.of("retransmits")
        assert not result.of("retransmit")
        assert {row["lport"]: row["ip"] for row in rows} == {pairs[0][0].local.port: 4, pairs[1][0].local.port: 6}
        assert sum(row["retransmits"] for row in rows) == number


# tcprtt


def test_round_trips() -> None:
    """The kernel tells of every segment that an established connection receives."""
    with (
        traffic.wire() as (left, right),
        firing.runs(left.net.inode, "on_received") as fired,
        firing.runs(right.net.inode, "on_received") as their_fired,
    ):
        client, server = left.net.actor("client"), right.net.actor("server")
        with seen("tcprtt", left.net, "-B") as result, seen("tcprtt", right.net, "-p", str(server.pid)) as theirs:
            received, passive = {}, 0
            for host in (right.v4, right.v6):
                ours, their = traffic.connected(client, server, host)
                for _ in range(23):
                    ours.send(10), their.receive(10)
                    their.send(10), ours.receive(10)
                for end in (ours, their):
                    targets.until(lambda end=end: not end.info()["unacked"])
                received[host] = ours.info()["segs_in"] - 1  # its SYN-ACK
                passive += their.info()["segs_in"] - 2  # SYN, and the ACK that made it a connection
        if fired() < sum(received.values()) or their_fired() < passive:
            raise firing.Untold
        rows = {row["address"]: row for row in result.of("rtt")}
        (row,) = theirs.of("rtt")
    assert {address: row["count"] for address, row in rows.items()} == received
    assert passive - 2 <= row["count"] <= passive  # not until somebody had accepted it was it one of the process's
    for one in rows.values():
        assert sum(bucket["count"] for bucket in one["buckets"]) == one["count"]
        last = one["buckets"][-1]
        assert last["low"] <= one["p99_us"] <= last["high"]
        assert one["total_us"] <= one["count"] * last["high"]
        assert one["average_us"] == pytest.approx(one["total_us"] / one["count"], abs=0.1)


@pytest.mark.parametrize(
    "options", [["-a", "10.77.0.1"], ["-A", "10.77.0.2"], ["-4"], ["-A", "::ffff:10.77.0.2"], ["-P", "PORT"]]
)
def test_round_trips_of_some(options: list[str]) -> None:
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        pairs = [traffic.connected(client, server, host) for host in (right.v4, right.v6)]
        port = str(pairs[0][1].local.port)
        with seen("tcprtt", left.net, *[port if word == "PORT" else word for word in options]) as result:
            before = pairs[0][0].info()["segs_in"]
            for ours, theirs in pairs:
                ours.send(10), theirs.receive(10)
                targets.until(lambda ours=ours: not ours.info()["unacked"])
            number = pairs[0][0].info()["segs_in"] - before
    assert [row["count"] for row in result.of("rtt")] == [number]


def test_addresses_that_are_none() -> None:
    for options in (
        {"local_address": "10.0.0.256"}, {"remote_address": "x"}, {"by": "both"},
        {"local_address": "::1", "remote_address": "127.0.0.1"}, {"local_address": "::1", "family": 4},
    ):  # fmt: skip
        with pytest.raises(TargetError):
            pyebpf.tcprtt(**options)  # type: ignore[arg-type]
    code, out, error = text("tcprtt", "-a", "10.0.0.256")
    assert (code, out) == (2, "")
    assert "10.0.0.256" in error


# tcpsynbl


def test_full_accept_queues() -> None:
    with traffic.namespace() as net:
        client, server, other = net.actor("client"), net.actor("server"), net.actor("other")
        listeners = [server.listen(host, backlog=3) for host in ("127.0.0.1", "::1")]
        with seen("tcpsynbl", net) as result, seen("tcpsynbl", net, "-p", str(server.pid)) as of_server:
            for listener in listeners:
                listener.fill(client, 2)
            both = other.listen("::", backlog=5, only_v6=False)
            for host in ("127.0.0.1", "::1"):
                client.connect(both.at(host))
            net.waits("TcpExt", "ListenOverflows", 4)
            client.kill()  # and with it those that try again
            both.close()
            counters = net.counters()["TcpExt"]
    backlogs = {row["limit"]: row for row in result.of("backlog")}
    assert set(backlogs) == {3, 5}
    assert backlogs[3]["count"] == 8  # in each queue a connection found 0, 1, 2 and 3 others
    assert backlogs[3]["total"] == 2 * (0 + 1 + 2 + 3)
    assert [bucket["count"] for bucket in backlogs[3]["buckets"]] == [4, 4]
    assert (backlogs[5]["count"], backlogs[5]["total"]) == (2, 1)
    turned_away = result.of("turned_away")
    assert sum(row["packets"] for row in turned_away) == counters["ListenDrops"] >= 4
    assert {(row["laddr"], row["lport"]) for row in turned_away} == {tuple(one.address) for one in listeners}
    assert {row["limit"] for row in turned_away} == {3}
    assert [(row["limit"], row["count"]) for row in of_server.of("backlog")] == [(3, 8)]
    assert [row["packets"] for row in of_server.of("turned_away")] == [row["packets"] for row in turned_away]


def test_accept_queues_of_one_family_and_port() -> None:
    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        both = server.listen("::", backlog=5, only_v6=False)
        other = server.listen("127.0.0.1", backlog=7)
        with seen("tcpsynbl", net, "-4") as v4, seen("tcpsynbl", net, "-L", str(other.address.port)) as port:
            client.connect(both.at("127.0.0.1"))
            client.connect(both.at("::1"))
            client.connect(other)
    assert [(row["limit"], row["count"]) for row in v4.of("backlog")] == [(5, 1), (7, 1)]
    assert [(row["limit"], row["count"]) for row in port.of("backlog")] == [(7, 1)]


def test_two_that_connect_to_each_other_have_no_queue() -> None:
    with traffic.namespace() as net:
        client = net.actor("client")
        with seen("tcpsynbl", net) as result:
            fd = client.socket()
            client.do("bind", fd, "127.0.0.1", 4711)
            client.do("connect", fd, "127.0.0.1", 4711, "block", 10_000)  # to itself
    assert result.of("backlog") == []


# tcpcong


@pytest.mark.skipif(not WITH_CONGESTION, reason="before Linux 5.19")
def test_congestion() -> None:
    with traffic.wire() as (left, right), firing.told(left.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        old = traffic.connected(client, server, right.v4)
        with seen("tcpcong", left.net, "--dist") as result:
            new = traffic.connected(client, server, right.v6)
            quiet = traffic.connected(client, server, right.v4)
            right.lose()
            begun = [ours.send(997)["start"] for ours, _ in (old, new)]
            left.net.waits("TcpExt", "TCPTimeouts", 2)
            for ours, _ in (old, new):
                targets.until(lambda ours=ours: ours.info()["ca_state"] == 4)
            right.mend()
            ended = []
            for ours, _ in (old, new):
                targets.until(lambda ours=ours: not ours.info()["unacked"] and ours.info()["ca_state"] == 0)
                ended.append(ours.info()["end"])
        rows = {row["lport"]: row for row in result.of("congestion")}
        elapsed = result.lines[-1]["elapsed_s"] * 1e9
        assert CONG_STATES[4].endswith("Loss")
        assert set(rows) == {old[0].local.port, new[0].local.port}
        assert quiet[0].local.port not in rows
        for (ours, theirs), start, end in zip((old, new), begun, ended):
            row = rows[ours.local.port]
            assert (row["laddr"], row["raddr"], row["rport"]) == (ours.local.host, *theirs.local)
            assert (row["pid"], row["comm"], row["netns"]) == (client.pid, "client", left.net.inode)
            assert row["changes"] == 2
            assert 0 < row["loss_ns"] < end - start
            assert row["disorder_ns"] == row["recovery_ns"] == row["cwr_ns"] == 0
            assert 0 < row["open_ns"] <= elapsed - row["loss_ns"]
        lasted = {row["state"]: row for row in result.of("lasted")}
        assert lasted["loss"]["count"] == 2
        assert lasted["loss"]["total_us"] == pytest.approx(sum(row["loss_ns"] for row in rows.values()) / 1000, abs=10)
        assert lasted["open"]["count"] == 1  # the older connection's first state began before the tracing


@pytest.mark.skipif(not WITH_CONGESTION, reason="before Linux 5.19")
def test_congestion_of_some_ports() -> None:
    with traffic.wire() as (left, right), firing.told(left.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        pairs = [traffic.connected(client, server, host) for host in (right.v4, right.v6)]
        port = pairs[1][0].local.port
        with seen("tcpcong", left.net, "-L", f"{port}-{port}", "-R", "1-65535") as result:
            right.lose()
            for ours, _ in pairs:
                ours.send(997)
            for ours, _ in pairs:
                targets.until(lambda ours=ours: ours.info()["ca_state"] == 4)
            right.mend()
        assert [(row["lport"], row["ip"], row["changes"] >= 1) for row in result.of("congestion")] == [(port, 6, True)]


@pytest.mark.skipif(not WITH_CONGESTION, reason="before Linux 5.19")
def test_ranges_of_ports_that_are_none() -> None:
    for word in ("5-4", "x", "70000", "-1"):
        assert text("tcpcong", f"-L{word}")[0] == 2
    with pytest.raises(TargetError):
        pyebpf.tcpcong(local_range=(5, 4))


@pytest.mark.skipif(not WITH_CONGESTION, reason="before Linux 5.19")
def test_a_connection_that_hangs() -> None:
    """The state it is in counts, interval by interval; an ended one is shown once."""
    with traffic.wire() as (left, right), firing.told(left.net), pyebpf.tcpcong(netns=left.net.inode) as session:
        client, server = left.net.actor("client"), right.net.actor("server")
        ours, theirs = traffic.connected(client, server, right.v4)
        right.lose()
        ours.send(997)
        targets.until(lambda: ours.info()["ca_state"] == 4)
        (first,) = session.interval()
        (second,) = session.interval()
        ours.reset(), theirs.close()
        (third,) = session.interval()
        assert session.interval() == []
        assert [one.changes for one in (first, second, third)] == [1, 0, 0]
        assert [one.open_ns > 0 for one in (first, second, third)] == [True, False, False]
        assert all(one.loss_ns > 0 and (one.laddr, one.lport) == ours.local for one in (first, second, third))
        lasted = session.lasted()
        assert {state: histogram.count for state, histogram in lasted.items()} == {"open": 1, "loss": 1}
        assert lasted["loss"].total == pytest.approx(sum(one.loss_ns for one in (first, second, third)) / 1000, abs=2)


@pytest.mark.skipif(not WITH_CONGESTION, reason="before Linux 5.19")
def test_a_handshake_that_hangs() -> None:
    with pyebpf.tcpcong() as session, traffic.wire() as (left, right), firing.told(left.net):
        client, server = left.net.actor("client"), right.net.actor("server")
        listener = server.listen(right.v6)
        right.lose()
        attempt = client.connect(listener, "start")
        left.net.waits("Tcp", "RetransSegs", 1)
        (row,) = [one for one in session.interval() if one.netns == left.net.inode]
        assert (row.rport, row.pid, row.changes) == (listener.address.port, client.pid, 1)
        assert 0 < row.open_ns + row.loss_ns < time.monotonic_ns() - attempt.reply["start"]


def test_kernels_that_tell_nothing_of_congestion() -> None:
    try:
        with pyebpf.tcpcong() as session:
            assert WITH_CONGESTION
            assert session.interval() == [] or session.losses
    except Unsupported as error:
        assert not WITH_CONGESTION
        assert "no tracepoint tcp_cong_state_set" in str(error)


@pytest.mark.parametrize("tool", ["tcpdrop", "tcpretrans", "tcprtt", "tcpsynbl"])
def test_for_people(tool: str) -> None:
    """A second of nothing: the heading, or that there was nothing."""
    with traffic.namespace() as net:
        code, out, error = text(tool, "--netns", str(net.inode), "-d", "0.1")
    assert code == 0, error
    assert "Tracing" in error
    assert len(out.splitlines()) <= 2
