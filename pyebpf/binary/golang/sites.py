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
from ..disasm import BRANCH, CALL, INDIRECT_JUMP, JUMP, RET, DecodeError, Instruction, is_boundary, walk
from ..elf import Elf
from .pclntab import FLAG_SP_WRITE, FunctionRecord, PclnTable

# Source: Go's src/internal/abi/symtab.go (PCDATA_UnsafePoint, UnsafePointUnsafe) and src/cmd/internal/obj/plist.go:
# the stack check can't be preempted, so the compiler marks exactly it.
_PCDATA_UNSAFE_POINT = 0
_UNSAFE = -2
_RESTARTS = (-3, -4)  # UnsafePointRestart1 and 2: who is preempted there begins the sequence of instructions anew
_MAX_CHECK = 64  # the longest stack check, in bytes
_MAX_NEAR = 512  # more than a stack check, and than the saving of registers before the call of morestack

_MAX_CODE = 1 << 21

_TLS_LOAD = re.compile(rb"\x64[\x48-\x4f]\x8b")  # mov reg, fs:...


class GoSites(NamedTuple):
    """Where to probe one function.

    Attributes:
        entry: address after the stack check; the first instruction of functions without one. On arm64 perhaps the
            last of several that are one to the compiler.
        returns: addresses of its RET instructions; empty when they wouldn't show every return, or weren't asked for.
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
    elf: Elf,
    table: PclnTable,
    record: FunctionRecord,
    size: int,
    assembly: bool,
    surroundings: Surroundings,
    returns: bool,
) -> tuple[GoSites, int | None]:
    """The sites of one function, and the address it jumps to when it ends in a jump to another function.

    Args:
        returns: look for returns; what lies behind the stack check isn't decoded otherwise.

    Raises:
        BinaryError: its code isn't in the file.
    """
    start = record.entry
    if not 0 < size <= _MAX_CODE:
        return GoSites(start, (), f"has {size} bytes of code", surroundings.stack_abi), None
    code = elf.read(start, size)
    if not elf.is_executable(start):
        raise BinaryError(f"{elf.path}: the Go function at {start:#x} isn't code")
    intel = elf.machine == "x86-64"
    stack_abi = intel and (surroundings.stack_abi or assembly or _loads_g(code, start))
    entry = _after_stack_check(elf, table, record, code, surroundings.morestack)
    if elf.machine == "arm64":
        entry = _last_to_restart(table, record, entry)
    if not returns:
        return GoSites(entry, (), None, stack_abi), None
    found, reason, leaves_to = _returns_of(elf, table, record, code, assembly)
    return GoSites(entry, () if reason else found, reason, stack_abi), leaves_to


def _loads_g(code: bytes, start: int) -> bool:
    """Does it load g from thread-local storage before it calls anything, like a wrapper for calls from assembly?

    Looked for as ``mov reg, fs:...`` in its first bytes.
    """
    for found in _TLS_LOAD.finditer(code, 0, _MAX_CHECK):
        load = start + found.start()
        if is_boundary("x86-64", code, start, load):
            return all(i.kind != CALL for i in walk("x86-64", code[: found.start()], start))
    return False


def _after_stack_check(
    elf: Elf, table: PclnTable, record: FunctionRecord, code: bytes, morestack: frozenset[int]
) -> int:
    """The address after the stack check, or of the first instruction when there is none or the witnesses disagree.

    The check ends with a branch in code that can't be preempted; where it branches to, registers are saved, and the
    first thing that happens is the call of morestack.
    """
    start = after = record.entry
    limit = start + min(len(code), _MAX_CHECK)
    unsafe = _unsafe_ranges(table, record, limit)
    if not unsafe:
        return start
    limit = min(limit, unsafe[-1][1])  # what lies behind them is no check
    try:
        for check in walk(elf.machine, code[:_MAX_NEAR], start):
            if check.kind != BRANCH or check.target is None or check.address >= limit:
                break
            at = check.target - start
            if not 0 <= at < len(code):
                continue
            grow = next(walk(elf.machine, code[at : at + _MAX_NEAR], check.target), None)
            if grow is None or grow.kind != CALL or grow.target not in morestack:
                continue
            if any(first <= check.address < stop for first, stop in unsafe):
                after = check.address + check.length
                if after >= limit:
                    break
    except DecodeError:
        pass  # what can't be decoded is no stack check
    return after


def _last_to_restart(table: PclnTable, record: FunctionRecord, address: int) -> int:
    """The last instruction of the sequence that `address` begins, if that is one to begin anew; else `address`.

    What arm64 has no instruction for (a frame of 16 KB) Go does by several, through a register of its own. Preempted
    between them it begins anew, and a probe on the first would count the call twice: after the kernel's single step,
    which a signal has to wait for, that happens often. Only the last one changes what is seen at the entry.
    """
    if record.pcdata:
        for first, stop, value in table.values(record.pcdata[_PCDATA_UNSAFE_POINT], record.entry, address + 1):
            if first <= address < stop and value in _RESTARTS:
                return stop - 4
    return address


def _unsafe_ranges(table: PclnTable, record: FunctionRecord, limit: int) -> list[tuple[int, int]]:
    """The ranges [start, stop) before ``limit`` in which the function can't be preempted."""
    if not record.pcdata:
        return []
    ranges = table.values(record.pcdata[_PCDATA_UNSAFE_POINT], record.entry, limit)
    return [(start, stop) for start, stop, value in ranges if value == _UNSAFE]


def _returns_of(
    elf: Elf, table: PclnTable, record: FunctionRecord, code: bytes, assembly: bool
) -> tuple[tuple[int, ...], str | None, int | None]:
    """The RET instructions, why they don't show every return (or None), and the address a tail jump goes to."""
    start = record.entry
    begins: list[int] = []
    try:
        flow = list(walk(elf.machine, code, start, begins if assembly else None))
    except DecodeError as error:
        return (), str(error), None
    returns = tuple(instruction.address for instruction in flow if instruction.kind == RET)
    handwritten = assembly or record.flags & FLAG_SP_WRITE != 0
    reason, leaves_to = _incomplete(flow, start, start + len(code), handwritten)
    if reason is None and assembly:
        reason = _data_in_code(flow, frozenset(begins))
    return returns, reason or _contradiction(table, record, len(code), returns), leaves_to


def _data_in_code(flow: list[Instruction], begins: frozenset[int]) -> str | None:
    """Data between instructions may have been decoded as code: then jumps over them likely land inside one."""
    for jump in flow:
        if jump.kind in (JUMP, BRANCH) and jump.target not in begins:
            return f"has data in its code before {jump.target:#x}"
    return None


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


def _contradiction(table: PclnTable, record: FunctionRecord, size: int, returns: tuple[int, ...]) -> str | None:
    """What speaks against ``returns`` being the instructions that return to the caller."""
    if record.flags & FLAG_SP_WRITE:
        return "switches stacks"
    proven = 0
    try:
        for start, stop, depth in table.values(record.stack, record.entry, record.entry + size):
            while start <= returns[proven] < stop:
                if depth:
                    return f"has a frame of {depth} bytes at its RET at {returns[proven]:#x}"
                proven += 1
                if proven == len(returns):
                    return None
    except BinaryError as error:
        return str(error)
    return f"has no stack depth for its RET at {returns[proven]:#x}"
