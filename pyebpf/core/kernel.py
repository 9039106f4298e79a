# SPDX-License-Identifier: BSD-2-Clause
"""What this kernel can do and what we may ask of it, found by trying rather than by version number."""

from __future__ import annotations

import errno
import functools
import os
import struct
from typing import NamedTuple

from pyebpf.core import bpf, libbpf, mount

# include/uapi/linux/capability.h
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}

_HELPER_GET_ATTACH_COOKIE = 174
_FENTRY = 24  # BPF_TRACE_FENTRY


class Feature(NamedTuple):
    """One thing a host may be able to do.

    Attributes:
        name: as in ``docs/support.md`` ("uprobe_multi").
        works: tried, and it worked.
        reason: why not, or a detail when it does.
        minimum: the first kernel that has it.
    """

    name: str
    works: bool
    reason: str = ""
    minimum: str = ""


def release() -> tuple[int, int]:
    """The running kernel's version, e.g. (6, 18)."""
    major, _, rest = os.uname().release.partition(".")
    minor = ""
    for char in rest:
        if not char.isdigit():
            break
        minor += char
    return int(major), int(minor or 0)


def effective_capabilities() -> int:
    """This process's effective capability set (``CapEff`` of proc(5))."""
    with open("/proc/self/status", "rb") as status:  # our own name may be any bytes
        for line in status:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def missing_capabilities() -> tuple[str, ...]:
    """Which of the capabilities that tracing needs are missing: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN for both.

    Those of a user namespace are not counted: the kernel asks for them in the first.
    """
    held = 0 if _in_user_namespace() else effective_capabilities()
    if held >> _CAPABILITIES["CAP_SYS_ADMIN"] & 1:
        return ()
    return tuple(name for name in ("CAP_BPF", "CAP_PERFMON") if not held >> _CAPABILITIES[name] & 1)


def lockdown() -> str:
    """The kernel's lockdown mode: "none", "integrity", "confidentiality"; "" when we can't find out."""
    folder = _securityfs()
    if folder < 0:
        return ""
    try:
        fd = os.open("lockdown", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:  # a kernel without lockdown
        return "none"
    except OSError:
        return ""
    finally:
        os.close(folder)
    with os.fdopen(fd) as file:
        return file.read().partition("[")[2].partition("]")[0]


def _securityfs() -> int:
    """A descriptor of the file system, or ``-errno``."""
    path = "/sys/kernel/security"
    if os.path.ismount(path):
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return mount.detached("securityfs")


def why_denied(missing: tuple[str, ...]) -> str:
    """The most likely cause of an EPERM, as a hint."""
    if _in_user_namespace():
        return "this is a user namespace (a rootless container), whose capabilities don't count here: run outside of it"
    if missing:
        root = "root" if os.geteuid() else "root with all its capabilities"  # a container's root lacks some
        return f"run as {root}, or with {' and '.join(filter(None, (', '.join(missing[:-1]), missing[-1])))}"
    if lockdown() == "confidentiality":
        return "the kernel is locked down (confidentiality), which forbids eBPF programs that read memory"
    return closed_to_perfmon() or "we hold the capabilities; a security module or a seccomp filter is refusing it"


def closed_to_perfmon() -> str:
    """That kernel.perf_event_paranoid is so high that a perf event takes CAP_SYS_ADMIN, as a hint; "" if it isn't.

    Linux itself knows levels up to 2, and CAP_PERFMON overrides each. Distributions added a level that refuses even an
    event of one's own; Debian's kernels have it by default (3), and CAP_PERFMON doesn't override it there.
    """
    try:
        with open("/proc/sys/kernel/perf_event_paranoid") as file:
            level = int(file.read())
    except (OSError, ValueError):  # no /proc, or no perf events
        return ""
    if level <= 2:
        return ""
    event = bpf.open_idle_event(os.getpid())
    if event >= 0:
        os.close(event)
    if event != -errno.EACCES:
        return ""
    return (
        f"with kernel.perf_event_paranoid at {level} this kernel refuses probes to whoever lacks CAP_SYS_ADMIN: "
        "run as root; at 2 (sysctl kernel.perf_event_paranoid=2) some kernels take CAP_PERFMON"
    )


def why_no_uprobe_event() -> str:
    """Why we, who have CAP_PERFMON, may not open a perf event for a uprobe, as a hint; "" if we may.

    Measured: Linux 5.10.223 takes CAP_PERFMON for one, 6.1.176 and 6.18.44 want CAP_SYS_ADMIN. uprobe_multi links need
    no such event.
    """
    event = bpf.open_uprobe_event("/", 0)  # EINVAL, a directory, for those who may
    if event >= 0:
        os.close(event)
    if event != -errno.EACCES:
        return ""
    if closed := closed_to_perfmon():
        return closed
    less = "; by uprobe_multi it takes less" if has_uprobe_multi() else ""
    return f"attaching by perf events takes CAP_SYS_ADMIN on this kernel: run as root, or with that too{less}"


def _in_user_namespace() -> bool:
    """True in a user namespace other than the first, which maps every number to itself (user_namespaces(7))."""
    try:
        with open("/proc/self/uid_map") as mapped:
            return mapped.read().split() != ["0", "0", "4294967295"]
    except OSError:  # no /proc, or a kernel without user namespaces
        return False


def btf_path() -> str:
    """Where the kernel's type information is read from: ``PYEBPF_BTF`` or the kernel's own."""
    return os.environ.get("PYEBPF_BTF") or "/sys/kernel/btf/vmlinux"


def has_uprobe_multi() -> bool:
    """True if the kernel makes uprobe_multi links (Linux 6.6)."""
    return _probe_multi(bpf.TRACE_UPROBE_MULTI).works


def _probe_multi(attach_type: int) -> Feature:
    """Tries a uprobe_multi link on a directory: a kernel that knows the link type says EBADF, others EINVAL."""
    session = attach_type == bpf.TRACE_UPROBE_SESSION
    name, minimum = ("uprobe session", "6.13") if session else ("uprobe_multi", "6.6")
    program = bpf.load_program(bpf.TRIVIAL_PROGRAM, attach_type=attach_type, name="probe")
    if program < 0:
        return Feature(name, False, f"loading a program: {os.strerror(-program)}", minimum)
    try:
        result = bpf.link_uprobe_multi(program, "/", [0], [0], attach_type=attach_type)
        if result >= 0:
            os.close(result)
    finally:
        os.close(program)
    if result == -errno.EBADF:
        return Feature(name, True, "", minimum)
    return Feature(name, False, f"the kernel answered {errno.errorcode.get(-result, result)}", minimum)


def has_attach_cookies() -> bool:
    """True if a uprobe's program can read its attach cookie (Linux 5.15)."""
    probe = libbpf.lib().libbpf_probe_bpf_helper
    return bool(probe(bpf.PROG_TYPE_KPROBE, _HELPER_GET_ATTACH_COOKIE, libbpf.ffi.NULL) == 1)


def has_sleepable_uprobes() -> bool:
    """True if a uprobe's program may sleep, which fetching a page of the target takes (Linux 6.0, 64ad7556c75d)."""
    return _probe_sleepable().works


def _probe_sleepable() -> Feature:
    program = bpf.load_program(bpf.TRIVIAL_PROGRAM, name="probe", sleepable=True)
    if program < 0:
        return Feature("sleepable uprobe", False, f"loading a program: {os.strerror(-program)}", "6.0")
    os.close(program)
    return Feature("sleepable uprobe", True, "", "6.0")


def multi_pid_filter_is_right() -> bool:
    """True if a uprobe_multi link's PID filter matches every thread of the process.

    Before Linux 6.10 (46ba0e49b642) it matched one thread. There is no way to probe that, hence the version; on a
    kernel with a backport we filter in the program, which is slower but right.
    """
    return release() >= (6, 10)


@functools.cache
def walks_from_entries() -> bool:
    """Does the kernel's walk of a user stack know that a uprobe is at a function's entry, and take the caller along?

    x86-64's does since Linux 6.11 (cfa7f3d2c526, "perf,x86: avoid missing caller address in stack traces captured in
    uprobe"), and in older series that took it over (Debian's 6.1): the structure's field came with it.
    """
    return release() >= (6, 11) or field_offset("uprobe_task.auprobe") is not None


def field_offset(path: str) -> int | None:
    """Byte offset of a kernel structure's field, from the kernel's BTF.

    Args:
        path: "task_struct.thread.fsbase".

    Returns:
        None if there is no BTF, no such structure or no such field.
    """
    library = libbpf.lib()
    ffi = libbpf.ffi
    custom = os.environ.get("PYEBPF_BTF")
    btf = library.btf__parse(os.fsencode(custom), ffi.NULL) if custom else library.btf__load_vmlinux_btf()
    if btf == ffi.NULL:
        return None
    try:
        struct_name, *fields = path.split(".")
        type_id = library.btf__find_by_name_kind(btf, struct_name.encode(), 4)  # BTF_KIND_STRUCT
        total_bits = 0
        for field in fields:
            if type_id < 0:
                return None
            found = _member(btf, type_id, field.encode())
            if found is None:
                return None
            bits, type_id = found
            total_bits += bits
        return total_bits // 8
    finally:
        library.btf__free(btf)


def enumerators(*names: str) -> dict[int, str]:
    """The members of enums of the running kernel, by value, from its BTF.

    Args:
        names: of enums; what the kernel doesn't have is left out. Of several members of one value the first counts.

    Returns:
        nothing if there is no BTF.
    """
    library = libbpf.lib()
    ffi = libbpf.ffi
    custom = os.environ.get("PYEBPF_BTF")
    btf = library.btf__parse(os.fsencode(custom), ffi.NULL) if custom else library.btf__load_vmlinux_btf()
    found: dict[int, str] = {}
    if btf == ffi.NULL:
        return found
    try:
        for name in names:
            type_id = library.btf__find_by_name_kind(btf, name.encode(), 6)  # BTF_KIND_ENUM, linux/btf.h
            if type_id < 0:
                continue
            info = library.btf__type_by_id(btf, type_id)
            members = ffi.cast("__u32 *", info + 1)  # struct btf_enum: name_off, val
            for index in range(info.info & 0xFFFF):
                text = ffi.string(library.btf__name_by_offset(btf, members[2 * index]))
                found.setdefault(int(members[2 * index + 1]), text.decode())
    finally:
        library.btf__free(btf)
    return found


def _member(btf: object, type_id: int, name: bytes) -> tuple[int, int] | None:
    """Bit offset and type of a structure's member, looking into anonymous members too."""
    library, ffi = libbpf.lib(), libbpf.ffi
    kind_struct, kind_union, modifiers = 4, 5, (8, 9, 10, 11, 18)  # linux/btf.h
    for _ in range(32):  # typedef, volatile, const, restrict, type_tag
        info = library.btf__type_by_id(btf, type_id)
        if info == ffi.NULL:
            return None
        kind = info.info >> 24 & 0x1F
        if kind not in modifiers:
            break
        type_id = info.size
    if kind not in (kind_struct, kind_union):
        return None
    members = ffi.cast("struct btf_member *", info + 1)
    for index in range(info.info & 0xFFFF):
        member = members[index]
        # With the kind_flag the upper byte is a bit field's size.
        offset = member.offset & 0xFFFFFF if info.info >> 31 else member.offset
        member_name = ffi.string(library.btf__name_by_offset(btf, member.name_off))
        if member_name == name:
            return int(offset), int(member.type)
        if not member_name:
            inner = _member(btf, member.type, name)
            if inner is not None:
                return int(offset) + inner[0], inner[1]
    return None


def features() -> list[Feature]:
    """Tries what the tools use, one after the other. Takes some ten milliseconds."""
    results = [_probe_uprobe(), _probe_cookies(), _probe_multi(bpf.TRACE_UPROBE_MULTI)]
    results.append(_probe_multi(bpf.TRACE_UPROBE_SESSION))
    results += [_probe_sleepable(), _probe_ring_buffer(), _probe_btf()]
    results += [_probe_tracing("tp_btf", 23, "sched_switch", "5.5"), kprobe()]
    results.append(fentry("vfs_read"))
    return results


def _probe_uprobe() -> Feature:
    path = "/sys/bus/event_source/devices/uprobe/type"
    if not os.path.exists(path):
        return Feature("uprobe", False, "no perf uprobe events (CONFIG_UPROBE_EVENTS is off?)", "4.17")
    program = bpf.load_program(bpf.TRIVIAL_PROGRAM, name="probe")
    if program < 0:
        return Feature("uprobe", False, f"loading a program: {os.strerror(-program)}", "4.17")
    os.close(program)
    if not has_uprobe_multi() and (reason := why_no_uprobe_event()):
        return Feature("uprobe", False, reason, "4.17")
    return Feature("uprobe", True, "", "4.17")


def _probe_cookies() -> Feature:
    works = has_attach_cookies()
    return Feature("attach cookie", works, "" if works else "the kernel has no bpf_get_attach_cookie", "5.15")


def _probe_ring_buffer() -> Feature:
    fd = bpf.create_map(bpf.MAP_TYPE_RINGBUF, 0, 0, os.sysconf("SC_PAGE_SIZE"))
    if fd < 0:
        return Feature("ring buffer", False, os.strerror(-fd), "5.8")
    os.close(fd)
    return Feature("ring buffer", True, "", "5.8")


def _probe_btf() -> Feature:
    path = btf_path()
    if not os.path.exists(path):
        return Feature("kernel BTF", False, f"no {path}; function tools don't need it", "5.2")
    return Feature("kernel BTF", True, path, "5.2")


def kprobe() -> Feature:
    """Whether kernel functions can be probed."""
    if not os.path.exists("/sys/bus/event_source/devices/kprobe/type"):
        return Feature("kprobe", False, "not compiled into this kernel (CONFIG_KPROBE_EVENTS)", "4.17")
    return Feature("kprobe", True, "", "4.17")


def fentry(function: str) -> Feature:
    """Whether a kernel function's entry and return can be traced by way of its ftrace hook."""
    return _probe_tracing("fentry", _FENTRY, function, "6.4" if os.uname().machine == "aarch64" else "5.5")


def _probe_tracing(name: str, attach_type: int, function: str, minimum: str) -> Feature:
    """Loads a program of type TRACING on a function or tracepoint found in the kernel's BTF."""
    library, ffi = libbpf.lib(), libbpf.ffi
    # A kernel that refuses all programs of this kind does so before it looks at the function: that takes no time.
    refused = _load_tracing(attach_type, 1)
    if refused in (-errno.EPERM, -errno.EACCES):
        return Feature(name, False, f"loading a program: {os.strerror(-refused)}", minimum)
    kernel_btf = library.btf__load_vmlinux_btf()
    if kernel_btf == ffi.NULL:
        return Feature(name, False, "needs the kernel's BTF", minimum)
    try:
        # A tracepoint's prototype is the typedef btf_trace_NAME.
        wanted, kind = (f"btf_trace_{function}", 8) if name == "tp_btf" else (function, 12)
        type_id = library.btf__find_by_name_kind(kernel_btf, wanted.encode(), kind)
    finally:
        library.btf__free(kernel_btf)
    if type_id < 0:
        return Feature(name, False, f"{function} isn't in the kernel's BTF", minimum)
    fd = _load_tracing(attach_type, type_id)
    if fd < 0:
        return Feature(name, False, f"loading a program: {os.strerror(-fd)}", minimum)
    link = 0
    # On arm64 some kernels load what they can't attach. To try it takes time, which is spent only there.
    if attach_type == _FENTRY and os.uname().machine == "aarch64" and release() < (6, 4):
        link = bpf.open_raw_tracepoint(fd)
        if link >= 0:
            os.close(link)
    os.close(fd)
    return Feature(name, link >= 0, "" if link >= 0 else "this kernel loads such programs, and attaches none", minimum)


def _load_tracing(attach_type: int, type_id: int) -> int:
    """Loads a trivial program for a type of the kernel's BTF. Returns a file descriptor, or ``-errno``."""
    code = libbpf.ffi.new("char[]", bpf.TRIVIAL_PROGRAM)
    license_ = libbpf.ffi.new("char[]", b"Dual BSD/GPL")
    attr = struct.pack(
        "<IIQQIIQII16sIIIIQIIQII",
        26,  # BPF_PROG_TYPE_TRACING
        2,
        libbpf.address(code),
        libbpf.address(license_),
        *(0, 0, 0, 0, 0),
        b"probe",
        *(0, attach_type),
        *(0, 0, 0, 0, 0, 0),  # prog_btf_fd, func_info_rec_size, func_info, func_info_cnt, line_info_rec_size, line_info
        *(0, type_id),  # line_info_cnt, attach_btf_id
    )
    return bpf.bpf(bpf.PROG_LOAD, attr)
