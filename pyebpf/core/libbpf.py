# SPDX-License-Identifier: BSD-2-Clause
"""libbpf: the system's, or the package pyebpf_libbpf's where there is none; opened once, at first use, never closed.

Nothing else imports the generated binding. A handle that is collected unmaps the strings libbpf returned, so it is
kept for ever. libbpf's messages are silenced; `captured_messages` collects them where an error needs them.
"""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock, get_ident
from typing import Any

from pyebpf.errors import LibbpfError, LibbpfMissing, PermissionDenied

# libbpf promises its ABI within a soname; .so.1 is libbpf 1.0 and newer.
_SONAME = "libbpf.so.1"

ffi: Any = None
_lib: Any = None


class _Syscalls:
    """libc's ``syscall``, for what libbpf is too old to do."""

    handle: Any = None


def lib() -> Any:
    """Returns the libbpf handle, opening it at the first call.

    Raises:
        LibbpfMissing: there is none; the hint names the distribution's package.
    """
    global ffi, _lib
    if _lib is None:
        from pyebpf.core._libbpf import ffi as generated

        handle = _open(generated)
        ffi = generated
        _lib = handle
    return _lib


def _open(generated: Any) -> Any:
    """Opens PYEBPF_LIBBPF; without it the system's library; where there is none, that of the package pyebpf_libbpf."""
    wanted = os.environ.get("PYEBPF_LIBBPF")
    path = wanted or _SONAME
    try:
        return _silent(generated, path)
    except (OSError, generated.error) as error:
        refused = f"can't open {path}: {error}"
    if not wanted:
        try:
            from importlib import import_module

            return _silent(generated, import_module("pyebpf_libbpf").path())
        except ImportError:
            pass
        except (OSError, generated.error) as error:  # for another C library, or half installed
            refused += f"; nor the package pyebpf_libbpf's: {error}"
    raise LibbpfMissing(refused, hint="correct PYEBPF_LIBBPF, or unset it" if wanted else _install_hint())


def _silent(generated: Any, path: str) -> Any:
    """Opens a library, which must be libbpf 1.0 or newer, and silences it. Raises OSError, ffi.error."""
    handle = generated.dlopen(path)
    found = generated.string(handle.libbpf_version_string()).decode()
    if found.startswith("v0."):
        raise OSError(f"it is libbpf {found[1:]}, and 1.0 is the minimum")
    handle.libbpf_set_print(generated.NULL)
    return handle


def syscall(number: int, *arguments: int) -> int:
    """Calls libc's syscall(2); pointers are passed as integers. Returns the result, or ``-errno``."""
    lib()
    if _Syscalls.handle is None:
        _Syscalls.handle = ffi.dlopen(None)
    result = _Syscalls.handle.syscall(number, *(ffi.cast("long", argument) for argument in arguments))
    return int(result) if result >= 0 else -int(ffi.errno)


def address(data: Any) -> int:
    """The address of a cffi buffer, for a system call's structures. The buffer must outlive the call."""
    return int(ffi.cast("uintptr_t", data))


def version() -> str:
    """libbpf's version as it reports itself ("v1.1"), e.g. "1.1"."""
    text = lib().libbpf_version_string()
    return str(ffi.string(text).decode().lstrip("v"))


def path() -> str:
    """The file that libbpf was loaded from."""
    lib()
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            name = line.rstrip().rpartition(b" ")[2]
            if b"libbpf" in name.rpartition(b"/")[2]:
                return os.fsdecode(name)
    return os.environ.get("PYEBPF_LIBBPF") or _SONAME


def failure(code: int, what: str, *, hint: str | None = None) -> LibbpfError:
    """Turns a negative errno into the exception to raise. libbpf's own guesses are not passed on."""
    number = abs(code)
    reason = os.strerror(number) if number != 524 else "not supported by the kernel (ENOTSUPP)"
    if number in (errno.EPERM, errno.EACCES):
        from pyebpf.core.kernel import missing_capabilities, why_denied

        missing = missing_capabilities()
        return PermissionDenied(
            f"{what}: {reason}", missing=missing, errno=number, hint=hint or why_denied(missing)
        )
    return LibbpfError(f"{what}: {reason}", errno=number, hint=hint)


def check(code: int, what: str) -> int:
    """Returns a result that isn't negative; raises for one that is.

    Raises:
        PermissionDenied: EPERM or EACCES.
        LibbpfError: any other errno.
    """
    if code < 0:
        raise failure(code, what)
    return code


class captured_messages:
    """Collects what libbpf says to this thread while a ``with`` block runs, in ``.lines``; at most 256 KiB.

    The callback is ctypes', not cffi's: cffi allocates writable-executable memory for one, which hardened services
    (``MemoryDenyWriteExecute=``) forbid; ctypes uses libffi's static trampolines. It is made on the way to the first
    error message, and kept: libbpf has one for all threads, and may be calling it when the block ends.
    """

    LIMIT = 256 * 1024
    _lock = allocate_lock()  # one block at a time
    _callback: Any = None
    _active: captured_messages | None = None

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._size = 0
        self._thread = get_ident()

    def __enter__(self) -> captured_messages:
        self._lock.acquire()
        try:
            import ctypes

            if captured_messages._callback is None:
                captured_messages._callback = self._made()
            captured_messages._active = self
            lib().libbpf_set_print(ffi.cast("void *", ctypes.cast(self._callback, ctypes.c_void_p).value))
        except MemoryError:
            pass
        except BaseException:
            self.__exit__()
            raise
        return self

    @staticmethod
    def _made() -> Any:
        import ctypes

        libc = ctypes.CDLL(None)

        def on_message(_level: int, template: bytes, arguments: int | None) -> int:
            into = captured_messages._active
            if into is not None and into._thread == get_ident() and into._size < into.LIMIT:
                buffer = ctypes.create_string_buffer(16384)
                # A va_list is passed as a pointer on x86-64 and arm64.
                libc.vsnprintf(buffer, len(buffer), template, ctypes.c_void_p(arguments))
                text = buffer.value.decode(errors="replace").rstrip("\n")
                into._size += len(text)
                into.lines.append(text)
            return 0

        return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(on_message)

    def __exit__(self, *_: object) -> None:
        captured_messages._active = None
        try:
            lib().libbpf_set_print(ffi.NULL)
        finally:
            self._lock.release()


def _install_hint() -> str:
    """Says which package brings libbpf.so.1 on this distribution."""
    ids = set()
    try:
        with open("/etc/os-release") as release:
            for line in release:
                key, _, value = line.strip().partition("=")
                if key in ("ID", "ID_LIKE"):
                    ids.update(value.strip("\"'").split())
    except OSError:
        pass
    old = next((f for f in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
                if os.path.exists(f + "/libbpf.so.0")), None)
    prefix = f"{old}/libbpf.so.0 is too old (libbpf 1.0 is the minimum); " if old else ""
    command = "your distribution's libbpf package"
    for names, found in (
        (("debian", "ubuntu"), "apt install libbpf1"),
        (("fedora", "rhel", "centos", "rocky", "amzn"), "dnf install libbpf"),
        (("alpine",), "apk add libbpf"),
        (("arch",), "pacman -S libbpf"),
        (("suse", "opensuse"), "zypper install libbpf1"),
    ):
        if ids & set(names):
            command = found
            break
    return f"{prefix}install it: {command}; or the wheel pyebpf-libbpf; or name one: PYEBPF_LIBBPF=/path/libbpf.so.1"
