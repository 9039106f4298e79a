# SPDX-License-Identifier: BSD-2-Clause
"""Functions by name in every file that has them: the system's libraries, other copies that processes map, programs.

Containers, virtual environments, and programs that were linked statically bring libraries of their own. A tool that
shows what all programs do through a library has to look at each copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import BinaryError, Error, TargetNotFound
from .images import Images
from .libraries import find_libraries
from .locate import Located
from .plan import Match, Planner
from .probe import Probe, Resolution, Skipped
from .process import Mapping, Process, identity

_MAX_PROCESSES = 10_000
_MAX_MAPS_BYTES = 16 << 20
_MAX_FILES = 256
_SHOWN_FILES = 8
# Of /proc/PID/maps: start, end, offset, device, inode and path of what is mapped as code and is called LIBRARY.
_MAPPED = (
    rb"(?m)^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) +"
    rb"(/[^\n]*/(?:%s)[^/\n]*)$"
)


class Sought(NamedTuple):
    """A function to probe wherever it is.

    Attributes:
        names: what it may be called. Of those a file has, the first whose return can be seen is probed: in some
            libraries one only passes the call on to another.
        returns: its return is wanted.
        entry_alone: if its return can't be seen, its entry is probed all the same.
        go: a function of Go's, looked for in Go programs only.
    """

    names: tuple[str, ...]
    returns: bool = True
    entry_alone: bool = False
    go: bool = False


class Place(NamedTuple):
    """Which files are looked at.

    Attributes:
        libraries: names as the linker's -l takes them ("ssl"), whatever version.
        programs: names of programs whose executables are looked at ("bash"); "*": every program's.
        paths: these files too.
    """

    libraries: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


class Found(NamedTuple):
    """What was found.

    Attributes:
        resolution: the probes.
        sought: of each probe what it was sought as: `Sought.names`' first.
        files: of each probe its file, as people know it.
    """

    resolution: Resolution
    sought: tuple[str, ...]
    files: tuple[str, ...]


def find(
    sought: Sequence[Sought], place: Place, *, pids: Sequence[int] = (), executable: str | None = None, what: str
) -> Found:
    """Finds functions in all files of a place.

    Args:
        pids: only files that these processes map, and of `place.paths` all.
        executable: what a command that waits to be started will run; it is looked at too.
        what: the functions, for a message: "OpenSSL, GnuTLS or Go's crypto/tls".

    Raises:
        TargetNotFound: no such process or path, or no file, or not each of `place.paths`, has any of the functions.
        TargetError, PermissionDenied: as a process can't be traced.
        BinaryError: a file of `place.paths` isn't a program or library.
    """
    processes = [Process(pid) for pid in dict.fromkeys(pids)]
    files = _Files(place)
    for path in place.paths:
        files.add_path(path)
    must_open = set(files.found)
    if executable is not None:
        files.add_path(executable)
    if processes:
        for process in processes:
            files.add_process(process)
    elif place.libraries or place.programs:
        files.add_everywhere()
    with Images() as images:
        planner = Planner(images, processes, None, returns=True, allow_uretprobe=False)
        entries = Planner(images, processes, None, returns=False, allow_uretprobe=False)
        probes: dict[tuple[tuple[int, int], int], tuple[Probe, str]] = {}
        skipped: dict[Skipped, None] = {}
        having: set[tuple[int, int]] = set()
        for which, file in files.found.items():
            for one in sought:
                try:
                    planned = _probe_of(one, file, images, planner, entries, skipped)
                except Error as error:
                    if which in must_open:
                        raise
                    # A file that can't be read has none that we know of: a program without an ELF file, one that is
                    # gone.
                    if not isinstance(error, (BinaryError, TargetNotFound)):
                        skipped[Skipped(file.shown, str(error))] = None
                    break
                if planned is not None:
                    probes.setdefault((planned.image_id, planned.entry), (planned, one.names[0]))
                    having.add(which)
        if not probes:
            raise _nothing(what, processes, place.paths, executable, tuple(skipped))
        for which in must_open - having:
            path = files.found[which].shown
            raise _nothing(what, (), (path,), None, [one for one in skipped if one.name.endswith(path)])
        shown = list(dict.fromkeys(probe.shown for probe, _ in probes.values()))
        more = f" and {len(shown) - _SHOWN_FILES} more" if len(shown) > _SHOWN_FILES else ""
        notes = (f"probed: {', '.join(shown[:_SHOWN_FILES])}{more}", *files.notes)
        resolution = Resolution(tuple(probe for probe, _ in probes.values()), tuple(skipped), notes, images.by_file)
        return Found(
            resolution, tuple(name for _, name in probes.values()), tuple(probe.shown for probe, _ in probes.values())
        )


def _probe_of(
    one: Sought,
    file: Located,
    images: Images,
    planner: Planner,
    entries: Planner,
    skipped: dict[Skipped, None],
) -> Probe | None:
    """The probe for a function in a file, None if it isn't there or can't be probed."""
    image = images.of(file)
    if one.go and image.go is None:
        return None
    functions = [function for name in one.names for function in image.search(name)[:1]]
    reasons = []
    for function in functions:
        planned = (planner if one.returns else entries).probe(Match(file, function, None))
        if isinstance(planned, str):
            reasons.append(Skipped(f"{function.name} of {file.shown}", planned))
        else:
            return planned
    if functions and one.entry_alone:
        planned = entries.probe(Match(file, functions[0], None))
        if isinstance(planned, Probe):
            return planned
    skipped.update(dict.fromkeys(reasons))
    return None


def _nothing(
    what: str, processes: Sequence[Process], paths: Sequence[str], executable: str | None, skipped: Sequence[Skipped]
) -> TargetNotFound:
    if skipped:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        return TargetNotFound(f"{what}: nothing can be probed: {skipped[0].name}: {skipped[0].reason}{more}")
    where = ", ".join(f"process {process.pid} ({process.name})" for process in processes[:_SHOWN_FILES])
    if not processes:
        where = ", ".join([*paths, *([executable] if executable else [])]) or "this system"
        return TargetNotFound(f"{where} has no {what}")
    return TargetNotFound(
        f"{where} has no {what}, neither in a library it maps nor in the program itself",
        hint="a library that it loads later is seen without -p",
    )


class _Files:
    """The files to look at, each once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found: dict[tuple[int, int], Located] = {}
        self.notes: list[str] = []
        names = "|".join(rf"lib{re.escape(name)}[-.]" for name in place.libraries)
        if "c" in place.libraries:  # musl's C library is its loader
            names += r"|ld-musl-"
        self._library = re.compile(rf"(?:{names})[^/]*\Z") if names else None
        self._mapped = re.compile(_MAPPED % names.encode()) if names else None
        # Files as /proc/PID/maps identifies them: on overlayfs by the file below, which containers share.
        self._mappings: set[tuple[int, int]] = set()

    def _add(self, path: str, shown: str, pid: int | None, root: str) -> None:
        which = identity(path)
        if which is None:
            return
        pids = () if pid is None else (pid,)
        known = self.found.get(which)
        if known is not None:
            self.found[which] = known._replace(pids=tuple(dict.fromkeys(known.pids + pids)) if known.pids else ())
        elif len(self.found) < _MAX_FILES:
            self.found[which] = Located(path, shown, which, pids, root)
        elif len(self.found) == _MAX_FILES and not self.notes:
            self.notes.append(f"more than {_MAX_FILES} files may hold what is looked for: the others aren't looked at")

    def add_path(self, path: str) -> None:
        if identity(path) is None:
            raise TargetNotFound(f"{path}: no such file")
        self._add(path, path, None, "/")

    def is_library(self, path: str) -> bool:
        name = os.path.basename(path)
        return self._library is not None and ".so" in name and self._library.match(name) is not None

    def is_program(self, path: str) -> bool:
        return "*" in self.place.programs or os.path.basename(path) in self.place.programs

    def add_process(self, process: Process) -> None:
        """What one process maps; the probes are for it alone."""
        program = process.program
        for mapping in process.files():
            if self.is_library(mapping.path) or (mapping.path == program and self.place.programs):
                self._add_mapping(process, mapping, process.pid)

    def _add_mapping(self, process: Process, mapping: Mapping, pid: int | None) -> None:
        path = process.path_for(mapping)
        shown = mapping.path if path == mapping.path else f"{mapping.path} (of process {process.pid})"
        self._add(path, shown, pid, process.root)

    def add_everywhere(self) -> None:
        """The system's libraries, and what running processes map."""
        from .libraries import find_program

        for name in self.place.libraries:
            for library in find_libraries(name):
                if self.is_library(library.path):
                    self._add(library.path, os.path.realpath(library.path), None, "/")
        for name in self.place.programs:
            program = None if name == "*" else find_program(name)
            if program is not None:
                self._add(program, os.path.realpath(program), None, "/")
        programs: set[tuple[int, int]] = set(self.found)
        for pid in self._pids():
            try:
                if self.place.programs:
                    self._add_program(pid, programs)
                if self._mapped is not None:
                    self._add_libraries(pid)
            except (Error, OSError):  # it is gone, or not for us to see
                continue

    def _pids(self) -> Iterable[int]:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
        if len(pids) > _MAX_PROCESSES:
            self.notes.append(f"of {len(pids)} processes the libraries of {_MAX_PROCESSES} were looked at")
        return pids[:_MAX_PROCESSES]

    def _add_program(self, pid: int, seen: set[tuple[int, int]]) -> None:
        which = identity(f"/proc/{pid}/exe")
        if which is None or which in seen or not self.is_program(Process.maps_path(os.readlink(f"/proc/{pid}/exe"))):
            return
        seen.add(which)
        process = Process(pid)
        for mapping in process.files():
            if mapping.path == process.program and (mapping.dev, mapping.inode) not in self._mappings:
                self._mappings.add((mapping.dev, mapping.inode))
                self._add_mapping(process, mapping, None)

    def _add_libraries(self, pid: int) -> None:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            text = maps.read(_MAX_MAPS_BYTES)
        assert self._mapped is not None
        for start, end, offset, major, minor, inode, name in self._mapped.findall(text):
            path = os.fsdecode(name).replace("\\012", "\n")
            plain = Process.maps_path(path)
            device = os.makedev(int(major, 16), int(minor, 16))
            if (device, int(inode)) in self._mappings or not self.is_library(plain):
                continue
            self._mappings.add((device, int(inode)))
            mapping = Mapping(
                int(start, 16), int(end, 16), "r-xp", int(offset, 16), device, int(inode), plain, plain != path
            )
            self._add_mapping(Process(pid), mapping, None)
