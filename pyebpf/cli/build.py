# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf build."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence

from pyebpf import build
from pyebpf.cli import exits, options
from pyebpf.errors import CompileError
from pyebpf.output.text import safe

_EPILOG = """\
examples:
  pyebpf build own.bpf.c                         # own.bpf.o, for this machine
  pyebpf build --arch all -D DEBUG own.bpf.c     # own.x86-64.bpf.o, own.arm64.bpf.o
  clang $(pyebpf build --cflags) -c own.bpf.c    # in a Makefile

In a setup.py: pyebpf.build.compile("own.bpf.c", output). PYEBPF_CLANG,
PYEBPF_LLVM_STRIP and PYEBPF_LLVM_OBJCOPY name other tools."""


def main(argv: Sequence[str]) -> int:
    parser = options.Parser(
        prog="pyebpf build",
        description="Compile an eBPF program of your own, to load it by pyebpf.Object. Needs clang and libbpf's "
        "headers, but neither root nor libbpf; the object runs on every kernel that has what it uses.",
        epilog=_EPILOG,
        formatter_class=options.Formatter,
    )
    parser.add_argument("source", metavar="FILE.bpf.c", nargs="?", help="the program; it may #include <pyebpf.bpf.h>")
    parser.add_argument("-o", "--output", metavar="FILE", help="the object (default FILE.bpf.o beside the source)")
    parser.add_argument("--arch", choices=("host", *build.ARCHITECTURES, "all"), default="host",
                        help="the machine it is for (default: this one); all: one object for each")  # fmt: skip
    parser.add_argument("-I", "--include", metavar="DIR", action="append", default=[],
                        help="look for headers there too (repeatable)")  # fmt: skip
    parser.add_argument("-D", "--define", metavar="NAME[=VALUE]", action="append", default=[],
                        help="define a macro (repeatable)")  # fmt: skip
    parser.add_argument("--slim", action="store_true",
                        help="leave out source lines, which the verifier's log would show: half the size")  # fmt: skip
    parser.add_argument("--cflags", action="store_true",
                        help="compile nothing: print the options of clang's, for another build system")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="JSON lines: an object each")
    arguments = parser.parse_args(argv)
    if arguments.arch == "all" and (arguments.output or arguments.cflags):
        parser.error("--arch all makes several objects: it takes neither -o nor --cflags")
    if not (arguments.source or arguments.cflags):
        parser.error("which FILE.bpf.c?")
    if arguments.cflags:
        from shlex import join

        arch = "" if arguments.arch == "host" else arguments.arch
        print(join([*build.flags(arch), *(f"-I{folder}" for folder in [*arguments.include, *build.include_dirs()]),
                    *(f"-D{macro}" for macro in arguments.define)]))  # fmt: skip
        return exits.TRACED
    if arguments.arch == "all":
        stem = re.sub(r"(\.bpf)?\.c$", "", arguments.source)
        for arch in build.ARCHITECTURES:
            _build(arguments, arch, f"{stem}.{arch}.bpf.o")
    else:
        _build(arguments, "" if arguments.arch == "host" else arguments.arch, arguments.output)
    return exits.TRACED


def _build(arguments: argparse.Namespace, arch: str, output: str | None) -> None:
    try:
        built = build.compile(arguments.source, output, arch=arch, include=arguments.include,
                              define=arguments.define, slim=arguments.slim)  # fmt: skip
    except CompileError as error:
        _say(error.output)
        raise
    _say(built.warnings)
    if arguments.json:
        from pyebpf.output import jsonl

        print(jsonl.line("object", **{**built._asdict(), "maps": [one._asdict() for one in built.maps]}))
        return
    print("\n".join(_described(built)))
    for note in built.notes:
        print(f"note: {safe(note)}", file=sys.stderr)


def _say(output: str) -> None:
    """What clang says, as it says it."""
    for line in output.splitlines():
        print("\t".join(map(safe, line.split("\t"))), file=sys.stderr)


def _described(built: build.Built) -> list[str]:
    """What was made, and how to use it."""
    out = [f"{built.path}: {built.size:,} bytes, for {built.arch}"]

    def table(title: str, rows: Sequence[tuple[str, str]]) -> None:
        width = max((len(name) for name, _ in rows), default=0)
        for index, (name, text) in enumerate(rows):
            out.append(f"  {title if not index else '':<9} {name:<{width}}  {text}".rstrip())

    table("programs", [(name, f'SEC("{section}")') for name, section in built.programs.items()])
    table("maps", [(one.name, _map(one)) for one in built.maps])
    table("records", [(name, ", ".join(members)) for name, members in built.records.items()])
    table("variables", [(name, section[1:]) for section, names in built.variables.items() for name in names])
    return [*map(safe, out), *map(safe, ["", *_usage(built)] if built.programs else [])]


def _map(one: build.Map) -> str:
    size = f"{one.entries:,} " + ("bytes" if one.kind == "ringbuf" else "entries") if one.entries else ""
    types = f"{one.key} -> {one.value}" if one.key and one.value else one.value
    return ", ".join(part for part in (one.kind, types, size) if part)


def _usage(built: build.Built) -> list[str]:
    """Python that loads it."""
    out = [f'with pyebpf.Object.open("{os.path.basename(built.path)}") as obj:', "    obj.load()"]
    by_hand = [(name, way) for name, section in built.programs.items() for way in [_by_hand(section)] if way]
    for name, way in by_hand:
        out.append(f'    obj.programs["{name}"].attach_{way}')
    if len(by_hand) < len(built.programs):
        out.append("    obj.attach()")
    reader = next((one for one in built.maps if one.kind in ("ringbuf", "perf_event_array")), None)
    if reader:
        out += [f'    for event in obj.{"ring" if reader.kind == "ringbuf" else "perf"}("{reader.name}"):',
                "        print(event)"]  # fmt: skip
    return out


_FUNCTION = '("/path/of/program", "function")'
# How a program is attached whose section doesn't say where.
_WAYS = {
    "uprobe": f"uprobe{_FUNCTION}", "uretprobe": f"uretprobe{_FUNCTION}", "perf_event": "perf_event()",
    **dict.fromkeys(("uprobe.multi", "uretprobe.multi", "uprobe.session"), f"uprobe_multi{_FUNCTION}"),
    "usdt": 'usdt("/path/of/program", "provider", "name")', "xdp": 'xdp("eth0")', "raw_tp": 'raw_tracepoint("name")',
    "kprobe": 'kprobe("function")', "kretprobe": 'kretprobe("function")', "tp": 'tracepoint("category", "name")',
}  # fmt: skip


def _by_hand(section: str) -> str:
    kind, _, place = section.partition("/")
    if kind.startswith("cgroup"):
        return 'cgroup("/sys/fs/cgroup/GROUP")'
    return "" if place else _WAYS.get(kind[:-2] if kind.endswith(".s") else kind, "")
