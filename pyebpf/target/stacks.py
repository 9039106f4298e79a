# SPDX-License-Identifier: BSD-2-Clause
"""From the addresses of a stack to names: of user functions through a process's mappings, of kernel functions.

A stack's addresses, except its first, are those that calls return to. When a call is the last instruction of a function
(what it calls never returns), that is the first byte of the next function; so they are looked up one byte before.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..binary.image import Image
from ..errors import BinaryError, Error
from .process import Mapping as Mapped
from .process import Process, identity, read_maps

UNKNOWN = "[unknown]"

_MAX_CACHED = 100_000
_MAX_KALLSYMS, _MAX_MODULES = 128 << 20, 1 << 20
_RETRY_SECONDS = 0.1
_MAX_KERNEL_FUNCTION = 1 << 20
_TEXT = frozenset((b"t", b"T", b"w", b"W"))


class Frame(NamedTuple):
    """A place in a stack.

    Attributes:
        address: as it was in the stack.
        name: of the function, demangled; "[unknown]" if there is none, "[vdso]" and the like for the kernel's own
            mappings, "[anon]" for code without a file (compiled at run time).
        offset: bytes from the function's first instruction, 0 without one.
        module: the file, "[kernel]" or a kernel module in brackets; "" if unknown.
    """

    address: int
    name: str
    offset: int
    module: str

    def as_dict(self) -> dict[str, int | str]:
        """Plain values. In a record's stack a frame is its name."""
        return self._asdict()


class Files:
    """Files that the symbols of several processes are read from, each open once."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[Image, int]] = {}  # and how many have it

    def take(self, which: tuple[int, int], path: str, root: str) -> Image:
        """A file by (st_dev, st_ino), until it is given back as often as it was taken. Raises as `Image.open`."""
        image, users = self._open.get(which) or (Image.open(path, debug_root=root), 0)
        self._open[which] = image, users + 1
        return image

    def give_back(self, which: tuple[int, int]) -> None:
        """Closes it if nobody else has it."""
        image, users = self._open.pop(which)
        if users > 1:
            self._open[which] = image, users - 1
        else:
            image.close()


class UserSymbols:
    """Names for the addresses of one process.

    What it maps is read at once, so names can also be had when it is gone, for files still there (or read before).
    """

    __slots__ = (
        "_files", "_frames", "_images", "_maps", "_paths", "_process", "_retry", "_shared", "_starts", "_taken", "pid",
    )  # fmt: skip

    def __init__(
        self, pid: int, images: Mapping[tuple[int, int], Image] | None = None, shared: Files | None = None
    ) -> None:
        """Read what `pid` maps.

        Args:
            images: files read already, by (st_dev, st_ino), as in `Resolution.images`.
            shared: those that other processes' symbols are read from too.

        Raises:
            TargetNotFound, TargetError, PermissionDenied: see `Process`.
        """
        self.pid = pid
        self._process = Process(pid)
        self._images = dict(images or {})
        self._shared = shared or Files()
        self._taken: list[tuple[int, int]] = []
        self._files: dict[tuple[int, int], Image | None] = {}
        # Where each file is, and which it is: on overlayfs and btrfs only the living process can tell.
        self._paths: dict[tuple[int, int], tuple[str, tuple[int, int] | None]] = {}
        self._frames: dict[tuple[int, bool], Frame] = {}
        self._retry = 0.0
        self._take(read_maps(pid))

    def resolve(self, addresses: Sequence[int], first_is_exact: bool = True) -> list[Frame]:
        """A frame for each address, innermost first.

        Args:
            first_is_exact: the first address is where execution was, not where it will return to.
        """
        frames = []
        may_refresh = True
        for index, address in enumerate(addresses):
            exact = first_is_exact and index == 0
            frame = self._frames.get((address, exact))
            if frame is None:
                if may_refresh and self._mapping_at(address if exact else address - 1) is None:
                    may_refresh = False
                    self._refresh(address)
                frame = self._frame(address, address if exact else address - 1)
                if len(self._frames) >= _MAX_CACHED:
                    self._frames.clear()
                self._frames[address, exact] = frame
            frames.append(frame)
        return frames

    def close(self) -> None:
        """Closes the files that it has opened."""
        self._files.clear()
        while self._taken:
            self._shared.give_back(self._taken.pop())

    def _take(self, maps: Sequence[Mapped]) -> None:
        self._maps = [mapping for mapping in maps if "x" in mapping.perms]
        self._starts = [mapping.start for mapping in self._maps]
        self._frames.clear()
        for mapping in self._maps:
            key = (mapping.dev, mapping.inode)
            if mapping.inode and key not in self._paths:
                try:
                    path = self._process.path_for(mapping)
                except Error:
                    continue
                self._paths[key] = path, identity(path)

    def _refresh(self, address: int) -> None:
        """Read the mappings again, as `address` is in none. Garbage must not make us do that often."""
        now = time.monotonic()
        if now < self._retry:
            return
        try:
            self._process = Process(self.pid)
            maps = read_maps(self.pid)
        except Error:
            maps = []
        if maps:
            self._take(maps)
        if self._mapping_at(address) is None:
            self._retry = now + _RETRY_SECONDS

    def _mapping_at(self, address: int) -> Mapped | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._maps[index].end:
            return None
        return self._maps[index]

    def _frame(self, address: int, at: int) -> Frame:
        mapping = self._mapping_at(at)
        if mapping is None:
            return Frame(address, UNKNOWN, 0, "")
        if not mapping.inode:
            return Frame(address, mapping.path or "[anon]", 0, "")
        image = self._image(mapping)
        vaddr = None if image is None else image.elf.vaddr_of(at - mapping.start + mapping.offset)
        if image is None or vaddr is None:
            return Frame(address, UNKNOWN, 0, mapping.path)
        try:
            function = image.function_at(vaddr)
        except BinaryError:
            function = None
        if function is None:
            return Frame(address, UNKNOWN, 0, mapping.path)
        return Frame(address, function.name, vaddr - function.address + address - at, mapping.path)

    def _image(self, mapping: Mapped) -> Image | None:
        """The file behind `mapping`, read once; None if it can't be."""
        key = (mapping.dev, mapping.inode)
        if key not in self._files:
            self._files[key] = self._open(mapping)
        return self._files[key]

    def _open(self, mapping: Mapped) -> Image | None:
        path, which = self._paths.get((mapping.dev, mapping.inode), ("", None))
        if which is None:
            return None
        if which in self._images:
            return self._images[which]
        if identity(path) != which:  # gone, or replaced
            return None
        try:
            image = self._shared.take(which, path, self._process.root)
        except Error:
            return None
        self._taken.append(which)
        return image


class KernelSymbols:
    """Names for kernel addresses, from /proc/kallsyms, read at the first question."""

    __slots__ = ("_ends", "_lines", "_modules", "_path", "_reason")

    def __init__(self, path: str = "/proc/kallsyms", modules: str = "/proc/modules") -> None:
        self._path, self._modules = path, modules
        self._reason: str | None = None
        self._ends: dict[str, int] = {}  # of modules, by their names in brackets
        # The text's lines sorted by address, which is their first 16 characters, in hexadecimal.
        self._lines: list[bytes] | None = None

    @property
    def reason(self) -> str | None:
        """Why there are no names, or None."""
        self._load()
        return self._reason

    def resolve(self, addresses: Sequence[int], first_is_exact: bool = True) -> list[Frame]:
        """A frame for each address, innermost first; see `UserSymbols.resolve`."""
        lines = self._load()
        return [
            _kernel_frame(lines, self._ends, address, address if first_is_exact and index == 0 else address - 1)
            for index, address in enumerate(addresses)
        ]

    def extent(self, name: str) -> tuple[int, int] | None:
        """The first address of a function of the kernel proper, and that of whatever follows it; None: not found."""
        lines, wanted = self._load(), name.encode()
        for line in lines:
            if line[19:] == wanted:
                following = bisect_right(lines, line[:16] + b"~")
                return int(line[:16], 16), int(lines[following][:16], 16) if following < len(lines) else 1 << 64
        return None

    def _load(self) -> list[bytes]:
        if self._lines is None:
            self._lines = []
            try:
                with open(self._path, "rb") as file:
                    text = file.read(_MAX_KALLSYMS)
            except OSError as error:
                self._reason = f"{self._path} can't be read: {error.strerror}"
                return self._lines
            lines = [line for line in text.split(b"\n") if line[17:18] in _TEXT and line[16:19:2] == b"  "]
            lines.sort(key=_address_field)
            if lines and lines[-1].startswith(b"0" * 16):
                self._reason = (
                    "kernel addresses are hidden from this user (kernel.kptr_restrict); CAP_SYSLOG shows them"
                )
            elif lines:
                self._lines, self._ends = lines, _module_ends(self._modules)
            else:
                self._reason = f"{self._path} has no function in it"
        return self._lines


def _module_ends(path: str) -> dict[str, int]:
    """Of each module in a file like /proc/modules: "veth 45056 0 - Live 0xffffffffc0a6b000"."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_MODULES)
    except OSError:  # a kernel without modules
        return {}
    found = re.findall(rb"^(\S+) (\d{1,10}) .* 0x([0-9a-f]{16})(?: .*)?$", text, re.MULTILINE)
    return {f"[{name.decode('utf-8', 'replace')}]": int(start, 16) + int(size) for name, size, start in found}


def _address_field(line: bytes) -> bytes:
    return line[:16]


def _kernel_frame(lines: Sequence[bytes], ends: Mapping[str, int], address: int, at: int) -> Frame:
    # "~" sorts behind the space that follows each address.
    index = bisect_right(lines, b"%016x~" % max(at, 0)) - 1
    start = int(lines[index][:16], 16) if index >= 0 else 0
    if index < 0 or at - start >= _MAX_KERNEL_FUNCTION:
        return Frame(address, UNKNOWN, 0, "[kernel]")
    # Of several names for one address the first in the file, like the kernel's get_symbol_pos(), kernel/kallsyms.c.
    line = lines[bisect_left(lines, lines[index][:16])]
    name, _, module = line[19:].decode("utf-8", "replace").partition("\t")
    if at >= ends.get(module, 1 << 64):  # behind it lies what isn't its own: eBPF programs, which may have no name
        return Frame(address, UNKNOWN, 0, "[kernel]")
    return Frame(address, name, address - start, module or "[kernel]")
