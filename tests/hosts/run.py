#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the built wheel on every kind of host that can be had here, and writes what came of it to docs/support.md.

    tests/hosts/run.py [--only WORD]... [--write FILE] [--libbpf VERSION=FILE]... WHEEL [COMPANION]...

WHEEL is dist/*.whl, COMPANION a wheel pyebpf-libbpf (.ci/libbpf/build.py). As root, by a Python that has pyebpf (the
tests' environment). Takes debootstrap and musl-tools; a row that can't be had says why. The first run makes the
roots of other distributions and takes a quarter of an hour; what it makes stays in ~/.cache/pyebpf-tests/hosts.
Exit code 1 if a host did not do as it is expected to.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE.parent / "vm")]

import debian  # noqa: E402
import places  # noqa: E402
import probe  # noqa: E402
import report as kernels  # noqa: E402 - of tests/vm
import venvs  # noqa: E402
import written  # noqa: E402
from places import Place, Unavailable, Workshop  # noqa: E402

WORKS, PART, REFUSED = "works", "in part", "refused"
DEADLINE = 900
TOP = HERE.parents[1]


class Host(NamedTuple):
    """A row.

    Attributes:
        make: the place where the probe runs; None: the row has a check of its own.
        expect: what must come of it.
    """

    group: str
    name: str
    make: Callable[[Workshop], Place] | None
    expect: str = WORKS


class Result(NamedTuple):
    host: Host
    came: str
    python: str
    libbpf: str
    answers: dict[str, tuple[bool, str]]
    what: str

    @property
    def is_expected(self) -> bool:
        return self.came == self.host.expect


def hosts(extra: Sequence[tuple[str, str]]) -> Iterator[Host]:
    for version, interpreter in sorted(venvs.interpreters().items()):
        yield Host("Python", ".".join(map(str, version)), places.with_python(interpreter))
    for version in ("3.14", "3.15"):
        yield Host("Python", f"{version} (Debian sid)", places.newest(version))

    yield Host("libbpf", "1.1 (Debian 12)", places.with_libbpf("bookworm", "libbpf1", "libelf1"))
    yield Host("libbpf", "1.4 (Debian 12 backports)", places.with_libbpf("bookworm-backports", "libbpf1"))
    yield Host("libbpf", "1.5 (Debian 13)", places.minimal("trixie"))
    yield Host("libbpf", "1.7 (Debian sid)", places.newest("3.14"))
    for version, path in extra:
        yield Host("libbpf", f"{version} (built)", places.with_library(path))
    yield Host("libbpf", "none", places.minimal_without_libbpf("bookworm"), REFUSED)
    yield Host("libbpf", "only libbpf.so.0", places.minimal_without_libbpf("bookworm", old=True), REFUSED)
    yield Host("libbpf", "none, pyebpf-libbpf installed", places.minimal_with_companion("bookworm"))

    for suite, name in (("bookworm", "Debian 12"), ("trixie", "Debian 13")):
        yield Host("system", f"{name}, minimal", places.minimal(suite))
        yield Host("system", f"{name}, minimal, pip", places.minimal_with_pip(suite))
    yield Host("system", "Debian 13, no libbpf, pyebpf-libbpf", places.minimal_with_companion("trixie"))
    yield Host("system", "musl (Alpine-like)", places.alpine_like)

    yield Host("process", "hardened", places.hardened)
    yield Host("process", "user without capabilities", places.as_user(), REFUSED)
    yield Host("process", "user: CAP_BPF, CAP_PERFMON", places.as_user("CAP_BPF", "CAP_PERFMON"), PART)
    both = ("CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH")
    yield Host("process", "user: and CAP_DAC_READ_SEARCH", places.as_user(*both))

    yield Host("container", "program in another container, by its pid here", None)
    yield Host("container", "inside, all capabilities", places.inside_container)
    yield Host("container", "inside, default + CAP_BPF, CAP_PERFMON", places.inside_container_as(*both[:2]), PART)
    yield Host("container", "inside, and CAP_SYS_ADMIN", places.inside_container_as(*both[:2], "CAP_SYS_ADMIN"))
    yield Host("container", "inside a user namespace", places.inside_user_namespace, REFUSED)

    yield Host("kernel", "no BTF", places.without_btf, PART)
    yield Host("kernel", "no BTF, PYEBPF_BTF", places.with_btf_file)
    yield Host("kernel", "tracefs not mounted", places.without_tracefs)


def judge(answers: dict[str, tuple[bool, str]]) -> str:
    good = [works for works, _ in answers.values()]
    return WORKS if all(good) else PART if any(good) else REFUSED


def examine(host: Host, shop: Workshop) -> Result:
    """Runs the probe in a row's place."""
    try:
        if host.make is None:
            answers = next_door(shop)
            return Result(host, judge(answers), platform.python_version(), "", answers, "own root, mounts and pids")
        place = host.make(shop)
        done = subprocess.run(
            [*place.command, f"{place.folder}/probe.py", place.folder], env=place.environment, cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
    except (Unavailable, debian.Unavailable) as error:
        return Result(host, "not had", "", "", {}, str(error).splitlines()[-1])
    except (subprocess.SubprocessError, AssertionError, OSError) as error:
        return Result(host, "not had", "", "", {}, f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return Result(host, "not had", "", "", {}, (done.stderr.strip().splitlines() or ["no output"])[-1])
    found = json.loads(lines[-1])
    answers = {name: (bool(works), str(text)) for name, (works, text) in found["answers"].items()}
    works, text = answers["doctor"]
    return Result(host, judge(answers), found["python"], text if works else "", answers, place.what)


def next_door(shop: Workshop) -> dict[str, tuple[bool, str]]:
    """Traces a program in a container from outside, by the pid it has here."""
    venv = shop.venv(shop.own)
    answers = {}
    for name, tool in (("funccount", ("funccount",)), ("funclatency", ("funclatency",)), ("trace", ("trace",))):
        with places.neighbour(shop) as (process, pid):
            ready, told = os.pipe()
            target = ("/app/calls:hot", *(("i", "--ret", "retval") if name == "trace" else ()))
            with subprocess.Popen(
                [venv.path / "bin" / "pyebpf", *tool, "--json", "--ready-fd", str(told), "-p", str(pid), *target],
                env=shop.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, pass_fds=[told],
            ) as tracer:  # fmt: skip
                os.close(told)
                with os.fdopen(ready, "rb") as end:
                    end.read(1)
                truth = json.loads(process.communicate("\n", timeout=DEADLINE)[0].splitlines()[-1])
                output, error = tracer.communicate(timeout=DEADLINE)  # it ends with the process
        try:
            records = probe.records(output, "counts", "histogram", "call")
            seen = len(records) if name == "trace" else (records[0].get("count") or records[0]["counts"][0]["count"])
            assert seen == truth["calls"]["hot"], f"{seen} of {truth['calls']['hot']} calls"
            answers[name] = (True, f"{seen} of {seen} calls")
        except (LookupError, AssertionError) as problem:
            answers[name] = (False, probe.complaint(error) or str(problem))
    return answers


# The report


def table(results: Sequence[Result]) -> Iterator[str]:
    """A table a group: what works, and the words of what doesn't."""
    names = {"works": "works", "in part": "works in part", "refused": "refused", "not had": "not tried"}
    for group, title in (("Python", "Python"), ("libbpf", "libbpf"), ("system", "Systems"), ("process", "Processes"),
                         ("container", "Containers"), ("kernel", "Kernels")):  # fmt: skip
        rows = [result for result in results if result.host.group == group]
        if not rows:
            continue
        lines = []
        for row in rows:
            version = f"Python {row.python}" if row.python else ""
            libbpf = f"libbpf {row.libbpf.partition(',')[0]}" if row.libbpf else ""
            with_ = "; ".join(part for part in (row.what if row.came != "not had" else "", version, libbpf) if part)
            lines.append((row.host.name, names[row.came], with_, cell(failures(row))))
        yield f"\n## {title}\n"
        yield from written.table(("host", "result", "with", "what doesn't work, and what it says"), lines)


def failures(row: Result) -> str:
    """What doesn't work, those that say the same together."""
    if row.came == "not had":
        return row.what
    said: dict[str, list[str]] = {}
    for name, (works, text) in row.answers.items():
        if not works:
            said.setdefault(text, []).append(name)
    return "<br>".join(f"{', '.join(names)}: “{text}”" for text, names in said.items())


def cell(text: str) -> str:
    return re.sub(r"/tmp/[^ :;”]*/", "…/", text).replace("\n", " ")


HEAD = """\
# Where it works

<!-- written by tests/hosts/run.py (make hosts): don't edit -->

Each row is a host on which the wheel was installed without a compiler and the same things were asked of it: `pyebpf
doctor`; `funccount` and `funclatency` on a C program that makes {calls} calls, all of which must be counted; `trace`
with arguments and results; a Go program, counted and its arguments shown; one connection, program and opened file,
which `tcpconnect`, `execsnoop` and `opensnoop` must show once and right; all of this with `--json`; and the Python API.

Run on {machine}. What other kernels can do is told
[kernel by kernel](#kernel-by-kernel).
"""


def report(results: Sequence[Result]) -> str:
    head = HEAD.format(calls=probe.CALLS, machine=written.made_on())
    return head + "\n".join(table(results)) + "\n" + kernels.section(kernels.results())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("companion", type=Path, nargs="*", help="wheels pyebpf-libbpf")
    parser.add_argument("--only", action="append", metavar="WORD", help="rows whose group or name has this word")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"the report (default: {TOP / 'docs/support.md'}, "
                        "if all rows run)")  # fmt: skip
    parser.add_argument("--libbpf", action="append", default=[], metavar="VERSION=FILE", help="try this one too")
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("this takes root")
    for path in (arguments.wheel, *arguments.companion):
        if not path.is_file():
            parser.error(f"no such file: {path}")
    extra = [tuple(text.split("=", 1)) for text in arguments.libbpf]
    results = []
    with tempfile.TemporaryDirectory(prefix="pyebpf-hosts-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)  # others than root read it
        (scratch / "empty").mkdir()
        (scratch / "empty").chmod(0o777)
        places.CACHE.mkdir(parents=True, exist_ok=True)
        shop = Workshop(arguments.wheel.resolve(), scratch, [path.resolve() for path in arguments.companion])
        for host in hosts(extra):  # type: ignore[arg-type]
            words = f"{host.group} {host.name}"
            if arguments.only and not any(word in words for word in arguments.only):
                continue
            result = examine(host, shop)
            results.append(result)
            mark = "" if result.is_expected else f"   <-- expected: {host.expect}"
            print(f"{host.group:<10} {host.name:<46} {result.came:<8}{mark}")
            if failures(result):
                print(f"{'':<10} {failures(result).replace('<br>', chr(10) + ' ' * 11)}")
            sys.stdout.flush()
    target = arguments.write or (None if arguments.only else TOP / "docs" / "support.md")
    if target:
        target.write_text(report(results))
    return 0 if all(result.is_expected for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
