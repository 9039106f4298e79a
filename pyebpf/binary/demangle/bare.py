# SPDX-License-Identifier: BSD-2-Clause
"""A demangled C++ name without its parameters, from the text alone."""

from __future__ import annotations

import re

MAX_LENGTH = 64 << 10

_QUALIFIERS = (" const", " volatile", " restrict", " noexcept", " &", " &&")
_BOUNDS = re.compile(r" (?:\[[^\]]*\])+")
_SCOPE_QUALIFIERS = re.compile(r"(?: (?:const|volatile|restrict|&&?)){1,5}::")
_POINTER = re.compile(r"[^()]*?[*&]+(?: const| volatile| restrict)*")
_CONVERSION = re.compile(r"(?:^|::)operator ")
_PARENTHESES = re.compile(r"[()]")
# These name a type, which may end in a parameter list of its own.
_OF_TYPE = re.compile(r"(?:construction )?vtable for |VTT for |typeinfo (?:name |fn )?for |java Class for ")
_OF_FUNCTION = re.compile(
    r"(?:(?:non-virtual|virtual|covariant return) thunk to |hidden alias for |(?:non-)?transaction clone for "
    r"|global (?:con|de)structors keyed to )+"
)
# An operator's name holds brackets that are none; what follows it may hold spaces.
_TOKEN = re.compile(r"\boperator\b|->|[(){}<>\[\] ]")
_CLOSES = {")": "(", "}": "{", "]": "[", ">": "<"}


def without_parameters(demangled: str) -> str:
    """See `pyebpf.binary.demangle.without_parameters`."""
    if len(demangled) > MAX_LENGTH:
        return demangled
    text = demangled.partition(" [clone ")[0]
    if ")" not in text or _OF_TYPE.match(text):
        return text
    m = _OF_FUNCTION.match(text)
    if m:
        head = _head(text[m.end() :])
        return text if head is None else m.group() + head
    for _ in range(8):  # a function that returns a pointer to a function is declared inside its return type
        unbound = _without_bounds(text)
        head = _head(unbound)
        if head is None:
            return text
        if unbound != text:  # it returns a reference to an array: `int (&f<int>(int)) [3]`
            text = unbound[len(head) + 1 : -1]
        elif head.endswith(")") and not head.endswith("operator()") and not _CONVERSION.search(head):
            text = head[_opening(head) + 1 : -1]
        else:
            return _without_result(head)
        m = _POINTER.match(text)
        text = text[m.end() :] if m else text
    return text


def _without_bounds(text: str) -> str:
    """Without the array bounds at the end."""
    if text.endswith("]"):
        end = text.rfind(") [") + 1
        if end > 0 and _BOUNDS.fullmatch(text, end):
            return text[:end]
    return text


def _head(text: str) -> str | None:
    """What stands before the last parenthesized group, if qualifiers are all that follows it."""
    for _ in range(8):
        for qualifier in _QUALIFIERS:
            if text.endswith(qualifier):
                text = text[: -len(qualifier)]
    if not text.endswith(")"):
        return None
    head = text[: max(_opening(text), 0)]
    if not head or (head.endswith("operator") and not (head[-9:-8].isalnum() or head[-9:-8] == "_")):
        return None
    return head


def _opening(text: str) -> int:
    """Where the parenthesis opens that closes at the end of ``text``; -1 when none does."""
    depth = 0
    for m in reversed(list(_PARENTHESES.finditer(text))):
        depth += 1 if m.group() == ")" else -1
        if depth == 0:
            return m.start()
    return -1


def _without_result(head: str) -> str:
    """Only templates show a return type."""
    if " " not in head or not head.endswith(">"):
        return head
    start = 0
    stack: list[str] = []
    skip = 0
    for m in _TOKEN.finditer(head):
        token = m.group()
        at = m.start()
        if at < skip or token == "->":
            continue
        if token == "operator":
            if not stack:
                break
            skip = m.end() + 2
        elif token == " ":
            if not stack:
                scope = _SCOPE_QUALIFIERS.match(head, at)
                if scope is None or head[at - 1] != ")":
                    start = at + 1
                else:
                    skip = scope.end()
        elif token == "<":
            if head[at - 1] not in ")}":  # there it is the operator
                stack.append(token)
        elif token == ">":
            if stack and stack[-1] == "<":
                stack.pop()
        elif token in "({[":
            stack.append(token)
        else:
            opening = _CLOSES[token]
            while stack and stack.pop() != opening:
                pass
    return head[start:]
