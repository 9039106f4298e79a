# SPDX-License-Identifier: BSD-2-Clause
"""Types from an object's BTF: against objects compiled here, and against malformed data."""

from __future__ import annotations

import random
import struct
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from pyebpf.core.btf import Btf
from pyebpf.core.object import Object, open_bundled
from pyebpf.errors import BadValue, Error, NoSuchName

SOURCE = """
typedef unsigned int u32; typedef unsigned long long u64; typedef _Bool bool;
enum colour { RED = 3, GREEN = 7 };
struct inner { short a; u64 b; };
struct record { char name[8]; signed char small; u32 number; enum colour colour; bool flag; struct inner pair[2];
                u64 *pointer; unsigned char raw[3]; long negative; };
struct record one = {};
const volatile u32 limit = 5;
int answer = 42;
__attribute__((section("license"), used)) char _license[] = "GPL";
__attribute__((section("uprobe"), used)) int program(void *ctx) { return limit + one.number + answer; }
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("btf")
    (folder / "types.bpf.c").write_text(SOURCE)
    output = folder / "types.bpf.o"
    subprocess.run(["clang", "-target", "bpf", "-g", "-O2", "-c", folder / "types.bpf.c", "-o", output], check=True)
    return output


def test_record_layout(compiled: Path) -> None:
    with Object.open(str(compiled)) as obj:
        layout = obj.btf.layout("record")
        data = bytearray(layout.size)
        members = obj.btf.members("record")
        assert (layout.size, members["number"], members["pair"], members["negative"]) == (80, 12, 24, 72)
        data[0:8] = b"abc\0zzzz"
        struct.pack_into("<bxxxIi?", data, 8, -5, 23, 7, True)
        struct.pack_into("<hxxxxxxQhxxxxxxQQ3B", data, 24, -2, 997, 3, 10007, 0xFFFF, 1, 2, 3)
        struct.pack_into("<q", data, 72, -1)
        record = layout.unpack(data)
    assert (record.name, record.small, record.number, record.colour, record.flag) == (b"abc", -5, 23, 7, True)
    assert [tuple(pair) for pair in record.pair] == [(-2, 997), (3, 10007)]
    assert (record.pointer, record.raw, record.negative) == (0xFFFF, b"\1\2\3", -1)


def test_variables_and_enumerators(compiled: Path) -> None:
    with Object.open(str(compiled)) as obj:
        assert obj.rodata is not None and obj.data is not None and obj.bss is not None
        assert obj.rodata["limit"] == 5
        obj.rodata["limit"] = 9
        obj.data["answer"] = 43
        assert (obj.rodata["limit"], obj.data["answer"], obj.bss["one"].number) == (9, 43, 0)
        assert obj.btf.enumerators("colour") == {"RED": 3, "GREEN": 7}
        assert "nothing" not in obj.rodata
        with pytest.raises(LookupError):
            obj.btf.layout("nothing")


def test_records_of_the_bundled_objects() -> None:
    with open_bundled("funcslower") as obj:
        layout, members = obj.btf.layout("slow_call"), obj.btf.members("slow_call_stacks")
    assert members == {"call": 0, "user_stack": layout.size, "kernel_stack": layout.size + 127 * 8}


def test_malformed_btf_is_an_error() -> None:
    with open_bundled("funclatency") as obj:
        raw = obj.btf._raw
    generator = random.Random(997)
    for _ in range(2000):
        data = bytearray(raw)
        if generator.random() < 0.3:
            del data[generator.randrange(len(data)) :]
        for _ in range(generator.randrange(1, 6)):
            if data:
                data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            btf = Btf(bytes(data))
            for name in list(btf._by_name)[:20]:
                btf.layout(name)
        except (Error, LookupError):
            pass


def test_some_members_at_once(compiled: Path) -> None:
    with Object.open(str(compiled)) as obj:
        code = obj.btf.flat("record", ["name", "number", "flag", "negative"])
        data = obj.btf.layout("record").pack((b"abc", -5, 7, 3, True, ((1, 2), (3, 4)), 9, b"\1\2\3", -1))
        assert struct.unpack("<" + code, data) == (b"abc\0\0\0\0\0", 7, True, -1)
        for members, error in ((["number", "name"], LookupError), (["nothing"], LookupError), (["pair"], Error)):
            with pytest.raises(error):
                obj.btf.flat("record", members)


WIDE = """
typedef unsigned int u32; typedef unsigned long long u64;
enum level { LOW = -1, HIGH = 5 };
struct bits { u32 a : 1, b : 31; int c : 7; u64 d : 57; signed char e : 4, f : 4; _Bool g : 1; enum level h : 6;
              u32 tail[2]; };
struct outer { u32 kind; union { u32 word; struct { unsigned short low, high; }; unsigned char bytes[8]; };
               struct { char inner; }; union { float real; u32 raw; } named; __int128 huge; enum level level; };
struct outer one = {}; struct bits two = {};
struct outer *anchor_one; const struct bits *anchor_two; int *number; struct outer many[3][2] = {}; int answer = 42;
__attribute__((section("license"), used)) char _license[] = "GPL";
__attribute__((section("uprobe"), used)) int program(void *ctx)
{ return one.kind + two.a + (long)anchor_one + (long)anchor_two + (long)number + many[2][1].kind + answer; }
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    folder = tmp_path_factory.mktemp("wide")
    (folder / "wide.bpf.c").write_text(WIDE)
    output = folder / "wide.bpf.o"
    subprocess.run(["clang", "-target", "bpf", "-g", "-O2", "-c", folder / "wide.bpf.c", "-o", output], check=True)
    with Object.open(str(output)) as obj:
        return obj.btf


def test_bit_fields(wide: Btf) -> None:
    layout = wide.layout("bits")
    generator = random.Random(23)
    for _ in range(997):
        values = (generator.getrandbits(1), generator.getrandbits(31), generator.randrange(-64, 64),
                  generator.getrandbits(57), generator.randrange(-8, 8), generator.randrange(-8, 8),
                  generator.random() < 0.5, generator.randrange(-32, 32), (generator.getrandbits(32), 7))  # fmt: skip
        assert layout.unpack(layout.pack(values)) == values
        assert layout.pack(layout.unpack(layout.pack(values))._asdict()) == layout.pack(values)
    assert layout.pack((1, 0, 0, 0, 0, 0, False, 0, (0, 0)))[0] == 1
    for name, value in (("a", 2), ("c", 64), ("c", -65), ("g", 2), ("h", 64), ("e", 8), ("b", "x")):
        with pytest.raises(BadValue, match=f"two\\.{name}: "):
            layout.pack({name: value}, "two")


def test_unions_and_unnamed_members(wide: Btf) -> None:
    layout = wide.layout("outer")
    packed = layout.pack({"kind": 1, "low": 23, "inner": 5, "named": {"real": 0.5}, "huge": -3, "level": "LOW"})
    value = layout.unpack(packed)
    assert (value.kind, value.low, value.high, value.word, value.inner) == (1, 23, 0, 23, 5)
    assert value.bytes == bytes([23, 0, 0, 0, 0, 0, 0, 0]) and value.named.real == 0.5 and value.named == value[3]
    assert value.named.raw == 0x3F000000 and (value.huge, value.level) == (-3, -1)
    assert layout.pack(value) == layout.pack(tuple(value)) == layout.pack(packed) == packed
    for wrong, words in (({"nothing": 1}, "no member 'nothing'; it has kind"), ({"named": {"real": "x"}}, "a number"),
                         ({"named": {}}, "a dict of one member"), ({"named": b"123"}, "4 bytes"),
                         ({"level": "MIDDLE"}, "one of LOW, HIGH"), (packed[:-1], f"{layout.size} bytes"),
                         ({"huge": 1 << 127}, "takes"), ({"bytes": [0] * 7 + [256]}, r"bytes\[7\]")):  # fmt: skip
        with pytest.raises(BadValue, match=words):
            layout.pack(wrong, "one")


def test_somebody_elses_named_tuple_goes_by_name(wide: Btf) -> None:
    other = namedtuple("other", ["level", "kind"])
    assert wide.layout("outer").unpack(wide.layout("outer").pack(other(5, 997)))[0] == 997
    with pytest.raises(BadValue, match="no member 'kin'"):
        wide.layout("outer").pack(namedtuple("other", ["kin"])(1))


def test_anchors_and_spelling(wide: Btf) -> None:
    assert sorted(wide.anchored().values()) == ["bits", "outer"]
    many = next(variable for variable in wide.variables(".bss") if variable.name == "many")
    assert wide.spelled(many.type_id) == "struct outer[3][2]" or "struct outer" in wide.spelled(many.type_id)
    with pytest.raises(NoSuchName, match="no type 'inner_thing'") as caught:
        wide.layout("inner_thing")
    assert "__attribute__((unused))" in str(caught.value.hint)
