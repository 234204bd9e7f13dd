"""What a program and all its processes use, looked at from outside."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import psutil

from powercut.evals.sandbox.janitor import tree


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program and all its processes may use: ``seconds`` of processor time, ``memory`` and ``disk`` in bytes.

    ``wall_seconds`` ends a program that waits. ``processes`` counts threads too, ``files`` the files in its folder.
    """

    seconds: float = 10.0  # not of wall time: a busy machine must not change a grade
    wall_seconds: float = 60.0
    memory: int = 1 << 30
    disk: int = 16 << 20
    files: int = 1000
    processes: int = 32


def excess(pid: int, processes: int, folder: str, limits: Limits) -> str | None:
    """Which limit a program is above; the system's own limits hold for each process alone.

    ``processes`` of the tree under ``pid`` are not the program's.
    """
    seconds = memory = 0.0
    unlinked: dict[tuple[int, int], int] = {}
    processes = -processes
    for member in tree(pid):
        with contextlib.suppress(psutil.Error), member.oneshot():  # it may just have ended
            times = member.cpu_times()
            seconds += times.user + times.system
            memory += member.memory_info().rss
            processes += member.num_threads()
        unlinked |= _unlinked(member.pid)
    files, disk = _written(folder)
    disk += sum(unlinked.values())
    for over, what in (
        (seconds > limits.seconds, f"it ran longer than {limits.seconds:g} s"),
        (processes > limits.processes, f"it started more than {limits.processes} processes"),
        (memory > limits.memory, f"it used more than {limits.memory >> 20} MB of memory"),
        (files > limits.files, f"it wrote more than {limits.files} files"),
        (disk > limits.disk, f"it wrote more than {limits.disk >> 20} MB"),
    ):
        if over:
            return what
    return None


def _written(folder: str) -> tuple[float, int]:
    """Files, and bytes of them; files without end where they are hidden too deep to be counted, or locked away."""
    files = disk = 0
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    disk += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except FileNotFoundError:  # it may just have been moved
            continue
        except OSError:
            return float("inf"), disk
        if files > 100_000:
            break
    return files, disk


def _unlinked(pid: int) -> dict[tuple[int, int], int]:
    """Bytes of the files that a process holds open and that have no name any more."""
    found = {}
    with contextlib.suppress(OSError):  # it ended, or is not to be looked into; there is no /proc
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{number}")
                if status.st_nlink == 0:
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found
