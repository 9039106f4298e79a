# SPDX-License-Identifier: BSD-2-Clause
"""What only arm64 has: instructions that Linux doesn't probe, signed return addresses, a register for the return."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import targets

import pyebpf
from pyebpf.binary.image import Image
from pyebpf.binary.unfit import unfit
from pyebpf.binary.unfit_arm64 import why_not
from pyebpf.core import kernel
from pyebpf.core.link import Ladder, Links, Site
from pyebpf.core.object import open_bundled
from pyebpf.tools.stripes import Stripes

PROTECTED = "-mbranch-protection=standard"  # bti c and paciasp at entries, autiasp before returns
KNOWN = (
    "bti", "sign", "push", "relative", "page", "on_zero", "on_bit", "on_flags", "jump", "barrier", "thread", "tail",
    "acquire",
)  # fmt: skip
REFUSED = ("refused_hint", "refused_call")
BROKEN = ("refused_literal", "refused_vector")
REFUSED_WORDS = (
    0xC85F7C20, 0xC81B7C20, 0x48207C82, 0x885FFC20,  # ldxr, stxr, casp, ldaxr
    0xD4000001, 0xD4000002, 0xD4000003, 0xD4200000, 0xD4400000,  # svc, hvc, smc, brk, hlt
    0xD51B4200, 0xD50342DF,  # msr nzcv, x0; msr daifset, #2
    0xD71F0801, 0xD73F0801, 0xD65F0BFF, 0xD65F0FFF, 0xD69F0BFF, 0xD69F03E0,  # braa, blraa, retaa, retab, eretaa, eret
    0x98000040, 0xD8000080,  # of literals: ldrsw, prfm
)  # fmt: skip
REFUSED_SINCE_6_5 = (0x19010440, 0x19C20420)  # cpyfp, setp: older kernels let no program have them


@pytest.fixture
def target() -> Iterator[targets.Target]:
    with targets.run(targets.compiled("arm64.c"), "-n", "997") as started:
        yield started


def test_first_instructions(rung: str, target: targets.Target) -> None:
    """Each is counted right, or skipped and named; the program's own results are right."""
    names = (*KNOWN, "exclusive", *REFUSED, *BROKEN)
    with pyebpf.count(*(f":{name}" for name in names), pid=target.pid) as session:
        truth = target.go()
        seen = session.snapshot()
        skipped = {skip.name: skip.reason for skip in session.skipped}
    assert truth["wrong"] == 0
    assert set(skipped) == {*REFUSED, *BROKEN} and all("on arm64" in reason for reason in skipped.values())
    expected = {name: truth["calls"][name] for name in (*KNOWN, "exclusive")}
    expected["bti"] += truth["calls"]["tail"]
    assert {name: seen[name] for name in expected} == expected


def test_the_kernel_refuses_what_is_said_to_be_refused(target: targets.Target) -> None:
    image = Image.open(str(target.path))
    sites = {name: Site(image.search(name)[0].offset, 0) for name in (*KNOWN, *REFUSED)}
    with open_bundled("funccount") as obj:
        ladder = Ladder()
        ladder.prepare(obj, obj.programs.values())
        Stripes(obj, obj.maps["counts"], 1)
        obj.load()
        links = Links(ladder)
        refused = links.attach(obj.programs["on_entry"], str(target.path), [*sites.values()], pid=target.pid)
        assert {one.site for one in refused} == {sites[name] for name in REFUSED}
        assert target.go()["wrong"] == 0
        links.close()


def test_the_kernel_judges_every_hint_and_kind_as_we_do(tmp_path: Path) -> None:
    unfit_words = REFUSED_WORDS + (REFUSED_SINCE_6_5 if kernel.release() >= (6, 5) else ())
    words = [*(0xD503201F | number << 5 for number in range(128)), *unfit_words]
    path = tmp_path / "words"
    path.write_bytes(struct.pack(f"<{len(words)}I", *words).ljust(mmap.PAGESIZE, b"\0"))
    with open(path, "rb") as file, open_bundled("funccount") as obj:
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC):
            ladder = Ladder("cookie")
            ladder.prepare(obj, obj.programs.values())
            Stripes(obj, obj.maps["counts"], 1)
            obj.load()
            links = Links(ladder)
            sites = [Site(4 * number, 0) for number in range(len(words))]
            refused = links.attach(obj.programs["on_entry"], str(path), sites, pid=os.getpid())
            links.close()
    assert {hex(words[one.site.offset // 4]) for one in refused} == {hex(word) for word in words if why_not(word)}
    assert all(map(why_not, REFUSED_WORDS + REFUSED_SINCE_6_5))


def test_returns(rung: str, target: targets.Target) -> None:
    """Timed by probes on their returns; where Linux takes no probe there (retaa), skipped."""
    names = (*KNOWN, "exclusive", "left_signed")
    with pyebpf.latency(*(f":{name}" for name in names), pid=target.pid) as session:
        truth = target.go()
        seen, losses = session.snapshot(), session.losses
        skipped = {skip.name: skip.reason for skip in session.skipped}
    assert truth["wrong"] == 0
    assert set(skipped) == {"left_signed"} and "return" in skipped["left_signed"]
    assert losses.lost == losses.unmatched == losses.in_progress == 0
    for name in (*KNOWN, "exclusive"):
        more = truth["calls"]["tail"] if name == "bti" else 0
        assert seen[name].count == truth["returns"][name] + more, name


def test_a_probe_never_comes_between_an_exclusive_load_and_its_store(target: targets.Target) -> None:
    (function,) = Image.open(str(target.path)).search("exclusive")
    with pytest.raises(pyebpf.Error, match="between an exclusive load and its store"):
        pyebpf.count(":exclusive+8", pid=target.pid)  # behind ldxr
    with pyebpf.count(":exclusive+20", pid=target.pid) as session:  # behind the loop
        truth = target.go()
        assert [*session.snapshot().values()] == [truth["calls"]["exclusive"]]
    assert truth["wrong"] == 0 and unfit(Image.open(str(target.path)).elf, function.address) is None


def test_arguments_beyond_the_registers(target: targets.Target) -> None:
    with pyebpf.trace(":ten", pid=target.pid, all_args=True, args=["sarg0", "sarg1"], ret=["retval"]) as session:
        truth = target.go()
        calls = [*session.drain()]
    assert len(calls) == truth["calls"]["ten"] == 997
    for number, call in enumerate(calls):
        assert call.args == {"a": number, **dict(zip("bcdefghij", range(2, 11))), "sarg0": 9, "sarg1": 10}
        assert call.ret == {"retval": number + 54}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_stacks_of_signed_return_addresses(compiler: str) -> None:
    program = targets.compiled("calls.c", "-fno-omit-frame-pointer", PROTECTED, compiler=compiler)
    with targets.run(program, "-n", "3", "-w", "recurse") as target:
        with pyebpf.stacks(f"{program}:recurse", pid=target.pid) as session:
            target.begin()
            target.first_line()
            paths = session.snapshot()
    found = {tuple(frame.name for frame in path.user_stack): path.calls for path in paths}
    assert {names[: names.index("main")]: calls for names, calls in found.items()} == {
        ("recurse",) * depth: 3 for depth in range(1, 8)
    }


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_exceptions_through_signed_frames(compiler: str) -> None:
    program = targets.compiled("throws.cpp", PROTECTED, compiler=compiler)
    with targets.run(program, "-k", "97", "-m", "997") as target:
        with pyebpf.latency(":shop::sometimes*", ":shop::passes*", ":shop::catches*", pid=target.pid) as session:
            truth = target.go()
            seen, losses = session.snapshot(), session.losses
    for name in ("shop::sometimes(int)", "shop::passes(int)", "shop::catches(int)"):
        assert seen[name].count == truth["returns"][name], name
    thrown = sum(truth["calls"][function.name] - truth["returns"][function.name] for function in seen)
    assert thrown >= 2 * 97 and losses.abandoned + losses.in_progress == thrown and losses.lost == 0


def test_the_kernels_return_probe_on_signed_frames() -> None:
    """What --allow-uretprobe takes: the address is replaced before the function signs it."""
    with targets.run(targets.compiled("calls.c", PROTECTED), "-n", "97", "hot", "recurse") as target:
        with pyebpf.latency(":hot", ":recurse", pid=target.pid, allow_uretprobe=True) as session:
            truth = target.go()
            seen = session.snapshot()
    assert {name: seen[name].count for name in ("hot", "recurse")} == truth["calls"]
