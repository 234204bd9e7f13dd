"""Ends what is sandboxed when powercut itself is killed: a process of its own, that sees powercut's end.

Run as a program it reads what is there, a line each: FOLDER, with the process that runs in it behind a tab, or an empty
field once both are gone. At the end of its input (powercut closed it, or died) it kills and removes what is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
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


def kill_tree(pid: int) -> list[psutil.Process]:
    """Kill a process that leads a session, and its descendants: those of its session, and those that left it.

    Returns them: give them to ``wait_until_gone``, if one of them is a child after waiting for that.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGSTOP)  # a tree that grows cannot be listed
    processes = tree(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return processes


def wait_until_gone(killed: list[psutil.Process]) -> None:
    """Wait for what was killed: it is there until the system has taken it down."""
    psutil.wait_procs(killed, timeout=_LAST_WAIT)


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
            wait_until_gone(kill_tree(int(pid)))
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(sys.stdin.buffer)
