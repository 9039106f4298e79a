# SPDX-License-Identifier: BSD-2-Clause
"""Names that others chose, of bytes that are no text, where the kernel shows them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pyebpf.core import kernel
from pyebpf.errors import Error
from pyebpf.export import http

# PR_SET_NAME is 15, include/uapi/linux/prctl.h.
_RENAMED = (
    "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, b'\\xff\\x1b[31m', 0, 0, 0);"
    "listener = socket.create_server(('127.0.0.1', 0)); print(listener.getsockname()[1], flush=True); sys.stdin.read()"
)


def test_port_of_a_program_without_a_name_that_is_text() -> None:
    command = [sys.executable, "-c", _RENAMED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(Error, match=f"by process {other.pid} ") as caught:
            http.bind("127.0.0.1", port)
        other.communicate("")
    assert os.fsencode(str(caught.value)).endswith(b"(\xff\x1b[31m)")


def test_our_own_name() -> None:
    """Whoever embeds us may call his threads what he likes."""
    asked = "from pyebpf.core import kernel; print(kernel.effective_capabilities())"
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0); {asked}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == kernel.effective_capabilities()
