"""Run code that a model wrote in a process of this machine, held back as far as the system lets us.

A container is safer. Nothing here runs unless the user asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from powercut.errors import one_line
from powercut.evals.sandbox import confine, reach, supervisor
from powercut.evals.sandbox.bundle import bundle
from powercut.evals.sandbox.execution import Execution, SandboxError
from powercut.evals.sandbox.isolation import isolation
from powercut.evals.sandbox.janitor import Janitor, kill_tree, remove_folder
from powercut.evals.sandbox.usage import Limits, excess

_LOOK_EVERY = 0.05  # seconds between two looks at what a program uses
_MOST_READ = 1 << 16
"""Bytes, of each output of a program."""
_OPEN_FILES = 64
_PYTHON: str = getattr(sys, "_base_executable", None) or sys.executable
"""Not that of a virtual environment, which may lie among the user's files: programs have the standard library."""


_REACHES = {
    "read": "reading your files",
    "write": "writing to other folders, without limit",
    "connect": "using the network",
    "send": "sending datagrams over the network",
    "join": "connecting to the sockets of other programs",
    "signal": "ending your other programs",
    "environment": "reading the environment of your other programs",
    "stay": "leaving a program behind",
}
"""What a program may get at beyond its limits, and how that is put."""


class LocalSandbox:
    """Runs Python programs under ``limits``, as many at once as there are processors: an Execute."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="powercut-sandbox")
        self._janitor = Janitor()

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
        the program and its folder go with it. Raises SandboxError when the program cannot be started.
        """
        try:
            folder = tempfile.mkdtemp(prefix="powercut-")
            with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:  # no program finds their names
                self._janitor.watch(folder)
                try:
                    returncode, stopped = self._run(program, folder, stdout, stderr, ended or threading.Event())
                finally:
                    remove_folder(folder)
                    self._janitor.forget(folder)
                return Execution(returncode, _tail(stdout), _tail(stderr), stopped)
        except OSError as error:
            raise SandboxError(f"no program can be started here: {one_line(error)}") from error

    def reaches(self) -> list[str]:
        """What a program could do on this machine beyond its limits, each as the rest of "it can ...": by trying.

        Raises SandboxError when no program can be started.
        """
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
            (Path(folder) / "secret").write_text("")
            server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            other = opened.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(str(Path(folder) / "socket"))
            other.listen()
            datagrams = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            datagrams.bind(("127.0.0.1", 0))
            where = (folder, server.getsockname()[1], datagrams.getsockname()[1], os.getpid())
            run = self.run(bundle(reach, call=f"main{where!r}"))
            datagrams.setblocking(False)
            sent = False
            with contextlib.suppress(BlockingIOError):
                sent = bool(datagrams.recv(1))
        try:
            reached = set(json.loads(run.stdout))
        except ValueError:
            why = run.stopped or one_line(run.stderr[-500:])
            raise SandboxError(f"programs do not work in the sandbox here: {why}") from None
        if not sent:  # it may have been sent to the program's own network
            reached.discard("send")
        if not isolation().command and sys.platform != "linux":
            reached.add("stay")
        return [what for name, what in _REACHES.items() if name in reached]

    def describe(self) -> str:
        """One line for people: what holds a program back on this machine, and what does not. Raises as ``reaches``."""
        most = self.limits
        limits = (
            f"at most {most.seconds:g} s, {most.memory >> 20} MB of memory, {most.processes} processes, and "
            f"{most.files} files of {most.disk >> 20} MB in a folder of its own"
        )
        line = f"code that the model writes runs on this machine: {limits}"
        if reaches := self.reaches():
            return f"{line}; nothing here keeps it from: {', '.join(reaches)} (bubblewrap or docker would)"
        return f"{line}; no network, no other file of yours and no other process is within its reach"

    def _run(
        self, program: str, folder: str, stdout: IO[bytes], stderr: IO[bytes], ended: threading.Event
    ) -> tuple[int | None, str | None]:
        shut_in = isolation()
        most = self.limits
        system = {"CORE": 0, "CPU": most.seconds + 2, "AS": most.memory, "FSIZE": most.disk, "NOFILE": _OPEN_FILES}
        if shut_in.command:  # elsewhere all of the user's processes count
            system["NPROC"] = 2 * most.processes  # more than excess allows, which says what happened
        settings = json.dumps({"folder": folder, "limits": system})
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = subprocess.Popen(
                    shut_in.around(folder, [_PYTHON, "-I", "-S", "-c", _program(), settings]),
                    stdin=theirs.fileno(),
                    stdout=stdout,
                    stderr=stderr,
                    cwd=folder,
                    env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"},
                    start_new_session=True,
                )
            try:
                self._janitor.watch(folder, process.pid)
                if not _started(ours, most.wall_seconds):
                    process.kill()
                    why = _tail(stderr).strip().rpartition("\n")[2] or f"exit status {process.wait()}"
                    raise SandboxError(f"no program can be started here: {one_line(why)}")
                text = program.encode("utf-8", "surrogatepass")
                ours.sendall(f"{len(text)}\n".encode() + text)
                return self._watch(ours, process.pid, folder, ended)
            finally:
                kill_tree(process.pid)
                process.wait()

    def _watch(
        self, ours: socket.socket, pid: int, folder: str, ended: threading.Event
    ) -> tuple[int | None, str | None]:
        """The program's exit status; or why it was stopped, or was worth stopping."""
        deadline = time.monotonic() + self.limits.wall_seconds
        while not ended.is_set():
            if (left := deadline - time.monotonic()) <= 0:
                return None, f"it did not end within {self.limits.wall_seconds:g} s"
            line = _line(ours, min(left, _LOOK_EVERY))
            if line == supervisor.NEVER_BEGUN:
                raise SandboxError("a program ended before it was begun")
            above = excess(pid, isolation().processes + 1, folder, self.limits)
            if above or line is not None:
                return int(line) if line else None, above or (None if line else "it ended what watches it")
        return None, "nobody waits for it any more"


def _started(ours: socket.socket, seconds: float) -> bool:
    return _line(ours, seconds) == supervisor.READY


def _line(ours: socket.socket, seconds: float) -> bytes | None:
    """What the supervisor says, empty once it has ended; None if it says nothing yet."""
    ours.settimeout(seconds)
    try:
        return ours.recv(64)  # a short line comes whole
    except TimeoutError:
        return None
    except ConnectionError:
        return b""


@functools.cache
def _program() -> str:
    return bundle(confine, supervisor, call="begin()")


def _tail(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _MOST_READ, max(0, size - _MOST_READ)).decode("utf-8", "replace")
