# SPDX-License-Identifier: BSD-2-Clause
"""execsnoop: programs that are started, with their arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.tools.events import EventSession, KernelEvents, Need
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.stream import Reader
from pyebpf.tools.text import Cut, shown, text_behind
from pyebpf.tools.tool import PID, PRINT_UID, UID, Column, Option, Tool

_STARTED = (Need("programs that are started", (("on_exec",),)),)
_FAILED = (
    Need("calls of execve(2) that fail", (("enter_execve", "exit_execve"),)),
    Need("calls of execveat(2) that fail", (("enter_execveat", "exit_execveat"),), optional=True),
)
_BUFFER = 4 << 20  # a record can hold 32 KiB of arguments


class Exec(NamedTuple):
    """A program that was started, or could not be.

    Attributes:
        time: ns of CLOCK_MONOTONIC.
        pid, tid, uid: of the process; comm: its name, now that it runs the program.
        ppid: its parent.
        errno: 0, or why it failed.
        file: the executed file's name as the call had it; a script's own. None: it could not be read.
        script: an interpreter was started, to run the file: the arguments begin with its own.
        args: what the program finds in its memory (argv); of a call that failed, what that passed. None: it could not
            be read.
        args_left: bytes of further arguments; None: there are more, but nobody knows how many.
    """

    time: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    ppid: int
    errno: int
    file: bytes | None
    script: bool
    args: tuple[bytes, ...] | None
    args_left: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


class ExecSession(EventSession[Exec]):
    """Programs that are started.

    Args:
        line: what a command line must match.
    """

    def __init__(
        self, events: KernelEvents, decode: Callable[[memoryview], Exec], line: re.Pattern[bytes] | None
    ) -> None:
        super().__init__(events, decode)
        self._line = line

    def _drain(self, reader: Reader) -> Iterator[Exec]:
        for event in super()._drain(reader):
            if self._line is None or self._line.search(command_line(event)):
                yield event


def execsnoop(
    *,
    pid: int | Iterable[int] | None = None,
    ppid: int | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    failed: bool = False,
    line: str | None = None,
    max_args: int | None = None,
) -> ExecSession:
    """Shows programs that are started.

    Args:
        pid, uid, cgroup: by whom; see `pyebpf.tools.scope.Scope`.
        ppid: only by children of this process.
        failed: also calls that fail.
        line: only if the command line, file and arguments, contains this regular expression.
        max_args: arguments that are kept.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or isn't what it should be.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    try:
        pattern = None if line is None else re.compile(line.encode())
    except re.error as error:
        raise TargetError(f"{line!r} is not a regular expression: {error}") from None

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["only_ppid"] = ppid or 0
        obj.maps["events"].max_entries = _BUFFER

    needs = _STARTED + _FAILED if failed else _STARTED
    events = KernelEvents("execsnoop", needs, scope_of(pid, uid=uid, cgroup=cgroup), configure)
    layout = events.object.btf.layout("exec_event")
    unknown = events.object.btf.enumerators("exec_sizes")["ARGS_UNKNOWN"] & 0xFFFFFFFF

    def decode(record: memoryview) -> Exec:
        actor, parent, result, file_size, args_size, left, room, script, _ = layout.unpack(record)
        behind = layout.size + room
        args, rest = None, None if left == unknown else left
        if args_size >= 0:
            *words, last = bytes(record[behind : behind + args_size]).split(b"\0")
            args = (*words, Cut(last)) if last else tuple(words)
            if max_args is not None and len(args) > max_args:
                rest = None if rest is None else rest + sum(len(word) + 1 for word in args[max_args:])
                args = args[:max_args]
        return Exec(
            actor.time, actor.tgid, actor.tid, actor.uid, actor.comm, parent, -result,
            text_behind(record[:behind], layout.size, file_size), bool(script), args, rest,
        )  # fmt: skip

    return ExecSession(events, decode, pattern)


def command_line(event: Exec) -> bytes:
    """File and arguments with a space between them, as people write it."""
    return b" ".join(_words(event))


def _words(event: Exec) -> list[bytes]:
    if event.script and event.args:
        return list(event.args)
    return [shown(event.file), *(event.args[1:] if event.args is not None else (b"<unreadable>",))]


def _line(event: Exec, words: Iterable[bytes]) -> bytes:
    text = b" ".join(words)
    if event.args_left == 0:
        return text
    return text + (b" ..." if event.args_left is None else b" ... (%d bytes more)" % event.args_left)


def _quoted(word: bytes) -> bytes:
    return b'"' + word.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


TOOL = Tool(
    name="execsnoop",
    description="Show each program that is started (execve(2), execveat(2)), with all its arguments.",
    verb=execsnoop,
    needs=_STARTED + _FAILED,
    kind="exec",
    headline="Tracing started programs",
    scope=("pid", "uid", "cgroup", "command", "name"),
    options=(
        Option("failed", ("-x", "--fails"), "also calls that fail"),
        Option("ppid", ("-P", "--ppid"), "only by children of this process", "count", "PID"),
        Option("line", ("-l", "--line"), "only command lines that contain this regular expression", "text", "REGEX"),
        Option("max_args", ("--max-args",), "show at most so many arguments (all)", "count", "N"),
        Option("", ("-q", "--quote"), "put quotation marks around arguments"),
        PRINT_UID,
    ),
    columns=(
        UID,
        Column("PCOMM", 16, lambda e: e.comm),
        PID,
        Column("PPID", 7, lambda e: e.ppid),
        Column("RET", 3, lambda e: -e.errno, right=True),
        Column("ARGS", 0, lambda e: _line(e, _words(e)), "!quote"),
        Column("ARGS", 0, lambda e: _line(e, map(_quoted, _words(e))), "quote"),
    ),
    examples=(
        "pyebpf execsnoop -x                 # also programs that can't be started",
        "pyebpf execsnoop -P 1234 -q         # by a process's children, quoted",
        "pyebpf execsnoop -l 'make|ninja'    # command lines that contain one of these",
    ),
)  # fmt: skip
