# SPDX-License-Identifier: BSD-2-Clause
"""sslsniff: what programs read and write through TLS libraries, before and after encryption."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.target.command import Command
from pyebpf.target.mapped import Place, Sought
from pyebpf.tools.events import EventSession
from pyebpf.tools.functions import FunctionEvents, find_for
from pyebpf.tools.record import as_dict
from pyebpf.tools.scope import scope_of
from pyebpf.tools.text import Cut
from pyebpf.tools.tool import PID, SECONDS, Column, Option, Tool

DEFAULT_SIZE = 16384  # of a TLS record, RFC 8446 5.1
MOST_SIZE = 1 << 20
_LEAST_RING, _MOST_RING, _RECORDS = 8 << 20, 64 << 20, 64

# What each does, and how it says how much: bpf/snoop/sslsniff.h.
_OPENSSL = {
    "SSL_read": ("SSL_READS", "SSL_INT"),
    "SSL_write": ("SSL_WRITES", "SSL_INT"),
    "SSL_read_ex": ("SSL_READS", "SSL_STORED"),
    "SSL_write_ex": ("SSL_WRITES", "SSL_STORED"),
}
_GNUTLS = {
    "gnutls_record_recv": ("SSL_READS", "SSL_WORD"),
    "gnutls_record_send": ("SSL_WRITES", "SSL_WORD"),
}
_GO = {
    "crypto/tls.(*Conn).Read": ("SSL_READS", "SSL_WORD"),
    "crypto/tls.(*Conn).Write": ("SSL_WRITES", "SSL_WORD"),
}
_HANDSHAKES = {
    "SSL_do_handshake": ("SSL_SHAKES_HANDS", "SSL_INT"),
    "gnutls_handshake": ("SSL_SHAKES_HANDS", "SSL_ZERO"),
}
_FUNCTIONS = {**_OPENSSL, **_GNUTLS, **_GO, **_HANDSHAKES}
# gnutls_record_send only jumps to gnutls_record_send2, which may be called by itself too.
_ALSO = {"gnutls_record_send": ("gnutls_record_send2",)}
_SHOWN = {"SSL_READS": "READ/RECV", "SSL_WRITES": "WRITE/SEND", "SSL_SHAKES_HANDS": "HANDSHAKE"}
_KINDS = ("openssl", "gnutls", "go")


class TlsData(NamedTuple):
    """What was read or written.

    Attributes:
        time: when the call returned, ns of CLOCK_MONOTONIC.
        latency: of the call, ns; None: only its entry was seen (see `notes` of the session).
        pid, tid, uid, comm: who; numbers as our /proc shows them, the name as raw bytes.
        function: "READ/RECV", "WRITE/SEND" or "HANDSHAKE".
        size: bytes that were read or written.
        data: they; a `Cut` when there were more than are kept; None: they could not be read.
        data_hex: the same in hexadecimal if they aren't UTF-8, else None. (In JSON `data` is text.)
        called: the function ("SSL_read"), and the file it is in.
        library: that file.
    """

    time: int
    latency: int | None
    pid: int
    tid: int
    uid: int
    comm: bytes
    function: str
    size: int
    data: bytes | None
    data_hex: str | None
    called: str
    library: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        return as_dict(self)


def sslsniff(
    *,
    pid: int | Iterable[int] | None = None,
    uid: int | None = None,
    cgroup: str | None = None,
    no_openssl: bool = False,
    no_gnutls: bool = False,
    handshake: bool = False,
    max_size: int = DEFAULT_SIZE,
    extra_lib: Iterable[str] = (),
    command: Command | None = None,
) -> EventSession[TlsData]:
    """Shows what programs read and write through OpenSSL, GnuTLS and Go's crypto/tls. These are secrets.

    Args:
        pid, uid, cgroup: whose; see `pyebpf.tools.scope.Scope`. Without a process: the system's libraries, every other
            copy that a process maps, and OpenSSL within programs; not Go programs.
        no_openssl, no_gnutls: these are not looked at.
        handshake: handshakes too: those that were completed, or where their return can't be seen each attempt.
        max_size: bytes of each read and write that are kept, at most `MOST_SIZE`.
        extra_lib: further files, "openssl:/opt/lib/libssl.so.3", "gnutls:FILE" or "go:PROGRAM".
        command: a command that has not begun yet.

    Raises:
        TargetNotFound, TargetError: as something named doesn't exist, or uses none of these.
        Unsupported, PermissionDenied, LoadError, AttachError: as the kernel can't, or won't.
    """
    if not 0 < max_size <= MOST_SIZE:
        raise TargetError(f"{max_size} bytes can't be kept of each call: between 1 and {MOST_SIZE} can")
    scope = scope_of(pid, uid=uid, cgroup=cgroup)
    paths = []
    for one in extra_lib:
        kind, colon, path = one.partition(":")
        if not colon or kind not in _KINDS or not path:
            raise TargetError(f"{one!r} is no library: write openssl:FILE, gnutls:FILE or go:PROGRAM")
        paths.append((kind, path))
    openssl, gnutls = not no_openssl, not no_gnutls
    given = {kind for kind, _ in paths}
    # A Go program is looked at only if it is asked for: there may be hundreds, such as containers' supervisors.
    asked = bool(scope.pids) or command is not None
    use = [openssl or "openssl" in given, gnutls or "gnutls" in given, asked or "go" in given]
    names = [name for functions, used in zip((_OPENSSL, _GNUTLS, _GO), use) if used for name in functions]
    if handshake:
        names += [name for name, used in zip(_HANDSHAKES, use) if used]
    place = Place(
        tuple(name for name, used in (("ssl", openssl), ("gnutls", gnutls)) if used),
        ("*", "node") if openssl or scope.pids else (),  # node holds OpenSSL itself; it may not run yet
        tuple(path for _, path in paths),
    )
    sought = tuple(
        Sought((name, *_ALSO.get(name, ())), entry_alone=name in _HANDSHAKES, go=name in _GO) for name in names
    )
    found, scope = find_for(sought, place, scope, command, "OpenSSL, GnuTLS or Go's crypto/tls")
    probes = found.resolution.probes

    def configure(obj: Object) -> None:
        assert obj.rodata is not None
        obj.rodata["room"] = max_size
        obj.maps["functions"].max_entries = len(probes)
        ring = _LEAST_RING
        while ring < min(_RECORDS * max_size, _MOST_RING):
            ring *= 2
        obj.maps["events"].max_entries = ring

    def fill(obj: Object) -> None:
        acts, forms = obj.btf.enumerators("ssl_act"), obj.btf.enumerators("ssl_form")
        for index, (probe, name) in enumerate(zip(probes, found.sought)):
            act, form = _FUNCTIONS[name]
            entry_only = not probe.returns and not probe.uretprobe
            obj.maps["functions"][index] = (acts[act], forms[form], entry_only)

    events = FunctionEvents("sslsniff", found, scope, configure, fill)
    layout = events.object.btf.layout("ssl_event")
    at = layout.size

    def decode(record: memoryview) -> TlsData:
        actor, latency, size, function, kept, ended, _ = layout.unpack(record)
        data = None
        if kept >= 0:
            data = bytes(record[at : at + kept])
            if kept < size:
                data = Cut(data)
        name = found.sought[function]
        return TlsData(
            actor.time, latency if ended else None, actor.tgid, actor.tid, actor.uid, actor.comm,
            _SHOWN[_FUNCTIONS[name][0]], size, data, _hex(data), name, found.files[function],
        )  # fmt: skip

    entry_alone = [probe for probe in probes if not probe.returns]
    notes = [
        f"{probe.function.name} of {probe.shown}: shown when it is called, as where it returns can't be proven"
        for probe in entry_alone
    ]
    return EventSession(events, decode, notes)


def _hex(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.hex()
    return None


def _block(event: TlsData, lines: list[str]) -> list[str]:
    """The lines between marks, like bcc's."""
    if event.function == "HANDSHAKE":
        return []
    lost = event.size - len(event.data or b"")
    end = f"----- END DATA (TRUNCATED, {lost} bytes lost) -----" if event.data is not None and lost else None
    return ["----- DATA -----", *lines, end or "----- END DATA -----", ""]


def _as_text(event: TlsData) -> list[str]:
    if event.data is None:
        return _block(event, ["<unreadable>"])
    return _block(event, event.data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n"))


def _as_hex(event: TlsData) -> list[str]:
    if event.data is None:
        return _block(event, ["<unreadable>"])
    lines = []
    for start in range(0, len(event.data), 16):
        part = event.data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {text}")
    return _block(event, lines)


TOOL = Tool(
    name="sslsniff",
    description="Show what programs read and write through OpenSSL, GnuTLS and Go's crypto/tls, in clear text.",
    verb=sslsniff,
    kind="tls",
    headline="Tracing TLS reads and writes",
    warning="WARNING: this shows secrets: whatever the traced programs send and receive, passwords and tokens too.",
    scope=("pid", "uid", "cgroup", "command", "name"),
    letters={"name": "-c", "command": ""},
    probes=True,
    options=(
        Option("", ("-x", "--extra"), "show user and thread"),
        Option("no_openssl", ("-o", "--no-openssl"), "not OpenSSL"),
        Option("no_gnutls", ("-g", "--no-gnutls"), "not GnuTLS"),
        Option("", ("--hexdump",), "show data in hexadecimal"),
        Option("max_size", ("--max-buffer-size",), f"bytes of data that are kept of each call (default {DEFAULT_SIZE}, "
               f"at most {MOST_SIZE})", "count", "N", DEFAULT_SIZE),
        Option("", ("-l", "--latency"), "show how long calls took, in milliseconds"),
        Option("handshake", ("--handshake",), "show handshakes too"),
        Option("extra_lib", ("--extra-lib",), "look at this file too: openssl:FILE, gnutls:FILE or go:PROGRAM", "text",
               "KIND:FILE", (), repeat=True),
    ),
    columns=(
        Column("FUNC", 12, lambda e: e.function),
        SECONDS,
        Column("COMM", 16, lambda e: e.comm),
        PID,
        Column("LEN", 7, lambda e: e.size),
        Column("UID", 7, lambda e: e.uid, "extra"),
        Column("TID", 7, lambda e: e.tid, "extra"),
        Column("LAT(ms)", 7, lambda e: None if e.latency is None else f"{e.latency / 1e6:.3f}", "latency"),
    ),
    follow=_as_text,
    follow_with={"hexdump": _as_hex},
    examples=(
        "pyebpf sslsniff                     # of all programs",
        "pyebpf sslsniff -p 1234 -l --handshake   # of one process, with latencies",
        "pyebpf sslsniff -c curl             # of programs called curl",
        "pyebpf sslsniff --command 'curl -s https://example.org'   # of a command",
        "pyebpf sslsniff --extra-lib go:/srv/server      # of a Go program too",
    ),
)  # fmt: skip
