"""Ends what is sandboxed when powercut itself is killed: a process of its own, that sees powercut's end.

Run as a program it reads what is there, a line each: FOLDER, with the process that runs in it behind a tab, or an empty
field once both are gone. At the end of its input (powercut closed it, or died) it kills and removes what is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

import psutil

_LAST_WAIT = 10.0
"""Seconds, at most, for what was killed to be gone."""


class Janitor:
    """The program, started when it is first needed. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._left: dict[str, str] = {}

    def watch(self, folder: str, pid: int | None = None) -> None:
        """Have a folder, and the process that runs in it, end with powercut."""
        self._tell(folder, f"{folder}\t{pid or ''}\n")

    def forget(self, folder: str) -> None:
        """The folder and its process are gone."""
        self._tell(folder, None)

    def _tell(self, folder: str, line: str | None) -> None:
        with self._lock:
            if line is None:
                del self._left[folder]
            else:
                self._left[folder] = line
            try:
                self._write(f"{folder}\n" if line is None else line)
            except BrokenPipeError:  # it was killed
                self._process = None
                self._write("".join(self._left.values()))

    def _write(self, text: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).anchor,
                start_new_session=True,  # Ctrl-C is not for it
            )
            weakref.finalize(self, _end, self._process)
        assert self._process.stdin is not None
        self._process.stdin.write(os.fsencode(text))
        self._process.stdin.flush()


def kill_tree(pid: int) -> None:
    """Kill a process that leads a session and all its descendants, and wait until they are gone, or zombies."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGSTOP)  # a tree that grows cannot be listed
    killed: set[psutil.Process] = set()
    root = tree(pid)[:1]
    deadline = time.monotonic() + _LAST_WAIT
    while (fresh := set(tree(pid)[1:]) - killed) and time.monotonic() < deadline:
        for process in fresh:
            with contextlib.suppress(psutil.Error):
                process.kill()
        killed |= fresh
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    while any(_runs(process) for process in [*root, *killed]) and time.monotonic() < deadline:
        time.sleep(0.005)


def _runs(process: psutil.Process) -> bool:
    """Whether a process has not been taken down yet; nobody may be there to wait for it."""
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def remove_folder(folder: str) -> None:
    """Remove a folder and what is in it, however deep: by descriptors, as a path has an end, and one at a time."""
    with contextlib.suppress(OSError):  # what cannot be removed stays
        os.chmod(folder, 0o700)
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            path = [("", _folders_left(at))]
            while True:
                if path[-1][1]:
                    name = path[-1][1].pop()
                    os.chmod(name, 0o700, dir_fd=at)
                    at = _move(at, name)
                    path.append((name, _folders_left(at)))
                    continue
                name, _ = path.pop()
                if not path:
                    break
                at = _move(at, "..")
                os.rmdir(name, dir_fd=at)
        finally:
            os.close(at)
        os.rmdir(folder)


def _folders_left(folder: int) -> list[str]:
    """Remove the files of an open folder; the names of what is left."""
    left = []
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):  # Linux and macOS say so of a folder
            left.append(name)
    return left


def _move(folder: int, name: str) -> int:
    """Open a folder in or above another, in its place."""
    opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    os.close(folder)
    return opened


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none once it is gone."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        process.communicate()


def _main(lines: Iterable[bytes]) -> None:
    left: dict[bytes, bytes] = {}
    for line in lines:
        folder, still_there, pid = line.rstrip(b"\n").partition(b"\t")
        if still_there:
            left[folder] = pid
        else:
            left.pop(folder, None)
    for folder, pid in left.items():
        if pid:
            kill_tree(int(pid))
        remove_folder(os.fsdecode(folder))


if __name__ == "__main__":
    _main(sys.stdin.buffer)
