"""Run code that a model wrote in a process of this machine, held back as far as the system lets us.

It can still read the user's files: a container is safer. Nothing here runs unless the user asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import psutil

from powercut.evals.graders.code.grade import Execution
from powercut.evals.runs.janitor import Janitor, kill_tree, tree, wait_until_gone


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


# Sets the limits in a fresh interpreter and becomes the program: no code runs between fork and exec in this process.
_LAUNCHER = """
import os, resource, sys
if os.read(0, 1) != b"+":  # powercut has ended
    sys.exit()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
seconds, wall_seconds, memory, disk, files, processes = map(float, sys.argv.pop().split())
program = compile(open("program.py", "rb").read(), "program.py", "exec")
for name, value in [("CORE", 0), ("CPU", seconds + 2), ("AS", memory), ("FSIZE", disk), ("NPROC", processes)]:
    try:
        kind = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(kind)[1]
        value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (value, value))
    except (AttributeError, OSError, ValueError):  # not on this system
        pass
exec(program, {"__name__": "__main__"})
"""
_UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--")
_LOOK_EVERY = 0.05  # seconds between two looks at what a program uses


@functools.cache
def isolation() -> tuple[str, ...]:
    """What to put in front of a command to take away its network and end whatever it starts; () where nothing can."""
    if shutil.which(_UNSHARE[0]) is None:
        return ()
    return _UNSHARE if subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0 else ()


class LocalSandbox:
    """Runs Python programs under ``limits``, as many at once as there are processors: an Execute for ``evals.code``."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="powercut-sandbox")
        self._janitor = Janitor()

    def describe(self) -> str:
        """One line for people: what holds a program back on this machine, and what does not."""
        most = self.limits
        network = "no network" if isolation() else "but with network, as there are no user namespaces here"
        return (
            f"code that the model writes runs on this machine with your rights: {most.seconds:g} s, "
            f"{most.memory >> 20} MB, {most.processes} processes, {network}"
        )

    async def __call__(self, program: str) -> Execution:
        """``run``, beside an event loop; a program that is cancelled ends at once."""
        ended = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self.run, program, ended)
        finally:
            ended.set()

    def run(self, program: str, ended: threading.Event | None = None) -> Execution:
        """Run a Python program with an empty folder, environment and stdin; nothing of it is left when this returns.

        Returns after ``limits.wall_seconds`` at the latest, or once ``ended`` is set. Should powercut itself be killed,
        the program and its folder go with it.
        """
        # The system counts a user's processes: only in a namespace are those the program's. It allows twice as many as
        # _watch, so that it is _watch that says what happened.
        own = replace(self.limits, processes=2 * self.limits.processes if isolation() else 1 << 30)
        with tempfile.TemporaryDirectory(prefix="powercut-", ignore_cleanup_errors=True) as parent:
            self._janitor.watch(parent)
            try:
                return self._run(program, Path(parent), own, ended or threading.Event())
            finally:
                self._janitor.forget(parent)

    def _run(self, program: str, parent: Path, own: Limits, ended: threading.Event) -> Execution:
        folder = parent / "work"
        folder.mkdir()
        (folder / "program.py").write_text(program, encoding="utf-8", errors="surrogatepass")
        outputs = [parent / name for name in ("stdout", "stderr")]
        with outputs[0].open("wb") as stdout, outputs[1].open("wb") as stderr:
            process = subprocess.Popen(
                [*isolation(), sys.executable, "-I", "-c", _LAUNCHER, " ".join(map(str, astuple(own)))],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env={"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"},
                start_new_session=True,
            )
            try:
                self._janitor.watch(str(parent), process.pid)
                _begin(process)
                stopped = _watch(process, parent, self.limits, ended)
            finally:
                killed = kill_tree(process.pid)
                process.wait()
                wait_until_gone(killed)
        return Execution(process.returncode, _tail(outputs[0]), _tail(outputs[1]), stopped)


def _begin(process: subprocess.Popen[bytes]) -> None:
    """Let the program begin, now that it ends if this process does."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:  # it cannot even start: _watch tells
        process.stdin.write(b"+")


def _watch(process: subprocess.Popen[bytes], folder: Path, limits: Limits, ended: threading.Event) -> str | None:
    """Wait until a process ends; why it has to be stopped, if it has to."""
    deadline = time.monotonic() + limits.wall_seconds
    while (left := deadline - time.monotonic()) > 0:
        if ended.is_set():
            return "nobody waits for it any more"
        try:
            process.wait(min(left, _LOOK_EVERY))
        except subprocess.TimeoutExpired:
            if excess := _excess(process.pid, folder, limits):
                return excess
        else:
            return None
    return f"it did not end within {limits.wall_seconds:g} s"


def _excess(pid: int, folder: Path, limits: Limits) -> str | None:
    """Which limit a program is above; the system's own limits hold for each process alone."""
    seconds = memory = 0.0
    processes = -len(isolation()[:1])  # the command in front is not the program's
    for member in tree(pid):
        with contextlib.suppress(psutil.Error), member.oneshot():  # it may just have ended
            times = member.cpu_times()
            seconds += times.user + times.system
            memory += member.memory_info().rss
            processes += member.num_threads()
    files = disk = 0
    with contextlib.suppress(OSError):  # what is written may just have been moved
        for file in folder.rglob("*"):
            files += 1
            disk += file.lstat().st_blocks * 512
            if files > limits.files:
                break
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


def _tail(file: Path, most: int = 1 << 16) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - most))
        return stream.read().decode("utf-8", "replace")
