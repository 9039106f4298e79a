# SPDX-License-Identifier: BSD-2-Clause
"""A command behind its gate: real children, no leaks."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from pyebpf.errors import StateError, TargetError, TargetNotFound
from pyebpf.target.command import Command


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_left() -> object:
    before = len(descriptors())
    yield
    assert len(descriptors()) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def script(tmp_path: Path, text: str, mode: int = 0o755) -> str:
    path = tmp_path / "script"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_waits_for_its_release(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    with Command(["touch", str(witness)]) as command:
        assert command.pid > 0
        assert command.poll() is None
        assert command.wait(0.05) is None
        assert not witness.exists()
        command.release()
        assert command.wait() == 0
    assert witness.exists()
    assert command.returncode == 0


def test_runs_what_executable_names() -> None:
    with Command("sleep 100") as command:
        assert command.executable.endswith("/sleep")
        command.release()
        assert os.path.samefile(f"/proc/{command.pid}/exe", command.executable)
        assert os.getpgid(command.pid) == os.getpgid(0)
        command.terminate()
        assert command.wait() == -signal.SIGTERM


def test_text_is_taken_apart_like_a_shell_does(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Command(f"""sh -c 'printf "%s|" "$@" > {out}' sh 'a b' "c" $HOME""") as command:
        command.release()
        assert command.wait() == 0
    assert out.read_text() == "a b|c|$HOME|"


def test_exit_status(tmp_path: Path) -> None:
    with Command(script(tmp_path, "#!/bin/sh\nexit 7\n")) as command:
        command.release()
        assert command.wait(30) == 7
        assert command.wait() == command.poll() == 7


def test_descriptor_becomes_readable_at_the_end() -> None:
    import select

    with Command("true") as command:
        assert select.select([command], [], [], 0)[0] == []
        command.release()
        assert select.select([command], [], [], 30)[0] == [command]
        assert command.poll() == 0


def test_closed_before_release(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    command = Command(["touch", str(witness)])
    command.close()
    command.close()
    assert command.returncode is not None
    assert not witness.exists()
    with pytest.raises(StateError):
        command.release()


def test_close_ends_one_that_ignores_sigterm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pyebpf.target.command

    monkeypatch.setattr(pyebpf.target.command, "_GRACE", 0.1)
    ready = tmp_path / "ready"
    command = Command(["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.01; done"])
    command.release()
    while not ready.exists():
        assert command.poll() is None
    command.close()
    assert command.returncode == -signal.SIGKILL


def test_killed_at_the_gate() -> None:
    with Command("true") as command:
        os.kill(command.pid, signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
        command.release()
        assert command.returncode == -signal.SIGKILL


def test_ends_when_its_parent_dies(tmp_path: Path) -> None:
    # The grandchild must go when the child that started it is killed, without having run.
    witness = tmp_path / "ran"
    code = (
        "import os, sys; from pyebpf.target.command import Command\n"
        f"c = Command(['touch', {str(witness)!r}]); print(c.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)]
    )
    os.close(write)
    os.waitpid(pid, 0)
    # End of file only once the grandchild, who inherited the pipe, is gone too.
    text = b"".join(iter(lambda: os.read(read, 100), b""))
    os.close(read)
    assert int(text) > 0
    assert not witness.exists()


def test_signals_as_a_shell_gives_them(tmp_path: Path) -> None:
    out = tmp_path / "status"
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        with Command(["sh", "-c", f"exec cat /proc/self/status > {out}"]) as command:
            command.release()
            assert command.wait() == 0
        assert signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, handler)
    status = dict(line.split(":", 1) for line in out.read_text().splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigCgt"], 16) == 0
    assert not int(status["SigIgn"], 16) & (1 << signal.SIGPIPE - 1)


def test_no_descriptor_of_ours_reaches_it() -> None:
    with Command("true") as other, Command("sleep 100") as command, open(os.devnull) as file:
        command.release()
        reached = {int(name) for name in os.listdir(f"/proc/{command.pid}/fd")}
        assert all(os.get_inheritable(fd) for fd in reached)
        assert not reached & {file.fileno(), command.fileno(), other.fileno()}


@pytest.mark.parametrize("spare", range(5))
def test_out_of_descriptors(spare: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, descriptors())) + 8, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(spare):
            os.close(taken.pop())
        with pytest.raises(TargetError, match="Too many open files"):
            Command("/bin/true")
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("argv", ["no-such-program-anywhere x", ["/no/such/file"], "./nothing"])
def test_no_such_program(argv: object) -> None:
    with pytest.raises(TargetNotFound, match="no such"):
        Command(argv)  # type: ignore[arg-type]


@pytest.mark.parametrize("argv", ["", "  ", [], [""], "a 'b", "true \0", ["true", "\0"]])
def test_bad_command(argv: object) -> None:
    with pytest.raises(TargetError):
        Command(argv)  # type: ignore[arg-type]


def test_not_executable(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="not an executable file"):
        Command([script(tmp_path, "x", 0o644)])
    with pytest.raises(TargetError, match="not an executable file"):
        Command([str(tmp_path)])


def test_exec_fails(tmp_path: Path) -> None:
    with Command([script(tmp_path, "no first line\n")]) as command:
        with pytest.raises(TargetError, match="Exec format error") as caught:
            command.release()
        assert caught.value.hint is not None
        assert "#!/bin/sh" in caught.value.hint
        assert command.returncode == 127
