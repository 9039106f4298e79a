# SPDX-License-Identifier: BSD-2-Clause
"""What a reader of untrusted input is to the fuzzer: a function of bytes, and the bounds it must keep.

A harness is a function ``fuzz(data)`` that gives ``data`` to a reader as a file, a process or a peer would. It lets
only the reader's documented errors pass unseen. Whatever else it raises, and whatever takes longer or needs more
memory than the reader's bounds allow, is a finding.

Many inputs consist of several pieces (the sections of a file, a pattern and a name). `packed` and `unpacked` join and
part them, so that the mutators can change one without moving the others.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import resource
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import FrameType, ModuleType
from typing import NamedTuple

# Which module holds which harnesses: an engine imports only the one it needs.
HARNESSES = {
    "files": ("elf", "minidebug", "symbols", "image"),
    "machine": ("disasm", "unwind", "exits"),
    "names": ("itanium", "rust", "patterns"),
    "golang": ("pclntab", "gosignatures", "buildinfo", "gotypes"),
    "dwarf": ("dwarf", "signatures", "packeddebug"),
    "objects": ("btf", "objects"),
    "grammar": ("spec", "expression", "plan", "config", "options"),
    "network": ("http", "dns"),
    "proc": ("maps", "facts", "tables", "kallsyms"),
    "values": ("decode",),
    "display": ("terminal", "markup", "labels"),
    "events": ("events",),
}


class Reader(NamedTuple):
    """A reader under test.

    Attributes:
        name: on the command line, and of its corpus' folder.
        fuzz: the harness.
        modules: names of the modules (or packages) that it is about; their coverage guides and is reported.
        seeds: makes inputs to begin with.
        pieces: of how many an input consists; 1: it is taken as it is.
        words: what is worth putting into an input.
        seconds: of CPU time that an input may take.
        megabytes: of memory that an input may take.
        longest: bytes of an input.
    """

    name: str
    fuzz: Callable[[bytes], None]
    modules: tuple[str, ...]
    seeds: Callable[[], Iterable[bytes]]
    pieces: int = 1
    words: tuple[bytes, ...] = ()
    seconds: float = 1.0
    megabytes: int = 256
    longest: int = 1 << 16


READERS: dict[str, Reader] = {}


def reader(
    modules: str,
    seeds: Callable[[], Iterable[bytes]],
    **more: object,
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Makes a harness known by its function's name; ``modules`` are parted by spaces, below ``pyebpf``."""

    def register(fuzz: Callable[[bytes], None]) -> Callable[[bytes], None]:
        name = fuzz.__name__.rstrip("_")
        whole = tuple(f"pyebpf.{module}" for module in modules.split())
        READERS[name] = Reader(name, fuzz, whole, seeds, **more)  # type: ignore[arg-type]
        return fuzz

    return register


def names() -> list[str]:
    """The names of all readers."""
    return [name for held in HARNESSES.values() for name in held]


def load(name: str) -> Reader:
    """A reader by its name. Imports what it tests."""
    if name not in READERS:
        holder = next(holder for holder, held in HARNESSES.items() if name in held)
        importlib.import_module(f"fuzz.{holder}")
    return READERS[name]


def modules_of(one: Reader) -> list[ModuleType]:
    """The modules that a reader is about, imported."""
    found = []
    for name in one.modules:
        module = importlib.import_module(name)
        found.append(module)
        for inner in pkgutil.iter_modules(getattr(module, "__path__", ()), name + "."):
            found.append(importlib.import_module(inner.name))
    return found


# -- inputs of several pieces


def packed(*pieces: bytes) -> bytes:
    """Pieces as one input: the lengths of all but the last, 16 bits each, then the pieces."""
    lengths = [min(len(piece), 0xFFFF) for piece in pieces[:-1]]
    return struct.pack(f"<{len(lengths)}H", *lengths) + b"".join(piece[:0xFFFF] for piece in pieces[:-1]) + pieces[-1]


def unpacked(data: bytes, count: int) -> list[bytes]:
    """The pieces of any input; those it hasn't are empty."""
    at = 2 * (count - 1)
    lengths = struct.unpack(f"<{count - 1}H", data[:at].ljust(at, b"\0"))
    pieces = []
    for length in lengths:
        pieces.append(data[at : at + length])
        at += length
    return [*pieces, data[at:]]


_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 0x0F, 0x10, 0x1F, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF,
            0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63,
            (1 << 64) - 8, (1 << 64) - 1)  # fmt: skip


def mutate_bytes(data: bytes, chance: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """One small change: a bit, a number, a word, a stretch removed, repeated, or taken from another input."""
    if not data:
        return chance.choice((*words, *others, b"\0", b"A")) or b"\0"
    result = bytearray(data)
    at = chance.randrange(len(result))
    what = chance.randrange(9)
    if what == 0:
        result[at] ^= 1 << chance.randrange(8)
    elif what == 1:
        result[at] = chance.randrange(256)
    elif what in (2, 3):
        size = chance.choice((1, 2, 4, 8))
        at -= at % size if chance.random() < 0.7 else 0
        value = chance.choice((*_NUMBERS, len(data), at, chance.randrange(len(data) + 1)))
        if chance.random() < 0.4:
            value = int.from_bytes(data[at : at + size], "little") + chance.randint(-16, 16)
        result[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    elif what == 4:
        del result[at : at + chance.choice((1, 1, 2, 4, 8, 64, len(data) // 4 + 1))]
    elif what == 5:
        piece = result[at : at + chance.choice((1, 4, 16, 64))]
        result[at:at] = piece * chance.choice((1, 1, 2, 8, 100))
    elif what == 6 and words:
        word = chance.choice(words)
        result[at : at + (len(word) if chance.random() < 0.5 else 0)] = word
    elif what == 7 and others:
        other = chance.choice(others)
        begin = chance.randrange(len(other) + 1)
        piece = other[begin : begin + chance.choice((4, 16, 64, 1024))]
        result[at : at + (len(piece) if chance.random() < 0.5 else 0)] = piece
    else:
        result[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 4))))
    return bytes(result)


class Mutator:
    """Changes inputs of one reader: one piece at a time.

    Args:
        one: the reader.
        seeds: inputs to take stretches from.
        mutate: changes bytes, given the most there may be (the engine's own mutations); None: none but ours.
    """

    def __init__(
        self, one: Reader, seeds: Sequence[bytes], mutate: Callable[[bytes, int], bytes] | None = None
    ) -> None:
        self._reader = one
        self._mutate = mutate
        self._seeds = [unpacked(seed, one.pieces) if one.pieces > 1 else [seed] for seed in seeds]

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        count = self._reader.pieces
        pieces = unpacked(data, count) if count > 1 else [data]
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            # Pieces that hold something are what there is to change; an empty one is filled now and then.
            filled = [number for number, piece in enumerate(pieces) if piece] or [0]
            number = chance.choice(filled) if chance.random() < 0.9 else chance.randrange(count)
            others = [seed[number] for seed in self._seeds]
            if others and chance.random() < 0.03:
                pieces[number] = chance.choice(others)
            elif self._mutate is not None and chance.random() < 0.5:
                pieces[number] = self._mutate(pieces[number], max(len(pieces[number]) + 64, 64))
            else:
                pieces[number] = mutate_bytes(pieces[number], chance, self._reader.words, others)
        return (packed(*pieces) if count > 1 else pieces[0])[:most]


# -- one input


class TooSlow(BaseException):
    """The time is over. Not an Exception: what is under test might take care of those."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def attempt(one: Reader, data: bytes, patience: float = 1.0) -> str | None:
    """Gives a reader an input; what is wrong with how it took that, None if nothing is.

    Args:
        patience: by what to multiply the time that it may take.
    """
    before = time.process_time()
    signal.signal(signal.SIGPROF, _ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_PROF, one.seconds * patience)
            one.fuzz(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except TooSlow:
        return f"slow: more than {one.seconds:g} s"
    except MemoryError:
        return f"memory: more than {one.megabytes} MB"
    except Exception as error:
        return _told(error)
    if time.process_time() - before > one.seconds * patience:  # in C code, which signals wait for
        return f"slow: more than {one.seconds:g} s"
    return None


def _told(error: BaseException) -> str:
    """An error by its type and by where it was raised: two that read the same are the same finding."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/pyebpf/" in frame.filename] or frames
    last = ours[-1]
    # An assertion of a harness is told by its text; one a line would be another finding with each edit.
    where = f"{last.filename.rpartition('/pyebpf/')[2]}: {last.name}" if ours is not frames else ""
    what = f": {error}" if isinstance(error, AssertionError) and str(error) else ""
    return f"{type(error).__name__}{what}{f' in {where}' if where else ''}"[:200]


def peak() -> int:
    """The most memory this process had resident since `forget_peak`, in bytes."""
    with open("/proc/self/status", "rb") as status:
        text = status.read()
    return int(text.partition(b"VmHWM:")[2].split()[0]) << 10


def forget_peak() -> None:
    """Begins to measure the `peak` anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def judge(one: Reader, data: bytes) -> str | None:
    """As `attempt`, with the bound on memory enforced: by a limit on addresses, and by what was resident."""
    forget_peak()
    before = peak()
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (2 * one.megabytes << 20), limits[1]))
    try:
        found = attempt(one, data)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    if found is None and peak() - before > one.megabytes << 20:
        found = f"memory: more than {one.megabytes} MB"
    return found
