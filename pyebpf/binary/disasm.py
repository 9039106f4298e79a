# SPDX-License-Identifier: BSD-2-Clause
"""Where instructions begin, and which of them change the flow of control (x86-64 and arm64).

Not a disassembler: it knows the length of every instruction that compilers and the hand-written assembly of libc,
OpenSSL and Go contain, and tells returns, jumps, calls and traps apart. What it doesn't know (3DNow!, SSE4a, APX) it
refuses, so that nobody places a breakpoint behind a guess.

x86-64: one table lookup by the opcode byte and the byte after it gives length and kind together, in one byte:

    bits 0-3  length, from the opcode byte on; 0: an escape, a prefix or an invalid opcode, told by the other bits
    bits 4-6  kind
    bit 7     a SIB byte follows ModRM with mod=0: base 5 adds a 32-bit displacement

Source of the opcode grids: Intel SDM volume 2, appendix A ("Opcode Map"), 64-bit mode; XOP: AMD64 APM volume 3,
appendix A. arm64: Arm ARM DDI 0487, C4.1.65 ("Branches, Exception Generating and System instructions"). arm64 code with
constants between its instructions decodes as if they were instructions; nothing in the bytes tells.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import BinaryError

OTHER = 0
RET = 1  # near return: probing it sees the function return
JUMP = 2  # direct, unconditional
BRANCH = 3  # direct, conditional; includes loop, jrcxz and xbegin (whose target is taken on abort)
INDIRECT_JUMP = 4  # through a register or memory; far jumps and far or interrupt returns too
CALL = 5  # direct or indirect
TRAP = 6  # int3, int1, ud0, ud1, ud2, hlt; brk, hlt, udf


class Instruction(NamedTuple):
    """One instruction. ``target`` is the address a direct jump, branch or call goes to, else None."""

    address: int
    length: int
    kind: int
    target: int | None


class DecodeError(BinaryError):
    """The bytes at ``address`` aren't an instruction this decoder knows, or the instruction runs past the end."""

    def __init__(self, address: int, why: str) -> None:
        super().__init__(f"code can't be decoded at {address:#x}: {why}")
        self.address = address


def walk(machine: str, code: bytes, address: int, starts: list[int] | None = None) -> Iterator[Instruction]:
    """The instructions of ``code`` that change the flow of control: all but those of kind OTHER, in order.

    Nothing is decoded before it is asked for, so looking at the first few is cheap.

    Args:
        machine: "x86-64" or "arm64" (`Elf.machine`).
        address: the virtual address of the first byte of ``code``.
        starts: gets the address of every instruction passed, those of kind OTHER too.

    Raises:
        DecodeError: at the first instruction that can't be decoded or doesn't end where ``code`` ends.
    """
    if machine == "x86-64":
        return _walk_x86(code, address, starts)
    if machine == "arm64":
        return _walk_arm64(code, address, starts)
    raise BinaryError(f"no decoder for {machine} code")


def control_flow(machine: str, code: bytes, address: int) -> list[Instruction]:
    """All that `walk` finds. Raises like it."""
    return list(walk(machine, code, address))


def decode(machine: str, code: bytes, address: int) -> list[Instruction]:
    """Every instruction of ``code``. Raises like `walk`, which is several times faster."""
    starts: list[int] = []
    found = {instruction.address: instruction for instruction in walk(machine, code, address, starts)}
    ends = [*starts[1:], address + len(code)]
    return [found.get(start) or Instruction(start, end - start, OTHER, None) for start, end in zip(starts, ends)]


def returns(machine: str, code: bytes, address: int) -> list[int]:
    """The addresses of the RET instructions of ``code``. Raises DecodeError like `walk`."""
    return [instruction.address for instruction in walk(machine, code, address) if instruction.kind == RET]


def is_boundary(machine: str, code: bytes, start: int, address: int) -> bool:
    """Does an instruction begin at ``address``, when ``code`` is decoded from its first byte, at ``start``?

    False when that can't be decided: ``address`` lies outside, or the bytes before it can't be decoded.
    """
    if not start <= address < start + len(code):
        return False
    try:
        control_flow(machine, code[: address - start], start)
    except DecodeError:
        return False
    return True


# --- x86-64 -----------------------------------------------------------------------------------------------------------

_PREFIX, _REX, _REX_W, _TWO_BYTE, _VEX2, _VEX3, _EVEX, _XOP = range(0x10, 0x90, 0x10)  # escapes of the one-byte grid
_MAP_38, _MAP_3A = 0x10, 0x20  # escapes of the two-byte grid
_SIB = 0x80
_DIRECT = (JUMP, BRANCH, CALL)
_REL8, _REL32 = struct.Struct("<b").unpack_from, struct.Struct("<i").unpack_from

# Letters of the grids:
#   .  nothing follows        b imm8   w imm16   z imm16/32   v imm16/32/64   e imm16 imm8   o 64-bit offset
#   m  ModRM                  B ModRM imm8   Z ModRM imm16/32   k ModRM, always a register
#   r  ret   i ret imm16      f iret, far ret   g far ret imm16   t trap   T trap with ModRM
#   j  jmp rel8   J jmp rel32   c jcc rel8   C jcc rel32   L call rel32
#   p  prefix   R REX   W REX with W   E, V, X, 0 EVEX, VEX2, VEX3 and 0F escapes   8, a 0F38 and 0F3A escapes
#   digits and the rest: groups, see _rows;  x invalid
_ONE_BYTE = (
    "mmmmbzxxmmmmbzx0"  # 0x
    "mmmmbzxxmmmmbzxx"  # 1x
    "mmmmbzpxmmmmbzpx"  # 2x
    "mmmmbzpxmmmmbzpx"  # 3x
    "RRRRRRRRWWWWWWWW"  # 4x
    "................"  # 5x
    "xxEmppppzZbB...."  # 6x
    "cccccccccccccccc"  # 7x
    "BZxBmmmmmmmmmmm1"  # 8x
    "..........x....."  # 9x
    "oooo....bz......"  # Ax
    "bbbbbbbbvvvvvvvv"  # Bx
    "BBirXV23e.gftbxf"  # Cx
    "mmmmxxx.mmmmmmmm"  # Dx
    "ccccbbbbLJxj...."  # Ex
    "ptppt.45......67"  # Fx
)
_TWO_BYTES = (
    "mmmmx..f..xtxmxx"  # 0x
    "mmmmmmmmmmmmmmmm"  # 1x
    "kkkkxxxxmmmmmmmm"  # 2x
    ".....fx.8xaxxxxx"  # 3x
    "mmmmmmmmmmmmmmmm"  # 4x
    "mmmmmmmmmmmmmmmm"  # 5x
    "mmmmmmmmmmmmmmmm"  # 6x
    "BBBBmmm.mmxxmmmm"  # 7x
    "CCCCCCCCCCCCCCCC"  # 8x
    "mmmmmmmmmmmmmmmm"  # 9x
    "...mBmmm..fmBmmm"  # Ax
    "mmmmmmmmmTBmmmmm"  # Bx
    "mmBmBBBm........"  # Cx
    "mmmmmmmmmmmmmmmm"  # Dx
    "mmmmmmmmmmmmmmmm"  # Ex
    "mmmmmmmmmmmmmmmT"  # Fx
)
_VEX_IMM8 = frozenset(b"\x70\x71\x72\x73\xc2\xc4\xc5\xc6")  # opcodes of VEX and EVEX map 1 with an immediate
_VZEROUPPER = 0x77  # the only VEX opcode without ModRM
_NOT_BEFORE_VEX = b"\x66\xf2\xf3\xf0" + bytes(range(0x40, 0x50))


def _modrm(mod_rm: int) -> int:
    """ModRM itself and the SIB byte and displacement that it asks for."""
    mod, rm = mod_rm >> 6, mod_rm & 7
    if mod == 3:
        return 1
    if mod == 0:
        return 5 if rm == 5 else 2 | _SIB if rm == 4 else 1
    return (2 if rm == 4 else 1) + (1 if mod == 1 else 4)


_MODRM = tuple(map(_modrm, range(256)))


def _rows(grid: str, opcode_size: int, imm_z: int, imm_v: int) -> tuple[bytes, ...]:
    """The 256 rows of a grid. ``imm_z`` and ``imm_v``: sizes of the immediates that depend on the operand size."""

    def fixed(size: int, kind: int = OTHER) -> bytes:
        return bytes((kind << 4 | opcode_size + size,)) * 256

    def modrm(imm: int = 0, kind: int = OTHER) -> bytes:
        more = (kind << 4) + opcode_size + imm
        return bytes([more + size for size in _MODRM])

    def group(*members: bytes | None) -> bytes:
        """ModRM's reg field picks the instruction; None: there is none."""
        rows = [member or bytes(256) for member in members]
        return bytes([rows[i >> 3 & 7][i] for i in range(256)])

    def escape(value: int) -> bytes:
        return bytes((value,)) * 256

    m, imm8 = modrm(), modrm(1)
    call, jump, wide = modrm(0, CALL), modrm(0, INDIRECT_JUMP), modrm(imm_z)
    none, xop = (None,) * 7, (escape(_XOP),) * 7
    xabort = bytes(0xF8) + imm8[0xF8:0xF9] + bytes(7)
    xbegin = bytes(0xF8) + (fixed(5, BRANCH)[:1] if imm_z == 4 else b"\0") + bytes(7)
    forms = {
        ".": fixed(0),
        "b": fixed(1),
        "w": fixed(2),
        "e": fixed(3),
        "z": fixed(imm_z),
        "v": fixed(imm_v),
        "o": fixed(8),
        "m": m,
        "B": imm8,
        "Z": wide,
        "k": fixed(1),
        "r": fixed(0, RET),
        "i": fixed(2, RET),
        "f": fixed(0, INDIRECT_JUMP),
        "g": fixed(2, INDIRECT_JUMP),
        "t": fixed(0, TRAP),
        "T": modrm(0, TRAP),
        "j": fixed(1, JUMP),
        "J": fixed(4, JUMP),
        "c": fixed(1, BRANCH),
        "C": fixed(4, BRANCH),
        "L": fixed(4, CALL),
        "p": escape(_PREFIX),
        "R": escape(_REX),
        "W": escape(_REX_W),
        "0": escape(_TWO_BYTE),
        "V": escape(_VEX2),
        "X": escape(_VEX3),
        "E": escape(_EVEX),
        "8": escape(_MAP_38),
        "a": escape(_MAP_3A),
        "x": bytes(256),
        "1": group(m, *xop),  # 8F pop
        "2": group(imm8, *none[:6], xabort),  # C6 mov
        "3": group(wide, *none[:6], xbegin),  # C7 mov
        "4": group(imm8, imm8, m, m, m, m, m, m),  # F6 test, not, neg, mul, ...
        "5": group(wide, wide, m, m, m, m, m, m),  # F7
        "6": group(m, m, *none[:6]),  # FE inc, dec
        "7": group(m, m, call, call, jump, jump, m, None),  # FF inc, dec, call, callf, jmp, jmpf, push
    }
    return tuple([forms[letter] for letter in grid])


_PLAIN = _rows(_ONE_BYTE, 1, 4, 4)
_WIDE = _rows(_ONE_BYTE, 1, 4, 8)  # after REX.W
_NARROW = _rows(_ONE_BYTE, 1, 2, 2)  # after 66
_TWO = _rows(_TWO_BYTES, 2, 4, 4)
_ROW_MODRM, _ROW_MODRM_IMM8, _ROW_MODRM_IMM32 = _PLAIN[0x00], _PLAIN[0x80], _PLAIN[0x81]


def _walk_x86(code: bytes, address: int, starts: list[int] | None) -> Iterator[Instruction]:
    data = bytes(code) + bytes(32)  # so that no lookup can leave the buffer: an instruction has at most 15 bytes
    plain, wide = _PLAIN, _WIDE
    at, end = 0, len(code)
    while at < end:
        if starts is not None:
            starts.append(address + at)
        value = plain[data[at]][data[at + 1]]
        if not 0 < value < 16:
            # The common ones, REX included, are settled here; the rest by _prefixed.
            opcode = at
            if value == _REX_W:
                opcode += 1
                value = wide[data[opcode]][data[opcode + 1]]
            elif value == _REX:
                opcode += 1
                value = plain[data[opcode]][data[opcode + 1]]
            if not value & 15:
                value = _prefixed(data, at, address)
            else:
                if value >= _SIB:
                    value += (4 if data[opcode + 2] & 7 == 5 else 0) - _SIB
                value += opcode - at
            if value > 15:
                kind = value >> 4
                value &= 15
                target = _target(data, at, value, address) if kind in _DIRECT else None
                yield Instruction(address + at, value, kind, target)
        at += value
    if at != end:
        raise DecodeError(address + end, "the last instruction runs past the end")


def _prefixed(data: bytes, start: int, address: int) -> int:
    """Any instruction, by the book: prefixes, REX, escapes. Returns kind << 4 | length."""
    at = start
    rows = _PLAIN
    narrow = short_address = False
    while True:
        opcode = data[at]
        value = rows[opcode][data[at + 1]]
        if value == _PREFIX:
            narrow = narrow or opcode == 0x66
            short_address = short_address or opcode == 0x67
            rows = _NARROW if narrow else _PLAIN  # a REX before another prefix has no effect
        elif value == _REX_W:
            rows = _WIDE
        elif value == _REX:
            rows = _NARROW if narrow else _PLAIN
        else:
            break
        at += 1
        if at - start > 14:
            raise DecodeError(address + start, "too many prefixes")
    sib = at + 2
    if value == _TWO_BYTE:
        value = _TWO[data[at + 1]][data[at + 2]]
        if value in (_MAP_38, _MAP_3A):
            at += 2
            value = (_ROW_MODRM if value == _MAP_38 else _ROW_MODRM_IMM8)[data[at + 1]]
            sib = at + 2
        else:
            sib = at + 3
            if value & 15 and data[at + 1] in b"\x78\x79" and any(p in b"\x66\xf2" for p in data[start:at]):
                value = 0  # SSE4a, AMD only, with other operands
    elif value in (_VEX2, _VEX3, _EVEX, _XOP) and not any(p in _NOT_BEFORE_VEX for p in data[start:at]):
        at, value = _vex(data, at, value)
        sib = at + 2
    elif short_address and 0xA0 <= opcode <= 0xA3:
        value -= 4
    if not value & 15:
        raise DecodeError(address + start, "unknown opcode " + data[start : start + 8].hex(" "))
    if value >= _SIB:
        value += (4 if data[sib] & 7 == 5 else 0) - _SIB
    length = at - start + (value & 15)
    if length > 15:
        raise DecodeError(address + start, "longer than 15 bytes")
    return value & 0x70 | length


def _vex(data: bytes, at: int, escape: int) -> tuple[int, int]:
    """VEX, EVEX and XOP (SDM volume 2, 2.3 and 2.7): where the opcode is, and its row's value there (0: unknown)."""
    if escape == _VEX2:
        at += 2
        opcode_map = 1
    elif escape == _EVEX:
        opcode_map = data[at + 1] & 0x0F  # bit 3 must be 0: APX uses it
        known = opcode_map in (1, 2, 3, 5, 6) and data[at + 2] & 4
        at += 4
        if not known:
            return at, 0
    else:
        opcode_map = data[at + 1] & 0x1F
        at += 3
        if opcode_map not in ((1, 2, 3) if escape == _VEX3 else (8, 9, 10)):
            return at, 0
    opcode = data[at]
    if opcode_map == 1 and opcode == _VZEROUPPER and escape != _EVEX:
        return at, 1
    if opcode_map == 10:
        return at, _ROW_MODRM_IMM32[data[at + 1]]
    immediate = opcode_map in (3, 8) or (opcode_map == 1 and opcode in _VEX_IMM8)
    return at, (_ROW_MODRM_IMM8 if immediate else _ROW_MODRM)[data[at + 1]]


def _target(data: bytes, at: int, length: int, address: int) -> int | None:
    """Where a jump, branch or call goes to; None if a register or memory says so."""
    end = at + length
    letter = _ONE_BYTE[data[at]]
    while letter in "pRW":
        at += 1
        letter = _ONE_BYTE[data[at]]
    if letter == "0":
        letter = _TWO_BYTES[data[at + 1]]
    if letter in "jc":
        distance: int = _REL8(data, end - 1)[0]
    elif letter in "JCL3":
        distance = _REL32(data, end - 4)[0]
    else:
        return None
    return (address + end + distance) & 0xFFFFFFFFFFFFFFFF


# --- arm64 ------------------------------------------------------------------------------------------------------------

_WORD = struct.Struct("<I")


def _walk_arm64(code: bytes, address: int, starts: list[int] | None) -> Iterator[Instruction]:
    whole = len(code) & ~3
    for at, (word,) in zip(range(0, whole, 4), _WORD.iter_unpack(code[:whole])):
        if starts is not None:
            starts.append(address + at)
        # Branches, exceptions and system instructions have bits 28-26 = 101; udf has the high half 0.
        if word & 0x1C000000 == 0x14000000 or word < 0x10000:
            kind, distance = _classify_arm64(word)
            if kind:
                target = None if distance is None else (address + at + distance) & 0xFFFFFFFFFFFFFFFF
                yield Instruction(address + at, 4, kind, target)
    if whole != len(code):
        raise DecodeError(address + whole, "the last instruction runs past the end")


def _classify_arm64(word: int) -> tuple[int, int | None]:
    """Kind and, if it is a direct jump, branch or call, the distance to its target in bytes."""
    top = word >> 26
    if top == 0x05:  # b
        return JUMP, _signed(word, 0, 26)
    if top == 0x25:  # bl
        return CALL, _signed(word, 0, 26)
    if word & 0xFF000000 == 0x54000000 or word & 0x7E000000 == 0x34000000:  # b.cond, bc.cond; cbz, cbnz
        return BRANCH, _signed(word, 5, 19)
    if word & 0x7E000000 == 0x36000000:  # tbz, tbnz
        return BRANCH, _signed(word, 5, 14)
    if word & 0xFE000000 == 0xD6000000:  # br, blr, ret, eret and their pointer authentication forms
        opc = word >> 21 & 15
        return RET if opc == 2 else CALL if opc in (1, 9) else INDIRECT_JUMP, None
    if word & 0xFFC0001F == 0x5500001F:  # retaasppc, retabsppc
        return RET, None
    if word < 0x10000 or word & 0xFFE0001F in (0xD4200000, 0xD4400000):  # udf; brk, hlt
        return TRAP, None
    return OTHER, None


def _signed(word: int, shift: int, bits: int) -> int:
    value = word >> shift & (1 << bits) - 1
    return ((value ^ 1 << bits - 1) - (1 << bits - 1)) * 4
