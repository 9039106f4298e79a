# SPDX-License-Identifier: BSD-2-Clause
"""What the documentation shows: its blocks of Python, and its command lines.

A comment before a block says how it is tested, if not as it stands:

* ``<!-- test: skip because REASON -->``: not at all. These are counted.
* ``<!-- test: continues -->``: after the block before it on that page, in the same process.
* ``<!-- test: for N s -->``: it waits in an event loop, and is interrupted after N seconds.
* ``<!-- test: with arguments WORDS -->``: it is a program that is given these.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# The API section of the design the project began with. It is a promise, so it runs too.
DESIGN = ROOT / "tests" / "docs" / "design.md"
_BLOCK = re.compile(
    r"(?:<!-- *test: *(?P<mark>[^\n]*?) *-->\s*)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


class Stage(NamedTuple):
    """Where examples run.

    Attributes:
        folder: the current directory.
        pids: of "server", "filter", "shop", "activity", "lookups", "bash".
    """

    folder: Path
    pids: dict[str, int]


class Snippet(NamedTuple):
    """A block of Python.

    Attributes:
        page: the file it is in, as from the repository.
        line: of its first line there.
        code: it, after what it continues.
        skip: why it can't run, or None.
        seconds: when it is interrupted; 0: never.
        arguments: ``sys.argv[1:]``.
    """

    page: str
    line: int
    code: str
    skip: Optional[str]
    seconds: float
    arguments: tuple[str, ...]


class Line(NamedTuple):
    """A command line of ours.

    Attributes:
        page: the file it is in.
        line: where.
        words: without "pyebpf".
    """

    page: str
    line: int
    words: tuple[str, ...]


def pages() -> list[Path]:
    """All pages with examples."""
    return [ROOT / "README.md", *sorted(DOCS.glob("**/*.md")), DESIGN]


def blocks(page: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line, language, mark, text) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        yield text.count("\n", 0, match.start("text")) + 1, match["language"], match["mark"] or "", body


def snippets() -> Iterator[Snippet]:
    for page in pages():
        before = ""
        for line, language, mark, text in blocks(page):
            if language != "python":
                continue
            code = before + text if mark == "continues" else text
            skip = mark[len("skip because ") :] if mark.startswith("skip because ") else None
            timed = re.fullmatch(r"for ([0-9.]+) s", mark)
            given = re.fullmatch(r"with arguments (.*)", mark)
            assert not mark or mark == "continues" or skip or timed or given, f"{page}:{line}: {mark!r} means nothing"
            words = tuple(given[1].split()) if given else ()
            yield Snippet(str(page.relative_to(ROOT)), line, code, skip, float(timed[1]) if timed else 0, words)
            before = code


def _words(text: str) -> Optional[tuple[str, ...]]:
    """The words of a command line up to where the shell takes over; None: it is a synopsis, or not ours."""
    if re.search(r"…|·|\.\.\.|\[(options|-)|\bTOOL\b", text):
        return None
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return None
    for index, word in enumerate(words):
        if word and not word.strip("|;&>"):
            words = words[:index]
            break
    else:
        index = len(words)
    words = words[: words.index("#")] if "#" in words else words
    return tuple(words[1:]) if len(words) > 1 and words[0] == "pyebpf" else None


def lines() -> Iterator[Line]:
    """Each command line of ours: at a prompt, alone in an indented block, or between backquotes."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            at_prompt = re.match(r"\s*[#$] (?:sudo )?(pyebpf .*)|    (pyebpf [a-z].*)", line)
            found = [next(filter(None, at_prompt.groups()))] if at_prompt else re.findall(r"`(pyebpf [^`]+)`", line)
            for command in found:
                words = _words(re.sub(r"\$\(pgrep[^)]*\)", "1", command.replace("\\|", "|")))
                if words:
                    yield Line(str(page.relative_to(ROOT)), number, words)
