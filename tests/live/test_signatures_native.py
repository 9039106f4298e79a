# SPDX-License-Identifier: BSD-2-Clause
"""Arguments and results of C, C++ and Rust functions of every kind, unoptimised and optimised, against what the program
itself says.

The functions, what is asked of them, and the values are in tests/programs/signatures.{c,cpp,rs}.
"""

from __future__ import annotations

import functools
import re
import subprocess

import pytest
import targets
import tracing

import pyebpf
from pyebpf.errors import TargetError

BUILDS = {
    "gcc -O0": ("signatures.c", "gcc", ("-O0",)),
    "gcc -O2": ("signatures.c", "gcc", ("-O2",)),
    "clang -O0": ("signatures.c", "clang", ("-O0",)),
    "clang -O2": ("signatures.c", "clang", ("-O2",)),
    "g++ -O0": ("signatures.cpp", "g++", ("-O0",)),
    "g++ -O2": ("signatures.cpp", "g++", ("-O2",)),
    "clang++ -O0": ("signatures.cpp", "clang++", ("-O0",)),
    "clang++ -O2": ("signatures.cpp", "clang++", ("-O2",)),
    "rustc opt-level=0": ("signatures.rs", "rustc", ("-C", "debuginfo=2", "-C", "opt-level=0")),
    "rustc opt-level=3": ("signatures.rs", "rustc", ("-C", "debuginfo=2", "-C", "opt-level=3")),
}
FUNCTIONS = {
    "signatures.c": (
        "int8s", "int16s", "int32s", "int64s", "uint8s", "uint16s", "uint32s", "uint64s", "bools", "chars", "enums",
        "text", "nine", "pointers", "tiny_struct", "small_struct", "pair_struct", "mixed_struct", "swapped_struct",
        "large_struct", "spilled_struct", "large_pointer", "bit_fields", "unions", "anonymous_members", "floats",
        "spilled_floats", "long_doubles", "callbacks", "variadic", "gives_small", "gives_pair", "gives_large", "fills",
    ),
    "signatures.cpp": (
        "shop::by_value", "shop::by_reference", "shop::references", "shop::enums", "shop::structs", "shop::named",
        "shop::gives_string*", "shop::gives_named", "shop::floats", "shop::wide", "shop::unique", "shop::vectors",
        "shop::method_pointer", "shop::Article::price", "shop::Base::price", "shop::Article::rename",
        "shop::Article::counted", "shop::Article::operator()", "shop::Holder<short>::exchange",
        "shop::Holder<*string*>::exchange", "shop::largest<long>", "shop::largest<unsigned char>",
        "shop::v1::(anonymous namespace)::hidden",
    ),
    "signatures.rs": (
        "signatures::int8s", "signatures::int16s", "signatures::int32s", "signatures::int64s", "signatures::sizes",
        "signatures::bools", "signatures::chars", "signatures::level", "signatures::floats", "signatures::many",
        "signatures::generic", "signatures::str_slice", "signatures::string", "signatures::string_ref",
        "signatures::gives_string", "signatures::vector", "signatures::vector_ref", "signatures::slice",
        "signatures::byte_slice", "signatures::array", "signatures::small_struct", "signatures::pair_struct",
        "signatures::large_struct", "signatures::struct_ref", "signatures::gives_large", "signatures::newtype",
        "signatures::tuple", "signatures::boxed", "signatures::Large::method",
        "<signatures::Point as signatures::Priced>::price", "signatures::option_number", "signatures::option_ref",
        "signatures::shape", "signatures::result",
    ),
}  # fmt: skip
# LLVM before 16 takes away results that nobody uses from functions only their own file calls, and doesn't say so.
UNTOLD = {("clang++ -O2", "shop::v1::(anonymous namespace)::hidden")}
TABLE = [(build, function) for build, (source, _, _) in BUILDS.items() for function in FUNCTIONS[source]]


@functools.cache
def expressions(build: str) -> dict[str, dict[str, list[str]]]:
    """What to ask of each function, in the order the program tells it."""
    source, compiler, flags = BUILDS[build]
    with targets.run(targets.compiled(source, *flags, compiler=compiler)) as target:
        values = target.go()["values"]
    return {name: {side: [*calls[0][side]] for side in ("entry", "return")} for name, calls in values.items()}


@pytest.mark.parametrize("build", BUILDS)
def test_the_table_is_the_program(build: str) -> None:
    assert set(FUNCTIONS[BUILDS[build][0]]) == set(expressions(build))


@functools.cache
def llvm() -> int:
    """The version of clang."""
    said = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"clang version (\d+)", said)[1])


@pytest.mark.parametrize(("build", "function"), TABLE)
def test_values(build: str, function: str) -> None:
    source, compiler, flags = BUILDS[build]
    asked = expressions(build)[function]
    if (build, function) in UNTOLD and llvm() < 16:
        program = targets.compiled(source, *flags, compiler=compiler)
        with pytest.raises(TargetError, match="optimised away"):
            pyebpf.trace(f"{program}:{function}", ret=asked["return"])
        asked = {"entry": asked["entry"], "return": []}
    with targets.run(targets.compiled(source, *flags, compiler=compiler)) as target:
        calls, truth = tracing.trace(target, function, asked["entry"], asked["return"])
    told = [{side: {asked_for: call[side][asked_for] for asked_for in asked[side]} for side in asked}
            for call in truth["values"][function]]  # fmt: skip
    tracing.compare(calls, told)
