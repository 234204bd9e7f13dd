"""A server in a thread of this process, before a small table model with a chat template of letters."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn

from powercut.engines.protocol import KeepGoing, Request, check_request
from powercut.server.app import Bounds, create_app
from powercut.server.offer import Offer
from powercut.server.serving import listen
from powercut.trace import Trace
from tests.integrations.chat import ChatEngine

NAME = "letters"
SETTINGS = {"max_new_tokens": 12, "blocks": 3, "steps": 2, "top_k": 8}
"""A short chain."""

ASKED = [{"role": "user", "content": "abc"}]

PATIENCE = 300.0
"""Seconds to wait for an answer, on however busy a machine."""

web = SimpleNamespace(
    **{way: partial(getattr(httpx, way), timeout=PATIENCE) for way in ("get", "post", "options", "request", "stream")}
)
"""httpx's functions, more patient than they are."""


class LettersEngine(ChatEngine):
    """Completes with a few letters; ``running`` are its requests on their way.

    A prompt that begins with h hangs, with g fails and with f breaks (see ``tests.cli.fake``). A context has 64 tokens.
    """

    name = NAME

    def __init__(self) -> None:
        super().__init__(system="a", user="", assistant="b")
        self.running, self.context_length = 0, 64

    def check(self, request: Request) -> None:
        check_request(request, reads_text=True, context_length=self.context_length, vocab_size=9)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        self.running += 1
        try:
            return await super().extend(request, keep_going)
        finally:
            self.running -= 1


class HalfEngine(LettersEngine):
    """Draws a few tokens, and then no more."""

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        await super().extend(replace(request, max_new_tokens=4), keep_going)
        return await asyncio.Event().wait()


class Served:
    """Where a server listens, and its insides."""

    def __init__(self, port: int, engine: Any, app: Any) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self.engine, self.app = engine, app


@contextmanager
def serving(
    engine: Any = None,
    *,
    sampler: str = "entropy-cut",
    patterns: bool = False,
    extra: dict[str, Any] | None = None,
    keep_views: int = 0,
    **bounds: Any,
) -> Iterator[Served]:
    """A server with these bounds, and with ``extra`` settings, until the end of the block."""
    engine = LettersEngine() if engine is None else engine
    offer = Offer(engine.name, engine, sampler, SETTINGS | (extra or {}), patterns=patterns)
    app = create_app(offer, Bounds(**bounds), keep_views)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield Served(listener.getsockname()[1], engine, app)
        finally:
            server.should_exit = True
            thread.join()


def eventually(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something holds; it fails the test if that takes too long for any machine."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.01)


def open_request(served: Served, body: dict[str, Any], **headers: object) -> socket.socket:
    """A connection of its own on which a request is sent, and no answer awaited."""

    data = json.dumps(body).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Type: application/json"]
    head += [f"Content-Length: {len(data)}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    connection = socket.create_connection(("127.0.0.1", int(served.root.rsplit(":", 1)[1])))
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + data)
    return connection
