# SPDX-License-Identifier: BSD-2-Clause
"""Harness for the kernel's events: names of processes, files and arguments in every tool's lines."""

from __future__ import annotations

import argparse
import csv
import functools
import importlib
import io
import pkgutil
from collections.abc import Iterator
from typing import Any

import pyebpf.tools.snoop
import pyebpf.tools.tcp
from pyebpf.cli import events as printing
from pyebpf.output import jsonl
from pyebpf.target.stacks import Frame
from pyebpf.tools.text import Cut
from pyebpf.tools.tool import Tool

from .display import _WORDS, visible
from .reader import packed, reader, unpacked


@functools.lru_cache(None)
def _tools() -> tuple[tuple[Tool, Any], ...]:
    """Each tool whose output is a line an event, and the event."""
    found = []
    for package in (pyebpf.tools.snoop, pyebpf.tools.tcp):
        for one in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            module = importlib.import_module(one.name)
            tool = getattr(module, "TOOL", None)
            made = [kind for kind in vars(module).values() if "time" in getattr(kind, "_fields", ())]
            if tool is not None and tool.columns and made:
                found.append((tool, made[0]))
    return tuple(found)


def _value(annotation: str, texts: list[bytes], number: int) -> Any:
    text = texts[number % len(texts)]
    if "tuple[bytes" in annotation:
        return tuple(texts)
    if "Frame" in annotation:
        return (Frame(7, text.decode("utf-8", "surrogateescape"), 3, text.decode("utf-8", "replace")),)
    if "bytes" in annotation:
        return (text, Cut(text), None if "None" in annotation else text)[number % 3]
    if "str" in annotation and "int" not in annotation:
        return text.decode("utf-8", ("surrogateescape", "backslashreplace")[number % 2])
    if "float" in annotation:
        return number / 7
    if "bool" in annotation:
        return number % 2 == 0
    return None if "None" in annotation and number % 5 == 0 else number


class _Arguments(argparse.Namespace):
    """Options: each as a number's bits say."""

    def __init__(self, bits: int) -> None:
        super().__init__(csv=bits & 1 == 1, time=bits & 2 == 2)
        self._bits = bits

    def __getattr__(self, name: str) -> bool:
        return bool(self._bits >> len(name) % 8 & 1)


def _seeds() -> Iterator[bytes]:
    for number in range(64):
        yield packed(
            _WORDS[number % len(_WORDS)], _WORDS[-number % len(_WORDS)], bytes([number, number * 37 & 255, number])
        )


@reader("cli.events", _seeds, pieces=3, words=(*_WORDS, b",", b'"', b"\n"), megabytes=64, longest=16 << 10)
def events(data: bytes) -> None:
    """Names and texts in the lines of every tool for TCP and the system: text, CSV and JSON."""
    one, other, numbers = unpacked(data, 3)
    which, bits, number = numbers.ljust(3, b"\0")[:3]
    tool, kind = _tools()[which % len(_tools())]
    annotations = [str(kind.__annotations__[field]) for field in kind._fields]
    event = kind(*[_value(text, [one, other], number + at) for at, text in enumerate(annotations)])
    before, printing.write = printing.write, lambda text: None
    try:
        lines = printing.Lines(tool, _Arguments(bits))
    finally:
        printing.write = before
    try:
        text = lines.line(event)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        return  # numbers that the kernel doesn't send
    assert text.endswith("\n") and all(map(visible, text[:-1].split("\n"))), "a line that a terminal must not see"
    if bits & 1:
        (row,) = csv.reader(io.StringIO(text.split("\n")[0]))
        assert len(row) == lines._format.count("%s"), "a name adds a field"
    told = jsonl.line(tool.kind, **event.as_dict())
    assert told.isascii() and told.isprintable()
