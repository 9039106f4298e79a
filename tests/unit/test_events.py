# SPDX-License-Identifier: BSD-2-Clause
"""Texts, addresses and columns of the kernel's events, without the kernel."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import pytest

from pyebpf.cli import events as commands
from pyebpf.cli.options import milliseconds, ports, positive_seconds, whole_number
from pyebpf.tools.record import as_dict
from pyebpf.tools.text import Cut, addresses, names_of_bits, shown, text_behind
from pyebpf.tools.tool import SECONDS, TIME, Column, Option, Tool


def behind(head: int, room: int, text: bytes, size: int | None = None) -> bytes | None:
    """A record with a text behind it, as the kernel leaves it: what is behind the NUL is anything."""
    record = b"\xee" * head + text[: room - 1] + b"\0"
    record += b"\xee" * (head + room - len(record))
    size = min(len(text) + 1, room) if size is None else size
    return text_behind(memoryview(record), head, size)


@pytest.mark.parametrize("text", [b"", b"a", b"x" * 126, b"\xff\n\x1b"])
def test_text_behind_a_record(text: bytes) -> None:
    found = behind(40, 128, text)
    assert found == text and not isinstance(found, Cut)


def test_text_that_was_cut_or_not_read() -> None:
    for room in (128, 4104):
        found = behind(40, room, b"x" * room)
        assert isinstance(found, Cut) and found == b"x" * (room - 1)
    longest = behind(40, 4104, b"x" * 4095)  # PATH_MAX without the NUL: whole
    assert longest == b"x" * 4095 and not isinstance(longest, Cut)
    assert behind(40, 128, b"", -14) is None and behind(40, 128, b"", 0) == b""
    assert shown(None) == b"<unreadable>" and shown(b"") == b""


def test_names_of_bits() -> None:
    names = {1: "A", 2: "B", 6: "BC"}
    assert names_of_bits(0, names) == "0x0"
    assert names_of_bits(1, names) == "A"
    assert names_of_bits(3, names) == "A|B"
    assert names_of_bits(6, names) == "B|BC"
    assert names_of_bits(9, names) == "A|0x8"
    assert names_of_bits(1 << 40, names) == "0x10000000000"


def test_addresses() -> None:
    class Flow(NamedTuple):
        family: int
        local: bytes
        remote: bytes

    four = Flow(2, b"\x7f\0\0\1" + bytes(12), b"\xc0\0\2\1" + bytes(12))
    assert addresses(four) == (4, "127.0.0.1", "192.0.2.1")
    six = Flow(10, bytes(15) + b"\1", b" \1\r\xb8" + bytes(12))
    assert addresses(six) == (6, "::1", "2001:db8::")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (positive_seconds, {"1": 1, "0.5": 0.5, "1e3": 1000}, ["0", "-1", "nan", "inf", "", "x", "1e10"]),
        (whole_number, {"0": 0, "4294967295": 4294967295}, ["-1", "1.0", "", "\u00b2", "9" * 30]),
        (ports, {"80": (80,), "80,443": (80, 443), "65535": (65535,)}, ["", "0", "65536", "80,", "a", "-1", "\u00b2"]),
        (milliseconds, {"1": 1.0, "0.5": 0.5}, ["-1", "nan", "x", ""]),
    ],
)
def test_kinds_of_options(kind: Any, good: dict[str, Any], bad: list[str]) -> None:
    for text, value in good.items():
        assert kind(text) == value
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)


class Event(NamedTuple):
    time: int
    comm: bytes
    path: bytes | None
    latency: int


def verb(**_: object) -> None:
    """Stands for a session's function; nothing is traced here."""


TOOL = Tool(
    name="tool",
    description="A tool.",
    verb=verb,
    kind="event",
    options=(Option("long", ("-l", "--long"), "more"), Option("", ("-w", "--wide-names"), "wider")),
    columns=(
        Column("COMM", 6, lambda e: e.comm, "!wide-names"),
        Column("COMM", 12, lambda e: e.comm, "wide-names"),
        Column("LAT", 5, lambda e: e.latency, "long|wide-names", right=True),
        Column("PATH", 0, lambda e: shown(e.path)),
    ),
)


def printed(capfd: pytest.CaptureFixture[str], tool: Tool, arguments: list[str], *events: Event) -> list[str]:
    lines = commands.Lines(tool, commands.parser_for(tool).parse_args(arguments))
    return (capfd.readouterr().out + "".join(lines.line(event) for event in events)).splitlines()


def test_columns_and_their_conditions(capfd: pytest.CaptureFixture[str]) -> None:
    event = Event(0, b"bash", b"/etc", 7)
    assert printed(capfd, TOOL, [], event) == ["COMM   PATH", "bash   /etc"]
    assert printed(capfd, TOOL, ["-l"], event) == ["COMM     LAT PATH", "bash       7 /etc"]
    assert printed(capfd, TOOL, ["-w"], event) == ["COMM           LAT PATH", "bash             7 /etc"]


def test_what_is_not_known_cut_or_dangerous(capfd: pytest.CaptureFixture[str]) -> None:
    rows = printed(
        capfd, TOOL, [],
        Event(0, b"a\x1bb", None, 0), Event(0, b"%s%n", Cut(b"/long"), 0), Event(0, b"\xff", b"a\nb\xe2\x80\xae", 0),
    )  # fmt: skip
    assert rows[1:] == ["a\\x1bb <unreadable>", "%s%n   /long…", "\\xff   a\\x0ab\\u202e"]


def test_seconds_count_from_the_first_event(capfd: pytest.CaptureFixture[str]) -> None:
    events = [Event(5_000_000_000, b"a", b"", 0), Event(6_500_000_001, b"b", b"", 0)]
    rows = printed(capfd, TOOL, ["-t"], *events)
    assert rows[0].split() == ["TIME(s)", "COMM", "PATH"]
    assert [row.split()[0] for row in rows[1:]] == ["0.000000", "1.500000"]
    always = TOOL._replace(columns=(SECONDS, *TOOL.columns))
    assert printed(capfd, always, [], *events)[2].startswith("1.500000 ")
    with pytest.raises(SystemExit):
        commands.parser_for(always).parse_args(["-t"])  # there already
    assert printed(capfd, TOOL._replace(columns=(TIME,)), [], *events)[0] == "TIME"


def test_fields_of_json() -> None:
    fields = as_dict(Event(1, b"a", Cut(b"/x"), 2))
    assert fields == {"time_ns": 1, "comm": "a", "path": "/x", "path_cut": True, "latency_ns": 2}
    assert "path_cut" not in as_dict(Event(1, b"a", None, 2))


def test_letters_that_a_tool_takes() -> None:
    """A tool's own letter wins over a common option's; every long name stays."""
    mine = TOOL._replace(options=(Option("number", ("-n", "--number"), "mine", "count"),), scope=("pid",),
                         letters={"duration": "-D", "timestamp": ""})  # fmt: skip
    arguments = commands.parser_for(mine).parse_args(["-n", "3", "--max-events", "7", "-D", "1", "--timestamp"])
    assert (arguments.number, arguments.max_events, arguments.duration, arguments.timestamp) == (3, 7, 1.0, True)
    for flags in (["-d", "1"], ["-t"]):
        with pytest.raises(SystemExit):
            commands.parser_for(mine).parse_args(flags)
