# SPDX-License-Identifier: BSD-2-Clause
"""Keeping maps, programs and links in a BPF file system, and getting them back."""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple

from pyebpf.core import bpf, libbpf
from pyebpf.core.btf import Btf
from pyebpf.errors import AttachError, BadValue, Error, LibbpfError, StateError, TargetNotFound


def pin(fd: int, path: str, what: str) -> None:
    """Gives a descriptor's object a name (BPF_OBJ_PIN).

    Raises:
        StateError: the name is taken.
        TargetNotFound: the folder isn't there.
        PermissionDenied, LibbpfError: the kernel refused.
    """
    name = libbpf.ffi.new("char[]", os.fsencode(path))
    code = bpf.bpf(bpf.OBJ_PIN, struct.pack("<QII", libbpf.address(name), fd, 0))
    if code < 0:
        raise _failure(-code, path, f"pinning {what} at {path}")


def get(path: str) -> int:
    """A new descriptor for what is pinned at a path (BPF_OBJ_GET). Raises like `pin`."""
    libbpf.lib()
    name = libbpf.ffi.new("char[]", os.fsencode(path))
    fd = bpf.bpf(bpf.OBJ_GET, struct.pack("<QII", libbpf.address(name), 0, 0))
    if fd < 0:
        raise _failure(-fd, path, f"opening {path}")
    return fd


def unpin(path: str) -> None:
    """Takes the name away; what it held goes with its last user. Raises TargetNotFound."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        raise TargetNotFound(f"nothing is pinned at {path}") from None
    except OSError as error:
        raise LibbpfError(f"unpinning {path}: {error.strerror}", errno=error.errno) from None


def _failure(number: int, path: str, what: str) -> Error:
    folder = os.path.dirname(os.path.abspath(path))
    if number == errno.ENOENT:
        missing = path if os.path.isdir(folder) else folder
        return TargetNotFound(f"{what}: there is no {missing}")
    if number == errno.EEXIST:
        return StateError(f"{what}: the name is taken", hint="unpin what is there, or use it: map.reuse(path)")
    if number in (errno.EPERM, errno.EACCES, errno.EINVAL) and _filesystem(folder) not in ("bpf", ""):
        return LibbpfError(
            f"{what}: {folder} isn't in a BPF file system", errno=number, hint="mount -t bpf bpf /sys/fs/bpf"
        )
    if number == errno.EPERM and "." in os.path.basename(path):
        return LibbpfError(
            f"{what}: the BPF file system takes no name with a dot", errno=number, hint="use another character"
        )
    if number == errno.EINVAL:
        return AttachError(f"{what}: the kernel can't pin this: before Linux 5.15 a probe is no link", errno=number)
    return libbpf.failure(number, what)


def _filesystem(folder: str) -> str:
    """The type of the file system a folder lies in, "" if unknown."""
    try:
        device = os.stat(folder).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", "rb") as mounts:  # others choose the names of what they mount
            for line in mounts:
                if line.split()[2] == wanted.encode():
                    return line.partition(b" - ")[2].split()[0].decode()
    except OSError:
        pass
    return ""


class MapInfo(NamedTuple):
    """What the kernel says of a map (the beginning of struct bpf_map_info, ``linux/bpf.h``)."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf_id: int
    key_type: int
    value_type: int


def kind_of(fd: int) -> str:
    """What a descriptor is: "map", "prog", "link", or "" for none of them."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        return next((line.partition("_type:")[0] for line in lines if line.startswith(
            ("map_type:", "prog_type:", "link_type:"))), "")  # fmt: skip


def map_info(fd: int) -> MapInfo:
    """Asks the kernel what map a descriptor is. Raises BadValue: it is none."""
    if kind_of(fd) != "map":
        raise BadValue(f"what is there is no map{' but a ' * bool(kind_of(fd))}{kind_of(fd)}")
    data = _info(fd, 80, "reading about a map")
    # The device (ifindex, two words) and a word for a module's types lie between.
    row = struct.unpack_from("<6I16s2I2Q4I", data)
    return MapInfo._make((*row[:6], row[6].rstrip(b"\0").decode(errors="replace"), *row[11:14]))


def btf_of(number: int) -> Btf | None:
    """Type information the kernel holds, by its number; None where it can't be had."""
    fd = bpf.bpf(bpf.BTF_GET_FD_BY_ID, struct.pack("<III", number, 0, 0)) if number else -1
    if fd < 0:
        return None
    try:
        # struct bpf_btf_info: btf, btf_size, id
        size = struct.unpack_from("<8xI", _info(fd, 16, "reading types"))[0]
        if not 0 < size <= 16 << 20:
            return None
        room = libbpf.ffi.new("char[]", size)
        _info(fd, 16, "reading types", struct.pack("<QII", libbpf.address(room), size, 0))
        return Btf(bytes(libbpf.ffi.buffer(room)))
    finally:
        os.close(fd)


def _info(fd: int, size: int, what: str, given: bytes = b"") -> bytes:
    libbpf.lib()
    info = libbpf.ffi.new("char[]", given.ljust(size, b"\0"))
    code = bpf.bpf(bpf.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, size, libbpf.address(info)))
    libbpf.check(code, what)
    return bytes(libbpf.ffi.buffer(info))
