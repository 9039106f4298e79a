# SPDX-License-Identifier: BSD-2-Clause
"""Attaching an embedder's program to user space: functions, instructions, returns, static probes."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyebpf.core import bpf, kernel, libbpf
from pyebpf.core.attach import checked_cookie, split_offset
from pyebpf.core.attached import Link
from pyebpf.core.link import Ladder, Links, Refused, Site, attach_failure, refuse_go
from pyebpf.errors import (
    AttachError,
    BadValue,
    Error,
    StateError,
    TargetError,
    TargetNotFound,
    UnsafeProbe,
    Unsupported,
)

if TYPE_CHECKING:
    from pyebpf.binary.image import Function, Image
    from pyebpf.core.programs import Program

_MULTI = (bpf.TRACE_UPROBE_MULTI, bpf.TRACE_UPROBE_SESSION)
_LIBRARIES = (
    "/usr/local/lib", "/lib/{}-linux-gnu", "/usr/lib/{}-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"
)  # fmt: skip
_MOST_SITES = 1 << 20  # the kernel's own bound (MAX_UPROBE_MULTI_CNT)


def find_binary(binary: str) -> str:
    """The path of a binary: its own, or of a name without "/" where the shell or the dynamic linker would find it.

    Raises:
        TargetNotFound: there is no such file.
    """
    binary = os.fspath(binary)
    if "/" in binary:
        if not os.path.exists(binary):
            raise TargetNotFound(f"{binary}: no such file")
        return binary
    library = ".so" in binary
    folders = os.environ.get("LD_LIBRARY_PATH" if library else "PATH", "").split(":")
    if library:
        folders += [folder.format(os.uname().machine) for folder in _LIBRARIES]
    for folder in folders:
        path = os.path.join(folder, binary)
        if folder and os.path.isfile(path) and (library or os.access(path, os.X_OK)):
            return path
    raise TargetNotFound(f"{binary}: not found in {'the folders of libraries' if library else 'PATH'}; give its path")


def _one(image: Image, symbol: str) -> Function:
    """The function of a name. Raises TargetNotFound, TargetError: there are several, or none that can be probed."""
    found = image.search(symbol)
    path = image.elf.path
    if not found:
        close = image.close_matches(symbol)
        raise TargetNotFound(
            f"{path}: no function {symbol!r} (looked in {image.what_was_searched()})", close_matches=close,
            hint=f"did you mean {', '.join(close)}?" if close else None,
        )  # fmt: skip
    if len({function.address for function in found}) > 1:
        some = ", ".join(f"{function.raw} at {function.offset:#x}" for function in found[:4])
        raise TargetError(
            f"{path}: {len(found)} functions are called {symbol!r}: {some}",
            hint="give its linkage name or offset, or attach_uprobe_multi() to all of them",
        )
    if found[0].indirect:
        raise TargetError(f"{path}: {symbol} is an indirect function: its code only chooses the one that is called")
    return found[0]


class _Binary:
    """A binary that stays the file it was when its places were looked up, whatever its path leads to by now.

    Attributes:
        path: as it was found, for people.
        held: a path of this very file, for the kernel.
        image: its functions.
    """

    def __init__(self, binary: str) -> None:
        from pyebpf.binary.image import Image

        self.path = find_binary(binary)
        self.image = Image.open(self.path)
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
            now = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        except OSError:
            now = 0, 0, 0, 0
        self.held = f"/proc/self/fd/{self._fd}"
        if now != self.image.elf.identity:
            self.__exit__()
            raise TargetError(f"{self.path}: it was replaced while it was looked at", hint="try again")

    def __enter__(self) -> _Binary:
        return self

    def __exit__(self, *_: object) -> None:
        self.image.close()
        if self._fd >= 0:
            os.close(self._fd)


def _is_part(function: Function) -> bool:
    """Is it what GCC or LLVM moved out of a function? It is jumped to: there is no return address on the stack."""
    return re.search(r"\.cold(?:\.\d+)?\Z", function.raw) is not None


def _place(image: Image, symbol: str | None, offset: int, entry: bool) -> int:
    """The file offset of an instruction.

    Args:
        entry: it must be a function's entry.

    Raises:
        UnsafeProbe: it isn't, or no instruction begins there.
    """
    from pyebpf.binary.unfit import unfit

    elf = image.elf
    if symbol is not None and not isinstance(symbol, str):
        raise BadValue(f"a symbol is a text, got {symbol!r}")
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise BadValue(f"an offset is an integer, got {offset!r}")
    function = _one(image, symbol) if symbol is not None else None
    if function is not None:
        if not 0 <= offset < max(function.size, 1 if not offset else 1 << 20):
            raise TargetError(f"{elf.path}: {symbol} has {function.size} bytes, offset {offset:#x} is not in it")
        place = function.offset + offset
    else:
        place = offset
    address = elf.vaddr_of(place)
    if address is None or not elf.is_executable(address):
        raise TargetError(f"{elf.path}: there is no code at offset {place:#x} of the file")
    where = f"{symbol}+{offset:#x}" if symbol is not None else f"offset {place:#x}"
    reason = unfit(elf, address)
    if reason is not None:
        raise UnsafeProbe(f"{elf.path}: {where} {reason}")
    if entry:
        known = image.function_start(address) == address if function is None else not offset and not _is_part(function)
        if not known:
            raise UnsafeProbe(
                f"{elf.path}: {where} isn't known to be a function's entry: elsewhere a kernel return probe takes what "
                "is on the stack for the return address, and overwrites it",
                hint="give the function, or probe its RET instructions with attach_uprobe()",
            )
    elif (function is None or offset) and not image.boundary(address):
        raise UnsafeProbe(
            f"{elf.path}: {where} isn't known to be the beginning of an instruction: a probe inside of one breaks it",
            hint="objdump -d shows where instructions begin; where a stripped file has no functions nobody can tell",
        )
    return place


def _checked(program: Program, pid: int | None, on_return: bool) -> bool:
    """Before anything is looked up: what can be said at once. True: returns are probed, too."""
    _ = program.fd
    session = program.attach_type == bpf.TRACE_UPROBE_SESSION
    if session and on_return:
        raise BadValue(f"program {program.name}: a session is at entries and returns; on_return is for others")
    if pid is not None and not (isinstance(pid, int) and os.path.exists(f"/proc/{pid}")):
        raise TargetNotFound(f"process {pid} is gone")
    return session or on_return


def attach(
    program: Program,
    binary: str,
    symbol: str | None,
    offset: int,
    pid: int | None,
    cookie: int,
    on_return: bool = False,
) -> Link:
    """Attaches to one place; see `Program.attach_uprobe`."""
    if symbol is None and not offset:
        raise BadValue(f"program {program.name}: attach_uprobe wants a symbol or an offset")
    returns = _checked(program, pid, on_return)
    with _Binary(binary) as file:
        sites = [Site(_place(file.image, symbol, offset, returns), checked_cookie(cookie))]
        place = f"{file.path}:{symbol or ''}{f'+{offset:#x}' if offset else ''}{' return' * on_return}"
        return _attach(program, file, sites, pid, on_return, place)


def _attach(
    program: Program, file: _Binary, sites: list[Site], pid: int | None, on_return: bool, place: str = "",
    skipped: Sequence[Refused] = (),
) -> Link:  # fmt: skip
    """Attaches to places that were checked, but for Go: by one link, or one each. `place` is theirs if they are one."""
    skipped = list(skipped)
    if program.attach_type in _MULTI:
        return _by_multi(program, file, sites, pid, on_return, place, skipped)
    if on_return:
        refuse_go(file.image.elf, sites)
    pointers: list[Any] = []
    last: AttachError | None = None
    with program.owner.lock:
        try:
            for site in sites:
                try:
                    pointers.append(_single(program, file, site, pid, on_return))
                except AttachError as error:
                    if error.errno not in (524, errno.EOPNOTSUPP, errno.EIO):
                        raise
                    last = error
                    skipped.append(Refused(site, str(error)))
            if last is not None and not pointers:
                raise last
        except BaseException:
            bpf.close_all(pointers, libbpf.lib().bpf_link__destroy)
            raise
        name = f"{program.name} at {place or f'{len(pointers)} places of {file.path}'}"
        return Link(program, name, pointers=pointers, skipped=skipped)


def _single(program: Program, file: _Binary, site: Site, pid: int | None, on_return: bool) -> Any:
    """libbpf's link of one uprobe. Raises as `Program.attach_uprobe` does."""
    library, ffi = libbpf.lib(), libbpf.ffi
    # struct bpf_uprobe_opts: sz, ref_ctr_offset, bpf_cookie, retprobe, func_name
    options = ffi.new("char[]", struct.pack("<QQQ?7xQ", 40, 0, site.cookie, on_return, 0))
    name = ffi.new("char[]", file.held.encode())
    who = -1 if pid is None else pid
    pointer = library.bpf_program__attach_uprobe_opts(program.pointer, who, name, site.offset, options)
    if pointer == ffi.NULL:
        raise _refused(program, file.path, ffi.errno, pid, site.cookie)
    return pointer


def _refused(program: Program, path: str, number: int, pid: int | None, cookie: int) -> Error:
    if cookie and number in (errno.EOPNOTSUPP, errno.EINVAL, 524) and not kernel.has_attach_cookies():
        return Unsupported(f"attaching {program.name}: cookies aren't supported by this kernel",
                           feature="attach cookie", minimum="Linux 5.15")  # fmt: skip
    if number in (524, errno.EOPNOTSUPP, errno.EIO):
        return AttachError(f"attaching {program.name} to {path}: the kernel can't probe this instruction", errno=number)
    fit = ("uprobe", "uretprobe", "kprobe", "kretprobe", "usdt")
    if number == errno.EINVAL and not program.section.startswith(fit):
        return AttachError(f"program {program.name}: its section {program.section!r} isn't for uprobes", errno=number,
                           hint='write SEC("uprobe")')  # fmt: skip
    return attach_failure(number, path, pid or 0)


def _by_multi(
    program: Program, file: _Binary, sites: list[Site], pid: int | None, on_return: bool, place: str,
    skipped: list[Refused],
) -> Link:  # fmt: skip
    if pid is not None and not kernel.multi_pid_filter_is_right():
        raise Unsupported(
            f"program {program.name}: before Linux 6.10 uprobe_multi links confuse processes and threads",
            feature="uprobe_multi of one process", minimum="Linux 6.10",
            hint='look at bpf_get_current_pid_tgid() in the program, or leave attach_type alone',
        )  # fmt: skip
    if on_return or program.attach_type == bpf.TRACE_UPROBE_SESSION:
        refuse_go(file.image.elf, sites)  # by the name people know it by; `Links` does it again
    links = Links(Ladder("multi"))
    with program.owner.lock:
        try:
            refused = links.attach(program, file.held, sites, pid=pid or 0, on_return=on_return, name=file.path)
            if not len(links):
                raise AttachError(f"attaching {program.name} to {file.path}: {refused[0].reason}", errno=errno.EINVAL)
        except BaseException:
            links.close()
            raise
        name = f"{program.name} at {place or f'{len(sites) - len(refused)} places of {file.path}'}"
        return Link(program, name, links.take(), skipped=[*skipped, *refused])


def attach_many(
    program: Program,
    binary: str,
    symbols: str | Sequence[str],
    offsets: Sequence[int],
    cookies: Sequence[int],
    pid: int | None,
    on_return: bool,
) -> Link:
    """Attaches to many places; see `Program.attach_uprobe_multi`."""
    if bool(symbols) == bool(offsets):
        raise BadValue(f"program {program.name}: attach_uprobe_multi wants symbols or offsets")
    returns = _checked(program, pid, on_return)
    with _Binary(binary) as file:
        skipped: list[Refused] = []
        if isinstance(symbols, str):
            if cookies:
                raise BadValue("cookies go with a list of names or offsets, not with a pattern")
            places = _matching(file.image, symbols, returns, skipped)
        elif symbols:
            places = [_place(file.image, symbol, 0, returns) for symbol in symbols]
        else:
            places = [_place(file.image, None, offset, returns) for offset in offsets]
        if cookies and len(cookies) != len(places):
            raise BadValue(f"{len(places)} places and {len(cookies)} cookies: a cookie for each is wanted")
        if len(places) > _MOST_SITES:
            raise TargetError(f"{file.path}: {symbols!r} is {len(places)} functions, the kernel takes {_MOST_SITES}")
        sites = [Site(place, checked_cookie(cookies[index]) if cookies else 0) for index, place in enumerate(places)]
        return _attach(program, file, sites, pid, on_return, skipped=skipped)


def _matching(image: Image, pattern: str, entry: bool, skipped: list[Refused]) -> list[int]:
    """The file offsets of the functions of a pattern; adds those that can't be probed to `skipped`."""
    from pyebpf.binary.unfit import unfit

    path = image.elf.path
    found = [function for function in image.search(pattern) if not function.indirect]
    if not found:
        close = image.close_matches(pattern)
        raise TargetNotFound(f"{path}: no function matches {pattern!r}", close_matches=close,
                             hint=f"did you mean {', '.join(close)}?" if close else None)  # fmt: skip
    places = []
    for function in {function.offset: function for function in found}.values():
        reason = unfit(image.elf, function.address)
        if entry and _is_part(function):
            reason = "is a part of a function, which doesn't return"
        if reason is None:
            places.append(function.offset)
        else:
            skipped.append(Refused(Site(function.offset, 0), reason))
    if not places:
        raise UnsafeProbe(f"{path}: {pattern!r}: what matches {skipped[0].reason}")
    return places


def attach_usdt(program: Program, binary: str, provider: str, name: str, pid: int | None, cookie: int) -> Link:
    """Attaches to a static probe; see `Program.attach_usdt`."""
    _checked(program, pid, False)
    if "__bpf_usdt_specs" not in program.owner.maps:
        raise StateError(f"program {program.name}: static probes need the maps of libbpf's usdt.bpf.h",
                         hint='#include <bpf/usdt.bpf.h> and write SEC("usdt") int BPF_USDT(...)')  # fmt: skip
    path = find_binary(binary)
    known = static_probes(path)
    if (provider, name) not in known:
        from difflib import get_close_matches

        there = [":".join(one) for one in known]
        close = tuple(get_close_matches(f"{provider}:{name}", there, 3)) or tuple(there[:3])
        raise TargetNotFound(
            f"{path}: no static probe {provider}:{name}; it has {', '.join(close) if close else 'none'}",
            close_matches=close,
        )
    library, ffi = libbpf.lib(), libbpf.ffi
    # struct bpf_usdt_opts: sz, usdt_cookie
    options = ffi.new("char[]", struct.pack("<QQ", 16, checked_cookie(cookie)))
    texts = [ffi.new("char[]", os.fsencode(text)) for text in (path, provider, name)]
    with program.owner.lock:
        pointer = library.bpf_program__attach_usdt(program.pointer, -1 if pid is None else pid, *texts, options)
        if pointer == ffi.NULL:
            raise _refused(program, path, ffi.errno, pid, 0)
        return Link(program, f"{program.name} at {path}:{provider}:{name}", pointers=[pointer])


def static_probes(path: str) -> list[tuple[str, str]]:
    """Providers and names of a file's static probes (USDT), each once.

    Format: the notes of SystemTap's ``sys/sdt.h``, owner "stapsdt", type 3.
    """
    from pyebpf.binary.elf import Elf

    found: dict[tuple[str, str], None] = {}
    with Elf.open(path) as elf:
        section = elf.section(".note.stapsdt")
        data = bytes(elf.contents(section)) if section is not None else b""
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        owner = data[at + 12 : at + 12 + name_size]
        start = at + 12 + (name_size + 3) // 4 * 4
        if kind == 3 and owner == b"stapsdt\0":
            texts = data[start + 24 : start + size].split(b"\0")  # behind three addresses
            if len(texts) >= 2:
                found[texts[0].decode(errors="replace"), texts[1].decode(errors="replace")] = None
        at = start + (size + 3) // 4 * 4
    return list(found)


def by_section(program: Program, kind: str, place: str) -> Link:
    """Attaches a program where its section says: "PATH:FUNCTION+OFFSET", "PATH:PATTERN", "PATH:PROVIDER:NAME"."""
    path, _, rest = place.partition(":")
    if not path or not rest:
        raise AttachError(f"program {program.name}: section {program.section!r} is malformed: it is {kind}/PATH:NAME")
    if kind == "usdt":
        provider, _, name = rest.partition(":")
        return attach_usdt(program, path, provider, name, None, 0)
    if "." in kind:
        return attach_many(program, path, rest, (), (), None, kind.startswith("uretprobe"))
    symbol, offset = split_offset(rest)
    if re.fullmatch(r"0x[0-9a-fA-F]+|[0-9]+", symbol):  # as libbpf has it: an offset in the file
        return attach(program, path, None, int(symbol, 0) + offset, None, 0, kind == "uretprobe")
    return attach(program, path, symbol, offset, None, 0, kind == "uretprobe")
