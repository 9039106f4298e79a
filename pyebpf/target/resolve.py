# SPDX-License-Identifier: BSD-2-Clause
"""From targets to probes: which files, which functions, and at which of their bytes to stop.

Nothing here touches the kernel. What can't be probed safely is left out with a reason, never probed halfway; docs/
architecture.md, "How a return is seen", has the rules for returns.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..binary.image import Function, Image, TooManyFunctions
from ..errors import BinaryError, TargetError, TargetNotFound, UnsafeProbe
from .images import Images
from .locate import Located, locate
from .plan import Match, Planner
from .probe import GoAbi, Probe, Resolution, Skipped, some
from .process import Process
from .spec import Spec, parse

__all__ = ["GoAbi", "Probe", "Resolution", "Skipped", "resolve"]


def resolve(
    targets: Sequence[str],
    *,
    pids: Sequence[int] = (),
    regex: bool = False,
    returns: bool,
    max_probes: int = 20000,
    allow_uretprobe: bool = False,
    executable: str | None = None,
) -> Resolution:
    """Find the functions of `targets` and where to probe them.

    Args:
        targets: see `spec` for what they look like.
        pids: processes, which must map the files; every file is then the one that they map.
        regex: the patterns are regular expressions.
        returns: the returns are wanted too; functions whose return can't be seen safely are skipped.
        max_probes: refuse more functions than that.
        allow_uretprobe: take the kernel's return probe for native code, although an exception passing through it would
            end the program. Never for Go.
        executable: what a command that waits to be started will run (`Command.executable`): ":PATTERN" means it, and
            as the process is still a copy of ours, files are looked for without `pids`.

    Raises:
        TargetNotFound: no such process, file or function; `close_matches` has similar names.
        TargetError: a target is malformed, a process can't be traced, no process maps the file, there are too many
            functions, or none that matched can be probed.
        UnsafeProbe: an offset or address isn't the first byte of an instruction.
        PermissionDenied: a file or process may not be read.
    """
    specs = [parse(target, regex) for target in targets]
    if not specs:
        raise TargetError("no target is given")
    for spec in specs:
        if returns and (spec.offset is not None or spec.address is not None):
            raise TargetError(
                f"{spec.text} names an instruction inside a function, and that has no return",
                hint="name the function without an offset",
            )
    processes = [] if executable else [Process(pid) for pid in dict.fromkeys(pids)]
    with Images() as images:
        matches = _Matches(images, processes, executable, max_probes)
        for spec in specs:
            matches.add(spec)
        planner = Planner(images, processes, executable, returns=returns, allow_uretprobe=allow_uretprobe)
        # By file and entry: past Go's stack check, "main.f" and "main.f+0x6" can be the same place.
        probes: dict[tuple[tuple[int, int], int], Probe] = {}
        for match in matches.without_wrappers():
            planned: Probe | str
            try:
                planned = planner.probe(match)
            except BinaryError as error:
                planned = str(error)
            if isinstance(planned, Probe):
                probes.setdefault((planned.image_id, planned.entry), planned)
            else:
                matches.skipped[Skipped(match.function.name, planned)] = None
        skipped = tuple(matches.skipped)
        if not probes:
            more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
            raise TargetError(f"nothing that matches can be traced: {skipped[0].name}: {skipped[0].reason}{more}")
        notes = tuple(dict.fromkeys(matches.notes))
        return Resolution(tuple(probes.values()), skipped, notes, images.by_file, tuple(targets))


class _Matches:
    """The functions that the targets match, each once."""

    def __init__(self, images: Images, processes: Sequence[Process], executable: str | None, max_probes: int) -> None:
        self.images = images
        self.processes = processes
        self.executable = executable
        self.max_probes = max_probes
        # By file and file offset.
        self.matches: dict[tuple[int, int, int], Match] = {}
        self.skipped: dict[Skipped, None] = {}
        self.notes: list[str] = []

    def add(self, spec: Spec) -> None:
        """Add what `spec` matches."""
        before = len(self.matches)
        files = locate(spec.file, self.processes, self.executable, self.notes)
        if spec.address is not None:
            found = [self.at_address(file, spec.address) for file in files]
        else:
            found = [Match(file, function, spec.offset) for file in files for function in self.search(file, spec)]
            if not found:
                raise self.nothing(spec, files[0])
            if spec.offset is not None:
                found = self.on_boundaries(spec, found)
        for match in found:
            key = (*match.file.identity, match.function.offset + (match.displacement or 0))
            known = self.matches.setdefault(key, match)
            if known is not match:
                pids = tuple(dict.fromkeys(known.file.pids + match.file.pids))
                self.matches[key] = known._replace(file=known.file._replace(pids=pids))
        if len(self.matches) > self.max_probes:
            new = len(self.matches) - before
            raise self.too_many(f"{len(self.matches)} functions match, {new} of them {spec.text}")

    def search(self, file: Located, spec: Spec) -> list[Function]:
        """The functions of `file` that match."""
        try:
            return self.images.of(file).search(spec.pattern, spec.regex, limit=self.max_probes)
        except TooManyFunctions:
            raise self.too_many(f"more than {self.max_probes} functions match {spec.text}") from None

    def too_many(self, what: str) -> TargetError:
        return TargetError(
            f"{what}; at most {self.max_probes} are traced at once",
            hint="narrow the pattern, or allow more with --max-probes N",
        )

    def nothing(self, spec: Spec, file: Located) -> TargetNotFound:
        """Why no function of `file` matches."""
        image = self.images.of(file)
        what = f"no function of {file.shown} matches {spec.pattern!r}"
        searched = image.what_was_searched()
        inlined = image.inlined(spec.pattern, spec.regex)
        if inlined:
            into = some(sorted({caller for callers in inlined.values() for caller in callers}))
            return TargetNotFound(
                f"{some(list(inlined))}: no out-of-line body in {file.shown} (inlined into {into})",
                hint="trace a function it is inlined into, or rebuild with //go:noinline in front of it",
            )
        imports = image.imports(spec.pattern, spec.regex)
        hint = None
        if imports:
            hint = f"{file.shown} only calls {some(imports)}, from a library: write LIB:{imports[0]}, like c:malloc"
        return TargetNotFound(
            f"{what} (searched {searched})", hint=hint, close_matches=image.close_matches(spec.pattern)
        )

    # -- instructions inside functions

    def at_address(self, file: Located, address: int) -> Match:
        image = self.images.of(file)
        function = image.function_at(address)
        if function is None:
            raise UnsafeProbe(
                f"{file.shown}: no function is known to hold {address:#x}, so nothing tells where instructions begin",
                hint="addresses are virtual ones, as nm and objdump print them",
            )
        inside = address - function.address
        if not image.boundary(address):
            raise UnsafeProbe(
                f"{file.shown}: {address:#x}, in {function.name}, is not the first byte of an instruction",
                hint=_nearest(image, function, inside, "0x%x", function.address),
            )
        return Match(file, function, inside)

    def on_boundaries(self, spec: Spec, found: list[Match]) -> list[Match]:
        """Those of `found` that have an instruction at the offset; UnsafeProbe if none does."""
        offset = spec.offset or 0
        good = []
        refusals = []
        for match in found:
            function, image = match.function, self.images.of(match.file)
            if offset < max(function.size, 1) and image.boundary(function.address + offset):
                good.append(match)
                continue
            if offset < function.size:
                reason = f"+{offset} is not the first byte of an instruction"
                hint = _nearest(image, function, offset, "+%d", 0)
            else:
                reason, hint = f"it has {function.size} bytes, so +{offset} lies behind it", None
            refusals.append((Skipped(function.name, reason), hint))
        if not good:
            (name, reason), hint = refusals[0]
            more = f" (and {len(refusals) - 1} more functions like it)" if len(refusals) > 1 else ""
            raise UnsafeProbe(f"{name}: {reason}{more}", hint=hint)
        self.skipped.update(dict.fromkeys(refusal for refusal, _ in refusals))
        return good

    # -- Go's peculiarities

    def without_wrappers(self) -> list[Match]:
        """The matches without the Go wrappers that only pass a call on to a function of the same name.

        For code in assembly and for calls from there the linker's table has two functions of one name, one for each
        calling convention; every call passes the one that isn't the wrapper. cmd/compile/internal/ssagen/abi.go
        """
        by_name: dict[tuple[tuple[int, int], str], list[Match]] = {}
        for match in self.matches.values():
            if match.function.language == "go" and match.displacement is None:
                by_name.setdefault((match.file.identity, match.function.name), []).append(match)
        wrappers: set[int] = set()  # by identity: to compare functions is dear
        for same in by_name.values():
            if len(same) > 1:
                bodies = {match.function.address for match in same}
                wrappers.update(id(match) for match in same if self.calls(match, bodies - {match.function.address}))
        return [match for match in self.matches.values() if id(match) not in wrappers]

    def calls(self, match: Match, addresses: set[int]) -> bool:
        """Does it call or jump to one of `addresses`?"""
        from ..binary.disasm import decode

        elf, function = self.images.of(match.file).elf, match.function
        try:
            code = elf.read(function.address, function.size)
            return any(instruction.target in addresses for instruction in decode(elf.machine, code, function.address))
        except BinaryError:
            return False


def _nearest(image: Image, function: Function, inside: int, form: str, base: int) -> str | None:
    """A sentence with the instructions before and after the byte `inside` the function."""
    from ..binary.disasm import decode

    starts = []
    try:
        code = image.elf.read(function.address, function.size)
        for instruction in decode(image.elf.machine, code, function.address):
            starts.append(instruction.address - function.address)
    except BinaryError:
        return "its code can't be decoded"
    near = [start for start in starts if start < inside][-1:] + [start for start in starts if start > inside][:1]
    return "the nearest ones begin at " + " and ".join(form % (base + start) for start in near) if near else None
