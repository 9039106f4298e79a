# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for mangled names and patterns."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyebpf.binary import demangle
from pyebpf.binary.demangle.plain import beginning
from pyebpf.binary.pattern import Pattern
from pyebpf.errors import TargetError

from .reader import packed, reader, unpacked

_MOST = 64 << 10
"""Characters that a demangled name may have."""

_CPP = (
    "_ZN3foo3barIiJdcEEEvT_DpT0_", "_ZNSt6vectorIiSaIiEE9push_backEOi", "_ZZN1aC4EvENKUlvE_clEv", "_ZTVN10__cxxabiv1E",
    "_ZN1SIXadL_Z1fvEEE1gEv", "_ZNK1AcvT_IiEEv", "_Z1fIXsr1AIT_E1xEEvS1_", "_ZGVZ1fvE1x", "_Z3addIiEDTplfp_fp0_ET_S0_",
    "_ZN5abcdeB5cxx113fooB3barEv.cold", "_ZNSt3__112basic_stringIcNS_11char_traitsIcEEE6appendEPKcm", "_Z1gIJidEEvDpT_",
    "_ZThn16_N1D1fEv", "_ZTch0_h4_N1B1fEv", "_ZN1fIL_Z3foovEE1xE", "_Z4testIXtlA3_iLi1ELi2ELi3EEEEvv", "_ZUlvE_",
    "_ZW3foo1fv",
    "_Z1fDv4_fDn", "_ZN1AIXstiEE1BE", "_Z1fPU3AS1Ki", "_GLOBAL__sub_I_a.cc", "_ZN1fILb1ELc97ELd3ff0000000000000EE1xE",
    "_ZL3fooPFivEM1SKFvvERA10_i", "_ZN12_GLOBAL__N_11xE", "_Z1fIiEvDTcl1gfp_EE", "_Z1fUa9enable_ifIXgefL0p_Li0EEEi",
)  # fmt: skip
_RUST = (
    "_RNvCs15kBYyAo9fc_7mycrate7example", "_RNvMs0_Cs4fqI2P2rA04_7mycrateNtB5_3Foo3bar", "_RINvC1a3fooTlmEAhj3_FKCaEuE",
    "_RNCNvC1a4main0B3_", "_RYNtC1a1SNtB2_1TE", "_RNvXC1aINtB2_1VmEINtB2_1TpE3foo",
    "_RINvC1a1fKRe616263_Kj1f_Kb1_Kc61_E",
    "_RINvC1a1fDNtB2_1TINtB2_1Up1AmEL_E", "_RIC1aFG0_RL0_hEuE", "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
    "_ZN55_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE.llvm.123", "_RNvNtCs0_u8_gdel_5qa4main",
    "_ZN71_$LT$alloc..vec..Vec$LT$T$C$A$GT$$u20$as$u20$core..ops..Drop$GT$4drop17hfedcba9876543210E",
    "_RINvC1a1fKVSNtB2_1PNtB2_1xKm1_EE", "_RINvC1a1fKAm1_m2_EE", "_RNvC6_123foo3bar",
)  # fmt: skip
_CODES = tuple(
    word.encode()
    for word in ("S_", "S0_", "T_", "T0_", "St", "Sa", "Ss", "I", "J", "E", "N", "Dp", "DT", "Dv4_", "fp_", "fL0p_",
                 "X",
                 "L_Z", "cl", "cv", "sr", "Ul", "Ut", "C1", "D0", "R", "O", "P", "K", "M", "F", "A_", "B3abi", "DpT_",
                 "B_", "B2_", "B9_", "G_", "L_", "L0_", "K", "D", "s_", "u", "Cs", "Nv", "Nt", "Mx", "Y", "17h")
)  # fmt: skip


def _texts(names: tuple[str, ...]) -> Iterator[bytes]:
    return (name.encode() for name in names)


def _check(text: str) -> None:
    both = demangle.forms(text)
    if both is not None:
        shown, bare = both
        assert len(shown) <= _MOST and len(bare) <= _MOST, "a demangled name is too long"
    assert demangle.language_of(text) in ("c", "c++", "rust")
    beginning(text)
    demangle.without_parameters(text)


# Bounds: a symbol table has 100,000 names, so each must be quick. Tried with what one may have at the most.
@reader("binary.demangle.itanium binary.demangle.itanium_state binary.demangle.itanium_names binary.demangle.bare "
        "binary.demangle.itanium_types binary.demangle.itanium_expressions binary.demangle.plain",
        lambda: _texts(_CPP), words=_CODES, seconds=0.5, megabytes=64, longest=40 << 10)  # fmt: skip
def itanium(data: bytes) -> None:
    """C++ names as they stand in symbol tables; any bytes."""
    _check(data.decode("utf-8", "backslashreplace"))
    _check("_Z" + data.decode("latin-1"))


@reader("binary.demangle.rust", lambda: _texts(_RUST), words=_CODES, seconds=0.5, megabytes=64, longest=40 << 10)
def rust(data: bytes) -> None:
    """Rust names, new and old."""
    _check(data.decode("utf-8", "backslashreplace"))
    _check("_R" + data.decode("latin-1"))


def _patterns() -> Iterator[bytes]:
    for pattern, name in (
        ("main.*", "main.(*T).Method"), ("*a*a*a*b", "a" * 100), ("v8::internal::Heap::*",
        "_ZN2v88internal4Heap3runEv"),
        ("foo?bar", "fooxbar"), ("net.*.gc*", "net/http.gc"), ("std::vector<*>::push_back",
        "_ZNSt6vectorIiE9push_backEv"),
        ("main.Sum[...]", "main.Sum[go.shape.int]"), ("operator[]*", "_ZN1SixEi"),
    ):  # fmt: skip
        yield packed(pattern.encode(), name.encode())


@reader("binary.pattern binary.demangle.fragments", _patterns, pieces=2, megabytes=64, longest=1 << 14,
        words=(b"*", b"?", b"*.", b"::", b"[...]", b"operator", b"<", b">", b"~",
               b"(anonymous namespace)"))  # fmt: skip
def patterns(data: bytes) -> None:
    """Globs against names that others chose: always in linear time, and never less than what is said of them."""
    text, raw = unpacked(data, 2)
    glob, name = text.decode("utf-8", "surrogateescape"), raw.decode("utf-8", "backslashreplace")
    try:
        pattern = Pattern(glob)
        Pattern(glob[:200], regex=True)
    except TargetError:
        return
    matched = pattern.match(name)
    if matched:
        encoded = name.encode("utf-8", "surrogateescape")
        assert all(part in encoded for part in pattern.required), "a name that matches lacks what is required"
        assert name.startswith(pattern.beginning), "a name that matches has another beginning"
    if len(glob) + len(name) < 300 and not re.search("[*?]{3}", glob):
        assert matched == _slow(pattern.glob, name), "a glob matches what it should not, or the other way round"
    pattern.generic()
    fragments = demangle.required_fragments(glob)
    both = demangle.forms(name)
    if both is not None and any(map(pattern.match, (name, *both))):
        assert all(part in raw for part in fragments), "a mangled name that matches lacks what is required"


def _slow(glob: str, name: str) -> bool:
    """What a glob means, by the book."""
    rows = [True] + [False] * len(name)
    for character in glob:
        if character == "*":
            for at in range(1, len(rows)):
                rows[at] = rows[at] or rows[at - 1]
        else:
            rows = [False] + [rows[at] and (character in ("?", name[at])) for at in range(len(name))]
    return rows[-1]
