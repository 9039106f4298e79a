# SPDX-License-Identifier: BSD-2-Clause
"""Why pyebpf isn't first in a row, said from what was measured.

A page prints one of these only beside a row in which pyebpf is in fact behind. ``{section/what/who/metric}`` stands for
a value of the same run; of `who` and `metric` the beginning suffices.
"""

from __future__ import annotations

import fnmatch
from typing import NamedTuple

FLOOR = "an empty program"


class Explanation(NamedTuple):
    """Attributes:
    section, what, metric: of the rows, as patterns with * and ?.
    text: with values of the run in braces.
    """

    section: str
    what: str
    metric: str
    text: str


EXPLANATIONS = (
    Explanation(
        "hits", "[lc]a[tl][el]*", "ns a call",
        "The physics of not touching the stack. pyebpf probes the return instruction, which the kernel"
        " single-steps: an empty"
        " program there takes {hits/an empty program/at a return instruction/ns} ns, at the entry"
        " {hits/an empty program/at the entry/ns} ns, at the kernel's return probe"
        " {hits/an empty program/at the return, by/ns} ns. The peers use that one, which replaces the return"
        " address on the"
        " stack: it ends Go programs, and C++ ones that throw through it. `--allow-uretprobe` uses it too"
        " ({hits/latency histogram/pyebpf --allow/ns} ns).",
    ),
    Explanation(
        "growth.1", "latency histogram*", "ns a call",
        "As in the table of the cost of a call: the single step of the return instruction. `--allow-uretprobe`"
        " beside it.",
    ),
    Explanation(
        "hits", "trace", "ns a call",
        "Not the program: pyebpf's runs for {hits.1/trace/pyebpf 0/ns} ns of it (bpftrace 0.23:"
        " {hits.1/trace/bpftrace 0.23/ns}, 0.27: {hits.1/trace/bpftrace 0.27/ns}), the trap takes"
        " {hits/an empty program/at the entry/ns} with every tool. The rest is the reader's, in Python, which takes"
        " the records from another CPU while they come, and is woken until it knows that many come. In exchange every"
        " call is shown, or said to be lost: see the section on records.",
    ),
    Explanation(
        "hits", "*", "ns a call",
        "pyebpf's programs run for {hits.1/count/pyebpf 0/ns} ns a count, {hits.1/stack/pyebpf 0/ns} ns a stack"
        " (bpftrace 0.27:"
        " {hits.1/count/bpftrace 0.27/ns} and {hits.1/stack/bpftrace 0.27/ns}); the trap takes"
        " {hits/an empty program/at the entry/ns} with every tool.",
    ),
    Explanation(
        "hits.1", "*", "ns a call",
        "pyebpf's programs are compiled before, for every target: function, process, nesting and goroutine are"
        " decided at run"
        " time, and each entry is accounted for. bpftrace's are compiled on the host for the one question.",
    ),
    Explanation(
        "start*", "*", "peak memory*",
        "A Python that does nothing takes {sizes.1/Python alone/Python/peak} MB, one that imports the modules of"
        " opensnoop {sizes.1/opensnoop's modules/pyebpf 0/peak} MB; libbpf-tools are C programs, whose `opensnoop"
        " --version` takes {sizes.1/--version/libbpf-tools/peak} MB.",
    ),
    Explanation(
        "start*", "*", "*",
        "The others are C and C++ programs. A Python that does nothing takes {sizes.1/Python alone/Python/ms} ms and"
        " {sizes.1/Python alone/Python/CPU} ms of CPU to begin and end; one that imports the modules of opensnoop"
        " {sizes.1/opensnoop's modules/pyebpf 0/ms} and {sizes.1/opensnoop's modules/pyebpf 0/CPU} ms. Behind that"
        " come, with every tool, reading the object, the kernel's check of its programs, and attaching.",
    ),
    Explanation(
        "attaching", "*", "peak memory*",
        "Python alone takes {sizes.1/Python alone/Python/peak} MB, attaching to one function"
        " {attaching/1/pyebpf 0/peak} MB, to 10,000 {attaching/10,000/pyebpf 0/peak} MB.",
    ),
    Explanation(
        "attaching", "*", "*",
        "One function takes {attaching/1/pyebpf 0/start} ms until it is attached, and {attaching/1/pyebpf 0/CPU} ms of"
        " CPU; 10,000 take {attaching/10,000/pyebpf 0/start} and {attaching/10,000/pyebpf 0/CPU} ms. Before a probe"
        " is placed, the function's first instruction is read from the file and decoded, in Python, to prove that"
        " a probe may stand there; the breakpoints the kernel places with every tool alike.",
    ),
    Explanation(
        "symbols", "*", "*",
        "`pyebpf list` shows what would be traced: of each function it decodes the first instructions, in Python,"
        " to prove"
        " where a probe may stand, and it shows sizes, addresses, languages and demangled names. bpftrace lists names."
        " Attaching, below, decodes what it probes only.",
    ),
    Explanation(
        "symbols.1", "*", "*",
        "The tables of symbols are searched in Python; Python alone takes {sizes.1/Python alone/Python/CPU} ms of"
        " CPU and"
        " {sizes.1/Python alone/Python/peak} MB. What is found is decoded before it is probed.",
    ),
    Explanation(
        "delivery.1", "ex[ei]*", "ns added",
        "Of an exec pyebpf's programs run for {overhead/execsnoop: exec/pyebpf/ns} ns, of an exit for"
        " {overhead/exitsnoop: exit/pyebpf/ns}; the reader, in Python, runs beside the loop (the column of CPU).",
    ),
    Explanation(
        "delivery.1", "opensnoop", "ns added",
        "What isn't shown costs less: libbpf-tools 0.37 show {delivery.1/opensnoop/libbpf-tools 0.37/shown} % of what"
        " is opened. pyebpf's programs run for {overhead/opensnoop: open/pyebpf/ns} ns.",
    ),
    Explanation(
        "delivery.1", "tcpstates", "ns added",
        "Of a short connection pyebpf's programs run for {overhead/tcpstates: short connection/pyebpf/ns} ns in"
        " {overhead/tcpstates: short connection/pyebpf/runs} runs: they keep whose the connection is, also where a"
        " state changes in an interrupt, and since when it is in its state. bpftrace's is a one-liner, which prints"
        " ports, states and whatever process is current.",
    ),
    Explanation(
        "delivery.1", "killsnoop", "ns added",
        "Of a signal its programs run for {overhead/killsnoop: kill/pyebpf/ns} ns; the rest is the tracepoints' own"
        " work and"
        " the reader's, which is woken until it knows that many come.",
    ),
    Explanation(
        "delivery.1", "tcptop", "ns added",
        "Of a short connection its programs run for {overhead/tcptop: short connection/pyebpf/ns} ns in"
        " {overhead/tcptop: short connection/pyebpf/runs} runs; the rest is the tracepoints' own work, with every"
        " tool.",
    ),
    Explanation(
        "delivery*", "*", "CPU*",
        "A line is made in Python, in batches; libbpf-tools' are made by printf. Where they take less CPU they also"
        " show less.",
    ),
    Explanation(
        "delivery*", "*", "peak memory*",
        "Python alone takes {sizes.1/Python alone/Python/peak} MB, and pyebpf's buffers are larger, so that less is"
        " lost.",
    ),
    Explanation(
        "delivery*", "*", "events a second",
        "The loop is the slower, the more of its events are copied and shown: compare the column of those shown.",
    ),
    Explanation(
        "sizes", "installed", "*",
        "libbpf-tools' libraries take {sizes/installed/libbpf-tools/libraries} MB, their programs"
        " {sizes/installed/libbpf-tools/all} MB; pyebpf's package takes {sizes/installed/pyebpf 0/all} MB with cffi:"
        " tools, a library for programs in Python, and readers of what C, C++, Rust and Go say of their functions.",
    ),
    Explanation(
        "sizes*", "*", "*",
        "A Python that does nothing takes {sizes.1/Python alone/Python/ms} ms, {sizes.1/Python alone/Python/CPU} ms"
        " of CPU and"
        " {sizes.1/Python alone/Python/peak} MB; the others are C and C++ programs.",
    ),
    Explanation(
        "growth", "* a second", "CPU*",
        "Compare the column of those shown. A line is made in Python, in batches of up to 1024 records; at low"
        " rates the reader"
        " looks every 4 ms, or is woken for each.",
    ),
    Explanation(
        "growth.2", "*", "different*",
        "A stack has a row of the kernel's table by its hash, and of nearly as many stacks as there is room for a few"
        " find theirs taken, four times over (`--max-keys` makes more room). They are counted all the same, without"
        " their frames, and that is said: a report never looks complete when it isn't.",
    ),
    Explanation(
        "growth.2", "*", "peak memory*",
        "pyebpf's maps have a fixed size from the start; the values and stacks are read into Python to be sorted"
        " and named.",
    ),
    Explanation(
        "growth.2", "*", "CPU*",
        "Naming the frames of a stack and sorting is done in Python; Python alone takes"
        " {sizes.1/Python alone/Python/CPU} ms.",
    ),
    Explanation(
        "growth.2", "* values", "ns a call",
        "Which values are kept of a call is not known when the program is compiled: it carries out a list of steps,"
        " and the key of its table is as long as what they keep. bpftrace's is compiled on the host for the one value.",
    ),
    Explanation(
        "growth.2", "* stacks", "ns a call",
        "Where a stack's row in the kernel's table is taken, the stack is walked once more for the next of four"
        " tables. Who walks it once only shows fewer: compare the column of those shown.",
    ),
    Explanation(
        "growth*", "*", "ns a call",
        "pyebpf's programs run for {hits.1/count/pyebpf 0/ns} ns of a count, {hits.1/latency histogram/pyebpf 0/ns} ns"
        " of a call that is timed; the rest is the trap, with every tool alike.",
    ),
)


def explained(section: str, what: str, metric: str) -> str | None:
    """The first that fits; None: there is none yet."""
    for one in EXPLANATIONS:
        pairs = ((section, one.section), (what, one.what), (metric, one.metric))
        if all(fnmatch.fnmatchcase(text, pattern) for text, pattern in pairs):
            return one.text
    return None
