# SPDX-License-Identifier: BSD-2-Clause
"""Compiling an embedder's program: what comes out, what is said about it, and what is said when it can't be done."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyebpf import build
from pyebpf.cli.main import main
from pyebpf.errors import CompileError, LoadError, TargetError, TargetNotFound, Unsupported

OWN = Path(__file__).resolve().parents[2] / "examples" / "own-program" / "own.bpf.c"
LICENSE = 'char LICENSE[] SEC("license") = "Dual BSD/GPL";\n'
PROGRAM = '#include <pyebpf.bpf.h>\n' + LICENSE + 'SEC("uprobe") int on_entry(void *ctx) { return 0; }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copy(OWN, tmp_path))


def written(folder: Path, text: str) -> Path:
    path = folder / "one.bpf.c"
    path.write_text(text)
    return path


def test_what_an_object_holds(source: Path) -> None:
    built = build.compile(source)
    assert built.path == str(source.with_suffix(".o")) and built.arch == build.host()
    assert Path(built.path).stat().st_size == built.size
    assert built.programs == {"on_line": "uretprobe", "on_start": "uprobe"}
    assert built.maps == (build.Map("events", "ringbuf", "", "", 1 << 20),
                          build.Map("counts", "hash", "struct who", "__u64", 10240))  # fmt: skip
    assert built.variables == {".rodata": ("only_uid",), ".bss": ("events_dropped",)}
    assert built.records == {"event": ("time", "pid", "kind", "who", "text")}
    assert (built.warnings, built.notes) == ("", ())


def test_for_each_machine_and_the_same_each_time(source: Path, tmp_path: Path) -> None:
    images = {}
    for arch in build.ARCHITECTURES:
        other = tmp_path / "elsewhere"
        other.mkdir(exist_ok=True)
        first = Path(build.compile(source, tmp_path / "a.o", arch=arch).path).read_bytes()
        second = Path(build.compile(shutil.copy(source, other), arch=arch).path).read_bytes()
        assert first == second
        assert str(tmp_path).encode() not in first and b"/pyebpf" not in first
        images[arch] = first
    assert images["x86-64"] != images["arm64"]  # it reads registers


def test_slim(source: Path, tmp_path: Path) -> None:
    whole, slim = build.compile(source), build.compile(source, tmp_path / "slim.o", slim=True)
    assert slim.size < 0.7 * whole.size
    assert slim._replace(path="", size=0) == whole._replace(path="", size=0)
    assert b"event->pid =" in Path(whole.path).read_bytes()
    assert b"event->pid =" not in Path(slim.path).read_bytes()


def test_records_of_several_rings(tmp_path: Path) -> None:
    text = PROGRAM + "struct a { int x; }; struct b { int y; }; struct c { int z; };\n" + (
        "PYEBPF_RING(one, struct a, 4096); PYEBPF_RING(two, struct b, 4096);\n"
        "PYEBPF_RECORD(struct c); PYEBPF_RECORD(struct a);\n")  # fmt: skip
    built = build.compile(written(tmp_path, text))
    assert set(built.records) == {"a", "b", "c"} and [one.kind for one in built.maps] == ["ringbuf"] * 2


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('#include <pyebpf.bpf.h>\nSEC("uprobe") int on_entry(void *ctx) { return 0; }\n', "no licence"),
        ("#include <pyebpf.bpf.h>\n" + LICENSE + "int x;\n", "no program"),
        (PROGRAM + "int forgotten(void *ctx) { return 1; }\n", "forgotten() is never called"),
        (PROGRAM + "struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring "
         'SEC(".maps");\n', "ring: no type to decode its records by"),
    ],
)  # fmt: skip
def test_likely_mistakes(text: str, note: str, tmp_path: Path) -> None:
    (found,) = build.compile(written(tmp_path, text)).notes
    assert note in found


def test_a_function_that_is_called_is_no_mistake(tmp_path: Path) -> None:
    text = PROGRAM + ("__attribute__((noinline)) int called(int x) { return x * 3; }\n"
                      'SEC("uprobe") int more(void *ctx) { return called((int)bpf_ktime_get_ns()); }\n')  # fmt: skip
    assert build.compile(written(tmp_path, text)).notes == ()


def test_macros_folders_and_warnings(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "more.h").write_text("struct extra { int x; };\n")
    text = PROGRAM + '#include "more.h"\n#ifdef WANTED\nPYEBPF_RECORD(struct extra);\n#endif\nstatic int unused;\n'
    built = build.compile(written(tmp_path, text), include=[tmp_path / "more"], define=["WANTED=1"])
    assert built.records == {"extra": ("x",)} and "one.bpf.c" in built.warnings and "unused" in built.warnings


def test_ones_own_vmlinux_comes_first(tmp_path: Path) -> None:
    (tmp_path / "vmlinux.h").write_text('#error "mine"\n')
    with pytest.raises(CompileError) as error:
        build.compile(written(tmp_path, PROGRAM), include=[tmp_path])
    assert "mine" in error.value.output


def test_what_clang_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, PROGRAM + "int broken(void) { return \033[31m; }\n")
    with pytest.raises(CompileError, match="can't compile") as error:
        build.compile(path)
    assert "one.bpf.c:4:" in error.value.output and not path.with_suffix(".o").exists()
    assert main(["build", str(path)]) == 1
    said = capsys.readouterr().err
    assert "one.bpf.c:4:" in said and "\033" not in said


def test_headers_that_are_missing(tmp_path: Path) -> None:
    for name, hint in (("bpf/nothing.h", "apt install clang llvm libbpf-dev"), ("linux/sched/none.h", "vmlinux.h")):
        with pytest.raises(CompileError) as error:
            build.compile(written(tmp_path, f"{PROGRAM}#include <{name}>\n"))
        assert error.value.hint is not None and hint in error.value.hint


def test_tools_that_are_missing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clang = shutil.which("clang") or shutil.which("clang-14")
    assert clang
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Unsupported, match="clang isn't installed") as error:
        build.compile(source)
    assert error.value.hint is not None and "apt install clang llvm libbpf-dev" in error.value.hint
    (tmp_path / "bin" / "clang-31").symlink_to(os.path.realpath(clang))  # as a distribution names it
    built = build.compile(source)  # without llvm-strip
    assert built.records and any("llvm-strip" in note for note in built.notes)
    with pytest.raises(Unsupported, match="llvm-strip"):
        build.compile(source, slim=True)
    monkeypatch.setenv("PYEBPF_CLANG", "no-such-clang")
    with pytest.raises(Unsupported, match="PYEBPF_CLANG=no-such-clang"):
        build.compile(source)


def test_what_can_not_be_done(source: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetNotFound):
        build.compile(tmp_path / "none.bpf.c")
    with pytest.raises(TargetNotFound):
        build.compile(tmp_path)
    with pytest.raises(TargetError, match="is the source itself"):
        build.compile(source, source)
    with pytest.raises(TargetError, match="can't write"):
        build.compile(source, tmp_path / "none" / "own.bpf.o")
    with pytest.raises(Unsupported, match="riscv64"):
        build.compile(source, arch="riscv64")
    assert not list(tmp_path.glob("**/*.part"))


@pytest.mark.parametrize("cut", [0, 10, 64, 500, 2000, 5000])
def test_what_is_no_object(source: Path, cut: int) -> None:
    image = Path(build.compile(source).path).read_bytes()
    for broken in (image[:cut], image[:cut] + b"\xff" * 64 + image[cut + 64 :]):
        try:
            build.examine(broken)
        except LoadError:
            pass


def test_the_command(source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    assert main(["build", "own.bpf.c"]) == 0
    out, error = capsys.readouterr()
    assert out.startswith("own.bpf.o: ") and error == ""
    program = out[out.index("with pyebpf") :]
    compile(program, "shown", "exec")  # what it proposes is Python
    assert 'obj.ring("events")' in program and 'obj.programs["on_start"].attach_uprobe(' in program
    assert main(["build", "--arch", "all", "--json", "own.bpf.c"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == ["own.x86-64.bpf.o", "own.arm64.bpf.o"]
    assert lines[0]["maps"][0]["kind"] == "ringbuf" and lines[0]["programs"] == {"on_line": "uretprobe",
                                                                                "on_start": "uprobe"}  # fmt: skip
    assert main(["build", "none.bpf.c"]) == 3
    assert "none.bpf.c: no such file" in capsys.readouterr().err
    for wrong in ([], ["--arch", "all", "-o", "x.o", "own.bpf.c"], ["--arch", "vax", "own.bpf.c"]):
        with pytest.raises(SystemExit, match="2"):
            main(["build", *wrong])
        assert capsys.readouterr().err.startswith("usage: pyebpf build")


def test_flags_for_another_build_system(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pyebpf", "build", "--cflags"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    clang = build.find_tool("PYEBPF_CLANG", "clang")
    target = tmp_path / "other.o"
    subprocess.run(f"{clang} {done.stdout.strip()} -c {source} -o {target}", shell=True, check=True)
    assert build.examine(target.read_bytes()).records == {"event": ("time", "pid", "kind", "who", "text")}


def test_map_kinds_are_the_headers() -> None:
    """The names that are shown, against vmlinux/bpf_enums.h."""
    text = (OWN.parents[2] / "vmlinux" / "bpf_enums.h").read_text()
    names = re.findall(r"BPF_MAP_TYPE_(\w+)", text[: text.index("};")])
    assert [name.lower() for name in names] == list(build._MAP_KINDS)
