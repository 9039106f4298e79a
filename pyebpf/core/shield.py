# SPDX-License-Identifier: BSD-2-Clause
"""Placing and taking out breakpoints where SIGKILL can't interrupt it: in short-lived children of this process.

The kernel places and takes out the breakpoints of a uprobe link one by one, in the context of whoever opens or closes
it. If that is killed meanwhile, it gives up, and the breakpoints it has not reached stay in the running programs
("uprobe: … failed to unregister, leaking uprobe"; __get_user_pages() and uprobe_unregister_nosync(), Linux 6.18).
In a process that exits already no further signal counts. So

* a link is opened by a child, which hands the descriptor over. If we are killed the child goes on, finds nobody there,
  and exits;
* a link is closed by a child's exit: it has the descriptors too, we close ours, which are not the last then, and it
  exits.

Only a process that may fork asks for that (`wanted`): the command does, an embedding program does not. Where no child
can be had the process does it itself.

Nothing says how long the kernel may take: minutes for thousands of probes in thousands of processes, for ever for a
file on a file system that doesn't answer, and no signal ends that child. So there is no limit, but nobody is kept by
it: Ctrl-C ends the command (`pyebpf.cli.watch`; before, it just dies: `pyebpf.cli.main.entry`), and closing waits for
another thread's opening for some seconds only.
"""

from __future__ import annotations

import os
import struct
from _thread import RLock
from collections.abc import Callable, Sequence
from typing import NoReturn

from pyebpf.core import bpf

wanted = False
_PATIENCE = 10.0  # seconds
_CHILDREN = 32  # that close side by side: a perf event's closing waits 0.1 s

# One at a time: a child of another thread would hold this one's pipes, and neither would see their end. A signal's
# handler may come in between, whose children end before it does.
_lock = RLock()


def opened(open_link: Callable[[], int]) -> int:
    """A descriptor that `open_link` returns, or ``-errno`` as it returns it."""
    if not wanted:
        return open_link()
    with _lock:
        result = _by_child(open_link)
    return open_link() if result is None else result


def _by_child(open_link: Callable[[], int]) -> int | None:
    """None: the child could not be made, or died."""
    import _socket as socket  # `socket` itself takes 3 ms to import
    from errno import EMFILE

    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            pid = _fork()
        except OSError:
            return None
        if pid == 0:
            try:
                ours.close()
                fd = open_link()
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
                theirs.sendmsg([struct.pack("i", fd)], rights)
            finally:
                os._exit(0)
        theirs.close()
        data, rights, _, _ = ours.recvmsg(4, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    finally:
        ours.close()
        theirs.close()
    _bury(pid)
    if len(data) < 4:
        return None
    (result,) = struct.unpack("i", data)
    if result < 0:
        return int(result)
    return int(struct.unpack("i", rights[0][2])[0]) if rights else -EMFILE  # there was no room for it


def close(fds: Sequence[int]) -> None:
    """Closes links and perf events; returns when the kernel has taken the breakpoints out.

    While another thread's child hangs, which has what it has inherited, they come out when that child ends.
    """
    if not fds or not wanted or not _lock.acquire(timeout=_PATIENCE):
        bpf.close_all(fds)
        return
    try:
        pipes: list[int] = []
        children: list[int] = []
        number = 1 if len(fds) <= 2 else min(_CHILDREN, len(fds))
        have = b""
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            said, say, go, let_go = pipes
            for index in range(number):
                pid = _fork()
                if pid == 0:
                    _hold([fd for place, fd in enumerate(fds) if place % number != index], say, go, let_go)
                children.append(pid)
            os.close(pipes.pop(1))
            while more := os.read(said, number):
                have += more
        except OSError:  # what children don't have we close, as without them
            pass
        if len(have) == number:
            for fd in fds:
                os.close(fd)
        else:
            bpf.close_all(fds)
        for fd in pipes:
            os.close(fd)
        for pid in children:
            _bury(pid)
    finally:
        _lock.release()


def _hold(others: Sequence[int], say: int, go: int, let_go: int) -> NoReturn:
    """What a child does: says that it has the links, and exits when its parent has let go of them.

    Args:
        others: those that are another child's to close; not the last of them is closed here.
    """
    try:
        os.close(let_go)
        for fd in others:
            os.close(fd)
        os.write(say, b"!")
        os.close(say)
        os.read(go, 1)
    finally:
        os._exit(0)


def _bury(pid: int) -> None:
    """Waits for a child's end."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # whoever started us has SIGCHLD ignored: the kernel buried it
        pass


def _fork() -> int:
    """A child that no signal but SIGKILL reaches. Raises OSError."""
    import signal

    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid
