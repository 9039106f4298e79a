# SPDX-License-Identifier: BSD-2-Clause
"""The fixed words of the Itanium C++ ABI's mangling grammar: builtin types, operators, std:: abbreviations.

Source: Itanium C++ ABI, chapter 5.1 "External Names (a.k.a. Mangling)". The spelling of what they stand for follows
binutils' c++filt, so that a name shown here can be compared with one shown by nm, perf or gdb.
"""

from __future__ import annotations

# <builtin-type>, one letter.
BUILTINS = {
    "a": "signed char",
    "b": "bool",
    "c": "char",
    "d": "double",
    "e": "long double",
    "f": "float",
    "g": "__float128",
    "h": "unsigned char",
    "i": "int",
    "j": "unsigned int",
    "l": "long",
    "m": "unsigned long",
    "n": "__int128",
    "o": "unsigned __int128",
    "s": "short",
    "t": "unsigned short",
    "v": "void",
    "w": "wchar_t",
    "x": "long long",
    "y": "unsigned long long",
    "z": "...",
}

# <builtin-type>, D and a letter.
D_BUILTINS = {
    "a": "auto",
    "c": "decltype(auto)",
    "d": "decimal64",
    "e": "decimal128",
    "f": "decimal32",
    "h": "half",
    "i": "char32_t",
    "n": "decltype(nullptr)",
    "s": "char16_t",
    "u": "char8_t",
}

# How a literal of a builtin type is written: what follows the digits; other types are written as a cast.
LITERAL_SUFFIXES = {"i": "", "j": "u", "l": "l", "m": "ul", "x": "ll", "y": "ull"}

# The std:: abbreviations: what they stand for, and the class name a constructor after them repeats.
_TRAITS = "<char, std::char_traits<char>"
STD_SUBSTITUTIONS = {
    "t": ("std", ""),
    "a": ("std::allocator", "allocator"),
    "b": ("std::basic_string", "basic_string"),
    "s": ("std::basic_string" + _TRAITS + ", std::allocator<char> >", "basic_string"),
    "i": ("std::basic_istream" + _TRAITS + " >", "basic_istream"),
    "o": ("std::basic_ostream" + _TRAITS + " >", "basic_ostream"),
    "d": ("std::basic_iostream" + _TRAITS + " >", "basic_iostream"),
}

# <operator-name>: code -> (text, operands in an expression). `cv` (conversion), `li` (literal) and `v` (vendor) carry
# more than a code and are parsed by name.
OPERATORS = {
    "aN": ("&=", 2),
    "aS": ("=", 2),
    "aa": ("&&", 2),
    "ad": ("&", 1),
    "an": ("&", 2),
    "at": ("alignof ", 1),
    "aw": ("co_await ", 1),
    "az": ("alignof ", 1),
    "cc": ("const_cast", 2),
    "cl": ("()", 2),
    "cm": (",", 2),
    "co": ("~", 1),
    "dV": ("/=", 2),
    "dX": ("[...]=", 3),
    "da": ("delete[] ", 1),
    "dc": ("dynamic_cast", 2),
    "de": ("*", 1),
    "di": ("=", 2),
    "dl": ("delete ", 1),
    "ds": (".*", 2),
    "dt": (".", 2),
    "dv": ("/", 2),
    "dx": ("]=", 2),
    "eO": ("^=", 2),
    "eo": ("^", 2),
    "eq": ("==", 2),
    "fL": ("...", 3),
    "fR": ("...", 3),
    "fl": ("...", 2),
    "fr": ("...", 2),
    "ge": (">=", 2),
    "gs": ("::", 1),
    "gt": (">", 2),
    "ix": ("[]", 2),
    "lS": ("<<=", 2),
    "le": ("<=", 2),
    "ls": ("<<", 2),
    "lt": ("<", 2),
    "mI": ("-=", 2),
    "mL": ("*=", 2),
    "mi": ("-", 2),
    "ml": ("*", 2),
    "mm": ("--", 1),
    "na": ("new[]", 3),
    "ne": ("!=", 2),
    "ng": ("-", 1),
    "nt": ("!", 1),
    "nw": ("new", 3),
    "nx": ("noexcept", 1),
    "oR": ("|=", 2),
    "oo": ("||", 2),
    "or": ("|", 2),
    "pL": ("+=", 2),
    "pl": ("+", 2),
    "pm": ("->*", 2),
    "pp": ("++", 1),
    "ps": ("+", 1),
    "pt": ("->", 2),
    "qu": ("?", 3),
    "rM": ("%=", 2),
    "rS": (">>=", 2),
    "rc": ("reinterpret_cast", 2),
    "rm": ("%", 2),
    "rs": (">>", 2),
    "sP": ("sizeof...", 1),
    "sZ": ("sizeof...", 1),
    "sc": ("static_cast", 2),
    "ss": ("<=>", 2),
    "st": ("sizeof ", 1),
    "sz": ("sizeof ", 1),
    "te": ("typeid ", 1),
    "ti": ("typeid ", 1),
    "tr": ("throw", 0),
    "tw": ("throw ", 1),
}

# <special-name>: T and a letter, followed by a type (lower table) or by a name.
SPECIAL_TYPES = {
    "V": "vtable for ",
    "T": "VTT for ",
    "I": "typeinfo for ",
    "S": "typeinfo name for ",
    "F": "typeinfo fn for ",
    "J": "java Class for ",
}
SPECIAL_NAMES = {"H": "TLS init function for ", "W": "TLS wrapper function for "}
