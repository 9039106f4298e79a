# SPDX-License-Identifier: BSD-2-Clause
"""Events that are calls of functions: what `KernelEvents` is to the kernel's events, for probes in programs."""

from __future__ import annotations

from collections.abc import Callable

from pyebpf.core import bpf
from pyebpf.core.object import Object
from pyebpf.target.command import Command
from pyebpf.target.mapped import Found, Place, Sought, find
from pyebpf.tools import room
from pyebpf.tools.events import EventLosses
from pyebpf.tools.probes import Probes
from pyebpf.tools.scope import Scope


def find_for(
    sought: tuple[Sought, ...], place: Place, scope: Scope, command: Command | None, what: str
) -> tuple[Found, Scope]:
    """Finds functions for processes that run, or for a command that hasn't begun yet; and says whose calls count."""
    if command is None:
        return find(sought, place, pids=scope.pids, what=what), scope
    found = find(sought, place, executable=command.executable, what=what)
    return found, scope._replace(pids=(command.pid,))


class FunctionEvents:
    """A loaded object whose programs are attached to functions.

    Args:
        source: the bundled object's name.
        found: what to probe.
        scope: whose calls.
        configure: called with the opened object, to set constants and map sizes.
        loaded: called with the loaded object before the first call, to fill maps.
        entries, returns: which side is probed.

    Attributes:
        object: the object.
        notes: which files are probed, what is not and why.
        targets: whose calls, as text.
        skipped: what isn't probed.

    Raises:
        TargetNotFound, TargetError: the scope names what doesn't exist.
        AttachError, LoadError, PermissionDenied, Unsupported: the kernel won't.
    """

    def __init__(
        self,
        source: str,
        found: Found,
        scope: Scope,
        configure: Callable[[Object], None] | None = None,
        loaded: Callable[[Object], None] | None = None,
        *,
        entries: bool = True,
        returns: bool = True,
    ) -> None:
        def prepare(obj: Object, _functions: int) -> None:
            scope.set(obj)
            if configure:
                configure(obj)
            room.make(obj.maps["events"])

        def fill(obj: Object) -> None:
            scope.fill(obj)
            if loaded:
                loaded(obj)

        self._probes = Probes(
            source, found.resolution, prepare, pids=scope.pids, entries=entries, returns=returns, loaded=fill
        )
        self.object = self._probes.object
        self.targets, self.skipped = scope.asked(), self._probes.skipped
        self.notes = [*found.resolution.notes, *(f"{one.name}: {one.reason}" for one in self._probes.skipped)]

    def losses(self) -> EventLosses:
        """Reads what became of events."""
        by_cpu = self.object.maps["tallies"][0]
        unread = sum(tally.unread for tally in by_cpu)
        missed = sum(bpf.missed_runs(program.fd) for program in self._probes.programs)
        losses = self._probes.losses()
        return EventLosses(losses.dropped, losses.evicted + losses.refused + losses.unreadable, unread, missed)

    def detach(self) -> None:
        """Takes the probes out; maps stay readable."""
        self._probes.detach()

    def close(self) -> None:
        """Detaches and unloads. Safe to call twice."""
        self._probes.close()
