# SPDX-License-Identifier: BSD-2-Clause
"""Excerpts of the kernel's types: as good as the whole, kept for the next run, and taken from nobody but root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyebpf.core import libbpf
from pyebpf.core.btf import Btf
from pyebpf.core.excerpt import Excerpt, excerpt_for
from pyebpf.core.object import Object, open_bundled

ITERATOR = "bpf_iter_task_file"


@pytest.fixture
def obj() -> Iterator[Object]:
    with open_bundled("tcplife") as opened:
        yield opened


def excerpt(obj: Object, folder: Path) -> Excerpt:
    return excerpt_for("tcplife", obj._image, obj.btf, [ITERATOR, "no_such_function"], str(folder))


def instructions(obj: Object, name: str) -> list[bytes]:
    """A loaded program's, without the numbers of maps, which differ."""
    library = libbpf.lib()
    pointer = obj.programs[name].pointer
    code = bytes(libbpf.ffi.buffer(library.bpf_program__insns(pointer), 8 * library.bpf_program__insn_cnt(pointer)))
    each = [code[at : at + 8] for at in range(0, len(code), 8)]
    return [one[:4] if one[0] == 0x18 else one for one in each]  # BPF_LD | BPF_IMM | BPF_DW


@pytest.mark.parametrize(
    ("tool", "program"),
    [("tcplife", "on_state"), ("tcpstates", "on_state"), ("exitsnoop", "on_exit"), ("tcplife", "prime_owners_scoped")],
)
def test_programs_are_relocated_as_by_all_types(tool: str, program: str) -> None:
    codes = []
    for types in ("all", "needed"):
        with open_bundled(tool, kernel_types=types) as obj:
            for one in obj.programs.values():
                one.autoload = one.name == program
            obj.load()
            codes.append(instructions(obj, program))
    assert codes[0] == codes[1]


def test_it_is_kept(obj: Object, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    made = excerpt(obj, folder)
    assert 0 < len(made.types) < 200_000 and list(made.functions) == [ITERATOR]
    assert [path.name for path in folder.iterdir()] == ["tcplife.types"]
    written = (folder / "tcplife.types").stat()
    assert excerpt(obj, folder) == made
    assert (folder / "tcplife.types").stat().st_ino == written.st_ino
    Btf(made.types)


def test_nothing_is_kept_where_that_is_not_wanted(
    obj: Object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYEBPF_CACHE", "0")
    folder = tmp_path / "kept"
    assert excerpt(obj, folder).types and not folder.exists()


def test_another_object_has_another(obj: Object, tmp_path: Path) -> None:
    excerpt(obj, tmp_path)
    with open_bundled("exitsnoop") as other:
        found = excerpt_for("tcplife", other._image, other.btf, [], str(tmp_path))
    assert found.functions == {}
    assert excerpt(obj, tmp_path).functions


@pytest.mark.parametrize("at", [3, 60, 70, 200, -1])
def test_what_is_damaged_is_made_again(obj: Object, tmp_path: Path, at: int) -> None:
    made = excerpt(obj, tmp_path)
    path = tmp_path / "tcplife.types"
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    assert excerpt(obj, tmp_path) == made
    path.write_bytes(data[: len(data) // 2])
    assert excerpt(obj, tmp_path) == made


def test_where_others_can_write_nothing_is_kept(obj: Object, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    made = excerpt(obj, tmp_path)
    assert not list(tmp_path.iterdir()) and made.types


@pytest.mark.parametrize("how", ["writable", "owned", "link", "pipe"])
def test_what_others_may_have_written_is_not_read(obj: Object, tmp_path: Path, how: str) -> None:
    made = excerpt(obj, tmp_path)
    path = tmp_path / "tcplife.types"
    if how == "writable":
        path.chmod(0o666)
    elif how == "owned":
        os.chown(path, 65534, 65534)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if how == "link" else os.mkfifo(path)
    before = path.lstat().st_ino
    assert excerpt(obj, tmp_path) == made
    assert path.lstat().st_ino != before and path.is_file() and not path.is_symlink()  # replaced by our own
