# SPDX-License-Identifier: BSD-2-Clause
"""The documentation as a site: it builds without a warning, is whole, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pages
import pytest

import pyebpf
from pyebpf.cli.main import _GROUPS

# What `make docs` made; PYEBPF_MKDOCS names another
MKDOCS = Path(os.environ.get("PYEBPF_MKDOCS") or pages.ROOT / "build" / "docs-venv" / "bin" / "mkdocs")
# Commands whose page is not called as they are
ELSEWHERE = {"build": "own-program", "completion": "install"}


class Page(HTMLParser):
    """Attributes:
    ids: what a link can lead to.
    links: what `<a>` leads to.
    resources: what a browser loads with the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for name, value in attrs if name in ("id", "name") and value}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        elif tag == "link" and found.get("rel") in ("canonical", "prev", "next"):
            self.links.append(found.get("href") or "")
        elif tag in ("link", "script", "img", "iframe", "source", "object", "embed", "audio", "video"):
            self.resources += [value for name, value in attrs if name in ("href", "src", "data") and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert MKDOCS.exists(), f"{MKDOCS} is not there: make docs installs it"
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "-f", pages.ROOT / ".ci" / "mkdocs.yml", "-d", folder],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if not line.startswith("INFO"))
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.glob("**/*.html")}


def test_links_lead_somewhere(site: Path, built: dict[Path, Page]) -> None:
    broken = []
    for path, page in built.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            known = built.get(target)
            if not target.exists() or (anchor and not anchor.startswith("__") and known and anchor not in known.ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken, "\n".join(broken)
    assert sum(len(page.links) for page in built.values()) > 1000


def test_nothing_comes_from_elsewhere(site: Path, built: dict[Path, Page]) -> None:
    foreign = re.compile(r"^(\w+:)?//")
    found = [f"{path.relative_to(site)}: {name}" for path, page in built.items() for name in page.resources
             if foreign.match(name)]  # fmt: skip
    for style in site.glob("**/*.css"):
        names = re.findall(r"url\([\"']?((?:https?:)?//[^)]*)", style.read_text(encoding="utf-8"))
        found += [f"{style.name}: {name}" for name in names]
    assert not found
    assert (site / "search" / "search_index.js").exists(), "the search needs a server"


def test_every_public_name_is_in_the_reference(site: Path, built: dict[Path, Page]) -> None:
    known = set().union(*(page.ids for path, page in built.items() if path.parent == site / "api"))
    missing = {name for name in pyebpf.__all__ if name != "__version__"} - {
        anchor[len("pyebpf.") :] for anchor in known if anchor.startswith("pyebpf.")
    }
    assert not missing
    assert {f"pyebpf.aio.{verb}" for verb in ("count", "trace", "tcpconnect", "execsnoop")} <= known


def test_every_tool_has_a_page(site: Path, built: dict[Path, Page]) -> None:
    shown = {path.stem for path in built}
    tools = {name for _, tools in _GROUPS for name, _, _ in tools}
    assert {ELSEWHERE.get(tool, tool) for tool in tools} <= shown


def test_every_session_and_record_is_in_the_reference(built: dict[Path, Page]) -> None:
    """What a verb gives back, by its annotation."""
    ids = set().union(*(page.ids for page in built.values()))
    missing = []
    for name in pyebpf.__all__:
        annotation = getattr(getattr(pyebpf, name), "__annotations__", {}).get("return")
        for word in re.findall(r"[A-Z]\w+", str(annotation or "")):
            if word != "None" and not any(anchor.endswith(f".{word}") for anchor in ids):
                missing.append(f"{name}: {word}")
    assert not missing
