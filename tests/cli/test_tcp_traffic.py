# SPDX-License-Identifier: BSD-2-Clause
"""The commands tcplife, tcpstates, tcptop and tcpsubnet."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from collections.abc import Callable, Iterator

import pytest
import traffic

SUBNETS = "127.7.0.0/16,127.0.0.0/8,::1/128"


@pytest.fixture
def net() -> Iterator[traffic.Namespace]:
    with traffic.namespace() as made:
        yield made


def one_connection(net: traffic.Namespace, host: str = "127.0.0.1") -> tuple[traffic.Connection, traffic.Connection]:
    ours, theirs = traffic.connected(net.actor("a,b"), net.actor("server"), host)
    ours.send(10007), theirs.receive(10007)
    theirs.send(2048), ours.receive(2048)
    ours.close(), theirs.receive(1), theirs.close()
    return ours, theirs


def test_lives_in_columns(net: traffic.Namespace, attached: Callable) -> None:
    run = attached("tcplife", "--netns", str(net.inode), "-n", "2")
    ours, theirs = one_connection(net)
    ran = run.end()
    assert ran.code == 0
    heading, *lines = ran.out.splitlines()
    assert heading.split() == ["PID", "COMM", "LADDR", "LPORT", "RADDR", "RPORT", "TX_KB", "RX_KB", "MS"]
    rows = {int(line.split()[0]): line.split() for line in lines}
    assert rows[ours.actor.pid][2:8] == ["127.0.0.1", str(ours.local.port), "127.0.0.1", str(ours.remote.port), "9.77",
                                         "2.00"]  # fmt: skip
    assert rows[theirs.actor.pid][6:8] == ["2.00", "9.77"]
    assert all(re.fullmatch(r"\d+\.\d\d", row[8]) for row in rows.values())


@pytest.mark.parametrize(("tool", "number"), [("tcplife", 2), ("tcpstates", 12)])
def test_comma_separated_values(net: traffic.Namespace, attached: Callable, tool: str, number: int) -> None:
    run = attached(tool, "--netns", str(net.inode), "-stT", "-n", str(number))
    ours, _ = one_connection(net, "::1")
    rows = list(csv.DictReader(io.StringIO(run.end().out)))
    assert len(rows) == number and {row["IP"] for row in rows} == {"6"}
    assert list(rows[0])[:2] == ["TIME", "TIME(s)"]
    assert "a,b" in {row["COMM"] for row in rows if row["PID"] == str(ours.actor.pid)}
    assert not any(None in row or None in row.values() for row in rows)


def test_states_as_json(net: traffic.Namespace, attached: Callable) -> None:
    run = attached("tcpstates", "--netns", str(net.inode), "--json", "-n", "12")
    one_connection(net)
    first, *records, last = [json.loads(line) for line in run.end().out.splitlines()]
    assert (first["type"], last["type"], last["reason"]) == ("attached", "end", "events")
    assert {record["type"] for record in records} == {"state"}
    assert [r["duration_ns"] for r in records if r["oldstate"] == "CLOSE"] == [None, None]
    assert all(r["duration_ns"] is not None for r in records if r["oldstate"] != "CLOSE")


def test_an_old_connection_says_at_least(net: traffic.Namespace, attached: Callable) -> None:
    ours, theirs = traffic.connected(net.actor("client"), net.actor("server"))
    text = attached("tcplife", "--netns", str(net.inode), "-n", "2")
    lines = attached("tcplife", "--netns", str(net.inode), "-n", "2", "--json")
    ours.close(), theirs.receive(1), theirs.close()
    assert [line.split()[-1][0] for line in text.end().out.splitlines()[1:]] == [">", ">"]
    records = [json.loads(line) for line in lines.end().out.splitlines()][1:-1]
    assert all(record["duration_ns"] is None and record["observed_ns"] > 0 for record in records)


def test_top(net: traffic.Namespace, attached: Callable) -> None:
    run = attached("tcptop", "--netns", str(net.inode), "600")
    six = one_connection(net, "::1")
    four = one_connection(net)
    ran = run.end(signal.SIGINT)
    assert ran.code == 0 and "\033" not in ran.out  # not a terminal
    load, *lines = [line.split() for line in ran.out.splitlines() if line]
    assert load[1] == "loadavg:" and len(load) == 7
    assert lines[0] == ["PID", "COMM", "LADDR", "RADDR", "RX_KB", "TX_KB"]
    assert lines[3] == ["PID", "COMM", "LADDR6", "RADDR6", "RX_KB", "TX_KB"]
    for line, (ours, _) in ((lines[1], four), (lines[4], six)):
        assert line == [str(ours.actor.pid), "a,b", f"{ours.local.host}:{ours.local.port}",
                        f"{ours.remote.host}:{ours.remote.port}", "2", "9"]  # fmt: skip
    assert len(lines) == 6


def test_top_reports(pyebpf: Callable) -> None:
    ran = pyebpf("tcptop", "-CS", "--json", "0.02", "3")
    kinds = [json.loads(line)["type"] for line in ran.out.splitlines()]
    assert kinds == ["attached", "traffic", "traffic", "traffic", "end"]
    for wrong in (["0"], ["x"], ["1", "0"], ["1", "1.5"]):
        assert pyebpf("tcptop", *wrong).code == 2


def test_subnets(net: traffic.Namespace, attached: Callable) -> None:
    text = attached("tcpsubnet", "--netns", str(net.inode), "-i", "600", "-f", "K", "-v", SUBNETS)
    lines = attached("tcpsubnet", "--netns", str(net.inode), "-i", "600", "-J", SUBNETS)
    one_connection(net)
    one_connection(net, "::1")
    ran = text.end(signal.SIGTERM)
    stamp, *rows = ran.out.splitlines()
    assert re.fullmatch(r"\[.+\]", stamp)
    assert [row.split() for row in rows] == [["127.0.0.0/8", "11"], ["::1/128", "11"]]
    assert "127.7.0.0/16, 127.0.0.0/8, ::1/128" in ran.err
    _, record, last = [json.loads(line) for line in lines.end(signal.SIGTERM).out.splitlines()]
    assert record["subnets"] == [{"subnet": "127.0.0.0/8", "bytes": 12055}, {"subnet": "::1/128", "bytes": 12055}]
    assert last["reason"] == "signal"


@pytest.mark.parametrize("wrong", ["", "10.0.0.0", "10.0.0.0/33", "10.1.0.0/8", "x/8", "10.0.0.0/8,", "\033[2J/8"])
def test_what_is_no_subnet(pyebpf: Callable, wrong: str) -> None:
    ran = pyebpf("tcpsubnet", "-d", "0.1", wrong)
    assert (ran.code, ran.out) == (2, "") and "subnet" in ran.err and "\033" not in ran.err


def test_a_format_that_is_none(pyebpf: Callable) -> None:
    assert pyebpf("tcpsubnet", "-f", "x").code == 2
