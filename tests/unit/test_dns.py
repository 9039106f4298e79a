# SPDX-License-Identifier: BSD-2-Clause
"""Answers of name servers, good and hostile."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from pyebpf.tools.tcp.dns import Names, names_of

_NAME = b"\x07example\x03org\x00"
_QUESTION = _NAME + struct.pack("!HH", 1, 1)


def message(
    *answers: bytes, flags: int = 0x8180, questions: int = 1, question: bytes = _QUESTION, count: int = -1
) -> bytes:
    header = struct.pack("!6H", 23, flags, questions, len(answers) if count < 0 else count, 0, 0)
    return header + question + b"".join(answers)


def answer(kind: int, data: bytes, name: bytes = b"\xc0\x0c", group: int = 1, size: int = -1) -> bytes:
    return name + struct.pack("!HHIH", kind, group, 60, len(data) if size < 0 else size) + data


V4, V6 = answer(1, bytes([192, 0, 2, 1])), answer(28, socket.inet_pton(socket.AF_INET6, "2001:db8::1"))


def test_addresses_get_the_name_that_was_asked_for() -> None:
    alias = answer(5, b"\x03www\xc0\x0c")
    told = list(names_of(message(alias, V4, answer(1, bytes([192, 0, 2, 2]), name=b"\x03www\xc0\x0c"), V6)))
    assert told == [(address, b"example.org") for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]


def test_the_root_s_name() -> None:
    assert list(names_of(message(V4, question=b"\0\0\1\0\1"))) == [("192.0.2.1", b".")]


@pytest.mark.parametrize(
    "broken",
    [
        b"", bytes(11), bytes(12),
        message(V4, flags=0x0100),  # a question
        message(V4, flags=0x8183),  # no such name
        message(V4, questions=0), message(V4, questions=2),
        message(V4, question=b"\xc0\x0c\0\1\0\1"),  # points at itself
        message(V4, question=b"\xc0\x0e\xc0\x0c\0\1\0\1"),  # in a circle
        message(V4, question=b"\x40a\0\0\1\0\1"), message(V4, question=b"\xff\xff"),
        message(V4, question=b"\x01a" * 200 + b"\0\0\1\0\1"),
        message(V4)[:-1], message(V4, question=b"\x3fa"),
        message(answer(1, b"\1\2\3")), message(answer(28, b"\1\2\3\4")), message(answer(1, b"\1\2\3\4", group=3)),
        message(answer(1, b"\1\2", size=4)), message(answer(16, b"", size=65535), V4),
    ],
)  # fmt: skip
def test_what_is_no_answer_says_nothing(broken: bytes) -> None:
    assert list(names_of(broken)) == []


def test_what_comes_before_the_break_counts() -> None:
    assert list(names_of(message(V4, count=65535))) == [("192.0.2.1", b"example.org")]


def test_anything_at_all_is_survived() -> None:
    chance = random.Random(23)
    whole = message(V4, V6)
    for _ in range(9973):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 7)):
            broken[chance.randrange(2, len(broken))] = chance.randrange(256)
        for address, name in names_of(bytes(broken[: chance.randrange(len(broken) + 1)])):
            assert address and len(name) < 1024


def test_memory_is_bounded() -> None:
    names = Names()
    for number in range(10_007):
        names.learn(message(answer(1, struct.pack("!I", number))))
    assert names.get("0.0.0.6") is None
    assert names.get("0.0.0.7") == names.get("0.0.39.22") == b"example.org"
    names.learn(message(answer(1, struct.pack("!I", 7)), question=b"\x03new\0\0\1\0\1"))
    assert names.get("0.0.0.7") == b"new"
