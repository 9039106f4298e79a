# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf export."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from pyebpf.cli import descriptors, exits, options
from pyebpf.output.text import safe

EXAMPLES = (
    "pyebpf export --check /etc/pyebpf.toml   # say what is wrong with the file, all at once",
    "pyebpf export /etc/pyebpf.toml           # trace what it lists, serve 127.0.0.1:9435/metrics",
    "kill -HUP PID                            # read the file again; what didn't change isn't touched",
)


def parser() -> argparse.ArgumentParser:
    result = options.Parser(
        prog="pyebpf export",
        description="Trace what a configuration file lists, as long as this runs, and serve the numbers: /metrics for "
        "Prometheus, /healthz for whoever watches over it; or push them over OTLP. Logs are JSON lines on standard "
        "error. SIGHUP reads the file again, SIGTERM ends it.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in EXAMPLES),
        formatter_class=options.Formatter,
    )
    result.add_argument("config", metavar="CONFIG.toml", help="what to trace")
    result.add_argument("--check", action="store_true", help="only check the file: exit code 0, or 2 with all errors")
    result.add_argument("--listen", metavar="HOST:PORT", type=_address, help="serve here, not where the file says")
    result.add_argument("--ready-fd", type=int, metavar="FD", help="write a newline to FD once every trace was tried")
    return result


def _address(text: str) -> tuple[str, int]:
    from pyebpf.export.values import address

    try:
        return address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(argv: Sequence[str]) -> int:
    arguments_parser = parser()
    arguments = arguments_parser.parse_args(argv)
    if arguments.ready_fd is not None:
        try:
            os.fstat(arguments.ready_fd)
        except OSError:
            arguments_parser.error(f"--ready-fd {arguments.ready_fd}: no such file descriptor")
    from pyebpf.export.config import ConfigError, load

    try:
        config = load(arguments.config)
    except ConfigError as error:
        for problem in error.problems:
            print(safe(problem), file=sys.stderr)
        return exits.USAGE
    if arguments.check:
        print(f"{safe(arguments.config)}: {len(config.traces)} trace{'s' * (len(config.traces) != 1)}, no errors")
        return exits.TRACED
    if arguments.listen:
        config = config._replace(listen=arguments.listen)
    from pyebpf.core import shield
    from pyebpf.export.agent import Agent
    from pyebpf.export.http import bind
    from pyebpf.export.log import Log
    from pyebpf.export.notify import notify

    shield.wanted = True
    descriptors.allow_many()
    gc.enable()
    listener = bind(*config.listen)
    agent = Agent(arguments.config, config, listener, Log(), arguments.listen, notify)

    def stop(*_: Any) -> None:
        agent.stop()

    def ready() -> None:
        if arguments.ready_fd is not None:
            os.write(arguments.ready_fd, b"\n")
            os.close(arguments.ready_fd)

    signal.signal(signal.SIGHUP, lambda *_: agent.reload())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    agent.run(ready)
    return exits.TRACED
