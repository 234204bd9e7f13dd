"""The server as a process: listens, and at the end lets what is being answered come to its end."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from powercut.errors import SettingError

_BACKLOG = 2048

_TELLING = 5
"""Seconds for clients, once the time to drain is over, to be told so. Who reads or sends nothing is broken off."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises SettingError if it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # which asyncio sends at once
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, port))
        except BaseException:
            found.close()
            raise
    except OSError as error:
        raise SettingError(f"--host {host} --port {port} cannot be listened on: {error.strerror or error}") from None
    return found


async def serve(app: Starlette, listener: socket.socket, drain_s: float) -> None:
    """Serve until SIGTERM or SIGINT; then begin nothing more, and wait at most ``drain_s`` seconds for the rest.

    A second signal ends it at once.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(drain_s) + _TELLING,
    )
    await _Draining(config, app, drain_s).serve(sockets=[listener])


class _Draining(uvicorn.Server):
    """uvicorn's server, whose end the process outlives."""

    def __init__(self, config: uvicorn.Config, app: Starlette, drain_s: float) -> None:
        super().__init__(config)
        self._answering, self._drain_s = app.state.answering, drain_s
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain at a signal. uvicorn would raise it once more at the end."""
        self._loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self.handle_exit) for each in signals}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; at once if that has begun already."""
        assert self._loop is not None
        self._answering.close()
        if self.should_exit:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._answering.end)
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, self._answering.end)
        self.should_exit = True
