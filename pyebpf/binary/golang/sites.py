# SPDX-License-Identifier: BSD-2-Clause
"""Where a Go function can be probed: after its stack check, and on each of its RET instructions.

The first instruction is no good place for the entry probe: when the stack grows, the function starts anew, and the call
would be counted twice. A return probe of the kernel's is fatal: it changes the return address on a stack that Go walks
and moves. So every RET is probed, and that only where two witnesses agree that it is one: the decoded instructions
and the table of stack depths (pcsp), which must say that the frame is empty there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import BinaryError
from ..disasm import BRANCH, CALL, INDIRECT_JUMP, JUMP, RET, DecodeError, Instruction, control_flow, decode, is_boundary
from ..elf import Elf
from .pclntab import FLAG_SP_WRITE, FunctionRecord, PclnTable

# Source: Go's src/internal/abi/symtab.go (PCDATA_UnsafePoint, UnsafePointUnsafe) and src/cmd/internal/obj/plist.go:
# the stack check can't be preempted, so the compiler marks exactly it.
_PCDATA_UNSAFE_POINT = 0
_UNSAFE = -2
_MAX_CHECK = 64  # the longest stack check, in bytes

_MAX_CODE = 1 << 21

_TLS_LOAD = re.compile(rb"\x64[\x48-\x4f]\x8b")  # mov reg, fs:...


class GoSites(NamedTuple):
    """Where to probe one function.

    Attributes:
        entry: address after the stack check; the first instruction of functions without one.
        returns: addresses of its RET instructions; empty when they wouldn't show every return.
        reason: why ``returns`` is empty ("never returns", ...), else None.
        stack_abi: the g register doesn't hold g here: read it from thread-local storage. Never on arm64.
    """

    entry: int
    returns: tuple[int, ...]
    reason: str | None
    stack_abi: bool


class Surroundings(NamedTuple):
    """What `sites_of` must know of the program.

    Attributes:
        morestack: addresses of runtime.morestack and its variants.
        stack_abi: the whole program passes arguments on the stack (Go before 1.17 on x86-64).
    """

    morestack: frozenset[int]
    stack_abi: bool


def sites_of(
    elf: Elf, table: PclnTable, record: FunctionRecord, size: int, assembly: bool, surroundings: Surroundings
) -> tuple[GoSites, int | None]:
    """The sites of one function, and the address it jumps to when it ends in a jump to another function.

    Raises:
        BinaryError: its code isn't in the file.
    """
    start, end = record.entry, record.entry + size
    if not 0 < size <= _MAX_CODE:
        return GoSites(start, (), f"has {size} bytes of code", surroundings.stack_abi), None
    code = elf.read(start, size)
    if not elf.is_executable(start):
        raise BinaryError(f"{elf.path}: the Go function at {start:#x} isn't code")
    intel = elf.machine == "x86-64"
    stack_abi = intel and (surroundings.stack_abi or assembly)
    try:
        flow = control_flow(elf.machine, code, start)
    except DecodeError as error:
        return GoSites(start, (), str(error), stack_abi), None
    stack_abi = stack_abi or (intel and _loads_g(code, flow, start))
    entry = _after_stack_check(table, record, end, flow, surroundings.morestack)
    reason, leaves_to = _incomplete(flow, start, end, assembly or record.flags & FLAG_SP_WRITE != 0)
    returns = tuple(instruction.address for instruction in flow if instruction.kind == RET)
    if reason is None:
        reason = _contradiction(elf, table, record, code, returns, assembly)
    return GoSites(entry, () if reason else returns, reason, stack_abi), leaves_to


def _loads_g(code: bytes, flow: list[Instruction], start: int) -> bool:
    """Does it load g from thread-local storage before it calls anything, like a wrapper for calls from assembly?

    Looked for as ``mov reg, fs:...`` in its first bytes.
    """
    limit = next((i.address - start for i in flow if i.kind == CALL), len(code))
    for found in _TLS_LOAD.finditer(code, 0, min(limit, _MAX_CHECK)):
        if is_boundary("x86-64", code, start, start + found.start()):
            return True
    return False


def _after_stack_check(
    table: PclnTable, record: FunctionRecord, end: int, flow: list[Instruction], morestack: frozenset[int]
) -> int:
    """The address after the stack check, or of the first instruction when there is none or the witnesses disagree.

    The check ends with a branch in code that can't be preempted; where it branches to, registers are saved, and the
    first thing that happens is the call of morestack.
    """
    after = record.entry
    limit = min(end, after + _MAX_CHECK)
    unsafe: list[tuple[int, int]] | None = None
    for check in flow:
        if check.kind != BRANCH or check.target is None or check.address >= limit:
            break
        target = check.target
        grow = next((i for i in flow if i.address >= target), None)
        if grow is None or grow.kind != CALL or grow.target not in morestack:
            continue
        if unsafe is None:
            unsafe = _unsafe_ranges(table, record, limit)
        if any(start <= check.address < stop for start, stop in unsafe):
            after = check.address + check.length
    return after


def _unsafe_ranges(table: PclnTable, record: FunctionRecord, limit: int) -> list[tuple[int, int]]:
    """The ranges [start, stop) before ``limit`` in which the function can't be preempted."""
    if not record.pcdata:
        return []
    ranges = table.values(record.pcdata[_PCDATA_UNSAFE_POINT], record.entry, limit)
    return [(start, stop) for start, stop, value in ranges if value == _UNSAFE]


def _incomplete(flow: list[Instruction], start: int, end: int, handwritten: bool) -> tuple[str | None, int | None]:
    """Why the RET instructions don't show every return, and the address a tail jump goes to."""
    returns = any(i.kind == RET for i in flow)
    outward = [
        i.target for i in flow if i.kind in (JUMP, BRANCH) and i.target is not None and not start <= i.target < end
    ]
    indirect = any(i.kind == INDIRECT_JUMP for i in flow)
    if outward:
        return "may end in a jump" if returns else "ends in a jump", outward[0]
    # The compiler's indirect jumps in a function that also returns are the tables of switch statements.
    if indirect and (handwritten or not returns):
        return "may end in an indirect jump", None
    if not returns:
        return "never returns", None
    return None, None


def _contradiction(
    elf: Elf, table: PclnTable, record: FunctionRecord, code: bytes, returns: tuple[int, ...], assembly: bool
) -> str | None:
    """What speaks against ``returns`` being the instructions that return to the caller."""
    if record.flags & FLAG_SP_WRITE:
        return "switches stacks"
    if assembly:
        # Data between instructions may have been decoded as code: then jumps over them likely land inside one.
        instructions = list(decode(elf.machine, code, record.entry))
        begins = {i.address for i in instructions}
        for i in instructions:
            if i.kind in (JUMP, BRANCH) and i.target not in begins:
                return f"has data in its code before {i.target:#x}"
    try:
        proven = 0
        for start, stop, depth in table.values(record.stack, record.entry, record.entry + len(code)):
            while proven < len(returns) and start <= returns[proven] < stop:
                if depth:
                    return f"has a frame of {depth} bytes at its RET at {returns[proven]:#x}"
                proven += 1
    except BinaryError as error:
        return str(error)
    return f"has no stack depth for its RET at {returns[proven]:#x}" if proven < len(returns) else None
