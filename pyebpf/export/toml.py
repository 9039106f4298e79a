# SPDX-License-Identifier: BSD-2-Clause
"""A TOML file and where its keys are: tomllib tells positions of syntax errors only.

Grammar: https://toml.io/en/v1.0.0. What is located has been accepted by tomllib, so a scan that knows strings, comments
and brackets is enough.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, NamedTuple

from pyebpf.errors import ExtraMissing

MOST_BYTES = 256 << 10
MOST_PARTS = 64  # of a dotted key: tomllib takes time by the square of their number

_KEY = re.compile(r"[ \t]*(?:(\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')|([A-Za-z0-9_-]+))[ \t]*")
# Also where it is no key: nobody writes such texts either.
_LONG_KEY = r"""(?:(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){64}"""  # MOST_PARTS
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
# Of a value: whole strings and comments, then single characters that matter, then everything else.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|\'\'\'(?:[^\']|\'{1,2}(?!\'))*\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
    r"|#[^\n]*|[\[\]{}\n]|[^\[\]{}\n#\"']+",
    re.DOTALL,
)

Path = tuple["str | int", ...]


class Document(NamedTuple):
    """A file that was read.

    Attributes:
        values: as tomllib gives them.
        lines: where each key, table and element of an array of tables begins; a key inside an inline table is where
            the table's own key is.
    """

    values: dict[str, Any]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Where a key is, or else what it would be in."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class Malformed(Exception):
    """It is no TOML, or none we read.

    Attributes:
        line: where, 0 if it isn't about a line.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def read(path: str) -> Document:
    """Reads a file.

    Raises:
        Malformed: with the line.
        OSError: it can't be read.
        ExtraMissing: Python is older than 3.11, and tomli isn't installed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would wait for a writer
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Malformed("it is no regular file")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Malformed(f"it is larger than {MOST_BYTES >> 10} KiB")
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        raise Malformed("it isn't UTF-8", data.count(b"\n", 0, error.start) + 1) from None


def parse(text: str) -> Document:
    """Takes a text apart. Raises as `read`."""
    loads, error_type = _parser()
    long = re.compile(_LONG_KEY).search(text)
    if long:
        line = text.count("\n", 0, long.start()) + 1
        raise Malformed(f"a key, or a text, of more than {MOST_PARTS} words with dots between them", line)
    try:
        values = loads(text)
    except error_type as error:
        message, line = str(error), 0
        found = re.search(r" \((?:at line (\d+), column \d+|at end of document)\)", message)
        if found:
            line = int(found.group(1)) if found.group(1) else text.rstrip().count("\n") + 1
            message = message.replace(found.group(), "")
        raise Malformed(message[:1].lower() + message[1:], line) from None
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    return Document(values, locate(text.replace("\r\n", "\n")))


def _parser() -> tuple[Any, type[Exception]]:
    try:
        import tomllib  # type: ignore[import-not-found,unused-ignore]

        return tomllib.loads, tomllib.TOMLDecodeError
    except ImportError:
        try:
            import tomli  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise ExtraMissing(
                "before Python 3.11 reading TOML takes a library, tomli", hint="pip install 'pyebpf-toolkit[agent]'"
            ) from None
        return tomli.loads, tomli.TOMLDecodeError


def locate(text: str) -> dict[Path, int]:
    """The line of each key of a document that tomllib accepts."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    at, line = 0, 1

    def skip(to: int) -> None:
        nonlocal at, line
        line += text.count("\n", at, to)
        at = to

    def blank() -> None:
        found = _BLANK.match(text, at)
        assert found is not None
        skip(found.end())

    blank()
    while at < len(text):
        header = "[[" if text.startswith("[[", at) else "[" if text[at] == "[" else ""
        skip(at + len(header))
        key, end = _key(text, at)
        if end == at:  # nothing tomllib would have accepted
            break
        here = line
        skip(end)
        if header:
            table = _inside(key[:-1], counts)
            table = (*table, key[-1])
            if header == "[[":
                counts[table] = counts.get(table, -1) + 1
                lines.setdefault(table, here)
                table = (*table, counts[table])
            else:
                table = _inside(key, counts)
            lines.setdefault(table, here)
            skip(at + len(header))
        else:
            for length in range(1, len(key) + 1):
                lines.setdefault((*table, *key[:length]), here)
            _value(text, at + 1, skip)
        blank()
    return lines


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """A dotted key, and where it ends."""
    parts = []
    while (found := _KEY.match(text, at)) is not None:
        parts.append(found.group(2) or found.group(1)[1:-1])
        at = found.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), at


def _inside(key: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """A header's key with the number of the element that it means of each array of tables."""
    path: Path = ()
    for part in key:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return path


def _value(text: str, at: int, skip: Any) -> None:
    """Skips a value: to the end of the line that closes its last bracket."""
    depth = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            break
        token, at = found.group(), found.end()
        if token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        elif token == "\n" and depth <= 0:
            break
    skip(at)
