# SPDX-License-Identifier: BSD-2-Clause
"""Fuzzes one reader for a while; run.py starts it, a process each. Prints nothing but what atheris prints.

With atheris (libFuzzer for Python) where that is installed, else by a small loop of our own that is guided by which
lines follow each other, as sys.settrace tells. What either finds is only a suspicion: the one is slowed down by
counting, and memory is measured roughly. run.py tries each suspect again, in a process that does nothing else.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import os
import random
import resource
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

try:
    import atheris
except ImportError:
    atheris = None

_PATIENCE = 8.0  # counting makes Python that much slower, nearly
_MEMORY_MB = 2000
_STATS_EVERY = 2.0  # seconds


class Watch:
    """Runs inputs, and keeps those that something is wrong with."""

    def __init__(self, one: object, folder: Path) -> None:
        self._reader, self._folder = one, folder
        self._seen: set[str] = set()
        self.executions = 0
        self._began = self._written = time.monotonic()
        atexit.register(self.tell)
        self._peak = 0

    def run(self, data: bytes) -> None:
        from fuzz.reader import attempt

        self.executions += 1
        found = attempt(self._reader, data, _PATIENCE)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if found is None and self.executions > 1 and peak - self._peak > self._reader.megabytes << 10:
            found = "memory"
        self._peak = peak
        if found is not None and found not in self._seen:
            self._seen.add(found)
            name = hashlib.sha1(data).hexdigest()[:16]
            (self._folder / name).write_bytes(data)
        now = time.monotonic()
        if now - self._written > _STATS_EVERY:
            self._written = now
            self.tell()

    def tell(self) -> None:
        """Leaves word of how far it is, for whoever starts this: it may be ended at any time."""
        seconds = time.monotonic() - self._began
        text = json.dumps({"executions": self.executions, "seconds": round(seconds, 1)})
        (self._folder.parent / "stats.json").write_text(text)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("reader")
    arguments.add_argument("--seconds", type=float, required=True)
    arguments.add_argument("--folder", type=Path, required=True, help="has work/, suspects/ and begin/")
    arguments.add_argument("--plain", action="store_true", help="our own loop, where atheris fails: what it changes in "
                           "functions ends some of them with SIGSEGV in Python 3.11")  # fmt: skip
    given = arguments.parse_args()
    own = given.plain or atheris is None
    from fuzz import reader as readers

    work, suspects, begin = (given.folder / name for name in ("work", "suspects", "begin"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if own:
        one = readers.load(given.reader)
    else:
        with atheris.instrument_imports(include=["pyebpf"]):
            one = readers.load(given.reader)
            readers.modules_of(one)
    watch = Watch(one, suspects)
    watch.tell()
    seed = int(os.environ.get("PYEBPF_FUZZ_SEED", time.time_ns() % 2**31))
    inputs = [path.read_bytes() for path in sorted(begin.iterdir())]
    if own:
        loop(one, watch, inputs, work, given.seconds, seed)
        return
    words = given.folder / "words"
    quoted = ["".join([f"\\x{byte:02x}" for byte in word]) for word in one.words]
    words.write_text("".join([f'"{word}"\n' for word in quoted]))
    options = [sys.argv[0], f"-max_total_time={given.seconds:.0f}", f"-max_len={one.longest}", "-timeout=120",
               f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={suspects}/", "-verbosity=0", "-reload=0",
               f"-seed={seed}", *([f"-dict={words}"] if one.words else []), str(work), str(begin)]  # fmt: skip
    mutator = readers.Mutator(one, inputs, lambda data, most: atheris.Mutate(data, most))
    atheris.Setup(options, watch.run, custom_mutator=mutator)
    atheris.Fuzz()


def loop(one: object, watch: Watch, inputs: list[bytes], work: Path, seconds: float, seed: int) -> None:
    """Mutates what has shown something new, again and again."""
    from fuzz.reach import Tracer
    from fuzz.reader import Mutator

    chance = random.Random(seed)
    mutator = Mutator(one, inputs)
    inputs += [path.read_bytes() for path in sorted(work.iterdir())]
    inputs = [data for data in inputs if len(data) <= one.longest] or [b"\0"]
    end = time.monotonic() + seconds
    with Tracer(one) as tracer:
        for data in inputs:
            watch.run(data)
            if time.monotonic() > end:
                break
        tracer.new()
        while time.monotonic() < end:
            data = mutator(chance.choice(inputs), one.longest, chance.getrandbits(64))
            watch.run(data)
            if tracer.new():
                inputs.append(data)
                (work / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)
    watch.tell()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
