# SPDX-License-Identifier: BSD-2-Clause
"""Signatures as text: what may be asked for, and where each value lies."""

from __future__ import annotations

from collections.abc import Sequence

from pyebpf.binary.image import Function
from pyebpf.binary.signature import Parameter, Signature
from pyebpf.binary.signatures import describe


def text_of(function: Function, signature: Signature) -> str:
    """``main.(*Arith).Mul(t *main.Arith [ax], args main.Args [di si]) (~r0 error [ax bx])``, in all languages.

    Without names, how the arguments can be had by position; `signature.reason` says why, for many functions the same.
    """
    if signature.reason:
        return f"{function.name}  (no names; {_by_position(signature)})"
    results = _list(signature.results)
    if len(signature.results) > 1 or any(result.name for result in signature.results):
        results = f"({results})"
    return f"{_bare(function)}({_list(signature.parameters)}) {results}".rstrip()


def as_json(signature: Signature) -> dict[str, object]:
    """The same for `output.jsonl`."""
    return {
        "parameters": [_fields(one) for one in signature.parameters if not one.hidden],
        "results": [_fields(one) for one in signature.results if not one.hidden],
        "words": list(signature.words),
        "result_words": list(signature.result_words),
        "no_names": signature.reason or None,
    }


def _fields(parameter: Parameter) -> dict[str, object]:
    return {
        "name": parameter.name,
        "type": parameter.type.name,
        "place": describe(parameter.place),
        "captured": parameter.captured,
    }


def _list(parameters: Sequence[Parameter]) -> str:
    return ", ".join([_one(parameter) for parameter in parameters if not parameter.hidden])


def _one(parameter: Parameter) -> str:
    name = f"{parameter.name} " if parameter.name else ""
    place = describe(parameter.place)
    bracketed = place if place.startswith("[") and place.endswith("]") and " " not in place else f"[{place}]"
    return f"{'captured ' if parameter.captured else ''}{name}{parameter.type.name} {bracketed}"


def _by_position(signature: Signature) -> str:
    if not signature.words:
        return "arguments lie on the stack: sarg0, sarg1 and so on"
    return f"arg0 to arg{len(signature.words) - 1} are {' '.join(signature.words)}"


def _bare(function: Function) -> str:
    """The name without C++'s parameter types."""
    name = function.name
    if function.language != "c++" or ")" not in name:
        return name
    depth = 0
    for at in range(name.rindex(")"), -1, -1):
        depth += {")": 1, "(": -1}.get(name[at], 0)
        if not depth:
            return name[:at] or name
    return name
