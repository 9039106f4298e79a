# SPDX-License-Identifier: BSD-2-Clause
"""The files that one `resolve` reads, each once."""

from __future__ import annotations

from ..binary.image import Image
from ..errors import BinaryError
from .locate import Located


class Images:
    """Images by the file they are of.

    Attributes:
        by_file: (st_dev, st_ino) -> image.
    """

    __slots__ = ("by_file",)

    def __init__(self) -> None:
        self.by_file: dict[tuple[int, int], Image] = {}

    def of(self, file: Located) -> Image:
        """The image of `file`, opened if need be. Raises like `Image.open`."""
        image = self.by_file.get(file.identity)
        if image is None:
            try:
                image = Image.open(file.path, debug_root=file.root)
            except BinaryError as error:
                error.hint = error.hint or _about_script(file)
                raise
            self.by_file[file.identity] = image
        return image

    def __enter__(self) -> Images:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        """They stay open, for whoever gets the result, unless there is none."""
        if failure is not None:
            for image in self.by_file.values():
                image.close()


def _about_script(file: Located) -> str | None:
    try:
        with open(file.path, "rb") as script:
            first = script.read(256)
    except OSError:
        return None
    if not first.startswith(b"#!"):
        return None
    interpreter = first[2:].split(b"\n")[0].strip().decode("utf-8", "replace")
    return f"it is a script that {interpreter} runs: trace that program"
