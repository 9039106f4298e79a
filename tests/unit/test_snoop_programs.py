# SPDX-License-Identifier: BSD-2-Clause
"""How sslsniff, gethostlatency and threadsnoop show what they have seen."""

from __future__ import annotations

from typing import Any

import pytest

from pyebpf.tools.snoop import gethostlatency, sslsniff, threadsnoop
from pyebpf.tools.text import Cut


def tls(data: bytes | None, size: int | None = None, function: str = "READ/RECV") -> sslsniff.TlsData:
    length = len(data or b"") if size is None else size
    return sslsniff.TlsData(1, 2, 3, 4, 5, b"x", function, length, data, sslsniff._hex(data), "SSL_read", "/libssl.so")


def test_a_block_of_text() -> None:
    begin, *lines, end, empty = sslsniff._as_text(tls(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert (begin, end, empty) == ("----- DATA -----", "----- END DATA -----", "")
    assert lines == ["GET / HTTP/1.1", "Host: x", "", ""]


def test_what_is_missing_is_said() -> None:
    assert sslsniff._as_text(tls(Cut(b"abc"), 1000))[-2] == "----- END DATA (TRUNCATED, 997 bytes lost) -----"
    assert sslsniff._as_text(tls(None, 1000)) == ["----- DATA -----", "<unreadable>", "----- END DATA -----", ""]
    assert sslsniff._as_hex(tls(None, 1000))[1] == "<unreadable>"
    assert sslsniff._as_text(tls(b"", 0, "HANDSHAKE")) == []


def test_hexadecimal() -> None:
    _, first, second, *_ = sslsniff._as_hex(tls(bytes(range(60, 77)) + b"\x1b"))
    assert first == "00000000  3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b  <=>?@ABCDEFGHIJK"
    assert second == "00000010  4c 1b                                            L."


@pytest.mark.parametrize("data, shown", [(b"plain", None), (b"\xff\x00", "ff00"), ("ü".encode(), None), (None, None)])
def test_bytes_that_are_no_text_are_kept_for_json(data: bytes | None, shown: str | None) -> None:
    assert tls(data).data_hex == shown


def test_errors_of_lookups() -> None:
    assert gethostlatency._ERRORS[-2] == "EAI_NONAME" and gethostlatency._ERRORS[-3] == "EAI_AGAIN"


@pytest.mark.parametrize("function, offset, shown", [("main", 0, "main"), ("main", 4, "main+0x4"), (None, 0, "0x1234")])
def test_functions_of_threads(function: str | None, offset: int, shown: str) -> None:
    event: Any = threadsnoop.NewThread(1, 2, 3, 4, b"x", function, offset, "", 0x1234, 0)
    assert threadsnoop._function(event) == shown
