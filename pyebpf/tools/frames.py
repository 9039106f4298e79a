# SPDX-License-Identifier: BSD-2-Clause
"""Stacks of traced functions: the kernel's walk made complete, and its frames named."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pyebpf.binary.image import Image
from pyebpf.core import kernel
from pyebpf.core.btf import Btf
from pyebpf.core.ringbuf import unpack_words
from pyebpf.errors import BinaryError, Error
from pyebpf.target.probe import Probe, Resolution
from pyebpf.target.process import Incarnation, incarnation
from pyebpf.target.stacks import UNKNOWN, Files, Frame, KernelSymbols, UserSymbols

NO_KERNEL_STACK = "a probe in user code interrupts no kernel function, so its kernel stack is empty"

_PAGE_OFFSET = 0xFFF
_MAX_SYMBOL_TABLES = 64  # processes whose symbols are kept
_LOOK_SECONDS = 0.1  # after which a process is looked at again: its number may be another's by now


class Frames:
    """Names for frames, of every process met and of the kernel.

    Args:
        images: files read already, as in `Resolution.images`.
    """

    def __init__(self, images: Mapping[tuple[int, int], Image]) -> None:
        self._images = images
        self._files = Files()
        self._user: dict[int, UserSymbols | None] = {}
        self._learned: frozenset[int] = frozenset()
        self._which: dict[int, tuple[Incarnation | None, float]] = {}  # what they are of, and when that was looked at
        self._kernel: KernelSymbols | None = None

    def symbols_of(self, pid: int) -> UserSymbols | None:
        """A process's symbols, read when it is first asked for; None if it was gone by then.

        They are read anew for another process of the same number, and for another program of the same process. Of one
        that has ended they are kept; of one that was learned also when its number is another's, which isn't traced.
        """
        which, looked = self._which.get(pid, (None, 0.0))
        now = time.monotonic()
        if now >= looked + _LOOK_SECONDS:
            found = incarnation(pid)
            if found and which and pid in self._learned and found.start_time != which.start_time:
                found = None
            if found not in (None, which) and pid in self._user:
                self._forget(pid)
            which = found or which
            self._which[pid] = which, now
        if pid not in self._user:
            if len(self._user) >= _MAX_SYMBOL_TABLES:
                self._forget(next(iter(self._user)))
            try:
                self._user[pid] = UserSymbols(pid, self._images, self._files)
            except Error:
                self._user[pid] = None
        return self._user[pid]

    def _forget(self, pid: int) -> None:
        symbols = self._user.pop(pid)
        self._which.pop(pid, None)
        if symbols is not None:
            symbols.close()

    def close(self) -> None:
        """Closes the files that were opened for names."""
        for pid in list(self._user):
            self._forget(pid)

    def learn(self, resolution: Resolution) -> None:
        """Reads the symbols of the processes in which functions were found, while they are there."""
        self._learned = frozenset(pid for probe in resolution.probes for pid in probe.pids)
        for pid in self._learned:
            self.symbols_of(pid)

    def user(self, pid: int, addresses: Sequence[int], first_is_exact: bool = True) -> tuple[Frame, ...]:
        """Frames of a user stack, as `UserSymbols.resolve`; without names if the process was gone."""
        symbols = self.symbols_of(pid)
        if symbols is None:
            return tuple(Frame(address, UNKNOWN, 0, "") for address in addresses)
        return tuple(symbols.resolve(addresses, first_is_exact))

    def called(
        self,
        pid: int,
        probe: Probe,
        addresses: Sequence[int],
        caller: int,
        *,
        popped: bool = False,
        whole: bool = False,
    ) -> tuple[Frame, ...]:
        """The user stack at a function's first instruction or at a RET, innermost first, beginning with the function.

        The kernel walks frame pointers, and there the function has no frame of its own: the walk names the place of
        the probe, then whoever called the caller. The caller's address is on top of the stack.

        Args:
            probe: of the function.
            addresses: the kernel's walk, from the probe's own address.
            caller: the return address; 0 if it could not be read.
            popped: a kernel return probe: the walk begins with the caller.
            whole: the walk holds the caller all the same; see `walk_is_whole`.
        """
        walked = list(addresses)
        if not popped:  # a RET is in the traced function, or in one that it ended in a tail call of
            walked[:1] = [caller] if caller and not whole else []
        frames = self.user(pid, walked, first_is_exact=False)
        if addresses and not popped and any(frame.name == UNKNOWN for frame in frames):
            frames = self._in_file(probe, addresses[0], frames)
        return (Frame(0, probe.function.name, 0, ""), *frames)

    def _in_file(self, probe: Probe, address: int, frames: Sequence[Frame]) -> tuple[Frame, ...]:
        """Names those that have none by the file that holds the probe, which was hit at `address`.

        A process that ended soon after can't be asked any more where it had its files.
        """
        image = self._images[probe.image_id]
        sites = [image.elf.vaddr_of(offset) for offset in (probe.entry, *probe.returns)]
        biases = {address - site for site in sites if site is not None and not (address - site) & _PAGE_OFFSET}
        if len(biases) != 1:
            return tuple(frames)
        (bias,) = biases
        named = []
        for frame in frames:
            function = None
            if frame.name == UNKNOWN and not frame.module:
                try:
                    function = image.function_at(frame.address - 1 - bias)
                except BinaryError:
                    pass
            if function is not None:
                offset = frame.address - bias - function.address
                frame = Frame(frame.address, function.name, offset, probe.shown)
            named.append(frame)
        return tuple(named)

    def kernel(self, addresses: Sequence[int]) -> tuple[Frame, ...]:
        """Frames of a kernel stack."""
        if self._kernel is None:
            self._kernel = KernelSymbols()
        return tuple(self._kernel.resolve(addresses))


def walk_is_whole(image: Image, probe: Probe) -> bool:
    """Does the kernel's walk at the entry of `probe` hold the caller?

    On x86-64 where the kernel looks (`kernel.walks_from_entries`) and the instruction is `push %rbp` or `endbr64`.
    Inside a function it does if the function keeps a frame pointer; what lies on top of the stack there isn't a return
    address.
    """
    if probe.displacement:
        return True
    if image.elf.machine != "x86-64":
        return False
    address = image.elf.vaddr_of(probe.entry)
    try:
        code = image.elf.read(address, 4) if address is not None else b""
    except BinaryError:
        return False
    return (code[:1] == b"\x55" or code == b"\xf3\x0f\x1e\xfa") and kernel.walks_from_entries()


class RecordStacks:
    """The stacks that a record of a call carries.

    Args:
        btf: of the object that makes the records.
        structure: the C structure that holds ``user_stack`` and ``kernel_stack`` behind the record's fixed part, which
            has ``tgid``, ``caller``, ``popped``, ``user_stack_size`` and ``kernel_stack_size``.
        user, kernel: which of them were asked for.
    """

    def __init__(self, btf: Btf, structure: str, frames: Frames, user: bool, kernel: bool) -> None:
        self._offsets = btf.members(structure)
        self._frames, self._user, self._kernel = frames, user, kernel

    def of(
        self, call: Any, record: memoryview, probe: Probe, whole: bool = False
    ) -> tuple[tuple[Frame, ...], tuple[Frame, ...], str | None]:
        """User stack, kernel stack, and why one is missing, or None.

        Args:
            call: the record's fixed part.
            probe: of the traced function.
            whole: see `Frames.called`.
        """
        user: tuple[Frame, ...] = ()
        kernel: tuple[Frame, ...] = ()
        errors = []
        if self._user:
            addresses = unpack_words(record, self._offsets["user_stack"], call.user_stack_size)
            user = self._frames.called(
                call.tgid, probe, addresses, call.caller, popped=bool(call.popped), whole=whole
            )
            if call.user_stack_size < 0:
                errors.append(f"user stack: {os.strerror(-call.user_stack_size)}")
            elif self._frames.symbols_of(call.tgid) is None and any(frame.name == UNKNOWN for frame in user):
                errors.append(f"user stack: process {call.tgid} was gone before its symbols were read")
        if self._kernel:
            if call.kernel_stack_size < 0:
                errors.append(f"kernel stack: {os.strerror(-call.kernel_stack_size)}")
            addresses = unpack_words(record, self._offsets["kernel_stack"], call.kernel_stack_size)
            kernel = self._frames.kernel(addresses)
        return user, kernel, "; ".join(errors) or None
