# SPDX-License-Identifier: BSD-2-Clause
"""A command to trace from its first instruction: it is started, but waits at a gate until the probes are in place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import StateError, TargetError, TargetNotFound
from .libraries import find_program

if TYPE_CHECKING:
    from types import TracebackType

_GRACE = 2.0  # seconds a command has to end after SIGTERM


class Command:
    """A child process that runs `argv` once it is released.

    The child stays in our process group (Ctrl-C reaches it), keeps our standard streams, directory and environment, and
    gets signal handling as a shell would give it. It ends by itself if we die before it is released. Until then it is a
    copy of this process: its /proc entry says nothing about the program; `executable` does.

    A context manager: leaving it ends the command (see `close`).

    Attributes:
        argv: the program's arguments, its name first.
        executable: the path of the file that will be executed, found through $PATH.
        pid: its process ID.
        returncode: its exit status, or minus the number of the signal that killed it; None while it runs. 0 if
            somebody else collected its status (SIGCHLD ignored).
    """

    __slots__ = ("_errors", "_gate", "_gate_read", "_pidfd", "_stdout", "argv", "executable", "pid", "returncode")

    def __init__(self, argv: str | Sequence[str], stdout: int | None = None) -> None:
        """Start `argv`: a text is taken apart as a shell would, without expanding anything.

        Args:
            stdout: a file descriptor for its standard output; None: ours.

        Raises:
            TargetNotFound: there is no such program.
            TargetError: the command is empty, malformed, or can't be executed.
        """
        self._gate = self._gate_read = self._errors = self._pidfd = -1
        self.pid = 0
        self.returncode: int | None = None
        self._stdout = stdout
        self.argv = _arguments(argv)
        self.executable = _program(self.argv[0])
        self._fork()

    def _fork(self) -> None:
        import signal

        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
            gate_read, gate_write, errors_read, errors_write = fds
            # Blocked until the child has let go of this process's handlers: one must never run there.
            mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            try:
                self.pid = os.fork()
                if self.pid == 0:
                    self._child(gate_read, gate_write, errors_write)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            for fd in fds:
                os.close(fd)
            if self.pid:
                self.wait()  # it ends as its gate is closed
            raise TargetError(f"can't start {self.argv[0]}: {error.strerror}") from None
        os.close(errors_write)
        self._gate, self._errors = gate_write, errors_read
        # Kept so that writing can't fail, nor raise SIGPIPE, if the child is killed at the gate.
        self._gate_read = gate_read

    def _child(self, gate: int, gate_write: int, errors: int) -> None:
        """What the child does; never returns, whatever happens."""
        try:
            import signal

            os.close(gate_write)
            for number in signal.valid_signals():
                # What was ignored when Python started (nohup) stays so; Python itself ignores these two.
                ours = number in (signal.SIGPIPE, signal.SIGXFSZ)
                if ours or signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if self._stdout is not None:
                os.dup2(self._stdout, 1)
            if os.read(gate, 1):
                os.execv(self.executable, self.argv)
        except OSError as error:
            os.write(errors, str(error.errno).encode())
        finally:
            os._exit(127)

    def release(self) -> None:
        """Let it run: returns once the program has been executed.

        Raises:
            TargetError: it can't be executed; the command is over then.
            StateError: it was released or closed before.
        """
        if self._gate < 0:
            raise StateError("the command was released or closed before")
        os.write(self._gate, b"\n")
        self._close_gate()
        # End of file: exec closed the child's end.
        failure = os.read(self._errors, 16)
        self._close_errors()
        if failure:
            self.wait()
            number = int(failure)
            hint = "a script needs a first line like #!/bin/sh" if number == 8 else None  # ENOEXEC
            raise TargetError(f"can't execute {self.executable}: {os.strerror(number)}", hint=hint)

    def poll(self) -> int | None:
        """`returncode`, without waiting."""
        return self._collect(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """`returncode`, once it has ended or `timeout` seconds have passed. One not yet released waits for ever."""
        if timeout is None:
            return self._collect(0)
        if self.returncode is None:
            import select

            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            ended.poll(max(0.0, timeout) * 1000)
        return self._collect(os.WNOHANG)

    def fileno(self) -> int:
        """A descriptor that becomes readable when the command has ended (a pidfd, valid until `close`)."""
        return self._pidfd

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), if it hasn't; it also ends if it was never released."""
        import signal

        self._signal(signal.SIGTERM)

    def close(self) -> None:
        """End it: SIGTERM, two seconds later SIGKILL. Collects its status and closes every descriptor."""
        import signal

        if self._pidfd < 0:
            return
        self._close_gate()
        self._signal(signal.SIGTERM)
        if self.wait(_GRACE) is None:
            self._signal(signal.SIGKILL)
            self.wait()
        self._close_errors()
        os.close(self._pidfd)
        self._pidfd = -1

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Only the descriptors: a destructor that waits would hang the interpreter's exit.
        self._close_gate()
        self._close_errors()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __repr__(self) -> str:
        return f"<Command {self.argv} {self.returncode}>"

    def _collect(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:
                self.returncode = 0
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _signal(self, number: int) -> None:
        # Until its status is collected no other process can have its ID.
        if self.poll() is None:
            os.kill(self.pid, number)

    def _close_gate(self) -> None:
        if self._gate >= 0:
            os.close(self._gate)
            os.close(self._gate_read)
            self._gate = self._gate_read = -1

    def _close_errors(self) -> None:
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1


def _arguments(argv: str | Sequence[str]) -> list[str]:
    if isinstance(argv, str):
        import shlex

        try:
            arguments = shlex.split(argv)
        except ValueError as error:
            raise TargetError(f"the command {argv!r} can't be taken apart: {error}") from None
    else:
        arguments = [os.fsdecode(argument) for argument in argv]
    if not arguments or not arguments[0]:
        raise TargetError("the command is empty")
    if any("\0" in argument for argument in arguments):
        raise TargetError("the command has a NUL character in it")
    return arguments


def _program(name: str) -> str:
    path = find_program(name)
    if path is not None:
        return path
    if "/" not in name:
        raise TargetNotFound(f"{name}: no such program in $PATH")
    if os.path.exists(name):
        raise TargetError(f"{name}: not an executable file")
    raise TargetNotFound(f"{name}: no such file")
