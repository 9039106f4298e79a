# SPDX-License-Identifier: BSD-2-Clause
"""The floor: a program that does nothing, at a function, until SIGINT: floor.py OBJECT PROGRAM PATH FUNCTION.

What any tool's probe costs at least, whoever wrote it.
"""

from __future__ import annotations

import signal
import sys

import pyebpf


def main() -> None:
    image, program, path, function = sys.argv[1:]
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with pyebpf.Object.open(image) as floor:
        for name, one in floor.programs.items():
            one.autoload = name == program
        floor.load()
        floor.programs[program].attach_uprobe_multi(path, [function], on_return=program == "empty_return")
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
