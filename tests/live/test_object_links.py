# SPDX-License-Identifier: BSD-2-Clause
"""Every way to attach an embedder's program, counted."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ownprograms
import pytest

from pyebpf.core import kernel, mount, uprobes
from pyebpf.core.attached import Link
from pyebpf.core.object import Object
from pyebpf.core.uprobes import static_probes
from pyebpf.errors import (
    AttachError,
    BadValue,
    LibbpfError,
    LoadError,
    PermissionDenied,
    StateError,
    TargetError,
    TargetNotFound,
    UnsafeProbe,
    Unsupported,
)

ENTRY, COOKIE, RETURN, USDT, MULTI, SESSION, TRACEPOINT, RAW, BTF, SAMPLE = range(10)
COOKIES, UPROBE_MULTI, SESSIONS = (5, 15), (6, 6), (6, 13)


def loaded(name: str = "links", **constants: int) -> Object:
    """The object, without the programs this kernel is too old for."""
    obj = ownprograms.opened(name)
    if name == "links":
        for program, minimum in (("on_cookie", COOKIES), ("on_multi", COOKIES), ("on_session", SESSIONS)):
            obj.programs[program].autoload = kernel.release() >= minimum
    if obj.rodata is not None and "only" in obj.rodata:
        obj.rodata["only"] = os.getpid()
    obj.load()
    return obj


@pytest.fixture
def obj() -> Iterator[Object]:
    with loaded() as made:
        yield made


def needs(minimum: tuple[int, int]) -> None:
    if kernel.release() < minimum:
        pytest.skip(f"before Linux {minimum[0]}.{minimum[1]}")


def calls(obj: Object, which: int) -> int:
    assert obj.bss is not None
    return int(obj.bss["calls"][which])


def getpgids(count: int) -> None:
    for _ in range(count):
        os.getpgid(0)


def times(count: int, function: Callable[..., Any], *arguments: Any) -> None:
    for _ in range(count):
        function(*arguments)


def test_uprobe_and_uretprobe(obj: Object) -> None:
    path, library = ownprograms.target()
    assert obj.bss is not None
    with obj.programs["on_entry"].attach_uprobe(path, "work", pid=os.getpid()) as link:
        assert link.fd > 0 and link.attached and "work" in link.name
        with obj.programs["on_return"].attach_uretprobe(path, symbol="work"):
            times(997, library.work, 23)
            assert obj.bss["last_argument"] == 69
        times(23, library.work, 10007)
        assert obj.bss["last_argument"] == 10007
    times(5, library.work, 1)
    assert (calls(obj, ENTRY), calls(obj, RETURN)) == (997 + 23, 997) and not link.attached
    link.detach()
    with pytest.raises(StateError, match="detached"):
        _ = link.fd


def test_an_attachment_stands_without_its_link(obj: Object) -> None:
    path, library = ownprograms.target()
    obj.programs["on_entry"].attach_uprobe(path, "work_too")
    times(997, library.work_too, 1)
    assert calls(obj, ENTRY) == 997


def test_cookies(obj: Object) -> None:
    path, library = ownprograms.target()
    assert obj.bss is not None
    if kernel.release() < COOKIES:
        with pytest.raises(Unsupported) as caught:
            obj.programs["on_entry"].attach_uprobe(path, "work", cookie=23)
        assert caught.value.minimum == "Linux 5.15"
        return
    with obj.programs["on_cookie"].attach_uprobe(path, "work", cookie=997), \
            obj.programs["on_cookie"].attach_uprobe(path, "work_too", cookie=1 << 63):  # fmt: skip
        library.work(1)
        assert obj.bss["last_cookie"] == 997
        library.work_too(1)
        assert obj.bss["last_cookie"] == 1 << 63


def test_offsets_are_instructions(obj: Object) -> None:
    from pyebpf.binary.disasm import decode
    from pyebpf.binary.image import Image

    path, library = ownprograms.target()
    with Image.open(path) as image:
        function = image.search("work")[0]
        code = image.elf.read(function.address, function.size)
        starts = [one.address - function.address for one in decode(image.elf.machine, code, function.address)]
    entry = obj.programs["on_entry"]
    for start in starts[1:]:
        with entry.attach_uprobe(path, "work", offset=start), entry.attach_uprobe(path, offset=function.offset + start):
            before = calls(obj, ENTRY)
            times(23, library.work, 1)
            assert calls(obj, ENTRY) - before == 46
    for wrong in sorted(set(range(function.size)) - set(starts)):
        with pytest.raises(UnsafeProbe, match="beginning of an instruction"):
            entry.attach_uprobe(path, "work", offset=wrong)
        with pytest.raises(UnsafeProbe, match="beginning of an instruction"):
            entry.attach_uprobe(path, offset=function.offset + wrong)
    refused = [(function.size, "work", TargetError), (-1, "work", TargetError), (5, None, TargetError),
               (1 << 40, None, TargetError), (0, None, BadValue)]  # fmt: skip
    for offset, symbol, error in refused:
        with pytest.raises(error):
            entry.attach_uprobe(path, symbol, offset=offset)


def test_a_return_probe_is_at_a_functions_entry(obj: Object, tmp_path: Path) -> None:
    """Elsewhere the kernel would overwrite what lies on the stack. Refused by whatever way."""
    from pyebpf.binary.disasm import decode
    from pyebpf.binary.image import Image

    path, library = ownprograms.target()
    with Image.open(path) as image:
        function = image.search("work")[0]
        code = image.elf.read(function.address, function.size)
        second = [one.address for one in decode(image.elf.machine, code, function.address)][1] - function.address
    on_return = obj.programs["on_return"]
    for wrong in (lambda: on_return.attach_uretprobe(path, "work", offset=second),
                  lambda: on_return.attach_uretprobe(path, offset=function.offset + second),
                  lambda: on_return.attach_uprobe_multi(path, offsets=[function.offset, function.offset + second]),
                  lambda: obj.programs["on_entry"].attach_uprobe_multi(path, offsets=[function.offset + second],
                                                                       on_return=True)):  # fmt: skip
        with pytest.raises(UnsafeProbe, match="isn't known to be a function's entry"):
            wrong()
    if kernel.release() >= SESSIONS:
        with pytest.raises(UnsafeProbe, match="isn't known to be a function's entry"):
            obj.programs["on_session"].attach_uprobe_multi(path, offsets=[function.offset + second])
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", stripped, path], check=True)
    for binary in (path, str(stripped)):  # where only unwind tables tell
        with on_return.attach_uretprobe(binary, offset=function.offset):
            times(23, library.work, 1)
    assert calls(obj, RETURN) == 23
    with on_return.attach_uprobe_multi(path, "work*"):  # its section says that it is for returns
        assert library.work(5) == 15 and obj.bss["last_argument"] == 15
    text = (ownprograms.FOLDER / "pins.bpf.c").read_text().replace("__uint(pinning, LIBBPF_PIN_BY_NAME);", "").replace(
        'SEC("tp/syscalls/sys_enter_getpgid")', f'SEC("uretprobe/{path}:work+{second:#x}")')
    with Object.open(_compiled(tmp_path, text)) as own:
        own.load()
        with pytest.raises(UnsafeProbe, match="isn't known to be a function's entry"):
            own.attach()


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """What is probed is the file whose places were looked up."""
    path, _ = ownprograms.target()
    binary, other = tmp_path / "target.so", tmp_path / "other"
    shutil.copy(path, binary)
    other.write_bytes(b"something else")
    before = len(os.listdir("/proc/self/fd"))
    with uprobes._Binary(str(binary)) as file:
        os.replace(other, binary)
        assert Path(file.held).read_bytes() == Path(path).read_bytes() and file.path == str(binary)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(TargetError, match="not an ELF file"):
        uprobes._Binary(str(binary))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_there(obj: Object) -> None:
    path, _ = ownprograms.target()
    entry = obj.programs["on_entry"]
    with pytest.raises(TargetNotFound, match="no function 'wrok'") as caught:
        entry.attach_uprobe(path, "wrok")
    assert "work" in caught.value.close_matches
    for binary in ("/no/such/file", "nosuchprogram", "libnosuch.so.6"):
        with pytest.raises(TargetNotFound):
            entry.attach_uprobe(binary, "main")
    with pytest.raises(TargetError):
        entry.attach_uprobe("/etc/passwd", "main")
    with pytest.raises(TargetNotFound, match="process 4194305 is gone"):
        entry.attach_uprobe(path, "work", pid=4194305)
    for cookie in (-1, 1 << 64, "x"):
        with pytest.raises(BadValue, match="a cookie is an integer of 64 bits"):
            entry.attach_uprobe(path, "work", cookie=cookie)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="a symbol is a text"):
        entry.attach_uprobe(path, b"work")  # type: ignore[arg-type]
    for pid in (0, -1):
        for attach in (lambda pid: entry.attach_uprobe(path, "work", pid=pid),
                       lambda pid: entry.attach_uprobe_multi(path, "work*", pid=pid),
                       lambda pid: obj.programs["on_usdt"].attach_usdt(path, "mine", "visited", pid=pid)):  # fmt: skip
            with pytest.raises(TargetNotFound, match=f"process {pid} is gone"):
                attach(pid)
    for offset in (-1, "x"):
        with pytest.raises(BadValue, match="an offset is an integer"):
            entry.attach_kprobe("security_task_getpgid", offset=offset)  # type: ignore[arg-type]
    with pytest.raises(AttachError, match="is a program of section 'uprobe' for this"):
        entry.attach_xdp("lo")
    with pytest.raises(TargetNotFound, match="no network interface 997997; there is lo"):
        entry.attach_xdp(997997)
    with pytest.raises(AttachError, match="1000000000 samples a second are too many") as often:
        obj.programs["on_sample"].attach_perf_event(frequency=1_000_000_000)
    assert "kernel.perf_event_max_sample_rate" in str(often.value.hint)
    with pytest.raises(BadValue, match="CPU 4096 isn't at work; there are 0"):
        obj.programs["on_sample"].attach_perf_event(cpu=4096)
    with pytest.raises(AttachError, match="isn't for uprobes"):
        obj.programs["on_tracepoint"].attach_uprobe(path, "work")
    with pytest.raises(TargetNotFound, match="no static probe mine:visitd; it has mine:visited"):
        obj.programs["on_usdt"].attach_usdt(path, "mine", "visitd")
    assert static_probes(path) == [("mine", "visited")] and static_probes("/bin/true") == []
    with loaded("rings") as other, pytest.raises(StateError) as state:
        other.programs["on_call"].attach_usdt(path, "mine", "visited")
    assert "usdt.bpf.h" in str(state.value.hint)


def test_found_by_name(obj: Object) -> None:
    """As the dynamic linker and the shell find them."""
    libc = ctypes.CDLL("libc.so.6")
    with obj.programs["on_entry"].attach_uprobe("libc.so.6", "labs", pid=os.getpid()):
        times(997, libc.labs, 5)
    assert calls(obj, ENTRY) == 997
    with obj.programs["on_entry"].attach_uprobe("bash", "main"):
        pass


GO = """package main
//go:noinline
func work(n int) int { return n * 3 }
func main() { t := 0; for i := 0; i < 997; i++ { t += work(i) }; println(t) }
"""


def test_no_kernel_return_probe_in_go(tmp_path: Path) -> None:
    """By whatever way: named, many, a session, a section."""
    import toolchains

    program = toolchains.go("local").compile({"main.go": GO})
    with loaded() as obj:
        with pytest.raises(UnsafeProbe, match="Go code"):
            obj.programs["on_return"].attach_uretprobe(str(program), "main.work")
        many = obj.programs["on_multi" if kernel.release() >= COOKIES else "on_entry"]
        for symbols in ("main.work", ["main.work"], "main.*"):
            with pytest.raises(UnsafeProbe, match="Go code"):
                many.attach_uprobe_multi(str(program), symbols, on_return=True)
        if kernel.release() >= SESSIONS:
            with pytest.raises(UnsafeProbe, match="Go code"):
                obj.programs["on_session"].attach_uprobe_multi(str(program), "main.work")
        assert obj.rodata is not None
    source = (ownprograms.FOLDER / "pins.bpf.c").read_text()
    with ownprograms.opened("links") as obj:  # everything's entry is allowed
        obj.rodata["only"] = 0
        for name, one in obj.programs.items():
            one.autoload = name == "on_entry"
        obj.load()
        with obj.programs["on_entry"].attach_uprobe(str(program), "main.work"):
            subprocess.run([program], check=True, capture_output=True)
        assert calls(obj, ENTRY) == 997
    place = f"{program}:main.work"
    for section in (f"uretprobe/{place}", f"uretprobe.multi/{place}*", f"uretprobe.s/{place}"):
        if ".multi" in section and kernel.release() < UPROBE_MULTI:
            continue
        if ".s/" in section and kernel.release() < (6, 0):
            continue
        text = source.replace('SEC("tp/syscalls/sys_enter_getpgid")', f'SEC("{section}")').replace(
            "__uint(pinning, LIBBPF_PIN_BY_NAME);", "")
        with Object.open(_compiled(tmp_path, text)) as obj:
            obj.load()
            with pytest.raises(UnsafeProbe, match="Go code"):
                obj.attach()
            with pytest.raises(UnsafeProbe, match="Go code"):
                obj.programs["on_call"].attach()
    subprocess.run([program], check=True, capture_output=True)


def _compiled(folder: Path, text: str) -> Path:
    source, output = folder / "own.bpf.c", folder / "own.bpf.o"
    source.write_text(text)
    subprocess.run(["clang", "-target", "bpf", "-D__TARGET_ARCH_x86", "-g", "-O2", "-mcpu=v2", "-Ivmlinux", "-c",
                    str(source), "-o", str(output)], cwd=ownprograms.ROOT, check=True)  # fmt: skip
    return output


def test_sections_that_say_where(tmp_path: Path) -> None:
    path, library = ownprograms.target()
    text = (ownprograms.FOLDER / "pins.bpf.c").read_text().replace("__uint(pinning, LIBBPF_PIN_BY_NAME);", "")
    sections = [f"uprobe/{path}:work", f"uretprobe/{path}:work", f"uprobe/{path}:work+0"]
    if kernel.release() >= UPROBE_MULTI:
        sections.append(f"uprobe.multi/{path}:w*rk")
    for section in sections:
        own = text.replace('SEC("tp/syscalls/sys_enter_getpgid")', f'SEC("{section}")')
        with Object.open(_compiled(tmp_path, own)) as obj:
            obj.load()
            links = obj.attach()
            assert list(links) == ["on_call"] and isinstance(links["on_call"], Link)
            times(997, library.work, 1)
            assert obj.maps["kept"][0] == 997
    for section in ("uprobe", "xdp"):
        own = text.replace('SEC("tp/syscalls/sys_enter_getpgid")', f'SEC("{section}")')
        with Object.open(_compiled(tmp_path, own)) as obj:
            obj.load()
            assert obj.attach() == {}
            with pytest.raises(AttachError, match="doesn't say where"):
                obj.programs["on_call"].attach()


def test_many_uprobes(obj: Object) -> None:
    path, library = ownprograms.target()
    assert obj.bss is not None

    def work() -> None:
        times(23, library.work, 1)
        times(97, library.work_too, 1)
        times(997, library.work_hard, 1)

    if kernel.release() >= COOKIES:
        multi = obj.programs["on_multi"]
        with multi.attach_uprobe_multi(path, ["work", "work_too", "work_hard"], cookies=[1, 1000, 1000000]) as link:
            assert len(link.fds) == (1 if kernel.release() >= UPROBE_MULTI else 3) and link.skipped == ()
            work()
        assert obj.bss["sum"] == 23 + 97 * 1000 + 997 * 1000000 and calls(obj, MULTI) == 1117
        with multi.attach_uprobe_multi(path, "work*", on_return=True):
            work()
        assert calls(obj, MULTI) == 2 * 1117
    with obj.programs["on_entry"].attach_uprobe_multi(path, "work*") as link:  # a link each
        assert len(link.fds) == 3
        with pytest.raises(StateError, match="made of 3 links"):
            _ = link.fd
        work()
    assert calls(obj, ENTRY) == 1117
    refused: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"symbols": "nothing*"}, TargetNotFound), ({"symbols": ["wrok"]}, TargetNotFound), ({}, BadValue),
        ({"symbols": ["work"], "cookies": [1, 2]}, BadValue), ({"offsets": [3]}, TargetError),
    ]  # fmt: skip
    for arguments, error in refused:
        with pytest.raises(error):
            obj.programs["on_entry"].attach_uprobe_multi(path, **arguments)


def test_many_uprobes_of_one_process(obj: Object) -> None:
    needs(UPROBE_MULTI)
    path, library = ownprograms.target()
    multi = obj.programs["on_multi"]
    if kernel.release() < (6, 10):
        with pytest.raises(Unsupported, match="confuse processes and threads"):
            multi.attach_uprobe_multi(path, "work*", pid=os.getpid())
        return
    with multi.attach_uprobe_multi(path, "work*", pid=os.getpid()):
        times(997, library.work, 1)
    assert calls(obj, MULTI) == 997


def test_session(obj: Object) -> None:
    path, library = ownprograms.target()
    if kernel.release() < SESSIONS:
        with ownprograms.opened("links") as other:
            for name, program in other.programs.items():
                program.autoload = name == "on_session"
            with pytest.raises((LoadError, LibbpfError)):
                other.load()
                other.programs["on_session"].attach_uprobe_multi(path, "work")
        return
    with obj.programs["on_session"].attach_uprobe_multi(path, "work*"):
        times(997, library.work, 1)
    assert calls(obj, SESSION) == 2 * 997
    with pytest.raises(BadValue, match="session"):
        obj.programs["on_session"].attach_uprobe_multi(path, "work*", on_return=True)


def test_static_probe(obj: Object) -> None:
    path, library = ownprograms.target()
    assert obj.bss is not None
    with obj.programs["on_usdt"].attach_usdt(path, "mine", "visited", pid=os.getpid()):
        for number in range(997):
            library.probed(ctypes.c_long(number << 32), 3)
    library.probed(1, 1)
    assert (calls(obj, USDT), obj.bss["last_argument"], obj.bss["sum"]) == (997, 996 << 32, 3 * 997)


@pytest.mark.parametrize("way", ["section", "tracepoint", "raw", "btf", "all"])
def test_tracepoints(obj: Object, way: str) -> None:
    link: Any = None
    if way == "section":
        link = obj.programs["on_tracepoint"].attach()
    elif way == "tracepoint":
        link = obj.programs["on_tracepoint"].attach_tracepoint("syscalls", "sys_enter_getpgid")
    elif way == "raw":
        link = obj.programs["on_raw"].attach_raw_tracepoint("sys_enter")
    elif way == "btf":
        link = obj.programs["on_btf"].attach_trace()
    else:
        assert set(obj.attach()) == {"on_tracepoint", "on_raw", "on_btf"}
    getpgids(997)
    if link is not None:
        link.detach()
        getpgids(23)
    which = {"section": TRACEPOINT, "tracepoint": TRACEPOINT, "raw": RAW, "btf": BTF}
    assert calls(obj, which.get(way, BTF)) == 997
    assert way != "all" or [calls(obj, one) for one in (TRACEPOINT, RAW, BTF)] == [997] * 3


def test_tracepoints_that_are_not_there(obj: Object) -> None:
    with pytest.raises(TargetNotFound, match="no tracepoint syscalls/sys_enter_getpgd") as caught:
        obj.programs["on_tracepoint"].attach_tracepoint("syscalls", "sys_enter_getpgd")
    assert "syscalls/sys_enter_getpgid" in caught.value.close_matches
    with pytest.raises(TargetNotFound, match="no such tracepoint"):
        obj.programs["on_raw"].attach_raw_tracepoint("no_such_event")
    with pytest.raises(AttachError, match="isn't loaded for a place of its own"):
        obj.programs["on_tracepoint"].attach_trace()


def test_profiling(obj: Object) -> None:
    """Of this process, busy: until 97 samples came."""
    sample = obj.programs["on_sample"]
    with sample.attach_perf_event(frequency=997) as link:
        assert len(link.fds) == len(os.sched_getaffinity(0))
        _busy_until(lambda: calls(obj, SAMPLE) >= 97)
    before = calls(obj, SAMPLE)
    with sample.attach_perf_event("task-clock", period=1_000_000, pid=os.getpid()):
        _busy_until(lambda: calls(obj, SAMPLE) >= before + 97)
    with sample.attach_perf_event(cpu=0, period=10_000_000) as link:
        assert len(link.fds) == 1
    with pytest.raises(TargetNotFound):
        sample.attach_perf_event(pid=4194305)
    for arguments in ({"event": "nothing"}, {"frequency": 99, "period": 99}, {"frequency": 0}, {"period": -1}):
        with pytest.raises(BadValue):
            sample.attach_perf_event(**arguments)
    try:
        sample.attach_perf_event("cycles").detach()
    except Unsupported as error:  # this machine's CPU shows no counters
        assert error.feature == "cycles" and "cpu-clock" in str(error.hint)


def _busy_until(done: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if done():
            return
        sum(range(10007))
    raise AssertionError("no samples came")


def test_iterators() -> None:
    with loaded("iterators") as obj:
        with obj.programs["all_tasks"].attach_iter() as link:
            seen = link.iterate("seen")
            assert any(one.pid == one.tgid == os.getpid() for one in seen)
            assert len(link.iterate()) >= len(seen) * 8 - 800
        squares = obj.maps["squares"]
        squares.clear()
        squares.update({number: number * number for number in range(997)})
        with obj.programs["all_elements"].attach_iter(squares) as link:
            output = link.iterate()
        assert sorted(memoryview(output).cast("Q")) == sorted(squares.values())
        with pytest.raises(AttachError, match="it goes through a map") as caught:
            obj.programs["all_elements"].attach_iter()
        assert "attach_iter(obj.maps" in str(caught.value.hint)
        assert list(obj.attach()) == ["all_tasks"]


@pytest.fixture
def interface() -> Iterator[str]:
    """One of a pair, in a network namespace of our own."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x40000000) == 0  # CLONE_NEWNET
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield "lo"
    finally:
        assert libc.setns(before, 0x40000000) == 0
        os.close(before)


def test_xdp(interface: str) -> None:
    with loaded("network") as obj:
        assert obj.bss is not None
        one, two = obj.programs["on_packet"], obj.programs["on_packet_too"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            with one.attach_xdp(interface, mode="skb") as link:
                times(997, out.sendto, b"x", ("127.0.0.1", 9))
                assert obj.bss["packets"] >= 997
                with pytest.raises(AttachError, match="another XDP program"):
                    two.attach_xdp(interface, mode="skb")
                link.update(two)
                before = obj.bss["packets"]
                times(23, out.sendto, b"x", ("127.0.0.1", 9))
                assert obj.bss["second"] >= 23 and obj.bss["packets"] == before
            before = obj.bss["second"]
            times(5, out.sendto, b"x", ("127.0.0.1", 9))
            assert obj.bss["second"] == before
        with one.attach_xdp(socket.if_nametoindex(interface)):
            pass
        with pytest.raises(TargetNotFound, match="no network interface 'nothing0'; there is lo"):
            one.attach_xdp("nothing0")
        with pytest.raises(BadValue, match="mode is one of skb, drv, hw"):
            one.attach_xdp(interface, mode="fast")
        with obj.programs["on_lookup"].attach_netns("/proc/self/ns/net"):
            pass
        with pytest.raises(LibbpfError):
            obj.programs["on_lookup"].attach_netns("/proc/self/ns/mnt")


@pytest.fixture
def group() -> Iterator[str]:
    """A control group (version 2), with this process's children in it as they please."""
    root = mount.detached("cgroup2")
    assert root >= 0
    path = f"/proc/self/fd/{root}/pyebpf-object-{os.getpid()}"
    os.mkdir(path)
    try:
        yield path
    finally:
        os.rmdir(path)
        os.close(root)


def test_control_groups(group: str) -> None:
    with loaded("network") as obj:
        assert obj.bss is not None
        child = (
            "import os, socket, sys\n"
            "open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
            "for _ in range(23): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "for _ in range(97): s.sendto(b'x', ('127.0.0.1', 9))\n"
        )
        folder = os.open(group, os.O_RDONLY)
        try:
            with obj.programs["on_egress"].attach_cgroup(group), obj.programs["on_socket"].attach_cgroup(folder):
                subprocess.run(["python3", "-c", child, f"/proc/{os.getpid()}/fd/{folder}"], check=True, close_fds=True)
        finally:
            os.close(folder)
        assert (obj.bss["egress"], obj.bss["sockets"]) == (97, 24)
        with pytest.raises(AttachError, match="it is no control group") as caught:
            obj.programs["on_egress"].attach_cgroup("/tmp")
        assert "version 2" in str(caught.value.hint)
        with pytest.raises(TargetNotFound):
            obj.programs["on_egress"].attach_cgroup("/no/such/group")


def test_links_are_pinned_and_opened_again() -> None:
    with ownprograms.bpffs() as folder:
        with ownprograms.opened("pins", pin_root=folder) as obj:
            obj.load()
            link = obj.programs["on_call"].attach()
            path = f"{folder}/link"
            if kernel.release() < COOKIES:
                with pytest.raises(AttachError, match=r"before Linux 5\.15"):
                    link.pin(path)
                obj.maps["kept"].unpin()
                return
            link.pin(path)
            with pytest.raises(StateError, match="the name is taken"):
                link.pin(path)
        with ownprograms.opened("pins", pin_root=folder) as obj:
            obj.load()
            before = obj.maps["kept"][0]
            getpgids(997)
            assert obj.maps["kept"][0] - before >= 997
            with Link.open(path) as again:
                again.unpin()
                with pytest.raises(StateError, match="isn't pinned"):
                    again.unpin()
            with pytest.raises(TargetNotFound):
                Link.open(path)
            with pytest.raises(BadValue, match="no link"):
                Link.open(f"{folder}/kept")
            obj.maps["kept"].unpin()


@pytest.mark.parametrize("name", ["on_kprobe", "on_kretprobe", "on_fentry", "on_fexit", "on_lsm"])
def test_the_kernels_functions(name: str) -> None:
    which = ["on_kprobe", "on_kretprobe", "on_fentry", "on_fexit", "on_lsm"].index(name)
    kind = name[3:]
    hook = "bpf_lsm_task_getpgid" if kind == "lsm" else "security_task_getpgid"
    feature = kernel.kprobe() if "probe" in kind else kernel.fentry(hook)
    with ownprograms.opened("functions") as obj:
        assert obj.rodata is not None
        obj.rodata["only"] = os.getpid()
        for one, program in obj.programs.items():
            program.autoload = one == name
        if not feature.works and "probe" not in kind:
            with pytest.raises((LoadError, PermissionDenied, AttachError)) as refused:
                obj.load()
                obj.programs[name].attach()  # where it can be loaded all the same (arm64)
            assert "doesn't work here" in str(refused.value.hint) or kind == "lsm"
            return
        obj.load()
        program = obj.programs[name]
        if not feature.works:
            with pytest.raises(Unsupported, match="CONFIG_KPROBE_EVENTS") as caught:
                program.attach()
            assert caught.value.feature == "kprobe" and "tracepoint" in str(caught.value.hint)
            return
        with program.attach():
            times(997, _getpgid)
        times(23, _getpgid)
        if kind == "lsm" and "bpf" not in _lsms():
            assert obj.bss is not None
            return
        assert calls(obj, which) == 997
        if kind == "kprobe":
            with program.attach_kprobe("security_task_getpgid"):
                pass
            with pytest.raises(TargetNotFound, match="no function security_task_getpgdi") as missing:
                program.attach_kprobe("security_task_getpgdi")
            assert "security_task_getpgid" in missing.value.close_matches


def _getpgid() -> None:
    os.getpgid(os.getpid())


def _lsms() -> str:
    try:
        return open("/sys/kernel/security/lsm").read()
    except OSError:
        return ""
