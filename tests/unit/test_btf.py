# SPDX-License-Identifier: BSD-2-Clause
"""Types from an object's BTF: against objects compiled here, and against malformed data."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from pyebpf.core.btf import Btf
from pyebpf.core.object import Object, open_bundled
from pyebpf.errors import Error

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
