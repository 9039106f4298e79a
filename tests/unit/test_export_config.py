# SPDX-License-Identifier: BSD-2-Clause
"""The agent's configuration: all errors at once, each with its line; and what files may try to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyebpf.cli.main import event_tools as command_tools
from pyebpf.export import config, eventtools, toml
from pyebpf.export.config import ConfigError, Selection, TraceConfig, load, parse

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/agent/pyebpf.toml"
TRACE = '[[trace]]\nname = "a"\ntool = "count"\ntargets = ["c:malloc"]\n'


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    return list(caught.value.problems)


def test_the_example_has_no_errors() -> None:
    found = load(str(EXAMPLE))
    assert found.listen == ("127.0.0.1", 9435) and found.max_memory == 200_000_000
    assert [trace.name for trace in found.traces] == ["dns", "shop-handlers", "nginx-tls", "envoy", "connects", "kills"]
    assert found.traces[1].max_rate == 20_000 and found.traces[1].cooldown == 60
    assert found.traces[2].selection == Selection(unit="nginx.service")
    assert found.traces[3].selection == Selection(exe="*/envoy")
    assert found.traces[4].labels == ("comm", "dport", "error")


def test_what_is_not_said() -> None:
    found = parse(TRACE)
    assert found == config.Config(traces=(TraceConfig("a", "count", ("c:malloc",)),))
    assert found.listen == ("127.0.0.1", 9435) and found.otlp is None


def test_everything() -> None:
    found = parse("""
        listen = "[::1]:0"
        interval = 0.5
        max_memory = "64MiB"
        otlp = { endpoint = "http://c:4318", interval = "1m", headers = { Authorization = "x" } }
        trace = [
          { name = "b", tool = "tcpconnect", cgroup = "/x", uid = 0, family = 4, remote_ports = [80, 443], dns = true },
          { name = "a", tool = "latency", targets = "/bin/x:f.*" },
        ]""".replace('f.*"', 'f.*", regex = true, pid = 1, max_probes = 5, allow_uretprobe = true, max_rate = 1, '
                     'cooldown = "2m", max_series = 3, process = { comm = "x*" }'))  # fmt: skip
    assert found.listen == ("::1", 0) and found.interval == 0.5 and found.max_memory == 64 << 20
    assert found.otlp == config.Otlp("http://c:4318", 60, (("Authorization", "x"),))
    assert found.traces == (
        TraceConfig(
            "b", "tcpconnect", selection=Selection(cgroup="/x"),
            options=(("dns", True), ("family", 4), ("remote_ports", (80, 443)), ("uid", 0)),
        ),
        TraceConfig("a", "latency", ("/bin/x:f.*",), True, 5, True, Selection((1,), comm="x*"), (), (), 1, 0.3, 120, 3),
    )  # fmt: skip


def test_all_errors_at_once_each_with_its_line() -> None:
    found = problems("""listen = "localhost"
intervall = 1
max_memory = "1kB"
[otlp]
[[trace]]
name = "a"
tool = "conut"
[[trace]]
name = "b"
tool = "latency"
targets = [
  "malloc",
]
max_rate = "many"
labels = ["comm"]
[[trace]]
name = "b"
tool = "tcpconnect"
labels = ["com"]
dns = 1
[[trace]]
tool = "tcptop"
""")
    assert [one.split(":")[1] for one in found] == [*"1234", *"7", "11", "14", "15", "17", "19", "20", "21", "22"]
    text = "\n".join(found)
    for expected in (
        "'localhost' is not HOST:PORT", "no key 'intervall': did you mean interval?", "not within",
        "[otlp] needs an endpoint", "no tool 'conut': did you mean count?", "'malloc' names no file",
        "'many' is not a whole number", "'latency' has no key 'labels'", "taken by the trace in line 9",
        "no field for a label 'com': did you mean comm?", "dns: 1 is not true or false", "this trace has no name",
        "tcptop reports sums rather than events",
    ):  # fmt: skip
        assert expected in text, expected


@pytest.mark.parametrize(
    "text, line, what",
    [
        ("a = 1\nb = [\n c", 3, "invalid value"),
        ('a = "\x00"', 1, "illegal character"),
        ("[a]\n[a]", 2, "cannot declare"),
        ("a = " + "[" * 5000, 0, "nested too deeply"),
    ],
)
def test_syntax(text: str, line: int, what: str) -> None:
    [found] = problems(text)
    assert found.startswith(f"f:{line}: " if line else "f: ") and what in found


@pytest.mark.parametrize(
    "extra, what",
    [
        ('interval = "0s"', "interval"),
        ("interval = true", "a boolean is not a duration"),
        ('interval = "1 fortnight"', "is not a duration"),
        ('listen = "0:1"', "is not an IP address"),
        ('listen = "::1:80"', "in brackets"),
        ('listen = "127.0.0.1:99999"', "is not HOST:PORT"),
        ("listen = 9435", "is not a string"),
        ('otlp = { endpoint = "http://x", headers = { a = 1 } }', "headers: a: 1 is not a string"),
        ('otlp = { endpoint = "ftp://x" }', "is not a URL"),
        ("otlp = 1", "written as a table"),
        ("interval = nan", "not within"),
    ],
)
def test_values_at_the_top(extra: str, what: str) -> None:
    [found] = problems(f"{extra}\n{TRACE}")
    assert found.startswith("f:1: ") and what in found


@pytest.mark.parametrize(
    "extra, what",
    [
        ("max_rate = 0", "not within 1 to"),
        ("max_series = 1e3", "is not a whole number"),
        ("pid = -1", "not within"),
        ("pid = [1, 'x']", "is not a whole number"),
        ('process = "envoy"', "write process = {"),
        ('process = { exec = "x" }', "did you mean exe?"),
        ('cgroup = "/x"\nunit = "y"', "give one of them"),
        ("allow_uretprobe = true", "no key 'allow_uretprobe'"),
        ("dns = true", "no key 'dns'"),
        ('max_memory = "1GB"', "max_memory belongs at the top of the file"),
        ('unit = ""', "unit: the string is empty"),
        ('unit = "' + "x" * 4097 + '"', "longer than 4096"),
    ],
)
def test_values_of_a_trace(extra: str, what: str) -> None:
    [found] = problems(TRACE + extra)
    assert what in found and found.split(":")[1] in ("5", "6")


@pytest.mark.parametrize(
    "targets, what",
    [
        ('["./x:f"]', "write the whole path"),
        ('["x/y:f"]', "write the whole path"),
        ('[":f"]', "means the program of a process"),
        ("[]", None),
        ("[1]", "is not a string"),
        ('["./x:f", 1, "c:f", "x:"]', "write the whole path; 1 is not a string; 'x:'"),
        ('[""]', "empty"),
        ('["c:f\\u0000"]', "NUL"),
    ],
)
def test_targets(targets: str, what: str | None) -> None:
    text = TRACE.replace('["c:malloc"]', targets)
    [found] = problems(text)
    assert found.startswith("f:4: ") and (what or "not 1 to") in found


@pytest.mark.parametrize(
    "tool, what",
    [
        ("stackcount", "stackcount isn't exported: of functions there are count and latency"),
        ("tcptop", "reports sums rather than events"),
        ("funclatency", "did you mean latency"),
    ],
)
def test_tools(tool: str, what: str) -> None:
    """What is wrong with the rest of the trace is told all the same."""
    found = problems(TRACE.replace("count", tool) + "max_rate = 0")
    assert len(found) == 2 and found[0].startswith("f:3: ") and what in found[0] and "max_rate: 0" in found[1]


def test_regular_expressions_are_compiled() -> None:
    [found] = problems(TRACE.replace("malloc", "((") + "regex = true")
    assert found.startswith("f:4: ") and "unterminated" in found


def test_a_file_with_a_thousand_errors() -> None:
    found = problems("".join(f"k{number} = 1\n" for number in range(1000)) + TRACE)
    assert len(found) == 51 and found[-1] == "f: and 950 more errors"


def test_too_many_traces() -> None:
    found = problems("".join(TRACE.replace('"a"', f'"{number}"') for number in range(300)))
    assert found == ["f:1025: 300 traces are more than 256"]


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (toml.MOST_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"# one\na = '\xff'\n")
    for path, what in (
        (tmp_path / "fifo", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "large", "larger than 256 KiB"),
        (tmp_path / "latin", ":2: it isn't UTF-8"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(str(path))
        assert str(path) in str(caught.value) and what in str(caught.value)


def test_lines_of_keys() -> None:
    lines = toml.locate(
        '# one\na = 1\n"b c" = """\n[x]\ny = 1\n"""\n[t . u]\nk.l = [\n  1, # ]\n  "]",\n]\n[[v]]\n[[v]]\n'
        "w = { z = 1 }\n"
        "[v.s]\nq = '''\n'\n'''\nr = 2\n"
    )
    assert lines == {
        ("a",): 2, ("b c",): 3, ("t", "u"): 7, ("t", "u", "k"): 8, ("t", "u", "k", "l"): 8, ("v",): 12, ("v", 0): 12,
        ("v", 1): 13, ("v", 1, "w"): 14, ("v", 1, "s"): 15, ("v", 1, "s", "q"): 16, ("v", 1, "s", "r"): 19,
    }  # fmt: skip


@given(st.text(alphabet="[]{}=.,\"'#\\ \nab1-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """And what the locator makes of it ends; it knows every key of the top."""
    toml.locate(text)
    try:
        document = toml.parse(text)
    except toml.Malformed:
        return
    assert all(document.line((key,)) >= 1 for key in document.values)


def test_tools_are_those_of_the_command() -> None:
    names = {module.rpartition(".")[2] for module in command_tools()}
    assert set(eventtools.event_tools()) <= names
    assert {"tcpconnect", "opensnoop", "execsnoop", "tcplife", "sslsniff"} <= set(eventtools.event_tools())


def test_limits_can_change_while_attached() -> None:
    one = TraceConfig("a", "count", ("c:malloc",))
    assert one.what() == one._replace(max_rate=5, cooldown=1.0).what() != one._replace(regex=True).what()
