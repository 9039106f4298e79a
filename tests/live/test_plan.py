# SPDX-License-Identifier: BSD-2-Clause
"""The step machine of bpf/include/plan.h, carried out by the kernel: plans written by hand, against known values."""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import targets

from pyebpf.core import kernel
from pyebpf.core.object import Object
from pyebpf.core.ringbuf import RingBuffer
from pyebpf.tools.probes import Probes
from pyebpf.tools.session import resolve_for

Step = tuple[Any, ...]
REGISTERS = ("di", "si", "dx", "ax")  # on arm64 x0, x1, x2, x0: numbers from the beginning of struct pt_regs
ROOM = 208


class Call(NamedTuple):
    header: Any
    entry: bytes
    result: bytes


@pytest.fixture(params=["sleepable", "plain"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "sleepable" and not kernel.has_sleepable_uprobes():
        assert kernel.release() < (6, 0), f"Linux {kernel.release()} should have sleepable uprobes"
        pytest.skip("before Linux 6.0")
    monkeypatch.setenv("PYEBPF_SLEEPABLE", "1" if request.param == "sleepable" else "0")
    return str(request.param)


def step(action: str, operand: int = 0, *, size: int = 0, target: int = 0, slot: int = 0) -> Step:
    return (action, slot, size, target, operand)


def register(index: int) -> Step:
    """Argument 0 to 2 by the C convention; 3: the result."""
    return ("REGISTER", 0, 0, 0, REGISTERS[index] if os.uname().machine == "x86_64" else index % 3 * 8)


class Traced:
    """Probes with a plan for one function."""

    def __init__(
        self,
        name: str,
        target: targets.Target,
        function: str,
        entry: Sequence[Step] = (),
        ret: Sequence[Step] = (),
        *,
        entry_filter: Sequence[Step] = (),
        return_filter: Sequence[Step] = (),
        sizes: tuple[int, int] = (0, 0),
        texts: Sequence[bytes] = (),
        returns: bool = False,
        constants: dict[str, Any] | None = None,
        entries: dict[str, int] | None = None,
    ) -> None:
        self.sizes = sizes
        sides = (entry_filter, entry, return_filter, ret)

        def configure(obj: Object, functions: int) -> None:
            assert functions == 1 and obj.rodata is not None
            for constant, value in {
                "returns": returns, "filters_entry": bool(entry_filter), "filters_return": bool(return_filter),
                "longest": 1 + max(map(len, sides)), "entry_size": sizes[0], "return_size": sizes[1],
                "read_room": ROOM, **(constants or {}),
            }.items():  # fmt: skip
                obj.rodata[constant] = value
            machine, frame = obj.btf.layout("machine").size, obj.btf.layout("call").size
            obj.maps["scratch"].value_size = obj.maps["blank"].value_size = machine + sum(sizes) + ROOM
            obj.maps["frames"].value_size = obj.maps["overflow"].value_size = frame + sizes[0]
            obj.maps["steps"].max_entries = 1 + sum(len(side) + 1 for side in sides)
            obj.maps["texts"].max_entries = max(1, len(texts))
            if "counts" in obj.maps:
                obj.maps["counts"].key_size = obj.btf.layout("capture").size + sum(sizes)
            for name, count in (entries or {}).items():
                obj.maps[name].max_entries = count

        def fill(obj: Object) -> None:
            actions, registers = obj.btf.enumerators("step_action"), obj.btf.members("pt_regs")
            rows = [(0, 0, 0, 0, 0)]
            begins = []
            for side in sides:
                begin = len(rows)
                begins.append(begin if side else 0)
                for action, slot, size, to, operand in side:
                    operand = registers[operand] if isinstance(operand, str) else operand
                    jumps = action in ("TEST", "MATCH", "JUMP")
                    rows.append((actions[f"STEP_{action}"], slot, size, to + begin if jumps else to, operand))
                rows.append((0, 0, 0, 0, 0))
            for index, row in enumerate(rows):
                obj.maps["steps"][index] = row
            for index, text in enumerate(texts):
                obj.maps["texts"][index] = (text.ljust(64, b"\0"), len(text), 0)
            obj.maps["plans"][0] = begins

        resolution, pids = resolve_for(
            [f"{target.path}:{function}"], target.pid, None, regex=False, returns=returns, max_probes=8
        )
        self.probes = Probes(name, resolution, configure, pids=pids, returns=returns, loaded=fill)
        self.object = self.probes.object
        if name == "argdist":
            assert self.object.bss is not None
            self.object.bss["counting"] = True
        if name == "trace":
            self.ring = RingBuffer(self.object.maps["calls"], self.object.maps["awake"])

    def __enter__(self) -> Traced:
        return self

    def __exit__(self, *_: object) -> None:
        self.probes.close()

    def calls(self) -> list[Call]:
        layout = self.object.btf.layout("traced_call")
        found = []
        for record in self.ring.drain():
            data = bytes(record)
            header, capture = layout.unpack(data), data[layout.size :]
            found.append(Call(header, capture[: self.sizes[0]], capture[self.sizes[0] : sum(self.sizes)]))
        return found

    def tally(self) -> dict[str, int]:
        return self.probes._tally()


def text_at(capture: bytes, at: int) -> tuple[int, bytes]:
    """A kept text: its length as it was, and the bytes that were kept."""
    stored, length = struct.unpack_from("<II", capture, at)
    return length, capture[at + 8 : at + 8 + stored]


def test_every_kind_of_value(build: str) -> None:
    """Integers of each width and sign, bits, memory, texts with and without a length, pointers followed."""
    box = {"s8": 0, "s16": 2, "s32": 4, "s64": 8, "bytes": 16, "flags": 24, "text": 32, "next": 40}
    entry: list[Step] = []
    for slot, (width, bits) in enumerate(((1, 8), (2, 16), (4, 32), (8, 64))):
        entry += [
            register(0), step("LOAD", box[f"s{bits}"], size=width), step("TRIM", 1, size=bits),
            step("KEEP", target=slot * 8, slot=slot),
        ]  # fmt: skip
    entry += [
        register(0), step("COPY", box["bytes"], size=8, target=32, slot=4),
        register(0), step("LOAD", box["flags"], size=8), step("TRIM", size=16, target=4),
        step("KEEP", target=40, slot=5),
        register(0), step("LOAD", box["text"], size=8), step("STRING", size=32, target=48, slot=6),
        register(0), step("LOAD", box["next"], size=8), step("LOAD", box["s64"], size=8),
        step("KEEP", target=88, slot=7),
        step("CONSTANT", 4), step("LENGTH"), register(1), step("BYTES", size=100, target=96, slot=8),
        register(1), step("STRING", 5, size=200, target=208, slot=9),
        register(2), step("SCALE", -3), step("ADD", 1), step("KEEP", target=416, slot=10),
        step("CONSTANT", 2), step("LENGTH"), step("BOUND", 1), step("KEEP", target=424, slot=11),
        step("CONSTANT", 2), step("LENGTH"), step("BOUND", 2), step("KEEP", target=432, slot=12),
        step("FIELD", size=1), step("KEEP", target=440, slot=13),
        step("FIELD", size=2), step("KEEP", target=448, slot=14),
        step("FIELD", size=4), step("KEEP", target=456, slot=15),
        step("FIELD", size=3), step("KEEP", target=464, slot=16),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced("trace", target, "shape", entry, sizes=(472, 0)) as traced:
            target.go()
            calls = traced.calls()
            assert traced.tally()["sent"] == 23 == len(calls)
    for i, call in enumerate(calls):
        narrow = -i
        assert struct.unpack_from("<4q", call.entry) == (narrow, narrow, narrow, narrow)
        assert call.entry[32:40] == bytes(range(1, 9))
        assert struct.unpack_from("<Q", call.entry, 40)[0] == i
        assert text_at(call.entry, 48) == (6, b"inside")
        assert struct.unpack_from("<Q", call.entry, 88)[0] == 4711
        assert text_at(call.entry, 96) == (4, b"xxxx" if i == 5 else b"name")
        number = str(i).encode()
        if i == 5:  # 4995 bytes from its sixth on; the plain build knows no more than that it goes on
            assert text_at(call.entry, 208) == (4995 if build == "sleepable" else 0x7FFFFFFF, b"x" * 199)
        else:
            assert text_at(call.entry, 208) == (len(number), number)
        assert struct.unpack_from("<qqq", call.entry, 416) == (3 * i + 1, 2, -errno.ERANGE)
        assert struct.unpack_from("<4Q", call.entry, 440) == (target.pid, target.pid, os.getuid(), 0)
        assert (call.header.failed_entry, call.header.failed_return) == (1 << 12, 0)
        assert (call.header.tgid, call.header.tid, call.header.comm) == (target.pid, target.pid, b"plan")


def test_a_text_that_just_fits_is_not_cut(build: str) -> None:
    """At each size around the length of "inside"."""
    entry: list[Step] = []
    for slot, size in enumerate((5, 6, 7, 8)):
        entry += [register(0), step("LOAD", 32, size=8), step("STRING", size=size, target=slot * 16, slot=slot)]
    with targets.run(targets.compiled("plan.c"), "-n", "1", "shape") as target:
        with Traced("trace", target, "shape", entry, sizes=(64, 0)) as traced:
            target.go()
            (call,) = traced.calls()
    cut = 6 if build == "sleepable" else 0x7FFFFFFF
    assert [text_at(call.entry, at) for at in (0, 16, 32, 48)] == [
        (cut, b"insi"), (cut, b"insid"), (6, b"inside"), (6, b"inside"),
    ]  # fmt: skip


def test_results_through_arguments(build: str) -> None:
    """What the function writes behind a pointer it was given, its result, and how long it took."""
    entry = [register(0), step("KEEP", slot=0), register(2), step("KEEP", target=8, slot=1)]
    ret = [
        step("SAVED"), step("LOAD", 48, size=8), step("KEEP", slot=0),
        register(3), step("KEEP", target=8, slot=1),
        step("FIELD", size=0), step("KEEP", target=16, slot=2),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced("trace", target, "shape", entry, ret, sizes=(16, 24), returns=True) as traced:
            target.go()
            calls = traced.calls()
            tally = traced.tally()
    assert len(calls) == tally["sent"] == tally["entered"] == tally["returned"] == 23
    for i, call in enumerate(calls):
        address, number = struct.unpack("<Qq", call.entry)
        assert number == -i
        assert struct.unpack("<qQQ", call.result) == (-2 * i, address, call.header.duration)
        assert call.header.duration > 0 and call.header.failed_entry == call.header.failed_return == 0


def test_pages_that_are_not_resident(build: str) -> None:
    """The sleepable build reads them; the plain one says of these values that they could not be read."""
    entry = [
        register(0), step("STRING", size=64, target=0, slot=0),
        register(1), step("LOAD", size=8), step("KEEP", target=72, slot=1),
        register(0), step("COPY", size=16, target=80, slot=2),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "absent") as target:
        with Traced("trace", target, "absent", entry, sizes=(96, 0)) as traced:
            target.go()
            (call,) = traced.calls()
    if build == "sleepable":
        assert call.header.failed_entry == 0
        assert text_at(call.entry, 0) == (16, b"across two pages")
        assert call.entry[72:] == bytes(8) + b"across two pages"
    else:
        assert call.header.failed_entry == 7
        text, raw, copied = (struct.unpack_from("<Q", call.entry, at)[0] for at in (0, 72, 80))
        assert text == copied and raw == text + 6 + mmap.PAGESIZE


def test_a_text_that_ends_where_memory_ends(build: str) -> None:
    with targets.run(targets.compiled("plan.c"), "edge") as target:
        with Traced("trace", target, "edge", [register(0), step("STRING", size=100)], sizes=(112, 0)) as traced:
            target.go()
            (call,) = traced.calls()
    assert (call.header.failed_entry, text_at(call.entry, 0)) == (0, (4, b"last"))


def test_bad_addresses_fail_alone(build: str) -> None:
    """Each value that can't be read says so; those beside it are right. What follows a failed load does nothing."""
    entry = [
        register(0), step("LOAD", size=8), step("LOAD", size=8), step("KEEP", target=0, slot=3),
        register(1), step("STRING", size=64, target=8, slot=5),
        step("CONSTANT", 8), step("LENGTH"), register(1), step("BYTES", size=64, target=80, slot=7),
        register(1), step("COPY", size=64, target=152, slot=63),
        register(0), step("KEEP", target=216, slot=11),
        step("CONSTANT", -1), step("LOAD", size=8), step("KEEP", target=224, slot=12),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "bad") as target:
        with Traced("trace", target, "bad", entry, sizes=(232, 0)) as traced:
            target.go()
            (call,) = traced.calls()
    assert call.header.failed_entry == 1 << 3 | 1 << 5 | 1 << 7 | 1 << 63 | 1 << 12
    addresses = [struct.unpack_from("<q", call.entry, at)[0] for at in (0, 8, 80, 152)]
    assert addresses == [8] + [mmap.PAGESIZE] * 3
    assert struct.unpack_from("<q", call.entry, 224)[0] in (-1, -errno.EFAULT)
    assert struct.unpack_from("<Q", call.entry, 216)[0] == 8


def test_a_plan_that_is_wrong_writes_nothing_it_may_not(build: str) -> None:
    """Targets, sizes and steps outside their bounds end the side; calls are counted all the same."""
    for entry in (
        [register(0), step("KEEP", target=24)],
        [register(0), step("KEEP", target=0xFFFFFFFF)],
        [register(0), step("COPY", size=ROOM + 1)],
        [register(1), step("STRING", size=ROOM)],
        [register(0), step("LOAD", size=9)],
        [step("JUMP", target=100000)],
        [step("JUMP", target=0)],
        [step("SAVED", target=0xFFFFFFFF)],
    ):
        with targets.run(targets.compiled("plan.c"), "-n", "3", "shape") as target:
            with Traced("trace", target, "shape", entry, sizes=(16, 0)) as traced:
                target.go()
                assert len(traced.calls()) == traced.tally()["sent"] == 3


COMPARE = {"==": 1, "<": 2, "<=": 3, ">": 4, ">=": 5, "!=": 6, "below": 10, "below_eq": 11, "above": 12, "above_eq": 13}


@pytest.mark.parametrize(
    ("compare", "operand", "count"),
    [
        ("==", -7, 1), ("!=", -7, 22), ("<", -7, 15), ("<=", -7, 16), (">", -7, 7), (">=", -7, 8),
        ("below", -7, 16), ("below_eq", -7, 17), ("above", -7, 6), ("above_eq", -7, 7),
        ("above", 5, 22), ("below_eq", 0, 1),
    ],
)  # fmt: skip
def test_comparisons(build: str, compare: str, operand: int, count: int) -> None:
    """0, -1 ... -22 against an operand, signed and not."""
    condition = [register(2), step("TEST", operand, target=3, slot=COMPARE[compare]), step("ACCEPT"), step("REJECT")]
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced(
            "trace", target, "shape", [register(2), step("KEEP")], entry_filter=condition, sizes=(8, 0)
        ) as traced:
            target.go()
            values = [struct.unpack("<q", call.entry)[0] for call in traced.calls()]
            tally = traced.tally()
    hold = {
        "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    }  # fmt: skip
    unsigned = {"below": "<", "below_eq": "<=", "above": ">", "above_eq": ">="}
    mask = (1 << 64) - 1 if compare in unsigned else -1
    wanted = [v for v in range(0, -23, -1) if hold[unsigned.get(compare, compare)](v & mask, operand & mask)]
    assert values == wanted and len(values) == count
    assert (tally["sent"], tally["rejected"], tally["undecided"]) == (len(wanted), 23 - len(wanted), 0)


COUNTED, COMM, PREFIX, NOT = 1, 2, 4, 8


@pytest.mark.parametrize(
    ("text", "how", "length", "matching"),
    [
        (b"name-1", 0, None, {1}),
        (b"name-1", PREFIX, None, {1, *range(10, 20)}),
        (b"name-1", NOT, None, set(range(23)) - {1}),
        (b"name-1", PREFIX | NOT, None, set(range(23)) - {1, *range(10, 20)}),
        (b"name-1", COUNTED, 6, {1, *range(10, 20)}),  # cut to that length, those are equal too
        (b"name-12", COUNTED, 6, set()),
        (b"name", COUNTED | PREFIX, 6, set(range(23)) - {5}),
        (b"", 0, None, set()),
        (b"", PREFIX, None, set(range(23))),
        (b"x" * 63, 0, None, set()),
        (b"x" * 63, PREFIX, None, {5}),
        (b"plan", COMM, None, set(range(23))),
        (b"pla", COMM, None, set()),
        (b"pla", COMM | PREFIX, None, set(range(23))),
        (b"planner", COMM | NOT, None, set(range(23))),
    ],
)
def test_texts_in_filters(build: str, text: bytes, how: int, length: int | None, matching: set[int]) -> None:
    condition = [
        *([] if length is None else [step("CONSTANT", length), step("LENGTH")]), register(1),
        step("MATCH", 0, target=3 if length is None else 5, slot=how), step("ACCEPT"), step("REJECT"),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced(
            "trace", target, "shape", [register(2), step("KEEP")], entry_filter=condition, sizes=(8, 0), texts=(text,)
        ) as traced:
            target.go()
            values = {-struct.unpack("<q", call.entry)[0] for call in traced.calls()}
    assert values == matching


def test_a_filter_that_can_not_be_decided_rejects_and_says_so(build: str) -> None:
    condition = [register(1), step("LOAD", size=8), step("TEST", 0, target=4, slot=COMPARE["=="]), step("ACCEPT")]
    with targets.run(targets.compiled("plan.c"), "bad") as target:
        with Traced("trace", target, "bad", entry_filter=condition) as traced:
            target.go()
            assert traced.calls() == []
            tally = traced.tally()
    assert (tally["sent"], tally["rejected"], tally["undecided"]) == (0, 0, 1)


def kept_condition(*steps: Step) -> list[Step]:
    """A condition whose last step tests with target 0, kept as 0 or 1 in slot 0."""
    last = len(steps) + 2
    condition = [
        (action, slot, size, last if action == "TEST" else to, operand) for action, slot, size, to, operand in steps
    ]
    return [*condition, step("CONSTANT", 1), step("JUMP", target=last + 1), step("CONSTANT", 0), step("KEEP")]


def test_filters_at_the_return(build: str) -> None:
    """An argument's condition, kept at the entry, and the result's together; everybody is accounted for."""
    entry = kept_condition(register(2), step("TEST", -20, slot=COMPARE["<"]))
    condition = [
        step("SAVED"), step("TEST", 0, target=3, slot=COMPARE["=="]), step("JUMP", target=6),
        step("FIELD", size=0), step("TEST", 0, target=6, slot=COMPARE[">"]), step("ACCEPT"), step("REJECT"),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced(
            "trace", target, "shape", entry, [register(3), step("KEEP")], return_filter=condition, sizes=(8, 8),
            returns=True,
        ) as traced:  # fmt: skip
            target.go()
            calls, tally = traced.calls(), traced.tally()
    assert len(calls) == tally["sent"] == 2 and tally["rejected"] == 21 and tally["returned"] == tally["entered"] == 23


def test_a_condition_kept_at_the_entry_that_failed_leaves_the_return_undecided(build: str) -> None:
    entry = kept_condition(register(1), step("LOAD", size=8), step("TEST", 0, slot=COMPARE["=="]))
    condition = [step("SAVED"), step("TEST", 0, target=3, slot=COMPARE["=="]), step("ACCEPT"), step("ACCEPT")]
    with targets.run(targets.compiled("plan.c"), "bad") as target:
        with Traced("trace", target, "bad", entry, return_filter=condition, sizes=(8, 0), returns=True) as traced:
            target.go()
            assert traced.calls() == []
            tally = traced.tally()
    assert (tally["undecided"], tally["returned"], tally["rejected"]) == (1, 1, 0)


def test_an_entry_that_is_rejected_has_no_return(build: str) -> None:
    condition = [register(2), step("TEST", -3, target=3, slot=COMPARE["<"]), step("ACCEPT"), step("REJECT")]
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced(
            "trace", target, "shape", ret=[register(3), step("KEEP")], entry_filter=condition, sizes=(0, 8),
            returns=True,
        ) as traced:  # fmt: skip
            target.go()
            calls, tally = traced.calls(), traced.tally()
    assert len(calls) == tally["sent"] == tally["entered"] == tally["returned"] == 19
    assert (tally["rejected"], tally["unmatched"], tally["abandoned"]) == (4, 0, 0)


def test_delivered_and_lost_add_up(build: str) -> None:
    """Nobody reads until the end: a buffer of 64 KiB holds some of them."""
    entry = [register(0), step("KEEP"), register(2), step("STRING", size=64, target=8, slot=1)]
    with targets.run(targets.compiled("plan.c"), "-n", "50021", "hot") as target:
        with Traced("trace", target, "hot", entry, sizes=(80, 0), entries={"calls": 1 << 16}) as traced:
            target.go()
            calls, tally = traced.calls(), traced.tally()
    assert len(calls) == tally["sent"] > 0 and tally["dropped"] > 0
    assert tally["sent"] + tally["dropped"] == 50021
    assert {text_at(call.entry, 8) for call in calls} == {(20, b"twenty bytes of text")}


def test_a_reader_is_woken_whatever_it_does(build: str) -> None:
    """Records come while it sleeps, while it naps, and while it goes to sleep: none is waited for in vain."""
    entry = [register(0), step("KEEP")]
    with targets.run(targets.compiled("plan.c"), "-n", "30011", "hot", "edge") as target:
        with Traced("trace", target, "hot", entry, sizes=(8, 0), entries={"calls": 1 << 24}) as traced:
            target.begin()
            seen = 0
            while seen < 30011:
                assert traced.ring.wait(targets.DEADLINE)
                seen += len(traced.calls())
            target.truth()
            assert seen == traced.tally()["sent"] == 30011


def test_one_record_wakes_a_sleeper_and_a_foreign_loop(build: str) -> None:
    for foreign in (False, True):
        with targets.run(targets.compiled("plan.c"), "-n", "1", "hot") as target:
            with Traced("trace", target, "hot", [register(0), step("KEEP")], sizes=(8, 0)) as traced:
                target.begin()
                if foreign:
                    assert select.select([traced.ring.fd], [], [], targets.DEADLINE)[0]
                else:
                    assert traced.ring.wait(targets.DEADLINE)
                assert len(traced.calls()) == 1
                target.truth()


def test_stacks(build: str) -> None:
    """With a user stack the capture lies behind the stacks."""
    with targets.run(targets.compiled("plan.c", "-fno-omit-frame-pointer"), "-n", "3", "hot") as target:
        with Traced(
            "trace", target, "hot", [register(1), step("KEEP")], sizes=(8, 0), constants={"want_user_stack": True}
        ) as traced:
            target.go()
            layout = traced.object.btf.layout("traced_call_stacks")
            records = [bytes(record) for record in traced.ring.drain()]
    assert len(records) == 3
    for record in records:
        header = layout.unpack(record)
        assert len(record) == layout.size + 8 and record[-8:] == struct.pack("<Q", 2)
        assert header.call.user_stack_size >= 16 and header.call.caller and header.call.kernel_stack_size == 0
        assert header.user_stack[0] and header.call.caller not in (0, header.user_stack[0])


def distribution(traced: Traced) -> dict[tuple[int, bytes], int]:
    """Failed slots and captured bytes, and how often."""
    found = {}
    for key, value in traced.object.maps["counts"].items():
        _function, failed_entry, failed_return = struct.unpack_from("<IxxxxQQ", key)
        found[failed_entry | failed_return, key[24:]] = struct.unpack("<Q", value)[0]
    return found


def test_counts_of_combinations(build: str) -> None:
    """A short text after a long one leaves nothing of it in the key."""
    entry = [
        register(2), step("TRIM", size=1), step("KEEP", slot=0),
        register(1), step("STRING", size=16, target=8, slot=1),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced("argdist", target, "shape", entry, sizes=(32, 0), entries={"counts": 64}) as traced:
            target.go()
            counts, tally = distribution(traced), traced.tally()
    assert sum(counts.values()) == len(counts) == 23 and tally["uncounted"] == 0
    texts = {(text_at(key, 8)[1], key[16:].rstrip(b"\0")) for (failed, key) in counts if not failed}
    assert texts == {(b"x" * 15,) * 2 if i == 5 else (f"name-{i}".encode(),) * 2 for i in range(23)}


def test_counts_of_results(build: str) -> None:
    entry = [register(2), step("TRIM", size=1), step("KEEP")]
    ret = [
        step("SAVED"), step("KEEP"),
        register(3), step("LOAD", 48, size=8), step("TRIM", size=2), step("KEEP", target=8),
    ]  # fmt: skip
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced(
            "argdist", target, "shape", entry, ret, sizes=(8, 16), returns=True, entries={"counts": 64}
        ) as traced:
            target.go()
            counts = distribution(traced)
    assert counts == {(0, struct.pack("<3Q", 0, 0, 0)): 12, (0, struct.pack("<3Q", 1, 1, 2)): 11}


def test_a_full_table_is_counted(build: str) -> None:
    with targets.run(targets.compiled("plan.c"), "-n", "97", "shape") as target:
        with Traced(
            "argdist", target, "shape", [register(2), step("KEEP")], sizes=(8, 0), entries={"counts": 16}
        ) as traced:
            target.go()
            counts, tally = distribution(traced), traced.tally()
    assert sum(counts.values()) + tally["uncounted"] == 97 and tally["uncounted"] > 0


@pytest.mark.parametrize("signed", [False, True])
def test_histograms(build: str, signed: bool) -> None:
    """-22 to 0: as they are, and as the large numbers they would be without a sign."""
    constants = {"want_histogram": True, "is_signed": signed}
    with targets.run(targets.compiled("plan.c"), "-n", "23", "shape") as target:
        with Traced(
            "argdist", target, "shape", [register(2), step("KEEP")], sizes=(8, 0), constants=constants
        ) as traced:
            target.go()
            buckets = traced.object.maps["histograms"][0].buckets
    found = {index: count for index, count in enumerate(buckets) if count}
    assert found == ({0: 1, 64: 1, 65: 2, 66: 4, 67: 8, 68: 7} if signed else {0: 1, 64: 22})


def test_values_that_fail_are_left_out_of_histograms(build: str) -> None:
    entry = [register(1), step("LOAD", size=8), step("KEEP")]
    with targets.run(targets.compiled("plan.c"), "bad") as target:
        with Traced("argdist", target, "bad", entry, sizes=(8, 0), constants={"want_histogram": True}) as traced:
            target.go()
            assert not any(traced.object.maps["histograms"][0].buckets)
            assert traced.tally()["failed"] == 1


def test_every_rung(rung: str) -> None:
    """Attach cookies, perf events, copies of the program: the same values."""
    entry = [register(0), step("KEEP"), register(2), step("STRING", size=64, target=8, slot=1)]
    ret = [register(3), step("KEEP")]
    with targets.run(targets.compiled("plan.c"), "-n", "23", "hot") as target:
        with Traced("trace", target, "hot", entry, ret, sizes=(80, 8), returns=True) as traced:
            target.go()
            calls = traced.calls()
    assert len(calls) == 23
    assert {(text_at(c.entry, 8)[1], c.entry[:8], c.result) for c in calls} == {
        (b"twenty bytes of text", struct.pack("<Q", 1), struct.pack("<Q", 3))
    }
