# SPDX-License-Identifier: BSD-2-Clause
"""A user with exactly some capabilities, and hosts that hide things: what works, and what is said of what doesn't.

All tools: tests/hosts/capabilities.py.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import privileges
import pytest
import targets
import unprivileged
from privileges import CASES, LOADS, Stage

from pyebpf.core import kernel

LIBRARIES = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with privileges.stage() as made:
        yield made


# A user who isn't root


@pytest.mark.parametrize("tool", ["funccount", "tcprtt", "tcpconnect", "opensnoop"])
def test_enough(stage: Stage, tool: str) -> None:
    code, out, error, shown = stage.run(tool, CASES[tool].needs)
    assert code in (0, 130) and privileges.is_shown(shown, out), (error, out)


@pytest.mark.parametrize("tool", ["funccount", "tcprtt", "opensnoop"])
def test_what_is_missing_is_named(stage: Stage, tool: str) -> None:
    for missing in CASES[tool].needs:
        code, out, error, _ = stage.run(tool, [name for name in CASES[tool].needs if name != missing])
        assert code == 4 and not out and error.endswith(f"with {missing}\n"), error


@pytest.mark.parametrize(("tool", "options", "capability", "pattern"), privileges.OPTIONS)
def test_options_that_take_more(
    stage: Stage, tool: str, options: tuple[str, ...], capability: str, pattern: str
) -> None:
    needs = CASES[tool].needs
    code, out, error, shown = stage.run(tool, needs, None, *options)
    if pattern:  # it works, but shows less
        assert privileges.is_shown(shown, out) and not privileges.is_shown(pattern, out), (error, out)
    else:
        assert code and not out and capability in error, error
    code, out, error, shown = stage.run(tool, (*needs, capability), None, *options)
    assert code in (0, 130) and privileges.is_shown(shown, out), (error, out)
    assert not pattern or privileges.is_shown(pattern, out), out


@pytest.mark.usefixtures("perfmon_is_enough")
def test_other_users_processes(stage: Stage) -> None:
    """Every function tool looks at /proc/PID/exe and maps; they do it in one place."""
    run = ("funccount", "-d", "0.1", "-p", str(stage.actor.pid), ":main")
    for more, code, words in (((), 4, "or with CAP_SYS_PTRACE\n"), (("CAP_SYS_PTRACE",), 0, "")):
        command = unprivileged.command((*LOADS, *more), sys.executable, "-m", "pyebpf", *run)
        done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=targets.DEADLINE, cwd="/")
        assert done.returncode == code and done.stderr.endswith(words), done.stderr


@pytest.mark.usefixtures("perfmon_is_enough")
def test_other_users_files(stage: Stage) -> None:
    """The actor's program lies in a folder that is closed to others."""
    for more, code, words in (((), 4, "or with CAP_DAC_READ_SEARCH\n"), (("CAP_DAC_READ_SEARCH",), 0, "")):
        capabilities = (*LOADS, "CAP_SYS_PTRACE", *more)
        run = ("threadsnoop", "-d", "0.1", "-p", str(stage.actor.pid))
        command = unprivileged.command(capabilities, sys.executable, "-m", "pyebpf", *run)
        done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=targets.DEADLINE, cwd="/")
        assert done.returncode == code and done.stderr.endswith(words), done.stderr


def test_a_mount_of_ones_own_is_still_roots(stage: Stage) -> None:
    """CAP_SYS_ADMIN can mount tracefs, but only root, or one who may read everything, sees what is in it."""
    code, _, error, _ = stage.run("opensnoop", (*LOADS, "CAP_SYS_ADMIN"))
    assert code == 4 and error.endswith("with CAP_DAC_READ_SEARCH\n") and "Traceback" not in error, error


def test_doctor_of_a_user() -> None:
    with unprivileged.paranoid(2):
        done = doctor()
    if unprivileged.uprobes_take_admin():
        assert done.returncode == 5 and "attaching by perf events takes CAP_SYS_ADMIN" in done.stdout, done
    else:
        assert done.returncode == 0 and "The function tools work here" in done.stdout, done
    assert "tracing can't be read" in done.stdout, done


def doctor(capabilities: Sequence[str] = LOADS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        unprivileged.command(capabilities, sys.executable, "-m", "pyebpf", "doctor"), env=clean(), cwd="/",
        capture_output=True, text=True, timeout=targets.DEADLINE,
    )  # fmt: skip


def test_a_level_that_linux_does_not_know(stage: Stage) -> None:
    """Where the distribution gave it a meaning that CAP_PERFMON doesn't override, that is said."""
    with unprivileged.paranoid(3):
        code, out, error, shown = stage.run("funccount", LOADS)
        checked = doctor()
    if code in (0, 130):
        assert privileges.is_shown(shown, out) and checked.returncode == 0, (error, checked)
    else:
        words = "kernel.perf_event_paranoid at 3 this kernel refuses probes to whoever lacks CAP_SYS_ADMIN"
        assert code == 4 and words in error, error
        assert checked.returncode == 5 and words in checked.stdout, checked


def test_doctor_knows_what_that_level_does_to_tracepoints(stage: Stage) -> None:
    needs = CASES["opensnoop"].needs
    with unprivileged.paranoid(3):
        code, out, error, shown = stage.run("opensnoop", needs)
        lines = [line for line in doctor(needs).stdout.splitlines() if line.startswith("opensnoop ")]
    if code in (0, 130):
        assert privileges.is_shown(shown, out) and lines == [], (error, lines)
    else:
        assert code == 4 and "perf_event_paranoid at 3" in error, error
        assert len(lines) == 1 and " no " in lines[0] and "perf_event_paranoid at 3" in lines[0], lines


def test_perf_events_of_uprobes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer kernels give them to CAP_SYS_ADMIN only, which the error says."""
    monkeypatch.setenv("PYEBPF_ATTACH", "cookie" if kernel.has_attach_cookies() else "copy")
    code, out, error, shown = stage.run("funccount", LOADS)
    if code in (0, 130):
        assert privileges.is_shown(shown, out), (error, out)
        assert kernel.release() < (6, 1)
    else:
        assert code == 4 and "attaching by perf events takes CAP_SYS_ADMIN on this kernel" in error, error
    code, out, error, shown = stage.run("funccount", (*LOADS, "CAP_SYS_ADMIN"))
    assert code in (0, 130) and privileges.is_shown(shown, out), (error, out)


# Namespaces that hide things


def clean(**more: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYEBPF_CACHE": "0", **kept, **more}


def within(script: str, *arguments: str, unshare: tuple[str, ...] = (), **environment: str) -> tuple[int, str, str]:
    """Runs pyebpf after a script has changed what there is to see, in a mount namespace of its own."""
    command = " ".join(map(shlex.quote, [sys.executable, "-m", "pyebpf", *arguments]))
    done = subprocess.run(
        ["unshare", "--mount", *unshare, "sh", "-ec", f"{script}\nexec {command}"], env=clean(**environment),
        capture_output=True, text=True, timeout=targets.DEADLINE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def count(script: str, *unshare: str, **environment: str) -> tuple[int, str, str]:
    calls = f"{targets.compiled('calls.c')} -n 97 hot"
    return within(script, "funccount", "-c", calls, ":hot", unshare=unshare, **environment)


def test_in_a_user_namespace() -> None:
    code, _, error = count(":", "--user", "--map-root-user")
    assert code == 4 and "user namespace" in error and "CAP_" not in error, error
    code, out, _ = within(":", "doctor", unshare=("--user", "--map-root-user"))
    assert code == 5 and "missing CAP_BPF, CAP_PERFMON" in out


def test_a_containers_root_lacks_capabilities() -> None:
    drop = "umount -R /sys; mount -t sysfs -o ro none /sys; exec setpriv --bounding-set=-sys_admin "
    drop += f"{sys.executable} -m pyebpf opensnoop -d 60"
    code, out, error = within(drop)
    assert code == 4 and not out and "with all its capabilities, or with CAP_SYS_ADMIN; or have tracefs" in error, error


def test_btf_is_hidden(tmp_path: Path) -> None:
    copy = shutil.copy("/sys/kernel/btf/vmlinux", tmp_path)
    hide = "mount -t tmpfs none /sys/kernel/btf"
    code, out, error = count(hide)
    assert code == 0 and ["hot", "97"] in map(str.split, out.splitlines()), error
    code, out, error = within(hide, "tcplife", "-d", "60")
    assert code == 5 and not out and "/sys/kernel/btf/vmlinux: No such file" in error and "PYEBPF_BTF" in error, error
    code, out, error = within(hide, "tcplife", "-d", "0.1", "--json", PYEBPF_BTF=str(copy))
    assert code == 0 and '"type": "attached"' in out, error


# The directory with libbpf, writable: what is deleted from it is gone in this namespace only
_WRITABLE = (
    f"mount -t tmpfs none /mnt; mkdir /mnt/upper /mnt/work; "
    f"mount -t overlay -o lowerdir={LIBRARIES},upperdir=/mnt/upper,workdir=/mnt/work none {LIBRARIES}; "
    f"rm -f {LIBRARIES}/libbpf.so*"
)


def test_no_libbpf() -> None:
    code, out, error = count(_WRITABLE)
    assert code == 5 and not out and "libbpf.so.1: cannot open" in error, error
    assert "hint: install it: " in error and "PYEBPF_LIBBPF" in error and "too old" not in error, error
    code, out, _ = within(_WRITABLE, "doctor")
    assert code == 5 and "hint" not in out and "install it: " in out, out


def test_only_an_old_libbpf() -> None:
    code, _, error = count(f"{_WRITABLE}; touch {LIBRARIES}/libbpf.so.0")
    assert code == 5 and f"hint: {LIBRARIES}/libbpf.so.0 is too old (libbpf 1.0 is the minimum); in" in error, error


@pytest.mark.parametrize("path", ["libz.so.1", "/etc/passwd", "/nowhere"])
def test_what_is_no_libbpf(path: str) -> None:
    code, out, error = within(":", "doctor", PYEBPF_LIBBPF=path)
    assert code == 5 and f"can't open {path}: " in out and "Traceback" not in error, (out, error)
    code, _, error = within(":", "tcprtt", "-d", "60", PYEBPF_LIBBPF=path)
    assert code == 5 and "hint: correct PYEBPF_LIBBPF, or unset it\n" in error, error


@pytest.mark.parametrize("is_there", [True, False])
def test_the_companion_package(tmp_path: Path, is_there: bool) -> None:
    """The package pyebpf_libbpf is taken where the system has none; it stands in for itself here."""
    package = tmp_path / "pyebpf_libbpf"
    package.mkdir()
    library = package / "libbpf.so.1"
    (package / "__init__.py").write_text(f"def path(): return {str(library)!r}\n")
    if is_there:
        shutil.copy(LIBRARIES / "libbpf.so.1", library)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    code, out, error = count(_WRITABLE, PYTHONPATH=paths)
    if is_there:
        assert code == 0 and ["hot", "97"] in map(str.split, out.splitlines()), error
        code, out, _ = within(_WRITABLE, "doctor", PYTHONPATH=paths)
        assert code == 0 and str(library) in out
        code, out, _ = within(":", "doctor", PYTHONPATH=paths)
        assert code == 0 and str(library) not in out, "the system's own comes first"
    else:
        assert code == 5 and "nor the package pyebpf_libbpf's: " in error and str(library) in error, error


