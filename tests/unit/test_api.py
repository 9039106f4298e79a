# SPDX-License-Identifier: BSD-2-Clause
"""The public interface: what there is, that it is documented and typed, and that it doesn't change by accident.

``api.txt`` holds names and signatures. After a change that is meant::

    make build && .venv/bin/python tests/unit/test_api.py >tests/unit/api.txt
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyebpf
import pyebpf.aio
from pyebpf.target.stacks import Frame
from pyebpf.tools.argdist import Spec
from pyebpf.tools.histogram import EMPTY, Row
from pyebpf.tools.session import TracedFunction
from pyebpf.tools.text import Cut
from pyebpf.tools.values import Record, Rune, Text

SNAPSHOT = Path(__file__).with_name("api.txt")
SPECIAL = ("__init__", "__iter__", "__next__", "__len__", "__getitem__", "__setitem__", "__contains__", "__aiter__",
           "__aenter__")  # fmt: skip


def public(kind: Callable[[Any], bool]) -> dict[str, Any]:
    return {name: value for name in pyebpf.__all__ if kind(value := getattr(pyebpf, name))}


def members(owner: type) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Public methods and properties that a class defines itself: kind, name, function."""
    for name, value in sorted(vars(owner).items()):
        if name.startswith("_") and name not in SPECIAL:
            continue
        if isinstance(value, property) and value.fget:
            yield "property", name, value.fget
        elif isinstance(value, (classmethod, staticmethod)):
            yield type(value).__name__, name, value.__func__
        elif inspect.isfunction(value) and value.__module__ == owner.__module__:  # else a NamedTuple's
            yield "async method" if inspect.iscoroutinefunction(value) else "method", name, value


def fields(owner: type) -> dict[str, str]:
    """A NamedTuple's fields and their types."""
    types = {name: owner.__annotations__[name] for name in getattr(owner, "_fields", ())}
    return {name: getattr(kind, "__forward_arg__", kind) for name, kind in types.items()}


def attributes(owner: type) -> list[str]:
    """What a class's documentation calls its attributes; a NamedTuple's are its fields."""
    told = re.search(r"^ +Attributes:\n((?: {8,}.*\n| *\n)*)", (owner.__doc__ or "") + "\n", re.MULTILINE)
    names = re.findall(r"^ {8}(\w[\w, ]*):(?: |$)", told.group(1), re.MULTILINE) if told else []
    return [name for row in names for name in row.split(", ") if name not in getattr(owner, "_fields", ())]


def classes() -> dict[type, str]:
    """The public classes, and those that come out of them: class -> its name."""
    found = {value: name for name, value in public(inspect.isclass).items()}
    found[pyebpf.aio.AsyncSession] = "pyebpf.aio.AsyncSession"
    waiting: list[Any] = [*public(inspect.isfunction).values(), *found]
    while waiting:
        owner = waiting.pop()
        if inspect.isclass(owner):
            results = [function.__annotations__.get("return", "") for _, _, function in members(owner)]
            others = [*fields(owner).values(), *results]
            named = list(owner.__bases__)
        else:
            others, named = [owner.__annotations__["return"]], []
        namespace = vars(sys.modules[owner.__module__])
        named += [namespace.get(word) for text in others for word in re.findall(r"\w+", str(text))]
        for other in named:
            if inspect.isclass(other) and other.__module__.startswith("pyebpf.") and other not in found:
                found[other] = f"{other.__module__}.{other.__qualname__}"
                waiting.append(other)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def described() -> str:
    lines = [f"{name}{inspect.signature(value)}" for name, value in sorted(public(inspect.isfunction).items())]
    lines += ["", f"aio: {', '.join(dir(pyebpf.aio))}"]
    for owner, name in classes().items():
        bases = ", ".join(base.__name__ for base in owner.__bases__ if base.__name__ not in ("Generic", "object"))
        lines += ["", f"class {name}({bases})"]
        lines += [f"    {field}: {kind}" for field, kind in fields(owner).items()]
        lines += [f"    attribute {attribute}" for attribute in attributes(owner)]
        lines += [f"    {kind} {member}{inspect.signature(value)}" for kind, member, value in members(owner)
                  if member != "__init__" or name in pyebpf.__all__]  # the others are handed out, not made
    lines = [re.sub(r"(<\w+ \S+) at 0x[0-9a-f]+>", r"\1>", line) for line in lines]
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", "\n".join(lines) + "\n")


def test_names() -> None:
    assert len(set(pyebpf.__all__)) == len(pyebpf.__all__)
    assert set(dir(pyebpf)) == set(pyebpf.__all__)
    everything: dict[str, Any] = {}
    exec("from pyebpf import *", everything)
    assert set(pyebpf.__all__) <= set(everything)
    assert re.fullmatch(r"\d+\.\d+\.\d+", pyebpf.__version__)
    assert not hasattr(pyebpf, "no_such_name")


def test_documented() -> None:
    silent = [name for name, value in public(callable).items() if not (value.__doc__ or "").strip()]
    for owner, name in classes().items():
        silent += [f"{name}.{member}" for _, member, function in members(owner)
                   if member not in SPECIAL and not inspect.getdoc(getattr(owner, member))]  # fmt: skip
        if not (owner.__doc__ or "").strip() or owner.__doc__.startswith(f"{owner.__name__}("):  # NamedTuple's own
            silent.append(name)
    assert not silent


def test_did_not_change() -> None:
    assert described() == SNAPSHOT.read_text(), (
        "The public interface has changed. If that is meant, say so in CHANGELOG.md, and:\n"
        "make build && .venv/bin/python tests/unit/test_api.py >tests/unit/api.txt"
    )


FUNCTION = TracedFunction("f", "/bin/f", 1, 2, "go", ("g",), "f")
# A value for each type of a record's field, by how its annotation begins.
SAMPLES: dict[str, Any] = {
    "int": 7, "bool": True, "str": "\udcff", "bytes": Cut(b"caf\xe9"), "TracedFunction": FUNCTION,
    "Spec": Spec(("a",), True), "tuple[Frame": (Frame(1, "outer", 2, "/bin/f"),), "tuple[bytes": (b"a", b"\xff"),
    "tuple[int": (1, 2),
    "tuple[str": ("x",), "tuple[Row": (Row(0, 1, 2),), "tuple[tuple[tuple[Value": (((7, Text(b"\xff", 1)), 3),),
    "dict[str, Value]": {"text": Text(b"ab", 9), "rune": Rune(65), "record": Record("T", (("x", 1),)),
                        "float": float("nan")},
    "dict[str, Any]": {"name": b"\xff"}, "dict[str, int]": {"n": 7}, "Histogram": EMPTY, "list[": [],
}  # fmt: skip


def sample(kind: str) -> Any:
    kind = re.sub(r"^Optional\[(.*)\]$", r"\1", kind)
    return SAMPLES[max((known for known in SAMPLES if kind.startswith(known)), key=len)]


def test_records_as_json() -> None:
    records = {name: owner for owner, name in classes().items() if hasattr(owner, "_fields")}
    assert len(records) > 30
    for name, owner in records.items():
        record: Any = owner(*[sample(kind) for kind in fields(owner).values()])
        plain = record.as_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain, name
        missing = set(record._fields) - {key[:-3] if key.endswith("_ns") else key for key in plain} - set(plain)
        # Results that are reports have names of their own.
        assert not missing or name.rpartition(".")[2] in ("CallPath", "Distribution", "ValueCounts", "RoundTrips",
                                                          "Backlog"), (name, missing)  # fmt: skip
        # What isn't known is null, not left out.
        empty: Any = owner(*[None if "None" in kind or "Optional" in kind else sample(kind)
                             for kind in fields(owner).values()])  # fmt: skip
        assert {key for key in plain if not key.endswith("_cut")} == {*empty.as_dict()} - {
            key for key in empty.as_dict() if key.endswith("_cut")
        }, name


EMBEDDED = """
import pyebpf
from pyebpf.tools.funccount import Counts, CountSession
from pyebpf.tools.funclatency import LatencySession
from pyebpf.aio import AsyncSession
from pyebpf.tools.funcslower import SlowCall
from pyebpf.tools.probes import Losses
from pyebpf.tools.snoop.opensnoop import Open
from pyebpf.tools.trace import Call, TraceSession
from typing_extensions import assert_type

with pyebpf.count("./server:main.*", pid=1234) as counts:
    assert_type(counts, CountSession)
    for function, calls in counts.snapshot().most_common(10):
        assert_type((function.name, calls), tuple[str, int])
    for report in counts.every(1.0):
        assert_type(report, Counts)
with pyebpf.latency("c:malloc", "c:free", regex=True) as durations:
    assert_type(durations, LatencySession)
with pyebpf.slower("c:write", min_us=10) as slow:
    for call in slow.read(timeout=1.0):
        assert_type(call, SlowCall)

async def asynchronous() -> None:
    async with pyebpf.aio.trace("./server:main.*", args=["args.A"]) as calls:
        assert_type(calls, AsyncSession[TraceSession])
        assert_type(calls.losses, Losses)
        async for call in calls:
            assert_type(call, Call)
        async for call in calls.read(timeout=1.0):
            assert_type(call.goid, "int | None")
    async with pyebpf.aio.count("c:malloc", pid=1) as counts:
        assert_type(await counts.snapshot(), Counts)
        async for report in counts.every(1.0):
            assert_type(report, Counts)
    async with pyebpf.aio.opensnoop(failed=True) as opens:
        async for event in opens:
            assert_type(event, Open)
        opens.every(1.0)  # type: ignore[misc]
        await opens.snapshot()  # type: ignore[misc]
    pyebpf.aio.count(1)  # type: ignore[arg-type]
    pyebpf.aio.no_such_verb  # type: ignore[attr-defined]

try:
    pyebpf.Object.open("mine.bpf.o").load()
except pyebpf.LoadError as error:
    assert_type(error.verifier_log, str)
    assert_type(error.hint, "str | None")

pyebpf.no_such_name  # type: ignore[attr-defined]
pyebpf.count(1)  # type: ignore[arg-type]
pyebpf.slower("c:write", min_us="10")  # type: ignore[arg-type]
"""


def test_typed(tmp_path: Path) -> None:
    """An embedder's mypy sees the types. An ignored error that is none would be an error, too."""
    source = tmp_path / "embedded.py"
    source.write_text(EMBEDDED)
    package = Path(pyebpf.__file__).parents[1]
    where = {} if package.name == "site-packages" else {"MYPYPATH": str(package)}
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "--cache-dir",
               tmp_path / "cache", source]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **where}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    print(described(), end="")
