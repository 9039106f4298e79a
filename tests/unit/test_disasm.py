# SPDX-License-Identifier: BSD-2-Clause
"""The instruction decoder, against iced-x86 on real code and against the manuals on single instructions."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator

import iced_x86 as iced
import pytest

from pyebpf.binary import disasm, golang
from pyebpf.binary.disasm import BRANCH, CALL, INDIRECT_JUMP, JUMP, OTHER, RET, TRAP, DecodeError, Instruction
from pyebpf.binary.elf import Elf
from pyebpf.errors import BinaryError

Flow, Mnemonic = iced.FlowControl, iced.Mnemonic
KINDS = {
    Flow.NEXT: OTHER,
    Flow.UNCONDITIONAL_BRANCH: JUMP,
    Flow.INDIRECT_BRANCH: INDIRECT_JUMP,
    Flow.CONDITIONAL_BRANCH: BRANCH,
    Flow.RETURN: RET,
    Flow.CALL: CALL,
    Flow.INDIRECT_CALL: CALL,
    Flow.INTERRUPT: TRAP,
    Flow.EXCEPTION: TRAP,
    Flow.XBEGIN_XABORT_XEND: OTHER,
}
# Where the two mean different things: far returns can't be probed as returns, hlt traps in a program, system calls and
# their like come back, and xbegin has a second way on.
EXCEPTIONS = {
    **dict.fromkeys((Mnemonic.RETF, Mnemonic.IRET, Mnemonic.IRETD, Mnemonic.IRETQ), INDIRECT_JUMP),
    **dict.fromkeys((Mnemonic.SYSRET, Mnemonic.SYSRETQ, Mnemonic.SYSEXIT, Mnemonic.SYSEXITQ), INDIRECT_JUMP),
    Mnemonic.RSM: INDIRECT_JUMP,
    **dict.fromkeys((Mnemonic.SYSCALL, Mnemonic.SYSENTER, Mnemonic.INT, Mnemonic.UIRET), OTHER),
    **dict.fromkeys((Mnemonic.VMRUN, Mnemonic.VMMCALL, Mnemonic.SKINIT, Mnemonic.VMGEXIT), OTHER),
    **dict.fromkeys((Mnemonic.VMCALL, Mnemonic.VMLAUNCH, Mnemonic.VMRESUME, Mnemonic.VMFUNC), OTHER),
    **dict.fromkeys((Mnemonic.ENCLS, Mnemonic.ENCLU, Mnemonic.ENCLV, Mnemonic.PCONFIG, Mnemonic.TDCALL), OTHER),
    **dict.fromkeys((Mnemonic.SEAMCALL, Mnemonic.SEAMOPS, Mnemonic.SEAMRET), OTHER),
    Mnemonic.HLT: TRAP,
    Mnemonic.XBEGIN: BRANCH,
}


def by_iced(code: bytes, address: int) -> list[Instruction] | None:
    """What iced-x86 says; None if it doesn't know an instruction."""
    result = []
    for instruction in iced.Decoder(64, code, ip=address):
        if instruction.code == iced.Code.INVALID:
            return None
        kind = EXCEPTIONS.get(instruction.mnemonic, KINDS[instruction.flow_control])
        direct = kind in (JUMP, BRANCH) or instruction.flow_control == Flow.CALL
        target = instruction.near_branch_target if direct and kind in (JUMP, BRANCH, CALL) else None
        result.append(Instruction(instruction.ip, instruction.len, kind, target))
    return result


def functions_of(elf: Elf, table: str) -> Iterator[tuple[int, int]]:
    """Address and size of the function symbols."""
    section = elf.section(table)
    assert section is not None
    found = set()
    for _, info, _, where, value, size in struct.iter_unpack("<IBBHQQ", elf.contents(section)):
        if info & 15 == 2 and where and size:
            found.add((value, size))
    return iter(sorted(found))


def assert_same(code: bytes, address: int) -> int:
    """Compare one function; how many instructions that were."""
    expected = by_iced(code, address)
    if expected is None:
        return 0
    assert list(disasm.decode("x86-64", code, address)) == expected
    assert disasm.control_flow("x86-64", code, address) == [i for i in expected if i.kind != OTHER]
    assert disasm.returns("x86-64", code, address) == [i.address for i in expected if i.kind == RET]
    return len(expected)


def test_all_of_libc() -> None:
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "/libc.so.6" in line or "/libc-" in line)
    with Elf.open(path) as elf:
        text = elf.section(".text")
        assert text is not None
        code = bytes(elf.contents(text))
        assert assert_same(code, text.addr) > 100_000


def test_functions_of_node() -> None:
    path = shutil.which("node")
    assert path
    with Elf.open(path) as elf:
        count = sum(assert_same(elf.read(*f), f[0]) for f in list(functions_of(elf, ".symtab"))[::40])
    assert count > 50_000


def test_functions_of_the_go_command() -> None:
    path = shutil.which("go")
    assert path
    with Elf.open(path) as elf:
        program = golang.find(elf)
        assert program
        count = sum(assert_same(elf.read(f.address, f.size), f.address) for f in program.functions()[::8])
    assert count > 100_000


def test_random_bytes_are_decoded_right_or_refused() -> None:
    """Any opcode, with any prefix: never another length or kind than iced-x86 says."""
    rng = random.Random(20240607)
    prefixes = b"|66|f3|f2|67|48|41|6648|f34c|2e|f0|6467|666744|4866|3e|64|6648|f248".split(b"|")
    escapes = b"||0f|0f38|0f3a|c5|c4e1|c4e2|c4e3|c442|c463|8fe8|8fe9|8fea|62f1|62f2|62f3|6261|62f5|62f6".split(b"|")
    agreed = 0
    for _ in range(150_000):
        head = bytes.fromhex((rng.choice(prefixes) + rng.choice(escapes)).decode())
        code = head + rng.getrandbits(128).to_bytes(16, "little")
        instruction = next(iter(iced.Decoder(64, code, ip=0x400000)))
        if instruction.code == iced.Code.INVALID:
            continue
        code = code[: instruction.len]
        try:
            found = list(disasm.decode("x86-64", code, 0x400000))
        except DecodeError:
            assert is_amd_only(code, instruction), str(instruction)
            continue
        assert found == by_iced(code, 0x400000), str(instruction)
        agreed += 1
    assert agreed > 15_000


def is_amd_only(code: bytes, instruction: iced.Instruction) -> bool:
    """3DNow! and SSE4a: refused, and nothing emits them."""
    return b"\x0f\x0f" in code or instruction.mnemonic in (Mnemonic.FEMMS, Mnemonic.EXTRQ, Mnemonic.INSERTQ)


@pytest.mark.parametrize(
    ("code", "kind", "target"),
    [
        ("c3", RET, None),
        ("f3 c3", RET, None),
        ("f2 c3", RET, None),
        ("c2 08 00", RET, None),
        ("cb", INDIRECT_JUMP, None),
        ("cf", INDIRECT_JUMP, None),
        ("eb fe", JUMP, 0x1000),
        ("e9 fb ff ff ff", JUMP, 0x1000),
        ("f2 e9 00 00 00 00", JUMP, 0x1006),
        ("74 10", BRANCH, 0x1012),
        ("2e 74 10", BRANCH, 0x1013),
        ("0f 84 00 01 00 00", BRANCH, 0x1106),
        ("e2 fe", BRANCH, 0x1000),
        ("e3 02", BRANCH, 0x1004),
        ("c7 f8 10 00 00 00", BRANCH, 0x1016),
        ("e8 00 00 00 00", CALL, 0x1005),
        ("66 66 48 e8 00 00 00 00", CALL, 0x1008),
        ("ff d0", CALL, None),
        ("ff 15 00 00 00 00", CALL, None),
        ("41 ff 14 24", CALL, None),
        ("ff e0", INDIRECT_JUMP, None),
        ("3e ff e0", INDIRECT_JUMP, None),
        ("ff 24 c5 00 00 00 00", INDIRECT_JUMP, None),
        ("ff 6c 24 08", INDIRECT_JUMP, None),
        ("cc", TRAP, None),
        ("0f 0b", TRAP, None),
        ("0f b9 c0", TRAP, None),
        ("f4", TRAP, None),
        ("f3 0f 1e fa", OTHER, None),
        ("0f 05", OTHER, None),
        ("cd 80", OTHER, None),
        ("48 b8 c3 c3 c3 c3 c3 c3 c3 c3", OTHER, None),
        ("64 48 8b 0c 25 f8 ff ff ff", OTHER, None),
        ("64 c5 fe 6f 04 25 00 00 00 00", OTHER, None),
        ("67 a1 00 00 00 00", OTHER, None),
        ("66 0f 1f 84 00 00 00 00 00", OTHER, None),
        ("62 f1 fe 48 6f 05 00 00 00 00", OTHER, None),
        ("c5 f8 77", OTHER, None),
        ("f3 0f a7 c8", OTHER, None),
    ],
)
def test_one_instruction(code: str, kind: int, target: int | None) -> None:
    raw = bytes.fromhex(code)
    assert list(disasm.decode("x86-64", raw, 0x1000)) == [Instruction(0x1000, len(raw), kind, target)]


@pytest.mark.parametrize("code", ["06", "0f 0f c0 bf", "d5 00 90", "0f 04", "62 f4 7c 48 10 00", "66 " * 15 + "90"])
def test_unknown_instructions_are_refused(code: str) -> None:
    with pytest.raises(DecodeError, match="0x1001") as caught:
        list(disasm.decode("x86-64", b"\x90" + bytes.fromhex(code) + b"\x90" * 16, 0x1000))
    assert caught.value.address == 0x1001
    assert isinstance(caught.value, BinaryError)


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
def test_code_that_ends_inside_an_instruction_is_refused(machine: str) -> None:
    with pytest.raises(DecodeError):
        disasm.returns(machine, b"\xe8\x00\x00", 0x1000)
    assert disasm.returns(machine, b"", 0x1000) == []


def test_another_machine_is_refused() -> None:
    with pytest.raises(BinaryError, match="riscv64"):
        disasm.returns("riscv64", b"", 0)


def test_boundaries() -> None:
    code = bytes.fromhex("55 48 89 e5 b8 c3 00 00 00 5d c3 06 90")
    begins = [a for a in range(0x0FFE, 0x1010) if disasm.is_boundary("x86-64", code, 0x1000, a)]
    assert begins == [0x1000, 0x1001, 0x1004, 0x1009, 0x100A, 0x100B]  # nothing is known behind the bad byte


def test_random_bytes_never_hang_or_crash() -> None:
    rng = random.Random(7)
    for size in [*range(64), 5000]:
        code = rng.getrandbits(8 * size or 1).to_bytes(size or 1, "little")
        for machine in ("x86-64", "arm64"):
            try:
                found = list(disasm.decode(machine, code, 2**64 - 8))
            except DecodeError:
                continue
            assert sum(i.length for i in found) == len(code)


ARM64 = [
    (0xD65F03C0, RET, None),  # ret
    (0xD65F0060, RET, None),  # ret x3
    (0xD65F0BFF, RET, None),  # retaa
    (0xD65F0FFF, RET, None),  # retab
    (0x14000002, JUMP, 8),  # b
    (0x17FFFFFF, JUMP, -4),
    (0x14000000, JUMP, 0),
    (0x54000049, BRANCH, 8),  # b.ls
    (0x54FFFFE0, BRANCH, -4),
    (0x34000040, BRANCH, 8),  # cbz w0
    (0xB5FFFFE0, BRANCH, -4),  # cbnz x0
    (0x36080040, BRANCH, 8),  # tbz w0, #1
    (0xB7FFFFE0, BRANCH, -4),  # tbnz x0, #63
    (0xD61F0220, INDIRECT_JUMP, None),  # br x17
    (0xD71F0A11, INDIRECT_JUMP, None),  # braa x16, x17
    (0xD69F03E0, INDIRECT_JUMP, None),  # eret
    (0x94000002, CALL, 8),  # bl
    (0xD63F0040, CALL, None),  # blr x2
    (0xD73F0A11, CALL, None),  # blraa x16, x17
    (0xD4200000, TRAP, None),  # brk #0
    (0xD4400000, TRAP, None),  # hlt #0
    (0x00000000, TRAP, None),  # udf #0
    (0xD4000001, OTHER, None),  # svc #0
    (0xD503201F, OTHER, None),  # nop
    (0xD503245F, OTHER, None),  # bti c
    (0xF9400B90, OTHER, None),  # ldr x16, [x28, #16]
]


@pytest.mark.parametrize(("word", "kind", "distance"), ARM64)
def test_arm64(word: int, kind: int, distance: int | None) -> None:
    target = None if distance is None else 0x1000 + distance
    code = struct.pack("<I", word)
    assert list(disasm.decode("arm64", code, 0x1000)) == [Instruction(0x1000, 4, kind, target)]
    assert disasm.returns("arm64", code, 0x1000) == ([0x1000] if kind == RET else [])
    assert disasm.is_boundary("arm64", code * 2, 0x1000, 0x1004)
    assert not disasm.is_boundary("arm64", code * 2, 0x1000, 0x1002)


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
def test_walking_decodes_no_more_than_is_asked_for(machine: str) -> None:
    code = {"x86-64": "90 74 02 06 c3", "arm64": "1f2003d5 40000054 c0"}[machine]  # the third can't be decoded
    starts: list[int] = []
    found = disasm.walk(machine, bytes.fromhex(code), 0x1000, starts)
    assert next(found).kind == BRANCH
    assert starts == ([0x1000, 0x1001] if machine == "x86-64" else [0x1000, 0x1004])
    with pytest.raises(DecodeError):
        next(found)


def test_walking_tells_where_each_instruction_begins() -> None:
    with Elf.open(str(shutil.which("node"))) as elf:
        for address, size in list(functions_of(elf, ".symtab"))[::2000]:
            code = elf.read(address, size)
            starts: list[int] = []
            flow = list(disasm.walk("x86-64", code, address, starts))
            every = list(disasm.decode("x86-64", code, address))
            assert starts == [i.address for i in every]
            assert flow == [i for i in every if i.kind != OTHER]
