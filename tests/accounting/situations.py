# SPDX-License-Identifier: BSD-2-Clause
"""What is done to whoever reads records, the same for every tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from accounting import ledger, readers
from accounting.ledger import Entry

import pyebpf


class Cause(NamedTuple):
    """Something that makes events, ready to begin.

    Attributes:
        keywords: what asks the verb for its events only.
        arguments: the same for the command.
        make: makes them; how many there were.
        wanted: whether a record is one of them; also of a line of JSON.
        targets: the verb's, if it has any.
        more: of what was made, by kind: lost to everybody.
    """

    keywords: Mapping[str, Any]
    arguments: Sequence[str]
    make: Callable[[], int]
    wanted: Callable[[Any], bool] = lambda _: True
    targets: Sequence[str] = ()
    more: Callable[[], Mapping[str, int]] = dict


Causes = Callable[[int], AbstractContextManager[Cause]]
PAUSE = 0.0002  # seconds that a slow reader takes for a record
ALL = ("read at once", "not read meanwhile", "tiny", "tiny, slow", "stopped", "slow pipe", "killed")


def entries(
    tool: str | tuple[str, str], causes: Causes, count: int, only: Sequence[str] = ALL, what: str = ""
) -> Iterator[Entry]:
    """The situations' equalities.

    Args:
        tool: the verb's and the command's name; verb and command, if they differ.
        causes: makes so many events.
        what: about the events.
    """
    verb, command = (tool, tool) if isinstance(tool, str) else tool
    suffix = f"; {what}" if what else ""

    def entry(situation: str, cause: Cause, made: int, delivered: int, losses: Any) -> Entry:
        found = ledger.lost(losses)
        if command == "filelife" and "map" in found:
            found["evicted"] = found.pop("map")
        return Entry(command, situation + suffix, made, delivered, {**found, **cause.more()})

    def session(cause: Cause) -> Any:
        return getattr(pyebpf, verb)(*cause.targets, **cause.keywords)

    if "read at once" in only:
        with causes(count) as cause, session(cause) as one:
            reading = readers.Reading(one, cause.wanted)
            made = cause.make()
            delivered = reading.end()
            yield entry("read as they come", cause, made, delivered, one.losses)
    for name, size, situation in (
        ("not read meanwhile", None, "read after all was made"),
        ("tiny", readers.TINY, "a buffer of 4 KB, read after all was made"),
    ):
        if name in only:
            with causes(count) as cause, readers.buffer(size), session(cause) as one:
                made = cause.make()
                one.detach()
                delivered = sum(1 for record in one.drain() if cause.wanted(record))
                yield entry(situation, cause, made, delivered, one.losses)
    if "tiny, slow" in only:
        with causes(count) as cause, readers.buffer(readers.TINY), session(cause) as one:
            reading = readers.Reading(one, cause.wanted, PAUSE)
            made = cause.make()
            delivered = reading.end()
            yield entry("a buffer of 4 KB, a slow reader", cause, made, delivered, one.losses)
    for name, situation in (("stopped", "the command stopped, then continued"), ("slow pipe", "its pipe read slowly")):
        if name in only:
            with causes(count) as cause:
                run = readers.Command(command, *cause.arguments, "--buffer", str(readers.TINY))
                try:
                    if name == "stopped":
                        run.stop()
                    made = cause.make()
                    run.go_on()
                    records, losses = run.end(*((4096, 0.0005) if name == "slow pipe" else ()))
                finally:
                    run.kill() if run.process.poll() is None else None
                delivered = sum(map(cause.wanted, records))
                yield entry(f"{situation}; 4 KB", cause, made, delivered, losses)
    if "killed" in only:
        with causes(count) as cause, session(cause) as one:
            run = readers.Command(command, *cause.arguments)
            try:
                run.stop()
                reading = readers.Reading(one, cause.wanted)
                made = cause.make()
            finally:
                run.kill()
            delivered = reading.end()
            yield entry("beside a command that is stopped, then killed", cause, made, delivered, one.losses)
