# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf stackcount."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from pyebpf.cli import options, picture
from pyebpf.cli.listing import print_targets
from pyebpf.cli.progress import Progress
from pyebpf.cli.run import Run
from pyebpf.output import folded
from pyebpf.output.text import safe
from pyebpf.tools.stackcount import CallPaths, StackSession, stacks

EXAMPLES = (
    "pyebpf stackcount -d 10 './server:main.(*Arith).Mul'   # who calls it",
    "pyebpf stackcount -P -d 10 'c:malloc'                  # in each process",
    "pyebpf stackcount -d 10 --flamegraph a.svg 'c:malloc'  # a picture, for a browser",
    "pyebpf stackcount -f -d 30 -p 1234 'c:malloc' >out     # for flamegraph.pl, speedscope",
)


def main(argv: Sequence[str]) -> int:
    parser = options.parser("stackcount", "Count the calls of functions by the stacks that lead to them.", EXAMPLES)
    options.add_interval(parser)
    parser.add_argument("-U", "--user-stack", action="store_true", help="user stacks (the default)")
    parser.add_argument("-K", "--kernel-stack", action="store_true", help="kernel stacks")
    parser.add_argument("-P", "--per-process", action="store_true", help="count each process and thread name apart")
    parser.add_argument("-f", "--folded", action="store_true", help="one line a stack, as flame graph tools read it")
    parser.add_argument("--flamegraph", metavar="FILE.svg",
                        help="draw a flame graph into FILE.svg instead of printing the stacks; a browser zooms into it "
                        "and searches it (-: standard output)")  # fmt: skip
    options.add_max_keys(parser, "stacks", "1.7 KB")
    arguments = parser.parse_args(argv)
    options.check(arguments, parser)
    if arguments.flamegraph is not None:
        picture.check(arguments.flamegraph, "--flamegraph", arguments, parser)
    if arguments.list:
        return print_targets(arguments, returns=False)
    user_stack = arguments.user_stack or not arguments.kernel_stack

    run = Run(
        arguments,
        "stackcount",
        lambda command: stacks(*arguments.targets, pid=arguments.pid or None, command=command, regex=arguments.regex,
                               user_stack=user_stack, kernel_stack=arguments.kernel_stack,
                               per_process=arguments.per_process or arguments.folded,
                               max_probes=arguments.max_probes, max_keys=arguments.max_keys),
        "Tracing {functions} for {targets}",
    )  # fmt: skip
    session = run.session
    assert isinstance(session, StackSession)
    run.start()

    def report(_last: bool) -> None:
        if arguments.flamegraph is not None and not run.json:
            return
        with Progress(arguments):
            paths = session.interval()
        if run.json:
            _emit(run, paths)
        else:
            _print(paths, arguments)

    run.intervals(report, session.learn)
    if arguments.flamegraph is None:
        return run.finish()
    from pyebpf.output import flamegraph

    with Progress(arguments):
        paths = session.snapshot()
    return picture.finish(
        run, arguments.flamegraph, lambda *texts: flamegraph.svg(paths, *texts), "Stacks that lead to"
    )


def _print(paths: CallPaths, arguments: argparse.Namespace) -> None:
    if arguments.timestamp:
        print(time.strftime("%H:%M:%S"))
    for path in paths:
        frames = folded.frames(path.kernel_stack, path.user_stack) or [path.function.name]
        if arguments.folded:
            print(folded.line(path.comm, frames, path.calls))
            continue
        print()
        for frame in frames:
            print(f"  {safe(frame)}")
        if arguments.per_process:
            print(f"    {safe(path.comm)} [{path.pid}]")
        print(f"    {path.calls}")
    print(end="", flush=True)


def _emit(run: Run, paths: CallPaths) -> None:
    from pyebpf.output.jsonl import timestamp

    now = timestamp()
    for path in paths:
        run.emit("stack", time=now, **path.as_dict())
