# SPDX-License-Identifier: BSD-2-Clause
"""Files made of pieces: an ELF file around sections, and real programs to take the first sections from."""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"

BASE = 0x400000
X86, ARM = 62, 183
ALLOC, WRITE, EXEC = 2, 1, 4


def elf(
    sections: Sequence[tuple[str, int, int, bytes]],
    machine: int = X86,
    kind: int = 3,
    links: dict[str, tuple[int, int]] | None = None,
    headers: Sequence[tuple[int, str]] = (),
) -> bytes:
    """An ELF file.

    Args:
        sections: (name, type, flags, contents); those with ALLOC lie in memory, at BASE + their offset.
        machine: X86 or ARM.
        kind: ET_EXEC, ET_DYN or ET_REL.
        links: by name of a section: its sh_link and sh_entsize.
        headers: program headers besides PT_LOAD: (type, the section they cover).
    """
    links = links or {}
    names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in sections) + b".shstrtab\0"
    loaded = [section for section in sections if section[2] & ALLOC]
    count = (1 if loaded else 0) + len(headers)
    body = bytearray(64 + 56 * count)
    table, segments = [struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)], []
    places: dict[str, tuple[int, int]] = {}
    name_at = 1
    for name, what, flags, contents in [*sections, (".shstrtab", 3, 0, names)]:
        body += bytes(-len(body) % 16)
        at, address = len(body), BASE + len(body) if flags & ALLOC else 0
        body += contents
        places[name] = at, len(contents)
        link, size = links.get(name, (0, 0))
        table.append(struct.pack("<IIQQQQIIQQ", name_at, what, flags, address, at, len(contents), link, 0, 1, size))
        name_at += len(name) + 1
    body += bytes(-len(body) % 8)
    if loaded:
        segments.append(struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, len(body), len(body), 0x1000))
    for what, name in headers:
        at, size = places[name]
        segments.append(struct.pack("<IIQQQQQQ", what, 4, at, BASE + at, BASE + at, size, size, 4))
    body[64 : 64 + 56 * count] = b"".join(segments)
    body[:64] = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", kind, machine, 1, BASE, 64 if count else 0, len(body), 0, 64, 56, count,
        64, len(table), len(table) - 1,
    )  # fmt: skip
    return bytes(body) + b"".join(table)


def address_of(image: bytes, name: str) -> int:
    """The address of a section of a file that `elf` made, 0 if it isn't there."""
    for found, address, _, _ in headers_of(image):
        if found == name:
            return address
    return 0


def headers_of(image: bytes) -> list[tuple[str, int, int, int]]:
    """(name, address, offset, size) of the sections of a sound file."""
    at, count, names = *struct.unpack_from("<Q", image, 40), *struct.unpack_from("<HH", image, 60)
    rows = [struct.unpack_from("<IIQQQQ", image, at + 64 * index) for index in range(count)]
    start = rows[names][4]
    return [
        (image[start + row[0] : image.index(b"\0", start + row[0])].decode(), row[3], row[4], row[5]) for row in rows
    ]


def sections_of(image: bytes) -> dict[str, bytes]:
    """Contents of the sections of a sound file, by name."""
    return {name: image[offset : offset + size] for name, _, offset, size in headers_of(image) if name}


@functools.cache
def built(source: str, command: str, suffix: str = ".c") -> bytes:
    """A program built from a text, b"" where there is no such compiler; ``command`` has IN and OUT for the files."""
    words = command.split()
    if shutil.which(words[0]) is None:
        return b""
    with tempfile.TemporaryDirectory(prefix="pyebpf-fuzz-") as folder:
        names = {"IN": f"in{suffix}", "OUT": "out"}
        Path(folder, names["IN"]).write_text(source)
        done = subprocess.run([names.get(word, word) for word in words], cwd=folder, capture_output=True, text=True)
        return Path(folder, "out").read_bytes() if done.returncode == 0 else b""


C = r"""
#include <stdint.h>
struct node { int a : 3; unsigned b : 5; union { int i; float f; } u; struct node *next; short rows[2][3]; };
enum mode { OFF, ON = 7 };
typedef enum mode mode_t_;
__attribute__((noinline)) int work(int n, struct node *node, mode_t_ m, double d, const char *text)
{ return n + node->a + (int)m + (int)d + text[0]; }
__attribute__((noinline)) int choose(int n, volatile int *out)
{ switch (n) { case 0: *out = 3; return 5; case 1: *out = 8; break; case 2: return *out; case 3: *out = 9; break;
  case 4: *out = 10; break; case 5: return 77 + *out; case 6: *out += 4; } return n * 3; }
void _start(void) { volatile int x = 0; struct node node = {0}; choose(work(1, &node, ON, 2.0, "x"), &x);
  for (;;) x++; }
"""

CPP = r"""
namespace shapes { template <class T> struct Box { T value; Box *next; virtual T get() const { return value; }
  virtual ~Box() {} }; enum class Mode : char { Off, On }; struct Big { long a[9]; Big(const Big &); int &r; }; }
template <class T> __attribute__((noinline)) T area(const shapes::Box<T> &b, shapes::Mode m) { return b.get() + (T)m; }
extern "C" void __cxa_pure_virtual() {} void operator delete(void *, unsigned long) {}
extern "C" int puts(const char *); struct Cleaner { int *p; ~Cleaner() { *p = 1; } };
__attribute__((noinline)) void thrower(int n) { if (n) throw n; }
extern "C" int _start_(int n) { int x = 0; try { Cleaner c{&x}; thrower(n); } catch (int e) { x = e; }
  shapes::Box<int> b; b.value = 3; return x + area(b, shapes::Mode::On); }
"""

RUST = r"""
#![no_std]
#![crate_type = "cdylib"]
#[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
pub enum Shape { Circle(f64), Square { side: u32 }, Empty }
pub struct Point<'a> { pub x: i32, pub name: &'a str, pub rest: Option<&'a Point<'a>> }
#[inline(never)] #[no_mangle]
pub fn area(shape: &Shape, points: &[Point], pair: (u32, char), text: Option<&str>, sized: [u16; 3]) -> usize {
    let first = match shape { Shape::Circle(r) => *r as usize, Shape::Square { side } => *side as usize,
                                            Shape::Empty => 0 };
    first + points.len() + pair.0 as usize + text.map_or(0, str::len) + sized[1] as usize }
"""
