# SPDX-License-Identifier: BSD-2-Clause
"""Pictures and live views of real runs, the live ones in a terminal (pyte plays it), the flame graph in a browser."""

from __future__ import annotations

import argparse
import fcntl
import html
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ElementTree
from _thread import get_ident
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
import targets

from pyebpf.cli import progress

NS = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def hot() -> Iterator[targets.Target]:
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "hot", "recurse", "many") as target:
        yield target


def work(target: targets.Target) -> None:
    target.begin()
    target.first_line()


def titles(document: str) -> list[str]:
    return [title.text or "" for title in ElementTree.fromstring(document.encode()).iter(f"{NS}title")]


def calls(document: str) -> int:
    return sum(int(found[1]) for title in titles(document) if (found := re.search(r": (\d+) calls", title)))


def test_plot(attached: Callable[..., Any], hot: targets.Target, tmp_path: Path) -> None:
    tool = attached("funclatency", "--plot", str(tmp_path / "a.svg"), f"{hot.path}:hot", f"{hot.path}:recurse")
    work(hot)
    ran = tool.end(signal.SIGINT)
    assert ran.code == 0 and ran.out == "" and f"Wrote {tmp_path}/a.svg." in ran.err
    document = (tmp_path / "a.svg").read_text()
    assert calls(document) == 97 * 8 and ">recurse<" in document and ">679 calls · average " in document
    assert os.listdir(tmp_path) == ["a.svg"]


def test_heat_map_beside_json(attached: Callable[..., Any], hot: targets.Target, tmp_path: Path) -> None:
    options = ("-i", "0.1", "-F", "--json", "--plot", str(tmp_path / "a.svg"))
    tool = attached("funclatency", *options, f"{hot.path}:recurse", f"{hot.path}:many")
    work(hot)
    ran = tool.end(signal.SIGTERM)
    reports = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0 and sum(one.get("count", 0) for one in reports) == 97 * 8
    document = (tmp_path / "a.svg").read_text()
    assert calls(document) == 97 * 8 and ">many<" in document and "calls in a cell" in document


def test_picture_on_standard_output(attached: Callable[..., Any], hot: targets.Target) -> None:
    tools = [attached("funclatency", "--plot", "-", f"{hot.path}:hot"),
             attached("stackcount", "--flamegraph", "-", f"{hot.path}:hot")]  # fmt: skip
    work(hot)
    for tool in tools:
        ran = tool.end(signal.SIGINT)
        assert ran.code == 0 and "97 calls" in ran.out and ElementTree.fromstring(ran.out.encode()) is not None


def test_flamegraph(attached: Callable[..., Any], hot: targets.Target, tmp_path: Path) -> None:
    tool = attached("stackcount", "-P", "--flamegraph", str(tmp_path / "a.svg"), f"{hot.path}:hot", f"{hot.path}:many")
    work(hot)
    ran = tool.end(signal.SIGINT)
    shown = titles((tmp_path / "a.svg").read_text())
    assert ran.code == 0 and "all\n194 calls (100.00%)" in shown and "hot\n97 calls (50.00%)" in shown
    assert f"calls [{hot.pid}]\n194 calls (100.00%)" in shown


@pytest.mark.parametrize("option", ["--plot", "--flamegraph"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere/a.svg", "there is no directory"), (".", "no plain file"), ("pipe", "no plain file"),
        ("link", "no plain file"), ("file/a.svg", "Not a directory"), ("a" * 300, "File name too long"),
        ("", "no plain file"),
    ],
)  # fmt: skip
def test_unwritable(pyebpf: Callable[..., Any], tmp_path: Path, option: str, name: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink("file", tmp_path / "link")
    (tmp_path / "file").touch()
    tool = "funclatency" if option == "--plot" else "stackcount"
    ran = pyebpf(tool, option, f"{tmp_path}/{name}", "-c", f"touch {tmp_path}/ran", ":main")
    assert ran.code == 2 and why in ran.err and not (tmp_path / "ran").exists()


def test_nothing_to_name(pyebpf: Callable[..., Any]) -> None:
    assert pyebpf("funclatency", "--plot", "", "c:read").code == 2


def test_replaced_whole_or_not_at_all(attached: Callable[..., Any], hot: targets.Target, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "a.svg").write_text("before")
    before = (tmp_path / "a.svg").stat().st_ino
    tool = attached("funclatency", "--plot", str(tmp_path / "a.svg"), f"{hot.path}:hot")
    lost = attached("funclatency", "--plot", str(tmp_path / "gone" / "a.svg"), f"{hot.path}:hot")
    (tmp_path / "gone").rmdir()
    work(hot)
    assert tool.end(signal.SIGINT).code == 0 and (tmp_path / "a.svg").stat().st_ino != before
    assert stat.S_IMODE((tmp_path / "a.svg").stat().st_mode) & 0o111 == 0
    ran = lost.end(signal.SIGINT)
    assert ran.code == 1 and f"can't write {tmp_path}/gone/a.svg: No such file or directory" in ran.err


def test_flamegraph_in_a_browser(attached: Callable[..., Any], tmp_path: Path) -> None:
    """A click zooms, a search tells its share, Escape takes both back."""
    with targets.run(targets.compiled("calls.c"), "-n", "97", "-w", "hot", "recurse") as target:
        tool = attached("stackcount", "--flamegraph", str(tmp_path / "a.svg"), f"{target.path}:hot",
                        f"{target.path}:recurse")  # fmt: skip
        work(target)
        assert tool.end(signal.SIGINT).code == 0
    script = """
        const frames = [...document.querySelectorAll("svg .f > g")], said = {};
        const name = g => g.querySelector("title").textContent.split("\\n")[0];
        const shown = () => frames.filter(g => !g.classList.contains("off"));
        const found = document.querySelector(".found"), input = document.querySelector("input");
        said.all = frames.length;
        frames.find(g => name(g) == "hot").dispatchEvent(new MouseEvent("click"));
        said.zoomed = shown().map(name).sort();
        said.widths = [...new Set(shown().map(g => +g.querySelector("rect").getAttribute("width")))];
        const search = text => {
            input.value = text; input.dispatchEvent(new Event("input")); return found.textContent;
        };
        said.found = [search("^HOT$"), search("recurse|hot"), search("(((")];
        document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
        said.after = [shown().length, found.textContent, input.value];
        document.getElementById("out").textContent = JSON.stringify(said);
    """
    page = f"<!doctype html><meta charset=utf-8>{(tmp_path / 'a.svg').read_text()}<pre id=out></pre>"
    (tmp_path / "a.html").write_text(f"{page}<script>{script}</script>")
    browser = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"file://{tmp_path}/a.html",
    ]  # fmt: skip
    dumped = subprocess.run(browser, capture_output=True, text=True, timeout=120).stdout
    out = re.search(r'<pre id="out">(.*?)</pre>', dumped, re.S)
    assert out and out[1], dumped[-2000:]
    said = json.loads(html.unescape(out[1]))
    share = 100 * 97 / (97 * 8)
    assert {"all", "main", "hot"} <= set(said["zoomed"]) and "recurse" not in said["zoomed"]
    assert said["widths"] == [1180]
    assert said["found"] == [
        f"found in {share:.1f} % of calls (97)", "found in 100.0 % of calls (776)", "found in 0.0 % of calls (0)"
    ]  # fmt: skip
    assert said["after"] == [said["all"], "", ""]


class Terminal:
    """``pyebpf ARGUMENTS`` in a terminal."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 80, **environment: str) -> None:
        self._fd, end = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.seen = b""
        self._set_size(rows, columns)
        ready_read, ready_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyebpf", arguments[0], "--ready-fd", str(ready_write), *arguments[1:]],
            stdin=end, stdout=end, stderr=end, pass_fds=[ready_write], preexec_fn=os.setpgrp,
            env={**os.environ, "TERM": "xterm", **environment},
        )  # fmt: skip
        os.close(ready_write)
        os.close(end)
        with os.fdopen(ready_read, "rb") as ready:
            assert ready.read(1) == b"\n", self.read()

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def read(self, until: Callable[[str], object] = lambda text: False) -> str:
        """What the screen shows once something holds, or once the program has ended."""
        deadline = time.monotonic() + targets.DEADLINE
        while not until("\n".join(self.screen.display)):
            assert select.select([self._fd], [], [], max(0, deadline - time.monotonic()))[0], self.screen.display
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # its other end was closed
                break
            self.seen += data
            self._stream.feed(data)
        return "\n".join(line.rstrip() for line in self.screen.display)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.read()
        return self.process.wait(targets.DEADLINE)

    def hang_up(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._fd >= 0:
            os.close(self._fd)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*arguments: str, **options: Any) -> Terminal:
        started.append(Terminal(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_live_counts(terminal: Callable[..., Terminal], hot: targets.Target) -> None:
    live = terminal("funccount", "--live", "-i", "0.2", f"{hot.path}:hot", f"{hot.path}:recurse", f"{hot.path}:nap")
    assert "0 functions · 0 calls/s · 0 calls" in live.read(lambda text: "CALLS/S" in text)
    work(hot)
    shown = live.read(lambda text: " 679 " in text and " 97 " in text).splitlines()
    assert live.screen.cursor.hidden and live.screen.buffer[2][0].bold
    assert shown[0].startswith("pyebpf funccount ") and shown[2].split() == ["FUNC", "CALLS/S", "TOTAL"]
    assert re.fullmatch(r"recurse +[\d.,]+ +679( █+)?", shown[3])
    assert live.end(signal.SIGINT) == 0 and not live.screen.cursor.hidden
    shown = live.read().splitlines()
    assert [line.split()[0] for line in shown[3:5]] == ["recurse", "hot"]
    assert "2 functions · 0 calls/s · 776 calls" in shown and "nothing lost · Ctrl-C ends" in shown
    assert b"\x1b[2J" not in live.seen
    said = ["".join(line[column].data for column in range(80)) for line in live.screen.history.top]
    assert any(line.startswith("Tracing 3 functions") for line in said)  # it scrolled up


def test_live_latencies(terminal: Callable[..., Terminal], hot: targets.Target) -> None:
    live = terminal("funclatency", "--live", "-i", "0.2", f"{hot.path}:hot", f"{hot.path}:recurse")
    work(hot)
    shown = live.read(lambda text: "776 calls" in text and "hot" in text).splitlines()
    assert shown[2].split()[:6] == ["FUNC", "CALLS/S", "P50", "P90", "P99", "MAX"]
    assert live.end(signal.SIGTERM) == 0 and not live.screen.cursor.hidden


def test_live_traffic(terminal: Callable[..., Terminal]) -> None:
    live = terminal("tcptop", "--live", "-p", str(os.getpid()), "0.2")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        address = server.getsockname()[:2]
        with socket.create_connection(address) as ours, server.accept()[0] as theirs:
            ours.sendall(b"x" * 97 * 1024)
            left = 97 * 1024
            while left:
                left -= len(theirs.recv(65536))
            shown = live.read(lambda text: f"::1:{address[1]}" in text).splitlines()
    assert shown[2].split() == ["PID", "COMM", "LADDR", "RADDR", "RX_KB", "TX_KB"]
    assert str(os.getpid()) in shown[3] and "connections · received" in "\n".join(shown)
    assert live.end(signal.SIGINT) == 0 and not live.screen.cursor.hidden


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_terminal_is_given_back(terminal: Callable[..., Terminal], hot: targets.Target, number: int) -> None:
    live = terminal("funccount", "--live", "-i", "0.2", f"{hot.path}:hot")
    live.read(lambda text: "CALLS/S" in text)
    assert live.screen.cursor.hidden
    assert live.end(number) == (-number if number == signal.SIGQUIT else 0)
    assert not live.screen.cursor.hidden


def test_terminal_is_given_back_while_stopped(terminal: Callable[..., Terminal], hot: targets.Target) -> None:
    live = terminal("funccount", "--live", "-i", "0.2", f"{hot.path}:hot")
    live.read(lambda text: "CALLS/S" in text)
    for _ in range(2):
        live.process.send_signal(signal.SIGTSTP)
        live.read(lambda text: not live.screen.cursor.hidden)
        assert os.WIFSTOPPED(os.waitpid(live.process.pid, os.WUNTRACED)[1])
        live.process.send_signal(signal.SIGCONT)
        live.read(lambda text: live.screen.cursor.hidden)
    assert live.end(signal.SIGINT) == 0 and not live.screen.cursor.hidden


def test_follows_the_window(terminal: Callable[..., Terminal], hot: targets.Target) -> None:
    live = terminal("funccount", "--live", "-i", "0.2", f"{hot.path}:*", rows=9, NO_COLOR="1")
    work(hot)
    shown = live.read(lambda text: "2 of " in text).splitlines()
    assert len(shown) == 8 and re.match(r"2 of \d+ functions", shown[6]) and not live.screen.buffer[2][0].bold
    live.resize(24, 38)
    shown = live.read(lambda text: "2 of " not in text and "calls/s" in text).splitlines()
    assert {line.split()[0] for line in shown[3:-3] if line} >= {"hot", "recurse", "many"}
    live.resize(3, 7)
    live.read(lambda text: text.startswith("py…"))
    assert live.end(signal.SIGINT) == 0 and b"Traceback" not in live.seen


def test_ascii(terminal: Callable[..., Terminal], hot: targets.Target) -> None:
    live = terminal("funclatency", "--live", "-i", "0.2", f"{hot.path}:hot", PYTHONIOENCODING="ascii")
    work(hot)
    live.read(lambda text: "97 calls" in text)
    assert live.end(signal.SIGINT) == 0
    assert live.seen[live.seen.index(b"\x1b[?25l") :].isascii() and "nothing lost - Ctrl-C ends" in live.read()


def test_the_terminal_goes_away(terminal: Callable[..., Terminal], hot: targets.Target) -> None:
    """Without a SIGHUP, as it isn't the controlling one: nobody reads any more, so the run ends."""
    live = terminal("funccount", "--live", "-i", "0.2", f"{hot.path}:hot")
    live.read(lambda text: "CALLS/S" in text)
    live.hang_up()
    assert live.process.wait(targets.DEADLINE) == 0


def test_live_without_a_terminal(attached: Callable[..., Any], hot: targets.Target) -> None:
    tool = attached("funccount", "--live", f"{hot.path}:hot")
    work(hot)
    ran = tool.end(signal.SIGINT)
    assert ran.code == 0 and re.search(r"^hot +97$", ran.out, re.M) and "\x1b" not in ran.out


@pytest.mark.parametrize("tool", ["funccount", "funclatency", "tcptop"])
def test_live_is_not_for_programs(pyebpf: Callable[..., Any], tool: str) -> None:
    ran = pyebpf(tool, "--live", "--json", *(() if tool == "tcptop" else ("c:read",)))
    assert ran.code == 2 and "give one of them" in ran.err


def test_progress_is_shown_and_taken_back() -> None:
    """On a terminal; what is shown of the target is escaped."""
    script = (
        "import argparse, sys; from pyebpf.cli import progress; progress._AFTER = 0.01\n"
        "arguments = argparse.Namespace(json=False, targets=['a:\\x1b*' + 97 * 'x'])\n"
        "with progress.Progress(arguments): sys.stdin.readline()\n"
        "print('done', file=sys.stderr)"
    )
    leader, end = pty.openpty()
    screen = pyte.Screen(80, 5)
    stream = pyte.ByteStream(screen)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=end,
                          env={**os.environ, "TERM": "xterm"}) as process:  # fmt: skip
        os.close(end)
        while f'preparing for "a:\\x1b*{33 * "x"}"… 0 s' not in screen.display[0]:
            stream.feed(os.read(leader, 4096))
        assert process.stdin is not None
        process.stdin.close()
        while not screen.display[0].startswith("done"):
            stream.feed(os.read(leader, 4096))
    os.close(leader)
    assert screen.display[0].rstrip() == "done"


def test_progress_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no more threads may be, the run goes on without."""

    def refused(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(progress, "start_new_thread", refused)
    shown = progress.Progress(argparse.Namespace(json=True))
    shown._wanted = True
    with shown:
        pass
    assert not shown._wanted


def test_progress_names_what_is_done() -> None:
    seen: list[str] = []
    names = {"__name__": "pyebpf.binary.elf", "look": lambda: seen.append(progress._doing(get_ident()))}
    exec("look()", names)
    assert seen == ["reading symbols"] and progress._doing(get_ident()) == "preparing"


def test_last_words() -> None:
    """A second Ctrl-C ends at once, but gives the cursor back."""
    script = (
        "import os, signal; from pyebpf.cli.watch import Watch; watch = Watch(); watch.last_words = b'shown'\n"
        "for _ in range(2): os.kill(os.getpid(), signal.SIGINT)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, b"shown")
