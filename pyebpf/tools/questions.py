# SPDX-License-Identifier: BSD-2-Clause
"""From what a user asks of calls to probes that capture it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pyebpf.binary.signature import Signature
from pyebpf.core.object import Object, open_bundled
from pyebpf.errors import TargetError
from pyebpf.target.capture import Plan, PlanLayout, Question, compile
from pyebpf.target.command import Command
from pyebpf.target.probe import Resolution, Skipped
from pyebpf.tools.probes import Probes
from pyebpf.tools.session import resolve_for

if TYPE_CHECKING:
    from pyebpf.binary.signatures import DebugInfo

_OF_THE_RETURN = r"\b(?:ret[0-9]*|retval|latency)\b"
# Calls in progress and threads that the kernel keeps: fewer if much is captured of each.
_FEWEST, _MOST_BYTES = 1024, 32 << 20
_NOTHING = Signature((), (), (), (), 0, None, "", "")  # of a function that is asked nothing


class Asked(NamedTuple):
    """An answerable question.

    Attributes:
        object: opened, for `Probes`.
        resolution: without the functions that have not what was asked for.
        pids: see `resolve_for`.
        plan: its rows and columns are in the order of the resolution's probes.
        returns: returns are to be probed.
    """

    object: Object
    resolution: Resolution
    pids: tuple[int, ...]
    plan: Plan
    returns: bool

    def close(self) -> None:
        """For the caller, if it comes to nothing: `Probes` closes what it was given."""
        self.object.close()
        self.resolution.close()

    def attach(self, configure: Callable[[Object, int], None]) -> Probes:
        """Loads the object with the plan in it, and attaches.

        Args:
            configure: as for `Probes`: sets what the tool has besides the plan.
        """

        def prepare(obj: Object, functions: int) -> None:
            _size(obj, self.plan, self.returns)
            configure(obj, functions)

        def fill(obj: Object) -> None:
            for name, rows in _rows(self.plan).items():
                obj.maps[name].memory()[: len(rows)] = rows

        return Probes(
            self.object, self.resolution, prepare, pids=self.pids, returns=self.returns, loaded=fill
        )


def _rows(plan: Plan) -> dict[str, bytes]:
    """The maps that hold a plan."""
    return {"steps": plan.steps, "plans": plan.plans, "texts": plan.texts}


def _size(obj: Object, plan: Plan, returns: bool) -> None:
    """Sets the constants and the maps' sizes that a plan needs; see ``bpf/include/plan.bpf.h``."""
    rodata, maps, btf = obj.rodata, obj.maps, obj.btf
    assert rodata is not None
    for name, rows in _rows(plan).items():
        value = maps[name].value
        assert value is not None
        maps[name].max_entries = max(1, len(rows) // value.size)
    rodata["returns"] = returns
    rodata["filters_entry"], rodata["filters_return"] = plan.filters_entry, plan.filters_return
    rodata["longest"] = plan.longest
    rodata["entry_size"], rodata["return_size"] = plan.entry_size, plan.return_size
    rodata["read_room"] = plan.read_room
    captured = plan.entry_size + plan.return_size
    machine = btf.layout("machine").size + captured + plan.read_room
    frame = btf.layout("call").size + plan.entry_size
    rooms = (machine, _MOST_BYTES, ("scratch", "blank")), (frame, _MOST_BYTES // 2, ("frames", "overflow"))
    for size, most, names in rooms:
        for name in names:
            maps[name].value_size = size
            maps[name].max_entries = min(maps[name].max_entries, max(_FEWEST, most // size))
    if not returns:  # no call is in progress
        maps["frames"].max_entries = maps["overflow"].max_entries = 1


def expressions(name: str, given: Sequence[str]) -> tuple[str, ...]:
    """What a verb's argument holds. Raises TargetError for a text, whose letters would be taken for expressions."""
    if isinstance(given, (str, bytes)):
        raise TargetError(f"{name} is a list of expressions, got {type(given).__name__} {given!r:.80}",
                          hint=f"write {name}=[{given!r:.80}]")  # fmt: skip
    return tuple(given)


def ask(
    tool: str,
    question: Question,
    targets: Sequence[str],
    pid: int | Sequence[int] | None,
    command: Command | None,
    *,
    regex: bool,
    returns: bool,
    max_probes: int,
    allow_uretprobe: bool,
) -> Asked:
    """Finds the functions, their signatures, and a plan for the question.

    Args:
        tool: the bundled object's name.
        returns: the returns are wanted, whatever is asked.
        the others: as for `resolve_for`.

    Raises:
        TargetError, TargetNotFound: see `resolve` and `capture.compile`.
    """
    expressions = [*question.values, question.condition]
    returns = returns or bool(question.results) or any(re.search(_OF_THE_RETURN, text) for text in expressions)
    obj = open_bundled(tool)
    try:
        layout = PlanLayout.of(obj.btf)
        while True:
            resolution, pids = resolve_for(
                targets, pid, command, regex=regex, returns=returns, max_probes=max_probes,
                allow_uretprobe=allow_uretprobe,
            )
            nothing = question == Question(strsize=question.strsize)
            try:
                with DebugFiles() as debug:
                    signatures = [_NOTHING] * len(resolution.probes) if nothing else debug.signatures_of(resolution)
                    plan = compile(question, signatures, layout)
                if returns or not plan.returns:
                    return Asked(obj, *_answerable(resolution, pids, plan, obj), returns)
            except BaseException:
                resolution.close()
                raise
            resolution.close()
            returns = True  # a result was asked for by its name
    except BaseException:
        obj.close()
        raise


class DebugFiles:
    """The debug information that signatures come from, for use as a context manager.

    A signature's types are read when they are looked at, which is possible until the end of the block.
    """

    def __init__(self) -> None:
        self._by_root: dict[str, DebugInfo] = {}

    def __enter__(self) -> DebugFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for debug in self._by_root.values():
            debug.close()

    def signatures_of(self, resolution: Resolution) -> list[Signature]:
        """What each probe can be asked for."""
        from pyebpf.binary.signatures import DebugInfo, signature_of

        found = []
        for probe in resolution.probes:
            image = resolution.images[probe.image_id]
            if image.debug_root not in self._by_root:
                self._by_root[image.debug_root] = DebugInfo(image.debug_root)
            address = image.elf.vaddr_of(probe.entry)
            assert address is not None  # `resolve` took the offset from an address
            if probe.go is None and not probe.displacement:  # behind nops it is the entry still
                address = probe.function.address
            found.append(signature_of(image, probe.function, address, debug=self._by_root[image.debug_root]))
        return found


def _answerable(resolution: Resolution, pids: tuple[int, ...], plan: Plan, obj: Object) -> tuple[
    Resolution, tuple[int, ...], Plan
]:
    """Leaves out the functions that have not what was asked for."""
    if not plan.skipped:
        return resolution, pids, plan
    kept = [index for index in range(len(resolution.probes)) if index not in plan.skipped]
    row = obj.btf.layout("plan").size
    skipped = [Skipped(resolution.probes[index].function.name, str(error)) for index, error in plan.skipped.items()]
    resolution = resolution._replace(
        probes=tuple([resolution.probes[index] for index in kept]), skipped=(*resolution.skipped, *skipped)
    )
    plan = plan._replace(
        plans=b"".join([plan.plans[index * row : (index + 1) * row] for index in kept]),
        columns=tuple([plan.columns[index] for index in kept]),
        skipped={},
    )
    return resolution, pids, plan
