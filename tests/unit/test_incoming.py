# SPDX-License-Identifier: BSD-2-Clause
"""Following what a function's first instructions store back to where it came in."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pyebpf.binary.abi import incoming
from pyebpf.binary.elf import Elf
from pyebpf.binary.image import Image
from pyebpf.binary.signature import ABSENT, MEMORY, REGISTER, Piece
from pyebpf.binary.signatures import DebugInfo, describe, signature_of

PROGRAMS = Path(__file__).parent.parent / "programs"


def seen(tmp_path: Path, code: str, *pieces: Piece, indirect: bool = False) -> str:
    """Where what lies in ``pieces`` after all of ``code`` came in, as `describe` has it."""
    (tmp_path / "code.s").write_text(f".text\nf:\n{code}\nend: ret\n")
    subprocess.run(["as", "code.s", "-o", "code.o"], check=True, cwd=tmp_path)
    subprocess.run(["ld", "-shared", "code.o", "-o", "code.so"], check=True, cwd=tmp_path)
    symbols = subprocess.run(["nm", "code.so"], check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    where = {line.split()[2]: int(line.split()[0], 16) for line in symbols.splitlines() if len(line.split()) == 3}
    with Elf.open(str(tmp_path / "code.so")) as elf:
        text = "nowhere"
        for address, state in incoming.incoming(elf, where["f"], where["end"] + 1):
            if address == where["end"]:
                place = state.place(pieces, indirect)
                text = describe(place) if place is not None else "unknown"
        return text


def slot(offset: int, size: int, register: str = "sp", at: int = 0) -> Piece:
    return Piece(MEMORY, size, at, register, offset)


FRAME = "sub $0x38, %rsp\n"


@pytest.mark.parametrize(
    ("code", "pieces", "expected"),
    [
        ("mov %rsi, 0x10(%rsp)", (slot(0x10, 8),), "si"),
        ("mov %edi, %eax\n mov %eax, 8(%rsp)", (slot(8, 4),), "di"),
        ("mov %edi, 8(%rsp)", (slot(8, 8),), "di"),  # the rest is padding, or else not named
        ("mov %dl, %al\n and $1, %al\n mov %al, 7(%rsp)", (slot(7, 1),), "dx"),
        ("mov %rdx, 8(%rsp)\n mov %rdi, %rax\n mov 8(%rsp), %rdi", (Piece(MEMORY, 24, 0, "di"),), "*dx"),
        ("mov %rdi, (%rsp)\n mov %rsi, 8(%rsp)", (slot(0, 16),), "di si"),
        ("mov 0x40(%rsp), %rax", (Piece(MEMORY, 24, 0, "ax"),), "*[sp+8]"),
        ("movss %xmm1, 4(%rsp)", (slot(4, 4),), "xmm1"),
        ("mov %rdi, 8(%rsp)\n movb $1, 9(%rsp)", (slot(8, 8),), "unknown"),
        ("mov %rdi, 8(%rsp)\n movups %xmm0, 4(%rsp)", (slot(8, 8),), "unknown"),
        ("lea 8(%rsp), %rax\n mov %rdi, 8(%rsp)\n mov %rsi, (%rax)", (slot(8, 8),), "nowhere"),  # it may be the slot
        ("mov %rdi, 8(%rsp)\n mov %rsi, (%rdx)", (slot(8, 8),), "di"),  # that is the caller's
        ("mov %rax, 8(%rsp)", (slot(8, 8),), "unknown"),
        ("mov %rdi, 8(%rsp)\n add %rsi, %rdi", (Piece(REGISTER, 8, 0, "di"),), "unknown"),
        ("mov %rdi, 8(%rsp)\n cpuid", (slot(8, 8),), "nowhere"),
        ("and $-64, %rsp\n mov %rdi, 8(%rsp)", (slot(8, 8),), "nowhere"),
    ],
)
def test_slots(tmp_path: Path, code: str, pieces: tuple[Piece, ...], expected: str) -> None:
    assert seen(tmp_path, FRAME + code, *pieces) == expected


def test_frame_pointers_and_pushes(tmp_path: Path) -> None:
    code = "push %rbp\n mov %rsp, %rbp\n sub $0x20, %rsp\n mov %rsi, -8(%rbp)"
    assert seen(tmp_path, code, slot(-8, 8, "bp")) == "si"
    assert seen(tmp_path, code, slot(0x18, 8)) == "si"
    assert seen(tmp_path, code, Piece("cfa", 8, offset=-24)) == "si"
    assert seen(tmp_path, code, slot(-8, 8, "bp"), indirect=True) == "*si"
    # Room for a slot, not a parameter.
    assert seen(tmp_path, "push %rdi", slot(0, 8)) == "unknown"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("moved") / "moved"
    command = ["rustc", "--edition", "2021", "-C", "debuginfo=2", "-C", "opt-level=0", str(PROGRAMS / "moved.rs")]
    subprocess.run([*command, "-o", str(output)], check=True)
    return output


def test_rust_without_optimisation(moved: Path) -> None:
    """All of the standard library's generic functions are in such a program too."""
    gone = Counter[str]()
    with Image.open(str(moved)) as image, DebugInfo() as debug:
        for function in image.search("*"):
            for parameter in signature_of(image, function, function.address, debug=debug).parameters:
                absent = parameter.place.pieces[0].kind == ABSENT
                gone["all"] += 1
                if absent and parameter.type.size and parameter.name:
                    gone[f"{function.name} {parameter.name}"] += 1
    assert gone.pop("all") > 700
    assert not gone


def test_captured_variables_come_before_parameters(moved: Path) -> None:
    """Debug information tells of the variables, not of what holds them."""
    found = {}
    with Image.open(str(moved)) as image, DebugInfo() as debug:
        for function in image.search("moved::*::apply::{{closure}}"):
            signature = signature_of(image, function, function.address, debug=debug)
            places = [describe(parameter.place) for parameter in signature.parameters]
            found[function.name.split("::")[1]] = (*places, describe(signature.results[0].place))
    assert found == {
        "shared": ("si", "dx", "ax"),
        "moved": ("si", "dx", "ax"),
        "consumed": ("dx", "cx", "*ax"),
        "consumed_text": ("dx", "cx", "ax dx"),
    }
