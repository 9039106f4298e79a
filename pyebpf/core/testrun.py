# SPDX-License-Identifier: BSD-2-Clause
"""Running a program once, without attaching it (``BPF_PROG_TEST_RUN``)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from pyebpf.core import bpf, libbpf

if TYPE_CHECKING:
    from pyebpf.core.programs import Program


class Run(NamedTuple):
    """What a test run of a program gave.

    Attributes:
        result: what the program returned.
        data: the packet behind it.
        context: the context behind it.
        duration: of one run, in nanoseconds.
    """

    result: int
    data: bytes
    context: bytes
    duration: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values: bytes in hexadecimal, the duration as ``duration_ns``."""
        return {"result": self.result, "data": self.data.hex(), "context": self.context.hex(),
                "duration_ns": self.duration}  # fmt: skip


def run(program: Program, data: bytes, context: bytes, repeat: int, room: int) -> Run:
    """Runs a program; see `Program.run`."""
    new, address = libbpf.ffi.new, libbpf.address
    given, came = new("char[]", data or b"\0"), new("char[]", max(room, len(data), 1))
    context_in, context_out = new("char[]", context or b"\0"), new("char[]", max(len(context), 1))
    with program.owner.lock:
        attr = struct.pack(
            "<IIIIQQIIIIQQ",
            *(program.fd, 0, len(data), len(came) if data else 0, address(given) if data else 0),
            *(address(came) if data else 0, repeat if repeat > 1 else 0, 0, len(context), len(context)),
            *(address(one) if context else 0 for one in (context_in, context_out)),
        )
        buffer = new("char[]", attr.ljust(80, b"\0"))
        code = bpf.bpf_inout(bpf.PROG_TEST_RUN, buffer, 80)
    _, result, _, size, _, _, _, duration, _, context_size = struct.unpack_from(
        "<IIIIQQIIII", libbpf.ffi.buffer(buffer)
    )
    if code < 0:
        hint = f"room={size}" if code == -errno.ENOSPC and size > len(came) else None
        raise libbpf.failure(code, f"program {program.name}: running it", hint=hint)
    return Run(result, bytes(libbpf.ffi.buffer(came, size if data else 0)),
               bytes(libbpf.ffi.buffer(context_out, context_size if context else 0)), duration)  # fmt: skip
