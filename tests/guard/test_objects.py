# SPDX-License-Identifier: BSD-2-Clause
"""The eBPF objects: reproducible, free of absolute paths, of both architectures, and loadable without kernel BTF."""

from __future__ import annotations

import gzip
import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import pytest

from pyebpf.core.object import Object, open_bundled
from pyebpf.tools.decoder import TEXT_CUT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pyebpf_build", ROOT / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def objects(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All objects of both architectures, built for these tests."""
    found: list[Path] = builder.compile_objects(tmp_path_factory.mktemp("one"))
    return found


def test_two_builds_are_equal_and_hold_no_path(builder: ModuleType, objects: list[Path], tmp_path: Path) -> None:
    first, second = objects, builder.compile_objects(tmp_path / "two")
    folders: dict[str, list[str]] = {}
    for path in first:
        folders.setdefault(path.name, []).append(path.parent.name)
    assert len(folders) == len(list((ROOT / "bpf").rglob("*.bpf.c"))) > 30
    assert all(where in (["any"], ["x86-64", "arm64"]) for where in folders.values())
    for one, two in zip(first, second):
        data = gzip.decompress(one.read_bytes())
        assert one.read_bytes() == two.read_bytes(), one.name
        assert str(ROOT).encode() not in data and b"pytest" not in data


def sections(data: bytes) -> dict[str, bytes]:
    shoff, shentsize, shnum, shstrndx = (struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HHH", data, 58))
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
    names = data[headers[shstrndx][4] :][: headers[shstrndx][5]]
    return {
        names[h[0] : names.index(b"\0", h[0])].decode(): data[h[4] : h[4] + h[5]] for h in headers if h[1] not in (0, 8)
    }


def test_nothing_that_only_a_compiler_needs(objects: list[Path]) -> None:
    """No source lines, relocations of types or labels; what the kernel takes is as clang made it."""
    for path in objects:
        parts = sections(gzip.decompress(path.read_bytes()))
        lines_size = struct.unpack_from("<I", parts[".BTF.ext"], 20)[0]
        assert not lines_size and not [name for name in parts if name.startswith(".rel.BTF")], path
        assert b"\0LBB" not in parts[".strtab"], path
        strings_size = struct.unpack_from("<I", parts[".BTF"], 20)[0]
        strings = parts[".BTF"][-strings_size:]
        assert b";" not in strings and b"(" not in strings, f"{path}: source text among the names"


@pytest.mark.parametrize("name", ["funccount", "funclatency", "funcslower", "trace", "argdist", "stackcount"])
def test_function_tools_carry_no_core_relocation(objects: list[Path], name: str) -> None:
    """libbpf loads the kernel's BTF as soon as there is one relocation; these must load where there is no BTF."""
    for path in objects:
        if path.name.startswith(name + "."):
            header = struct.unpack_from("<HBBIIIIIII", sections(gzip.decompress(path.read_bytes()))[".BTF.ext"])
            assert header[3] < 32 or header[9] == 0, f"{path} has CO-RE relocations"


def test_uprobe_programs_run_on_the_threads_own_stack(objects: list[Path]) -> None:
    """Each calls `own_stack` (bpf/public/own_stack.bpf.h says why); `funccount` has no variables to lose."""
    tail_call = struct.pack("<BBhi", 0x85, 0, 0, 12)
    found = 0
    for path in objects:
        data = gzip.decompress(path.read_bytes())
        with Object.open(data) as obj:
            programs = [one.section for one in obj.programs.values()]
        for section in ("uprobe", "uprobe.s"):
            code = sections(data).get(section, b"")
            calls = [code[at : at + 8] for at in range(0, len(code), 8)].count(tail_call)
            assert calls == (programs.count(section) if path.name != "funccount.bpf.o.gz" else 0), f"{path}: {section}"
            found += calls
    assert found


def test_registers_are_the_kernels(builder: ModuleType) -> None:
    """struct pt_regs in vmlinux/ against the running kernel's BTF."""
    import os

    from pyebpf.core import kernel

    if os.uname().machine != "x86_64":
        pytest.skip("arch/arm64.h declares the uapi part of a larger kernel structure")
    names = ("r15", "r14", "bp", "bx", "r11", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip", "flags", "sp")
    expected = (0, 8, 32, 40, 48, 72, 80, 88, 96, 104, 112, 120, 128, 144, 152)
    assert tuple(kernel.field_offset(f"pt_regs.{name}") for name in names) == expected


def test_a_number_that_python_repeats() -> None:
    """The decoder knows no object; so it has this one by heart."""
    with open_bundled("trace") as obj:
        assert obj.btf.enumerators("text_length")["TEXT_CUT"] == TEXT_CUT
