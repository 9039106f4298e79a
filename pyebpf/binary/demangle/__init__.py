# SPDX-License-Identifier: BSD-2-Clause
"""C++ and Rust names: from what stands in a symbol table to what stands in the source, in pure Python.

C++ names read as binutils' c++filt shows them, Rust names as ``rustfilt`` does, without hash and crate disambiguators.
Nothing here raises on any input: a name that is malformed, or costs more than it could be worth, isn't demangled. The
parsers are imported when the first name needs them.
"""

from __future__ import annotations

MAX_INPUT = 32 << 10

__all__ = ["demangle", "forms", "language_of", "required_fragments", "without_parameters"]


def demangle(name: str) -> str | None:
    """The demangled name with its parameters, at most 64 KiB; None when it isn't mangled or can't be demangled."""
    both = forms(name)
    return both[0] if both else None


def forms(name: str) -> tuple[str, str] | None:
    """The demangled name and the same without parameters; None when it isn't mangled or can't be demangled.

    Cheaper than `demangle` and `without_parameters`, and exact where a text alone would be ambiguous.
    """
    if not name.startswith(("_Z", "_R", "_GLOBAL_")) or len(name) > MAX_INPUT:
        return None
    if name.startswith("_R") or (name.startswith("_ZN") and "17h" in name):
        from . import rust

        shown = rust.demangle(name)
        if shown is not None:
            return shown, shown.partition(" [clone ")[0]
    from . import itanium

    if name.isascii():
        return itanium.forms(name)
    try:  # lengths in mangled names count bytes
        both = itanium.forms(name.encode("utf-8", "surrogateescape").decode("latin-1"))
    except UnicodeError:
        return None
    return (_from_bytes(both[0]), _from_bytes(both[1])) if both else None


def _from_bytes(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def language_of(name: str) -> str:
    """The language a symbol is mangled for: "c++", "rust", or "c" when it isn't mangled."""
    if name.startswith(("_Z", "_R")):
        from . import rust

        if name.startswith("_R"):
            return "rust" if len(name) <= MAX_INPUT and rust.demangle(name) is not None else "c"
        return "rust" if rust.is_legacy(name) else "c++"
    return "c++" if name.startswith("_GLOBAL__") else "c"


def without_parameters(demangled: str) -> str:
    """A demangled name without return type, parameters, qualifiers of ``this`` and ``[clone ...]``.

    ``void ns::f<int>(int) const [clone .cold]`` is ``ns::f<int>``. A Rust name comes back as is.
    """
    from . import bare

    return bare.without_parameters(demangled) or demangled


def required_fragments(pattern: str) -> tuple[bytes, ...]:
    """Byte strings that every symbol has in it whose name matches a glob (``*`` any text, ``?`` one character).

    The name may be the symbol itself, or its demangled form with or without parameters. Empty when nothing can be said.
    ``v8::internal::Heap::*`` is (``2v8``, ``8internal``, ``4Heap``). A symbol that isn't mangled and has ``::`` in its
    name is taken not to exist.
    """
    from . import fragments

    return fragments.required_fragments(pattern)
