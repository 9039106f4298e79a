# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions pyebpf raises: one tree, each also the built-in a caller would expect.

Every message says what failed and why; ``hint``, when there is one, says what to do about it.
"""

from __future__ import annotations


class Error(Exception):
    """Base of every exception raised by pyebpf.

    Attributes:
        hint: one sentence saying what to do, or None.
    """

    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class TargetError(Error, ValueError):
    """A target is malformed, or the file or process it names can't be traced."""


class BinaryError(TargetError):
    """A file isn't the ELF it claims to be: truncated, inconsistent, or of a kind not supported."""


class BadValue(TargetError, TypeError):
    """A value doesn't fit the C type it is for: the wrong kind, the wrong length, out of range."""


class UnsafeProbe(TargetError):
    """A probe was refused because placing it could harm the traced program."""


class TargetNotFound(Error, LookupError):
    """Nothing matched: no such file, process or function.

    Attributes:
        close_matches: up to three names close to what was asked for.
    """

    def __init__(self, message: str, *, hint: str | None = None, close_matches: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.close_matches = close_matches


class NoSuchName(TargetNotFound, KeyError):
    """An object has no program, map, variable or type of this name."""


class Unsupported(Error, NotImplementedError):
    """This host can't do it.

    Attributes:
        feature: what is missing ("uprobe_multi link", "ring buffer").
        minimum: where it would work ("Linux 5.8"), or None.
    """

    def __init__(self, message: str, *, feature: str, minimum: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.feature = feature
        self.minimum = minimum


class LibbpfMissing(Error, ImportError):
    """libbpf.so.1 can't be opened."""


class LibbpfError(Error, OSError):
    """libbpf or bpf(2) failed; ``errno`` is set."""

    def __init__(self, message: str, *, errno: int | None = None, hint: str | None = None) -> None:
        Error.__init__(self, message, hint=hint)
        self.errno = errno


class PermissionDenied(LibbpfError, PermissionError):
    """The kernel refused for lack of privilege.

    Attributes:
        missing: the capabilities that are missing ("CAP_BPF"), empty when capabilities aren't the cause.
    """

    def __init__(
        self, message: str, *, missing: tuple[str, ...] = (), errno: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, errno=errno, hint=hint)
        self.missing = missing


class LoadError(LibbpfError):
    """An eBPF object was refused.

    Attributes:
        program: the program the verifier refused, or None.
        verifier_log: the verifier's log, or "".
    """

    def __init__(
        self,
        message: str,
        *,
        program: str | None = None,
        verifier_log: str = "",
        errno: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, errno=errno, hint=hint)
        self.program = program
        self.verifier_log = verifier_log


class CompileError(Error, ValueError):
    """clang refused a program.

    Attributes:
        output: what it said.
    """

    def __init__(self, message: str, *, output: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.output = output


class AttachError(LibbpfError):
    """A program could not be attached."""


class StateError(Error, RuntimeError):
    """A call came at the wrong time: a constant set after load, a read after close."""


class ExtraMissing(Error, ImportError):
    """A library that only one part of pyebpf needs isn't installed; ``hint`` says how to install it."""
