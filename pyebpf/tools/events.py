# SPDX-License-Identifier: BSD-2-Clause
"""Sessions that show what happens in the kernel: from an object's name to events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from pyebpf.core import bpf
from pyebpf.core.hooks import Hooks, choose, iterate
from pyebpf.core.kernel import closed_to_perfmon
from pyebpf.core.object import Object, Program, open_bundled
from pyebpf.core.ringbuf import RingBuffer
from pyebpf.errors import AttachError, LoadError, PermissionDenied, Unsupported
from pyebpf.tools import room
from pyebpf.tools.lifetime import Lifetime, while_open
from pyebpf.tools.scope import Scope
from pyebpf.tools.stream import Stream

if TYPE_CHECKING:
    from pyebpf.target.probe import Skipped

_Event = TypeVar("_Event")
_PRIME = "prime_"  # iterators that are run once, to enter into tables what exists already
_SCOPED = "_scoped"  # what such a program's twin for PID namespaces and cgroups ends in


def _other(name: str) -> str:
    """The name of the other program of a pair, see `_SCOPED`."""
    return name[: -len(_SCOPED)] if name.endswith(_SCOPED) else name + _SCOPED


class EventLosses(NamedTuple):
    """What became of events that were seen but not shown (or not wholly), since the session began.

    Attributes:
        dropped: events the ring buffer had no room for.
        untracked: begun events whose end can't be shown, as the kernel's table of those was full.
        unread: texts or values that could not be read from a process's memory; shown as such.
        missed: times that the kernel skipped a program, as it was at work already on that CPU (Linux 5.12 tells).
    """

    dropped: int = 0
    untracked: int = 0
    unread: int = 0
    missed: int = 0

    @property
    def lost(self) -> int:
        """Events that happened and are missing from the result; of `missed` it isn't known that each was one."""
        return self.dropped + self.untracked + self.missed

    def as_dict(self) -> dict[str, int]:
        """Plain values."""
        return self._asdict()


class Need(NamedTuple):
    """Something a tool wants to see, and the programs that show it.

    Attributes:
        what: it, for a message: "closed connections".
        alternatives: sets of programs, the best first; the first set that this kernel can attach is used.
        optional: the tool does without, and says so in a note.
        silent: no note either: other programs show the same on this machine (open(2) doesn't exist on arm64).
    """

    what: str
    alternatives: tuple[tuple[str, ...], ...]
    optional: bool = False
    silent: bool = False


def missing(source: str, needs: Sequence[Need], hooks: Hooks) -> list[tuple[Need, list[str]]]:
    """What a bundled object can't see on this kernel, or we may not see, each with the reasons. Loads nothing."""
    found = []
    with open_bundled(source) as obj:
        for need in needs:
            chosen, against = choose(hooks, [[obj.programs[name] for name in names] for names in need.alternatives])
            if chosen and any(program.section.startswith("tp/") for program in chosen):
                closed = closed_to_perfmon()
                chosen, against = (None, [closed]) if closed else (chosen, against)
            if chosen is None and not need.silent:
                found.append((need, against))
    return found


class KernelEvents:
    """A loaded object whose programs are attached to the kernel's events.

    Args:
        source: the bundled object's name.
        needs: what it is to see. Programs in none of them are not loaded.
        scope: whose events.
        configure: called with the opened object, to set constants and map sizes.
        loaded: called with the loaded object before programs are attached, to fill maps.
        kernel_types: False: none of the needs' programs reads the kernel's structures, which makes loading faster.

    Attributes:
        object: the object.
        used: names of the programs that were attached.
        notes: what isn't seen on this kernel, and why.
        targets: whose events, as text.

    Raises:
        Unsupported: this kernel lacks what the tool needs; names each thing that was tried.
        TargetNotFound, TargetError: the scope names what doesn't exist.
        PermissionDenied: naming what is missing.
    """

    skipped: tuple[Skipped, ...] = ()  # nothing is matched by name

    def __init__(
        self,
        source: str,
        needs: Sequence[Need],
        scope: Scope,
        configure: Callable[[Object], None] | None = None,
        loaded: Callable[[Object], None] | None = None,
        *,
        kernel_types: bool = True,
    ) -> None:
        self.notes: list[str] = []
        self.targets = scope.asked()
        self.object = open_bundled(source, kernel_types="needed" if kernel_types else "none")
        self._kernel_types = kernel_types
        self._hooks = Hooks()
        self._unproven: list[Need] = []
        try:
            self.used = [*self._follow(scope), *self._choose(needs)]
            scope.set(self.object)
            primes = self._primes()
            for program in self.object.programs.values():
                if program.name not in self.used and program not in primes:
                    program.autoload = False
            if configure:
                configure(self.object)
            if "events" in self.object.maps:
                room.make(self.object.maps["events"])
            self._load()
            scope.fill(self.object)
            if loaded:
                loaded(self.object)
            self._attach()
            self._hooks.settle()
            for program in primes:
                iterate(program)
        except BaseException:
            self.close()
            raise

    def _choose(self, needs: Sequence[Need]) -> list[str]:
        used: list[str] = []
        for need in needs:
            programs = [[self.object.programs[name] for name in names] for names in need.alternatives]
            # Without a choice nothing is looked up, which takes milliseconds: it can't be attached if it isn't there.
            sure = len(programs) == 1 and not need.optional
            if sure and all(program.section.startswith("raw_tp/") for program in programs[0]):
                used += [program.name for program in programs[0] if program.name not in used]
                self._unproven.append(need)
                continue
            chosen, against = choose(self._hooks, programs)
            if chosen is not None:
                used += [program.name for program in chosen if program.name not in used]
                continue
            if not need.optional:
                raise self._unsupported(need, against)
            if not need.silent:
                self.notes.append(f"{need.what} can't be seen here (pyebpf doctor says why)")
        return used

    def _primes(self) -> list[Program]:
        """The iterators to run: of two, the one that knows about PID namespaces and cgroups only where it has to."""
        rodata = self.object.rodata
        assert rodata is not None
        scoped = bool(rodata["pidns_ino"] or rodata["filter_cgroup"])
        primes = {name: program for name, program in self.object.programs.items() if name.startswith(_PRIME)}
        unwanted = [name for name in primes if name.endswith(_SCOPED) != scoped and _other(name) in primes]
        return [program for name, program in primes.items() if name not in unwanted]

    def _follow(self, scope: Scope) -> list[str]:
        """The programs that follow processes to their children, where that is asked for."""
        if not scope.children:
            return []
        assert self.object.rodata is not None
        offset = self._hooks.field_offset("sched/sched_process_fork", "child_pid")
        if offset is None:
            raise Unsupported("this kernel has no tracepoint sched_process_fork", feature="children of processes")
        self.object.rodata["child_pid_offset"] = offset
        return ["follow_fork", "follow_exit"]

    def _load(self) -> None:
        """Loads the object. Where that fails as this kernel lacks something, says so rather than what libbpf says."""
        try:
            self.object.load()
        except PermissionDenied:
            raise
        except LoadError:
            self._look_for_what_is_missing()
            raise

    def _attach(self) -> None:
        """Attaches the programs. Where that fails as this kernel lacks something, says so."""
        try:
            # A process is forgotten after the others have told of its end: programs run in the order of attaching.
            for name in sorted(self.used, key="follow_exit".__eq__):
                self._hooks.attach(self.object.programs[name])
        except AttachError:
            self._look_for_what_is_missing()
            raise

    def _look_for_what_is_missing(self) -> None:
        """Of what wasn't looked up before, as it is nearly always there.

        Raises:
            Unsupported: naming it.
        """
        if self._kernel_types:
            self._hooks.kernel_types()
        for need in self._unproven:
            programs = [self.object.programs[name] for name in need.alternatives[0]]
            against = choose(self._hooks, [programs])[1]
            if against:
                raise self._unsupported(need, against) from None

    def _unsupported(self, need: Need, against: Sequence[str]) -> Unsupported:
        return Unsupported(f"{self.object.name} can't see {need.what} here: {'; '.join(against)}", feature=need.what)

    def losses(self) -> EventLosses:
        """Reads what became of events."""
        by_cpu = self.object.maps["tallies"][0]
        total = {name: sum(getattr(tally, name) for tally in by_cpu) for name in by_cpu[0]._fields}
        missed = sum(bpf.missed_runs(self.object.programs[name].fd) for name in self.used)
        return EventLosses(total["dropped"], total["untracked"], total["unread"], missed)

    def detach(self) -> None:
        """Takes the programs out; maps stay readable."""
        self._hooks.close()

    def close(self) -> None:
        """Detaches and unloads. Safe to call twice."""
        self.detach()
        self.object.close()


class Attached(Protocol):
    """What a session is of: a loaded object whose programs are attached, `KernelEvents` or another."""

    object: Object
    notes: list[str]
    targets: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    def losses(self) -> EventLosses: ...

    def detach(self) -> None: ...

    def close(self) -> None: ...


class KernelSession(Lifetime):
    """Attached programs and what they have seen. Use as a context manager, or call `close`.

    Attributes:
        notes: what isn't seen on this kernel, and why.
        targets, skipped, started: see `pyebpf.tools.lifetime.Lifetime`.
    """

    def __init__(self, events: Attached, notes: Sequence[str] = ()) -> None:
        super().__init__(events.targets, events.skipped)
        self._events = events
        self.notes = (*events.notes, *notes)

    @property
    def lost(self) -> int:
        """Events that happened and are missing from the result."""
        return self.losses.lost

    @property
    @while_open
    def losses(self) -> EventLosses:
        """What became of events that were seen but are not in the result."""
        return self._events.losses()

    @while_open
    def detach(self) -> None:
        """Takes the programs out; what was seen stays readable until `close`."""
        self._events.detach()

    def _let_go(self) -> None:
        self._events.close()
        super()._let_go()


class EventSession(Stream[_Event], KernelSession, Generic[_Event]):
    """Yields events as they happen. Iterate, or use `read`, `drain` and `fileno` in an event loop.

    Args:
        decode: makes an event of a record, which is valid during the call only.
        at_end: called when the session is closed.
    """

    def __init__(
        self,
        events: Attached,
        decode: Callable[[memoryview], _Event],
        notes: Sequence[str] = (),
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._decode = decode  # type: ignore[assignment,method-assign]
        try:
            self._ring = RingBuffer(events.object.maps["events"], events.object.maps.get("awake"))
        except BaseException:
            events.close()
            raise
        super().__init__(events, notes)
        if at_end is not None:
            self._at_end.append(at_end)
