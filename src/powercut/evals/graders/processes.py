"""Processes in which a grader's work can take too long, or crash, without harm to this one."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from powercut.errors import PowercutError

_CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}
"""Exit statuses of a process that its own work ended."""
_START = 300.0
"""Seconds, at most, for a process to be ready: far longer than it takes on a busy machine."""

_LAST_WAIT = 10.0
"""Seconds, at most, for a process that closed its pipe to end."""


class CrashError(Exception):
    """The work ended its process."""


class Processes:
    """As many as there are processors, each started when it is first needed; they end with this one.

    ``prepare`` is run in each before ``memory``, in bytes of address space, is limited. Each has a pipe of its own, so
    that none waits for what another held when it was killed. Safe to use from several threads.
    """

    def __init__(self, prepare: Callable[[], object], memory: int) -> None:
        self._prepare, self._memory = prepare, memory
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(os.cpu_count() or 1):
            self._free.put(None)

    def run(self, function: Callable[..., Any], arguments: Sequence[Any], seconds: int, wall_seconds: float) -> Any:
        """What ``function`` gives for the arguments within ``seconds`` of processor time and ``wall_seconds``.

        Raises what it raises, TimeoutError when it takes too long, CrashError when the system ends its process for what
        it does, and PowercutError when the processes do not start, or are ended by others.
        """
        worker = self._free.get()
        try:
            if worker is None or not worker.process.is_alive():  # others may have ended it
                worker = None
                worker = _Worker(self._prepare, self._memory)
            return worker.run(function, arguments, seconds, wall_seconds)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End those that are idle."""
        with contextlib.suppress(queue.Empty):
            while True:
                if worker := self._free.get_nowait():
                    worker.end()


class _Worker:
    """A process, and the pipe to it."""

    def __init__(self, prepare: Callable[[], object], memory: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, prepare, memory), daemon=True)
        with theirs:
            self.process.start()
        try:
            ready = self._reply(_START)
        except TimeoutError:
            ready = None
        if ready is None:
            self.end()
            raise PowercutError("the processes that compare answers do not start here")

    def run(self, function: Callable[..., Any], arguments: Sequence[Any], seconds: int, wall_seconds: float) -> Any:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send((function, arguments, seconds))
        try:
            reply = self._reply(wall_seconds)
        except TimeoutError:
            self.end()
            raise
        if reply is None:
            code = self.process.exitcode
            self.end()
            if code == -signal.SIGXCPU:
                raise TimeoutError
            if code in _CRASHES:
                raise CrashError
            raise PowercutError(f"a process that compared answers was ended, with exit status {code}: try again")
        result, error = reply
        if error is not None:
            raise error
        return result

    def _reply(self, seconds: float) -> Any:
        """What it sends; None if it has ended. Raises TimeoutError if it sends nothing for so long."""
        with contextlib.suppress(EOFError, ConnectionError):
            if not self._pipe.poll(seconds):
                raise TimeoutError
            return self._pipe.recv()
        self.process.join(_LAST_WAIT)
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


def _serve(pipe: Connection, prepare: Callable[[], object], memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    prepare()
    _limit("RLIMIT_AS", memory)
    pipe.send(True)
    with contextlib.suppress(EOFError):  # the other has ended
        while True:
            function, arguments, seconds = pipe.recv()
            _limit("RLIMIT_CPU", math.ceil(time.process_time()) + seconds)
            try:
                result = function(*arguments)
            except Exception as error:
                pipe.send((None, error))
            else:
                pipe.send((result, None))


def _limit(name: str, most: int) -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):  # not on this system
        import resource

        kind = getattr(resource, name)
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
