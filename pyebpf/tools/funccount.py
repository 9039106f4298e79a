# SPDX-License-Identifier: BSD-2-Clause
"""funccount: how often functions are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pyebpf.core.object import Object
from pyebpf.target.command import Command
from pyebpf.target.probe import Resolution
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.probes import Losses, Probes
from pyebpf.tools.session import IntervalSession, TracedFunction, resolve_for
from pyebpf.tools.stripes import Stripes

DEFAULT_MAX_PROBES = 20_000


class Counts(Counter[TracedFunction]):
    """Calls by function; functions that were not called are left out. A name as key sums the functions of that name."""

    _traced: Sequence[TracedFunction] = ()

    def __getitem__(self, key: TracedFunction | str) -> int:
        """Calls of a function, or of all functions of a name; 0 for what was not called.

        Raises:
            KeyError: no function of that name is traced.
        """
        if not isinstance(key, str):
            return super().__getitem__(key)
        named = [n for function, n in self.items() if function.name == key]
        if not named and self._traced and all(function.name != key for function in self._traced):
            raise KeyError(key)
        return sum(named)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or any(function.name == key for function in self)

    def get(self, key: TracedFunction | str, default: Any = None) -> Any:
        """As ``[]``; the default for what was not called."""
        return self[key] if key in self else default  # noqa: SIM401

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them: the largest count last."""
        ranked = sorted(self.items(), key=lambda item: (item[1], item[0].name))
        return {"counts": [{"function": one.name, "path": one.path, "count": n} for one, n in ranked]}

    def _repr_html_(self) -> str:
        from pyebpf.tools.html import table

        rows = [((one.name, one.path, n), n) for one, n in self.most_common()]
        return table(("function", "file", "calls"), rows, f"{sum(self.values()):,} calls")


class CountSession(IntervalSession[Counts]):
    """Counts calls while it is open. Counters live in the kernel and are never reset, so none is lost."""

    def __init__(self, resolution: Resolution, pids: Sequence[int]) -> None:
        probes = Probes("funccount", resolution, self._configure, pids=pids, returns=False)
        super().__init__(resolution, probes)
        self._before = [0] * len(self._by_index)

    def _configure(self, obj: Object, functions: int) -> None:
        self._stripes = Stripes(obj, obj.maps["counts"], functions)

    def _totals(self) -> list[int]:
        return self._stripes.column(self._stripes.words())

    def _counts(self, numbers: Sequence[int]) -> Counts:
        counts = Counts({function: n for function, n in zip(self._by_index, numbers) if n})
        counts._traced = self._by_index
        return counts

    @property
    @while_open
    def losses(self) -> Losses:
        """Nothing is lost: every hit is counted in place."""
        return Losses()

    @while_open
    def snapshot(self) -> Counts:
        """Calls since the session began."""
        return self._counts(self._totals())

    @while_open
    def interval(self) -> Counts:
        """Calls since the last call of this method (or since the session began)."""
        totals = self._totals()
        before, self._before = self._before, totals
        return self._counts([now - then for now, then in zip(totals, before)])


def count(
    *targets: str,
    pid: int | Sequence[int] | None = None,
    command: Command | None = None,
    regex: bool = False,
    max_probes: int = DEFAULT_MAX_PROBES,
) -> CountSession:
    """Counts the calls of functions.

    Args:
        targets: "PATH:PATTERN", "LIB:PATTERN", ":PATTERN" (with a pid); see ``docs/targets.md``.
        pid: one process, or several; None: every process that runs the file.
        command: a command that hasn't begun yet, instead of pid.
        regex: patterns are regular expressions (``re.match``) rather than globs.
        max_probes: more matches than this are refused.

    Raises:
        TargetError, TargetNotFound: nothing sensible to trace; the message says what was looked for.
        PermissionDenied, Unsupported, LibbpfMissing, LoadError, AttachError: this host won't.
    """
    resolution, pids = resolve_for(targets, pid, command, regex=regex, returns=False, max_probes=max_probes)
    return CountSession(resolution, pids)
