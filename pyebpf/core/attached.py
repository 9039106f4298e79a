# SPDX-License-Identifier: BSD-2-Clause
"""What holds a program where it was attached."""

from __future__ import annotations

import errno
import os
import struct
from _thread import RLock
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyebpf.core import bpf, libbpf
from pyebpf.core.unique import not_copied
from pyebpf.errors import BadValue, StateError, Unsupported

if TYPE_CHECKING:
    from pyebpf.core.link import Refused
    from pyebpf.core.programs import Program


class Link:
    """A program's attachment: a context manager; leaving it, `detach` or closing the object ends it.

    A link that is pinned outlives all of these, until `unpin`.

    Attributes:
        name: what is attached where, for people.
        skipped: the sites the kernel would not take, with its reasons (of many uprobes).
    """

    def __init__(
        self,
        program: Program | None,
        name: str,
        fds: Sequence[int] = (),
        pointers: Sequence[Any] = (),
        skipped: Sequence[Refused] = (),
    ) -> None:
        self.name = name
        self.skipped = tuple(skipped)
        self._program = program
        self._fds, self._pointers = list(fds), list(pointers)
        self._path: str | None = None
        self._open = True
        self._lock = program.owner.lock if program is not None else RLock()
        if program is not None:
            program.owner._links.append(self)

    @classmethod
    def open(cls, path: str) -> Link:
        """Opens a pinned link.

        Raises:
            TargetNotFound: nothing is pinned there. BadValue: it is no link. PermissionDenied, LibbpfError.
        """
        from pyebpf.core import pins

        fd = pins.get(path)
        try:
            if pins.kind_of(fd) != "link":
                raise BadValue(f"what is pinned at {path} is no link")
        except BaseException:
            os.close(fd)
            raise
        link = cls(None, path, [fd])
        link._path = path
        return link

    def __repr__(self) -> str:
        return f"<Link {self.name}{'' if self._open else ', detached'}>"

    @property
    def attached(self) -> bool:
        """False once it was detached, or the object closed."""
        return self._open

    @property
    def fds(self) -> list[int]:
        """The kernel's file descriptors, one each for places attached to one by one (CPUs, single uprobes)."""
        if not self._open:
            raise StateError(f"{self.name}: it is detached")
        library = libbpf.lib()
        return [*self._fds, *(library.bpf_link__fd(pointer) for pointer in self._pointers)]

    @property
    def fd(self) -> int:
        """The kernel's file descriptor of the link. Raises StateError: there is more than one, see `fds`."""
        fds = self.fds
        if len(fds) != 1:
            raise StateError(f"{self.name}: it is made of {len(fds)} links, see fds")
        return fds[0]

    def pin(self, path: str) -> None:
        """Keeps the program attached when this process ends, by a name in a BPF file system.

        Raises:
            StateError: the name is taken, or it is made of several links. TargetNotFound: the folder isn't there.
            PermissionDenied, LibbpfError: it can't be pinned (before Linux 5.15 probes and perf events can't).
        """
        from pyebpf.core import pins

        with self._lock:
            pins.pin(self.fd, path, self.name)
            self._path = path

    def unpin(self) -> None:
        """Takes the name away again; the link holds as long as this object does. Raises StateError: it isn't pinned."""
        from pyebpf.core import pins

        if self._path is None:
            raise StateError(f"{self.name}: it isn't pinned")
        pins.unpin(self._path)
        self._path = None

    def update(self, program: Program) -> None:
        """Puts another program of the same kind in the place of the one attached, without a gap.

        Raises:
            Unsupported: this kind of link can't (control groups, XDP, network namespaces can).
        """
        with self._lock:
            code = bpf.bpf(bpf.LINK_UPDATE, struct.pack("<IIII", self.fd, program.fd, 0, 0))
        if code in (-errno.EINVAL, -errno.EOPNOTSUPP, -524):
            raise Unsupported(f"{self.name}: links of this kind can't change programs", feature="link update")
        libbpf.check(code, f"{self.name}: changing the program")

    def iterate(self, type: str | None = None) -> Any:
        """Runs an iterator once over all it goes through.

        Args:
            type: of the records it writes (``bpf_seq_write``), a structure's name; None: bytes are wanted.

        Returns:
            what it wrote: bytes, or a list of records.

        Raises:
            AttachError: the kernel refused it, or it wrote more than 64 MiB.
            BadValue: what it wrote isn't made of such records.
        """
        from pyebpf.core.hooks import read_iterator

        with self._lock:
            run = bpf.create_iterator(self.fd)
        output = read_iterator(run, self.name)
        if type is None:
            return output
        if self._program is None:
            raise BadValue(f"{self.name}: a pinned link has no types; take bytes")
        layout = self._program.owner.btf.layout(type)
        if len(output) % max(layout.size, 1):
            raise BadValue(f"{self.name}: {len(output)} bytes came, which aren't records of {layout.size}, {type}")
        return [layout.unpack(output, at) for at in range(0, len(output), layout.size)]

    def detach(self) -> None:
        """Ends the attachment, unless it is pinned. From any thread; safe to call twice."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            fds, pointers, self._fds, self._pointers = self._fds, self._pointers, [], []
            bpf.close_all(pointers, libbpf.lib().bpf_link__destroy)
            bpf.close_all(fds)
            if self._program is not None and self in self._program.owner._links:
                self._program.owner._links.remove(self)

    close = detach

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    __reduce__ = not_copied
