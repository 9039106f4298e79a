# SPDX-License-Identifier: BSD-2-Clause
"""Where a C, C++ or Rust function returns, as far as that can be proven.

A breakpoint inside an instruction corrupts the program it is set in, so two witnesses must agree before an address is
called a return: the code itself, decoded from the function's first byte to exactly its last, and the unwind table,
which the compiler wrote independently of the code's bytes. The rules:

* The function decodes exactly to its end and doesn't run on past it. Whatever must begin an instruction does: the
  targets of jumps, the landing pads of exceptions, and each place where the unwind table has something to say.
* At the first instruction and at each return the table says that the stack frame is empty: CFA = SP + 8 on x86-64 (the
  return address is on the stack), SP + 0 on arm64.
* No jump leaves the function. Where code was moved away (GCC's ``.cold``), that part is proven like the rest. A part
  without a symbol is recognised by its unwind record: it begins with a frame, and expects the frame of the jump there.
* A jump through a register or memory with the frame still in place is a ``switch``. With an empty frame it is a tail
  call, unless the table that it reads is found and leads back into the function.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import BinaryError
from . import switches
from .cfi import Rule
from .disasm import BRANCH, CALL, INDIRECT_JUMP, JUMP, RET, TRAP, Instruction, walk
from .elf import Elf
from .unfit import unfit
from .unwind import UnwindTable

MAX_SIZE = 1 << 20
"""Functions and their parts together may have that many bytes."""
_MAX_PARTS = 16
_MAX_UNNAMED = 4096
_MAX_LEAVING = 256

_ENTRY: dict[str, Rule] = {"x86-64": (7, 8), "arm64": (31, 0)}
_ENDS = (RET, JUMP, INDIRECT_JUMP, TRAP, CALL)  # a call, because what never returns is called last


class Exits(NamedTuple):
    """How a function is left.

    Attributes:
        returns: virtual addresses of its RET instructions, sorted.
        reason: None if these are all its returns, else why that can't be said.
        tail_targets: if tail calls are the only reason: the first addresses of all the functions it ends in. When each
            of them has proven exits, ``returns`` and theirs together are all its returns. Otherwise empty, and then
            ``returns`` is empty too if there is a reason.
    """

    returns: tuple[int, ...]
    reason: str | None
    tail_targets: tuple[int, ...] = ()


def exits_of(
    elf: Elf,
    unwind: UnwindTable | None,
    address: int,
    size: int,
    cold_parts: Sequence[tuple[int, int]] = (),
) -> Exits:
    """The returns of the function at the virtual address ``address`` with ``size`` bytes. Never raises.

    Args:
        cold_parts: (address, size) of the parts that the compiler moved away, as far as symbols tell. They needn't all
            be this function's: static functions of the same name have cold parts of the same name. Size 0: code that
            can't be reached was moved; there is none, but jumps to it remain.
    """
    if size <= 0:
        return Exits((), "size unknown")
    if size > MAX_SIZE:
        return Exits((), f"too large: {size} bytes")
    if unwind is None:
        return Exits((), "no unwind table")
    try:
        return _Proof(elf, unwind, address, size, cold_parts).exits()
    except (_Unproven, BinaryError) as why:
        return Exits((), str(why))


class _Unproven(Exception):
    """A rule doesn't hold; the text says which."""


class _Part:
    """A stretch of the function's code, decoded.

    Attributes:
        starts: the addresses at which instructions begin, sorted; ``begins`` are the same.
        flow: the instructions that change the flow of control.
    """

    __slots__ = ("_known", "begins", "code", "end", "fde", "flow", "machine", "start", "starts")

    def __init__(self, elf: Elf, unwind: UnwindTable, start: int, end: int) -> None:
        fde = unwind.fde_at(start)
        if fde is None:
            raise _Unproven(f"the unwind table says nothing about {start:#x}")
        self.machine, self.start, self.end, self.fde = elf.machine, start, end, fde
        self._known: switches.Constants | None = None
        self.code = elf.read(start, end - start)
        self.starts: list[int] = []
        self.flow = list(walk(elf.machine, self.code, start, self.starts))
        self.begins = frozenset(self.starts)
        for landmark in unwind.landmarks(fde):
            if start <= landmark < end and landmark not in self.begins:
                raise _Unproven(f"code and unwind table disagree on what begins at {landmark:#x}")
        last = self.flow[-1] if self.flow else None
        if last is None or last.kind not in _ENDS or not self.is_padding(last.address + last.length):
            raise _Unproven(f"runs on into the code at {end:#x}")

    def is_padding(self, vaddr: int) -> bool:
        """Is there nothing but padding from the instruction at ``vaddr`` on?"""
        after = range(bisect_left(self.starts, vaddr), len(self.starts))
        return all(switches.is_nop(self.machine, self.bytes_of(n)) for n in after)

    def bytes_of(self, number: int) -> bytes:
        """Those of the instruction that is ``starts[number]``."""
        at = self.starts[number] - self.start
        end = self.starts[number + 1] - self.start if number + 1 < len(self.starts) else len(self.code)
        return self.code[at:end]

    def code_of(self, instruction: Instruction) -> bytes:
        at = instruction.address - self.start
        return self.code[at : at + instruction.length]

    def block_before(self, instruction: Instruction) -> list[bytes]:
        """The instructions that run right before this one, back to the one after a jump, call or return."""
        last = bisect_left(self.starts, instruction.address)
        before = bisect_left(self.flow, instruction) - 1
        first = bisect_left(self.starts, self.flow[before].address) + 1 if before >= 0 else 0
        return [self.bytes_of(n) for n in range(max(first, last - switches.WINDOW), last)]

    def follows_lock(self, vaddr: int) -> bool:
        """Does a lock prefix precede it? glibc's atomics jump over it while there is one thread only."""
        return self.machine == "x86-64" and vaddr - 1 in self.begins and self.code[vaddr - 1 - self.start] == 0xF0

    def jump_targets(self) -> list[int]:
        return [jump.target for jump in self.flow if jump.kind in (JUMP, BRANCH) and jump.target is not None]

    def known(self) -> switches.Constants:
        """The addresses that this code loads into registers."""
        if self._known is None:
            found = switches.constants(self.machine, self.code, self.start)
            self._known = {
                register: [load for load in loads if load[0] in self.begins] for register, loads in found.items()
            }
        return self._known


class _Proof:
    """The case for one function."""

    def __init__(
        self, elf: Elf, unwind: UnwindTable, address: int, size: int, cold_parts: Sequence[tuple[int, int]]
    ) -> None:
        self.elf = elf
        self.unwind = unwind
        self.address = address
        self.entry_rule = _ENTRY[elf.machine]
        self.named = {start: start + size for start, size in cold_parts if size > 0}
        self.unreachable = {start for start, size in cold_parts if size <= 0}
        self.parts: list[_Part] = []
        self.size = 0
        self.returns: list[int] = []
        self.leaving: set[int] = set()  # targets of jumps out of the function with an empty frame
        self.add(self.decoded(address, address + size))

    def exits(self) -> Exits:
        if self.unwind.rule_in(self.parts[0].fde, self.address) != self.entry_rule:
            raise _Unproven("the unwind table doesn't show an empty frame at its first instruction")
        examined = 0
        while examined < len(self.parts) or self.add_unreached():
            self.examine(self.parts[examined])
            examined += 1
        tails = [target for target in sorted(self.leaving) if not self.stays(target)]
        if tails:
            reason = f"ends in a tail call to {tails[0]:#x}"
            if all(map(self.is_function, tails)):
                return Exits(tuple(sorted(self.returns)), reason, tuple(tails))
            return Exits((), reason)
        if not self.returns:
            return Exits((), "never returns")
        return Exits(tuple(sorted(self.returns)), None)

    def decoded(self, start: int, end: int) -> _Part:
        if end - start + self.size > MAX_SIZE or len(self.parts) >= _MAX_PARTS:
            raise _Unproven("too large, or in too many parts")
        if any(start < part.end and part.start < end for part in self.parts):
            raise _Unproven(f"its parts at {start:#x} overlap")
        return _Part(self.elf, self.unwind, start, end)

    def add(self, part: _Part) -> None:
        self.size += part.end - part.start
        self.parts.append(part)

    def add_unreached(self) -> bool:
        """Add a named part that no jump seen so far goes to, if it is ours: a jump table may lead there."""
        while self.named:
            try:
                part = self.decoded(*self.named.popitem())
                if not all(target in part.begins or self.is_inside(target) for target in part.jump_targets()):
                    continue
            except (_Unproven, BinaryError):
                continue
            self.add(part)
            return True
        return False

    def part_at(self, vaddr: int) -> _Part | None:
        return next((part for part in self.parts if part.start <= vaddr < part.end), None)

    def is_inside(self, vaddr: int) -> bool:
        """Is it in the function? Raises _Unproven if it is, but not where an instruction begins."""
        part = self.part_at(vaddr)
        if part is not None and vaddr not in part.begins and not part.follows_lock(vaddr):
            raise _Unproven(f"jumps into the middle of an instruction at {vaddr:#x}")
        return part is not None

    # -- one part

    def examine(self, part: _Part) -> None:
        for pad in self.unwind.landing_pads(part.fde):
            if pad.start < part.end and part.start < pad.end and not self.is_inside(pad.address):
                self.add_moved(pad.address, f"an exception leaves the function for {pad.address:#x}")
        for instruction in part.flow:
            kind = instruction.kind
            if kind == TRAP:
                continue
            if kind == RET:
                self.examine_return(part, instruction)
            elif kind == INDIRECT_JUMP:
                self.examine_indirect(part, instruction)
            elif kind == CALL:
                target = instruction.target
                if target is not None and target != self.address and self.part_at(target) is not None:
                    raise _Unproven(f"calls into its own middle at {instruction.address:#x}")
            elif instruction.target is not None and not self.is_inside(instruction.target):
                self.examine_leaving(part, instruction, instruction.target)

    def examine_return(self, part: _Part, instruction: Instruction) -> None:
        if not switches.is_plain_return(self.elf.machine, part.code_of(instruction)):
            raise _Unproven(f"returns in an unusual way at {instruction.address:#x}")
        if unfit(self.elf, instruction.address) is not None:
            raise _Unproven(f"Linux can't probe the return at {instruction.address:#x}")
        if not self.is_empty(part, instruction):
            raise _Unproven(f"the unwind table doesn't show an empty frame at the return at {instruction.address:#x}")
        self.returns.append(instruction.address)

    def examine_indirect(self, part: _Part, instruction: Instruction) -> None:
        if self.unwind.rule_in(part.fde, instruction.address) is None or not switches.is_plain_jump(
            self.elf.machine, part.code_of(instruction)
        ):
            raise _Unproven(f"jumps in an unusual way at {instruction.address:#x}")
        before = part.block_before(instruction)
        if self.is_empty(part, instruction) or switches.releases_frame(self.elf.machine, before[-4:]):
            at, jump = instruction.address, part.code_of(instruction)
            for target in switches.first_targets(self.elf, at, jump, before, part.known()):
                inside = self.part_at(target)
                if inside is not None and target in inside.begins and target != self.address:
                    return
            raise _Unproven(f"may end in an indirect tail call at {instruction.address:#x}")

    def examine_leaving(self, part: _Part, instruction: Instruction, target: int) -> None:
        """A direct jump to somewhere else: a tail call, or a part of the function that was moved."""
        if target in self.unreachable:
            return
        if self.is_empty(part, instruction):
            if not self.add_named(target):
                self.leaving.add(target)
                if len(self.leaving) > _MAX_LEAVING:  # each is decoded
                    raise _Unproven(f"ends in tail calls to more than {_MAX_LEAVING} places")
            return
        rule = self.unwind.rule_in(part.fde, instruction.address)
        if target == part.end and rule is not None and self.unwind.rule_at(target) in (None, self.entry_rule):
            return  # code that can't be reached: the compiler left the jump, but no code, and so it goes past the end
        self.add_moved(target, f"jumps out of the function at {instruction.address:#x}", rule)

    def add_named(self, target: int) -> bool:
        start = next((start for start, end in self.named.items() if start <= target < end), None)
        if start is not None:
            self.add(self.decoded(start, self.named.pop(start)))
        return start is not None and self.is_inside(target)

    def add_moved(self, target: int, otherwise: str, rule: Rule | None = None) -> None:
        """Add the moved part of the function that ``target`` is in.

        Without a symbol it is known by its unwind record, which begins with a frame, unlike those of functions.

        Args:
            otherwise: the reason why nothing can be said if there is no such part.
            rule: the frame that the code there must expect, if known.
        """
        if self.add_named(target):
            return
        fde = self.unwind.fde_at(target)
        if fde is None or self.unwind.rule_in(fde, fde.start) in (None, self.entry_rule):
            raise _Unproven(otherwise)
        if rule is not None and self.unwind.rule_in(fde, target) != rule:
            raise _Unproven(otherwise)
        self.add(self.decoded(fde.start, fde.end))
        self.is_inside(target)

    def is_empty(self, part: _Part, instruction: Instruction) -> bool:
        """Is the frame gone at that instruction?

        On arm64 it is, too, if the code right before it released the frame without the table taking notice: LLVM before
        15 describes prologues only (and there no instruction can hide in another one's bytes).
        """
        rule = self.unwind.rule_in(part.fde, instruction.address)
        if rule == self.entry_rule:
            return True
        if rule is None or self.elf.machine != "arm64":
            return False
        return switches.releases_frame(self.elf.machine, part.block_before(instruction))

    # -- after all parts

    def stays(self, target: int) -> bool:
        """May a jump to ``target`` with an empty frame be none of our business?

        Yes, if that is within a part found later; or a part itself: code without a name that goes back into the
        function's middle; or code that never returns, in whosever name.
        """
        if self.is_inside(target):
            return True
        fde = self.unwind.fde_at(target)
        if fde is None or fde.end - fde.start > _MAX_UNNAMED or self.unwind.rule_in(fde, target) != self.entry_rule:
            return False
        try:
            part = self.decoded(fde.start, fde.end)
            if target not in part.begins or self.unwind.landing_pads(fde):
                return False
            if any(instruction.kind == INDIRECT_JUMP for instruction in part.flow):
                return False
            outside = [goal for goal in part.jump_targets() if goal not in part.begins]
            if self.address in outside or not all(map(self.is_inside, outside)):
                return False
        except (_Unproven, BinaryError):
            return False
        if outside:
            self.add(part)
            self.examine(part)
        return bool(outside) or all(instruction.kind != RET for instruction in part.flow)

    def is_function(self, target: int) -> bool:
        fde = self.unwind.fde_at(target)
        return (
            fde is not None
            and fde.start == target
            and target != self.address
            and self.unwind.rule_in(fde, target) == self.entry_rule
        )
