"""The servers of one model: which serves whom, which are away, and the connections to them."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Hashable, Sequence

import httpx

from powercut.engines.http.api import UnavailableError
from powercut.engines.http.handshake import Server, model_ids
from powercut.engines.pins import Pins
from powercut.errors import EngineError

log = logging.getLogger("powercut")

LONGEST_PAUSE = 10.0
"""Seconds between two attempts, at most."""

_DIED = ("out of memory", "memory slot", "enginecore", "enginedead")  # as servers word it


class Pool:
    """``servers`` that serve one model."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = tuple(servers)
        self._pins: Pins[Server] = Pins()
        self._clients: _Clients = {}

    async def check_back(self, server: Server) -> None:
        """A server that was away may come back as another. Raises UnavailableError if it has not come back."""
        with server.api.failures():
            response = await self.client().get(server.api.root + "/v1/models")
            server.api.check(response.status_code, response.content)
            names = model_ids(response.json())
        if server.model not in names:
            raise EngineError(f"{server.api.root} came back and serves {', '.join(names)}, not {server.model}")
        if server.away:
            server.away = False
            log.info("%s answers again", server.api.root)

    def note_away(self, server: Server, error: UnavailableError, retry_for: float) -> None:
        """Have others looked at before this one; one line says so, for all chains."""
        server.away_until = time.monotonic() + LONGEST_PAUSE
        if not server.away:
            server.away = True
            waiting = "%s; chains wait, and go on when it answers (for %g seconds)"
            log.warning(waiting, reason(error, server), retry_for)

    def pick(self, session: Hashable | None, but: Server | None = None) -> Server:
        """The session's server, which has its prefixes; else the least busy of those that are not away."""
        now = time.monotonic()
        pinned = self._pins.get(session)
        if pinned is None or pinned is but or pinned.away:
            others = [server for server in self.servers if server is not but] or self.servers
            pinned = min(others, key=lambda server: (server.away and now < server.away_until, server.running))
        self._pins.put(session, pinned)
        return pinned

    def client(self) -> httpx.AsyncClient:
        """The running loop's client: it belongs to one loop, and pc.sample makes a new one each time."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            api = self.servers[0].api
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            client = httpx.AsyncClient(timeout=api.timeout, headers=api.headers, limits=limits)
            keeper = loop.create_task(_close_with_loop(client, self._clients), name="powercut-http")
            self._clients[loop] = client, keeper
            dropped = weakref.finalize(self, lambda: loop.call_soon_threadsafe(keeper.cancel))
            dropped.atexit = False
            keeper.add_done_callback(lambda _: dropped.detach())
        return self._clients[loop][0]


_Clients = dict[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, "asyncio.Task[None]"]]


async def _close_with_loop(client: httpx.AsyncClient, clients: _Clients) -> None:
    """Wait for the end of the loop, which cancels what still runs in it, or of the pool; then close the client."""
    try:
        await asyncio.Event().wait()
    finally:
        clients.pop(asyncio.get_running_loop(), None)
        await client.aclose()


def reason(error: UnavailableError, server: Server) -> str:
    """Why a server is away, and what to lower where its memory may be why."""
    died = any(words in str(error).lower() for words in _DIED)
    return f"{error}: if memory ran short, lower concurrency, or {server.dialect.memory}" if died else str(error)
