# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for the type information (BTF) of eBPF objects, and for the objects themselves."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import pyebpf
from pyebpf import build
from pyebpf.core.btf import Btf
from pyebpf.errors import BadValue, BinaryError, Error, LoadError, NoSuchName

from . import made
from .reader import reader

_OBJECTS = Path(pyebpf.__file__).parent / "objects"


def _objects() -> Iterator[bytes]:
    for path in sorted(_OBJECTS.glob("*/*.o.gz"), key=lambda path: path.stat().st_size)[:6]:
        yield gzip.decompress(path.read_bytes())
    source = """
    struct event { int pid; unsigned a : 3, b : 5; char comm[16]; union { long x; char y[8]; } u; enum { A, B } e; };
    struct event *unused_event; const volatile int limit = 5; int counter; typedef struct event event_t;
    struct { int (*type)[27]; int (*max_entries)[4096]; event_t *value; } events __attribute__((section(".maps"),
                  used));
    __attribute__((section("uprobe"), used)) int program(void *ctx) { counter += limit + !!unused_event; return 0; }
    char LICENSE[] __attribute__((section("license"), used)) = "GPL";
    """
    yield made.built(source, "clang -target bpf -g -O2 -c -o OUT IN")


def _types() -> Iterator[bytes]:
    for one in _objects():
        if one:
            yield made.sections_of(one)[".BTF"]


@reader("core.btf core.layout core.encode", _types, words=(b"\x9f\xeb\1\0",), longest=1 << 15)
def btf(data: bytes) -> None:
    """Types of an object: layouts, decoding of bytes by them, encoding of values into them."""
    try:
        types = Btf(data)
        types.anchored()
        for section in (".maps", ".rodata", ".bss"):
            types.variables(section)
    except (BinaryError, NoSuchName):
        return
    for number in range(min(64, len(data) // 12)):
        try:
            types.spelled(number)
            layout = types.layout_of(number)
        except BinaryError:
            continue
        if layout.size > 1 << 16:
            continue
        value = layout.unpack(bytes(range(256)) * (layout.size // 256 + 1))
        repr(value)
        try:
            layout.pack(value)
            layout.pack({})
        except (BadValue, NoSuchName, BinaryError):
            pass
    for name in ("event", "call", "config"):
        for ask in (types.layout, types.members, types.enumerators):
            try:
                ask(name)
            except (BinaryError, NoSuchName):
                pass


@reader("build core.excerpt", lambda: filter(None, _objects()), words=(b".BTF", b".BTF.ext", b".maps", b"license"),
        longest=1 << 15)  # fmt: skip
def objects(data: bytes) -> None:
    """Objects as ``pyebpf build`` and `Object` read them in Python: sections, symbols, relocations, line numbers."""
    from pyebpf.core import excerpt

    try:
        build.examine(data)
    except Error:
        pass
    try:
        parts = made.sections_of(data)
    except (struct.error, ValueError, IndexError, OverflowError):
        parts = {}
    try:
        excerpt._roots(data)
    except LoadError:
        pass
    if ".BTF.ext" in parts:
        _slim(parts.get(".BTF", b""), parts[".BTF.ext"])


def _slim(types: bytes, extension: bytes) -> None:
    try:
        build.without_lines(types, extension)
    except (struct.error, IndexError, ValueError, OverflowError):  # only for what our own compiler wrote just now
        pass
