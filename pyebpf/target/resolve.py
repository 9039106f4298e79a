# SPDX-License-Identifier: BSD-2-Clause
"""From targets to probes: which files, which functions, and at which of their bytes to stop.

Nothing here touches the kernel. What can't be probed safely is left out with a reason, never probed halfway; docs/
architecture.md, "How a return is seen", has the rules for returns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..binary.disasm import DecodeError, decode
from ..binary.exits import exits_of
from ..binary.image import Function, Image
from ..errors import BinaryError, TargetError, TargetNotFound, UnsafeProbe
from .locate import Located, locate
from .process import Process
from .spec import Spec, parse

if TYPE_CHECKING:
    from ..binary.golang import GoProgram

_UNWINDER = re.compile(r"/lib(?:stdc\+\+|c\+\+|c\+\+abi|gcc_s|unwind)[.-][^/]*\Z")
_MAX_TAIL_FUNCTIONS = 16
_MAX_NAMED = 5


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
        image_id: (st_dev, st_ino) of it; a key of `Resolution.images`.
        entry: file offset where the entry is seen. In Go that is behind the stack check, where each call passes once.
        returns: file offsets of the instructions that return from it. Functions that end in calls of the same other
            function share some: then such an offset is in several probes' `returns`.
        uretprobe: its return must be seen by the kernel's return probe; `returns` is empty then.
        go: for Go code, else None.
        pids: the processes it was found in, () if it was looked for without any.
        displacement: bytes from its first instruction to the one the user asked for, 0 for the entry.
    """

    function: Function
    path: str
    image_id: tuple[int, int]
    entry: int
    returns: tuple[int, ...]
    uretprobe: bool
    go: GoAbi | None
    pids: tuple[int, ...]
    displacement: int


class Skipped(NamedTuple):
    """A function that matched and is not probed."""

    name: str
    reason: str


class Resolution(NamedTuple):
    """The answer to what the user asked for.

    Attributes:
        probes: at least one; no two with the same entry in the same file.
        skipped: what matched but can't be probed.
        notes: sentences the user should read: choices made, calls that will not be seen.
        images: the files read, by (st_dev, st_ino).
    """

    probes: tuple[Probe, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    images: Mapping[tuple[int, int], Image]


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
        allow_uretprobe: accept the kernel's return probe also where an exception passing through it would end the
            program. Never for Go.
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
    resolver = _Resolver(processes, executable, max_probes)
    for spec in specs:
        resolver.match(spec)
    return resolver.plan(returns, allow_uretprobe)


class _Match(NamedTuple):
    """A function to probe: found in a file, with the bytes to go past its first instruction or None."""

    file: Located
    function: Function
    displacement: int | None


class _Resolver:
    """The state of one `resolve`."""

    def __init__(self, processes: Sequence[Process], executable: str | None, max_probes: int) -> None:
        self.processes = processes
        self.executable = executable
        self.max_probes = max_probes
        self.images: dict[tuple[int, int], Image] = {}
        self.matches: dict[tuple[int, int, int], _Match] = {}
        self.skipped: dict[Skipped, None] = {}
        self.notes: list[str] = []
        self._carries_exceptions: bool | None = None

    # -- which functions

    def match(self, spec: Spec) -> None:
        """Add what `spec` matches to `matches`."""
        before = len(self.matches)
        files = locate(spec.file, self.processes, self.executable, self.notes)
        if spec.address is not None:
            found = [self.at_address(file, spec.address) for file in files]
        else:
            found = [
                _Match(file, function, spec.offset)
                for file in files
                for function in self.image(file).search(spec.pattern, spec.regex)
            ]
            if not found:
                raise self.nothing(spec, files[0])
            if spec.offset is not None:
                found = self.on_boundaries(spec, found)
        for match in found:
            offset = match.function.offset + (match.displacement or 0)
            known = self.matches.setdefault((*match.file.identity, offset), match)
            if known is not match:
                pids = tuple(dict.fromkeys(known.file.pids + match.file.pids))
                self.matches[(*match.file.identity, offset)] = known._replace(file=known.file._replace(pids=pids))
        if len(self.matches) > self.max_probes:
            raise TargetError(
                f"{len(self.matches)} functions match, {len(self.matches) - before} of them {spec.text}; "
                f"at most {self.max_probes} are traced at once",
                hint=f"narrow the pattern, or allow more with --max-probes {len(self.matches)}",
            )

    def image(self, file: Located) -> Image:
        image = self.images.get(file.identity)
        if image is None:
            try:
                image = Image.open(file.path, debug_root=file.root)
            except BinaryError as error:
                error.hint = error.hint or _about_script(file)
                raise
            self.images[file.identity] = image
        return image

    def nothing(self, spec: Spec, file: Located) -> TargetNotFound:
        """Why no function of `file` matches."""
        image = self.image(file)
        what = f"no function of {file.shown} matches {spec.pattern!r}"
        searched = image.what_was_searched()
        if image.go is not None:
            inlined = image.go.inlined_into([spec.pattern]).get(spec.pattern)
            if inlined:
                return TargetNotFound(
                    f"{spec.pattern}: no out-of-line body in {file.shown} (inlined into {_some(inlined)})",
                    hint="trace a function it is inlined into, or rebuild with //go:noinline in front of it",
                )
        imports = image.imports(spec.pattern, spec.regex)
        hint = None
        if imports:
            hint = f"{file.shown} only calls {_some(imports)}, from a library: write LIB:{imports[0]}, like c:malloc"
        return TargetNotFound(
            f"{what} (searched {searched})", hint=hint, close_matches=image.close_matches(spec.pattern)
        )

    # -- instructions inside functions

    def at_address(self, file: Located, address: int) -> _Match:
        image = self.image(file)
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
        return _Match(file, function, inside)

    def on_boundaries(self, spec: Spec, found: list[_Match]) -> list[_Match]:
        """Those of `found` that have an instruction at the offset; UnsafeProbe if none does."""
        offset = spec.offset or 0
        good = []
        refusals = []
        for match in found:
            function, image = match.function, self.image(match.file)
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

    # -- how to probe them

    def plan(self, returns: bool, allow_uretprobe: bool) -> Resolution:
        probes = []
        for match in self.without_wrappers():
            planned: Probe | str
            try:
                planned = self.probe(match, returns, allow_uretprobe)
            except BinaryError as error:
                planned = str(error)
            if isinstance(planned, Probe):
                probes.append(planned)
            else:
                self.skipped[Skipped(match.function.name, planned)] = None
        skipped = tuple(self.skipped)
        if not probes:
            more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
            raise TargetError(f"nothing that matches can be traced: {skipped[0].name}: {skipped[0].reason}{more}")
        self.note_inlined(probes)
        return Resolution(tuple(probes), skipped, tuple(dict.fromkeys(self.notes)), self.images)

    def probe(self, match: _Match, returns: bool, allow_uretprobe: bool) -> Probe | str:
        """The probe, or why there is none."""
        file, function, displacement = match
        image = self.image(file)
        if function.indirect:
            return "an indirect function: its code only chooses, at load time, the one that is called"
        if displacement:
            function = function._replace(name=f"{function.name}+{displacement:#x}")
        entry = function.offset + (displacement or 0)
        if _is_trap(image, function.address + (displacement or 0)):
            return "begins with a trap instruction"
        probe = Probe(function, file.path, file.identity, entry, (), False, None, file.pids, displacement or 0)
        if function.language == "go" and image.go is not None:
            return self.go_probe(probe, image, image.go, displacement is None, returns)
        return self.native_returns(probe, image, allow_uretprobe) if returns else probe

    def go_probe(self, probe: Probe, image: Image, program: GoProgram, at_entry: bool, returns: bool) -> Probe | str:
        code = program.at(probe.function.address)
        if code is None:
            return "not in Go's function table"
        sites = program.sites(code)
        if returns and not sites.returns:
            return sites.reason or "has no return instruction"
        return probe._replace(
            entry=image.elf.offset_of(sites.entry) if at_entry else probe.entry,
            returns=tuple(image.elf.offset_of(address) for address in sites.returns) if returns else (),
            go=GoAbi(sites.stack_abi, program.tls_offset, program.goid_offset or 0),
        )

    def native_returns(self, probe: Probe, image: Image, allow_uretprobe: bool) -> Probe | str:
        addresses, reason = _exits(image, probe.function)
        if addresses:
            return probe._replace(returns=tuple(image.elf.offset_of(address) for address in addresses))
        if image.go is not None:
            # A goroutine may be moved to another stack or thread before a C function that called back returns.
            return f"{reason}; a return probe is never used in a Go program"
        if not allow_uretprobe and (image.may_unwind or self.carries_exceptions()):
            return f"{reason}; a return probe would end the program if an exception passed through"
        return probe._replace(uretprobe=True)

    def carries_exceptions(self) -> bool:
        """Can an exception, a panic or a goroutine pass through a library's frames in the programs traced?"""
        if self._carries_exceptions is None:
            self._carries_exceptions = any(
                any(_UNWINDER.search(mapping.path) for mapping in process.files()) for process in self.processes
            ) or any(image.may_unwind or image.go is not None for image in self.programs())
        return self._carries_exceptions

    def programs(self) -> list[Image]:
        """The programs whose libraries are traced, as far as they are known."""
        if self.executable:
            return [self.image(file) for file in locate("", (), self.executable, [])]
        return [self.image(file) for process in self.processes for file in locate("", [process], None, [])]

    # -- Go's peculiarities

    def without_wrappers(self) -> list[_Match]:
        """The matches without the Go wrappers that only pass a call on to a function of the same name.

        For code in assembly and for calls from there the linker's table has two functions of one name, one for each
        calling convention; every call passes the one that isn't the wrapper. cmd/compile/internal/ssagen/abi.go
        """
        by_name: dict[tuple[tuple[int, int], str], list[_Match]] = {}
        for match in self.matches.values():
            if match.function.language == "go" and match.displacement is None:
                by_name.setdefault((match.file.identity, match.function.name), []).append(match)
        wrappers = set()
        for same in by_name.values():
            if len(same) > 1:
                bodies = {match.function.address for match in same}
                wrappers.update(match for match in same if self.calls(match, bodies - {match.function.address}))
        return [match for match in self.matches.values() if match not in wrappers]

    def calls(self, match: _Match, addresses: set[int]) -> bool:
        """Does it call or jump to one of `addresses`?"""
        elf, function = self.image(match.file).elf, match.function
        try:
            code = elf.read(function.address, function.size)
            return any(instruction.target in addresses for instruction in decode(elf.machine, code, function.address))
        except BinaryError:
            return False

    def note_inlined(self, probes: Sequence[Probe]) -> None:
        for image_id, image in self.images.items():
            names = [
                p.function.name for p in probes if p.go is not None and not p.displacement and p.image_id == image_id
            ]
            if names and image.go is not None:
                for name, callers in image.go.inlined_into(names).items():
                    places = "place" if len(callers) == 1 else "places"
                    self.notes.append(
                        f"{name}: also inlined at {len(callers)} {places} (in {_some(callers)}); those calls are not seen"
                    )


def _exits(image: Image, function: Function) -> tuple[list[int], str]:
    """The addresses of all instructions that return from a native function, or none and why they aren't known.

    One that ends in a call of another function returns where that one does.
    """
    returns: set[int] = set()
    todo = [function]
    seen = {function.address}
    first_reason = ""
    while todo:
        part = todo.pop()
        exits = exits_of(image.elf, image.unwind, part.address, part.size, image.cold_parts(part))
        first_reason = first_reason or exits.reason or ""
        if exits.reason and not exits.tail_targets:
            return [], first_reason
        returns.update(exits.returns)
        for target in exits.tail_targets:
            if target in seen:
                continue
            called = image.function_at(target)
            if called is None or called.address != target or called.language == "go" or len(seen) > _MAX_TAIL_FUNCTIONS:
                return [], first_reason
            seen.add(target)
            todo.append(called)
    return sorted(returns), first_reason or "never returns"


def _is_trap(image: Image, address: int) -> bool:
    """Is the instruction at `address` one the kernel refuses to probe, or that ends the program anyway?"""
    # include/asm/uprobes.h: an int3 looks like another debugger's breakpoint. Go's runtime.abort is one.
    code = image.elf.read(address, 4 if image.elf.machine == "arm64" else 1)
    if image.elf.machine == "arm64":
        word = int.from_bytes(code, "little")
        return word & 0xFFE0001F == 0xD4200000 or word >> 16 == 0  # brk, udf
    return code in (b"\xcc", b"\xf4")  # int3, hlt


def _nearest(image: Image, function: Function, inside: int, form: str, base: int) -> str | None:
    """A sentence with the instructions before and after the byte `inside` the function."""
    starts = []
    try:
        code = image.elf.read(function.address, function.size)
        for instruction in decode(image.elf.machine, code, function.address):
            starts.append(instruction.address - function.address)
    except (BinaryError, DecodeError):
        return "its code can't be decoded"
    near = [start for start in starts if start < inside][-1:] + [start for start in starts if start > inside][:1]
    return "the nearest ones begin at " + " and ".join(form % (base + start) for start in near) if near else None


def _about_script(file: Located) -> str | None:
    try:
        with open(file.path, "rb") as script:
            first = script.read(256)
    except OSError:
        return None
    if not first.startswith(b"#!"):
        return None
    interpreter = first[2:].split(b"\n")[0].strip().decode("utf-8", "replace")
    return f"it is a script that {interpreter} runs: trace that program"


def _some(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _MAX_NAMED} more" if len(distinct) > _MAX_NAMED else ""
    return ", ".join(distinct[:_MAX_NAMED]) + more
