# SPDX-License-Identifier: BSD-2-Clause
"""What snoop tools make of numbers and bytes: signals' names, whole paths."""

from __future__ import annotations

import pytest

from pyebpf.core.object import open_bundled
from pyebpf.errors import TargetError
from pyebpf.target.stacks import Frame
from pyebpf.tools.place import Places
from pyebpf.tools.signals import signal_name, signal_number
from pyebpf.tools.snoop.capable import _without_us
from pyebpf.tools.text import Cut


def test_every_signal_has_a_name_that_leads_back() -> None:
    names = [signal_name(number) for number in range(1, 65)]
    assert len(set(names)) == 64 and names[8] == "SIGKILL" and names[33] == "SIGRTMIN" and names[63] == "SIGRTMIN+30"
    for number, name in enumerate(names, 1):
        assert signal_number(str(number)) == number
        if not name.isdigit():  # 32 and 33 are the C library's
            assert signal_number(name) == signal_number(name.lower()) == signal_number(name[3:]) == number
    assert signal_number("0") == 0


@pytest.mark.parametrize("text", ["", "65", "-1", "KIL", "SIG", "1e3", "9 ", "\u0661", "RTMIN+31", "9" * 5000])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="is not a signal"):
        signal_number(text)


@pytest.mark.parametrize(
    ("path", "names", "cut", "whole"),
    [
        (b"file", b"c\0b\0a\0", False, b"/a/b/c/file"),
        (b"file", b"", False, b"/file"),
        (b"../x", b"a\0", False, b"/a/../x"),
        (b"file", b"c\0b\0", True, "…/b/c/file".encode()),
        (b"/etc/x", b"", False, b"/etc/x"),
        (b"/etc/x", b"b\0a\0", False, b"/a/b/etc/x"),  # below a directory: RESOLVE_IN_ROOT
        (b"", b"b\0a\0", False, b"/a/b"),
    ],
)
@pytest.mark.parametrize("size", ["SHORT", "LONG"])
def test_whole_paths(path: bytes, names: bytes, cut: bool, whole: bytes, size: str) -> None:
    with open_bundled("opensnoop") as obj:
        btf = obj.btf
    texts, rooms = btf.enumerators("text_sizes"), btf.enumerators("place_sizes")
    text, room = texts[f"TEXT_{size}"], rooms[f"PLACE_{size}"]
    record = memoryview(bytes(8) + (path + b"\0").ljust(text, b"\xee") + names.ljust(room, b"\xee"))
    places = Places(btf, 8)
    assert places.paths(record, len(path) + 1, len(names) | cut * rooms["PLACE_CUT"]) == (path, whole)
    assert places.paths(record, -14, 0) == (None, None)


def test_a_cut_path_stays_marked() -> None:
    with open_bundled("opensnoop") as obj:
        btf = obj.btf
    texts, rooms = btf.enumerators("text_sizes"), btf.enumerators("place_sizes")
    record = memoryview(b"x" * texts["TEXT_LONG"] + b"a\0".ljust(rooms["PLACE_LONG"], b"\xee"))
    path, whole = Places(btf, 0).paths(record, texts["TEXT_LONG"], 2)
    assert isinstance(path, Cut) and isinstance(whole, Cut) and whole == b"/a/" + path


def test_kernel_stacks_begin_with_the_kernel() -> None:
    """What runs our program is left out, also once it has no name any more; not all of a stack without names."""
    unknown, ours = Frame(7, "[unknown]", 0, "[kernel]"), Frame(8, "bpf_get_stack", 0, "[bpf]")
    check = Frame(9, "capable", 0, "[kernel]")
    assert _without_us((unknown, ours, check, unknown)) == (check, unknown)
    assert _without_us((unknown, unknown)) == (unknown, unknown)
