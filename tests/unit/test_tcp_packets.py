# SPDX-License-Identifier: BSD-2-Clause
"""What tcpdrop, tcpretrans, tcprtt and tcpcong make of numbers and words, without a kernel."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pyebpf.cli.tcpcong import _range
from pyebpf.errors import TargetError
from pyebpf.output.histogram import percentiles
from pyebpf.target.stacks import KernelSymbols
from pyebpf.tools.histogram import BUCKETS, Histogram, bucket_bounds, highest
from pyebpf.tools.tcp.states import STATES, flag_names
from pyebpf.tools.tcp.tcpdrop import _reason
from pyebpf.tools.tcp.tcprtt import _packed
from pyebpf.tools.text import endpoint


@pytest.mark.parametrize(
    ("flags", "names"), [(0, "0"), (2, "SYN"), (0x12, "SYN|ACK"), (0xFF, "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR")]
)
def test_flags(flags: int, names: str) -> None:
    assert flag_names(flags) == names


def test_states() -> None:
    assert (STATES[1], STATES[7], STATES[10], STATES[12]) == ("ESTABLISHED", "CLOSE", "LISTEN", "NEW_SYN_RECV")


def test_reasons() -> None:
    names = {3: "SKB_DROP_REASON_NO_SOCKET", 196610: "QDISC_DROP_OVERLIMIT"}
    assert _reason(names, 3) == "NO_SOCKET"
    assert _reason(names, 196610) == "QDISC_DROP_OVERLIMIT"
    assert _reason(names, 131073) == "131073"


def test_endpoints() -> None:
    assert endpoint("192.0.2.1", 80) == "192.0.2.1:80"
    assert endpoint("2001:db8::1", 80) == "[2001:db8::1]:80"


def test_addresses() -> None:
    assert _packed("192.0.2.1") == (4, bytes([192, 0, 2, 1]) + bytes(12))
    assert _packed("::ffff:192.0.2.1") == _packed("192.0.2.1")
    assert _packed("::1") == (6, bytes(15) + b"\1")
    for wrong in ("", "192.0.2", "::g", "192.0.2.1:80", "fe80::1%eth0", "192.0.2.1\0"):
        with pytest.raises(TargetError):
            _packed(wrong)


@pytest.mark.parametrize(
    ("text", "ports"), [("80", (80, 80)), ("8000-8100", (8000, 8100)), ("0-65535", (0, 65535)), ("7-7", (7, 7))]
)
def test_ranges_of_ports(text: str, ports: tuple[int, int]) -> None:
    assert _range(text) == ports


@pytest.mark.parametrize("text", ["", "-", "80-", "-80", "8100-8000", "65536", "1-65536", "x", "1-2-3", "٣", "1 - 2"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        _range(text)


def test_percentiles_without_a_maximum() -> None:
    buckets = [0] * BUCKETS
    assert highest(buckets) == 0
    buckets[100] = 10
    low, high = bucket_bounds(100)
    assert highest(buckets) == high
    histogram = Histogram(buckets, 10 * low, highest(buckets))
    assert low <= histogram.percentile(50) <= histogram.percentile(99) <= high
    assert percentiles(histogram, 1000, "msecs").endswith(" msecs")


def test_where_a_kernel_function_is(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffffffff81000100 T first\nffffffff81000300 t second\nffffffff81000300 T alias\nffffffff81000200 t middle\n"
        "ffffffffa0000000 t first\t[module]\n"
    )
    symbols = KernelSymbols(str(path))
    assert symbols.extent("first") == (0xFFFFFFFF81000100, 0xFFFFFFFF81000200)
    assert symbols.extent("second") == symbols.extent("alias") == (0xFFFFFFFF81000300, 0xFFFFFFFFA0000000)
    assert symbols.extent("firs") is None
    assert KernelSymbols(str(tmp_path / "none")).extent("first") is None
