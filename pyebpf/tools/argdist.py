# SPDX-License-Identifier: BSD-2-Clause
"""argdist: how the values of arguments, results and latencies are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyebpf.core.object import Object
from pyebpf.errors import TargetError
from pyebpf.target.capture import Question
from pyebpf.target.command import Command
from pyebpf.target.shape import FLOAT, RETURN_SLOTS, Number
from pyebpf.tools.decoder import Decoder
from pyebpf.tools.funccount import DEFAULT_MAX_PROBES
from pyebpf.tools.histogram import Row
from pyebpf.tools.keys import DEFAULT_MAX_KEYS, check
from pyebpf.tools.lifetime import while_open
from pyebpf.tools.probes import Losses, Probes
from pyebpf.tools.questions import Asked, ask, expressions
from pyebpf.tools.record import as_dict
from pyebpf.tools.session import IntervalSession
from pyebpf.tools.stripes import Stripes
from pyebpf.tools.typenames import TypeNames
from pyebpf.tools.values import Value, as_json

DEFAULT_STRSIZE = 80  # as bcc's argdist

_MOST_KEY = 512  # bytes of a hash map's key: MAX_BPF_STACK, kernel/bpf/hashtab.c


class Spec(NamedTuple):
    """What is counted.

    Attributes:
        expressions: one, for a histogram.
        histogram: how many calls had a value in each power of two; else how many had each value.
    """

    expressions: tuple[str, ...]
    histogram: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return as_dict(self)


class ValueCounts(NamedTuple):
    """How often values were seen, the rarest first.

    Attributes:
        spec: what was counted.
        labels: of the values.
        rows: the values of each combination, in the order of `labels`, and how many calls had them.
    """

    spec: Spec
    labels: tuple[str, ...]
    rows: tuple[tuple[tuple[Value, ...], int], ...]

    @property
    def calls(self) -> int:
        """Calls in total."""
        return sum(calls for _, calls in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        rows = [{"values": dict(zip(self.labels, map(as_json, values))), "count": calls} for values, calls in self.rows]
        return {"expressions": list(self.spec.expressions), "count": self.calls, "rows": rows}


class Distribution(NamedTuple):
    """How many calls had a value in each power of two.

    Attributes:
        spec: what was counted.
        labels: of the value: one.
        rows: from the lowest that isn't empty, or from zero, to the highest that isn't; 0 and 1 share a row.
    """

    spec: Spec
    labels: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def calls(self) -> int:
        """Calls in total."""
        return sum(row.calls for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` has them."""
        buckets = [row.as_dict() for row in self.rows]
        return {"expressions": list(self.spec.expressions), "count": self.calls, "buckets": buckets}


class DistributionSession(IntervalSession["tuple[ValueCounts | Distribution, ...]"]):
    """Counts values while it is open. Counters live in the kernel and are never reset.

    Reports have one member for each spec, in their order.
    """

    def __init__(self, asked: Sequence[tuple[Spec, Asked]], max_keys: int) -> None:
        self._counters: list[_Counter] = []
        attached: list[Probes] = []
        try:
            for spec, one in asked:
                self._counters.append(_Buckets(spec, one) if spec.histogram else _Values(spec, one, max_keys))
            for counter in self._counters:  # nothing is attached before all is known to be possible
                attached.append(counter.attach())
        except BaseException:
            for probes in attached:
                probes.close()
            for _, one in asked:
                one.close()
            raise
        first = self._counters[0].probes
        super().__init__(first.resolution, first)
        self.skipped = tuple(dict.fromkeys(skip for counter in self._counters for skip in counter.probes.skipped))
        self._count(True)

    def _count(self, counting: bool) -> None:
        """All counters begin or end within microseconds, as if they were one."""
        for data in [counter.probes.object.bss for counter in self._counters]:
            assert data is not None
            data["counting"] = counting

    @property
    @while_open
    def losses(self) -> Losses:
        """What became of calls that were seen but are not in the result, of all specs together."""
        total = Losses()
        for counter in self._counters:
            total += counter.probes.losses()
        return total

    @while_open
    def detach(self) -> None:
        """Takes the probes out of the traced programs; what was seen stays readable until `close`."""
        self._count(False)
        for counter in self._counters:
            counter.probes.detach()

    def _let_go(self) -> None:
        for counter in self._counters:
            counter.probes.close()
        super()._let_go()

    @while_open
    def snapshot(self) -> tuple[ValueCounts | Distribution, ...]:
        """Calls since the session began."""
        return tuple([counter.report(counter.totals(), {}) for counter in self._counters])

    @while_open
    def interval(self) -> tuple[ValueCounts | Distribution, ...]:
        """Calls since the last call of this method (or since the session began)."""
        reports = []
        for counter in self._counters:
            totals = counter.totals()
            reports.append(counter.report(totals, counter.before))
            counter.before = totals
        return tuple(reports)


class _Counter:
    """One spec: an object of its own, as its plan is.

    Attributes:
        spec: what is counted.
        labels: of its values.
        probes: once attached.
        before: `totals` at the end of the last interval.
    """

    def __init__(self, spec: Spec, asked: Asked) -> None:
        self.spec = spec
        self.labels = tuple([column.label for column in asked.plan.columns[0]])
        self.probes: Probes
        self.before: dict[Any, int] = {}
        self._asked = asked

    def attach(self) -> Probes:
        """Begins to count."""
        self.probes = self._asked.attach(self._configure)
        return self.probes

    def _configure(self, obj: Object, functions: int) -> None:
        raise NotImplementedError

    def totals(self) -> dict[Any, int]:
        """Calls by what the kernel counts by."""
        raise NotImplementedError

    def report(self, totals: dict[Any, int], before: dict[Any, int]) -> ValueCounts | Distribution:
        """What was added since `before`."""
        raise NotImplementedError


class _Values(_Counter):
    """Counts combinations of values, up to so many."""

    def __init__(self, spec: Spec, asked: Asked, max_keys: int) -> None:
        super().__init__(spec, asked)
        self._max_keys = max_keys
        plan = asked.plan
        self._capture = asked.object.btf.layout("capture")
        self._key_size = self._capture.size + plan.entry_size + plan.return_size
        if self._key_size > _MOST_KEY:
            raise TargetError(
                f"{', '.join(spec.expressions)}: calls can't be counted by {self._key_size} bytes; "
                f"{_MOST_KEY} are possible",
                hint="ask for fewer values, or for shorter texts (-Z BYTES)",
            )
        names = TypeNames(asked.resolution.images)
        self._decoders = [Decoder(columns, plan.entry_size, plan.return_size, names) for columns in plan.columns]
        self._values: dict[bytes, tuple[Value, ...]] = {}

    def _configure(self, obj: Object, functions: int) -> None:
        obj.maps["counts"].key_size, obj.maps["counts"].max_entries = self._key_size, self._max_keys

    def totals(self) -> dict[Any, int]:
        return {key: int.from_bytes(calls, "little") for key, calls in self.probes.object.maps["counts"].items()}

    def report(self, totals: dict[Any, int], before: dict[Any, int]) -> ValueCounts:
        """What was added since `before`. What reads the same is added up, whatever function it was seen in."""
        sums: dict[str, tuple[tuple[Value, ...], int]] = {}
        for key, calls in totals.items():
            calls -= before.get(key, 0)
            if calls:
                values = self._decode(key)
                reading = repr(values)
                sums[reading] = values, calls + sums.get(reading, (values, 0))[1]
        ranked = sorted(sums.items(), key=lambda item: (item[1][1], item[0]))
        return ValueCounts(self.spec, self.labels, tuple([row for _, row in ranked]))

    def _decode(self, key: bytes) -> tuple[Value, ...]:
        if key not in self._values:
            head = self._capture.unpack(key)
            captured = memoryview(key)[self._capture.size :]
            failed = head.failed_entry | head.failed_return << 64
            self._values[key] = tuple(self._decoders[head.function].values(captured, failed))
        return self._values[key]


class _Buckets(_Counter):
    """Counts values by their powers of two."""

    def __init__(self, spec: Spec, asked: Asked) -> None:
        super().__init__(spec, asked)
        shapes = [columns[0].shape for columns in asked.plan.columns]
        what = spec.expressions[0]
        places = set()
        for shape in shapes:
            if not isinstance(shape, Number) or shape.style == FLOAT:
                raise TargetError(f"{what} is no whole number: it has no histogram", hint="count its values with -C")
            at = shape.offset + (asked.plan.entry_size if shape.slot >= RETURN_SLOTS else 0)
            places.add((at, shape.code.islower()))
        if len(places) > 1:
            raise TargetError(f"{what} is not the same kind of number in all functions that match",
                              hint="name one function")  # fmt: skip
        self._offset, self._signed = places.pop()
        buckets = asked.object.btf.enumerators("distribution_buckets")
        self._count, self._negative = buckets["DISTRIBUTION_BUCKETS"], buckets["DISTRIBUTION_NEGATIVE"]

    def _configure(self, obj: Object, functions: int) -> None:
        assert obj.rodata is not None
        obj.rodata["want_histogram"] = True
        obj.rodata["is_signed"], obj.rodata["value_offset"] = self._signed, self._offset
        self._stripes = Stripes(obj, obj.maps["histograms"], functions)

    def totals(self) -> dict[Any, int]:
        words = self._stripes.words()
        totals = [0] * self._count
        for row in range(self._stripes.rows):
            for at in self._stripes.positions(row):
                totals = [a + b for a, b in zip(totals, words[at : at + self._count])]
        return dict(enumerate(totals))

    def report(self, totals: dict[Any, int], before: dict[Any, int]) -> Distribution:
        rows: dict[int, int] = {}
        for bucket, calls in totals.items():
            calls -= before.get(bucket, 0)
            if calls:
                rows[self._row(bucket)] = rows.get(self._row(bucket), 0) + calls
        present = range(min(0, *rows), max(rows) + 1) if rows else ()
        return Distribution(self.spec, self.labels, tuple([Row(*_bounds(row), rows.get(row, 0)) for row in present]))

    def _row(self, bucket: int) -> int:
        """Rows are numbered by powers of two: 0 and 1 lie in row 0, -1 in row -1, -2 and -3 in row -2."""
        if self._signed and bucket >= self._negative:
            return self._negative - bucket - 1
        return max(0, bucket - 1)


def _bounds(row: int) -> tuple[int, int]:
    """The smallest and largest value in a row."""
    if row < 0:
        return 1 - (1 << -row), -(1 << (-row - 1))
    return 1 << row if row else 0, (1 << (row + 1)) - 1


def argdist(
    *targets: str,
    histograms: Sequence[str] = (),
    counts: Sequence[Sequence[str] | str] = (),
    filter: str = "",
    strsize: int = DEFAULT_STRSIZE,
    pid: int | Sequence[int] | None = None,
    command: Command | None = None,
    regex: bool = False,
    max_probes: int = DEFAULT_MAX_PROBES,
    max_keys: int = DEFAULT_MAX_KEYS,
    allow_uretprobe: bool = False,
) -> DistributionSession:
    """Counts how often values occur, or how they are distributed over the powers of two.

    Args:
        targets, pid, command, regex, max_probes, allow_uretprobe: as for `latency`.
        histograms: an expression each, as for `trace`: "args.A", "retval", "latency".
        counts: an expression each, or several whose combinations are counted.
        filter: only calls for which this holds.
        strsize: most bytes of a text that tell values apart.
        max_keys: different values that are counted, of each of `counts`, up to 1,048,576; calls with others are counted
            as lost. The kernel keeps some 64 bytes for each from the start, and what the values take.

    Raises:
        TargetError: an expression is malformed, or no function has what it asks for; so many keys can't be counted.
        the others: as `count`.
    """
    check(max_keys)
    if isinstance(counts, str):
        expressions("counts", counts)
    specs = [Spec((one,) if isinstance(one, str) else tuple(one), False) for one in counts]
    specs += [Spec((one,), True) for one in expressions("histograms", histograms)]
    if not specs or not all(spec.expressions for spec in specs):
        raise TargetError("nothing to count was asked for")
    asked: list[tuple[Spec, Asked]] = []
    try:
        for spec in specs:
            question = Question(spec.expressions, (), filter, strsize=strsize, brief=True)
            one = ask(
                "argdist", question, targets, pid, command, regex=regex, returns=False, max_probes=max_probes,
                allow_uretprobe=allow_uretprobe,
            )
            asked.append((spec, one))
    except BaseException:
        for _, one in asked:
            one.close()
        raise
    return DistributionSession(asked, max_keys)
