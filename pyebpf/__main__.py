# SPDX-License-Identifier: BSD-2-Clause
"""``python -m pyebpf``."""

from pyebpf.cli.main import entry

entry()
