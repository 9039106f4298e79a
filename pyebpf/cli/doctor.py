# SPDX-License-Identifier: BSD-2-Clause
"""pyebpf doctor: what works on this host, and why not."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from pyebpf import __version__
from pyebpf.cli import exits, options
from pyebpf.core import kernel, libbpf
from pyebpf.core.kernel import Feature
from pyebpf.errors import Error
from pyebpf.output.text import safe

# Without these no function can be traced; the others have a fallback or serve other tools.
_NEEDED = ("libbpf", "capabilities", "uprobe", "ring buffer", "objects")


def main(argv: Sequence[str]) -> int:
    parser = options.Parser(
        prog="pyebpf doctor",
        description="Try what pyebpf needs on this host, and say what is missing and why. "
        "Exit code 0: the function tools work; 5: they don't. Others that don't work, or not wholly, are named.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)

    facts = {
        "pyebpf": __version__,
        "python": platform.python_version(),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "lockdown": _lockdown(),
    }
    checks = examine()
    able = all(check.works for check in checks if check.name in ("libbpf", "capabilities"))
    tools = examine_tools() if able else []
    broken = [check for check in checks if check.name in _NEEDED and not check.works]
    if arguments.json:
        import json

        print(json.dumps({**facts, "works": not broken, "checks": [check._asdict() for check in checks],
                          "tools": [tool._asdict() for tool in tools]}))  # fmt: skip
    else:
        for name, value in facts.items():
            print(f"{name:<16} {safe(value)}")
        print()
        for check in checks:
            detail = check.reason
            if not check.works and check.minimum:
                detail += f" (Linux {check.minimum} and newer have it)"
            print(f"{check.name:<16} {'yes' if check.works else 'no':<4} {safe(detail)}".rstrip())
        print()
        print(_verdict(checks, broken))
        if tools:
            working = [tool for tool in tools if tool.works]
            print(f"Of the {len(tools)} tools for TCP and the system {len(working)} work here"
                  + (", some not wholly:" if any(tool.reason for tool in tools) else "."))  # fmt: skip
            for tool in tools:
                if tool.reason:
                    print(f"{tool.name:<16} {'yes' if tool.works else 'no':<4} {safe(tool.reason)}")
    return exits.UNSUPPORTED if broken else exits.TRACED


def _lockdown() -> str:
    try:
        return kernel.lockdown() or "unknown (securityfs can't be read)"
    except Error:  # no libbpf: that is said below
        return "unknown"


def examine() -> list[Feature]:
    """All checks, in the order in which one needs the other; those behind a broken one are left out."""
    missing = kernel.missing_capabilities()
    capabilities = Feature("capabilities", not missing, f"missing {', '.join(missing)}" if missing else "", "")
    try:
        found = Feature("libbpf", True, f"{libbpf.version()}, {libbpf.path()}", "")
    except Error as error:
        return [Feature("libbpf", False, f"{error}; {error.hint}", ""), capabilities]
    return [found, capabilities, *kernel.features(), _objects()]


def examine_tools() -> list[Feature]:
    """The tools for TCP and the system: whether this kernel has what each wants to see."""
    from importlib import import_module

    from pyebpf.cli.main import event_tools
    from pyebpf.core.hooks import Hooks
    from pyebpf.tools.events import missing

    results = []
    with Hooks() as hooks:
        for module in event_tools():
            tool = import_module(module).TOOL
            try:
                unseen = missing(tool.name, tool.needs, hooks) if tool.needs else []
            except Error as error:
                results.append(Feature(tool.name, False, str(error)))
                continue
            reason = "; ".join(f"can't see {need.what}: {'; '.join(against)}" for need, against in unseen)
            results.append(Feature(tool.name, all(need.optional for need, _ in unseen), reason))
    return results


def _objects() -> Feature:
    """Loads the smallest bundled object as a whole."""
    from pyebpf.core.link import Ladder
    from pyebpf.core.object import open_bundled

    try:
        with open_bundled("funccount") as obj:
            ladder = Ladder()
            ladder.prepare(obj, obj.programs.values())
            obj.load()
    except Error as error:
        return Feature("objects", False, str(error), "")
    return Feature("objects", True, f"load; probes attach by way of {_RUNGS[ladder.rung]}", "")


_RUNGS = {
    "multi": "uprobe_multi links",
    "cookie": "perf events with cookies (detaching takes about 0.1 s a function)",
    "copy": "perf events and a program a function (detaching takes about 0.1 s a function)",
}


def _verdict(checks: Sequence[Feature], broken: Sequence[Feature]) -> str:
    if broken:
        return f"The function tools do not work here: {', '.join(check.name for check in broken)}."
    without = [check.name for check in checks if not check.works]
    return "The function tools work here" + (f"; not needed and missing: {', '.join(without)}." if without else ".")
