#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the manual pages: the options from the tools' own parsers, the rest from their pages in docs/.

    python docs/man.py FOLDER

writes FOLDER/pyebpf-TOOL.1 for every tool, and FOLDER/pyebpf.1. The Markdown read is that of our own pages: headings,
paragraphs, lists, tables, code.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pyebpf import __version__  # noqa: E402
from pyebpf.cli import main as command  # noqa: E402
from pyebpf.cli.completion import parser_of  # noqa: E402

sys.path.remove(str(ROOT))

_EXIT_STATUS = (
    ("0", "traced, also when ended by Ctrl-C, SIGTERM, a duration or a closed pipe"),
    ("1", "an error while tracing"),
    ("2", "the command line is wrong"),
    ("3", "nothing matched: no such process, file or function"),
    ("4", "not permitted"),
    ("5", "this host or kernel can't do it; the message says what is missing"),
)


def escaped(text: str) -> str:
    """Text as roff shows it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)
    return re.sub(r"^([.'])", r"\\&\1", text)


def inline(text: str) -> str:
    """A line of Markdown: code and bold in bold, links as their text."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    out = []
    for part in re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text):
        marked = part[:1] == "`" or part[:2] == "**"
        out.append(f"\\fB{escaped(part.strip('`*'))}\\fR" if marked and len(part) > 2 else escaped(part))
    return "".join(out)


def body(markdown: str) -> str:
    """Markdown as roff, without its first heading, and without the options: the parser knows them all."""
    markdown = re.sub(r"<!--.*?-->\n?", "", markdown, flags=re.DOTALL)
    markdown = re.sub(r"\n## Options\n.*?(?=\n## |\Z)", "", markdown, flags=re.DOTALL)
    out: list[str] = []
    block: list[str] = []
    fenced = False

    def end_block() -> None:
        if block:
            out.extend([".PP", ".RS 4", ".nf", *(escaped(line) for line in block), ".fi", ".RE"])
            block.clear()

    lines = [*markdown.splitlines()[1:], ""]
    for line, following in zip(lines, [*lines[1:], ""]):
        if line.startswith("```"):
            fenced = not fenced
            end_block()
        elif fenced or line.startswith("    "):
            block.append(line if fenced else line[4:])
        elif line.startswith("#"):
            end_block()
            out.append(f'.SH "{escaped(line.lstrip("# ").upper())}"' if line.startswith("## ")
                       else f'.SS "{escaped(line.lstrip("# "))}"')  # fmt: skip
        elif line.startswith("|"):
            end_block()
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            is_heading = following.startswith("|--") or following.startswith("|:-")
            if not is_heading and any(cells) and not all(re.fullmatch(r":?-*:?", cell) for cell in cells):
                rest = " ".join(cells[1:]).replace("\\|", "|")
                out.extend([".TP", inline(cells[0].replace("\\|", "|")) or "\\&", inline(rest) or "\\&"])
        elif re.match(r"[-*] ", line):
            end_block()
            out.extend([".IP \\(bu 2", inline(line[2:])])
        elif line.strip():
            end_block()
            out.append(inline(line.strip()))
        elif not block:
            out.append(".PP")
        else:
            block.append("")
    while out and out[-1] == ".PP":
        out.pop()
    text = "\n".join(out)
    return re.sub(r"(\.PP\n)+(?=\.(PP|S[HS]|TP|IP))", "", text)


def options(parser: argparse.ArgumentParser) -> str:
    """What the parser takes, group by group."""
    out = ['.SH "OPTIONS"']
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if not actions:
            continue
        if group.title not in ("positional arguments", "options"):
            out.append(f'.SS "{escaped(str(group.title))}"')
        for action in actions:
            metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
            if action.choices and not action.metavar:
                metavar = "{" + ",".join(map(str, action.choices)) + "}"
            value = f" \\fI{escaped(str(metavar))}\\fR" if action.option_strings and action.nargs != 0 else ""
            names = ", ".join(f"\\fB{escaped(name)}\\fR{value}" for name in action.option_strings)
            text = (action.help or "") % {**vars(action), "prog": parser.prog}
            out += [".TP", names or f"\\fI{escaped(str(metavar))}\\fR", escaped(text) or "\\&"]
    return "\n".join(out)


def page(name: str, summary: str, parser: argparse.ArgumentParser, text: str) -> str:
    """One tool's manual page."""
    usage = re.sub(r"\s+", " ", parser.format_usage().partition(": ")[2]).strip()
    out = [
        f'.TH "PYEBPF\\-{name.upper()}" "1" "" "pyebpf {__version__}" "User Commands"',
        '.SH "NAME"', f"pyebpf\\-{name} \\- {escaped(summary)}",
        '.SH "SYNOPSIS"', escaped(usage),
        '.SH "DESCRIPTION"', body(text),
        options(parser),
        '.SH "EXIT STATUS"',
    ]  # fmt: skip
    for code, meaning in _EXIT_STATUS:
        out += [".TP", code, escaped(meaning)]
    out += ['.SH "SEE ALSO"', "\\fBpyebpf\\fR(1)"]
    return "\n".join(out) + "\n"


def overview(tools: list[tuple[str, str]]) -> str:
    """pyebpf(1)."""
    out = [
        f'.TH "PYEBPF" "1" "" "pyebpf {__version__}" "User Commands"',
        '.SH "NAME"', "pyebpf \\- trace running programs and what the kernel does for them",
        '.SH "SYNOPSIS"', "\\fBpyebpf\\fR \\fITOOL\\fR [options] [\\fITARGET\\fR...]",
        '.SH "DESCRIPTION"', "Nothing to compile, nothing to restart.",
        "\\fBpyebpf\\fR \\fITOOL\\fR \\fB\\-h\\fR explains a tool.",
        '.SH "TOOLS"',
    ]  # fmt: skip
    for name, summary in tools:
        out += [".TP", f"\\fB{escaped(name)}\\fR", escaped(summary)]
    out.append('.SH "EXIT STATUS"')
    for code, meaning in _EXIT_STATUS:
        out += [".TP", code, escaped(meaning)]
    return "\n".join(out) + "\n"


def pages() -> dict[str, str]:
    """All pages by their file name."""
    found, tools = {}, []
    for _, group in command._GROUPS:
        for name, summary, _ in group:
            tools.append((name, summary))
            text = next((file.read_text() for file in (ROOT / "docs").glob(f"*/{name}.md")), "")
            parser = parser_of(name)
            found[f"pyebpf-{name}.1"] = page(name, summary, parser, text or f"\n{parser.description}\n")
    found["pyebpf.1"] = overview(tools)
    return found


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
