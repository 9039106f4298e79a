# SPDX-License-Identifier: BSD-2-Clause
"""A pytest plugin for live tests on other kernels: which of them run, and what came of each, a line of JSON a test.

    python -m pytest -p selection --vm-form full --vm-results FILE tests/live      # with tests/vm on PYTHONPATH

Emulated machines are 10 to 20 times slower, so not all 1,800 tests run, but by this rule:

* of each test, the last of its variants, as far as they differ in nothing that concerns the kernel: every way of
  attaching (`KERNELS_OWN`) has its own. So a test of nine Go versions runs for the newest.
* on x86-64 no test of a file in `LEFT_OUT`, which are about reading programs and values: their one live test a kernel
  is in the files that remain. Elsewhere they run nowhere else.
* on arm64 no test of the agent and the exporters (`LIBRARIES`), which need libraries and nothing of the kernel's own.
* `TOO_SLOW`: those that take minutes there, with the reason.
* the short form: only the tests of `SHORT`, one a tool's kind and way of attaching.

A test that takes longer than `LIMIT` fails, wherever it hangs.
"""

from __future__ import annotations

import json
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KERNELS_OWN = {  # what decides how the kernel is asked
    "multi", "cookie", "copy", "sleepable", "plain", "ring", "perf", "on_kprobe", "on_kretprobe", "on_fentry",
    "on_fexit", "on_lsm", "section", "tracepoint", "raw", "btf",
}  # fmt: skip
LIBRARIES = ("test_agent", "test_export_otlp", "test_export_prometheus")  # which the root of arm64 has not
LEFT_OUT = ("test_signatures_go", "test_signatures_native", "test_debug_builds", "test_real_programs")
TOO_SLOW: dict[str, str] = {}
LAST = ("test_agent", "test_capabilities", "test_export_prometheus", "test_sessions", "test_aio")  # much of Python's
SHORT = {
    "test_argdist": "test_values_and_combinations",
    "test_count": "test_every_rung_counts_right test_command_is_traced_from_its_first_instruction",
    "test_export_calls": "test_two_names_of_one_file",
    "test_go": "test_panics_and_goexit test_recursion",
    "test_hooks": "test_functions_are_judged_by_what_the_kernel_can test_every_kind_of_hook_is_attached_here",
    "test_latency": "test_deep_recursion_beyond_the_kernels_limit test_threads",
    "test_object_links": "test_uprobe_and_uretprobe test_cookies test_many_uprobes test_session test_tracepoints "
    "test_iterators test_xdp test_the_kernels_functions",
    "test_object_maps": "test_arrays test_per_cpu",
    "test_object_rings": "test_typed_records",
    "test_plan": "test_every_rung test_every_kind_of_value",
    "test_safety": "test_core_refuses_return_probes_in_go_code test_killed_tracer_leaves_nothing",
    "test_slower": "test_arguments_and_result",
    "test_snoop_files": "test_open_with_its_path_wherever_that_lies test_life_of_a_file",
    "test_snoop_processes": "test_exec_with_all_its_arguments test_exit_as_wait_tells_it",
    "test_snoop_system": "test_mount_and_umount",
    "test_stackcount": "test_every_rung",
    "test_tcp_connections": "test_connects test_accepts",
    "test_tcp_packets": "test_nobody_listens",
    "test_tcp_traffic": "test_a_life",
    "test_trace": "test_every_rung test_every_call_with_its_arguments",
}
LIMIT = 240  # seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vm-form", choices=("full", "short", "all"), default="full")
    parser.addoption("--vm-results", metavar="FILE")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of which no test is chosen: importing them takes long, too."""
    form, file = config.getoption("--vm-form"), collection_path.stem
    if not file.startswith("test_") or form == "all":
        return None
    return True if (file not in SHORT if form == "short" else is_left_out(file)) else None


def is_left_out(file: str) -> bool:
    return file in (LEFT_OUT if platform.machine() == "x86_64" else LIBRARIES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    form = config.getoption("--vm-form")
    chosen = items if form == "all" else [*short(items)] if form == "short" else [*full(items)]
    kept = {id(item) for item in chosen}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = chosen


def full(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    groups: dict[tuple[object, ...], pytest.Item] = {}
    for item in items:
        if name_of(item) not in TOO_SLOW:
            groups[(name_of(item), *kernels_own(item))] = item
    chosen = {id(item) for item in groups.values()}
    wanted = [item for item in items if id(item) in chosen]
    return iter(sorted(wanted, key=lambda item: item.path.stem in LAST))


def short(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The last variant of each, but of every way of attaching."""
    wanted = {f"{file}::{test}" for file, tests in SHORT.items() for test in tests.split()}
    missing = wanted - {name_of(item) for item in items}
    if missing:
        raise pytest.UsageError(f"no such tests: {', '.join(sorted(missing))}")
    groups: dict[tuple[object, ...], pytest.Item] = {}
    for item in items:
        if name_of(item) in wanted:
            groups[(name_of(item), *kernels_own(item))] = item
    return iter(groups.values())


def name_of(item: pytest.Item) -> str:
    """file::test"""
    return f"{item.path.stem}::{getattr(item, 'originalname', item.name)}"


def kernels_own(item: pytest.Item) -> list[str]:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return sorted(str(value) for value in parameters.values() if str(value) in KERNELS_OWN)


class Recorder:
    """Writes what came of each test as soon as it is known: a guest may die."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "w", buffering=1)  # noqa: SIM115 - until the session ends
        self.write(kernel=platform.release(), machine=platform.machine(), python=platform.python_version())

    def write(self, **fields: Any) -> None:
        self._file.write(json.dumps(fields) + "\n")

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.write(left_out=len(items))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write(begins=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            why = ""
            if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
                why = report.longrepr[2].partition("Skipped: ")[2]
            elif report.outcome == "failed":
                why = report.longreprtext[-4000:]
            self.write(test=report.nodeid, came=report.outcome, why=why, seconds=round(report.duration, 1))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.write(ended=int(exitstatus))
        self._file.close()


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--vm-results")
    if path:
        config.pluginmanager.register(Recorder(path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"this test has taken {LIMIT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
