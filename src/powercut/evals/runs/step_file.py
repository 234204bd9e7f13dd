"""The steps of one completion of a run, as ``powercut sample --save-trace`` writes them: a compressed file.

It is written while the completion is drawn, so that nothing of it is held in memory, and takes its name when it is
whole: what a kill leaves is a draft, and the completion is drawn again.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from powercut.durable import Draft, encode, one_system_line

_LEVEL = 4
"""Of compression: higher ones cost more time than they save space."""


class StepFile:
    """Takes the lines of step_lines.py of one completion. Raises PowercutError for what cannot be written."""

    def __init__(self, path: Path) -> None:
        with one_system_line(path.parent):
            path.parent.mkdir(exist_ok=True)
        self._draft = Draft(path)
        self._packer = zlib.compressobj(_LEVEL, wbits=31)  # as gzip does, without a time: the same lines, the same file

    def add(self, line: dict[str, Any]) -> None:
        """Write one line."""
        self._draft.write(self._packer.compress(encode(line)))

    def keep(self) -> None:
        """Put the file in its place: all lines are there."""
        self._draft.write(self._packer.flush())
        self._draft.keep()

    def drop(self) -> None:
        """There is no such completion."""
        self._draft.drop()
