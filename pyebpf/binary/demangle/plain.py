# SPDX-License-Identifier: BSD-2-Clause
"""The beginning of a C++ name, where it can be read off the mangled one: a search needn't demangle what can't match."""

from __future__ import annotations

import re

# _Z5count..., _ZN2ns4Type5count..., and the latter with the qualifiers of `this`
_BEGINNING = re.compile(r"_Z(?:N[rVK]*[RO]?)?(?=[1-9])")
_LENGTH = re.compile(r"[1-9][0-9]{0,4}")
# What ends a name that is no template's: the end of N...E itself, or a constructor or destructor
_END = re.compile(r"(?:[CD][0-9])?E")


def beginning(raw: str) -> str | None:
    """What the demangled form of ``raw`` begins with, with or without parameters: "ns::Type::count".

    None where only the demangler can tell: templates (their return type comes first), operators, abbreviations, tags,
    unnamed namespaces, Rust, and everything unusual.
    """
    match = _BEGINNING.match(raw)
    if match is None or "17h" in raw or "_GLOBAL_" in raw or not raw.isascii():
        return None
    at = match.end()
    words = []
    length = _LENGTH.match(raw, at)
    while length is not None:
        start = length.end()
        at = start + int(length.group())
        words.append(raw[start:at])
        length = _LENGTH.match(raw, at)
    name = "::".join(words)
    plain = _END.match(raw, at) if raw[2] == "N" else len(words) == 1 and raw[at : at + 1] not in ("I", "B")
    return name if plain and at <= len(raw) and name.replace("::", "").isidentifier() else None
