# SPDX-License-Identifier: BSD-2-Clause
"""The grammar of targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyebpf.errors import TargetError
from pyebpf.target.spec import Spec, parse


@pytest.mark.parametrize(
    ("text", "file", "pattern"),
    [
        ("./server:main.*.Mul", "./server", "main.*.Mul"),
        ("./server:main.(*Arith).Mul", "./server", "main.(*Arith).Mul"),
        ("./server:github.com/x/y.(*T).M", "./server", "github.com/x/y.(*T).M"),
        ("./server:main.Sum[go.shape.int]", "./server", "main.Sum[go.shape.int]"),
        ("./server:runtime.*.gc*", "./server", "runtime.*.gc*"),
        ("c:malloc", "c", "malloc"),
        ("stdc++:std::*", "stdc++", "std::*"),
        ("libc.so.6:str*", "libc.so.6", "str*"),
        ("node:v8::internal::Heap::*", "node", "v8::internal::Heap::*"),
        ("/usr/bin/node:v8::internal::Heap::*", "/usr/bin/node", "v8::internal::Heap::*"),
        ("/usr/bin/envoy:proxy_wasm*exports*", "/usr/bin/envoy", "proxy_wasm*exports*"),
        (":handle_*", "", "handle_*"),
        (":ns::f", "", "ns::f"),
        ("node:::v8::f", "node", "::v8::f"),
        ("a::b:c", "a::b", "c"),
        ("/bin/x:operator+", "/bin/x", "operator+"),
        ("/bin/x:f(std::map<int, char>)", "/bin/x", "f(std::map<int, char>)"),
        ("p:c:malloc", "c", "malloc"),
        ("p::main", "", "main"),
        ("p:./server:main.*", "./server", "main.*"),
        ("p:node:v8::f", "node", "v8::f"),
        ("r:ns::f", "r", "ns::f"),
        ("t:main", "t", "main"),
        ("./r:main", "./r", "main"),
        ("c:*", "c", "*"),
    ],
)
def test_file_and_pattern(text: str, file: str, pattern: str) -> None:
    assert parse(text) == Spec(text, file, pattern, None, None, False)


@pytest.mark.parametrize(
    ("text", "pattern", "offset"),
    [
        ("./server:main.*.Mul+92", "main.*.Mul", 92),
        ("./server:main.main+0x5C", "main.main", 0x5C),
        ("./server:main.main+0", "main.main", 0),
        ("p:c:malloc+4", "malloc", 4),
        ("x:operator++4", "operator+", 4),
    ],
)
def test_offset(text: str, pattern: str, offset: int) -> None:
    spec = parse(text)
    assert (spec.pattern, spec.offset, spec.address) == (pattern, offset, None)


def test_address() -> None:
    assert parse("/bin/x:0x401136") == Spec("/bin/x:0x401136", "/bin/x", "", None, 0x401136, False)
    assert parse(":0X40").address == 0x40
    assert parse("x:0x12g").pattern == "0x12g"


def test_regular_expression_has_no_offset() -> None:
    spec = parse("c:mal+2", regex=True)
    assert (spec.pattern, spec.offset, spec.regex) == ("mal+2", None, True)


def test_path_with_a_colon(tmp_path: Path) -> None:
    program = tmp_path / "a:b" / "prog:1"
    program.parent.mkdir()
    program.touch()
    spec = parse(f"{program}:ns::f")
    assert (spec.file, spec.pattern) == (str(program), "ns::f")
    spec = parse(f"{tmp_path}/gone:x:y")
    assert (spec.file, spec.pattern) == (f"{tmp_path}/gone", "x:y")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("do_sys_open", "kernel functions are not supported yet"),
        ("std::foo", "kernel functions are not supported yet"),
        ("::foo", "kernel functions are not supported yet"),
        ("./server", "names a file but no function"),
        ("./server:", "names no function"),
        ("./server:+4", "no function"),
        ("./server:f+99999999999999999999", "too large"),
        ("./server:f+" + "9" * 10000, "too large"),
        ("./server:0xffffffffffffffff", "too large"),
        ("a\0b:c", "NUL"),
        ("x:" + "y" * 100000, "too long"),
        ("r:c:malloc", "return probe"),
        ("r::main", "return probe"),
        ("t:sched:sched_switch", "tracepoint"),
        ("u:pthread:mutex_entry", "USDT"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse(text)
    assert says in str(caught.value)


def test_kernel_function_says_what_to_write() -> None:
    with pytest.raises(TargetError) as caught:
        parse("vfs_read")
    assert caught.value.hint == "for a user function write PATH:FUNC"
