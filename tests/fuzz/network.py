# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for what comes over a network: requests to the agent, answers of name servers."""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Iterator

from pyebpf.export import http as server
from pyebpf.tools.tcp.dns import Names, names_of

from .reader import packed, reader, unpacked

_REQUESTS = (
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n", b"HEAD / HTTP/1.0\n\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"GET /healthz?a=b HTTP/1.1\r\naccept:x\r\n\r\nmore",
)  # fmt: skip


def _answer(path: str, accept: str) -> server.Response:
    if path == "/fail":
        raise RuntimeError("the fault\r\nSet-Cookie: " + accept)
    return server.Response(200, "text/plain", path.encode("latin-1"))


@reader("export.http", lambda: (packed(b"\x20\x40", one) for one in _REQUESTS), pieces=2, megabytes=64,
        words=(b"\r\n\r\n", b"\n\n", b"GET ", b" HTTP/1.1", b"Accept: ", b"/fail"))  # fmt: skip
def http(data: bytes) -> None:
    """Requests as they come, in pieces: each is answered, or the connection is closed, and nothing else is held."""
    cuts, request = unpacked(data, 2)
    one = server.Server.__new__(server.Server)  # without its thread
    one._answer = _answer
    one._selector = selectors.DefaultSelector()
    one._clients = {}
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        theirs.settimeout(0)
        client = one._clients[ours] = server.Connection(ours)
        one._selector.register(ours, selectors.EVENT_READ)
        at = 0
        for size in (*(cuts[:32] or b"\xff"), len(request)):
            piece = request[at : at + size * 8]
            at += len(piece)
            if piece:
                try:
                    theirs.sendall(piece)
                except OSError:
                    break
            if one._clients and client.answer is None:
                one._serve(client)
            assert len(client.request) <= 64 << 10, "a request has no bound"
        try:
            theirs.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        received = b""
        for _ in range(64):
            if one._clients:
                one._serve(client)
            try:
                received += theirs.recv(1 << 16)
            except OSError:
                pass
            if not one._clients:
                break
        assert not one._clients, "a connection is neither answered nor closed"
        if received:
            head, _, body = received.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            assert lines[0].startswith(b"HTTP/1.1 ") and b"\n" not in head.replace(b"\r\n", b""), "a broken answer"
            names = [line.partition(b":")[0] for line in lines[1:]]
            assert set(names) <= {b"Content-Type", b"Content-Length", b"Allow", b"Cache-Control",
                                  b"X-Content-Type-Options",
                                  b"Connection"}, "a header that the client made up"  # fmt: skip
            size = next(int(line[15:]) for line in lines if line.startswith(b"Content-Length:"))
            assert not body or len(body) == size
    finally:
        one._selector.close()
        ours.close()
        theirs.close()


def _name(text: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in text.split(b".")) + b"\0"


def _messages() -> Iterator[bytes]:
    question = _name(b"www.example.org") + struct.pack("!HH", 1, 1)
    for answers in (
        [(b"\xc0\x0c", 1, bytes([192, 0, 2, 1]))], [(b"\xc0\x0c", 28, bytes(16))],
        [(b"\xc0\x0c", 5, _name(b"a.example")), (b"\x01a\xc0\x10", 1, bytes(4))], [(_name(b"x"), 16, b"text")] * 3,
    ):  # fmt: skip
        rows = b"".join(name + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for name, kind, data in answers)
        yield struct.pack("!6H", 7, 0x8180, 1, len(answers), 0, 0) + question + rows
    yield struct.pack("!6H", 7, 0x8180, 1, 0xFFFF, 0, 0) + b"\xc0\x0c" * 40


@reader("tools.tcp.dns", _messages, words=(b"\xc0\x0c", b"\x81\x80", b"\0\1\0\1", b"\0\x1c\0\1"), megabytes=64)
def dns(data: bytes) -> None:
    """Answers of name servers."""
    for address, name in names_of(data):
        assert len(name) < 1 << 15 and isinstance(address, str)
    known = Names()
    known.learn(data)
    known.get("192.0.2.1")
