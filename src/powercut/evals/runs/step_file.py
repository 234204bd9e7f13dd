"""The steps of one completion of a run, as ``powercut sample --save-trace`` writes them: a compressed file.

It is written while the completion is drawn, so that nothing of it is held in memory, and takes its name when it is
whole: what a kill leaves is a draft, and the completion is drawn again. Nothing is open before the first line: many
completions wait for their turn, and a process may have only so many files open.
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
        self._path = path
        self._packed: PackedDraft | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Write one line."""
        if self._packed is None:
            self._packed = PackedDraft(self._path)
        self._packed.write(encode(line))

    def keep(self) -> None:
        """Put the file in its place: all lines are there. No line: no file, nor one of a completion drawn before."""
        if self._packed is not None:
            self._packed.keep()
        else:
            with one_system_line(self._path):
                self._path.unlink(missing_ok=True)

    def drop(self) -> None:
        """Leave what was there before: there is no such completion."""
        if self._packed is not None:
            self._packed.drop()


class PackedDraft(Draft):
    """A draft whose data are compressed, as gzip does, without a time: the same lines, the same file."""

    def __init__(self, path: Path) -> None:
        with one_system_line(path.parent):
            path.parent.mkdir(exist_ok=True)
        super().__init__(path)
        self._packer = zlib.compressobj(_LEVEL, wbits=31)

    def write(self, data: bytes) -> None:
        """Add what is packed of it by now."""
        super().write(self._packer.compress(data))

    def keep(self) -> None:
        """Add the rest, and put it in its place."""
        super().write(self._packer.flush())
        super().keep()
