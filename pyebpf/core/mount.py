# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's own file systems, also where nobody has mounted them."""

from __future__ import annotations

import os

from pyebpf.core import libbpf

# The same numbers on x86-64 and arm64 (include/uapi/asm-generic/unistd.h), since Linux 5.2.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_FSCONFIG_CMD_CREATE = 6


def detached(filesystem: str) -> int:
    """Mounts a file system ("tracefs") where no namespace sees it; it goes with its descriptor.

    Returns:
        a descriptor to open files relative to (``dir_fd``), or ``-errno``.
    """
    libbpf.lib()
    name = libbpf.ffi.new("char[]", filesystem.encode())
    context = libbpf.syscall(_FSOPEN, libbpf.address(name), _CLOEXEC)
    if context < 0:
        return context
    try:
        code = libbpf.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        return code if code < 0 else libbpf.syscall(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
