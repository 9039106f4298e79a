# SPDX-License-Identifier: BSD-2-Clause
"""What debug information tells late or oddly: Rust without optimisation, with moved parameters, patterns and closures,
and parameters that gcc finds nobody uses; against what the program itself says.

The Rust functions, what is asked of them, and the values are in tests/programs/moved.rs.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import targets
import tracing

import pyebpf

FUNCTIONS = (
    "string_moved", "string_changed", "two_strings", "vector_moved", "texts", "three", "twelve", "sixteen", "large",
    "option", "option_text", "option_string", "option_byte", "tuple", "tuple_text", "scalars", "arrays", "fallible",
    "question", "generic", "early", "floats", "many", "Owner::by_reference", "Owner::by_mutable", "Owner::by_value",
    "Owner::taken_apart", "shared::apply::{{closure}}", "moved::apply::{{closure}}", "consumed::apply::{{closure}}",
    "consumed_text::apply::{{closure}}",
)  # fmt: skip


def program() -> Path:
    return targets.compiled("moved.rs", "-C", "debuginfo=2", "-C", "opt-level=0")


@functools.cache
def expressions() -> dict[str, dict[str, list[str]]]:
    """What to ask of each function, in the order the program tells it."""
    with targets.run(program()) as target:
        values = target.go()["values"]
    return {name: {side: [*calls[0][side]] for side in ("entry", "return")} for name, calls in values.items()}


def test_the_table_is_the_program() -> None:
    assert {f"moved::{function}" for function in FUNCTIONS} == set(expressions())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values(function: str) -> None:
    asked = expressions()[f"moved::{function}"]
    with targets.run(program()) as target:
        calls, truth = tracing.trace(target, f"moved::{function}", asked["entry"], asked["return"])
    tracing.compare(calls, truth["values"][f"moved::{function}"])


def test_a_parameter_that_is_not_used() -> None:
    """gcc's debug information has it for no more than the first of the first instruction's statements."""
    with targets.run(targets.compiled("calls.c"), "-n", "7", "text") as target:
        with pyebpf.trace(f"{target.path}:text", args=["name", "number"], pid=target.pid) as session:
            target.go()
            assert [call.args["number"] for call in session.drain()] == list(range(7))
