# SPDX-License-Identifier: BSD-2-Clause
"""Attempts to connect, as bpf/include/connect.bpf.h tells them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from pyebpf.core.object import Object
from pyebpf.tools.events import Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.text import addresses

NEEDS = (
    Need("changes of a connection's state", (("on_state",),)),
    Need("connects that fail before a SYN is sent", (("enter_connect", "exit_connect"),), optional=True),
)


class Connect(NamedTuple):
    """A connect(2) that was answered, or failed.

    Attributes:
        time: of the answer, ns of CLOCK_MONOTONIC.
        pid, tid, uid, comm: who called connect(2); numbers as our /proc shows them, the name as raw bytes.
        ip: 4 or 6, as on the wire.
        saddr, sport: our end; "0.0.0.0" or "::" and 0 where it failed before it had one.
        daddr, dport: the other.
        errno: 0: connected; else why it failed. None: the process gave up before there was an answer.
        error: the name of errno, "ECONNREFUSED"; None where there is none.
        latency: from connect(2) to the answer, ns.
        netns: inode number of the network namespace.
        query: the name that a name server gave this address for; None: not seen, or not looked for.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    ip: int
    saddr: str
    sport: int
    daddr: str
    dport: int
    errno: Optional[int]
    error: Optional[str]
    latency: int
    netns: int
    query: Optional[bytes] = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def decoder(obj: Object) -> tuple[int, Callable[[memoryview], Connect]]:
    """The size of a ``struct connect_event``, and what makes a `Connect` of one."""
    layout = obj.btf.layout("connect_event")
    given_up = obj.btf.enumerators("connect_error")["CONNECT_GIVEN_UP"]

    def decode(record: memoryview) -> Connect:
        actor, flow, error, duration = layout.unpack(record)
        ip, local, remote = addresses(flow)
        return Connect(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, ip, local, flow.local_port, remote,
            flow.remote_port, None if error == given_up else error, errno.errorcode.get(error), duration, flow.netns,
        )  # fmt: skip

    return layout.size, decode


def shown_error(connect: Connect) -> object:
    """The column ERR: 0, an error's name, "gave-up"."""
    return "gave-up" if connect.errno is None else connect.error or connect.errno
