# SPDX-License-Identifier: BSD-2-Clause
"""Subnets as people write them, and what is wrong with others."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton

import pytest

from pyebpf.errors import TargetError
from pyebpf.tools.tcp import subnets
from pyebpf.tools.tcp.subnets import Subnet, parse_subnet, parse_subnets


def test_both_families() -> None:
    assert parse_subnet("10.0.0.0/8") == Subnet("10.0.0.0/8", AF_INET, bytes([10, 0, 0, 0]), 8)
    assert parse_subnet("0.0.0.0/0") == Subnet("0.0.0.0/0", AF_INET, bytes(4), 0)
    assert parse_subnet("192.0.2.1/32").length == 32
    assert parse_subnet("2001:db8::/29") == Subnet("2001:db8::/29", AF_INET6, inet_pton(AF_INET6, "2001:db8::"), 29)
    assert parse_subnet("::/0") == Subnet("::/0", AF_INET6, bytes(16), 0)
    assert parse_subnet("::1/128").length == 128


@pytest.mark.parametrize(
    ("outer", "inner", "holds"),
    [
        ("10.0.0.0/8", "10.7.0.0/16", True), ("10.7.0.0/16", "10.0.0.0/8", False), ("10.0.0.0/8", "10.0.0.0/8", True),
        ("10.0.0.0/9", "10.128.0.0/9", False), ("0.0.0.0/0", "192.0.2.1/32", True), ("0.0.0.0/0", "::/0", False),
        ("::/0", "0.0.0.0/0", False), ("fe80::/10", "fe90::/16", True), ("fe80::/10", "ff00::/16", False),
    ],
)  # fmt: skip
def test_one_within_another(outer: str, inner: str, holds: bool) -> None:
    assert parse_subnet(outer).holds(parse_subnet(inner)) is holds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no IPv4 address"), ("/8", "no IPv4 address"), ("10.0.0/8", "no IPv4 address"), ("1/8", "no IPv4 address"),
        ("host/8", "no IPv4 address"), ("10.0.0.256/32", "no IPv4 address"), (" 10.0.0.0/8", "no IPv4 address"),
        ("fe80::%lo/64", "no IPv6 address"), ("::g/8", "no IPv6 address"), ("[::1]/128", "no IPv6 address"),
        ("10.0.0.0\0/8", "no IPv4 address"), ("\ud800/8", "no IPv4 address"),
        ("10.0.0.0", "no prefix length"), ("::1", "no prefix length"),
        ("10.0.0.0/", "from 0 to 32"), ("10.0.0.0/33", "from 0 to 32"), ("10.0.0.0/-1", "from 0 to 32"),
        ("10.0.0.0/8/8", "from 0 to 32"), ("10.0.0.0/٣", "from 0 to 32"), ("::/129", "from 0 to 128"),
        ("10.0.0.0/" + "9" * 5000, "from 0 to 32"), ("10.0.0.0/ 8", "from 0 to 32"),
        ("10.0.0.1/8", "bits behind the prefix"), ("2001:db8::1/32", "bits behind the prefix"),
    ],
)  # fmt: skip
def test_what_is_no_subnet(text: str, why: str) -> None:
    with pytest.raises(TargetError, match=why) as error:
        parse_subnet(text)
    assert len(str(error.value)) < 200


def test_lists() -> None:
    assert [subnet.name for subnet in parse_subnets(["::/0", "10.0.0.0/8"])] == ["::/0", "10.0.0.0/8"]
    with pytest.raises(TargetError, match="no subnet"):
        parse_subnets([])
    with pytest.raises(TargetError, match="at most"):
        parse_subnets(["10.0.0.0/8"] * (subnets.MOST + 1))
