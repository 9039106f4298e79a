# SPDX-License-Identifier: BSD-2-Clause
"""Arguments and results of Go functions of every kind, Go 1.15 to the newest, against what the program itself says.

The functions, what is asked of them, and the values are in tests/programs/go/signatures.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import targets
import tracing

VERSIONS = ("1.15", "1.19", "1.21", "1.24", "1.27")
FUNCTIONS = (
    "int8s", "int16s", "int32s", "int64s", "uint8s", "uint16s", "uint32s", "uint64s", "machineWords", "bools",
    "durations", "text", "emptyText", "longText", "byteSlice", "intSlice", "structSlice", "stringSlice", "nilSlice",
    "mapLength", "channels", "variadic", "pointers", "rawPointer", "structs", "nested", "nestedPointer", "tooLarge",
    "arrayOfOne", "arrayOfFour", "sevenStrings", "twelveInts", "oddSizes", "zeroSize", "mixedFloats", "floatsInMemory",
    "floatsInStruct", "complexes", "anything", "stringers", "fails", "withContext", "point.plus", "(*counter).add",
    "(*base).deeper", "(*derived).title", "takesFunc", "(*counter).add-fm", "(*counter).unnamedReceiver", "unnamed",
    "blanks", "capturing", "capturing.func1", "byReference.func1", "byReference", "namedResults", "severalResults",
    "valueOrError", "stackResults", "throughPointer", "floatResult", "noResult",
)  # fmt: skip
GENERIC = ("largest", "firstOf", "(*stack).push", "pair.value")
# What a version's debug information doesn't tell: where a closure keeps what it captured; the parameters of a method
# value; which parameters called _ come before one that is never used.
UNTOLD = {
    ("capturing.func1", "1.15"): ("step", "name", "*total"),
    ("capturing.func1", "1.19"): ("step", "name", "*total"),
    ("capturing.func1", "1.21"): ("step", "name", "*total"),
    ("byReference.func1", "1.15"): ("start",),
    ("byReference.func1", "1.19"): ("start",),
    ("byReference.func1", "1.21"): ("start",),
    ("(*counter).add-fm", "1.19"): ("n",),
    ("blanks", "1.15"): ("a",),
}


def number(version: str) -> int:
    return int(version.split(".")[1])


@functools.cache
def expressions(version: str) -> dict[str, dict[str, list[str]]]:
    """What to ask of each function, in the order the program tells it."""
    with targets.run(targets.go_program("signatures", version)) as target:
        values = target.go()["values"]
    return {name: {side: [*calls[0][side]] for side in ("entry", "return")} for name, calls in values.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_is_the_program(version: str) -> None:
    expected = FUNCTIONS + (GENERIC if number(version) >= 18 else ())
    assert {f"main.{name}" for name in expected} == set(expressions(version))


@pytest.mark.parametrize("function", FUNCTIONS + GENERIC)
@pytest.mark.parametrize("version", VERSIONS)
def test_values(version: str, function: str) -> None:
    if function in GENERIC and number(version) < 18:
        return  # there are no generics
    asked = expressions(version)["main." + function]
    untold = UNTOLD.get((function, version), ())
    entry, result = ([name for name in asked[side] if name not in untold] for side in asked)
    with targets.run(targets.go_program("signatures", version)) as target:
        calls, truth = tracing.trace(target, "main." + function, entry, result)
    told: list[dict[str, Any]] = truth["values"]["main." + function]
    for call in told:
        for name in untold:
            call["entry"].pop(name, None)
            call["return"].pop(name, None)
    tracing.compare(calls, told, float_registers=number(version) >= 17)


@pytest.mark.parametrize(("function", "version"), UNTOLD)
def test_what_is_untold_is_refused(function: str, version: str) -> None:
    """Nothing is guessed: there is no value, and what there is, is named."""
    for name in UNTOLD[function, version]:
        done = tracing.refused(targets.go_program("signatures", version), "main." + function, name)
        assert "there is no argument" in done or "optimised away" in done, done


@pytest.mark.parametrize("version", VERSIONS)
def test_every_argument_of_every_function(version: str) -> None:
    """--all-args, all functions at once: the same values, where they are asked for by name, too."""
    program = targets.go_program("signatures", version)
    with targets.run(program) as target:
        with tracing.pyebpf(
            "trace", "--json", "--all-args", "-p", str(target.pid), "-Z", "400", f"{program}:main.*"
        ) as process:
            values = target.go()["values"]
            calls = tracing.records(tracing.end(process), "call")
    compared = 0
    for function, truth in values.items():
        seen = [call for call in calls if tracing.unbracketed(call["function"]) == function]
        assert len(seen) == len(truth), function
        for call, told in zip(seen, truth):
            for name, value in told["entry"].items():
                if name in call["args"]:
                    compared += 1
                    assert tracing.same(value, call["args"][name], number(version) >= 17) or (
                        # deeper than a whole structure is shown, or not to be read here
                        tracing.is_absent(call["args"][name], "optimised away")
                    ), (function, name, value, call["args"][name])
    assert compared > 300
