# SPDX-License-Identifier: BSD-2-Clause
"""A second implementation of the machine in bpf/include/plan.h, over made-up registers and memory."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping

from pyebpf.target.capture import Plan, PlanLayout

_STEP = struct.Struct("<BBHIq")
_WORDS = (1 << 64) - 1
TEXT_CUT = 0x7FFFFFFF


class Machine:
    """One function's call.

    Args:
        function: its row in the plan.
        registers, memory: as the program has them; registers by name, memory by address.
        fields: by enumerator; comm: the thread's name.
    """

    def __init__(
        self, plan: Plan, layout: PlanLayout, function: int = 0, *, registers: Mapping[str, int] | None = None,
        memory: Mapping[int, bytes] | None = None, fields: Mapping[str, int] | None = None, comm: bytes = b"",
    ) -> None:  # fmt: skip
        self.plan, self.layout = plan, layout
        self.rows = struct.unpack_from("<4I", plan.plans, 16 * function)
        self.steps = [_STEP.unpack_from(plan.steps, at) for at in range(0, len(plan.steps), _STEP.size)]
        self.actions = {number: name[5:] for name, number in layout.actions.items()}
        self.registers = {layout.registers[name]: value for name, value in (registers or {}).items()}
        self.memory = dict(memory or {})
        self.fields = {layout.fields[name]: value for name, value in (fields or {}).items()}
        self.comm = comm
        self.capture = bytearray(plan.entry_size + plan.return_size + plan.read_room)
        self.failed = 0

    def enter(self) -> str:
        """Runs the entry; "accepted", "rejected" or "undecided"."""
        return self._side(self.rows[0], self.rows[1], 0, 0)

    def leave(self, registers: Mapping[str, int] | None = None, memory: Mapping[int, bytes] | None = None) -> str:
        """Runs the return, in a world that has changed."""
        self.registers.update({self.layout.registers[name]: value for name, value in (registers or {}).items()})
        self.memory.update(memory or {})
        return self._side(self.rows[2], self.rows[3], self.plan.entry_size, 64)

    def captured(self) -> memoryview:
        return memoryview(bytes(self.capture[: self.plan.entry_size + self.plan.return_size]))

    def _side(self, condition: int, first: int, base: int, slots: int) -> str:
        verdict = self._run(condition, base, slots, filtering=True) if condition else "accepted"
        if verdict == "accepted":
            self._run(first, base, slots, filtering=False)
        return verdict

    def read(self, address: int, size: int) -> bytes | None:
        address &= _WORDS
        for begin, data in self.memory.items():
            if begin <= address and address + size <= begin + len(data):
                return data[address - begin : address - begin + size]
        return b"" if size == 0 else None

    def _text(self, address: int, size: int) -> tuple[bytes, bool] | None:
        """Up to size - 1 bytes of a text, and whether it ended there."""
        data = b""
        while len(data) < size - 1:
            byte = self.read(address + len(data), 1)
            if byte is None:
                return None
            if byte == b"\0":
                return data, True
            data += byte
        return data, self.read(address + len(data), 1) == b"\0"

    def _run(self, pc: int, base: int, slots: int, *, filtering: bool) -> str:
        word = length = 0
        error: int | None = None  # the word that a failed slot holds
        unknown: int | None = None  # the same for the length
        doubt: int | None = None
        executed = 0
        while True:
            action_number, slot, size, target, operand = self.steps[pc]
            action = self.actions[action_number]
            executed += 1
            assert executed <= self.plan.longest, "more steps than announced"
            pc += 1
            if action == "REGISTER":
                word, error = self.registers[operand], None
            elif action == "CONSTANT":
                word, error = operand & _WORDS, None
            elif action == "FIELD":
                word, error = self.fields[size], None
            elif action == "SAVED":
                word = struct.unpack_from("<Q", self.capture, target)[0]
                error = word if self.failed >> slot & 1 else None
            elif action == "LENGTH":
                length, unknown = word, error
            elif action == "JUMP":
                assert target >= pc
                pc = target
            elif action in ("ACCEPT", "REJECT", "END"):
                return "accepted" if action == "ACCEPT" else "rejected"
            elif action in ("TEST", "MATCH"):
                assert target >= pc
                holds = False
                if error is None and action == "TEST":
                    holds = self._holds(word, operand, slot)
                elif error is None:
                    if slot & self.layout.matches["MATCH_COUNTED"] and unknown is not None:
                        error = unknown
                    else:
                        answer = self._matches(word, length, operand, slot)
                        error = word if answer is None else None
                        holds = answer is not None and answer != bool(slot & self.layout.matches["MATCH_NOT"])
                if error is not None:
                    if filtering:
                        return "undecided"
                    doubt = error
                if not holds:
                    pc = target
            elif action in ("KEEP", "COPY", "BYTES", "STRING"):
                if action == "KEEP":
                    error, doubt = doubt if error is None else error, None
                if action == "BYTES" and unknown is not None:
                    error = unknown
                error = self._keep(action, base + target, size, word, operand & _WORDS, length, error)
                if error is not None:
                    self.failed |= 1 << (slots + slot)
            elif error is None:
                if action == "ADD":
                    word = (word + operand) & _WORDS
                elif action == "SCALE":
                    word = word * operand & _WORDS
                elif action == "LOAD":
                    assert size in (1, 2, 4, 8)
                    data = self.read(word + operand, size)
                    word = (word + operand) & _WORDS if data is None else int.from_bytes(data, "little")
                    error = word if data is None else None
                elif action == "TRIM":
                    assert 0 < size < 64 and target + size <= 64
                    word = word >> target & ((1 << size) - 1)
                    if operand and word >> (size - 1):
                        word = (word - (1 << size)) & _WORDS
                elif action == "BOUND":
                    error = unknown if unknown is not None else None if operand < length else -errno.ERANGE & _WORDS
                else:
                    raise AssertionError(action)

    def _keep(
        self, action: str, at: int, size: int, word: int, operand: int, length: int, error: int | None
    ) -> int | None:
        assert at % 8 == 0 and size + 8 * (action in ("BYTES", "STRING")) <= self.plan.read_room
        address = (word + operand) & _WORDS
        data: bytes | None = None
        if error is None and action == "KEEP":
            data = struct.pack("<Q", word)
        elif error is None and action == "COPY":
            data = self.read(address, size)
        elif error is None and action == "BYTES":
            read = self.read(address, min(length, size))
            if read is not None:
                data = struct.pack("<II", len(read), min(length, TEXT_CUT - 1)) + read
        elif error is None:
            found = self._text(address, size)
            if found is not None:
                text, ended = found
                data = struct.pack("<II", len(text), len(text) if ended else TEXT_CUT) + text
        if data is None:
            error = address if error is None else error
            data = struct.pack("<Q", error)
        self.capture[at : at + len(data)] = data
        return error

    def _holds(self, word: int, operand: int, compare: int) -> bool:
        signed = compare & 8 == 0
        left = word - (1 << 64) if signed and word >> 63 else word
        right = operand if signed else operand & _WORDS
        return bool(compare & (1 if left == right else 2 if left < right else 4))

    def _matches(self, word: int, length: int, row: int, how: int) -> bool | None:
        flags = self.layout.matches
        size = struct.unpack_from("<I", self.plan.texts, row * 72 + 64)[0]
        wanted = self.plan.texts[row * 72 : row * 72 + size]
        if how & flags["MATCH_COMM"]:
            text = self.comm
        elif how & flags["MATCH_COUNTED"]:
            if length < size or (length > size and not how & flags["MATCH_PREFIX"]):
                return False
            data = self.read(word, size)
            return None if data is None else data == wanted
        else:
            found = self._text(word, size + 2)
            if found is None:
                return None
            text = found[0]
        return text.startswith(wanted) if how & flags["MATCH_PREFIX"] else text == wanted
