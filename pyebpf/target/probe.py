# SPDX-License-Identifier: BSD-2-Clause
"""What `resolve` answers: probes, functions that can't be probed, and what a user should know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..binary.image import Function, Image
from ..errors import BinaryError

_MAX_NAMED = 5
_MAX_INLINED = 20


class GoAbi(NamedTuple):
    """What a probe needs to know to find the goroutine at a Go function.

    Attributes:
        stack_abi: g is not in its register but in thread-local storage, and arguments are on the stack.
        tls_offset: of g from the thread pointer, in bytes.
        goid_offset: of the goroutine's number in g, in bytes; 0: unknown.
    """

    stack_abi: bool
    tls_offset: int
    goid_offset: int


class Probe(NamedTuple):
    """A function to trace.

    Attributes:
        function: what it is. For a target with an offset the name tells it: "main.f+0x5c".
        path: the file, as the kernel is to open it.
        shown: the file, as a user knows it.
        image_id: (st_dev, st_ino) of it; a key of `Resolution.images`.
        entry: file offset where the entry is seen. In Go that is behind the stack check, where each call passes once;
            elsewhere behind nops that no probe may be on.
        returns: file offsets of the instructions that return from it.
        tail: it ends in tail calls, and some of `returns` lie in the functions it ends in. Those return there for other
            callers too, and such an offset can be in several probes' `returns`.
        uretprobe: its return must be seen by the kernel's return probe; `returns` is empty then.
        go: for Go code, else None.
        pids: the processes it was found in, () if it was looked for without any.
        displacement: bytes from its first instruction to the one the user asked for, 0 for the entry.
    """

    function: Function
    path: str
    shown: str
    image_id: tuple[int, int]
    entry: int
    returns: tuple[int, ...]
    tail: bool
    uretprobe: bool
    go: GoAbi | None
    pids: tuple[int, ...]
    displacement: int


class Skipped(NamedTuple):
    """A function that matched and is not probed."""

    name: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Plain values."""
        return self._asdict()


class Resolution(NamedTuple):
    """The answer to what the user asked for.

    Attributes:
        probes: at least one; no two with the same entry in the same file.
        skipped: what matched but can't be probed.
        notes: sentences the user should read: the choices made.
        images: the files read, by (st_dev, st_ino).
        targets: what was asked for.
    """

    probes: tuple[Probe, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    images: Mapping[tuple[int, int], Image]
    targets: tuple[str, ...] = ()

    def trim(self) -> None:
        """Gives back the memory of the files' pages: a session may last for days, and seldom looks at them again."""
        for image in self.images.values():
            image.trim()

    def close(self) -> None:
        """Closes the files."""
        for image in self.images.values():
            image.close()

    def unseen(self) -> tuple[str, ...]:
        """Notes about calls that will not be seen, as they are of another copy of the function.

        The Go compiler puts copies in calls' places, GCC makes some for certain callers.

        Takes 20 ms for a small Go program and half a second for a large one, so ask when the probes are in place.
        """
        try:
            return self._inlined() + self._copied()
        finally:
            self.trim()

    def _copied(self) -> tuple[str, ...]:
        native = [probe for probe in self.probes if probe.go is None]
        if len(native) > _MAX_INLINED:
            return ()
        probed = {(probe.image_id, probe.function.address) for probe in native}
        notes = []
        for probe in native:
            copies = self.images[probe.image_id].symbols.copies_of(probe.function.raw)
            names = [one.name for one in copies if (probe.image_id, one.address) not in probed]
            if names:
                what = f"some callers have copies of it ({some(names)})"
                notes.append(f"{probe.function.name}: {what}; those calls are not seen")
        return tuple(notes)

    def _inlined(self) -> tuple[str, ...]:
        notes = []
        for image_id, image in self.images.items():
            names = [probe.function.name for probe in self.probes if probe.go and probe.image_id == image_id]
            if image.go is None or len(names) > _MAX_INLINED:
                if names:
                    notes.append(f"calls of these {len(names)} functions that the compiler inlined are not seen")
                continue
            try:
                inlined = image.go.inlined_into(names)
            except BinaryError as error:
                notes.append(f"where functions were inlined can't be told: {error}")
                continue
            for name, callers in inlined.items():
                places = "1 place" if len(callers) == 1 else f"{len(callers)} places"
                notes.append(f"{name}: also inlined at {places} ({some(callers)}); those calls are not seen")
        return tuple(notes)


def some(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more there are."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _MAX_NAMED} more" if len(distinct) > _MAX_NAMED else ""
    return ", ".join(distinct[:_MAX_NAMED]) + more
