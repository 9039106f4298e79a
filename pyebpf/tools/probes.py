# SPDX-License-Identifier: BSD-2-Clause
"""From resolved functions to attached probes: what every function tool does between its options and its numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyebpf.core import kernel
from pyebpf.core.link import Ladder, Links, Refused, Site
from pyebpf.core.object import Object, open_bundled
from pyebpf.errors import AttachError, Unsupported
from pyebpf.target.probe import Probe, Resolution, Skipped
from pyebpf.target.process import incarnation
from pyebpf.tools import processes


class Losses(NamedTuple):
    """What became of calls that were seen but not measured, since the session began.

    Attributes:
        in_progress: entered and not (yet) returned: still running, or left by panic, exception or longjmp.
        abandoned: left by panic, exception or longjmp, as a later call in the same frame showed.
        evicted: forgotten because too many calls were in progress at once.
        refused: entries the kernel's map could not take.
        unmatched: returns of calls that had begun before we attached (or were evicted).
        unreadable: hits whose goroutine could not be read.
        dropped: records the ring buffer had no room for.
        rejected: calls that a filter left out, as it was asked to: no loss.
        undecided: calls left out because what the filter asks for could not be read.
        failed: values that could not be read, and are in no histogram.
        uncounted: calls counted nowhere, as the kernel's table of distinct values or stacks was full.
        collided: calls counted without their stack, as another one has its place in the kernel's table.
    """

    in_progress: int = 0
    abandoned: int = 0
    evicted: int = 0
    refused: int = 0
    unmatched: int = 0
    unreadable: int = 0
    dropped: int = 0
    rejected: int = 0
    undecided: int = 0
    failed: int = 0
    uncounted: int = 0
    collided: int = 0

    @property
    def lost(self) -> int:
        """Calls that happened and are missing from the result."""
        return (
            self.evicted + self.refused + self.unreadable + self.dropped + self.undecided + self.failed + self.uncounted
        )

    def __add__(self, other: object) -> Losses:
        """Losses of two sets of probes."""
        if not isinstance(other, Losses):
            return NotImplemented
        return Losses(*(a + b for a, b in zip(self, other)))

    def as_dict(self) -> dict[str, int]:
        """Plain values."""
        return self._asdict()

# Fields that are a field of struct tally.
_TALLIED = (
    "abandoned", "refused", "unmatched", "unreadable", "dropped", "rejected", "undecided", "failed", "uncounted",
    "collided",
)  # fmt: skip


class Probes:
    """A loaded object and its links. The functions are numbered by their place in the resolution.

    Args:
        source: the bundled object's name, or the object, opened, which is closed with the probes.
        resolution: what to probe; its files are closed with the probes.
        configure: called with the opened object and the number of functions, to set constants and map sizes.
        pids: limits the probes to these processes; empty: every process.
        returns: whether returns are probed too.
        entries: False: only returns are probed, and the program needs no entry.
        loaded: called with the object once it is loaded, to fill maps before the first hit.
    """

    def __init__(
        self,
        source: str | Object,
        resolution: Resolution,
        configure: Callable[[Object, int], None],
        *,
        pids: Sequence[int] = (),
        returns: bool,
        entries: bool = True,
        loaded: Callable[[Object], None] | None = None,
    ) -> None:
        self.resolution = resolution
        self._returns, self._entries = returns, entries
        self.skipped: tuple[Skipped, ...] = resolution.skipped
        self.refused: frozenset[int] = frozenset()  # indices of functions whose entry the kernel would not take
        try:
            self.object = open_bundled(source) if isinstance(source, str) else source
        except BaseException:
            resolution.close()
            raise
        ladder = Ladder()
        self._ladder = ladder
        self._entry_links, self._return_links = Links(ladder), Links(ladder)
        self._followed: dict[int, tuple[Links, Links]] = {}
        self._unseen: set[int] = set()  # as far as that was noticed
        self._began: dict[int, int] = {}  # start times of the processes that were given
        self._unmatched_before = 0
        self._unmatched_after: int | None = None
        try:
            variant = ladder.variant(self.object)
            self._on_entry, self._on_return = f"on_entry{variant}", f"on_return{variant}"
            used = [self._on_entry] * entries + [self._on_return] * returns
            for program in self.object.programs.values():
                if program.name not in used:
                    program.autoload = False
            self.programs = [self.object.programs[name] for name in used]
            ladder.prepare(self.object, self.programs)
            processes.number_as_we_do(self.object)
            processes.limit(self.object, pids)
            self._rows = self._abi_rows(resolution.probes)
            configure(self.object, len(resolution.probes))
            self.object.load()
            processes.fill(self.object, pids)
            if loaded:
                loaded(self.object)
            layout = self.object.btf.enumerators("site_cookie")
            self._abi_shift = layout["SITE_ABI_SHIFT"]
            self._popped, self._tail = 1 << layout["SITE_POPPED_SHIFT"], 1 << layout["SITE_TAIL_SHIFT"]
            for pid in pids:
                which = incarnation(pid)
                if which:
                    self._began[pid] = which.start_time
            refused: list[Refused] = []
            if returns:  # first, so that no entry is recorded whose return would be missed
                refused += self._attach_returns(pids, self._return_links)
            if entries:
                refused += self._attach_entries(pids, self._entry_links)
            if returns:
                self._unmatched_before = self._tally()["unmatched"]
            self._report(refused)
            resolution.trim()
            if len(pids) == 1 and self._ladder.limits:  # `leave` is to take these probes out, too
                self._followed[pids[0]] = self._entry_links, self._return_links
        except BaseException:
            self.close()
            raise

    def _abi_rows(self, probes: Sequence[Probe]) -> list[int]:
        """Fills the table of calling conventions; returns each probe's row."""
        rodata = self.object.rodata
        assert rodata is not None
        if "abis" not in rodata:
            return [0] * len(probes)
        convention = self.object.btf.enumerators("calling_convention")
        limit = self.object.btf.enumerators("site_cookie")["SITE_ABI_ROWS"]
        rows = {(convention["CALL_C"], 0, 0): 0}
        chosen = []
        for probe in probes:
            row = (convention["CALL_C"], 0, 0)
            if probe.go is not None:
                kind = "CALL_GO_STACK" if probe.go.stack_abi else "CALL_GO"
                row = (convention[kind], probe.go.tls_offset, probe.go.goid_offset)
            chosen.append(rows.setdefault(row, len(rows)))
        if len(rows) > limit:
            raise Unsupported(
                f"the targets need {len(rows)} calling conventions; {limit} fit", feature="calling conventions",
                hint="trace fewer Go programs in one run",
            )
        if len(rows) > 1 or convention["CALL_C"]:  # else they are the zeros that are there
            rodata["abis"] = [*rows, *[(0, 0, 0)] * (limit - len(rows))]
        if os.uname().machine == "x86_64" and any(row[0] == convention["CALL_GO_STACK"] for row in rows):
            offset = kernel.field_offset("task_struct.thread.fsbase")
            if offset is None:
                raise Unsupported(
                    "finding a goroutine in a Go program with the stack ABI (Go 1.16 and older, assembly functions) "
                    f"needs the kernel's type information, and there is no {kernel.btf_path()}",
                    feature="kernel BTF", minimum="Linux 5.2 with CONFIG_DEBUG_INFO_BTF",
                    hint="give a BTF file for this kernel in PYEBPF_BTF",
                )
            rodata["fsbase_offset"] = offset
        return chosen

    def _attach_entries(self, pids: Sequence[int], links: Links) -> list[Refused]:
        groups: dict[str, list[Site]] = {}
        for index, probe in enumerate(self.resolution.probes):
            groups.setdefault(probe.path, []).append(Site(probe.entry, self._cookie(index)))
        return self._attach(links, self._on_entry, groups, pids)

    def _attach_returns(self, pids: Sequence[int], links: Links) -> list[Refused]:
        groups: dict[str, list[Site]] = {}
        kernel_groups: dict[str, list[Site]] = {}
        for index, probe in enumerate(self.resolution.probes):
            if probe.uretprobe:
                site = Site(probe.entry, self._cookie(index) | self._popped)
                kernel_groups.setdefault(probe.path, []).append(site)
            else:
                sites = groups.setdefault(probe.path, [])
                sites += [Site(offset, self._cookie(index)) for offset in probe.returns]
        refused = self._attach(links, self._on_return, groups, pids)
        return refused + self._attach(links, self._on_return, kernel_groups, pids, by_kernel=True)

    def _cookie(self, index: int) -> int:
        tail = self._tail if self.resolution.probes[index].tail else 0
        return index | self._rows[index] << self._abi_shift | tail

    def _attach(
        self,
        links: Links,
        program: str,
        groups: dict[str, list[Site]],
        pids: Sequence[int],
        by_kernel: bool = False,
    ) -> list[Refused]:
        refused: list[Refused] = []
        scopes = {path: self._pids_of(path, pids) for path in groups}
        for path, sites in groups.items():
            for pid in scopes[path]:
                refused += links.attach(self.object.programs[program], path, sites, pid=pid, on_return=by_kernel)
        return refused

    def _pids_of(self, path: str, pids: Sequence[int]) -> Sequence[int]:
        """The processes a file's probes are for: a link each. (0,): every process, as one link."""
        if not self._ladder.limits:
            return (0,)
        wanted = {pid for probe in self.resolution.probes if probe.path == path for pid in probe.pids}
        return sorted(wanted) if wanted else tuple(pids) or (0,)

    def _report(self, refused: Sequence[Refused]) -> None:
        """Turns refused sites into skipped functions."""
        if not refused:
            return
        entries: dict[int, list[str]] = {}
        returns: dict[int, list[str]] = {}
        for one in refused:
            index = one.site.cookie & 0xFFFFFFFF
            probe = self.resolution.probes[index]
            (entries if one.site.offset == probe.entry else returns).setdefault(index, []).append(one.reason)
        skipped = list(self.skipped)
        for index, reasons in entries.items():
            skipped.append(Skipped(self.resolution.probes[index].function.name, reasons[0]))
        for index, reasons in returns.items():
            if index not in entries:
                probe = self.resolution.probes[index]
                share = f"{len(reasons)} of its {len(probe.returns)} returns"
                why = f"{share} can't be probed: calls that leave there are lost"
                skipped.append(Skipped(probe.function.name, why))
        self.skipped = tuple(skipped)
        if len(entries) == len(self.resolution.probes):
            first = self.resolution.probes[0].function.name
            raise AttachError(f"none of the {len(entries)} functions can be probed; {first}: {entries[0][0]}")
        self.refused = frozenset(entries)

    def losses(self) -> Losses:
        """Reads what became of the calls."""
        sums = self._tally()
        # Returns that were seen while only returns were probed, in the moments of attaching and detaching, say nothing.
        if self._unmatched_after is not None:
            sums["unmatched"] = self._unmatched_after
        sums["unmatched"] -= self._unmatched_before
        in_progress = evicted = 0
        if self._returns and self._entries:
            # Calls come and go meanwhile. Those that came later are in neither number, those that went don't count as
            # evicted: while calls are made this is the least that it can be, else exact.
            waiting = len(self.object.maps["overflow"]) if sums["spilled"] else 0
            after = self._tally()
            evicted = max(0, sums["spilled"] - after["recovered"] - waiting)
            left = sums["entered"] - after["returned"] - after["abandoned"] - after["refused"]
            in_progress = max(0, left - evicted)
        return Losses(
            in_progress=in_progress,
            evicted=evicted,
            **{name: sums[name] for name in _TALLIED if name in sums},
        )

    def _tally(self) -> dict[str, int]:
        by_cpu = self.object.maps["tallies"][0]
        return {name: sum(getattr(tally, name) for tally in by_cpu) for name in by_cpu[0]._fields}

    def unseen(self) -> tuple[int, ...]:
        """Processes that run and are not seen any more: see `Links.left_alone`."""
        alone = self._entry_links.left_alone() | self._return_links.left_alone()
        for pid in alone - self._unseen:
            now = incarnation(pid, headless=True)
            if now and now.start_time == self._began.get(pid):
                self._unseen.add(pid)
        return tuple(sorted(self._unseen))

    def follow(self, pid: int) -> None:
        """Probes one more process, where the object's process filter was given room for it.

        Raises:
            as the constructor.
        """
        self.object.maps["tgids"][pid] = 1
        if not self._ladder.limits:  # probes are in every process already
            return
        entries, returns = self._followed[pid] = Links(self._ladder), Links(self._ladder)
        try:
            if self._returns:
                self._attach_returns((pid,), returns)
            if self._entries:
                self._attach_entries((pid,), entries)
        except BaseException:
            self.leave(pid)
            raise

    def leave(self, pid: int) -> None:
        """Takes the probes out of a process that was followed."""
        for links in self._followed.pop(pid, ()):
            links.close()
        try:
            del self.object.maps["tgids"][pid]
        except KeyError:
            pass

    def detach(self) -> None:
        """Takes the probes out; maps stay readable.

        Entries go first: an entry whose return isn't seen any more would look like a call that never returned.
        """
        self.unseen()  # which nobody can tell afterwards
        followed, self._followed = self._followed, {}
        on_return = [self._return_links, *(returns for _, returns in followed.values())]
        if self._unmatched_after is None and any(map(len, on_return)):
            self._unmatched_after = self._tally()["unmatched"]
        for links in [self._entry_links, *(entries for entries, _ in followed.values()), *on_return]:
            links.close()

    def close(self) -> None:
        """Detaches and unloads. Safe to call twice."""
        self.detach()
        self.object.close()
        self.resolution.close()
