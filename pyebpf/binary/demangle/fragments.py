# SPDX-License-Identifier: BSD-2-Clause
"""What a mangled name must contain if its demangled form is to match a glob: a prefilter over a string table.

An identifier stands literally in the mangled name, wherever in the demangled one it appears: a substitution can only
repeat what stood there before. In C++, and outside of ``<>`` in Rust, its length stands before it. What is no
identifier (types, operators, ``std::``, "vtable for", numbers) is made by the demangler: a word of the glob says
nothing if it may be part of one of those.
"""

from __future__ import annotations

import re

from .operators import BUILTINS, D_BUILTINS, OPERATORS, SPECIAL_NAMES, SPECIAL_TYPES, STD_SUBSTITUTIONS

_WORD = re.compile(r"[\w$]+")
_WILDCARDS = ("*", "?")
_NUMBERS = re.compile(r"[0-9]+")
_ALPHABETIC = re.compile(r"\w+")

_RUST = (
    "i8 bool char f64 str f32 u8 isize usize i32 u32 i128 u128 i16 u16 i64 u64 as mut const dyn for unsafe extern fn "
    "closure shim"
)
# 0 is any number.
_MADE = (
    "operator lambda unnamed type default arg string literal anonymous namespace abi clone parm this auto decltype "
    "unsigned __vector _Complex _Imaginary _BitInt _Float0 _Float0x bfloat16_t const volatile restrict noexcept throw "
    "transaction_safe true false 0u 0l 0ul 0ll 0ull global constructors destructors keyed to guard variable for "
    "reference temporary hidden alias transaction initializer module template parameter object construction vtable in "
    "covariant return virtual non thunk"
)


def _words(texts: list[str]) -> list[str]:
    return _ALPHABETIC.findall(" ".join(texts))


# Words that may stand next to `::` though no identifier was mangled.
_TYPES = frozenset(
    _words(
        [
            *BUILTINS.values(),
            *D_BUILTINS.values(),
            *[text for text, _ in STD_SUBSTITUTIONS.values()],
            "auto operator decltype",
            _RUST,
        ]
    )
)
# Every word the demangler makes, with a space on either side.
_GENERATED = " ".join(
    [
        "",
        *sorted(_TYPES),
        *_words([text for text, _ in OPERATORS.values()]),
        *_words([*SPECIAL_NAMES.values(), *SPECIAL_TYPES.values(), _MADE]),
        "",
    ]
)


def required_fragments(pattern: str) -> tuple[bytes, ...]:
    """See `pyebpf.binary.demangle.required_fragments`."""
    fragments: dict[bytes, None] = {}
    scoped = "::" in pattern  # so it can't match a name that isn't mangled
    # Up to here the glob says all there is, and nothing is inside of <>, where Rust may have one length for it all.
    plain = min([at for at in map(pattern.find, "*?<") if at >= 0], default=len(pattern))
    for m in _WORD.finditer(pattern):
        word = m.group()
        if not word.isascii() or word[0] in "0123456789":
            continue
        before, after = pattern[max(m.start() - 2, 0) : m.start()], pattern[m.end() : m.end() + 2]
        if (
            scoped
            and m.start() < plain
            and word[0] != "_"  # Rust separates the length from a leading underscore
            and before in ("", "::")
            and (after in ("", "::") or after[0] == "(")
        ):
            if word not in _TYPES:
                fragments[b"%d%s" % (len(word), word.encode())] = None
            continue
        # A word is open where a wildcard may continue it.
        seen = ("" if before[-1:] in _WILDCARDS else " ") + word + ("" if after[:1] in _WILDCARDS else " ")
        if len(word) > 1 and seen not in _GENERATED and _NUMBERS.sub("0", seen) not in _GENERATED:
            fragments[word.encode()] = None
    return tuple(fragments)
