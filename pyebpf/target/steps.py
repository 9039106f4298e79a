# SPDX-License-Identifier: BSD-2-Clause
"""Steps: what the eBPF programs carry out at a probe (``bpf/include/plan.h``), and their assembling."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..core.btf import Btf
from ..errors import TargetError
from .shape import RETURN_SLOTS

_STEP = struct.Struct("<BBHIq")  # struct step
_TEXT_HEADER = 8  # struct kept_text
_MAX_CAPTURE = 16384  # bytes a side: what a record and a waiting call are worth
_JUMPS = ("TEST", "MATCH", "JUMP")
_LESS = "ask for fewer values, or for fields instead of whole structures"


class PlanLayout(NamedTuple):
    """The numbers of an object's plan machine, by the names the C source gives them.

    Attributes:
        registers: byte offsets in struct pt_regs: "ax", "di", "sp"; "x0" to "x30", "sp" on arm64.
        actions, fields, compares, matches, limits: the enumerators of the enums in ``plan.h``, in full ("STEP_END").
    """

    registers: Mapping[str, int]
    actions: Mapping[str, int]
    fields: Mapping[str, int]
    compares: Mapping[str, int]
    matches: Mapping[str, int]
    limits: Mapping[str, int]

    @staticmethod
    def of(btf: Btf) -> PlanLayout:
        """Reads them from an object's BTF.

        Raises:
            LookupError: the object has no plan machine.
        """
        registers = btf.members("pt_regs")
        if "user_regs" in registers:  # arm64: struct user_pt_regs is u64 regs[31], sp, pc, pstate
            base, inner = registers["user_regs"], btf.members("user_pt_regs")
            registers = {f"x{index}": base + inner["regs"] + 8 * index for index in range(31)}
            registers["sp"] = base + inner["sp"]
        return PlanLayout(
            registers,
            btf.enumerators("step_action"),
            btf.enumerators("plan_field"),
            btf.enumerators("plan_compare"),
            btf.enumerators("plan_match"),
            btf.enumerators("plan_limits"),
        )


class Step(NamedTuple):
    """One step.

    Attributes:
        action: the enumerator without "STEP_".
        target: of a jump, relative to the beginning of the steps it is among.
        name: what REGISTER reads, as `Piece.register`; the field that FIELD reads ("FIELD_PID"); how TEST and MATCH
            compare, enumerators joined by "|".
        others: see ``struct step``.
    """

    action: str
    operand: int = 0
    size: int = 0
    target: int = 0
    slot: int = 0
    name: str = ""


Steps = tuple[Step, ...]


class Full(TargetError):
    """More is asked for than one probe can capture."""


class Address(NamedTuple):
    """Steps that put an address into word, and what to add to it.

    Attributes:
        checked: as they are to be carried out once for a value: with lengths set and indices compared with them.
        plain: without that, for a value's second word: its length is already set, and what was wrong remembered.
    """

    checked: Steps
    plain: Steps
    offset: int = 0

    @staticmethod
    def by(steps: Steps, offset: int = 0) -> Address:
        return Address(steps, steps, offset)

    def plus(self, offset: int) -> Address:
        return self._replace(offset=self.offset + offset)

    def word(self, offset: int = 0, size: int = 8) -> Steps:
        """Steps that load what is there."""
        return (*self.checked, Step("LOAD", self.offset + offset, size))

    def follow(self, offset: int = 0) -> Address:
        """What the pointer there points to."""
        load = Step("LOAD", self.offset + offset, 8)
        return Address((*self.checked, load), (*self.plain, load))


class Side:
    """What is captured at the entry, or at the return, of one function.

    Attributes:
        on_return: which of them it is.
        steps: to be carried out.
        size: bytes captured, a multiple of 8.
        room: the most bytes one step keeps.
    """

    __slots__ = ("_kept", "_limits", "_slots", "on_return", "room", "size", "steps")

    def __init__(self, limits: Mapping[str, int], on_return: bool) -> None:
        self._limits = limits
        self._slots = 0
        self._kept: dict[Steps, tuple[int, int]] = {}
        self.on_return = on_return
        self.steps: list[Step] = []
        self.size = 0
        self.room = 8

    @property
    def values(self) -> int:
        """How many values are kept so far."""
        return self._slots

    def word(self, steps: Steps) -> tuple[int, int]:
        """Keeps the word that steps make, once for the same steps. Returns its offset and slot.

        Raises:
            Full: there is no room left.
        """
        known = self._kept.get(steps)
        if known is None:
            known = self._kept[steps] = self._add(steps, "KEEP", 0, 8, 8)
        return known

    def thread_name(self) -> tuple[int, int]:
        """Keeps the name of the thread, 16 bytes, as `word`."""
        first = self._add((Step("FIELD", name="FIELD_COMM"),), "KEEP", 0, 8, 8)
        self._add((Step("FIELD", name="FIELD_COMM_REST"),), "KEEP", 0, 8, 8)
        return first

    def copy(self, address: Address, size: int) -> tuple[int, int]:
        """Keeps `size` bytes of memory, as `word`."""
        return self._add(address.checked, "COPY", address.offset, size, size)

    def counted(self, length: Steps, address: Address, size: int) -> tuple[int, int]:
        """Keeps at most `size` bytes of the `length` there are, behind a `struct kept_text`, as `word`.

        Args:
            length: steps that make word the length in bytes; `address.plain` is used behind them.
        """
        return self._add(
            (*length, Step("LENGTH"), *address.plain), "BYTES", address.offset, size, _TEXT_HEADER + size
        )

    def terminated(self, address: Address, size: int) -> tuple[int, int]:
        """Keeps a text that ends with a NUL, at most `size` bytes of it with the NUL, as `word`."""
        return self._add(address.checked, "STRING", address.offset, size, _TEXT_HEADER + size)

    def optional(self, steps: Steps) -> int:
        """Begins what is kept only if the word isn't 0. Returns what to give to `end_optional`.

        If the word can't be read, the next value kept after `end_optional` fails too: keep this word there.
        """
        self._check_steps(len(steps) + 1)
        self.steps += relocated(steps, len(self.steps))
        self.steps.append(Step("TEST", 0, name="COMPARE_NE"))
        return len(self.steps) - 1

    def end_optional(self, begun: int) -> None:
        """Ends what `optional` began."""
        self.steps[begun] = self.steps[begun]._replace(target=len(self.steps))
        self._kept.clear()  # what was kept in between need not be there

    def _check_steps(self, more: int) -> None:
        if len(self.steps) + more + 1 > self._limits["PLAN_STEPS"]:
            raise Full(f"this takes more than {self._limits['PLAN_STEPS']} steps at one probe", hint=_LESS)

    def _add(self, steps: Steps, action: str, operand: int, size: int, room: int) -> tuple[int, int]:
        """Appends a value; raises Full before anything is changed."""
        offset = self.size
        self._check_steps(len(steps) + 1)
        if self._slots >= self._limits["PLAN_SLOTS"]:
            raise Full(f"more than {self._limits['PLAN_SLOTS']} values at one probe", hint=_LESS)
        if offset + room > _MAX_CAPTURE or size > self._limits["PLAN_MAX_READ"]:
            raise Full(f"more than {_MAX_CAPTURE} bytes at one probe", hint=_LESS)
        slot = self._slots
        self.steps += relocated(steps, len(self.steps))
        self.steps.append(Step(action, operand, size, offset, slot))
        self._slots += 1
        self.size += -(-room // 8) * 8
        self.room = max(self.room, room)
        return offset, slot + RETURN_SLOTS * self.on_return


def relocated(steps: Sequence[Step], base: int) -> list[Step]:
    """Steps with the targets of their jumps moved by `base`."""
    return [step._replace(target=step.target + base) if step.action in _JUMPS else step for step in steps]


def encode(steps: Sequence[Step], layout: PlanLayout) -> bytes:
    """Rows of the map `steps` (``struct step``)."""
    rows = []
    for action, operand, size, target, slot, name in steps:
        if action == "REGISTER":
            operand = layout.registers[name]
        elif action == "FIELD":
            size = layout.fields[name]
        elif action == "TEST":
            slot = layout.compares[name]
        elif action == "MATCH":
            slot = sum([layout.matches[flag] for flag in name.split("|") if flag])
        rows.append(_STEP.pack(layout.actions["STEP_" + action], slot, size, target, _signed(operand)))
    return b"".join(rows)


def _signed(operand: int) -> int:
    operand &= (1 << 64) - 1
    return operand - (1 << 64) if operand >> 63 else operand
