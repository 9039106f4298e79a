# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf list, and -l of the function tools: what a target matches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pyebpf.binary.signature import Signature
from pyebpf.cli import exits, options
from pyebpf.cli.progress import Progress
from pyebpf.output.text import safe
from pyebpf.target.command import Command
from pyebpf.target.probe import Probe, Resolution
from pyebpf.target.resolve import resolve


def main(argv: Sequence[str]) -> int:
    parser = options.Parser(
        prog="pyebpf list",
        description="Show the functions that targets match: address, size, language, name and aliases.",
        epilog=options.TARGET_HELP,
        formatter_class=options.Formatter,
    )
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="e.g. './server:main.*'")
    parser.add_argument("-p", "--pid", type=options.positive_count, action="append", default=[], metavar="PID",
                        help="look in this process (repeatable)")  # fmt: skip
    parser.add_argument("-r", "--regex", action="store_true", help="patterns are regular expressions")
    parser.add_argument("--returns", action="store_true", help="also look for where each function returns, and how")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="also show parameters and results: names, types and where each lies")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="JSON lines")
    arguments = parser.parse_args(argv)
    arguments.command, arguments.max_probes = None, sys.maxsize
    return print_targets(arguments, returns=arguments.returns, signatures=arguments.verbose)


def print_targets(arguments: argparse.Namespace, *, returns: bool, signatures: bool = False) -> int:
    """Resolves and prints; traces nothing. Returns the exit code."""
    command = Command(arguments.command) if arguments.command else None
    try:
        with Progress(arguments):
            resolution = resolve(
                arguments.targets,
                pids=arguments.pid,
                executable=command.executable if command else None,
                regex=arguments.regex,
                returns=returns,
                max_probes=arguments.max_probes,
                allow_uretprobe=getattr(arguments, "allow_uretprobe", False),
            )
    finally:
        if command:
            command.close()
    show = _print_json if arguments.json else _print_text
    if signatures:
        from pyebpf.tools.questions import DebugFiles

        with DebugFiles() as debug:
            with Progress(arguments):
                found = debug.signatures_of(resolution)
            show(resolution, returns, found)
    else:
        show(resolution, returns, [None] * len(resolution.probes))
    return exits.TRACED


def _how_it_returns(probe: Probe) -> str:
    return "kernel" if probe.uretprobe else str(len(probe.returns))


def _print_text(resolution: Resolution, returns: bool, signatures: Sequence[Signature | None]) -> None:
    paths = {probe.shown for probe in resolution.probes}
    for path in sorted(paths):
        print(f"{safe(path)}:")
        print(f"{'ADDRESS':>18} {'SIZE':>7} {'LANG':<5} {'RETURNS ' if returns else ''}FUNCTION")
        for probe, signature in zip(resolution.probes, signatures):
            if probe.shown != path:
                continue
            function = probe.function
            shown = function.name
            if signature is not None:
                from pyebpf.output.signatures import text_of

                shown = text_of(function, signature)
            row = f"{function.address:#18x} {function.size:>7} {function.language:<5} "
            if returns:
                row += f"{_how_it_returns(probe):>7} "
            aliases = f"  (also {', '.join(map(safe, function.aliases))})" if function.aliases else ""
            print(f"{row}{safe(shown)}{aliases}")
    for reason in dict.fromkeys(signature.reason for signature in signatures if signature and signature.reason):
        print(f"no names: {safe(reason)}")
    for skip in resolution.skipped:
        print(f"skipped {safe(skip.name)}: {safe(skip.reason)}")
    for note in resolution.notes:
        print(f"note: {safe(note)}")
    total = len(resolution.probes)
    print(f"{total:,} function{'' if total == 1 else 's'}" + (
        f", {len(resolution.skipped):,} skipped" if resolution.skipped else ""), file=sys.stderr)  # fmt: skip


def _print_json(resolution: Resolution, returns: bool, signatures: Sequence[Signature | None]) -> None:
    from pyebpf.output import jsonl

    for probe, signature in zip(resolution.probes, signatures):
        function = probe.function
        fields: dict[str, object] = {
            "function": function.name, "symbol": function.raw, "path": probe.shown, "address": function.address,
            "size": function.size, "language": function.language, "aliases": list(function.aliases),
            "found_in": function.table, "entry_offset": probe.entry,
        }  # fmt: skip
        if returns:
            fields |= {"return_offsets": list(probe.returns), "uretprobe": probe.uretprobe}
        if signature is not None:
            from pyebpf.output.signatures import as_json

            fields |= as_json(signature)
        print(jsonl.line("function", **fields))
    for skip in resolution.skipped:
        print(jsonl.line("skipped", function=skip.name, reason=skip.reason))
    for note in resolution.notes:
        print(jsonl.line("note", text=note))
