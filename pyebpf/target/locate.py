# SPDX-License-Identifier: BSD-2-Clause
"""From the file part of a target to files that can be opened: here, or exactly as given processes map them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import TargetError, TargetNotFound
from .libraries import find_libraries, find_program, read_cache
from .process import Process, identity

_SHOWN_FILES = 8


class Located(NamedTuple):
    """A file to look for functions in.

    Attributes:
        path: opens it; what the kernel is given.
        shown: what to call it in messages.
        identity: (st_dev, st_ino).
        pids: the processes it was found in; (): it was looked for without any.
        root: below which its separate debug files are.
    """

    path: str
    shown: str
    identity: tuple[int, int]
    pids: tuple[int, ...]
    root: str


def locate(file: str, processes: Sequence[Process], executable: str | None, notes: list[str]) -> list[Located]:
    """The files a target means by `file`, see `spec`. Several: libraries of one name, or processes that differ.

    Args:
        file: `Spec.file`.
        processes: where it must be mapped; empty: anywhere.
        executable: what ":PATTERN" means if there are no processes.
        notes: gets a sentence about each choice made.

    Raises:
        TargetNotFound: there is no such file, library or program.
        TargetError: no process maps it; the hint says what they map.
    """
    if not processes:
        return _anywhere(file, executable, notes)
    found: dict[tuple[int, int], Located] = {}
    errors: list[TargetError | TargetNotFound] = []
    for process in processes:
        try:
            mapped = _in_process(file, process, notes)
        except (TargetError, TargetNotFound) as error:
            errors.append(error)
            continue
        for path, shown in mapped:
            which = identity(path)
            if which is None:
                raise TargetNotFound(f"process {process.pid} is gone, or no longer maps {shown}")
            file_found = found.get(which) or Located(path, shown, which, (), process.root)
            found[which] = file_found._replace(pids=(*file_found.pids, process.pid))
    if not found:
        raise errors[0]
    notes += [str(error) for error in errors]
    return list(found.values())


def _anywhere(file: str, executable: str | None, notes: list[str]) -> list[Located]:
    if not file:
        if executable is None:
            raise TargetError(
                ":PATTERN means the program of a process, and no process is given",
                hint="give a process, or write FILE:PATTERN; kernel functions are not supported yet",
            )
        paths = [executable]
    elif "/" in file:
        paths = [file]
    else:
        paths = _by_name(file, notes)
    found: dict[tuple[int, int], Located] = {}
    for path in paths:
        which = identity(path)
        if which is None:
            raise TargetNotFound(f"{path}: no such file")
        found.setdefault(which, Located(path, path, which, (), "/"))
    return list(found.values())


def _by_name(name: str, notes: list[str]) -> list[str]:
    """The library of that name, in every variant ld.so may choose from, else the program."""
    libraries = find_libraries(name)
    program = find_program(name)
    if not libraries:
        if program is None:
            raise _unknown(name)
        return [program]
    soname = libraries[0].soname
    chosen = [library.path for library in libraries if library.soname == soname]
    same = {identity(path) for path in chosen}
    others = [library.path for library in libraries if identity(library.path) not in same]
    if others:
        notes.append(f"{name}: {chosen[0]} is traced, not {', '.join(dict.fromkeys(others))}")
    if program is not None:
        notes.append(f"{name}: the library {chosen[0]} is traced, not the program {program}")
    return chosen


def _unknown(name: str) -> TargetNotFound:
    import difflib

    message = f"no library and no program in $PATH is called {name!r}"
    if os.path.isfile(name):
        return TargetNotFound(message, hint=f"for the file in this directory write ./{name}:PATTERN")
    short = {library.soname.partition(".so")[0].removeprefix("lib") for library in read_cache()}
    return TargetNotFound(message, close_matches=tuple(difflib.get_close_matches(name, sorted(short), 3)))


def _in_process(file: str, process: Process, notes: list[str]) -> list[tuple[str, str]]:
    """(path, how to show it) of each file of the process that `file` means."""
    if not file:
        return [_executable(process)]
    if "/" in file:
        return [_by_path(file, process, notes)]
    program_path = process.program
    is_program = os.path.basename(program_path) == file
    libraries = [mapping for mapping in process.libraries(file) if mapping.path != program_path]
    if libraries:
        if is_program:
            notes.append(f"{file}: the library {libraries[0].path} is traced, not the program {program_path}")
        return [(process.path_for(mapping), mapping.path) for mapping in libraries]
    if is_program:
        return [_executable(process)]
    program = find_program(file)
    if program is not None:
        return [_by_path(program, process, notes)]
    message = f"process {process.pid} ({process.name}) maps no file called {file!r}"
    raise TargetError(message, hint=_what_it_maps(process))


def _executable(process: Process) -> tuple[str, str]:
    program = process.program
    same = identity(program) == identity(process.exe)
    return (program if same else process.exe), program


def _by_path(typed: str, process: Process, notes: list[str]) -> tuple[str, str]:
    """The file at `typed`, seen from here or else from the process, if the process maps it.

    If it doesn't, but maps a file that had that path before, then that one: the program was rebuilt while it ran.
    """
    program = process.program
    running = identity(process.exe)
    here = identity(typed)
    if here is not None and here == running:
        return typed, typed
    try:
        directory = os.readlink(process.cwd)
        base = os.readlink(process.root)
    except OSError:
        raise TargetNotFound(f"process {process.pid} is gone") from None
    inside = process.real_path(os.path.join(directory, typed))
    there = identity(process.root + inside)
    if there is not None and there == running:
        return process.root + inside, typed
    names = {os.path.realpath(typed), inside, base.rstrip("/") + inside}
    if program in names:
        notes.append(f"{typed} was replaced since process {process.pid} started; the file it runs is traced")
        return process.exe, program
    on_disk = {which: path for which, path in ((there, process.root + inside), (here, typed)) if which is not None}
    for mapping in process.files():
        if (mapping.dev, mapping.inode) in on_disk:
            return on_disk[mapping.dev, mapping.inode], typed
    for mapping in process.files():
        if mapping.path in names:
            path = process.path_for(mapping)
            if identity(path) not in on_disk:
                notes.append(f"{typed} was replaced since process {process.pid} mapped it; the file it maps is traced")
            return path, mapping.path
    if not on_disk:
        raise TargetNotFound(f"{typed}: no such file, neither here nor for process {process.pid}")
    raise TargetError(f"process {process.pid} ({process.name}) does not map {typed}", hint=_what_it_maps(process))


def _what_it_maps(process: Process) -> str:
    paths = [mapping.path for mapping in process.files()]
    more = f" and {len(paths) - _SHOWN_FILES} more" if len(paths) > _SHOWN_FILES else ""
    return f"it maps {', '.join(paths[:_SHOWN_FILES])}{more}"
