# SPDX-License-Identifier: BSD-2-Clause
"""From addresses to names, in running processes and in the kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toolchains

from pyebpf.binary.image import Image
from pyebpf.errors import TargetNotFound
from pyebpf.target.process import Process
from pyebpf.target.resolve import resolve
from pyebpf.target.stacks import UNKNOWN, Files, Frame, KernelSymbols, UserSymbols

C = r"""
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline)) int first(int x) { return x + 1; }
__attribute__((noinline)) int second(int x) { return x + 2; }
int main(void) {
    printf("%p %p %p\n", (void *)first, (void *)second, (void *)puts);
    fflush(stdout);
    pause();
    return first(1) + second(2);
}
"""

GO = """
package main

import "time"

//go:noinline
func waits() { time.Sleep(time.Hour) }

func main() {
	println("up")
	waits()
}
"""

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin() -> Iterator[Begin]:
    running: list[subprocess.Popen[str]] = []

    def run(path: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen([str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        running.append(child)
        return child

    yield run
    for child in running:
        with child:
            child.kill()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "prog.c").write_text(C)
    subprocess.run(["gcc", "-O1", "-fno-reorder-functions", "-o", "prog", "prog.c"], cwd=tmp_path, check=True)
    return tmp_path / "prog"


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline()


def test_functions_of_a_process(program: Path, begin: Begin) -> None:
    child = begin(program)
    first, second, puts = (int(word, 16) for word in line(child).split())
    frames = UserSymbols(child.pid).resolve([first, second + 1, first + 3, puts + 4])
    assert frames[:3] == [
        Frame(first, "first", 0, str(program)),
        Frame(second + 1, "second", 1, str(program)),
        Frame(first + 3, "first", 3, str(program)),
    ]
    assert "puts" in frames[3].name
    assert frames[3].offset == 4
    assert "libc" in frames[3].module


def test_return_address_behind_the_end_of_a_function(program: Path, begin: Begin) -> None:
    child = begin(program)
    first = int(line(child).split()[0], 16)
    symbols = UserSymbols(child.pid)
    [function] = [probe.function for probe in resolve([f"{program}:first"], returns=False).probes]
    end = first + function.size
    assert symbols.resolve([end], first_is_exact=False) == [Frame(end, "first", function.size, str(program))]
    exact, returning = symbols.resolve([end, end])
    assert exact.name != "first"
    assert returning.name == "first"


def test_images_read_before_are_used(program: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    child = begin(program)
    first = int(line(child).split()[0], 16)
    resolution = resolve([":first"], pids=[child.pid], returns=False)
    monkeypatch.setattr("pyebpf.target.stacks.Image.open", lambda *_, **__: pytest.fail("read again"))
    assert UserSymbols(child.pid, resolution.images).resolve([first])[0].name == "first"


def test_processes_share_files(program: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many processes of one program its file is open once, as long as one of them is looked at."""
    opened: list[Image] = []
    closed: list[Image] = []
    open_image, close = Image.open, Image.close
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(open_image(*a, **k)) or opened[-1])
    monkeypatch.setattr(Image, "close", lambda image: closed.append(image) or close(image))
    files = Files()
    children = [begin(program) for _ in range(3)]
    addresses = [int(line(child).split()[0], 16) for child in children]
    symbols = [UserSymbols(child.pid, shared=files) for child in children]
    for one, first in zip(symbols, addresses):
        assert one.resolve([first])[0].name == "first"
    assert len(opened) == 1
    for one in symbols:
        assert not closed
        one.close()
        one.close()
    assert closed == opened


def test_process_that_ended(program: Path, begin: Begin) -> None:
    child = begin(program)
    first, second, _ = (int(word, 16) for word in line(child).split())
    symbols = UserSymbols(child.pid)
    assert symbols.resolve([first])[0].name == "first"
    child.kill()
    child.wait()
    # `second` for the first time now; what was never mapped can't be found any more.
    assert [symbols.resolve([address])[0].name for address in (second, first, 64)] == ["second", "first", UNKNOWN]
    with pytest.raises(TargetNotFound):
        UserSymbols(child.pid)


def test_file_that_is_gone_with_its_process(program: Path, begin: Begin) -> None:
    child = begin(program)
    first = int(line(child).split()[0], 16)
    symbols = UserSymbols(child.pid)
    child.kill()
    child.wait()
    program.unlink()
    assert symbols.resolve([first]) == [Frame(first, UNKNOWN, 0, str(program))]


def test_what_is_no_file() -> None:
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 4096, flags=private, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        view = ctypes.c_char.from_buffer(code)
        address = ctypes.addressof(view)
        vdso = next(text for text in Path("/proc/self/maps").read_text().splitlines() if text.endswith("[vdso]"))
        start = int(vdso.split("-")[0], 16)
        frames = UserSymbols(os.getpid()).resolve([address + 7, start + 64, 1, 0, 1 << 64])
        del view
    assert [frame.name for frame in frames] == ["[anon]", "[vdso]", UNKNOWN, UNKNOWN, UNKNOWN]
    assert [frame.module for frame in frames] == [""] * 5
    assert frames[0].address == address + 7


def test_library_loaded_later(tmp_path: Path) -> None:
    symbols = UserSymbols(os.getpid())
    assert symbols.resolve([0])[0].name == UNKNOWN
    (tmp_path / "late.c").write_text("int late_function(int x) { return x; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "late.so", "late.c"], cwd=tmp_path, check=True)
    symbols = UserSymbols(os.getpid())
    library = ctypes.CDLL(str(tmp_path / "late.so"))
    address = ctypes.cast(library.late_function, ctypes.c_void_p).value
    assert address is not None
    assert symbols.resolve([address])[0] == Frame(address, "late_function", 0, str(tmp_path / "late.so"))


def test_garbage_is_looked_up_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = UserSymbols(os.getpid())
    reads = []

    def counted(pid: int) -> Process:
        reads.append(pid)
        return Process(pid)

    monkeypatch.setattr("pyebpf.target.stacks.Process", counted)
    monkeypatch.setattr("pyebpf.target.stacks._RETRY_SECONDS", 1e9)
    for base in range(50):
        symbols.resolve([base * 16 + n for n in range(16)])
    assert len(reads) == 1


def test_go(begin: Begin) -> None:
    path = toolchains.go("local").compile({"main.go": GO})
    nm = subprocess.run(["nm", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
    address = next(int(text.split()[0], 16) for text in nm.splitlines() if text.endswith(" main.waits"))
    child = begin(path)
    assert line(child) == "up\n"
    assert UserSymbols(child.pid).resolve([address + 4]) == [Frame(address + 4, "main.waits", 4, str(path))]


# -- kernel

KALLSYMS = b"""ffffffff81000000 T first_alias
ffffffff81000000 T second_alias
ffffffff81000400 d data_symbol
ffffffff81000100 t middle
ffffffff81000200 W weak
ffffffffc0001000 t module_function\t[nf_tables]
ffffffffc0002000 b module_data\t[nf_tables]
0000000000000000 A fixed_percpu_data
garbage
"""


def test_kernel_names(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(KALLSYMS)
    symbols = KernelSymbols(str(path))
    assert symbols.reason is None
    base = 0xFFFFFFFF81000000
    frames = symbols.resolve([base, base + 0x100, base + 0x1FF, base + 0x410, 0xFFFFFFFFC0001004, base - 1, 5, 0])
    assert [(frame.name, frame.offset, frame.module) for frame in frames] == [
        ("first_alias", 0, "[kernel]"),
        ("first_alias", 0x100, "[kernel]"),  # a return address: the call is in the function before
        ("middle", 0xFF, "[kernel]"),
        ("weak", 0x210, "[kernel]"),
        ("module_function", 4, "[nf_tables]"),
        (UNKNOWN, 0, "[kernel]"),
        (UNKNOWN, 0, "[kernel]"),
        (UNKNOWN, 0, "[kernel]"),
    ]
    assert symbols.resolve([base + 0x100], first_is_exact=True)[0].name == "middle"


def test_what_lies_behind_a_module_is_not_its(tmp_path: Path) -> None:
    names, modules = tmp_path / "kallsyms", tmp_path / "modules"
    names.write_bytes(KALLSYMS)
    modules.write_text(
        "other 4096 0 - Live 0xffffffffc0003000\nnf_tables 8192 2 a,b, Live 0xffffffffc0000000 (OE)\nodd\n"
    )
    end = 0xFFFFFFFFC0002000
    frames = KernelSymbols(str(names), str(modules)).resolve([end - 1, end, end + 1])
    assert [(frame.name, frame.module) for frame in frames] == [
        ("module_function", "[nf_tables]"),
        ("module_function", "[nf_tables]"),  # a return address
        (UNKNOWN, "[kernel]"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"0000000000000000 T a\n0000000000000000 t b\n", "kptr_restrict"),
        (b"", "no function"),
        (b"\xff\xfe\n" * 10, "no function"),
    ],
)
def test_no_kernel_names(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(text)
    symbols = KernelSymbols(str(path))
    assert symbols.resolve([0xFFFFFFFF81000000])[0].name == UNKNOWN
    assert symbols.reason is not None
    assert reason in symbols.reason


def test_kernel_names_not_readable(tmp_path: Path) -> None:
    symbols = KernelSymbols(str(tmp_path / "none"))
    assert symbols.reason is not None
    assert "can't be read" in symbols.reason


def test_this_kernel() -> None:
    symbols = KernelSymbols()
    lines = [text.split() for text in Path("/proc/kallsyms").read_text().splitlines()]
    address = next(int(fields[0], 16) for fields in lines if fields[2] == "schedule")
    if address == 0:
        assert symbols.reason is not None
    else:
        assert symbols.resolve([address])[0] == Frame(address, "schedule", 0, "[kernel]")
