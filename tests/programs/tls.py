# SPDX-License-Identifier: BSD-2-Clause
"""A TLS server that sends back what it gets, and its own client, of Python's ssl: tls.py CERTIFICATE [MESSAGES [MOST]]

Waits for a line like the other programs. Its truth has a key "data": of each read and write of both whether it wrote,
how many bytes, and their SHA-256.
"""

import hashlib
import json
import os
import socket
import ssl
import sys
import threading

lock = threading.Lock()
data = []


def note(wrote: bool, text: bytes) -> None:
    with lock:
        data.append({"wrote": wrote, "size": len(text), "sum": hashlib.sha256(text).hexdigest()})


def read(stream: ssl.SSLSocket) -> bytes:
    text = stream.recv(4096)
    if text:
        note(False, text)
    return text


def write(stream: ssl.SSLSocket, text: bytes) -> None:
    sent = stream.send(text)
    assert sent == len(text)
    note(True, text)


def prompt(connection: socket.socket) -> socket.socket:
    """Without waiting for more to send."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def serve(listener: socket.socket, certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with context.wrap_socket(prompt(listener.accept()[0]), server_side=True) as stream:
        while True:
            text = read(stream)
            if not text:
                return
            write(stream, text)


def main(certificate: str, messages: str = "23", most: str = "10007") -> None:
    print(json.dumps({"ready": "tls", "pid": os.getpid()}), flush=True)
    sys.stdin.readline()
    listener = socket.create_server(("127.0.0.1", 0))
    server = threading.Thread(target=serve, args=(listener, certificate))
    server.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(prompt(socket.create_connection(listener.getsockname()))) as stream:
        for number in range(int(messages)):
            size = 1 + number * int(most) // int(messages)
            text = (bytes((number + 7 * at) % 256 for at in range(256)) * (size // 256 + 1))[:size]
            write(stream, text)
            got = 0
            while got < len(text):
                got += len(read(stream))
    server.join()
    print(json.dumps({"program": "tls", "pid": os.getpid(), "data": data}), flush=True)


main(*sys.argv[1:])
