# SPDX-License-Identifier: BSD-2-Clause
"""Every kind of map as a mapping, and maps that are pinned and used again."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, MutableMapping

import ownprograms
import pytest

from pyebpf.core.map import Map, possible_cpus
from pyebpf.core.object import Object
from pyebpf.errors import BadValue, LibbpfError, LoadError, StateError, TargetNotFound, Unsupported


@pytest.fixture
def obj() -> Iterator[Object]:
    with ownprograms.opened("maps") as made:
        made.load()
        yield made


def test_a_hash_is_a_mapping(obj: Object) -> None:
    counts = obj.maps["hash"]
    assert isinstance(counts, MutableMapping) and not counts and len(counts) == 0 and 997 not in counts
    counts[997] = 23
    counts.update({number: number * 3 for number in range(10007)})
    assert len(counts) == 10007 and counts[997] == 2991 and counts.get(10007) is None and counts.get(10007, 5) == 5
    assert dict(counts) == dict(counts.items()) == {number: number * 3 for number in range(10007)}
    assert sorted(counts) == sorted(counts.keys()) == list(range(10007)) and sum(counts.values()) == 3 * 10007 * 5003
    assert counts.pop(23) == 69 and 23 not in counts and counts.pop(23, None) is None
    del counts[97]
    for gone in (lambda: counts[97], lambda: counts.pop(97), lambda: counts.__delitem__(97)):
        with pytest.raises(KeyError):
            gone()
    assert counts.setdefault(97, 5) == 5 and counts.setdefault(97, 6) == 5
    counts.update([(1, 1)])
    key, value = counts.popitem()
    assert key not in counts and isinstance(value, int) and counts == counts and hash(counts)
    counts.clear()
    assert len(counts) == 0 and not counts
    counts.update(dict.fromkeys(range(997), 1))
    assert len(dict(counts.take())) == 997 and not counts


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("hash", "1", 1, "map hash: key: u32 takes an integer, got str '1'"),
        ("hash", -1, 1, "map hash: key: u32 takes 0 to 4294967295, got int -1"),
        ("hash", 1, 1 << 64, "map hash: value: u64 takes 0 to 18446744073709551615"),
        ("hash", (1, 2), 1, "map hash: key: u32 takes an integer, got tuple"),
        ("hash", 1, None, "map hash: value: u64 takes an integer, got NoneType None"),
        ("structs", 5, {}, "map structs: key: struct key takes a dict, or a sequence of 3"),
        ("structs", {"pid": "x"}, {}, r"map structs: key\.pid: u32 takes an integer, got str 'x'"),
        ("structs", {"pid": 1}, {"grid": [[1, 2, 3], [4, 5, 40000]]}, r"value\.grid\[1\]\[2\]: short takes -32768 to"),
        ("array", 23, 1, "map array: key: it has elements 0 to 22, got 23"),
        ("percpu", 0, 5, "map percpu: value: a list of"),
        ("routes", {"address": b"12345"}, 1, r"map routes: key\.address: unsigned char\[4\] takes 4 bytes"),
        ("untyped", 5, b"12345", "map untyped: key: it declares no C type: 3 bytes are wanted, got int 5"),
        ("tails", 0, "x", "map tails: value: a program, map or file descriptor"),
        ("queue", 0, 1, r"map queue has no keys: it is a queue: push\(\), peek\(\) and pop\(\)"),
    ],
)
def test_keys_and_values_that_do_not_fit(obj: Object, name: str, key: object, value: object, words: str) -> None:
    with pytest.raises(BadValue, match=words) as caught:
        obj.maps[name][key] = value
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)
    with pytest.raises(BadValue, match=words):
        obj.maps[name].update({key if isinstance(key, (str, int, tuple)) else 0: value} if not isinstance(key, dict)
                              else [(key, value)])  # fmt: skip


def test_structures_as_keys_and_values(obj: Object) -> None:
    structs = obj.maps["structs"]
    for port in range(97):
        structs[{"pid": 997, "port": port, "name": "x"}] = {"count": port, "flags": {"negative": -port % 16}}
    assert len(structs) == 97
    by_port = {key.port: value for key, value in structs.items()}
    assert all(value.count == port and value.flags.negative == -port % 16 for port, value in by_port.items())
    first = next(iter(structs))
    assert structs[first].count == first.port and structs[tuple(first)] == structs[first] and first in structs
    structs[first] = structs[first]._replace(count=10007)
    assert structs[first].count == 10007
    del structs[first]
    assert (997, first.port, b"x") not in structs


def test_keys_with_more_than_their_members_say(obj: Object) -> None:
    """Bytes behind a text's end, and between members, are part of a key."""
    structs = obj.maps["structs"]
    for number in range(23):
        structs[bytes((1, 0, 0, 0, 2, 0)) + b"ab\0" + bytes((number,)) * 5 + b"\xff\xff"] = {"count": number}
    assert {tuple(key) for key in structs} == {(1, 2, b"ab")}
    one_by_one = structs._items_one_by_one(structs._key_layout(), delete=False)
    assert sorted(value.count for _, value in one_by_one) == list(range(23))
    structs.clear()
    assert len(structs) == 0 and not structs


def test_sizes_that_are_not_the_types() -> None:
    with ownprograms.opened("maps") as obj:
        changed = obj.maps["hash"]
        changed.value_size = 4096
        obj.programs["touch"].autoload = obj.programs["walk"].autoload = False
        obj.load()
        changed[5] = b"x" * 4096
        assert changed[5] == b"x" * 4096 and dict(changed.items()) == {5: b"x" * 4096}
        with pytest.raises(BadValue, match="4096 bytes are wanted"):
            changed[5] = 23


def test_a_full_map_says_so(obj: Object) -> None:
    structs = obj.maps["structs"]
    with pytest.raises(LibbpfError, match="map structs is full: it has room for 128"):
        structs.update(({"pid": number}, {}) for number in range(997))
    assert len(structs) == 128
    lru = obj.maps["lru"]
    lru.update({number: number for number in range(997)})
    assert 0 < len(lru) <= 64 and 996 in lru


def test_arrays(obj: Object) -> None:
    array = obj.maps["array"]
    assert len(array) == 23 and list(array) == list(range(23)) and array[22] == 0 and 22 in array and 23 not in array
    array.update({index: -index for index in range(23)})
    assert list(array.values()) == [-index for index in range(23)]
    with pytest.raises(KeyError):
        array[23]
    for forbidden in (array.clear, lambda: array.__delitem__(1), lambda: array.pop(1)):
        with pytest.raises(BadValue, match="map array is an array"):
            forbidden()


def test_per_cpu(obj: Object) -> None:
    cpus = possible_cpus()
    percpu, structs = obj.maps["percpu"], obj.maps["percpu_hash"]
    percpu[1] = list(range(7, 7 + cpus))
    assert percpu[1] == list(range(7, 7 + cpus)) and percpu[2] == [0] * cpus and len(percpu) == 3
    structs.update({number: [(number, cpu, b"") for cpu in range(cpus)] for number in range(23)})
    assert [value.port for value in structs[5]] == list(range(cpus)) and len(dict(structs.items())) == 23
    obj.programs["touch"].run(bytes(64), repeat=1)
    assert sum(percpu[0]) >= 1


def test_routes(obj: Object) -> None:
    routes = obj.maps["routes"]
    routes.update([((8, b"\x0a\0\0\0"), 1), ((16, b"\x0a\1\0\0"), 2), ((0, bytes(4)), 3)])
    found = [routes[(32, bytes(address))] for address in ((10, 9, 9, 9), (10, 1, 9, 9), (11, 1, 1, 1))]
    assert found == [1, 2, 3] and len(routes) == 3
    assert sorted(key.prefix for key in routes) == [0, 8, 16]
    del routes[{"prefix": 16, "address": [10, 1, 0, 0]}]
    assert routes[(32, bytes((10, 1, 9, 9)))] == 1
    routes.clear()
    assert not routes


def test_queue_and_stack(obj: Object) -> None:
    queue, stack = obj.maps["queue"], obj.maps["stack"]
    for empty in (queue.pop, queue.peek, stack.pop):
        with pytest.raises(KeyError, match="is empty"):
            empty()
    for number in (2, 3, 5, 7, 11):
        queue.push(number)
        stack.push({"pid": number})
    with pytest.raises(LibbpfError, match="map queue is full"):
        queue.push(13)
    queue.push(13, force=True)
    assert queue.peek() == 3 and [queue.pop() for _ in range(5)] == [3, 5, 7, 11, 13]
    assert [stack.pop().pid for _ in range(5)] == [11, 7, 5, 3, 2]
    obj.programs["touch"].run(bytes(64))
    assert queue.pop() == 42
    queue.push(1)
    queue.clear()
    for other in (lambda: obj.maps["hash"].push(1), lambda: obj.maps["hash"].peek(), lambda: obj.maps["hash"].pop()):
        with pytest.raises(BadValue):
            other()


def test_programs_and_maps_in_maps(obj: Object) -> None:
    touch, tails, outer = obj.programs["touch"], obj.maps["tails"], obj.maps["outer"]
    assert touch.run(bytes(64)).result == 1  # XDP_DROP
    tails[1] = obj.programs["landed"]
    assert isinstance(tails[1], int) and touch.run(bytes(64)).result == 3  # XDP_TX
    del tails[1]
    assert touch.run(bytes(64)).result == 1
    with outer.inner(0) as inner:
        assert inner.max_entries == 1
    with Map.create(2, 4, 8, 1, "mine") as mine:
        outer[1] = mine
        touch.run(bytes(64))
        touch.run(bytes(64))
        assert struct.unpack("<Q", mine[0]) == (46,)
        with outer.inner(1) as again:
            assert again[0] == mine[0]
    with pytest.raises(BadValue, match="no map of maps"):
        obj.maps["hash"].inner(1)


def test_stacks(obj: Object) -> None:
    with obj.programs["walk"].attach():
        os.getpgid(0)
    words = obj.maps["stacks"][obj.maps["hash"][1]]
    assert 0 < len(words) <= 16 and all(isinstance(word, int) and word for word in words)


def test_memory(obj: Object) -> None:
    shared = obj.maps["shared"]
    shared[3] = 997
    with memoryview(shared.memory()) as memory, memory.cast("Q") as words:
        assert words[3] == 997
        words[5] = 23
    assert shared[5] == 23
    with pytest.raises(Unsupported, match="BPF_F_MMAPABLE"):
        obj.maps["array"].memory()


def test_bytes_where_no_type_is_declared(obj: Object) -> None:
    untyped = obj.maps["untyped"]
    untyped[b"abc"] = b"12345"
    assert dict(untyped) == {b"abc": b"12345"}


def test_pinned_by_hand_and_opened_again() -> None:
    with ownprograms.bpffs() as folder:
        with ownprograms.opened("maps") as obj:
            obj.load()
            counts, structs = obj.maps["hash"], obj.maps["structs"]
            counts[997] = 23
            structs[{"pid": 23}] = {"count": 5}
            counts.pin(f"{folder}/counts")
            structs.pin(f"{folder}/structs")
            assert counts.pin_path == f"{folder}/counts"
            with pytest.raises(StateError, match="the name is taken"):
                structs.pin(f"{folder}/counts")
            with pytest.raises(LibbpfError, match="no name with a dot"):
                structs.pin(f"{folder}/with.dot")
            with pytest.raises(LibbpfError, match="isn't in a BPF file system"):
                structs.pin("/tmp/no-bpffs")
            with pytest.raises(TargetNotFound, match=r"there is no .*/nowhere"):
                structs.pin(f"{folder}/nowhere/x")
        with Map.open(f"{folder}/counts") as counts, Map.open(f"{folder}/structs") as structs:
            assert dict(counts) == {997: 23} and structs[{"pid": 23}].count == 5 and counts.max_entries == 20000
            with pytest.raises(BadValue, match="key: u32 takes an integer"):
                counts["x"]
            with pytest.raises(StateError):
                counts.max_entries = 5
        with pytest.raises(StateError, match="closed"):
            counts[997]
        with ownprograms.opened("maps") as obj:
            obj.maps["hash"].reuse(f"{folder}/counts")
            with pytest.raises(BadValue, match="another kind of map"):
                obj.maps["structs"].reuse(f"{folder}/counts")
            with pytest.raises(TargetNotFound, match="there is no"):
                obj.maps["structs"].reuse(f"{folder}/no_such_pin")
            obj.load()
            assert obj.maps["hash"][997] == 23
            assert obj.rodata is not None
            obj.programs["touch"].run(bytes(64))
            assert obj.maps["hash"][997] == 28  # the program uses the reused map
            obj.maps["hash"].unpin()
            with pytest.raises(TargetNotFound):
                Map.open(f"{folder}/counts")
            with pytest.raises(StateError, match="isn't pinned"):
                obj.maps["array"].unpin()
            obj.programs["touch"].pin(f"{folder}/program")
            with pytest.raises(BadValue, match="no map but a prog"):
                Map.open(f"{folder}/program")


def test_pinned_by_name() -> None:
    with ownprograms.bpffs() as folder:
        for round in range(3):
            with ownprograms.opened("pins", pin_root=folder) as obj:
                obj.load()
                assert obj.maps["kept"].pin_path == f"{folder}/kept" and obj.maps["kept"][0] == round * 23
                with obj.programs["on_call"].attach():
                    for _ in range(23):
                        os.getpgid(0)
        with ownprograms.opened("pins", pin_root=folder) as obj:
            obj.maps["kept"].max_entries = 5
            with pytest.raises(LoadError, match="kept"):
                obj.load()
        os.unlink(f"{folder}/kept")
