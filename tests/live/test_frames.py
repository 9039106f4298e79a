# SPDX-License-Identifier: BSD-2-Clause
"""Names of frames belong to a process, not to its number."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import targets

_REUSE = """
import json, sys, time
from pathlib import Path
import targets
from pyebpf.binary.image import Image
from pyebpf.tools.frames import Frames

programs = [Path(path) for path in sys.argv[1:]]
with Image.open(str(programs[0])) as image:
    address = image.search("hot")[0].address
number, rounds = 0, 0
while rounds < 3:
    frames = Frames({})
    with targets.run(programs[0], "hot") as old:
        names = [frames.user(old.pid, [address])[0].name]
        number = old.pid
    names.append(frames.user(number, [address])[0].name)  # gone: still known
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
    with targets.run(programs[1], "hot") as new:
        if new.pid != number:  # somebody else was quicker
            continue
        deadline = time.monotonic() + targets.DEADLINE
        while (name := frames.user(number, [address])[0].name) == "hot" and time.monotonic() < deadline:
            time.sleep(0.01)
        names.append(name)
    frames.close()
    rounds += 1
    print(json.dumps(names), flush=True)
"""


def test_a_number_used_again_gets_its_own_names() -> None:
    old, new = (targets.compiled(name, "-no-pie", "-static") for name in ("calls.c", "torture/spawns.c"))
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", _REUSE, old, new],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=targets.DEADLINE, check=True,
    )  # fmt: skip
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rounds) == 3
    for names in rounds:
        assert names[:2] == ["hot", "hot"] and names[2] != "hot", rounds
