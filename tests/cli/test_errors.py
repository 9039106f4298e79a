# SPDX-License-Identifier: BSD-2-Clause
"""Bad input gets one clear sentence, a hint where there is one, and the right exit code."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import targets


def one_line(err: str, *parts: str) -> None:
    assert err.startswith("pyebpf: "), err
    assert "Traceback" not in err
    for part in parts:
        assert part in err, err


def test_usage(pyebpf: Callable[..., Any]) -> None:
    assert pyebpf().code == 2
    assert pyebpf("--help").code == 0 and "funclatency" in pyebpf("-h").out
    assert pyebpf("nosuchtool").code == 2
    assert pyebpf("funccount").code == 2
    assert pyebpf("funccount", "-d", "-1", "x:y").code == 2
    assert pyebpf("funccount", "-p", "1", "-c", "true", "x:y").code == 2
    assert pyebpf("--version").out.startswith("pyebpf 0.")
    for tool in ("funccount", "funclatency", "funcslower", "list", "doctor"):
        assert "usage: pyebpf " + tool in pyebpf(tool, "--help").out


def test_files_that_cannot_be_traced(pyebpf: Callable[..., Any], tmp_path: Path) -> None:
    elf = targets.compiled("calls.c").read_bytes()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "short").write_bytes(elf[:100])
    (tmp_path / "elf32").write_bytes(elf[:4] + b"\x01" + elf[5:])
    (tmp_path / "claims").write_bytes(claims_a_million_sections(elf))
    for name, words in (
        ("missing", "no such file"), ("", "directory"), ("text", "not an ELF"), ("script", "not an ELF"),
        ("short", "truncated"), ("elf32", "32-bit"),
    ):  # fmt: skip
        ran = pyebpf("funccount", f"{tmp_path}/{name}:main")
        one_line(ran.err, words)
        assert ran.code in (2, 3), (name, ran)
    assert pyebpf("funccount", f"{tmp_path}/missing:main").code == 3
    assert "that /bin/sh runs" in pyebpf("funccount", f"{tmp_path}/script:main").err
    one_line(pyebpf("list", f"{tmp_path}/claims:main").err)


def claims_a_million_sections(elf: bytes) -> bytes:
    """1 KB whose header points at a symbol table with a million entries."""
    head = bytearray(elf[:1024])
    struct.pack_into("<Q", head, 40, 512)  # e_shoff
    struct.pack_into("<HHH", head, 58, 64, 3, 1)  # e_shentsize, e_shnum, e_shstrndx
    for index in range(3):  # symbol tables that link to each other
        struct.pack_into("<IIQQQQIIQQ", head, 512 + index * 64, 1, 2, 0, 0, 600, 24_000_000, (index + 1) % 3, 1, 8, 24)
    return bytes(head)


def test_nothing_matches(pyebpf: Callable[..., Any], tmp_path: Path) -> None:
    program = targets.compiled("calls.c")
    ran = pyebpf("funccount", f"{program}:recurze")
    one_line(ran.err, "recurze", "did you mean: ", "recurse")
    assert ran.code == 3
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, targets.compiled("calls.c", "-static")], check=True)
    ran = pyebpf("funccount", f"{stripped}:main")
    one_line(ran.err, ".symtab")
    assert ran.code == 3


def test_too_many_matches(pyebpf: Callable[..., Any]) -> None:
    ran = pyebpf("funccount", "--max-probes", "10", f"{targets.compiled('calls.c')}:*")
    one_line(ran.err, "--max-probes", "at most 10")
    assert ran.code == 2


def test_processes(pyebpf: Callable[..., Any]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    ran = pyebpf("funccount", "-p", str(gone.pid), ":main")
    one_line(ran.err, str(gone.pid))
    assert ran.code == 3
    assert pyebpf("funccount", "-p", "0", ":main").code == 2
    kernel_thread = pyebpf("funccount", "-p", "2", ":main")
    one_line(kernel_thread.err, "kernel thread")


def test_command_that_is_not_there(pyebpf: Callable[..., Any]) -> None:
    ran = pyebpf("funccount", "-c", "/nonexistent --flag", ":main")
    one_line(ran.err, "/nonexistent")
    assert ran.code == 3


def test_offsets_off_an_instruction(pyebpf: Callable[..., Any]) -> None:
    program = targets.compiled("calls.c")
    ran = pyebpf("funccount", f"{program}:recurse+1")
    good = pyebpf("list", f"{program}:recurse+1")
    assert ran.code == good.code
    refused = [ran for n in range(1, 12) if (ran := pyebpf("list", f"{program}:recurse+{n}")).code]
    assert refused, "some offset in the first dozen bytes lies inside an instruction"
    one_line(refused[0].err, "not the first byte of an instruction", "nearest")
    assert refused[0].code == 2
    assert pyebpf("funclatency", f"{program}:recurse+4").code == 2


def without_capabilities(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs pyebpf as nobody, with no capability."""
    return subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "pyebpf", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_missing_capabilities_are_named() -> None:
    ran = without_capabilities("funccount", "-d", "1", "/bin/bash:main")
    one_line(ran.stderr, "CAP_BPF")
    assert ran.returncode == 4
    doctor = without_capabilities("doctor")
    assert doctor.returncode == 5 and "CAP_BPF" in doctor.stdout


@pytest.mark.parametrize("tool", ["tcpaccept", "tcplife", "exitsnoop", "bindsnoop", "mountsnoop", "execsnoop"])
def test_no_kernel_types(tool: str) -> None:
    for path, why in (
        ("/nonexistent", "No such file"), ("/dev", "Is a directory"), ("/etc/passwd", "no BTF"), ("/bin/true", "no BTF")
    ):  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-m", "pyebpf", tool, "-d", "60"],
            capture_output=True, text=True, env={**os.environ, "PYEBPF_BTF": path}, check=False,
        )  # fmt: skip
        one_line(ran.stderr, path, why, "hint: ")
        assert ran.returncode == 5 and not ran.stdout, (path, ran)


def test_no_libbpf() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pyebpf", "funccount", "/bin/bash:main"],
        capture_output=True, text=True, env={**os.environ, "PYEBPF_LIBBPF": "/nonexistent/libbpf.so.1"}, check=False,
    )  # fmt: skip
    one_line(ran.stderr, "/nonexistent/libbpf.so.1", "hint: ")
    assert ran.returncode == 5


def test_control_characters_in_names(pyebpf: Callable[..., Any], tmp_path: Path) -> None:
    """A symbol that would clear the screen."""
    source = tmp_path / "evil.s"
    source.write_text(
        '.text\n.globl main\n.type main,@function\nmain: xor %eax,%eax\nret\n.size main,.-main\n'
        '.globl "a\\033[2Jb"\n.type "a\\033[2Jb",@function\n"a\\033[2Jb": xor %eax,%eax\nret\n'
        '.size "a\\033[2Jb",.-"a\\033[2Jb"\n'
    )
    program = tmp_path / "evil"
    subprocess.run(["gcc", "-o", program, source], check=True)
    blob = program.read_bytes()
    if b"\x1b[2J" not in blob:  # an assembler that keeps the escape as text
        program.write_bytes(blob.replace(b"\\033[2J", b"\x1b[2J\x1b[1"))
    assert b"\x1b[2J" in program.read_bytes()
    every, none = f"{program}:*", f"{program}:nothing\x1b[2J"
    for arguments in (("list", every), ("list", none), ("list", "--json", every)):
        ran = pyebpf(*arguments)
        assert "\x1b" not in ran.out + ran.err
    assert "a\\x1b[2J" in pyebpf("list", f"{program}:a*").out


def test_control_characters_in_arguments(pyebpf: Callable[..., Any]) -> None:
    for arguments in (("tcplife", "a\x1b[2Jb"), ("tcplife", "-p", "\x1b"), ("list", "--\x1b", "x"), ("doctor", "\x1b")):
        ran = pyebpf(*arguments)
        assert ran.code == 2 and "\x1b" not in ran.err and "\\x1b" in ran.err, ran


def test_second_interrupt_aborts(attached: Callable[..., Any]) -> None:
    tool = attached("funccount", f"{targets.compiled('calls.c')}:hot")
    tool.process.send_signal(signal.SIGSTOP)
    tool.process.send_signal(signal.SIGINT)
    tool.process.send_signal(signal.SIGCONT)
    ran = tool.end(signal.SIGINT)
    assert ran.code in (0, 130)


def test_out_of_descriptors() -> None:
    """Says what it could not open, and not that its output could not be written."""
    done = subprocess.run(
        ["prlimit", "--nofile=6", sys.executable, "-m", "pyebpf", "opensnoop", "-d", "0.1"],
        capture_output=True, text=True, timeout=targets.DEADLINE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1 and "Too many open files" in done.stderr, done
    assert "output" not in done.stderr and "Traceback" not in done.stderr, done


@pytest.mark.parametrize("tool", ["funccount", "funclatency", "funcslower"])
def test_target_replaced_while_traced(tool: str, attached: Callable[..., Any], tmp_path: Path) -> None:
    """A new build is moved over the file: the running process goes on being traced."""
    program = tmp_path / "calls"
    program.write_bytes(targets.compiled("calls.c").read_bytes())
    program.chmod(0o755)
    with targets.run(program, "-n", "997", "-w", "hot") as target:
        more = ["-u", "0"] if tool == "funcslower" else []
        started = attached(tool, "--json", "-p", str(target.pid), ":hot", *more)
        replacement = tmp_path / "new"
        replacement.write_bytes(program.read_bytes())
        replacement.replace(program)
        target.begin()
        target.first_line()
        ran = started.end(signal.SIGINT)
    assert ran.code == 0
    assert "997" in ran.out or ran.out.count('"call"') == 997


def test_deleted_binary(pyebpf: Callable[..., Any], attached: Callable[..., Any], tmp_path: Path) -> None:
    program = tmp_path / "calls"
    program.write_bytes(targets.compiled("calls.c").read_bytes())
    program.chmod(0o755)
    with targets.run(program, "-n", "997", "-w", "hot") as target:
        program.unlink()
        started = attached("funccount", "-p", str(target.pid), ":hot")
        target.begin()
        target.first_line()
        assert " 997" in started.end(signal.SIGINT).out
