# SPDX-License-Identifier: BSD-2-Clause
"""Every tool with the capabilities it needs, and something for it to show: what tests and docs/security.md go by.

Use::

    with privileges.stage() as stage:
        case = privileges.CASES["opensnoop"]
        code, out, error = stage.run("opensnoop", case.needs)      # as a user who isn't root
        assert code == 0 and stage.shown in out

By the tool's nature they are: CAP_BPF and CAP_PERFMON to load and attach; to read tracefs, which is root's,
CAP_DAC_READ_SEARCH; and what makes more of it readable.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import causes
import targets
import traffic
import unprivileged
from shells import Shell

LOADS = ("CAP_BPF", "CAP_PERFMON")
READS_TRACEFS = (*LOADS, "CAP_DAC_READ_SEARCH")
NAMES_KERNEL = ("CAP_SYSLOG",)  # what makes /proc/kallsyms tell addresses
OTHERS_PROCESSES = ("CAP_SYS_PTRACE",)  # what makes another user's /proc/PID/exe and maps readable
ROUNDS = 23


class Case(NamedTuple):
    """A tool.

    Attributes:
        needs: without one of these it doesn't start.
        arguments: of the command; {calls} is a program.
        cause: does something, and returns a pattern of what its JSON must show.
        more: what only some of its options need, or its output is poorer without, and why.
    """

    needs: tuple[str, ...]
    cause: Callable[[Stage], str]
    arguments: tuple[str, ...] = ()
    more: str = ""


class Stage:
    """An actor, a program, and a folder that everyone can read."""

    def __init__(self, folder: Path, actor: traffic.Actor) -> None:
        self.folder, self.actor = folder, actor
        self.calls = Path(shutil.copy(targets.compiled("calls.c"), folder))

    def run(
        self, tool: str, capabilities: Sequence[str], cause: Callable[[Stage], str] | None = None, *more: str
    ) -> tuple[int, str, str, str]:
        """Runs a tool as a user with these capabilities while something happens.

        Returns:
            its exit code, output and errors, and the pattern of what must be shown ("" if it did not start).
        """
        case = CASES[tool]
        ready, told = os.pipe()
        arguments = [text.format(calls=self.calls, pid=self.actor.pid) for text in (*case.arguments, *more)]
        command = unprivileged.command(capabilities, sys.executable, "-m", "pyebpf", tool, "--json", "--ready-fd",
                                       str(told), *arguments)  # fmt: skip
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYEBPF_CACHE": "0", "LANG": "C.UTF-8",
                       **{name: os.environ.get(name, "") for name in ("PYTHONPATH", "PYEBPF_ATTACH")}}  # fmt: skip
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, pass_fds=[told], cwd="/",
        ) as process:  # fmt: skip
            os.close(told)
            try:
                shown = ""
                with os.fdopen(ready, "rb") as end:
                    if end.read(1) == b"\n":
                        shown = (cause or case.cause)(self)
                        process.send_signal(signal.SIGINT)
                out, error = process.communicate(timeout=targets.DEADLINE)
            finally:
                process.kill()
        return process.returncode, out, error, shown


@contextmanager
def stage() -> Iterator[Stage]:
    """What tools need; kernel.perf_event_paranoid is at most what Linux itself knows meanwhile."""
    with unprivileged.paranoid(2), tempfile.TemporaryDirectory(prefix="pyebpf-privileges-") as folder:
        os.chmod(folder, 0o755)
        with causes.actor() as actor:
            yield Stage(Path(folder), actor)


# What happens


def _calls(shown: str) -> Callable[[Stage], str]:
    def cause(stage: Stage) -> str:
        subprocess.run([stage.calls, "-n", str(ROUNDS), "hot"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       check=True)  # fmt: skip
        return shown

    return cause


def _connection(shown: str = "") -> Callable[[Stage], str]:
    """Connected, used, closed; shown: by default the port, as JSON has it."""

    def cause(stage: Stage) -> str:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as ours:
                theirs, _ = server.accept()
                ours.sendall(b"x" * 9973)
                received = 0
                while received < 9973:
                    received += len(theirs.recv(9973))
                theirs.close()
        return shown or rf": {port}[,}}]"

    return cause


def _refused(stage: Stage) -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with socket.socket() as client:
            client.connect_ex(("127.0.0.1", port))
    return rf'"dport": {port}[,}}]'


def _retransmitted(stage: Stage) -> str:
    with traffic.wire() as (left, right):
        client, server = left.net.actor("client"), right.net.actor("server")
        ours, _ = traffic.connected(client, server, right.v4)
        right.lose()
        ours.send(997)
        left.net.waits("Tcp", "RetransSegs", 2)
        return rf'"lport": {ours.local.port}[,}}]'


def _typed(stage: Stage) -> str:
    with Shell() as shell:
        shell.type(b"true privileges")
    return "true privileges"


def _encrypted(stage: Stage) -> str:
    own, key = stage.folder / "own.pem", stage.folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout",
                    str(key), "-out", str(own)], check=True, capture_output=True)  # fmt: skip
    both = stage.folder / "both.pem"
    both.write_text(key.read_text() + own.read_text())
    target = subprocess.Popen([sys.executable, str(targets.PROGRAMS / "tls.py"), str(both), "3"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    target.communicate("\n", timeout=targets.DEADLINE)
    return rf'"pid": {target.pid}[,}}]'


def _by_actor(act: Callable[[Stage], object]) -> Callable[[Stage], str]:
    """What the actor does must be shown with its pid."""

    def cause(stage: Stage) -> str:
        act(stage)
        return rf'"pid": {stage.actor.pid}[,}}]'

    return cause


def _mounted(stage: Stage) -> str:
    causes.own_mounts(stage.actor)
    causes.unmounts(stage.actor, "/nowhere/at/all")
    return "/nowhere/at/all"


def _reclaimed(stage: Stage) -> str:
    with causes.little_memory(stage.actor):
        causes.reclaims(stage.actor)
    return rf'"pid": {stage.actor.pid}[,}}]'


def _executed(stage: Stage) -> str:
    subprocess.run(["true", "privileges"], check=True)
    return '"privileges"'


def _ended(stage: Stage) -> str:
    _executed(stage)
    return '"comm": "true"'


_KERNEL_STACK = "CAP_SYSLOG: names in kernel stacks"
_P = "CAP_SYS_PTRACE: `-p` of another user's process"
CASES: dict[str, Case] = {
    "funccount": Case(LOADS, _calls(f'"count": {ROUNDS}'), ("{calls}:hot",), _P),
    "funclatency": Case(LOADS, _calls(f'"count": {ROUNDS}'), ("{calls}:hot",), _P),
    "funcslower": Case(LOADS, _calls('"function": "hot"'), ("-u", "0", "{calls}:hot"), _P),
    "trace": Case(LOADS, _calls(f'"i": {ROUNDS - 1}'), ("{calls}:hot", "i"), _P),
    "argdist": Case(LOADS, _calls(rf'\b{ROUNDS - 1}\b'), ("{calls}:hot", "-C", "i"), _P),
    "stackcount": Case(LOADS, _calls('"hot'), ("{calls}:hot",), _P),
    "tcpaccept": Case(READS_TRACEFS, _connection()),
    "tcpcong": Case(READS_TRACEFS, _retransmitted),
    "tcpconnect": Case(READS_TRACEFS, _connection()),
    "tcpconnlat": Case(READS_TRACEFS, _connection()),
    "tcpdrop": Case(READS_TRACEFS, _refused, (), _KERNEL_STACK),
    "tcplife": Case(READS_TRACEFS, _connection()),
    "tcpretrans": Case(READS_TRACEFS, _retransmitted, (), "CAP_SYSLOG: `-l`"),
    "tcprtt": Case(LOADS, _connection('"count": [1-9]')),
    "tcpstates": Case(READS_TRACEFS, _connection()),
    "tcpsubnet": Case(LOADS, _connection("9973|[1-9][0-9]{4}"), ("127.0.0.0/8",)),
    "tcpsynbl": Case(LOADS, _connection('"count": [1-9]')),
    "tcptop": Case(LOADS, _connection()),
    "tcptracer": Case(READS_TRACEFS, _connection()),
    "bashreadline": Case(LOADS, _typed, (), _P),
    "bindsnoop": Case(READS_TRACEFS, _by_actor(lambda stage: causes.binds(stage.actor, "127.0.0.1", 0))),
    "capable": Case(LOADS, _by_actor(lambda stage: causes.names(stage.actor, "chroot", "/")), (), _KERNEL_STACK),
    "drsnoop": Case(LOADS, _reclaimed),
    "execsnoop": Case(LOADS, _executed),
    "exitsnoop": Case(READS_TRACEFS, _ended),
    "filelife": Case(READS_TRACEFS, _by_actor(lambda stage: causes.lives(stage.actor, str(stage.folder / "short")))),
    "gethostlatency": Case(LOADS, _by_actor(lambda stage: causes.resolves(stage.actor, "localhost")), (), _P),
    "killsnoop": Case(READS_TRACEFS, _by_actor(lambda stage: causes.kills(stage.actor, "kill", os.getpid(), 0))),
    "mountsnoop": Case(READS_TRACEFS, _mounted),
    "opensnoop": Case(READS_TRACEFS, _by_actor(lambda stage: causes.opens(stage.actor, "/nowhere"))),
    "shmsnoop": Case(READS_TRACEFS, _by_actor(lambda stage: causes.segments(stage.actor))),
    "sslsniff": Case(LOADS, _encrypted, (), _P),
    "statsnoop": Case(READS_TRACEFS, _by_actor(lambda stage: causes.stats(stage.actor, "/nowhere"))),
    "syncsnoop": Case(READS_TRACEFS, _by_actor(lambda stage: causes.syncs(stage.actor, "fsync"))),
    "threadsnoop": Case(LOADS, _by_actor(lambda stage: causes.threads(stage.actor, 3)), (), _P),
}


# Options that need a capability more, and what shows that they have it
OPTIONS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("tcpretrans", ("-l",), "CAP_SYSLOG", ""),
    ("tcpdrop", (), "CAP_SYSLOG", r"tcp_v4_rcv\+"),
)  # fmt: skip


def is_shown(pattern: str, output: str) -> bool:
    return bool(pattern) and re.search(pattern, output) is not None
