"""Connections to a server, for one event loop after another."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress

import httpx

from powercut.errors import SettingError, one_line


class Connections:
    """An ``httpx.AsyncClient`` for each event loop that asks: it belongs to one, and ``pc.sample`` makes a new one.

    A client is closed at the end of its loop, when these connections are dropped, or by ``aclose``. ``direct``: without
    the proxies that the environment names.
    """

    def __init__(self, headers: dict[str, str], timeout: httpx.Timeout, *, direct: bool) -> None:
        self._headers, self._timeout, self._direct = headers, timeout, direct
        self._clients: _Clients = {}

    def client(self) -> httpx.AsyncClient:
        """The running loop's. Raises SettingError if the environment names a proxy or certificates that will not do."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            client = self._new()
            keeper = loop.create_task(_close_with_loop(client, self._clients), name="powercut-http")
            self._clients[loop] = client, keeper
            dropped = weakref.finalize(self, _cancel, loop, keeper)
            dropped.atexit = False
            keeper.add_done_callback(lambda _: dropped.detach())
        return self._clients[loop][0]

    def _new(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        try:
            transport = httpx.AsyncHTTPTransport(limits=limits) if self._direct else None
            return httpx.AsyncClient(timeout=self._timeout, headers=self._headers, limits=limits, transport=transport)
        except (ImportError, ValueError, OSError) as error:
            raise SettingError(
                f"a proxy or the certificates that the environment names cannot be used ({one_line(error, 120)}): "
                "correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"
            ) from error

    async def aclose(self) -> None:
        """Close all clients; those of other loops close as soon as their loops run."""
        for loop, (_, keeper) in list(self._clients.items()):
            if loop is asyncio.get_running_loop():
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
            else:
                _cancel(loop, keeper)


_Clients = dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, "asyncio.Task[None]"]]


def _cancel(loop: asyncio.AbstractEventLoop, keeper: asyncio.Task[None]) -> None:
    with suppress(RuntimeError):  # that loop is closed, and so is the client
        loop.call_soon_threadsafe(keeper.cancel)


async def _close_with_loop(client: httpx.AsyncClient, clients: _Clients) -> None:
    """Wait for the end of the loop, which cancels what still runs in it, or of the connections; then close."""
    try:
        await asyncio.Event().wait()
    finally:
        clients.pop(asyncio.get_running_loop(), None)
        await client.aclose()
