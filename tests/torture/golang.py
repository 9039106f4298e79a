# SPDX-License-Identifier: BSD-2-Clause
"""Go, from 1.15 to the newest: what the runtime does to stacks, goroutines and threads while they are traced.

In every case the functions are counted, timed and traced at once, with an argument, the result and the goroutine's
number of each call. A traced function's result follows from its argument (``tests/programs/go/tally``), so a return
that was matched with another call's entry shows. Afterwards, with the probes gone, the program does it all once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import targets
import toolchains
import tracing
from torture.case import Outcome, altered, case

import pyebpf
from pyebpf.tools.trace import Call, TraceSession

VERSIONS = toolchains.VERSIONS
SHORT = ("1.15", "1.27")
Pair = tuple[int, int]

GROWTH = ("main.descends", "main.fills", "main.holds", "main.collects", "main.huge")
PANICS = ("main.guards", "main.passes", "main.fails", "main.sinks", "main.cleans", "main.exits")
STORM = ("main.gathers", "main.naps", "main.yields", "main.pins", "main.waits", "main.asks")
BIRTHS = ("main.born", "main.descends")
COLLECT = ("main.allocates", "main.plants", "main.walks")
SPIN = ("main.spins", "main.calls", "main.tiny")
SHAPES = ("main.(*adder).Adds", "main.square.Says", "main.closes.func1", "main.wide", "main.named")
SPAWN = ("main.spawns", "main.tiny")


class Followed(NamedTuple):
    """A program that was traced.

    Attributes:
        truth: what it said.
        checks: for the outcome.
        beside: how often each function was called that was only counted.
    """

    truth: dict[str, Any]
    checks: dict[str, Pair]
    beside: Counter[str]


class Traced:
    """Sums over the records of `pyebpf.trace`, by function."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.who: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.goids: Counter[str] = Counter()
        self.ns: Counter[str] = Counter()
        self.mismatched = 0

    def add(self, calls: Iterable[Call]) -> None:
        for call in calls:
            name = tracing.unbracketed(call.function.name)
            (who,) = call.args.values()
            assert isinstance(who, int) and call.goid and call.duration, call
            self.calls[name] += 1
            self.who[name] += who
            self.goids[name] += call.goid
            self.ns[name] += call.duration
            for result in call.ret.values():
                assert isinstance(result, int), call
                self.results[name] += result
                self.mismatched += result != 7 * who + 3


def watch(target: targets.Target, session: TraceSession, add: Callable[[Iterable[Call]], None]) -> dict[str, Any]:
    """Lets the target work and reads its calls until it is done; returns what it said."""
    with ThreadPoolExecutor(1) as pool:
        target.begin()
        ended = pool.submit(target.first_line)
        while not ended.done():
            add(session.read(timeout=0.1))
        add(session.drain())
    return ended.result()


def follow(
    program: Path,
    scenario: str,
    amount: float,
    names: Sequence[str],
    *,
    argument: str = "who",
    results: Sequence[str] = ("retval",),
    env: dict[str, str] | None = None,
    beside: Sequence[str] = (),
) -> Followed:
    """Traces a scenario from its beginning to its end.

    Args:
        argument, results: what is asked of each call.
        beside: functions that are only counted, or patterns.
    """
    functions = [f"{program}:{name}" for name in names]
    traced = Traced()
    with targets.run(program, "-n", str(max(1, int(amount))), scenario, env=env) as target:
        with pyebpf.count(*functions, *(f"{program}:{name}" for name in beside), pid=target.pid) as counts, \
             pyebpf.latency(*functions, pid=target.pid) as latency, \
             pyebpf.trace(*functions, args=[argument], ret=results, returns=True,
                          pid=target.pid) as trace:  # fmt: skip
            assert not (*latency.skipped, *trace.skipped), (latency.skipped, trace.skipped)
            truth = watch(target, trace, traced.add)
            counted = by_name(counts.snapshot())
            histograms = latency.snapshot()
            timed = by_name({function: histogram.count for function, histogram in histograms.items()})
            ns = by_name({function: histogram.total for function, histogram in histograms.items()})
            losses = (latency.losses, trace.losses)
        changed = altered(target.pid, program)
        again = target.go()

    told = truth["functions"]
    assert sorted(told) == sorted(names), f"the program called {sorted(told)}"
    calls, returns, who, returned, goids = (
        {name: told[name][key] for name in names} for key in ("calls", "returns", "who", "results", "goids")
    )
    unreturned = sum(calls.values()) - sum(returns.values())
    checks = {
        **same("calls", counted, calls),
        **same("timed", timed, returns),
        **same("traced", traced.calls, returns),
        **same("arguments", traced.who, who),
        **(same("results", traced.results, returned) if results else {}),
        **same("goroutines", traced.goids, goids),
        "mismatched": (traced.mismatched, 0),
        "unreturned": (losses[0].abandoned + losses[0].in_progress, unreturned),
        "unreturned, traced": (losses[1].abandoned + losses[1].in_progress, unreturned),
        "lost": (sum(loss.lost + loss.unmatched for loss in losses), 0),
        "errors": (truth["wrong"] + again["wrong"], 0),
        "changed code": (changed, 0),
    }
    for name, its in told.items():
        if its["timed"] == its["returns"]:  # each call by its clock, which was read before and after: ours is between
            for kind, time in (("latency", ns[name]), ("durations", traced.ns[name])):
                if not its["least"] <= time <= its["ns"]:
                    checks[f"{kind} of {name}, ns"] = (time, its["ns"])
    return Followed(truth, checks, Counter({name: n for name, n in counted.items() if name not in names}))


def by_name(values: Mapping[Any, int]) -> Counter[str]:
    """Values of traced functions, those of a generic function's copies added up."""
    sums: Counter[str] = Counter()
    for function, value in values.items():
        sums[tracing.unbracketed(function.name)] += value
    return sums


def same(what: str, seen: Mapping[str, int], true: Mapping[str, int]) -> dict[str, Pair]:
    """One check of all functions, or one of each that is wrong."""
    wrong = {f"{what} of {name}": (seen[name], value) for name, value in true.items() if seen[name] != value}
    return wrong or {what: (sum(true.values()), sum(true.values()))}


@case("stack growth", group="Go", variants=VERSIONS, short=SHORT)
def growth(scale: float, version: str) -> Outcome:
    """Stacks move under calls that have pointers into them, by growing and by the collector's shrinking them."""
    seen = follow(targets.go_program("torture", version), "growth", 997 * scale, GROWTH, env={"GOGC": "1"})
    assert seen.truth["shrinks"]
    return Outcome(seen.truth["moves"] + seen.truth["shrinks"], "moved stacks", seen.checks)


@case("pointers into stacks", group="Go", variants=VERSIONS, short=SHORT[1:])
def pointers(scale: float, version: str) -> Outcome:
    """What a pointer into a caller's frame leads to is read after that frame has moved."""
    program = targets.go_program("torture", version)
    values: list[Any] = []
    with targets.run(program, "-n", str(int(997 * scale)), "growth", env={"GOGC": "1"}) as target:
        with pyebpf.trace(f"{program}:main.fills", ret=["reply.value"], pid=target.pid) as trace:
            truth = watch(target, trace, lambda calls: values.extend(call.ret["reply.value"] for call in calls))
        changed = altered(target.pid, program)
        again = target.go()
    checks = {
        "values": (sum(values), 2 * truth["functions"]["main.fills"]["results"]),
        "errors": (truth["wrong"] + again["wrong"], 0),
        "changed code": (changed, 0),
    }
    return Outcome(truth["moves"], "moved stacks", checks)


@case("panics and Goexit", group="Go", variants=VERSIONS, short=SHORT)
def panics(scale: float, version: str) -> Outcome:
    """Panics of all kinds, nested, repeated, recovered; Goexit, also during a panic."""
    seen = follow(targets.go_program("torture", version), "panics", 997 * scale, PANICS)
    assert seen.truth["goexits"]
    return Outcome(seen.truth["panics"] + seen.truth["goexits"], "panics and exits", seen.checks)


@case("goroutine storm", group="Go", variants=VERSIONS, short=SHORT)
def storm(scale: float, version: str) -> Outcome:
    """10,007 goroutines are inside one function at once, then change thread by all means there are."""
    amount = 10007 * scale
    seen = follow(targets.go_program("torture", version), "storm", amount, STORM, env={"GOMAXPROCS": "8"})
    assert seen.truth["most"] >= int(amount)
    return Outcome(seen.truth["migrated"], "changed threads", seen.checks, f"{seen.truth['most']} goroutines at once")


@case("short goroutines", group="Go", variants=VERSIONS, short=SHORT[1:])
def births(scale: float, version: str) -> Outcome:
    seen = follow(targets.go_program("torture", version), "births", 5003 * scale, BIRTHS)
    return Outcome(seen.truth["born"], "goroutines", seen.checks, f"{seen.truth['persecond']} a second")


@case("garbage collection", group="Go", variants=VERSIONS, short=SHORT[1:])
def collect(scale: float, version: str) -> Outcome:
    seen = follow(targets.go_program("torture", version), "collect", 997 * scale, COLLECT, env={"GOGC": "1"})
    return Outcome(seen.truth["collections"], "collections", seen.checks)


@case("asynchronous preemption", group="Go", variants=VERSIONS, short=SHORT[1:])
def preemption(scale: float, version: str) -> Outcome:
    """SIGURG interrupts loops, and the probed instructions; the runtime's own handler is probed, too."""
    preempts = "runtime.asyncPreempt2"
    program = targets.go_program("torture", version)
    seen = follow(program, "spin", 997 * scale, SPIN, env={"GOMAXPROCS": "4"}, beside=(preempts, "runtime.sighandler"))
    return Outcome(seen.beside["runtime.sighandler"], "signals", seen.checks, f"{seen.beside[preempts]} preemptions")


@case("no asynchronous preemption", group="Go", variants=VERSIONS, short=())
def no_preemption(scale: float, version: str) -> Outcome:
    env = {"GODEBUG": "asyncpreemptoff=1", "GOMAXPROCS": "4"}
    seen = follow(targets.go_program("torture", version), "spin", 997 * scale, SPIN, env=env)
    return Outcome(seen.truth["collections"], "collections", seen.checks)


@case("signals", group="Go", variants=VERSIONS, short=SHORT[1:])
def signals(scale: float, version: str) -> Outcome:
    """The program sends itself signals as fast as it can, and catches them."""
    env = {"SIGNALS": "1", "GOMAXPROCS": "4"}
    seen = follow(targets.go_program("torture", version), "spin", 997 * scale, SPIN, env=env)
    assert seen.truth["received"]
    return Outcome(seen.truth["sent"], "signals", seen.checks)


@case("CPU profile", group="Go", variants=VERSIONS, short=SHORT[1:])
def profile(scale: float, version: str) -> Outcome:
    env = {"PROFILE": "1", "GOMAXPROCS": "4"}
    program = targets.go_program("torture", version)
    seen = follow(program, "spin", 997 * scale, SPIN, env=env, beside=("runtime.sigprof",))
    return Outcome(seen.beside["runtime.sigprof"], "samples", seen.checks)


@case("closures, methods, interfaces", group="Go", variants=VERSIONS, short=SHORT[1:])
def shapes(scale: float, version: str) -> Outcome:
    seen = follow(targets.go_program("torture", version), "shapes", 2003 * scale, SHAPES, env={"GOGC": "1"})
    return Outcome(seen.checks["calls"][0], "calls", seen.checks)


@case("processes started", group="Go", variants=VERSIONS, short=SHORT[1:])
def spawn(scale: float, version: str) -> Outcome:
    """A child runs in the traced program's memory until it executes; what starts it is probed, too."""
    program = targets.go_program("torture", version)
    seen = follow(program, "spawn", 499 * scale, SPAWN, beside=("syscall.*ork*", "os.*"))
    return Outcome(seen.truth["spawned"], "processes", seen.checks)


@case("generics", group="Go", variants=VERSIONS[1:], short=SHORT[1:])
def generics(scale: float, version: str) -> Outcome:
    """Functions with type parameters, whose dictionaries and items lie on stacks that move."""
    program = targets.go_program("torturegeneric", version)
    seen = follow(program, "generics", 199 * scale, ("main.Digs", "main.(*Stack).Push"), env={"GOGC": "1"})
    return Outcome(seen.truth["moves"], "moved stacks", seen.checks)


@case("cgo callbacks", group="Go", variants=(*VERSIONS, "local"), short=("local",))
def callbacks(scale: float, version: str) -> Outcome:
    """From Go to C and back, stacks that grow there, and panics through C's frames."""
    program = targets.go_program("torturecgo", version, env={"CGO_ENABLED": "1"})
    names = ("main.crosses", "main.sorts", "main.descends", "main.survives")
    seen = follow(program, "callbacks", 997 * scale, names)
    return Outcome(seen.truth["callbacks"], "callbacks", seen.checks, f"{seen.truth['panics']} panics")


BUILDS = {
    "stripped": ("-ldflags=-s -w",),
    "pie": ("-buildmode=pie",),
    "pie stripped": ("-buildmode=pie", "-ldflags=-s -w"),
    "unoptimised": ("-gcflags=-N -l",),
}


@case(
    "other builds",
    group="Go",
    variants=[f"{version} {build}" for version in VERSIONS for build in BUILDS],
    short=("1.15 pie stripped", "1.27 pie"),
)
def builds(scale: float, variant: str) -> Outcome:
    """Stacks that grow and move, in programs without symbols, without fixed addresses, without optimisation."""
    version, _, build = variant.partition(" ")
    program = targets.go_program("torture", version, *BUILDS[build])
    argument = "arg0" if "stripped" in build else "who"
    # 1.15 has results on the stack, behind the arguments, and a stripped program doesn't tell how many those are.
    results = () if variant.startswith("1.15") and "stripped" in build else ("retval",)
    seen = follow(program, "growth", 499 * scale, GROWTH, argument=argument, results=results, env={"GOGC": "1"})
    return Outcome(seen.truth["moves"] + seen.truth["shrinks"], "moved stacks", seen.checks)


@case("panics through C", group="Go", variants=(*VERSIONS, "local"), short=())
def through_c(scale: float, version: str) -> Outcome:
    """A C function is timed through which Go panics: its frame never returns."""
    program = targets.go_program("torturecgo", version, env={"CGO_ENABLED": "1"})
    with targets.run(program, "-n", str(int(997 * scale)), "callbacks") as target:
        with pyebpf.latency(f"{program}:bounce", pid=target.pid) as latency:
            assert not latency.skipped, latency.skipped
            target.begin()
            truth = target.first_line()
            timed = latency.snapshot()["bounce"].count
            losses = latency.losses
        changed = altered(target.pid, program)
        again = target.go()
    checks = {
        "timed": (timed, truth["functions"]["main.crosses"]["returns"]),
        "unreturned": (losses.abandoned + losses.in_progress, truth["panics"]),
        "lost": (losses.lost + losses.unmatched, 0),
        "errors": (truth["wrong"] + again["wrong"], 0),
        "changed code": (changed, 0),
    }
    return Outcome(truth["panics"], "panics", checks)


@case("attached again and again", group="Go", variants=VERSIONS, short=SHORT[1:])
def again_and_again(scale: float, version: str) -> Outcome:
    """All functions of package main, counted, timed and traced, attached and detached while the program works."""
    program = targets.go_program("torture", version)
    everything = f"{program}:main.*"
    ours = [f"{program}:{name}" for name in dict.fromkeys(GROWTH + PANICS + BIRTHS + COLLECT + SPIN + SHAPES)]
    rounds = max(2, int(29 * scale))
    traced, hits = Traced(), 0
    with targets.run(program, "-n", "23", "-on", "all") as target:
        target.begin()
        for _ in range(rounds):
            with pyebpf.count(everything, pid=target.pid) as counts, \
                 pyebpf.latency(everything, pid=target.pid) as latency, \
                 pyebpf.trace(*ours, args=["who"], ret=["retval"], pid=target.pid) as trace:  # fmt: skip
                before = sum(traced.calls.values())
                for call in trace:
                    traced.add([call])
                    if sum(traced.calls.values()) == before + 997:
                        break
                hits += sum(counts.snapshot().values()) + sum(h.count for h in latency.snapshot().values())
        target.begin()
        truth = target.first_line()
        changed = altered(target.pid, program)
        again = target.go()
    checks = {
        "traced": (sum(traced.calls.values()), 997 * rounds),
        "mismatched": (traced.mismatched, 0),
        "errors": (truth["wrong"] + again["wrong"], 0),
        "changed code": (changed, 0),
    }
    return Outcome(rounds, "times attached", checks, f"{hits} hits")


@case("every function of the runtime", group="Go", variants=VERSIONS, short=SHORT)
def runtime(scale: float, version: str) -> Outcome:
    """Scheduler, collector, write barriers, signal handlers, stack growth: all counted, while all they do is needed."""
    program = targets.go_program("torture", version)
    with targets.run(program, "-n", str(max(1, int(7 * scale))), "all", env={"GOGC": "1"}) as target:
        with pyebpf.count(f"{program}:runtime.*", f"{program}:main.*", pid=target.pid) as counts:
            target.begin()
            truth = target.first_line()
            counted = by_name(counts.snapshot())
        changed = altered(target.pid, program)
        again = target.go()
    checks = {
        **same("calls", counted, {name: its["calls"] for name, its in truth["functions"].items()}),
        "errors": (truth["wrong"] + again["wrong"], 0),
        "changed code": (changed, 0),
    }
    hit = sum(1 for name in counted if name.startswith("runtime."))
    return Outcome(sum(counted.values()), "hits", checks, f"of {hit} functions")
