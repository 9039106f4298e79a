# SPDX-License-Identifier: BSD-2-Clause
"""Completions: every tool and option of the parsers, and what a real bash makes of them."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import targets

from pyebpf.cli import completion
from pyebpf.cli.main import _GROUPS

TOOLS = [name for _, tools in _GROUPS for name, _, _ in tools]


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {shell: script() for shell, (script, _) in completion.SHELLS.items()}


def test_every_tool_and_option(scripts: dict[str, str]) -> None:
    assert len(TOOLS) == 40
    for name in TOOLS:
        flags = {flag for word in completion.words_of(completion.parser_of(name)) for flag in word.flags}
        assert {"-h", "--help"} <= flags
        in_bash = re.search(rf"^    {name}\)\n        options=\"(.*)\"", scripts["bash"], re.MULTILINE)
        assert in_bash and set(in_bash[1].split()) == flags
        in_zsh = re.search(rf"^    {name}\)\n(.*?) ;;$", scripts["zsh"], re.MULTILINE | re.DOTALL)
        assert in_zsh and all(flag in in_zsh[1] for flag in flags)
        for flag in flags:
            shown = f"-l {flag[2:]} " if flag[:2] == "--" else f"-s {flag[1:]} "
            assert re.search(rf"^__pyebpf {name} .*{shown}", scripts["fish"], re.MULTILINE), (name, flag)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_it(shell: str, scripts: dict[str, str]) -> None:
    if shell != "bash" and not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n"], input=scripts[shell], text=True, check=True)


class Bash:
    """An interactive bash with our completions."""

    def __init__(self, folder: Path, script: str) -> None:
        self.folder = folder
        (folder / "script").write_text(script)
        (folder / "bin").mkdir()
        (folder / "bin" / "pyebpf").write_text(f'#!/bin/sh\nexec {sys.executable} -m pyebpf "$@"\n')
        (folder / "bin" / "pyebpf").chmod(0o755)
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.environ.update(PATH=f"{folder}/bin:{os.environ['PATH']}", PS1="$ ", INPUTRC="/dev/null", TERM="dumb",
                              COLUMNS="500")  # fmt: skip
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self._say("bind 'set enable-bracketed-paste off' 'set completion-query-items 0' 'set page-completions off'; "
                  "source ./script; echo rea''dy\n", rb"\nready")  # fmt: skip

    def _say(self, text: str, until: bytes) -> str:
        os.write(self._terminal, text.encode())
        got, deadline = b"", time.monotonic() + 60
        while not re.search(until, got):
            assert select.select([self._terminal], [], [], deadline - time.monotonic())[0], got
            got += os.read(self._terminal, 65536)
        return got.decode()

    def completed(self, line: str, close: str = "") -> str:
        """What a line becomes by the tab key: it is given to `printf`, word by word."""
        shown = self._say(f"{line}\t{close}\x01printf '<%s>' \x05; echo e''nd\n", rb"\n?<[^\n]*end\r?\n")
        return re.findall(r"<pyebpf>(.*?)end", shown.replace("\r", ""))[-1]

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory, scripts: dict[str, str]) -> Iterator[Bash]:
    folder = tmp_path_factory.mktemp("bash")
    shutil.copy(targets.compiled("calls.c"), folder / "calls")
    (folder / "own.bpf.c").touch()
    shell = Bash(folder, scripts["bash"])
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("pyebpf funcla", "<funclatency>"),
        ("pyebpf tcpsub", "<tcpsubnet>"),
        ("pyebpf funccount --max-p", "<funccount><--max-probes>"),
        ("pyebpf funccount -p 1 --reg", "<funccount><-p><1><--regex>"),
        ("pyebpf build --arch arm", "<build><--arch><arm64>"),
        ("pyebpf build own", "<build><own.bpf.c>"),
        ("pyebpf completion zs", "<completion><zsh>"),
        ("pyebpf funccount ./cal", "<funccount><./calls>"),
        ("pyebpf funccount ./calls:ho", "<funccount><./calls:hot>"),
        ("pyebpf funccount -d 1 ./calls:ho", "<funccount><-d><1><./calls:hot>"),
        ("pyebpf funccount --duration ", "<funccount><--duration>"),
        ("pyebpf nothing --x", "<nothing><--x>"),
    ],
)
def test_tab(bash: Bash, line: str, becomes: str) -> None:
    assert bash.completed(line) == becomes


def test_tab_in_quotes(bash: Bash) -> None:
    assert bash.completed("pyebpf trace './calls:ho") == "<trace><./calls:hot>"


def test_names_that_hold_commands(bash: Bash) -> None:
    """A program chooses its functions' names: completed, none may become a command of the shell's."""
    names = ("bad$(touch owned)", "worse`touch owned`", "mean'x", "long!!")
    lines = [f'void f{at}(void) __asm__("\\"{name}\\""); void f{at}(void) {{}}\n' for at, name in enumerate(names)]
    (bash.folder / "evil.c").write_text("".join([*lines, "int main(void) { return 0; }\n"]))
    subprocess.run(["cc", "-o", bash.folder / "evil", bash.folder / "evil.c"], check=True)
    for quote in "\"'":
        for name in ("ba", "wo", "me", "lo"):
            assert bash.completed(f"pyebpf trace {quote}./evil:{name}", quote) == f"<trace><./evil:{name}>"
    assert bash.completed("pyebpf trace ./evil:ba") == "<trace><./evil:bad$(touch owned)>"
    assert not (bash.folder / "owned").exists()


def test_functions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    program = targets.compiled("calls.c")

    def functions(target: str) -> list[str]:
        assert completion.main(["--functions", target]) == 0
        return capsys.readouterr().out.splitlines()

    assert functions(f"{program}:ho") == [f"{program}:hot"]
    assert functions(f"p:{program}:ho") == [f"p:{program}:hot"]
    assert len(functions(f"{program}:")) > 3
    for nonsense in ("", ":", "::", "none", "/none:x", f"{tmp_path}:x", "a\0b:c", "x" * 100_000, f"{program}:\x1b["):
        assert functions(nonsense) == []


def test_the_command(capsys: pytest.CaptureFixture[str], scripts: dict[str, str]) -> None:
    for shell in completion.SHELLS:
        assert completion.main([shell]) == 0
        assert capsys.readouterr().out == scripts[shell]
    run: Callable[[list[str]], int] = completion.main
    for wrong in ([], ["tcsh"]):
        with pytest.raises(SystemExit, match="2"):
            run(wrong)
