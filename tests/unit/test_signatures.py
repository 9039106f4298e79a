# SPDX-License-Identifier: BSD-2-Clause
"""Signatures of functions in real programs: places against what compilers did, and against debug information."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import iced_x86 as iced
import pytest
import targets
import toolchains

from pyebpf.binary import types
from pyebpf.binary.dwarf import Dwarf
from pyebpf.binary.golang import claims
from pyebpf.binary.golang.signatures import _before_their_turn
from pyebpf.binary.image import Image
from pyebpf.binary.signature import ABSENT, FLOAT_REGISTER, REGISTER, STACK, Piece, Place, Signature
from pyebpf.binary.signatures import DebugInfo, describe, signature_of
from pyebpf.binary.types import Type

GO_VERSIONS = ("1.15", "1.19", "1.21", "1.24", "1.27")
PROGRAMS = Path(__file__).parent.parent / "programs" / "places"
COMPILERS = (("g++", "-O0"), ("g++", "-O2"), ("clang++", "-O0"), ("clang++", "-O2"))


def text(signature: Signature) -> str:
    """The shown parameters and results with their places."""
    shown = [parameter for parameter in signature.parameters if not parameter.hidden]
    inputs = ", ".join(f"{parameter.name or '_'} [{describe(parameter.place)}]" for parameter in shown)
    return f"({inputs}) [{'; '.join(describe(result.place) for result in signature.results)}]"


def look(image: Image, name: str, debug: DebugInfo, offset: int = 0) -> Signature:
    (function,) = image.search(name)
    return signature_of(image, function, function.address + offset, debug=debug)


# -- Go


def go_program(version: str, flags: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Path:
    names = ["main.go", "generic.go" if version not in ("1.15",) else "plain.go"]
    sources = {name: (PROGRAMS / name).read_text() for name in names}
    return toolchains.go(version).compile(sources, flags=flags, env=env)


IN_REGISTERS = {
    "main.F01": "(a [ax], b [bx cx], c [di si r8], d [r9 r10]) [ax; bx cx]",
    "main.F04": "(a [ax bx cx], f [xmm0], g [xmm1], b [xmm2 di xmm3]) [xmm0 ax xmm1]",
    "main.F05": "(a [ax bx], b [cx di], c [si r8], d [r9 r10], e [[sp+8]], f [[sp+24]], g [[sp+40]], h [r11])"
    " [[sp+56]; ax]",
    "main.F07": "(x [ax], y [bx cx]) [ax]",
    "main.F08": "(xs [ax bx cx]) [xmm0 xmm1]",
    "main.F09": "(c [xmm0 xmm1], b [ax], i8 [bx], r [cx], u [di]) [xmm0 xmm1; ax]",
    "main.(*T).M": "(t [ax], ctx [bx cx], args [di si], reply [r8]) [ax bx]",
    "main.T.V": "(t [ax], d [bx], tt [cx di si], m [r8], c [r9], f [r10]) [ax bx cx]",
    "main.unusedRes": "(a [ax]) [ax; bx; cx di]",
}


@pytest.mark.parametrize("version", GO_VERSIONS[1:])
def test_go_registers(version: str) -> None:
    with Image.open(str(go_program(version))) as image, DebugInfo() as debug:
        for name, expected in IN_REGISTERS.items():
            found = look(image, name, debug)
            assert text(found) == expected, name
            assert (found.words[:2], found.depth, found.reason) == (("ax", "bx"), 0, "")
        # Debug information leaves parameters called `_` out up to Go 1.21: those after them are still right.
        blanks = {parameter.name: describe(parameter.place) for parameter in look(image, "main.F02", debug).parameters}
        assert (blanks["a"], blanks["b"]) == ("bx cx", "di")


def test_go_stack() -> None:
    with Image.open(str(go_program("1.15"))) as image, DebugInfo() as debug:
        found = look(image, "main.F01", debug)
        assert text(found) == "(a [[sp+8]], b [[sp+16]], c [[sp+32]], d [[sp+56]]) [[sp+72]; [sp+80]]"
        assert (found.words, found.stack_words) == ((), 8)
        assert text(look(image, "main.F02", debug)).endswith("[[sp+72]]")
        assert text(look(image, "main.unusedRes", debug)) == "(a [[sp+8]]) [[sp+16]; [sp+24]; [sp+32]]"
        # Debug information leaves out receivers without a name, and parameters called `_`.
        assert text(look(image, "context.(*emptyCtx).Value", debug)) == "(key [[sp+16]]) [[sp+32]]"
        assert text(look(image, "reflect.(*structType).MethodByName", debug)) == "(name [[sp+16]]) [[sp+32]; [sp+112]]"
        assert text(look(image, "main.F02", debug)).startswith("(a [[sp+16]], b [[sp+40]])")


@pytest.mark.parametrize(("version", "first"), [("1.19", "bx"), ("1.21", "ax"), ("1.27", "ax")])
def test_go_generics(version: str, first: str) -> None:
    """The hidden dictionary came before the receiver up to Go 1.19."""
    with Image.open(str(go_program(version))) as image, DebugInfo() as debug:
        pushes = {text(signature_of(image, f, f.address, debug=debug)) for f in image.search("main.(*Stack[*]).Push")}
        shown = {text.partition(",")[0] for text in pushes if "cx" in text}
        assert shown == {f"(s [{first}]"}
        assert any("x [cx di]" in push for push in pushes)
        sums = {text(signature_of(image, f, f.address, debug=debug)) for f in image.search("main.Sum[*")}
        assert sums == {"(xs [bx cx di], y [si]) [ax]", "(xs [bx cx di], y [xmm0]) [xmm0]"}


def test_go_closures() -> None:
    with Image.open(str(go_program("1.27"))) as image, DebugInfo() as debug:
        found = look(image, "main.mk.func1", debug)
        assert sorted(text(found).strip("()").split(", ")[:1]) == ["x [ax]"]
        captured = {one.name: (describe(one.place), one.type.name) for one in found.parameters if one.captured}
        assert captured["n"] == ("*[dx+8]", "int")
        assert set(captured) == {"n", "a", "s"}


def test_go_in_the_middle() -> None:
    with Image.open(str(go_program("1.27"))) as image, DebugInfo() as debug:
        (function,) = image.search("main.(*T).M")
        assert image.go is not None
        go_function = image.go.at(function.address)
        assert go_function is not None
        entry = image.go.sites(go_function, returns=False).entry
        assert entry > function.address
        assert text(signature_of(image, function, entry, debug=debug)) == IN_REGISTERS["main.(*T).M"]
        last = signature_of(image, function, image.go.sites(go_function).returns[-1], debug=debug)
        assert last.depth == 0
        depths = {look(image, "main.(*T).M", debug, offset).depth for offset in range(0, 40)}
        assert 0 in depths and max(depth or 0 for depth in depths) >= 16


# Debug information is wrong in these: it names the register of another parameter that has the same value there, or (Go
# 1.15, Value.Kind) says of the whole where the only part is that the function looks at.
GO_MISTAKES = {"runtime.(*pallocData).findScavengeCandidate", "internal/strconv.fmtEFG", "reflect.Value.Kind"}


def compared(image: Image, debug: DebugInfo) -> tuple[Counter[str], set[str]]:
    """How the places of all parameters of a Go program compare to what its debug information says of them."""
    dwarf = debug.of(image.elf)
    assert isinstance(dwarf, Dwarf)
    assert image.go is not None
    counts: Counter[str] = Counter()
    wrong: set[str] = set()
    cfa = 8 if image.elf.machine == "x86-64" else 0
    for function in image.search("*"):
        if function.language != "go":
            continue
        found = signature_of(image, function, function.address, debug=debug)
        subprogram = dwarf.subprogram(function.address, (function.name,))
        if found.reason or subprogram is None:
            continue
        for result in found.results:
            counts["result" if result.place.pieces[0].kind != ABSENT else "no result"] += 1
        formals = [formal for formal in subprogram.formals if not formal.is_result]
        for parameter, formal in zip(found.parameters, formals):
            claim = claims.place_of(formal.location(function.address), formal.type, cfa)
            if parameter.place.pieces[0].kind == ABSENT:
                counts["absent"] += 1
            elif claim is None or not formal.type.size:
                counts["unclaimed"] += 1
            elif claim.pieces[0].kind == STACK and found.words and parameter.place.pieces[0].kind != STACK:
                counts["not saved yet"] += 1
            elif claims.agree(claim, parameter.place, bool(found.words)):
                counts["agreed"] += 1
            else:
                counts["disagreed"] += 1
                wrong.add(function.name)
    return counts, wrong


@pytest.mark.parametrize(
    ("version", "architecture", "agreed", "unknown"),
    [
        ("1.15", "amd64", 2000, 2),
        ("1.19", "amd64", 2000, 2),
        ("1.21", "amd64", 2000, 2),
        ("1.24", "amd64", 2500, 2),
        ("1.27", "amd64", 2500, 2),
        ("1.15", "arm64", 2000, 2),
        ("1.21", "arm64", 2000, 2),
        ("1.27", "arm64", 2500, 2),
    ],
)
def test_go_places_agree_with_debug_information(version: str, architecture: str, agreed: int, unknown: int) -> None:
    program = go_program(version, env={"GOARCH": architecture})
    with Image.open(str(program)) as image, DebugInfo() as debug:
        counts, wrong = compared(image, debug)
    assert wrong <= GO_MISTAKES
    assert counts["agreed"] > agreed
    assert counts["absent"] <= unknown
    assert counts["no result"] <= 2


def test_parameters_that_go_lists_after_their_turn() -> None:
    """On arm64 with the stack ABI it lists those whose place it tells as if they lay 8 bytes further."""
    found = {}
    for architecture in ("amd64", "arm64"):
        program = targets.go_program("signatures", "1.15", env={"GOARCH": architecture})
        with Image.open(str(program)) as image, DebugInfo() as debug:
            shown = look(image, "main.oddSizes", debug).parameters
        found[architecture] = {parameter.name: describe(parameter.place) for parameter in shown}
    assert [*found["amd64"]] == [*"abcdefghij"]
    assert [*found["arm64"]] == [*"abcdeghfij"]
    assert found["arm64"] == found["amd64"]


def test_only_orders_that_go_would_list_so() -> None:
    byte, word = Type(types.UINT, "uint8", 1, align=1), Type(types.INT, "int", 8, align=8)

    def at(offset: int, type: Type) -> Place:
        return Place((Piece(STACK, type.size, offset=8 + offset),))

    # b, c, a are listed; a lies at 0, so b and c follow it
    assert _before_their_turn([byte, byte, byte], [False, False, True], [None, None, at(0, byte)]) == [[2, 0, 1]]
    # nobody knows where a lies at the first instruction: each order is possible
    unknown = _before_their_turn([byte, byte, byte], [False, False, True], [None, None, None])
    assert sorted(unknown) == [[0, 1, 2], [0, 2, 1], [2, 0, 1]]
    # words are never listed after their turn, nor are those of one kind
    assert _before_their_turn([word, word, word], [True, False, True], [at(0, word), None, at(16, word)]) == [[0, 1, 2]]
    assert _before_their_turn([byte, byte], [True, True], [None, None]) == []
    assert len(_before_their_turn([byte] * 60, [index % 2 == 0 for index in range(60)], [None] * 60)) <= 256  # bounded


def test_without_debug_information() -> None:
    with Image.open(str(go_program("1.27", flags=("-ldflags=-s -w",)))) as image, DebugInfo() as debug:
        found = look(image, "main.F01", debug)
        assert (found.parameters, found.results, found.source) == ((), (), "")
        assert found.reason.startswith("no debug information in")
        assert found.words[:3] == ("ax", "bx", "cx")


# -- C++


@pytest.fixture(scope="module")
def natives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Image]]:
    folder = tmp_path_factory.mktemp("places")
    images = {}
    for compiler, level in COMPILERS:
        program = folder / f"{compiler}{level}"
        source = str(PROGRAMS / "places.cpp")
        subprocess.run([compiler, "-g", "-std=c++17", level, source, "-o", str(program)], check=True)
        images[compiler, level] = Image.open(str(program))
    yield images
    for image in images.values():
        image.close()


UNOPTIMISED = {
    "n01": "(a [di], b [si], c [dx], d [cx], e [r8], f [r9], g [[sp+8]], h [[sp+16]]) [ax]",
    "n02": "(a [xmm0], b [di], c [xmm1], d [[sp+8]], e [si]) [xmm0]",
    "n03": "(a [di], b [si dx], c [[sp+8]], d [cx xmm0]) [ax]",
    "n04": "(a [[sp+8]], b [xmm0 xmm1], c [si]) [*ax]",
    "n05": "(a [di], e [optimised away], d [si dx], u [cx], w [r8 r9], z [[sp+8]]) [ax]",
    "n06": "(a [[sp+8]], b [si dx], c [cx], d [r8]) [*ax]",
    "n07": "(a [*si], b [dx]) [*ax]",
    "n08": "(a [*si], b [dx], c [cx r8], d [r9]) [*ax]",
    "n10": "(a [di], b [si], c [dx], d [cx], e [r8], f [[sp+8]], g [r9]) [ax dx]",
    "n11": "(a [xmm0], b [xmm1 xmm2], c [xmm3]) [xmm0 xmm1]",
    "n12": "(a [di], b [si], f [dx], r [cx], s [r8]) [ax]",
    "n13": "(fmt [di]) [ax]",
    "n14": "(a [*si], n [dx]) [*ax]",
    "n15": "(a [xmm0], b [di xmm1], c [si xmm2], d [dx xmm3], e [cx xmm4], f [r8 xmm5], g [r9 xmm6], h [[sp+8]])"
    " [ax xmm0]",
    "n16": "(unused [di], b [si], un2 [[sp+8]], c [dx]) []",
    "V::m": "(this [di], x [si], y [xmm0], s [*dx]) [ax]",
}


@pytest.mark.parametrize("compiler", ("g++", "clang++"))
def test_unoptimised_cplusplus(compiler: str, natives: dict[tuple[str, str], Image]) -> None:
    with DebugInfo() as debug:
        for name, expected in UNOPTIMISED.items():
            assert text(look(natives[compiler, "-O0"], name, debug)) == expected, name


@pytest.mark.parametrize("compiler", ("g++", "clang++"))
def test_optimised_cplusplus_differs_only_by_what_is_gone(compiler: str, natives: dict[tuple[str, str], Image]) -> None:
    counts: Counter[str] = Counter()
    with DebugInfo() as debug:
        for name in UNOPTIMISED:
            plain = look(natives[compiler, "-O0"], name, debug)
            found = look(natives[compiler, "-O2"], name, debug)
            for before, after in zip(plain.parameters, found.parameters):
                place = describe(after.place)
                same = place.replace("[si]", "*si").replace("[dx]", "*dx") == describe(before.place)
                gone = any(piece.kind == ABSENT for piece in after.place.pieces)
                assert same or gone, (name, before.name, place)
                counts["same" if same else "gone"] += 1
    assert counts["same"] >= 50


REGISTERS = {
    getattr(iced.Register, name.upper() if name.startswith(("r8", "r9", "xmm")) else f"R{name.upper()}"): name
    for name in ("di", "si", "dx", "cx", "r8", "r9", *(f"xmm{number}" for number in range(8)))
}


def first_stores(image: Image, start: int, size: int) -> dict[int, str]:
    """Which incoming register a function with a frame pointer stores where, until its first call or jump."""
    holds: dict[int, str] = dict(REGISTERS)
    stores: dict[int, str] = {}
    info = iced.RegisterExt
    for instruction in iced.Decoder(64, image.elf.read(start, size), ip=start):
        if instruction.flow_control != iced.FlowControl.NEXT:
            break
        if instruction.op_count < 2:
            continue
        target, source = instruction.op0_kind, instruction.op1_kind
        origin = holds.get(info.full_register(instruction.op1_register)) if source == iced.OpKind.REGISTER else None
        if target == iced.OpKind.MEMORY and origin and instruction.memory_base == iced.Register.RBP:
            displacement = instruction.memory_displacement
            stores.setdefault(displacement - (1 << 64) if displacement >> 63 else displacement, origin)
        elif target == iced.OpKind.REGISTER:
            holds.pop(info.full_register(instruction.op0_register), None)
            if origin and instruction.mnemonic == iced.Mnemonic.MOV:
                holds[info.full_register(instruction.op0_register)] = origin
    return stores


@pytest.mark.parametrize("compiler", ("g++", "clang++"))
def test_the_compiler_stores_what_comes_in_there(compiler: str, natives: dict[tuple[str, str], Image]) -> None:
    """Unoptimised functions first save their parameters: from the registers the convention says, to where they live."""
    image = natives[compiler, "-O0"]
    confirmed = 0
    with DebugInfo() as debug:
        dwarf = debug.of(image.elf)
        assert isinstance(dwarf, Dwarf)
        for name in (*UNOPTIMISED, "n09"):
            (function,) = image.search(name)
            stores = first_stores(image, function.address, function.size)
            found = signature_of(image, function, function.address, debug=debug)
            subprogram = dwarf.subprogram(function.address, (function.raw,))
            assert subprogram is not None
            for parameter, formal in zip(found.parameters, subprogram.formals):
                (home,) = formal.location(function.address).pieces[:1]
                frame = home.offset + (16 if home.kind == "cfa" else 0)
                for piece in parameter.place.pieces:
                    if piece.kind in (REGISTER, FLOAT_REGISTER) and frame + piece.at in stores:
                        assert stores[frame + piece.at] == piece.register, (name, parameter.name)
                        confirmed += 1
    assert confirmed >= 50


@pytest.mark.parametrize("compiler", ("g++", "clang++"))
def test_slots_are_told_only_once_they_are_filled(compiler: str, natives: dict[tuple[str, str], Image]) -> None:
    image = natives[compiler, "-O0"]
    (function,) = image.search("n03")
    with DebugInfo() as debug:
        seen: dict[str, list[str]] = {}
        for offset in range(1, function.size):
            if image.boundary(function.address + offset):
                for parameter in signature_of(image, function, function.address + offset, debug=debug).parameters:
                    seen.setdefault(parameter.name, []).append(describe(parameter.place))
    for name in ("a", "b", "d"):
        assert seen[name][0] == "optimised away"
        assert any(place.startswith("[bp-") for place in seen[name])
        assert seen[name][-1] == "optimised away"  # the frame is gone at the RET
    assert "[bp+16]" in seen["c"]


def test_functions_the_compiler_changed(natives: dict[tuple[str, str], Image]) -> None:
    with DebugInfo() as debug:
        (function,) = natives["g++", "-O2"].search("s17*")
        found = signature_of(natives["g++", "-O2"], function, function.address, debug=debug)
        assert ".isra" in function.raw or ".constprop" in function.raw
        assert {one.name: describe(one.place) for one in found.parameters}["unused"] in ("5", "optimised away")
        assert describe(found.results[0].place) == "optimised away"


# -- Rust


def test_unoptimised_rust(tmp_path: Path) -> None:
    rustc = shutil.which("rustc") or str(Path.home() / ".cargo" / "bin" / "rustc")
    program = tmp_path / "places"
    source = str(PROGRAMS / "places.rs")
    subprocess.run([rustc, "-g", "-Awarnings", "--crate-name=places", source, "-o", str(program)], check=True)
    expected = {
        "f02": "(a [di si], b [dx]) [ax dx]",
        "f03": "(a [*si], b [dx xmm0]) [*ax]",
        "f09": "(a [di], b [si dx], c [cx r8], d [r9 [sp+8]], e [[sp+16]]) [ax dx]",
        "f10": "(a [xmm0], b [xmm1], c [di xmm2]) [ax xmm0]",
        "f11": "(a [di si], b [dx cx], c [r8], d [r9]) [ax]",
        "f12": "(_ [optimised away], b [di], c [si dx]) [ax dx]",
        "f14": "(a [si]) [*ax]",
        "f15": "(a [di]) [ax]",
    }
    with Image.open(str(program)) as image, DebugInfo() as debug:
        for name, places in expected.items():
            assert text(look(image, f"places::{name}", debug)) == places, name
