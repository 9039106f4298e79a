# SPDX-License-Identifier: BSD-2-Clause
"""Copies of loaded programs, for pyebpf's own: with another cookie, or as another kind."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from pyebpf.core import bpf, libbpf
from pyebpf.errors import AttachError

if TYPE_CHECKING:
    from pyebpf.core.programs import Program

# The instruction that loads SITE_PLACEHOLDER (bpf/include/site.bpf.h): ld_imm64 into any register.
_PLACEHOLDER = 0x5EEDC00C1E5EED00


def _code(program: Program) -> bytearray:
    library = libbpf.lib()
    size = library.bpf_program__insn_cnt(program.pointer) * 8
    return bytearray(libbpf.ffi.buffer(library.bpf_program__insns(program.pointer), size))


def as_iterator(program: Program) -> int:
    """Loads a copy of the loaded program as the iterator it is.

    From a section "iter/…" libbpf would, but it reads all of the kernel's types to look up a number.

    Returns:
        a file descriptor, the caller's to close.

    Raises:
        AttachError: the kernel has no such iterator, or refused the copy.
    """
    function = program.owner._kernel_functions.get(program.iterator)
    if function is None:
        raise AttachError(f"program {program.name}: this kernel has no iterator {program.iterator}")
    code = bytes(_code(program))
    fd = bpf.load_program(
        code, kind=bpf.PROG_TYPE_TRACING, attach_type=bpf.TRACE_ITER, name=program.name, attach_to=function
    )
    if fd < 0:
        raise AttachError(f"program {program.name}: loading it as an iterator: {os.strerror(-fd)}", errno=-fd)
    return fd


def with_cookie(program: Program, cookie: int) -> int:
    """Loads a copy of the loaded program whose `site_cookie` is a constant, for kernels without attach cookies.

    Returns:
        a file descriptor, the caller's to close.

    Raises:
        AttachError: the program reads no cookie, or the kernel refused the copy.
    """
    code = _code(program)
    low, high = struct.pack("<I", _PLACEHOLDER & 0xFFFFFFFF), struct.pack("<I", _PLACEHOLDER >> 32)
    copies = 0
    for at in range(0, len(code) - 8, 8):
        if code[at] == 0x18 and code[at + 4 : at + 8] == low and code[at + 12 : at + 16] == high:
            struct.pack_into("<I", code, at + 4, cookie & 0xFFFFFFFF)
            struct.pack_into("<I", code, at + 12, cookie >> 32)
            copies += 1
    if not copies:
        raise AttachError(f"program {program.name} has no site_cookie() to replace")
    fd = bpf.load_program(bytes(code), name=program.name)
    if fd < 0:
        raise AttachError(f"program {program.name}: loading a copy: {os.strerror(-fd)}", errno=-fd)
    return fd
