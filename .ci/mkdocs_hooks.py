# SPDX-License-Identifier: BSD-2-Clause
"""What the site needs beyond docs/: pages that lie elsewhere in the repository, the pages of the API reference, and
links that lead out of docs/.

The reference's pages list the verbs and the public classes of the modules named here; their text is the docstrings.

Links in docs/ are written so that they work in a checkout (``../KNOWN_ISSUES.md``). Those to a file that is a page of
the site lead to that page here; those to any other file of the repository become its name.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
# Files of the repository that are pages of the site: where they lie, and as what.
BORROWED = {
    "CHANGELOG.md": "changelog.md",
    "KNOWN_ISSUES.md": "known-issues.md",
    "benchmarks/RESULTS.md": "results.md",
    "examples/agent/README.md": "examples/agent.md",
    "examples/own-program/README.md": "examples/own-program.md",
    "examples/rpcx/README.md": "examples/rpcx.md",
}
# Pages of the reference: title, introduction, and headings with modules; of each its public classes and functions.
_FUNCTIONS = {
    "count": "funccount", "latency": "funclatency", "slower": "funcslower", "trace": "trace", "argdist": "argdist",
    "stacks": "stackcount",
}  # fmt: skip
_SHARED = {
    "Sessions": ("tools.lifetime", "tools.session", "tools.intervals", "tools.calls", "tools.stream", "tools.events"),
    "Whose": ("tools.scope", "target.command"),
    "Parts of results": ("tools.probes", "target.probe", "target.stacks", "tools.histogram", "tools.text"),
    "Values of arguments": ("tools.values",),
}
_OBJECT = ("object", "programs", "attached", "map", "records", "sections", "pins", "usdt")
_EXPORT = ("metrics", "prometheus", "otlp")
_SCOPE = "What says whose events means the same everywhere: see [Scope][pyebpf.tools.scope.Scope]."
_INTRODUCTIONS = {
    "functions": "The verbs for functions of programs. Each returns a session, which is attached when you get it and "
    "detached when you close it. The tools of these verbs: {}.",
    "tcp": f"The verbs for TCP. {_SCOPE}",
    "snoop": f"The snoops. {_SCOPE}",
    "aio": "# asyncio { #pyebpf.aio }\n\nThe verbs once more, for an event loop: the same arguments, records and "
    "reports. What they return is an [AsyncSession][pyebpf.aio.AsyncSession] around the session of the plain verb.\n",
    "object": "An eBPF object of your own. The [guide](../object.md) shows it at work, "
    "[Your own program](../own-program.md) how to build one.",
    "export": "What the [exporters](../exporters.md) are made of.",
    "errors": "Each error is also the built-in exception a caller would expect, so that `except PermissionError` "
    "works. `hint` says what to do.",
}
# What other modules of ours use of those.
_INTERNAL = {
    "core.map.MapInfo", "core.records.Records", "core.sections.Names", "target.probe.GoAbi", "target.probe.Probe",
    "target.probe.Resolution", "target.stacks.KernelSymbols", "target.stacks.UserSymbols", "tools.events.Attached",
    "tools.events.KernelEvents", "tools.events.Need", "tools.probes.Probes", "tools.trace.Reader",
}  # fmt: skip
_LINK = re.compile(r"\[([^\[\]]*)\]\((?!https?:|#|mailto:)([^()\s]+)\)")
_FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2[^\n]*$", re.MULTILINE | re.DOTALL)


class GroupedNames(griffe.Extension):
    """Docstrings say ``pid, tid: text`` of several attributes; what reads them takes ``tid`` for a type. And they name
    pages as files.
    """

    _names = re.compile(r"^( +[a-z]\w*(?:, \w+)+)(?=: )", re.MULTILINE)
    _page = re.compile(r"``docs/([\w/-]+)\.md``")

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring and not obj.is_alias:
            text = self._page.sub(r"[\1](../\1.md)", obj.docstring.value)  # the reference's pages lie in api/
            obj.docstring.value = self._names.sub(lambda names: names[1].replace(", ", ",\N{NO-BREAK SPACE}"), text)


def _classes(module: str) -> list[str]:
    """The documented public classes of a module of ours, as paths; none where there is no such module."""
    file = ROOT / "pyebpf" / (module.replace(".", "/") + ".py")
    if not file.exists():
        return []
    return [
        f"pyebpf.{module}.{node.name}"
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name[0] != "_" and f"{module}.{node.name}" not in _INTERNAL
        and ast.get_docstring(node)
    ]  # fmt: skip


def _public(path: str) -> str:
    """Where a name is imported from: ``pyebpf`` itself, if it is there."""
    module, _, name = path.rpartition(".")
    tree = ast.parse((ROOT / "pyebpf" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == module]
    return f"pyebpf.{name}" if any(alias.name == name for node in imports for alias in node.names) else path


def _entry(path: str, level: int) -> str:
    return f"::: {_public(path)}\n    options:\n      heading_level: {level}\n"


def _verbs(title: str, introduction: str, verbs: dict[str, str]) -> str:
    """A page of verbs: each with the classes of its module below it."""
    parts = [f"# {title}\n\n{introduction}\n"]
    for verb, module in verbs.items():
        parts += [_entry(f"pyebpf.{verb}", 2), *(_entry(path, 3) for path in _classes(module))]
    return "\n".join(parts)


def _sections(title: str, introduction: str, sections: dict[str, Iterable[str]]) -> str:
    """A page of classes under headings; no heading where that is ""."""
    parts = [f"# {title}\n\n{introduction}\n"]
    for heading, modules in sections.items():
        parts += [f"## {heading}\n"] if heading else []
        parts += [_entry(path, 3 if heading else 2) for module in modules for path in _classes(module)]
    return "\n".join(parts)


def _tools(folder: str) -> dict[str, str]:
    found = sorted(path.stem for path in (ROOT / "pyebpf" / "tools" / folder).glob("*.py")
                   if "\nTOOL = " in path.read_text(encoding="utf-8"))  # fmt: skip
    return {name: f"tools.{folder}.{name}" for name in found}


def _reference() -> dict[str, str]:
    """The pages of the reference by their place."""
    functions = {verb: f"tools.{module}" for verb, module in _FUNCTIONS.items()}
    tcp, snoop = _tools("tcp"), _tools("snoop")
    tools = ", ".join(f"[{tool}](../functions/{tool}.md)" for tool in _FUNCTIONS.values())
    aio = [*map("| `pyebpf.aio.{0}`{{ #pyebpf.aio.{0} }} | [pyebpf.{0}][] |".format, (*functions, *tcp, *snoop))]
    sessions = "\n".join(_entry(path, 2) for path in _classes("aio"))
    return {
        "functions": _verbs("Functions", _INTRODUCTIONS["functions"].format(tools), functions),
        "tcp": _verbs("TCP", _INTRODUCTIONS["tcp"], tcp) + "\n" + _entry("pyebpf.tools.tcp.connects.Connect", 3),
        "snoop": _verbs("System", _INTRODUCTIONS["snoop"], snoop),
        "aio": "\n".join([_INTRODUCTIONS["aio"], sessions, "## Verbs\n", "| | the same as |", "|---|---|", *aio]),
        "object": _sections("Object", _INTRODUCTIONS["object"], {"": [f"core.{module}" for module in _OBJECT]})
        + "\n## Building { #pyebpf.build }\n\n"
        + "\n".join(_entry(path, 3) for path in ("pyebpf.build.compile", "pyebpf.build.host", *_classes("build"))),
        "export": _sections("Export", _INTRODUCTIONS["export"], {"": [f"export.{module}" for module in _EXPORT]})
        + "\n" + _entry("pyebpf.export.metrics.families", 2),
        "errors": _sections("Errors", _INTRODUCTIONS["errors"], {"": ["errors"]}),
        "shared": _sections("What sessions share", "Sessions, and what their results are made of.", {**_SHARED}),
    }


def on_files(files: Any, config: Any) -> Any:
    for name, text in _reference().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    for origin, page in BORROWED.items():
        if (ROOT / origin).exists():
            files.append(File.generated(config, page, content=(ROOT / origin).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    origins = {shown: origin for origin, shown in BORROWED.items()}
    here = page.file.src_uri
    origin = ROOT / origins.get(here, f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        text, link = match.groups()
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(origin.parent / path))
        if not target.exists() or not target.is_relative_to(ROOT):
            return match.group()  # broken, or a page made here: the build says so
        name = target.relative_to(ROOT).as_posix()
        shown = BORROWED.get(name) or (name[5:] if name.startswith("docs/") else None)
        if shown is None or target.is_dir():
            return text if "`" in text or "/" not in text else f"`{text}`"
        relative = os.path.relpath(shown, os.path.dirname(here) or ".")
        return f"[{text}]({relative}{'#' + anchor if anchor else ''})"

    parts, end = [], 0
    for block in _FENCED.finditer(markdown):
        parts += [_LINK.sub(moved, markdown[end : block.start()]), block.group()]
        end = block.end()
    return "".join([*parts, _LINK.sub(moved, markdown[end:])])
