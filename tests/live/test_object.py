# SPDX-License-Identifier: BSD-2-Clause
"""An embedder's object: its variables, its life, and what is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import ownprograms
import pytest
import targets

from pyebpf.core import kernel
from pyebpf.core.attached import Link
from pyebpf.core.object import Object
from pyebpf.core.records import Reader
from pyebpf.errors import BadValue, LoadError, NoSuchName, PermissionDenied, StateError, TargetNotFound


def test_constants_before_loading() -> None:
    with ownprograms.opened("maps") as obj:
        assert obj.rodata is not None
        assert (obj.rodata["limit"], obj.rodata["strict"], obj.rodata["paint"]) == (5, False, 3)
        obj.rodata["limit"] = 10007
        obj.rodata["strict"] = True
        obj.rodata["paint"] = "GREEN"
        obj.rodata["comm"] = "bash"
        obj.rodata["only"] = {"pid": 997, "name": b"init"}
        obj.rodata["table"] = [1, 2, 3, 4]
        assert obj.rodata["comm"] == b"bash" and obj.rodata["paint"] == 7 and obj.rodata["table"] == (1, 2, 3, 4)
        assert tuple(obj.rodata["only"]) == (997, 0, b"init")
        obj.rodata["only"] = obj.rodata["only"]._replace(port=80)
        obj.rodata["only"] = (23, *obj.rodata["only"][1:])
        assert obj.rodata["only"]._asdict() == {"pid": 23, "port": 80, "name": b"init"}
        obj.sections[".rodata.own"]["own_constant"] = 997
        assert {"limit", "strict", "only"} <= set(obj.rodata) and len(obj.rodata) >= 6 and "nothing" not in obj.rodata
        obj.load()
        assert obj.rodata["limit"] == 10007
        with pytest.raises(StateError, match="limit"):
            obj.rodata["limit"] = 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("limit", -1, "limit: u32 takes 0 to 4294967295, got int -1"),
        ("limit", 1 << 32, "0 to 4294967295"),
        ("limit", "5", "limit: u32 takes an integer, got str '5'"),
        ("limit", 5.0, "float 5.0"),
        ("limit", None, "NoneType"),
        ("strict", 2, "strict: _Bool takes True or False"),
        ("paint", "BLUE", "enum colour takes one of RED, GREEN or a number, got str 'BLUE'"),
        ("comm", b"x" * 17, r"comm: char\[16\] takes at most 16 bytes"),
        ("comm", 7, "a sequence of 16"),
        ("table", [1, 2, 3], r"table: u32\[4\] takes a sequence of 4"),
        ("table", [1, 2, -3, 4], r"table\[2\]: u32 takes 0 to"),
        ("only", {"pit": 1}, "only: struct key has no member 'pit'; it has pid, port, name"),
        ("only", {"port": 65536}, r"only\.port: __u16 takes 0 to 65535, got int 65536"),
        ("only", (1, 2), "a dict, or a sequence of 3"),
        ("only", 5, "struct key takes a dict"),
    ],
)
def test_values_that_do_not_fit(name: str, value: object, words: str) -> None:
    with ownprograms.opened("maps") as obj:
        assert obj.rodata is not None
        before = obj.rodata[name]
        with pytest.raises(BadValue, match=words) as caught:
            obj.rodata[name] = value
        assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)
        assert obj.rodata[name] == before


def test_names_that_are_not_there() -> None:
    with ownprograms.opened("maps") as obj:
        assert obj.rodata is not None
        for call in (lambda: obj.rodata["limt"], lambda: obj.maps["hsah"], lambda: obj.programs["touc"],
                     lambda: obj.sections[".nothing"], lambda: obj.btf.layout("nothing")):  # fmt: skip
            with pytest.raises(NoSuchName) as caught:
                call()
            assert isinstance(caught.value, KeyError) and isinstance(caught.value, LookupError)
        with pytest.raises(NoSuchName, match=r"variable in \.rodata 'limt'; there is limit"):
            obj.rodata["limt"] = 1


def test_sections_that_are_not_there() -> None:
    with ownprograms.opened("pins") as obj:
        for section in (obj.rodata, obj.data, obj.bss):
            assert not section and list(section) == [] and "limit" not in section
            with pytest.raises(NoSuchName, match="there is none at all"):
                section["limit"] = 5


def test_a_held_view_does_not_stop_closing() -> None:
    obj = ownprograms.opened("maps")
    obj.programs["walk"].autoload = False
    obj.load()
    with memoryview(obj.bss.memory()), memoryview(obj.maps["shared"].memory()):
        obj.close()
        assert obj.closed


def test_live_variables_bit_fields_and_unions() -> None:
    with ownprograms.opened("maps") as obj:
        assert obj.data is not None and obj.bss is not None
        obj.data["numbers"] = [[1, 2, 3], [4, 5, 10007]]
        obj.programs["walk"].autoload = False
        obj.load()
        assert obj.data["numbers"] == ((1, 2, 3), (4, 5, 10007)) and obj.data["temperature"] == -3
        for _ in range(23):
            assert obj.programs["touch"].run(bytes(64)).result == 1  # XDP_DROP
        assert obj.bss["runs"] == 23 and obj.sections[".data.own"]["own_counter"] == 7 + 23 * 23
        flags = obj.bss["one"].flags
        assert flags == (5, -9, 0xABCDEF0123, True, 7, 10007) and flags.yes is True
        obj.bss["one"] = {
            "count": 3, "flags": {"small": 7, "negative": -16, "wide": 1, "colour": "RED"}, "v4": 0x04030201,
            "parts": {"half": (23, 997)}, "grid": [[1, -2, 3], [4, 5, -6]], "ratio": 0.5, "huge": -(1 << 100),
        }  # fmt: skip
        one = obj.bss["one"]
        assert one.flags == (7, -16, 1, False, 3, 0) and one.v4 == 0x04030201 and one.v6[:5] == b"\1\2\3\4\0"
        assert one.parts == b"\x17\0\xe5\3" and one.parts.half == (23, 997) and one.parts.word == 997 << 16 | 23
        assert one.grid == ((1, -2, 3), (4, 5, -6)) and one.ratio == 0.5 and one.huge == -(1 << 100)
        obj.bss["one"] = one
        assert obj.bss["one"] == one
        for value, words in (({"flags": {"small": 8}}, r"one\.flags\.small: .* takes 0 to 7 \(3 bits\)"),
                             ({"flags": {"negative": -17}}, "-16 to 15"), ({"v6": b"123"}, "16 bytes")):  # fmt: skip
            with pytest.raises(BadValue, match=words):
                obj.bss["one"] = value
        obj.bss["runs"] = 5
        obj.programs["touch"].run(bytes(64))
        assert obj.bss["runs"] == 6
        run = obj.programs["touch"].run(bytes(64)).as_dict()
        assert json.loads(json.dumps(run)) == run and run["data"] == "00" * 64 and run["result"] == 1
        assert obj.bss.get("nothing", 5) == 5 and dict(obj.bss)["runs"] == 7
        assert obj.btf.enumerators("colour") == {"RED": 3, "GREEN": 7}
        with pytest.raises(NoSuchName):
            obj.btf.enumerators("color")


def test_opened_from_bytes_and_by_names() -> None:
    image = ownprograms.compiled("maps").read_bytes()
    with Object.open(image, name="mine") as obj:
        assert obj.name == "mine" and obj.rodata is not None and obj.rodata["limit"] == 5
    with Object.open(ownprograms.compiled("maps")) as obj:
        assert obj.name == "maps"
    for junk, error in ((b"", LoadError), (b"\x7fELF" + bytes(64), LoadError), (image[: len(image) // 2], LoadError)):
        with pytest.raises(error):
            Object.open(junk)
    with pytest.raises(TargetNotFound, match="No such file"):
        Object.open("/no/such/file.bpf.o")


def test_times() -> None:
    """What is asked at the wrong time is a StateError that says so."""
    obj = ownprograms.opened("maps")
    obj.programs["walk"].autoload = False
    hash_, touch, array = obj.maps["hash"], obj.programs["touch"], obj.maps["array"]
    for early in (lambda: hash_[1], lambda: touch.fd, obj.attach, lambda: obj.ring("hash"), lambda: array.pin("/x"),
                  lambda: touch.attach_xdp("lo")):  # fmt: skip
        with pytest.raises(StateError, match="isn't loaded"):
            early()
    hash_.max_entries = 23
    obj.load()
    assert hash_.max_entries == 23
    with pytest.raises(StateError):
        hash_.max_entries = 24
    for late in (lambda: setattr(touch, "autoload", False), lambda: setattr(touch, "attach_type", 0), obj.load,
                 lambda: hash_.reuse("/x"), lambda: touch.set_target("x")):  # fmt: skip
        with pytest.raises(StateError, match="before the object is loaded"):
            late()
    with pytest.raises(StateError, match="autoload is False"):
        _ = obj.programs["walk"].fd
    items = iter(hash_.items())
    obj.close()
    obj.close()
    sections = obj.rodata, obj.bss
    for dead in (lambda: hash_[1], lambda: list(items), lambda: list(hash_), lambda: len(array), lambda: hash_.fd,
                 lambda: touch.fd, lambda: touch.autoload, lambda: touch.attach_type, touch.run, obj.attach, obj.load,
                 lambda: sections[0]["limit"], lambda: sections[1]["runs"], lambda: obj.ring("hash"),
                 lambda: hash_.max_entries, lambda: hash_.update({1: 2}), hash_.clear, lambda: 1 in hash_,
                 lambda: touch.attach_xdp("lo"), lambda: touch.attach_uprobe("/bin/sh", "main"),
                 lambda: obj.maps["shared"].memory(), lambda: hash_.pin("/x")):  # fmt: skip
        with pytest.raises(StateError, match="closed"):
            dead()


def test_a_program_this_kernel_refuses() -> None:
    with ownprograms.opened("functions") as obj:
        for name, program in obj.programs.items():
            program.autoload = name == "on_fentry"
        with pytest.raises(TargetNotFound, match="no_such_function_here"):
            obj.programs["on_fentry"].set_target("no_such_function_here")
        if kernel.fentry("security_task_getpgid").works:
            obj.load()
            return
        with pytest.raises((LoadError, PermissionDenied), match="program on_fentry") as caught:
            obj.load()
        assert "fentry on security_task_getpgid doesn't work here" in str(caught.value.hint)
        with pytest.raises(StateError, match="failed before"):
            obj.load()


def _held() -> tuple[int, list[object]]:
    """Our descriptors, and what the kernel has of this object: programs, maps, links."""
    rows = {kind: json.loads(subprocess.run(["bpftool", kind, "list", "-j"], capture_output=True, check=True).stdout or
                             "[]") for kind in ("prog", "map", "link")}  # fmt: skip
    programs = [row["id"] for row in rows["prog"] if row.get("name") in ("on_call", "on_sample", "on_other", "on_big")]
    maps = [row["id"] for row in rows["map"] if str(row.get("name")).startswith(("cycle", "samples", "others"))]
    links = [row["id"] for row in rows["link"] if row.get("prog_id") in programs]
    return len(os.listdir("/proc/self/fd")), [*programs, *maps, *links]


def _cycle() -> None:
    obj = Object.open(ownprograms.compiled("rings"), name="cycle")
    obj.load()
    link = obj.programs["on_call"].attach()
    reader, perf = obj.ring("events"), obj.perf("samples", type="event")
    assert isinstance(link, Link) and list(reader.drain()) == [] and list(perf.drain()) == []
    obj.close()
    assert not link.attached and reader.closed and perf.closed


def test_nothing_is_left_behind() -> None:
    """In a process of its own, so that no other test's garbage counts; with 101 rounds."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import test_object as t, time\n"
        "t._cycle(); before = (t._held()[0], [])\n"
        "for _ in range(101): t._cycle()\n"
        "for _ in range(100):\n"  # the kernel lets go of programs a moment later
        "    after = t._held()\n"
        "    if after <= before: break\n"
        "    time.sleep(0.1)\n"
        "print(before, after); sys.exit(after > before)\n"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    run = subprocess.run([sys.executable, "-c", code, here, os.path.dirname(here)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_closed_from_another_thread() -> None:
    """While this one reads a ring and goes through a map."""
    for _ in range(11):
        obj = ownprograms.opened("rings")
        obj.load()
        reader = obj.ring("events")
        started = threading.Event()
        ends: list[object] = []

        def read(reader: Reader = reader, started: threading.Event = started, ends: list[object] = ends) -> None:
            started.set()
            ends.append(list(reader))

        thread = threading.Thread(target=read)
        thread.start()
        started.wait()
        closers = [threading.Thread(target=obj.close) for _ in range(3)]
        for closer in closers:
            closer.start()
        for one in (*closers, thread):
            one.join(targets.DEADLINE)
            assert not one.is_alive()
        assert ends == [[]]
        with pytest.raises(StateError, match="closed"):
            reader.read(0)
