"""Files that survive a kill at any moment: what was written is there, whole.

A line counts once its newline is on the disk: each is written and synced before the work goes on. A whole file is
either the old one or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from powercut.errors import PowercutError
from powercut.strict_json import json_line

DRAFT = ".tmp"
"""Ends the name of a file that is being written."""


class Lines:
    """A file of JSON lines that survives a kill at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, record: Any) -> None:
        """Add a line and wait until it is on the disk. PowercutError, with nothing added, if that fails."""
        data = encode(record)
        with self._lock, one_system_line(self.path):
            new = not self.path.exists()
            with self.path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file)
                except BaseException:
                    file.truncate(before)
                    raise
            if new:
                _sync_folder(self.path.parent)

    def replace(self, lines: Iterable[bytes]) -> None:
        """Write these lines in place of all others, or none at all if that fails. No line: no file."""
        data = b"".join(lines)
        if data:
            write_whole(self.path, data)
        else:
            with one_system_line(self.path):
                self.path.unlink(missing_ok=True)

    def cut_torn_line(self) -> None:
        """Cut off what a kill left of a last line."""
        if self.path.is_file():
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.truncate(self.path, whole)


class Draft:
    """A file that is written piece by piece: at any moment the old one is there, or, once it is kept, the new one.

    Raises PowercutError for what cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._draft = path.with_name(path.name + DRAFT)
        with one_system_line(path):
            self._draft.unlink(missing_ok=True)  # of a process that was killed; a pipe or a link may stand there too
            self._file = self._draft.open("xb")

    def write(self, data: bytes) -> None:
        """Add to it."""
        with one_system_line(self.path):
            self._file.write(data)

    def keep(self) -> None:
        """Put it in its place, once it is on the disk."""
        with one_system_line(self.path):
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())
            self._draft.replace(self.path)
            _sync_folder(self.path.parent)

    def drop(self) -> None:
        """Leave what was there before."""
        with contextlib.suppress(OSError):  # a full disk, on which nothing more is to be written
            self._file.close()
        with one_system_line(self.path):
            self._draft.unlink(missing_ok=True)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file so that at any moment either the old one or the new one is there; PowercutError if that fails."""
    draft = Draft(path)
    draft.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
    draft.keep()


@contextlib.contextmanager
def one_system_line(path: Path) -> Iterator[None]:
    """Raise PowercutError for what the system says of a path."""
    try:
        yield
    except OSError as error:
        raise PowercutError(f"cannot write {path}: {error.strerror or error}") from error


def encode(record: Any) -> bytes:
    """A record as a line of a file."""
    return json_line(record).encode("utf-8", "backslashreplace")  # a lone surrogate becomes the escape that JSON has


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
