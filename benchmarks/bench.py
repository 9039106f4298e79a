# SPDX-License-Identifier: BSD-2-Clause
"""What every section of the benchmark is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contestants import Contestant
from processes import Programs


class Bench(NamedTuple):
    """Attributes:
    programs: the compiled workloads.
    contestants: who takes part, ours first.
    rounds: how often each does each thing.
    quick: less of everything.
    cpu: where events are made.
    """

    programs: Programs
    contestants: Sequence[Contestant]
    rounds: int
    quick: bool
    cpu: int
