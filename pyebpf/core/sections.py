# SPDX-License-Identifier: BSD-2-Clause
"""The variables of an object: ``.rodata``, ``.data``, ``.bss`` and sections of the embedder's own."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyebpf.core import bpf, libbpf
from pyebpf.errors import NoSuchName, StateError

if TYPE_CHECKING:
    from pyebpf.core.btf import Variable
    from pyebpf.core.object import Object


class Names(dict[str, Any]):
    """What an object has, by name; asked for another name it tells those close to it."""

    __slots__ = ("kind",)

    def __init__(self, kind: str, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.kind = kind

    def __missing__(self, name: str) -> Any:
        raise no_such(self.kind, name, self)


def no_such(kind: str, name: object, known: Any) -> NoSuchName:
    """The error that there is nothing of this name."""
    from difflib import get_close_matches

    close = tuple(get_close_matches(str(name), list(known), 3)) or tuple(known)[:3]
    return NoSuchName(
        f"there is no {kind} {name!r}; there is {', '.join(close) if close else 'none at all'}", close_matches=close
    )


class DataSection(Mapping[str, Any]):
    """The variables of a section, by name, typed by BTF: read and written like a dict's values.

    Constants (``.rodata``) are written before the object is loaded, so that the verifier can prune by them. Others can
    be written at any time; once the object is loaded that is the memory the programs see.
    """

    # It is itself, not what is in it at the moment.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, name: str, pointer: Any, variables: list[Variable], owner: Object) -> None:
        self.name, self._pointer, self._owner = name, pointer, owner
        self._live: mmap.mmap | None = None
        self._variables = {variable.name: variable for variable in variables}
        self._constant = name.startswith((".rodata", ".kconfig"))

    def memory(self) -> Any:
        """The section's bytes: the initial value, and once loaded the live one."""
        if self._owner.closed:
            raise StateError(f"{self.name}: the object is closed")
        if self._live is not None:
            return self._live
        if self._pointer is None:
            raise StateError(f"the object has no section {self.name}")
        size = libbpf.ffi.new("size_t *")
        address = libbpf.lib().bpf_map__initial_value(self._pointer, size)
        if address == libbpf.ffi.NULL:
            raise StateError(f"{self.name} can't be read")
        if self._owner.loaded and not self._constant:  # which is frozen: its initial value is its last
            self._live = mmap.mmap(libbpf.lib().bpf_map__fd(self._pointer), size[0])
            return self._live
        return libbpf.ffi.buffer(address, size[0])

    def close(self) -> None:
        """Lets go of the memory."""
        if self._live is not None:
            bpf.unmap(self._live)

    def _variable(self, name: str) -> Variable:
        try:
            return self._variables[name]
        except KeyError:
            raise no_such(f"variable in {self.name}", name, self._variables) from None

    def __getitem__(self, name: str) -> Any:
        variable = self._variable(name)
        with self._owner.lock:
            return self._owner.btf.layout_of(variable.type_id).unpack(self.memory(), variable.offset)

    def __setitem__(self, name: str, value: Any) -> None:
        if self._constant:
            self._owner._require_open(f"constant {name}")
        variable = self._variable(name)
        packed = self._owner.btf.layout_of(variable.type_id).pack(value, name)
        with self._owner.lock:
            self.memory()[variable.offset : variable.offset + len(packed)] = packed

    def update(self, values: dict[str, Any]) -> None:
        """Sets several variables."""
        for name, value in values.items():
            self[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)
