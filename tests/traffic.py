# SPDX-License-Identifier: BSD-2-Clause
"""Real TCP traffic with the truth known: processes that do what a test tells them, in network namespaces of its own.

Use::

    with traffic.namespace() as net:
        client, server = net.actor("client"), net.actor("server")
        listener = server.listen("127.0.0.1")
        ours = client.connect(listener)             # ours.local, ours.remote, ours.reply["start"], ["end"], ["errno"]
        theirs = server.accept(listener)
        ours.send(997, "sendfile"), theirs.receive(997, "splice")
        ours.close(), theirs.close()
        assert (ours.sent, theirs.received) == (997, 997)
        assert net.counters()["Tcp"]["ActiveOpens"] == 1

An actor is tests/programs/actor.c: it waits for a line, makes the system call, and answers with what the call returned.
Its acts that concern no socket: causes.py. All processes and namespaces are gone when the manager ends.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import targets

Word = Union[str, bytes, int, os.PathLike]  # type: ignore[type-arg]
Reply = dict[str, Any]

SENDS = ("send", "write", "sendto", "sendmsg", "writev", "sendfile", "splice", "sendmmsg")
RECEIVES = ("recv", "read", "recvfrom", "recvmsg", "readv", "splice", "recvmmsg", "peek", "trunc")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._:,+-")


class Refused(AssertionError):
    """The call failed and the test didn't expect that."""


class Address(NamedTuple):
    """Of one end of a connection."""

    host: str
    port: int


def program() -> Path:
    """The executable of all actors (tests/programs/actor.c)."""
    return targets.compiled("actor.c")


def quoted(word: Word) -> bytes:
    """One word of an actor's language: bytes other than plain ones are %XX, no bytes at all are "-"."""
    raw = b"%d" % word if isinstance(word, int) else os.fsencode(word)
    if raw in (b"", b"-"):
        return b"%2d" if raw else b"-"
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02x" % byte for byte in raw)


class Pending:
    """An act that has begun and may block (accept, a connect into the void)."""

    def __init__(self, actor: Actor, number: int) -> None:
        self._actor, self._number = actor, number

    def result(self) -> Reply:
        """Waits for its end."""
        return self._actor._reply(self._number)


class Actor:
    """A process that does what it is told, one act at a time in each of its threads and children.

    It dies with the thread that started it (PR_SET_PDEATHSIG): start it in one that outlives it.

    Every reply has: act, pid, tid, comm, ret, errno (0 if it did not fail; the name is ``errno.errorcode[...]``),
    start and end (CLOCK_MONOTONIC, ns, around the system call).

    Attributes:
        pid: its process number.
        comm: its name.
        reply: of its start.
    """

    def __init__(self, comm: str, net: str = "", prefix: Sequence[str] = ()) -> None:
        arguments = ["-c", comm, *(["-n", net] if net else [])]
        self._process = subprocess.Popen(
            [*prefix, str(program()), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._number = 0
        self._replies: dict[int, Reply] = {}
        ready = self._out.readline()
        assert ready, f"{comm} died before it was ready"
        self.pid: int = json.loads(ready)["pid"]
        self.comm = comm

    # The language

    def begin(self, act: str, *words: Word, who: str = "", path: str = "") -> Pending:
        """Starts an act, without waiting for its end.

        Args:
            who: a thread or child made by `thread` or `fork` ("worker"; "child/worker"), or the main thread.
            path: what is special about the memory that path names are in: "cold" (no page table has it), "disk" (not in
                memory either), "edge" (its NUL is the last byte that is mapped), "cross" (the second half is cold).
        """
        self._number += 1
        line = [self._number, who or ".", f"{act}+{path}" if path else act, *words]
        self._in.write(b" ".join(map(quoted, line)) + b"\n")
        self._in.flush()
        return Pending(self, self._number)

    def act(self, act: str, *words: Word, who: str = "", path: str = "") -> Reply:
        """`begin`, and waits for its end; the call may fail (look at errno)."""
        return self.begin(act, *words, who=who, path=path).result()

    def do(self, act: str, *words: Word, who: str = "", path: str = "") -> Reply:
        """`act` that must succeed."""
        reply = self.act(act, *words, who=who, path=path)
        if reply["errno"]:
            raise Refused(f"{act} {words}: {os.strerror(reply['errno'])}")
        return reply

    def _reply(self, number: int) -> Reply:
        while number not in self._replies:
            line = self._out.readline()
            assert line, f"{self.comm} [{self.pid}] died"
            reply = json.loads(line)
            self._replies[reply["id"]] = reply
        reply = self._replies.pop(number)
        assert "wrong" not in reply, reply["wrong"]
        return reply

    # Its parts

    def thread(self, name: str) -> int:
        """Starts a thread of this name (also its comm) that waits for acts (who=name); returns its tid."""
        return int(self.do("thread", name)["child"])

    def fork(self, name: str) -> int:
        """Forks a child with this comm and a copy of every socket, that waits for acts (who=name); returns its pid."""
        return int(self.do("fork", name)["child"])

    # TCP

    def listen(
        self, host: str = "127.0.0.1", port: int = 0, backlog: int = 128, *, only_v6: bool = True,
        receive_buffer: int = 0, who: str = "",
    ) -> Listener:  # fmt: skip
        """socket, bind and listen.

        Args:
            only_v6: False with host "::": takes IPv4 as well (::ffff:127.0.0.1).
            receive_buffer: SO_RCVBUF, for a window that closes soon.
        """
        fd = self.socket(host, who=who)
        if ":" in host:
            self.option(fd, "IPV6_V6ONLY", int(only_v6), who=who)
        self.option(fd, "SO_REUSEADDR", 1, who=who)
        if receive_buffer:
            self.option(fd, "SO_RCVBUF", receive_buffer, who=who)
        self.do("bind", fd, host, port, who=who)
        reply = self.do("listen", fd, backlog, who=who)
        return Listener(self, fd, Address(host, reply["lport"]), reply, who)

    def socket(self, host: str = "127.0.0.1", kind: str = "stream", *, who: str = "") -> int:
        """A socket of the host's family; kind: stream, dgram, raw. Returns its file descriptor."""
        return int(self.do("socket", 6 if ":" in host else 4, kind, who=who)["ret"])

    def option(self, fd: int, name: str, value: Word, *, who: str = "") -> Reply:
        """setsockopt by the option's name: SO_REUSEADDR, SO_REUSEPORT, SO_RCVBUF, SO_SNDBUF, SO_LINGER (seconds),
        SO_BINDTODEVICE (a name), SO_KEEPALIVE, IP_FREEBIND, IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT, IPV6_V6ONLY,
        TCP_SYNCNT, TCP_USER_TIMEOUT (ms), TCP_NODELAY, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_CONGESTION (a
        name), TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT."""
        return self.act("option", fd, name, value, who=who)

    def connect(
        self, to: Listener | Address | tuple[str, int], how: str = "block", *, source: tuple[str, int] | None = None,
        timeout: int = 10_000, options: dict[str, int] | None = None, fails: bool = False, who: str = "",
    ) -> Connection:  # fmt: skip
        """A new socket, connected.

        Args:
            to: ("::ffff:127.0.0.1", port) makes an AF_INET6 socket that speaks IPv4.
            how: block; poll (non-blocking, then poll and SO_ERROR); start (non-blocking, returns at once with
                EINPROGRESS: call `Connection.finish` later).
            source: bind to it first.
            options: of the socket, set before; {"TCP_USER_TIMEOUT": 500} gives up (ETIMEDOUT) after about 1 s and one
                retransmitted SYN, {"TCP_SYNCNT": 1} after 3 s.
            fails: the reply has the errno; otherwise a failure raises `Refused`.
        """
        where = to.address if isinstance(to, Listener) else Address(*to)
        fd = self.socket(where.host, who=who)
        for name, value in (options or {}).items():
            self.option(fd, name, value, who=who)
        if source:
            self.do("bind", fd, *source, who=who)
        reply = self.act("connect", fd, where.host, where.port, how, timeout, who=who)
        if reply["errno"] and not fails and how != "start":
            raise Refused(f"connect {where}: {os.strerror(reply['errno'])}")
        return Connection(self, fd, reply, who, where)

    def accept(self, listener: Listener, how: str = "accept4", *, who: str = "") -> Connection:
        """The next connection of the queue; waits for one.

        Args:
            how: accept4, accept, or poll (non-blocking, EAGAIN first, then poll, then accept4).
            who: a thread or a child made after the `listen`.
        """
        return self.accepting(listener, how, who=who)()

    def accepting(self, listener: Listener, how: str = "accept4", *, who: str = "") -> Callable[[], Connection]:
        """Begins an `accept` that blocks; call the result to get the connection."""
        who = who or listener.who
        pending = self.begin("accept", listener.fd, how, who=who)

        def result() -> Connection:
            reply = pending.result()
            if reply["errno"]:
                raise Refused(f"accept: {os.strerror(reply['errno'])}")
            return Connection(self, reply["ret"], reply, who, None)

        return result

    def burst(
        self, to: Listener | Address | tuple[str, int], number: int, *, payload: int = 0, reset: bool = False,
        spread: int = 1, who: str = "",
    ) -> Pending:  # fmt: skip
        """Begins many connections one after another: connect, send payload bytes, shut down, wait for the peer's close,
        close. Needs somebody who `serve`s (or a queue long enough, with reset).

        The reply: made, failed, bytes, ports (local, in order), spans ([start, end] of each connect, ns).

        Args:
            reset: close with RST (SO_LINGER 0), leaves nothing in TIME_WAIT.
            spread: over so many addresses, 127.0.0.1 to 127.0.0.N (the listener's host must be 0.0.0.0).
        """
        where = to.address if isinstance(to, Listener) else Address(*to)
        return self.begin("burst", where.host, where.port, number, payload, int(reset), spread, who=who)

    def serve(self, listener: Listener, number: int, how: str = "accept4", *, who: str = "") -> Pending:
        """Begins to accept so many connections, one after another; reads each to its end and closes it.

        The reply: made, bytes, ports (of the peers, in order).
        """
        return self.begin("serve", listener.fd, number, how, who=who or listener.who)

    def noise(self, number: int) -> Reply:
        """What is not TCP: so many datagrams over UDP (v4 and v6) and messages over Unix sockets, each received."""
        return self.do("noise", number)

    def segment(
        self, source: tuple[str, int], destination: tuple[str, int], flags: str = "A", *, sequence: int = 1,
        payload: int = 0, bad_checksum: bool = False,
    ) -> Reply:  # fmt: skip
        """One IPv4 TCP segment by hand, through a raw socket, that belongs to no connection of this process.

        Args:
            flags: of "SAFRPU". bad_checksum: the receiver drops it for that.
        """
        return self.do("segment", *source, *destination, flags, sequence, payload, int(bad_checksum))

    # Its end

    def exit(self, code: int = 0) -> int:
        """Ends without closing anything; returns its exit code."""
        self.begin("exit", code)
        return self._process.wait(targets.DEADLINE)

    def kill(self) -> None:
        """SIGKILL to it, which takes its children along; it may have ended before."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Listener:
    """A listening socket of an actor. `address` is where clients connect to."""

    def __init__(self, actor: Actor, fd: int, address: Address, reply: Reply, who: str) -> None:
        self.actor, self.fd, self.address, self.reply, self.who = actor, fd, address, reply, who

    def at(self, host: str) -> Address:
        """The same port at another address."""
        return Address(host, self.address.port)

    def queued(self) -> tuple[int, int]:
        """How many connections wait for an accept, and how many may (one more than that is let in): TCP_INFO."""
        reply = self.actor.do("info", self.fd, who=self.who)
        return reply["unacked"], reply["sacked"]

    def fill(self, client: Actor, extra: int) -> tuple[list[Connection], list[Connection]]:
        """Connects until the queue is full, and then `extra` times more.

        Returns the connections that stand (backlog + 1) and those whose SYN was dropped (still trying).
        """
        room = self.queued()[1] - self.queued()[0] + 1
        queued = [client.connect(self) for _ in range(room)]
        targets.until(lambda: self.queued()[0] > self.queued()[1])
        return queued, [client.connect(self, "start") for _ in range(extra)]

    def close(self) -> Reply:
        return self.actor.do("close", self.fd, who=self.who)


class Connection:
    """One end of a connection, or of an attempt.

    Attributes:
        local, remote: as the owner sees them (`getsockname`, `getpeername`).
        reply: of the connect or accept.
        sent, received: bytes, by what successful calls returned; not those of MSG_PEEK.
        calls: successful calls that moved them.
        closed: the reply of the close.
    """

    def __init__(self, actor: Actor, fd: int, reply: Reply, who: str, to: Address | None) -> None:
        self.actor, self.fd, self.reply, self.who = actor, fd, reply, who
        self.sent = self.received = self.calls = 0
        self.closed: Optional[Reply] = None
        self.local = Address(reply["lhost"], reply["lport"])
        self.remote = to or Address(reply["rhost"], reply["rport"])

    @property
    def errno(self) -> int:
        return int(self.reply["errno"])

    @property
    def owner(self) -> tuple[int, str]:
        """pid and comm of the process that connected or accepted."""
        return self.reply["pid"], self.reply["comm"]

    def finish(self, timeout: int = 10_000) -> Reply:
        """Waits for the end of a connect that was only started, at most so many ms; errno as SO_ERROR tells it."""
        self.reply = self.actor.act("finish", self.fd, timeout, who=self.who)
        self.local = Address(self.reply["lhost"], self.reply["lport"])
        return self.reply

    def send(self, size: int, how: str = "send", *, chunk: int = 0, who: str | None = None) -> Reply:
        """Sends size bytes, chunk by chunk, by one of SENDS; the reply: bytes, calls."""
        return self.sending(size, how, chunk=chunk, who=who)()

    def sending(self, size: int, how: str = "send", *, chunk: int = 0, who: str | None = None) -> Callable[[], Reply]:
        """Begins a `send` that blocks until the peer reads; call the result."""
        pending = self.actor.begin("send", self.fd, how, size, chunk or size, who=self.who if who is None else who)

        def result() -> Reply:
            reply = pending.result()
            self.sent += reply["bytes"]
            self.calls += reply["calls"]
            return reply

        return result

    def receive(self, size: int, how: str = "recv", *, chunk: int = 0, who: str | None = None) -> Reply:
        """Receives size bytes or to the end, by one of RECEIVES; peek looks at each chunk before it takes it.

        The reply: bytes, calls, peeked (bytes), ended (the peer has closed).
        """
        pending = self.actor.begin("receive", self.fd, how, size, chunk or size, who=self.who if who is None else who)
        reply = pending.result()
        self.received += reply["bytes"]
        self.calls += reply["calls"]
        return reply

    def stuff(self, quiet_ms: int = 300) -> Reply:
        """Sends, without blocking, until nothing more goes for so long: the peer's window is closed."""
        reply = self.actor.do("stuff", self.fd, quiet_ms, who=self.who)
        self.sent += reply["bytes"]
        self.calls += reply["calls"]
        return reply

    def option(self, name: str, value: Word) -> Reply:
        return self.actor.option(self.fd, name, value, who=self.who)

    def info(self) -> Reply:
        """TCP_INFO: state, rtt (us), retransmits, total_retrans, unacked, sacked, bytes_acked, bytes_received, ..."""
        return self.actor.do("info", self.fd, who=self.who)

    def shutdown(self, how: str = "write") -> Reply:
        """read, write or both."""
        return self.actor.act("shutdown", self.fd, how, who=self.who)

    def reset(self) -> Reply:
        """Closes with RST: SO_LINGER of no seconds."""
        self.option("SO_LINGER", 0)
        return self.close()

    def close(self) -> Reply:
        self.closed = self.actor.act("close", self.fd, who=self.who)
        return self.closed


def connected(
    client: Actor, server: Actor, host: str = "127.0.0.1", *, receive_buffer: int = 0, to: str = ""
) -> tuple[Connection, Connection]:
    """A connection's two ends, in this order; the listener is closed.

    Args:
        to: connect to this address instead (host "::" and to "::ffff:127.0.0.1").
    """
    listener = server.listen(host, receive_buffer=receive_buffer, only_v6=not to)
    ours = client.connect(listener.at(to or host))
    theirs = server.accept(listener)
    listener.close()
    return ours, theirs


class Namespace:
    """A network namespace with its loopback device up (127.0.0.0/8 and ::1).

    Attributes:
        path: names it for setns(2).
        inode: its number, as in /proc/PID/ns/net.
    """

    def __init__(self) -> None:
        self._actors: list[Actor] = []
        self.path = ""
        self._keeper = self.actor("keeper", net="new")
        self.path = f"/proc/{self._keeper.pid}/ns/net"
        self.inode = os.stat(self.path).st_ino

    def actor(self, comm: str = "actor", *, net: str = "") -> Actor:
        """A process in it."""
        actor = Actor(comm, net or self.path)
        self._actors.append(actor)
        return actor

    def command(self, *words: str) -> list[str]:
        """The command line that runs a program in it."""
        return [str(program()), "-n", self.path, "-x", *words]

    def run(self, *words: str) -> str:
        """Runs a program in it; returns what it prints."""
        return subprocess.run(self.command(*words), check=True, stdout=subprocess.PIPE, text=True).stdout

    def counters(self) -> dict[str, dict[str, int]]:
        """The kernel's own, of this namespace: "Tcp" (ActiveOpens, RetransSegs, OutRsts, InCsumErrors, ...), "TcpExt"
        (ListenOverflows, TCPLossProbes, TCPTimeouts, TCPSynRetrans, TCPWinProbe, TCPAbortOnTimeout, ...)."""
        found: dict[str, dict[str, int]] = {}
        for name in ("snmp", "netstat"):
            lines = Path(f"/proc/{self._keeper.pid}/net/{name}").read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2]):
                group, *keys = names.split()
                found[group.rstrip(":")] = dict(zip(keys, map(int, values.split()[1:])))
        return found

    def waits(self, group: str, counter: str, least: int) -> int:
        """Until a counter is so high; returns it."""
        targets.until(lambda: self.counters()[group][counter] >= least)
        return self.counters()[group][counter]

    def close(self) -> None:
        for actor in self._actors:
            actor.kill()


@contextmanager
def namespace() -> Iterator[Namespace]:
    """One, with 127.0.0.0/8 and ::1."""
    made = Namespace()
    try:
        yield made
    finally:
        made.close()


class Side(NamedTuple):
    """One end of a wire."""

    net: Namespace
    v4: str
    v6: str
    device: str
    mac: str

    def lose(self) -> None:
        """From now on what this side sends is lost on the wire (the other one sees it addressed to a stranger)."""
        self._send_to("02:00:00:00:00:99")

    def mend(self) -> None:
        """The end of `lose`."""
        self._send_to(_other(self.mac))

    def _send_to(self, mac: str) -> None:
        for host in (_other(self.v4), _other(self.v6)):
            self.net.run("ip", "neigh", "replace", host, "lladdr", mac, "dev", self.device, "nud", "permanent")

    def link(self, state: str) -> None:
        """Its device goes "down" or "up"; down takes its routes, a new packet fails with ENETUNREACH."""
        self.net.run("ip", "link", "set", self.device, state)


def _other(address: str) -> str:
    return address[:-1] + ("2" if address[-1] == "1" else "1")


@contextmanager
def wire() -> Iterator[tuple[Side, Side]]:
    """Two namespaces joined by a veth pair: 10.77.0.1 and fd77::1, 10.77.0.2 and fd77::2. Needs iproute2."""
    with namespace() as left, namespace() as right:
        sides = (
            Side(left, "10.77.0.1", "fd77::1", "left", "02:00:00:00:00:01"),
            Side(right, "10.77.0.2", "fd77::2", "right", "02:00:00:00:00:02"),
        )
        left.run("ip", "link", "add", "left", "type", "veth", "peer", "name", "right", "netns", str(right._keeper.pid))
        for side in sides:
            side.net.run("ip", "link", "set", side.device, "address", side.mac)
            side.net.run("ip", "addr", "add", f"{side.v4}/24", "dev", side.device)
            side.net.run("ip", "-6", "addr", "add", f"{side.v6}/64", "dev", side.device, "nodad")
        for side in sides:
            side.link("up")
        for side in sides:
            side.mend()
        yield sides
