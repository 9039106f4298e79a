# SPDX-License-Identifier: BSD-2-Clause
"""What fuzzing found stays fixed, and a short run of it finds nothing new. `make fuzz` runs longer."""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import golang, made
from fuzz import reader as readers
from fuzz.files import _symbol

from pyebpf.binary.elf import Elf
from pyebpf.binary.image import Image
from pyebpf.export import config as agent
from pyebpf.export.config import ConfigError
from pyebpf.target.resolve import resolve

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
_SECONDS = 10  # of fuzzing, for each reader


def inputs_of(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


@pytest.mark.parametrize("name", readers.names())
def test_corpus(name: str) -> None:
    """Every input that reached something, or with which a fault was found: taken as documented."""
    one = readers.load(name)
    inputs = inputs_of(name)
    assert inputs, "a reader without a corpus"
    wrong = {path.name: readers.attempt(one, path.read_bytes(), patience=60.0) for path in inputs}
    assert {file: what for file, what in wrong.items() if what} == {}


def test_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 1 << 20
    assert {path.name for path in CORPUS.iterdir()} == set(readers.names())


def test_every_fault_has_its_input() -> None:
    for row in json.loads((HERE / "found.json").read_text()):
        assert row["reader"] in readers.names() and row["what"] and row["fix"]
        assert not row["input"] or (CORPUS / row["reader"] / row["input"]).is_file()


def test_pieces() -> None:
    """What is packed is unpacked, and whatever bytes there are, they are pieces."""
    pieces = [b"", b"ab", bytes(300), b"end"]
    assert readers.unpacked(readers.packed(*pieces), 4) == pieces
    assert readers.unpacked(b"\xff", 3) == [b"", b"", b""]
    mutator = readers.Mutator(readers.load("dns"), [b"\0" * 20])
    assert len({mutator(b"\0" * 20, 64, seed) for seed in range(50)}) > 10


@pytest.mark.parametrize("bound", ["raises", "memory", "slow"])
def test_what_is_wrong_is_told(bound: str) -> None:
    """A harness that lets everything pass would find nothing."""

    def fuzz(data: bytes) -> None:
        if data == b"raises":
            raise KeyError("undocumented")
        if data == b"memory":
            with mmap.mmap(-1, 64 << 20) as fresh:  # bytes might lie in what others have freed, which is resident
                for at in range(0, len(fresh), mmap.PAGESIZE):
                    fresh[at] = 1
        while data == b"slow":
            pass

    seconds = 0.2 if bound == "slow" else 60.0
    one = readers.Reader("made", fuzz, (), lambda: (), seconds=seconds, megabytes=32)
    assert readers.judge(one, b"fine") is None
    assert (readers.judge(one, bound.encode()) or "").startswith({"raises": "KeyError"}.get(bound, bound))


def _amplified(step: int) -> bytes:
    """A symbol table of 200 kB, each of whose names is most of a string of 60,000 characters."""
    count = 8_000
    rows = b"".join(_symbol(1 + step * number % 50_000, made.BASE + number % 4096) for number in range(count))
    code, names = (".text", 1, 6, b"\xc3" * 8192), (".strtab", 3, 0, b"\0" + b"a" * 60_000 + b"\0")
    return made.elf([code, (".symtab", 2, 0, rows), names], links={".symtab": (3, 24)})


@pytest.mark.parametrize("step", [0, 1], ids=["one name", "ends of one name"])
def test_names_are_no_larger_than_the_file(step: int) -> None:
    image = _amplified(step)

    def ask(data: bytes) -> None:
        with Image(Elf(image, "made"), "/nonexistent") as whole:
            found = whole.search("*")
            assert len({function.raw for function in found}) <= 1100
            whole.function_at(made.BASE + 200)

    one = readers.Reader("made", ask, (), lambda: (), seconds=600, megabytes=64)
    assert readers.judge(one, b"") is None


def test_functions_of_one_name() -> None:
    """60,000 of Go's functions, each with the same name of 50,000 characters."""
    table = golang.many_of_one_name(60_000, 50_000)
    data = readers.packed(b"\0\0\0", b"", bytes(8 * 48), b"\xcc" * 1000, b"")

    def ask(_: bytes) -> None:
        program = golang.program_of(data, table)
        assert len(program.functions()) == 60_000

    one = readers.Reader("made", ask, (), lambda: (), seconds=600, megabytes=128)
    assert readers.judge(one, b"") is None


def test_functions_in_the_same_place(tmp_path: Path) -> None:
    """Symbols of 1 MB, each of which would be decoded."""
    size = 1 << 20
    rows = b"".join(_symbol(1 + 2 * number, made.BASE + 0x80 + number, size - number) for number in range(20))
    names = b"\0" + b"".join(bytes((letter, 0)) for letter in range(ord("a"), ord("a") + 20))
    code = (".text", 1, 6, b"\x90" * (size - 1) + b"\xc3")
    cie = struct.pack("<II", 20, 0) + b"\1zR\0\1\x78\x10\1\x1b\x0c\7\x08\x90\1\0\0"
    fde = struct.pack("<IIiI", 16, len(cie) + 4, 0, size) + bytes(4)
    tables = [(".symtab", 2, 0, rows), (".strtab", 3, 0, names)]
    image = made.elf([code, *tables, (".eh_frame", 1, 2, cie + fde)], links={".symtab": (3, 24)})
    distance = made.address_of(image, ".text") - (made.address_of(image, ".eh_frame") + len(cie) + 8)
    fde = struct.pack("<IIiI", 16, len(cie) + 4, distance, size) + bytes(4)
    path = tmp_path / "made"
    path.write_bytes(made.elf([code, *tables, (".eh_frame", 1, 2, cie + fde)], links={".symtab": (3, 24)}))
    found = resolve([f"{path}:*"], returns=True)
    reasons = [skip.reason for skip in found.skipped]
    assert len(found.probes) + len(reasons) == 20
    assert sum("in the same place" in reason for reason in reasons) == 16, reasons


def test_a_key_of_too_many_words() -> None:
    quoted = "[" + ".".join(["'a'"] * 1000) + "]"
    for text in (".".join(["a"] * 100_000) + " = 1", quoted, "\nx = {" + "a. " * 999 + "a = 1}"):
        with pytest.raises(ConfigError, match="words with dots between them"):
            agent.parse(text)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HERE / "run.py"), *arguments], capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYEBPF_FUZZ_SEED": "1"},  # what is new is for `make fuzz` to find
    )  # fmt: skip


def test_short_run() -> None:
    """Coverage-guided, a few seconds for each; `make fuzz` takes a minute each."""
    chosen = readers.names()
    done = _run("--seconds", str(_SECONDS), "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.split()[0] in chosen}
    assert set(rows) == set(chosen)
    assert all(int(row[1].replace(",", "")) > 0 for row in rows.values()), done.stdout
    engine = "atheris" if importlib.util.find_spec("atheris") else "sys.settrace"
    assert engine in done.stdout
