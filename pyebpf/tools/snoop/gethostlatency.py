# SPDX-License-Identifier: BSD-2-Clause
"""gethostlatency: how long looking up host names takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.target.command import Command
from pyebpf.target.mapped import Place, Sought
from pyebpf.tools.events import EventSession
from pyebpf.tools.functions import FunctionEvents, find_for
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import shown, text_behind
from pyebpf.tools.tool import PID, TIME, Column, Option, Tool

# How each says what came of it: enum lookup_form, bpf/snoop/gethostlatency.h.
_FORMS = {
    "getaddrinfo": "LOOKUP_CODE",
    "gethostbyname": "LOOKUP_POINTER",
    "gethostbyname2": "LOOKUP_POINTER",
    "gethostbyname_r": "LOOKUP_FIFTH",
    "gethostbyname2_r": "LOOKUP_SIXTH",
}
_GO_FORMS = {
    "net.(*Resolver).lookupHost": "LOOKUP_GO_THIRD",
    "net.(*Resolver).lookupIPAddr": "LOOKUP_GO_FIFTH",
}
_SOUGHT = (*(Sought((name,)) for name in _FORMS), *(Sought((name,), go=True) for name in _GO_FORMS))
# glibc resolv/netdb.h; musl's numbers are the same.
_ERRORS = {
    -1: "EAI_BADFLAGS", -2: "EAI_NONAME", -3: "EAI_AGAIN", -4: "EAI_FAIL", -5: "EAI_NODATA", -6: "EAI_FAMILY",
    -7: "EAI_SOCKTYPE", -8: "EAI_SERVICE", -9: "EAI_ADDRFAMILY", -10: "EAI_MEMORY", -11: "EAI_SYSTEM",
    -12: "EAI_OVERFLOW", -100: "EAI_INPROGRESS", -101: "EAI_CANCELED", -104: "EAI_INTR", -105: "EAI_IDN_ENCODE",
}  # fmt: skip


class Lookup(NamedTuple):
    """A host name that was looked up.

    Attributes:
        time: when the call returned, ns of CLOCK_MONOTONIC.
        latency: ns.
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        host: as the process gave it; None: it could not be read.
        function: which it called ("getaddrinfo").
        library: the file that is in.
        error: None when an address was found, else "EAI_NONAME" and the like, or "failed" of a function that doesn't
            return why.
    """

    time: int
    latency: int
    pid: int
    tid: int
    uid: int
    comm: bytes
    host: bytes | None
    function: str
    library: str
    error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def gethostlatency(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    libc: str | None = None,
    command: Command | None = None,
) -> EventSession[Lookup]:
    """Shows calls of getaddrinfo(3), gethostbyname(3) and its variants, in every C library that a process uses.

    With a process or a command also lookups of Go's own, in its program.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`.
        libc: only this file's functions.
        command: a command that has not begun yet.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or has none of the functions.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    place = Place(("c",), ("*",) if pid else ()) if libc is None else Place(paths=(libc,))
    scope = scope_of(pid, uid=uid, cgroup=cgroup)
    found, scope = find_for(_SOUGHT, place, scope, command, "getaddrinfo or gethostbyname")

    def configure(obj: Object) -> None:
        obj.maps["forms"].max_entries = len(found.sought)

    def fill(obj: Object) -> None:
        numbers = obj.btf.enumerators("lookup_form")
        for index, name in enumerate(found.sought):
            obj.maps["forms"][index] = numbers[_FORMS.get(name) or _GO_FORMS[name]]

    events = FunctionEvents("gethostlatency", found, scope, configure, fill)
    layout = events.object.btf.layout("lookup_event")

    def decode(record: memoryview) -> Lookup:
        actor, latency, function, code, failed, size = layout.unpack(record)
        error = None
        if failed:
            error = _ERRORS.get(code, f"error {code}") if code else "failed"
        return Lookup(
            actor.time, latency, actor.tgid, actor.tid, actor.uid, actor.comm, text_behind(record, layout.size, size),
            found.sought[function], found.files[function], error,
        )  # fmt: skip

    return EventSession(events, decode)


TOOL = Tool(
    name="gethostlatency",
    description="Show each host name that is looked up by getaddrinfo or gethostbyname: by whom, and how long it took.",
    verb=gethostlatency,
    kind="lookup",
    headline="Tracing lookups of host names",
    scope=("pid", "uid", "cgroup", "command", "name"),
    probes=True,
    options=(
        Option("libc", ("-l", "--libc"), "only this C library (default: every one in use)", "text", "FILE"),
        Option("", ("-x", "--extended"), "show the function and what came of it"),
    ),
    columns=(
        TIME,
        PID,
        Column("COMM", 16, lambda e: e.comm),
        Column("FUNC", 16, lambda e: e.function, "extended"),
        Column("ERROR", 14, lambda e: e.error, "extended"),
        Column("LATms", 10, lambda e: f"{e.latency / 1e6:.3f}", right=True),
        Column("HOST", 0, lambda e: shown(e.host)),
    ),
    examples=(
        "pyebpf gethostlatency               # of all processes",
        "pyebpf gethostlatency -p 1234 -x    # of one, with what came of it",
        "pyebpf gethostlatency -c 'curl -s https://example.org'   # of a command",
    ),
)
