# SPDX-License-Identifier: BSD-2-Clause
"""Runs one block of Python out of the documentation: ``python running.py FILE ROUNDS SECONDS [ARGUMENT…]``.

The block runs as it stands, with two differences. Loops end after ROUNDS rounds, as if the reader had pressed Ctrl-C
at a good moment; a loop that is reached must come round at least once. And after SECONDS (0: never) it is interrupted,
for blocks that wait in somebody else's event loop.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_rounds: dict[int, int] = {}


def _reach(line: int, iterable: Iterable[Any]) -> Iterable[Any]:
    _rounds.setdefault(line, 0)
    return iterable


class _Bounded(ast.NodeTransformer):
    """Puts an end to each loop of the block."""

    def __init__(self, most: int) -> None:
        self._most = most

    def _bounded(self, node: Any) -> Any:
        self.generic_visit(node)
        line = node.lineno
        begin = ast.parse(f"__rounds__[{line}] = __rounds__.get({line}, 0) + 1").body
        end = ast.parse(f"while 1:\n if __rounds__[{line}] >= {self._most}: break").body[0].body  # type: ignore[attr-defined]
        node.body = [*begin, *node.body, *end]
        return node

    def _over(self, node: Any) -> Any:
        # read(timeout=…) ends by itself, and something else may be waited for meanwhile
        most, self._most = self._most, 10**9 if "timeout=" in ast.unparse(node.iter) else self._most
        self._bounded(node)
        self._most = most
        reach = ast.Call(ast.Name("__reach__", ast.Load()), [ast.Constant(node.lineno), node.iter], [])
        node.iter = ast.copy_location(reach, node.iter)
        return node

    visit_For = visit_AsyncFor = _over

    def visit_While(self, node: ast.While) -> Any:
        return self._bounded(node) if isinstance(node.test, ast.Constant) else self.generic_visit(node)


def main(path: str, rounds: int, seconds: float) -> None:
    import pyebpf

    tree = ast.fix_missing_locations(_Bounded(rounds).visit(ast.parse(Path(path).read_text(encoding="utf-8"), path)))
    code = compile(tree, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    names = {"__name__": "__main__", "__rounds__": _rounds, "__reach__": _reach, "pyebpf": pyebpf, "time": time}
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, names))
        else:
            exec(code, names)
    except KeyboardInterrupt:
        if not seconds:
            raise
    never = [line for line, count in _rounds.items() if not count]
    if never:
        sys.exit(f"nothing came in the loops of lines {never}")


if __name__ == "__main__":
    sys.path[0] = ""  # as for a program in the current directory
    sys.argv, (_, *own) = [sys.argv[1], *sys.argv[4:]], sys.argv[:4]
    main(own[0], int(own[1]), float(own[2]))
