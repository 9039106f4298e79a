# SPDX-License-Identifier: BSD-2-Clause
"""How a function is probed: where its entry is seen, and by which means its return.

docs/architecture.md, "How a return is seen", has the rules and what happens to programs when they are broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..binary.image import Function, Image
from ..binary.unfit import LONG_NOP, is_long_nop, plainly_fit, unfit
from ..errors import BinaryError
from .images import Images
from .locate import Located, locate
from .probe import GoAbi, Probe
from .process import Process

if TYPE_CHECKING:
    from ..binary.exits import Exits
    from ..binary.golang import GoProgram

_MAX_TAIL_FUNCTIONS = 16
_MAX_OVERLAP = 4
_DECODED_ANYHOW = 4 << 20
_NEVER_RETURNS = "never returns"  # Exits.reason


class Match(NamedTuple):
    """A function to probe: found in a file, with the bytes to go past its first instruction or None."""

    file: Located
    function: Function
    displacement: int | None


class Planner:
    """Plans probes for one `resolve`; the arguments are its."""

    def __init__(
        self,
        images: Images,
        processes: Sequence[Process],
        executable: str | None,
        *,
        returns: bool,
        allow_uretprobe: bool,
    ) -> None:
        self.images = images
        self.processes = processes
        self.executable = executable
        self.returns = returns
        self.allow_uretprobe = allow_uretprobe
        self._exits: dict[tuple[Image, int, int], Exits] = {}
        self._decoded: dict[Image, int] = {}

    def probe(self, match: Match) -> Probe | str:
        """The probe, or why there is none."""
        file, function, displacement = match
        image = self.images.of(file)
        if function.indirect:
            return "an indirect function: its code only chooses, at load time, the one that is called"
        if displacement:
            function = function._replace(name=f"{function.name}+{displacement:#x}")
        past = 0
        if displacement is not None or not plainly_fit(image.elf, function.offset):
            past = past_nops(image, function) if displacement is None else displacement
            reason = unfit(image.elf, function.address + past)
            if reason is not None:
                return reason
        # By position: there can be many thousands. No returns, tail, uretprobe or Go so far.
        entry = function.offset + past
        probe = Probe(function, *file[:3], entry, (), False, False, None, file.pids, displacement or 0)
        if function.language == "go" and image.go is not None:
            return self.go_probe(probe, image, image.go, at_entry=displacement is None)
        return self.with_native_returns(probe, image) if self.returns else probe

    def go_probe(self, probe: Probe, image: Image, program: GoProgram, *, at_entry: bool) -> Probe | str:
        sites = program.sites_at(probe.function.address, self.returns)
        if sites is None:
            return "not in Go's function table"
        if self.returns and not sites.returns:
            return sites.reason or "has no return instruction"
        entry = probe.entry
        if at_entry:  # behind the stack check
            entry = image.elf.offset_of(sites.entry)
            reason = None if plainly_fit(image.elf, entry) else unfit(image.elf, sites.entry)
            if reason is not None:
                return reason
        returns = tuple([image.elf.offset_of(address) for address in sites.returns])
        go = GoAbi(sites.stack_abi, program.tls_offset, program.goid_offset or 0)
        return probe._replace(entry=entry, returns=returns, go=go)

    def with_native_returns(self, probe: Probe, image: Image) -> Probe | str:
        # A goroutine may be moved to another stack or thread before a C function that called back returns.
        in_go = image.go is not None or any(program.go is not None for program in self.programs())
        if self.allow_uretprobe and not in_go:
            return probe._replace(uretprobe=True)
        exits = self.exits(image, probe.function)
        addresses = exits.returns if exits.reason is None else self.returns_of_tail_calls(image, probe.function, exits)
        if addresses is not None:
            if not addresses:
                return _NEVER_RETURNS
            offsets = tuple(image.elf.offset_of(address) for address in addresses)
            return probe._replace(returns=offsets, tail=exits.reason is not None)
        if exits.reason == _NEVER_RETURNS:
            return exits.reason
        if in_go:
            return f"{exits.reason}; a return probe is never used in a Go program"
        # Nor in C unasked: whether the program has coroutines or handlers on stacks of their own, nothing tells.
        return f"{exits.reason}; a return probe would end the program if an exception passed through or a stack changed"

    def exits(self, image: Image, function: Function) -> Exits:
        """How a native function is left; found out once, as many functions may end in calls of the same one."""
        from ..binary.exits import Exits, exits_of

        key = (image, function.address, function.size)
        if key not in self._exits:
            if self._overlaps(image, function.size):
                self._exits[key] = Exits((), "too many functions of the file are in the same place")
            else:
                cold_parts = image.cold_parts(function)
                self._exits[key] = exits_of(image.elf, image.unwind, function.address, function.size, cold_parts)
        return self._exits[key]

    def _overlaps(self, image: Image, size: int) -> bool:
        """Do the functions so far, with one more, have many times as much code as their file? Each is decoded."""
        self._decoded[image] = decoded = self._decoded.get(image, 0) + size
        if decoded <= _DECODED_ANYHOW:
            return False
        return decoded > _MAX_OVERLAP * sum(end - start for start, end in image.elf.executable_ranges())

    def returns_of_tail_calls(self, image: Image, function: Function, exits: Exits) -> tuple[int, ...] | None:
        """All returns of a function that ends in tail calls: its own and those of the functions called.

        None if unproven. A function called that never returns adds none.
        """
        if not exits.tail_targets:
            return None
        returns = set(exits.returns)
        seen = {function.address}
        todo = list(exits.tail_targets)
        while todo:
            target = todo.pop()
            if target in seen:
                continue
            seen.add(target)
            called = image.function_at(target) or _unnamed(image, target)
            if called is None or called.address != target or called.indirect or len(seen) > _MAX_TAIL_FUNCTIONS:
                return None
            exits = self.exits(image, called)
            if called.language == "go" or (exits.reason not in (None, _NEVER_RETURNS) and not exits.tail_targets):
                return None
            returns.update(exits.returns)
            todo += exits.tail_targets
        return tuple(sorted(returns))

    def programs(self) -> list[Image]:
        """The programs whose libraries are traced, as far as they are known."""
        if self.executable:
            return [self.images.of(file) for file in locate("", (), self.executable, [])]
        return [self.images.of(file) for process in self.processes for file in locate("", [process], None, [])]


def past_nops(image: Image, function: Function) -> int:
    """How far behind its first byte each call of a function passes once, and there is no nop that the kernel changes.

    That is behind the nops at its entry (-mfentry), which do nothing, unless the function jumps back there.
    """
    past = 0
    while past < function.size and is_long_nop(image.elf, function.address + past):
        past += LONG_NOP
    if not past:
        return 0
    from ..binary.disasm import walk

    try:
        code = image.elf.read(function.address, function.size)
        targets = [jump.target for jump in walk(image.elf.machine, code, function.address)]
    except BinaryError:
        return 0
    return past if past < function.size and function.address + past not in targets else 0


def _unnamed(image: Image, address: int) -> Function | None:
    """The function without a symbol that the unwind table has at `address`: a library's own, when it is stripped."""
    fde = image.unwind.fde_at(address) if image.unwind is not None and not image.is_go_text(address) else None
    if fde is None or fde.start != address:
        return None
    name = f"{address:#x}"
    return Function(name, name, address, image.elf.offset_of(address), fde.end - fde.start, "c", (), ".eh_frame", False)
