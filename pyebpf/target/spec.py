# SPDX-License-Identifier: BSD-2-Clause
"""What a user writes to name functions: ``FILE:PATTERN``.

    ./server:main.*.Mul             functions of a file, by path (glob; `*` is any text, `?` one character)
    c:malloc   ssl:SSL_*            functions of a library, by the name the linker's -l takes, or libc.so.6:malloc
    node:v8::internal::Heap::*      functions of a program found through $PATH
    :handle_*                       functions of the traced process's own executable
    ./server:main.main+0x5c         an instruction, as bytes past a function's first one
    ./server:0x401136               an instruction, by the virtual address nm and objdump print

The file ends at the first colon that is alone: Go and C++ names hold slashes, dots, stars, brackets and pairs of
colons, but a pair never separates. (Of an odd run, as in `FILE:::ns::f`, the first colon separates.) A path with a
colon in it works if what stands before one of its later colons is an existing file and what stands before the first
isn't.

bcc's prefix `p:` (entry of a function) is accepted; its others are refused with what to use here instead. As a regular
expression a pattern has no offset, because `+2` means something else there.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..errors import TargetError

_SEPARATOR = re.compile(r"(?<!:):(?:::)*(?!:)")
# Compiled when first used: few targets have these.
_OFFSET = r"\+(0[xX][0-9a-fA-F]+|[0-9]+)\Z"
_ADDRESS = r"0[xX][0-9a-fA-F]+\Z"
_EXAMPLE = "write FILE:PATTERN, for example ./server:main.*, c:malloc or /usr/bin/node:v8::internal::Heap::*"
_MAX_LENGTH = 65536

# bcc's other probe types, bcc/docs/reference_guide.md and man8/trace.8: what each means, what to do here.
_REFUSED = {
    "r": ("a return probe", "whether returns are traced is the tool's choice: write FILE:FUNC without r:"),
    "t": ("a kernel tracepoint", "only functions of programs and libraries can be named here: write FILE:FUNC"),
    "u": ("a USDT probe", "USDT probes aren't supported: name the function around it as FILE:FUNC"),
}


class Spec(NamedTuple):
    """A parsed target.

    Attributes:
        text: as the user wrote it.
        file: a path (it has a slash), or the name of a library or program, or "": the process's own executable.
        pattern: what the functions' names must match; "" when `address` is given.
        offset: bytes past the first instruction of each function, or None: the function's entry.
        address: a virtual address in the file, or None.
        regex: `pattern` is a regular expression for `re.match`, not a glob.
    """

    text: str
    file: str
    pattern: str
    offset: int | None
    address: int | None
    regex: bool


def parse(text: str, regex: bool = False) -> Spec:
    """Take a target apart. Looks at the file system only to place the colon in a path that has several.

    Raises:
        TargetError: it isn't of the form above; the hint has an example.
    """
    if not isinstance(text, str):
        raise TargetError(
            f"a target is a text, got {type(text).__name__} {text!r:.80}",
            hint='several are arguments of their own: count("c:malloc", "c:free")',
        )
    if not text.strip():
        raise TargetError("the target is empty", hint=_EXAMPLE)
    if "\0" in text or len(text) > _MAX_LENGTH:
        raise TargetError("the target has a NUL character in it or is too long", hint=_EXAMPLE)
    file, pattern = _split(_without_probe_type(text), text)
    if not pattern:
        raise TargetError(f"{text!r} names no function", hint=f"to match every function write {file}:*")
    if pattern[0] == "0" and re.match(_ADDRESS, pattern):
        return Spec(text, file, "", None, _number(pattern, text), regex)
    suffix = None if regex or "+" not in pattern else re.search(_OFFSET, pattern)
    if suffix is None:
        return Spec(text, file, pattern, None, None, regex)
    if suffix.start() == 0:
        raise TargetError(f"{text!r} has an offset but no function", hint="write FILE:FUNC+OFFSET or FILE:0xADDRESS")
    return Spec(text, file, pattern[: suffix.start()], _number(suffix.group(1), text), None, False)


def _without_probe_type(text: str) -> str:
    """`text` without bcc's probe type, which counts as one only if a whole FILE:PATTERN or :PATTERN follows it."""
    kind, colon, rest = text.partition(":")
    if not colon or not (kind == "p" or kind in _REFUSED):
        return text
    # In p::FUNC the library is left out; in r:ns::f the file is called r.
    if not _SEPARATOR.search(rest):
        return text
    if kind in _REFUSED:
        what, instead = _REFUSED[kind]
        raise TargetError(
            f"{text!r} asks for {what}", hint=f"{instead}; for a file called {kind!r} write ./{kind}:FUNC"
        )
    return rest


def _split(rest: str, text: str) -> tuple[str, str]:
    colons = [match.start() for match in _SEPARATOR.finditer(rest)]
    if not colons:
        if "/" in rest:
            raise TargetError(f"{text!r} names a file but no function", hint=f"to match every function write {rest}:*")
        raise TargetError(
            f"{text!r} names no file: kernel functions are not supported yet",
            hint="for a user function write PATH:FUNC",
        )
    cut = colons[0]
    if len(colons) > 1 and "/" in rest[:cut] and not os.path.isfile(rest[:cut]):
        cut = next((colon for colon in colons[1:] if os.path.isfile(rest[:colon])), cut)
    return rest[:cut], rest[cut + 1 :]


def _number(digits: str, text: str) -> int:
    # int() of a long decimal is quadratic, and refused by newer Pythons.
    number = -1 if len(digits) > 20 else int(digits, 16 if digits[:2].lower() == "0x" else 10)
    if not 0 <= number < 1 << 63:
        raise TargetError(f"the number in {text!r} is too large")
    return number
