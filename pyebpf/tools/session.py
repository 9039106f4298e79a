# SPDX-License-Identifier: BSD-2-Clause
"""What every tool hands out: a session that is attached from its making to its closing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pyebpf.errors import TargetError
from pyebpf.target.command import Command
from pyebpf.target.probe import Probe, Resolution
from pyebpf.target.resolve import resolve
from pyebpf.tools import processes
from pyebpf.tools.intervals import Intervals
from pyebpf.tools.lifetime import Lifetime, while_open
from pyebpf.tools.probes import Losses, Probes

if TYPE_CHECKING:
    from pyebpf.tools.frames import Frames

_Report = TypeVar("_Report")


class TracedFunction(NamedTuple):
    """A function that is traced.

    Attributes:
        name: demangled, as the language writes it.
        path: the file it is in.
        address: virtual address in that file.
        size: in bytes.
        language: "c", "c++", "rust" or "go".
        aliases: other names of the same code.
        label: the name, with the file where another traced function has the same name.
    """

    name: str
    path: str
    address: int
    size: int
    language: str
    aliases: tuple[str, ...]
    label: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**self._asdict(), "aliases": list(self.aliases)}


def traced_functions(probes: Sequence[Probe]) -> tuple[TracedFunction, ...]:
    """The functions of a resolution, in the order of its probes."""
    files: dict[str, set[str]] = {}
    for probe in probes:
        files.setdefault(probe.function.name, set()).add(probe.shown)
    result = []
    for probe in probes:
        function = probe.function
        label = function.name if len(files[function.name]) == 1 else f"{function.name} ({probe.shown})"
        result.append(
            TracedFunction(
                function.name, probe.shown, function.address, function.size, function.language, function.aliases, label
            )
        )
    return tuple(result)


class Session(Lifetime):
    """Attached probes and what they have seen. Use as a context manager, or call `close`.

    Attributes:
        functions: what is traced; a record's function is one of these.
        targets, skipped, started: see `pyebpf.tools.lifetime.Lifetime`.
    """

    def __init__(self, resolution: Resolution, probes: Probes, notes: tuple[str, ...] = ()) -> None:
        super().__init__(resolution.targets, probes.skipped)
        self._probes = probes
        self._own_notes = notes
        self._by_index = traced_functions(resolution.probes)
        self.functions = tuple(f for index, f in enumerate(self._by_index) if index not in probes.refused)
        self._notes: tuple[str, ...] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers should know: choices made, inlined calls that aren't seen, and processes that
        are not seen any more as their first thread has ended, or another one executed a program.

        Looking for inlined calls takes from 20 ms to half a second in a large Go program, once.

        Raises:
            StateError: the session was closed before they were first looked for.
        """
        if self._notes is None:
            self._notes = self._find_notes()
        if not self._closed:
            self._note_unseen()
        return self._notes

    @while_open
    def _find_notes(self) -> tuple[str, ...]:
        resolution = self._probes.resolution
        return self._own_notes + resolution.notes + resolution.unseen()

    @while_open
    def _note_unseen(self) -> None:
        for pid in self._probes.unseen():
            note = (
                f"process {pid} is not seen any more: its first thread has ended, or another one executed a program, "
                "and the kernel's probes don't follow that; trace it anew, or by its path alone"
            )
            if self._notes is not None and note not in self._notes:
                self._notes += (note,)

    @property
    def lost(self) -> int:
        """Calls that happened and are missing from the result."""
        return self.losses.lost

    @property
    @while_open
    def losses(self) -> Losses:
        """What became of calls that were seen but are not in the result."""
        return self._probes.losses()

    @while_open
    def detach(self) -> None:
        """Takes the probes out of the traced programs; what was seen stays readable until `close`."""
        self._probes.detach()

    def _frames(self, learn: bool) -> Frames:
        """Names for stacks, as long as it is open. To learn them can take long: interrupted, it closes the session."""
        from pyebpf.tools.frames import Frames  # not every tool has stacks

        resolution = self._probes.resolution
        frames = Frames(resolution.images)
        self._at_end.append(frames.close)
        try:
            if learn:
                frames.learn(resolution)
        except BaseException:
            self.close()
            raise
        return frames

    def _let_go(self) -> None:
        self._probes.close()
        super()._let_go()


def resolve_for(
    targets: Sequence[str],
    pid: int | Sequence[int] | None,
    command: Command | None,
    *,
    regex: bool,
    returns: bool,
    max_probes: int,
    allow_uretprobe: bool = False,
) -> tuple[Resolution, tuple[int, ...]]:
    """Resolves targets for running processes, or for a command that hasn't begun yet.

    Returns:
        the resolution, and the processes that the probes are limited to (empty: all).
    """
    if pid is not None and command is not None:
        raise TargetError("either pid or command: a command is a process of its own")
    pids = processes.asked_for(pid)
    resolution = resolve(
        targets,
        pids=pids,
        executable=command.executable if command else None,
        regex=regex,
        returns=returns,
        max_probes=max_probes,
        allow_uretprobe=allow_uretprobe,
    )
    return resolution, (command.pid,) if command else pids


class IntervalSession(Intervals[_Report], Session):
    """A session whose result can be had interval by interval. Kernel counters are never reset, so nothing is lost."""
