# SPDX-License-Identifier: BSD-2-Clause
"""Go's errors: the message that their Error method makes, without it being called."""

from __future__ import annotations

import pytest
import targets

import pyebpf
from pyebpf.tools.values import Interface


@pytest.mark.parametrize("version", ["1.15", "1.19", "1.27"])
def test_messages(version: str) -> None:
    program = targets.go_program("failures", version)
    with targets.run(program) as target:
        with pyebpf.trace(f"{program}:main.show", args=["err"], ret=["retval"], pid=target.pid, strsize=400) as session:
            truth = target.go()
            calls = list(session.drain())
    told = [(error["type"], error["message"]) for error in truth["errors"]]
    assert len(told) == 7 and told[0][1] == "dial tcp 127.0.0.1:1: connect: connection refused"
    for side in ([call.args["err"] for call in calls], [call.ret["retval"] for call in calls]):
        assert [(value.type, str(value.value)) for value in side if isinstance(value, Interface)] == told
