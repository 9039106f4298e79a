# SPDX-License-Identifier: BSD-2-Clause
"""A small HTTP/1.1 server (RFC 9112) for what scrapers ask.

One thread, a bounded number of connections and bytes, and a deadline for each: a slow or silent client costs a
descriptor for ten seconds. Every answer closes its connection.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pyebpf.errors import Error

MOST_CONNECTIONS = 64
_MOST_REQUEST = 16 << 10
_SECONDS = 10.0
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}  # fmt: skip
_TEXT = "text/plain; charset=utf-8"


class Response(NamedTuple):
    """An answer."""

    status: int
    content_type: str
    body: bytes


class Connection:
    """A client. `answer` is None while the request is read."""

    __slots__ = ("answer", "deadline", "request", "socket")

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.request = b""
        self.answer: memoryview | None = None
        self.deadline = time.monotonic() + _SECONDS


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        Error: the port is in use (by whom, where that can be seen), or the address isn't this machine's.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        hint = None
        why = error.strerror
        if error.errno == errno.EADDRINUSE:
            why = f"the port is in use{_by_whom(port)}"
            hint = f"stop that program, or choose another port: listen in the configuration, or --listen {host}:PORT"
        elif error.errno == errno.EACCES:
            hint = "ports below 1024 need CAP_NET_BIND_SERVICE: choose another"
        elif error.errno == errno.EADDRNOTAVAIL:
            hint = "no interface of this machine has that address"
        raise Error(f"can't listen on {shown}: {why}", hint=hint) from None
    listener.setblocking(False)
    return listener


def _by_whom(port: int) -> str:
    """" by process 17 (python3)", as far as /proc shows it to us."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, "rb") as file:
                for line in file:
                    fields = line.split()
                    if len(fields) > 9 and fields[3] == b"0A" and fields[1].endswith(b":%04X" % port):  # TCP_LISTEN
                        inodes.add(f"socket:[{os.fsdecode(fields[9])}]")
        except OSError:
            continue
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") in inodes for fd in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/comm", "rb") as file:  # any bytes
                    return f" by process {pid} ({os.fsdecode(file.read().strip())})"
        except OSError:
            continue
    return ""


class Server:
    """Answers requests in a thread of its own.

    Args:
        listener: as `bind` makes it; it is the server's from now on.
        answer: of a path and the header Accept.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[str, str], Response]) -> None:
        self._answer = answer
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, Connection] = {}
        self._listener = listener
        self._wake, self._waker = os.pipe()
        self._next: deque[socket.socket] = deque()
        self._ended = False
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def move(self, listener: socket.socket) -> None:
        """Listens elsewhere from now on; requests that are being answered are still answered."""
        self._next.append(listener)
        os.write(self._waker, b"\0")

    def close(self) -> None:
        """Ends it."""
        self._ended = True
        os.write(self._waker, b"\0")
        self._thread.join()
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(1.0 if self._clients else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._wake:
                    os.read(self._wake, 64)
                    self._move()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._clients:
                    self._serve(self._clients[key.fileobj])
            now = time.monotonic()
            for client in [one for one in self._clients.values() if one.deadline < now]:
                self._drop(client)
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        self._selector.close()

    def _move(self) -> None:
        while self._next:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = self._next.popleft()
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # gone again; too many open files: whoever waits is served as others end
            time.sleep(0.01)
            return
        client.setblocking(False)
        if len(self._clients) >= MOST_CONNECTIONS:
            self._drop(min(self._clients.values(), key=lambda one: one.deadline))
        self._clients[client] = Connection(client)
        self._selector.register(client, selectors.EVENT_READ)

    def _drop(self, client: Connection) -> None:
        self._selector.unregister(client.socket)
        del self._clients[client.socket]
        client.socket.close()

    def _serve(self, client: Connection) -> None:
        try:
            if client.answer is None:
                data = client.socket.recv(_MOST_REQUEST)
                client.request += data
                whole = b"\r\n\r\n" in client.request or b"\n\n" in client.request
                if not data and not whole:
                    return self._drop(client)
                if len(client.request) > _MOST_REQUEST:
                    client.answer = _written(Response(431, _TEXT, b"the request is too large\n"), True)
                elif not whole:
                    return None
                else:
                    client.answer = self._answered(client.request)
                client.deadline = time.monotonic() + _SECONDS  # whoever waited for others' answers has time to read
                self._selector.modify(client.socket, selectors.EVENT_WRITE)
            sent = client.socket.send(client.answer)
            client.answer = client.answer[sent:]
            if not client.answer:
                client.socket.shutdown(socket.SHUT_WR)
                self._drop(client)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._drop(client)
        return None

    def _answered(self, request: bytes) -> memoryview:
        head = request.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("latin-1").split("\n")
        words = head[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
            return _written(Response(400, _TEXT, b"this is no request\n"), True)
        if words[0] not in ("GET", "HEAD"):
            return _written(Response(405, _TEXT, b"only GET and HEAD\n"), True)
        accept = ",".join(line[7:].strip() for line in head[1:] if line[:7].lower() == "accept:")
        try:
            response = self._answer(words[1].partition("?")[0], accept)
        except Exception as error:  # a fault of ours must not end the thread that would tell of it
            response = Response(500, _TEXT, f"{type(error).__name__}: {error}\n".encode("ascii", "backslashreplace"))
        return _written(response, words[0] == "GET")


def _written(response: Response, with_body: bool) -> memoryview:
    """A response as bytes."""
    allow = "Allow: GET, HEAD\r\n" if response.status == 405 else ""
    head = (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\nContent-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n{allow}Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return memoryview(head.encode() + (response.body if with_body else b""))
