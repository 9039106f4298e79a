# SPDX-License-Identifier: BSD-2-Clause
"""Harnesses for what people write, which scripts may take from elsewhere: targets, expressions, configurations."""

from __future__ import annotations

import argparse
import functools
import gzip
from collections.abc import Iterator
from pathlib import Path

import pyebpf
from pyebpf.binary import signature as places
from pyebpf.binary import types
from pyebpf.binary.signature import Parameter, Piece, Place, Signature
from pyebpf.binary.types import Member, Text, Type, Variant
from pyebpf.cli import options as cli_options
from pyebpf.core.btf import Btf
from pyebpf.errors import Error, TargetError
from pyebpf.export import config as agent
from pyebpf.output.text import safe
from pyebpf.target.capture import PlanLayout, Question, compile
from pyebpf.target.expression import parse_condition, parse_value
from pyebpf.target.spec import parse as parse_spec
from pyebpf.tools.tcp.subnets import parse_subnets

from . import made
from .reader import packed, reader, unpacked

_SPECS = (
    b"./server:main.*.Mul",
    b"c:malloc",
    b"/usr/bin/node:v8::internal::Heap::*",
    b":handle_*",
    b"./a:f+0x5c",
    b"./a:0x401136",
    b"p:c:free",
    b"r:c:free",
    b"t:sched:sched_switch",
    b"a:::ns::f",
    b"/a:b/c:f",
    b"./x:operator+",
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@reader("target.spec", lambda: _SPECS, words=(b"::", b":", b"+0x", b"0x", b"*", b"p:", b"u:"), megabytes=64)
def spec(data: bytes) -> None:
    """Targets, FILE:PATTERN."""
    text = _text(data)
    for regex in (False, True):
        try:
            found = parse_spec(text, regex)
        except TargetError as error:
            assert safe(str(error)).isprintable(), "a message that a terminal must not see"
            continue
        assert found.text == text and (found.pattern or found.address is not None)
        assert found.offset is None or 0 <= found.offset < 1 << 63


_VALUES = ("args.A", "p->x", "items[0].ID", "*p", "len(x)", "ret(reply.C)", "arg0:gostr", "buf:bytes(16)", "latency",
           'reg("r14")', "*(u64)(arg2+8)", "n=args.B", "$pid", "comm", "std::foo::~x", "retval", "s", "o.Inner.Name",
           "c.Next.Next", "list", "m", "err", "shape", "arg1:str", "arg2:[]int", "sarg3", "o.Flag",
           "bits.a")  # fmt: skip
_CONDITIONS = ("args.A == 3 && !(n < -1)", 'startswith(name, "x\\n")', "latency > 10ms or pid != 0x1f", "err != nil",
               "(((p->x)))", "not ok and comm == 'c'", 'name == "abc"', "colour == RED", "o.Flag", "s != \"\"",
               "ret(n) >= 4 || latency < 1us")  # fmt: skip
_WORDS = (b"&&", b"||", b"!", b"(", b")", b"->", b".", b"[0]", b"len(", b"ret(", b"startswith(", b"reg(", b":gostr",
          b":bytes(8)",
          b"== nil", b"latency", b"10ms", b"0x", b'"', b"'", b"*(u64)(", b"not ", b" and ", b"=", b":str", b":[]int",
          b"$goid",
          b"o.Inner", b"list", b"shape", b"err", b"c.Next", b"bits.a", b"name", b"args")  # fmt: skip


@reader("target.expression", lambda: (one.encode() for one in _VALUES + _CONDITIONS), words=_WORDS, megabytes=64)
def expression(data: bytes) -> None:
    """Expressions and conditions."""
    text = _text(data)
    for parse in (parse_value, parse_condition):
        try:
            parse(text)
        except TargetError:
            pass


@functools.cache
def _layout() -> PlanLayout:
    folder = Path(pyebpf.__file__).parent / "objects"
    whole = gzip.decompress((folder / "x86-64" / "trace.bpf.o.gz").read_bytes())
    return PlanLayout.of(Btf(made.sections_of(whole)[".BTF"]))


def _signature() -> Signature:
    def at(*names: str) -> Place:
        pieces = [Piece(places.REGISTER, 8, 8 * number, name) for number, name in enumerate(names)]
        return Place(tuple(pieces))

    integer, byte, text = Type(types.INT, "int", 8), Type(types.UINT, "uint8", 1), Type(types.STRING, "string", 16)
    colour = Type(types.ENUM, "Colour", 4, enumerators={0: "RED", 1: "GREEN"})
    error = Type(types.INTERFACE, "error", 16, members=(Member("tab", 0, integer), Member("data", 8, integer)))
    inner = Type(types.STRUCT, "Inner", 24, members=(Member("Name", 0, text), Member("N", 16, integer)))
    outer = Type(types.STRUCT, "Outer", 48, members=(
        Member("Inner", 0, inner, embedded=True), Member("Next", 24, Type(types.POINTER, "*Inner", 8, target=inner)),
        Member("Flag", 32, Type(types.BOOL, "bool", 1)), Member("Ratio", 40, Type(types.FLOAT, "float64", 8)),
    ))  # fmt: skip
    pointer = Type(types.POINTER, "*Outer", 8, target=outer)
    vector = Type(types.SLICE, "[]int", 24, target=integer)
    args = Type(types.STRUCT, "Args", 16, members=(Member("A", 0, integer), Member("B", 8, integer)))
    table = Type(types.MAP, "map[int]int", 8)
    array = Type(types.ARRAY, "[4]uint8", 4, target=byte, count=4)
    choice = Type(types.VARIANT, "Shape", 16, members=(Member("tag", 0, integer),), variants=(
        Variant(0, Member("Circle", 8, Type(types.FLOAT, "f64", 8))), Variant(None, Member("Square", 8, integer)),
    ))  # fmt: skip
    rust = Type(types.RUST_STRING, "String", 24, text=Text(0, 8))
    parameters = (
        Parameter("args", args, at("di", "si")), Parameter("p", pointer, at("ax")), Parameter("name", text, at("bx",
                  "cx")),
        Parameter("list", vector, at("r8", "r9", "r10")), Parameter("m", table, at("r11")), Parameter("c", pointer,
                  at("dx")),
        Parameter("o", outer, Place((Piece(places.STACK, 48, 0, "sp", 8),))), Parameter("colour", colour, at("di")),
        Parameter("shape", choice, at("ax", "bx")), Parameter("err", error, at("ax", "bx")),
        Parameter("raw", array, Place((Piece(places.MEMORY, 4, 0, "ax", 16),))), Parameter("n", integer, at("r12")),
        Parameter("gone", integer, Place((Piece(places.ABSENT, 8),))), Parameter("rust", rust, Place(
            (Piece(places.MEMORY, 24, 0, "si", 0),))), Parameter("five", integer, Place((Piece(places.CONSTANT, 8, 0,
            "", 0, 5),))),
    )  # fmt: skip
    words = ("ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11")
    return Signature(parameters, (Parameter("~r0", error, at("ax", "bx")),), words, words, 8, 0, "fuzzed", "")


def _questions() -> Iterator[bytes]:
    for number, value in enumerate(_VALUES):
        yield packed(value.encode(), _CONDITIONS[number % len(_CONDITIONS)].encode(), b"name", bytes([80, number]))


@reader("target.capture target.names target.operand target.expand target.condition target.steps target.spelled "
        "target.members", _questions, pieces=4, words=_WORDS)  # fmt: skip
def plan(data: bytes) -> None:
    """Expressions with a function's parameters: compiled to steps."""
    value, condition, result, numbers = unpacked(data, 4)
    size, how = numbers.ljust(2, b"\0")[:2]
    values = tuple(_text(part) for part in value.split(b"\0") if part)[:20]
    results = tuple(_text(part) for part in result.split(b"\0") if part)[:20]
    question = Question(values, results, _text(condition), bool(how & 1), size, bool(how & 2))
    try:
        made = compile(question, [_signature()], _layout())
    except TargetError:
        return
    assert len(made.steps) % 8 == 0 and made.longest > 0


_CONFIG = b"""
listen = "127.0.0.1:9435" # here
interval = "500ms"
max_memory = "200MB"
[otlp]
endpoint = "http://localhost:4318"
headers = { a = "b" }
[[trace]]
name = "server"
tool = "latency"
targets = ["./server:main.*", 'c:malloc']
max_rate = 1000
labels = { env = "prod" }
[[trace]]
tool = "tcplife"
[trace.select]
comm = "x*"
"""
_CONFIGS = (_CONFIG, _CONFIG.replace(b"\n", b"\r\n"), b'[[trace]]\ntargets = "c:free"\n', b'a.b."c d".e = """x\n"""\n',
            b"a = [1, [2, {b = 1e9, c = nan}], 2020-01-01T00:00:00Z]\n[b.c]\nd = 0xff\n")  # fmt: skip


@reader("export.config export.toml export.values", lambda: _CONFIGS, longest=32 << 10,
        words=(b"[[trace]]", b"[otlp]", b"targets = ", b"tool = ", b'"""', b"'''", b"listen = ", b"select.", b"pid = ",
               b"unit = ", b"cgroup = ", b"labels", b"max_rate = ", b"inf", b"1_0", b"\\u0000"))  # fmt: skip
def config(data: bytes) -> None:
    """The agent's configuration: everything wrong with it is said, with its line, as one error."""
    try:
        agent.parse(data.decode())
    except (agent.ConfigError, UnicodeDecodeError):
        pass


def _arguments() -> Iterator[bytes]:
    yield from (b"80,443", b"10.0.0.0/8", b"::/0,192.0.2.1", b"1e9", b"0.5", b"root", b"[::1]:9435", b"200MB",
                 b"60s", b"12",
                 b"999999999999999999999")  # fmt: skip


@reader("tools.tcp.subnets export.values", _arguments, longest=8 << 10, megabytes=64,
        words=(b"/", b"::", b"e", b"_", b"inf", b"nan", b"-1", b"KiB", b"0x"))  # fmt: skip
def options(data: bytes) -> None:
    """Values of options: numbers, sizes, times, ports, subnets, addresses."""
    from pyebpf.export import values
    from pyebpf.target.command import _arguments as words_of

    text = _text(data)
    for read in (cli_options.positive_seconds, cli_options.milliseconds, cli_options.positive_count, cli_options.ports,
                 cli_options.whole_number, cli_options.user):  # fmt: skip
        try:
            read(text)
        except argparse.ArgumentTypeError:
            pass
    for value in (values.address, values.seconds, values.size):
        try:
            value(text)
        except ValueError:
            pass
    for ask in (lambda: parse_subnets(text.split(",")), lambda: words_of(text)):
        try:
            ask()
        except Error:
            pass
